// Where a lens comes from, as its files tell it, and the digests that tie it to a model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace depthlens::model {
struct OutputHead;
}

namespace depthlens::lens {

/// What is known of a lens beside its parameters. Nothing here is ever made up: what a file does not say is
/// absent.
struct LensProvenance {
  std::optional<std::string> model = {};         ///< folder or hub id, as it was given
  std::optional<std::string> revision = {};      ///< of the model on the hub
  std::optional<std::string> unembed_hash = {};  ///< as `unembed_hash` makes it
  std::optional<std::string> model_digest = {};  ///< as `model_digest` makes it
  std::optional<std::int64_t> steps = {};        ///< of the training
  std::optional<std::int64_t> tokens = {};       ///< seen in the training
  std::optional<std::string> data_digest = {};   ///< SHA-256 of the training data

  bool operator==(const LensProvenance&) const = default;
};

/// tuned-lens' `unembed_hash` of an unembedding [V, d] of any floating-point type: SHA-256 of what NumPy
/// prints for it as float32 with one decimal, that is of at most 36 rounded numbers. Weak: kept for
/// compatibility. Prints as NumPy 2.3 and later do, where exponential notation begins at 1e6 instead of 1e8;
/// no unembedding comes near either.
std::string unembed_hash(const at::Tensor& unembedding);

/// SHA-256, as 64 hex digits, of the whole unembedding [V, d] as little-endian float32 in row-major order. Of
/// a model loaded in float32 it does not depend on how the checkpoint is stored.
std::string model_digest(const model::OutputHead& head);

}  // namespace depthlens::lens
