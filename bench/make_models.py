#!/usr/bin/env python3
"""Makes the models of random weights that the benchmarks run, in the shapes of real ones.

    make_models.py FOLDER --tokenizers DIR [--models 160m,wide] [--device cuda]

`160m` is Pythia-160m's shape in float32, `wide` a small model with the vocabulary of Llama 3 in bfloat16, `7b` Llama 2's
in float16 (13 GB on disk), `pythia-6.9b` (14 GB) and `llama3-8b` (16 GB) those in bfloat16; `gemma2-2b` is Gemma 2's
(5 GB) and `mixtral-2` two of the 32 blocks of Mixtral 8x7B (6 GB), both in bfloat16; `tiny-neox` and `tiny-llama` are for
trying. Weights are written block by block, and drawn on the device that is named.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

EMBEDDING_SPREAD, WEIGHT_SPREAD = 0.05, 0.02  # logits as spread as those of a trained model
END = "<|endoftext|>"
NEOX_TOKENIZER = ("gpt-neox-20B_tokenizer.json",
                  {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": END, "eos_token": END, "unk_token": END})
LLAMA2_TOKENIZER = ("llama2-tokenizer.model", {"add_bos_token": True})
LLAMA3_TOKENIZER = ("llama3-tokenizer.model", {})


@dataclass
class Shape:
    vocab: int
    d: int
    layers: int
    heads: int
    mlp: int
    dtype: torch.dtype
    tokenizer: tuple
    max_positions: int = 2048


@dataclass
class Neox(Shape):
    def config(self):
        return {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": self.vocab,
                "hidden_size": self.d, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "intermediate_size": self.mlp, "max_position_embeddings": self.max_positions, "rotary_pct": 0.25,
                "rotary_emb_base": 10000, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "use_parallel_residual": True,
                "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0}

    def ends(self):
        return {"gpt_neox.embed_in.weight": (self.vocab, self.d), "embed_out.weight": (self.vocab, self.d),
                "gpt_neox.final_layer_norm.weight": (self.d,), "gpt_neox.final_layer_norm.bias": (self.d,)}

    def block(self, i):
        d, mlp = self.d, self.mlp
        shapes = {"attention.query_key_value.weight": (3 * d, d), "attention.query_key_value.bias": (3 * d,),
                  "attention.dense.weight": (d, d), "attention.dense.bias": (d,),
                  "mlp.dense_h_to_4h.weight": (mlp, d), "mlp.dense_h_to_4h.bias": (mlp,),
                  "mlp.dense_4h_to_h.weight": (d, mlp), "mlp.dense_4h_to_h.bias": (d,)}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
        return {f"gpt_neox.layers.{i}.{name}": shape for name, shape in shapes.items()}


@dataclass
class Llama(Shape):
    kv_heads: int = 0
    theta: float = 10000.0

    def config(self):
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": self.vocab,
                  "hidden_size": self.d, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                  "num_key_value_heads": self.kv_heads or self.heads, "intermediate_size": self.mlp,
                  "max_position_embeddings": self.max_positions, "rope_theta": self.theta, "hidden_act": "silu",
                  "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
        if self.tokenizer is LLAMA3_TOKENIZER:
            config |= {"bos_token_id": 128000, "eos_token_id": 128001}
        return config

    def ends(self):
        return {"model.embed_tokens.weight": (self.vocab, self.d), "lm_head.weight": (self.vocab, self.d),
                "model.norm.weight": (self.d,)}

    def block(self, i):
        d, mlp, kv = self.d, self.mlp, self.d // self.heads * (self.kv_heads or self.heads)
        shapes = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
                  "self_attn.o_proj": (d, d), "mlp.gate_proj": (mlp, d), "mlp.up_proj": (mlp, d),
                  "mlp.down_proj": (d, mlp), "input_layernorm": (d,), "post_attention_layernorm": (d,)}
        return {f"model.layers.{i}.{name}.weight": shape for name, shape in shapes.items()}


@dataclass
class Gemma2(Llama):
    head_dim: int = 256

    def config(self):
        return {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": self.vocab,
                "hidden_size": self.d, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "intermediate_size": self.mlp,
                "max_position_embeddings": self.max_positions, "bos_token_id": 128000, "eos_token_id": 128001}

    def ends(self):
        return {"model.embed_tokens.weight": (self.vocab, self.d), "model.norm.weight": (self.d,)}

    def block(self, i):
        d, mlp, q, kv = self.d, self.mlp, self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {"self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
                  "self_attn.o_proj": (d, q), "mlp.gate_proj": (mlp, d), "mlp.up_proj": (mlp, d),
                  "mlp.down_proj": (d, mlp)}
        shapes |= {f"{norm}_layernorm": (d,) for norm in ("input", "post_attention", "pre_feedforward",
                                                          "post_feedforward")}
        return {f"model.layers.{i}.{name}.weight": shape for name, shape in shapes.items()}


@dataclass
class Mixtral(Llama):
    experts: int = 8

    def config(self):
        return super().config() | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
                                   "num_local_experts": self.experts, "num_experts_per_tok": 2}

    def block(self, i):
        moe = f"model.layers.{i}.block_sparse_moe"
        shapes = {name: shape for name, shape in super().block(i).items() if ".mlp." not in name}
        shapes[f"{moe}.gate.weight"] = (self.experts, self.d)
        for e in range(self.experts):
            shapes |= {f"{moe}.experts.{e}.w1.weight": (self.mlp, self.d), f"{moe}.experts.{e}.w2.weight": (self.d, self.mlp),
                       f"{moe}.experts.{e}.w3.weight": (self.mlp, self.d)}
        return shapes


SHAPES = {
    "160m": Neox(50304, 768, 12, 12, 3072, torch.float32, NEOX_TOKENIZER),
    "wide": Llama(128256, 1024, 8, 16, 2816, torch.bfloat16, LLAMA3_TOKENIZER, 8192, kv_heads=4, theta=500000.0),
    "llama2-4": Llama(32000, 4096, 4, 32, 11008, torch.bfloat16, LLAMA2_TOKENIZER, 4096),
    "7b": Llama(32000, 4096, 32, 32, 11008, torch.float16, LLAMA2_TOKENIZER, 4096),
    "pythia-6.9b": Neox(50432, 4096, 32, 32, 16384, torch.bfloat16, NEOX_TOKENIZER),
    "llama3-8b": Llama(128256, 4096, 32, 32, 14336, torch.bfloat16, LLAMA3_TOKENIZER, 8192, kv_heads=8, theta=500000.0),
    "gemma2-2b": Gemma2(256000, 2304, 26, 8, 9216, torch.bfloat16, LLAMA3_TOKENIZER, 8192, kv_heads=4),
    "mixtral-2": Mixtral(32000, 4096, 2, 32, 14336, torch.bfloat16, LLAMA2_TOKENIZER, 4096, kv_heads=8, theta=1e6),
    "tiny-neox": Neox(50304, 64, 2, 4, 128, torch.bfloat16, NEOX_TOKENIZER),
    "tiny-llama": Llama(128256, 64, 2, 4, 128, torch.bfloat16, LLAMA3_TOKENIZER, 8192, kv_heads=2, theta=500000.0),
}


def drawn(name, shape, like, device):
    """Norms are the identity and biases zero; matrices are drawn, those as high as the vocabulary with their own spread."""
    if len(shape) == 1:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=like.dtype)
    spread = EMBEDDING_SPREAD if shape[0] == like.vocab else WEIGHT_SPREAD
    return torch.empty(shape, device=device).normal_(0, spread).to(like.dtype).cpu()


def make(folder, shape, tokenizers, device):
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(shape.config() | {"dtype": str(shape.dtype).removeprefix("torch.")}, indent=2))
    place_of, parts = {}, [shape.ends(), *(shape.block(i) for i in range(shape.layers))]
    for number, part in enumerate(parts):
        name = f"model-{number + 1:05}-of-{len(parts):05}.safetensors"
        save_file({key: drawn(key, size, shape, device) for key, size in part.items()}, folder / name,
                  metadata={"format": "pt"})
        place_of |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place_of}))
    file, settings = shape.tokenizer
    shutil.copyfile(tokenizers / file, folder / ("tokenizer" + Path(file).suffix))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--models", default="160m,wide", help=", ".join(SHAPES))
    parser.add_argument("--device", default="cpu", help="where the weights are drawn: cpu or cuda")
    options = parser.parse_args()
    for name in options.models.split(","):
        if name not in SHAPES:
            parser.error(f"no shape '{name}'; there are {', '.join(SHAPES)}")
        make(options.folder / name, SHAPES[name], options.tokenizers, options.device)


if __name__ == "__main__":
    main()
