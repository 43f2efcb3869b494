// How a run is cut into parts: by a rule that depends on the input and the settings alone, so that every
// process that has a share in the run, now or after an interruption, cuts it alike.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// Where a part begins: at a window of a document of a corpus, or an item of a task.
struct Place {
  std::int64_t document = 0;  ///< or item, pair, file of states
  std::int64_t window = 0;    ///< within the document

  auto operator<=>(const Place&) const = default;
};

class Plan {
 public:
  std::int64_t num_parts() const { return static_cast<std::int64_t>(parts_.size()); }
  /// Where part 0 ≤ i < num_parts begins; it ends where the next one begins.
  const Place& begin(std::int64_t part) const { return parts_[static_cast<std::size_t>(part)].begin; }
  std::int64_t weight(std::int64_t part) const { return parts_[static_cast<std::size_t>(part)].weight; }
  /// Of the parts before it.
  std::int64_t weight_before(std::int64_t part) const {
    return parts_[static_cast<std::size_t>(part)].before;
  }
  /// Which of `count` items a part has, from the first of them to before the second, where all begin at an
  /// item.
  std::pair<std::size_t, std::size_t> items(std::int64_t part, std::size_t count) const;
  std::int64_t total_weight() const { return total_; }
  /// SHA-256 of where the parts begin: parts of two plans can be taken for one another where it is the same.
  std::string digest() const;

 private:
  friend class Planner;
  struct Part {
    Place begin;
    std::int64_t weight = 0;
    std::int64_t before = 0;
  };
  std::vector<Part> parts_;
  std::int64_t total_ = 0;
};

struct PlanRule {
  /// At least so many parts, where there are as many units: what is lost when a run dies is about one of
  /// them.
  std::int64_t least_parts = 64;
  /// No part grows beyond this, unless a unit is larger or there would be more than 2¹⁶ parts.
  std::int64_t most_weight = 512;
};

/// Makes a plan of units (windows, items) that it is told one after the other, and remembers 2¹⁶ places at
/// the most, however many units there are.
class Planner {
 public:
  explicit Planner(PlanRule rule = {}) : rule_(rule) {}

  /// The next unit begins at `place` and is about so much work (tokens).
  void add(const Place& place, std::int64_t weight);
  Plan finish() &&;

 private:
  PlanRule rule_;
  std::int64_t stride_ = 1;   // units that make one of `plan_.parts_`
  std::int64_t in_last_ = 0;  // units in the last one
  Plan plan_;
};

/// Numbers of parts, as ranges.
class PartSet {
 public:
  PartSet() = default;
  /// first … last, both included.
  PartSet(std::int64_t first, std::int64_t last);

  void add(std::int64_t part);
  void add(const PartSet& other);
  bool contains(std::int64_t part) const;
  bool overlaps(const PartSet& other) const;
  std::int64_t size() const;
  bool empty() const { return ranges_.empty(); }
  /// Those of 0 … `num_parts` − 1 that lie in `of` and not in this.
  std::vector<std::int64_t> missing(const PartSet& of) const;

  /// [[first, last], …].
  util::OrderedJson json() const;
  /// Throws a format error for anything that `json` does not give.
  static PartSet from_json(const util::JsonView& json);

 private:
  struct Range {
    std::int64_t first, last;
  };
  std::vector<Range> ranges_;  // rising, with gaps between them
};

/// The parts of share `index` of `count`: neighbours, about equally much work.
PartSet share(const Plan& plan, std::int64_t index, std::int64_t count);

}  // namespace depthlens::run
