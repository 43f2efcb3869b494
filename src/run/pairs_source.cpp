// Files of pairs → pairs in tokens.
#include "depthlens/run/session.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/text.hpp"
#include "run/words.hpp"

namespace depthlens::run {

PairsSource::PairsSource(const InputOptions& inputs, const Session& session) {
  util::check_inputs(inputs.inputs);
  data::PairBuilder builder(session.tokenizer(), session.bos(), session.max_length());
  for (const std::string& path : inputs.inputs) {
    builder.begin_input(path);
    const data::TaskFile<data::PromptPair> file = data::read_prompt_pairs(path);
    data::InputSummary summary{.path = path, .sha256 = file.sha256};
    for (const data::PromptPair& pair : file.items) {
      if (!builder.add(pair)) continue;
      ++summary.documents;
      for (const data::Fact* side : {&pair.source, &pair.target}) {
        const std::string text = side->text();
        summary.tokens += static_cast<std::int64_t>(session.tokenizer().encode(text).size());
        summary.bytes += static_cast<std::int64_t>(text.size());
      }
    }
    read_.documents += summary.documents;
    read_.files.push_back(std::move(summary));
  }
  data::PairTask task = std::move(builder).finish();
  const auto limit = static_cast<std::size_t>(inputs.limit);
  if (limit > 0 && task.items.size() > limit) {
    task.dropped[data::Drop::kBeyondLimit] += static_cast<std::int64_t>(task.items.size() - limit);
    task.items.resize(limit);
  }
  for (const data::PairItem& item : task.items) {
    session.check_in_vocabulary(item.pair.source);
    session.check_in_vocabulary(item.pair.target);
    session.check_in_vocabulary({item.pair.source_answer, item.pair.target_answer});
  }
  if (task.items.empty()) throw nothing_left_error("no pair is left to patch", inputs.inputs, task.dropped);
  for (const auto& [reason, count] : task.dropped) read_.dropped[reason] += count;
  Planner planner;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    const std::int64_t length = task.items[i].pair.length();  // a run of `length` tokens for each of them
    planner.add({.document = static_cast<std::int64_t>(i)}, length * length);
  }
  plan_ = std::move(planner).finish();
  task_ = std::move(task);
}

std::pair<std::size_t, std::size_t> PairsSource::items_of(std::int64_t part) const {
  return plan_.items(part, task_.items.size());
}

std::string PairsSource::size() const {
  return counted(static_cast<std::int64_t>(task_.items.size()), "pair");
}

}  // namespace depthlens::run
