#!/usr/bin/env python3
"""Writes tests/golden/jacobians: Jacobians of the golden checkpoints in float64, by transformers and torch.autograd.

    make_jacobian_golden.py [--models tests/golden/models] [--out tests/golden/jacobians]

Needs what make_golden.py needs, and its folders. Two runs write the same bytes. For each VARIANT there is a file
`VARIANT.safetensors`; its metadata holds `skip_first`, and for both token sequences S of the checkpoint's
`reference.safetensors` and each block l but the last

    jacobian.S.l    F64 [d, d]   sum over targets t' >= t, mean over sources t of d h_L(t') / d h_l+1(t)

with sources and targets skip_first <= t < T - 1. The full Jacobian [T, d, T, d] is computed by
torch.autograd.functional.jacobian for the run that goes on from the output of block l, and then summed.
"""

import argparse
from pathlib import Path

import torch
from make_golden import Float64Arithmetic, blocks_and_final_norm, load_float64, write_safetensors
from safetensors.torch import load_file
from transformers.utils.logging import disable_progress_bar

VARIANTS = ["gpt2", "neox-parallel", "llama-gqa-sharded"]
# Whose Jacobians differences of runs do not show: ReLU, clamped numbers, steps to other experts.
VARIANTS += (
    "apertus dbrx deepseek-v32 flex-olmo gpt-oss gpt2-relu granite-moe llama4 mamba2-limits "
    "mimo-v2-flash mpt-slopes olmo olmoe opt opt-350m-like phimoe qwen2-moe qwen3-5-moe "
    "qwen3-5-moe-wrapper qwen3-next sarvam-moe-in-memory"
).split()
SKIP_FIRST = 2  # of sequences of 10 and 5 tokens


def last_state(model, tokens, block, states):
    """The last residual state [T, d] of a run in which `states` stand for the output of `block`; and those of it."""
    blocks, _ = blocks_and_final_norm(model)
    seen = {}

    def value(output):
        return output[0] if isinstance(output, tuple) else output

    def replace(_, args, output):
        seen["block"] = value(output)[0]
        if states is None:
            return None
        return (states[None], *output[1:]) if isinstance(output, tuple) else states[None]

    def keep(_, args, output):
        seen["last"] = value(output)[0]

    hooks = [blocks[block].register_forward_hook(replace), blocks[-1].register_forward_hook(keep)]
    model(tokens[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen["last"], seen["block"]


def mean_jacobian(model, tokens, block):
    with torch.no_grad():
        last, states = last_state(model, tokens, block, None)
        again, _ = last_state(model, tokens, block, states)
    assert torch.equal(last, again)
    full = torch.autograd.functional.jacobian(lambda h: last_state(model, tokens, block, h)[0], states)
    assert full.dtype == torch.float64
    length = len(tokens)
    for target in range(length):  # a state sees none that follow it
        assert not full[target, :, target + 1 :].any()
    counted = slice(SKIP_FIRST, length - 1)
    return full[counted, :, counted].sum(0).mean(1)


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=golden / "models")
    parser.add_argument("--out", type=Path, default=golden / "jacobians")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order on every machine
    disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        model = load_float64(options.models / variant)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        reference = load_file(options.models / variant / "reference.safetensors")
        blocks, _ = blocks_and_final_norm(model)
        arrays = {}
        with Float64Arithmetic():
            for s in range(2):
                for block in range(len(blocks) - 1):
                    arrays[f"jacobian.{s}.{block}"] = mean_jacobian(model, reference[f"tokens.{s}"], block)
        write_safetensors(options.out / f"{variant}.safetensors", arrays, {"skip_first": str(SKIP_FIRST)})
        sizes = ", ".join(f"{value.abs().max():.2f}" for value in arrays.values())
        print(f"{variant:18} greatest elements {sizes}")


if __name__ == "__main__":
    main()
