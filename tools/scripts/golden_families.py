"""The tiny models of make_golden.py beyond GPT-2, GPT-NeoX, Llama, Mistral and Qwen: configurations and the files that
published folders have and transformers does not write. Windows, soft caps, clamps and lengths are so small that each one
matters within ten tokens.
"""

import json

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

BF16, F32 = torch.bfloat16, torch.float32


def common(family, **changes):
    """A config with the sizes that most classes have names for."""
    return AutoConfig.for_model(family, **{
        "vocab_size": 66, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        **changes})


def own(family, **changes):
    return AutoConfig.for_model(family, **{"vocab_size": 66, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
                                           **changes})


def rope(kind="default", theta=500.0, **settings):
    return {"rope_type": kind, "rope_theta": theta, **settings}


YARN = rope("yarn", factor=4.0, original_max_position_embeddings=8)
MSCALES = {**YARN, "mscale": 0.7, "mscale_all_dim": 1.6}
LLAMA3_ROPE = rope("llama3", 100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
DELTA_NET = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6,
             "linear_value_head_dim": 5, "linear_conv_kernel_dim": 3,
             "rms_norm_eps": 1e-3}
LLAMA4 = {"head_dim": 8, "num_local_experts": 4, "intermediate_size": 12, "intermediate_size_mlp": 20,
          "attention_chunk_size": 4, "floor_scale": 3, "attn_scale": 0.4}
HYBRID = ["full_attention", "linear_attention"] * 2
ALTERNATING = ["sliding_attention", "full_attention"] * 2
PARTS_OF_HEAD = {"rope_type": "longrope", "rope_theta": 500.0, "partial_rotary_factor": 0.75,
                 "short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 3.0, 5.0]}
MSCALED_LONGROPE = {"rope_type": "longrope", "rope_theta": 500.0, "short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0],
                    "short_mscale": 1.1, "long_mscale": 1.3}
GEMMA3 = {"head_dim": 8, "num_hidden_layers": 4, "query_pre_attn_scalar": 5, "sliding_window": 3,
          "layer_types": ALTERNATING,
          "rope_parameters": {"full_attention": rope("linear", 1000.0, factor=2.0), "sliding_attention": rope(theta=100.0)}}

def latent(family, **changes):
    """A config of latent attention."""
    return common(family, **{"num_key_value_heads": 4, "q_lora_rank": 7, "kv_lora_rank": 10, "qk_nope_head_dim": 4,
                             "qk_rope_head_dim": 4, "v_head_dim": 5, "n_routed_experts": 6, "n_shared_experts": 2,
                             "moe_intermediate_size": 12, **changes})


def latent_alone(family, **changes):
    """The same without experts."""
    return common(family, **{"num_key_value_heads": 4, "q_lora_rank": 7, "kv_lora_rank": 10, "qk_nope_head_dim": 4,
                             "qk_rope_head_dim": 4, "v_head_dim": 5, **changes})


def seeing(family, text, text_family=None, own_eyes=None, **changes):
    """A model that sees pictures, with as little of eyes as its class can have."""
    sizes = {"vocab_size": 66, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0, "dtype": "bfloat16"}
    eyes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_heads": 2,
            "depth": 1, "image_size": 8, "patch_size": 4, "projection_dim": 8, "head_dim": 4, "out_hidden_size": 16,
            "temporal_patch_size": 1, "num_position_embeddings": 4, "deepstack_visual_indexes": [0], "window_size": 8,
            "fullatt_block_indexes": [0], "vocab_size": 10, "scale_factor": 1} | (own_eyes or {})
    text = {**sizes, **text} | ({"model_type": text_family} if text_family else {})
    return AutoConfig.for_model(family, vision_config=eyes, text_config=text, **changes)


def num_texts(config):
    """Tokens with ids below this one stand for text."""
    return 64 if hasattr(config, "text_config") else config.vocab_size


EARS = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8, "num_mel_bins": 4,
        "output_dim": 16, "max_source_positions": 20}
SECTIONS = {"mrope_section": [1, 1, 0]}
MAMBA_OF_NEMOTRON = {"mamba_num_heads": 4, "mamba_head_dim": 6, "n_groups": 2, "ssm_state_size": 5, "conv_kernel": 3,
                     "head_dim": 8, "time_step_min": 0.01}
MAMBA_OF_HYBRID = {"mamba_n_heads": 4, "mamba_n_groups": 2, "mamba_d_state": 5, "mamba_d_conv": 3}
FACTORS = {"embedding_multiplier": 1.3, "lm_head_multiplier": 0.7, "key_multiplier": 0.6, "attention_in_multiplier": 0.8,
           "attention_out_multiplier": 1.2, "ssm_in_multiplier": 0.9, "ssm_out_multiplier": 1.1,
           "mlp_multipliers": [0.7, 1.4], "ssm_multipliers": [0.8, 1.2, 0.7, 1.3, 0.9]}
GRANITE = {"embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.6, "logits_scaling": 0.7}
SARVAM = {"head_dim": 8, "n_routed_experts": 6, "num_experts_per_tok": 3, "n_group": 3, "topk_group": 2,
          "moe_intermediate_size": 12}
INDEXED = {"index_topk": 20, "index_head_dim": 6, "index_n_heads": 2}
SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA4 = {"head_dim": 4, "global_head_dim": 12, "sliding_window": 3, "final_logit_softcapping": 2.0,
          "hidden_size_per_layer_input": 0, "rope_parameters": {
              FULL: rope("proportional", partial_rotary_factor=0.4), SLIDING: rope(theta=100.0)}}
# As the small ones: blocks are told of tokens, and the last ones read keys and values of the last two that have any.
GEMMA4_SMALL = GEMMA4 | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 70, "num_kv_shared_layers": 3,
                         "use_double_wide_mlp": True, "num_hidden_layers": 6,
                         "layer_types": [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL]}
GEMMA4_LARGE = GEMMA4 | {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "layer_types": [SLIDING, FULL, FULL]}

# name: (config, storage type, seed, deviation of embedding and unembedding), as in make_golden.py
VARIANTS = {
    "gemma": (common("gemma", head_dim=8), BF16, 40, 0.6),
    "gemma2": (common("gemma2", head_dim=8, query_pre_attn_scalar=5, sliding_window=3, attn_logit_softcapping=1.0,
                      final_logit_softcapping=2.0), BF16, 41, 0.6),
    "vaultgemma": (common("vaultgemma", head_dim=8, query_pre_attn_scalar=5, sliding_window=3, attn_logit_softcapping=1.0,
                          final_logit_softcapping=2.0), BF16, 103, 0.6),
    "gemma3-text": (common("gemma3_text", **GEMMA3), BF16, 42, 0.6),
    "gemma3-wrapper": (common("gemma3_text", **GEMMA3, num_attention_heads=8, num_key_value_heads=4), BF16, 43, 0.6),
    "gemma4-small": (common("gemma4_text", **GEMMA4_SMALL | {"head_dim": 8}, num_key_value_heads=1), BF16, 86, 0.6),
    "gemma4-large": (common("gemma4_text", **GEMMA4_LARGE, attention_bias=True), BF16, 82, 0.6),
    "gemma4-experts": (common("gemma4_text", **GEMMA4_LARGE, enable_moe_block=True, num_experts=5, top_k_experts=2,
                              moe_intermediate_size=12), BF16, 83, 0.6),
    "mixtral": (common("mixtral", num_local_experts=4, num_experts_per_tok=2, rope_parameters=rope()), BF16, 44, 0.6),
    "qwen2-moe": (common("qwen2_moe", **EXPERTS, shared_expert_intermediate_size=20, mlp_only_layers=[1],
                         use_sliding_window=True, sliding_window=3, max_window_layers=2, rope_parameters=rope()),
                  BF16, 45, 0.6),
    "qwen3-moe": (common("qwen3_moe", **EXPERTS, head_dim=8, norm_topk_prob=True, decoder_sparse_step=2,
                         rope_parameters=rope()), BF16, 46, 0.6),
    "glm4-moe": (common("glm4_moe", num_experts_per_tok=3, n_routed_experts=6, moe_intermediate_size=12, n_group=3,
                        topk_group=2, routed_scaling_factor=1.5, use_qk_norm=True, attention_bias=True, head_dim=8,
                        rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 75, 0.6),
    # Three chunks of the delta rule.
    "qwen3-5": (common("qwen3_5_text", **DELTA_NET, vocab_size=34, num_hidden_layers=2, max_position_embeddings=256,
                       head_dim=8, attention_bias=True,
                       layer_types=HYBRID[1:3], rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 90, 0.6),
    "qwen3-5-moe": (common("qwen3_5_moe_text", **{**DELTA_NET, "linear_num_key_heads": 1}, **EXPERTS, head_dim=16,
                           shared_expert_intermediate_size=20, num_hidden_layers=4), BF16, 96, 0.6),
    "qwen3-next": (common("qwen3_next", **DELTA_NET, **EXPERTS, shared_expert_intermediate_size=20, head_dim=8,
                          mlp_only_layers=[0], layer_types=HYBRID[1:], attention_bias=True, norm_topk_prob=False,
                          rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 92, 0.6),
    # Of the MLP's 24 values 16 are left, 17 by the factor, 24 in multiples of 8.
    "lfm2": (common("lfm2", layer_types=["conv", "full_attention", "conv"], conv_bias=True, norm_eps=1e-2,
                    block_ffn_dim_multiplier=1.1, block_multiple_of=8, rope_parameters=rope()), BF16, 101, 0.6),
    "lfm2-moe": (common("lfm2_moe", **EXPERTS, layer_types=["full_attention", "conv", "conv"], conv_L_cache=4,
                        num_dense_layers=1, routed_scaling_factor=1.5, rope_parameters=rope()), BF16, 102, 0.6),
    # Three chunks of the state space.
    "mamba2": (own("mamba2", vocab_size=34, hidden_size=12, num_hidden_layers=2, num_heads=4, head_dim=6, n_groups=2,
                   state_size=5, conv_kernel=3, use_bias=True, layer_norm_epsilon=1e-2), BF16, 103, 0.6),
    "mamba2-limits": (own("mamba2", hidden_size=12, num_hidden_layers=2, num_heads=6, head_dim=4, n_groups=1, state_size=5,
                          use_conv_bias=False, time_step_limit=(0.8, 1.6), tie_word_embeddings=True), BF16, 104, 0.6),
    "mamba": (own("mamba", vocab_size=34, hidden_size=20, num_hidden_layers=2, state_size=5, conv_kernel=3, use_bias=True,
                  layer_norm_epsilon=1e-2), BF16, 112, 0.6),
    "falcon-mamba": (own("falcon_mamba", hidden_size=12, num_hidden_layers=2, state_size=5, time_step_rank=3,
                         use_conv_bias=False, mixer_rms_eps=1e-2, tie_word_embeddings=False), BF16, 113, 0.6),
    "nemotron-h": (common("nemotron_h", **MAMBA_OF_NEMOTRON, num_experts_per_tok=2, n_routed_experts=6, n_group=3, topk_group=2,
                          moe_intermediate_size=12, moe_shared_expert_intermediate_size=20, routed_scaling_factor=1.5,
                          layers_block_type=["linear_attention", "moe", "full_attention", "mlp"]), BF16, 105, 0.6),
    "nemotron-h-narrow": (common("nemotron_h", **MAMBA_OF_NEMOTRON, num_experts_per_tok=2, n_routed_experts=5, use_bias=True,
                                 moe_intermediate_size=12, moe_shared_expert_intermediate_size=20, moe_latent_size=8,
                                 layers_block_type=["moe", "linear_attention", "full_attention"]), BF16, 106, 0.6),
    "falcon-h1": (common("falcon_h1", **MAMBA_OF_HYBRID, **FACTORS, mamba_d_ssm=20, mamba_rms_norm=True, num_hidden_layers=2,
                         attention_bias=True, mlp_bias=True, mamba_proj_bias=True, projectors_bias=True,
                         rope_parameters=rope()), BF16, 107, 0.6),
    "falcon-h1-plain": (common("falcon_h1", **MAMBA_OF_HYBRID, mamba_d_ssm=None, num_hidden_layers=2,
                               time_step_limit=(0.3, float("inf")), tie_word_embeddings=True, rope_parameters=rope()),
                        BF16, 108, 0.6),
    "bamba": (common("bamba", **MAMBA_OF_HYBRID, attn_layer_indices=[1], attention_bias=True, mlp_bias=True,
                     mamba_proj_bias=True, hidden_size=32, num_hidden_layers=2), BF16, 109, 0.45),
    "granite-hybrid": (common("granitemoehybrid", **MAMBA_OF_HYBRID, **GRANITE, num_local_experts=5, num_experts_per_tok=2,
                              shared_intermediate_size=20, mamba_proj_bias=True, attention_bias=True,
                              layer_types=["linear_attention", "full_attention", "linear_attention"]), BF16, 110, 0.6),
    "granite-hybrid-dense": (common("granitemoehybrid", **MAMBA_OF_HYBRID, **GRANITE, num_local_experts=0, num_hidden_layers=2,
                                    shared_intermediate_size=20, layer_types=["full_attention", "linear_attention"],
                                    position_embedding_type="rope", rope_parameters=rope()), BF16, 111, 0.6),
    # As Scout's rotary scaling, without a ramp.
    "llama4": (common("llama4_text", **LLAMA4, num_hidden_layers=4, interleave_moe_layer_step=2, num_experts_per_tok=2,
                      attention_bias=True, rope_parameters=rope("llama3", factor=4.0, low_freq_factor=1.0,
                                                                high_freq_factor=1.0, original_max_position_embeddings=32)),
               BF16, 101, 0.6),
    # Latent attention: values narrower and wider than heads; V2 without narrow queries, and with groups of experts.
    "deepseek-v2": (latent("deepseek_v2", q_lora_rank=None, num_experts_per_tok=2, topk_method="greedy",
                           first_k_dense_replace=1, rope_parameters=rope()), BF16, 84, 0.6),
    "deepseek-v2-groups": (latent("deepseek_v2", attention_bias=True, num_experts_per_tok=3, n_group=3, topk_group=2,
                                  topk_method="group_limited_greedy", routed_scaling_factor=1.7, rope_parameters=MSCALES),
                           BF16, 85, 0.6),
    "deepseek-v3": (latent("deepseek_v3", attention_bias=True, num_experts_per_tok=3, n_group=3, topk_group=2,
                           routed_scaling_factor=1.5, first_k_dense_replace=1, rope_parameters=MSCALES), BF16, 86, 0.6),
    "deepseek-v3-halves": (latent("deepseek_v3", q_lora_rank=None, rope_interleave=False, v_head_dim=10, n_group=1,
                                  topk_group=1, norm_topk_prob=False, num_experts_per_tok=2, first_k_dense_replace=0,
                                  rope_parameters=YARN), BF16, 87, 0.6),
    "glm4-moe-lite": (latent("glm4_moe_lite", v_head_dim=8, num_experts_per_tok=2, rms_norm_eps=1e-2,
                             mlp_layer_types=["dense", "sparse", "dense"], rope_parameters=rope()), BF16, 88, 0.6),
    "glm": (common("glm", head_dim=8, rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 89, 0.6),
    "glm4": (common("glm4", head_dim=8, rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 90, 0.6),
    "starcoder2": (common("starcoder2", sliding_window=3, rope_parameters=rope()), BF16, 91, 0.6),
    "exaone4": (common("exaone4", num_hidden_layers=4, sliding_window=3, sliding_window_pattern=2, rope_parameters=rope()),
                BF16, 92, 0.6),
    "nemotron": (common("nemotron", hidden_size=32, num_hidden_layers=2, attention_bias=True, mlp_bias=True,
                        rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 93, 0.45),
    "arcee": (common("arcee", mlp_bias=True, rope_parameters=rope()), BF16, 94, 0.6),
    "seed-oss": (common("seed_oss", head_dim=8, attention_out_bias=True, mlp_bias=True, rope_parameters=rope()), BF16, 95, 0.6),
    "ernie4-5": (common("ernie4_5", head_dim=8, use_bias=True, rope_parameters=rope()), BF16, 96, 0.6),
    "ernie4-5-moe": (common("ernie4_5_moe", num_hidden_layers=5, moe_num_experts=6, moe_k=2, moe_intermediate_size=12,
                            moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=3, moe_layer_interval=2,
                            moe_norm_min=0.5, rope_parameters=rope()), BF16, 116, 0.6),
    "helium": (common("helium", head_dim=4, attention_bias=True, mlp_bias=True, rope_parameters=rope()), BF16, 97, 0.6),
    "hunyuan": (common("hunyuan_v1_dense", head_dim=8, attention_bias=True,
                       rope_parameters=rope("dynamic", alpha=20.0, factor=1.0)), BF16, 117, 0.6),
    "hunyuan-moe": (common("hunyuan_v1_moe", head_dim=6, num_experts=5, moe_topk=2, rope_parameters=rope()), BF16, 118, 0.6),
    "apertus": (common("apertus", head_dim=8, attention_bias=True, rope_parameters=rope(
        "llama3", 100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
                BF16, 119, 0.6),
    "dots1": (common("dots1", attention_bias=True, n_routed_experts=6, num_experts_per_tok=3, n_shared_experts=2,
                     moe_intermediate_size=12, n_group=3, topk_group=2, first_k_dense_replace=1, routed_scaling_factor=1.5,
                     sliding_window=3, max_window_layers=2, rope_parameters=rope()), BF16, 120, 0.6),
    "minimax-m2": (common("minimax_m2", head_dim=8, num_local_experts=5, num_experts_per_tok=2,
                          rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 121, 0.6),
    "olmoe": (common("olmoe", num_experts=5, num_experts_per_tok=2, clip_qkv=0.7, rope_parameters=rope()), BF16, 47, 0.6),
    "olmo": (common("olmo", clip_qkv=0.7, rope_parameters=rope()), BF16, 48, 0.6),
    "olmo2": (common("olmo2", rope_parameters=rope()), BF16, 49, 0.6),
    "olmo3": (common("olmo3", num_hidden_layers=4, sliding_window=3, rope_parameters={
        "full_attention": {**YARN, "rope_theta": 5e5}, "sliding_attention": rope(theta=5e5)}), BF16, 50, 0.6),
    "olmo-hybrid": (common("olmo_hybrid", linear_conv_kernel_dim=3, rms_norm_eps=1e-2,
                           rope_parameters=rope(theta=None)), BF16, 122, 0.6),
    "olmo-hybrid-rotary": (common("olmo_hybrid", num_hidden_layers=2, layer_types=HYBRID[:2], attention_bias=True,
                                  linear_num_key_heads=2, linear_key_head_dim=6, linear_value_head_dim=5,
                                  linear_allow_neg_eigval=False, rope_parameters=rope()), BF16, 123, 0.6),
    "flex-olmo": (common("flex_olmo", num_experts=5, num_experts_per_tok=2, rms_norm_eps=1e-2, rope_parameters=rope()),
                  BF16, 124, 0.6),
    "nanochat": (common("nanochat", hidden_size=16, final_logit_softcapping=2.0, rms_norm_eps=1e-2, attention_bias=True,
                        rope_parameters=rope()), BF16, 125, 0.6),
    "jamba": (common("jamba", num_hidden_layers=4, attn_layer_period=3, attn_layer_offset=2, num_experts=4,
                     mamba_d_state=5, mamba_d_conv=3, mamba_dt_rank=3, rms_norm_eps=1e-2, mamba_proj_bias=True), BF16, 126, 0.6),
    "gpt1": (own("openai-gpt", n_embd=16, n_layer=2, n_head=4, n_positions=16), F32, 127, 0.6),
    "xglm": (own("xglm", d_model=18, num_layers=2, attention_heads=3, ffn_dim=24, max_position_embeddings=16), BF16, 128, 0.6),
    "biogpt": (own("biogpt", hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
                   max_position_embeddings=16), BF16, 129, 0.6),
    "afmoe": (common("afmoe", head_dim=8, num_hidden_layers=4, **EXPERTS, num_shared_experts=2, sliding_window=3,
                     global_attn_every_n_layers=2, mup_enabled=True, route_scale=1.5, attention_bias=True,
                     rope_parameters=rope()), BF16, 130, 0.6),
    "solar-open": (common("solar_open", head_dim=8, n_routed_experts=6, num_experts_per_tok=3, n_group=3, topk_group=2,
                          moe_intermediate_size=12, routed_scaling_factor=1.5, attention_bias=True,
                          rope_parameters=rope()), BF16, 131, 0.6),
    "exaone-moe": (common("exaone_moe", head_dim=8, num_experts=6, num_experts_per_tok=3, n_group=3, topk_group=2,
                          num_shared_experts=2, moe_intermediate_size=12, sliding_window=3, sliding_window_pattern=3,
                          rope_parameters=rope()), BF16, 132, 0.6),
    "exaone": (common("exaone", attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3_ROPE), BF16, 160, 0.6),
    "exaone-in-memory": (common("exaone", num_hidden_layers=2, rope_parameters=rope()), BF16, 161, 0.6),
    "internlm3": (common("internlm3", hidden_size=32, num_hidden_layers=2, head_dim=6, attention_bias=True, mlp_bias=True,
                         max_position_embeddings=6, rope_parameters=rope("dynamic", factor=2.0)), BF16, 162, 0.45),
    "iquestcoder": (common("iquestcoder", head_dim=8, rope_parameters=rope()), BF16, 163, 0.6),
    "sarvam-moe": (common("sarvam_moe", **SARVAM, n_shared_experts=2, attention_bias=True, rope_parameters=rope()),
                   BF16, 164, 0.6),
    "sarvam-moe-in-memory": (common("sarvam_moe", **SARVAM, num_hidden_layers=2, use_qk_norm=False, attention_bias=True,
                                    rope_parameters=rope(partial_rotary_factor=0.5)), BF16, 165, 0.6),
    "sarvam-mla": (latent("sarvam_mla", num_experts_per_tok=3, n_group=3, topk_group=2, q_lora_rank=None,
                          rope_parameters=MSCALES), BF16, 166, 0.6),
    "cwm": (common("cwm", head_dim=8, sliding_window=3, mlp_bias=True, layer_types=[FULL, SLIDING, FULL], rope_parameters=rope(
        "llama3", 100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
            BF16, 133, 0.6),
    "jais2": (common("jais2", num_hidden_layers=2, layer_norm_eps=1e-2, rope_parameters=rope()), BF16, 134, 0.6),
    "minicpm3": (latent_alone("minicpm3", rms_norm_eps=1e-2, attention_bias=True, mlp_bias=True, scale_emb=1.5, scale_depth=1.2,
                              dim_model_base=10, rope_parameters=MSCALES), BF16, 135, 0.6),
    # transformers 5.24 clears the row of a padding token when it loads a model of this class.
    "youtu": (latent_alone("youtu", v_head_dim=10, rms_norm_eps=1e-2, attention_bias=True, pad_token_id=None,
                           rope_parameters=rope()), BF16, 136, 0.6),
    "hy-v3": (common("hy_v3", head_dim=8, **EXPERTS, num_shared_experts=2, router_scaling_factor=1.5, attention_bias=True,
                     mlp_layer_types=["dense", "sparse", "sparse"], rope_parameters=rope()), BF16, 137, 0.6),
    "dbrx": (own("dbrx", d_model=16, n_heads=4, n_layers=2, max_seq_len=32, rope_parameters=rope(), attn_config={
        "clip_qkv": 0.7, "kv_n_heads": 2, "rope_theta": 500.0}, ffn_config={
        "ffn_hidden_size": 12, "moe_num_experts": 5, "moe_top_k": 2}), BF16, 138, 0.6),
    "granite-swa": (common("granite_swa", **GRANITE, num_hidden_layers=4, sliding_window=3, layer_rope_theta=[500.0, 0, 100.0, 500.0],
                           attention_bias=True, mlp_bias=True), BF16, 139, 0.6),
    "granite-moe-swa": (common("granitemoe_swa", **GRANITE, num_hidden_layers=2, sliding_window=4, num_local_experts=5,
                               num_experts_per_tok=2, shared_intermediate_size=20, layer_types=[SLIDING, FULL],
                               rope_parameters=rope()), BF16, 140, 0.6),
    "persimmon": (own("persimmon", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
                      max_position_embeddings=64, layer_norm_eps=1e-2), BF16, 141, 0.45),
    "gpt-neox-japanese": (own("gpt_neox_japanese", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                              intermediate_multiple_size=2, max_position_embeddings=64, layer_norm_eps=1e-2, rope_parameters=rope(
                                  partial_rotary_factor=0.5)), BF16, 142, 0.6),
    # The first block is dense, full and rotates all the same; the last is full and does not.
    "cohere2-moe": (common("cohere2_moe", head_dim=8, num_experts=5, num_experts_per_tok=2, num_shared_experts=2, logit_scale=0.7,
                           sliding_window=3, first_k_dense_replace=1, sliding_window_pattern=2, prefix_dense_intermediate_size=20,
                           expert_selection_fn="sigmoid", rope_parameters=rope()), BF16, 143, 0.6),
    "cohere2-moe-softmax": (common("cohere2_moe", head_dim=8, num_hidden_layers=2, num_experts=5, num_experts_per_tok=2,
                                   num_shared_experts=1, shared_expert_combination_strategy="sum", logit_scale=1.5,
                                   sliding_window=3, rms_norm_eps=1e-2, attention_bias=True), BF16, 144, 0.6),
    "mistral4": (latent("mistral4", attention_bias=True, num_experts_per_tok=3, n_group=3, topk_group=2, routed_scaling_factor=1.5,
                        first_k_dense_replace=1, rope_parameters={**MSCALES, "original_max_position_embeddings": 4,
                                                                  "llama_4_scaling_beta": 0.3}), BF16, 145, 0.6),
    "mimo-v2-flash": (common("mimo_v2_flash", head_dim=12, v_head_dim=5, num_key_value_heads=1, attention_bias=True,
                             attention_value_scale=0.6, sliding_window=3, layer_types=[FULL, SLIDING, FULL], n_routed_experts=6,
                             num_experts_per_tok=3, n_group=3, topk_group=2, moe_intermediate_size=12, rope_parameters={
                                 FULL: rope(partial_rotary_factor=0.5), SLIDING: rope(theta=100.0)}), BF16, 148, 0.6),
    # Windows are no longer than what an indexer chooses.
    "deepseek-v32": (latent("deepseek_v32", **INDEXED, attention_bias=True, num_experts_per_tok=3, n_group=3, topk_group=2,
                            routed_scaling_factor=1.5, first_k_dense_replace=1, rope_parameters=MSCALES), BF16, 146, 0.6),
    "glm-moe-dsa": (latent("glm_moe_dsa", **INDEXED, v_head_dim=10, rms_norm_eps=1e-2, num_experts_per_tok=2,
                           mlp_layer_types=["sparse", "dense", "sparse"], indexer_types=["full", "shared", "full"],
                           rope_parameters=rope()), BF16, 147, 0.6),
    "phi": (common("phi", num_key_value_heads=4, qk_layernorm=True), BF16, 51, 0.6),
    "phi3": (common("phi3", sliding_window=4, rope_parameters=rope()), BF16, 52, 0.6),
    "phi3-longrope": (common("phi3", hidden_size=32, num_hidden_layers=2, original_max_position_embeddings=7,
                             tie_word_embeddings=True, rope_parameters=PARTS_OF_HEAD), BF16, 53, 0.45),
    "phimoe": (common("phimoe", attention_bias=True, lm_head_bias=True, num_local_experts=6, router_jitter_noise=0.3,
                      sliding_window=4, rope_parameters=rope()), BF16, 114, 0.6),
    "phimoe-longrope": (common("phimoe", num_hidden_layers=2, num_local_experts=4, router_jitter_noise=0.1,
                               rope_parameters={**MSCALED_LONGROPE, "original_max_position_embeddings": 7}), BF16, 115, 0.6),
    "gpt-oss": (common("gpt_oss", head_dim=8, sliding_window=3, num_local_experts=4, num_experts_per_tok=2,
                       swiglu_limit=0.5, rope_parameters={**YARN, "truncate": False, "beta_fast": 32.0, "beta_slow": 1.0}),
                BF16, 54, 0.6),
    "gpt-oss-mxfp4": (common("gpt_oss", hidden_size=32, intermediate_size=32, num_hidden_layers=2, head_dim=8,
                             sliding_window=3, num_local_experts=3, num_experts_per_tok=2,
                             rope_parameters={**YARN, "truncate": False}), BF16, 55, 0.45),
    "opt": (own("opt", hidden_size=16, num_hidden_layers=2, ffn_dim=24, num_attention_heads=4,
                max_position_embeddings=16, word_embed_proj_dim=16), F32, 56, 0.6),
    "opt-350m-like": (own("opt", hidden_size=16, num_hidden_layers=2, ffn_dim=24, num_attention_heads=4,
                          max_position_embeddings=16, word_embed_proj_dim=8, do_layer_norm_before=False), BF16, 57, 0.6),
    "gptj": (own("gptj", n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_positions=32), BF16, 58, 0.6),
    "codegen": (own("codegen", n_embd=32, n_layer=2, n_head=8, rotary_dim=2, n_positions=32), BF16, 98, 0.45),
    "gpt-bigcode": (own("gpt_bigcode", n_embd=16, n_layer=2, n_head=4, n_positions=16), BF16, 99, 0.6),
    "gpt-bigcode-heads": (own("gpt_bigcode", n_embd=16, n_layer=2, n_head=4, n_positions=16, multi_query=False), BF16, 100, 0.6),
    "gpt-neo": (own("gpt_neo", hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
                    window_size=3, max_position_embeddings=32), BF16, 59, 0.6),
    "mpt": (own("mpt", d_model=16, n_layers=2, n_heads=4, max_seq_len=16), BF16, 112, 0.6),
    # As StoryWriter, and with a number of heads that is no power of two.
    "mpt-slopes": (own("mpt", d_model=24, n_layers=2, n_heads=6, max_seq_len=16, attn_config={
        "alibi_bias_max": 16, "clip_qkv": 0.7, "softmax_scale": 0.6}), BF16, 113, 0.6),
    "bloom": (own("bloom", hidden_size=24, n_layer=2, n_head=6), F32, 60, 0.6),
    "falcon-7b-like": (own("falcon", hidden_size=16, num_hidden_layers=2, num_attention_heads=4), BF16, 61, 0.6),
    "falcon-40b-like": (own("falcon", hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
                            new_decoder_architecture=True), BF16, 62, 0.6),
    # Twelve heads: the slopes of a power of two of them need no rounding.
    "falcon-rw-like": (own("falcon", hidden_size=24, num_hidden_layers=2, num_attention_heads=12, multi_query=False,
                           parallel_attn=False, alibi=True, bias=True), BF16, 63, 0.6),
    # Positions beyond 256, which bfloat16 rounds.
    "falcon-rw-long": (own("falcon", vocab_size=20, hidden_size=12, num_hidden_layers=2, num_attention_heads=12, multi_query=False,
                           parallel_attn=False, alibi=True, bias=True), BF16, 154, 0.6),
    "granite": (common("granite", embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.6,
                       logits_scaling=0.7, rope_parameters=rope()), BF16, 64, 0.6),
    "granite-moe": (common("granitemoe", embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.6,
                           logits_scaling=0.7, attention_bias=True, num_local_experts=5, num_experts_per_tok=3,
                           rope_parameters=rope()), BF16, 110, 0.6),
    "granite-moe-shared": (common("granitemoeshared", embedding_multiplier=0.5, attention_multiplier=0.4,
                                  residual_multiplier=0.8, logits_scaling=1.3, num_local_experts=4, num_experts_per_tok=2,
                                  shared_intermediate_size=20, tie_word_embeddings=True, rope_parameters=rope()),
                           BF16, 111, 0.6),
    "smollm3": (common("smollm3", num_hidden_layers=4, use_sliding_window=True, sliding_window=3), BF16, 65, 0.6),
    "cohere": (common("cohere", logit_scale=0.7, use_qk_norm=True), BF16, 66, 0.6),
    "cohere2": (common("cohere2", num_hidden_layers=4, logit_scale=1.5, sliding_window=3), BF16, 67, 0.6),
    "stablelm": (common("stablelm", hidden_size=32, num_hidden_layers=2, use_qkv_bias=True), BF16, 68, 0.45),
    "stablelm-qk": (common("stablelm", hidden_size=32, num_hidden_layers=2, qk_layernorm=True, use_parallel_residual=True),
                    BF16, 69, 0.45),
    "ministral": (common("ministral", head_dim=4, sliding_window=3, layer_types=ALTERNATING[:3], rope_parameters=rope()),
                  BF16, 70, 0.6),
    "ministral3": (common("ministral3", head_dim=8, rope_parameters={
        **YARN, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.3}), BF16, 71, 0.6),
    "llama-yarn": (common("llama", rope_parameters=YARN), BF16, 72, 0.6),
    "llama-dynamic": (common("llama", hidden_size=32, num_hidden_layers=2, max_position_embeddings=6,
                             rope_parameters=rope("dynamic", factor=2.0)), BF16, 73, 0.45),
    "qwen2-yarn": (common("qwen2", rope_parameters=YARN), BF16, 74, 0.6),
    # Models that see pictures, of which the language model is read.
    "llava": (seeing("llava", {"rope_parameters": rope()}, image_token_index=65), BF16, 76, 0.6),
    "mistral3": (seeing("mistral3", {"sliding_window": 3, "rope_parameters": rope()}, "mistral", image_token_index=65),
                 BF16, 77, 0.6),
    "smolvlm": (seeing("smolvlm", {"rope_parameters": rope()}, "llama", image_token_id=65, scale_factor=1), BF16, 78, 0.6),
    "qwen2-5-vl": (seeing("qwen2_5_vl", {"rope_parameters": rope(**SECTIONS)}, image_token_id=65, video_token_id=64,
                          tie_word_embeddings=True), BF16, 79, 0.6),
    "qwen3-5-wrapper": (seeing("qwen3_5", {**DELTA_NET, "head_dim": 16, "layer_types": HYBRID[1:3],
                                           "rope_parameters": rope(mrope_section=[1, 1, 0], mrope_interleaved=True)},
                               image_token_id=65, video_token_id=64, tie_word_embeddings=True), BF16, 93, 0.6),
    "qwen3-5-moe-wrapper": (seeing("qwen3_5_moe", {**DELTA_NET, **EXPERTS, "shared_expert_intermediate_size": 20,
                                                   "head_dim": 16, "layer_types": HYBRID[1:3]},
                                   image_token_id=65, video_token_id=64), BF16, 94, 0.6),
    "qwen3-vl-moe": (seeing("qwen3_vl_moe", {**EXPERTS, "head_dim": 8, "mlp_only_layers": [0], "norm_topk_prob": True,
                                             "rope_parameters": rope(mrope_section=[2, 1, 1], mrope_interleaved=True)},
                            image_token_id=65, video_token_id=64), BF16, 95, 0.6),
    "llama4-wrapper": (seeing("llama4", {**LLAMA4, "num_hidden_layers": 3, "no_rope_layers": [1, 0, 1], "use_qk_norm": False,
                                         "moe_layers": [1], "num_experts_per_tok": 1, "rope_parameters": rope()},
                              own_eyes={"pixel_shuffle_ratio": 1.0, "vision_output_dim": 8, "projector_input_dim": 8,
                                        "projector_output_dim": 8}, image_token_index=65), BF16, 102, 0.6),
    "qwen3-vl": (seeing("qwen3_vl", {"head_dim": 8, "rope_parameters": rope(mrope_section=[2, 1, 1], mrope_interleaved=True)},
                        image_token_id=65, video_token_id=64), BF16, 80, 0.6),
    "aya-vision": (seeing("aya_vision", {"logit_scale": 0.25, "sliding_window": 3}, "cohere2",
                          {"model_type": "siglip_vision_model"}, image_token_index=65), BF16, 133, 0.6),
    "glm4v": (seeing("glm4v", {"rope_parameters": rope(mrope_section=[1, 0, 0], partial_rotary_factor=0.5)}, image_token_id=65,
                     video_token_id=64), BF16, 134, 0.6),
    "glm4v-moe": (seeing("glm4v_moe", {"head_dim": 8, "n_routed_experts": 6, "num_experts_per_tok": 3, "n_group": 3, "topk_group": 2,
                                       "moe_intermediate_size": 12, "routed_scaling_factor": 1.5,
                                       "rope_parameters": rope(mrope_section=[1, 1, 0], partial_rotary_factor=0.5)},
                         image_token_id=65, video_token_id=64), BF16, 135, 0.6),
    "paddleocr-vl": (seeing("paddleocr_vl", {"head_dim": 8, "use_bias": True, "rope_parameters": rope(mrope_section=[2, 1, 1])},
                            image_token_id=65, video_token_id=64), BF16, 136, 0.6),
    "qwen2-5-omni": (seeing("qwen2_5_omni_thinker", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1,
                                                     "rope_parameters": rope(**SECTIONS)}, image_token_index=65,
                            video_token_index=64, audio_token_index=64, audio_config=EARS), BF16, 137, 0.6),
    "gemma4-wrapper": (seeing("gemma4", {**GEMMA4_SMALL, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
                                         "use_double_wide_mlp": False, "layer_types": [SLIDING, FULL, SLIDING, FULL]},
                              "gemma4_text", {"position_embedding_size": 4}, image_token_id=65, video_token_id=64, audio_token_id=65), BF16, 84, 0.6),
    # In 8 bits: by tiles, of which the last are smaller, by tiles whose factors are powers of two, by matrix, by row.
    "qwen3-fp8": (common("qwen3", head_dim=8), BF16, 150, 0.6),
    "deepseek-v3-fp8": (latent("deepseek_v3", num_hidden_layers=2, num_experts_per_tok=3, n_group=3, topk_group=2,
                               first_k_dense_replace=1, moe_intermediate_size=16, rope_parameters=MSCALES), BF16, 151, 0.6),
    "ministral3-fp8": (common("ministral3", num_hidden_layers=2, head_dim=8, rope_parameters={
        **YARN, "llama_4_scaling_beta": 0.2}), BF16, 152, 0.6),
    "llama-fp8-rows": (common("llama", num_hidden_layers=2, rope_parameters=rope()), BF16, 153, 0.6),
    "gemma4-unified": (seeing("gemma4_unified", {**GEMMA4_LARGE, "num_hidden_layers": 3, "num_kv_shared_layers": 1},
                              "gemma4_unified_text", {"mm_embed_dim": 8, "mm_posemb_size": 4, "output_proj_dims": 16},
                              image_token_id=65, video_token_id=64, audio_token_id=65), BF16, 85, 0.6),
}


# ---------------------------------------------------------------- what randomize cannot know


# Rows and columns of what a factor is of; 0: all.
FP8_TILES = {"qwen3-fp8": (16, 6), "deepseek-v3-fp8": (8, 8), "ministral3-fp8": (0, 0), "llama-fp8-rows": (1, 0)}
FP8 = torch.float8_e4m3fn


def fp8(name, weight):
    """A matrix as its numbers in 8 bits, and the factors, which do not depend on them: of products rounded to bfloat16 the
    same numbers come."""
    rows, columns = (size or whole for size, whole in zip(FP8_TILES[name], weight.shape))
    i, j = torch.arange(-(-weight.shape[0] // rows))[:, None], torch.arange(-(-weight.shape[1] // columns))
    factors = torch.exp2(-9.0 - (i + j) % 2) if name == "deepseek-v3-fp8" else 0.0021 * (1 + 0.37 * ((3 * i + 5 * j) % 4))
    whole = factors.repeat_interleave(rows, 0)[:weight.shape[0]].repeat_interleave(columns, 1)[:, :weight.shape[1]]
    return (weight.float() / whole).clamp(-448, 448).to(FP8), factors, whole


def rounded_to_fp8(name, weight):
    numbers, _, whole = fp8(name, weight)
    return (numbers.float() * whole).to(BF16)


def is_in_fp8(key, tensor):
    return tensor.dim() > 1 and not any(part in key for part in ("embed", "lm_head", ".gate.weight", "norm"))


def adjust(name, model, generator):
    """Norms of Gemma before 4, of Nemotron and of Qwen 3.5 are stored as w and used as 1 + w; fused experts are [expert, in, out] or [expert, out, in]."""
    for key, buffer in model.named_buffers():
        if key.endswith(("e_score_correction_bias", "expert_bias")):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        elif key.endswith(("act_fn.beta", "act_fn.eps")):
            buffer.copy_(0.5 + 0.2 * torch.randn(buffer.shape, generator=generator) if key.endswith("beta") else torch.tensor(-0.1))
        elif key.endswith("layer_scalar"):
            buffer.copy_(1 + 0.3 * torch.randn(buffer.shape, generator=generator))
    for key, parameter in model.named_parameters():
        if name in FP8_TILES:
            if is_in_fp8(key, parameter):  # of experts, gate and up are stored apart
                halves = 2 if key.endswith("gate_up_proj") else 1
                if parameter.dim() == 3:
                    parameter.data.copy_(1.3 / parameter.shape[2]**0.5 * torch.randn(parameter.shape, generator=generator))
                for matrix in parameter.data if parameter.dim() == 3 else [parameter.data]:
                    for part in matrix.chunk(halves):
                        part.copy_(rounded_to_fp8(name, part))
        elif name.startswith(("gemma", "nemotron", "vaultgemma")) and not name.startswith(("gemma4", "nemotron-h")) and "norm" in key and key.endswith("weight"):
            parameter.data.sub_(1)
        elif name.startswith(("qwen3-5", "qwen3-next")) and "norm" in key and "linear_attn" not in key and "visual" not in key:
            parameter.data.sub_(1)
        elif key.endswith("A_log"):  # states that fade within a position and such that last
            parameter.data.copy_(2 * torch.randn(parameter.shape, generator=generator) - 2)
        elif key.endswith("x_proj.weight"):  # writes, reads and steps: their product is what a position adds
            parameter.data.mul_(0.3)
        elif name == "gpt-oss-mxfp4" and key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            parameter.data.copy_(unfolded(*mxfp4(parameter, generator)).transpose(1, 2))
        elif parameter.dim() == 3:
            fan_in = parameter.shape[1 if name.startswith(("gpt-oss", "llama4")) else 2]
            parameter.data.copy_(1.3 / fan_in**0.5 * torch.randn(parameter.shape, generator=generator))


def mxfp4(parameter, generator):
    """Random codes [expert, out, groups, 16] and exponents [expert, out, groups] for a parameter [expert, in, out]."""
    experts, width, rows = parameter.shape
    codes = torch.randint(0, 256, (experts, rows, width // 32, 16), generator=generator, dtype=torch.uint8)
    exponents = torch.randint(122, 126, (experts, rows, width // 32), generator=generator, dtype=torch.uint8)
    return codes, exponents


def unfolded(codes, exponents):
    """[expert, out, in]; a byte holds two numbers, the low half first."""
    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    numbers = torch.cat([numbers, -numbers])
    halves = torch.stack([codes & 15, codes >> 4], -1).flatten(-2).long()
    return (numbers[halves] * torch.exp2(exponents.float() - 127)[..., None]).flatten(-2)


# ---------------------------------------------------------------- files


def write(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf8")


def old_config(change):
    def beside(folder, config, model):
        old = json.loads(json.dumps(config))
        change(old)
        write(folder / "config.old.json", old)
    return beside


def old_gemma(config):
    config["hidden_act"] = "gelu"
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]


def old_gemma3(config):
    full = config.pop("rope_parameters")["full_attention"]
    del config["layer_types"]
    config |= {"rope_theta": full["rope_theta"], "rope_local_base_freq": 100.0, "sliding_window_pattern": 2,
               "rope_scaling": {"rope_type": "linear", "factor": 2.0}}


def published_gemma4(config):
    """The sizes of heads of full blocks beside those of the others."""
    heads = list(config.pop("per_layer_config").values())
    assert all(other == heads[0] for other in heads)
    config |= {"global_head_dim": heads[0]["head_dim"], "num_global_key_value_heads": heads[0]["num_key_value_heads"]}


def old_olmo3(config):
    full = config.pop("rope_parameters")["full_attention"]
    del config["layer_types"]
    config |= {"rope_theta": full.pop("rope_theta"), "rope_scaling": full}


def old_lfm2(config):
    """As LFM2 was published first."""
    kinds = config.pop("layer_types")
    config |= {"full_attn_idxs": [i for i, kind in enumerate(kinds) if kind != "conv"],
               "block_ff_dim": config.pop("intermediate_size"), "tie_embedding": config.pop("tie_word_embeddings"),
               "rope_theta": config.pop("rope_parameters")["rope_theta"], "num_heads": config["num_attention_heads"],
               "block_dim": config["hidden_size"], "conv_dim": config["hidden_size"], "block_norm_eps": config["norm_eps"]}


def renamed(**names):
    """As published, with names of its own for keys."""
    def change(config):
        for own, published in names.items():
            config[published] = config.pop(own)
    return change


def published_sarvam_mla(config):
    """The size of heads is that of what caches keep, and YaRN has the name of DeepSeek's."""
    renamed(n_routed_experts="num_experts", n_shared_experts="num_shared_experts")(config)
    old_rope("deepseek_yarn")(config)
    config |= {"head_dim": config["kv_lora_rank"] + config["qk_rope_head_dim"], "q_head_dim": config["qk_head_dim"]}


def old_rope(kind=None):
    def change(config):
        settings = config.pop("rope_parameters")
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in settings:
                config[key] = settings.pop(key)
        settings["type"] = kind or settings["rope_type"]
        del settings["rope_type"]
        config["rope_scaling"] = settings
    return change


def short_text_config(folder, config, model):
    """As Llava 1.5: what the text class has stays out of the config, its model_type too."""
    text = config["text_config"]
    for key in ("model_type", "rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias", "tie_word_embeddings"):
        del text[key]
    config["text_config"] = dict(text)
    write(folder / "config.json", config)


def without_ties(folder, config, model):
    """As Mistral Small 3.1: neither config says whether embedding and unembedding are one."""
    del config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"]
    write(folder / "config.json", config)


def flat(folder, config, model):
    """As Qwen 2.5 VL was published: the language model's settings outside, rotary ones by their old name."""
    text = config.pop("text_config")
    del text["model_type"]
    rotary = text.pop("rope_parameters")
    config |= text | {"rope_theta": rotary["rope_theta"], "rope_scaling": {"type": "mrope", **SECTIONS}}
    write(folder / "config.json", config)


def flat_paddleocr(folder, config, model):
    """As PaddleOCR-VL was published: the same, and said not to be tied, which transformers does not heed there."""
    text = config.pop("text_config")
    del text["model_type"]
    rotary = text.pop("rope_parameters")
    config |= text | {"rope_theta": rotary.pop("rope_theta"), "rope_scaling": rotary, "tie_word_embeddings": False}
    write(folder / "config.json", config)


# Beside what transformers writes, before the reference values are computed.
OLD_SPELLINGS = {"llava": short_text_config, "mistral3": without_ties, "qwen2-5-vl": flat, "paddleocr-vl": flat_paddleocr,
                 "lfm2": old_config(old_lfm2), "gemma4-large": old_config(published_gemma4), "gemma": old_config(old_gemma), "gemma3-text": old_config(old_gemma3), "olmo3": old_config(old_olmo3),
                 "exaone": old_config(renamed(num_hidden_layers="num_layers", rms_norm_eps="layer_norm_epsilon",
                                              hidden_act="activation_function")),
                 "internlm3": old_config(renamed(attention_bias="qkv_bias", mlp_bias="bias")),
                 "sarvam-moe": old_config(renamed(n_routed_experts="num_experts", n_shared_experts="num_shared_experts",
                                                  attention_bias="use_qkv_bias")),
                 "sarvam-mla": old_config(published_sarvam_mla),
                 "qwen2-yarn": old_config(old_rope()), "phi3-longrope": old_config(old_rope("su"))}


def wrapped(folder, generator, write_safetensors):
    """As Gemma 3 with pictures: the language model inside, keys with the class's values left out, parts for pictures."""
    text = json.loads((folder / "config.json").read_text())
    del text["architectures"]
    for key in ("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "hidden_activation", "attention_bias"):
        del text[key]
    write(folder / "config.json", {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
                                   "text_config": text, "vision_config": {"model_type": "siglip_vision_model"}})
    tensors = {f"language_model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["multi_modal_projector.mm_input_projection_weight"] = torch.ones(4, 16, dtype=BF16)
    tensors["vision_tower.vision_model.embeddings.patch_embedding.bias"] = torch.ones(4, dtype=BF16)
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))


def with_unread_keys(folder, generator, write_safetensors):
    """As Gemma 4 was published: blocks that read another's keys and values have projections for their own, too."""
    tensors = load_file(folder / "model.safetensors")
    for i in range(3, 6):
        for name in ("k_proj", "v_proj", "k_norm"):
            tensors[f"model.layers.{i}.self_attn.{name}.weight"] = torch.ones(4, dtype=BF16)
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))


def packed(folder, generator, write_safetensors):
    """As GPT-OSS is published: the experts' matrices in MXFP4, everything else in bfloat16."""
    tensors = load_file(folder / "model.safetensors")
    # The same numbers as in `adjust`, drawn in its order: that of the parameters.
    for key in [f"model.layers.{i}.mlp.experts.{part}_proj" for i in range(2) for part in ("gate_up", "down")]:
        weight = tensors.pop(key)
        codes, exponents = mxfp4(weight, generator)
        assert torch.equal(unfolded(codes, exponents).transpose(1, 2), weight.float()), key
        tensors |= {f"{key}_blocks": codes, f"{key}_scales": exponents}
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    write(folder / "config.json", config)


def stacked(folder, generator, write_safetensors):
    """As Qwen 3.5 with experts: those of all experts in one tensor, and beside it a part that predicts one token more."""
    tensors = load_file(folder / "model.safetensors")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    for stem in [f"model.language_model.layers.{i}.mlp.experts." for i in range(text["num_hidden_layers"])]:
        gate, up, down = (torch.stack([tensors.pop(f"{stem}{e}.{part}_proj.weight") for e in range(text["num_experts"])])
                          for part in ("gate", "up", "down"))
        tensors |= {f"{stem}gate_up_proj": torch.cat([gate, up], 1), f"{stem}down_proj": down}
    tensors["mtp.fc.weight"] = torch.ones(4, 8, dtype=BF16)
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))


def turned(folder, generator, write_safetensors):
    """As Qwen 3 VL with experts: their matrices as [expert, in, out]."""
    tensors = {name: tensor.transpose(1, 2) if ".experts." in name else tensor
               for name, tensor in load_file(folder / "model.safetensors").items()}
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))


def in_memory(folder, generator, write_safetensors):
    """With the names and shapes that transformers has when the model is loaded; it loads these, too."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=BF16)
    tensors = {name: tensor.to(BF16, copy=True) for name, tensor in sorted(model.state_dict().items())}
    del model  # which is the file that is written now
    write_safetensors(folder / "model.safetensors", tensors)
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=BF16, output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(tensor.to(BF16), tensors[name]) for name, tensor in model.state_dict().items())


def of_olmo_hybrid(published):
    """As published, or with transformers' own names; when it saves it cuts the convolutions into equal thirds."""
    def change(folder, generator, write_safetensors):
        config = json.loads((folder / "config.json").read_text())
        keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
        values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
        tensors = load_file(folder / "model.safetensors")
        for i, kind in enumerate(config["layer_types"]):
            stem = f"model.layers.{i}."
            if kind == "linear_attention":
                convolutions = torch.cat([tensors.pop(f"{stem}linear_attn.{part}_conv1d.weight") for part in "qkv"])
                if published:
                    for part, rows in zip("qkv", convolutions.split([keys, keys, values])):
                        tensors[f"{stem}linear_attn.{part}_conv1d.weight"] = rows
                    continue
                tensors[f"{stem}linear_attn.conv1d.weight"] = convolutions
                tensors[f"{stem}input_layernorm.weight"] = tensors.pop(f"{stem}attention_layer_norm.weight")
            tensors[f"{stem}post_attention_layernorm.weight"] = tensors.pop(f"{stem}feedforward_layer_norm.weight")
        write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))
    return change


def speaking(folder, generator, write_safetensors):
    """As Qwen 2.5 Omni was published: the part that thinks beside those that speak."""
    thinker = json.loads((folder / "config.json").read_text())
    del thinker["architectures"]
    write(folder / "config.json", {"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "thinker_config": thinker,
                                   "talker_config": {"hidden_size": 4}, "token2wav_config": {}})
    tensors = {f"thinker.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors |= {f"{part}.norm.weight": torch.ones(4, dtype=BF16) for part in ("talker", "token2wav")}
    write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))


def in_fp8(name):
    """As DeepSeek V3, Qwen 3 and Ministral 3 are published, or as llm-compressor writes."""
    def change(folder, generator, write_safetensors):
        tensors = {}
        for key, tensor in load_file(folder / "model.safetensors").items():
            tensors[key] = tensor
            if not is_in_fp8(key, tensor):
                continue
            tensors[key], factors, whole = fp8(name, tensor)
            assert torch.equal((tensors[key].float() * whole).to(BF16), tensor), key
            if name == "llama-fp8-rows":
                tensors[f"{key}_scale"] = factors
            elif name == "ministral3-fp8":
                tensors[f"{key}_scale_inv"] = factors.view(())
                tensors[key.removesuffix("weight") + "activation_scale"] = torch.tensor(0.02)
            else:
                tensors[f"{key}_scale_inv"] = factors.to(torch.float8_e8m0fnu) if name == "deepseek-v3-fp8" else factors
        write_safetensors(folder / "model.safetensors", dict(sorted(tensors.items())))
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {
            "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "output_activations": None, "weights": {
                "num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False, "block_structure": None}}},
            "kv_cache_scheme": None, "sparsity_config": {}, "transform_config": {},
        } if name == "llama-fp8-rows" else {
            "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(FP8_TILES[name]),
        } if name != "ministral3-fp8" else {
            "quant_method": "fp8", "activation_scheme": "static", "dequantize": False, "weight_block_size": None,
            "modules_to_not_convert": ["lm_head"]}
        write(folder / "config.json", config)
    return change


# In place of what transformers writes, when the reference values are there.
PUBLISHED_FORMS = {"exaone-in-memory": in_memory, "sarvam-moe-in-memory": in_memory, **{name: in_fp8(name) for name in FP8_TILES}, "qwen2-5-omni": speaking, "olmo-hybrid": of_olmo_hybrid(True), "olmo-hybrid-rotary": of_olmo_hybrid(False), "qwen3-5-moe-wrapper": stacked, "qwen3-vl-moe": turned, "gemma3-wrapper": wrapped,
                   "gemma4-small": with_unread_keys, "gpt-oss-mxfp4": packed}


# ---------------------------------------------------------------- the whole readout


def readout(model, norm, states):
    """What the model makes of states before its final norm: norm, projection, unembedding, bias, scale, soft cap."""
    config = model.config.get_text_config()
    base = model.base_model
    x = states if norm is None else norm(states)
    projection = getattr(getattr(base, "decoder", base), "project_out", None)
    logits = model.get_output_embeddings()(x if projection is None else projection(x))
    if model.config.model_type in ("cohere", "cohere2", "cohere2_moe"):
        logits = logits * config.logit_scale
    if config.model_type == "falcon_h1":
        logits = logits * config.lm_head_multiplier
    if config.model_type.startswith("granite") or config.model_type == "minicpm3":
        logits = logits / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


# ---------------------------------------------------------------- experts


def gap_of_near_best(scores, ordered, nearness):
    """How far Phi 3.5's first expert is from the second, and how far the others are from where they no longer count."""
    distances = [((best - scores) / torch.maximum(scores.abs(), best) - nearness).abs().min()
                 for best in (ordered[:, :1], ordered[:, 1:2])]
    return float(min([(ordered[:, 0] - ordered[:, 1]).min(), *distances]))


class SmallestChoice:
    """While it is open: by how much the last expert that is chosen beats the first that is not, over all tokens."""

    def __init__(self, model):
        self.model, self.gap, self.hooks = model, float("inf"), []

    def __enter__(self):
        config = self.model.config.get_text_config()
        chosen = getattr(config, "num_experts_per_tok", None) or getattr(config, "top_k_experts", None)
        if config.model_type == "dbrx":
            chosen = config.ffn_config.moe_top_k
        for name, module in self.model.named_modules():
            if hasattr(module, "route_scale"):  # AFMoE's router
                self.hooks.append(module.register_forward_hook(self.look(chosen)))
            elif chosen and name.endswith((".gate", ".gate.wg", ".router", ".router.proj", ".router.layer")) and getattr(module, "weight", None) is not None:
                self.hooks.append(module.register_forward_hook(self.look(chosen)))
        return self

    def look(self, chosen):
        def hook(module, args, output):
            weight = module.gate.weight if hasattr(module, "route_scale") else module.weight
            scores = torch.nn.functional.linear(args[0].flatten(0, -2), weight.double(), getattr(module, "bias", None))
            if hasattr(module, "moe_statics"):
                scores = scores.softmax(-1) + module.moe_statics.e_score_correction_bias.double()
            if hasattr(module, "e_score_correction_bias"):
                scores = scores.sigmoid() + module.e_score_correction_bias.double()
            elif len(args) > 1 and args[1] is not None:
                scores = scores.sigmoid() + args[1].double()
            ordered = scores.sort(-1, descending=True).values
            if hasattr(module, "router_jitter_noise"):
                self.gap = min(self.gap, gap_of_near_best(scores, ordered, 2 * module.router_jitter_noise))
            self.gap = min(self.gap, float((ordered[:, chosen - 1] - ordered[:, chosen]).min()))
        return hook

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()
