// depthlens show: one text, every layer, in the terminal.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cwchar>
#include <iostream>
#include <iterator>
#include <memory>

#include "command.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "session.hpp"

namespace depthlens::tool {
namespace {

struct ShowOptions {
  CommonOptions common;
  ModelOptions model;
  std::string text;
  std::int64_t top_k = 5;
  bool json = false;
  std::int64_t width = 0;
  std::string color = "auto";
};

/// The readouts of one window, copied out of the listener's view.
struct Cell {
  decode::TokenId top1;
  float probability;
  std::vector<decode::TokenId> top_ids;
  std::vector<float> top_logprobs;
  std::int32_t final_rank;
  float entropy, kl_final;
};

class Collector : public decode::Listener {
 public:
  explicit Collector(std::int64_t top_k) : top_k_(top_k) {}
  decode::Needs needs() const override { return {.top_k = top_k_, .token_groups = {}, .num_groups = 0}; }
  void accept(const decode::PositionReadout& position) override {
    auto& lenses = positions.emplace_back();
    tokens.push_back(position.token());
    finals.push_back(position.final_id());
    for (std::int64_t n = 0; n < position.shape().num_lenses(); ++n) {
      auto& rows = lenses.emplace_back();
      for (std::int64_t row = 0; row < position.shape().num_rows; ++row) {
        const auto ids = position.top_ids(n, row);
        const auto logprobs = position.top_logprobs(n, row);
        rows.push_back({.top1 = ids[0],
                        .probability = std::exp(logprobs[0]),
                        .top_ids = {ids.begin(), ids.end()},
                        .top_logprobs = {logprobs.begin(), logprobs.end()},
                        .final_rank = position.rank(n, row, decode::kWatchedFinal),
                        .entropy = position.entropy(n, row),
                        .kl_final = position.kl_final(n, row)});
      }
    }
  }
  std::vector<decode::TokenId> tokens, finals;
  std::vector<std::vector<std::vector<Cell>>> positions;  // [T][N][R]

 private:
  std::int64_t top_k_;
};

/// Columns that `text` takes in a terminal.
std::int64_t display_width(std::string_view text) {
  std::int64_t width = 0;
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length)) {
    if (!util::decode_utf8(text, i, code_point, length)) {
      ++width;
      continue;
    }
    const int columns = ::wcwidth(static_cast<wchar_t>(code_point));
    width += columns < 0 ? 1 : columns;
  }
  return width;
}

/// A token for people: a leading space shown as "·", control characters as their escapes.
std::string visible(const std::string& token) {
  std::string out;
  for (const char c : token) {
    if (c == ' ') {
      out += "·";
    } else if (c == '\n') {
      out += "⏎";
    } else if (c == '\t') {
      out += "⇥";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += util::hex_escape(static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

/// `text` cut or filled to exactly `width` columns.
std::string fitted(const std::string& text, std::int64_t width) {
  std::string out;
  std::int64_t used = 0;
  char32_t code_point;
  int length;
  const bool cut = display_width(text) > width;
  const std::int64_t room = cut ? width - 1 : width;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length)) {
    util::decode_utf8(text, i, code_point, length);
    const std::string_view piece(text.data() + i, static_cast<std::size_t>(length));
    const std::int64_t columns = display_width(piece);
    if (used + columns > room) break;
    out += piece;
    used += columns;
  }
  if (cut) {
    out += "…";
    ++used;
  }
  return out + std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, width - used)), ' ');
}

/// Words of ASCII `text` in lines of at most `width` columns.
std::string wrapped(const std::string& text, std::int64_t width) {
  std::string out, line;
  for (const std::string& word : util::split(text, ' ')) {
    if (!line.empty() && static_cast<std::int64_t>(line.size() + 1 + word.size()) > width) {
      out += line + '\n';
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return out + line + '\n';
}

bool use_color(const std::string& wish) {
  if (wish != "auto") return wish == "always";
  if (const char* forced = std::getenv("CLICOLOR_FORCE"); forced != nullptr && std::string(forced) != "0")
    return true;
  if (std::getenv("NO_COLOR") != nullptr || ::isatty(STDOUT_FILENO) == 0) return false;
  const char* terminal = std::getenv("TERM");
  return terminal != nullptr && std::string(terminal) != "dumb";
}

std::int64_t terminal_width(std::int64_t wish) {
  if (wish > 0) return wish;
  struct winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  std::int64_t columns = 0;
  if (const char* text = std::getenv("COLUMNS");
      text != nullptr && util::parse_int(text, columns) && columns > 0)
    return columns;
  return 100;
}

/// The cell's background by probability: six steps of one blue of the 256-colour palette, with readable text
/// on each.
std::string colored(const std::string& text, float probability, bool is_final) {
  constexpr int kSteps = 6;
  constexpr int kBackground[kSteps] = {231, 195, 153, 111, 69, 26};
  const int step = std::clamp(static_cast<int>(probability * kSteps), 0, kSteps - 1);
  return util::cat("\033[", is_final ? "1;" : "", "38;5;", step >= 4 ? 231 : 16, ";48;5;", kBackground[step],
                   "m", text, "\033[0m");
}

util::OrderedJson as_json(const Collector& found, const Session& session, const ShowOptions& options) {
  using util::OrderedJson;
  const auto token = [&](decode::TokenId id) -> OrderedJson {
    return {{"id", id}, {"text", session.tokenizer().token_text(id)}};
  };
  OrderedJson positions = OrderedJson::array();
  for (std::size_t t = 0; t < found.tokens.size(); ++t) {
    OrderedJson lenses = OrderedJson::object();
    for (std::size_t n = 0; n < found.positions[t].size(); ++n) {
      OrderedJson layers = OrderedJson::array();
      for (const Cell& cell : found.positions[t][n]) {
        OrderedJson top = OrderedJson::array();
        for (std::size_t k = 0; k < cell.top_ids.size(); ++k) {
          OrderedJson entry = token(cell.top_ids[k]);
          entry["logprob"] = cell.top_logprobs[k];
          top.push_back(entry);
        }
        layers.push_back({{"top", top},
                          {"final_rank", cell.final_rank},
                          {"entropy", cell.entropy},
                          {"kl_final", cell.kl_final}});
      }
      lenses[session.lenses()[n]->request().name] = layers;
    }
    positions.push_back({{"position", t},
                         {"token", token(found.tokens[t])},
                         {"final", token(found.finals[t])},
                         {"lenses", lenses}});
  }
  return {{"model", session.describe_model()}, {"text", options.text}, {"positions", positions}};
}

void print_tables(const Collector& found, const Session& session, const ShowOptions& options) {
  const bool color = use_color(options.color);
  const std::size_t num_rows = found.positions.front().front().size();
  constexpr std::int64_t kNarrowest = 6, kWidest = 14, kLabel = 5, kWidestLabel = 12;
  std::vector<std::string> names;
  std::int64_t label_width = kLabel;
  for (const lens::Lens* lens : session.lenses()) {
    names.push_back(lens->request().name);
    label_width = std::min(kWidestLabel, std::max(label_width, display_width(names.back())));
  }
  const auto text_of = [&](decode::TokenId id) { return visible(session.tokenizer().token_text(id)); };
  std::int64_t longest = kNarrowest;
  for (const auto& lenses : found.positions) {
    for (const auto& rows : lenses) {
      for (const Cell& cell : rows) longest = std::max(longest, display_width(text_of(cell.top1)));
    }
  }
  const std::int64_t probability_width = color ? 0 : 4;  // " .97": where colour cannot tell it
  const std::int64_t cell_width = std::min(longest, kWidest) + probability_width;
  const std::int64_t width = terminal_width(options.width);
  const std::int64_t room = width - label_width;
  const auto per_block = static_cast<std::size_t>(
      std::max<std::int64_t>(1, room / (cell_width + 1)));  // a space before each cell
  const auto num_tokens = found.tokens.size();

  for (std::size_t n = 0; n < names.size(); ++n) {
    for (std::size_t first = 0; first < num_tokens; first += per_block) {
      const std::size_t last = std::min(num_tokens, first + per_block);
      const auto print_row = [&](const std::string& label, const auto& cell_at) {
        std::string line = fitted(label, label_width);
        for (std::size_t t = first; t < last; ++t) line += " " + cell_at(t);
        std::cout << line.substr(0, line.find_last_not_of(' ') + 1) << '\n';
      };
      print_row(names[n], [&](std::size_t t) { return fitted(text_of(found.tokens[t]), cell_width); });
      print_row("", [&](std::size_t /*t*/) { return fitted("↓", cell_width); });
      for (std::size_t row = 0; row < num_rows; ++row) {
        print_row(std::to_string(row), [&](std::size_t t) {
          const Cell& cell = found.positions[t][n][row];
          const std::string text = fitted(text_of(cell.top1), cell_width - probability_width);
          if (color) return colored(text, cell.probability, cell.top1 == found.finals[t]);
          const auto hundredths = std::clamp(std::lround(cell.probability * 100), 0L, 99L);
          return text + (hundredths < 10 ? " .0" : " .") + std::to_string(hundredths);
        });
      }
      std::cout << '\n';
    }
  }
  std::string legend =
      "Columns: the text's tokens; rows: layers, from the embeddings (0) to the model's own output";
  legend += color ? ". Darker: more probable; bold: already the model's answer."
                  : "; numbers: probability of the top-1.";
  std::cout << wrapped(legend, width) << std::flush;
}

void run_show(const ShowOptions& given) {
  ShowOptions options = given;
  apply_common_options(options.common);
  if (options.text.empty()) {
    if (::isatty(STDIN_FILENO) == 1)
      throw util::usage_error(
          {.what = "no text", .where = "show", .hint = "depthlens show \"The capital of France is\""});
    options.text.assign(std::istreambuf_iterator<char>(std::cin), {});
    while (!options.text.empty() && options.text.back() == '\n') options.text.pop_back();
  }
  if (!util::is_valid_utf8(options.text))
    throw util::input_error({.what = "the text is not UTF-8", .where = "show"});
  std::setlocale(LC_CTYPE, "C.UTF-8");

  Session session(options.model);
  const std::vector<text::TokenId> tokens = session.tokenizer().encode(options.text);
  session.check_in_vocabulary(tokens);
  if (tokens.empty()) throw util::input_error({.what = "the text has no tokens", .where = "show"});
  decode::Query query;
  if (session.bos()) query.tokens.push_back(*session.bos());
  query.tokens.insert(query.tokens.end(), tokens.begin(), tokens.end());
  if (static_cast<std::int64_t>(query.tokens.size()) > session.max_length()) {
    util::log_warning(util::cat("the text has ", query.tokens.size(), " tokens; the first ",
                                session.max_length(), " are shown (--max-length)"));
    query.tokens.resize(static_cast<std::size_t>(session.max_length()));
  }
  for (std::size_t t = 0; t < query.tokens.size(); ++t) {
    const decode::TokenId target = t + 1 < query.tokens.size() ? query.tokens[t + 1] : decode::kNoToken;
    query.positions.push_back({.position = static_cast<std::int64_t>(t), .target = target, .watched = {}});
  }
  session.load();
  Collector collector(options.json ? options.top_k : 1);
  bool given_out = false;
  decode::Engine(session.model(), session.lenses(), {})
      .run(
          [&](decode::Query& next) {
            if (given_out) return false;
            given_out = true;
            next = query;
            return true;
          },
          {&collector});
  if (options.json) {
    std::cout << as_json(collector, session, options)
                     .dump(1, ' ', false, util::OrderedJson::error_handler_t::replace)
              << std::endl;
  } else {
    print_tables(collector, session, options);
  }
}

}  // namespace

std::function<void()> setup_show(CLI::App& app) {
  auto options = std::make_shared<ShowOptions>();
  app.add_option("text", options->text, "The text (default: stdin)");
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions of each layer in --json")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", options->json, "As one JSON object instead of a table");
  app.add_option("--width", options->width, "Columns to use (default: the terminal's, or 100)")
      ->check(CLI::Range(20, 10000));
  app.add_option("--color", options->color,
                 "Colours; auto: on a terminal, and NO_COLOR and CLICOLOR_FORCE are heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  add_common_options(app, options->common);
  app.footer("Example:\n  depthlens show \"The capital of France is\" --lens logit");
  return [options] { run_show(*options); };
}

}  // namespace depthlens::tool
