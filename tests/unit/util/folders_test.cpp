// Walks through folders, some of which may not be read.
#include "depthlens/util/folders.hpp"

#include <unistd.h>

#include <cstdlib>

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

/// Root may read everything: it is somebody else while this lives.
class WithoutPrivileges {
 public:
  WithoutPrivileges() : user_(::geteuid()) {
    if (user_ == 0) REQUIRE(::seteuid(65534) == 0);
  }
  ~WithoutPrivileges() {
    if (user_ == 0 && ::seteuid(user_) != 0) std::abort();
  }

 private:
  uid_t user_;
};

/// Its entries, relative to it.
std::vector<std::string> names(const TemporaryFolder& folder, const std::vector<fs::path>& paths) {
  std::vector<std::string> all;
  for (const fs::path& path : paths) all.push_back(path.lexically_relative(folder.path()).string());
  return all;
}

}  // namespace

TEST_CASE("entries of a folder, in order; none where there is no folder") {
  const TemporaryFolder folder;
  for (const char* name : {"b", "a", ".c"}) folder.write(name, "");
  fs::create_directory(folder.path() / "d");
  CHECK(names(folder, util::entries_of(folder.path())) == std::vector<std::string>{".c", "a", "b", "d"});
  std::error_code error;
  CHECK(util::entries_of(folder.path() / "absent", error).empty());
  CHECK(error == std::errc::no_such_file_or_directory);
  CHECK(util::entries_of(folder.path() / "a").empty());
}

TEST_CASE("files below a folder: hidden and deep folders are passed over, links to folders not followed") {
  const TemporaryFolder folder;
  const fs::path deep = fs::path("1") / "2" / "3" / "4" / "5" / "6";
  for (const fs::path& inside : {fs::path(".hidden"), deep / "7"}) {
    fs::create_directories(folder.path() / inside);
    folder.write((inside / "x").string(), "");
  }
  for (const fs::path& file : {fs::path("z"), fs::path("1") / "y", deep / "x", fs::path(".w")})
    folder.write(file.string(), "");
  fs::create_symlink("z", folder.path() / "link");
  fs::create_directory_symlink("1", folder.path() / "other");
  fs::create_symlink("nowhere", folder.path() / "dangling");
  CHECK(names(folder, util::files_below(folder.path()).files) ==
        std::vector<std::string>{".w", (deep / "x").string(), "1/y", "link", "z"});
  CHECK(util::files_below(folder.path() / "absent").files.empty());
}

TEST_CASE("files below a folder: a walk that was cut says so") {
  const TemporaryFolder folder;
  for (const char* name : {"1/a", "1/b", "c"}) folder.write(name, "");
  for (const std::size_t most : {0U, 1U, 3U, 4U, 5U}) {  // four entries: the folder is one
    INFO(most);
    const util::FilesBelow found = util::files_below(folder.path(), most);
    CHECK(found.cut == (most < 4));
    CHECK(found.files.size() <= most);
  }
  CHECK(names(folder, util::files_below(folder.path(), 4).files) ==
        std::vector<std::string>{"1/a", "1/b", "c"});
  CHECK_FALSE(util::files_below(folder.path()).cut);
}

TEST_CASE("folders that may not be read end no walk") {
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms{0755});
  for (const char* name : {"a", "locked", "z"}) {
    fs::create_directory(folder.path() / name);
    folder.write(std::string(name) + "/file", "");
  }
  fs::permissions(folder.path() / "locked", fs::perms::none);
  {
    const WithoutPrivileges other;
    CHECK(names(folder, util::files_below(folder.path()).files) ==
          std::vector<std::string>{"a/file", "z/file"});
    CHECK(util::files_below(folder.path() / "locked").files.empty());
    std::error_code error;
    CHECK(util::entries_of(folder.path() / "locked", error).empty());
    CHECK(error == std::errc::permission_denied);
  }
  fs::permissions(folder.path() / "locked", fs::perms::owner_all);
}
