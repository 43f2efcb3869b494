// Lines of records.jsonl while a run goes on: each process writes its own file, of which the saved state says
// what belongs to finished parts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "depthlens/run/plan.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// Lines of a range of parts: a piece of a file.
struct RecordSegment {
  std::int64_t first_part = 0, last_part = 0;
  std::string file;  ///< name within its folder
  std::uint64_t offset = 0, length = 0;
  std::int64_t lines = 0;
  std::uint32_t crc32 = 0;  ///< of the bytes

  util::OrderedJson json() const;
  /// Throws format errors.
  static RecordSegment from_json(const util::JsonView& json);
};

class RecordLog {
 public:
  /// Writes `path`, its folder included, once there is a line. Of the run the first `most` lines are wanted
  /// (0: all); `segments` are those of parts that were done before. With `sorts`, the lines of a part are put
  /// in the order of their keys.
  RecordLog(std::filesystem::path path, std::int64_t most, bool sorts, std::vector<RecordSegment> segments);

  void begin_part(std::int64_t part);
  /// Whether one more line of the part may find a place among the first `most`.
  bool wants() const;
  /// A line, its line break included, of the part that was begun last.
  void add(std::string_view line, std::int64_t key = 0);
  void commit();
  void drop_pending();

  /// Lets `for_each_record` see all lines.
  void flush() {
    if (file_) file_->flush();
  }
  /// Brings finished parts to the disk; from now on the file stays.
  void save();
  const std::vector<RecordSegment>& segments() const { return segments_; }
  /// Of parts that other processes did.
  void add_segments(const std::vector<RecordSegment>& segments) {
    segments_.insert(segments_.end(), segments.begin(), segments.end());
  }

 private:
  void write(std::string_view line);

  std::filesystem::path path_;
  std::int64_t most_;
  bool sorts_;
  std::vector<RecordSegment> segments_;  // in the order of the parts
  std::unique_ptr<util::GrowingFile> file_;
  std::int64_t part_ = 0;
  std::int64_t before_ = 0;  // lines of own parts before it
  std::int64_t total_ = 0;   // lines of all own parts
  std::int64_t pending_lines_ = 0;
  std::uint64_t committed_ = 0;  // bytes
  std::uint32_t pending_crc32_ = 0;
  std::vector<std::pair<std::int64_t, std::string>> sorted_;
};

/// Shows the first `most` lines (0: all) of `segments`, pieces of files in `folder`, in the order of their
/// parts. Returns their number. Throws format errors where a piece is not what was written.
std::int64_t for_each_record(std::vector<RecordSegment> segments, const std::filesystem::path& folder,
                             std::int64_t most, const std::function<void(std::string_view line)>& show);

}  // namespace depthlens::run
