#!/usr/bin/env python3
"""Writes tests/golden/tasks: facts asked of a golden checkpoint in float64, by transformers and tokenizers.

    make_task_golden.py [--models tests/golden/models] [--out tests/golden/tasks]

Needs what make_golden.py needs, its folders, and tokenizers. Two runs write the same bytes.

    tokenizer.json   byte-level BPE of 66 tokens, for the checkpoint MODEL; BOS "<s>", not added by itself
    facts.jsonl      prompts and answers in its alphabet
    expected.json    for each fact, in order: `position` that predicts the first answer token, `answer` ids, and for
                     each of them, with those before it in place, `final` (the model's top-1), `rank` and `logprob`
                     by layer, through the logit lens

A prompt is tokenized alone and together with " " + answer; the answer is what follows the tokens that both share.
No logit is nearer to that of an answer token than MARGIN.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from make_golden import MARGIN, Decoder, Float64Arithmetic, load_float64, log_softmax, rank_of, states_and_logits
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.utils.logging import disable_progress_bar

MODEL = "llama-gqa-sharded"
FACTS = [
    ("the tide comes in", "twice a day"),
    ("a boat is made of", "wood"),
    ("in the harbour there is", "a boat"),
    ("the sea is", "wide"),
    ("bread is made of ", "corn, water and salt"),  # a space at the end of the prompt does not count
    ("the water was", "still."),
    ("a", "b"),
    ("the men sang", "it"),
    ("rain comes from", "the sea"),
    ("the harbour is made of", "stone"),
]


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=66, special_tokens=["<s>"], show_progress=False)
    tokenizer.train_from_iterator([f"{prompt.strip()} {answer}" for prompt, answer in FACTS], trainer)
    assert tokenizer.get_vocab_size() <= 66
    return tokenizer


def ask(model, decode, tokenizer, prompt, answer):
    alone = tokenizer.encode(prompt.strip(), add_special_tokens=False).ids
    joined = tokenizer.encode(f"{prompt.strip()} {answer}", add_special_tokens=False).ids
    shared = next((i for i, (a, b) in enumerate(zip(alone, joined)) if a != b), len(alone))
    states, model_logits = states_and_logits(model, joined[:-1])
    logits = np.stack([decode(layer) for layer in states.numpy()])[:, shared - 1 :]
    np.testing.assert_allclose(logits[-1], model_logits[shared - 1 :].numpy(), rtol=0, atol=1e-12)
    ids = np.array(joined[shared:])
    at = np.arange(len(ids))
    others = np.abs(logits - logits[:, at, ids][..., None])
    others[:, at, ids] = np.inf
    top = -np.sort(-logits[-1], axis=-1)
    assert min(others.min(), (top[:, 0] - top[:, 1]).min()) > MARGIN, prompt
    return {
        "position": shared - 1,
        "answer": ids.tolist(),
        "final": logits[-1].argmax(-1).tolist(),
        "rank": rank_of(logits, ids).T.tolist(),
        "logprob": log_softmax(logits)[:, at, ids].T.tolist(),
    }


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=golden / "models")
    parser.add_argument("--out", type=Path, default=golden / "tasks")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order on every machine
    disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(options.out / "tokenizer.json"), pretty=False)
    lines = [json.dumps({"id": f"f{i}", "prompt": prompt, "answer": answer}) for i, (prompt, answer) in enumerate(FACTS)]
    (options.out / "facts.jsonl").write_text("\n".join(lines) + "\n")
    model = load_float64(options.models / MODEL)
    with Float64Arithmetic():
        decode = Decoder(model)
        expected = [ask(model, decode, tokenizer, *fact) for fact in FACTS]
    lines = ",\n".join(json.dumps(fact) for fact in expected)
    (options.out / "expected.json").write_text(f'{{"model": "{MODEL}", "facts": [\n{lines}\n]}}\n')
    right = [final == answer for fact in expected for final, answer in zip(fact["final"], fact["answer"])]
    print(f"{len(FACTS)} facts, {len(right)} answer tokens, {sum(right)} of them what the model says")


if __name__ == "__main__":
    main()
