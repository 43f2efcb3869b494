// Lenses of one's own: trained or fitted from a model and a text, in one process or in several whose parts
// are joined, each written with what made it. The folders: docs/training.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/run/choices.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/run/settings.hpp"
#include "depthlens/train/settings.hpp"

namespace depthlens::run {

struct ModelOptions;

/// Windows of the recipes, in tokens, where the user gives none and the model allows them: what
/// `ModelOptions::default_max_length` should be.
constexpr std::int64_t kTunedLength = 2048;
constexpr std::int64_t kJacobianLength = 128;

inline constexpr Choice<train::OptimizerKind> kOptimizers[] = {{train::OptimizerKind::kSgd, "sgd"},
                                                               {train::OptimizerKind::kAdam, "adam"},
                                                               {train::OptimizerKind::kMuon, "muon"}};
inline constexpr Choice<train::Loss> kLosses[] = {{train::Loss::kKl, "kl"},
                                                  {train::Loss::kCrossEntropy, "ce"}};
inline constexpr Choice<train::Damping::Mode> kDampingModes[] = {
    {train::Damping::Mode::kPosition, "position"}, {train::Damping::Mode::kVocabulary, "vocabulary"}};
/// Which lens is kept: the one with the least held out KL, or that of the last step.
inline constexpr Choice<bool> kKeepBest[] = {{true, "best"}, {false, "last"}};

/// The update that the most frequent tokens cause, made smaller (`train::Damping`).
struct FrequentDamping {
  std::int64_t num_tokens = 0;  ///< the most frequent ones; 0: nothing is damped
  double factor = 1;            ///< 0 … 1
  train::Damping::Mode mode = train::Damping::Mode::kPosition;
  std::string token_counts = "input";  ///< a file of count-tokens, or the input
};

/// How a tuned lens is trained.
struct TunedTraining {
  std::int64_t steps = 250;
  std::int64_t tokens_per_step = 262144;  ///< rounded down to whole windows
  std::int64_t epochs = 1;                ///< how often the text may be read
  train::OptimizerKind optimizer = train::OptimizerKind::kSgd;
  double lr_scale = 1;                  ///< of the optimizer's own learning rate
  std::optional<double> momentum = {};  ///< without it, as the next two: `train::default_settings`
  std::optional<double> weight_decay = {};
  std::optional<std::int64_t> warmup_steps = {};
  train::Loss loss = train::Loss::kKl;
  bool bias_only = false;
  std::string init;                    ///< the tuned lens to begin with, as it was named; "": the logit lens
  std::filesystem::path init_folder;   ///< where that is
  std::string layers;                  ///< "A-B" or "A", from 0 to L − 1: train these only; "": all
  std::int64_t checkpoint_every = 25;  ///< steps; 0: at the end only
  std::int64_t validation_tokens = 16384;  ///< held out, rounded up to whole windows; 0: none
  std::int64_t validate_every = 25;        ///< steps; 0: never, and no tokens are held out
  bool keep_best = false;                  ///< the lens with the least held out KL, not the last one
  FrequentDamping damping;
  std::int64_t seed = 0;  ///< of the order of the windows
};

/// How a Jacobian lens is fitted.
struct JacobianFitting {
  std::int64_t prompts = 100;  ///< windows of the text over which the mean is taken
  Shard shard;                 ///< this process takes every `count`-th prompt, from number `index`
};

/// Trains a tuned lens on the text of `input`, and writes it to the folder `output.out` beside training.json,
/// the log and the checkpoint. With `output.resume` it goes on from the folder's checkpoint, to the bytes of
/// a training that was not interrupted, or begins it where there is none; a complete one is left as it is.
/// Throws usage errors for settings that the model cannot have and for a checkpoint of another training;
/// input errors for a text that is too short; output errors for a folder in use; format errors for damaged
/// files; the interrupted error where it was stopped: what is done is in the checkpoint then.
void train_tuned_lens(const ModelOptions& model, const InputOptions& input, const OutputOptions& output,
                      const TunedTraining& training);

/// Joins the lens folders of trainings that each had some of the layers, whatever their order, into one.
/// Throws format errors where they are not parts of one training or where a layer is missing or there twice,
/// an output error where the folder holds a lens that is not to be overwritten.
void join_tuned_lenses(const std::vector<std::string>& parts, const OutputOptions& output);

/// Fits a Jacobian lens over the first windows of the text of `input` that are long enough, and writes
/// jacobian_lens.pt and jacobian_training.json to the folder `output.out` beside the sums, which are the
/// checkpoint that `output.resume` goes on from. A shard of several leaves its sums only. Throws what
/// `train::fit_jacobians` throws, an input error for a text with too few windows, a usage error for a shard
/// without any.
void fit_jacobian_lens(const ModelOptions& model, const InputOptions& input, const OutputOptions& output,
                       const JacobianFitting& fitting);

/// Joins the sums (jacobian_sums.safetensors) of all shards of a fit, whatever their order, and writes the
/// lens as `fit_jacobian_lens` does. Throws usage errors where they do not belong together or some are
/// missing, a format error where they are of another model, an output error where the folder holds a lens
/// that is not to be overwritten.
void join_jacobian_sums(const ModelOptions& model, const std::vector<std::string>& sums,
                        const OutputOptions& output);

}  // namespace depthlens::run
