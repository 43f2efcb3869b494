// Files that a run has beside its tables.
#include "depthlens/report/run_folder.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;

TEST_CASE("pictures come whole under their names and go with the run that they belong to") {
  const test::TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  RunFolder(out, RunFolder::Mode::kNew)
      .finish({{"status", "complete"}}, {}, {{"lens.svg", "<svg/>"}, {"transfer.svg", "<t/>"}});
  CHECK(util::read_file(out / "lens.svg") == "<svg/>");
  CHECK(util::read_file(out / "transfer.svg") == "<t/>");
  CHECK_FALSE(fs::exists(out / "lens.svg.tmp"));
  RunFolder(out, RunFolder::Mode::kOverwrite).finish({{"status", "complete"}}, {}, {{"lens.svg", "<new/>"}});
  CHECK(util::read_file(out / "lens.svg") == "<new/>");
  CHECK_FALSE(fs::exists(out / "transfer.svg"));
}

}  // namespace
}  // namespace depthlens::report
