#!/usr/bin/env python3
"""Seconds and peak memory of `depthlens analyze` beside PyTorch that makes the same numbers (peers.py), interleaved.

    analyze.py --model FOLDER --text FILE [--positions 2048] [--runs 3] [--ways eager,compiled,eager-bf16,compiled-bf16]
    analyze.py --model FOLDER --text FILE --prompts 8 [--runs 3]
    … [--threads N] [--cpu-time]

The text becomes one document, so that all windows but the last have one length. Loading is not counted: the peers are
loaded and warmed up before, and for depthlens the time of a run on one short line is taken off. depthlens also makes
the mass of the frequency buckets, tables and records (--flags="--records none": no records); the peers keep only means.
`--ways trajectory` is the tuned-lens package's own way, which keeps every logit.
With --prompts the last positions of short prompts are analysed, the peer going prompt by prompt with a full sort at
every layer. The means of the float32 peers must be those of depthlens.

On a machine that others use as well, `--threads 1 --cpu-time` compares the processor's seconds instead of the clock's:
threads that wait for each other would else measure the neighbours.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import first_lines, processor, run

MIB = 1 << 20
COLUMNS = ("kl_final", "kl_reverse", "entropy", "final_rank_mean", "cross_entropy")
PROMPT_CHARACTERS = 400


class Worker:
    """peers.py in a process of its own."""

    def __init__(self, model, way, threads):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peers.py")), "--model", str(model), "--way", way,
             "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, windows):
        self.process.stdin.write(json.dumps({"windows": windows}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Program:
    """depthlens on one text, in a folder of its own."""

    def __init__(self, folder, model, flags):
        self.model, self.flags, self.out = model, flags, folder / "out"

    def measure(self, text, *flags):
        return run(["analyze", "--model", self.model, "--input", text, "--out", self.out, "--overwrite", "--quiet",
                    *self.flags, *flags])

    def means(self):
        """[layer][column] of lens.quality."""
        table = json.loads((self.out / "summary.json").read_text())["tables"]["lens.quality"]
        places = [table["columns"].index(column) for column in COLUMNS]
        return [[row[place] for place in places] for row in table["rows"]]

    def windows(self):
        """Token ids of all windows; the last run must have written all records."""
        windows = {}
        with (self.out / "records.jsonl").open(encoding="utf8") as file:
            for record in map(json.loads, file):
                windows.setdefault((record["document"], record["window"]), []).append(record["token"]["id"])
        return list(windows.values())


def one_document(path, num_bytes):
    lines = first_lines(path, num_bytes).decode("utf8").split("\n")
    return "\n".join(line for line in lines if line.strip()) + "\n"


def make_prompts(path, count):
    """Beginnings of long paragraphs, cut at a word's end."""
    lines = first_lines(path, 1 << 22).decode("utf8").split("\n")
    long = [line for line in lines if len(line) > 2 * PROMPT_CHARACTERS][:count]
    return [line[:PROMPT_CHARACTERS].rsplit(" ", 1)[0] for line in long]


def difference(ours, theirs, columns):
    """The largest difference of means, relative to 1 or the value."""
    return max(abs(a[c] - b[c]) / max(1.0, abs(a[c])) for a, b in zip(ours, theirs) for c in columns)


def list_windows(program, text):
    program.measure(text, "--top-k", "1", "--max-records", "0", "--experiment", "trajectory")
    return program.windows()


def trimmed_windows(program, text, positions):
    """Cuts the text until its windows hold about `positions` positions, and returns them."""
    while True:
        windows = list_windows(program, text)
        found = sum(map(len, windows))
        if found <= positions * 1.02:
            return windows
        content = text.read_text()
        text.write_text(content[: int(len(content) * positions / found)].rsplit(" ", 1)[0] + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--prompts", type=int, default=0)
    parser.add_argument("--ways", default="eager,compiled,eager-bf16,compiled-bf16")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--flags", default="", help="further flags of analyze")
    options = parser.parse_args()
    ways = ["sorted"] if options.prompts else options.ways.split(",")
    clock = "cpu_seconds" if options.cpu_time else "seconds"
    flags = ["--threads", str(options.threads), *shlex.split(options.flags)] + (["--positions", "last"] if options.prompts else [])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        program = Program(folder, options.model, flags)
        text, tiny = folder / "text.txt", folder / "tiny.txt"
        listing = Program(folder, options.model, ["--threads", str(options.threads)])
        tiny.write_text("The first line of a text.\n")

        # The ids of the windows come from depthlens itself.
        if options.prompts:
            text.write_text("\n\n".join(make_prompts(options.text, options.prompts)) + "\n")
            windows = list_windows(listing, text)
        else:
            text.write_text(one_document(options.text, 5 * options.positions))
            windows = trimmed_windows(listing, text, options.positions)
        positions = len(windows) if options.prompts else sum(map(len, windows))

        workers = {way: Worker(options.model, way, options.threads) for way in ways}
        warm_up = [window[:32] for window in windows[:2]] if options.prompts else windows[:1]
        for worker in workers.values():
            worker.ask(warm_up)
        ours, peaks, loading = [], [], []
        theirs = {way: [] for way in ways}
        for _ in range(options.runs):
            loading.append(getattr(program.measure(tiny), clock))
            measured = program.measure(text)
            ours.append(getattr(measured, clock))
            peaks.append(measured.peak_bytes)
            for way, worker in workers.items():
                theirs[way].append(worker.ask(windows))
        means = program.means()
        for worker in workers.values():
            worker.close()
    load = min(loading)
    print(processor())
    print(f"{options.model.name}: {positions} positions in {len(windows)} {'prompts' if options.prompts else 'windows'}, "
          f"{options.runs} runs, {options.threads} threads, {'processor' if options.cpu_time else 'elapsed'} seconds; "
          f"loading, not counted: {load:.1f} s")
    print(f"{'':16}{'minimum':>10}{'median':>10}{'positions/s':>13}{'peak MiB':>10}{'ratio':>8}   means differ by")
    best = min(ours) - load

    def line(name, seconds, peak, note):
        print(f"{name:16}{min(seconds):10.2f}{statistics.median(seconds):10.2f}{positions / min(seconds):13.1f}"
              f"{peak / MIB:10.0f}{min(seconds) / best:8.2f}   {note}")

    line("depthlens", [seconds - load for seconds in ours], max(peaks), "")
    for way, answers in theirs.items():
        columns = range(4) if way == "sorted" else (0, 2, 4) if way == "trajectory" else range(5)
        gap = difference(means, answers[-1]["means"], columns)
        line(way, [answer[clock] for answer in answers], answers[-1]["peak_bytes"], f"{gap:.1e}")
        if not way.endswith("bf16") and gap > 1e-3:
            raise SystemExit(f"{way} does not make the same numbers")


if __name__ == "__main__":
    main()
