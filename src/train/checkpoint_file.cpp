// Digests of checkpoints, written and compared.
#include "train/checkpoint_file.hpp"

#include <ATen/core/Tensor.h>

#include "depthlens/io/metadata_reader.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::train {
namespace {

constexpr const char* kDigest = "sha256";

/// Of the metadata but the digest itself, and of names, types, shapes and bytes of the tensors, which are
/// contiguous on the CPU.
std::string digest_of(const std::map<std::string, std::string>& metadata,
                      const std::map<std::string, at::Tensor>& tensors) {
  util::Sha256 hash;
  const auto add = [&](const std::string& text) {
    const std::string length = util::cat(text.size(), "\n");
    hash.update(length.data(), length.size());
    hash.update(text.data(), text.size());
  };
  for (const auto& [key, value] : metadata) {
    if (key == kDigest) continue;
    add(key);
    add(value);
  }
  for (const auto& [name, tensor] : tensors) {
    add(name);
    add(util::cat(at::toString(tensor.scalar_type()), " ", util::shape_text(tensor.sizes().vec())));
    if (tensor.nbytes() > 0) hash.update(tensor.const_data_ptr(), tensor.nbytes());
  }
  return hash.hex_digest();
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, const CheckpointKind& kind,
                      const io::NamedTensors& tensors, std::map<std::string, std::string> metadata) {
  metadata["format"] = kind.format;
  metadata["format_version"] = kind.version;
  io::NamedTensors on_host;  // moved once, for the digest and for the file
  for (const auto& [name, tensor] : tensors) on_host.emplace_back(name, tensor.detach().cpu().contiguous());
  metadata[kDigest] = digest_of(metadata, {on_host.begin(), on_host.end()});
  io::write_safetensors(path, on_host, metadata);
}

io::TensorFile open_checkpoint_file(const std::filesystem::path& path, const CheckpointKind& kind) {
  io::TensorFile file = io::TensorFile::open_safetensors(path);
  const std::string& where = file.source();
  const io::MetadataReader metadata(file.metadata(), where, kind.refusal);
  const std::string format = metadata.text("format"), version = metadata.text("format_version");
  if (format != kind.format || version != kind.version) {
    throw util::format_error({.what = kind.refusal,
                              .where = where,
                              .expected = util::cat(kind.format, ", version ", kind.version),
                              .found = util::in_quotes(format + ", " + version)});
  }
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, entry] : file.entries()) tensors.emplace(name, file.view(name));
  const std::string written = metadata.text(kDigest), found = digest_of(file.metadata(), tensors);
  if (written != found) {
    throw util::format_error({.what = "the checkpoint is damaged",
                              .where = where,
                              .expected = "SHA-256 " + written,
                              .found = found,
                              .hint = "begin anew with --overwrite, or put a copy in its place"});
  }
  return file;
}

}  // namespace depthlens::train
