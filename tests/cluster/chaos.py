"""Kills runs at random moments, goes on with them in other ways, and compares each with an undisturbed run.

    python3 tests/cluster/chaos.py PROGRAM [--seconds 300] [--copies 6]

Not part of ctest: it runs for as long as it is told. DEPTHLENS_TEST_SEED repeats the choices, though not the moments at
which they meet the program. Ends by 1 at the first difference, and keeps the folder then.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cluster

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Failure(Exception):
    pass


class Chaos:
    def __init__(self, program, copies, folder):
        self.program, self.folder = program, folder
        self.torchrun = cluster.usable_torchrun()
        self.corpus = folder / "corpus.txt"
        text = "\n\n".join(path.read_text() for path in sorted(cluster.CORPORA.glob("*.txt")))
        # Not the same text each time: then a record that is in the wrong place would not be seen.
        self.corpus.write_text("\n\n".join(f"Part {i}.\n\n{text}" for i in range(copies)))
        self.variants = {
            "one lens": ["--lens", "logit"],
            "two lenses": ["--lens", "logit", "--lens", f"tuned:{cluster.DEMO_LENS}"],
            "few records": ["--lens", "logit", "--max-records", "100"],
            "all records": ["--lens", "logit", "--max-records", "0"],
            "sample": ["--lens", "logit", "--positions", "sample:3000"],
        }
        self.whole = {}
        self.count = 0

    def command(self, variant, out, *more):
        return [self.program, "analyze", "--input", self.corpus, *self.variants[variant], "--threads", "1", "--out", out,
                *more]

    def reference(self, variant):
        if variant not in self.whole:
            out = self.folder / f"whole-{len(self.whole)}"
            started = time.monotonic()
            done = subprocess.run(list(map(str, self.command(variant, out))), env=cluster.clean_environment(),
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise Failure(f"{variant}: {done.returncode}\n{done.stderr}")
            self.whole[variant] = cluster.describe(out), time.monotonic() - started
        return self.whole[variant]

    def start(self, variant, out, ranks, more):
        """A process or an agent with its ranks, which begins or goes on."""
        self.count += 1
        log = self.folder / f"log-{self.count}"
        command = self.command(variant, out, "--resume", *more)
        if ranks == 0:
            return cluster.Process(command, log=log)
        return cluster.torchrun(self.torchrun, "--nproc-per-node", ranks, "--max-restarts", random.choice((0, 2)),
                                *command, log=log)

    def hit(self, process, ranks, after):
        """Waits for so long, then sends a signal to somebody. What was done, in words."""
        if cluster.wait_until(lambda: process.popen.poll() is not None, after):
            return "ended by itself"
        which = random.choice(SIGNALS)
        victims = cluster.ranks_of(process.pid, self.program) or [process.pid]
        victim = random.choice([process.pid, *victims] if ranks else [process.pid])
        cluster.kill(victim, which)
        if random.random() < 0.2:
            time.sleep(random.uniform(0, 0.5))
            cluster.kill(victim, random.choice(SIGNALS))
        return f"{which.name} after {after:.2f} s to {'one of ' if ranks else ''}{max(ranks, 1)}"

    def disturb(self, variant, out, more, seconds, history):
        ranks = random.choice((0, 0, 1, 2, 3) if self.torchrun and not more else (0,))
        with self.start(variant, out, ranks, more) as process:
            what = self.hit(process, ranks, random.uniform(0.05, 0.8 * seconds))
            status = process.wait(240)
            history.append(f"{ranks or 'no'} ranks, {what}: {status}")
            allowed = {0, 1, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
            if status not in allowed or "defect" in process.log_text():
                raise Failure("\n".join([*history, process.log_text()]))

    def finish(self, variant, out, more, history, ranks):
        with self.start(variant, out, ranks, more) as process:
            status = process.wait(240)
            history.append(f"{ranks or 'no'} ranks to the end: {status}")
            if status != 0:
                raise Failure("\n".join([*history, process.log_text()]))

    def check(self, variant, out, history):
        found = cluster.describe(out)
        whole = self.reference(variant)[0]
        if found != whole:
            different = [name for name in whole if whole[name] != found.get(name)]
            raise Failure("\n".join([*history, f"{out} is different in {', '.join(different)}"]))
        left = {path.name for path in out.iterdir()} - {"run.json", "records.jsonl", "summary.json", "tables", "report.html",
                                                        "replicates"}
        if left:
            raise Failure("\n".join([*history, f"left in {out}: {left}"]))

    def whole_run(self, variant):
        """One run folder, whoever writes it."""
        out, history = self.folder / "out", [variant]
        cluster.remove(out)
        seconds = self.reference(variant)[1]
        for _ in range(random.randint(1, 3)):
            self.disturb(variant, out, [], seconds, history)
        self.finish(variant, out, [], history, random.choice((0, 1, 2, 3) if self.torchrun else (0,)))
        self.check(variant, out, history)
        return history

    def shards(self, variant):
        count, history = random.randint(2, 4), [f"{variant} in shares"]
        seconds = self.reference(variant)[1] / count + 0.5
        outs = [self.folder / f"shard-{i}" for i in range(count)]
        whole = self.folder / "merged"
        for out in (*outs, whole):
            cluster.remove(out)
        for i, out in enumerate(outs):
            share = ["--shard", f"{i}/{count}"]
            if random.random() < 0.6:
                self.disturb(variant, out, share, seconds, history)
            self.finish(variant, out, share, history, 0)
        random.shuffle(outs)
        done = subprocess.run([self.program, "merge", *outs, "--out", whole], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure("\n".join([*history, done.stderr]))
        self.check(variant, whole, history)
        return history

    def full_disk(self, variant):
        """On a small file system of its own, which only root can make; goes on where there is room."""
        out, small, history = self.folder / "out", self.folder / "small", [f"{variant} on a full disk"]
        cluster.remove(out)
        small.mkdir(exist_ok=True)
        size = random.choice((64, 256, 1024, 4096))
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", small],
                                               capture_output=True).returncode != 0:
            return ["a full disk: not without root"]
        try:
            with self.start(variant, small / "out", 0, []) as process:
                status = process.wait(240)
                history.append(f"{size} KiB: {status}")
                if status != 6:
                    raise Failure("\n".join([*history, process.log_text()]))
            if (small / "out").exists():  # nothing may have found room
                shutil.copytree(small / "out", out)
        finally:
            subprocess.run(["umount", small], check=True)
        self.finish(variant, out, [], history, 0)
        self.check(variant, out, history)
        return history


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--copies", type=int, default=6, help="of the corpora: how long a run takes")
    given = parser.parse_args()
    seed = int(os.environ.get("DEPTHLENS_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"DEPTHLENS_TEST_SEED={seed}", flush=True)
    random.seed(seed)
    folder = Path(tempfile.mkdtemp(prefix="depthlens-chaos-"))
    chaos = Chaos(str(Path(given.program).resolve()), given.copies, folder)
    end, rounds = time.monotonic() + given.seconds, 0
    try:
        while time.monotonic() < end:
            kind = random.choices((chaos.whole_run, chaos.shards, chaos.full_disk), (6, 3, 1))[0]
            for line in kind(random.choice(list(chaos.variants))):
                print("   " if line[:1].isdigit() or line.startswith("no ") else "", line, flush=True)
            rounds += 1
    except Failure as failure:
        print(f"FAILED, see {folder}\n{failure}", flush=True)
        sys.exit(1)
    print(f"{rounds} rounds, no difference")
    cluster.remove(folder)


if __name__ == "__main__":
    main()
