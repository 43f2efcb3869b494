// In what two descriptions differ: of runs (run.json), models or lenses, as `info` has them.
#pragma once

#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::tool {

/// A value of both sides. A key that one does not have is null there.
struct Difference {
  std::string key;  ///< such as "settings.top_k", "inputs[0].sha256", "lenses.tuned.digest"
  util::OrderedJson a, b;
};

struct Comparison {
  std::vector<Difference> different;
  /// Paths of what has the same contents on both sides.
  std::vector<Difference> other_path;
  std::vector<std::string> same;  ///< parts without a difference, such as "model"
  /// The keys for which two runs cannot be compared document by document, as pairs; empty: they can.
  std::vector<std::string> unpaired;
};

/// Two descriptions of one kind. `volatile`, `self_check` and their own paths are left out.
Comparison compare_described(const util::OrderedJson& a, const util::OrderedJson& b);

/// A value in a line for people: texts as they are, SHA-256 by their beginnings, what is absent "absent".
std::string short_value(const util::OrderedJson& value);

util::OrderedJson comparison_json(const util::OrderedJson& a, const util::OrderedJson& b);
/// Lines: a difference each, "KEY: A | B"; then what is the same.
std::string comparison_text(const util::OrderedJson& a, const util::OrderedJson& b);

}  // namespace depthlens::tool
