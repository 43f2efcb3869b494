// Named tensors over mapped files, and the weight files of a model folder.
#include "depthlens/io/checkpoint.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "tensor_layout.hpp"
#include "zip_archive.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::format_error;
using util::in_quotes;
using util::input_error;

bool is_contiguous(const TensorEntry& entry) {
  const std::vector<std::int64_t> strides = contiguous_strides(entry.shape);
  for (std::size_t i = 0; i < strides.size(); ++i) {
    if (entry.shape[i] != 1 && entry.strides[i] != strides[i]) return false;
  }
  return true;
}

/// The bytes of a tensor as one. Where they can be used in place the tensor holds the map.
at::Tensor view_of(const TensorEntry& entry) {
  if (entry.checksum != nullptr) entry.checksum->check();
  const std::byte* bytes = entry.file->data() + entry.offset;
  const bool boolean = entry.dtype == at::kBool;
  const at::ScalarType dtype = boolean ? at::kByte : entry.dtype;
  const std::uint64_t element_size = c10::elementSize(dtype);
  if (reinterpret_cast<std::uintptr_t>(bytes) % element_size != 0) {
    const auto num_elements = static_cast<std::int64_t>(entry.length / element_size);
    const at::Tensor copy = at::empty({num_elements}, dtype);
    if (entry.length > 0) std::memcpy(copy.data_ptr(), bytes, entry.length);
    return copy.as_strided(entry.shape, entry.strides);
  }
  const at::Tensor view = at::from_blob(
      const_cast<std::byte*>(bytes), entry.shape, entry.strides, [file = entry.file](void*) {}, dtype);
  // A byte other than 0 and 1 read as bool is undefined behaviour.
  return boolean ? view.ne(0) : view;
}

/// `values`, a view of the entry's bytes, as a contiguous tensor of its own.
at::Tensor copy_and_release(const at::Tensor& values, const TensorEntry& entry, at::ScalarType dtype) {
  const at::Tensor target = at::empty(values.sizes(), dtype);
  target.copy_(values);
  entry.file->release(entry.offset, entry.length);
  return target;
}

const TensorEntry& find_entry(const TensorFile& file, const std::string& name) {
  const auto found = file.entries().find(name);
  if (found != file.entries().end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [other, entry] : file.entries()) names.push_back(other);
  throw format_error({.what = "no tensor " + in_quotes(name),
                      .where = file.source(),
                      .hint = util::did_you_mean(name, names)});
}

/// "a, b, c and 7 more"
std::string first_few(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i)
    text += cat(i > 0 ? ", " : "", in_quotes(names[i]));
  if (names.size() > kShown) text += cat(" and ", names.size() - kShown, " more");
  return text;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

TensorFile open_weights(const fs::path& path) {
  return path.extension() == ".safetensors" ? TensorFile::open_safetensors(path)
                                            : TensorFile::open_torch(path);
}

/// The tensors that the index names, each from its own shard. What else is in the shards is left out.
TensorFile open_sharded(const fs::path& folder, const fs::path& index_path) {
  const std::string where = index_path.string();
  const util::Json document = util::parse_json(util::read_file(index_path), where);
  const util::JsonView weight_map = util::JsonView(document, where).at("weight_map");

  std::map<std::string, std::vector<std::string>> tensors_of_shard;
  for (const std::string& name : weight_map.keys()) {
    const util::JsonView shard = weight_map.at(name);
    if (!is_plain_name(shard.as_string())) shard.fail("the name of a file in the same folder");
    tensors_of_shard[shard.as_string()].push_back(name);
  }

  std::vector<std::string> missing_shards;
  for (const auto& [shard, names] : tensors_of_shard) {
    if (!util::exists(folder / shard)) missing_shards.push_back(shard);
  }
  if (!missing_shards.empty()) {
    throw input_error(
        {.what = cat(missing_shards.size(), " of ", tensors_of_shard.size(), " shards are missing"),
         .where = where,
         .expected = first_few(missing_shards) + " beside it",
         .hint = "the download may be incomplete: get the missing files"});
  }

  TensorFile result(folder.string());
  std::vector<std::string> missing_tensors;
  for (const auto& [shard, names] : tensors_of_shard) {
    const TensorFile part = open_weights(folder / shard);
    result.mutable_metadata().insert(part.metadata().begin(), part.metadata().end());
    for (const std::string& name : names) {
      const auto found = part.entries().find(name);
      if (found == part.entries().end()) {
        missing_tensors.push_back(name);
      } else {
        result.mutable_entries().insert(*found);
      }
    }
  }
  if (!missing_tensors.empty()) {
    throw format_error({.what = cat(missing_tensors.size(), " of ", weight_map.size(),
                                    " tensors are not in the shard that the index names"),
                        .where = where,
                        .expected = first_few(missing_tensors),
                        .hint = "the shards may belong to another version of the model"});
  }
  return result;
}

/// What to do with a folder that has only weights of other programs.
std::string other_weights_hint(const fs::path& folder) {
  std::string found;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    const std::string name = item.path().filename().string();
    const std::string extension = item.path().extension().string();
    const bool weights = extension == ".gguf" || extension == ".h5" || extension == ".msgpack" ||
                         extension == ".onnx" || extension == ".pth" || extension == ".pt" ||
                         extension == ".bin" || extension == ".safetensors";
    if (weights && (found.empty() || name < found))
      found = name;  // the first by name, whatever the folder's order
  }
  if (found.empty()) return {};
  if (found.rfind("adapter_model.", 0) == 0) {
    return "there is only an adapter: merge it into its base model and save that";
  }
  return "there is " + in_quotes(found) +
         ", which is not read: get the model in Hugging Face layout, or save it with save_pretrained of "
         "transformers";
}

}  // namespace

TensorFile TensorFile::merged(std::vector<TensorFile> parts) {
  TensorFile result;
  for (TensorFile& part : parts) {
    for (const auto& [name, entry] : part.entries_) {
      const auto [place, added] = result.entries_.emplace(name, entry);
      if (!added) {
        throw format_error(
            {.what = "the tensor " + in_quotes(name) + " is in two files",
             .where = cat(place->second.file->path().string(), " and ", entry.file->path().string())});
      }
    }
    result.metadata_.merge(part.metadata_);
    result.source_ += cat(result.source_.empty() ? "" : ", ", part.source_);
  }
  return result;
}

at::Tensor tensor_view(const TensorEntry& entry) {
  return view_of(entry);
}

at::Tensor TensorFile::view(const std::string& name) const {
  return view_of(find_entry(*this, name));
}

at::Tensor TensorFile::load(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = find_entry(*this, name);
  const bool contiguous = is_contiguous(entry);
  const std::uint64_t element_size = c10::elementSize(entry.dtype);
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(entry.file->data() + entry.offset) % element_size == 0;
  if (contiguous && aligned && dtype == entry.dtype) return view_of(entry);

  if (!contiguous) return copy_and_release(view_of(entry), entry, dtype);
  if (entry.checksum != nullptr) entry.checksum->check();
  const at::Tensor target = at::empty(entry.shape, dtype);
  // In pieces, so that neither the pages of the file nor a copy of unaligned bytes stand in memory beside the
  // target as a whole.
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  const at::Tensor flat = target.view(-1);
  for (std::int64_t first = 0; first < flat.numel(); first += kPiece) {
    const std::int64_t count = std::min(kPiece, flat.numel() - first);
    const TensorEntry piece{.dtype = entry.dtype,
                            .shape = {count},
                            .strides = {1},
                            .offset = entry.offset + static_cast<std::uint64_t>(first) * element_size,
                            .length = static_cast<std::uint64_t>(count) * element_size,
                            .file = entry.file};
    flat.narrow(0, first, count).copy_(view_of(piece));
    entry.file->release(piece.offset, piece.length);
  }
  return target;
}

at::Tensor TensorFile::load_transposed(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = find_entry(*this, name);
  return copy_and_release(view_of(entry).t(), entry, dtype);
}

void TensorFile::release(const std::string& name) const {
  const TensorEntry& entry = find_entry(*this, name);
  entry.file->release(entry.offset, entry.length);
}

void TensorFile::read_ahead(const std::string& name) const {
  const TensorEntry& entry = find_entry(*this, name);
  entry.file->read_ahead(entry.offset, entry.length);
}

std::int64_t TensorFile::num_elements() const {
  std::uint64_t total = 0;
  for (const auto& [name, entry] : entries_) {
    std::uint64_t count = 0;
    DEPTHLENS_ASSERT(count_elements(entry.shape, count));
    total += count;
  }
  return static_cast<std::int64_t>(total);
}

std::uint64_t TensorFile::num_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, entry] : entries_) {
    std::uint64_t count = 0;
    DEPTHLENS_ASSERT(count_elements(entry.shape, count));
    total += count * c10::elementSize(entry.dtype);
  }
  return total;
}

TensorFile open_checkpoint(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw input_error({.what = "no folder " + in_quotes(folder.string())});
  }
  constexpr const char* kNames[] = {"model.safetensors", "pytorch_model.bin"};
  for (const char* name : kNames) {
    const fs::path single = folder / name;
    if (util::exists(single)) return open_weights(single);
    const fs::path index = folder / cat(name, ".index.json");
    if (util::exists(index)) return open_sharded(folder, index);
  }
  throw input_error({.what = "no weights in " + in_quotes(folder.string()),
                     .expected = "model.safetensors, model.safetensors.index.json, pytorch_model.bin or "
                                 "pytorch_model.bin.index.json",
                     .hint = other_weights_hint(folder)});
}

}  // namespace depthlens::io
