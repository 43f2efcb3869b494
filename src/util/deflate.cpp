// CRC-32 and raw deflate, by zlib.
#include "depthlens/util/deflate.hpp"

#include <zlib.h>

#include <limits>
#include <new>

namespace depthlens::util {

std::uint32_t crc32(std::string_view bytes, std::uint32_t before) {
  const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
  return static_cast<std::uint32_t>(::crc32_z(before, data, bytes.size()));
}

std::uint32_t crc32_of_both(std::uint32_t first, std::uint32_t second, std::uint64_t second_size) {
  return static_cast<std::uint32_t>(::crc32_combine(first, second, static_cast<z_off_t>(second_size)));
}

std::optional<std::string> inflate(std::string_view bytes, std::uint64_t size) {
  constexpr std::uint64_t kMax = std::numeric_limits<uInt>::max();  // zlib's counts have 32 bits
  if (bytes.size() > kMax || size >= kMax) return std::nullopt;
  z_stream stream = {};
  if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  std::string out(size + 1, '\0');  // one more shows whether there is more
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const bool ended = ::inflate(&stream, Z_FINISH) == Z_STREAM_END;
  const bool whole = ended && stream.avail_in == 0 && stream.avail_out == 1;
  ::inflateEnd(&stream);
  if (!whole) return std::nullopt;
  out.pop_back();
  return out;
}

}  // namespace depthlens::util
