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
  CHECK(names(folder, util::files_below(folder.path())) ==
        std::vector<std::string>{".w", (deep / "x").string(), "1/y", "link", "z"});
  CHECK(util::files_below(folder.path() / "absent").empty());
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
    CHECK(names(folder, util::files_below(folder.path())) == std::vector<std::string>{"a/file", "z/file"});
    CHECK(util::files_below(folder.path() / "locked").empty());
    std::error_code error;
    CHECK(util::entries_of(folder.path() / "locked", error).empty());
    CHECK(error == std::errc::permission_denied);
  }
  fs::permissions(folder.path() / "locked", fs::perms::owner_all);
}
