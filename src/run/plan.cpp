// Cuts runs into parts.
#include "depthlens/run/plan.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

constexpr std::size_t kMaxParts = std::size_t{1} << 16;

}  // namespace

std::string Plan::digest() const {
  util::Sha256 hash;
  for (const Part& part : parts_) {
    const std::string text = util::cat(part.begin.document, ".", part.begin.window, "+", part.weight, " ");
    hash.update(text.data(), text.size());
  }
  return hash.hex_digest();
}

std::pair<std::size_t, std::size_t> Plan::items(std::int64_t part, std::size_t count) const {
  const std::size_t end = part + 1 < num_parts() ? static_cast<std::size_t>(begin(part + 1).document) : count;
  return {static_cast<std::size_t>(begin(part).document), end};
}

void Planner::add(const Place& place, std::int64_t weight) {
  std::vector<Plan::Part>& parts = plan_.parts_;
  if (parts.empty() || in_last_ == stride_) {
    if (parts.size() == kMaxParts) {  // pairs become one
      for (std::size_t i = 0; i < kMaxParts / 2; ++i)
        parts[i] = {.begin = parts[2 * i].begin, .weight = parts[2 * i].weight + parts[2 * i + 1].weight};
      parts.resize(kMaxParts / 2);
      stride_ *= 2;
    }
    parts.push_back({.begin = place});
    in_last_ = 0;
  }
  ++in_last_;
  parts.back().weight += weight;
  plan_.total_ += weight;
}

Plan Planner::finish() && {
  const std::int64_t enough =
      std::clamp<std::int64_t>(plan_.total_ / rule_.least_parts, 1, rule_.most_weight);
  std::vector<Plan::Part> joined;
  for (const Plan::Part& part : plan_.parts_) {
    if (joined.empty() || joined.back().weight >= enough) {
      joined.push_back(part);
    } else {
      joined.back().weight += part.weight;
    }
  }
  for (std::size_t i = 1; i < joined.size(); ++i)
    joined[i].before = joined[i - 1].before + joined[i - 1].weight;
  plan_.parts_ = std::move(joined);
  return std::move(plan_);
}

PartSet::PartSet(std::int64_t first, std::int64_t last) {
  if (first <= last) ranges_.push_back({first, last});
}

void PartSet::add(std::int64_t part) {
  if (ranges_.empty() || part > ranges_.back().last + 1) {
    ranges_.push_back({part, part});
  } else if (part == ranges_.back().last + 1) {
    ++ranges_.back().last;
  } else {
    add(PartSet(part, part));
  }
}

void PartSet::add(const PartSet& other) {
  std::vector<Range> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  std::sort(all.begin(), all.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  ranges_.clear();
  for (const Range& range : all) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

bool PartSet::contains(std::int64_t part) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](const Range& range) { return range.first <= part && part <= range.last; });
}

bool PartSet::overlaps(const PartSet& other) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& a) {
    return std::any_of(other.ranges_.begin(), other.ranges_.end(),
                       [&](const Range& b) { return a.first <= b.last && b.first <= a.last; });
  });
}

std::int64_t PartSet::size() const {
  std::int64_t size = 0;
  for (const Range& range : ranges_) size += range.last - range.first + 1;
  return size;
}

std::vector<std::int64_t> PartSet::missing(const PartSet& of) const {
  std::vector<std::int64_t> parts;
  for (const Range& range : of.ranges_) {
    for (std::int64_t part = range.first; part <= range.last; ++part) {
      if (!contains(part)) parts.push_back(part);
    }
  }
  return parts;
}

util::OrderedJson PartSet::json() const {
  util::OrderedJson ranges = util::OrderedJson::array();
  for (const Range& range : ranges_) ranges.push_back({range.first, range.last});
  return ranges;
}

PartSet PartSet::from_json(const util::JsonView& json) {
  PartSet set;
  if (!json.is_array()) json.fail("a list of ranges of parts");
  for (std::size_t i = 0; i < json.size(); ++i) {
    const util::JsonView range = json.at(i);
    if (!range.is_array() || range.size() != 2) range.fail("the first and the last part of a range");
    const std::int64_t first = range.at(0).as_integer(0, INT64_MAX - 1);
    const std::int64_t last = range.at(1).as_integer(first, INT64_MAX - 1);
    if (!set.ranges_.empty() && first <= set.ranges_.back().last + 1) range.fail("rising ranges");
    set.ranges_.push_back({first, last});
  }
  return set;
}

PartSet share(const Plan& plan, std::int64_t index, std::int64_t count) {
  DEPTHLENS_ASSERT(0 <= index && index < count);
  // A part belongs to the share that the middle of its work lies in.
  PartSet set;
  for (std::int64_t part = 0; part < plan.num_parts(); ++part) {
    const double middle =
        static_cast<double>(plan.weight_before(part)) + static_cast<double>(plan.weight(part)) / 2;
    const double place = middle / static_cast<double>(plan.total_weight()) * static_cast<double>(count);
    if (std::clamp<std::int64_t>(static_cast<std::int64_t>(place), 0, count - 1) == index) set.add(part);
  }
  return set;
}

}  // namespace depthlens::run
