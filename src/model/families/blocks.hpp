// Which block is of what kind, the windows of attention, and the sizes that all models have.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// The names of the sizes that all models have, a family's own first, then what transformers takes just as
/// well.
struct StackNames {
  std::array<std::string, 2> layers = {"num_hidden_layers", "num_hidden_layers"};
  std::array<std::string, 2> hidden = {"hidden_size", "hidden_size"};
  std::array<std::string, 2> heads = {"num_attention_heads", "num_attention_heads"};
};
/// A spec with these sizes and the vocabulary's, one key-value head for each head, and its blocks.
ArchSpec read_stack(const util::JsonView& config, const StackNames& names = {});

/// And the scale of scores that goes with it, 1 / sqrt(size).
void set_head_size(ArchSpec& spec, std::int64_t size);

/// The same, and heads that share the hidden size out among themselves: their number must divide it.
ArchSpec read_stack_with_heads(const util::JsonView& config, const StackNames& names = {});

/// The number of heads must divide the hidden size where the head size is not given.
std::int64_t head_size_of(const util::JsonView& config, const ArchSpec& spec, const std::string& heads_key);

/// The kind of each block, by a list of these kinds; nothing where the config has none. Kinds that
/// transformers 5 has other names for ("attention", "mamba") are read as those. Throws for further kinds.
std::optional<std::vector<std::string>> read_kinds_of_blocks(const util::JsonView& config,
                                                             const std::string& key, std::int64_t num_layers,
                                                             const std::vector<std::string>& kinds);

/// The same of two kinds: of each block, whether it is of the `other`.
std::optional<std::vector<bool>> read_kinds_of_blocks(const util::JsonView& config, const std::string& key,
                                                      std::int64_t num_layers, const std::string& one,
                                                      const std::string& other);

/// Of each block, whether its number is in a list; nothing where the config has none. Throws for a number
/// that no block has.
std::optional<std::vector<bool>> read_listed_blocks(const util::JsonView& config, const std::string& key,
                                                    std::int64_t num_layers);

/// Gives the blocks that do not attend this mixer, which rotates nothing.
void set_other_mixer(ArchSpec& spec, const std::vector<bool>& attends, Mixer mixer);

/// Of each block, whether its attention slides: by `layer_types`, or by the rule of the class. Throws for
/// other kinds of attention.
std::vector<bool> sliding_blocks(const util::JsonView& config, std::int64_t num_layers,
                                 const std::function<bool(std::int64_t)>& class_rule);

/// The window of attention, `sliding_window`; null means none. Throws for one that is not positive: it would
/// let no position see anything, and transformers' kinds of attention make different numbers of that.
std::optional<std::int64_t> read_window(const util::JsonView& config,
                                        std::optional<std::int64_t> class_default);

/// Gives the blocks that slide their window, which is read only where some block does. Throws where they have
/// none: `sliding_window` is null, or the config says that windows are not `in_use`.
void set_windows(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides,
                 std::optional<std::int64_t> class_default, bool in_use = true);

/// The same window for all blocks, where there is one.
void set_one_window(ArchSpec& spec, std::optional<std::int64_t> window);

/// Tells of settings on windows of attention that the family's class does not read.
void tell_unused_windows(const util::JsonView& config, const ArchSpec& spec);

}  // namespace depthlens::model
