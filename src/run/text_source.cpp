// Which positions of running text count.
#include <algorithm>
#include <iterator>

#include "depthlens/data/sample.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {

void TextSource::add_window(const Place& place, std::int64_t length) {
  planner_.add(place, length);
  ++survey_.windows;
  survey_.positions += options_.last_only() ? 1 : length;
}

void TextSource::end_survey(std::uint64_t seed) {
  plan_ = std::move(planner_).finish();
  const auto wanted = options_.sample();
  if (!wanted) return;
  if (*wanted > survey_.positions) {
    util::log_warning(util::cat("the input has ", survey_.positions, " positions: all are taken, not ",
                                *wanted, " (--positions ", options_.positions, ")"));
  }
  survey_.drawn = data::drawn(std::min(*wanted, survey_.positions), survey_.positions, seed);
  survey_.positions = static_cast<std::int64_t>(survey_.drawn.size());
}

void TextSource::watch(const experiments::Watch& watch) {
  if (watch.has(experiments::WatchedToken::Kind::kDistractor))
    throw no_distractor_error("a text has no distractor");
  watch_ = &watch;
}

std::vector<std::int64_t> TextSource::chosen(std::int64_t first, std::int64_t length) const {
  std::vector<std::int64_t> positions;
  if (options_.sample()) {
    const auto begin = std::lower_bound(survey_.drawn.begin(), survey_.drawn.end(), first);
    const auto end = std::lower_bound(begin, survey_.drawn.end(), first + length);
    std::transform(begin, end, std::back_inserter(positions),
                   [&](std::int64_t drawn) { return drawn - first; });
    return positions;
  }
  for (std::int64_t t = options_.last_only() ? length - 1 : 0; t < length; ++t) positions.push_back(t);
  return positions;
}

void TextSource::add_positions(decode::Query& query, const std::vector<std::int64_t>& positions) const {
  const auto length = static_cast<std::int64_t>(query.tokens.size());
  for (const std::int64_t t : positions) {
    const decode::TokenId target =
        t + 1 < length ? query.tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
    query.positions.push_back({.position = t, .target = target, .watched = {}});
    if (watch_ != nullptr) watch_->append_to(query.positions.back());
  }
}

}  // namespace depthlens::run
