// Files of torch.save: a zip with a pickle and one record a storage, or, as versions before 1.6 write it,
// pickles and storages one after the other. A storage is used where it lies in the file.
#include <map>
#include <optional>
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

// In a file without zip: torch's number 0x1950a86a20f9469cfc6c as a LONG1, and the end of its pickle.
constexpr std::string_view kMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Where the pickle of that number ends; nothing where the file does not begin with it.
std::optional<std::uint64_t> end_of_magic(const util::MappedFile& file) {
  constexpr std::size_t kPlain = 2, kFramed = 11;  // what stands before it by protocols 2 and 3, 4 and 5
  const std::string_view bytes = text_of(file);
  for (const std::size_t at : {kPlain, kFramed}) {
    if (bytes.substr(0, 1) == "\x80" && bytes.size() > at && bytes.substr(at, kMagic.size()) == kMagic)
      return at + kMagic.size();
  }
  return std::nullopt;
}

/// What the file is instead of a zip archive.
void refuse_other_formats(const util::MappedFile& file) {
  using namespace std::string_view_literals;
  const std::string_view bytes = text_of(file);
  if (bytes.substr(0, 4) == "PK\x03\x04"sv) return;
  refuse_lfs_pointer(file);
  const bool tar = bytes.size() > 262 && bytes.substr(257, 5) == "ustar"sv;
  throw format_error(
      {.what = in_quotes(file.path().string()) + " is no file of torch.save that can be read",
       .found = tar                  ? "the first format of torch.save, as tar"
                : bytes.empty()      ? "an empty file"
                : bytes[0] == '\x80' ? "a bare pickle"
                                     : "another format",
       .hint = tar ? "torch.save(torch.load(FILE, weights_only=False), FILE) makes a new one; it "
                     "may run code that is in the file"
                   : ""});
}

/// Without zip: pickles one after the other (the magic number, a version, facts on the machine, the value,
/// the keys of the storages), then for each key the number of elements and their bytes. There are no
/// checksums.
class OldFile {
 public:
  /// `begin`: of the version.
  OldFile(std::shared_ptr<const util::MappedFile> file, std::uint64_t begin)
      : file_(std::move(file)), next_(begin) {}

  PickleValue read() {
    check_version();
    // Where storages are is known behind the value only: so it is read twice.
    const std::uint64_t begin = next_;
    read_pickle([this](const auto&... storage) { return note(storage...); });
    place_storages(read_pickle());
    next_ = begin;
    return read_pickle(
        [this](const std::string& key, at::ScalarType, std::uint64_t) { return storages_.at(key).record; });
  }

 private:
  struct OldStorage {
    at::ScalarType dtype;
    std::uint64_t num_elements;
    StorageRecord record = {};
    bool placed = false;
  };

  util::Error damaged(std::string where, std::string expected, std::string found) const {
    return format_error({.what = "damaged file of torch.save",
                         .where = file_->path().string() + ": " + std::move(where),
                         .expected = std::move(expected),
                         .found = std::move(found),
                         .hint = "the file was cut or changed after it was written: get it again"});
  }

  static std::string storage_name(const std::string& key) { return "storage " + in_quotes(key); }

  /// The next one. Without `find_storage` it must hold no tensors.
  PickleValue read_pickle(decltype(PickleSource::find_storage) find_storage = {}) {
    if (!find_storage) {
      find_storage = [this](const std::string& key, at::ScalarType, std::uint64_t) -> StorageRecord {
        throw damaged(storage_name(key), "no tensors beside the value", "one");
      };
    }
    Unpickled read = unpickle({.bytes = text_of(*file_).substr(next_, kLargestPickle),
                               .file_name = file_->path().string(),
                               .file = file_,
                               .find_storage = std::move(find_storage),
                               .begin = next_});
    next_ += read.length;
    return std::move(read.value);
  }

  void check_version() {
    constexpr std::int64_t kVersion = 1001;
    const PickleValue version = read_pickle();
    if (version.kind != PickleValue::Kind::kInteger || version.integer != kVersion) {
      throw format_error(
          {.what = "unsupported version of torch.save's format without zip",
           .where = file_->path().string(),
           .expected = cat(kVersion),
           .found = version.kind == PickleValue::Kind::kInteger ? cat(version.integer) : "none",
           .hint = std::string(kResaveHint)});
    }
    const PickleValue machine = read_pickle();
    for (std::size_t i = 0; machine.kind == PickleValue::Kind::kDictionary && i < machine.list.size();
         i += 2) {
      if (machine.list[i].string == "little_endian" && machine.list[i + 1].boolean) return;
    }
    throw format_error({.what = "unsupported byte order",
                        .where = file_->path().string(),
                        .expected = "little_endian, true, as a fact on the machine that wrote the file",
                        .found = "another",
                        .hint = std::string(kResaveHint)});
  }

  /// What the value says of a storage; anywhere in the file, for now.
  StorageRecord note(const std::string& key, at::ScalarType dtype, std::uint64_t num_elements) {
    const OldStorage& noted =
        storages_.try_emplace(key, OldStorage{.dtype = dtype, .num_elements = num_elements}).first->second;
    if (noted.dtype != dtype || noted.num_elements != num_elements)
      throw damaged(storage_name(key), "one type and one size", "two");
    if (num_elements > file_->size() / c10::elementSize(dtype)) {
      throw damaged(storage_name(key), cat(num_elements, " elements of ", c10::toString(dtype)),
                    cat("a file of ", file_->size(), " bytes"));
    }
    return {.offset = 0, .length = file_->size()};
  }

  /// From here to the end of the file, in the order of `keys`.
  void place_storages(const PickleValue& keys) {
    if (keys.kind != PickleValue::Kind::kList) throw damaged(cat("byte ", next_), "keys of storages", "none");
    for (const PickleValue& key : keys.list) {
      const auto found = storages_.find(key.string);
      if (found == storages_.end() || found->second.placed) {
        throw damaged(storage_name(key.string), "storages of the value, each once",
                      found == storages_.end() ? "another" : "one twice");
      }
      OldStorage& storage = found->second;
      storage.record = {.offset = next_ + kCountSize,
                        .length = storage.num_elements * c10::elementSize(storage.dtype)};
      storage.placed = true;
      if (storage.record.offset > file_->size() ||
          storage.record.length > file_->size() - storage.record.offset) {
        throw damaged(storage_name(key.string),
                      cat(storage.record.length, " bytes from byte ", storage.record.offset),
                      cat("a file of ", file_->size(), " bytes"));
      }
      std::uint64_t count = 0;
      for (std::size_t i = kCountSize; i-- > 0;)
        count = count << 8 | static_cast<unsigned char>(text_of(*file_)[next_ + i]);
      if (count != storage.num_elements)
        throw damaged(storage_name(key.string), cat(storage.num_elements, " elements"), cat(count));
      next_ = storage.record.offset + storage.record.length;
    }
    for (const auto& [key, storage] : storages_) {
      if (!storage.placed) throw damaged(storage_name(key), "its bytes", "none");
    }
    if (next_ != file_->size())
      throw damaged("end of the storages", cat("a file of ", next_, " bytes"), cat(file_->size()));
  }

  static constexpr std::size_t kCountSize = 8;  // bytes

  std::shared_ptr<const util::MappedFile> file_;
  std::uint64_t next_;
  std::map<std::string, OldStorage> storages_;
};

class Archive {
 public:
  explicit Archive(std::shared_ptr<const util::MappedFile> file)
      : name_(file->path().string()), file_(std::move(file)), zip_(file_) {
    if (!zip_.records().empty()) {
      const std::string& first = zip_.records().front().name;
      root_ = first.substr(0, first.find('/') + 1);  // nothing where the records stand in no folder
    }
  }

  PickleValue read() {
    check_version();
    const std::string pickle = zip_.read(record("data.pkl"), kLargestPickle);
    return unpickle({.bytes = pickle,
                     .file_name = name_,
                     .file = file_,
                     .find_storage = [this](const std::string& key, at::ScalarType,
                                            std::uint64_t) { return storage("data/" + key); }})
        .value;
  }

 private:
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
  auto file = util::MappedFile::open(path);
  if (const auto end = end_of_magic(*file)) return OldFile(std::move(file), *end).read();
  refuse_other_formats(*file);
  return Archive(std::move(file)).read();
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
