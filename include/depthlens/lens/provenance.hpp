// Where a lens comes from, as its files tell it, and the digests that tie it to a model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace depthlens::model {
class Model;
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

/// The model's unembedding [V, d] as the checkpoint stores it, or as float32. In memory it may be rounded to
/// the type of the arithmetic.
at::Tensor stored_unembedding(const model::Model& model);

/// tuned-lens' `unembed_hash` of an unembedding [V, d] of any floating-point type, of a model that was loaded
/// in `loaded_as`: SHA-256 of what NumPy prints for it as float32 with one decimal, that is of at most 36
/// rounded numbers. Weak: other models may share it. Prints as NumPy 2.3 and later do, where exponential
/// notation begins at 1e6 instead of 1e8; no unembedding comes near either.
std::string unembed_hash(const at::Tensor& unembedding, at::ScalarType loaded_as = at::kFloat);

/// SHA-256, as 64 hex digits, of the whole unembedding [V, d] as little-endian float32 in row-major order. It
/// does not depend on how the checkpoint is stored.
std::string model_digest(const at::Tensor& unembedding);

/// SHA-256 of config.json, the unembedding and the final norm's weight: tells models apart that differ in
/// these or in settings, rotary ones included. The weights of the blocks are not read.
std::string model_fingerprint(const model::Model& model);

/// Compares what a lens says of its model with `model`. Throws a format error that names the key and both
/// values where `model_digest` or `unembed_hash` is another model's; warns instead where `allow_mismatch`. A
/// hash is also right where it is that of the unembedding rounded to float16 or bfloat16, as the package
/// makes it of models loaded so. Of a lens that has neither it warns where it names another model, or another
/// commit of it. `where`: the file that says so.
void check_provenance(const LensProvenance& provenance, const std::string& where, bool allow_mismatch,
                      const model::Model& model);

}  // namespace depthlens::lens
