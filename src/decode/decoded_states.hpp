// Which states a group of lenses decodes at each position.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/decode/readout.hpp"
#include "depthlens/lens/lens.hpp"

namespace depthlens::decode {

struct DecodedState {
  const lens::Lens* lens;  ///< that translates it; nullptr: decoded as it is
  std::int64_t layer;

  /// "layer 3 by the lens tuned"
  std::string name() const;
};

/// The states of these lenses at the layers of `shape`, state 0 that of the final layer: lenses share those
/// that they do not translate. Sets which state serves which lens and layer (`state_of`, `num_states`).
std::vector<DecodedState> decoded_states(const std::vector<const lens::Lens*>& lenses, ReadoutShape& shape);

}  // namespace depthlens::decode
