// Files of lenses: what they hold is read as stored, and written in any of the formats, bit for bit. The
// table of formats is docs/lenses.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "depthlens/lens/provenance.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {
class Model;
}

namespace depthlens::lens {

/// One thing that the files of a lens tell of how it was made, in the words of docs/lenses.md.
struct LensFact {
  std::string name;         ///< "target_layer", "estimator", …
  util::OrderedJson value;  ///< as it stands there; never null
  std::string where;        ///< file and key, for messages
  bool beside = false;      ///< told by a file beside the lens, not by its own

  bool operator==(const LensFact&) const = default;
};

/// A tuned lens as its file holds it: types kept, older key names understood. Shapes have been checked
/// against each other; values have not. Tensors that were read point into the mapped file.
struct StoredTunedLens {
  std::vector<at::Tensor> weights;  ///< L of [d, d], (out, in); L ≥ 1
  std::vector<at::Tensor> biases;   ///< L of [d], or none
  LensProvenance provenance;
  std::string config;                ///< the text of tuned-lens' config.json; "" where there is none
  std::vector<std::string> ignored;  ///< names of tensors of old files that belong to the model, not the lens
  std::string where;                 ///< the file with the parameters, for messages
  std::string described_in = {};     ///< the file that tells the provenance
  std::vector<LensFact> facts = {};

  std::int64_t num_layers() const { return static_cast<std::int64_t>(weights.size()); }
  std::int64_t hidden_size() const { return weights.front().size(0); }
};

/// A Jacobian lens as its file holds it; otherwise as `StoredTunedLens`.
struct StoredJacobianLens {
  /// The file's numbers (blocks from 0) → [d, d]; not empty. Which state of a block it is, the fact `anchor`
  /// tells; where there is none, the one after it.
  std::map<std::int64_t, at::Tensor> jacobians;
  /// The dictionary's other entries, in order; what other programs wrote into the header of safetensors
  /// stands under "__metadata__". A dictionary with keys that are no strings is
  /// {"__dict__": [[key, value], …]}, a number that is not finite {"__number__": "nan" | "inf" | "-inf"}.
  util::OrderedJson fields = util::OrderedJson::object();
  LensProvenance provenance;
  std::string where;
  std::string described_in = {};     ///< the file that tells the provenance
  std::vector<LensFact> facts = {};  ///< of `fields`, and of files beside it
  std::vector<std::pair<std::string, util::OrderedJson>> beside = {};  ///< those files, and what they hold

  std::int64_t hidden_size() const { return jacobians.begin()->second.size(0); }
};

using StoredLens = std::variant<StoredTunedLens, StoredJacobianLens>;

/// Which lenses are looked for.
enum class LensKind { kTuned, kJacobian, kAny };

/// The lens that a path stands for: itself where it is a file or a tuned-lens folder, that folder where it is
/// the params.pt in it, else the one lens of that kind in the folder or below it. Hidden folders are passed
/// over. Throws an input error where there is none or more than one, naming them, and where a folder holds
/// too many files to know.
std::filesystem::path find_lens(const std::filesystem::path& path, LensKind kind);
/// The same; "" where there is none. `most`: files and folders that are looked at.
std::filesystem::path find_lens_or_none(const std::filesystem::path& path, LensKind kind,
                                        std::size_t most = util::kMaxEntries);

/// Throws an output error where writing a lens to `target`, a file or a tuned-lens folder, would replace
/// something that is no lens: a model's config.json, another file.
void check_replaceable(const std::filesystem::path& target);

/// A tuned lens: a tuned-lens folder, such a params.pt alone, safetensors, or a folder for `find_lens`. The
/// format is found from the content. Throws input errors for what is missing, format errors for what is
/// damaged or no tuned lens.
StoredTunedLens read_tuned_lens(const std::filesystem::path& path);
/// A Jacobian lens: the archive as published, or safetensors, with what the files beside it tell; or a
/// folder. Errors as above.
StoredJacobianLens read_jacobian_lens(const std::filesystem::path& path);
/// Either, found from the content.
StoredLens read_lens(const std::filesystem::path& path);

/// The layers (0 … L) whose states the matrices of a Jacobian lens are for, as its anchor has it. Layer L
/// among them is not translated.
std::vector<std::int64_t> layers_of(const StoredJacobianLens& stored);

/// Facts by their names; of several with one name the first, which counts.
util::OrderedJson facts_json(const std::vector<LensFact>& facts);
/// What is known of how a lens was made, as JSON: provenance, then facts. For run.json.
util::OrderedJson about_lens(const StoredLens& stored);

/// SHA-256 over the parameters as float32, whatever file they came from: weight and bias of each translator
/// in turn, or the Jacobians by block. Where these are not those of blocks 0 to some other, each has its
/// block's number and a line feed before it.
std::string lens_digest(const StoredLens& stored);

/// The parameters of a tuned lens, ready for arithmetic.
struct TunedParameters {
  at::Tensor weights;  ///< [L, d, d] float32, (out, in)
  at::Tensor biases;   ///< [L, d] float32, or undefined
};

/// Throws a format error unless the lens has L = `num_layers` translators of width d = `hidden_size`.
void require_fit(const StoredTunedLens& lens, std::int64_t num_layers, std::int64_t hidden_size);

/// The parameters of a lens for a model of L = `num_layers` blocks and d = `hidden_size`. Throws as
/// `require_fit`, and a format error where a value is not finite.
TunedParameters tuned_parameters(const StoredTunedLens& lens, std::int64_t num_layers,
                                 std::int64_t hidden_size);
/// The same, to go on from with `model`. Of a lens of another model (`check_provenance`) it warns.
TunedParameters tuned_parameters(const StoredTunedLens& lens, const model::Model& model);

/// Which names the tensors of params.pt get: "0.weight", or those of old releases
/// ("input_translator.weight", "layer_translators.0.weight").
enum class TunedKeys { kCurrent, kLegacy };

/// A folder as the tuned-lens package saves it: params.pt, and config.json with one key of our own,
/// `model_digest`. A new folder appears whole or not at all; in one that exists the two files are replaced.
/// `steps`, `tokens` and `data_digest` have no place in it. Throws output errors.
void write_tuned_lens_folder(const std::filesystem::path& folder, const StoredTunedLens& lens,
                             TunedKeys keys = TunedKeys::kCurrent);
void write_tuned_lens_folder(const std::filesystem::path& folder, const TunedParameters& parameters,
                             const LensProvenance& provenance);

/// One safetensors file; everything that is known stands in its metadata. Throws output errors.
void write_tuned_lens_safetensors(const std::filesystem::path& file, const StoredTunedLens& lens);
void write_tuned_lens_safetensors(const std::filesystem::path& file, const TunedParameters& parameters,
                                  const LensProvenance& provenance);

/// The archive as Jacobian lenses are published; what is known of the model and is in none of the fields goes
/// into the field `metadata`.
void write_jacobian_lens_archive(const std::filesystem::path& file, const StoredJacobianLens& lens);
void write_jacobian_lens_safetensors(const std::filesystem::path& file, const StoredJacobianLens& lens);

}  // namespace depthlens::lens
