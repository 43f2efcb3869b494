#!/usr/bin/env python3
"""Makes the models of random weights that the benchmarks run: FOLDER/160m and FOLDER/wide.

    make_models.py FOLDER --tokenizers DIR
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

END = "<|endoftext|>"


def save(model, folder, tokenizer, settings):
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:  # logits as spread as those of a trained model
                parameter.normal_(0, 0.05 if parameter.shape[0] == model.config.vocab_size else 0.02)
    model.save_pretrained(folder)
    shutil.copyfile(tokenizer, folder / ("tokenizer" + tokenizer.suffix))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizers", type=Path, required=True)
    options = parser.parse_args()
    pythia = GPTNeoXConfig(vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                           intermediate_size=3072, max_position_embeddings=2048, rotary_pct=0.25)
    save(GPTNeoXForCausalLM(pythia), options.folder / "160m", options.tokenizers / "gpt-neox-20B_tokenizer.json",
         {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": END, "eos_token": END, "unk_token": END})
    wide = LlamaConfig(vocab_size=128256, hidden_size=1024, num_hidden_layers=8, num_attention_heads=16,
                       num_key_value_heads=4, intermediate_size=2816, max_position_embeddings=8192,
                       rope_theta=500000.0, bos_token_id=128000, eos_token_id=128001)
    save(LlamaForCausalLM(wide), options.folder / "wide", options.tokenizers / "llama3-tokenizer.model", {})


if __name__ == "__main__":
    main()
