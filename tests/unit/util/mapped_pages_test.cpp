// Files that are cut while they are mapped, each in a process of its own.
#include "depthlens/util/mapped_pages.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>

#include "depthlens/util/files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::util {
namespace {

constexpr int kNamed = 7, kOther = 8, kRead = 9;

/// How a process ends that watches, and does this: with `kNamed` where a file of that name was touched.
int status_of(const std::function<void()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    watch_mapped_pages(
        [](const std::filesystem::path& file) { ::_exit(file.filename() == "cut" ? kNamed : kOther); });
    work();
    ::_exit(kRead);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

/// The last byte of a map.
int last_of(const MappedFile& file) {
  return std::to_integer<int>(const_cast<volatile const std::byte*>(file.data())[file.size() - 1]);
}

}  // namespace

TEST_CASE("mapped pages: a file that is cut while it is read is named") {
  constexpr std::size_t kBytes = 1 << 20;
  const test::TemporaryFolder folder;
  folder.write("cut", std::string(kBytes, 'x'));
  folder.write("whole", std::string(kBytes, 'x'));
  const int of_cut = status_of([&] {
    const auto cut = MappedFile::open(folder.path() / "cut"),
               whole = MappedFile::open(folder.path() / "whole");
    std::filesystem::resize_file(folder.path() / "cut", 1);
    if (last_of(*whole) == 'x') last_of(*cut);
  });
  REQUIRE(WIFEXITED(of_cut));
  CHECK(WEXITSTATUS(of_cut) == kNamed);
  const int of_whole = status_of([&] { last_of(*MappedFile::open(folder.path() / "whole")); });
  REQUIRE(WIFEXITED(of_whole));
  CHECK(WEXITSTATUS(of_whole) == kRead);
  const int of_none = status_of([&] { ::kill(::getpid(), SIGBUS); });
  CHECK(WIFSIGNALED(of_none));
}

}  // namespace depthlens::util
