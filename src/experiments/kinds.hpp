// The experiments' makers, for the registry, and what several experiments share.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "depthlens/experiments/experiment.hpp"

namespace depthlens::experiments {

std::unique_ptr<Experiment> make_trajectory(const Context& context);
std::unique_ptr<Experiment> make_frequency(const Context& context);
std::unique_ptr<Experiment> make_flips(const Context& context);
std::unique_ptr<Experiment> make_settling(const Context& context);
std::unique_ptr<Experiment> make_calibration(const Context& context);
std::unique_ptr<Experiment> make_pos(const Context& context);
std::unique_ptr<Experiment> make_facts(const Context& context);
std::unique_ptr<Experiment> make_choices(const Context& context);
std::unique_ptr<Experiment> make_exit(const Context& context);
std::unique_ptr<Experiment> make_watch(const Context& context);  ///< `context.watch` must be there

/// What intervals are drawn over: documents, or the items of a task.
inline std::uint64_t unit_of(const decode::PositionReadout& position) {
  const std::int64_t number = position.where().number;
  return static_cast<std::uint64_t>(number >= 0 ? number : position.query().document);
}

/// One value for each (lens, layer), or (lens, layer, something): a dense array that grows no further.
template <typename T>
class Grid {
 public:
  Grid() = default;
  Grid(std::int64_t lenses, std::int64_t rows, std::int64_t depth = 1)
      : rows_(rows), depth_(depth), values_(static_cast<std::size_t>(lenses * rows * depth)) {}

  T& at(std::int64_t lens, std::int64_t row, std::int64_t i = 0) { return values_[index(lens, row, i)]; }
  const T& at(std::int64_t lens, std::int64_t row, std::int64_t i = 0) const {
    return values_[index(lens, row, i)];
  }

 private:
  std::size_t index(std::int64_t lens, std::int64_t row, std::int64_t i) const {
    return static_cast<std::size_t>((lens * rows_ + row) * depth_ + i);
  }
  std::int64_t rows_ = 0;
  std::int64_t depth_ = 1;
  std::vector<T> values_;
};

}  // namespace depthlens::experiments
