// The records of a zip archive that is mapped. Every statement of the file that stands twice (in the central
// directory, in a record's own header, behind its bytes) is compared: a reader that trusts one of them would
// be at odds with a reader that trusts another. Private to the room.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/util/files.hpp"

namespace depthlens::io {

struct ZipRecord {
  std::string name;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint64_t offset = 0;       ///< of its bytes in the file
  std::uint64_t stored_size = 0;  ///< of its bytes in the file; they are within it
  std::uint64_t size = 0;         ///< of its content
  std::uint32_t crc32 = 0;        ///< of its content

  bool stored_as_it_is() const { return method == 0 && (flags & 1) == 0; }
};

class ZipArchive {
 public:
  /// Reads the directory and the records' headers. Throws format errors that name the file and the record: a
  /// cut or damaged archive, two records of one name, records that overlap.
  explicit ZipArchive(std::shared_ptr<const util::MappedFile> file);

  const std::vector<ZipRecord>& records() const { return records_; }
  /// nullptr where there is none.
  const ZipRecord* find(const std::string& name) const;

  /// A copy of a record's content, decompressed; its CRC-32 is checked. Throws a format error where it has
  /// more than `limit` bytes, before one of them is decompressed.
  std::string read(const ZipRecord& record, std::uint64_t limit) const;

  /// False where torch.save was told to compute none (`set_crc32_options(False)`): all are 0 then.
  bool has_checksums() const;

 private:
  std::shared_ptr<const util::MappedFile> file_;
  std::vector<ZipRecord> records_;  // in the order of the directory
  std::map<std::string, std::size_t> index_;
};

/// The CRC-32 of a record that is stored as it is, checked once, when a tensor in it is first read: opening a
/// file reads headers only.
class RecordChecksum {
 public:
  RecordChecksum(std::shared_ptr<const util::MappedFile> file, ZipRecord record)
      : file_(std::move(file)), record_(std::move(record)) {}
  /// Throws a format error naming file and record where the bytes are not those that were written.
  void check() const;

 private:
  std::shared_ptr<const util::MappedFile> file_;
  ZipRecord record_;
  mutable std::once_flag once_;
};

}  // namespace depthlens::io
