// Decompression by zlib, in pieces, so that a small file cannot ask for all memory.
#include "depthlens/util/gzip.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

class Inflater {
 public:
  Inflater() {
    constexpr int kGzipOnly = 16;
    if (::inflateInit2(&stream_, kGzipOnly + MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { ::inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  z_stream& stream() { return stream_; }

 private:
  z_stream stream_ = {};
};

}  // namespace

bool is_gzip(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

std::string gunzip(std::string_view bytes, const std::string& where, std::uint64_t limit) {
  Inflater inflater;
  z_stream& stream = inflater.stream();
  std::string out;
  std::array<char, 1 << 16> piece;
  std::size_t next = 0;  // of the bytes not yet given to zlib, whose counts have 32 bits
  while (true) {
    if (stream.avail_in == 0) {
      const std::size_t given = std::min<std::size_t>(bytes.size() - next, 1 << 30);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + next));
      stream.avail_in = static_cast<uInt>(given);
      next += given;
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    const std::size_t produced = piece.size() - stream.avail_out;
    if (out.size() + produced > limit) {
      throw input_error({.what = in_quotes(where) + " is too large when decompressed",
                         .expected = "at most " + as_bytes(limit)});
    }
    out.append(piece.data(), produced);
    const bool at_end = stream.avail_in == 0 && next == bytes.size();
    if (result == Z_STREAM_END) {
      if (at_end) return out;
      ::inflateReset(&stream);  // another member follows
      continue;
    }
    if (result == Z_OK && !(at_end && produced == 0)) continue;
    throw input_error({.what = "damaged gzip file",
                       .where = where,
                       .found = at_end                  ? "an end in the middle"
                                : stream.msg != nullptr ? stream.msg
                                                        : "bad data"});
  }
}

std::string read_maybe_gzip(const std::filesystem::path& path, std::uint64_t limit) {
  std::string bytes = read_file(path, limit);
  return is_gzip(bytes) ? gunzip(bytes, path.string(), limit) : bytes;
}

}  // namespace depthlens::util
