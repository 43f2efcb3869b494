// A text → windows → steps of the trainer → a tuned lens; and lenses that each have some of the layers → one.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <optional>

#include "depthlens/data/corpus.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/data/training_text.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/run/saved_parts.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/run/training.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/train/lens_folder.hpp"
#include "depthlens/train/tuned_trainer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"
#include "run/training_files.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using util::OrderedJson;

/// Sets which translators are trained.
void set_layers(train::TrainSettings& settings, const std::string& text, std::int64_t num_layers) {
  settings.num_layers = num_layers;
  if (text.empty()) return;
  const auto range = util::parse_range(text);
  if (!range || range->first > range->last || range->last >= num_layers) {
    throw util::usage_error({.what = "unusable layers",
                             .where = "--layers",
                             .expected = util::cat("A-B with 0 ≤ A ≤ B ≤ ", num_layers - 1),
                             .found = util::in_quotes(text)});
  }
  settings.first_layer = range->first;
  settings.num_layers = range->last - range->first + 1;
}

train::OptimizerSettings optimizer_settings(const TunedTraining& training) {
  train::OptimizerSettings settings = train::default_settings(training.optimizer, training.steps);
  settings.lr_scale = training.lr_scale;
  if (training.momentum) settings.momentum = *training.momentum;
  if (training.weight_decay) settings.weight_decay = *training.weight_decay;
  if (training.warmup_steps) settings.warmup_steps = *training.warmup_steps;
  if (settings.warmup_steps >= training.steps)
    util::log_warning("the warm-up takes all steps: the learning rate does not come to its full height");
  return settings;
}

/// The text to train on: read, joined, cut into windows.
struct Text {
  data::TrainingText windows;
  data::TokenCounts counts;
  std::vector<data::InputSummary> inputs;
  std::int64_t bytes = 0;
  std::int64_t windows_per_step = 0;

  /// Of one step.
  std::vector<train::Window> windows_of(std::int64_t step) const {
    std::vector<train::Window> all;
    for (std::int64_t i = 0; i < windows_per_step; ++i)
      all.push_back(windows.window(step * windows_per_step + i));
    return all;
  }
  std::vector<train::Window> validation() const {
    std::vector<train::Window> all;
    for (std::int64_t i = 0; i < windows.num_validation(); ++i) all.push_back(windows.validation_window(i));
    return all;
  }
};

std::int64_t held_out_windows(const TunedTraining& training, std::int64_t length) {
  return (training.validation_tokens + length - 1) / length;
}

/// Throws an input error where the text has not the windows that the training takes.
void require_enough(const Text& text, const InputOptions& input, const TunedTraining& training,
                    std::int64_t length, bool has_bos) {
  const std::int64_t of_text = length - (has_bos ? 1 : 0);  // of a window
  const std::int64_t held_out = held_out_windows(training, length);
  const std::int64_t needed = training.steps * text.windows_per_step;
  const std::int64_t windows = text.windows.num_windows();
  const std::int64_t epochs = training.epochs;
  if (text.windows.num_validation() == held_out && windows >= 1 && windows * epochs >= needed) return;
  throw util::input_error(
      {.what = "the text is too short for this training",
       .where = place_of(input.inputs),
       .expected = util::cat(counted(needed * of_text, "token"), " for ", counted(training.steps, "step"),
                             " of ", counted(text.windows_per_step, "window"), ", and ",
                             util::with_thousands(held_out * of_text), " held out"),
       .found = util::cat(counted(text.windows.num_tokens(), "token"),
                          epochs > 1 ? util::cat(" in each of ", epochs, " epochs") : ""),
       .hint = text.windows.num_validation() == held_out && windows >= 1
                   ? util::cat("fewer --steps or --tokens-per-step, or --epochs ",
                               (needed + windows - 1) / windows, " to read the text again and again")
               : held_out > 0 ? "more text, or fewer --validation-tokens, --steps and --tokens-per-step"
                              : "more text"});
}

Text read_text(const InputOptions& input, const TunedTraining& training, const Session& session) {
  const std::int64_t length = session.max_length();
  const std::optional<text::TokenId> separator =
      session.tokenizer().eos() ? session.tokenizer().eos() : session.tokenizer().bos();
  if (separator) session.check_in_vocabulary({*separator});
  Text text{.windows = data::TrainingText({.window_length = length,
                                           .bos = session.bos(),
                                           .separator = separator,
                                           .vocab_size = session.spec().vocab_size}),
            .counts = {},
            .inputs = {},
            .windows_per_step = training.tokens_per_step / length};
  if (text.windows_per_step == 0) {
    throw util::usage_error({.what = "a step has no room for a window",
                             .where = util::cat("--tokens-per-step ", training.tokens_per_step),
                             .expected = util::cat("at least the ", length, " tokens of a window")});
  }
  data::Corpus corpus(input.inputs, session.tokenizer(), input.limit);
  util::Progress progress("reading", "tokens", 0);
  while (const auto document = corpus.next()) {
    session.check_in_vocabulary(document->tokens);
    for (const text::TokenId id : document->tokens) text.counts.add(id);
    text.windows.add(document->tokens);
    progress.advance(static_cast<std::int64_t>(document->tokens.size()));
  }
  progress.finish();
  text.inputs = corpus.summaries();
  for (const data::InputSummary& file : text.inputs) text.bytes += file.bytes;
  text.windows.shuffle(static_cast<std::uint64_t>(training.seed), held_out_windows(training, length));
  require_enough(text, input, training, length, session.bos().has_value());
  return text;
}

/// The frequency table of the damping, where it is a file.
std::optional<data::TokenCounts> read_counts(const FrequentDamping& damping, const Session& session) {
  if (damping.num_tokens == 0 || damping.token_counts == "input") return std::nullopt;
  return data::TokenCounts::read(damping.token_counts, session.spec().vocab_size, session.tokenizer());
}

train::Damping damping_of(const FrequentDamping& damping, const data::TokenCounts& counts) {
  if (damping.num_tokens == 0) return {};
  std::vector<text::TokenId> tokens = counts.by_frequency();
  const auto wanted = static_cast<std::size_t>(damping.num_tokens);
  if (tokens.size() < wanted) {
    util::log_warning(util::cat("--damp-frequent ", wanted, ": the frequency table has only ",
                                counted(static_cast<std::int64_t>(tokens.size()), "token"),
                                ", and all of them are damped"));
  }
  tokens.resize(std::min(tokens.size(), wanted));
  return {.tokens = tokens, .factor = damping.factor, .mode = damping.mode};
}

/// All but the damping, which may follow from the text.
train::TrainSettings settings_of(const TunedTraining& training, const ModelOptions& model,
                                 const Session& session) {
  train::TrainSettings settings{
      .steps = training.steps,
      .loss = training.loss,
      .optimizer = optimizer_settings(training),
      .bias_only = training.bias_only,
      .damping = {},
      .precision = model.dtype == Dtype::kFloat32 ? compute::Precision::kFloat32 : compute::Precision::kFast};
  set_layers(settings, training.layers, session.spec().num_layers);
  return settings;
}

/// The lens of --init, if there is one. Throws where it does not fit the model or has nothing to train.
std::optional<lens::StoredTunedLens> read_init(const TunedTraining& training, const Session& session) {
  if (training.init.empty()) return std::nullopt;
  lens::StoredTunedLens init = lens::read_tuned_lens(training.init_folder);
  lens::require_fit(init, session.spec().num_layers, session.spec().hidden_size);
  if (training.bias_only && init.biases.empty()) {
    throw util::usage_error({.what = "there is nothing to train",
                             .where = "--bias-only",
                             .expected = "a lens with biases",
                             .found = "one without, " + training.init});
  }
  return init;
}

/// What the bits of the result follow from, the machine apart: of a checkpoint that is resumed it must be the
/// same.
OrderedJson settings_json(const TunedTraining& training, const ModelOptions& model, const Session& session,
                          const Text& text, const std::optional<lens::StoredTunedLens>& init,
                          const train::TunedTrainer& trainer) {
  const train::TrainSettings& settings = trainer.settings();
  const bool damped = !settings.damping.tokens.empty();
  OrderedJson json = {{"type", "tuned"},
                      {"steps", settings.steps},
                      {"windows_per_step", text.windows_per_step},
                      {"max_length", session.max_length()},
                      {"bos", session.describe_bos()},
                      {"optimizer", name_of(kOptimizers, training.optimizer)},
                      {"lr_scale", settings.optimizer.lr_scale},
                      {"momentum", settings.optimizer.momentum},
                      {"weight_decay", settings.optimizer.weight_decay},
                      {"warmup_steps", settings.optimizer.warmup_steps},
                      {"loss", name_of(kLosses, training.loss)},
                      {"bias_only", settings.bias_only},
                      {"init", training.init},
                      {"layers", {settings.first_layer, settings.first_layer + settings.num_layers - 1}},
                      {"clip_norm", settings.clip_norm},
                      {"damp_mode", damped ? OrderedJson(name_of(kDampingModes, training.damping.mode))
                                           : OrderedJson(nullptr)},
                      {"damp_factor", settings.damping.factor},
                      {"damped_tokens", settings.damping.tokens},
                      {"epochs", training.epochs},
                      {"validation_tokens", training.validation_tokens},
                      {"validate_every", training.validate_every},
                      {"keep", name_of(kKeepBest, training.keep_best)},
                      {"seed", training.seed},
                      {"dtype", name_of(kDtypes, model.dtype)},
                      {"products", trainer.products()},
                      {"data_digest", text.windows.digest()}};
  json["model_files_digest"] = model_files_digest(session);
  if (init) json["init_digest"] = lens::lens_digest(*init);
  return json;
}

std::string four_digits(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}

/// The line of progress: how far, and how good.
class TrainingProgress {
 public:
  TrainingProgress(const train::TrainSettings& settings, std::int64_t tokens_per_step)
      : settings_(settings),
        tokens_per_step_(tokens_per_step),
        progress_("training", "tokens", settings.steps * tokens_per_step) {}

  void show(const train::LogLine& line) {
    if (line.validation_kl) validated_ = {line.step, train::mean_over_layers(*line.validation_kl)};
    std::string note = util::cat("step ", line.step, " of ", settings_.steps);
    if (line.result) {
      const bool is_kl = settings_.loss == train::Loss::kKl;
      const double loss = train::mean_over_layers(line.result->loss);
      if (line.step == 1) first_ = loss;
      note += util::cat(", mean ", is_kl ? "KL " : "cross-entropy ", four_digits(loss));
      if (first_) note += " (" + four_digits(*first_) + " at the start)";
    }
    if (validated_) {
      const auto& [step, kl] = *validated_;
      note += util::cat(", held out KL ", four_digits(kl),
                        step == 0           ? " at the start"
                        : step == line.step ? std::string()
                                            : util::cat(" at step ", step));
    }
    progress_.set_note(note);
    if (!begun_) progress_.skip(line.step > 0 ? (line.step - 1) * tokens_per_step_ : 0);  // resumed
    begun_ = true;
    progress_.advance(line.result ? tokens_per_step_ : 0);
  }
  void finish() { progress_.finish(); }

 private:
  const train::TrainSettings& settings_;
  std::int64_t tokens_per_step_;
  util::Progress progress_;
  std::optional<double> first_;                               // nats
  std::optional<std::pair<std::int64_t, double>> validated_;  // after which step
  bool begun_ = false;
};

/// Puts the layers that were trained in their places among all of them.
void put_trained(const lens::TunedParameters& trained, const train::TrainSettings& settings,
                 lens::TunedParameters& all) {
  const std::int64_t first = settings.first_layer, count = settings.num_layers;
  all.weights.narrow(0, first, count).copy_(trained.weights);
  if (all.biases.defined()) all.biases.narrow(0, first, count).copy_(trained.biases);
}

}  // namespace

void train_tuned_lens(const ModelOptions& model_options, const InputOptions& input,
                      const OutputOptions& output, const TunedTraining& training) {
  const auto started = Clock::now();
  ModelOptions of_session = model_options;
  of_session.is_for_fast_products = true;  // unless --dtype float32
  Session session(of_session);
  train::LensFolder folder(output.out, output.overwrite, output.resume);
  const FolderLock lock(output.out, "");
  util::remove_leftovers(output.out);
  // What may be wrong with the flags is told before the text is read, which may take long.
  train::TrainSettings settings = settings_of(training, model_options, session);
  const std::optional<lens::StoredTunedLens> init = read_init(training, session);
  const std::optional<data::TokenCounts> table = read_counts(training.damping, session);
  const Text text = read_text(input, training, session);
  const data::TokenCounts& counts = table ? *table : text.counts;
  settings.damping = damping_of(training.damping, counts);
  session.load();
  const util::FinishOnInterrupt finish;
  const model::Model& model = session.model();
  lens::TunedParameters lens =
      init ? lens::tuned_parameters(*init, model) : train::TunedTrainer::zeros(model, /*biases=*/true);
  train::TunedTrainer trainer(model, settings, lens);
  const std::int64_t tokens_per_step = text.windows_per_step * session.max_length();
  util::log_info(util::cat(
      model.spec().architecture, ", ", counted(trainer.settings().num_layers, "translator"), " of ",
      model.spec().hidden_size, " × ", model.spec().hidden_size, "; ", counted(settings.steps, "step"),
      " of ", counted(tokens_per_step, "token"), "; products in ", trainer.products()));

  train::TrainingPlan plan;
  plan.windows = [&](std::int64_t step) { return text.windows_of(step); };
  plan.validation = text.validation();
  plan.validate_every = training.validate_every;
  plan.checkpoint_every = training.checkpoint_every;
  plan.keep_best = training.keep_best;
  plan.settings = settings_json(training, model_options, session, text, init, trainer);
  TrainingProgress progress(settings, tokens_per_step);
  plan.on_step = [&](const train::LogLine& line) { progress.show(line); };
  plan.should_stop = util::interrupted;
  const auto training_started = Clock::now();
  const auto trained = train::run_training(trainer, folder, plan);
  const std::chrono::duration<double> training_seconds = Clock::now() - training_started;
  progress.finish();
  if (!trained) {
    util::log_warning(util::cat("stopped after ", trainer.steps_done(), " of ",
                                counted(settings.steps, "step"), "; ", output.out,
                                " holds what was finished; --resume goes on"));
    throw util::interrupted_error();
  }

  // Written last, and gone with the first checkpoint of another training: with it the lens is there.
  const fs::path record_path = folder.path() / train::kTunedRecord;
  if (folder.resumes() && util::exists(record_path)) {
    util::log_info("the training is complete: " + output.out);
    util::set_work_done();
    return;
  }
  if (trained->kl) {
    const std::string kept = util::cat("held out KL ", four_digits(*trained->kl));
    if (trained->step == 0) {
      util::log_warning(util::cat("no step made the lens better than it was at the start, ", kept,
                                  ": it is kept as it was"));
    } else {
      util::log_info(util::cat("kept the lens after step ", trained->step, ", ", kept));
    }
  }
  put_trained(trained->parameters, trainer.settings(), lens);
  lens::LensProvenance provenance = provenance_of(model_options, session);
  provenance.steps = settings.steps;
  provenance.tokens = settings.steps * tokens_per_step;
  provenance.data_digest = text.windows.digest();
  lens::write_tuned_lens_folder(folder.path(), lens, provenance);
  const double bits_per_byte =
      static_cast<double>(text.windows.num_tokens()) / static_cast<double>(text.bytes) / std::numbers::ln2;
  OrderedJson record = training_json(session, text.inputs, plan.settings, settings.precision, started);
  record[train::kLensDigest] = lens::lens_digest(lens::read_tuned_lens(folder.path()));
  record["kept"] = {{"step", trained->step},
                    {"validation_kl", trained->kl ? OrderedJson(*trained->kl) : OrderedJson(nullptr)}};
  record["text"] = {{"tokens", text.windows.num_tokens()},
                    {"bytes", text.bytes},
                    {"bits_per_byte_of_nats_per_token", bits_per_byte}};
  const OrderedJson counted = token_counts_json(training.damping.token_counts, counts);
  if (!counted.is_null()) record["token_counts"] = counted;
  record["volatile"]["training_seconds"] = training_seconds.count();
  write_last_file(record_path, record);
  util::log_info("the lens is in " + output.out);
}

void join_tuned_lenses(const std::vector<std::string>& parts, const OutputOptions& output) {
  const fs::path out = output.out;
  lens::check_replaceable(out);
  require_none({out / lens::kTunedParameters, out / lens::kTunedConfig, out / train::kTunedRecord,
                out / train::kTunedCheckpoint, out / train::kTunedLog},
               output.overwrite);
  lens::StoredTunedLens joined;
  std::vector<bool> taken;
  OrderedJson settings, joined_record;
  for (const std::string& part : parts) {
    const fs::path record_path = fs::path(part) / train::kTunedRecord;
    if (!util::exists(record_path) && util::exists(fs::path(part) / train::kTunedCheckpoint)) {
      throw util::usage_error({.what = "an unfinished training",
                               .where = "--join " + part,
                               .hint = "go on with it by --resume first"});
    }
    const std::string text = util::read_file(record_path, util::kMaxSettingsFile);
    const util::Json record = util::parse_json(text, record_path.string());
    const util::JsonView view(record, record_path.string());
    const util::JsonView layers = view.at("settings").at("layers");
    lens::StoredTunedLens lens = lens::read_tuned_lens(part);
    const OrderedJson ordered = util::parse_ordered_json(text, record_path.string());
    train::require_recorded(ordered, lens, part);
    OrderedJson others = ordered["settings"];
    others.erase("layers");
    if (taken.empty()) {
      joined = lens;
      settings = others;
      joined_record = ordered;
      taken.assign(lens.weights.size(), false);
    }
    if (!train::different_setting(settings, others).empty() || lens.weights.size() != taken.size() ||
        lens.provenance.model_digest != joined.provenance.model_digest ||
        lens.provenance.unembed_hash != joined.provenance.unembed_hash) {
      throw util::format_error(
          {.what = "not parts of one training",
           .where = part + " and " + parts.front(),
           .hint = "train all parts with the same model, text and flags, but for --layers"});
    }
    const auto last = layers.at(std::size_t{1}).as_integer(0, static_cast<std::int64_t>(taken.size()) - 1);
    for (auto i = layers.at(std::size_t{0}).as_integer(0, last); i <= last; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (taken[at]) {
        throw util::usage_error({.what = util::cat("two parts have layer ", i),
                                 .where = "--join " + part,
                                 .expected = "every layer once"});
      }
      taken[at] = true;
      joined.weights[at] = lens.weights[at];
      if (!joined.biases.empty()) joined.biases[at] = lens.biases.at(at);
    }
  }
  std::vector<std::string> missing;
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i]) missing.push_back(std::to_string(i));
  }
  if (!missing.empty()) {
    constexpr std::size_t kShown = 12;
    throw util::usage_error(
        {.what = util::cat("no part has layer", missing.size() > 1 ? "s " : " ",
                           util::join_first(missing, kShown)),
         .where = "--join",
         .hint = "name the folders of all parts, and train what is missing with --layers"});
  }
  util::create_folders(out);
  const FolderLock lock(output.out, "");
  util::remove_leftovers(out);
  // The record before the lens, so that none tells of another; and a training that was there cannot go on.
  std::error_code ignored;
  fs::remove(out / train::kTunedRecord, ignored);
  lens::write_tuned_lens_folder(out, joined);
  for (const char* name : {train::kTunedCheckpoint, train::kTunedLog}) fs::remove(out / name, ignored);
  joined_record["settings"]["layers"] = {0, taken.size() - 1};
  for (const char* key : {"volatile", "kept"}) joined_record.erase(key);  // each part has its own
  joined_record[train::kLensDigest] = lens::lens_digest(joined);
  write_last_file(out / train::kTunedRecord, joined_record);
  util::log_info("the lens is in " + output.out);
}

}  // namespace depthlens::run
