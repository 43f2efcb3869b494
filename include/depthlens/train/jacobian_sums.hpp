// Sums of Jacobians over prompts: what a fit adds to, saves and goes on with, what shards are merged from,
// and what a Jacobian lens is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/lens/lens_file.hpp"

namespace depthlens::train {

/// What all sums of one fit have in common.
struct JacobianIdentity {
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t skip_first = 0;
  std::string model_fingerprint;   ///< `lens::model_fingerprint` of the model
  std::string model_files_digest;  ///< of the model's files; "": not known
  std::string dtype;               ///< of the model's arithmetic
  std::int64_t num_shards = 1;     ///< into which the list of prompts was divided
  std::string list_digest;         ///< `prompts_digest` of the whole list
};

/// They are exact while no element passes 2^21, for the addends are multiples of 2^-32: the same prompts give
/// the same bits in any order and any division among workers.
struct JacobianSums {
  JacobianIdentity fit;
  // Of which prompts of that fit.
  std::vector<std::int64_t> shards = {0};    ///< that are in the sums
  std::vector<std::string> prompts_digests;  ///< of the list of prompts; after a merge, of each list
  std::int64_t num_listed = 0;               ///< prompts of these shards
  // How far.
  std::int64_t num_prompts = 0;  ///< that are in the sums
  std::int64_t num_skipped = 0;  ///< that were too short
  std::int64_t next_prompt = 0;  ///< index of the first prompt not looked at; after a merge 0
  std::string convergence;       ///< the lines of convergence.jsonl; after a merge none

  std::vector<at::Tensor> sums;  ///< of J_l, l = 0 … L − 2: float64 [d, d] on the CPU
  std::string where;             ///< the file that they were read from, for messages
};

/// A checkpoint, whole or not at all.
void save_jacobian_sums(const std::filesystem::path& path, const JacobianSums& sums);

/// Throws input and format errors that name the file and the key.
JacobianSums load_jacobian_sums(const std::filesystem::path& path);

/// Throws a usage error, which names what differs, unless `saved` is of the same prompts of the same fit as
/// `begun`.
void require_same_prompts(const JacobianSums& begun, const JacobianSums& saved);

/// Adds the sums of several workers. Throws a usage error where they are of different models, settings or
/// lists of prompts, where one is not finished, and where two are of the same shard.
JacobianSums merge_jacobian_sums(const std::vector<JacobianSums>& parts);

/// Throws a usage error that names the shards that are not in the sums.
void require_all_shards(const JacobianSums& sums);

/// The mean over prompts as a lens, for `lens::write_jacobian_lens_archive` or `…_safetensors`: J_l in
/// `dtype` for l = 0 … L − 2, as published ones, or all in float32 where a mean passes the range of that; the
/// Jacobian of the last block is the identity and is not stored. To the provenance the digest of the prompts
/// is added. Throws a usage error where shards are missing, and a self-check error where the sums hold no
/// prompt or a mean passes the range of float32.
lens::StoredJacobianLens jacobian_lens(const JacobianSums& sums, const lens::LensProvenance& provenance,
                                       at::ScalarType dtype = at::kHalf);

}  // namespace depthlens::train
