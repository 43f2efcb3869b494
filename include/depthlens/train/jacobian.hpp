// Fitting of Jacobian lenses: for every block but the last, the mean Jacobian of the last residual state with
// respect to the state after that block. Definition: docs/methods.md, "Fitting a Jacobian lens".
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/model/model.hpp"
#include "depthlens/train/jacobian_sums.hpp"
#include "depthlens/util/interrupt.hpp"

namespace depthlens::train {

/// Token ids of one window.
using Prompt = std::vector<std::int64_t>;

struct JacobianOptions {
  /// Positions at the start of a prompt that are neither sources nor targets: attention sinks are there.
  std::int64_t skip_first = 16;
  /// About the memory that one recorded pass may take beside the weights and the sums; 0: what the device has
  /// for it (compute::WorkSizes).
  std::int64_t memory_bytes = 0;
  /// Rows of the Jacobians that one backward pass gives; 0: as many as `memory_bytes` allow. Another number
  /// changes the last bits.
  std::int64_t batch_rows = 0;
};

/// The Jacobians of single prompts. Keeps a reference to the model. Throws a usage error for a model of less
/// than two blocks, and for one whose blocks read more than states (model::Model::require_states_are_all).
class JacobianFitter {
 public:
  /// Called after each backward pass with the rows done, of d; false, unless all are: give up.
  using RowProgress = std::function<bool(std::int64_t rows_done)>;

  JacobianFitter(const model::Model& model, const JacobianOptions& options);

  /// Whether there is a position that counts: more than `skip_first` + 1 tokens.
  bool long_enough(const Prompt& prompt) const;

  /// For blocks l = 0 … L − 2 the prompt's J_l [d, d], (out, in), float64 on the CPU, rounded to multiples of
  /// 2^-32; nothing where `progress` said so. Throws a self-check error where a value is not finite. Where a
  /// device's memory does not suffice, it begins again with fewer rows to a pass, and stays with these.
  std::optional<std::vector<at::Tensor>> of_prompt(const Prompt& prompt, const RowProgress& progress = {});

  /// Rows of one backward pass for a prompt of that many tokens.
  std::int64_t batch_rows(std::int64_t num_tokens) const;

 private:
  /// With `num_rows` to a pass.
  std::optional<std::vector<at::Tensor>> of_prompt(const Prompt& prompt, std::int64_t num_tokens,
                                                   std::int64_t num_rows, const RowProgress& progress) const;

  const model::Model& model_;
  JacobianOptions options_;
  std::int64_t most_tokens_;  // of all rows of a pass together; becomes less where memory was short
};

/// SHA-256 of the token ids and lengths.
std::string prompts_digest(const std::vector<Prompt>& prompts);

/// Where a fit stands.
struct JacobianProgress {
  std::int64_t prompt = 0;  ///< the index of the one at hand
  std::int64_t num_prompts = 0;
  std::int64_t rows_done = 0;  ///< of its Jacobians
  std::int64_t num_rows = 0;
};

struct JacobianFit {
  JacobianOptions options;
  /// Holds `jacobian_sums.safetensors`, the checkpoint, and `convergence.jsonl`; made where it is missing. A
  /// lens of an older fit goes with the first checkpoint of one that is not at its end.
  std::filesystem::path folder;
  /// Writes the checkpoint after the first prompt that ends so long after the last one was written.
  double checkpoint_seconds = 60;
  /// Which share of a longer list the prompts are, and the `prompts_digest` of that list ("": of theirs).
  std::int64_t shard = 0;
  std::int64_t num_shards = 1;
  std::string list_digest = {};
  /// Of the model's files, by which sums are known as those of one model; "": by `lens::model_fingerprint`
  /// alone, to which most weights are nothing.
  std::string model_files_digest = {};
  bool resume = false;     ///< goes on with the folder's checkpoint, if there is one
  bool overwrite = false;  ///< begins anew over a checkpoint
  std::function<void(const JacobianProgress&)> progress;
  std::function<bool()> stop = util::interrupted;  ///< asked between backward passes
};

/// Fits over the prompts in order and returns the sums, which are also in the checkpoint then. Stopped, it
/// writes the checkpoint and throws `util::interrupted_error`; resumed, it gives the same bits as without the
/// interruption (on processors and with the same options and number of threads). A line of convergence.jsonl
/// is {"prompt", "tokens", "change"}: by how much the prompt moved the mean of each block, as the Frobenius
/// norm of the difference over that of the mean before it; null for the first. Prompts that are too short are
/// left out and counted. Throws output errors where the folder holds another fit or cannot be written, a
/// usage error where a checkpoint to resume from is of other prompts, another model or another `skip_first`.
JacobianSums fit_jacobians(const model::Model& model, const std::vector<Prompt>& prompts,
                           const JacobianFit& fit);

}  // namespace depthlens::train
