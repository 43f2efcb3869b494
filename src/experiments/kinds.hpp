// The experiments' makers, for the registry, and what several experiments share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

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

/// Of (lens, row), or (lens, row, something), in arrays of all of them.
inline std::size_t place_of(const decode::ReadoutShape& shape, std::int64_t lens, std::int64_t row,
                            std::int64_t depth = 1, std::int64_t i = 0) {
  return static_cast<std::size_t>((lens * shape.num_rows + row) * depth + i);
}

/// Calls use(lens, row, the lens's name), in that order.
template <typename Use>
void for_each_cell(const decode::ReadoutShape& shape, const Use& use) {
  for (std::int64_t lens = 0; lens < shape.num_lenses(); ++lens) {
    for (std::int64_t row = 0; row < shape.num_rows; ++row)
      use(lens, row, shape.lens_names[static_cast<std::size_t>(lens)]);
  }
}

}  // namespace depthlens::experiments
