#include "blocks.hpp"

#include <algorithm>
#include <cmath>

#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {

using util::Json;
using util::JsonView;

ArchSpec read_stack(const JsonView& config, const StackNames& names) {
  const auto read = [&](const std::array<std::string, 2>& name) {
    return read_size(config, name_of_size(config, name[0], name[1]));
  };
  ArchSpec spec;
  spec.num_layers = read(names.layers);
  spec.hidden_size = read(names.hidden);
  spec.vocab_size = read_size(config, "vocab_size");
  spec.num_heads = spec.num_kv_heads = read(names.heads);
  spec.blocks.resize(static_cast<std::size_t>(spec.num_layers));
  return spec;
}

void set_head_size(ArchSpec& spec, std::int64_t size) {
  spec.head_size = size;
  spec.attention.scale = 1 / std::sqrt(static_cast<double>(size));
}

std::int64_t head_size_of(const JsonView& config, const ArchSpec& spec, const std::string& heads_key) {
  if (spec.hidden_size % spec.num_heads == 0) return spec.hidden_size / spec.num_heads;
  config.at(heads_key).fail("a divisor of the hidden size, " + std::to_string(spec.hidden_size));
}

ArchSpec read_stack_with_heads(const JsonView& config, const StackNames& names) {
  ArchSpec spec = read_stack(config, names);
  set_head_size(spec, head_size_of(config, spec, name_of_size(config, names.heads[0], names.heads[1])));
  return spec;
}

namespace {

/// A kind of block by the name that transformers 5 has for it.
std::string present_kind(const std::string& kind) {
  return kind == "attention" ? "full_attention" : kind == "mamba" ? "linear_attention" : kind;
}

}  // namespace

std::optional<std::vector<std::string>> read_kinds_of_blocks(const JsonView& config, const std::string& key,
                                                             std::int64_t num_layers,
                                                             const std::vector<std::string>& kinds) {
  if (!config.has(key)) return std::nullopt;
  const JsonView given = config.at(key);
  if (!given.is_array() || static_cast<std::int64_t>(given.size()) != num_layers)
    given.fail(util::cat("an array of ", num_layers, " values, one a block"));
  std::vector<std::string> found;
  for (std::size_t i = 0; i < given.size(); ++i) {
    found.push_back(present_kind(given.at(i).as_string()));
    if (!holds(kinds, found.back())) given.at(i).fail(util::join(kinds, " or "));
  }
  return found;
}

std::optional<std::vector<bool>> read_kinds_of_blocks(const JsonView& config, const std::string& key,
                                                      std::int64_t num_layers, const std::string& one,
                                                      const std::string& other) {
  const auto found = read_kinds_of_blocks(config, key, num_layers, {one, other});
  if (!found) return std::nullopt;
  std::vector<bool> kinds;
  for (const std::string& kind : *found) kinds.push_back(kind == other);
  return kinds;
}

std::optional<std::vector<bool>> read_listed_blocks(const JsonView& config, const std::string& key,
                                                    std::int64_t num_layers) {
  if (!config.has(key)) return std::nullopt;
  const JsonView given = config.at(key);
  if (!given.is_array()) given.fail("an array of blocks");
  std::vector<bool> listed(static_cast<std::size_t>(num_layers), false);
  for (std::size_t n = 0; n < given.size(); ++n)
    listed[static_cast<std::size_t>(given.at(n).as_integer(0, num_layers - 1))] = true;
  return listed;
}

void set_other_mixer(ArchSpec& spec, const std::vector<bool>& attends, Mixer mixer) {
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    if (attends[i]) continue;
    spec.blocks[i].mixer = mixer;
    spec.blocks[i].rope = BlockSpec::kNoRope;
  }
}

std::vector<bool> sliding_blocks(const JsonView& config, std::int64_t num_layers,
                                 const std::function<bool(std::int64_t)>& class_rule) {
  if (const auto given =
          read_kinds_of_blocks(config, "layer_types", num_layers, "full_attention", "sliding_attention"))
    return *given;
  std::vector<bool> slides;
  for (std::int64_t i = 0; i < num_layers; ++i) slides.push_back(class_rule(i));
  return slides;
}

std::optional<std::int64_t> read_window(const JsonView& config, std::optional<std::int64_t> class_default) {
  const auto value = find_key(config, "sliding_window");
  if (value && value->raw().is_number() && value->raw().get<double>() <= 0) {
    throw util::format_error({.what = "a window of attention in which no position sees anything",
                              .where = value->where(),
                              .expected = "a positive number of positions, or null for no window",
                              .found = util::summary(value->raw())});
  }
  return read_optional_size(config, "sliding_window", class_default);
}

void set_windows(ArchSpec& spec, const JsonView& config, const std::vector<bool>& slides,
                 std::optional<std::int64_t> class_default, bool in_use) {
  const auto first = std::find(slides.begin(), slides.end(), true);
  if (first == slides.end()) return;
  const auto window = in_use ? read_window(config, class_default) : std::nullopt;
  if (!window && config.has("layer_types")) {
    config.at("layer_types")
        .at(static_cast<std::size_t>(first - slides.begin()))
        .fail("full_attention, since the config has no sliding window (sliding_window, use_sliding_window)");
  }
  if (!window) {
    throw util::format_error(
        {.what = "no sliding window",
         .where = config.where() + ": sliding_window",
         .expected = "a number of positions: the family has blocks whose attention slides",
         .found = "null",
         .hint = "layer_types says which blocks do; transformers refuses null, too"});
  }
  for (std::size_t i = 0; i < slides.size(); ++i) {
    if (slides[i]) spec.blocks[i].window = *window;
  }
}

void set_one_window(ArchSpec& spec, std::optional<std::int64_t> window) {
  for (BlockSpec& block : spec.blocks) block.window = window.value_or(0);
}

void tell_unused_windows(const JsonView& config, const ArchSpec& spec) {
  const bool windows = std::any_of(spec.blocks.begin(), spec.blocks.end(),
                                   [](const BlockSpec& block) { return block.window > 0; });
  if (windows) tell_unused(config, "use_sliding_window", true, spec.architecture + " has such windows");
  if (!windows && read_flag(config, "use_sliding_window", true))
    tell_unused(config, "sliding_window", nullptr, "no block has a window");
  const bool all = std::all_of(spec.blocks.begin(), spec.blocks.end(),
                               [](const BlockSpec& block) { return block.window > 0; });
  // Where some blocks have windows, a family reads which, and tells what it makes of them.
  if (!config.has("layer_types") || windows != all) return;
  Json used = Json::array();
  for (const BlockSpec& block : spec.blocks) {
    const Mixer mixer = block.mixer;
    used.push_back(mixer == Mixer::kDeltaNet || mixer == Mixer::kStateSpace || mixer == Mixer::kSelectiveScan
                       ? "linear_attention"
                   : mixer == Mixer::kAttentionAndStateSpace ? "hybrid"
                   : mixer == Mixer::kConvolution            ? "conv"
                   : mixer == Mixer::kNone                   ? block.experts ? "moe" : "mlp"
                   : block.window > 0                        ? "sliding_attention"
                   : block.chunk > 0                         ? "chunked_attention"
                                                             : "full_attention");
  }
  Json given = config.at("layer_types").raw();
  for (Json& kind : given) {
    if (kind.is_string()) kind = present_kind(kind.get<std::string>());
    if (kind == "indexed_attention") kind = "full_attention";  // DeepSeek V3.2, in windows that are short
  }
  if (given == used) return;
  tell_unused(config, "layer_types", used,
              windows ? "sliding_window holds for every block" : "no block has a window");
}

}  // namespace depthlens::model
