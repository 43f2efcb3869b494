// Numbers and ranges as flags name them.
#include "depthlens/util/ranges.hpp"

#include <string>

#include "support/catch.hpp"

using depthlens::util::parse_index, depthlens::util::parse_range;

TEST_CASE("an index is digits alone") {
  CHECK(parse_index("0") == 0);
  CHECK(parse_index("120") == 120);
  for (const std::string text : {"", "-1", "-0", "+1", "01", "00", "1 ", "1x", "a", "99999999999999999999"}) {
    INFO(text);
    CHECK_FALSE(parse_index(text));
  }
}

TEST_CASE("a range is an index or two, in whatever order") {
  const auto check = [](const std::string& text, std::int64_t first, std::int64_t last) {
    const auto range = parse_range(text);
    REQUIRE(range);
    CHECK(range->first == first);
    CHECK(range->last == last);
  };
  check("7", 7, 7);
  check("0-12", 0, 12);
  check("5-2", 5, 2);
  for (const std::string text : {"", "-", "1-", "-1", "1-2-3", "1,2", "0-1x", "01-2", "1-02", "1 - 2"}) {
    INFO(text);
    CHECK_FALSE(parse_range(text));
  }
}
