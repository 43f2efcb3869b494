// State spaces (Mamba 2) and selective scans (Mamba 1) as families have them in common.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// What a state space's steps are clamped to: two numbers under this key, or no limits where it is absent.
void read_step_limits(const util::JsonView& config, const std::string& key, StateSpaceSpec& space);

/// Throws where the heads do not make up so many values, or groups do not divide them.
void check_state_space(const util::JsonView& config, const StateSpaceSpec& space, std::int64_t values);

/// The state space "layers.{i}.STEM.{in_proj,conv1d,dt_bias,A_log,D,norm,out_proj}" of blocks with this
/// mixer; `spec.state_space` has its sizes.
struct StateSpaceBiases {
  bool in = false, convolution = true, out = false;
};
void add_state_space(ArchSpec& spec, const std::string& stem, Mixer mixer, const StateSpaceBiases& biases);

/// How many numbers steps are made of: under this key, a sixteenth of the hidden size where that says "auto"
/// or is absent.
std::int64_t read_step_rank(const util::JsonView& config, const std::string& key, std::int64_t hidden_size);

/// The selective scan "layers.{i}.STEM.{in_proj,conv1d,x_proj,dt_proj,A_log,D,out_proj}";
/// `spec.selective_scan` has its sizes. As with `LlamaLike`, read what may be refused before you make the
/// names.
struct SelectiveScanNames {
  std::string stem = "mixer";
  std::optional<Mixer> mixer = {};  ///< of blocks with this one alone
  bool bias = false;                ///< of what goes in and out
  bool convolution_bias = true;
  std::array<std::string, 3> norms = {};  ///< of narrow steps, writers and readers; "": they have no weights
};
void add_selective_scan(ArchSpec& spec, const SelectiveScanNames& names);

}  // namespace depthlens::model
