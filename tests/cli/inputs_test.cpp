// What users give as --input and --token-counts: compressed files, pipes, files that change under the run,
// JSON by other names, texts that are none.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <map>
#include <stdexcept>

#include "depthlens/util/files.hpp"
#include "desk.hpp"
#include "support/compressed.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;

/// Windows of 16 tokens, whatever the command that has them.
struct InputDesk : Desk {
  std::string fifo(const std::string& name = "fifo") const {
    const fs::path path = model.beside(name);
    if (::mkfifo(path.c_str(), 0600) != 0) throw std::runtime_error("mkfifo failed");
    return path.string();
  }
  std::vector<std::string> command(const std::string& name, const std::vector<std::string>& inputs,
                                   const std::string& out, const std::vector<std::string>& more = {}) const {
    const std::vector<std::string> windows = {"--max-length", "16"};
    return Desk::command(name, inputs, out, name == "count-tokens" ? more : windows + more);
  }
  FinishedRun analyzed(const std::vector<std::string>& inputs, const std::string& out,
                       const std::vector<std::string>& more = {}) const {
    return Desk::analyzed(inputs, out, std::vector<std::string>{"--max-length", "16"} + more);
  }
  /// analyze and count-tokens must both refuse the input.
  void refused(const std::string& input, int status, const std::vector<std::string>& parts) const {
    for (const std::string command_name : {"analyze", "count-tokens"}) {
      const std::string out = command_name == "analyze" ? "refused" : "refused.json";
      check_error(command(command_name, {input}, out), status, parts);
      check_nothing_written(model.beside(out));
    }
  }
  /// What a run says of its texts: records and tables, byte for byte.
  std::map<std::string, std::string> results(const std::string& out) const {
    std::map<std::string, std::string> files = lasting_files(model.beside(out));
    files.erase("run.json");
    files.erase("report.html");  // names the inputs
    return files;
  }
};

/// The other end of a FIFO, once the program has opened it; -1 where it ends before.
int open_writer(const std::string& fifo, Process& process) {
  while (process.running()) {
    const int writer = ::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (writer >= 0) return writer;
    ::usleep(1000);
  }
  return -1;
}

/// Writes what must fit into the FIFO, and ends it.
void feed(int writer, const std::string& bytes) {
  CHECK(::write(writer, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  ::close(writer);
}

std::vector<std::int64_t> documents_of(const FinishedRun& run) {
  std::vector<std::int64_t> documents;
  for (const Json& record : run.records) {
    const auto document = record.at("document").get<std::int64_t>();
    if (documents.empty() || documents.back() != document) documents.push_back(document);
  }
  return documents;
}

}  // namespace

TEST_CASE("what can be read once gives the run that a file gives") {
  const InputDesk desk;
  const std::string text = small_text(), file = desk.file("text.txt", text);
  for (const std::string command : {"analyze", "eval-lens"}) {
    const std::string whole = command + "-file";
    check_done(desk.command(command, {file}, whole));
    const auto expected = desk.results(whole);
    const std::vector<std::string> inputs =
        command == "analyze" ? std::vector<std::string>{"-", "/dev/stdin", "/dev/fd/0", "fifo"}
                             : std::vector<std::string>{"fifo"};
    for (const std::string& input : inputs) {
      for (const std::string& bytes : {text, xz(text)}) {
        INFO(command << " " << input);
        const std::string out = "out";
        const std::string name = input == "fifo" ? desk.fifo() : input;
        Start start{.arguments = desk.command(command, {name}, out, {"--overwrite"}),
                    .input = input == "fifo" ? "" : bytes,
                    .piped = input != "fifo"};
        Process process(start);
        if (input == "fifo") feed(open_writer(name, process), bytes);
        const Result result = process.wait();
        INFO(result.err);
        REQUIRE(result.status == 0);
        CHECK(desk.results(out) == expected);
        const Json run = read_json(desk.model.beside(out) / "run.json");
        CHECK(run.at("inputs")[0].at("path") == name);
        CHECK(run.at("inputs")[0].at("sha256") == util::sha256(bytes));
        CHECK(run.at("inputs")[0].at("documents") == 3);
        if (input == "fifo") fs::remove(name);
        // Nothing of the copy stays, beside the run folder or in it.
        for (const auto& item : fs::recursive_directory_iterator(desk.model.beside("")))
          CHECK(item.path().filename().string().rfind(".depthlens", 0) != 0);
      }
    }
  }
}

TEST_CASE("count-tokens and task files read pipes") {
  const InputDesk desk;
  const std::string counts = check_done({"count-tokens", "--model", desk.model.path(), "--input",
                                         desk.file("text.txt", small_text())})
                                 .out;
  for (const std::string input : {"-", "/dev/stdin", "/dev/fd/0"}) {
    const Result result =
        check_done(Start{.arguments = {"count-tokens", "--model", desk.model.path(), "--input", input},
                         .input = small_text(),
                         .piped = true});
    CHECK(result.out == counts);
  }
  const std::string facts = R"({"prompt": "the water of the", "answer": "harbour"})";
  const std::vector<std::string> more = {"--experiment", "facts", "--keep", "all"};
  check_done(desk.command("analyze", {desk.file("facts.jsonl", facts)}, "file", more));
  check_done(Start{.arguments = desk.command("analyze", {"/dev/fd/0"}, "pipe", more),
                   .input = zstd(facts),
                   .piped = true});
  CHECK(desk.results("pipe") == desk.results("file"));
  // Which task it is would have to be read first.
  check_error(Start{.arguments = desk.command("analyze", {"/dev/stdin"}, "exit", {"--experiment", "exit"}),
                    .input = facts,
                    .piped = true},
              2, {"a pipe or stdin", "--input /dev/stdin", "hint: "});
}

TEST_CASE("what can be read once is not given twice") {
  const InputDesk desk;
  const std::string fifo = desk.fifo();
  const auto refused = [&](const std::string& command, const std::vector<std::string>& inputs,
                           const std::vector<std::string>& more = {}) {
    for (const bool piped : {true, false}) {
      check_error(
          Start{.arguments = desk.command(command, inputs, "out", more), .input = "text", .piped = piped}, 2,
          {"can be read only once", "--input " + inputs.back()});
      check_nothing_written(desk.model.beside("out"));
    }
  };
  for (const std::string command : {"analyze", "eval-lens", "train-lens"}) {
    refused(command, {"-", "-"});
    refused(command, {"-", "/dev/stdin"});
    refused(command, {"/dev/fd/0", "-"});
  }
  refused("analyze", {fifo, fifo});
  refused("analyze", {"-", "/dev/stdin"}, {"--experiment", "facts"});
  refused("analyze", {fifo, fifo}, {"--experiment", "patching"});
}

TEST_CASE("an input that changes between the two readings ends the run with 3") {
  const InputDesk desk;
  const std::string text = "the tide is low.\n\nthe rain is not.\n", first = desk.file("first.txt", text),
                    fifo = desk.fifo();
  struct Change {
    std::string what;
    std::function<void()> make;
  };
  const std::string other = "the boat is low.\n\nthe rain is not.\n";
  const std::vector<Change> changes = {
      {"overwritten", [&] { write_bytes(first, other); }},
      {"appended to", [&] { write_bytes(first, text + "more.\n"); }},
      {"truncated", [&] { write_bytes(first, "the tide"); }},
      {"emptied", [&] { write_bytes(first, ""); }},
      {"no text any more", [&] { write_bytes(first, std::string(text.size(), '\xff')); }},
      {"removed", [&] { fs::remove(first); }},
      {"replaced", [&] { fs::rename(desk.file("new.txt", other), first); }}};
  for (const std::string command : {"analyze", "eval-lens"}) {
    for (const Change& change : changes) {
      if (command == "eval-lens" && change.what != "overwritten") continue;
      INFO(command << ": " << change.what);
      fs::remove(first);
      write_bytes(first, text);
      // The first reading has passed the first input when it opens the second, and then waits there.
      Process process(Start{.arguments = desk.command(command, {first, fifo}, "out")});
      const int writer = open_writer(fifo, process);
      REQUIRE(writer >= 0);
      change.make();
      feed(writer, "end.\n");
      const Result result = process.wait();
      INFO(result.err);
      CHECK(result.status == 3);
      CHECK(contains(result.err, "depthlens: error: "));
      CHECK(contains(result.err, first));
      check_nothing_written(desk.model.beside("out"));
    }
  }
  // The same bytes again are no change.
  write_bytes(first, text);
  Process process(Start{.arguments = desk.command("analyze", {first, fifo}, "out")});
  const int writer = open_writer(fifo, process);
  REQUIRE(writer >= 0);
  fs::rename(desk.file("new.txt", text), first);
  feed(writer, "end.\n");
  CHECK(process.wait().status == 0);
}

TEST_CASE("Ctrl-C ends a run that waits for a pipe") {
  const InputDesk desk;
  for (const std::string command : {"analyze", "count-tokens", "train-lens"}) {
    INFO(command);
    const std::string fifo = desk.fifo(command), out = command == "count-tokens" ? "out.json" : "out";
    Process process(Start{.arguments = desk.command(command, {fifo}, out)});
    const int writer = open_writer(fifo, process);
    REQUIRE(writer >= 0);
    process.send(SIGINT);
    const Result result = process.wait();
    ::close(writer);
    INFO(result.err);
    CHECK_FALSE(result.timed_out);
    CHECK((result.status == 130 || result.signal == SIGINT));
    check_nothing_written(desk.model.beside(out));
  }
}

TEST_CASE("a pipe that does not fit on the disk ends with 6") {
  const InputDesk desk;
  std::string text;
  while (text.size() < 60'000) text += small_text() + "\n";
  check_error(Start{.arguments = desk.command("analyze", {"-"}, "out"),
                    .input = text,
                    .piped = true,
                    .largest_file = 20'000},
              6, {"temporary copy", "stdin", "hint: "});
  check_nothing_written(desk.model.beside("out"));
}

TEST_CASE("compressed corpora and tables are read by their content") {
  const InputDesk desk;
  const std::string text = small_text(), lines = "{\"text\": \"the tide\"}\n{\"text\": \"the rain\"}\n";
  const std::string counts =
      check_done({"count-tokens", "--model", desk.model.path(), "--input", desk.file("all.txt", text)}).out;
  const std::vector<std::string> with = {"--overwrite", "--token-counts"};
  desk.analyzed({desk.file("text.txt", text), desk.file("lines.jsonl", lines)}, "plain",
                with + std::vector<std::string>{desk.file("counts.json", counts)});
  const std::size_t half = text.size() / 2;
  const std::vector<std::pair<std::string, std::string (*)(std::string_view)>> ways = {
      {".gz", gzip}, {".xz", xz}, {".zst", zstd}};
  for (const auto& [extension, compress] : ways) {
    INFO(extension);
    const std::string packed = compress(text.substr(0, half)) + compress(text.substr(half));
    const FinishedRun run = desk.analyzed(
        {desk.file("text.txt" + extension, packed), desk.file("lines.JSONL" + extension, compress(lines))},
        "packed", with + std::vector<std::string>{desk.file("counts.json" + extension, compress(counts))});
    CHECK(desk.results("packed") == desk.results("plain"));
    CHECK(run.run.at("inputs")[0].at("sha256") == util::sha256(packed));
    CHECK(run.run.at("warnings").empty());
    desk.refused(desk.file("cut.txt" + extension, packed.substr(0, packed.size() - 3)), 3,
                 {"damaged ", "cut.txt" + extension + ", byte ", "an end in the middle"});
  }
}

TEST_CASE("a document has the number of its object, and one without tokens is counted") {
  const InputDesk desk;
  const std::string input =
      desk.file("in.jsonl",
                "{\"text\": \"the tide is low\"}\n{\"text\": \"\"}\n\n{\"text\": \" \"}\n"
                "{\"text\": \"the rain\"}\n{\"text\": \"\"}\n");
  const FinishedRun run = desk.analyzed({input}, "all");
  CHECK(documents_of(run) == std::vector<std::int64_t>{0, 2, 3});
  CHECK(run.run.at("inputs")[0].at("documents") == 5);
  CHECK(run.run.at("counts").at("documents") == 5);
  CHECK(run.run.at("counts").at("dropped") == OrderedJson{{"no_tokens", 2}});
  const Result told = check_done(desk.command("analyze", {input}, "all", {"--overwrite"}));
  CHECK(
      contains(told.err, "info: 3 of 5 documents count: 2 without tokens; see counts.dropped in run.json\n"));
  const FinishedRun three = desk.analyzed({input}, "three", {"--limit", "3"});
  CHECK(documents_of(three) == std::vector<std::int64_t>{0, 2});
  CHECK(three.run.at("inputs")[0].at("documents") == 3);
  CHECK(three.run.at("counts").at("dropped") == OrderedJson{{"no_tokens", 1}});
  check_error(desk.command("analyze", {desk.file("empty.jsonl", "{\"text\": \"\"}\n")}, "empty"), 3,
              {"holds no text"});
}

TEST_CASE("JSON lines are read as such by any of their names, else it is reported and kept in run.json") {
  const InputDesk desk;
  const std::string lines =
      "{\"id\": 0, \"text\": \"the tide is low\"}\n{\"id\": 1, \"text\": \"the rain\"}\n";
  desk.analyzed({desk.file("in.jsonl", lines)}, "jsonl");
  for (const std::string name : {"in.json", "in.ndjson", "IN.JSONL"}) {
    CHECK(desk.analyzed({desk.file(name, lines)}, "other", {"--overwrite"}).run.at("warnings").empty());
    CHECK(desk.results("other") == desk.results("jsonl"));
  }
  desk.analyzed(
      {desk.file("array.json", R"([{"id": 0, "text": "the tide is low"}, {"id": 1, "text": "the rain"}])")},
      "array");
  CHECK(desk.results("array") == desk.results("jsonl"));

  const Result piped =
      check_done(Start{.arguments = desk.command("analyze", {"-"}, "stdin"), .input = lines, .piped = true});
  CHECK(desk.results("stdin") == desk.results("jsonl"));
  CHECK(contains(piped.err, "read as JSON lines"));
  const Json warnings = read_json(desk.model.beside("stdin") / "run.json").at("warnings");
  REQUIRE(warnings.size() == 1);
  CHECK(contains(warnings[0], "read as JSON lines"));

  const FinishedRun text = desk.analyzed({desk.file("in.txt", lines)}, "txt");
  REQUIRE(text.run.at("warnings").size() == 1);
  CHECK(contains(text.run.at("warnings")[0], "in.txt looks like JSON and is read as plain text"));
}

TEST_CASE("bytes that are no UTF-8 text are refused by name") {
  const InputDesk desk;
  std::string wide;
  for (const char c : small_text()) wide += std::string{c, '\0'};
  desk.refused(desk.file("wide.txt", wide), 3, {"not UTF-8", "wide.txt", "UTF-16LE", "hint: ", "iconv"});
  desk.refused(desk.file("marked.txt", "\xff\xfe" + wide), 3, {"byte order mark of UTF-16", "iconv"});
  desk.refused(desk.file("wide.txt.xz", xz(wide)), 3, {"UTF-16LE"});
  desk.refused(desk.file("latin.txt", "caf\xe9\n"), 3, {"latin.txt, line 1, byte 4", "iconv"});
  desk.refused(desk.file("page.txt", "<!DOCTYPE html>\n<p>the tide"), 3, {"an HTML page"});
  desk.refused(desk.file("mac.txt", "the tide\r\rthe rain\r"), 3,
               {"carriage returns alone", "mac.txt", "tr "});
  const std::vector<std::string> facts = {"--experiment", "facts"};
  check_error(desk.command("analyze", {desk.file("wide.jsonl", wide)}, "out", facts), 3,
              {"UTF-16LE", "iconv"});
  check_error(desk.command("analyze", {desk.file("nul.jsonl", std::string("{\"prompt\": \"a\0b\"}", 18))},
                           "out", facts),
              3, {"a NUL byte", "nul.jsonl, byte 14"});
}

TEST_CASE("a frequency table of another tokenizer is refused, a byte order mark is none of its own") {
  const InputDesk desk;
  const std::string text = desk.file("text.txt", small_text()),
                    csv = desk.model.beside("counts.csv").string();
  check_done(desk.command("count-tokens", {text}, "counts.csv"));
  desk.analyzed({text}, "input");
  const auto with = [](const std::string& table) {
    return std::vector<std::string>{"--overwrite", "--token-counts", table};
  };
  CHECK(desk.analyzed({text}, "mark", with(desk.file("mark.csv", "\xEF\xBB\xBF" + read_bytes(csv))))
            .run.at("warnings")
            .empty());
  CHECK(desk.results("mark") == desk.results("input"));
  const std::string other =
      R"({"1": {"token": "!", "count": 5}, "2": {"token": "\"", "count": 4}, "3": {"token": "#", "count": 3}})";
  check_error(desk.command("analyze", {text}, "out", with(desk.file("other.json", other))), 3,
              {"another tokenizer", "other.json", "3 of 3", "hint: ", "count-tokens"});
  check_nothing_written(desk.model.beside("out"));
}

TEST_CASE("a record is one line for readers that end lines as Unicode does") {
  const InputDesk desk;
  OrderedJson tokenizer = small_tokenizer();
  const std::vector<std::string> marks = {"\u2028", "\u2029", "\u0085"};
  int id = 64;
  for (const std::string& mark : marks) {
    OrderedJson added = tokenizer.at("added_tokens")[0];
    added["id"] = id++;
    added["content"] = mark;
    added["special"] = false;
    tokenizer["added_tokens"].push_back(added);
  }
  desk.model.write("tokenizer.json", tokenizer.dump());
  const FinishedRun run = desk.analyzed({desk.file("in.txt", "the\u2028tide\u2029is\u0085low")}, "out");
  std::vector<std::string> texts;
  for (const Json& record : run.records) texts.push_back(record.at("token").at("text").get<std::string>());
  for (const std::string& mark : marks) CHECK(std::count(texts.begin(), texts.end(), mark) == 1);
  const std::string bytes = read_bytes(desk.model.beside("out") / "records.jsonl");
  for (const std::string& mark : marks) CHECK_FALSE(contains(bytes, mark));
}

}  // namespace depthlens::test
