// Saved states of a run folder, and who is at work in it.
#include "depthlens/run/saved_parts.hpp"

#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using run::FolderLock;
using run::PartSet;
using run::SavedDescription;
using run::SavedParts;
using run::SavedState;
using run::Shard;

namespace {

namespace fs = std::filesystem;

tables::State state_of(std::int64_t count) {
  tables::State state;
  state.counts("n", 1).add(0, count);
  state.commit();
  return state;
}

SavedDescription described(int number) {
  return {.run = {{"b", number}, {"a", 1}},
          .context = {{"c", 3}},
          .share = Shard{.index = 1, .count = 4},
          .arithmetic = {.kernels = {"y", "x"}, .is_fast = true}};
}

std::size_t num_states(const fs::path& run) {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(run / "parts"))
    count += entry.path().extension() == ".state" ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("saved parts: what was saved is read, and the newest takes the place of the one before") {
  const test::TemporaryFolder folder;
  SavedParts parts(folder.path());
  CHECK(parts.paths().empty());
  parts.save(state_of(3), PartSet(0, 1), {}, described(1));
  parts.save(state_of(5), PartSet(0, 4), {{.first_part = 0, .last_part = 4, .file = "f", .length = 9}},
             described(2));
  CHECK(parts.paths() == std::vector<fs::path>{parts.own_state()});
  // Its records are to be there, and whole, before anything is built upon them.
  const auto refused = [&] {
    test::check_error(util::ErrorCode::kFormat, {"records", "9 bytes"}, [&] { parts.read(); });
  };
  refused();
  folder.write("parts/f", "8 bytes.");
  refused();
  folder.write("parts/f", "9 bytes..");
  const std::vector<SavedState> states = parts.read();
  REQUIRE(states.size() == 1);
  CHECK(states[0].parts.size() == 5);
  CHECK(states[0].description.run == util::OrderedJson({{"b", 2}, {"a", 1}}));
  CHECK(states[0].description.context == util::OrderedJson({{"c", 3}}));
  CHECK(states[0].description.share == Shard{.index = 1, .count = 4});
  run::Arithmetic arithmetic{.kernels = {"z"}};
  arithmetic.add(states[0].description.arithmetic);
  CHECK(arithmetic.kernels == std::set<std::string>{"x", "y", "z"});
  CHECK(arithmetic.is_fast);
  REQUIRE(states[0].records.size() == 1);
  CHECK(states[0].records[0].length == 9);
  tables::State state = state_of(1);
  state.merge(states[0].state, "x");
  CHECK(state.counts("n", 1)[0] == 6);
}

TEST_CASE(
    "saved parts: a state of another process is waited for, but no longer than the program is to go on") {
  const test::TemporaryFolder folder;
  SavedParts other(folder.path());
  other.save(state_of(3), PartSet(0, 4), {}, described(1));
  const fs::path there = other.own_state(), aside = folder.path() / "aside";
  const SavedParts parts(folder.path());
  const std::string name = there.filename().string();
  int asked = 0;
  const auto never = [&] { return ++asked < 0; };
  CHECK(parts.read_when_there(name, std::chrono::seconds(0), never).parts.size() == 5);
  CHECK(asked == 0);

  fs::rename(there, aside);
  test::check_error(util::ErrorCode::kInput, {there.string()},
                    [&] { parts.read_when_there(name, std::chrono::seconds(0), never); });
  const auto shows_it = [&] {
    if (++asked == 2) fs::rename(aside, there);
    return false;
  };
  CHECK(parts.read_when_there(name, std::chrono::seconds(300), shows_it).parts.size() == 5);

  fs::rename(there, aside);
  const auto begin = std::chrono::steady_clock::now();
  const auto interrupted = [&] {
    return std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(300);
  };
  test::check_error(util::ErrorCode::kInterrupted, {},
                    [&] { parts.read_when_there(name, std::chrono::seconds(300), interrupted); });
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));  // of a machine that is busy
}

TEST_CASE("saved parts: another process takes over, and only then what it took goes") {
  const test::TemporaryFolder folder;
  SavedParts first(folder.path());
  first.save(state_of(3), PartSet(0, 1), {}, described(1));
  SavedParts second(folder.path());
  second.absorb(second.read());
  CHECK(num_states(folder.path()) == 1);
  second.save(state_of(4), PartSet(0, 2), {}, described(1));
  CHECK(num_states(folder.path()) == 1);
  CHECK(second.read()[0].parts.size() == 3);
  second.remove();
  CHECK_FALSE(fs::exists(folder.path() / "parts"));
}

TEST_CASE("saved parts: what no run has saved is not taken for its own") {
  const test::TemporaryFolder folder;
  SavedParts parts(folder.path());
  parts.save(state_of(3), PartSet(0, 1), {}, described(1));
  folder.write("parts/0123456789abcdef.records", "");
  SavedParts::check_own(folder.path());
  for (const char* own : {"lock", "lock-12", "lock.0123456789abcdef", "0123456789abcdef.state",
                          "0123456789abcdef.state.0123456789abcdef.tmp"})
    folder.write(std::string("parts/") + own, "");
  SavedParts::check_own(folder.path());
  const std::vector<std::string> others = {
      "notes.txt", "lockdown.txt", "lock-a", "bank.statement.txt", "a.records", "0123456789abcdef.state.txt"};
  for (const std::string& name : others) {
    folder.write("parts/" + name, "");
    test::check_error(util::ErrorCode::kOutput, {name}, [&] { SavedParts::check_own(folder.path()); });
    fs::remove(folder.path() / "parts" / name);
  }
  for (const std::string& name : others) folder.write("parts/" + name, "");
  parts.remove();
  for (const std::string& name : others) CHECK(fs::exists(folder.path() / "parts" / name));
  CHECK_FALSE(fs::exists(folder.path() / "parts/0123456789abcdef.records"));
}

TEST_CASE("saved parts: another run's are replaced with the first state that is saved") {
  const test::TemporaryFolder folder;
  SavedParts first(folder.path());
  first.save(state_of(3), PartSet(0, 1), {}, described(1));
  folder.write("parts/0123456789abcdef.records", "");
  folder.write("parts/lock", "");
  SavedParts second(folder.path());
  second.absorb_all();
  CHECK(num_states(folder.path()) == 1);
  second.save(state_of(4), PartSet(0, 0), {}, described(2));
  CHECK(second.paths() == std::vector<fs::path>{second.own_state()});
  CHECK_FALSE(fs::exists(folder.path() / "parts/0123456789abcdef.records"));
  CHECK(fs::exists(folder.path() / "parts/lock"));
}

TEST_CASE("saved parts: a damaged state is refused") {
  const test::TemporaryFolder folder;
  SavedParts parts(folder.path());
  parts.save(state_of(3), PartSet(0, 1), {}, described(1));
  fs::resize_file(parts.own_state(), fs::file_size(parts.own_state()) - 1);
  test::check_error(util::ErrorCode::kFormat, {"damaged", parts.own_state().string()}, [&] { parts.read(); });
}

TEST_CASE("saved parts: a state that does not say what it is of is refused") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "x.state";
  const std::string parts = R"("parts": [[0, 1]], "records": [], "share": {"index": 0, "count": 1})";
  for (const std::string& header :
       {std::string("[]"), "{" + parts + "}", "{" + parts + R"(, "run": {}, "context": 1})"}) {
    INFO(header);
    std::ofstream(file, std::ios::binary) << state_of(3).to_bytes(header);
    test::check_error(util::ErrorCode::kFormat, {"not a saved state of a run", file.string()},
                      [&] { SavedParts::read(file); });
  }
  std::ofstream(file, std::ios::binary)
      << state_of(3).to_bytes("{" + parts + R"(, "run": {}, "context": {}})");
  CHECK(SavedParts::read(file).parts.size() == 2);
}

TEST_CASE("lock: one process at a time; it goes, and so does an empty folder") {
  const test::TemporaryFolder folder;
  {
    const FolderLock lock(folder.path());
    CHECK(fs::exists(folder.path() / "parts" / "lock"));
    test::check_error(util::ErrorCode::kOutput,
                      {"another process is at work", "process " + std::to_string(::getpid())},
                      [&] { const FolderLock other(folder.path()); });
    CHECK(fs::exists(folder.path() / "parts" / "lock"));
  }
  CHECK_FALSE(fs::exists(folder.path() / "parts"));
  const FolderLock again(folder.path());
}

TEST_CASE("lock: what a process of this machine left is taken over") {
  const test::TemporaryFolder folder;
  fs::create_directories(folder.path() / "parts");
  std::array<char, 256> host = {};
  REQUIRE(::gethostname(host.data(), host.size() - 1) == 0);
  for (const std::string& pid : std::vector<std::string>{
           "999999999", std::to_string(::getpid())}) {  // gone; another start of that number
    std::ofstream(folder.path() / "parts" / "lock") << host.data() << "\n" << pid << "\n1\n0123456789abcdef";
    const FolderLock lock(folder.path());
  }
}

TEST_CASE("lock: a file that somebody else has called so is left alone, at once") {
  for (const char* content : {"my notes on locks", "a\nb\nc\nd", "host\n12\n1\nx"}) {
    const test::TemporaryFolder folder;
    fs::create_directories(folder.path() / "parts");
    folder.write("parts/lock", content);
    test::check_error(util::ErrorCode::kOutput, {"no lock of depthlens", "parts/lock"},
                      [&] { const FolderLock lock(folder.path()); });
    CHECK(util::read_file(folder.path() / "parts" / "lock") == content);
  }
}
