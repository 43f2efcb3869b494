// depthlens report: the page of real runs, and what it says of folders that are none.
#include "checks.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::OrderedJson;

/// A run of the small model with records, made once.
struct Run {
  SmallModel model;
  fs::path folder = model.beside("run");
  Run() { check_done(command(folder)); }
  std::vector<std::string> command(const fs::path& out) const {
    return {"analyze",
            "--model",
            model.path(),
            "--input",
            model.text_file(),
            "--out",
            out.string(),
            "--lens",
            "logit",
            "--lens",
            "tuned:" + model.lens("tuned"),
            "--quiet",
            "--max-length",
            "16"};
  }
  fs::path copy(const std::string& name) const {
    fs::copy(folder, model.beside(name), fs::copy_options::recursive);
    return model.beside(name);
  }
};
const Run& run() {
  static const Run made;
  return made;
}

}  // namespace

TEST_CASE("analyze draws the page that report draws, wherever the folder is") {
  const std::string page = read_bytes(run().folder / "report.html");
  CHECK(contains(page, "<!DOCTYPE html>"));
  CHECK(contains(page, "\"frequency.top1_share\""));
  CHECK(page.size() < 2'000'000);
  const fs::path copy = run().copy("elsewhere");
  fs::remove(copy / "report.html");
  const Result result = check_done({"report", copy.string()});
  CHECK(result.out.empty());
  CHECK(contains(result.err, (copy / "report.html").string()));
  CHECK(read_bytes(copy / "report.html") == page);
  const fs::path other = run().model.beside("pages/new/page.html");
  CHECK(check_done({"report", copy.string(), "--out", other.string(), "--quiet"}).err.empty());
  CHECK(read_bytes(other) == page);
}

TEST_CASE("analyze --report no leaves no page") {
  const fs::path out = run().model.beside("bare");
  check_done(run().command(out) + std::vector<std::string>{"--report", "no"});
  CHECK_FALSE(fs::exists(out / "report.html"));
  CHECK(fs::exists(out / "run.json"));
}

TEST_CASE("report takes runs without records, and runs of eval-lens") {
  const fs::path bare = run().copy("tables-only");
  fs::remove(bare / "records.jsonl");
  check_done({"report", bare.string()});
  CHECK(contains(read_bytes(bare / "report.html"), "\"records\":null"));
  const fs::path lenses = run().model.beside("lenses");
  check_done({"eval-lens", "--model", run().model.path(), "--input", run().model.text_file(), "--out",
              lenses.string(), "--lens", "tuned:" + run().model.lens("tuned"), "--transfer", "--quiet"});
  check_done({"report", lenses.string()});
  CHECK(contains(read_bytes(lenses / "report.html"), "\"lens.transfer\""));
}

TEST_CASE("report --compare puts several runs into one page") {
  const fs::path copy = run().copy("second");
  const fs::path out = run().model.beside("both.html");
  check_done({"report", "--compare", run().folder.string(), copy.string(), "--out", out.string()});
  const std::string page = read_bytes(out);
  CHECK(contains(page, "{\"name\":\"run\","));
  CHECK(contains(page, "{\"name\":\"second\","));
  check_done(
      {"report", "--out", out.string(), "--compare", run().folder.string(), "--compare", copy.string()});
  CHECK(read_bytes(out) == page);
}

TEST_CASE("report tells what it needs") {
  const std::string folder = run().folder.string();
  check_error({"report"}, 2, {"no run folder", "hint: depthlens report RUN"});
  check_error({"report", "--compare", folder, "--out", "page.html"}, 2, {"--compare", "two run folders"});
  check_error({"report", "--compare", folder, "other"}, 2, {"--out"});
  check_error({"report", "--compare", folder, folder + "/.", "--out", "page.html"}, 2,
              {"the same run twice", folder});
  check_error({"report", folder, "--compare", folder, "--compare", folder}, 2, {folder, "--compare"});
  check_error({"report", folder, "--out", "/proc/page.html"}, 6, {"/proc/page.html"});
}

TEST_CASE("report --document, --window and --max-size choose what the page holds") {
  const std::string folder = run().folder.string(), out = run().model.beside("chosen.html").string();
  const auto size = [&](const std::vector<std::string>& flags) {
    check_done(std::vector<std::string>{"report", folder, "--out", out, "--quiet"} + flags);
    return read_bytes(out).size();
  };
  const std::size_t all = size({});
  CHECK(size({"--document", "0", "--window", "0"}) < all);
  CHECK(contains(read_bytes(out), "\"flags\":\"--document 0 --window 0\""));
  const std::string small = std::to_string((all - 1000) / 1000) + "kB";
  CHECK(size({"--max-size", small}) < all);
  CHECK(size({"--max-size", "5 MB"}) == all);
  check_error({"report", folder, "--document", "99"}, 2, {"no such document", "--document '99'"});
  check_error({"report", folder, "--window", "99"}, 2, {"no such window", "--window '99'"});
  for (const char* bad : {"big", "0", "-1", "5GB", "500MB", ""}) {
    check_error({"report", folder, "--max-size", bad}, 2, {"--max-size"});
  }
  check_error({"report", "--compare", folder, "other", "--out", out, "--document", "0"}, 2,
              {"--document", "--compare"});
  const fs::path bare = run().copy("no-records");
  fs::remove(bare / "records.jsonl");
  check_error({"report", bare.string(), "--document", "0"}, 3, {"no records", "records.jsonl"});
}

TEST_CASE("report tells what is wrong with a folder") {
  check_error({"report", "/missing"}, 3, {"no such run folder", "/missing"});
  check_error({"report", run().model.path()}, 3, {"no finished run", run().model.path(), "run.json"});
  const auto damaged = [&](const std::string& name, const std::string& bytes, int status,
                           const std::vector<std::string>& parts) {
    const fs::path copy = run().copy("damaged");
    fs::remove(copy / "report.html");
    bytes.empty() ? static_cast<void>(fs::remove(copy / name)) : write_bytes(copy / name, bytes);
    check_error({"report", copy.string()}, status, parts);
    check_error(
        {"report", "--compare", run().folder.string(), copy.string(), "--out", (copy / "page.html").string()},
        status, parts);
    CHECK_FALSE(fs::exists(copy / "report.html"));
    fs::remove_all(copy);
  };
  const auto text = [&](const std::string& name) { return read_bytes(run().folder / name); };
  damaged("run.json", "", 3, {"no finished run"});
  damaged("run.json", text("run.json").substr(0, 200), 4, {"run.json", "not valid JSON"});
  damaged("run.json", "{\"schema_version\": 1}", 4, {"run.json", "model"});
  damaged("run.json", "\xff\xfe", 4, {"run.json"});
  damaged("summary.json", "", 3, {"summary.json"});
  damaged("summary.json", text("summary.json").substr(0, 900), 4, {"summary.json", "not valid JSON"});
  damaged("summary.json", R"({"schema_version": 1, "tables": {"a": {"columns": ["b"], "rows": [[1, 2]]}}})",
          4, {"summary.json: tables: a: rows[0]", "a row of 1 cells"});
}

TEST_CASE("report tells where records are damaged") {
  const std::string records = read_bytes(run().folder / "records.jsonl");
  const auto damaged = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    const fs::path copy = run().copy("records");
    write_bytes(copy / "records.jsonl", bytes);
    check_error({"report", copy.string()}, 4, parts);
    fs::remove_all(copy);
  };
  const std::size_t first = records.find('\n') + 1;
  damaged(records.substr(0, first + 100), {"records.jsonl line 2", "not valid JSON"});
  damaged(records.substr(0, first), {"records are missing", "found 1"});
  damaged("\n" + records, {"records.jsonl line 1"});
  damaged(records.substr(0, first) + "{}\n", {"records.jsonl line 2", "missing key"});
}

TEST_CASE("report survives any damage to its files") {
  const fs::path copy = run().copy("fuzzed");
  unsigned state = 12345;
  const auto random = [&](std::size_t below) {
    state = state * 1664525U + 1013904223U;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  for (const std::string name : {"run.json", "summary.json", "records.jsonl"}) {
    const std::string whole = read_bytes(copy / name);
    for (int i = 0; i < 12; ++i) {
      std::string bytes = whole;
      for (int n = 0; n < 3; ++n)
        bytes[random(std::min<std::size_t>(bytes.size(), 4000))] = static_cast<char>(random(256));
      write_bytes(copy / name, bytes);
      const Result result = run_program({"report", copy.string(), "--quiet"});
      INFO(name << " " << i << "\n" << result.err);
      CHECK((result.status == 0 || result.status == 3 || result.status == 4));
    }
    write_bytes(copy / name, whole);
  }
}

}  // namespace depthlens::test
