// The layer × token table of `show` as lines of a terminal, from plain data: a heat map in colour, numbers
// without.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::report {

/// What a terminal can show; each more than the one before.
enum class TerminalColours {
  kNone,    ///< no escape sequences at all
  kStyles,  ///< bold and dim
  k256,
  kTrue,  ///< 24 bits
};

/// What escape sequences to write. `requested`: "auto", "always" or "never"; `variable` gives an environment
/// variable's value, "" for none. With "auto" a terminal gets what COLORTERM and TERM say it can show, and
/// nothing where NO_COLOR is set; CLICOLOR_FORCE counts as "always". "always" is at least 256 colours where
/// TERM names no terminal.
TerminalColours terminal_colours(std::string_view requested, bool is_terminal,
                                 const std::function<std::string(const char*)>& variable);

/// The number that a cell stands for. Each has a fixed scale, so that tables of different texts can be
/// compared; brighter is surer, or nearer to the model's answer. A rank is that of another token than the
/// layer's top-1: its cell shows the number alone, below the token that it is the rank of.
enum class CellValue {
  kProbability,  ///< of the layer's top-1
  kRank,         ///< of the model's answer at that layer, from 1; logarithmic, from 1 to V
  kTargetRank,   ///< likewise, of the token that really follows
  kEntropy,      ///< nats; from 0 to ln V
  kKl,           ///< KL(final ‖ layer), nats; log(1 + kl), from 0 to 16
};

struct TerminalTable {
  struct Cell {
    std::string text;        ///< of the layer's top-1; any bytes
    double value = 0;        ///< not finite: left without colour
    bool is_answer = false;  ///< the layer's top-1 is the model's own
  };
  struct Panel {
    std::string name;                      ///< of the lens
    std::vector<std::vector<Cell>> cells;  ///< [T][R], layer 0 first
  };
  std::vector<std::string> tokens;      ///< [T], T ≥ 1; any bytes
  std::vector<std::int64_t> positions;  ///< [T] of the tokens in the text
  std::vector<std::string> ranked;      ///< [T] the tokens of ranks, "" where there is none; else empty
  std::vector<Panel> panels;            ///< one a lens, at least one
  CellValue value = CellValue::kProbability;
  std::int64_t vocab_size = 2;  ///< V
};

/// Tokens that are followed through the layers at one position.
struct WatchTable {
  struct Value {
    std::int64_t rank = 0;  ///< 0: there is no such token here
    double logprob = 0;     ///< nats
  };
  struct Panel {
    std::string name;                        ///< of the lens
    std::vector<std::vector<Value>> tokens;  ///< [W][R], layer 0 first
    std::vector<std::vector<double>> pairs;  ///< [pairs][R] differences in nats; NaN where there is none
  };
  std::int64_t position = 0;
  std::string token;                ///< at the position; any bytes, here and below
  std::vector<std::string> tokens;  ///< [W] names
  std::vector<std::string> pairs;   ///< names
  std::vector<Panel> panels;        ///< one a lens, at least one
};

struct TerminalStyle {
  TerminalColours colours = TerminalColours::kNone;
  std::int64_t width = 100;  ///< columns; below 20 lines may be longer
  bool numbers = false;      ///< beside the tokens also where colour tells them
};

/// 0 (far, unsure) to 1 (near, sure) on the scale of `value`; NaN where `number` is not finite.
double place_on_scale(CellValue value, double number, std::int64_t vocab_size);

/// A block of numbers for each lens, broken into blocks of columns where they do not fit. Every line ends in
/// a line feed and takes at most `style.width` columns, from 40 on.
std::string draw_watch_table(const WatchTable& table, const TerminalStyle& style);

/// The panels side by side where all of their columns fit, else one below the other in blocks of columns;
/// then a legend. Every line ends in a line feed and takes at most `style.width` columns.
std::string draw_terminal_table(const TerminalTable& table, const TerminalStyle& style);

}  // namespace depthlens::report
