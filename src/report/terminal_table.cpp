// Lays out and colours the table of `show`. Widths are fixed before anything is drawn: a cell knows its
// columns, and escape sequences take none.
#include "depthlens/report/terminal_table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "colour_ramp.hpp"
#include "depthlens/text/display.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

using text::display_width;
using text::fitted;
using text::printable;

constexpr double kGreatestKl = 16;   // the dark end of its scale, nats
constexpr double kFaint = 0.1;       // where styles are all there is, places below this are dim
constexpr std::int64_t kGap = 3;     // between panels
constexpr std::int64_t kNumber = 4;  // columns of a number

constexpr const char* kRankOf = "rank of";
constexpr const char* kReset = "\033[0m";

struct Colour {
  int red, green, blue;
};

Colour rounded(const Rgb& colour) {
  const auto whole = [](double part) { return static_cast<int>(std::lround(part)); };
  return {whole(colour.r), whole(colour.g), whole(colour.b)};
}

/// Relative luminance as WCAG 2 defines it, 0 to 1.
double luminance(const Colour& colour) {
  const auto linear = [](int part) {
    const double value = part / 255.0;
    return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
}

/// Whether black stands out from `background` more than white does; the better one's contrast is at
/// least 4.5.
bool wants_black_text(const Colour& background) {
  const double light = luminance(background);
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05);
}

/// The colour that number 16 to 255 of the 256 stands for: a cube of 6 × 6 × 6, then 24 greys. The first 16
/// are the user's to choose.
Colour palette_colour(int number) {
  if (number >= 232) {
    const int grey = 8 + 10 * (number - 232);
    return {grey, grey, grey};
  }
  const auto level = [](int step) { return step == 0 ? 0 : 55 + 40 * step; };
  const int place = number - 16;
  return {level(place / 36), level(place / 6 % 6), level(place % 6)};
}

int nearest_of_palette(const Colour& colour) {
  const auto distance = [&](int number) {
    const Colour other = palette_colour(number);
    const int red = colour.red - other.red, green = colour.green - other.green,
              blue = colour.blue - other.blue;
    return red * red + green * green + blue * blue;
  };
  int best = 16;
  for (int number = 17; number < 256; ++number) {
    if (distance(number) < distance(best)) best = number;
  }
  return best;
}

bool has_backgrounds(TerminalColours colours) {
  return colours == TerminalColours::k256 || colours == TerminalColours::kTrue;
}

/// Escape sequences of a cell around its text.
class Painter {
 public:
  explicit Painter(TerminalColours colours) : colours_(colours) {}

  /// `text` as a cell whose value stands at `place` of the scale.
  std::string cell(const std::string& text, double place, bool is_answer) const {
    std::string codes = is_answer ? "1" : "";
    const auto add = [&](const std::string& code) { codes += (codes.empty() ? "" : ";") + code; };
    if (std::isfinite(place)) {
      if (has_backgrounds(colours_)) {
        add(background(viridis(place)));
      } else if (place < kFaint && !is_answer) {
        add("2");
      }
    }
    return styled(text, codes);
  }
  std::string bold(const std::string& text) const { return styled(text, "1"); }
  std::string dim(const std::string& text) const { return styled(text, "2"); }

 private:
  std::string styled(const std::string& text, const std::string& codes) const {
    if (colours_ == TerminalColours::kNone || codes.empty()) return text;
    return "\033[" + codes + "m" + text + kReset;
  }

  /// With the text in black or white, whichever can be read better.
  std::string background(const Rgb& exact) const {
    const Colour colour = rounded(exact);
    if (colours_ == TerminalColours::k256) {
      const int number = nearest_of_palette(colour);
      return util::cat("38;5;", wants_black_text(palette_colour(number)) ? 16 : 231, ";48;5;", number);
    }
    return util::cat("38;2;", wants_black_text(colour) ? "0;0;0" : "255;255;255", ";48;2;", colour.red, ';',
                     colour.green, ';', colour.blue);
  }

  TerminalColours colours_;
};

/// Whether the number is of one token a column, not of each cell's own.
bool is_rank(CellValue value) {
  return value == CellValue::kRank || value == CellValue::kTargetRank;
}

std::string formatted(const char* format, double number) {
  std::array<char, 32> buffer;
  std::snprintf(buffer.data(), buffer.size(), format, number);
  return buffer.data();
}

/// The number in at most kNumber columns.
std::string short_number(CellValue value, double number) {
  if (!std::isfinite(number)) return "-";
  if (value == CellValue::kProbability) {
    const std::string text = formatted("%.2f", number);
    return text[0] == '0' ? text.substr(1) : "1.0";
  }
  number = std::max(0.0, number);  // rounding may leave a divergence just below
  if (is_rank(value)) {
    if (number < 9999.5) return formatted("%.0f", number);
    return number < 999.5e3 ? formatted("%.0fk", number / 1e3) : formatted("%.0fM", number / 1e6);
  }
  if (number < 9.995) return formatted("%.2f", number);
  return formatted(number < 99.95 ? "%.1f" : "%.0f", number);
}

/// What the scale's colours and the numbers mean.
struct ScaleText {
  std::string title;
  std::vector<double> marks;  // from dark to bright
};

ScaleText scale_text(CellValue value, std::int64_t vocab_size) {
  const auto V = static_cast<double>(vocab_size);
  switch (value) {
    case CellValue::kProbability:
      return {"probability of the top-1", {0, 0.2, 0.4, 0.6, 0.8, 1}};
    case CellValue::kRank:
    case CellValue::kTargetRank: {
      std::vector<double> marks;
      for (double mark = 1; mark < V; mark *= 10) marks.insert(marks.begin(), mark);
      marks.insert(marks.begin(), V);
      return {
          value == CellValue::kRank ? "rank of the model's answer" : "rank of the token that really follows",
          marks};
    }
    case CellValue::kEntropy: {
      std::vector<double> marks;
      for (double mark = 0; mark <= std::log(V); mark += 2) marks.insert(marks.begin(), mark);
      return {"entropy in nats", marks};
    }
    case CellValue::kKl:
      return {"KL(final ‖ layer) in nats", {kGreatestKl, 8, 4, 2, 1, 0.5, 0}};
  }
  DEPTHLENS_ASSERT(false);
}

/// Everything ready to be drawn, with its columns.
class Drawing {
 public:
  Drawing(const TerminalTable& table, const TerminalStyle& style)
      : table_(table),
        style_(style),
        painter_(style.colours),
        ranks_(is_rank(table.value)),
        numbers_(ranks_ || style.numbers || !has_backgrounds(style.colours)) {
    std::int64_t longest = ranks_ ? display_width(kRankOf) : 5;
    for (const auto& panel : table.panels) longest = std::max(longest, display_width(printable(panel.name)));
    label_width_ = std::min({longest, std::int64_t{12}, std::max<std::int64_t>(3, style.width / 3)});
    for (std::size_t t = 0; t < table.tokens.size(); ++t) column_widths_.push_back(column_width(t));
  }

  std::string table_lines() const {
    std::string out;
    const std::size_t num_tokens = column_widths_.size();
    for (std::size_t first = 0; first < num_tokens;) {
      std::int64_t panel_width = label_width_ + column_widths_[first];
      std::size_t last = first + 1;
      while (last < num_tokens && panel_width + column_widths_[last] <= style_.width)
        panel_width += column_widths_[last++];
      // A text that is broken needs as many lines either way; then its tokens stay in long rows.
      const bool whole = first == 0 && last == num_tokens;
      const std::int64_t beside = whole ? (style_.width + kGap) / (panel_width + kGap) : 1;
      const std::size_t num_panels = table_.panels.size();
      const auto a_row = static_cast<std::size_t>(std::max<std::int64_t>(1, beside));
      for (std::size_t n = 0; n < num_panels; n += a_row)
        out += block(n, std::min(num_panels, n + a_row), first, last) + '\n';
      first = last;
    }
    return out;
  }

  std::string legend_lines() const {
    const ScaleText scale = scale_text(table_.value, table_.vocab_size);
    std::vector<Piece> words;
    const auto say = [&](const std::string& sentence) {
      const std::vector<Piece> more = words_of(sentence);
      words.insert(words.end(), more.begin(), more.end());
    };
    say("Columns: the text's tokens and their positions; rows: layers, from the embeddings (0) to the "
        "model's own "
        "output");
    if (numbers_) {
      words.back().append(";");
      say("numbers: " + scale.title);
      if (ranks_) {
        words.back().append(",");
        say("which the third line names");
      }
    }
    if (style_.colours != TerminalColours::kNone) {
      words.back().append(";");
      words.push_back({.text = painter_.bold("bold:"), .width = 5});
      say(ranks_ ? "rank 1" : "already the model's answer");
    }
    if (style_.colours == TerminalColours::kStyles) {
      words.back().append(";");
      words.push_back({.text = painter_.dim("dim:"), .width = 4});
      say("the lowest tenth of the scale");
    }
    words.back().append(".");
    return (has_backgrounds(style_.colours) ? ramp_lines(scale) : "") + wrapped(words);
  }

 private:
  /// Part of a line that is not broken; `joined`: without a space before it.
  struct Piece {
    std::string text;
    std::int64_t width;
    bool joined = false;

    void append(const char* sign) {
      text += sign;
      ++width;
    }
  };

  static std::vector<Piece> words_of(const std::string& sentence) {
    std::vector<Piece> words;
    for (const std::string& word : util::split(sentence, ' '))
      words.push_back({.text = word, .width = display_width(word)});
    return words;
  }

  /// The marks of the scale, each on its own colour.
  std::string ramp_lines(const ScaleText& scale) const {
    std::vector<Piece> pieces = words_of(scale.title);
    for (const double mark : scale.marks) {
      std::string number = ranks_ ? short_number(table_.value, mark) : util::cat(mark);
      if (table_.value == CellValue::kKl && mark == kGreatestKl) number = "≥" + number;
      const std::string label = " " + fitted(number, kNumber);
      const double place = place_on_scale(table_.value, mark, table_.vocab_size);
      pieces.push_back({.text = painter_.cell(label, place, false),
                        .width = display_width(label),
                        .joined = mark != scale.marks.front()});
    }
    return wrapped(pieces);
  }

  std::string wrapped(const std::vector<Piece>& pieces) const {
    std::string out;
    std::int64_t used = 0;
    for (const Piece& piece : pieces) {
      const std::int64_t space = used == 0 || piece.joined ? 0 : 1;
      if (used > 0 && used + space + piece.width > style_.width) {
        out += '\n';
        used = 0;
      } else if (space > 0) {
        out += ' ';
        ++used;
      }
      out += piece.text;
      used += piece.width;
    }
    return out + '\n';
  }

  std::int64_t number_width() const { return numbers_ ? kNumber + 1 : 0; }

  /// A token's position; what stands below it comes after it.
  std::string place(std::size_t t) const { return util::cat(table_.positions[t], "↓"); }
  std::string ranked(std::size_t t) const {
    return table_.ranked[t].empty() ? "-" : printable(table_.ranked[t]);
  }

  /// The space before it counts.
  std::int64_t column_width(std::size_t t) const {
    constexpr std::int64_t kNarrowest = 3, kMaxWidth = 14;
    const std::int64_t number = ranks_ ? 0 : number_width();
    std::int64_t longest = ranks_ ? std::max(kNumber, display_width(ranked(t))) : kNarrowest;
    for (const std::string& heading : {printable(table_.tokens[t]), place(t)})
      longest = std::max(longest, display_width(heading) - number);
    for (const auto& panel : table_.panels) {
      for (const auto& cell : panel.cells[t])
        longest = std::max(longest, ranks_ ? 0 : display_width(printable(cell.text)));
    }
    const std::int64_t room = std::max<std::int64_t>(1, style_.width - label_width_ - 1 - number);
    return 1 + std::min({longest, kMaxWidth, room}) + number;
  }

  /// Panels [n, end) side by side, columns [first, last).
  std::string block(std::size_t n, std::size_t end, std::size_t first, std::size_t last) const {
    std::string out;
    const auto add_line = [&](const auto& label_of, const auto& cell_of) {
      std::string line;
      for (std::size_t panel = n; panel < end; ++panel) {
        if (panel > n) line.append(static_cast<std::size_t>(kGap), ' ');
        line += label_of(table_.panels[panel]);
        for (std::size_t t = first; t < last; ++t) line += cell_of(table_.panels[panel], t);
      }
      out += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
    };
    const auto label = [&](const std::string& text) { return fitted(text, label_width_); };
    const auto heading = [&](const std::string& text, std::size_t t) {
      return " " + fitted(text, column_widths_[t] - 1);
    };
    add_line([&](const auto& panel) { return painter_.bold(label(printable(panel.name))); },
             [&](const auto&, std::size_t t) { return heading(printable(table_.tokens[t]), t); });
    add_line([&](const auto&) { return label(""); },
             [&](const auto&, std::size_t t) { return heading(place(t), t); });
    if (ranks_)
      add_line([&](const auto&) { return label(kRankOf); },
               [&](const auto&, std::size_t t) { return heading(ranked(t), t); });
    for (std::size_t row = 0; row < table_.panels.front().cells.front().size(); ++row)
      add_line([&](const auto&) { return label(std::to_string(row)); },
               [&](const auto& panel, std::size_t t) { return cell(panel.cells[t][row], t); });
    return out;
  }

  std::string cell(const TerminalTable::Cell& shown, std::size_t t) const {
    std::string text, number;
    if (!ranks_) text = fitted(printable(shown.text), column_widths_[t] - 1 - number_width());
    if (numbers_) {
      number = short_number(table_.value, shown.value);
      number.insert(0, static_cast<std::size_t>(ranks_ ? kNumber : number_width()) - number.size(), ' ');
    }
    text = fitted(text + number, column_widths_[t] - 1);
    const bool is_answer = ranks_ ? shown.value == 1 : shown.is_answer;
    const double place = place_on_scale(table_.value, shown.value, table_.vocab_size);
    // On a background the space belongs to the cell, and the picture has no stripes.
    if (has_backgrounds(style_.colours)) return painter_.cell(" " + text, place, is_answer);
    return " " + painter_.cell(text, place, is_answer);
  }

  const TerminalTable& table_;
  const TerminalStyle& style_;
  Painter painter_;
  bool ranks_;
  bool numbers_;
  std::int64_t label_width_ = 0;
  std::vector<std::int64_t> column_widths_;
};

/// A column of `draw_watch_table`: its heading of two lines, and a cell for each layer.
struct WatchColumn {
  std::string title, unit;
  std::vector<std::string> cells;
};

std::vector<WatchColumn> watch_columns(const WatchTable& table, const WatchTable::Panel& panel) {
  std::vector<WatchColumn> columns;
  for (std::size_t w = 0; w < table.tokens.size(); ++w) {
    WatchColumn& column = columns.emplace_back(
        WatchColumn{.title = printable(table.tokens[w]), .unit = "   rank    log p", .cells = {}});
    for (const WatchTable::Value& value : panel.tokens[w]) {
      std::array<char, 40> text = {};
      if (value.rank > 0) {
        std::snprintf(text.data(), text.size(), "%7lld %8.3f", static_cast<long long>(value.rank),
                      value.logprob);
      } else {
        std::snprintf(text.data(), text.size(), "%7s %8s", "-", "-");
      }
      column.cells.emplace_back(text.data());
    }
  }
  for (std::size_t i = 0; i < table.pairs.size(); ++i) {
    WatchColumn& column = columns.emplace_back(
        WatchColumn{.title = printable(table.pairs[i]), .unit = "difference", .cells = {}});
    for (const double value : panel.pairs[i])
      column.cells.push_back(std::isfinite(value) ? formatted("%+10.3f", value) : "         -");
  }
  return columns;
}

}  // namespace

TerminalColours terminal_colours(std::string_view requested, bool is_terminal,
                                 const std::function<std::string(const char*)>& variable) {
  if (requested == "never") return TerminalColours::kNone;
  const std::string forced = variable("CLICOLOR_FORCE"), terminal = variable("TERM"),
                    depth = variable("COLORTERM");
  const bool always = requested == "always" || (!forced.empty() && forced != "0");
  const bool is_named = !terminal.empty() && terminal != "dumb";
  if (!always && (!is_terminal || !is_named || !variable("NO_COLOR").empty())) return TerminalColours::kNone;
  if (depth == "truecolor" || depth == "24bit" || terminal.ends_with("-direct"))
    return TerminalColours::kTrue;
  if (terminal.find("256color") != std::string::npos || !is_named) return TerminalColours::k256;
  return TerminalColours::kStyles;
}

double place_on_scale(CellValue value, double number, std::int64_t vocab_size) {
  if (!std::isfinite(number)) return std::numeric_limits<double>::quiet_NaN();
  const double most = std::log(static_cast<double>(std::max<std::int64_t>(2, vocab_size)));
  double place = number;
  if (is_rank(value)) place = 1 - std::log(std::max(1.0, number)) / most;
  if (value == CellValue::kEntropy) place = 1 - number / most;
  if (value == CellValue::kKl) place = 1 - std::log1p(std::max(0.0, number)) / std::log1p(kGreatestKl);
  return std::clamp(place, 0.0, 1.0);
}

std::string draw_watch_table(const WatchTable& table, const TerminalStyle& style) {
  constexpr std::int64_t kLabel = 8, kMaxWidth = 32;
  const auto line = [](const std::string& text) {
    return text.substr(0, text.find_last_not_of(' ') + 1) + '\n';
  };
  const std::string heading =
      util::cat("Watched after ", printable(table.token), ", position ", table.position);
  std::string out = line(fitted(heading, std::min(style.width, display_width(heading))));
  for (const WatchTable::Panel& panel : table.panels) {
    const std::vector<WatchColumn> columns = watch_columns(table, panel);
    std::vector<std::int64_t> widths;
    for (const WatchColumn& column : columns)
      widths.push_back(std::clamp(display_width(column.title), display_width(column.unit), kMaxWidth));
    for (std::size_t first = 0, last; first < columns.size(); first = last) {
      std::int64_t used = kLabel;
      for (last = first; last < columns.size() && (last == first || used + 2 + widths[last] <= style.width);
           ++last)
        used += 2 + widths[last];
      const auto row = [&](const std::string& label, const auto& cell_of) {
        std::string text = fitted(label, kLabel);
        for (std::size_t c = first; c < last; ++c) text += "  " + fitted(cell_of(columns[c]), widths[c]);
        return line(text);
      };
      out += row(printable(panel.name), [](const WatchColumn& column) { return column.title; });
      out += row("", [](const WatchColumn& column) { return column.unit; });
      for (std::size_t layer = 0; layer < columns.front().cells.size(); ++layer)
        out += row(std::to_string(layer), [&](const WatchColumn& column) { return column.cells[layer]; });
      out += '\n';
    }
  }
  return out;
}

std::string draw_terminal_table(const TerminalTable& table, const TerminalStyle& style) {
  const Drawing drawing(table, style);
  return drawing.table_lines() + drawing.legend_lines();
}

}  // namespace depthlens::report
