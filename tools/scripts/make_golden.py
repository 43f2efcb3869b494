#!/usr/bin/env python3
"""Writes tests/golden/models: tiny random checkpoints of every model family, with reference values in float64.

    make_golden.py [--out tests/golden/models] [--only VARIANT …]

Needs torch, transformers, safetensors and numpy (made with torch 2.13, transformers 5.23 and 5.24). Two runs write the
same bytes.

Each folder holds a checkpoint as users meet it (config.json and weights) and `reference.safetensors`:

    tokens.S      I64 [T]           two token sequences S = 0, 1 of different lengths
    states.S      F64 [L+1, T, d]   residual states: layer 0 enters block 1, layer i is the output of block i, all
                                    before the final norm
    logits.S      F64 [T, V]        of the model
    layer_logits.1  F32 [L+1, T, V]  of golden_families.py's: each layer by the model's whole readout

computed by transformers from the stored (rounded) weights, all arithmetic in float64: transformers' own detours through
float32 (RMSNorm, softmax, rotary angles) are lifted. `config.old.json`, where there is one, describes the same model in
the spelling of older checkpoints.

`class_defaults.json` beside the folders has what the configuration class of every family holds for a key that
config.json leaves out.

Three folders also hold lenses, random but small enough to stay in range:

    lens/tuned/               as tuned-lens 0.2.0 saves it: config.json, params.pt
    lens/tuned.safetensors    the same numbers in depthlens' own format
    lens/jacobian.pt          {"J": {l: fp16 [d, d]}, "n_prompts", "source_layers", "d_model"}; some layers have no J

and readouts of sequence 0 through each LENS of logit, tuned, tuned-paper (`--lens-alignment paper`) and jacobian,
written with NumPy from the formulas (nats; ranks are 1 + the number of strictly greater logits; top-k ties to the
lower id):

    readout.LENS.top_ids         I64 [L+1, T, 10]     readout.LENS.top_logprobs    F64 [L+1, T, 10]
    readout.LENS.entropy         F64 [L+1, T]
    readout.LENS.kl_final        F64 [L+1, T]         KL(final || layer); kl_reverse is KL(layer || final)
    readout.LENS.final_rank      I64 [L+1, T]         of the model's own top-1; final_logprob F64
    readout.LENS.target_rank     I64 [L+1, T]         of the next token; -1 and target_logprob NaN at the last
    readout.LENS.settled_layer   I64 [T]              first layer from which the top-1 stays the final top-1

tuned-paper has top_ids and entropy only. No two logits that a rank or a top-k depends on are closer than MARGIN.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import golden_families
import numpy as np
import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import (CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, Mistral4Config,
                          Mistral4ForCausalLM)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.utils.logging import disable_progress_bar

LENGTHS = (10, 5)  # tokens of the two sequences
OTHER_LENGTHS = {"qwen3-5": (131, 5), "mamba2": (131, 5), "mamba": (70, 5), "falcon-rw-long": (270, 5)}  # of variants that need more to show all that they do
AutoModelForCausalLM.register(Mistral4Config, Mistral4ForCausalLM, exist_ok=True)  # transformers 5.24 does not
TOP_K = 10
MARGIN = 5e-5  # logits; float32 arithmetic on these models is off by about 1e-6
EXPERT_MARGIN = 1e-3  # scores of a router


# ---------------------------------------------------------------- transformers in float64


class Float64Arithmetic(TorchFunctionMode):
    """Turns every explicit request for float32 into one for float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            return args[0].double()
        if function is torch.full and abs(args[1]) > torch.finfo(torch.float32).max:  # XGLM's least score
            return torch.full(*args, **{**(kwargs or {}), "dtype": torch.float64})
        return function(*map(widen, args), **{key: widen(value) for key, value in (kwargs or {}).items()})


def auto_class(config):
    return AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM


def load_float64(folder):
    """The model of `folder` with its stored weights in float64. Run it under Float64Arithmetic."""
    config = AutoConfig.from_pretrained(folder)
    # Eager attention of transformers 5.24 adds Falcon's position biases twice; SDPA has no soft caps and no sinks.
    attention = "sdpa" if getattr(config, "alibi", False) else "eager"
    model = auto_class(config).from_pretrained(folder, dtype=torch.float64, attn_implementation=attention,
                                               experts_implementation="eager").eval()
    if config.model_type in ("hunyuan_v1_moe", "afmoe", "exaone_moe"):  # routers or norms stay in float32
        model.double()
    if config.model_type == "mpt":  # transformers 5.24 leaves this setting out
        model.transformer.build_mpt_alibi_tensor = functools.partial(
            build_mpt_alibi_tensor, alibi_bias_max=config.attn_config.alibi_bias_max)
    with Float64Arithmetic(), torch.no_grad():
        for module in model.modules():
            if hasattr(module, "make_weights"):  # XGLM's positions, float32 likewise
                module.weights = module.get_embedding(*module.weights.shape, module.padding_idx)
                assert module.weights.dtype == torch.float64
            buffers = [name for name, _ in module.named_buffers(recurse=False) if name.endswith("inv_freq")]
            if buffers and hasattr(module, "config"):  # float32, computed when the module was made
                module.__init__(module.config)
                assert all(getattr(module, name).dtype == torch.float64 for name in buffers)
                if config.model_type == "phimoe":  # transformers 5.24 does not tell it how long the text is
                    module.register_forward_pre_hook(tell_length, with_kwargs=True)
    # Of Llama 4, transformers 5.24 runs what stands around the language model only with pictures.
    return model.language_model if config.model_type == "llama4" else model


def tell_length(rotary, args, kwargs):
    if rotary.rope_type == "longrope":
        rotary.rope_init_fn = functools.partial(ROPE_INIT_FUNCTIONS["longrope"], seq_len=int(kwargs["position_ids"].max()) + 1)


def blocks_and_final_norm(model):
    base = model.base_model
    for inner in ("decoder", "language_model", "text_model"):
        base = getattr(base, inner, base)
    base = getattr(base, "model", base)  # Llama 4's base is all
    blocks = next(getattr(base, name) for name in ("h", "layers", "blocks") if hasattr(base, name))
    norms = [getattr(base, name, None) for name in ("ln_f", "final_layer_norm", "final_layernorm", "norm", "embedding_norm", "norm_f", "layer_norm")]
    return blocks, next((norm for norm in norms if norm is not None), None)


@torch.no_grad()
def states_and_logits(model, tokens):
    """States [L+1, T, d] before the final norm (transformers' hidden_states[-1] is after it) and logits [T, V]."""
    states = []
    blocks, _ = blocks_and_final_norm(model)

    def before_first(_, args, kwargs):
        states.append((args[0] if args else kwargs["hidden_states"])[0])

    def after(_, args, output):
        states.append((output[0] if isinstance(output, (tuple, list)) else output)[0])

    hooks = [blocks[0].register_forward_pre_hook(before_first, with_kwargs=True)]
    hooks += [block.register_forward_hook(after) for block in blocks]
    logits = model(torch.as_tensor(tokens)[None], use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return torch.stack(states), logits


# ---------------------------------------------------------------- random weights


def randomize(name, model, generator, head_std):
    """Weights with which every block, bias and norm matters: states of order 1, logits with a deviation of 2 to 3."""
    for key, parameter in model.named_parameters():  # tied weights come once
        values = torch.randn(parameter.shape, generator=generator)
        is_embedding = any(part in key for part in ("wte", "embed_in", "embed_tokens", "lm_head", "embed_out",
                                                    "embeddings.weight", "tokens_embed"))
        if key.endswith("bias"):
            values *= 0.3
        elif values.dim() == 1:
            values = 1 + 0.3 * values
        elif is_embedding:
            values *= head_std
        elif "wpe" in key or "embed_positions" in key or "positions_embed" in key:
            values *= 0.4
        else:
            is_conv1d = ".c_" in key and model.config.model_type in ("gpt2", "openai-gpt")
            fan_in = parameter.shape[0 if is_conv1d else 1]  # GPT-2's Conv1D holds [in, out], Linear [out, in]
            values *= 1.3 / fan_in**0.5
        parameter.data.copy_(values)
    if name in golden_families.VARIANTS:
        golden_families.adjust(name, model, torch.Generator().manual_seed(generator.initial_seed()))


# ---------------------------------------------------------------- files


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf8")


def write_safetensors(path, tensors, metadata=None):
    """A safetensors file with its header in a fixed order (the library's own depends on a hash seed)."""
    names = {"float64": "F64", "int64": "I64", "uint8": "U8", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
             "float8_e4m3fn": "F8_E4M3", "float8_e8m0fnu": "F8_E8M0"}
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    blobs = []
    for name, tensor in tensors.items():
        tensor = torch.as_tensor(tensor).contiguous()
        blobs.append(tensor.flatten().view(torch.uint8).numpy().tobytes())
        dtype = names[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


# ---------------------------------------------------------------- variants


def gpt2_config(**changes):
    return AutoConfig.for_model("gpt2", **{
        "vocab_size": 67, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0, **changes})


def neox_config(**changes):
    return AutoConfig.for_model("gpt_neox", **{
        "vocab_size": 65, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
        "hidden_act": "gelu", "max_position_embeddings": 32, "layer_norm_eps": 1e-5, "use_parallel_residual": True,
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25}, **changes})


def llama_config(family="llama", **changes):
    return AutoConfig.for_model(family, **{
        "vocab_size": 66, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "intermediate_size": 24, "hidden_act": "silu", "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, **changes})


# Of its four frequencies one is kept, one blended and two slowed.
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}

# name: (config, storage type, seed, deviation of embedding and unembedding)
VARIANTS = {
    "gpt2": (gpt2_config(n_layer=3), torch.float32, 1, 0.6),
    "gpt2-bin": (gpt2_config(n_head=2), torch.float32, 2, 0.6),
    "gpt2-by-layer": (gpt2_config(n_layer=3, scale_attn_by_inverse_layer_idx=True), torch.float32, 4, 0.6),
    "gpt2-relu": (gpt2_config(n_inner=40, activation_function="relu"), torch.float32, 3, 0.6),
    "neox-parallel": (neox_config(num_hidden_layers=3), torch.float32, 10, 0.6),
    "neox-sequential": (
        neox_config(use_parallel_residual=False, tie_word_embeddings=True,
                    rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0}),
        torch.float32, 11, 0.6),
    "neox-old-config": (neox_config(hidden_size=32), torch.float16, 12, 0.45),
    "llama": (llama_config(), torch.float32, 20, 0.6),
    "llama-old-config": (llama_config(), torch.float16, 20, 0.6),
    "llama-gqa-sharded": (
        llama_config(num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2), torch.bfloat16, 21, 0.6),
    "llama3-scaled": (
        llama_config(tie_word_embeddings=True, max_position_embeddings=64, rope_parameters=LLAMA3_ROPE),
        torch.bfloat16, 22, 0.6),
    "llama-odd-head": (llama_config(hidden_size=20, head_dim=6), torch.float32, 23, 0.6),
    "llama-f16": (llama_config(num_attention_heads=4, num_key_value_heads=1), torch.float16, 24, 0.6),
    "llama-bias": (llama_config(attention_bias=True, mlp_bias=True), torch.float32, 25, 0.6),
    "llama-linear-rope": (llama_config(rope_parameters=LINEAR_ROPE), torch.bfloat16, 26, 0.6),
    "mistral": (
        llama_config("mistral", num_attention_heads=4, num_key_value_heads=2, sliding_window=4096),
        torch.bfloat16, 30, 0.6),
    "qwen2": (
        llama_config("qwen2", num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
        torch.bfloat16, 31, 0.6),
    "qwen3": (
        llama_config("qwen3", num_attention_heads=4, num_key_value_heads=2, head_dim=8), torch.bfloat16, 32, 0.6),
}
# Windows of attention shorter than the sequences: of all blocks, of the last ones, of those that are named.
VARIANTS |= {
    "mistral-window": (
        llama_config("mistral", num_attention_heads=4, num_key_value_heads=2, sliding_window=3),
        torch.bfloat16, 33, 0.6),
    "qwen2-window": (
        llama_config("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1),
        torch.bfloat16, 34, 0.6),
    "qwen3-layer-types": (
        llama_config("qwen3", head_dim=8, use_sliding_window=True, sliding_window=2,
                     layer_types=["sliding_attention", "full_attention"]),
        torch.bfloat16, 35, 0.6),
}
VARIANTS |= golden_families.VARIANTS
LENS_VARIANTS = {"gpt2": (0,), "neox-parallel": (1,), "llama-gqa-sharded": (0, 2)}  # blocks l that have a J


def write_checkpoint(name, folder, config, dtype, seed, head_std):
    model = auto_class(config).from_config(config, dtype=torch.float32).eval()
    randomize(name, model, torch.Generator().manual_seed(seed), head_std)
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size="12KB" if "sharded" in name else "5GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for key in ("transformers_version", "is_decoder", "add_cross_attention", "use_cache"):
        config.pop(key, None)
    write_json(folder / "config.json", config)
    if name in OLD_SPELLINGS:
        OLD_SPELLINGS[name](folder, config, model)


def published_gpt2(folder, config, model):
    """As the first GPT-2 checkpoints: a pickle, bare names, the causal masks among the weights, a short config."""
    state = OrderedDict((key.removeprefix("transformer."), value) for key, value in model.state_dict().items())
    del state["lm_head.weight"]
    for block in range(config["n_layer"]):
        side = config["n_positions"]
        state[f"h.{block}.attn.bias"] = torch.ones(side, side).tril().view(1, 1, side, side)
        state[f"h.{block}.attn.masked_bias"] = torch.tensor(-1e4)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    keep = ("activation_function", "architectures", "attn_pdrop", "bos_token_id", "embd_pdrop", "eos_token_id",
            "initializer_range", "layer_norm_epsilon", "model_type", "n_embd", "n_head", "n_layer", "n_positions",
            "resid_pdrop", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
            "summary_type", "summary_use_proj", "vocab_size")
    old = {key: config[key] for key in keep if key in config}
    old |= {"n_ctx": config["n_positions"], "task_specific_params": {"text-generation": {"do_sample": True}}}
    write_json(folder / "config.json", old)


def published_pythia(folder, config, model):
    """As Pythia's: rotary_pct and rotary_emb_base in the config, masks and inverse frequencies among the weights."""
    rope = config.pop("rope_parameters")
    config.pop("dtype"), config.pop("attention_bias", None)
    config |= {"rotary_emb_base": int(rope["rope_theta"]), "rotary_pct": rope["partial_rotary_factor"],
               "torch_dtype": "float16", "transformers_version": "4.24.0"}
    write_json(folder / "config.json", config)
    state = model.state_dict()
    if "lm_head.weight" in state:  # transformers 5 renames it in memory
        state["embed_out.weight"] = state.pop("lm_head.weight")
    side, rotary = config["max_position_embeddings"], model.gpt_neox.rotary_emb
    for block in range(config["num_hidden_layers"]):
        prefix = f"gpt_neox.layers.{block}.attention."
        state[prefix + "bias"] = torch.ones(side, side, dtype=torch.bool).tril().view(1, 1, side, side)
        state[prefix + "masked_bias"] = torch.tensor(-1e9).half().clamp(min=-65504)
        state[prefix + "rotary_emb.inv_freq"] = rotary.inv_freq.half().clone()
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def published_llama2(folder, config, model):
    """As Llama 2's: rope_theta and rope_scaling null beside torch_dtype, inverse frequencies among the weights."""
    write_json(folder / "config.json", old_llama_config(config, None))
    state = model.state_dict()
    for block in range(config["num_hidden_layers"]):
        inverse = model.model.rotary_emb.inv_freq.clone()
        state[f"model.layers.{block}.self_attn.rotary_emb.inv_freq"] = inverse
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def old_llama_config(config, scaling):
    config = dict(config)
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "rope_scaling": scaling,
               "torch_dtype": config.pop("dtype"), "transformers_version": "4.31.0"}
    del config["head_dim"]
    return dict(sorted(config.items()))


def old_config_beside(scaling):
    def write(folder, config, model):
        write_json(folder / "config.old.json", old_llama_config(config, scaling))
    return write


def without_layer_types(folder, config, model):
    """As before layer_types: max_window_layers alone says which blocks have windows."""
    del config["layer_types"]
    write_json(folder / "config.json", config)


OLD_SPELLINGS = {
    "qwen2-window": without_layer_types,
    "gpt2-bin": published_gpt2,
    "neox-old-config": published_pythia,
    "llama-old-config": published_llama2,
    "llama-linear-rope": old_config_beside({"type": "linear", "factor": 2.0}),
    "llama3-scaled": old_config_beside({key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"}),
} | golden_families.OLD_SPELLINGS


# ---------------------------------------------------------------- lenses


def make_lenses(folder, name, model, dtype, jacobian_blocks, generator):
    """Writes the lens files; returns translators [(weight, bias)] and Jacobians {l: J} in float64, as stored."""
    lens = folder / "lens"
    (lens / "tuned").mkdir(parents=True)
    blocks, _ = blocks_and_final_norm(model)
    d, num_blocks = model.config.hidden_size, len(blocks)
    state = OrderedDict()
    for i in range(num_blocks):
        state[f"{i}.weight"] = (0.6 / d**0.5 * torch.randn(d, d, generator=generator)).to(dtype)
        state[f"{i}.bias"] = (0.4 * torch.randn(d, generator=generator)).to(dtype)
    state._metadata = OrderedDict([("", {"version": 1})])
    for i in range(num_blocks):
        state._metadata[str(i)] = {"version": 1}
    torch.save(state, lens / "tuned" / "params.pt")
    unembedding = model.get_output_embeddings().weight.detach().float().numpy()
    printed = np.array_str(unembedding, precision=1)
    write_json(lens / "tuned" / "config.json", {
        "base_model_name_or_path": f"golden/{name}", "d_model": d, "num_hidden_layers": num_blocks, "bias": True,
        "base_model_revision": None, "unembed_hash": hashlib.sha256(printed.encode()).hexdigest(),
        "lens_type": "linear_tuned_lens"})
    write_safetensors(lens / "tuned.safetensors", state, {
        "format": "depthlens-lens", "format_version": "1", "lens_type": "tuned", "model": f"golden/{name}",
        "hidden_size": str(d), "num_layers": str(num_blocks), "steps": "0"})
    jacobians = {l: (torch.eye(d) * 0.8 + 0.5 / d**0.5 * torch.randn(d, d, generator=generator)).half()
                 for l in jacobian_blocks}
    torch.save({"J": jacobians, "n_prompts": 17, "source_layers": list(jacobian_blocks), "d_model": d},
               lens / "jacobian.pt")
    translators = [(state[f"{i}.weight"].double().numpy(), state[f"{i}.bias"].double().numpy())
                   for i in range(num_blocks)]
    return translators, {l: jacobian.double().numpy() for l, jacobian in jacobians.items()}


class Decoder:
    """Final norm and unembedding in NumPy: states [T, d] → logits [T, V]."""

    def __init__(self, model):
        _, norm = blocks_and_final_norm(model)
        head = model.get_output_embeddings()
        assert head.bias is None
        self.gain, self.unembedding = norm.weight.detach().numpy(), head.weight.detach().numpy()
        self.shift = norm.bias.detach().numpy() if getattr(norm, "bias", None) is not None else None
        self.epsilon = norm.eps if self.shift is not None else norm.variance_epsilon

    def __call__(self, h):
        if self.shift is not None:  # LayerNorm
            h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt((h * h).mean(-1, keepdims=True) + self.epsilon) * self.gain
        return (h if self.shift is None else h + self.shift) @ self.unembedding.T


def lens_logits(decode, states, translators, jacobians):
    """{lens: logits [L+1, T, V]}; the last layer of each is the model's own output."""
    last = len(states) - 1

    def translated(h, i):
        weight, bias = translators[i]
        return h + h @ weight.T + bias

    stacks = {
        "logit": states,
        "tuned": [translated(states[i], i) for i in range(last)] + [states[last]],
        "tuned-paper": [states[0]] + [translated(states[i], i - 1) for i in range(1, last)] + [states[last]],
        # J[l] maps the output of block l + 1 (counted from 1), which is layer l + 1 here.
        "jacobian": [h @ jacobians[i - 1].T if i - 1 in jacobians and i < last else h for i, h in enumerate(states)],
    }
    return {name: np.stack([decode(h) for h in stack]) for name, stack in stacks.items()}


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def rank_of(logits, ids):
    """1 + the number of strictly greater logits; logits [..., T, V], ids [T]."""
    own = logits[..., np.arange(len(ids)), ids]
    return 1 + (logits > own[..., None]).sum(-1)


def readout(logits, targets):
    """The reduced values of one lens; logits [L+1, T, V], targets [T] with -1 for none."""
    log_p = log_softmax(logits)
    p, log_final = np.exp(log_p), log_p[-1]
    final = logits[-1].argmax(-1)  # the first of equals
    top = np.argsort(-logits, axis=-1, kind="stable")[..., :TOP_K]
    has_target, some_target = targets >= 0, np.maximum(targets, 0)
    at = np.arange(len(final))
    agrees = top[..., 0] == final
    return {
        "top_ids": top,
        "top_logprobs": np.take_along_axis(log_p, top, -1),
        "entropy": -(p * log_p).sum(-1),
        "kl_final": (np.exp(log_final) * (log_final - log_p)).sum(-1),
        "kl_reverse": (p * (log_p - log_final)).sum(-1),
        "final_rank": rank_of(logits, final),
        "final_logprob": log_p[:, at, final],
        "target_rank": np.where(has_target, rank_of(logits, some_target), -1),
        "target_logprob": np.where(has_target, log_p[:, at, some_target], np.nan),
        "settled_layer": np.array([min(i for i in range(len(agrees)) if agrees[i:, t].all()) for t in at]),
    }


def smallest_gap(logits, targets):
    """The smallest difference of two logits that a rank or a top-k of `readout` depends on."""
    ordered = -np.sort(-logits, axis=-1)[..., : TOP_K + 1]
    gaps = [np.abs(np.diff(ordered, axis=-1)).min()]
    for ids in (logits[-1].argmax(-1), np.maximum(targets, 0)):
        own = logits[:, np.arange(len(ids)), ids][..., None]
        others = np.abs(logits - own)
        others[:, np.arange(len(ids)), ids] = np.inf
        gaps.append(others.min())
    return min(gaps)


# ---------------------------------------------------------------- one folder


def make_variant(name, folder):
    config, dtype, seed, head_std = VARIANTS[name]
    folder.mkdir(parents=True)
    write_checkpoint(name, folder, config, dtype, seed, head_std)
    model = load_float64(folder)
    with Float64Arithmetic(), golden_families.SmallestChoice(model) as choice:
        for old in folder.glob("config.old.json"):
            check_same_model(model, folder, old)
        if name in LENS_VARIANTS:
            lenses = make_lenses(folder, name, model, dtype, LENS_VARIANTS[name], torch.Generator().manual_seed(seed))
            decode = Decoder(model)
        for attempt in range(1000):  # until no competing logits are too close
            random = np.random.default_rng([seed, attempt])
            sequences = [random.integers(0, golden_families.num_texts(model.config), length) for length in OTHER_LENGTHS.get(name, LENGTHS)]
            choice.gap = float("inf")
            computed = [states_and_logits(load_float64(folder) if depends_on_length(model) else model, tokens)
                        for tokens in sequences]
            if choice.gap < EXPERT_MARGIN:
                continue
            arrays = {}
            for s, (tokens, (states, logits)) in enumerate(zip(sequences, computed)):
                assert states.dtype == logits.dtype == torch.float64
                arrays |= {f"tokens.{s}": tokens, f"states.{s}": states, f"logits.{s}": logits}
            if name in golden_families.VARIANTS:
                arrays["layer_logits.1"] = whole_readouts(model, computed[1])
            if name not in LENS_VARIANTS:
                break
            targets = np.append(sequences[0][1:], -1)
            stacks = lens_logits(decode, list(computed[0][0].numpy()), *lenses)
            if min(smallest_gap(logits, targets) for logits in stacks.values()) > MARGIN:
                break
        else:
            raise SystemExit(f"{name}: no tokens without near ties found")
    if name in LENS_VARIANTS:
        for lens, logits in stacks.items():
            np.testing.assert_allclose(logits[-1], computed[0][1].numpy(), rtol=0, atol=1e-12)
            for key, values in readout(logits, targets).items():
                if lens != "tuned-paper" or key in ("top_ids", "entropy"):
                    arrays[f"readout.{lens}.{key}"] = values
    write_safetensors(folder / "reference.safetensors", arrays)
    if name in golden_families.PUBLISHED_FORMS:
        golden_families.PUBLISHED_FORMS[name](folder, torch.Generator().manual_seed(seed), write_safetensors)
    states, logits = computed[0]
    steps = [f"{(states[i + 1] - states[i]).std():.2f}" for i in range(len(states) - 1)]
    print(f"{name:18} state std {states[0].std():.2f}, changed by {' '.join(steps)}; logits std {logits.std():.2f}")


def whole_readouts(model, computed):
    """What the model makes of the states of each layer, [L+1, T, V] in float32; the last is its own output."""
    _, norm = blocks_and_final_norm(model)
    states, logits = computed
    with torch.no_grad():
        layers = golden_families.readout(model, norm, states)
    torch.testing.assert_close(layers[-1], logits, rtol=0, atol=1e-12)
    return layers.float()


def depends_on_length(model):
    """Whether rotary settings remember the longest text so far: a model is then loaded anew for each."""
    settings = getattr(model.config, "rope_parameters", None) or {}
    return settings.get("rope_type") in ("dynamic", "longrope")


def check_same_model(model, folder, old_config):
    """The other spelling must mean the same to transformers too."""
    config = AutoConfig.from_pretrained(old_config)
    other = AutoModelForCausalLM.from_config(config, dtype=torch.float64, attn_implementation="eager",
                                             experts_implementation="eager").eval()
    other.load_state_dict(model.state_dict())
    tokens = torch.arange(LENGTHS[0])
    fresh = load_float64(folder) if depends_on_length(model) else model
    assert torch.equal(states_and_logits(fresh, tokens)[1], states_and_logits(other, tokens)[1]), folder


def class_defaults(family):
    """The fields of a configuration class with their defaults, and the rotary settings that hold without any."""
    config_class = CONFIG_MAPPING[family]
    plain = (bool, int, float, str, type(None))
    defaults = {f.name: f.default for f in dataclasses.fields(config_class) if isinstance(f.default, plain)}
    rope = getattr(config_class(), "rope_parameters", None)
    if rope is not None:
        neox = family == "gpt_neox"
        rope = rope.get("full_attention", rope)
        defaults["rotary_emb_base" if neox else "rope_theta"] = rope["rope_theta"]
        if "partial_rotary_factor" in rope:
            defaults["rotary_pct" if neox else "partial_rotary_factor"] = rope["partial_rotary_factor"]
    return dict(sorted(defaults.items()))


def main():
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=here.parents[2] / "tests" / "golden" / "models")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order on every machine
    disable_progress_bar()
    for name in options.only:
        shutil.rmtree(options.out / name, ignore_errors=True)
        make_variant(name, options.out / name)
    families = ("apertus arcee bloom codegen cohere cohere2 deepseek_v2 deepseek_v3 dots1 ernie4_5 ernie4_5_moe exaone4 falcon gemma gemma2 gemma3_text "
                "gemma4_text gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite gpt2 gpt_bigcode gptj gpt_neo gpt_neox "
                "gpt_oss granite granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe llama llama4_text minimax_m2 ministral ministral3 mistral mixtral mpt nemotron olmo olmo2 olmo3 olmoe opt phi phi3 phimoe qwen2 qwen2_moe qwen3 "
                "qwen3_moe seed_oss smollm3 stablelm starcoder2 qwen2_vl_text qwen2_5_vl_text qwen3_vl_text "
                "qwen3_5_text qwen3_5_moe_text qwen3_next qwen3_vl_moe_text lfm2 lfm2_moe mamba2 nemotron_h falcon_h1 bamba granitemoehybrid mamba falcon_mamba vaultgemma olmo_hybrid flex_olmo nanochat jamba openai-gpt xglm biogpt afmoe solar_open exaone_moe "
                "glm4v_text glm4v_moe_text glm_ocr_text paddleocr_vl_text qwen2_5_omni_text qwen3_omni_moe_text "
                "cwm jais2 minicpm3 youtu hy_v3 dbrx granite_swa granitemoe_swa persimmon gpt_neox_japanese cohere2_moe mistral4 deepseek_v32 glm_moe_dsa mimo_v2_flash "
                "exaone internlm3 iquestcoder sarvam_moe sarvam_mla").split()
    write_json(options.out / "class_defaults.json", {family: class_defaults(family) for family in families})
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{size} bytes in {options.out}")


if __name__ == "__main__":
    main()
