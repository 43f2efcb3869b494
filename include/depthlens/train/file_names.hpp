// Names of what trainings leave in their folders, beside a tuned lens (lens/file_names.hpp).
#pragma once

namespace depthlens::train {

/// Of a tuned lens: what made it, written last; the log, line by line; what a training goes on from.
inline constexpr const char* kTunedRecord = "training.json";
inline constexpr const char* kTunedLog = "training.jsonl";
inline constexpr const char* kTunedCheckpoint = "checkpoint.safetensors";

/// Of a Jacobian lens: the lens; what made it; the sums, from which a fit goes on; how much each prompt
/// moved the mean, line by line.
inline constexpr const char* kJacobianLens = "jacobian_lens.pt";
inline constexpr const char* kJacobianRecord = "jacobian_training.json";
inline constexpr const char* kJacobianSums = "jacobian_sums.safetensors";
inline constexpr const char* kJacobianConvergence = "convergence.jsonl";

}  // namespace depthlens::train
