// CRC-32 and raw deflate against known values and what zlib compresses.
#include "depthlens/util/deflate.hpp"

#include <zlib.h>

#include <string>

#include "support/catch.hpp"

using namespace depthlens;

namespace {

std::string deflated(const std::string& bytes) {
  z_stream stream = {};
  REQUIRE(::deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(::deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

}  // namespace

TEST_CASE("crc32 is that of zip files, in one piece or two") {
  CHECK(util::crc32("") == 0);
  CHECK(util::crc32("123456789") == 0xcbf43926);
  CHECK(util::crc32("56789", util::crc32("1234")) == 0xcbf43926);
  CHECK(util::crc32_of_both(util::crc32("1234"), util::crc32("56789"), 5) == 0xcbf43926);
  CHECK(util::crc32_of_both(util::crc32(""), util::crc32("123456789"), 9) == 0xcbf43926);
}

TEST_CASE("inflate gives back what was deflated, of the size that was said") {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * i);
  for (const std::string& bytes : {text, std::string(100000, 'x'), std::string()}) {
    const std::string stream = deflated(bytes);
    CHECK(util::inflate(stream, bytes.size()) == bytes);
    CHECK_FALSE(util::inflate(stream, bytes.size() + 1));
    if (!bytes.empty()) CHECK_FALSE(util::inflate(stream, bytes.size() - 1));
    CHECK_FALSE(util::inflate(stream + "x", bytes.size()));
    CHECK_FALSE(util::inflate(stream.substr(0, stream.size() - 1), bytes.size()));
  }
  CHECK_FALSE(util::inflate("this is not deflated", 10));
}
