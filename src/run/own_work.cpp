// Adds up what is left to do.
#include "depthlens/run/own_work.hpp"

namespace depthlens::run {

std::int64_t own_share(const std::vector<std::int64_t>& parts, std::int64_t num_ranks,
                       const std::function<std::int64_t(std::int64_t part)>& of) {
  std::int64_t sum = 0;
  for (const std::int64_t part : parts) sum += of(part);
  return sum / num_ranks;
}

std::int64_t units_of_weight(const Plan& plan, std::int64_t weight, std::int64_t all) {
  if (weight == 0) return 0;
  const double of_all = static_cast<double>(weight) / static_cast<double>(plan.total_weight());
  return static_cast<std::int64_t>(static_cast<double>(all) * of_all);
}

}  // namespace depthlens::run
