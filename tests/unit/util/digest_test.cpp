// SHA-256 of files and of several together, and what the names of the hub cache's blobs are good for.
#include "depthlens/util/digest.hpp"

#include <sys/stat.h>

#include "depthlens/util/files.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;
using util::FileDigest;
using util::FileDigests;

namespace {

namespace fs = std::filesystem;

/// Makes `folder/name` a link to a blob, as the hub's client does; `bytes` beyond the content are a hole.
void link_to_blob(const fs::path& folder, const std::string& name, const fs::path& blob,
                  std::uintmax_t bytes) {
  fs::create_directories(blob.parent_path());
  util::write_file(blob, "content");
  fs::resize_file(blob, bytes);
  fs::create_symlink(blob, folder / name);
}

}  // namespace

TEST_CASE("digests: each file's, in the order of the names, whatever the number of threads") {
  const TemporaryFolder folder;
  std::vector<std::string> names;
  std::vector<FileDigest> expected;
  for (const std::string& bytes : {std::string(), std::string("abc"), std::string((1 << 20) + 1, 'x')}) {
    names.push_back(std::to_string(9 - names.size()) + ".bin");
    folder.write(names.back(), bytes);
    expected.push_back({.name = names.back(), .bytes = bytes.size(), .sha256 = util::sha256(bytes)});
  }
  for (const int threads : {0, 1, 2, 16}) {
    FileDigests digests(folder.path(), names, threads);
    CHECK(digests.get() == expected);
    CHECK(digests.get() == expected);
  }
  CHECK(FileDigests(folder.path(), {}).get().empty());
}

TEST_CASE("digests: of several files, as sha256sum prints them, in order of name") {
  const std::string a = util::sha256("a"), b = util::sha256("b");
  const std::vector<FileDigest> files = {{"z.bin", 1, a}, {"config.json", 1, b}};
  const std::string expected = util::sha256(b + "  config.json\n" + a + "  z.bin\n");
  CHECK(util::digest_of(files) == expected);
  CHECK(util::digest_of({files[1], files[0]}) == expected);
  CHECK(util::digest_of({{"z.bin", 1, b}, {"config.json", 1, a}}) != expected);
  const util::OrderedJson json = util::digest_json(files);
  CHECK(json.at("digest") == expected);
  CHECK(json.at("files")[0] == util::OrderedJson({{"name", "z.bin"}, {"bytes", 1}, {"sha256", a}}));
}

TEST_CASE("digests: a large blob of the hub cache is named by its SHA-256 and not read") {
  const TemporaryFolder folder;
  const std::string hash(64, 'a'), git(40, 'b');
  constexpr std::uintmax_t kLarge = (std::uintmax_t{64} << 20) + 1;
  link_to_blob(folder.path(), "large", folder.path() / "blobs" / hash, kLarge);
  link_to_blob(folder.path(), "small", folder.path() / "blobs" / std::string(64, 'c'), 7);
  link_to_blob(folder.path(), "other", folder.path() / "elsewhere" / hash, kLarge);
  link_to_blob(folder.path(), "of_git", folder.path() / "blobs" / git, kLarge);
  std::string bytes = "content";
  bytes.resize(kLarge);
  const std::string read = util::sha256(bytes);
  const std::vector<FileDigest> expected = {{"large", kLarge, hash},
                                            {"small", 7, util::sha256("content")},
                                            {"other", kLarge, read},
                                            {"of_git", kLarge, read}};
  CHECK(FileDigests(folder.path(), {"large", "small", "other", "of_git"}, 2).get() == expected);
}

TEST_CASE("digests: what cannot be read is an input error when they are asked for") {
  const TemporaryFolder folder;
  folder.write("there", "x");
  REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
  for (const char* name : {"missing", "pipe", "."}) {
    INFO(name);
    FileDigests digests(folder.path(), {"there", name});
    check_error(ErrorCode::kInput, {"cannot read", name}, [&] { digests.get(); });
  }
  const FileDigests unused(folder.path(), {"missing"});
}
