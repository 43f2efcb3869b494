"""What the tests with many processes share: torchrun, processes that are always ended, comparing run folders.

Python 3.11, standard library only. A test is a file of `unittest` cases that ends by `cluster.main()`.
"""
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SKIPPED = 77  # SKIP_RETURN_CODE of ctest
SOURCE = Path(__file__).resolve().parents[2]
CORPORA = SOURCE / "data" / "corpora"
DEMO_LENS = SOURCE / "data" / "demo" / "lens"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def main():
    """Runs the tests of the calling file. The seed of what is random is printed, and taken from DEPTHLENS_TEST_SEED."""
    seed = int(os.environ.get("DEPTHLENS_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"DEPTHLENS_TEST_SEED={seed}", flush=True)
    random.seed(seed)
    unittest.main(argv=sys.argv[:1], verbosity=2)


def usable_torchrun():
    """The torchrun of the torch that depthlens was built with, or another; None where there is none that works."""
    beside = Path(os.environ.get("DEPTHLENS_LIBTORCH", "/nowhere")).parents
    candidates = [os.environ.get("DEPTHLENS_TORCHRUN")]
    candidates += [str(folder / "bin" / "torchrun") for folder in beside]
    candidates += [str(SOURCE / ".venv/bin/torchrun"), shutil.which("torchrun")]
    for candidate in dict.fromkeys(filter(None, candidates)):
        if not os.access(candidate, os.X_OK):
            continue
        attempt = subprocess.run([candidate, "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if attempt.returncode == 0:
            return candidate
        print(f"{candidate} does not run: {(attempt.stderr.strip().splitlines() or ['no message'])[-1]}")
    return None


def find_torchrun():
    return usable_torchrun() or skip("no torchrun that works; tests/cluster/setup.sh installs what it needs")


def clean_environment(**more):
    """The environment without what another torchrun or Slurm has left in it."""
    prefixes = ("SLURM", "TORCHELASTIC", "MASTER_")
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "OMP_NUM_THREADS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(prefixes) and k not in names}
    return {**kept, **more}


def torchrun(program, *arguments, log, **environment):
    """Starts an agent of torchrun. A port of its own: two that take the default one stop each other."""
    # Looks at its ranks ten times a second: what kills and waits here is quick.
    return Process([program, "--no-python", "--monitor-interval", "0.1", "--master-port", free_port(), *arguments],
                   clean_environment(**environment), log)


class Process:
    """A program in a session of its own, killed with all its children where it outlives the `with`."""

    def __init__(self, command, environment=None, log=None, cwd=None):
        self.command = [str(part) for part in command]
        self.log = log
        with open(log or os.devnull, "ab") as output:
            self.popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                          env=environment or clean_environment(), cwd=cwd, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in [self.pid, *descendants(self.pid)]:
            kill(child, signal.SIGKILL)
        self.popen.wait()

    @property
    def pid(self):
        return self.popen.pid

    def wait(self, seconds):
        """The exit status; -1 and the log on stdout where it has not ended in time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"still running after {seconds} s: {' '.join(self.command)}\n{self.log_text()}", flush=True)
            return -1

    def log_text(self):
        return Path(self.log).read_text(errors="replace") if self.log and Path(self.log).exists() else ""


def kill(pid, which):
    try:
        os.kill(pid, which)
        return True
    except ProcessLookupError:
        return False


def descendants(pid):
    """Process ids below `pid`: parents before children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
        except OSError:
            continue
        fields = status.rpartition(")")[2].split()
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, ahead = [], [pid]
    while ahead:
        children = parents.get(ahead.pop(), [])
        found += children
        ahead += children
    return found


def ranks_of(pid, program):
    """Processes below `pid` that run `program`."""
    found = []
    for child in descendants(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(part == os.fsencode(program) for part in command[:2]):
            found.append(child)
    return found


def wait_until(condition, seconds, pause=0.02):
    """What `condition` returns as soon as that is true; what it returned last where it never is."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(pause)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Case(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="depthlens-cluster-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def assert_same_run(self, one, other):
        """Two run folders are equal in all that is promised: byte for byte but for `volatile`."""
        self.assertEqual(describe(one), describe(other))


    def assert_nothing_left(self, folder):
        """A complete run folder holds results only: no saved state, no unfinished file."""
        known = {"run.json", "records.jsonl", "summary.json", "tables", "replicates", "report.html"}
        self.assertEqual({path.name for path in Path(folder).iterdir()} - known, set())


class Reference:
    """Runs of one process, which the others are held against."""

    def __init__(self, program):
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="depthlens-reference-"))

    def run(self, arguments):
        out = self.folder / str(len(list(self.folder.glob("*"))))
        command = [self.program, *map(str, arguments), "--out", out]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"{done.returncode}: {done.stderr}")
        return out

    def remove(self):
        remove(self.folder)


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)


def describe(folder):
    """{file: digest} of a run folder's results, with run.json as its values but `volatile`."""
    folder = Path(folder)
    found = {}
    for path in [folder / "summary.json", folder / "records.jsonl", *sorted((folder / "tables").glob("*"))]:
        name = str(path.relative_to(folder))
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    info = json.loads((folder / "run.json").read_text())
    info.pop("volatile", None)
    found["run.json"] = info
    found["report.html"] = (folder / "report.html").exists()
    return found
