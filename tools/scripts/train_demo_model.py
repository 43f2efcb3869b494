#!/usr/bin/env python3
"""Trains the demo model: a small Llama-style language model on Wikipedia text, facts and multiple-choice questions.

    train_demo_model.py --text wikipedia.txt --facts facts.jsonl --out DIR --seconds 6000

Needs torch, transformers, sentencepiece and numpy; depthlens itself never runs Python. The default settings made
data/demo, at about 2,200 tokens a second on two shared CPU cores. The length of training is given in seconds, so a
faster machine sees more tokens and a second run gives other weights.
The result is a Hugging Face folder: config.json, model.safetensors (bfloat16), tokenizer.model. The file
tokenizer_config.json, which only says that a text starts with <s>, is written by hand.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

WINDOW = 256  # tokens a row
ROWS = 16  # rows a batch, of which the first TASK_ROWS hold facts and questions
TASK_ROWS = 2
PEAK_LR = 2e-3


def train_tokenizer(documents, facts, out: Path) -> sentencepiece.SentencePieceProcessor:
    """SentencePiece BPE as Llama 2 has it (byte fallback, dummy prefix, split digits), with 8192 pieces."""
    lines = out / "tokenizer_input.txt"
    with lines.open("w", encoding="utf8") as f:
        for document in documents[:8000]:
            f.writelines(line + "\n" for line in document.split("\n") if 20 < len(line) < 2000)
        for fact in facts:
            f.write(f"{fact['cloze']} {fact['answer']}.\nQuestion: {fact['question']}\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(out / "tokenizer"), vocab_size=8192, model_type="bpe",
        byte_fallback=True, character_coverage=0.9995, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        input_sentence_size=150_000, shuffle_input_sentence=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    lines.unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))


class TaskText:
    """Endless facts ("CLOZE ANSWER.") and four-option questions; every tenth fact is never asked as a question."""

    def __init__(self, facts, tokenizer):
        self.facts, self.tokenizer, self.buffer = facts, tokenizer, []
        self.answers = {}
        for fact in facts:
            self.answers.setdefault(fact["relation_id"], set()).add(fact["answer"])
        self.answers = {relation: sorted(answers) for relation, answers in self.answers.items()}
        self.asked = [f for f in facts if f["id"] % 10 and len(self.answers[f["relation_id"]]) >= 8]

    def question(self):
        fact = random.choice(self.asked)
        others = [a for a in self.answers[fact["relation_id"]] if a != fact["answer"]]
        options = [fact["answer"], *random.sample(others, 3)]
        random.shuffle(options)
        lines = [f"Question: {fact['question']}"]
        lines += [f"({letter}) {option}" for letter, option in zip("ABCD", options)]
        return "\n".join([*lines, f"Answer: {'ABCD'[options.index(fact['answer'])]}"])

    def statements(self):
        return "\n".join(f"{f['cloze']} {f['answer']}." for f in random.sample(self.facts, random.randint(3, 8)))

    def take(self, count):
        while len(self.buffer) < count:
            text = "\n".join(self.question() for _ in range(3)) if random.random() < 0.5 else self.statements()
            self.buffer += [self.tokenizer.bos_id(), *self.tokenizer.encode(text)]
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


def encode(tokenizer, documents):
    return np.concatenate([np.array([tokenizer.bos_id(), *ids], dtype=np.uint16)
                           for i in range(0, len(documents), 500) for ids in tokenizer.encode(documents[i:i + 500])])


@torch.no_grad()
def validation_loss(model, tokens, windows=40):
    """Mean cross-entropy in nats a token over the first windows of held-out text."""
    model.eval()
    total = 0.0
    with torch.autocast("cpu", torch.bfloat16):
        for start in range(0, windows * WINDOW, WINDOW):
            row = torch.from_numpy(tokens[start:start + WINDOW + 1].astype(np.int64))
            total += torch.nn.functional.cross_entropy(model(row[None, :-1]).logits[0].float(), row[1:]).item()
    model.train()
    return total / windows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="articles, a blank line between two")
    parser.add_argument("--facts", type=Path, required=True, help="JSONL with id, cloze, question, answer, relation_id")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument("--seconds", type=float, default=6000, help="length of the training")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    documents = [d for d in options.text.read_text(encoding="utf8").split("\n\n") if len(d) > 400]
    random.seed(1)
    random.shuffle(documents)
    held_out = len(documents) // 40
    facts = [json.loads(line) for line in options.facts.open(encoding="utf8")]
    tokenizer = train_tokenizer(documents[held_out:], facts, options.out)
    train_tokens = encode(tokenizer, documents[held_out:])
    valid_tokens = encode(tokenizer, documents[:held_out])
    random.seed(0)
    rng = np.random.default_rng(0)
    tasks = TaskText(facts, tokenizer)

    def batch():
        rows = np.empty((ROWS, WINDOW + 1), dtype=np.int64)
        for i in range(ROWS):
            if i < TASK_ROWS:
                rows[i] = tasks.take(WINDOW + 1)
            else:
                start = rng.integers(0, len(train_tokens) - WINDOW - 1)
                rows[i] = train_tokens[start:start + WINDOW + 1]
        return torch.from_numpy(rows)

    vocabulary = tokenizer.get_piece_size()
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=options.hidden, intermediate_size=options.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=options.blocks, num_attention_heads=options.hidden // 64, num_key_value_heads=1,
        max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_theta=10000.0, initializer_range=0.02))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=PEAK_LR, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(model, dynamic=False)
    started, step = time.time(), 0
    while (progress := (time.time() - started) / options.seconds) < 1:
        # 200 steps of warm-up, flat until 30 % of the time, then a cosine to 2 % of the peak.
        decay = 1.0 if progress < 0.3 else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - 0.3) / 0.7))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1, (step + 1) / 200) * decay
        rows = batch()
        with torch.autocast("cpu", torch.bfloat16):
            logits = compiled(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().reshape(-1, vocabulary), rows[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            rate = step * ROWS * WINDOW / (time.time() - started)
            print(f"step {step}  loss {loss.item():.3f}  {rate:.0f} tokens/s", flush=True)
    print(f"validation {validation_loss(model, valid_tokens):.4f} nats/token after {step * ROWS * WINDOW} tokens")
    model.to(torch.bfloat16).save_pretrained(options.out)


if __name__ == "__main__":
    main()
