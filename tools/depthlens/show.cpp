// depthlens show: one text, every layer, in the terminal.
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>

#include "command.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/report/terminal_table.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
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
  std::string value = "probability";
  bool numbers = false;
};

const std::map<std::string, report::CellValue> kValues = {{"probability", report::CellValue::kProbability},
                                                          {"rank", report::CellValue::kRank},
                                                          {"entropy", report::CellValue::kEntropy},
                                                          {"kl", report::CellValue::kKl}};

/// The readouts of one window, copied out of the listener's view.
struct Cell {
  std::vector<decode::TokenId> top_ids;
  std::vector<float> top_logprobs;
  std::int32_t final_rank;
  float final_logprob, entropy, kl_final;
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
        rows.push_back({.top_ids = {ids.begin(), ids.end()},
                        .top_logprobs = {logprobs.begin(), logprobs.end()},
                        .final_rank = position.rank(n, row, decode::kWatchedFinal),
                        .final_logprob = position.logprob(n, row, decode::kWatchedFinal),
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

/// One object, a line for each layer of a lens. In ASCII, so that no token's control characters reach a
/// terminal.
std::string as_json(const Collector& found, const Session& session, const std::string& text) {
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
  const auto layer = [&](const Cell& cell) {
    const std::string top = list(cell.top_ids.size(), ", ", [&](std::size_t k) {
      return cat("{", token(cell.top_ids[k]), ", \"logprob\": ", json_number(cell.top_logprobs[k]), "}");
    });
    return cat("    {\"top\": [", top, "], \"final_rank\": ", cell.final_rank,
               ", \"final_logprob\": ", json_number(cell.final_logprob),
               ", \"entropy\": ", json_number(cell.entropy), ", \"kl_final\": ", json_number(cell.kl_final),
               "}");
  };
  const auto position = [&](std::size_t t) {
    const auto& lenses = found.positions[t];
    return cat("  {\"position\": ", t, ", \"token\": {", token(found.tokens[t]), "}, \"final\": {",
               token(found.finals[t]), "}, \"lenses\": {\n",
               list(lenses.size(), ",\n",
                    [&](std::size_t n) {
                      return cat("   ", quoted(session.lenses()[n]->request().name), ": [\n",
                                 list(lenses[n].size(), ",\n",
                                      [&](std::size_t row) { return layer(lenses[n][row]); }),
                                 "]");
                    }),
               "}}");
  };
  return cat("{\"model\": ", dumped(session.describe_model()),
             ",\n \"lenses\": ", dumped(session.describe_lenses()), ",\n \"text\": ", quoted(text),
             ",\n \"positions\": [\n", list(found.tokens.size(), ",\n", position), "]}\n");
}

report::TerminalTable as_table(const Collector& found, const Session& session, report::CellValue value) {
  const auto text_of = [&](decode::TokenId id) { return session.tokenizer().token_text(id); };
  const auto number_of = [&](const Cell& cell) -> double {
    switch (value) {
      case report::CellValue::kProbability:
        return std::exp(cell.top_logprobs.front());
      case report::CellValue::kRank:
        return cell.final_rank;
      case report::CellValue::kEntropy:
        return cell.entropy;
      case report::CellValue::kKl:
        return cell.kl_final;
    }
    return NAN;
  };
  report::TerminalTable table = {
      .tokens = {}, .panels = {}, .value = value, .vocab_size = session.spec().vocab_size};
  for (const decode::TokenId token : found.tokens) table.tokens.push_back(text_of(token));
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
    std::cout << as_json(collector, session, options.text) << std::flush;
  } else {
    std::cout << report::draw_terminal_table(as_table(collector, session, kValues.at(options.value)),
                                             terminal_style(options))
              << std::flush;
  }
}

}  // namespace

std::function<void()> setup_show(CLI::App& app) {
  auto options = std::make_shared<ShowOptions>();
  app.add_option("text", options->text, "The text (default: stdin)");
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions of each layer in --json")
      ->check(integer(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", options->json, "As one JSON object instead of a table");
  app.add_option("--value", options->value,
                 "What colour or number tells: probability of the top-1; rank of the model's own answer; "
                 "entropy; kl: divergence from the model's output")
      ->check(one_of({"probability", "rank", "entropy", "kl"}))
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
      "  depthlens show \"Water boils at\" --lens logit --lens tuned:data/demo/lens --value rank");
  return [options, &app] { run_show(app, *options); };
}

}  // namespace depthlens::tool
