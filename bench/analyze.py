#!/usr/bin/env python3
"""Seconds and peak memory of `depthlens analyze` beside PyTorch that makes the same numbers (peers.py), interleaved.

    analyze.py --model FOLDER --text FILE [--positions 2048] [--runs 3] [--ways eager,compiled,eager-bf16,compiled-bf16]
    analyze.py --model FOLDER --text FILE --prompts 8 [--runs 3]
    … [--threads N] [--cpu-time]
    … --device cuda [--in-turn] [--programs exact,fast] [--list-with FOLDER]

The text becomes one document, so that all windows but the last have one length. Loading is not counted: the peers are
loaded and warmed up before, and for depthlens the time of a run on one short line is taken off. depthlens also makes
the mass of the frequency buckets, tables and records (--flags="--records none": no records); the peers keep only means.
`--ways trajectory` is the tuned-lens package's own way, which keeps every logit.
With --prompts the last positions of short prompts are analysed, the peer going prompt by prompt with a full sort at
every layer. The means of the float32 peers must be those of depthlens.

On a card (`--device`), weights and compiled code are there beforehand on both sides: of depthlens the time is what it tells of
analyzing alone, less that of a text of one window, in which it gets ready; peers are warmed up on a whole batch. What it takes of
the card's memory depthlens does not tell. With --in-turn it is measured before any peer is started, for models of which not all
fit; --list-with names a small model with the same tokenizer that cuts the text into windows. `--programs` are the ways of --decode.

On a machine that others use as well, `--threads 1 --cpu-time` compares the processor's seconds instead of the clock's:
threads that wait for each other would else measure the neighbours.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import first_lines, machine, print_table, run

MIB = 1 << 20
COLUMNS = ("kl_final", "kl_reverse", "entropy", "final_rank_mean", "cross_entropy")
PROMPT_CHARACTERS = 400


class Worker:
    """peers.py in a process of its own, which loads meanwhile."""

    def __init__(self, model, way, threads, device):
        self.way = way
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peers.py")), "--model", str(model), "--way", way,
             "--threads", str(threads), "--device", device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def listen(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer '{self.way}' ended")
        return line

    def tell(self, windows):
        self.process.stdin.write(json.dumps({"windows": windows}) + "\n")
        self.process.stdin.flush()

    def ask(self, windows):
        self.tell(windows)
        return json.loads(self.listen())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Program:
    """depthlens on one text, in a folder of its own."""

    def __init__(self, folder, model, flags):
        self.model, self.flags, self.out = model, flags, folder / "out"

    def measure(self, text, *flags):
        return run(["analyze", "--model", self.model, "--input", text, "--out", self.out, "--overwrite",
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
    """The largest difference of means, relative to 1 or the value; infinite where one has other layers or is NaN."""
    if len(ours) != len(theirs):
        return math.inf
    gaps = [abs(a[c] - b[c]) / max(1.0, abs(a[c])) for a, b in zip(ours, theirs) for c in columns]
    return math.inf if any(map(math.isnan, gaps)) else max(gaps)


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


def start_workers(options, ways, warm_up):
    """Loads and compiles on all sides at once."""
    workers = {way: Worker(options.model, way, options.threads, options.device) for way in ways}
    for worker in workers.values():
        worker.listen()
        worker.tell(warm_up)
    for worker in workers.values():
        worker.listen()
    return workers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--prompts", type=int, default=0)
    parser.add_argument("--ways", default="eager,compiled,eager-bf16,compiled-bf16")
    parser.add_argument("--programs", default="exact", help="ways of --decode, such as exact,fast")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--in-turn", action="store_true", help="first depthlens alone, then the peers")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--list-with", type=Path, help="a small model that cuts the text into the same windows")
    parser.add_argument("--flags", default="", help="further flags of analyze")
    options = parser.parse_args()
    on_card = options.device != "cpu"
    if on_card and options.cpu_time:
        parser.error("--cpu-time is of the processor, and says nothing of a card")
    ways = ["sorted"] if options.prompts else [way for way in options.ways.split(",") if way]
    clock = "cpu_seconds" if options.cpu_time else "seconds"
    our_clock = "analyzing_seconds" if on_card else clock
    place = ["--threads", str(options.threads), "--device", options.device]
    flags = [*place, *shlex.split(options.flags)] + (["--positions", "last"] if options.prompts else [])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        programs = {f"depthlens, {way}": Program(folder, options.model, [*flags, "--decode", way])
                    for way in options.programs.split(",")}
        text, tiny = folder / "text.txt", folder / "tiny.txt"
        listing = Program(folder, options.list_with or options.model, place)
        tiny.write_text(one_document(options.text, 2500) if on_card else "The first line of a text.\n")

        # The ids of the windows come from depthlens itself.
        if options.prompts:
            text.write_text("\n\n".join(make_prompts(options.text, options.prompts)) + "\n")
            windows = list_windows(listing, text)
        else:
            text.write_text(one_document(options.text, 5 * options.positions))
            windows = trimmed_windows(listing, text, options.positions)
        positions = len(windows) if options.prompts else sum(map(len, windows))
        if options.prompts:
            warm_up = [window[:32] for window in windows[:2]]
        else:
            warm_up = windows[:max(1, 4096 // len(windows[0]))] if on_card else windows[:1]

        workers = {} if options.in_turn else start_workers(options, ways, warm_up)
        ours, peaks, loading = ({name: [] for name in programs} for _ in range(3))
        theirs, means = {way: [] for way in ways}, {}

        def measure_ours():
            for name, program in programs.items():
                short, measured = program.measure(tiny), program.measure(text)
                # On a card the short text has positions of its own, which are not to be had for nothing.
                share = 1 - short.positions / measured.positions if on_card else 1
                loading[name].append(getattr(short, our_clock) / share)
                ours[name].append(getattr(measured, our_clock) / share)
                peaks[name].append(measured.peak_bytes)
                means[name] = program.means()

        def measure_theirs():
            for way, worker in workers.items():
                theirs[way].append(worker.ask(windows))

        if options.in_turn:
            for _ in range(options.runs):
                measure_ours()
            workers = start_workers(options, ways, warm_up)
            for _ in range(options.runs):
                measure_theirs()
        else:
            for _ in range(options.runs):
                measure_ours()
                measure_theirs()
        for worker in workers.values():
            worker.close()
    first = next(iter(programs))
    print(machine(options.device))
    print(f"{options.model.name}: {positions} positions in {len(windows)} {'prompts' if options.prompts else 'windows'}, "
          f"{options.runs} runs, {options.threads} threads, {'processor' if options.cpu_time else 'elapsed'} seconds; "
          f"{'getting ready' if on_card else 'loading'}, not counted: {min(loading[first]):.1f} s")
    print()
    rows = []
    best = min(ours[first]) - min(loading[first])

    def add_row(name, seconds, peak, note):
        rows.append([name, f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", f"{positions / min(seconds):,.0f}",
                     peak, f"{min(seconds) / best:.2f}", note])

    compared = range(4) if options.prompts else range(5)  # the last position of a prompt has no target
    wrong = []
    for name in programs:
        gap = difference(means[first], means[name], compared)
        # On a card the peers tell what they took of its memory, which depthlens does not.
        peak = "" if on_card else f"{max(peaks[name]) / MIB:,.0f}"
        add_row(name, [seconds - min(loading[name]) for seconds in ours[name]], peak, "" if name == first else f"{gap:.1e}")
        if gap == math.inf:
            wrong.append(name)
    for way, answers in theirs.items():
        columns = (0, 2, 4) if way == "trajectory" else compared
        gap = difference(means[first], answers[-1]["means"], columns)
        add_row(way, [answer[clock] for answer in answers], f"{answers[-1]['peak_bytes'] / MIB:,.0f}", f"{gap:.1e}")
        if gap == math.inf or not way.endswith(("bf16", "tf32")) and gap > 1e-3:
            wrong.append(way)
    print_table(["", "seconds, minimum", "median", "positions/s", "peak, MiB", "relative", "means differ by"], rows,
                options.markdown)
    if wrong:
        raise SystemExit(f"{' and '.join(wrong)}: not the same numbers")


if __name__ == "__main__":
    main()
