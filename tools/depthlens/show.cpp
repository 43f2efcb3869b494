// depthlens show: one text, every layer, in the terminal.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>

#include "command.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/report/terminal_table.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"
#include "watch_options.hpp"

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
  std::string value = "probability";
  bool numbers = false;
  std::int64_t last = 0;  ///< 0: not given
  std::string positions;
  WatchOptions watch;

  bool chooses_positions() const { return last > 0 || !positions.empty(); }
};

const std::map<std::string, report::CellValue> kValues = {{"probability", report::CellValue::kProbability},
                                                          {"rank", report::CellValue::kRank},
                                                          {"target-rank", report::CellValue::kTargetRank},
                                                          {"entropy", report::CellValue::kEntropy},
                                                          {"kl", report::CellValue::kKl}};

/// A token at a layer.
struct Place {
  std::int32_t rank;
  float logprob;
};

/// The readouts of one window, copied out of the listener's view.
struct Cell {
  std::vector<decode::TokenId> top_ids;
  std::vector<float> top_logprobs;
  Place final;
  std::optional<Place> target;
  std::vector<std::optional<Place>> watched;  ///< where the position has any
  float entropy, kl_final;
};

class Collector : public decode::Listener {
 public:
  /// Reads the watched tokens of the positions from the `first_watched`th on. The watch must outlive it.
  Collector(std::int64_t top_k, const experiments::Watch& watch, std::size_t first_watched)
      : top_k_(top_k), watch_(watch), first_watched_(first_watched) {}
  decode::Needs needs() const override { return {.top_k = top_k_, .token_groups = {}, .num_groups = 0}; }
  void accept(const decode::PositionReadout& position) override {
    auto& lenses = positions.emplace_back();
    tokens.push_back(position.token());
    finals.push_back(position.final_id());
    targets.push_back(position.where().target);
    const bool has_target = targets.back() != decode::kNoToken;
    const std::size_t num_watched = is_watched(tokens.size() - 1) ? watch_.tokens.size() : 0;
    for (std::int64_t n = 0; n < position.shape().num_lenses(); ++n) {
      auto& rows = lenses.emplace_back();
      for (std::int64_t row = 0; row < position.shape().num_rows; ++row) {
        const auto ids = position.top_ids(n, row);
        const auto logprobs = position.top_logprobs(n, row);
        const auto place = [&](std::int64_t w) {
          return Place{.rank = position.rank(n, row, w), .logprob = position.logprob(n, row, w)};
        };
        rows.push_back({.top_ids = {ids.begin(), ids.end()},
                        .top_logprobs = {logprobs.begin(), logprobs.end()},
                        .final = place(decode::kWatchedFinal),
                        .target = has_target ? std::optional(place(decode::kWatchedTarget)) : std::nullopt,
                        .watched = {},
                        .entropy = position.entropy(n, row),
                        .kl_final = position.kl_final(n, row)});
        for (std::size_t i = 0; i < num_watched; ++i) {
          const std::int64_t w = watch_.index(position.where(), i);
          const bool has = position.watched_id(w) != decode::kNoToken;
          rows.back().watched.push_back(has ? std::optional(place(w)) : std::nullopt);
        }
      }
    }
  }
  /// Whether tokens are watched at the `t`th position.
  bool is_watched(std::size_t t) const { return t >= first_watched_ && !watch_.empty(); }
  const experiments::Watch& watch() const { return watch_; }

  std::vector<decode::TokenId> tokens, finals, targets;   // [T]
  std::vector<std::vector<std::vector<Cell>>> positions;  // [T][N][R]

 private:
  std::int64_t top_k_;
  const experiments::Watch& watch_;
  std::size_t first_watched_;
};

/// log p(first) − log p(second); nothing where one of them is not there.
std::optional<double> difference(const Cell& cell, const experiments::WatchedPair& pair) {
  const std::optional<Place>&first = cell.watched[pair.first], &second = cell.watched[pair.second];
  if (!first || !second) return std::nullopt;
  return static_cast<double>(first->logprob) - static_cast<double>(second->logprob);
}

/// The positions of a text of `length` tokens that are to be shown, as the flags ask for them: 0 ≤ first ≤
/// last < length.
util::IndexRange wanted_positions(const ShowOptions& options, std::int64_t length) {
  if (options.last > 0) return {std::max<std::int64_t>(0, length - options.last), length - 1};
  if (options.positions.empty()) return {0, length - 1};
  const auto range = util::parse_range(options.positions);
  if (!range || range->first > range->last) {
    throw util::usage_error({.what = "not a range of positions",
                             .where = "--positions",
                             .expected = "A-B with A ≤ B, or one position, numbered as in the table",
                             .found = util::in_quotes(options.positions)});
  }
  if (range->last >= length) {
    throw util::usage_error({.what = "no such position in the text",
                             .where = "--positions",
                             .expected = util::cat("positions from 0 to ", length - 1),
                             .found = util::in_quotes(options.positions)});
  }
  return *range;
}

/// The window that shows positions of a text, and which these are.
struct Window {
  decode::Query query;
  std::vector<std::int64_t> positions;  // [T] in the text
};

/// As much of the text before the last position as the model may be given. `tokens`: BOS included.
Window window_of(const std::vector<text::TokenId>& tokens, const ShowOptions& options,
                 const Session& session) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  const std::int64_t most = session.max_length(), bos = session.bos() ? 1 : 0;
  util::IndexRange range = wanted_positions(options, length);
  if (!options.chooses_positions() && length > most) {
    util::log_warning(util::cat("the text has ", util::with_thousands(length), " tokens; the first ",
                                util::with_thousands(most),
                                " are shown (--max-length; --last N shows the last)"));
    range.last = most - 1;
  }
  // The beginning of the text where that holds the last position, else BOS and what fits before it.
  const std::int64_t begin = range.last < most ? 0 : range.last + 1 - (most - bos);
  if (begin > 0 && range.first < begin) {
    const std::string found = util::cat("positions ", range.first, " to ", range.last, ", ",
                                        util::with_thousands(range.last + 1 - range.first), " tokens");
    if (options.last == 0) {
      throw util::usage_error({.what = "the positions do not fit into one window",
                               .where = "--positions",
                               .expected = util::cat("at most ", most - bos, " tokens (--max-length)"),
                               .found = found});
    }
    util::log_warning(
        util::cat("the last ", most - bos, " tokens are shown, which fill a window (--max-length)"));
    range.first = begin;
  }
  if (begin > 0) {
    util::log_info(
        util::cat("the model is given the text from token ", begin, " on (--max-length ", most, ")"));
  }
  Window window;
  if (begin > 0 && bos > 0) window.query.tokens.push_back(tokens.front());
  const std::int64_t shift = static_cast<std::int64_t>(window.query.tokens.size()) - begin;
  window.query.tokens.insert(window.query.tokens.end(), tokens.begin() + begin,
                             tokens.begin() + range.last + 1);
  for (std::int64_t t = range.first; t <= range.last; ++t) {
    const decode::TokenId target =
        t + 1 < length ? tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
    window.query.positions.push_back({.position = t + shift, .target = target, .watched = {}});
    window.positions.push_back(t);
  }
  return window;
}

/// One object, a line for each layer of a lens. In ASCII, so that no token's control characters reach a
/// terminal.
std::string as_json(const Collector& found, const std::vector<std::int64_t>& positions,
                    const Session& session, const std::string& text) {
  using util::cat, util::json_number;
  const auto quoted = [](const std::string& any) {
    return util::json_string(any, util::JsonAlphabet::kAscii);
  };
  const auto dumped = [](const util::OrderedJson& part) {
    return part.dump(-1, ' ', true, util::OrderedJson::error_handler_t::replace);
  };
  const auto token = [&](decode::TokenId id) {
    return cat("\"id\": ", id, ", \"text\": ", quoted(session.tokenizer().token_text(id)));
  };
  const auto list = [](std::size_t count, const char* separator, const auto& item) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += (i > 0 ? separator : "") + item(i);
    return out;
  };
  const auto watched = [&](const Cell& cell, std::size_t t) -> std::string {
    if (!found.is_watched(t)) return "";
    const experiments::Watch& watch = found.watch();
    const std::string tokens = list(watch.tokens.size(), ", ", [&](std::size_t w) {
      const experiments::WatchedToken& watched_token = watch.tokens[w];
      const bool fixed = watched_token.kind == experiments::WatchedToken::Kind::kToken;
      const decode::TokenId id = fixed ? watched_token.id : found.targets[t];
      const std::optional<Place>& place = cell.watched[w];
      return cat("{\"text\": ", quoted(watched_token.name), ", \"id\": ", place ? std::to_string(id) : "null",
                 ", \"rank\": ", place ? std::to_string(place->rank) : "null",
                 ", \"logprob\": ", place ? json_number(place->logprob) : "null", "}");
    });
    const std::string pairs = list(watch.pairs.size(), ", ", [&](std::size_t i) {
      const std::optional<double> nats = difference(cell, watch.pairs[i]);
      return cat("{\"pair\": ", quoted(watch.pairs[i].name),
                 ", \"difference\": ", nats ? json_number(static_cast<float>(*nats)) : "null", "}");
    });
    return cat(", \"watched\": [", tokens, "], \"differences\": [", pairs, "]");
  };
  const auto layer = [&](const Cell& cell, std::size_t t) {
    const std::string top = list(cell.top_ids.size(), ", ", [&](std::size_t k) {
      return cat("{", token(cell.top_ids[k]), ", \"logprob\": ", json_number(cell.top_logprobs[k]), "}");
    });
    return cat("    {\"top\": [", top, "], \"final_rank\": ", cell.final.rank,
               ", \"final_logprob\": ", json_number(cell.final.logprob),
               ", \"target_rank\": ", cell.target ? std::to_string(cell.target->rank) : "null",
               ", \"target_logprob\": ", cell.target ? json_number(cell.target->logprob) : "null",
               ", \"entropy\": ", json_number(cell.entropy), ", \"kl_final\": ", json_number(cell.kl_final),
               watched(cell, t), "}");
  };
  const auto position = [&](std::size_t t) {
    const auto& lenses = found.positions[t];
    const decode::TokenId target = found.targets[t];
    return cat("  {\"position\": ", positions[t], ", \"token\": {", token(found.tokens[t]),
               "}, \"target\": ", target == decode::kNoToken ? "null" : cat("{", token(target), "}"),
               ", \"final\": {", token(found.finals[t]), "}, \"lenses\": {\n",
               list(lenses.size(), ",\n",
                    [&](std::size_t n) {
                      return cat("   ", quoted(session.lenses()[n]->request().name), ": [\n",
                                 list(lenses[n].size(), ",\n",
                                      [&](std::size_t row) { return layer(lenses[n][row], t); }),
                                 "]");
                    }),
               "}}");
  };
  return cat("{\"model\": ", dumped(session.describe_model()),
             ",\n \"lenses\": ", dumped(session.describe_lenses()), ",\n \"text\": ", quoted(text),
             ",\n \"positions\": [\n", list(found.tokens.size(), ",\n", position), "]}\n");
}

report::TerminalTable as_table(const Collector& found, const std::vector<std::int64_t>& positions,
                               const Session& session, report::CellValue value) {
  const auto text_of = [&](decode::TokenId id) { return session.tokenizer().token_text(id); };
  const auto number_of = [&](const Cell& cell) -> double {
    switch (value) {
      case report::CellValue::kProbability:
        return std::exp(cell.top_logprobs.front());
      case report::CellValue::kRank:
        return cell.final.rank;
      case report::CellValue::kTargetRank:
        return cell.target ? static_cast<double>(cell.target->rank) : NAN;
      case report::CellValue::kEntropy:
        return cell.entropy;
      case report::CellValue::kKl:
        return cell.kl_final;
    }
    return NAN;
  };
  report::TerminalTable table = {.tokens = {},
                                 .positions = positions,
                                 .ranked = {},
                                 .panels = {},
                                 .value = value,
                                 .vocab_size = session.spec().vocab_size};
  for (const decode::TokenId token : found.tokens) table.tokens.push_back(text_of(token));
  const bool of_answers = value == report::CellValue::kRank;
  if (of_answers || value == report::CellValue::kTargetRank) {
    for (const decode::TokenId token : of_answers ? found.finals : found.targets)
      table.ranked.push_back(token == decode::kNoToken ? "" : text_of(token));
  }
  for (std::size_t n = 0; n < found.positions.front().size(); ++n) {
    auto& panel = table.panels.emplace_back();
    panel.name = session.lenses()[n]->request().name;
    for (std::size_t t = 0; t < found.positions.size(); ++t) {
      auto& column = panel.cells.emplace_back();
      for (const Cell& cell : found.positions[t][n]) {
        const decode::TokenId top1 = cell.top_ids.front();
        column.push_back(
            {.text = text_of(top1), .value = number_of(cell), .is_answer = top1 == found.finals[t]});
      }
    }
  }
  return table;
}

/// The tables of the watched tokens, one a position.
std::vector<report::WatchTable> watch_tables(const Collector& found,
                                             const std::vector<std::int64_t>& positions,
                                             const Session& session) {
  const experiments::Watch& watch = found.watch();
  std::vector<report::WatchTable> tables;
  for (std::size_t t = 0; t < positions.size(); ++t) {
    if (!found.is_watched(t)) continue;
    report::WatchTable& table = tables.emplace_back();
    table.position = positions[t];
    table.token = session.tokenizer().token_text(found.tokens[t]);
    for (const auto& token : watch.tokens) table.tokens.push_back(token.name);
    for (const auto& pair : watch.pairs) {
      // Spelt out, since a comma does not tell which is taken from which.
      table.pairs.push_back(watch.tokens[pair.first].name + "−" + watch.tokens[pair.second].name);
    }
    for (std::size_t n = 0; n < found.positions[t].size(); ++n) {
      auto& panel = table.panels.emplace_back();
      panel.name = session.lenses()[n]->request().name;
      panel.tokens.resize(watch.tokens.size());
      panel.pairs.resize(watch.pairs.size());
      for (const Cell& cell : found.positions[t][n]) {
        for (std::size_t w = 0; w < watch.tokens.size(); ++w) {
          const std::optional<Place>& place = cell.watched[w];
          panel.tokens[w].push_back({.rank = place ? place->rank : 0,
                                     .logprob = place ? static_cast<double>(place->logprob) : NAN});
        }
        for (std::size_t i = 0; i < watch.pairs.size(); ++i)
          panel.pairs[i].push_back(difference(cell, watch.pairs[i]).value_or(NAN));
      }
    }
  }
  return tables;
}

report::TerminalStyle terminal_style(const ShowOptions& options) {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  return {.colours = report::terminal_colours(options.color, ::isatty(STDOUT_FILENO) == 1, variable),
          .width = terminal_width(options.width),
          .numbers = options.numbers};
}

void run_show(const CLI::App& app, const ShowOptions& given) {
  ShowOptions options = given;
  check_effects(app, lens_conditions(options.model));
  if (options.last > 0 && !options.positions.empty())
    throw util::usage_error({.what = "--last and --positions contradict each other"});
  check_effects(app, {{.flags = {"--top-k"}, .holds = options.json, .needs = "--json"},
                      {.flags = {"--value", "--numbers", "--width", "--color"},
                       .holds = !options.json,
                       .needs = "the table",
                       .found = "--json"}});
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

  Session session(located(options.model));
  std::vector<text::TokenId> tokens = session.tokenizer().encode(options.text);
  session.check_in_vocabulary(tokens);
  if (tokens.empty()) throw util::input_error({.what = "the text has no tokens", .where = "show"});
  if (session.bos()) tokens.insert(tokens.begin(), *session.bos());
  Window window = window_of(tokens, options, session);
  const experiments::Watch watch =
      find_watched(options.watch, session.tokenizer(), session.spec().vocab_size);
  if (watch.has(experiments::WatchedToken::Kind::kDistractor))
    throw run::no_distractor_error("a text has no distractor");
  const std::size_t first_watched = options.chooses_positions() ? 0 : window.positions.size() - 1;
  for (std::size_t t = first_watched; t < window.positions.size(); ++t)
    watch.append_to(window.query.positions[t]);
  session.load(/*with_digests=*/false);
  Collector collector(options.json ? options.top_k : 1, watch, first_watched);
  bool given_out = false;
  decode::Engine(session.model(), session.lenses(), {})
      .run(
          [&](decode::Query& next) {
            if (given_out) return false;
            given_out = true;
            next = window.query;
            return true;
          },
          {&collector});
  if (options.json) {
    std::cout << as_json(collector, window.positions, session, options.text) << std::flush;
  } else {
    const report::TerminalTable table =
        as_table(collector, window.positions, session, kValues.at(options.value));
    const report::TerminalStyle style = terminal_style(options);
    std::cout << report::draw_terminal_table(table, style);
    for (const report::WatchTable& watched : watch_tables(collector, window.positions, session))
      std::cout << '\n' << report::draw_watch_table(watched, style);
    std::cout << std::flush;
  }
}

}  // namespace

std::function<void()> setup_show(CLI::App& app) {
  auto options = std::make_shared<ShowOptions>();
  app.add_option("text", options->text, "The text (default: stdin)");
  add_run_options(app, options->model);
  app.add_option("--last", options->last, "Show the last N positions only (a long text's end)")
      ->check(integer(1));
  app.add_option("--positions", options->positions,
                 "Show these positions only, numbered as in the table: A-B, or one")
      ->type_name("A-B");
  add_watch_options(app, options->watch);
  app.get_option("--watch")->description(
      "Token whose rank and log-probability are shown at every layer, at the last position or those chosen: "
      "its "
      "text, #ID or #target; may be given several times");
  app.add_option("--top-k", options->top_k, "Predictions of each layer in --json")
      ->check(integer(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", options->json, "As one JSON object instead of a table");
  app.add_option(
         "--value", options->value,
         "What colour or number tells: probability of the layer's top-1; rank of the model's own answer; "
         "target-rank: of the token that really follows; entropy; kl: divergence from the model's output")
      ->check(one_of({"probability", "rank", "target-rank", "entropy", "kl"}))
      ->capture_default_str();
  app.add_flag("--numbers", options->numbers, "Numbers beside the tokens in colour too");
  app.add_option("--width", options->width, "Columns to use (default: the terminal's, or 100)")
      ->check(integer(20, 10000));
  app.add_option(
         "--color", options->color,
         "Colours; auto: what the terminal has, by COLORTERM and TERM; NO_COLOR and CLICOLOR_FORCE are "
         "heeded")
      ->check(one_of({"auto", "always", "never"}))
      ->capture_default_str();
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens show \"The capital of France is\" --lens logit\n"
      "  depthlens show \"Water boils at\" --lens logit --lens tuned:data/demo/lens --value rank\n"
      "  depthlens show \"The capital of France is\" --watch-pair \" Paris, London\"\n"
      "  depthlens show --last 8 --value target-rank < data/corpora/letter.txt");
  return [options, &app] { run_show(app, *options); };
}

}  // namespace depthlens::tool
