// depthlens show: one text, every layer, in the terminal.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>

#include "command.hpp"
#include "depthlens/data/input_text.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/report/terminal_table.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"
#include "show_json.hpp"
#include "show_readouts.hpp"
#include "show_table.hpp"
#include "show_window.hpp"
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
  ShownPositions shown;
  WatchOptions watch;
};

const std::map<std::string, report::CellValue> kValues = {{"probability", report::CellValue::kProbability},
                                                          {"rank", report::CellValue::kRank},
                                                          {"target-rank", report::CellValue::kTargetRank},
                                                          {"entropy", report::CellValue::kEntropy},
                                                          {"kl", report::CellValue::kKl}};

report::TerminalStyle terminal_style(const ShowOptions& options) {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  return {.colours = report::terminal_colours(options.color, ::isatty(STDOUT_FILENO) == 1, variable),
          .width = terminal_width(options.width),
          .numbers = options.numbers};
}

/// By the rules of all inputs, without line ends at its end.
std::string text_of_stdin() {
  std::string text = data::read_input_text("-", util::kMaxLine).text;
  while (text.ends_with('\n')) text.resize(text.size() - (text.ends_with("\r\n") ? 2 : 1));
  if (text.find('\r') != text.npos) util::log_warning("stdin holds carriage returns; they stay in the text");
  return text;
}

void run_show(const CLI::App& app, const ShowOptions& given) {
  ShowOptions options = given;
  check_effects(app, lens_conditions(options.model));
  if (options.shown.last > 0 && !options.shown.positions.empty())
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
    options.text = text_of_stdin();
  }
  if (!util::is_valid_utf8(options.text))
    throw util::input_error({.what = "the text is not UTF-8", .where = "show"});

  Session session(located(options.model));
  std::vector<text::TokenId> tokens = session.tokenizer().encode(options.text);
  session.check_in_vocabulary(tokens);
  if (tokens.empty()) throw util::input_error({.what = "the text has no tokens", .where = "show"});
  if (session.bos()) tokens.insert(tokens.begin(), *session.bos());
  Window window = window_of(tokens, options.shown, session);
  const experiments::Watch watch =
      find_watched(options.watch, session.tokenizer(), session.spec().vocab_size);
  if (watch.has(experiments::WatchedToken::Kind::kDistractor))
    throw run::no_distractor_error("a text has no distractor");
  const std::size_t first_watched = options.shown.chosen() ? 0 : window.positions.size() - 1;
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
  app.add_option("--last", options->shown.last, "Show the last N positions only (a long text's end)")
      ->check(integer(1));
  app.add_option("--positions", options->shown.positions,
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
