// depthlens train-lens: a lens of one's own, from a model and a text.
#include <filesystem>
#include <memory>

#include "command.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/run/training.hpp"
#include "depthlens/train/settings.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "input_flags.hpp"
#include "model_flags.hpp"
#include "outputs.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;

struct TrainOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  std::string type = "tuned";
  run::TunedTraining tuned;
  std::string damp_frequent;
  std::vector<std::string> join;
  run::JacobianFitting jacobian;
  std::string shard;
  std::vector<std::string> sums;
};

/// "K:FACTOR", such as 10:0.001; "": leaves `damping` as it is.
void parse_damp_frequent(const std::string& text, run::FrequentDamping& damping) {
  if (text.empty()) return;
  const std::vector<std::string> parts = util::split(text, ':');
  const bool read = parts.size() == 2 && util::parse_int(parts[0], damping.num_tokens) &&
                    damping.num_tokens >= 1 && parse_number(parts[1], damping.factor) &&
                    damping.factor >= 0 && damping.factor <= 1;
  if (!read) {
    throw util::usage_error({.what = "unusable damping",
                             .where = "--damp-frequent",
                             .expected = "K:FACTOR with K from 1 and a factor from 0 to 1, such as 10:0.001",
                             .found = util::in_quotes(text)});
  }
}

/// What flags need to have an effect.
std::vector<Condition> conditions(const CLI::App& app, const TrainOptions& options) {
  const std::vector<std::string> of_tuned = {"--steps",
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
                                             "--join"};
  const bool is_jacobian = options.type == "jacobian";
  const std::string type = "--type " + options.type;
  return {{.flags = {"--prompts", "--shard", "--from-sums"},
           .holds = is_jacobian,
           .needs = "--type jacobian",
           .found = type},
          {.flags = of_tuned, .holds = !is_jacobian, .needs = "--type tuned", .found = type},
          {.flags = all_flags_but(app, {"--join", "--type", "--out", "--overwrite"}),
           .holds = options.join.empty(),
           .needs = "a training",
           .found = "--join, which puts lenses together as they are"},
          {.flags = all_flags_but(app, {"--from-sums", "--type", "--model", "--offline", "--dtype",
                                        "--device", "--stream-layers", "--out", "--overwrite"}),
           .holds = options.sums.empty(),
           .needs = "a fit",
           .found = "--from-sums, which joins fits as they are"},
          {.flags = {"--damp-mode", "--token-counts"},
           .holds = !options.damp_frequent.empty(),
           .needs = "--damp-frequent"},
          {.flags = {"--momentum"},
           .holds = options.tuned.optimizer != train::OptimizerKind::kAdam,
           .needs = "--optimizer sgd or muon",
           .found = "adam"},
          {.flags = {"--validate-every"},
           .holds = options.tuned.validation_tokens > 0,
           .needs = "--validation-tokens above 0",
           .found = "0"},
          {.flags = {"--validation-tokens"},
           .holds = options.tuned.validate_every > 0,
           .needs = "--validate-every above 0",
           .found = "0"}};
}

void run_train_lens(const CLI::App& app, TrainOptions& options) {
  check_effects(app, conditions(app, options));
  const bool is_jacobian = options.type == "jacobian";
  const CorpusOptions& corpus = options.corpus;
  if (!options.join.empty() || !options.sums.empty()) {
    if (corpus.out.empty()) throw util::usage_error({.what = "no folder for the lens", .where = "--out"});
  } else {
    check_corpus_options(corpus, "train-lens");
  }
  apply_common_options(options.common);
  options.model.default_max_length = is_jacobian ? run::kJacobianLength : run::kTunedLength;
  run::TunedTraining& tuned = options.tuned;
  tuned.seed = options.common.seed;
  parse_damp_frequent(options.damp_frequent, tuned.damping);
  if (tuned.keep_best && (tuned.validation_tokens == 0 || tuned.validate_every == 0)) {
    throw util::usage_error({.what = "the best lens is found by validation",
                             .where = "--keep best",
                             .expected = "--validation-tokens and --validate-every above 0"});
  }
  if (tuned.validate_every == 0) tuned.validation_tokens = 0;  // what is held out would be lost
  if (!options.shard.empty()) options.jacobian.shard = run::parse_shard(options.shard);
  const auto check_kept = [&](const std::string& flag, const fs::path& lens) {
    check_not_replaced(flag, {lens.string(), (lens / lens::kTunedParameters).string()}, corpus.out);
  };
  if (!options.join.empty()) {
    for (const std::string& part : options.join) check_kept("--join", part);
    run::join_tuned_lenses(options.join, corpus);
    return;
  }
  const ModelOptions model = located(options.model);
  if (!options.sums.empty()) {
    run::join_jacobian_sums(model, options.sums, corpus);
  } else if (is_jacobian) {
    run::fit_jacobian_lens(model, corpus, corpus, options.jacobian);
  } else {
    if (tuned.init == "logit") tuned.init.clear();  // which is where training begins
    if (!tuned.init.empty()) {
      std::string named = tuned.init;
      if (lens::take_type(named) == lens::find_lens_type(lens::kTunedType)) tuned.init = named;
      tuned.init_folder = io::Hub({.offline = model.offline}).tuned_lens(tuned.init);
      check_kept("--init", tuned.init_folder);
    }
    run::train_tuned_lens(model, corpus, corpus, tuned);
  }
}

}  // namespace

std::function<void()> setup_train_lens(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  run::TunedTraining& tuned = options->tuned;
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
  app.add_option("--steps", tuned.steps, "Steps of the optimizer")
      ->check(integer(1, 100000000))
      ->capture_default_str();
  app.add_option("--tokens-per-step", tuned.tokens_per_step,
                 "Tokens whose mean gradient makes a step; rounded down to whole windows")
      ->check(integer(1, std::int64_t{1} << 32))
      ->capture_default_str();
  app.add_option("--max-length", options->model.max_length,
                 util::cat("Tokens of a window, BOS included; at most what the model allows (default ",
                           run::kTunedLength, "; jacobian: ", run::kJacobianLength, ")"))
      ->check(integer(2, std::int64_t{1} << 24));
  app.add_option("--epochs", tuned.epochs, "Times that the text may be read, each time in another order")
      ->check(integer(1, 1000000))
      ->capture_default_str();
  add_choice(app, "--optimizer", tuned.optimizer, run::kOptimizers, "Rule of the steps");
  const auto defaults = [](train::OptimizerKind kind) { return train::default_settings(kind, 1); };
  const train::OptimizerSettings sgd = defaults(train::OptimizerKind::kSgd),
                                 adam = defaults(train::OptimizerKind::kAdam),
                                 muon = defaults(train::OptimizerKind::kMuon);
  app.add_option("--lr-scale", tuned.lr_scale,
                 util::cat("Factor of the learning rate: sgd's is 1 − momentum, adam's ",
                           train::base_rate(adam), ", muon's ", train::base_rate(muon)))
      ->check(number("above 0 to 1e6", [](double value) { return value > 0 && value <= 1e6; }))
      ->capture_default_str();
  app.add_option("--momentum", tuned.momentum,
                 util::cat("Of sgd (default ", sgd.momentum, ") and muon (default ", muon.momentum, ")"))
      ->check(number("from 0 to 0.9999", [](double value) { return value >= 0 && value <= 0.9999; }));
  app.add_option("--weight-decay", tuned.weight_decay,
                 util::cat("Pull towards the logit lens (default ", sgd.weight_decay, ")"))
      ->check(number("from 0 to 1e6", [](double value) { return value >= 0 && value <= 1e6; }));
  app.add_option("--warmup-steps", tuned.warmup_steps,
                 "Steps of a rising learning rate (default 0; adam: a fifth of the steps, at most 1000)")
      ->check(integer(0));
  add_choice(app, "--loss", tuned.loss, run::kLosses,
             "kl: KL(final ‖ layer); ce: cross-entropy of the next token");
  app.add_flag("--bias-only", tuned.bias_only, "Train the biases, leave the weights as they are");
  app.add_option("--init", tuned.init, "Begin with this tuned lens instead of the logit lens")
      ->type_name("LENS");
  app.add_option("--layers", tuned.layers,
                 "Train these translators only, A-B from 0 to L − 1, or one: several processes share a lens")
      ->type_name("A-B");
  add_repeatable(
      app, "--join", options->join,
      "Put the lenses of such processes together; may be given several times, or several folders at once")
      ->type_name("DIR");
  app.add_option("--checkpoint-every", tuned.checkpoint_every,
                 "Steps between checkpoints (0: only at the end)")
      ->check(integer(0))
      ->capture_default_str();
  app.add_flag("--resume", options->corpus.resume, "Go on with an interrupted training")
      ->excludes("--overwrite");
  app.add_option("--validation-tokens", tuned.validation_tokens, "Tokens held out (0: none)")
      ->check(integer(0, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--validate-every", tuned.validate_every,
                 "Steps between validations (0: never, and nothing is held out)")
      ->check(integer(0))
      ->capture_default_str();
  add_choice(app, "--keep", tuned.keep_best, run::kKeepBest,
             "The lens of the last step, or the one with the least held out KL");
  app.add_option(
         "--damp-frequent", options->damp_frequent,
         "Scale the update that the K most frequent tokens cause, such as 10:0.001 (see docs/methods.md)")
      ->type_name("K:FACTOR");
  add_choice(app, "--damp-mode", tuned.damping.mode, run::kDampingModes,
             "What is scaled: the loss where the model's top-1 is such a token, or the gradient through "
             "its logit");
  app.add_option("--token-counts", tuned.damping.token_counts,
                 "Frequency table: a file of count-tokens, or the input")
      ->type_name("FILE|input")
      ->capture_default_str();
  app.add_option("--prompts", options->jacobian.prompts,
                 "Jacobian: windows of the text over which the mean is taken")
      ->check(integer(1, 100000000))
      ->capture_default_str();
  app.add_option("--shard", options->shard,
                 "Jacobian: do the share I of N (from 0) of the prompts, those whose number is I modulo N; "
                 "auto: the place in a Slurm array or step; --from-sums joins them")
      ->type_name("I/N|auto");
  add_repeatable(app, "--from-sums", options->sums,
                 "Jacobian: join the jacobian_sums.safetensors of all shards; may be given several times")
      ->type_name("FILE");
  add_bos_option(app, options->model);
  add_arithmetic_options(app, options->model);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens train-lens --model gpt2 --input corpus.txt --out lens/gpt2\n"
      "  depthlens analyze --model gpt2 --input book.txt --lens tuned:lens/gpt2 --out out/book\n"
      "--dtype auto: forward pass in float32, products with translators and the vocabulary in bfloat16 where "
      "the processor multiplies that quicker.");
  return [options, &app] { run_train_lens(app, *options); };
}

}  // namespace depthlens::tool
