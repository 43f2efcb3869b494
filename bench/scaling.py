#!/usr/bin/env python3
"""How the time of `analyze` grows with tokens, layers, vocabulary, width and threads, beside the processor's arithmetic.

    scaling.py --work FOLDER --tokenizer FILE --text FILE [--runs 2] [--settings layers,threads]

Makes small models of random weights (GPT-NeoX's layout) around a base shape, one setting changed at a time. Loading, the
time of a run on one short line, is taken off. `GFLOP/s` counts what must be multiplied: for each position the blocks, and
one unembedding for each of the L + 1 layers.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.utils.logging import disable_progress_bar

from common import first_lines, processor, run

BASE = {"tokens": 1024, "layers": 8, "vocabulary": 50304, "width": 512, "threads": os.cpu_count()}
STEPS = {"tokens": (256, 512, 1024, 2048), "layers": (4, 8, 16), "vocabulary": (50304, 100608, 201216),
         "width": (256, 512, 1024, 2048), "threads": tuple(sorted({1, BASE["threads"]}))}


def make_model(folder, shape, tokenizer):
    if (folder / "model.safetensors").exists():
        return
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=shape["vocabulary"], hidden_size=shape["width"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["width"] // 64, intermediate_size=4 * shape["width"], max_position_embeddings=2048,
        rotary_pct=0.25))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.05 if parameter.shape[0] == shape["vocabulary"] else 0.02)
    model.save_pretrained(folder)
    end = "<|endoftext|>"
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": end, "eos_token": end, "unk_token": end}))


def operations(shape, positions):
    block = 12 * shape["width"] ** 2
    unembedding = shape["width"] * shape["vocabulary"]
    return 2 * positions * (shape["layers"] * block + (shape["layers"] + 1) * unembedding)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--settings", default=",".join(STEPS))
    options = parser.parse_args()
    disable_progress_bar()
    options.work.mkdir(parents=True, exist_ok=True)
    tiny, text, out = (options.work / name for name in ("tiny.txt", "text.txt", "out"))
    words = first_lines(options.text, 1 << 20).decode("utf8").split()
    tiny.write_text("The first line of a text.\n")
    print(processor())
    print(f"base: {BASE}")
    print(f"{'setting':12}{'value':>9}{'positions':>11}{'exact s':>9}{'GFLOP/s':>9}{'fast s':>9}{'GFLOP/s':>9}", flush=True)
    for setting in options.settings.split(","):
        for value in STEPS[setting]:
            shape = {**BASE, setting: value}
            model = options.work / "model-{layers}-{vocabulary}-{width}".format(**shape)
            make_model(model, shape, options.tokenizer)

            def analyze(file, decode):
                return run(["analyze", "--model", model, "--input", file, "--out", out, "--overwrite", "--quiet",
                            "--records", "none", "--report", "no", "--threads", shape["threads"], "--decode", decode,
                            ]).seconds

            def write(num_words):
                """Writes one document of so many words; returns its positions."""
                text.write_text(" ".join(words[:num_words]) + "\n")
                analyze(text, "exact")
                return json.loads((out / "run.json").read_text())["counts"]["positions"]

            # A word is one token or more.
            found = write(shape["tokens"])
            positions = write(max(1, shape["tokens"] ** 2 // found))
            seconds = {}
            for decode in ("exact", "fast"):
                loading = min(analyze(tiny, decode) for _ in range(options.runs))
                seconds[decode] = min(analyze(text, decode) for _ in range(options.runs)) - loading
            rate = {decode: operations(shape, positions) / taken / 1e9 for decode, taken in seconds.items()}
            print(f"{setting:12}{value:9}{positions:11}{seconds['exact']:9.2f}{rate['exact']:9.0f}"
                  f"{seconds['fast']:9.2f}{rate['fast']:9.0f}", flush=True)


if __name__ == "__main__":
    main()
