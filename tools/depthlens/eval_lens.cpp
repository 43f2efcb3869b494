// depthlens eval-lens: how well lenses do on a text, layer by layer; tables and a page into a run folder.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iostream>
#include <memory>
#include <utility>

#include "command.hpp"
#include "depthlens/experiments/evaluation.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "input_flags.hpp"
#include "model_flags.hpp"

namespace depthlens::tool {
namespace {

/// Translated states of one group of --transfer. Each translator that takes part adds L states to every
/// position of a chunk, and the engine makes chunks of 6,144 states, of 32 positions at the least. With this
/// many, its smallest chunk is about as large as it wants, whatever L is: memory stays what analyze takes.
constexpr std::int64_t kStatesPerGroup = 128;

struct EvalLensOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  bool transfer = false;
  std::string report = "yes";
};

util::OrderedJson settings_json(const EvalLensOptions& options, const Session& session) {
  return {{"lens_alignment", run::name_of(run::kAlignments, options.model.alignment)},
          {"allow_lens_mismatch", options.model.allow_lens_mismatch},
          {"max_length", session.max_length()},
          {"add_bos", session.bos().has_value()},
          {"bos", session.describe_bos()},
          {"positions", options.corpus.positions},
          {"transfer", options.transfer},
          {"dtype", run::name_of(run::kDtypes, options.model.dtype)},
          {"device", options.model.device},
          {"limit", options.corpus.limit},
          {"seed", options.common.seed}};
}

/// Every translator of every lens that has some, on every layer: groups of the engine's, each with its
/// listener.
struct TransferGroups {
  std::vector<std::unique_ptr<lens::Lens>> views;
  std::vector<std::unique_ptr<decode::Listener>> listeners;
  std::vector<decode::LensGroup> groups;
};

TransferGroups transfer_groups(const Session& session, const experiments::Context& context) {
  const auto per_group =
      static_cast<std::size_t>(std::max<std::int64_t>(1, kStatesPerGroup / session.spec().num_layers));
  TransferGroups all;
  std::vector<experiments::TranslatorView> expected;
  std::vector<const lens::Lens*> lenses;
  const auto finish_group = [&] {
    if (lenses.empty()) return;
    all.listeners.push_back(experiments::make_transfer_listener(context, std::exchange(expected, {})));
    all.groups.push_back({std::exchange(lenses, {}), {all.listeners.back().get()}});
  };
  for (const lens::Lens* lens : session.lenses()) {
    for (std::int64_t i = 0; i < lens->num_translators(); ++i) {
      all.views.push_back(lens::make_transfer_lens(*lens, i));
      lenses.push_back(all.views.back().get());
      expected.push_back({.lens = lens->request().name, .translator = i});
      if (lenses.size() == per_group) finish_group();
    }
  }
  finish_group();
  return all;
}

double number_or_nan(const tables::Cell& cell) {
  const auto* number = std::get_if<double>(&cell);
  return number != nullptr ? *number : NAN;
}

std::size_t column(const tables::Table& table, const std::string& name) {
  const auto found = std::find_if(table.columns.begin(), table.columns.end(),
                                  [&](const tables::Column& column) { return column.name == name; });
  DEPTHLENS_ASSERT(found != table.columns.end());
  return static_cast<std::size_t>(found - table.columns.begin());
}

/// `value` with `decimals`, right-aligned in `width`; a dash where there is none.
std::string right_aligned(double value, int decimals, std::size_t width) {
  std::array<char, 48> buffer;
  std::string text = "-";
  if (std::isfinite(value)) {
    const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                            std::chars_format::fixed, decimals);
    if (error == std::errc()) text.assign(buffer.data(), end);
  }
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

void print_quality(const tables::Table& quality, double bits_per_byte) {
  const std::size_t kl = column(quality, "kl_final"), cross_entropy = column(quality, "cross_entropy"),
                    agreement = column(quality, "top1_agreement");
  std::string out, lens;
  for (const auto& row : quality.rows) {
    if (std::get<std::string>(row[0]) != lens) {
      if (!lens.empty()) out += "\n";
      lens = std::get<std::string>(row[0]);
      out += lens + "\n" +
             "              KL(final ‖ layer)          cross-entropy       top-1\n"
             "  layer       nats  bits/byte        nats  bits/byte   agreement\n";
    }
    std::string layer = std::to_string(std::get<std::int64_t>(row[1]));
    layer.insert(0, 7 - std::min<std::size_t>(7, layer.size()), ' ');
    const double nats = number_or_nan(row[kl]), loss = number_or_nan(row[cross_entropy]);
    out += layer + right_aligned(nats, 4, 11) + right_aligned(nats * bits_per_byte, 4, 11) +
           right_aligned(loss, 4, 12) + right_aligned(loss * bits_per_byte, 4, 11) +
           right_aligned(100 * number_or_nan(row[agreement]), 1, 10) + " %\n";
  }
  std::cout << out << std::flush;
}

void run_eval_lens(const CLI::App& app, const EvalLensOptions& options) {
  check_corpus_options(options.corpus, "eval-lens");
  check_effects(app, lens_conditions(options.model));
  apply_common_options(options.common);
  const auto seed = static_cast<std::uint64_t>(options.common.seed);
  run::Run run(options.corpus);
  Session session(located(options.model, run, options.common));
  run::CorpusSource source(options.corpus, session, run.spool_folder(), seed);
  session.load();
  const std::vector<const lens::Lens*> lenses = session.lenses();
  if (options.transfer && std::none_of(lenses.begin(), lenses.end(),
                                       [](const lens::Lens* lens) { return lens->num_translators() > 0; })) {
    throw util::usage_error({.what = "no lens whose translators could be tried on other layers",
                             .where = "--transfer",
                             .expected = "a tuned lens",
                             .hint = "depthlens eval-lens --transfer --lens tuned:PATH …"});
  }
  util::log_info(session.summary() + "; " + source.size());

  run::RunContext context;
  context.seed = seed;
  context.shape.vocab_size = session.spec().vocab_size;
  context.records.write = false;
  context.draws_page = options.report == "yes";
  experiments::EvaluationContext evaluation;
  evaluation.num_layers = session.spec().num_layers;
  for (const data::InputSummary& input : source.inputs().files) {
    evaluation.size.tokens += input.tokens;
    evaluation.size.bytes += input.bytes;
  }
  for (const lens::Lens* lens : lenses) {
    if (options.transfer && lens->num_translators() > 0)
      evaluation.transfer.emplace_back(lens->request().name, lens->num_translators());
  }
  const double bits_per_byte = experiments::bits_per_byte_of_a_nat(evaluation.size);
  context.evaluation = std::move(evaluation);

  const util::FinishOnInterrupt finish;
  const bool begun = run.begin(std::move(context), source, [&] {
    util::OrderedJson beginning = run::describe_run(session, source.inputs());
    beginning["settings"] = settings_json(options, session);
    return beginning;
  });
  if (!begun) return;
  TransferGroups transfer;
  if (options.transfer) transfer = transfer_groups(session, run.experiment_context());
  run.decode(session, source, transfer.groups);
  const std::vector<tables::Table> tables = run.finish(session);
  if (!options.common.quiet && !tables.empty()) print_quality(tables.front(), bits_per_byte);
}

}  // namespace

std::function<void()> setup_eval_lens(CLI::App& app) {
  auto options = std::make_shared<EvalLensOptions>();
  add_corpus_options(app, options->corpus);
  add_run_options(app, options->model);
  app.add_flag("--transfer", options->transfer,
               "Try every translator of the tuned lenses on every layer too; takes about L times as long");
  app.add_option("--report", options->report, "Draw report.html, a page that shows the run")
      ->check(one_of({"yes", "no"}))
      ->capture_default_str();
  add_positions_option(app, options->corpus);
  add_parts_options(app, options->corpus);
  add_limit_option(app, options->corpus);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens eval-lens --model gpt2 --lens logit --lens tuned:lens/gpt2 \\\n"
      "      --input held-out.txt --out out/lenses --transfer\n"
      "  writes out/lenses/report.html with the tables lens.quality, lens.bits_per_byte and lens.transfer");
  return [options, &app] { run_eval_lens(app, *options); };
}

}  // namespace depthlens::tool
