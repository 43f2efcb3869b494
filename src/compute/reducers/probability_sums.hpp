// The reducer that adds up the probabilities of every token over positions.
#pragma once

#include <span>
#include <vector>

#include "compute/reducer.hpp"
#include "compute/reducers/kept_logits.hpp"
#include "depthlens/compute/statistics.hpp"

namespace depthlens::compute {

class ProbabilityReducer : public Reducer {
 public:
  /// For rows whose states are `first_state` … of the sums, with their log-sum-exps [S, P], which must come
  /// from the same products.
  ProbabilityReducer(ProbabilitySums& sums, std::int64_t first_state, std::span<const double> log_sum_exp,
                     std::int64_t num_positions)
      : sums_(sums), first_state_(first_state), log_sum_exp_(log_sum_exp), num_positions_(num_positions) {}

  void begin(const PassLayout& layout) override { max_width_ = layout.max_width; }
  std::unique_ptr<Workspace> make_workspace() const override;
  void add(HostTile& tile, Workspace* workspace) override;
  void add(DeviceTile& tile) override;

  /// Instead of a pass: from logits that were kept. `statistics`: where they are on the processor.
  void add_kept(const KeptLogits& logits, const RowStatistics* statistics);

 private:
  struct Memory;
  void add_row(const RowStatistics& statistics, const float* logits, std::int64_t first, int width,
               std::int64_t state, double log_sum_exp, Memory& memory);

  ProbabilitySums& sums_;
  std::int64_t first_state_;
  std::span<const double> log_sum_exp_;
  at::Tensor there_;  // log_sum_exp_ on the device of tiles, [S · P, 1]
  std::int64_t num_positions_;
  std::int64_t max_width_ = 0;
};

}  // namespace depthlens::compute
