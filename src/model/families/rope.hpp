// Rotary settings of a config, in each of their spellings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// A config with the class's rotary settings where it has none.
util::Json with_rope_parameters(const util::JsonView& config, const util::Json& defaults);

/// How a family names its rotary settings outside of their block, and what holds without any.
struct RopeKeys {
  std::string theta = "rope_theta";
  double class_theta = 10000;
  std::string share = "partial_rotary_factor";  ///< part of the head that is rotated; "": always all of it
  double class_share = 1;
  std::optional<double> null_share = 1;  ///< what null beside the block means; nothing: it is refused
  /// What a class has for `original_max_position_embeddings` beside the block, which beats the one in it.
  std::optional<std::int64_t> original_max_positions = {};
  /// Settings in the block that the family itself reads.
  std::vector<std::string> others = {};
  bool interleaved = false;  ///< pairs are of neighbours
  /// Of what a share is rotated; none: the spec's.
  std::optional<std::int64_t> head_size = {};
};

/// Rotary settings in either spelling: `rope_parameters` {rope_type, rope_theta, …}, or `rope_scaling` {type
/// | rope_type, …} with the base beside it. `spec` has the sizes. Throws for a scaling that is not known, for
/// a setting that the scaling does not use, and for two blocks that differ.
RopeSpec read_rope(const util::JsonView& config, const ArchSpec& spec, const RopeKeys& keys = {});

/// The block of rotary settings that counts where there are two. There must be one.
util::JsonView rope_block(const util::JsonView& config);

/// What scores are multiplied by where YaRN's `mscale_all_dim` is given; `rope` is what the config's settings
/// were read as.
double yarn_growth_of_scores(const util::JsonView& config, const RopeSpec& rope);

/// As `read_rope`, of one block of settings, or of none.
RopeSpec read_rope_block(const util::JsonView& config, const std::optional<util::JsonView>& block,
                         const ArchSpec& spec, const RopeKeys& keys);

/// Gives all blocks this rotary embedding, or none where it rotates nothing.
void set_rope(ArchSpec& spec, const RopeSpec& rope);

/// Leaves the rotary embedding to these blocks.
void rotate_only(ArchSpec& spec, const std::vector<bool>& blocks);

/// Of each block, whether it rotates: 1 in `no_rope_layers`, or all but every `no_rope_layer_interval`th.
std::vector<bool> rotating_blocks(const util::JsonView& config, std::int64_t num_layers);

/// Warns where the rotary settings of a kind of block say how YaRN's ramp ends.
void tell_truncate_of_kind(const util::JsonView& settings);

/// For families whose sliding blocks have rotary settings of their own: nested in `rope_parameters`, or in
/// the older spelling, where `rope_scaling` is that of the full blocks. A key's `theta` may be empty: always
/// the class's; heads are rotated whole.
void set_ropes_by_kind(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides,
                       const RopeKeys& full, const RopeKeys& sliding);

}  // namespace depthlens::model
