// The file of records in a run folder: records.jsonl, or compressed records.jsonl.zst. A folder has one of
// them at most.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "depthlens/util/files.hpp"
#include "depthlens/util/zstd.hpp"

namespace depthlens::report {

enum class RecordFormat { kJsonl, kJsonlZstd };

/// Names of the file, by format.
inline constexpr std::array<const char*, 2> kRecordFiles = {"records.jsonl", "records.jsonl.zst"};
/// Values of --records, by format.
inline constexpr std::array<const char*, 2> kRecordFormatNames = {"jsonl", "jsonl.zst"};

/// A file that appears under its name only when `commit` returns. Throws output errors.
class RecordFile {
 public:
  RecordFile(const std::filesystem::path& folder, RecordFormat format);

  /// A line, its line break included.
  void write(std::string_view line);
  void commit();

 private:
  util::AtomicFile file_;
  std::unique_ptr<util::ZstdWriter> compressor_;
};

/// The records of the run in `folder`, or "" where it has none. Throws a format error where there are two
/// files.
std::filesystem::path find_records(const std::filesystem::path& folder);

/// The lines of either file. Throws input errors where it cannot be read, format errors where it is damaged.
class RecordReader {
 public:
  explicit RecordReader(const std::filesystem::path& path);

  /// The next line, without its line break; valid until the next call. False at the end.
  bool next(std::string_view& line);
  /// Of the line that was read last, from 1; at the end the number of lines.
  std::int64_t number() const { return number_; }
  /// "PATH line N".
  std::string where() const;
  /// Whether damage shows only to a reader who goes on to the end.
  bool has_checksum() const { return lines_ != nullptr; }

 private:
  std::string path_;
  std::shared_ptr<const util::MappedFile> file_;
  std::string_view rest_;                   // of a plain file
  std::unique_ptr<util::ZstdLines> lines_;  // of a compressed one
  std::int64_t number_ = 0;
};

}  // namespace depthlens::report
