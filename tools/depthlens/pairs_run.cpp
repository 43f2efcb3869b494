// Pair files → pairs in tokens → patcher → run folder.
#include "pairs_run.hpp"

#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {

PairsRun::PairsRun(const CorpusOptions& inputs, const TaskOptions& options, const ModelOptions& model)
    : started_(Clock::now()),
      inputs_(inputs),
      options_(options),
      session_(model),
      folder_(inputs.out, inputs.overwrite),
      task_(read()) {}

data::PairTask PairsRun::read() {
  util::check_inputs(inputs_.inputs);
  data::PairBuilder builder(session_.tokenizer(), session_.bos(), session_.max_length());
  for (const std::string& path : inputs_.inputs) {
    builder.begin_input(path);
    const data::TaskFile<data::PromptPair> file = data::read_prompt_pairs(path);
    data::InputSummary summary{.path = path, .sha256 = file.sha256};
    for (const data::PromptPair& pair : file.items) {
      if (!builder.add(pair)) continue;
      ++summary.documents;
      for (const data::Fact* side : {&pair.source, &pair.target}) {
        const std::string text = side->prompt + " " + side->answer;
        summary.tokens += static_cast<std::int64_t>(session_.tokenizer().encode(text).size());
        summary.bytes += static_cast<std::int64_t>(text.size());
      }
    }
    read_.documents += summary.documents;
    read_.files.push_back(std::move(summary));
  }
  data::PairTask task = std::move(builder).finish();
  const auto limit = static_cast<std::size_t>(inputs_.limit);
  if (limit > 0 && task.items.size() > limit) {
    task.dropped[data::Drop::kBeyondLimit] += static_cast<std::int64_t>(task.items.size() - limit);
    task.items.resize(limit);
  }
  for (const data::PairItem& item : task.items) {
    session_.check_in_vocabulary(item.pair.source);
    session_.check_in_vocabulary(item.pair.target);
    session_.check_in_vocabulary({item.pair.source_answer, item.pair.target_answer});
  }
  if (task.items.empty()) throw nothing_left_error("no pair is left to patch", inputs_.inputs, task.dropped);
  return task;
}

void PairsRun::load() {
  session_.load();
  const model::Model& model = session_.model();
  util::log_info(util::cat(model.spec().architecture, ", ", model.spec().num_layers, " blocks, ",
                           util::with_thousands(model.num_parameters()), " parameters; ",
                           util::with_thousands(static_cast<std::int64_t>(task_.items.size())), " pairs"));
}

decode::RunStatistics PairsRun::patch(
    const std::function<void(const data::PairItem&, const decode::PatchingResult&)>& show) {
  util::Progress progress("patching", "pairs", static_cast<std::int64_t>(task_.items.size()));
  decode::Patcher patcher(session_.model(),
                          {.predicted_only = options_.correct_only(), .should_stop = util::interrupted});
  for (const data::PairItem& item : task_.items) {
    const auto result = patcher.patch(item.pair);
    if (patcher.statistics().stopped) break;
    if (result) {
      ++kept_;
      show(item, *result);
    } else {
      ++read_.dropped[data::Drop::kPairNotPredicted];
    }
    progress.advance(1);
  }
  progress.finish();
  return patcher.statistics();
}

void PairsRun::finish(const RunParts& parts, const tables::Table& table) {
  for (const auto& [reason, count] : task_.dropped) read_.dropped[reason] += count;
  util::OrderedJson run = run_json(session_, read_, parts, inputs_.out, started_);
  run["lenses"] = util::OrderedJson::array();
  run["counts"]["pairs"] = kept_;
  write_run(folder_, run, parts, {table});
  if (kept_ == 0 && !parts.statistics.stopped) {
    util::log_warning(
        util::cat("of no pair does the model say both answers itself, so that the table is empty",
                  options_.correct_only() ? "; --keep all counts all of them" : ""));
  }
}

}  // namespace depthlens::tool
