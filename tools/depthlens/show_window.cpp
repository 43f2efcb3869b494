// Finds the window that shows positions of a text.
#include "show_window.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

/// The positions of a text of `length` tokens that are to be shown, as the flags ask for them: 0 ≤ first ≤
/// last < length.
util::IndexRange wanted_positions(const ShownPositions& options, std::int64_t length) {
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

}  // namespace

Window window_of(const std::vector<text::TokenId>& tokens, const ShownPositions& options,
                 const run::Session& session) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  const std::int64_t most = session.max_length(), bos = session.bos() ? 1 : 0;
  util::IndexRange range = wanted_positions(options, length);
  if (!options.chosen() && length > most) {
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
  // No position sees what comes after it, but it may turn by the length of the window.
  const std::int64_t end =
      begin == 0 && session.angles_go_by_length() ? std::min(length, most) : range.last + 1;
  Window window;
  if (begin > 0 && bos > 0) window.query.tokens.push_back(tokens.front());
  const std::int64_t shift = static_cast<std::int64_t>(window.query.tokens.size()) - begin;
  window.query.tokens.insert(window.query.tokens.end(), tokens.begin() + begin, tokens.begin() + end);
  for (std::int64_t t = range.first; t <= range.last; ++t) {
    const decode::TokenId target =
        t + 1 < length ? tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
    window.query.positions.push_back({.position = t + shift, .target = target, .watched = {}});
    window.positions.push_back(t);
  }
  return window;
}

}  // namespace depthlens::tool
