// Numbers of a run in sentences.
#include "run/words.hpp"

#include <algorithm>

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {

void tell_of_same(const std::vector<data::InputSummary>& inputs, const std::string& what) {
  for (auto input = inputs.begin(); input != inputs.end(); ++input) {
    const auto same = std::find_if(inputs.begin(), input, [&](const data::InputSummary& other) {
      return !other.sha256.empty() && other.bytes > 0 && other.sha256 == input->sha256;
    });
    if (same == input) continue;
    util::log_warning(util::cat(input->path, " is the same as ", same->path, ": its ", what, " count twice"));
  }
}

std::string counted(std::int64_t count, const std::string& what) {
  return util::cat(util::with_thousands(count), " ", what, count == 1 ? "" : "s");
}

std::string reasons_of(const data::Dropped& dropped) {
  std::vector<std::pair<data::Drop, std::int64_t>> sorted(dropped.begin(), dropped.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> parts;
  for (const auto& [reason, count] : sorted)
    parts.push_back(util::cat(util::with_thousands(count), " ", data::in_words(reason)));
  return util::join(parts, ", ");
}

std::string account_of(std::int64_t kept, const std::string& what, const data::Dropped& dropped) {
  if (dropped.empty()) return "";
  std::int64_t all = kept;
  for (const auto& [reason, count] : dropped) all += count;
  return util::cat(util::with_thousands(kept), " of ", util::with_thousands(all), " ", what, ": ",
                   reasons_of(dropped));
}

std::string few_of(const std::vector<std::pair<std::string, std::int64_t>>& counts) {
  constexpr std::int64_t kFew = 10;
  constexpr std::size_t kMaxNamed = 12;
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) {
    if (count < kFew)
      names.push_back(util::cat(name, " (", count == 0 ? "none" : std::to_string(count), ")"));
  }
  if (names.empty()) return "";
  const std::size_t more = names.size() - std::min(names.size(), kMaxNamed);
  names.resize(names.size() - more);
  return util::cat("fewer than ", kFew, " answers count for ", util::join(names, ", "),
                   more > 0 ? util::cat(" and ", more, " others") : "", "; their means say little");
}

}  // namespace depthlens::run
