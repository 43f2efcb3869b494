// Warnings: kept for run.json, each once, as they are printed.
#include "depthlens/util/log.hpp"

#include <algorithm>
#include <string>

#include "support/catch.hpp"

using namespace depthlens;

TEST_CASE("log: warnings are kept in order, each once, in printable form") {
  const std::size_t before = util::warnings().size();
  util::log_warning("the first of two");
  util::log_warning("the second \x1b[31m");
  util::log_warning("the first of two");
  const auto all = util::warnings();
  REQUIRE(all.size() == before + 2);
  CHECK(all[before] == "the first of two");
  CHECK(all[before + 1] == "the second \\x1b[31m");
}
