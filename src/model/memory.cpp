#include "depthlens/model/memory.hpp"

#include <algorithm>
#include <array>

#include "delta_net.hpp"
#include "selective_scan.hpp"
#include "state_space.hpp"

namespace depthlens::model {
namespace {

/// What a mixer takes of one token in a block that has it, and in how many blocks.
struct OfMixer {
  std::int64_t blocks, floats, recorded;
};

/// All but attention.
std::array<OfMixer, 4> other_mixers(const ArchSpec& spec) {
  const std::int64_t d = spec.hidden_size;
  return {{{spec.num_blocks(Mixer::kDeltaNet), delta_net_floats(spec.delta_net),
            recorded_delta_net_floats(spec.delta_net)},
           {spec.num_blocks(has_state_space), state_space_floats(spec.state_space),
            recorded_state_space_floats(spec.state_space)},
           {spec.num_blocks(Mixer::kSelectiveScan), selective_scan_floats(spec.selective_scan),
            recorded_selective_scan_floats(spec.selective_scan)},
           // The projections, their product, what the kernel's places make of it, and what goes out.
           {spec.num_blocks(Mixer::kConvolution), 6 * d, (5 + spec.convolution_kernel) * d}}};
}

}  // namespace

std::int64_t floats_of_pass(const ArchSpec& spec) {
  // Mixer and MLP are not at work at once; attention has queries, keys, values and what it puts out, of which
  // the first three are made of parts.
  std::int64_t branch = std::max(4 * spec.widest_mlp(), 6 * spec.width_of_heads());
  for (const OfMixer& mixer : other_mixers(spec)) {
    if (mixer.blocks > 0) branch = std::max(branch, mixer.floats);
  }
  return 8 * spec.hidden_size + branch + spec.carried_size();
}

std::int64_t floats_of_recorded_pass(const ArchSpec& spec) {
  const std::int64_t d = spec.hidden_size, heads = spec.width_of_heads(), mlp = spec.widest_mlp();
  // Inputs of both norms; of the MLP what its activation reads, and of a gated one also the two factors.
  std::int64_t floats = spec.num_layers * (2 * d + (spec.gated_mlp ? 3 : 1) * mlp);
  // Queries, keys, values and attention's output; of narrow vectors what their norms read and put out.
  const std::int64_t narrow = spec.latent.query_rank + spec.latent.key_value_rank;
  floats += spec.num_blocks(attends) * (4 * heads + 3 * narrow);
  for (const OfMixer& mixer : other_mixers(spec)) floats += mixer.blocks * mixer.recorded;
  const std::int64_t rule =
      spec.num_blocks(Mixer::kDeltaNet) > 0 ? recorded_delta_net_floats(spec.delta_net) / 4 : 0;
  const std::int64_t gradients = spec.num_layers * d + 4 * std::max({mlp, 3 * heads, rule});
  return floats + gradients;
}

}  // namespace depthlens::model
