// Frames of zstd: the same bytes however they are written, every line read back, and all damage told.
#include "depthlens/util/zstd.hpp"

#include <zstd.h>

#include "depthlens/util/text.hpp"
#include "support/check_error.hpp"
#include "support/compressed.hpp"

using namespace depthlens;
using test::check_error;
using util::ErrorCode;

namespace {

std::string made_lines(std::size_t count) {
  std::string lines;
  unsigned state = 7;
  for (std::size_t i = 0; i < count; ++i) {
    state = state * 1664525U + 1013904223U;
    lines += util::cat("{\"document\": ", i, ", \"entropy\": [", state, ", ", state >> 7, "]}\n");
  }
  return lines;
}

/// `text` written in pieces of `size` bytes.
std::string compressed(std::string_view text, std::size_t size) {
  std::string out;
  util::ZstdWriter writer([&](std::string_view bytes) { out += bytes; });
  for (std::size_t begin = 0; begin < text.size(); begin += size) writer.write(text.substr(begin, size));
  writer.finish();
  return out;
}

std::string read_back(std::string_view bytes) {
  util::ZstdLines lines(bytes, "records.jsonl.zst");
  std::string text;
  for (std::string_view line; lines.next(line);) text += util::cat(line, "\n");
  return text;
}

}  // namespace

TEST_CASE("zstd: one frame with a checksum, the same bytes in whatever pieces it is written") {
  const std::string text = made_lines(9000);  // several blocks, no whole number of them
  const std::string bytes = compressed(text, text.size());
  REQUIRE(text.size() > 300'000);
  CHECK(bytes.size() < text.size() / 2);
  CHECK(ZSTD_findFrameCompressedSize(bytes.data(), bytes.size()) == bytes.size());
  constexpr int kChecksumFlag = 4;
  CHECK((static_cast<unsigned char>(bytes[4]) & kChecksumFlag) != 0);
  std::string plain(text.size(), '\0');
  CHECK(ZSTD_decompress(plain.data(), plain.size(), bytes.data(), bytes.size()) == text.size());
  CHECK(plain == text);
  for (const std::size_t size : {1, 7, 1000, 128 << 10, 200'000}) CHECK(compressed(text, size) == bytes);

  // A whole number of pieces, and nothing at all.
  const std::string even(256 << 10, 'x');
  CHECK(compressed(even, 1) == compressed(even, even.size()));
  CHECK(read_back(compressed(even, 4096)) == even + "\n");
  CHECK(read_back(compressed("", 1)).empty());
  CHECK_FALSE(compressed("", 1).empty());
}

TEST_CASE("zstd: lines of any length, empty ones and one without an end") {
  for (const std::string& text :
       {std::string("\n\na\n\n"), std::string(300'000, 'l') + "\nshort\n" + std::string(200'000, 'm') + "\n",
        made_lines(3000)}) {
    CHECK(read_back(compressed(text, 999)) == text);
    CHECK(read_back(test::zstd(text)) == text);
  }
  CHECK(read_back(test::zstd("a\nb")) == "a\nb\n");
  // Frames behind one another are one file to zstd.
  CHECK(read_back(test::zstd("a\n") + test::zstd("b\n")) == "a\nb\n");
}

TEST_CASE("zstd: a file that is cut, longer, damaged or none is refused by its name") {
  const std::string text = made_lines(60);
  const std::string bytes = compressed(text, 100);
  const auto refused = [&](const std::string& changed, const std::vector<std::string>& parts) {
    std::vector<std::string> all = {"records.jsonl.zst"};
    all.insert(all.end(), parts.begin(), parts.end());
    check_error(ErrorCode::kFormat, all, [&] { read_back(changed); });
  };
  refused("", {"not a zstd file", "an empty file"});
  refused(text, {"not a zstd file", "other first bytes"});
  refused(bytes.substr(0, 3), {"not a zstd file"});
  for (std::size_t size = 4; size < bytes.size(); ++size) {
    INFO(size);
    refused(bytes.substr(0, size), {"damaged zstd file", "an end in the middle"});
  }
  refused(bytes + "x", {"damaged zstd file", "Unknown frame descriptor"});
  refused(bytes + bytes.substr(0, 20), {"damaged zstd file", "an end in the middle"});
  std::size_t told = 0;
  for (std::size_t place = 0; place < bytes.size(); ++place) {
    std::string changed = bytes;
    changed[place] = static_cast<char>(changed[place] ^ 0x10);
    std::string found = text;  // what the frame's header says of memory may be another
    try {
      found = read_back(changed);
    } catch (const util::Error& error) {
      CHECK(error.code() == ErrorCode::kFormat);
      ++told;
    }
    CHECK(found == text);
  }
  CHECK(told + 2 >= bytes.size());
}
