// Items that stand twice.
#include "repetitions.hpp"

#include <utility>

#include "depthlens/util/error.hpp"

namespace depthlens::data {

bool Repetitions::repeats(const std::string& id, const std::string& question, const std::string& answer) {
  std::map<std::string, std::string>& answers = seen_[question];
  if (answers.count(answer) > 0) {
    repeated_.add(util::in_quotes(id));
    return true;
  }
  if (!answers.empty())
    other_answer_.add(util::cat(util::in_quotes(id), " and ", util::in_quotes(answers.begin()->second)));
  answers.emplace(answer, id);
  if (!ids_.insert(id).second) same_id_.add(util::in_quotes(id));
  return false;
}

void Repetitions::finish_input(const std::string& input) {
  repeated_.warn(input, "repeated " + items_, "each is counted once");
  other_answer_.warn(input, "prompts that stand twice with different answers", "both are asked");
  same_id_.warn(input, "ids of " + items_ + " that differ", "records tell these by 'document' only");
  repeated_ = other_answer_ = same_id_ = {};
  ids_.clear();
}

}  // namespace depthlens::data
