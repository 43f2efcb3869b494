// What the weights of a checkpoint say of a model beside its config: ties, cached tables, values that are not
// finite.
#include "depthlens/model/stored_weights.hpp"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "layers.hpp"
#include "tensor_names.hpp"

namespace depthlens::model {
namespace {

std::string with_index(std::string name, std::string_view mark, std::int64_t index) {
  if (const std::size_t place = name.find(mark); place != std::string::npos)
    name.replace(place, mark.size(), std::to_string(index));
  return name;
}

std::vector<double> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous().view(-1);
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

/// Whether a stored table of rotary frequencies is one of the config's. Old files hold it without the
/// scaling, and rounded to 16 bits.
bool is_table_of(const std::vector<RopeSpec>& ropes, const std::vector<double>& stored) {
  const auto near = [&](const std::vector<double>& computed) {
    return std::equal(stored.begin(), stored.end(), computed.begin(), computed.end(), [](double a, double b) {
      constexpr double kRounding = 0.01, kSmallest = 1e-6;
      return std::abs(a - b) <= kRounding * std::abs(b) + kSmallest;
    });
  };
  return std::any_of(ropes.begin(), ropes.end(), [&](const RopeSpec& rope) {
    RopeSpec unscaled = rope;
    unscaled.scaling = RopeSpec::Scaling::kNone;
    return near(rotary_frequencies(rope, /*length=*/1)) || near(rotary_frequencies(unscaled, 1));
  });
}

/// Whether a stored mask [1, 1, n, n] lets a position see what a block's window lets it see (0: all before
/// it), or all before it. Looks at three rows, which tell causal masks from windows and from none.
bool is_mask_of(const io::TensorEntry& entry, std::int64_t window) {
  const std::size_t dims = entry.shape.size();
  if (dims < 2 || entry.shape[dims - 1] != entry.shape[dims - 2]) return false;
  const std::int64_t n = entry.shape.back();
  constexpr std::int64_t kMaxLength = 1 << 20;
  if (n > kMaxLength) return false;
  const std::uint64_t element_size = c10::elementSize(entry.dtype);
  bool is_causal = true, is_window = true;
  for (const std::int64_t row : {std::int64_t{0}, n / 2, n - 1}) {
    io::TensorEntry part = entry;
    part.shape = {n};
    part.strides = {entry.strides.back()};
    part.offset += static_cast<std::uint64_t>(row * entry.strides[dims - 2]) * element_size;
    part.length = static_cast<std::uint64_t>((n - 1) * entry.strides.back() + 1) * element_size;
    const std::vector<double> values = values_of(io::tensor_view(part));
    for (std::int64_t i = 0; i < n; ++i) {
      const bool seen = values[static_cast<std::size_t>(i)] != 0;
      is_causal = is_causal && seen == (i <= row);
      is_window = is_window && seen == (i <= row && i > row - window);
    }
  }
  return is_causal || (window > 0 && is_window);
}

void tell_disagreeing_tables(const ArchSpec& spec, const io::TensorFile& weights) {
  std::vector<std::string> frequencies, masks;
  for (const auto& [name, entry] : weights.entries()) {
    const bool readable = !at::isFloat8Type(entry.dtype);
    if (entry.length == 0 || !readable || !TensorNames::is_ignorable(spec, name)) continue;
    if (name.ends_with(".inv_freq")) {
      if (entry.shape.size() != 1 || !is_table_of(spec.ropes, values_of(io::tensor_view(entry))))
        frequencies.push_back(name);
    } else if (const auto block = TensorNames::block_of_ignorable(spec, name);
               block && name.ends_with(".bias") &&
               !is_mask_of(entry, spec.blocks[static_cast<std::size_t>(*block)].window)) {
      masks.push_back(name);
    }
  }
  const auto tell = [&](const std::vector<std::string>& names, const std::string& what) {
    if (names.empty()) return;
    util::log_warning(util::cat(weights.source(), ": ", names.size(), " stored tables (",
                                util::join_first(names, 1), ") ", what,
                                "; they are ignored, as transformers does"));
  };
  tell(frequencies, spec.ropes.empty()
                        ? std::string("of rotary frequencies are in a model that has none")
                        : util::cat("of rotary frequencies are not those of the config, whose base is ",
                                    spec.ropes.front().theta));
  tell(masks, "are not the masks of their blocks");
}

/// The unembedding stands beside the bare model, without its prefix.
bool is_beside(const TensorRule& rule) {
  return rule.slot == Slot::kUnembedding || rule.slot == Slot::kUnembeddingBias;
}

}  // namespace

TensorNames::TensorNames(const ArchSpec& spec, const io::TensorFile& file)
    : num_experts_(spec.experts.count) {
  // A checkpoint of the bare model (GPT2Model, LlamaModel) names its tensors without a prefix.
  // The embedding tells which it is; where it is left out, any tensor of the whole model does.
  for (const TensorRule& rule : spec.model_tensors) {
    if (is_beside(rule)) continue;
    std::vector<std::string> names = {rule.name};
    names.insert(names.end(), rule.other_names.begin(), rule.other_names.end());
    for (const std::string& prefix : spec.prefixes) {
      const auto is_there = [&](const std::string& name) { return file.has(prefix + name); };
      if (std::none_of(names.begin(), names.end(), is_there)) continue;
      prefix_ = prefix;
      return;
    }
  }
}

std::string TensorNames::of(const TensorRule& rule, std::int64_t block, std::int64_t n) const {
  const std::string name = with_index(with_index(rule.name, "{i}", block), "{n}", n);
  return is_beside(rule) ? name : prefix_ + name;
}

std::vector<std::string> TensorNames::all(const TensorRule& rule, std::int64_t block) const {
  if (rule.storage == TensorRule::Storage::kMxfp4)
    return {of(rule, block) + "_blocks", of(rule, block) + "_scales"};
  const bool of_each_expert = is_of_expert(rule.slot) && !rule.of_all_experts;
  const std::int64_t count = rule.stacked > 0 ? rule.stacked : of_each_expert ? num_experts_ : 1;
  std::vector<std::string> names;
  for (std::int64_t n = 0; n < count; ++n) names.push_back(of(rule, block, n));
  return names;
}

namespace {

/// The index that stands in a name for the pattern's "{i}"; nothing where the name is not of that pattern.
std::optional<std::int64_t> index_in(std::string_view name, std::string_view pattern) {
  const std::size_t place = pattern.find("{i}");
  if (place == std::string::npos) return std::nullopt;
  const std::string_view before = pattern.substr(0, place), after = pattern.substr(place + 3);
  if (name.size() <= before.size() + after.size() || !name.starts_with(before) || !name.ends_with(after))
    return std::nullopt;
  name.remove_prefix(before.size());
  name.remove_suffix(after.size());
  std::int64_t block = -1;
  return util::parse_int(name, block) && block >= 0 ? std::optional(block) : std::nullopt;
}

/// Whether it is so for an ignorable pattern and a name with one of the prefixes or none.
template <typename Predicate>
bool any_ignorable(const ArchSpec& spec, std::string_view name, const Predicate& fits) {
  const auto fits_any = [&](std::string_view bare) {
    return std::any_of(spec.ignorable.begin(), spec.ignorable.end(),
                       [&](const std::string& pattern) { return fits(bare, pattern); });
  };
  return fits_any(name) ||
         std::any_of(spec.prefixes.begin(), spec.prefixes.end(), [&](const std::string& prefix) {
           return name.starts_with(prefix) && fits_any(name.substr(prefix.size()));
         });
}

}  // namespace

bool TensorNames::is_ignorable(const ArchSpec& spec, const std::string& name) {
  if (block_of_ignorable(spec, name)) return true;
  return any_ignorable(spec, name, [](std::string_view bare, std::string_view pattern) {
    return pattern.ends_with('*') ? bare.starts_with(pattern.substr(0, pattern.size() - 1)) : bare == pattern;
  });
}

std::optional<std::int64_t> TensorNames::block_of_ignorable(const ArchSpec& spec, const std::string& name) {
  std::optional<std::int64_t> found;
  any_ignorable(spec, name, [&](std::string_view bare, std::string_view pattern) {
    const auto block = index_in(bare, pattern);
    if (block && *block < spec.num_layers) found = block;
    return found.has_value();
  });
  return found;
}

namespace {

/// Puts those of the other rules whose tensors are there in the place of the rules of their slots. Where both
/// name the same tensor, its shape decides.
void choose_stored_form(ArchSpec& spec, const TensorNames& names, const io::TensorFile& weights) {
  for (const TensorRule& other : std::exchange(spec.other_block_tensors, {})) {
    std::int64_t block = 0;
    while (block < spec.num_layers && !(spec.has(other, block) && weights.has(names.of(other, block))))
      ++block;
    if (block == spec.num_layers) continue;
    const auto is_of_slot = [&](const TensorRule& rule) { return rule.slot == other.slot; };
    const auto rule = std::find_if(spec.block_tensors.begin(), spec.block_tensors.end(), is_of_slot);
    const bool same_name = rule != spec.block_tensors.end() && rule->name == other.name;
    if (same_name && weights.entries().at(names.of(other, block)).shape != other.shape) continue;
    std::erase_if(spec.block_tensors, is_of_slot);
    spec.block_tensors.push_back(other);
  }
}

}  // namespace

io::TensorFile open_weights(const std::filesystem::path& folder, const ArchSpec& spec) {
  io::TensorFile weights = io::open_checkpoint(folder);
  if (spec.scales.suffix.empty()) return weights;
  const std::int64_t joined = weights.join_scales(
      spec.scales, [&](const std::string& name) { return !TensorNames::is_ignorable(spec, name); });
  if (joined > 0) {
    util::log_warning(util::cat(weights.source(), ": ", joined,
                                " matrices in 8 bits (FP8) are read as bfloat16, as transformers does "
                                "where a device has no products of them; those that have round what "
                                "goes in, too"));
  }
  std::erase_if(weights.mutable_entries(), [](const auto& named) {
    const std::string& name = named.first;
    return name.ends_with(".activation_scale") || name.ends_with(".input_scale") ||
           name.ends_with(".output_scale") || name.ends_with(".k_scale") || name.ends_with(".v_scale") ||
           name.ends_with(".q_scale");
  });
  return weights;
}

ArchSpec settled(ArchSpec spec, const io::TensorFile& weights) {
  tell_disagreeing_tables(spec, weights);
  const TensorNames names(spec, weights);
  choose_stored_form(spec, names, weights);
  for (TensorRule& rule : spec.model_tensors) {
    if (is_beside(rule) || weights.has(names.of(rule, 0))) continue;
    for (const std::string& other : rule.other_names) {
      TensorRule renamed = rule;
      renamed.name = other;
      if (weights.has(names.of(renamed, 0))) rule.name = other;
    }
  }
  const auto of_slot = [&](Slot slot) {
    return std::find_if(spec.model_tensors.begin(), spec.model_tensors.end(),
                        [&](const TensorRule& rule) { return rule.slot == slot; });
  };
  const auto differ = [&](const std::string& a, const std::string& b) {
    return !io::same_values(weights.entries().at(a), weights.entries().at(b));
  };
  const auto rule = of_slot(Slot::kUnembedding);
  DEPTHLENS_ASSERT(rule != spec.model_tensors.end());
  std::vector<std::string> there;
  for (const std::string& name : rule->other_names) {
    if (weights.has(name)) there.push_back(name);
  }
  if (!weights.has(rule->name) && !there.empty()) {
    rule->name = there.front();
    there.erase(there.begin());
  }
  for (const std::string& other : there) {
    if (differ(rule->name, other)) {
      throw util::format_error({.what = util::cat("the unembedding is there twice, as '", rule->name,
                                                  "' and as '", other, "', with different values"),
                                .where = weights.source(),
                                .hint = "remove the one that is not the model's"});
    }
    spec.ignorable.push_back(other);
  }
  if (!spec.tied_unembedding) return spec;
  const bool stored = weights.has(rule->name);
  const std::string embedding = names.of(*of_slot(Slot::kTokenEmbedding), 0);
  if (stored && weights.has(embedding) && differ(rule->name, embedding)) {
    util::log_warning(util::cat(
        weights.source(), ": ", rule->name, " differs from ", embedding,
        ", though the config or its class ties them (tie_word_embeddings): it is used, and they are "
        "not tied, as transformers 5 does; versions before ignored it"));
    spec.tied_unembedding = false;
    return spec;
  }
  if (stored) spec.ignorable.push_back(rule->name);
  spec.model_tensors.erase(rule);
  return spec;
}

std::optional<std::string> non_finite_tensor(const Model& model) {
  const ArchSpec& spec = model.spec();
  const io::TensorFile file = open_weights(model.folder(), spec);
  const TensorNames names(spec, file);
  const auto is_damaged = [&](const std::string& name) {
    const auto found = file.entries().find(name);
    return found != file.entries().end() && at::isFloatingType(found->second.dtype) &&
           !io::all_finite(found->second);
  };
  const auto first_of = [&](const std::vector<TensorRule>& rules,
                            std::int64_t block) -> std::optional<std::string> {
    for (const TensorRule& rule : rules) {
      for (const std::string& name : names.all(rule, block)) {
        if (is_damaged(name)) return util::cat(file.entries().at(name).file->path().string(), ": ", name);
      }
    }
    return std::nullopt;
  };
  if (auto found = first_of(spec.model_tensors, 0)) return found;
  for (std::int64_t i = 0; i < spec.num_layers; ++i) {
    if (auto found = first_of(spec.block_tensors, i)) return found;
  }
  return std::nullopt;
}

std::optional<std::string> stored_name(const ArchSpec& spec, const io::TensorFile& weights, Slot slot) {
  const TensorNames names(spec, weights);
  for (const TensorRule& rule : spec.model_tensors) {
    if (rule.slot == slot && weights.has(names.of(rule, 0))) return names.of(rule, 0);
  }
  return std::nullopt;
}

}  // namespace depthlens::model
