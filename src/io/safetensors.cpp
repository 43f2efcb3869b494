// The safetensors format: 8 bytes of header length, a JSON header, then the tensors one after another.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "dtype_names.hpp"
#include "tensor_layout.hpp"

namespace depthlens::io {
namespace {

using util::cat;
using util::format_error;
using util::in_quotes;
using util::JsonView;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;

at::ScalarType dtype_of(const JsonView& tensor) {
  const std::string name = tensor.at("dtype").as_string();
  std::string known;
  for (const DtypeNames& names : kDtypeNames) {
    if (name == names.safetensors) return names.dtype;
    known += cat(known.empty() ? "" : ", ", names.safetensors);
  }
  throw format_error({.what = "unsupported dtype",
                      .where = tensor.where(),
                      .expected = "one of " + known,
                      .found = in_quotes(name)});
}

/// The header as text; the sizes have been checked.
std::string_view header_of(const util::MappedFile& file) {
  const std::string name = in_quotes(file.path().string());
  if (file.size() < kLengthBytes) {
    throw format_error({.what = name + " is no safetensors file",
                        .expected = "8 bytes of header length",
                        .found = cat(file.size(), " bytes")});
  }
  std::uint64_t length = 0;
  for (std::uint64_t i = kLengthBytes; i-- > 0;)
    length = length << 8 | std::to_integer<std::uint64_t>(file.data()[i]);
  const std::uint64_t most = std::min(kMaxHeader, file.size() - kLengthBytes);
  if (length > most) {
    throw format_error({.what = name + " is cut or no safetensors file",
                        .expected = cat("a header of at most ", most, " bytes"),
                        .found = cat("a header length of ", length)});
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (header.empty() || header.front() != '{') {
    throw format_error({.what = name + " is no safetensors file",
                        .where = "byte 8",
                        .expected = "a JSON object",
                        .found = in_quotes(header.substr(0, 1))});
  }
  return header;
}

/// One tensor of the header, its offsets still counted from the end of the header.
TensorEntry read_entry(const JsonView& tensor, std::uint64_t data_bytes) {
  TensorEntry entry{.dtype = dtype_of(tensor)};
  const JsonView shape = tensor.at("shape");
  if (!shape.is_array() || shape.size() > kMaxDimensions) {
    shape.fail(cat("an array of at most ", kMaxDimensions, " sizes"));
  }
  for (std::size_t i = 0; i < shape.size(); ++i) entry.shape.push_back(shape.at(i).as_integer(0, INT64_MAX));
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;
  if (!count_elements(entry.shape, elements) ||
      __builtin_mul_overflow(elements, c10::elementSize(entry.dtype), &bytes)) {
    throw format_error(
        {.what = "the shape is too large", .where = tensor.where(), .found = util::summary(shape.raw())});
  }
  entry.strides = contiguous_strides(entry.shape);

  const JsonView offsets = tensor.at("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2) offsets.fail("an array of begin and end");
  const auto begin = static_cast<std::uint64_t>(offsets.at(std::size_t{0}).as_integer(0, INT64_MAX));
  const auto end = static_cast<std::uint64_t>(offsets.at(std::size_t{1}).as_integer(0, INT64_MAX));
  if (begin > end || end > data_bytes) {
    offsets.fail(cat("begin and end in order, within the ", data_bytes, " bytes after the header"));
  }
  if (end - begin != bytes) {
    offsets.fail(
        cat(bytes, " bytes for shape ", util::summary(shape.raw()), " of ", c10::toString(entry.dtype)));
  }
  entry.offset = begin;
  entry.length = bytes;
  return entry;
}

/// The tensors must fill the rest of the file, each byte belonging to one of them.
void check_coverage(const std::map<std::string, TensorEntry>& entries, std::uint64_t data_bytes,
                    const std::string& where) {
  std::vector<const std::pair<const std::string, TensorEntry>*> in_order;
  for (const auto& named : entries) in_order.push_back(&named);
  std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.offset, a->second.length) < std::pair(b->second.offset, b->second.length);
  });
  std::uint64_t end = 0;
  for (const auto* named : in_order) {
    const auto& [name, entry] = *named;
    if (entry.offset != end) {
      throw format_error({.what = entry.offset < end ? "tensors overlap" : "a hole between tensors",
                          .where = cat(where, ": ", name, ": data_offsets"),
                          .expected = cat("a begin of ", end),
                          .found = cat(entry.offset)});
    }
    end += entry.length;
  }
  if (end != data_bytes) {
    throw format_error({.what = "bytes that belong to no tensor",
                        .where = where,
                        .expected = cat(end, " bytes after the header"),
                        .found = cat(data_bytes)});
  }
}

}  // namespace

TensorFile TensorFile::open_safetensors(const std::filesystem::path& path) {
  const auto file = util::MappedFile::open(path);
  refuse_lfs_pointer(*file);
  const std::string where = path.string();
  const std::string_view text = header_of(*file);
  const util::Json document = util::parse_json(text, where + ": header");
  const JsonView header(document, where);
  const std::uint64_t data_start = kLengthBytes + text.size();
  const std::uint64_t data_bytes = file->size() - data_start;

  TensorFile result(where);
  for (const auto& item : document.items()) {
    const std::string& name = item.key();
    const JsonView value(item.value(), where + ": " + util::valid_utf8(name));
    if (name == "__metadata__" && value.is_null()) continue;
    if (!value.is_object()) value.fail("an object");
    if (name == "__metadata__") {
      for (const std::string& key : value.keys()) result.metadata_[key] = value.at(key).as_string();
    } else {
      result.entries_.emplace(name, read_entry(value, data_bytes));
    }
  }
  check_coverage(result.entries_, data_bytes, where);
  for (auto& [name, entry] : result.entries_) {
    entry.offset += data_start;
    entry.file = file;
  }
  return result;
}

}  // namespace depthlens::io
