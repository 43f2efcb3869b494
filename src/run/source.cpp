// What all sources share.
#include "depthlens/run/source.hpp"

#include "run/words.hpp"

namespace depthlens::run {

RunCounts::RunCounts(tables::State& state)
    : counts(state.counts("run.counts", kNumCounts)),
      dropped(state.counts("run.dropped", data::kNumDrops)),
      self_check(state.maxima("run.self_check", 1)),
      kept_like(state.histograms("run.kept_like", 1)) {}

util::OrderedJson inputs_json(const std::vector<data::InputSummary>& inputs) {
  util::OrderedJson files = util::OrderedJson::array();
  for (const data::InputSummary& input : inputs) {
    const bool has_text = input.bytes > 0 || input.tokens == 0;  // stored states are tokens only
    files.push_back({{"path", input.path},
                     {"sha256", input.sha256.empty() ? util::OrderedJson() : util::OrderedJson(input.sha256)},
                     {"documents", input.documents},
                     {"tokens", input.tokens},
                     {"bytes", has_text ? util::OrderedJson(input.bytes) : util::OrderedJson()}});
  }
  return files;
}

util::OrderedJson token_counts_json(const std::string& path, const data::TokenCounts& counts) {
  if (counts.sha256().empty()) return nullptr;
  return {{"path", path}, {"sha256", counts.sha256()}};
}

data::Dropped dropped_in(const tables::Counts& counts) {
  data::Dropped dropped;
  for (std::size_t reason = 0; reason < counts.size(); ++reason) {
    if (counts[reason] > 0) dropped[static_cast<data::Drop>(reason)] = counts[reason];
  }
  return dropped;
}

util::Error nothing_left_error(const std::string& what, const std::vector<std::string>& inputs,
                               const data::Dropped& dropped) {
  const std::string why = reasons_of(dropped);
  return util::input_error({.what = what,
                            .where = inputs.front(),
                            .expected = "at least one",
                            .found = why.empty() ? "none in the file" : "dropped: " + why});
}

util::Error no_distractor_error(const std::string& what) {
  return util::usage_error({.what = what,
                            .where = "--watch #distractor",
                            .expected = "facts with the key \"distractor\", or CounterFact's"});
}

}  // namespace depthlens::run
