// The zip format as PKWARE's APPNOTE describes it, without what no torch.save writes: archives of several
// parts, encryption, methods other than deflate.
#include "zip_archive.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "depthlens/util/deflate.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::io {
namespace {

using util::cat;
using util::in_quotes;

constexpr std::uint16_t kHasDescriptor = 8;  // a flag: CRC and sizes stand behind the bytes
constexpr std::uint16_t kDeflated = 8;       // a method
constexpr std::uint16_t kZip64Extra = 1;
// What stands in a field whose value is elsewhere.
constexpr std::uint64_t kElsewhere16 = 0xffff, kElsewhere32 = 0xffffffff;

util::Error damaged(const util::MappedFile& file, const std::string& record, std::string expected,
                    std::string found) {
  return util::format_error({.what = "damaged torch.save archive",
                             .where = file.path().string() + (record.empty() ? "" : ": " + record),
                             .expected = std::move(expected),
                             .found = std::move(found),
                             .hint = "the file was cut or changed after it was written: get it again"});
}

/// Numbers of the file, little-endian, wherever they stand.
class Reader {
 public:
  explicit Reader(const util::MappedFile& file) : file_(file) {}

  std::uint64_t number(std::uint64_t at, std::uint64_t bytes) const {
    std::uint64_t value = 0;
    const std::string_view text = view(at, bytes);
    for (std::size_t i = text.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(text[i]);
    return value;
  }
  std::uint16_t u16(std::uint64_t at) const { return static_cast<std::uint16_t>(number(at, 2)); }
  std::uint32_t u32(std::uint64_t at) const { return static_cast<std::uint32_t>(number(at, 4)); }
  std::uint64_t u64(std::uint64_t at) const { return number(at, 8); }

  std::string_view view(std::uint64_t at, std::uint64_t bytes) const {
    if (at > file_.size() || bytes > file_.size() - at) {
      throw damaged(file_, "", cat("a file of at least ", at + bytes, " bytes"), cat(file_.size()));
    }
    return {reinterpret_cast<const char*>(file_.data()) + at, bytes};
  }
  void expect_signature(std::uint64_t at, std::string_view signature, const char* what) const {
    if (view(at, signature.size()) != signature) throw damaged(file_, "", cat(what, " at byte ", at), "none");
  }

 private:
  const util::MappedFile& file_;
};

struct Directory {
  std::uint64_t offset = 0, size = 0, num_records = 0;
};

Directory find_directory(const util::MappedFile& file) {
  const Reader reader(file);
  // The last record, whose comment ends the file.
  constexpr std::uint64_t kEndSize = 22, kMaxComment = 0xffff;
  const std::uint64_t size = file.size();
  std::uint64_t end = size;
  for (std::uint64_t back = kEndSize; back <= std::min(size, kEndSize + kMaxComment); ++back) {
    if (reader.view(size - back, 4) != "PK\x05\x06") continue;
    if (reader.u16(size - back + 20) != back - kEndSize) continue;
    end = size - back;
    break;
  }
  if (end == size) throw damaged(file, "", "an end of the archive at the end of the file", "none");
  Directory directory{
      .offset = reader.u32(end + 16), .size = reader.u32(end + 12), .num_records = reader.u16(end + 10)};
  std::uint64_t directory_end = end;
  constexpr std::uint64_t kLocatorSize = 20;
  if (end >= kLocatorSize && reader.view(end - kLocatorSize, 4) == "PK\x06\x07") {
    const std::uint64_t at = reader.u64(end - kLocatorSize + 8);
    reader.expect_signature(at, "PK\x06\x06", "the end of a large archive");
    const Directory large{
        .offset = reader.u64(at + 48), .size = reader.u64(at + 40), .num_records = reader.u64(at + 32)};
    const bool same = (directory.offset == large.offset || directory.offset == kElsewhere32) &&
                      (directory.size == large.size || directory.size == kElsewhere32) &&
                      (directory.num_records == large.num_records || directory.num_records == kElsewhere16);
    if (!same) throw damaged(file, "", "one place of the directory", "two");
    directory = large;
    directory_end = at;
  }
  if (directory.offset > directory_end || directory.size != directory_end - directory.offset) {
    throw damaged(file, "", cat("a directory that ends at byte ", directory_end),
                  cat(directory.size, " bytes from byte ", directory.offset));
  }
  return directory;
}

/// Puts in place what stands in the extra field because it did not fit: the values given, in their order,
/// where they are 0xffffffff.
void take_large_values(const Reader& reader, std::uint64_t extra, std::uint64_t length,
                       std::initializer_list<std::uint64_t*> values) {
  const std::uint64_t end = extra + length;
  for (std::uint64_t at = extra; at + 4 <= end; at += 4 + reader.u16(at + 2)) {
    if (reader.u16(at) != kZip64Extra) continue;
    const std::uint64_t field_end = at + 4 + reader.u16(at + 2);
    std::uint64_t next = at + 4;
    for (std::uint64_t* value : values) {
      if (*value != kElsewhere32 || next + 8 > std::min(field_end, end)) continue;
      *value = reader.u64(next);
      next += 8;
    }
  }
}

/// Compares the header before the record's bytes with the directory, finds the bytes, and compares what is
/// behind them. `bytes_end`: where the last record must have ended. Returns where this one ends.
std::uint64_t check_header(const util::MappedFile& file, std::uint64_t header, std::uint64_t bytes_end,
                           ZipRecord& record) {
  const Reader reader(file);
  const auto require = [&](bool same, const char* what) {
    if (!same) {
      throw damaged(file, util::printable(record.name), "a header that says what the directory says",
                    cat("another ", what));
    }
  };
  constexpr std::uint64_t kHeaderSize = 30;
  reader.expect_signature(header, "PK\x03\x04", "a record's header");
  const std::uint64_t name_size = reader.u16(header + 26), extra_size = reader.u16(header + 28);
  require(reader.view(header + kHeaderSize, name_size) == record.name, "name");
  require(reader.u16(header + 6) == record.flags, "kind of record");
  require(reader.u16(header + 8) == record.method, "method of compression");
  const std::uint64_t crc32 = reader.u32(header + 14);
  std::uint64_t stored_size = reader.u32(header + 18), size = reader.u32(header + 22);
  take_large_values(reader, header + kHeaderSize + name_size, extra_size, {&size, &stored_size});
  const bool behind = (record.flags & kHasDescriptor) != 0;
  const auto same = [&](std::uint64_t here, std::uint64_t there) {
    return here == there || (behind && (here == 0 || here == kElsewhere32));
  };
  require(same(crc32, record.crc32), "checksum");
  require(same(stored_size, record.stored_size) && same(size, record.size), "size");

  record.offset = header + kHeaderSize + name_size + extra_size;
  if (record.offset > bytes_end || record.stored_size > bytes_end - record.offset) {
    throw damaged(file, util::printable(record.name), cat("bytes before byte ", bytes_end),
                  cat(record.stored_size, " bytes from byte ", record.offset));
  }
  std::uint64_t end = record.offset + record.stored_size;
  if (behind) {
    if (reader.view(end, 4) == "PK\x07\x08") end += 4;
    require(reader.u32(end) == record.crc32, "checksum behind the bytes");
  }
  return end;
}

/// Of bytes in the map, by all threads.
std::uint32_t crc32_of(const util::MappedFile& file, std::uint64_t offset, std::uint64_t size) {
  constexpr std::uint64_t kPiece = std::uint64_t{8} << 20;
  const std::uint64_t pieces = (size + kPiece - 1) / kPiece;
  std::vector<std::uint32_t> each(pieces);
  const auto size_of = [&](std::uint64_t i) { return std::min(kPiece, size - i * kPiece); };
  at::parallel_for(0, static_cast<std::int64_t>(pieces), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::uint64_t>(begin); i < static_cast<std::uint64_t>(end); ++i) {
      each[i] = util::crc32({reinterpret_cast<const char*>(file.data()) + offset + i * kPiece, size_of(i)});
    }
  });
  std::uint32_t whole = util::crc32({});
  for (std::uint64_t i = 0; i < pieces; ++i) whole = util::crc32_of_both(whole, each[i], size_of(i));
  return whole;
}

util::Error other_checksum(const util::MappedFile& file, const ZipRecord& record, std::uint32_t found) {
  return damaged(file, util::printable(record.name), cat("the CRC-32 ", record.crc32, " of what was written"),
                 cat(found));
}

}  // namespace

ZipArchive::ZipArchive(std::shared_ptr<const util::MappedFile> file) : file_(std::move(file)) {
  const Reader reader(*file_);
  const Directory directory = find_directory(*file_);
  constexpr std::uint64_t kEntrySize = 46;
  std::vector<std::pair<std::uint64_t, std::size_t>> headers;  // where they are, and whose
  std::uint64_t at = directory.offset;
  const std::uint64_t end = directory.offset + directory.size;
  while (at < end) {
    reader.expect_signature(at, "PK\x01\x02", "an entry of the directory");
    const std::uint64_t name_size = reader.u16(at + 28), extra_size = reader.u16(at + 30),
                        comment_size = reader.u16(at + 32);
    ZipRecord record{.name = std::string(reader.view(at + kEntrySize, name_size)),
                     .flags = reader.u16(at + 8),
                     .method = reader.u16(at + 10),
                     .stored_size = reader.u32(at + 20),
                     .size = reader.u32(at + 24),
                     .crc32 = reader.u32(at + 16)};
    std::uint64_t header = reader.u32(at + 42);
    take_large_values(reader, at + kEntrySize + name_size, extra_size,
                      {&record.size, &record.stored_size, &header});
    if (!index_.emplace(record.name, records_.size()).second)
      throw damaged(*file_, util::printable(record.name), "one record of that name", "two");
    headers.emplace_back(header, records_.size());
    records_.push_back(std::move(record));
    at += kEntrySize + name_size + extra_size + comment_size;
  }
  if (at != end || records_.size() != directory.num_records) {
    throw damaged(*file_, "", cat("a directory of ", directory.num_records, " records"),
                  cat(records_.size()));
  }
  std::sort(headers.begin(), headers.end());
  std::uint64_t last_end = 0;
  for (const auto& [header, index] : headers) {
    ZipRecord& record = records_[index];
    if (header < last_end)
      throw damaged(*file_, util::printable(record.name), "records one after the other", "two that overlap");
    last_end = check_header(*file_, header, directory.offset, record);
  }
}

const ZipRecord* ZipArchive::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &records_[found->second];
}

bool ZipArchive::has_checksums() const {
  return std::any_of(records_.begin(), records_.end(),
                     [](const ZipRecord& record) { return record.crc32 != 0; });
}

std::string ZipArchive::read(const ZipRecord& record, std::uint64_t limit) const {
  const std::string where = cat(file_->path().string(), ": ", util::printable(record.name));
  if (record.size > limit) {
    throw util::format_error({.what = "record too large",
                              .where = where,
                              .expected = "at most " + util::as_bytes(limit),
                              .found = util::as_bytes(record.size)});
  }
  const std::string_view stored = Reader(*file_).view(record.offset, record.stored_size);
  std::string content;
  if (record.stored_as_it_is()) {
    content = stored;
  } else if (record.method == kDeflated && (record.flags & 1) == 0) {
    std::optional<std::string> inflated = util::inflate(stored, record.size);
    if (!inflated) {
      throw damaged(*file_, util::printable(record.name), cat(record.size, " compressed bytes"), "others");
    }
    content = std::move(*inflated);
  } else {
    throw util::format_error(
        {.what = "an encrypted record, or one of an unknown method of compression", .where = where});
  }
  const std::uint32_t found = util::crc32(content);
  if (has_checksums() && found != record.crc32) throw other_checksum(*file_, record, found);
  if (content.size() != record.size) {
    throw damaged(*file_, util::printable(record.name), cat(record.size, " bytes"), cat(content.size()));
  }
  return content;
}

void RecordChecksum::check() const {
  std::call_once(once_, [this] {
    const std::uint32_t found = crc32_of(*file_, record_.offset, record_.stored_size);
    if (found != record_.crc32) throw other_checksum(*file_, record_, found);
  });
}

}  // namespace depthlens::io
