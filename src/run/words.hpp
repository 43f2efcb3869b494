// Numbers of a run in sentences, for its log.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/data/corpus.hpp"
#include "depthlens/data/dropped.hpp"

namespace depthlens::run {

/// Warns of an input that has the contents of another one. `what` it has, and is counted twice: "words".
void tell_of_same(const std::vector<data::InputSummary>& inputs, const std::string& what);

/// "1 window", "1,234 windows": of a word whose plural has an s.
std::string counted(std::int64_t count, const std::string& what);

/// "304 not the model's own, 9 repeated": the most frequent first.
std::string reasons_of(const data::Dropped& dropped);

/// Of what was to count, how much does, and why the rest does not: "56 of 369 answers count: 304 not the
/// model's own, 9 repeated". Empty where nothing was dropped. `what` says the rest of the sentence: "answers
/// count".
std::string account_of(std::int64_t kept, const std::string& what, const data::Dropped& dropped);
/// Names those for which fewer than ten answers count; empty where there are none.
std::string few_of(const std::vector<std::pair<std::string, std::int64_t>>& counts);

}  // namespace depthlens::run
