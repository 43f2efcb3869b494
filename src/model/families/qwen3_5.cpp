// Qwen 3.5 and 3.6, dense and with experts, and Qwen3-Next: of four blocks three mix positions by a gated
// delta rule, and one by attention whose outputs pass gates. Those that see turn parts of a head by three
// coordinates, which of a text are one. Odd: norms are stored as w and used as 1 + w, but for the one behind
// the delta rule; rows of queries and of their gates alternate by head in one matrix, and in Qwen3-Next so do
// all rows of the delta rule, by head of keys.
#include <functional>
#include <utility>

#include "family.hpp"

namespace depthlens::model {
namespace {

constexpr std::int64_t kClassInterval = 4;

/// Blocks that `layer_types` says have linear attention, or all but every `full_attention_interval`th.
void set_mixers(ArchSpec& spec, const util::JsonView& config) {
  const auto by_list =
      read_kinds_of_blocks(config, "layer_types", spec.num_layers, "linear_attention", "full_attention");
  const bool told = !by_list || config.has("full_attention_interval");  // null beside layer_types is not read
  const std::int64_t interval =
      told ? read_size(config, "full_attention_interval", kClassInterval) : kClassInterval;
  std::vector<bool> by_interval;
  for (std::int64_t i = 0; i < spec.num_layers; ++i) by_interval.push_back((i + 1) % interval == 0);
  const std::vector<bool> attends = by_list.value_or(by_interval);
  set_other_mixer(spec, attends, Mixer::kDeltaNet);
  if (attends != by_interval)
    tell_unused(config, "full_attention_interval", nullptr, "layer_types says which blocks attend to all");
}

void read_qwen_delta_net(ArchSpec& spec, const util::JsonView& config) {
  DeltaNetSpec& delta = spec.delta_net;
  delta = {.key_heads = read_size(config, "linear_num_key_heads", 16),
           .value_heads = read_size(config, "linear_num_value_heads", 32),
           .key_size = read_size(config, "linear_key_head_dim", 128),
           .value_size = read_size(config, "linear_value_head_dim", 128),
           .kernel = read_size(config, "linear_conv_kernel_dim", 4)};
  require_divides(config, "linear_num_key_heads", delta.key_heads, "linear_num_value_heads",
                  delta.value_heads);
}

/// Queries, keys and values, and the gates of what they make.
void add_gated_attention(ArchSpec& spec, bool bias) {
  const std::int64_t d = spec.hidden_size, dh = spec.head_size;
  const std::int64_t q = spec.num_heads * dh, kv = spec.num_kv_heads * dh;
  spec.attention.output_gate = true;
  const auto add = [&](Slot weight, Slot bias_slot, const char* name, std::int64_t stored,
                       const TensorRule::Rows& rows) {
    add_linear(spec, std::string("layers.{i}.self_attn.") + name, weight, bias_slot, {stored, d}, bias,
               {.mixer = Mixer::kAttention}, rows);
  };
  const auto rows = [&](std::int64_t first) {
    return TensorRule::Rows{.first = first, .count = q, .step = 2 * dh, .run = dh};
  };
  add(Slot::kQueryWeight, Slot::kQueryBias, "q_proj", 2 * q, rows(0));
  add(Slot::kAttentionGateWeight, Slot::kAttentionGateBias, "q_proj", 2 * q, rows(dh));
  add(Slot::kKeyWeight, Slot::kKeyBias, "k_proj", kv, {});
  add(Slot::kValueWeight, Slot::kValueBias, "v_proj", kv, {});
}

/// The delta rule's tensors, in which rows are those of several slots one behind the other, or likewise
/// within each head of keys.
void add_qwen_delta_net(ArchSpec& spec, bool by_key_head) {
  const DeltaNetSpec& delta = spec.delta_net;
  const std::int64_t d = spec.hidden_size, keys = delta.keys(), values = delta.values();
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape,
                       const TensorRule::Rows& rows = {}) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}.linear_attn." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.mixer = Mixer::kDeltaNet},
                                  .rows = rows});
  };
  const auto add_rows = [&](const std::string& name, const std::vector<std::int64_t>& rest,
                            const std::vector<std::pair<Slot, std::int64_t>>& parts, std::int64_t groups) {
    std::int64_t all = 0, first = 0;
    for (const auto& [slot, count] : parts) all += count;
    std::vector<std::int64_t> shape = {all};
    shape.insert(shape.end(), rest.begin(), rest.end());
    for (const auto& [slot, count] : parts) {
      add(slot, name, shape,
          groups == 1 ? TensorRule::Rows{.first = first, .count = count}
                      : TensorRule::Rows{
                            .first = first, .count = count, .step = all / groups, .run = count / groups});
      first += count / groups;
    }
  };
  if (by_key_head) {
    add_rows("in_proj_qkvz.weight", {d},
             {{Slot::kDeltaQueryWeight, keys},
              {Slot::kDeltaKeyWeight, keys},
              {Slot::kDeltaValueWeight, values},
              {Slot::kDeltaGateWeight, values}},
             delta.key_heads);
    add_rows("in_proj_ba.weight", {d},
             {{Slot::kDeltaUpdateWeight, delta.value_heads}, {Slot::kDeltaDecayWeight, delta.value_heads}},
             delta.key_heads);
  } else {
    add_rows(
        "in_proj_qkv.weight", {d},
        {{Slot::kDeltaQueryWeight, keys}, {Slot::kDeltaKeyWeight, keys}, {Slot::kDeltaValueWeight, values}},
        1);
    add(Slot::kDeltaGateWeight, "in_proj_z.weight", {values, d});
    add(Slot::kDeltaUpdateWeight, "in_proj_b.weight", {delta.value_heads, d});
    add(Slot::kDeltaDecayWeight, "in_proj_a.weight", {delta.value_heads, d});
  }
  add_rows("conv1d.weight", {1, delta.kernel},
           {{Slot::kDeltaQueryConvolution, keys},
            {Slot::kDeltaKeyConvolution, keys},
            {Slot::kDeltaValueConvolution, values}},
           1);
  add(Slot::kDeltaDecayBias, "dt_bias", {delta.value_heads});
  add(Slot::kDeltaLogDecay, "A_log", {delta.value_heads});
  add(Slot::kDeltaNormWeight, "norm.weight", {delta.value_size});
  add(Slot::kDeltaOutWeight, "out_proj.weight", {d, values});
}

/// What the three have in common; `add_mlp` adds the rest.
ArchSpec read_hybrid(const util::JsonView& config, std::int64_t kv_heads, bool by_key_head,
                     const std::function<void(ArchSpec&)>& add_mlp) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(
      config, {.max_positions = 32768,
               .kv_heads = kv_heads,
               .head_size = 256,
               .norms_less_one = true,
               .rope = {.class_share = 0.25, .others = {"mrope_section", "mrope_interleaved"}},
               .partial_rotary = true,
               .qkv = false,
               .attention_out_bias = bias,
               .mixer = Mixer::kAttention,
               .query_key_norm = true,
               .dense_mlp = false});
  add_gated_attention(spec, bias);
  set_mixers(spec, config);
  read_qwen_delta_net(spec, config);
  add_qwen_delta_net(spec, by_key_head);
  add_mlp(spec);
  tell_unused(config, "attn_output_gate", true, "attention's outputs pass gates");
  // What predicts a second token, and in a language model by itself what sees.
  spec.ignorable.insert(spec.ignorable.end(), {"mtp.*", "visual.*"});
  return spec;
}

void add_experts_beside_shared(ArchSpec& spec, const util::JsonView& config) {
  add_experts(spec);
  add_shared_expert(spec, "mlp.shared_expert", read_size(config, "shared_expert_intermediate_size", 512),
                    /*weighed=*/true);
}

}  // namespace

ArchSpec read_qwen3_5(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 248320},
                                                        {"hidden_size", 4096},
                                                        {"intermediate_size", 12288},
                                                        {"num_hidden_layers", 32},
                                                        {"num_attention_heads", 16}});
  return read_hybrid({whole, config.where()}, /*kv_heads=*/4, /*by_key_head=*/false,
                     [](ArchSpec& spec) { add_gated_mlp(spec); });
}

ArchSpec read_qwen3_5_moe(const util::JsonView& config) {
  util::Json whole = with_class_defaults(config, {{"vocab_size", 248320},
                                                  {"hidden_size", 2048},
                                                  {"num_hidden_layers", 40},
                                                  {"num_attention_heads", 16}});
  // The class has experts in all blocks, whose weights are always shared out.
  const std::string reason = "all blocks have experts, whose weights add up to 1";
  tell_unused(config, "mlp_only_layers", util::Json::array(), reason);
  tell_unused(config, "decoder_sparse_step", 1, reason);
  tell_unused(config, "norm_topk_prob", true, reason);
  whole["intermediate_size"] = 1;
  const util::JsonView filled(whole, config.where());
  return read_hybrid(filled, /*kv_heads=*/2, /*by_key_head=*/false, [&](ArchSpec& made) {
    made.mlp_size = 0;
    made.experts = {.count = read_size(config, "num_experts", 256),
                    .chosen = read_size(config, "num_experts_per_tok", 8),
                    .mlp_size = read_size(config, "moe_intermediate_size", 512),
                    .weighting = ExpertSpec::Weighting::kShares};
    check_experts(config, made);
    set_first_dense(made, 0);
    add_experts_beside_shared(made, config);
  });
}

ArchSpec read_qwen3_next(const util::JsonView& config) {
  return read_hybrid(config, /*kv_heads=*/2, /*by_key_head=*/true, [&](ArchSpec& spec) {
    read_qwen_experts(
        spec, config,
        {.count = 512, .chosen = 10, .mlp_size = 512, .weighting = ExpertSpec::Weighting::kShares});
    add_experts_beside_shared(spec, config);
  });
}

}  // namespace depthlens::model
