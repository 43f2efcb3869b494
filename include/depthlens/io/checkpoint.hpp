// The weights of a Hugging Face folder as named tensors, mapped from disk and not copied.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/io/scale_form.hpp"

namespace depthlens::util {
class MappedFile;
}

namespace depthlens::io {

class RecordChecksum;
struct TensorScales;

/// Where a tensor's bytes are. Sizes and offsets have been checked against the file.
struct TensorEntry {
  at::ScalarType dtype = at::ScalarType::Float;
  std::vector<std::int64_t> shape = {};
  std::vector<std::int64_t> strides = {};  ///< in elements
  std::uint64_t offset = 0;                ///< of the first element in the file, in bytes
  std::uint64_t length = 0;                ///< from `offset` to the end of the last element, in bytes
  std::shared_ptr<const util::MappedFile> file = {};
  /// Of the archive's record that the tensor is in, checked when its bytes are first read; may be nullptr.
  std::shared_ptr<const RecordChecksum> checksum = {};
  /// Of numbers in 8 bits (FP8): what they are multiplied by, and not read without. Of others nullptr.
  std::shared_ptr<const TensorScales> scales = {};
};

/// Factors of a matrix in 8 bits, or of several [n, rows, columns]. Each is of a tile of so many rows and
/// columns; the last ones may be of fewer.
struct TensorScales {
  TensorEntry factors;  ///< [tiles of rows, tiles of columns], or [n, …, …]
  std::int64_t rows = 0, columns = 0;
};

/// The type in which values are read: bfloat16 of numbers in 8 bits with scales, else that of the entry.
at::ScalarType value_type(const TensorEntry& entry);

/// The tensor as a view of the mapped file, as `TensorFile::view` gives it. Of an archive the first view of a
/// storage reads it whole: throws a format error where its CRC-32 is another.
at::Tensor tensor_view(const TensorEntry& entry);

/// The part with index `i` of the first dimension.
TensorEntry selected(const TensorEntry& entry, std::int64_t i);

/// Whether two tensors have the same shape and values, whatever types they are stored as; NaN equals nothing.
/// And whether all values of one are finite. Both read in pieces and take the pages out of memory again.
bool same_values(const TensorEntry& a, const TensorEntry& b);
bool all_finite(const TensorEntry& entry);

/// Named tensors from one or several files. Opening reads headers only.
class TensorFile {
 public:
  explicit TensorFile(std::string source = {}) : source_(std::move(source)) {}

  /// One .safetensors file: header of at most 100 MB, no holes or overlaps. `metadata` is `__metadata__`.
  /// Refused by name on opening: a dtype other than F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL, F8_E4M3
  /// and F8_E8M0. What is in 8 bits is read with its scales only (`join_scales`).
  static TensorFile open_safetensors(const std::filesystem::path& path);
  /// One file of torch.save, as zip or as before version 1.6: a dictionary of tensors, perhaps nested; keys
  /// and positions in lists are joined by ".". What is no tensor is left out. The checksum of a tensor's
  /// bytes, which a zip has, is compared when they are first viewed or loaded.
  static TensorFile open_torch(const std::filesystem::path& path);

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return entries_.count(name) > 0; }
  /// The file or folder that the tensors come from, for messages.
  const std::string& source() const { return source_; }

  /// Joins all matrices in 8 bits (F8_E4M3) whose names are wanted with their scales, and takes these out of
  /// the entries. Returns how many they are. Throws a format error where scales are missing, or of another
  /// shape or type.
  std::int64_t join_scales(const ScaleForm& form, const std::function<bool(const std::string&)>& is_wanted);

  /// The tensor as a view of the mapped file, which must not be written to (it holds the map). Copied where
  /// the file does not align it, for booleans, and for numbers in 8 bits: the products with their scales,
  /// rounded to bfloat16. Throws a format error naming file and tensor where it is absent.
  at::Tensor view(const std::string& name) const;

  /// A contiguous copy in `dtype` on the CPU; the file's pages are released from memory again afterwards.
  /// Where dtype and layout are already as asked for, the view itself is returned and nothing is copied.
  at::Tensor load(const std::string& name, at::ScalarType dtype) const;

  /// The transpose of a matrix as a contiguous copy in `dtype`; the file's pages are released.
  at::Tensor load_transposed(const std::string& name, at::ScalarType dtype) const;

  /// Takes the tensor's pages out of memory; a view reads them from disk again. And asks for them to be read.
  void release(const std::string& name) const;
  void read_ahead(const std::string& name) const;

  /// Number of elements of all tensors, and bytes as stored.
  std::int64_t num_elements() const;
  std::uint64_t num_bytes() const;

  std::map<std::string, TensorEntry>& mutable_entries() { return entries_; }
  std::map<std::string, std::string>& mutable_metadata() { return metadata_; }

 private:
  std::string source_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// The weights of a model folder, looked for as transformers does: `model.safetensors`,
/// `model.safetensors.index.json`, `pytorch_model.bin`, `pytorch_model.bin.index.json`. Every shard of an
/// index must be there, and each tensor in the shard that the index names. What else is in the folder and
/// could be taken for the model is reported in a warning: other weights with other values, other copies of a
/// tensor in other shards, an adapter.
TensorFile open_checkpoint(const std::filesystem::path& folder);

/// The dictionary that a Jacobian lens or a tuned lens is stored as, read by the restricted unpickler: nested
/// dictionaries, lists, strings, numbers, booleans, None and tensors; anything else in the pickle is refused.
/// `write_torch_archive` (io/writers.hpp) writes one.
struct PickleValue {
  enum class Kind { kNone, kBool, kInteger, kNumber, kString, kList, kDictionary, kTensor };
  Kind kind = Kind::kNone;
  bool boolean = false;
  std::int64_t integer = 0;
  double number = 0;
  std::string string;
  std::vector<PickleValue> list;  ///< lists and tuples; of a dictionary its keys and values in turn
  bool ordered = false;           ///< a dictionary: an OrderedDict, as state dicts are
  TensorEntry tensor = {};        ///< in what was read
  at::Tensor values = {};         ///< in what is to be written; where undefined, `tensor` is
};

/// The value in a file of torch.save, as zip or as before version 1.6. Nothing of it is executed. Throws a
/// format error that names what was refused.
PickleValue read_torch_archive(const std::filesystem::path& path);

}  // namespace depthlens::io
