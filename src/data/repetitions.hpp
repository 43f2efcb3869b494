// Items that stand twice. They are not independent: counted twice, they make intervals too narrow.
#pragma once

#include <map>
#include <set>
#include <string>

#include "tally.hpp"

namespace depthlens::data {

/// Looks for repetitions among the items of all inputs, and for items of one input that share an id.
class Repetitions {
 public:
  /// `items` is what the warnings call them.
  explicit Repetitions(std::string items) : items_(std::move(items)) {}

  /// Whether an item asked the same before and had the same answer. The same question with another answer,
  /// and an id that an other item of the input has, are only counted.
  bool repeats(const std::string& id, const std::string& question, const std::string& answer);

  /// Warns of what was found in the input called `input`; the next one has ids of its own.
  void finish_input(const std::string& input);

 private:
  std::string items_;
  std::map<std::string, std::map<std::string, std::string>> seen_;  // question → answer → id
  std::set<std::string> ids_;                                       // of this input
  Tally repeated_, other_answer_, same_id_;
};

}  // namespace depthlens::data
