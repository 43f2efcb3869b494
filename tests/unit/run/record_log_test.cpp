// Records of parts: written by several processes, shown in the order of the input.
#include "depthlens/run/record_log.hpp"

#include <string>
#include <vector>

#include "depthlens/util/deflate.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using run::RecordLog;
using run::RecordSegment;

namespace {

std::string line(std::int64_t part, int i) {
  return "{\"part\": " + std::to_string(part) + ", \"i\": " + std::to_string(i) + "}\n";
}

void write_part(RecordLog& log, std::int64_t part, int lines) {
  log.begin_part(part);
  for (int i = 0; i < lines && log.wants(); ++i) log.add(line(part, i));
  log.commit();
}

std::string shown(const std::vector<RecordSegment>& segments, const std::filesystem::path& folder,
                  std::int64_t most = 0) {
  std::string text;
  run::for_each_record(segments, folder, most, [&](std::string_view one) { text += one; });
  return text;
}

}  // namespace

TEST_CASE("records of parts: two processes that took parts in turn give those of one") {
  const test::TemporaryFolder folder;
  for (const std::int64_t most : {0, 1, 4, 7, 100}) {
    INFO(most);
    const std::string name = std::to_string(most);
    RecordLog one(folder.path() / ("one" + name), most, false, {});
    RecordLog even(folder.path() / ("even" + name), most, false, {});
    RecordLog odd(folder.path() / ("odd" + name), most, false, {});
    std::string all;
    int count = 0;
    for (std::int64_t part = 0; part < 6; ++part) {
      const int lines = part == 2 ? 0 : static_cast<int>(part) + 1;
      write_part(one, part, lines);
      write_part(part % 2 == 0 ? even : odd, part, lines);
      for (int i = 0; i < lines; ++i) {
        if (most == 0 || count++ < most) all += line(part, i);
      }
    }
    for (RecordLog* log : {&one, &even, &odd}) log->flush();
    CHECK(shown(one.segments(), folder.path(), most) == all);
    even.add_segments(odd.segments());
    CHECK(shown(even.segments(), folder.path(), most) == all);
    if (most == 1) CHECK(std::filesystem::file_size(folder.path() / "one1") == line(0, 0).size());
  }
}

TEST_CASE("records of parts: a part that is given up leaves nothing, neighbours are one piece") {
  const test::TemporaryFolder folder;
  RecordLog log(folder.path() / "r", 0, false, {});
  write_part(log, 0, 2);
  write_part(log, 1, 1);
  log.begin_part(2);
  log.add(line(2, 7));
  log.drop_pending();
  write_part(log, 2, 1);
  log.flush();
  REQUIRE(log.segments().size() == 1);
  CHECK(shown(log.segments(), folder.path()) == line(0, 0) + line(0, 1) + line(1, 0) + line(2, 0));
  const util::Json json = util::Json::parse(log.segments()[0].json().dump());
  CHECK(RecordSegment::from_json({json, "x"}).json() == log.segments()[0].json());
}

TEST_CASE("records of parts: a changed byte is found") {
  const test::TemporaryFolder folder;
  RecordLog log(folder.path() / "r", 0, false, {});
  write_part(log, 0, 2);
  write_part(log, 1, 3);
  log.save();
  const std::string bytes = util::read_file(folder.path() / "r");
  for (const std::size_t place : {std::size_t{3}, bytes.size() / 2, bytes.size() - 3}) {
    std::string changed = bytes;
    changed[place] ^= 1;
    util::write_file(folder.path() / "r", changed);
    test::check_error(util::ErrorCode::kFormat, {"saved records are damaged", "CRC-32"},
                      [&] { shown(log.segments(), folder.path()); });
  }
}

TEST_CASE("records of parts: sorted by their keys, those with the lowest are kept") {
  const test::TemporaryFolder folder;
  for (const std::int64_t most : {0, 2}) {
    RecordLog log(folder.path() / std::to_string(most), most, true, {});
    log.begin_part(0);
    for (const int key : {5, 1, 3, 1}) {
      REQUIRE(log.wants());
      log.add(line(0, key), key);
    }
    log.commit();
    log.begin_part(1);
    CHECK(log.wants() == (most == 0));
    log.flush();
    const std::string first = line(0, 1) + line(0, 1);
    CHECK(shown(log.segments(), folder.path()) == (most == 2 ? first : first + line(0, 3) + line(0, 5)));
  }
}

TEST_CASE("records of parts: files go with what did not save, and stay with what did") {
  const test::TemporaryFolder folder;
  {
    RecordLog log(folder.path() / "gone", 0, false, {});
    write_part(log, 0, 1);
  }
  CHECK_FALSE(std::filesystem::exists(folder.path() / "gone"));
  {
    RecordLog log(folder.path() / "kept", 0, false, {});
    write_part(log, 0, 1);
    log.save();
  }
  CHECK(std::filesystem::exists(folder.path() / "kept"));
}

TEST_CASE("records of parts: what is not there is refused") {
  const test::TemporaryFolder folder;
  RecordLog log(folder.path() / "r", 0, false, {});
  write_part(log, 0, 3);
  log.flush();
  std::vector<RecordSegment> segments = log.segments();
  const auto refused = [&](const std::string& expected) {
    test::check_error(util::ErrorCode::kFormat, {"records are damaged", expected},
                      [&] { shown(segments, folder.path()); });
  };
  segments[0].length += 1;
  refused("bytes");
  segments = log.segments();
  segments[0].lines = 4;
  refused("4 lines");
  segments = log.segments();
  segments[0].length -= 1;
  refused("CRC-32");
  segments[0].crc32 = util::crc32(util::read_file(folder.path() / "r").substr(0, segments[0].length));
  refused("whole lines");
  segments = log.segments();
  segments[0].offset = ~std::uint64_t{0};
  refused("bytes");
  const util::Json outside = util::Json::parse(
      R"({"parts": [0, 1], "file": "../r", "offset": 0, "length": 1, "lines": 1, "crc32": 0})");
  test::check_error(util::ErrorCode::kFormat, {"a file's name"}, [&] {
    RecordSegment::from_json({outside, "x"});
  });
}
