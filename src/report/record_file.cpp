// Writes and reads the file of records.
#include "depthlens/report/record_file.hpp"

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {

namespace fs = std::filesystem;

RecordFile::RecordFile(const fs::path& folder, RecordFormat format)
    : file_(folder / kRecordFiles[static_cast<std::size_t>(format)]) {
  if (format == RecordFormat::kJsonlZstd) {
    compressor_ = std::make_unique<util::ZstdWriter>([this](std::string_view bytes) { file_.write(bytes); });
  }
}

void RecordFile::write(std::string_view line) {
  if (compressor_) {
    compressor_->write(line);
  } else {
    file_.write(line);
  }
}

void RecordFile::commit() {
  if (compressor_) compressor_->finish();
  file_.commit();
}

fs::path find_records(const fs::path& folder) {
  fs::path found;
  for (const char* name : kRecordFiles) {
    if (!util::exists(folder / name)) continue;
    if (!found.empty()) {
      throw util::format_error({.what = "two files of records in one run folder",
                                .where = util::in_quotes(folder.string()),
                                .expected = "one of them",
                                .found = util::join({kRecordFiles.begin(), kRecordFiles.end()}, " and ")});
    }
    found = folder / name;
  }
  return found;
}

RecordReader::RecordReader(const fs::path& path)
    : path_(path.string()),
      file_(util::MappedFile::open(path)),
      rest_(reinterpret_cast<const char*>(file_->data()), file_->size()) {
  if (path.filename() == kRecordFiles[static_cast<std::size_t>(RecordFormat::kJsonlZstd)])
    lines_ = std::make_unique<util::ZstdLines>(rest_, path_);
}

bool RecordReader::next(std::string_view& line) {
  if (lines_) {
    if (!lines_->next(line)) return false;
  } else {
    if (rest_.empty()) return false;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
  }
  ++number_;
  return true;
}

std::string RecordReader::where() const {
  return util::cat(path_, " line ", number_);
}

}  // namespace depthlens::report
