// depthlens eval-lens: how well lenses do on a text, layer by layer; tables and pictures into a run folder.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>

#include "command.hpp"
#include "corpus_run.hpp"
#include "depthlens/experiments/evaluation.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/report/plot.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "session.hpp"

namespace depthlens::tool {
namespace {

/// Translated states of one pass of --transfer. Each translator that takes part adds L states to every
/// position of a chunk, and the engine makes chunks of 6,144 states, of 32 positions at the least. With this
/// many, its smallest chunk is about as large as it wants, whatever L is: memory stays what analyze takes. A
/// pass repeats the forward pass, which costs little beside decoding a hundred states of every position.
constexpr std::int64_t kStatesPerPass = 128;
/// Chunks are at their smallest, so memory only decides how many windows make a batch. Small batches let the
/// user see progress and interrupt: a position takes ten times as long as in analyze.
constexpr std::uint64_t kMemoryOfPass = std::uint64_t{32} << 20;

struct EvalLensOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  bool transfer = false;
};

util::OrderedJson settings_json(const EvalLensOptions& options, const Session& session) {
  return {{"lens_alignment", options.model.alignment},
          {"allow_lens_mismatch", options.model.allow_lens_mismatch},
          {"max_length", session.max_length()},
          {"add_bos", session.bos().has_value()},
          {"bos", session.bos() ? util::OrderedJson(*session.bos()) : util::OrderedJson(nullptr)},
          {"positions", options.corpus.positions},
          {"transfer", options.transfer},
          {"dtype", options.model.dtype},
          {"device", options.model.device},
          {"limit", options.corpus.limit},
          {"seed", options.common.seed}};
}

/// Every translator of every lens that has some, on every layer. `statistics` are those of the run so far.
void run_transfer(CorpusRun& run, experiments::Transfer& transfer, decode::RunStatistics& statistics) {
  std::vector<std::pair<const lens::Lens*, std::int64_t>> translators;
  for (const lens::Lens* lens : run.session().lenses()) {
    for (std::int64_t i = 0; i < lens->num_translators(); ++i) translators.emplace_back(lens, i);
  }
  const auto per_pass =
      static_cast<std::size_t>(std::max<std::int64_t>(1, kStatesPerPass / run.session().spec().num_layers));
  const std::size_t passes = (translators.size() + per_pass - 1) / per_pass;
  decode::EngineOptions engine_options;
  engine_options.memory = kMemoryOfPass;
  for (std::size_t pass = 0; pass < passes && !statistics.stopped; ++pass) {
    std::vector<std::unique_ptr<lens::Lens>> views;
    std::vector<const lens::Lens*> lenses;
    std::vector<experiments::Transfer::View> expected;
    for (std::size_t k = pass * per_pass; k < std::min((pass + 1) * per_pass, translators.size()); ++k) {
      const auto& [lens, index] = translators[k];
      views.push_back(lens::make_transfer_lens(*lens, index));
      lenses.push_back(views.back().get());
      expected.push_back({.lens = lens->request().name, .translator = index});
    }
    transfer.expect(std::move(expected));
    const decode::RunStatistics one = run.decode(
        lenses, {&transfer}, util::cat("transfer, pass ", pass + 1, " of ", passes), engine_options);
    statistics.stopped = one.stopped;
    statistics.self_checked_positions += one.self_checked_positions;
    statistics.final_layer_max_abs_error =
        std::max(statistics.final_layer_max_abs_error, one.final_layer_max_abs_error);
  }
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

report::ExtraFile lens_picture(const tables::Table& quality, double bits_per_byte) {
  const std::size_t kl = column(quality, "kl_final");
  report::LineChart chart{.title = "How far each layer is from the model's own output",
                          .x_title = "layer",
                          .y_title = "KL(final ‖ layer), nats per token",
                          .series = {},
                          .right_title = "bits per byte",
                          .right_factor = bits_per_byte};
  std::vector<double> all;
  for (const auto& row : quality.rows) {
    const std::string& lens = std::get<std::string>(row[0]);
    if (chart.series.empty() || chart.series.back().name != lens) chart.series.push_back({lens, {}});
    all.push_back(number_or_nan(row[kl]));
    chart.series.back().values.push_back(all.back());
  }
  chart.scale = report::suitable_scale(all);
  if (chart.scale == report::Scale::kLog && !chart.series.empty()) {
    chart.note = util::cat("Layer ", chart.series.front().values.size() - 1,
                           " is the model's own output: 0, which a logarithmic scale cannot show.");
  }
  return {"lens.svg", line_chart_svg(chart)};
}

report::ExtraFile transfer_picture(const tables::Table& transfer, std::int64_t num_layers) {
  const std::size_t kl = column(transfer, "kl_final");
  report::Heatmap map{.title = "Translators on other layers: KL(final ‖ layer)",
                      .note = "Framed: each translator on the layer that it was trained on.",
                      .x_title = "layer",
                      .y_title = "translator",
                      .value_title = "nats per token",
                      .mark_diagonal = true,
                      .panels = {}};
  std::vector<double> all;
  for (const auto& row : transfer.rows) {
    const std::string& lens = std::get<std::string>(row[0]);
    if (map.panels.empty() || map.panels.back().title != lens) map.panels.push_back({lens, {}});
    auto& rows = map.panels.back().rows;
    const auto translator = static_cast<std::size_t>(std::get<std::int64_t>(row[1]));
    if (rows.size() <= translator) rows.resize(translator + 1);
    all.push_back(number_or_nan(row[kl]));
    rows[translator].push_back(all.back());
  }
  // After an interruption the last translators may be missing: a gap in the picture.
  for (report::Heatmap::Panel& panel : map.panels) {
    panel.rows.resize(static_cast<std::size_t>(num_layers),
                      std::vector<double>(static_cast<std::size_t>(num_layers), NAN));
  }
  map.scale = report::suitable_scale(all);
  return {"transfer.svg", heatmap_svg(map)};
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
  CorpusRun run(options.corpus, options.model, seed);
  run.load();
  const util::FinishOnInterrupt finish;
  const std::vector<const lens::Lens*> lenses = run.session().lenses();
  if (options.transfer && std::none_of(lenses.begin(), lenses.end(),
                                       [](const lens::Lens* lens) { return lens->num_translators() > 0; })) {
    throw util::usage_error({.what = "no lens whose translators could be tried on other layers",
                             .where = "--transfer",
                             .expected = "a tuned lens",
                             .hint = "depthlens eval-lens --transfer --lens tuned:PATH …"});
  }
  experiments::TextSize size;
  for (const data::InputSummary& input : run.survey().inputs) {
    size.tokens += input.tokens;
    size.bytes += input.bytes;
  }
  const double bits_per_byte = experiments::bits_per_byte_of_a_nat(size);

  const auto trajectory = experiments::make_experiments("trajectory", {.buckets = {}, .seed = seed});
  std::vector<decode::Listener*> listeners;
  for (const auto& experiment : trajectory) listeners.push_back(experiment.get());
  decode::RunStatistics statistics = run.decode(lenses, listeners, "evaluating");
  std::vector<tables::Table> tables = trajectory.front()->tables();
  const tables::Table quality = tables.front();
  tables.push_back(experiments::bits_per_byte_table(quality, size));
  std::vector<report::ExtraFile> files = {lens_picture(quality, bits_per_byte)};
  if (options.transfer) {
    experiments::Transfer transfer(seed);
    run_transfer(run, transfer, statistics);
    tables.push_back(transfer.table());
    files.push_back(transfer_picture(tables.back(), run.session().spec().num_layers));
  }
  run.finish({.settings = settings_json(options, run.session()), .statistics = statistics}, tables, files);
  if (!options.common.quiet) print_quality(quality, bits_per_byte);
  run.conclude(statistics);
}

}  // namespace

std::function<void()> setup_eval_lens(CLI::App& app) {
  auto options = std::make_shared<EvalLensOptions>();
  add_corpus_options(app, options->corpus);
  add_run_options(app, options->model);
  app.add_flag("--transfer", options->transfer,
               "Try every translator of the tuned lenses on every layer too; takes about L times as long");
  add_positions_option(app, options->corpus);
  add_limit_option(app, options->corpus);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens eval-lens --model gpt2 --lens logit --lens tuned:lens/gpt2 \\\n"
      "      --input held-out.txt --out out/lenses --transfer\n"
      "  writes out/lenses/lens.svg and transfer.svg with the tables lens.quality, lens.bits_per_byte and "
      "lens.transfer");
  return [options, &app] { run_eval_lens(app, *options); };
}

}  // namespace depthlens::tool
