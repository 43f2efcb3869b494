// Files of torch.save: a zip with a pickle and one record a storage. libtorch reads the zip, the storages are
// used where they lie in the file.
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "tensor_layout.hpp"
#include "unpickler.hpp"

namespace depthlens::io {
namespace {

using caffe2::serialize::PyTorchStreamReader;
using util::cat;
using util::format_error;
using util::in_quotes;

constexpr std::uint64_t kLargestPickle = std::uint64_t{64} << 20;
constexpr std::string_view kResaveHint =
    "load it with PyTorch and save it again with torch.save of version 1.6 or later";

std::string_view text_of(const util::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

/// What the file is instead of a zip archive.
void refuse_other_formats(const util::MappedFile& file) {
  using namespace std::string_view_literals;
  const std::string_view bytes = text_of(file);
  if (bytes.substr(0, 4) == "PK\x03\x04"sv) return;
  refuse_lfs_pointer(file);
  // Protocol 2, then torch's magic number 0x1950a86a20f9469cfc6c as a LONG1.
  const bool legacy = bytes.substr(0, 14) == "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv;
  const bool tar = bytes.size() > 262 && bytes.substr(257, 5) == "ustar"sv;
  throw format_error({.what = in_quotes(file.path().string()) + " is no zip archive of torch.save",
                      .found = legacy               ? "the old torch.save format without zip"
                               : tar                ? "the old torch.save format as tar"
                               : bytes.empty()      ? "an empty file"
                               : bytes[0] == '\x80' ? "a bare pickle"
                                                    : "another format",
                      .hint = legacy || tar ? std::string(kResaveHint) : std::string()});
}

/// Lets libtorch read the map that the tensors will point into, so that both see the same bytes.
class MapReader : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit MapReader(std::shared_ptr<const util::MappedFile> file) : file_(std::move(file)) {}
  std::size_t size() const override { return file_->size(); }
  std::size_t read(std::uint64_t position, void* buffer, std::size_t count,
                   const char* /*what*/) const override {
    if (position >= file_->size()) return 0;
    const std::size_t available = std::min<std::uint64_t>(count, file_->size() - position);
    std::memcpy(buffer, file_->data() + position, available);
    return available;
  }

 private:
  std::shared_ptr<const util::MappedFile> file_;
};

class Archive {
 public:
  explicit Archive(const std::filesystem::path& path)
      : name_(path.string()), file_(util::MappedFile::open(path)) {
    refuse_other_formats(*file_);
  }

  PickleValue read() {
    try {
      reader_ = std::make_unique<PyTorchStreamReader>(std::make_shared<MapReader>(file_));
      check_byte_order();
      const std::string pickle = read_record("data.pkl", kLargestPickle);
      return unpickle(
          {.bytes = pickle,
           .file_name = name_,
           .file = file_,
           .find_storage = [this](const std::string& key) { return stored_record("data/" + key); }});
    } catch (const util::Error&) {
      throw;
    } catch (const c10::Error& error) {
      throw damaged(error.what_without_backtrace());
    } catch (const std::exception& error) {
      // Numbers in the archive that libtorch does not parse, and sizes that it cannot allocate.
      throw damaged(error.what());
    }
  }

 private:
  util::Error damaged(std::string_view reason) const {
    return format_error({.what = "damaged torch.save archive",
                         .where = name_,
                         .found = cat("\"",
                                      // the first sentence; what follows is advice that repeats the hint
                                      reason.substr(0, std::min({reason.find('\n'), reason.find(". "),
                                                                 reason.find(" (no backtrace")})),
                                      "\""),
                         .hint = "the file may be cut: get it again"});
  }

  void check_byte_order() {
    if (!reader_->hasRecord("byteorder")) return;  // written since PyTorch 2.1
    const std::string order = read_record("byteorder", 16);
    if (order != "little") {
      throw format_error({.what = "unsupported byte order",
                          .where = name_ + ": byteorder",
                          .expected = "'little'",
                          .found = in_quotes(order)});
    }
  }

  /// A copy of a record. The limit is checked before a byte is decompressed.
  std::string read_record(const std::string& record, std::uint64_t limit) {
    if (!reader_->hasRecord(record)) {
      throw format_error(
          {.what = "no record " + in_quotes(record), .where = name_, .expected = "an archive of torch.save"});
    }
    const std::uint64_t size = reader_->getRecordSize(record);
    if (size > limit) {
      throw format_error({.what = "record too large",
                          .where = name_ + ": " + record,
                          .expected = "at most " + util::as_bytes(limit),
                          .found = util::as_bytes(size)});
    }
    std::string bytes(size, '\0');
    reader_->getRecord(record, bytes.data(), size);
    return bytes;
  }

  /// The place of a record that is stored as it is.
  StorageRecord stored_record(const std::string& record) {
    const std::string where = name_ + ": " + util::valid_utf8(record);
    if (!reader_->hasRecord(record)) {
      throw format_error(
          {.what = "no record for a storage", .where = where, .hint = "the file may be cut: get it again"});
    }
    // Of the local header: 2 bytes of flags at 6 (bit 0: encrypted), 2 bytes of method at 8 (0: stored).
    constexpr std::uint64_t kFlags = 6;
    constexpr std::uint64_t kMethod = 8;
    const auto beyond_the_end = [&] {
      return format_error({.what = "a record beyond the end of the file", .where = where});
    };
    const std::uint64_t header = reader_->getRecordHeaderOffset(record);
    if (header > file_->size() || file_->size() - header < kMethod + 2) throw beyond_the_end();
    const std::byte* bytes = file_->data() + header;
    const bool encrypted = (bytes[kFlags] & std::byte{1}) != std::byte{0};
    if (encrypted || bytes[kMethod] != std::byte{0} || bytes[kMethod + 1] != std::byte{0}) {
      throw format_error({.what = "a compressed or encrypted record",
                          .where = where,
                          .expected = "tensors stored as they are",
                          .hint = std::string(kResaveHint)});
    }
    const StorageRecord place{.offset = reader_->getRecordOffset(record),
                              .length = reader_->getRecordSize(record)};
    if (place.offset > file_->size() || place.length > file_->size() - place.offset) throw beyond_the_end();
    return place;
  }

  std::string name_;
  std::shared_ptr<const util::MappedFile> file_;
  std::unique_ptr<PyTorchStreamReader> reader_;
};

std::string key_text(const PickleValue& key) {
  return key.kind == PickleValue::Kind::kInteger ? cat(key.integer) : key.string;
}

/// Adds the tensors under `value`; names are joined by ".". The depth has been limited by the unpickler.
void collect_tensors(const PickleValue& value, const std::string& name, const std::string& where,
                     std::map<std::string, TensorEntry>& entries) {
  const std::string prefix = name.empty() ? "" : name + ".";
  if (value.kind == PickleValue::Kind::kTensor) {
    if (!entries.emplace(name, value.tensor).second) {
      throw format_error({.what = "the tensor " + in_quotes(name) + " twice", .where = where});
    }
  } else if (value.kind == PickleValue::Kind::kList) {
    for (std::size_t i = 0; i < value.list.size(); ++i)
      collect_tensors(value.list[i], cat(prefix, i), where, entries);
  } else if (value.kind == PickleValue::Kind::kDictionary) {
    for (std::size_t i = 0; i + 1 < value.list.size(); i += 2) {
      collect_tensors(value.list[i + 1], prefix + key_text(value.list[i]), where, entries);
    }
  }
}

}  // namespace

PickleValue read_torch_archive(const std::filesystem::path& path) {
  return Archive(path).read();
}

TensorFile TensorFile::open_torch(const std::filesystem::path& path) {
  const PickleValue root = read_torch_archive(path);
  TensorFile result(path.string());
  if (root.kind != PickleValue::Kind::kDictionary) {
    throw format_error(
        {.what = "no dictionary of tensors", .where = result.source_, .found = "another value"});
  }
  collect_tensors(root, "", result.source_, result.entries_);
  return result;
}

}  // namespace depthlens::io
