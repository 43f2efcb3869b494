// Provenance in metadata, and how the kind of a lens file is found.
#include "stored_lens.hpp"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <string_view>

#include "depthlens/io/metadata_reader.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormatVersion = "1";

io::MetadataReader reader(const Metadata& metadata, const std::string& where) {
  return {metadata, where, "damaged metadata"};
}

}  // namespace

std::optional<util::OrderedJson> json_of(std::string_view text) {
  try {
    return util::parse_ordered_json(text, "");
  } catch (const util::Error&) {
    return std::nullopt;
  }
}

bool is_safetensors(const fs::path& file) {
  const auto mapped = util::MappedFile::open(file);
  const std::string_view bytes(reinterpret_cast<const char*>(mapped->data()), mapped->size());
  if (bytes.size() > 8 && bytes[8] == '{') return true;                             // where the header begins
  const bool torch = bytes.starts_with("PK\x03\x04") || bytes.starts_with('\x80');  // a zip, or a pickle
  return !torch && file.extension() == ".safetensors";
}

io::TensorFile open_tensors(const fs::path& file) {
  return is_safetensors(file) ? io::TensorFile::open_safetensors(file) : io::TensorFile::open_torch(file);
}

void require_number(const Metadata& metadata, const std::string& key, std::int64_t value,
                    const std::string& where) {
  const std::optional<std::int64_t> found = reader(metadata, where).find_number(key);
  if (!found || *found == value) return;
  throw util::format_error({.what = "the metadata does not fit the parameters in the same file",
                            .where = where + ": __metadata__: " + key,
                            .expected = std::to_string(value),
                            .found = std::to_string(*found)});
}

void take(std::optional<std::string>& value, const std::string& said, const std::string& where) {
  if (value && *value != said) {
    throw util::format_error({.what = "the lens says two things of its model",
                              .where = where,
                              .expected = util::in_quotes(*value) + ", as elsewhere in the file",
                              .found = util::in_quotes(said)});
  }
  value = said;
}

LensProvenance provenance_of(const Metadata& metadata, const std::string& lens_type,
                             const std::string& where) {
  const io::MetadataReader said = reader(metadata, where);
  if (said.find("format") == kLensFormat) {
    const std::string version = said.find("format_version").value_or("");
    if (version != kFormatVersion) {
      throw util::format_error({.what = "a lens file of another version",
                                .where = where + ": __metadata__: format_version",
                                .expected = kFormatVersion,
                                .found = util::in_quotes(version),
                                .hint = "a newer depthlens may read it"});
    }
    const std::string type = said.find("lens_type").value_or(lens_type);
    if (type != lens_type) {
      throw not_a_lens(lens_type, where + ": __metadata__: lens_type", lens_type, util::in_quotes(type));
    }
  }
  return {.model = said.find("model"),
          .revision = said.find("revision"),
          .unembed_hash = said.find("unembed_hash"),
          .model_digest = said.find("model_digest"),
          .steps = said.find_number("steps"),
          .tokens = said.find_number("tokens"),
          .data_digest = said.find("data_digest")};
}

Metadata metadata_of(const LensProvenance& provenance, const std::string& lens_type,
                     std::int64_t hidden_size) {
  Metadata metadata = {{"format", kLensFormat},
                       {"format_version", kFormatVersion},
                       {"lens_type", lens_type},
                       {"d_model", std::to_string(hidden_size)}};
  const auto add = [&](const std::string& key, const std::optional<std::string>& value) {
    if (value) metadata[key] = *value;
  };
  add("model", provenance.model);
  add("revision", provenance.revision);
  add("unembed_hash", provenance.unembed_hash);
  add("model_digest", provenance.model_digest);
  if (provenance.steps) metadata["steps"] = std::to_string(*provenance.steps);
  if (provenance.tokens) metadata["tokens"] = std::to_string(*provenance.tokens);
  add("data_digest", provenance.data_digest);
  return metadata;
}

util::Error not_a_lens(const std::string& lens_type, const std::string& where, std::string expected,
                       std::string found) {
  const LensType* type = find_lens_type(lens_type);
  DEPTHLENS_ASSERT(type != nullptr);
  return util::format_error({.what = util::cat("not a ", type->title, " lens"),
                             .where = where,
                             .expected = std::move(expected),
                             .found = std::move(found)});
}

void require_shape(const at::Tensor& tensor, const std::vector<std::int64_t>& shape, const std::string& name,
                   const std::string& where) {
  if (tensor.sizes() != at::IntArrayRef(shape)) {
    throw util::format_error({.what = "a lens parameter has the wrong shape",
                              .where = where + ": " + name,
                              .expected = util::shape_text(shape),
                              .found = util::shape_text(tensor.sizes())});
  }
  if (!at::isFloatingType(tensor.scalar_type())) {
    throw util::format_error({.what = "a lens parameter does not hold floating-point numbers",
                              .where = where + ": " + name,
                              .found = at::toString(tensor.scalar_type())});
  }
}

FileHolds contents_of(const fs::path& file) {
  if (is_safetensors(file)) {
    const io::TensorFile tensors = io::TensorFile::open_safetensors(file);
    // "3.jacobian", or "3" as jlens-mlx writes.
    const auto is_jacobian = [](const auto& item) {
      std::int64_t block;
      return item.first.find(".jacobian") != std::string::npos || util::parse_int(item.first, block);
    };
    if (std::any_of(tensors.entries().begin(), tensors.entries().end(), is_jacobian))
      return FileHolds::kJacobianLens;
    return tensors.has("0.weight") ? FileHolds::kTunedLens : FileHolds::kElse;
  }
  const io::PickleValue root = io::read_torch_archive(file);
  if (find(root, "J") != nullptr) return FileHolds::kJacobianLens;
  const bool is_fit = find(root, "jacobian_sum") != nullptr || find(root, "parameters") != nullptr;
  return is_fit ? FileHolds::kFit : FileHolds::kElse;
}

StoredLens read_lens(const fs::path& given) {
  const fs::path path = find_lens(given, LensKind::kAny);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return read_tuned_lens(path);
  const FileHolds holds = contents_of(path);
  if (holds == FileHolds::kJacobianLens || holds == FileHolds::kFit) return read_jacobian_lens(path);
  return read_tuned_lens(path);
}

}  // namespace depthlens::lens
