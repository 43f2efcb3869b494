#!/usr/bin/env python3
"""Peak resident memory of depthlens beside the weights: of loading in each dtype, and of `analyze` for growing inputs.

    memory.py --model FOLDER --text FILE [--lens LENS …] [--kilobytes 4,16,64]

The weights count in their arithmetic type. What the program takes without a model (its code, libtorch's and the
tokenizer) is measured with `count-tokens` on one line; `beyond` and `ratio` leave it out. Weights used as they are
stored are mapped, not read: rows of the embedding whose tokens never occur are not resident, and `beyond` may then be
negative. At most the embedding is missing; its size is told first.
"""

import argparse
import json
import tempfile
from pathlib import Path

from common import first_lines, processor, run

MIB = 1 << 20
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--lens", action="append", default=[])
    parser.add_argument("--kilobytes", default="4,16,64", help="sizes of the inputs")
    options = parser.parse_args()
    lenses = [part for lens in options.lens for part in ("--lens", lens)]
    print(processor())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text, out = folder / "input.txt", folder / "out"

        def analyze(num_bytes, *flags):
            text.write_bytes(first_lines(options.text, num_bytes))
            peak = run(["analyze", "--model", options.model, "--input", text, "--out", out, "--overwrite", "--quiet",
                        *lenses, *flags]).peak_bytes
            record = json.loads((out / "run.json").read_text())
            model = record["model"]
            weights = model["parameters"] * BYTES[model["dtype"]]
            return record["counts"]["positions"], weights, peak

        def line(name, positions, weights, peak):
            print(f"{name:22}{positions:10}{weights / MIB:10.0f}{alone / MIB:10.0f}{peak / MIB:10.0f}"
                  f"{(peak - weights - alone) / MIB:10.0f}{(peak - alone) / weights:8.2f}", flush=True)

        text.write_text("One line.\n")
        alone = run(["count-tokens", "--model", options.model, "--input", text, "--quiet"]).peak_bytes
        config = json.loads((options.model / "config.json").read_text())
        embedding = 4 * config["vocab_size"] * config.get("hidden_size", config.get("n_embd"))
        print(f"embedding in float32: {embedding / MIB:.0f} MiB")
        print(f"{'MiB':22}{'positions':>10}{'weights':>10}{'program':>10}{'peak':>10}{'beyond':>10}{'ratio':>8}")
        for dtype in BYTES:
            line(f"loading, {dtype}", *analyze(60, "--dtype", dtype, "--records", "none"))
        for size in map(int, options.kilobytes.split(",")):
            line(f"analyze, {size} kB", *analyze(size << 10))


if __name__ == "__main__":
    main()
