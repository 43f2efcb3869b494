// depthlens train-lens: a lens of one's own, from a model and a text.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numbers>
#include <optional>

#include "command.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/data/corpus.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/data/training_text.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/train/jacobian.hpp"
#include "depthlens/train/lens_folder.hpp"
#include "depthlens/train/tuned_trainer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "input_flags.hpp"
#include "model_flags.hpp"

namespace depthlens::tool {
namespace {

using Clock = std::chrono::steady_clock;

namespace fs = std::filesystem;
using util::OrderedJson;

// Windows of the recipes, where the model allows them.
constexpr std::int64_t kTunedLength = 2048;
constexpr std::int64_t kJacobianLength = 128;

struct TrainOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  std::string type = "tuned";
  std::int64_t steps = 250;
  std::int64_t tokens_per_step = 262144;
  std::int64_t epochs = 1;
  std::string optimizer = "sgd";
  double lr_scale = 1;
  std::optional<double> momentum;
  std::optional<double> weight_decay;
  std::optional<std::int64_t> warmup_steps;
  std::string loss = "kl";
  bool bias_only = false;
  std::string init;
  std::int64_t checkpoint_every = 25;
  bool resume = false;
  std::int64_t validation_tokens = 16384;
  std::int64_t validate_every = 25;
  std::string keep = "last";
  std::string damp_frequent;
  std::string damp_mode = "position";
  std::string token_counts = "input";
  std::string layers;
  std::vector<std::string> join;
  // of Jacobian lenses
  std::int64_t prompts = 100;
  std::string shard;
  std::vector<std::string> sums;
};

/// "I/N" with 0 ≤ I < N.
struct Shard {
  std::int64_t index = 0;
  std::int64_t count = 1;
};

Shard parse_shard(const std::string& text) {
  Shard shard;
  if (text.empty()) return shard;
  const std::vector<std::string> parts = util::split(text, '/');
  if (parts.size() != 2 || !util::parse_int(parts[0], shard.index) ||
      !util::parse_int(parts[1], shard.count) || shard.index < 0 || shard.index >= shard.count) {
    throw util::usage_error({.what = "unusable shard",
                             .where = "--shard",
                             .expected = "I/N with I from 0 to N − 1",
                             .found = util::in_quotes(text)});
  }
  return shard;
}

/// "K:FACTOR", such as 10:0.001.
struct DampFrequent {
  std::int64_t count = 0;
  double factor = 1;
};

DampFrequent parse_damp_frequent(const std::string& text) {
  DampFrequent damp;
  const std::vector<std::string> parts = util::split(text, ':');
  const bool read = parts.size() == 2 && util::parse_int(parts[0], damp.count) && damp.count >= 1 &&
                    parse_number(parts[1], damp.factor) && damp.factor >= 0 && damp.factor <= 1;
  if (!read) {
    throw util::usage_error({.what = "unusable damping",
                             .where = "--damp-frequent",
                             .expected = "K:FACTOR with K from 1 and a factor from 0 to 1, such as 10:0.001",
                             .found = util::in_quotes(text)});
  }
  return damp;
}

/// Sets which translators are trained: "A-B" or "A", both from 0 to L − 1; "": all.
void set_layers(train::TrainSettings& settings, const std::string& text, std::int64_t num_layers) {
  settings.num_layers = num_layers;
  if (text.empty()) return;
  const std::vector<std::string> parts = util::split(text, '-');
  std::int64_t first = 0, last = 0;
  const bool read =
      parts.size() <= 2 && util::parse_int(parts.front(), first) && util::parse_int(parts.back(), last);
  if (!read || first < 0 || last < first || last >= num_layers) {
    throw util::usage_error({.what = "unusable layers",
                             .where = "--layers",
                             .expected = util::cat("A-B with 0 ≤ A ≤ B ≤ ", num_layers - 1),
                             .found = util::in_quotes(text)});
  }
  settings.first_layer = first;
  settings.num_layers = last - first + 1;
}

train::OptimizerSettings optimizer_settings(const TrainOptions& options) {
  train::OptimizerSettings settings;
  if (options.optimizer == "adam") settings.kind = train::OptimizerKind::kAdam;
  if (options.optimizer == "muon") settings.kind = train::OptimizerKind::kMuon;
  settings = train::default_settings(settings.kind, options.steps);
  settings.lr_scale = options.lr_scale;
  if (options.momentum) settings.momentum = *options.momentum;
  if (options.weight_decay) settings.weight_decay = *options.weight_decay;
  if (options.warmup_steps) settings.warmup_steps = *options.warmup_steps;
  return settings;
}

/// The text to train on: read, joined, cut into windows.
struct Text {
  data::TrainingText windows;
  data::TokenCounts counts;
  std::vector<data::InputSummary> inputs;
  std::int64_t bytes = 0;
  std::int64_t windows_per_step = 0;
};

Text read_text(const TrainOptions& options, const Session& session) {
  const std::int64_t length = session.max_length();
  Text text{.windows = data::TrainingText({.window_length = length,
                                           .bos = session.bos(),
                                           .separator = session.tokenizer().eos() ? session.tokenizer().eos()
                                                                                  : session.tokenizer().bos(),
                                           .vocab_size = session.spec().vocab_size}),
            .counts = {},
            .inputs = {},
            .windows_per_step = options.tokens_per_step / length};
  if (text.windows_per_step == 0) {
    throw util::usage_error({.what = "a step has no room for a window",
                             .where = util::cat("--tokens-per-step ", options.tokens_per_step),
                             .expected = util::cat("at least the ", length, " tokens of a window")});
  }
  data::Corpus corpus(options.corpus.inputs, session.tokenizer(), options.corpus.limit);
  util::Progress progress("reading", "tokens", 0);
  while (const auto document = corpus.next()) {
    session.check_in_vocabulary(document->tokens);
    for (const text::TokenId id : document->tokens) text.counts.add(id);
    text.windows.add(document->tokens);
    progress.advance(static_cast<std::int64_t>(document->tokens.size()));
  }
  progress.finish();
  text.inputs = corpus.summaries();
  for (const data::InputSummary& input : text.inputs) text.bytes += input.bytes;

  const std::int64_t held_out = (options.validation_tokens + length - 1) / length;
  text.windows.shuffle(static_cast<std::uint64_t>(options.common.seed), held_out);
  const std::int64_t needed = options.steps * text.windows_per_step;
  const std::int64_t windows = text.windows.num_windows();
  if (text.windows.num_validation() == held_out && windows >= 1 && windows * options.epochs >= needed)
    return text;
  throw util::input_error(
      {.what = "the text is too short for this training",
       .where = options.corpus.inputs.front() + (options.corpus.inputs.size() > 1 ? " and the others" : ""),
       .expected = util::cat(util::with_thousands(needed * length), " tokens for ", options.steps,
                             " steps of ", text.windows_per_step, " windows, and ",
                             util::with_thousands(held_out * length), " held out"),
       .found = util::cat(util::with_thousands(text.windows.num_tokens()), " tokens",
                          options.epochs > 1 ? util::cat(" in each of ", options.epochs, " epochs") : ""),
       .hint = text.windows.num_validation() == held_out && windows >= 1
                   ? util::cat("fewer --steps or --tokens-per-step, or --epochs ",
                               (needed + windows - 1) / windows, " to read the text again and again")
                   : "more text, or fewer --validation-tokens"});
}

/// The frequency table of --damp-frequent.
data::TokenCounts damping_counts(const TrainOptions& options, const Session& session, const Text& text) {
  if (options.damp_frequent.empty() || options.token_counts == "input") return text.counts;
  return data::TokenCounts::read(options.token_counts, session.spec().vocab_size, session.tokenizer());
}

train::Damping damping_of(const TrainOptions& options, const data::TokenCounts& counts) {
  if (options.damp_frequent.empty()) return {};
  const DampFrequent damp = parse_damp_frequent(options.damp_frequent);
  std::vector<text::TokenId> tokens = counts.by_frequency();
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(damp.count)));
  return {.tokens = tokens,
          .factor = damp.factor,
          .mode = options.damp_mode == "vocabulary" ? train::Damping::Mode::kVocabulary
                                                    : train::Damping::Mode::kPosition};
}

/// What the bits of the result follow from, the machine apart.
OrderedJson settings_json(const TrainOptions& options, const Session& session, const Text& text,
                          const train::TunedTrainer& trainer) {
  const train::TrainSettings& settings = trainer.settings();
  const bool damped = !settings.damping.tokens.empty();
  return {{"type", "tuned"},
          {"steps", settings.steps},
          {"windows_per_step", text.windows_per_step},
          {"max_length", session.max_length()},
          {"bos", session.bos() ? OrderedJson(*session.bos()) : OrderedJson(nullptr)},
          {"optimizer", options.optimizer},
          {"lr_scale", settings.optimizer.lr_scale},
          {"momentum", settings.optimizer.momentum},
          {"weight_decay", settings.optimizer.weight_decay},
          {"warmup_steps", settings.optimizer.warmup_steps},
          {"loss", options.loss},
          {"bias_only", settings.bias_only},
          {"init", options.init},
          {"layers", {settings.first_layer, settings.first_layer + settings.num_layers - 1}},
          {"clip_norm", settings.clip_norm},
          {"damp_mode", damped ? OrderedJson(options.damp_mode) : OrderedJson(nullptr)},
          {"damp_factor", settings.damping.factor},
          {"damped_tokens", settings.damping.tokens},
          {"epochs", options.epochs},
          {"validation_tokens", options.validation_tokens},
          {"validate_every", options.validate_every},
          {"keep", options.keep},
          {"seed", options.common.seed},
          {"dtype", options.model.dtype},
          {"products", trainer.products()}};
}

std::string rounded(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}

lens::LensProvenance provenance_of(const TrainOptions& options, const model::Model& model) {
  lens::LensProvenance provenance;
  provenance.model = options.model.model.empty() ? "data/demo" : options.model.model;
  provenance.revision = io::hub_commit(model.folder());
  const at::Tensor unembedding = lens::stored_unembedding(model);
  provenance.unembed_hash = lens::unembed_hash(unembedding);
  provenance.model_digest = lens::model_digest(unembedding);
  return provenance;
}

/// What made a lens: stands beside it.
OrderedJson training_json(const Session& session, const std::vector<data::InputSummary>& inputs,
                          const OrderedJson& settings, compute::Precision precision,
                          Clock::time_point started) {
  return {{"schema_version", 1},
          {"model", session.describe_model()},
          {"tokenizer", session.describe_tokenizer()},
          {"inputs", run::inputs_json(inputs)},
          {"settings", settings},
          {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", compute::libtorch_version()}}},
          {"volatile",
           {{"seconds", std::chrono::duration<double>(Clock::now() - started).count()},
            {"threads", compute::num_threads()},
            {"kernel", session.model().backend().kernel_name(precision)}}}};
}

void write_json(const fs::path& path, const OrderedJson& json) {
  util::write_file(path, json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

void run_train_tuned(const TrainOptions& options) {
  const auto started = Clock::now();
  Session session(options.model);
  train::LensFolder folder(options.corpus.out, options.corpus.overwrite, options.resume);
  const Text text = read_text(options, session);
  const data::TokenCounts counts = damping_counts(options, session, text);
  train::TrainSettings settings{.steps = options.steps,
                                .loss = options.loss == "ce" ? train::Loss::kCrossEntropy : train::Loss::kKl,
                                .optimizer = optimizer_settings(options),
                                .bias_only = options.bias_only,
                                .damping = damping_of(options, counts),
                                .precision = options.model.dtype == "float32" ? compute::Precision::kFloat32
                                                                              : compute::Precision::kFast};
  set_layers(settings, options.layers, session.spec().num_layers);
  session.load();
  const util::FinishOnInterrupt finish;
  const model::Model& model = session.model();
  lens::TunedParameters initial =
      options.init.empty() ? train::TunedTrainer::zeros(model, /*biases=*/true)
                           : lens::read_tuned_parameters(io::resolve_tuned_lens(options.init), model);
  train::TunedTrainer trainer(model, settings, initial);
  const std::int64_t tokens_per_step = text.windows_per_step * session.max_length();
  util::log_info(util::cat(model.spec().architecture, ", ", trainer.settings().num_layers, " translators of ",
                           model.spec().hidden_size, " × ", model.spec().hidden_size, "; ", settings.steps,
                           " steps of ", util::with_thousands(tokens_per_step), " tokens; products in ",
                           trainer.products()));

  train::TrainingPlan plan;
  plan.validate_every = options.validate_every;
  plan.checkpoint_every = options.checkpoint_every;
  plan.keep_best = options.keep == "best";
  plan.should_stop = util::interrupted;
  plan.settings = settings_json(options, session, text, trainer);
  plan.settings["data_digest"] = text.windows.digest();
  const OrderedJson described_model = session.describe_model();
  plan.settings["model_files_digest"] = described_model.at("digest");
  if (!options.init.empty()) {
    plan.settings["init_digest"] =
        lens::lens_digest(lens::read_tuned_lens(io::resolve_tuned_lens(options.init)));
  }
  plan.windows = [&](std::int64_t step) {
    std::vector<train::Window> windows;
    for (std::int64_t i = 0; i < text.windows_per_step; ++i)
      windows.push_back(text.windows.window(step * text.windows_per_step + i));
    return windows;
  };
  for (std::int64_t i = 0; i < text.windows.num_validation(); ++i)
    plan.validation.push_back(text.windows.validation_window(i));

  util::Progress progress("training", "tokens", settings.steps * tokens_per_step);
  std::optional<double> first, validated;
  bool begun = false;
  plan.on_step = [&](const train::LogLine& line) {
    if (line.validation_kl) validated = train::mean_over_layers(*line.validation_kl);
    std::string note = util::cat("step ", line.step, " of ", settings.steps);
    if (line.result) {
      const double loss = train::mean_over_layers(line.result->loss);
      if (line.step == 1) first = loss;
      note += util::cat(", mean ", options.loss == "ce" ? "cross-entropy " : "KL ", rounded(loss));
      if (first) note += " (" + rounded(*first) + " at the start)";
    }
    if (validated) note += util::cat(", held out KL ", rounded(*validated));
    progress.set_note(note);
    if (!begun) progress.skip(line.step > 0 ? (line.step - 1) * tokens_per_step : 0);  // resumed
    begun = true;
    progress.advance(line.result ? tokens_per_step : 0);
  };
  const auto training_started = std::chrono::steady_clock::now();
  const auto trained = train::run_training(trainer, folder, plan, options.resume);
  const double training_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - training_started).count();
  progress.finish();
  if (!trained) {
    util::log_warning(util::cat("stopped after ", trainer.steps_done(), " of ", settings.steps,
                                " steps; go on with --resume"));
    throw util::interrupted_error();
  }

  lens::LensProvenance provenance = provenance_of(options, model);
  provenance.steps = settings.steps;
  provenance.tokens = settings.steps * tokens_per_step;
  provenance.data_digest = text.windows.digest();
  initial.weights.narrow(0, trainer.settings().first_layer, trainer.settings().num_layers)
      .copy_(trained->weights);
  if (initial.biases.defined()) {
    initial.biases.narrow(0, trainer.settings().first_layer, trainer.settings().num_layers)
        .copy_(trained->biases);
  }
  lens::write_tuned_lens_folder(folder.path(), initial, provenance);
  const double bits_per_byte =
      static_cast<double>(text.windows.num_tokens()) / static_cast<double>(text.bytes) / std::numbers::ln2;
  OrderedJson record = training_json(session, text.inputs, plan.settings, settings.precision, started);
  record["text"] = {{"tokens", text.windows.num_tokens()},
                    {"bytes", text.bytes},
                    {"bits_per_byte_of_nats_per_token", bits_per_byte}};
  const OrderedJson counted = run::token_counts_json(options.token_counts, counts);
  if (!counted.is_null()) record["token_counts"] = counted;
  record["volatile"]["training_seconds"] = training_seconds;
  write_json(folder.path() / "training.json", record);
  util::log_info("the lens is in " + options.corpus.out);
}

/// Joins the lenses of trainings that each had some of the layers (`--layers`).
void run_join(const TrainOptions& options) {
  const fs::path out = options.corpus.out;
  std::error_code ignored;
  if (!options.corpus.overwrite && fs::exists(out / "params.pt", ignored)) {
    throw util::output_error({.what = "the folder holds a lens",
                              .where = util::in_quotes((out / "params.pt").string()),
                              .hint = "replace it with --overwrite, or choose another --out"});
  }
  lens::StoredTunedLens joined;
  std::vector<bool> taken;
  util::Json settings;
  OrderedJson joined_record;
  for (const std::string& part : options.join) {
    const fs::path record_path = fs::path(part) / "training.json";
    const std::string text = util::read_file(record_path, 64 << 20);
    const util::Json record = util::parse_json(text, record_path.string());
    const util::JsonView view(record, record_path.string());
    const util::JsonView layers = view.at("settings").at("layers");
    lens::StoredTunedLens lens = lens::read_tuned_lens(part);
    util::Json others = view.at("settings").raw();
    others.erase("layers");
    if (taken.empty()) {
      joined = lens;
      settings = others;
      joined_record = util::parse_ordered_json(text, record_path.string());
      taken.assign(lens.weights.size(), false);
    }
    if (others != settings || lens.weights.size() != taken.size() ||
        lens.provenance.model_digest != joined.provenance.model_digest ||
        lens.provenance.unembed_hash != joined.provenance.unembed_hash) {
      throw util::format_error(
          {.what = "not parts of one training",
           .where = part + " and " + options.join.front(),
           .hint = "train all parts with the same model, text and flags, but for --layers"});
    }
    const auto last = layers.at(std::size_t{1}).as_integer(0, static_cast<std::int64_t>(taken.size()) - 1);
    for (auto i = layers.at(std::size_t{0}).as_integer(0, last); i <= last; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (taken[at]) {
        throw util::format_error({.what = util::cat("two parts have layer ", i), .where = part});
      }
      taken[at] = true;
      joined.weights[at] = lens.weights[at];
      if (!joined.biases.empty()) joined.biases[at] = lens.biases.at(at);
    }
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i]) throw util::format_error({.what = util::cat("no part has layer ", i), .where = "--join"});
  }
  lens::write_tuned_lens_folder(out, joined);
  joined_record["settings"]["layers"] = {0, taken.size() - 1};
  joined_record.erase("volatile");
  write_json(out / "training.json", joined_record);
  util::log_info("the lens is in " + options.corpus.out);
}

/// The first windows of the text that are long enough to count.
std::vector<train::Prompt> read_prompts(data::Corpus& corpus, const TrainOptions& options,
                                        const Session& session, const train::JacobianFitter& fitter) {
  std::vector<train::Prompt> prompts;
  const auto wanted = static_cast<std::size_t>(options.prompts);
  for (auto document = corpus.next(); document && prompts.size() < wanted; document = corpus.next()) {
    session.check_in_vocabulary(document->tokens);
    for (const auto& window : data::cut_into_windows(document->tokens, session.max_length(), session.bos())) {
      train::Prompt prompt(window.begin(), window.end());
      if (prompts.size() < wanted && fitter.long_enough(prompt)) prompts.push_back(std::move(prompt));
    }
  }
  if (prompts.size() == wanted) return prompts;
  throw util::input_error(
      {.what = "too few prompts in the text",
       .where = options.corpus.inputs.front() + (options.corpus.inputs.size() > 1 ? " and the others" : ""),
       .expected = util::cat(options.prompts, " windows of 18 to ", session.max_length(), " tokens"),
       .found = std::to_string(prompts.size()),
       .hint = "more text, or fewer --prompts"});
}

/// With the SHA-256 of files that were not read to their end. A pipe is left as it is, and has none.
std::vector<data::InputSummary> with_digests(std::vector<data::InputSummary> inputs) {
  for (data::InputSummary& input : inputs) {
    if (!input.sha256.empty() || !util::can_be_read_again(input.path)) continue;
    util::InputFile file(input.path);
    input.sha256 = util::InputReader(file).finish();
  }
  return inputs;
}

/// Every N-th prompt, from number I.
std::vector<train::Prompt> share_of(const std::vector<train::Prompt>& prompts, const Shard& shard) {
  std::vector<train::Prompt> share;
  for (auto i = static_cast<std::size_t>(shard.index); i < prompts.size();
       i += static_cast<std::size_t>(shard.count))
    share.push_back(prompts[i]);
  if (!share.empty()) return share;
  throw util::usage_error(
      {.what = "this shard has no prompt",
       .where = util::cat("--shard ", shard.index, "/", shard.count),
       .expected = util::cat("at most ", prompts.size(), " shards, one for each of --prompts")});
}

void run_fit_jacobian(const TrainOptions& options) {
  const auto started = Clock::now();
  const Shard shard = parse_shard(options.shard);
  Session session(options.model);
  train::JacobianSums sums;
  std::vector<data::InputSummary> inputs;
  const fs::path folder = options.corpus.out;
  if (!options.sums.empty()) {
    std::error_code ignored;
    if (fs::exists(folder / "jacobian_lens.pt", ignored) && !options.corpus.overwrite) {
      throw util::output_error({.what = "the folder holds a lens",
                                .where = util::in_quotes((folder / "jacobian_lens.pt").string()),
                                .hint = "replace it with --overwrite, or choose another --out"});
    }
    std::vector<train::JacobianSums> parts;
    for (const std::string& path : options.sums) parts.push_back(train::load_jacobian_sums(path));
    sums = train::merge_jacobian_sums(parts);
    train::require_all_shards(sums);
    session.load();
    if (sums.model_fingerprint != lens::model_fingerprint(session.model())) {
      throw util::format_error(
          {.what = "the sums were made with another model", .where = options.sums.front()});
    }
    util::create_folders(folder);
  } else {
    session.load();
    const train::JacobianFitter fitter(session.model(), {});
    data::Corpus corpus(options.corpus.inputs, session.tokenizer(), options.corpus.limit);
    const std::vector<train::Prompt> all = read_prompts(corpus, options, session, fitter);
    inputs = with_digests(corpus.summaries());
    const std::vector<train::Prompt> prompts = share_of(all, shard);
    const util::FinishOnInterrupt finish;
    util::Progress progress("fitting", "rows",
                            static_cast<std::int64_t>(prompts.size()) * session.spec().hidden_size);
    std::int64_t done = 0;
    train::JacobianFit fit;
    fit.folder = folder;
    fit.shard = shard.index;
    fit.num_shards = shard.count;
    fit.list_digest = train::prompts_digest(all);
    fit.resume = options.resume;
    fit.overwrite = options.corpus.overwrite;
    fit.progress = [&](const train::JacobianProgress& at) {
      const std::int64_t rows = at.prompt * at.num_rows + at.rows_done;
      progress.set_note(util::cat("prompt ", at.prompt + 1, " of ", at.num_prompts));
      progress.advance(rows - done);
      done = rows;
    };
    sums = train::fit_jacobians(session.model(), prompts, fit);
    progress.finish();
    if (shard.count > 1) {  // the mean over a share would pass for the lens
      util::log_info(util::cat("the sums of shard ", shard.index, " of ", shard.count, " are in ",
                               folder.string(), "; join all by --from-sums"));
      return;
    }
  }
  lens::write_jacobian_lens_archive(folder / "jacobian_lens.pt",
                                    train::jacobian_lens(sums, provenance_of(options, session.model())));
  const OrderedJson settings = {{"type", "jacobian"},
                                {"prompts", sums.num_prompts},
                                {"max_length", session.max_length()},
                                {"bos", session.bos() ? OrderedJson(*session.bos()) : OrderedJson(nullptr)},
                                {"dtype", options.model.dtype},
                                {"limit", options.corpus.limit},
                                {"data_digest", sums.list_digest}};
  OrderedJson record = training_json(session, inputs, settings, compute::Precision::kFloat32, started);
  if (!options.sums.empty()) {  // which do not tell the text and its windows
    record.erase("inputs");
    for (const char* key : {"max_length", "bos", "limit"}) record["settings"].erase(key);
  }
  write_json(folder / "jacobian_training.json", record);
  util::log_info(util::cat("the lens, the mean over ", sums.num_prompts, " prompts, is ",
                           (folder / "jacobian_lens.pt").string()));
}

/// What flags need to have an effect.
std::vector<Condition> conditions(const CLI::App& app, const TrainOptions& options) {
  const bool jacobian = options.type == "jacobian";
  const std::string type = "--type " + options.type;
  return {{.flags = {"--prompts", "--shard", "--from-sums"},
           .holds = jacobian,
           .needs = "--type jacobian",
           .found = type},
          {.flags = {"--steps",
                     "--tokens-per-step",
                     "--epochs",
                     "--optimizer",
                     "--lr-scale",
                     "--momentum",
                     "--weight-decay",
                     "--warmup-steps",
                     "--loss",
                     "--bias-only",
                     "--init",
                     "--checkpoint-every",
                     "--validation-tokens",
                     "--validate-every",
                     "--keep",
                     "--damp-frequent",
                     "--damp-mode",
                     "--token-counts",
                     "--layers",
                     "--join"},
           .holds = !jacobian,
           .needs = "--type tuned",
           .found = type},
          {.flags = all_flags_but(app, {"--join", "--type", "--out", "--overwrite"}),
           .holds = options.join.empty(),
           .needs = "a training",
           .found = "--join, which puts lenses together as they are"},
          {.flags = all_flags_but(app, {"--from-sums", "--type", "--model", "--dtype", "--device",
                                        "--stream-layers", "--out", "--overwrite"}),
           .holds = options.sums.empty(),
           .needs = "a fit",
           .found = "--from-sums, which joins fits as they are"},
          {.flags = {"--damp-mode", "--token-counts"},
           .holds = !options.damp_frequent.empty(),
           .needs = "--damp-frequent"},
          {.flags = {"--momentum"},
           .holds = options.optimizer != "adam",
           .needs = "--optimizer sgd or muon",
           .found = "adam"},
          {.flags = {"--validate-every"},
           .holds = options.validation_tokens > 0,
           .needs = "--validation-tokens above 0",
           .found = "0"}};
}

void run_train_lens(const CLI::App& app, TrainOptions& options) {
  check_effects(app, conditions(app, options));
  const bool jacobian = options.type == "jacobian";
  if (!options.join.empty() || !options.sums.empty()) {
    if (options.corpus.out.empty())
      throw util::usage_error({.what = "no folder for the lens", .where = "--out"});
  } else {
    check_corpus_options(options.corpus, "train-lens");
  }
  apply_common_options(options.common);
  options.model.default_max_length = jacobian ? kJacobianLength : kTunedLength;
  if (!options.damp_frequent.empty()) parse_damp_frequent(options.damp_frequent);
  if (options.keep == "best" && (options.validation_tokens == 0 || options.validate_every == 0)) {
    throw util::usage_error({.what = "the best lens is found by validation",
                             .where = "--keep best",
                             .expected = "--validation-tokens and --validate-every above 0"});
  }
  if (!options.join.empty()) {
    run_join(options);
  } else if (jacobian) {
    run_fit_jacobian(options);
  } else {
    run_train_tuned(options);
  }
}

}  // namespace

std::function<void()> setup_train_lens(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  options->model.lenses.clear();
  add_corpus_options(app, options->corpus);
  app.get_option("--out")->description("Folder of the lens to write");
  app.get_option("--overwrite")->description("Replace the lens that the folder holds");
  add_limit_option(app, options->corpus);
  add_model_option(app, options->model);
  app.add_option("--type", options->type,
                 "tuned: trained translators; jacobian: mean Jacobians of the blocks")
      ->check(one_of({"tuned", "jacobian"}))
      ->capture_default_str();
  app.add_option("--steps", options->steps, "Steps of the optimizer")
      ->check(integer(1, 100000000))
      ->capture_default_str();
  app.add_option("--tokens-per-step", options->tokens_per_step,
                 "Tokens whose mean gradient makes a step; rounded down to whole windows")
      ->check(integer(1, std::int64_t{1} << 32))
      ->capture_default_str();
  app.add_option("--max-length", options->model.max_length,
                 util::cat("Tokens of a window, BOS included; at most what the model allows (default ",
                           kTunedLength, "; jacobian: ", kJacobianLength, ")"))
      ->check(integer(2, std::int64_t{1} << 24));
  app.add_option("--epochs", options->epochs, "Times that the text may be read, each time in another order")
      ->check(integer(1, 1000000))
      ->capture_default_str();
  app.add_option("--optimizer", options->optimizer, "Rule of the steps")
      ->check(one_of({"sgd", "adam", "muon"}))
      ->capture_default_str();
  const auto defaults = [](train::OptimizerKind kind) { return train::default_settings(kind, 1); };
  const train::OptimizerSettings sgd = defaults(train::OptimizerKind::kSgd),
                                 adam = defaults(train::OptimizerKind::kAdam),
                                 muon = defaults(train::OptimizerKind::kMuon);
  app.add_option("--lr-scale", options->lr_scale,
                 util::cat("Factor of the learning rate: sgd's is 1 − momentum, adam's ",
                           train::base_rate(adam), ", muon's ", train::base_rate(muon)))
      ->check(number("above 0", [](double value) { return value > 0; }))
      ->capture_default_str();
  app.add_option("--momentum", options->momentum,
                 util::cat("Of sgd (default ", sgd.momentum, ") and muon (default ", muon.momentum, ")"))
      ->check(number("from 0 to 0.9999", [](double value) { return value >= 0 && value <= 0.9999; }));
  app.add_option("--weight-decay", options->weight_decay,
                 util::cat("Pull towards the logit lens (default ", sgd.weight_decay, ")"))
      ->check(number("from 0", [](double value) { return value >= 0; }));
  app.add_option("--warmup-steps", options->warmup_steps,
                 "Steps of a rising learning rate (default 0; adam: a fifth of the steps, at most 1000)")
      ->check(integer(0));
  app.add_option("--loss", options->loss, "kl: KL(final ‖ layer); ce: cross-entropy of the next token")
      ->check(one_of({"kl", "ce"}))
      ->capture_default_str();
  app.add_flag("--bias-only", options->bias_only, "Train the biases, leave the weights as they are");
  app.add_option("--init", options->init, "Begin with this tuned lens instead of the logit lens")
      ->type_name("LENS");
  app.add_option("--layers", options->layers,
                 "Train these translators only, A-B from 0 to L − 1: several processes share a lens")
      ->type_name("A-B");
  add_repeatable(app, "--join", options->join,
                 "Put the lenses of such processes together; once for each folder")
      ->type_name("DIR");
  app.add_option("--checkpoint-every", options->checkpoint_every,
                 "Steps between checkpoints (0: only at the end)")
      ->check(integer(0))
      ->capture_default_str();
  app.add_flag("--resume", options->resume, "Go on with the training that the folder holds")
      ->excludes(app.get_option("--overwrite"));
  app.add_option("--validation-tokens", options->validation_tokens, "Tokens held out (0: none)")
      ->check(integer(0, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--validate-every", options->validate_every, "Steps between validations (0: never)")
      ->check(integer(0))
      ->capture_default_str();
  app.add_option("--keep", options->keep, "The lens of the last step, or the one with the least held out KL")
      ->check(one_of({"best", "last"}))
      ->capture_default_str();
  app.add_option(
         "--damp-frequent", options->damp_frequent,
         "Scale the update that the K most frequent tokens cause, such as 10:0.001 (see docs/methods.md)")
      ->type_name("K:FACTOR");
  app.add_option("--damp-mode", options->damp_mode,
                 "What is scaled: the loss where the model's top-1 is such a token, or the gradient through "
                 "its logit")
      ->check(one_of({"position", "vocabulary"}))
      ->capture_default_str();
  app.add_option("--token-counts", options->token_counts,
                 "Frequency table: a file of count-tokens, or the input")
      ->type_name("FILE|input")
      ->capture_default_str();
  app.add_option("--prompts", options->prompts, "Jacobian: windows of the text over which the mean is taken")
      ->check(integer(1, 100000000))
      ->capture_default_str();
  app.add_option("--shard", options->shard,
                 "Jacobian: this process takes the prompts whose number is I modulo N")
      ->type_name("I/N");
  add_repeatable(app, "--from-sums", options->sums,
                 "Jacobian: join the jacobian_sums.safetensors of all shards; may be given several times")
      ->type_name("FILE");
  add_bos_option(app, options->model);
  add_arithmetic_options(app, options->model);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens train-lens --model gpt2 --input corpus.txt --out lens/gpt2\n"
      "  depthlens analyze --model gpt2 --input book.txt --lens tuned:lens/gpt2 --out out/book\n"
      "--dtype auto: forward pass in float32, products with the vocabulary in bfloat16 where the processor "
      "has them.");
  return [options, &app] { run_train_lens(app, *options); };
}

}  // namespace depthlens::tool
