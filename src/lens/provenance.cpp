// Digests of a model's unembedding, and whether a lens was made for a model.
#include "depthlens/lens/provenance.hpp"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cctype>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

/// Of a lens that no digest ties to the model: a commit of the model may have changed no weights, so that
/// another one is no error.
void warn_of_revision(const LensProvenance& provenance, const std::string& where, const model::Model& model) {
  const std::optional<std::string> commit = io::hub_commit(model.folder());
  if (!provenance.revision || !commit) return;
  const std::string& revision = *provenance.revision;
  const bool is_commit =
      revision.size() >= 7 &&
      std::all_of(revision.begin(), revision.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
  if (!is_commit || commit->rfind(revision, 0) == 0) return;
  util::log_warning(
      cat(where, ": the lens was made for revision ", revision, " of the model, this is ", *commit));
}

/// The parts of a path or hub id that may name a model, in lower case: folders, and what the hub cache joins
/// by "--".
std::vector<std::string> parts_of_name(const std::string& text) {
  std::string plain = util::lower_case(text);
  for (std::size_t at; (at = plain.find("--")) != std::string::npos;) plain.replace(at, 2, "/");
  std::vector<std::string> parts = util::split(plain, '/');
  parts.erase(std::remove(parts.begin(), parts.end(), ""), parts.end());
  return parts;
}

/// The name of a model's folder: of a snapshot in the hub cache that of its repository.
std::string name_of_folder(const fs::path& folder) {
  std::error_code ignored;
  const fs::path path = fs::weakly_canonical(folder, ignored), snapshots = path.parent_path();
  return (snapshots.filename() == "snapshots" ? snapshots.parent_path() : path).filename().string();
}

/// Whether the model goes by the last part of `name`, as its folder or in its config.json.
bool goes_by(const model::Model& model, const std::string& name) {
  const std::vector<std::string> wanted = parts_of_name(name);
  if (wanted.empty()) return true;  // no name
  std::vector<std::string> own = {name_of_folder(model.folder())};
  const fs::path config_path = model.folder() / "config.json";
  const util::Json config =
      util::parse_config(util::read_file(config_path, util::kMaxSettingsFile), config_path.string());
  if (const auto path = config.find("_name_or_path"); path != config.end() && path->is_string())
    own.push_back(path->get<std::string>());
  for (const std::string& text : own) {
    const std::vector<std::string> parts = parts_of_name(text);
    if (!parts.empty() && parts.back() == wanted.back()) return true;
  }
  return false;
}

}  // namespace

at::Tensor stored_unembedding(const model::Model& model) {
  const model::ArchSpec& spec = model.spec();
  const at::Tensor& in_memory = model.head().unembedding.weight;
  const bool projected =
      std::any_of(spec.model_tensors.begin(), spec.model_tensors.end(),
                  [](const model::TensorRule& rule) { return rule.slot == model::Slot::kOutputProjection; });
  if (model.dtype() == at::kFloat && !projected) return in_memory;  // nothing of it was lost
  const io::TensorFile file = model::open_weights(model.folder(), spec);
  const model::Slot slot = spec.tied_unembedding ? model::Slot::kTokenEmbedding : model::Slot::kUnembedding;
  const auto name = model::stored_name(spec, file, slot);
  return name ? file.view(*name) : in_memory;
}

std::string model_digest(const at::Tensor& unembedding) {
  // In pieces, so that a matrix of another type or place is never in memory a second time as a whole.
  const std::int64_t rows = std::max<std::int64_t>(1, (std::int64_t{1} << 22) / unembedding.size(1));
  util::Sha256 hash;
  for (std::int64_t first = 0; first < unembedding.size(0); first += rows) {
    const at::Tensor piece = unembedding.narrow(0, first, std::min(rows, unembedding.size(0) - first))
                                 .cpu()
                                 .to(at::kFloat)
                                 .contiguous();
    hash.update(piece.const_data_ptr(), static_cast<std::size_t>(piece.nbytes()));
  }
  return hash.hex_digest();
}

std::string model_fingerprint(const model::Model& model) {
  util::Sha256 hash;
  const std::string config = util::read_file(model.folder() / "config.json", util::kMaxSettingsFile);
  hash.update(config.data(), config.size());
  const std::string head = model_digest(stored_unembedding(model));
  hash.update(head.data(), head.size());
  if (model.head().norm_weight.defined()) {
    const at::Tensor weight = model.head().norm_weight.cpu().contiguous();
    hash.update(weight.const_data_ptr(), weight.nbytes());
  }
  return hash.hex_digest();
}

void check_provenance(const LensProvenance& provenance, const std::string& where, bool allow_mismatch,
                      const model::Model& model) {
  const std::string named = provenance.model && !provenance.model->empty() ? *provenance.model : "";
  if (!provenance.model_digest && !provenance.unembed_hash) {
    warn_of_revision(provenance, where, model);
    if (goes_by(model, named)) return;
    util::log_warning(cat(where, ": the lens was made for ", in_quotes(named),
                          " and has no digest by which that could be told from ",
                          in_quotes(model.folder().string()), "; only width and depth were compared"));
    return;
  }
  const at::Tensor unembedding = stored_unembedding(model);
  const auto require_same = [&](const char* key, const std::string& of_model, const std::string& of_lens) {
    if (of_model == of_lens) return true;
    const util::Error error =
        util::format_error({.what = "the lens was made for another model",
                            .where = cat(where, ": ", key),
                            .expected = of_model + " (this model's unembedding)",
                            .found = of_lens + (named.empty() ? "" : cat(" (", named, ")")),
                            .hint = "--allow-lens-mismatch makes this a warning"});
    if (!allow_mismatch) throw error;
    util::log_warning(error.what());
    return false;
  };
  if (provenance.model_digest &&
      !require_same("model_digest", model_digest(unembedding), *provenance.model_digest))
    return;
  if (!provenance.unembed_hash) return;
  for (const at::ScalarType loaded_as : {at::kHalf, at::kBFloat16}) {
    if (unembed_hash(unembedding, loaded_as) == *provenance.unembed_hash) return;
  }
  require_same("unembed_hash", unembed_hash(unembedding), *provenance.unembed_hash);
}

}  // namespace depthlens::lens
