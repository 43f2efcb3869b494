// Files of both tensor formats made in memory, byte by byte where a test needs a bad one.
#pragma once

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {

/// `count` bytes of `value`, the least significant first.
inline std::string little_endian(std::uint64_t value, int count) {
  std::string bytes;
  for (; count > 0; --count, value >>= 8) bytes += static_cast<char>(value & 0xff);
  return bytes;
}

/// `bytes` with the bits of `change` flipped in byte `i`.
inline std::string changed(std::string bytes, std::size_t i, int change) {
  bytes[i] = static_cast<char>(bytes[i] ^ change);
  return bytes;
}

/// The bytes of plain numbers as a little-endian file holds them.
template <typename T>
std::string bytes_of(const std::vector<T>& numbers) {
  std::string bytes(numbers.size() * sizeof(T), '\0');
  if (!numbers.empty()) std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

inline std::string safetensors(std::string_view header, std::string_view data) {
  return util::cat(little_endian(header.size(), 8), header, data);
}

/// Values of a tensor as doubles, in row-major order.
inline std::vector<double> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous().view(-1);
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

/// Whatever a damaged file holds: a util::Error or tensors, nothing else. True where it was read.
template <typename Open>
bool survives(const TemporaryFolder& folder, const std::string& bytes, Open open) {
  const auto path = folder.write("damaged", bytes);
  bool read = true;
  try {
    const io::TensorFile file = open(path);
    for (const auto& [name, entry] : file.entries()) {
      if (entry.length < (1 << 20)) values_of(file.load(name, at::kFloat));
    }
  } catch (const util::Error&) {
    read = false;
  }
  std::filesystem::remove(path);  // ext4 writes a file to disk when it is replaced, which would take minutes
  return read;
}

/// A torch.save archive with these records; those in `compressed` are deflated.
inline std::string archive(const std::map<std::string, std::string>& records,
                           const std::vector<std::string>& compressed = {}) {
  std::string bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  });
  for (const auto& [name, record] : records) {
    const bool compress = std::find(compressed.begin(), compressed.end(), name) != compressed.end();
    writer.writeRecord(name, record.data(), record.size(), compress);
  }
  writer.writeEndOfFile();
  return bytes;
}

}  // namespace depthlens::test

/// Opcodes of a pickle, to be joined with +.
namespace depthlens::test::pickle {

inline const std::string kStart = "\x80\x02";
inline const std::string kReduce = "R";
inline const std::string kStop = ".";

inline std::string text(const std::string& value) {
  return util::cat("X", little_endian(value.size(), 4), value);
}
inline std::string integer(std::int64_t value) {
  return util::cat("\x8a\x08", little_endian(static_cast<std::uint64_t>(value), 8));
}
inline std::string global(const std::string& module, const std::string& name) {
  return util::cat("c", module, "\n", name, "\n");
}
inline std::string tuple(const std::vector<std::string>& items) {
  return util::cat("(", util::join(items, ""), "t");
}
inline std::string tuple(const std::vector<std::int64_t>& items) {
  std::vector<std::string> integers;
  for (const std::int64_t item : items) integers.push_back(integer(item));
  return tuple(integers);
}
inline std::string dictionary(const std::vector<std::string>& keys_and_values) {
  return util::cat("}(", util::join(keys_and_values, ""), "u");
}

struct Tensor {
  std::string storage_type = "FloatStorage";
  std::string key = "0";
  std::string location = "cpu";
  std::int64_t num_stored = 6;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {2, 3};
  std::vector<std::int64_t> strides = {3, 1};
  std::string view = "";  ///< of another storage: what files without zip have behind the size
};

inline std::string tensor(const Tensor& parts) {
  const std::string storage = tuple({text("storage"), global("torch", parts.storage_type), text(parts.key),
                                     text(parts.location), integer(parts.num_stored), parts.view}) +
                              "Q";
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({storage, integer(parts.offset), tuple(parts.shape), tuple(parts.strides), "\x89",
                global("collections", "OrderedDict") + ")" + kReduce}) +
         kReduce;
}

/// The pickles and storages of a file of torch.save without zip; `value` and `keys` are without start and
/// stop.
struct OldFile {
  std::string value;
  std::string keys = "](" + text("0") + "e";
  std::string storages = little_endian(6, 8) + bytes_of<float>({0, 1, 2, 3, 4, 5});
  std::string version = "M\xe9\x03";
  std::string machine = dictionary({text("little_endian"), "\x88"});
};

inline std::string old_file(const OldFile& parts) {
  std::string bytes = kStart + "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" + kStop;
  for (const std::string& part : {parts.version, parts.machine, parts.value, parts.keys})
    bytes += kStart + part + kStop;
  return bytes + parts.storages;
}

}  // namespace depthlens::test::pickle
