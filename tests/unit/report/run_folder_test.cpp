// The run folder: never a mixture of two runs, never half a file; and summary.json, which must read back.
#include "depthlens/report/run_folder.hpp"

#include <filesystem>
#include <limits>
#include <set>
#include <string>

#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using report::RunFolder;
using tables::Cell;
using tables::Table;
using test::check_error;
using test::TemporaryFolder;
using util::ErrorCode;
using util::OrderedJson;
namespace fs = std::filesystem;

namespace {

Table table(const std::string& name, std::int64_t value) {
  Table made{.name = name, .columns = {{"lens"}, {"count", "positions"}}, .rows = {}};
  made.add({std::string("logit"), value});
  return made;
}

OrderedJson described(std::int64_t value) {
  return {{"schema_version", report::kSchemaVersion}, {"value", value}};
}

/// A whole run whose files all tell `value`.
void write_run(const fs::path& path, std::int64_t value, bool overwrite, bool records = true) {
  RunFolder folder(path, overwrite ? RunFolder::Mode::kOverwrite : RunFolder::Mode::kNew);
  if (records) folder.records().write(std::to_string(value) + "\n");
  folder.finish(described(value), {table("flips.changes", value)});
}

std::set<std::string> files_in(const fs::path& path) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), path).string());
  }
  return names;
}

const std::set<std::string> kWholeRun = {"records.jsonl", "run.json", "summary.json",
                                         "tables/flips.changes.csv"};

OrderedJson summary_of(const std::vector<Table>& tables) {
  return OrderedJson::parse(report::summary_json(tables));
}

}  // namespace

TEST_CASE("run folder: it is made with all folders above it, and holds exactly the files of a run") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a" / "b";
  write_run(path, 7, false);
  CHECK(files_in(path) == kWholeRun);
  CHECK(util::read_file(path / "records.jsonl") == "7\n");
  CHECK(util::read_file(path / "tables" / "flips.changes.csv") == "lens,count\nlogit,7\n");
  CHECK(OrderedJson::parse(util::read_file(path / "run.json")) == described(7));
  CHECK(util::read_file(path / "summary.json") == report::summary_json({table("flips.changes", 7)}));
}

TEST_CASE("run folder: without records there is no records.jsonl") {
  const TemporaryFolder folder;
  write_run(folder.path(), 7, false, false);
  CHECK(files_in(folder.path()).count("records.jsonl") == 0);
}

TEST_CASE("run folder: nothing stands under its name until finish") {
  const TemporaryFolder folder;
  {
    RunFolder run(folder.path(), RunFolder::Mode::kNew);
    run.records().write("half a record");
    for (const char* name : {"run.json", "summary.json", "records.jsonl"})
      CHECK_FALSE(fs::exists(folder.path() / name));
  }
  CHECK(files_in(folder.path()).empty());  // given up: no temporary file stays
}

TEST_CASE("run folder: another run is refused, with exit status 6, and stays as it was") {
  const TemporaryFolder folder;
  write_run(folder.path(), 1, false);
  check_error(ErrorCode::kOutput, {"holds another run", "run.json'", "--overwrite"},
              [&] { RunFolder(folder.path(), RunFolder::Mode::kNew); });
  CHECK(files_in(folder.path()) == kWholeRun);
  CHECK(util::read_file(folder.path() / "records.jsonl") == "1\n");
}

TEST_CASE("run folder: parts of a run are refused as well, other files are not") {
  for (const char* name : {"run.json", "summary.json", "records.jsonl", "records.jsonl.zst"}) {
    const TemporaryFolder folder;
    folder.write(name, "{}");
    check_error(ErrorCode::kOutput, {"holds another run", name},
                [&] { RunFolder(folder.path(), RunFolder::Mode::kNew); });
  }
  const TemporaryFolder folder;
  folder.write("notes.txt", "mine");
  write_run(folder.path(), 1, false);
  CHECK(util::read_file(folder.path() / "notes.txt") == "mine");
}

TEST_CASE("run folder: with overwrite the earlier run stays until finish, then nothing of it is left") {
  const TemporaryFolder folder;
  {
    RunFolder old(folder.path(), RunFolder::Mode::kNew);
    old.records().write("1\n");
    old.finish(described(1), {table("flips.changes", 1), table("settling.depth", 1)});
  }
  folder.write("report.html", "a picture of the earlier run");
  folder.write("notes.txt", "mine");
  RunFolder run(folder.path(), RunFolder::Mode::kOverwrite);
  run.records().write("2\n");
  CHECK(util::read_file(folder.path() / "records.jsonl") == "1\n");
  CHECK(OrderedJson::parse(util::read_file(folder.path() / "run.json"))["value"] == 1);
  CHECK(fs::exists(folder.path() / "tables" / "settling.depth.csv"));
  run.finish(described(2), {table("flips.changes", 2)});
  std::set<std::string> expected = kWholeRun;
  expected.insert("notes.txt");
  CHECK(files_in(folder.path()) == expected);  // no table and no report of the earlier run
  CHECK(util::read_file(folder.path() / "records.jsonl") == "2\n");
  CHECK(util::read_file(folder.path() / "tables" / "flips.changes.csv") == "lens,count\nlogit,2\n");
  CHECK(OrderedJson::parse(util::read_file(folder.path() / "run.json"))["value"] == 2);
}

TEST_CASE("run folder: an overwriting run that is given up leaves the earlier one whole") {
  const TemporaryFolder folder;
  write_run(folder.path(), 1, false);
  {
    RunFolder run(folder.path(), RunFolder::Mode::kOverwrite);
    run.records().write("2\n");
  }
  CHECK(files_in(folder.path()) == kWholeRun);
  CHECK(util::read_file(folder.path() / "records.jsonl") == "1\n");
}

TEST_CASE("run folder: an overwriting run that cannot be written leaves the earlier one whole") {
  const TemporaryFolder folder;
  write_run(folder.path(), 1, false);
  fs::create_directory(folder.path() / "report.html");
  RunFolder run(folder.path(), RunFolder::Mode::kOverwrite);
  run.records().write("2\n");
  check_error(ErrorCode::kOutput, {"cannot write", "report.html'"}, [&] {
    run.finish(described(2), {table("settling.depth", 2)}, {{"report.html", "page"}});
  });
  fs::remove(folder.path() / "report.html");
  CHECK(util::read_file(folder.path() / "records.jsonl") == "1\n");
  CHECK(OrderedJson::parse(util::read_file(folder.path() / "run.json"))["value"] == 1);
  CHECK(fs::exists(folder.path() / "tables" / "flips.changes.csv"));
  CHECK_FALSE(fs::exists(folder.path() / "tables" / "settling.depth.csv"));
}

TEST_CASE("run folder: an overwriting run without records leaves none of the earlier run's") {
  const TemporaryFolder folder;
  write_run(folder.path(), 1, false);
  write_run(folder.path(), 2, true, false);
  CHECK(files_in(folder.path()) ==
        std::set<std::string>{"run.json", "summary.json", "tables/flips.changes.csv"});
}

TEST_CASE("run folder: a file of records of the other format goes with the run that it is of") {
  const TemporaryFolder folder;
  write_run(folder.path(), 1, false);
  {
    RunFolder run(folder.path(), RunFolder::Mode::kOverwrite);
    run.records(report::RecordFormat::kJsonlZstd).write("2\n");
    run.finish(described(2), {table("flips.changes", 2)});
  }
  std::set<std::string> expected = kWholeRun;
  expected.erase("records.jsonl");
  expected.insert("records.jsonl.zst");
  CHECK(files_in(folder.path()) == expected);
  write_run(folder.path(), 3, true);
  CHECK(files_in(folder.path()) == kWholeRun);
  CHECK(util::read_file(folder.path() / "records.jsonl") == "3\n");
}

TEST_CASE("run folder: --overwrite replaces a run, and no other file that has the name of one") {
  for (const char* name : {"run.json", "summary.json", "records.jsonl", "records.jsonl.zst", "report.html"}) {
    INFO(name);
    const TemporaryFolder folder;
    folder.write(name, "{\"of\": \"another program\"}");
    check_error(ErrorCode::kOutput, {"no result of depthlens", name},
                [&] { RunFolder(folder.path(), RunFolder::Mode::kOverwrite); });
  }
  const TemporaryFolder others;
  others.write("parts/notes.txt", "");
  others.write("summary.json", "x");
  check_error(ErrorCode::kOutput, {"no result of depthlens", "summary.json"},
              [&] { RunFolder(others.path(), RunFolder::Mode::kOverwrite); });
  const TemporaryFolder begun;
  begun.write("parts/x.state", "");
  begun.write("records.jsonl", "");
  const RunFolder folder(begun.path(), RunFolder::Mode::kOverwrite);
}

TEST_CASE("run folder: a run that cannot be finished holds no run.json") {
  const TemporaryFolder folder;
  RunFolder run(folder.path(), RunFolder::Mode::kNew);
  fs::create_directory(folder.path() / "summary.json");
  folder.write("summary.json/in-the-way", "");
  check_error(ErrorCode::kOutput, {"cannot write", "summary.json'"}, [&] {
    run.finish({{"value", 1}}, {table("flips.changes", 1)});
  });
  CHECK_FALSE(fs::exists(folder.path() / "run.json"));
  for (const std::string& name : files_in(folder.path())) CHECK(name.find(".tmp") == std::string::npos);
}

TEST_CASE("run folder: a path that is a file, or lies below one, is an output error") {
  const TemporaryFolder folder;
  const fs::path file = folder.write("file", "x");
  check_error(ErrorCode::kOutput, {"cannot write", "file'"}, [&] { RunFolder(file, RunFolder::Mode::kNew); });
  check_error(ErrorCode::kOutput, {"cannot write"},
              [&] { RunFolder(file / "below", RunFolder::Mode::kOverwrite); });
  const fs::path taken = folder.path() / "run";
  folder.write("run/tables", "a file of that name");
  check_error(ErrorCode::kOutput, {"tables'"}, [&] { RunFolder(taken, RunFolder::Mode::kNew); });
  CHECK(util::read_file(file) == "x");
}

TEST_CASE("run folder: the same run twice has the same bytes") {
  const TemporaryFolder folder;
  write_run(folder.path() / "a", 5, false);
  write_run(folder.path() / "b", 5, false);
  for (const std::string& name : kWholeRun)
    CHECK(util::read_file(folder.path() / "a" / name) == util::read_file(folder.path() / "b" / name));
}

TEST_CASE("run.json: bytes of a path that are not UTF-8 do not stop the run") {
  const TemporaryFolder folder;
  RunFolder(folder.path(), RunFolder::Mode::kNew).finish({{"path", "caf\xe9"}}, {});
  CHECK(OrderedJson::parse(util::read_file(folder.path() / "run.json"))["path"] == "caf\uFFFD");
}

TEST_CASE("summary.json: columns, units and rows of every table, in order") {
  Table first{.name = "lens.quality",
              .columns = {{"lens"}, {"layer"}, {"kl_final", "nats"}, {"positions", "positions"}},
              .rows = {}};
  first.add({std::string("my \"lens\""), std::int64_t{0}, 0.1 + 0.2, std::int64_t{9007199254740993}});
  first.add({std::string("logit"), std::int64_t{1}, Cell(), std::int64_t{0}});
  const Table empty{.name = "a.b", .columns = {{"x"}}, .rows = {}};
  const OrderedJson summary = summary_of({first, empty});
  CHECK(summary["schema_version"] == 1);
  std::vector<std::string> keys;
  for (const auto& item : summary.items()) keys.push_back(item.key());
  for (const auto& item : summary["tables"].items()) keys.push_back(item.key());
  CHECK(keys == std::vector<std::string>{"schema_version", "tables", "lens.quality", "a.b"});
  const OrderedJson& quality = summary["tables"]["lens.quality"];
  CHECK(quality["columns"] == OrderedJson({"lens", "layer", "kl_final", "positions"}));
  CHECK(quality["units"] == OrderedJson({{"kl_final", "nats"}, {"positions", "positions"}}));
  REQUIRE(quality["rows"].size() == 2);
  CHECK(quality["rows"][0][0] == "my \"lens\"");
  CHECK(quality["rows"][0][2].get<double>() == 0.1 + 0.2);
  CHECK(quality["rows"][0][3].get<std::int64_t>() == 9007199254740993);
  CHECK(quality["rows"][1][2].is_null());
  CHECK(quality["rows"][1][1].is_number_integer());
  CHECK(summary["tables"]["a.b"]["rows"] == OrderedJson::array());
  CHECK(summary["tables"]["a.b"]["units"] == OrderedJson::object());
}

TEST_CASE("summary.json: no tables") {
  CHECK(summary_of({}) == OrderedJson({{"schema_version", 1}, {"tables", OrderedJson::object()}}));
}

TEST_CASE("summary.json and csv agree on a number that does not exist") {
  Table made{.name = "t", .columns = {{"x"}}, .rows = {}};
  made.add({std::numeric_limits<double>::quiet_NaN()});
  made.add({std::numeric_limits<double>::infinity()});
  made.add({Cell()});
  const OrderedJson rows = summary_of({made})["tables"]["t"]["rows"];
  REQUIRE(rows.size() == 3);
  for (const OrderedJson& row : rows) CHECK(row[0].is_null());
  // One field a line, and the field is empty in each.
  CHECK(tables::to_csv(made) == "x\n\n\n\n");
}
