#!/usr/bin/env python3
"""Encoding speed on one core: `depthlens count-tokens` (reading and counting included) and Hugging Face's tokenizers.

    tokenizer.py --model FOLDER --text FILE [--runs 3]

The text is given to both document by document; the counts of tokens must be equal. Seconds are the processor's, which
on one thread are those of an idle machine; the best run counts.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from common import processor, run

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
    except ValueError as error:  # such as a vocabulary of Llama 3's kind without the package tiktoken
        print(f"Hugging Face's tokenizers are left out: {error}")
        tokenizer = None
    text = options.text.read_text(encoding="utf8")
    documents = [document.strip("\n") for document in text.split("\n\n") if document.strip()]
    megabytes = len(text.encode()) / 1e6
    ours, theirs, loading = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        empty, out = Path(folder) / "empty.txt", Path(folder) / "counts.json"
        empty.write_text("x\n")

        def count(path):
            return run(["count-tokens", "--model", options.model, "--input", path, "--out", out, "--quiet",
                        "--threads", "1"]).cpu_seconds

        for _ in range(options.runs):
            loading.append(count(empty))
            ours.append(count(options.text))
            our_count = sum(entry["count"] for entry in json.loads(out.read_text()).values())
            if tokenizer is None:
                continue
            started = time.process_time()
            their_count = sum(len(ids) for ids in tokenizer(documents, add_special_tokens=False).input_ids)
            theirs.append(time.process_time() - started)
    print(processor())
    print(f"{megabytes:.1f} MB, {our_count} tokens")
    print(f"depthlens   {megabytes / (min(ours) - min(loading)):6.1f} MB/s")
    if tokenizer is not None:
        print(f"tokenizers  {megabytes / min(theirs):6.1f} MB/s")
        if our_count != their_count:
            raise SystemExit(f"the numbers of tokens differ: Hugging Face has {their_count}")


if __name__ == "__main__":
    main()
