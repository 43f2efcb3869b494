#!/usr/bin/env python3
"""Trains a small GPT-NeoX model from scratch on a text: a second model with knowledge in it, where no hub can be reached.

    train_small_model.py OUT --text FILE [--minutes 12]

A byte-level BPE vocabulary of 8,192 tokens made from the text; 6 blocks, d = 256, context 256; AdamW with a linear fall.
docs/training.md compares optimizers of lenses on it. Needs torch, transformers, tokenizers.
"""

import argparse
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

BATCH, CONTEXT, PEAK_RATE = 16, 256, 2e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    options = parser.parse_args()
    torch.manual_seed(0)

    text = options.text.read_text("utf8")
    documents = [document for document in text.split("\n\n") if document.strip()]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(documents, vocab_size=8192, special_tokens=["<|endoftext|>"], show_progress=False)
    options.out.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>",
                            clean_up_tokenization_spaces=False).save_pretrained(options.out)
    ids = []
    for encoding in bpe.encode_batch(documents):
        ids += [0] + encoding.ids
    ids = torch.tensor(ids)
    print(f"{len(ids):,} tokens", flush=True)

    model = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=bpe.get_vocab_size(), hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=1024, max_position_embeddings=CONTEXT, rotary_pct=0.25, bos_token_id=0, eos_token_id=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.1, betas=(0.9, 0.95))
    started, step, mean = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - started) / 60 / options.minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min((step + 1) / 100, 1 - done)
        first = torch.randint(len(ids) - CONTEXT, (BATCH,))
        batch = torch.stack([ids[i : i + CONTEXT] for i in first])
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean += (loss.item() - mean) * max(0.02, 1 / (step + 1))
        step += 1
        if step % 50 == 0:
            print(f"step {step}, loss {mean:.3f}, {step * BATCH * CONTEXT / (time.monotonic() - started):,.0f} tokens/s", flush=True)
    model.save_pretrained(options.out)
    print(f"{step * BATCH * CONTEXT:,} tokens, loss {mean:.3f}")


if __name__ == "__main__":
    main()
