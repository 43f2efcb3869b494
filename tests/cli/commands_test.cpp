// show, count-tokens and info, and what every command has.
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>

#include "checks.hpp"
#include "depthlens/util/csv.hpp"
#include "depthlens/util/text.hpp"
#include "support/compressed.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;

const std::vector<std::string> kCommands = {"analyze",   "show",         "train-lens",
                                            "eval-lens", "convert-lens", "count-tokens",
                                            "report",    "info",         "download"};
const std::string kEscape = "\x1b[";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

/// Columns of a line whose characters are one column wide.
std::size_t width_of(const std::string& line) {
  std::size_t columns = 0;
  for (const char c : line) columns += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return columns;
}

std::size_t widest(const std::string& text) {
  std::size_t most = 0;
  for (const std::string& line : lines_of(text)) most = std::max(most, width_of(line));
  return most;
}

/// One small model for all tests that only read it.
const SmallModel& model() {
  static const SmallModel shared;
  return shared;
}

std::vector<std::string> show(const std::vector<std::string>& more = {}) {
  return std::vector<std::string>{"show", "the boat of the men", "--model", model().path()} + more;
}

}  // namespace

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("threads that wait soon let go of their cores, unless the user says otherwise") {
  const auto spin_count = [](std::map<std::string, std::string> environment) {
    environment["OMP_DISPLAY_ENV"] = "verbose";
    const Result result =
        run_program(Start{.arguments = {"--version"}, .environment = std::move(environment)});
    CHECK(result.status == 0);
    const std::string name = "GOMP_SPINCOUNT = '";
    const std::size_t begin = result.err.find(name);
    REQUIRE(begin != std::string::npos);
    return std::atoll(result.err.c_str() + begin + name.size());
  };
  CHECK(spin_count({{"GOMP_SPINCOUNT", "7"}}) == 7);
  CHECK(spin_count({{"OMP_WAIT_POLICY", "active"}}) > 2000);
  CHECK(spin_count({}) == 2000);
}
#endif

TEST_CASE("every command has help with a worked example, on stdout") {
  const Result all = check_done({"--help"});
  for (const std::string& command : kCommands) {
    INFO(command);
    CHECK(contains(all.out, "  " + command + " "));
    const Result help = check_done({command, "--help"});
    CHECK(help.err.empty());
    CHECK(contains(help.out, "Example:\n  depthlens " + command));
    for (const char* flag : {"--help", "--quiet", "--verbose", "--threads", "--seed", "--config"})
      CHECK(contains(help.out, flag));
    CHECK(check_done({command, "-h"}).out == help.out);
  }
  const std::string analyze = check_done({"analyze", "--help"}).out;
  for (const char* flag : {"--model",        "--dtype",   "--device",    "--lens",       "--lens-alignment",
                           "--max-length",   "--add-bos", "--input",     "--experiment", "--out",
                           "--overwrite",    "--top-k",   "--positions", "--records",    "--max-records",
                           "--token-counts", "--buckets", "--decode",    "--limit",      "--report"})
    CHECK(contains(analyze, flag));
}

TEST_CASE("--version names the program and a number") {
  const Result result = check_done({"--version"});
  CHECK(result.out.rfind("depthlens ", 0) == 0);
  CHECK(contains(result.out, "."));
  CHECK(lines_of(result.out).size() == 1);
}

TEST_CASE("show prints the table of layers and tokens without colour into a pipe") {
  const Result result = check_done(show());
  CHECK_FALSE(contains(result.out, "\x1b"));
  const auto lines = lines_of(result.out);
  REQUIRE(lines.size() > 5);
  CHECK(contains(lines[0], "logit"));
  CHECK(contains(lines[0], "the"));
  CHECK(contains(lines[1], "0↓"));
  CHECK(contains(lines[1], "1↓"));
  for (int layer = 0; layer <= 3; ++layer) CHECK(lines[2 + layer].rfind(std::to_string(layer) + " ", 0) == 0);
  CHECK(contains(lines[2], "."));  // a probability
  CHECK(widest(result.out) <= 100);
}

TEST_CASE("show heeds NO_COLOR, CLICOLOR_FORCE, TERM and --color") {
  const auto colored = [&](std::map<std::string, std::string> environment, bool terminal,
                           const std::vector<std::string>& more) {
    return contains(
        check_done(
            Start{.arguments = show(more), .environment = std::move(environment), .terminal = terminal})
            .out,
        kEscape);
  };
  CHECK_FALSE(colored({{"NO_COLOR", "1"}}, false, {}));
  CHECK(colored({{"CLICOLOR_FORCE", "1"}}, false, {}));
  CHECK_FALSE(colored({{"CLICOLOR_FORCE", "0"}}, false, {}));
  CHECK(colored({}, true, {}));
  CHECK_FALSE(colored({{"NO_COLOR", "1"}}, true, {}));
  CHECK_FALSE(colored({{"TERM", "dumb"}}, true, {}));
  CHECK_FALSE(colored({}, true, {"--color", "never"}));
  CHECK(colored({}, false, {"--color", "always"}));
}

TEST_CASE("show uses the colours that the terminal has, at the terminal's width") {
  const auto shown = [&](std::map<std::string, std::string> environment) {
    return check_done(Start{.arguments = show(), .environment = std::move(environment), .terminal = true})
        .out;
  };
  const std::string full = shown({{"COLORTERM", "truecolor"}}), some = shown({}),
                    styles = shown({{"TERM", "vt100"}});
  CHECK(contains(full, ";48;2;"));
  CHECK(contains(some, ";48;5;"));
  CHECK_FALSE(contains(some, ";48;2;"));
  CHECK(contains(styles, kEscape + "1m"));
  CHECK_FALSE(contains(styles, "48;"));
  CHECK(contains(full, "bold:"));
}

TEST_CASE("show --value tells the numbers that --json holds") {
  const std::vector<std::string> lens = {"--lens", "logit", "--lens", "tuned:" + model().lens("tuned")};
  const Json positions =
      Json::parse(check_done(show(lens + std::vector<std::string>{"--json"})).out).at("positions");
  for (const std::string value : {"probability", "rank", "target-rank", "entropy", "kl"}) {
    INFO(value);
    const auto lines =
        lines_of(check_done(show(lens + std::vector<std::string>{"--value", value, "--width", "1000"})).out);
    // Both lenses in the same lines: label, cells, label, cells. A cell is a token and a number; a rank
    // stands alone, below a line of the tokens that are ranked.
    const bool ranks = contains(value, "rank");
    const std::size_t a_cell = ranks ? 1 : 2;
    CHECK((lines[2].rfind("rank of ", 0) == 0) == ranks);
    for (std::size_t layer = 0; layer < 4; ++layer) {
      std::vector<std::string> words;
      for (const std::string& word : util::split(lines[(ranks ? 3 : 2) + layer], ' '))
        if (!word.empty()) words.push_back(word);
      const std::size_t panel = 1 + a_cell * positions.size();
      REQUIRE(words.size() == 2 * panel);
      for (std::size_t n = 0; n < 2; ++n) {
        for (std::size_t t = 0; t < positions.size(); ++t) {
          const Json& cell = positions[t].at("lenses").at(n == 0 ? "logit" : "tuned")[layer];
          const std::string& word = words[n * panel + a_cell * (1 + t)];
          if (value == "target-rank" && t + 1 == positions.size()) {
            CHECK(word == "-");  // nothing follows
            CHECK(cell.at("target_rank").is_null());
            CHECK(cell.at("target_logprob").is_null());
            continue;
          }
          const double shown = std::stod(word);
          if (value == "target-rank") {
            CHECK(shown == cell.at("target_rank").get<double>());
          } else if (value == "rank") {
            CHECK(shown == cell.at("final_rank").get<double>());
          } else if (value == "probability") {
            CHECK(shown == Approx(std::exp(cell.at("top")[0].at("logprob").get<double>())).margin(0.0051));
          } else {
            const double exact = cell.at(value == "kl" ? "kl_final" : "entropy").get<double>();
            CHECK(shown == Approx(exact).margin(exact < 9.995 ? 0.0051 : 0.051));  // two decimals or one
          }
        }
      }
    }
  }
}

TEST_CASE("show --json is ASCII, and its numbers are the shortest that read back") {
  const Result result = check_done({"show", "naïve \u009b\x1b[31m \u202e 中", "--json", "--top-k", "3"});
  for (const char c : result.out) {
    if (static_cast<unsigned char>(c) < 0x20 ? c != '\n' : static_cast<unsigned char>(c) >= 0x7f)
      FAIL("not ASCII");
  }
  std::size_t numbers = 0;
  for (const char* key : {"entropy", "kl_final", "final_logprob", "logprob"}) {
    const std::string start = std::string("\"") + key + "\": ";
    for (std::size_t i = result.out.find(start); i != std::string::npos; i = result.out.find(start, i + 1)) {
      const std::size_t begin = i + start.size(), end = result.out.find_first_of(",}", begin);
      const std::string digits = result.out.substr(begin, end - begin);
      std::array<char, 24> buffer;
      const auto written =
          std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::strtof(digits.c_str(), nullptr));
      if (digits != std::string(buffer.data(), written.ptr)) FAIL_CHECK(digits);
      ++numbers;
    }
  }
  CHECK(numbers > 100);
  const Json shown = Json::parse(result.out);
  CHECK(shown.at("text") == "naïve \u009b\x1b[31m \u202e 中");
  for (const Json& position : shown.at("positions")) {
    for (const Json& layer : position.at("lenses").at("logit")) {
      CHECK(layer.at("final_logprob") <= layer.at("top")[0].at("logprob"));
      if (layer.at("final_rank") == 1) CHECK(layer.at("final_logprob") == layer.at("top")[0].at("logprob"));
    }
  }
  const Result table = check_done({"show", "naïve \u009b\x1b[31m \u202e 中"});
  for (const char* raw : {"\u009b", "\x1b", "\u202e"}) CHECK_FALSE(contains(table.out, raw));
}

TEST_CASE("show takes its text before and after the flags") {
  const std::string expected = check_done(show()).out;
  const std::string path = model().path(), text = "the boat of the men";
  CHECK(check_done({"show", "--model", path, "--lens", "logit", text}).out == expected);
  CHECK(check_done({"show", "--model", path, "--", text}).out == expected);
}

TEST_CASE("show breaks the table to the width") {
  CHECK(widest(check_done(show({"--width", "40"})).out) <= 40);
  CHECK(widest(check_done(Start{.arguments = show(), .environment = {{"COLUMNS", "50"}}}).out) <= 50);
  CHECK(widest(check_done(show({"--width", "20"})).out) <= 20);
  const std::string wide = check_done(show({"--width", "300"})).out;
  CHECK(widest(wide) > 40);
  CHECK(lines_of(wide).size() < lines_of(check_done(show({"--width", "40"})).out).size());
}

TEST_CASE("show --json holds what the table holds") {
  const Result result = check_done(show({"--json", "--top-k", "67", "--lens", "logit", "--lens",
                                         "a=tuned:" + model().lens("tuned"), "--add-bos", "yes"}));
  const Json shown = Json::parse(result.out);
  CHECK(shown.size() == 4);
  CHECK(shown.at("model").at("architecture") == "GPT2LMHeadModel");
  CHECK(shown.at("lenses")[1].at("name") == "a");
  CHECK(shown.at("text") == "the boat of the men");
  const Json& positions = shown.at("positions");
  REQUIRE(positions.size() > 4);
  CHECK(positions[0].at("token").at("id") == 0);
  std::string text;
  for (std::size_t t = 0; t < positions.size(); ++t) {
    const Json& position = positions[t];
    CHECK(position.at("position") == t);
    if (t > 0) text += position.at("token").at("text").get<std::string>();
    if (t + 1 < positions.size()) {
      CHECK(position.at("target") == positions[t + 1].at("token"));
    } else {
      CHECK(position.at("target").is_null());
    }
    REQUIRE(position.at("lenses").size() == 2);
    for (const char* lens : {"logit", "a"}) {
      const Json& layers = position.at("lenses").at(lens);
      REQUIRE(layers.size() == 4);
      for (const Json& layer : layers) {
        REQUIRE(layer.at("top").size() == 67);
        double sum = 0;
        std::size_t rank = 0, target_rank = 0;
        for (std::size_t k = 0; k < 67; ++k) {
          sum += std::exp(layer.at("top")[k].at("logprob").get<double>());
          if (layer.at("top")[k].at("id") == position.at("final").at("id")) rank = k + 1;
          if (!position.at("target").is_null() &&
              layer.at("top")[k].at("id") == position.at("target").at("id")) {
            target_rank = k + 1;
            CHECK(layer.at("target_logprob") == layer.at("top")[k].at("logprob"));
          }
        }
        if (target_rank > 0) CHECK(layer.at("target_rank").get<std::size_t>() <= target_rank);
        CHECK(sum == Approx(1).margin(1e-4));
        CHECK(layer.at("final_rank").get<std::size_t>() <= rank);
        CHECK(layer.at("entropy") >= 0);
        CHECK(layer.at("kl_final") >= 0);
      }
      CHECK(layers.back().at("top")[0].at("id") == position.at("final").at("id"));
      CHECK(layers.back().at("kl_final") == 0);
    }
  }
  CHECK(text == "the boat of the men");
}

TEST_CASE("show reads stdin, keeps control characters from the terminal, and cuts what is too long") {
  const Result piped =
      check_done(Start{.arguments = {"show", "--model", model().path()}, .input = "the boat of the men\n"});
  CHECK(piped.out == check_done(show()).out);
  const Result two_lines =
      check_done(Start{.arguments = {"show", "--model", model().path()}, .input = "a boat\na tide\n"});
  CHECK(contains(two_lines.out, "⏎"));
  // As files are read: without a byte order mark, decompressed; what is no text is refused.
  const auto of_input = [](const std::string& input) {
    return Start{.arguments = {"show", "--model", model().path()}, .input = input};
  };
  const std::string text = "the boat of the men\r\n";
  CHECK(check_done(of_input("\xEF\xBB\xBF" + text)).out == piped.out);
  CHECK(check_done(of_input(gzip(text))).out == piped.out);
  CHECK(contains(check_done(of_input("a boat\r\na tide")).err, "carriage returns"));
  check_error(of_input(std::string("t\0h\0e\0", 6)), 3, {"UTF-16LE"});
  check_error(of_input("\xff"), 3, {"not UTF-8"});
  const Result escape = check_done({"show", "a \x1b[31m red\ttext"});
  CHECK_FALSE(contains(escape.out, "\x1b"));
  const Result cut =
      check_done({"show", small_text(), "--model", model().path(), "--max-length", "4", "--json"});
  CHECK(contains(cut.err, "--max-length"));
  CHECK(Json::parse(cut.out).at("positions").size() == 4);
}

/// Fits into a window of the small model.
const std::string kLine = "a boat came in on the";

/// The positions of `show --json`.
Json positions_of(const std::vector<std::string>& more, const SmallModel& of = model()) {
  return Json::parse(check_done(std::vector<std::string>{"show", kLine, "--model", of.path(), "--json",
                                                         "--lens", "logit"} +
                                more)
                         .out)
      .at("positions");
}

/// Products of other sizes round otherwise.
void check_alike(const Json& part, const Json& whole) {
  CHECK(part.at("token") == whole.at("token"));
  CHECK(part.at("final") == whole.at("final"));
  const Json &a = part.at("lenses").at("logit"), &b = whole.at("lenses").at("logit");
  REQUIRE(a.size() == b.size());
  for (std::size_t layer = 0; layer < a.size(); ++layer) {
    CHECK(a[layer].at("final_rank") == b[layer].at("final_rank"));
    for (const char* number : {"final_logprob", "entropy", "kl_final"})
      CHECK(a[layer].at(number).get<double>() == Approx(b[layer].at(number).get<double>()).margin(1e-4));
  }
}

TEST_CASE("show gives a model whose angles go by the length of the window what comes after, too") {
  const SmallModel model("llama-dynamic");  // angles of windows of 6 tokens at the most are as trained
  const std::vector<std::string> windows = {"--max-length", "12"};
  const Json all = positions_of(windows, model);
  REQUIRE(all.size() >= 9);
  const Json part = positions_of(windows + std::vector<std::string>{"--positions", "2-4"}, model);
  REQUIRE(part.size() == 3);
  for (std::size_t i = 0; i < part.size(); ++i) check_alike(part[i], all[2 + i]);
}

TEST_CASE("show shows the positions asked for, as the whole table has them") {
  const Json all = positions_of({});
  const std::size_t length = all.size();
  REQUIRE(length > 10);
  const auto check_part = [&](const Json& part, std::size_t first, std::size_t last) {
    REQUIRE(part.size() == last + 1 - first);
    for (std::size_t i = 0; i < part.size(); ++i) {
      CHECK(part[i].at("position") == first + i);
      CHECK(part[i].at("target") == all[first + i].at("target"));
      check_alike(part[i], all[first + i]);
    }
  };
  check_part(positions_of({"--last", "3"}), length - 3, length - 1);
  check_part(positions_of({"--last", "100000"}), 0, length - 1);
  check_part(positions_of({"--positions", "2-5"}), 2, 5);
  check_part(positions_of({"--positions", "7"}), 7, 7);
  const Result table = check_done(show({"--last", "2"}));
  const std::size_t n = Json::parse(check_done(show({"--json"})).out).at("positions").size();
  CHECK(contains(lines_of(table.out)[1], util::cat(n - 2, "↓")));
  CHECK_FALSE(contains(lines_of(table.out)[1], util::cat(n - 3, "↓")));

  check_error(show({"--positions", util::cat(n)}), 2, {"--positions", util::cat("from 0 to ", n - 1)});
  for (const std::string odd : {"5-2", "a", "1-", "1-2-3", "1,2", "0-1x"})
    check_error(show({"--positions", odd}), 2, {"--positions", "A-B", "'" + odd + "'"});
  check_error(show({"--last", "0"}), 2, {"--last"});
  check_error(show({"--last", "2", "--positions", "1"}), 2, {"--last", "--positions", "contradict"});
}

TEST_CASE("show follows tokens through the layers at the last position, or at those asked for") {
  const Json all = positions_of({"--top-k", "67"});
  const std::string a = all[1].at("token").at("text"), b = all[2].at("token").at("text");
  const std::string id_of_a = util::cat("#", all[1].at("token").at("id").get<int>()),
                    id_of_b = util::cat("#", all[2].at("token").at("id").get<int>());
  REQUIRE(a != b);
  const auto logprob = [&](std::size_t t, std::size_t layer, const Json& id) {
    for (const Json& one : all[t].at("lenses").at("logit")[layer].at("top"))
      if (one.at("id") == id) return one.at("logprob").get<double>();
    return 0.0;
  };
  const auto check_watched = [&](const Json& position) {
    const auto t = position.at("position").get<std::size_t>();
    for (std::size_t layer = 0; layer < 4; ++layer) {
      const Json& cell = position.at("lenses").at("logit")[layer];
      REQUIRE(cell.at("watched").size() == 2);
      CHECK(cell.at("watched")[0].at("text") == a);
      CHECK(cell.at("watched")[0].at("id") == all[1].at("token").at("id"));
      const double of_a = cell.at("watched")[0].at("logprob"), of_b = cell.at("watched")[1].at("logprob");
      CHECK(of_a == Approx(logprob(t, layer, all[1].at("token").at("id"))).margin(1e-4));
      CHECK(of_b == Approx(logprob(t, layer, all[2].at("token").at("id"))).margin(1e-4));
      std::int64_t above = 0;
      for (const Json& one : all[t].at("lenses").at("logit")[layer].at("top"))
        above += one.at("logprob").get<double>() > of_a + 1e-4 ? 1 : 0;
      CHECK(cell.at("watched")[0].at("rank") == above + 1);
      CHECK(cell.at("differences")[0].at("difference").get<double>() == Approx(of_a - of_b).margin(1e-5));
    }
  };
  const std::vector<std::string> watch = {"--watch-pair", id_of_a + "," + id_of_b};
  const Json last = positions_of(watch);
  check_watched(last.back());
  CHECK_FALSE(last[0].at("lenses").at("logit")[0].contains("watched"));
  const Json chosen = positions_of(watch + std::vector<std::string>{"--positions", "3-4"});
  REQUIRE(chosen.size() == 2);
  check_watched(chosen[0]);
  check_watched(chosen[1]);
  // The token that follows: there is none at the end.
  const Json target = positions_of({"--watch", "#target", "--last", "2"});
  for (std::size_t layer = 0; layer < 4; ++layer) {
    const Json &cell = target[0].at("lenses").at("logit")[layer],
               &end = target[1].at("lenses").at("logit")[layer];
    CHECK(cell.at("watched")[0].at("rank") == cell.at("target_rank"));
    CHECK(cell.at("watched")[0].at("id") == target[0].at("target").at("id"));
    CHECK(end.at("watched")[0].at("rank").is_null());
  }
  const Result table = check_done(show({"--watch", id_of_a}));
  CHECK(contains(table.out, "\nWatched after "));
  CHECK(contains(table.out, "   rank    log p"));
  check_error(show({"--watch", "#distractor"}), 2, {"a text has no distractor", "--watch"});
  check_error(show({"--watch", "#100000"}), 2, {"no such token", "--watch"});
  check_error(show({"--watch", "the boat of"}), 2, {"not one token"});
}

TEST_CASE("show gives the positions of a long text as much context as a window holds") {
  const auto shown = [](const std::string& text, const std::vector<std::string>& more) {
    return check_done(std::vector<std::string>{"show", text, "--model", model().path(), "--json", "--lens",
                                               "logit", "--add-bos", "yes"} +
                      more);
  };
  const Json all = Json::parse(shown(kLine, {}).out).at("positions");
  const std::size_t length = all.size();
  REQUIRE(length > 10);
  // Six tokens a window, BOS included: the last is predicted from it and the four before.
  const Result last = shown(kLine, {"--last", "2", "--max-length", "6"});
  CHECK(contains(last.err, util::cat("from token ", length - 5, " on")));
  const Json positions = Json::parse(last.out).at("positions");
  REQUIRE(positions.size() == 2);
  CHECK(positions[1].at("position") == length - 1);
  CHECK(positions[0].at("position") == length - 2);
  CHECK(positions[0].at("target") == all[length - 1].at("token"));
  CHECK(positions[1].at("token") == all[length - 1].at("token"));
  std::string end;
  for (std::size_t t = length - 5; t < length; ++t) end += all[t].at("token").at("text").get<std::string>();
  const Json alone = Json::parse(shown(end, {}).out).at("positions");
  REQUIRE(alone.size() == 6);
  check_alike(positions[1], alone[5]);
  // A position within the first window has its whole context, and its target, which the window cuts off.
  const Json middle =
      Json::parse(shown(kLine, {"--positions", "5", "--max-length", "6"}).out).at("positions");
  check_alike(middle[0], all[5]);
  CHECK(middle[0].at("target") == all[6].at("token"));
  // More than a window: all that fits of the end, none of a range.
  const Result full = shown(kLine, {"--last", "9", "--max-length", "6"});
  CHECK(contains(full.err, "the last 5 tokens are shown"));
  CHECK(Json::parse(full.out).at("positions").size() == 5);
  check_error({"show", kLine, "--model", model().path(), "--add-bos", "yes", "--max-length", "6",
               "--positions", "3-9"},
              2, {"--positions", "at most 5 tokens", "7 tokens"});
}

TEST_CASE("count-tokens orders by count, then by id, and its ratios sum to 1") {
  SmallModel here;
  const std::string text = here.text_file();
  const std::vector<std::string> command = {"count-tokens", "--model", here.path(), "--input", text};
  const Result printed = check_done(command);
  const OrderedJson table = OrderedJson::parse(printed.out);
  REQUIRE(table.size() > 10);
  double sum = 0;
  std::int64_t total = 0;
  std::pair<std::int64_t, std::int64_t> before = {-1'000'000, -1};
  for (const auto& item : table.items()) {
    const OrderedJson& entry = item.value();
    CHECK(entry.size() == 3);
    CHECK(entry.at("token").is_string());
    const std::pair<std::int64_t, std::int64_t> place = {-entry.at("count").get<std::int64_t>(),
                                                         std::stoll(item.key())};
    CHECK(before < place);
    CHECK(place.first < 0);
    CHECK(place.second != 0);  // BOS is not counted
    before = place;
    total -= place.first;
    sum += entry.at("ratio").get<double>();
  }
  CHECK(sum == Approx(1).margin(1e-9));
  for (const auto& item : table.items()) {
    CHECK(item.value().at("ratio").get<double>() ==
          Approx(item.value().at("count").get<double>() / static_cast<double>(total)));
  }

  const std::string json = here.beside("new/folder/counts.json").string(),
                    csv = here.beside("counts.csv").string();
  const Result written = check_done(command + std::vector<std::string>{"--out", json});
  CHECK(written.out.empty());
  CHECK(contains(written.err, json));
  CHECK(read_bytes(json) == printed.out);
  check_done(command + std::vector<std::string>{"--out", csv});
  const auto lines = util::parse_csv(read_bytes(csv), csv);
  REQUIRE(lines.size() == table.size() + 1);
  CHECK(lines[0] == std::vector<std::string>{"id", "token", "count", "ratio"});
  std::size_t row = 1;
  for (const auto& item : table.items()) {
    const OrderedJson& entry = item.value();
    CHECK(lines[row++] == std::vector<std::string>{item.key(), entry.at("token").get<std::string>(),
                                                   entry.at("count").dump(), entry.at("ratio").dump()});
  }
  CHECK(contains(read_bytes(csv), ",\",\","));
  // The same corpus in two halves counts the same; --limit takes the first documents only.
  check_done(command + std::vector<std::string>{"--input", text, "--out", json});
  std::int64_t twice = 0;
  const Json doubled = read_json(json);
  for (const auto& item : doubled.items()) twice += item.value().at("count").get<std::int64_t>();
  CHECK(twice == 2 * total);
  CHECK(check_done(command + std::vector<std::string>{"--limit", "1"}).out.size() < printed.out.size());
  CHECK(check_done(Start{.arguments = {"count-tokens", "--model", here.path(), "--input", "-"},
                         .input = small_text()})
            .out == printed.out);
}

TEST_CASE("info describes models, lenses and runs") {
  const Json demo = Json::parse(check_done({"info", "--json"}).out);
  CHECK(demo.at("kind") == "model");
  CHECK(demo.at("layers") == 12);
  CHECK(demo.at("tokenizer").at("kind") == "SentencePiece");
  CHECK(demo.at("tokenizer").at("adds_bos") == true);

  const Result lines = check_done({"info", model().path()});
  CHECK(contains(lines.out, "kind"));
  CHECK(contains(lines.out, "GPT2LMHeadModel"));
  CHECK(contains(lines.out, "tokenizer.size"));
  CHECK(lines.err.empty());
  const Json described = Json::parse(check_done({"info", model().path(), "--json"}).out);
  CHECK(described.at("hidden_size") == 16);
  CHECK(described.at("vocab_size") == 67);
  CHECK(described.at("tied_unembedding") == true);
  CHECK(described.at("stored_types").at("Float") == described.at("parameters_stored"));
  CHECK_FALSE(described.contains("attention_windows"));
  CHECK(described.at("tokenizer").at("bos") == Json({{"id", 0}, {"text", "<s>"}}));

  for (const std::string& subject :
       {model().lens("tuned"), "tuned:" + model().lens("tuned"), model().lens("tuned.safetensors"),
        model().lens("jacobian.pt"), "jacobian:" + model().lens("jacobian.pt")}) {
    INFO(subject);
    const Json lens = Json::parse(check_done({"info", subject, "--json"}).out);
    CHECK(lens.at("kind") == "lens");
    CHECK(lens.at("tensors") > 0);
  }

  SmallModel here;
  const std::string out = here.beside("out").string();
  check_done(
      {"analyze", "--model", here.path(), "--input", here.text_file(), "--out", out, "--records", "none"});
  const Json run = Json::parse(check_done({"info", out, "--json"}).out);
  CHECK(run.at("kind") == "run");
  CHECK(run.at("status") == "complete");
  CHECK(run.at("counts") == read_json(here.beside("out/run.json")).at("counts"));
  CHECK(contains(check_done({"info", out}).out, "model.architecture"));
}

TEST_CASE("what the weights decide and what is beside them is shown and kept") {
  SmallModel here("qwen2-window");
  const auto info = [&] { return Json::parse(check_done({"info", here.path(), "--json"}).out); };
  CHECK(info().at("attention_windows") == Json({0, 4}));
  CHECK(info().at("max_positions") == 32);
  CHECK(info().at("tied_unembedding") == false);
  here.configure({{"tie_word_embeddings", true}});
  here.write("adapter_config.json", "{}");
  CHECK(info().at("tied_unembedding") == false);

  // Texts longer than the window are one window of tokens, and warnings go into run.json.
  const std::string out = here.beside("out").string();
  check_done({"analyze", "--model", here.path(), "--input", here.text_file(), "--out", out, "--max-length",
              "32", "--records", "none"});
  const Json run = read_json(here.beside("out/run.json"));
  CHECK(run.at("settings").at("max_length") == 32);
  const std::string warnings = run.at("warnings").dump();
  for (const std::string part :
       {"lm_head.weight differs from model.embed_tokens.weight", "adapter_config.json"}) {
    INFO(warnings);
    CHECK(contains(warnings, part));
  }
}

TEST_CASE("--quiet leaves stderr empty, --verbose does not leave less") {
  SmallModel here;
  const std::vector<std::string> command = {
      "analyze", "--model",       here.path(), "--input",     here.text_file(), "--max-length",
      "16",      "--max-records", "3",         "--overwrite", "--out",          here.beside("out").string()};
  const std::string plain = check_done(command).err;
  CHECK_FALSE(plain.empty());
  for (const char* flag : {"--quiet", "-q"})
    CHECK(check_done(command + std::vector<std::string>{flag}).err.empty());
  CHECK(lines_of(check_done(command + std::vector<std::string>{"--verbose"}).err).size() >=
        lines_of(plain).size());
  CHECK(check_done({"count-tokens", "--model", here.path(), "--input", here.text_file(), "--quiet", "--out",
                    here.beside("counts.csv").string()})
            .err.empty());
  // An error is reported even so.
  check_error({"count-tokens", "--input", "missing.txt", "--quiet"}, 3, {"missing.txt"});
}

TEST_CASE("--config gives flags, and a flag given by hand wins") {
  SmallModel here;
  const auto run = [&](const std::string& config, const std::vector<std::string>& by_hand) {
    write_bytes(here.beside("config.toml"), config);
    check_done(std::vector<std::string>{"analyze", "--config", here.beside("config.toml").string(), "--out",
                                        here.beside("out").string(), "--overwrite"} +
               by_hand);
    return read_json(here.beside("out/run.json"));
  };
  const std::string paths = "# a comment\nmodel = \"" + here.path() + "\"\ninput = [\"" +
                            here.text_file("a.txt") + "\", \"" + here.text_file("b.txt") + "\"]\n";
  const std::string settings = paths +
                               "top-k = 3\nmax-length = 8\nadd-bos = \"yes\"\nquiet = true\nseed = 7\n" +
                               "buckets = \"2,5\"\nlens = [\"logit\", \"second=logit\"]\n";
  const Json from_file = run(settings, {});
  CHECK(from_file.at("settings").at("top_k") == 3);
  CHECK(from_file.at("settings").at("max_length") == 8);
  CHECK(from_file.at("settings").at("add_bos") == true);
  CHECK(from_file.at("settings").at("seed") == 7);
  CHECK(from_file.at("settings").at("buckets") == Json({2, 5}));
  CHECK(from_file.at("inputs").size() == 2);
  CHECK(from_file.at("lenses")[1].at("name") == "second");

  const Json by_hand = run(settings, {"--top-k", "4", "--max-length=9", "--input", here.text_file("c.txt")});
  CHECK(by_hand.at("settings").at("top_k") == 4);
  CHECK(by_hand.at("settings").at("max_length") == 9);
  CHECK(by_hand.at("settings").at("seed") == 7);
  REQUIRE(by_hand.at("inputs").size() == 1);
  CHECK(by_hand.at("inputs")[0].at("path") == here.beside("c.txt").string());

  const std::string config = here.beside("config.toml").string();
  const auto refused = [&](const std::string& text, int status, const std::vector<std::string>& parts) {
    write_bytes(config, text);
    check_error({"analyze", "--config", config, "--out", here.beside("refused").string()}, status, parts);
    check_nothing_written(here.beside("refused"));
  };
  refused(paths + "top_k = 3\n", 2, {"unknown key 'top_k'", config, "top-k"});
  refused(paths + "resum = true\n", 2, {"unknown key 'resum'", config});
  refused(paths + "config = \"other.toml\"\n", 2, {"unknown key 'config'"});
  refused(paths + "[section]\ntop-k = 3\n", 2, {config});
  refused(paths + "top-k = \"many\"\n", 2, {"top-k", "many"});
  refused(paths + "top-k = 0\n", 2, {"top-k"});
  refused(paths + "top-k\n", 2, {});
  check_error({"show", "text", "--config", here.beside("missing.toml").string()}, 3, {"missing.toml"});
  check_error({"show", "text", "--config", here.beside("").string()}, 3, {"a folder"});
  check_error({"show", "text", "--config"}, 2, {"--config"});
}

TEST_CASE("results that stdout does not take are an error") {
  for (const auto& command : {show(),
                              show({"--json"}),
                              std::vector<std::string>{"info", model().path()},
                              {"--help"},
                              {"--version"},
                              {"analyze", "--help"}})
    check_error(Start{.arguments = command, .output = "/dev/full"}, 6, {"stdout"});
  SmallModel here;
  check_error(Start{.arguments = {"count-tokens", "--model", here.path(), "--input", here.text_file()},
                    .output = "/dev/full"},
              6, {"stdout"});
}

}  // namespace depthlens::test
