// How much of a run is left to one process: the total of its line of progress, and what its saving goes by.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "depthlens/run/plan.hpp"

namespace depthlens::run {

/// What each of `num_ranks` processes, which share `parts` about alike, has to do: `of` says it of a part.
std::int64_t own_share(const std::vector<std::int64_t>& parts, std::int64_t num_ranks,
                       const std::function<std::int64_t(std::int64_t part)>& of);

/// How many of the `all` units (positions) of a plan come to so much of its weight, about.
std::int64_t units_of_weight(const Plan& plan, std::int64_t weight, std::int64_t all);

}  // namespace depthlens::run
