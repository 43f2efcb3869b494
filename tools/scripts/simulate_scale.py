#!/usr/bin/env python3
"""Memory, time and disk of sharded runs by their size, on a model so small that decoding is the least of it.

    tools/scripts/simulate_scale.py build/bin/depthlens --positions 5000000,50000000 --shards 8 --work FOLDER

Makes a random GPT-2 (300 tokens, width 8, 2 blocks) and texts of so many tokens (a byte is a token), does all shards one
after the other (--only-shards N: the first N, and no merge), merges them, and prints a table. Python 3.11, standard
library only.
"""
import argparse
import json
import os
import random
import shutil
import struct
import sys
import time
from pathlib import Path

VOCABULARY, WIDTH, BLOCKS, CONTEXT = 300, 8, 2, 512
DOCUMENT = 2000  # bytes, about


def byte_characters():
    """GPT-2's printable character for every byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def make_model(folder):
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(1)
    shapes = {"wte.weight": (VOCABULARY, WIDTH), "wpe.weight": (CONTEXT, WIDTH)}
    for block in range(BLOCKS):
        of_block = {"ln_1.weight": (WIDTH,), "ln_1.bias": (WIDTH,), "attn.c_attn.weight": (WIDTH, 3 * WIDTH),
                    "attn.c_attn.bias": (3 * WIDTH,), "attn.c_proj.weight": (WIDTH, WIDTH), "attn.c_proj.bias": (WIDTH,),
                    "ln_2.weight": (WIDTH,), "ln_2.bias": (WIDTH,), "mlp.c_fc.weight": (WIDTH, 4 * WIDTH),
                    "mlp.c_fc.bias": (4 * WIDTH,), "mlp.c_proj.weight": (4 * WIDTH, WIDTH), "mlp.c_proj.bias": (WIDTH,)}
        shapes |= {f"h.{block}.{name}": shape for name, shape in of_block.items()}
    shapes |= {"ln_f.weight": (WIDTH,), "ln_f.bias": (WIDTH,)}
    header, data = {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        center = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        values = struct.pack(f"<{count}f", *(random.gauss(center, 0.3) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "bos_token_id": 256, "eos_token_id": 256, "dtype": "float32", "layer_norm_epsilon": 1e-5, "n_embd": WIDTH,
        "n_head": 2, "n_inner": None, "n_layer": BLOCKS, "n_positions": CONTEXT, "scale_attn_weights": True,
        "tie_word_embeddings": True, "vocab_size": VOCABULARY}))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    vocabulary |= {"<s>": 256} | {f"unused{i}": i for i in range(257, VOCABULARY)}
    start = {"id": 256, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [start], "normalizer": None,
        "pre_tokenizer": level, "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": []}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>",
                                                              "tokenizer_class": "PreTrainedTokenizerFast"}))


def make_text(path, positions):
    """Words of random letters, a blank line between documents."""
    random.seed(2)
    words = ["".join(random.choices("etaoinshrdlucmfwypvbgk", k=random.randint(1, 9))) for _ in range(5000)]
    written = 0
    with open(path, "w") as out:
        while written < positions:
            document = " ".join(random.choices(words, k=DOCUMENT // 6))[:positions - written]
            out.write(document + "\n\n")
            written += len(document)


def timed(command, log):
    """(seconds, processor seconds, peak resident MiB) of a program that has to succeed."""
    started = time.monotonic()
    with open(log, "ab") as output:
        pid = os.posix_spawn(command[0], [str(part) for part in command], os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)])
        _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: status {os.waitstatus_to_exitcode(status)}; see {log}\n{Path(log).read_text()[-2000:]}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def megabytes(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def measure(program, work, text, positions, shards, only, flags):
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    done, largest = [], 0.0
    for index in range(only or shards):
        out = run / f"shard-{index}"
        done.append(timed([program, "analyze", "--model", work / "model", "--input", text, "--out", out, "--shard",
                           f"{index}/{shards}", *flags], work / "log"))
        largest = max(largest, megabytes(out / "parts"))
    row = [f"{positions:,}", " ".join(flags) or "(default)", f"{len(done)} of {shards}",
           f"{max(one[0] for one in done):.1f}", f"{max(one[1] for one in done):.1f}",
           f"{max(one[2] for one in done):.0f}", f"{largest:.2f}"]
    if len(done) == shards:
        seconds, _, peak = timed([program, "merge", *(run / f"shard-{i}" for i in range(shards)), "--out",
                                  run / "whole"], work / "log")
        row += [f"{seconds:.1f}", f"{peak:.0f}", f"{megabytes(run / 'whole'):.1f}"]
    else:
        row += ["", "", ""]
    print("| " + " | ".join(row) + " |", flush=True)
    shutil.rmtree(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--positions", default="500000,5000000,50000000")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--only-shards", type=int, default=0, help="do so many of the shards only, and no merge")
    parser.add_argument("--flags", action="append", help="of the runs; may be given several times, for as many rows")
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is made; stays")
    given = parser.parse_args()
    make_model(given.work / "model")
    print("| positions | flags | shards done | slowest shard, s | processor s | its peak, MiB | parts/, MB | merge, s "
          "| its peak, MiB | merged folder, MB |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for positions in map(int, given.positions.split(",")):
        text = given.work / f"text-{positions}.txt"
        if not text.exists():
            make_text(text, positions)
        for flags in given.flags or ["--records none", ""]:
            measure(given.program.resolve(), given.work, text, positions, given.shards, given.only_shards, flags.split())


if __name__ == "__main__":
    main()
