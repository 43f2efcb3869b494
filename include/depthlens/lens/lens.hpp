// Lenses: how the residual state of a layer is translated before it is decoded by the model's own final norm
// and unembedding. Every lens leaves layer L, the model's own output, as it is.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::model {
class Model;
}

namespace depthlens::lens {

/// What the flag --lens asks for.
struct LensRequest {
  std::string name;             ///< in the output; "" until `with_names` gives one
  std::string type;             ///< "logit", "tuned", "jacobian"
  std::string path;             ///< as it was named; "" for the logit lens
  bool allow_mismatch = false;  ///< warn, instead of throwing, of a lens whose digest names another model
  std::filesystem::path found = {};  ///< where `path` leads; empty: it is a path itself

  /// Where its files are.
  std::filesystem::path place() const { return found.empty() ? std::filesystem::path(path) : found; }
};

/// Reads `[NAME=]logit|tuned:PATH|jacobian:PATH`. Throws a usage error.
LensRequest parse_lens_request(const std::string& text);

/// Gives every request its name: the type; where several without a name are of one type, the type and what
/// tells their paths apart, such as tuned-a and tuned-b of lens/a and lens/b. The same path again gets a
/// number: tuned-2. A name used twice is a usage error.
std::vector<LensRequest> with_names(std::vector<LensRequest> requests);

/// Which translator serves which layer. `kTrained`: layer i is what translator i was trained on. `kPaper`: as
/// the paper's published scripts, layer i uses translator i − 1, layer 0 is decoded as by the logit lens.
enum class Alignment { kTrained, kPaper };

class Lens {
 public:
  virtual ~Lens() = default;

  const LensRequest& request() const { return request_; }
  /// The `lens_digest` of what was loaded; "" where there are no parameters.
  const std::string& digest() const { return digest_; }
  /// What its files tell of how it was made, as `about_lens` has it; empty where they tell nothing.
  const util::OrderedJson& about() const { return about_; }

  /// Whether the state of `layer` (0 … L) is changed at all; where not, it is decoded as by the logit lens.
  virtual bool translates(std::int64_t layer) const = 0;

  /// The translated states [P, d] of float32 states [P, d] of `layer`, where `translates(layer)`.
  virtual at::Tensor translate(std::int64_t layer, const at::Tensor& states) const = 0;

  /// How many translators the lens has that can be tried on a layer other than their own: L, or 0 where it
  /// has none such.
  virtual std::int64_t num_translators() const { return 0; }

  /// The states [P, d] of any layer as translator `index` (0 ≤ index < `num_translators()`) changes them,
  /// whatever the alignment.
  virtual at::Tensor apply_translator(std::int64_t index, const at::Tensor& states) const;

 protected:
  LensRequest request_;
  std::string digest_;
  util::OrderedJson about_ = util::OrderedJson::object();
};

/// Loads a lens for `model`. Throws input and format errors that name the file: a lens of another width or
/// depth, a missing translator, a digest of another model, a malicious or damaged file.
std::unique_ptr<Lens> load_lens(const LensRequest& request, const model::Model& model, Alignment alignment);

/// A view of `lens` that applies its translator `index` to every layer below L. It is called NAME.index and
/// has the digest of `lens`, which must outlive it.
std::unique_ptr<Lens> make_transfer_lens(const Lens& lens, std::int64_t index);

}  // namespace depthlens::lens
