// Writes and reads records of parts.
#include "depthlens/run/record_log.hpp"

#include <algorithm>
#include <limits>

#include "depthlens/util/deflate.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {

util::OrderedJson RecordSegment::json() const {
  return {{"parts", {first_part, last_part}},
          {"file", file},
          {"offset", offset},
          {"length", length},
          {"lines", lines},
          {"crc32", crc32}};
}

RecordSegment RecordSegment::from_json(const util::JsonView& json) {
  RecordSegment segment;
  constexpr std::int64_t kMax = std::int64_t{1} << 62;
  segment.first_part = json.at("parts").at(0).as_integer(0, kMax);
  segment.last_part = json.at("parts").at(1).as_integer(segment.first_part, kMax);
  segment.file = json.at("file").as_string();
  // A name, not a path: nothing outside the folder is read.
  if (std::filesystem::path(segment.file).filename() != segment.file) json.at("file").fail("a file's name");
  segment.offset = static_cast<std::uint64_t>(json.at("offset").as_integer(0, kMax));
  segment.length = static_cast<std::uint64_t>(json.at("length").as_integer(0, kMax));
  segment.lines = json.at("lines").as_integer(0, kMax);
  segment.crc32 =
      static_cast<std::uint32_t>(json.at("crc32").as_integer(0, std::numeric_limits<std::uint32_t>::max()));
  return segment;
}

RecordLog::RecordLog(std::filesystem::path path, std::int64_t most, bool sorts,
                     std::vector<RecordSegment> segments)
    : path_(std::move(path)), most_(most), sorts_(sorts), segments_(std::move(segments)) {
  std::sort(segments_.begin(), segments_.end(),
            [](const RecordSegment& a, const RecordSegment& b) { return a.first_part < b.first_part; });
  for (const RecordSegment& segment : segments_) total_ += segment.lines;
}

void RecordLog::write(std::string_view line) {
  if (!file_) {
    util::create_folders(path_.parent_path());
    file_ = std::make_unique<util::GrowingFile>(path_);
  }
  file_->write(line);
  pending_crc32_ = util::crc32(line, pending_crc32_);
}

void RecordLog::begin_part(std::int64_t part) {
  part_ = part;
  before_ = total_;
  for (auto segment = segments_.rbegin(); segment != segments_.rend() && segment->last_part > part; ++segment)
    before_ -= segment->lines;
}

bool RecordLog::wants() const {
  // The lines of a part that sorts them are all needed before it is known which come first.
  return most_ == 0 || before_ + (sorts_ ? 0 : pending_lines_) < most_;
}

void RecordLog::add(std::string_view line, std::int64_t key) {
  ++pending_lines_;
  if (sorts_) {
    sorted_.emplace_back(key, line);
  } else {
    write(line);
  }
}

void RecordLog::commit() {
  if (sorts_) {
    std::stable_sort(sorted_.begin(), sorted_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    if (most_ > 0) pending_lines_ = std::min(pending_lines_, std::max<std::int64_t>(0, most_ - before_));
    sorted_.resize(static_cast<std::size_t>(pending_lines_));
    for (const auto& [key, line] : sorted_) write(line);
    sorted_.clear();
  }
  if (pending_lines_ == 0) return;
  const std::string name = path_.filename().string();
  const std::uint64_t size = file_->size();
  const auto next =
      std::upper_bound(segments_.begin(), segments_.end(), part_,
                       [](std::int64_t part, const RecordSegment& s) { return part < s.first_part; });
  RecordSegment* last = next == segments_.begin() ? nullptr : &*std::prev(next);
  if (last != nullptr && last->file == name && last->last_part + 1 == part_ &&
      last->offset + last->length == committed_) {
    last->last_part = part_;
    last->length = size - last->offset;
    last->crc32 = util::crc32_of_both(last->crc32, pending_crc32_, size - committed_);
    last->lines += pending_lines_;
  } else {
    segments_.insert(next, {.first_part = part_,
                            .last_part = part_,
                            .file = name,
                            .offset = committed_,
                            .length = size - committed_,
                            .lines = pending_lines_,
                            .crc32 = pending_crc32_});
  }
  committed_ = size;
  total_ += pending_lines_;
  pending_lines_ = 0;
  pending_crc32_ = 0;
}

void RecordLog::drop_pending() {
  sorted_.clear();
  pending_lines_ = 0;
  pending_crc32_ = 0;
  if (file_) file_->truncate(committed_);
}

void RecordLog::save() {
  if (!file_) return;
  file_->sync();
  file_->keep();
}

std::int64_t for_each_record(std::vector<RecordSegment> segments, const std::filesystem::path& folder,
                             std::int64_t most, const std::function<void(std::string_view line)>& show) {
  std::sort(segments.begin(), segments.end(),
            [](const RecordSegment& a, const RecordSegment& b) { return a.first_part < b.first_part; });
  std::int64_t shown = 0;
  for (const RecordSegment& segment : segments) {
    const std::filesystem::path path = folder / segment.file;
    const auto file = util::MappedFile::open(path);
    const auto fail = [&](const std::string& expected, const std::string& found) {
      throw util::format_error({.what = "saved records are damaged",
                                .where = path.string(),
                                .expected = expected,
                                .found = found});
    };
    if (segment.length > file->size() || segment.offset > file->size() - segment.length) {
      fail(util::cat("at least ", segment.offset + segment.length, " bytes"), util::cat(file->size()));
    }
    std::string_view text(reinterpret_cast<const char*>(file->data()) + segment.offset, segment.length);
    if (util::crc32(text) != segment.crc32) fail("the bytes that were written", "others, by their CRC-32");
    std::int64_t lines = 0;
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      if (end == text.npos || text[0] != '{') fail("whole lines of JSON", "something else");
      ++lines;
      if (most == 0 || shown < most) {
        show(text.substr(0, end + 1));
        ++shown;
      }
      text.remove_prefix(end + 1);
    }
    if (lines != segment.lines) fail(util::cat(segment.lines, " lines"), util::cat(lines));
  }
  return shown;
}

}  // namespace depthlens::run
