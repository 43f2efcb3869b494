#!/usr/bin/env python3
"""Writes tests/golden/patching: effects of activation patching on the golden checkpoints in float64, by transformers.

    make_patching_golden.py [--models tests/golden/models] [--out tests/golden/patching]

Needs what make_golden.py needs, and its folders. Two runs write the same bytes. For each VARIANT there is a file
`VARIANT.safetensors`, with two pairs P of prompts made from the token sequences of the checkpoint's
`reference.safetensors`: the source is the sequence, and the target differs from it in one or two tokens.

    source.P, target.P    I64 [T]      tokens
    answers.P             I64 [2]      what should follow source and target
    top1.P                I64 [2]      what does follow them
    clean.P               F64 [2]      log p(source's answer) - log p(target's answer), after source and target
    difference.P          F64 [L+1, T] the same after the target, with the source's state at that layer and position
    kl.P                  F64 [L+1, T] KL(clean target || patched)

Nothing is left out: every layer and position is patched by a forward hook on the block that writes the state, and
the whole model is run.
"""

import argparse
from pathlib import Path

import torch
from make_golden import Float64Arithmetic, blocks_and_final_norm, load_float64, states_and_logits, write_safetensors
from safetensors.torch import load_file
from transformers.utils.logging import disable_progress_bar

VARIANTS = ("gpt2", "neox-parallel", "llama-gqa-sharded")
CHANGED = ((3, 6), (1,))  # positions of sequences of 10 and 5 tokens


@torch.no_grad()
def patched_log_probabilities(model, tokens, layer, position, state):
    """Log-probabilities [V] after the last token of a run in which one residual state is `state`."""
    blocks, _ = blocks_and_final_norm(model)

    def exchanged(states):
        states = states.clone()
        states[0, position] = state
        return states

    def before(_, args, kwargs):
        if args:
            return (exchanged(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": exchanged(kwargs["hidden_states"])}

    def after(_, args, output):
        if isinstance(output, tuple):
            return (exchanged(output[0]), *output[1:])
        return exchanged(output)

    if layer == 0:
        hook = blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    else:
        hook = blocks[layer - 1].register_forward_hook(after)
    logits = model(tokens[None], use_cache=False).logits[0, -1]
    hook.remove()
    return logits.log_softmax(-1)


def effects(model, source, target):
    source_states, source_logits = states_and_logits(model, source)
    _, target_logits = states_and_logits(model, target)
    from_source, clean = source_logits[-1].log_softmax(-1), target_logits[-1].log_softmax(-1)
    assert clean.dtype == torch.float64
    of_source = from_source.argmax()
    of_target = next(v for v in clean.argsort(descending=True) if v != of_source)
    rows, length = source_states.shape[:2]
    difference, kl = torch.zeros(2, rows, length, dtype=torch.float64)
    for layer in range(rows):
        for position in range(length):
            said = patched_log_probabilities(model, target, layer, position, source_states[layer, position])
            difference[layer, position] = said[of_source] - said[of_target]
            kl[layer, position] = (clean.exp() * (clean - said)).sum()
    return {
        "source": source,
        "target": target,
        "answers": torch.stack([of_source, of_target]),
        "top1": torch.stack([from_source.argmax(), clean.argmax()]),
        "clean": torch.stack([p[of_source] - p[of_target] for p in (from_source, clean)]),
        "difference": difference,
        "kl": kl,
    }


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=golden / "models")
    parser.add_argument("--out", type=Path, default=golden / "patching")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order on every machine
    disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        model = load_float64(options.models / variant)
        reference = load_file(options.models / variant / "reference.safetensors")
        arrays = {}
        with Float64Arithmetic():
            for p, changed in enumerate(CHANGED):
                source = reference[f"tokens.{p}"]
                target = source.clone()
                for position in changed:
                    target[position] = (target[position] + 7) % model.config.vocab_size
                arrays |= {f"{name}.{p}": value for name, value in effects(model, source, target).items()}
        write_safetensors(options.out / f"{variant}.safetensors", arrays)
        sizes = ", ".join(f"{arrays[f'kl.{p}'].max():.2f}" for p in range(len(CHANGED)))
        print(f"{variant:18} greatest divergences {sizes}")


if __name__ == "__main__":
    main()
