// Files in and out: limits, maps, files that appear whole or not at all, and SHA-256.
#include "depthlens/util/files.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <string>
#include <utility>

#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using test::check_error;
using test::TemporaryFolder;
using util::AtomicFile;
using util::ErrorCode;
using util::MappedFile;
namespace fs = std::filesystem;

namespace {

std::size_t num_files(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("exists: what cannot be looked up is not there, and nothing is thrown") {
  const TemporaryFolder folder;
  CHECK(util::exists(folder.path()));
  CHECK(util::exists(folder.write("file", "")));
  CHECK_FALSE(util::exists(folder.path() / "absent"));
  CHECK_FALSE(util::exists(folder.path() / std::string(300, 'a')));
  const auto loop = folder.path() / "loop";
  std::filesystem::create_symlink(loop, loop);
  CHECK_FALSE(util::exists(loop));
}

TEST_CASE("read_file: bytes as they are") {
  const TemporaryFolder folder;
  const std::string bytes("a\0\r\n\xff z", 7);
  CHECK(util::read_file(folder.write("x", bytes)) == bytes);
  CHECK(util::read_file(folder.write("empty", "")).empty());
  const std::string long_bytes(200'000, 'y');  // more than one read
  CHECK(util::read_file(folder.write("long", long_bytes)) == long_bytes);
}

TEST_CASE("read_file: up to the limit, not beyond") {
  const TemporaryFolder folder;
  const auto path = folder.write("x", std::string(100, 'x'));
  CHECK(util::read_file(path, 100).size() == 100);
  check_error(ErrorCode::kInput, {path.string(), "too large", "expected at most 99 B", "found 100 B"},
              [&] { util::read_file(path, 99); });
  // A device tells no size: the limit holds while it is read.
  check_error(ErrorCode::kInput, {"/dev/zero", "more than 1.0 KiB"},
              [] { util::read_file("/dev/zero", 1024); });
}

TEST_CASE("read_file: what is missing or a folder is an input error that names it") {
  const TemporaryFolder folder;
  check_error(ErrorCode::kInput, {"cannot read", "/none'", "No such file"},
              [&] { util::read_file(folder.path() / "none"); });
  check_error(ErrorCode::kInput, {folder.path().string(), "found a folder"},
              [&] { util::read_file(folder.path()); });
}

TEST_CASE("mapped file: the bytes of the file, while it lives, even after its name is gone") {
  const TemporaryFolder folder;
  const std::string bytes(10'000, 'm');
  const auto path = folder.write("x", bytes);
  const auto mapped = MappedFile::open(path);
  CHECK(mapped->path() == path);
  fs::remove(path);
  REQUIRE(mapped->size() == bytes.size());
  mapped->release(0, mapped->size());  // pages come back when they are touched
  CHECK(std::string(reinterpret_cast<const char*>(mapped->data()), mapped->size()) == bytes);
}

TEST_CASE("mapped file: an empty file has no bytes; folders, devices and missing files are refused") {
  const TemporaryFolder folder;
  CHECK(MappedFile::open(folder.write("empty", ""))->size() == 0);
  check_error(ErrorCode::kInput, {"a folder"}, [&] { MappedFile::open(folder.path()); });
  check_error(ErrorCode::kInput, {"not a regular file"}, [] { MappedFile::open("/dev/zero"); });
  check_error(ErrorCode::kInput, {"No such file"}, [&] { MappedFile::open(folder.path() / "none"); });
}

TEST_CASE("atomic file: appears under its name only when committed") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "out.txt";
  AtomicFile file(path);
  file.write("first ");
  file.write("second");
  CHECK_FALSE(fs::exists(path));
  CHECK(num_files(folder.path()) == 1);
  AtomicFile other(path);  // as another process might write it at the same time
  other.write("of the other");
  CHECK(num_files(folder.path()) == 2);
  file.commit();
  CHECK(util::read_file(path) == "first second");
  other.commit();
  CHECK(util::read_file(path) == "of the other");
  util::write_file(path, "first second");
  CHECK(util::read_file(path) == "first second");
  CHECK(num_files(folder.path()) == 1);
}

TEST_CASE("atomic file: without commit nothing is left, and an older file stays") {
  const TemporaryFolder folder;
  const fs::path path = folder.write("out.txt", "older");
  {
    AtomicFile file(path);
    file.write(std::string(3 << 20, 'x'));  // more than its buffer: bytes are on the disk
    CHECK(num_files(folder.path()) == 2);
    CHECK(util::read_file(path) == "older");
  }
  CHECK(util::read_file(path) == "older");
  CHECK(num_files(folder.path()) == 1);
}

TEST_CASE("atomic file: replaces an older file as a whole") {
  const TemporaryFolder folder;
  const fs::path path = folder.write("out.txt", "a much longer older content");
  util::write_file(path, "new");
  CHECK(util::read_file(path) == "new");
  CHECK(num_files(folder.path()) == 1);
  const std::string large(5'000'001, 'z');
  util::write_file(path, large);
  CHECK(util::read_file(path) == large);
}

TEST_CASE("atomic file: what cannot be written is an output error, exit status 6") {
  const TemporaryFolder folder;
  check_error(ErrorCode::kOutput, {"cannot write", "none/out.txt'", "No such file"},
              [&] { AtomicFile(folder.path() / "none" / "out.txt"); });
  const auto file = folder.write("file", "x");
  check_error(ErrorCode::kOutput, {"file/out.txt'", "Not a directory"},
              [&] { AtomicFile(file / "out.txt"); });
  // The name is taken by a folder: told at the rename, and the temporary file goes.
  fs::create_directory(folder.path() / "taken");
  check_error(ErrorCode::kOutput, {"cannot write", "taken'"},
              [&] { util::write_file(folder.path() / "taken", "x"); });
  CHECK(num_files(folder.path()) == 2);
}

TEST_CASE("create_folders: all of them, again and again, but not over a file") {
  const TemporaryFolder folder;
  util::create_folders(folder.path() / "a" / "b" / "c");
  util::create_folders(folder.path() / "a" / "b" / "c");
  CHECK(fs::is_directory(folder.path() / "a" / "b" / "c"));
  const auto file = folder.write("file", "x");
  check_error(ErrorCode::kOutput, {"file'"}, [&] { util::create_folders(file); });
  check_error(ErrorCode::kOutput, {"file/below'"}, [&] { util::create_folders(file / "below"); });
  const fs::path link = folder.path() / "link";
  fs::create_symlink(folder.path() / "nowhere", link);
  for (const fs::path& target : {link, link / "below"}) {
    check_error(ErrorCode::kOutput, {"link' is a link to what is not there"},
                [&] { util::create_folders(target); });
  }
}

TEST_CASE("what is begun and not finished can be removed: temporary files, and new folders that are empty") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "older");
  util::create_folders(folder.path() / "older" / "new" / "newer");
  util::create_folders(folder.path() / "used" / "empty");
  util::write_file(folder.path() / "used" / "file", "x");
  AtomicFile begun(folder.path() / "used" / "begun");
  begun.write(std::string(3 << 20, 'x'));
  CHECK(num_files(folder.path() / "used") == 3);
  const util::StagingFolder staging(folder.path() / "older");
  util::write_file(staging.path() / "file", "x");
  util::remove_unfinished();
  CHECK(fs::is_empty(folder.path() / "older"));
  CHECK(fs::exists(folder.path() / "used" / "file"));
  CHECK(num_files(folder.path() / "used") == 1);
  // Nothing is remembered: what stands there by now belongs to others.
  fs::create_directory(folder.path() / "used" / "empty");
  util::remove_unfinished();
  CHECK(fs::exists(folder.path() / "used" / "empty"));
}

TEST_CASE("staging folder: its files come to their places together, and what they supersede goes") {
  const TemporaryFolder folder;
  folder.write("run/last", "old");
  folder.write("run/tables/a", "old");
  folder.write("run/tables/b", "old");
  folder.write("run/notes", "mine");
  const fs::path run = folder.path() / "run";
  {
    util::StagingFolder staging(run);
    CHECK(util::StagingFolder::is_one(staging.path()));
    fs::create_directories(staging.path() / "tables");
    fs::create_directories(staging.path() / "more");
    for (const char* name : {"last", "tables/a", "tables/c", "more/d"})
      util::write_file(staging.path() / name, "new");
    CHECK(util::read_file(run / "last") == "old");
    staging.replace(run, "last", {"tables/a", "tables/b", "none"});
  }
  std::set<std::string> files;
  for (const auto& item : fs::recursive_directory_iterator(run)) {
    if (!item.is_directory()) files.insert(item.path().lexically_relative(run).string());
  }
  CHECK(files == std::set<std::string>{"last", "more/d", "notes", "tables/a", "tables/c"});
  CHECK(util::read_file(run / "last") == "new");
  CHECK(util::read_file(run / "tables/a") == "new");
}

TEST_CASE("staging folder: where something is in the way nothing changes, and without replace it goes") {
  const TemporaryFolder folder;
  folder.write("run/last", "old");
  folder.write("run/tables", "a file");
  fs::create_directories(folder.path() / "run/file");
  const fs::path run = folder.path() / "run";
  for (const auto& [name, why] : {std::pair("tables/a", "tables'"), std::pair("file", "file'")}) {
    INFO(name);
    util::StagingFolder staging(run);
    fs::create_directories((staging.path() / name).parent_path());
    util::write_file(staging.path() / "last", "new");
    util::write_file(staging.path() / name, "new");
    check_error(ErrorCode::kOutput, {"cannot write", why}, [&] { staging.replace(run, "last"); });
  }
  CHECK(num_files(run) == 3);
  CHECK(util::read_file(run / "last") == "old");
  CHECK(util::read_file(run / "tables") == "a file");
  check_error(ErrorCode::kOutput, {"cannot write", "none"},
              [&] { const util::StagingFolder staging(folder.path() / "none"); });
}

TEST_CASE("what vanishes while it is written is an output error; what is whole is told in the same go") {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  int times = 0;
  util::write_file(folder.path() / "file", "x", [&] { times += fs::exists(folder.path() / "file"); });
  fs::create_directory(run);
  {
    util::StagingFolder staging(run);
    util::write_file(staging.path() / "last", "new");
    staging.replace(run, "last", {}, [&] { times += fs::exists(run / "last"); });
    CHECK(times == 2);
    fs::remove_all(run);
    check_error(ErrorCode::kOutput, {"cannot write", "run'", "No such file"},
                [&] { staging.replace(run, "last", {}, [&] { ++times; }); });
  }
  util::create_folders(run);
  util::GrowingFile growing(run / "grows");
  growing.write("one");
  growing.sync();
  fs::rename(run / "grows", run / "elsewhere");
  growing.write("two");
  check_error(ErrorCode::kOutput, {"cannot write", "grows'", "No such file"}, [&] { growing.sync(); });
  util::write_file(run / "grows", "of another");
  check_error(ErrorCode::kOutput, {"cannot write", "grows'", "another file"}, [&] { growing.sync(); });
  CHECK(times == 2);
}

TEST_CASE("read_back: what a program wrote and cannot read any more is an output error") {
  const TemporaryFolder folder;
  const fs::path path = folder.write("state", "x");
  CHECK(util::read_back([&] { return util::read_file(path); }) == "x");
  fs::remove(path);
  check_error(ErrorCode::kOutput,
              {"cannot read", "state'", "No such file", "changed or removed it meanwhile"},
              [&] { util::read_back([&] { return util::read_file(path); }); });
  check_error(ErrorCode::kFormat, {"damaged"},
              [&] { util::read_back([]() -> int { throw util::format_error({.what = "damaged"}); }); });
}

TEST_CASE("sha256: the vectors of FIPS 180-2") {
  CHECK(util::sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(util::sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(util::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(util::sha256(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256: pieces of any size give the digest of the whole") {
  util::Sha256 hash;
  const std::string bytes(1'000'000, 'a');
  for (std::size_t i = 0, step = 1; i < bytes.size(); i += step, step = step * 3 % 1009 + 1)
    hash.update(bytes.data() + i, std::min(step, bytes.size() - i));
  CHECK(hash.hex_digest() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
