// gzip files: whole, in several members, damaged, cut anywhere, and larger than allowed.
#include "depthlens/util/gzip.hpp"

#include "support/check_error.hpp"
#include "support/gzip.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using test::check_error;
using test::gzip;
using util::ErrorCode;
using util::gunzip;

namespace {

constexpr std::uint64_t kLimit = 1 << 20;

/// Half a megabyte that does not repeat soon: several pieces of the reader's.
std::string long_text() {
  std::string text;
  for (std::uint32_t i = 0; text.size() < 500'000; ++i) text += std::to_string(i * 2654435761U) + '\n';
  return text;
}

}  // namespace

TEST_CASE("gzip: what was compressed comes back, one member or several") {
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("tide\0table", 10), long_text()})
    CHECK((gunzip(gzip(text), "x.gz", kLimit) == text));
  CHECK(gunzip(gzip("ebb ") + gzip("") + gzip("and ") + gzip("flow"), "x.gz", kLimit) == "ebb and flow");
  CHECK((gunzip(gzip(long_text()) + gzip("end"), "x.gz", kLimit) == long_text() + "end"));
}

TEST_CASE("gzip: files are told by their first bytes") {
  CHECK(util::is_gzip(gzip("")));
  for (const char* bytes : {"", "\x1f", "{}", "\x1f\x8c"}) CHECK_FALSE(util::is_gzip(bytes));
  const test::TemporaryFolder folder;
  CHECK(util::read_maybe_gzip(folder.write("named-anything.txt", gzip("tide"))) == "tide");
  CHECK(util::read_maybe_gzip(folder.write("plain.gz", "tide")) == "tide");
}

TEST_CASE("gzip: a cut at any byte is told") {
  const std::string bytes = gzip("The tide comes in twice a day, and twice a day it goes.");
  for (std::size_t size = 2; size < bytes.size(); ++size) {
    INFO(size);
    check_error(ErrorCode::kInput, {"damaged gzip file", "x.gz", "an end in the middle"},
                [&] { gunzip(bytes.substr(0, size), "x.gz", kLimit); });
  }
  const std::string text = long_text(), whole = gzip(text);
  for (const std::size_t size : {whole.size() / 3, whole.size() - 9, whole.size() - 1}) {
    check_error(ErrorCode::kInput, {"an end in the middle"},
                [&] { gunzip(whole.substr(0, size), "x.gz", kLimit); });
  }
}

TEST_CASE("gzip: damage is told") {
  const std::string bytes = gzip("The tide comes in twice a day, and twice a day it goes.");
  const auto damaged = [&](std::size_t place) {
    std::string copy = bytes;
    copy[place] = static_cast<char>(copy[place] ^ 0x55);
    return copy;
  };
  for (const std::size_t place : {std::size_t{2}, bytes.size() - 8, bytes.size() - 1}) {  // method, CRC, size
    INFO(place);
    check_error(ErrorCode::kInput, {"damaged gzip file", "x.gz"},
                [&] { gunzip(damaged(place), "x.gz", kLimit); });
  }
  check_error(ErrorCode::kInput, {"damaged gzip file"}, [&] { gunzip(bytes + "tail", "x.gz", kLimit); });
  check_error(ErrorCode::kInput, {"damaged gzip file"}, [&] { gunzip("\x1f\x8b", "x.gz", kLimit); });
}

TEST_CASE("gzip: not more than the limit is unpacked, however small the file") {
  const std::string bomb = gzip(std::string(50'000'000, '0'));
  REQUIRE(bomb.size() < 100'000);
  check_error(ErrorCode::kInput, {"'bomb.gz' is too large when decompressed", "1.0 MiB"},
              [&] { gunzip(bomb, "bomb.gz", kLimit); });
  const std::string text(1000, 'x');
  CHECK(gunzip(gzip(text), "x.gz", 1000) == text);
  check_error(ErrorCode::kInput, {"too large"}, [&] { gunzip(gzip(text), "x.gz", 999); });
  // The members together.
  check_error(ErrorCode::kInput, {"too large"}, [&] { gunzip(gzip(text) + gzip("y"), "x.gz", 1000); });
  const test::TemporaryFolder folder;
  check_error(ErrorCode::kInput, {"bomb.gz", "too large"},
              [&] { util::read_maybe_gzip(folder.write("bomb.gz", bomb), kLimit); });
}
