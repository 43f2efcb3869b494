// Phi 3.5 MoE: layer norms and biases, two experts that are chosen one after the other, each weighed against
// those near it. Odd: `router_jitter_noise`, a setting of training by its name, says what is near; LongRoPE's
// cosines and sines have a factor for short windows and one for long ones; transformers 5.24 never takes the
// frequencies of long windows, though it takes their factor.
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

double read_factor(const util::JsonView& block, const std::string& key) {
  const double factor = block.at(key).as_number();
  if (!(factor > 0)) block.at(key).fail("a positive number");
  return factor;
}

void set_factors(ArchSpec& spec, const util::JsonView& config) {
  if (spec.ropes.empty() || spec.ropes.front().scaling == RopeSpec::Scaling::kNone) return;
  RopeSpec& rope = spec.ropes.front();
  const util::JsonView block = rope_block(config);
  if (rope.scaling != RopeSpec::Scaling::kLongRope) {
    throw util::format_error({.what = "unsupported rotary scaling",
                              .where = block.where(),
                              .expected = "longrope, or none",
                              .found = util::summary(block.raw())});
  }
  require_value(block, "attention_factor", nullptr);
  rope.amplitude = read_factor(block, "short_mscale");
  rope.long_amplitude = read_factor(block, "long_mscale");
  tell_unused(config, "original_max_position_embeddings", rope.original_max_positions,
              util::cat(rope.original_max_positions, " of the rotary settings counts"));
  if (rope.short_factors != rope.long_factors) {
    util::log_warning(
        util::cat(block.where(), ": windows longer than ", rope.original_max_positions,
                  " have the frequencies of long_factor, as the settings say; transformers 5.24 "
                  "takes those of short_factor for all"));
  }
}

}  // namespace

ArchSpec read_phimoe(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  // The class takes that of the rotary block, or max_position_embeddings.
  util::Json whole = config.raw();
  whole.erase("original_max_position_embeddings");
  ArchSpec spec = read_llama_like({whole, config.where()},
                                  {.max_positions = 131072,
                                   .kv_heads = 8,
                                   .norm = NormKind::kLayerNorm,
                                   .epsilon = 1e-5,
                                   .norm_bias = true,
                                   .rope = {.class_theta = 1e6, .others = {"short_mscale", "long_mscale"}},
                                   .qkv_bias = bias,
                                   .attention_out_bias = bias,
                                   .dense_mlp = false});
  set_factors(spec, config);
  set_one_window(spec, read_window(config, {}));
  if (read_flag(config, "lm_head_bias", false))
    spec.model_tensors.push_back({Slot::kUnembeddingBias, "lm_head.bias", {spec.vocab_size}});
  // Two are chosen, whatever the config says.
  require_value(config, "num_experts_per_tok", 2);
  spec.experts = {.count = read_size(config, "num_local_experts", 16),
                  .chosen = 2,
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kNearBest,
                  .nearness = 2 * read_number(config, "router_jitter_noise", 0.01)};
  if (!(spec.experts.nearness >= 0)) config.at("router_jitter_noise").fail("a number that is not negative");
  check_experts(config, spec);
  add_experts_of_mixtral(spec, /*router_bias=*/false, "mlp.router");
  return spec;
}

}  // namespace depthlens::model
