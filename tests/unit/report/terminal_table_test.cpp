// The table of `show`: exact lines, colours that can be told apart and read, and widths that hold.
#include "depthlens/report/terminal_table.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <regex>

#include "depthlens/text/display.hpp"
#include "depthlens/util/text.hpp"
#include "support/catch.hpp"

namespace depthlens::report {
namespace {

using Cell = TerminalTable::Cell;

const std::string kEscape = "\033";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines = util::split(text, '\n');
  CHECK(lines.back().empty());
  lines.pop_back();
  return lines;
}

std::string without_escapes(const std::string& text) {
  static const std::regex sequence("\033\\[[0-9;]*m");
  return std::regex_replace(text, sequence, "");
}

std::int64_t widest(const std::string& drawn) {
  std::int64_t most = 0;
  for (const std::string& line : lines_of(without_escapes(drawn)))
    most = std::max(most, text::display_width(line));
  return most;
}

/// Two tokens, layers 0 and 1; the second layer is the model's answer.
TerminalTable small_table(CellValue value, std::vector<double> numbers) {
  const bool ranks = value == CellValue::kRank || value == CellValue::kTargetRank;
  return {.tokens = {"<s>", " the"},
          .positions = {0, 1},
          .ranked = ranks ? std::vector<std::string>{" boat", ""} : std::vector<std::string>{},
          .panels = {{"logit",
                      {{{" a", numbers[0], false}, {" boat", numbers[1], true}},
                       {{"s", numbers[2], false}, {" tide", numbers[3], true}}}}},
          .value = value,
          .vocab_size = 1000};
}

/// `columns` tokens of five letters, three layers, lenses by name.
TerminalTable wide_table(std::size_t columns, const std::vector<std::string>& names) {
  TerminalTable table;
  for (std::size_t t = 0; t < columns; ++t) {
    table.tokens.push_back(util::cat("tok", t + 10));
    table.positions.push_back(static_cast<std::int64_t>(t) + 10);
    table.ranked.push_back(util::cat("ranked", t));
  }
  for (const std::string& name : names)
    table.panels.push_back({name, std::vector(columns, std::vector<Cell>(3, {" word", 0.5, false}))});
  return table;
}

TEST_CASE("without colour the numbers stand behind the tokens") {
  const auto lines = lines_of(
      draw_terminal_table(small_table(CellValue::kProbability, {0.004, 0.25, 0.994, 0.9951}), {.width = 60}));
  REQUIRE(lines.size() == 8);
  CHECK(lines[0] == "logit <s>        ·the");
  CHECK(lines[1] == "      0↓         1↓");
  CHECK(lines[2] == "0     ·a     .00 s      .99");
  CHECK(lines[3] == "1     ·boat  .25 ·tide  1.0");
  CHECK(lines[4].empty());
  CHECK(lines[5] == "Columns: the text's tokens and their positions; rows:");
  CHECK(lines[6] == "layers, from the embeddings (0) to the model's own output;");
  CHECK(lines[7] == "numbers: probability of the top-1.");
}

/// What stands behind the token in each row of a table of one token.
std::vector<std::string> numbers_shown(CellValue value, const std::vector<double>& numbers) {
  TerminalTable table = {.tokens = {"x"},
                         .positions = {0},
                         .ranked = {"y"},
                         .panels = {{"logit", {{}}}},
                         .value = value,
                         .vocab_size = 1000};
  const std::size_t first = value == CellValue::kRank ? 3 : 2;
  for (const double number : numbers) table.panels[0].cells[0].push_back({"x", number, false});
  const auto lines = lines_of(draw_terminal_table(table, {}));
  std::vector<std::string> found;
  for (std::size_t row = 0; row < numbers.size(); ++row) {
    const std::string& line = lines[first + row];
    found.push_back(line.substr(line.rfind(' ') + 1));
    CHECK(line.size() == lines[first].size());  // aligned at the right
  }
  return found;
}

TEST_CASE("numbers are short and rounded") {
  using Texts = std::vector<std::string>;
  CHECK(numbers_shown(CellValue::kProbability, {0, 0.005001, 0.994, 0.996, 1}) ==
        Texts{".00", ".01", ".99", "1.0", "1.0"});
  CHECK(numbers_shown(CellValue::kRank, {1, 42, 9999, 12345, 151936, 999600}) ==
        Texts{"1", "42", "9999", "12k", "152k", "1M"});
  CHECK(numbers_shown(CellValue::kEntropy, {0, -1e-9, 1.234, 9.996, 12.34}) ==
        Texts{"0.00", "0.00", "1.23", "10.0", "12.3"});
  CHECK(numbers_shown(CellValue::kKl, {0.5, 123.4, std::numeric_limits<double>::quiet_NaN(), INFINITY}) ==
        Texts{"0.50", "123", "-", "-"});
}

TEST_CASE("every scale is bright where the layer is sure or near") {
  CHECK(place_on_scale(CellValue::kProbability, 0.3, 1000) == Approx(0.3));
  CHECK(place_on_scale(CellValue::kRank, 1, 1000) == 1);
  CHECK(place_on_scale(CellValue::kRank, 10, 1000) == Approx(2.0 / 3));
  CHECK(place_on_scale(CellValue::kRank, 1000, 1000) == Approx(0).margin(1e-12));
  CHECK(place_on_scale(CellValue::kEntropy, 0, 1000) == 1);
  CHECK(place_on_scale(CellValue::kEntropy, std::log(1000) / 4, 1000) == Approx(0.75));
  CHECK(place_on_scale(CellValue::kEntropy, 8, 1000) == 0);  // beyond by rounding at most
  CHECK(place_on_scale(CellValue::kKl, 0, 1000) == 1);
  CHECK(place_on_scale(CellValue::kKl, std::sqrt(17) - 1, 1000) == Approx(0.5));
  CHECK(place_on_scale(CellValue::kKl, 40, 1000) == 0);
  CHECK(place_on_scale(CellValue::kKl, -1e-7, 1000) == 1);
  CHECK(place_on_scale(CellValue::kRank, 1, 1) == 1);
  CHECK(std::isnan(place_on_scale(CellValue::kKl, INFINITY, 1000)));
}

TEST_CASE("in true colour a cell is viridis at its value, bold where it is the answer") {
  const std::string drawn = draw_terminal_table(small_table(CellValue::kProbability, {0, 1, 1, 0}),
                                                {.colours = TerminalColours::kTrue});
  const auto lines = lines_of(drawn);
  CHECK(lines[2] ==
        "0    \033[38;2;255;255;255;48;2;68;1;84m ·a   \033[0m\033[38;2;0;0;0;48;2;253;231;37m s    \033[0m");
  CHECK(lines[3] ==
        "1    \033[1;38;2;0;0;0;48;2;253;231;37m ·boat\033[0m\033[1;38;2;255;255;255;48;2;68;1;84m "
        "·tide\033[0m");
  CHECK(without_escapes(lines[5]) == "probability of the top-1  0    0.2  0.4  0.6  0.8  1   ");
  CHECK(lines[5].find("\033[38;2;0;0;0;48;2;253;231;37m 1   ") != std::string::npos);
  const std::string numbered = draw_terminal_table(small_table(CellValue::kRank, {2, 1, 700, 1}),
                                                   {.colours = TerminalColours::kTrue, .numbers = true});
  CHECK(without_escapes(lines_of(numbered)[3]) == "0          2   700");
  CHECK(without_escapes(lines_of(numbered)[6]) == "rank of the model's answer  1000 100  10   1   ");
  TerminalTable large = small_table(CellValue::kRank, {1, 1, 1, 1});
  large.vocab_size = 151936;
  const std::string ranks = draw_terminal_table(large, {.colours = TerminalColours::kTrue});
  CHECK(without_escapes(lines_of(ranks)[6]) ==
        "rank of the model's answer  152k 100k 10k  1000 100  10   1   ");
}

TEST_CASE("a rank stands alone below the token that it is the rank of, with and without colour") {
  for (const TerminalColours colours : {TerminalColours::kNone, TerminalColours::kTrue}) {
    const std::string drawn =
        draw_terminal_table(small_table(CellValue::kTargetRank, {2, 1, NAN, NAN}), {.colours = colours});
    const auto lines = lines_of(without_escapes(drawn));
    CHECK(lines[0] == "logit   <s>   ·the");
    CHECK(lines[1] == "        0↓    1↓");
    CHECK(lines[2] == "rank of ·boat -");
    CHECK(util::trimmed(lines[3]) == "0          2     -");
    CHECK(util::trimmed(lines[4]) == "1          1     -");
    CHECK(drawn.find("tide") == std::string::npos);  // the layer's own top-1
    CHECK(drawn.find("rank of the token that really follows") != std::string::npos);
  }
  // Bold is rank 1, not what the layer itself says.
  const std::string styled =
      draw_terminal_table(small_table(CellValue::kRank, {1, 2, 3, 4}), {.colours = TerminalColours::kStyles});
  CHECK(lines_of(styled)[3].find("\033[1m   1") != std::string::npos);
  CHECK(lines_of(styled)[4].find("\033[1m") == std::string::npos);
}

TEST_CASE("with 256 colours only those of fixed meaning are used") {
  TerminalTable table = small_table(CellValue::kProbability, {0, 0, 0, 0});
  std::map<int, int> seen;
  for (double value = 0; value <= 1; value += 0.01) {
    table.panels[0].cells[0][0].value = value;
    const std::string line = lines_of(draw_terminal_table(table, {.colours = TerminalColours::k256}))[2];
    std::smatch found;
    REQUIRE(std::regex_search(line, found, std::regex("\033\\[38;5;(16|231);48;5;([0-9]+)m ·a")));
    const int background = std::stoi(found[2]);
    CHECK(background >= 16);
    CHECK(background < 256);
    ++seen[background];
    if (value < 0.2) CHECK(found[1] == "231");
    if (value > 0.6) CHECK(found[1] == "16");
  }
  CHECK(seen.size() >= 8);  // steps that can be told apart
}

TEST_CASE("styles are bold for the answer and dim for the dark end, with numbers") {
  const auto lines = lines_of(draw_terminal_table(
      small_table(CellValue::kProbability, {0.05, 0.02, 0.5, 0.9}), {.colours = TerminalColours::kStyles}));
  CHECK(lines[2] == "0     \033[2m·a     .05\033[0m s      .50");
  CHECK(lines[3] == "1     \033[1m·boat  .02\033[0m \033[1m·tide  .90\033[0m");
}

TEST_CASE("a value that is no number leaves the cell uncoloured") {
  const auto lines = lines_of(
      draw_terminal_table(small_table(CellValue::kKl, {NAN, 0, 0, 0}), {.colours = TerminalColours::kTrue}));
  CHECK(lines[2].rfind("0     ·a   \033[", 0) == 0);
}

TEST_CASE("lenses stand side by side where all columns fit, else below each other, blocks together") {
  // A panel is 5 + 3 × (1 + 5 + 5) = 38 columns, two with the gap between them 79.
  const TerminalTable table = wide_table(3, {"logit", "tuned"});
  const auto beside = lines_of(draw_terminal_table(table, {.width = 79}));
  CHECK(beside[0] == "logit tok10      tok11      tok12        tuned tok10      tok11      tok12");
  CHECK(beside[4] == "2     ·word  .50 ·word  .50 ·word  .50   2     ·word  .50 ·word  .50 ·word  .50");
  CHECK(beside[5].empty());
  const auto below = lines_of(draw_terminal_table(table, {.width = 78}));
  CHECK(below[0] == "logit tok10      tok11      tok12");
  CHECK(below[6] == "tuned tok10      tok11      tok12");
  const auto broken = lines_of(draw_terminal_table(table, {.width = 37}));
  CHECK(broken[0] == "logit tok10      tok11");
  CHECK(broken[6] == "tuned tok10      tok11");
  CHECK(broken[12] == "logit tok12");
  CHECK(broken[18] == "tuned tok12");
  // Three lenses where two fit.
  const auto three = lines_of(draw_terminal_table(wide_table(3, {"a", "b", "c"}), {.width = 79}));
  CHECK(three[0] == "a     tok10      tok11      tok12        b     tok10      tok11      tok12");
  CHECK(three[6] == "c     tok10      tok11      tok12");
}

TEST_CASE("watched tokens: rank and log-probability by layer, and what is between two") {
  WatchTable table = {
      .position = 12,
      .token = " is",
      .tokens = {" Paris", "#target"},
      .pairs = {" Paris−#target"},
      .panels = {{"logit", {{{7339, -12.3456}, {1, -0.0004}}, {{0, NAN}, {123456, -20}}}, {{NAN, 19.9996}}}}};
  CHECK(draw_watch_table(table, {.width = 60}) ==
        "Watched after ·is, position 12\n"
        "logit     ·Paris            #target           ·Paris−#target\n"
        "             rank    log p     rank    log p  difference\n"
        "0            7339  -12.346        -        -           -\n"
        "1               1   -0.000   123456  -20.000     +20.000\n"
        "\n");
  // Columns that do not fit come below, each with its layers.
  const auto narrow = lines_of(draw_watch_table(table, {.width = 44}));
  CHECK(narrow[1] == "logit     ·Paris            #target");
  CHECK(narrow[6] == "logit     ·Paris−#target");
  CHECK(widest(draw_watch_table(table, {.width = 44})) <= 44);
  table.tokens[0] = std::string(100, 'x') + "\x1b[2J";
  CHECK(widest(draw_watch_table(table, {.width = 44})) <= 44);
  CHECK(draw_watch_table(table, {.width = 44}).find('\x1b') == std::string::npos);
}

TEST_CASE("no line is wider than asked for, whatever the tokens are") {
  TerminalTable table = wide_table(9, {"logit", "a lens with a very long name", "三つ目"});
  table.tokens[1] = "中文中文中文中文中文中文";
  table.tokens[2] = "e\u0301e\u0301e\u0301";
  table.tokens[3] = "\x1b[2J\x9b";
  table.positions[4] = 123456789;
  table.ranked[5] = "中文中文中文中文中文中文";
  table.panels[1].cells[4][1].text = std::string(500, 'x');
  table.panels[2].cells[5][2].text = "😀😀😀😀😀😀😀😀😀";
  table.panels[0].cells[6][0].text = "\xe4\xb8";
  for (const auto colours :
       {TerminalColours::kNone, TerminalColours::kStyles, TerminalColours::k256, TerminalColours::kTrue}) {
    for (const auto value :
         {CellValue::kProbability, CellValue::kRank, CellValue::kEntropy, CellValue::kKl}) {
      table.value = value;
      for (std::int64_t width = 20; width < 400; width += width < 60 ? 1 : 37) {
        for (const bool numbers : {false, true}) {
          const std::string drawn =
              draw_terminal_table(table, {.colours = colours, .width = width, .numbers = numbers});
          INFO(width << "\n" << drawn);
          CHECK(widest(drawn) <= width);
          CHECK(without_escapes(drawn).find(kEscape) == std::string::npos);
          CHECK(util::is_valid_utf8(drawn));
          if (colours == TerminalColours::kNone) CHECK(drawn.find(kEscape) == std::string::npos);
        }
      }
    }
  }
  draw_terminal_table(table, {.width = 1});  // too narrow for anything, but no harm
}

TEST_CASE("rows of a coloured table are equally wide, so that the picture has straight edges") {
  TerminalTable table = wide_table(4, {"logit"});
  table.panels[0].cells[1][1].text = "中文字";
  table.panels[0].cells[2][2].text = "e\u0301";
  const auto lines =
      lines_of(without_escapes(draw_terminal_table(table, {.colours = TerminalColours::kTrue})));
  for (const std::size_t row : {3, 4})
    CHECK(text::display_width(lines[row]) == text::display_width(lines[2]));
}

TEST_CASE("the environment decides on colours, and the flag over it") {
  const auto colours = [](const char* requested, bool is_terminal,
                          std::map<std::string, std::string> variables) {
    return terminal_colours(requested, is_terminal, [&](const char* name) { return variables[name]; });
  };
  using enum TerminalColours;
  CHECK(colours("auto", true, {{"TERM", "xterm-256color"}, {"COLORTERM", "truecolor"}}) == kTrue);
  CHECK(colours("auto", true, {{"TERM", "xterm"}, {"COLORTERM", "24bit"}}) == kTrue);
  CHECK(colours("auto", true, {{"TERM", "xterm-direct"}}) == kTrue);
  CHECK(colours("auto", true, {{"TERM", "xterm-256color"}}) == k256);
  CHECK(colours("auto", true, {{"TERM", "screen-256color"}, {"COLORTERM", "1"}}) == k256);
  CHECK(colours("auto", true, {{"TERM", "vt100"}}) == kStyles);
  CHECK(colours("auto", true, {{"TERM", "dumb"}, {"COLORTERM", "truecolor"}}) == kNone);
  CHECK(colours("auto", true, {}) == kNone);
  CHECK(colours("auto", false, {{"TERM", "xterm"}, {"COLORTERM", "truecolor"}}) == kNone);
  CHECK(colours("auto", true, {{"TERM", "xterm-256color"}, {"NO_COLOR", "1"}}) == kNone);
  CHECK(colours("auto", true, {{"TERM", "xterm-256color"}, {"NO_COLOR", ""}}) == k256);
  CHECK(colours("auto", false, {{"TERM", "xterm-256color"}, {"CLICOLOR_FORCE", "1"}}) == k256);
  CHECK(colours("auto", false, {{"TERM", "xterm-256color"}, {"CLICOLOR_FORCE", "0"}}) == kNone);
  CHECK(colours("always", false, {{"NO_COLOR", "1"}, {"COLORTERM", "truecolor"}}) == kTrue);
  CHECK(colours("always", false, {}) == k256);
  CHECK(colours("always", false, {{"TERM", "dumb"}}) == k256);
  CHECK(colours("always", false, {{"TERM", "vt100"}}) == kStyles);
  CHECK(colours("never", true, {{"TERM", "xterm-256color"}, {"CLICOLOR_FORCE", "1"}}) == kNone);
}

}  // namespace
}  // namespace depthlens::report
