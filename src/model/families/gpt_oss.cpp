// GPT-OSS: attention with sinks, every second block with a window, experts whose gates are clamped. Odd: the
// rows of gate and up alternate in one matrix, and matrices of experts are stored as [in, out], or as MXFP4
// as [out, in].
#include "depthlens/util/error.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Whether the experts are stored as MXFP4; throws for other quantizations.
bool is_mxfp4(const util::JsonView& config) {
  if (!config.has("quantization_config")) return false;
  const util::JsonView quantization = config.at("quantization_config");
  if (quantization.get_string("quant_method", "") == "mxfp4") return true;
  throw util::format_error({.what = "unsupported setting 'quantization_config' of the model",
                            .where = quantization.where(),
                            .expected = "none, or quant_method mxfp4",
                            .found = util::summary(quantization.raw())});
}

void add_gpt_oss_experts(ArchSpec& spec, bool mxfp4) {
  const std::int64_t d = spec.hidden_size, m = spec.experts.mlp_size, E = spec.experts.count;
  const std::string stem = "layers.{i}.mlp.experts.";
  const auto add_matrix = [&](Slot slot, const std::string& name, std::int64_t out, std::int64_t in,
                              TensorRule::Rows rows) {
    spec.block_tensors.push_back(
        {.slot = slot,
         .name = stem + name,
         .shape = mxfp4 ? std::vector<std::int64_t>{E, out, in} : std::vector<std::int64_t>{E, in, out},
         .transposed = !mxfp4,
         .blocks = {.experts = true},
         .rows = rows,
         .of_all_experts = true,
         .storage = mxfp4 ? TensorRule::Storage::kMxfp4 : TensorRule::Storage::kPlain});
  };
  const auto add_bias = [&](Slot slot, const std::string& name, std::int64_t out, TensorRule::Rows rows) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = stem + name,
                                  .shape = {E, out},
                                  .blocks = {.experts = true},
                                  .rows = rows,
                                  .of_all_experts = true});
  };
  const TensorRule::Rows even = {.first = 0, .count = m, .step = 2},
                         odd = {.first = 1, .count = m, .step = 2};
  add_matrix(Slot::kExpertGateWeight, "gate_up_proj", 2 * m, d, even);
  add_matrix(Slot::kExpertUpWeight, "gate_up_proj", 2 * m, d, odd);
  add_matrix(Slot::kExpertDownWeight, "down_proj", d, m, {});
  add_bias(Slot::kExpertGateBias, "gate_up_proj_bias", 2 * m, even);
  add_bias(Slot::kExpertUpBias, "gate_up_proj_bias", 2 * m, odd);
  add_bias(Slot::kExpertDownBias, "down_proj_bias", d, {});
  add_router(spec, "mlp.router", "mlp.router.bias");
}

}  // namespace

ArchSpec read_gpt_oss(const util::JsonView& config) {
  const util::Json whole = with_rope_parameters(config, {{"rope_type", "yarn"},
                                                         {"factor", 32.0},
                                                         {"beta_fast", 32.0},
                                                         {"beta_slow", 1.0},
                                                         {"truncate", false},
                                                         {"original_max_position_embeddings", 4096}});
  const bool bias = read_flag(config, "attention_bias", true);
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                            .kv_heads = 8,
                                                            .head_size = 64,
                                                            .epsilon = 1e-5,
                                                            .rope = {.class_theta = 150000},
                                                            .qkv_bias = bias,
                                                            .attention_out_bias = bias,
                                                            .dense_mlp = false});
  set_windows(spec, config,
              sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return i % 2 == 0; }), 128);
  spec.block_tensors.push_back({Slot::kAttentionSinks, "layers.{i}.self_attn.sinks", {spec.num_heads}});
  spec.experts = {.count = read_size(config, name_of_size(config, "num_local_experts", "num_experts"), 128),
                  .chosen = read_size(config, "num_experts_per_tok", 4),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kSoftmaxOfChosen};
  check_experts(config, spec);
  set_first_dense(spec, 0);
  // The class's activation is fixed: hidden_act is not read.
  spec.clamped_gate_limit = read_positive(config, "swiglu_limit", 7.0);
  spec.clamped_gate_alpha = read_positive(config, "swiglu_alpha", 1.702);
  const bool mxfp4 = is_mxfp4(config);
  if (mxfp4 && (spec.hidden_size % 32 != 0 || spec.mlp_size % 32 != 0))
    config.fail("hidden_size and intermediate_size that are multiples of 32, as MXFP4 has them");
  add_gpt_oss_experts(spec, mxfp4);
  return spec;
}

}  // namespace depthlens::model
