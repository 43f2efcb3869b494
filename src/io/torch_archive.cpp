// Files of torch.save: a zip with a pickle and one record a storage, which is used where it lies in the file.
#include <map>
#include <string_view>
#include <utility>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "tensor_layout.hpp"
#include "unpickler.hpp"
#include "zip_archive.hpp"

namespace depthlens::io {
namespace {

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

class Archive {
 public:
  explicit Archive(const std::filesystem::path& path)
      : name_(path.string()), file_(opened(path)), zip_(file_) {
    if (!zip_.records().empty()) {
      const std::string& first = zip_.records().front().name;
      root_ = first.substr(0, first.find('/') + 1);  // nothing where the records stand in no folder
    }
  }

  PickleValue read() {
    check_version();
    const std::string pickle = zip_.read(record("data.pkl"), kLargestPickle);
    return unpickle(
        {.bytes = pickle, .file_name = name_, .file = file_, .find_storage = [this](const std::string& key) {
           return storage("data/" + key);
         }});
  }

 private:
  static std::shared_ptr<const util::MappedFile> opened(const std::filesystem::path& path) {
    auto file = util::MappedFile::open(path);
    refuse_other_formats(*file);
    return file;
  }

  const ZipRecord& record(const std::string& name) const {
    if (const ZipRecord* found = zip_.find(root_ + name)) return *found;
    throw format_error(
        {.what = "no record " + in_quotes(name), .where = name_, .expected = "an archive of torch.save"});
  }

  /// The records that tell how the others are to be read; either may be absent.
  void check_version() const {
    constexpr std::int64_t kNewestVersion = 10;  // of libtorch 2.13; it reads all from 1
    if (const ZipRecord* found = zip_.find(root_ + "version")) {
      const std::string text = zip_.read(*found, 16);
      std::int64_t version = 0;
      if (!util::parse_int(util::trimmed(text), version) || version < 1 || version > kNewestVersion) {
        throw format_error({.what = "unsupported version of the format",
                            .where = name_ + ": version",
                            .expected = cat("1 to ", kNewestVersion),
                            .found = in_quotes(text)});
      }
    }
    if (const ZipRecord* found = zip_.find(root_ + "byteorder")) {  // written since PyTorch 2.1
      const std::string order = zip_.read(*found, 16);
      if (order != "little") {
        throw format_error({.what = "unsupported byte order",
                            .where = name_ + ": byteorder",
                            .expected = "'little'",
                            .found = in_quotes(order)});
      }
    }
  }

  /// The place of a storage. Its bytes are not read.
  StorageRecord storage(const std::string& name) {
    const std::string where = name_ + ": " + util::printable(name);
    const ZipRecord* found = zip_.find(root_ + name);
    if (found == nullptr) {
      throw format_error(
          {.what = "no record for a storage", .where = where, .hint = "the file may be cut: get it again"});
    }
    if (!found->stored_as_it_is() || found->size != found->stored_size) {
      throw format_error({.what = "a compressed or encrypted record",
                          .where = where,
                          .expected = "tensors stored as they are",
                          .hint = std::string(kResaveHint)});
    }
    std::shared_ptr<const RecordChecksum>& checksum = checksums_[name];
    if (checksum == nullptr && zip_.has_checksums())
      checksum = std::make_shared<const RecordChecksum>(file_, *found);
    return {.offset = found->offset, .length = found->size, .checksum = checksum};
  }

  std::string name_;
  std::shared_ptr<const util::MappedFile> file_;
  ZipArchive zip_;
  std::string root_;  // the folder of all records, with its slash
  std::map<std::string, std::shared_ptr<const RecordChecksum>>
      checksums_;  // shared by the tensors of a storage
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
