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

  /// A pass with this reducer.
  void add_all(const VocabularyPass& pass, const StateRows& rows);
  /// Instead of it: from logits that were kept. `statistics`: where they are on the processor.
  void add_kept(const KeptLogits& logits, const RowStatistics* statistics);

  void begin(const PassLayout& layout) override { max_width_ = layout.max_width; }
  std::unique_ptr<Workspace> make_workspace() const override;
  void add(HostTile& tile, Workspace* workspace) override;
  void add(DeviceTile& tile) override;

 private:
  struct Memory;
  /// What a device makes of tiles stays there until the last of them, so that none is waited for.
  struct OnDevice {
    at::Tensor log_sum_exp;  // [S · P, 1] float64
    at::Tensor reference;    // it, rounded to float32
    at::Tensor factor;       // what rounding takes from the reference, put back as a factor
    at::Tensor found;  // [S, V] float64: sums of the probabilities, or logarithms of those of the small ones
    at::Tensor any_small;  // [] bool
  };
  /// Has `make_tiles()` hand every tile to `add`, and where some probabilities were too small for their sum,
  /// once more for their logarithms.
  template <typename MakeTiles>
  void with_tiles_of_device(const MakeTiles& make_tiles);
  void add_row(const RowStatistics& statistics, const float* logits, std::int64_t first, int width,
               std::int64_t state, double log_sum_exp, Memory& memory);

  ProbabilitySums& sums_;
  std::int64_t first_state_;
  std::span<const double> log_sum_exp_;
  std::int64_t num_positions_;
  std::int64_t max_width_ = 0;
  OnDevice there_;
  bool small_ones_ = false;  // what `add` makes of a device's tile
};

}  // namespace depthlens::compute
