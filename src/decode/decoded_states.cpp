// Untranslated states are shared.
#include "decode/decoded_states.hpp"

#include "depthlens/util/text.hpp"

namespace depthlens::decode {

std::string DecodedState::name() const {
  return util::cat("layer ", layer, lens != nullptr ? " by the lens " + lens->request().name : "");
}

std::vector<DecodedState> decoded_states(const std::vector<const lens::Lens*>& lenses, ReadoutShape& shape) {
  std::vector<DecodedState> states = {{nullptr, shape.last_layer()}};
  std::vector<std::int64_t> shared(static_cast<std::size_t>(shape.num_rows), -1);  // of each row
  shared.back() = 0;
  const auto add = [&](const lens::Lens* lens, std::int64_t layer) {
    states.push_back({lens, layer});
    return static_cast<std::int64_t>(states.size()) - 1;
  };
  shape.state_of.clear();
  for (const lens::Lens* lens : lenses) {
    for (std::int64_t row = 0; row < shape.num_rows; ++row) {
      const std::int64_t layer = shape.layer(row);
      if (lens->translates(layer)) {
        shape.state_of.push_back(add(lens, layer));
        continue;
      }
      std::int64_t& state = shared[static_cast<std::size_t>(row)];
      if (state < 0) state = add(nullptr, layer);
      shape.state_of.push_back(state);
    }
  }
  shape.num_states = static_cast<std::int64_t>(states.size());
  return states;
}

}  // namespace depthlens::decode
