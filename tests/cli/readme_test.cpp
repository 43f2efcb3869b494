// Runs the command lines of README.md as they stand there, in an empty working folder.
#include <sstream>

#include "checks.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

const std::string kStart = "build/bin/depthlens ";

/// Lines of the ```sh blocks that start the program; lines that end in a backslash are joined.
std::vector<std::string> command_lines(const std::string& markdown) {
  std::vector<std::string> lines;
  std::istringstream stream(markdown);
  bool inside = false, goes_on = false;
  for (std::string line; std::getline(stream, line);) {
    if (line.rfind("```", 0) == 0) {
      inside = !inside && line == "```sh";
      goes_on = false;
      continue;
    }
    if (!inside) continue;
    const bool continues = !line.empty() && line.back() == '\\';
    if (continues) line.pop_back();
    if (goes_on) {
      lines.back() += line;
    } else if (line.rfind(kStart, 0) == 0) {
      lines.push_back(line);
    } else {
      continue;
    }
    goes_on = continues;
  }
  return lines;
}

/// Words as a shell splits them. README has double quotes and no other signs that a shell reads.
std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool quoted = false, begun = false;
  for (const char c : line) {
    REQUIRE(std::string("'`$|<>&;*?#").find(c) == std::string::npos);
    if (c == '"') {
      quoted = !quoted;
      begun = true;
    } else if (c == ' ' && !quoted) {
      if (begun) words.push_back(word);
      word.clear();
      begun = false;
    } else {
      word += c;
      begun = true;
    }
  }
  if (begun) words.push_back(word);
  return words;
}

}  // namespace

TEST_CASE("command lines of README.md run as they stand") {
  const fs::path root = DEPTHLENS_SOURCE_DIR;
  const auto lines = command_lines(read_bytes(root / "README.md"));
  CHECK(lines.size() >= 6);

  const TemporaryFolder folder;
  fs::create_directory_symlink(root / "data", folder.path() / "data");
  for (const std::string& line : lines) {
    INFO(line);
    check_done(Start{.arguments = words_of(line.substr(kStart.size())), .folder = folder.path()});
  }
  // What the page says the first run leaves.
  for (const char* name : {"run.json", "records.jsonl", "summary.json", "tables"})
    CHECK(fs::exists(folder.path() / "out/harbour" / name));
  CHECK(fs::exists(folder.path() / "out/counts.json"));
}

TEST_CASE("the table at the head of README.md is what show prints") {
  const std::string page = read_bytes(fs::path(DEPTHLENS_SOURCE_DIR) / "README.md");
  const std::string command = "$ " + kStart + "show \"The capital of France is\"\n";
  const std::size_t begin = page.find(command);
  REQUIRE(begin != std::string::npos);
  const std::size_t start = begin + command.size();
  const std::string shown = page.substr(start, page.find("```", start) - start);
  CHECK(check_done({"show", "The capital of France is"}).out == shown);
}

}  // namespace depthlens::test
