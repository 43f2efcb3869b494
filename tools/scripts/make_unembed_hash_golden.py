#!/usr/bin/env python3
"""Makes tests/golden/unembed_hash.{safetensors,json}: matrices, and tuned-lens' hash of each.

Run with NumPy 2.3 or later (made with 2.4.6) and safetensors:
    python tools/scripts/make_unembed_hash_golden.py [--out FOLDER]

A matrix is stored as the rows and columns that NumPy prints of it where it has more than 1000 elements, the rest
being zeros; the JSON file holds {name: {"shape", "hash", "text" where it is short}}. Two runs write the same bytes.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def cases():
    """(name, printed corner or whole matrix as a float tensor, shape)"""
    generator = np.random.default_rng(7)

    def normal(rows, columns, scale=1.0):
        return torch.tensor(generator.standard_normal((rows, columns)) * scale).float()

    def spread(rows, columns, low, high):
        magnitude = 10 ** generator.uniform(low, high, (rows, columns))
        return torch.tensor(magnitude * generator.choice([-1, 1], (rows, columns))).float()

    large = (50, 40)
    for i in range(8):
        yield f"normal-{i}", normal(6, 6, (0.02, 0.1, 0.4, 1, 3, 20, 100, 1e4)[i]), large
    for i in range(12):
        low, high = ((-1, 1), (-3, 0), (-4, -1), (-5, 0), (-3, 3), (0, 5), (4, 6), (5, 7), (-45, -38), (-40, 38),
                     (-6, -4), (-9, -6))[i]
        yield f"spread-{i}", spread(6, 6, low, high), large
    for i in range(6):  # uniform numbers of one decimal more than printed: many ties, in float32 and exact
        numbers = generator.integers(-400, 400, (6, 6)) / (20 if i < 3 else 8)
        yield f"ties-{i}", torch.tensor(numbers).float(), large
    zeros = normal(6, 6, 0.3)
    zeros[::2, 1] = 0
    zeros[1::2, 2] = -0.0
    yield "zeros-among", zeros, large
    yield "zeros", torch.zeros(6, 6), large
    yield "negative-zeros", -torch.zeros(6, 6), large
    yield "ones", torch.ones(6, 6), large
    yield "positive", normal(6, 6).abs(), large
    yield "negative", -normal(6, 6).abs(), large
    edge = torch.full((6, 6), 0.5)
    for name, numbers in {
            "below-1e-4": (np.nextafter(np.float32(1e-4), np.float32(0)), 0.05),
            "at-1e-4": (np.float32(1e-4), 0.05), "ratio-1000": (0.5, 500.0), "ratio-above": (0.5, 500.1),
            "at-1e6": (999.99, 1e6), "below-1e6": (1000.0, 999999.9), "smallest": (1e-45, 3e-45),
            "round-up": (0.95, 9.96), "exponent-round-up": (9.96e-5, 9.94e-5)}.items():
        matrix = edge.clone()
        matrix[0, 0], matrix[3, 4] = (torch.tensor(np.float32(number)) for number in numbers)
        if name.startswith("below-1e6") or name.startswith("at-1e6"):
            matrix[matrix == 0.5] = 2000.0
        yield name, matrix, large
    odd = normal(6, 6)
    odd[0, 0], odd[1, 1], odd[2, 2] = float("nan"), float("inf"), float("-inf")
    yield "not-finite", odd, large
    for rows, columns in ((1, 1), (1, 6), (5, 7), (16, 16), (10, 100), (100, 10), (1000, 1), (25, 40)):
        yield f"whole-{rows}x{columns}", normal(rows, columns, 0.3), (rows, columns)
        yield f"whole-small-{rows}x{columns}", normal(rows, columns, 1e-4), (rows, columns)
    yield "few-columns", normal(6, 5), (300, 5)
    yield "few-rows", normal(4, 6), (4, 300)
    yield "just-summary", normal(6, 6), (7, 143)
    for i in range(4):
        yield f"float16-{i}", normal(6, 6, (0.05, 0.3, 3, 200)[i]).half(), large
        yield f"bfloat16-{i}", normal(6, 6, (0.05, 0.3, 3, 200)[i]).bfloat16(), large


def whole(corner, shape):
    """The matrix of that shape with `corner` as its first and last three rows and columns."""
    matrix = torch.zeros(shape, dtype=corner.dtype)
    index = [torch.arange(size) if size == of else torch.tensor([0, 1, 2, of - 3, of - 2, of - 1])
             for size, of in zip(corner.shape, shape)]
    matrix[index[0][:, None], index[1][None, :]] = corner
    return matrix


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=golden)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    tensors, described = {}, {}
    for name, corner, shape in cases():
        text = np.array_str(whole(corner, shape).float().numpy(), precision=1)
        tensors[name] = corner.contiguous()
        described[name] = {"shape": list(shape), "hash": hashlib.sha256(text.encode()).hexdigest()}
        if len(text) < 600:
            described[name]["text"] = text
    save_file(tensors, folder / "unembed_hash.safetensors")
    (folder / "unembed_hash.json").write_text(json.dumps(described, indent=0) + "\n")
    print(f"{len(described)} matrices")


if __name__ == "__main__":
    main()
