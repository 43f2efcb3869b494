#include "depthlens/model/arch_spec.hpp"

#include <algorithm>

namespace depthlens::model {

bool ArchSpec::states_are_all() const {
  return block_embedding_size == 0 && std::all_of(blocks.begin(), blocks.end(), [](const BlockSpec& block) {
           return block.keys_of == BlockSpec::kOwnKeys;
         });
}

bool ArchSpec::angles_go_by_length(std::int64_t longest) const {
  return std::any_of(ropes.begin(), ropes.end(), [&](const RopeSpec& rope) {
    return rope.depends_on_length() && static_cast<double>(longest) > rope.original_max_positions;
  });
}

std::int64_t ArchSpec::num_blocks(Mixer mixer) const {
  return std::count_if(blocks.begin(), blocks.end(),
                       [&](const BlockSpec& block) { return block.mixer == mixer; });
}

std::int64_t ArchSpec::num_blocks(bool (*is_so)(Mixer)) const {
  return std::count_if(blocks.begin(), blocks.end(),
                       [&](const BlockSpec& block) { return is_so(block.mixer); });
}

std::int64_t ArchSpec::widest_mlp() const {
  const std::int64_t dense = std::max(mlp_size, mlp_size_of_readers);
  const std::int64_t mixed = experts.chosen * experts.mlp_size + experts.shared_mlp_size;
  if (experts.beside_mlp) return dense + mixed;
  const bool any_dense = std::any_of(blocks.begin(), blocks.end(), [](const BlockSpec& block) {
    return block.feed_forward && !block.experts;
  });
  return std::max(any_dense ? dense : 0, mixed);
}

std::int64_t ArchSpec::last_reader_of(std::int64_t i) const {
  for (std::int64_t reader = num_layers - 1; reader > i; --reader) {
    if (blocks[static_cast<std::size_t>(reader)].keys_of == i) return reader;
  }
  return i;
}

std::int64_t ArchSpec::carried_size() const {
  std::int64_t size = num_layers * block_embedding_size;
  for (std::int64_t i = 0; i < num_layers; ++i) {
    const HeadSizes heads = heads_of(blocks[static_cast<std::size_t>(i)]);
    if (last_reader_of(i) > i) size += 2 * heads.num_kv_heads * heads.head_size;
  }
  return size;
}

std::int64_t ArchSpec::width_of_heads() const {
  return num_heads * std::max({head_size, attention.value_size, latent.value_size, wide.head_size});
}

}  // namespace depthlens::model
