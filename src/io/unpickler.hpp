// Reads the pickle of a file of torch.save as data. No name in it is ever looked up or called: the few that
// torch.save writes for tensors are known by their text, all others are refused. Private to the room.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "depthlens/io/checkpoint.hpp"

namespace depthlens::io {

/// Where the bytes of a storage are in the file.
struct StorageRecord {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::shared_ptr<const RecordChecksum> checksum = {};
};

struct PickleSource {
  std::string_view bytes;
  std::string file_name;  ///< for messages
  std::shared_ptr<const util::MappedFile> file;
  /// Finds the record of a storage key; throws a format error where there is none. The record is within
  /// `file`. The type and number of elements are those that the pickle states for the storage.
  std::function<StorageRecord(const std::string& key, at::ScalarType dtype, std::uint64_t num_elements)>
      find_storage;
  /// Of a pickle in a file without zip: the byte that it begins at. Its persistent ids have a sixth value.
  std::optional<std::uint64_t> begin = {};
};

struct Unpickled {
  PickleValue value;
  std::uint64_t length = 0;  ///< of the pickle, in bytes; `bytes` may go on behind it
};

/// The value of a pickle of protocol 2 to 5. Tensors are checked against their storages.
Unpickled unpickle(const PickleSource& source);

}  // namespace depthlens::io
