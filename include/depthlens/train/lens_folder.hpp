// The folder that a lens is trained into: the log and checkpoints while it lasts, the lens at its end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/lens/lens_file.hpp"
#include "depthlens/train/tuned_trainer.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::train {

/// A line of training.jsonl. Line 0 has the validation of the lens as it was at the start, and no step.
struct LogLine {
  std::int64_t step = 0;
  std::optional<StepResult> result;
  std::optional<std::vector<double>> validation_kl;  ///< [L] after the step; nats
};

/// A lens of a training: after which step (0: as it was at the start), and its mean validation KL over the
/// layers where it was kept for that; nats.
struct KeptLens {
  std::int64_t step = -1;
  std::optional<double> kl = {};
  lens::TunedParameters parameters = {};
};

/// The digest of a lens in the record beside it (training.json, jacobian_training.json).
inline constexpr const char* kLensDigest = "lens_digest";

/// Throws a format error where the record is of another lens than the one that is there: somebody put it
/// there. `where`: the lens. Records that were written before they had the digest say nothing.
void require_recorded(const util::OrderedJson& record, const lens::StoredLens& lens,
                      const std::string& where);

class LensFolder {
 public:
  /// Makes the folder ready. With `resume` a training that is there goes on, and begins where none is. Throws
  /// an output error where the folder cannot be written, or holds a lens, a training, or something else in
  /// its place, and neither is to be overwritten nor resumed.
  LensFolder(std::filesystem::path path, bool overwrite, bool resume);

  const std::filesystem::path& path() const { return path_; }
  /// Whether there is a checkpoint to go on from.
  bool resumes() const { return resumes_; }

  /// Adds to the log in memory; `save` writes it.
  void log(const LogLine& line, Loss loss);

  /// Writes checkpoint.safetensors and training.jsonl, each whole or not at all; until the checkpoint is
  /// there, what the folder held stays. Then the lens of an older training goes.
  void save(const TunedTrainer& trainer, const KeptLens& best, const util::OrderedJson& settings) const;

  /// Brings trainer, best lens and log to where the checkpoint left them, whatever training.jsonl holds,
  /// which is mended. A lens that is not what this training has come to goes. Throws a usage error that names
  /// the setting where the training was of other settings, format errors where the file is damaged or
  /// somebody put another lens beside the record of this training.
  void restore(TunedTrainer& trainer, KeptLens& best, const util::OrderedJson& settings);

 private:
  void remove_lens() const;
  /// Whether the lens of a training with these settings is there, whole. Throws where the record is of
  /// another.
  bool has_lens_of(const util::OrderedJson& settings) const;

  std::filesystem::path path_;
  bool resumes_;
  std::string log_;  // the lines
};

/// A setting of a training that was another before, with both values; "" where all are the same. Of an
/// initial lens its digest tells where both have it, and not its path.
std::string different_setting(const util::OrderedJson& before, const util::OrderedJson& now);

/// What a training does besides the steps themselves.
struct TrainingPlan {
  std::function<std::vector<Window>(std::int64_t step)> windows;  ///< of step 0, 1, …
  std::vector<Window> validation;
  std::int64_t validate_every = 25;    ///< steps; also before the first and after the last. 0: never
  std::int64_t checkpoint_every = 25;  ///< steps; also after the last
  bool keep_best = false;
  util::OrderedJson settings;  ///< what the result follows from: a checkpoint is resumed only with the same
  std::function<void(const LogLine&)> on_step = [](const LogLine&) {};
  std::function<bool()> should_stop = [] { return false; };
};

/// Trains to the end, or until it should stop: then the state is saved and nothing is returned. Returns the
/// lens to keep. Where the folder resumes, it goes on from the checkpoint, to the same bits as without
/// interruption; from that of a finished training it takes the lens.
std::optional<KeptLens> run_training(TunedTrainer& trainer, LensFolder& folder, const TrainingPlan& plan);

}  // namespace depthlens::train
