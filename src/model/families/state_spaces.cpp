#include "state_spaces.hpp"

#include <utility>

#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {
namespace {

/// A number, or an infinity as `util::parse_config` gives it.
double read_limit(const util::JsonView& value) {
  return value.raw() == util::Json{{"__float__", "Infinity"}} ? StateSpaceSpec::kNoLimit : value.as_number();
}

}  // namespace

void read_step_limits(const util::JsonView& config, const std::string& key, StateSpaceSpec& space) {
  if (!config.raw().contains(key)) return;
  const util::JsonView limits = config.at(key);
  if (!limits.is_array() || limits.size() != 2) limits.fail("an array of the least and the largest step");
  space.least_step = read_limit(limits.at(0));
  space.largest_step = read_limit(limits.at(1));
  if (!(space.least_step >= 0 && space.least_step <= space.largest_step && space.largest_step > 0))
    limits.fail("0 ≤ least step ≤ largest step, and the latter more than 0");
}

void check_state_space(const util::JsonView& config, const StateSpaceSpec& space, std::int64_t values) {
  if (space.values() != values) {
    throw util::format_error(
        {.what = "heads that do not make up the state space's values",
         .where = config.where(),
         .expected = util::cat(values, " values"),
         .found = util::cat(space.heads, " heads of ", space.head_size, " values each")});
  }
  if (space.heads % space.groups != 0) {
    throw util::format_error({.what = "groups that do not divide the heads of the state space",
                              .where = config.where(),
                              .expected = util::cat("a divisor of ", space.heads),
                              .found = util::cat(space.groups)});
  }
}

void add_state_space(ArchSpec& spec, const std::string& stem, Mixer mixer, const StateSpaceBiases& biases) {
  const StateSpaceSpec& space = spec.state_space;
  const std::int64_t d = spec.hidden_size;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + stem + "." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.mixer = mixer}});
  };
  add(Slot::kMixerInWeight, "in_proj.weight", {space.projected(), d});
  if (biases.in) add(Slot::kMixerInBias, "in_proj.bias", {space.projected()});
  add(Slot::kMixerConvolution, "conv1d.weight", {space.channels(), 1, space.kernel});
  if (biases.convolution) add(Slot::kMixerConvolutionBias, "conv1d.bias", {space.channels()});
  add(Slot::kStateStepBias, "dt_bias", {space.heads});
  add(Slot::kStateLogDecay, "A_log", {space.heads});
  add(Slot::kStateSkip, "D", {space.heads});
  if (space.norm != StateSpaceSpec::Norm::kNone) add(Slot::kStateNormWeight, "norm.weight", {space.values()});
  add(Slot::kMixerOutWeight, "out_proj.weight", {d, space.values()});
  if (biases.out) add(Slot::kMixerOutBias, "out_proj.bias", {d});
}

std::int64_t read_step_rank(const util::JsonView& config, const std::string& key, std::int64_t hidden_size) {
  const util::Json& raw = config.raw();
  const bool automatic = !raw.contains(key) || raw.at(key) == "auto";
  return automatic ? util::ceil_div(hidden_size, std::int64_t{16}) : read_size(config, key);
}

void add_selective_scan(ArchSpec& spec, const SelectiveScanNames& names) {
  const SelectiveScanSpec& scan = spec.selective_scan;
  const std::int64_t d = spec.hidden_size, D = scan.channels, N = scan.state_size, R = scan.step_rank;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + names.stem + "." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.mixer = names.mixer}});
  };
  add(Slot::kMixerInWeight, "in_proj.weight", {2 * D, d});
  if (names.bias) add(Slot::kMixerInBias, "in_proj.bias", {2 * D});
  add(Slot::kMixerConvolution, "conv1d.weight", {D, 1, scan.kernel});
  if (names.convolution_bias) add(Slot::kMixerConvolutionBias, "conv1d.bias", {D});
  add(Slot::kScanWeight, "x_proj.weight", {R + 2 * N, D});
  const std::array<std::pair<Slot, std::int64_t>, 3> norms = {
      {{Slot::kScanStepNormWeight, R}, {Slot::kScanWriterNormWeight, N}, {Slot::kScanReaderNormWeight, N}}};
  for (std::size_t i = 0; i < norms.size(); ++i) {
    if (!names.norms[i].empty()) add(norms[i].first, names.norms[i] + ".weight", {norms[i].second});
  }
  add(Slot::kScanStepWeight, "dt_proj.weight", {D, R});
  add(Slot::kStateStepBias, "dt_proj.bias", {D});
  add(Slot::kStateLogDecay, "A_log", {D, N});
  add(Slot::kStateSkip, "D", {D});
  add(Slot::kMixerOutWeight, "out_proj.weight", {d, D});
  if (names.bias) add(Slot::kMixerOutBias, "out_proj.bias", {d});
}

}  // namespace depthlens::model
