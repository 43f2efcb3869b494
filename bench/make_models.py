#!/usr/bin/env python3
"""Makes the models of random weights that the benchmarks run, in the shapes of real ones.

    make_models.py FOLDER --tokenizers DIR [--models 160m,wide,7b]

`160m` is Pythia-160m's shape in float32, `wide` a small model with the vocabulary of Llama 3 in bfloat16, `7b` Llama 2's
in float16 (13 GB on disk, written block by block).
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

END = "<|endoftext|>"
EMBEDDING_SPREAD, WEIGHT_SPREAD = 0.05, 0.02  # logits as spread as those of a trained model


def add_tokenizer(folder, tokenizer, settings):
    shutil.copyfile(tokenizer, folder / ("tokenizer" + tokenizer.suffix))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def save(model, folder, dtype):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                wide = parameter.shape[0] == model.config.vocab_size
                parameter.normal_(0, EMBEDDING_SPREAD if wide else WEIGHT_SPREAD)
    model.to(dtype).save_pretrained(folder)


def make_160m(folder, tokenizers):
    save(GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=2048, rotary_pct=0.25)), folder, torch.float32)
    add_tokenizer(folder, tokenizers / "gpt-neox-20B_tokenizer.json",
                  {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": END, "eos_token": END, "unk_token": END})


def make_wide(folder, tokenizers):
    save(LlamaForCausalLM(LlamaConfig(
        vocab_size=128256, hidden_size=1024, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=4,
        intermediate_size=2816, max_position_embeddings=8192, rope_theta=500000.0, bos_token_id=128000,
        eos_token_id=128001)), folder, torch.bfloat16)
    add_tokenizer(folder, tokenizers / "llama3-tokenizer.model", {})


def make_7b(folder, tokenizers):
    vocab, d, layers, mlp = 32000, 4096, 32, 11008
    config = LlamaConfig(vocab_size=vocab, hidden_size=d, num_hidden_layers=layers, num_attention_heads=32,
                         num_key_value_heads=32, intermediate_size=mlp, max_position_embeddings=4096,
                         architectures=["LlamaForCausalLM"], dtype="float16")
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    torch.manual_seed(0)
    place_of = {}

    def write(name, tensors):
        save_file(tensors, folder / name, metadata={"format": "pt"})
        place_of.update(dict.fromkeys(tensors, name))

    def matrix(rows, columns, spread=WEIGHT_SPREAD):
        return torch.empty(rows, columns).normal_(0, spread).half()

    write("model-ends.safetensors", {"model.embed_tokens.weight": matrix(vocab, d, EMBEDDING_SPREAD),
                                     "model.norm.weight": torch.ones(d).half(),
                                     "lm_head.weight": matrix(vocab, d, EMBEDDING_SPREAD)})
    for i in range(layers):
        block = {f"self_attn.{name}_proj": matrix(d, d) for name in "qkvo"}
        block |= {"mlp.gate_proj": matrix(mlp, d), "mlp.up_proj": matrix(mlp, d), "mlp.down_proj": matrix(d, mlp),
                  "input_layernorm": torch.ones(d).half(), "post_attention_layernorm": torch.ones(d).half()}
        write(f"model-{i:02}.safetensors",
              {f"model.layers.{i}.{name}.weight": tensor for name, tensor in block.items()})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place_of}))
    add_tokenizer(folder, tokenizers / "llama2-tokenizer.model", {"add_bos_token": True})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--models", default="160m,wide")
    options = parser.parse_args()
    makers = {"160m": make_160m, "wide": make_wide, "7b": make_7b}
    for name in options.models.split(","):
        makers[name](options.folder / name, options.tokenizers)


if __name__ == "__main__":
    main()
