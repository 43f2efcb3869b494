"""Scripts of tools/, configs/ and bench/, as far as they need neither a build nor a cluster nor a card."""

import importlib.util
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path
from unittest import mock

from support import SOURCE, RunTest, module

sys.path.insert(0, str(SOURCE / "bench"))


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="depthlens-scripts-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def script(self, path, text):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def file(self, path, text="", age=0):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age,) * 2)
        return path


class Demo(Folder):
    """tools/demo.sh with a program that only notes how it was started."""

    def setUp(self):
        super().setUp()
        self.script("tools/demo.sh", (SOURCE / "tools/demo.sh").read_text())
        self.file(
            "tools/setup.sh",
            f"set -e; root={self.folder} build=$root/build; say() {{ :; }}; stop() {{ echo \"$@\"; exit 1; }}; setup() {{ :; }}",
        )
        self.file("tools/scripts/summarise_demo.py")
        self.script("build/bin/depthlens", f"echo \"$@\" >> {self.folder}/started")
        for name in ("data/demo/model", "data/corpora/a.txt", "data/tasks/facts.jsonl"):
            self.file(name)
        for path in self.folder.rglob("*"):
            os.utime(path, (time.time() - 100,) * 2)

    def started(self):
        """How each of the five runs was made: {folder: its last flag}."""
        (self.folder / "started").write_text("")
        done = subprocess.run(["bash", str(self.folder / "tools/demo.sh")], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = [line.split() for line in (self.folder / "started").read_text().splitlines()]
        return {words[-2]: words[-1] for words in lines if words[0] == "analyze"}

    def run_folder(self, name, status, age=0):
        self.file(f"out/{name}/run.json", json.dumps({"status": status}, indent=2), age)
        self.file(f"out/{name}/summary.json", age=age)

    def test_only_what_is_complete_is_not_done_again(self):
        self.run_folder("demo", "partial")
        self.run_folder("demo-words", "partial", age=200)
        self.run_folder("demo-facts", "complete", age=200)
        self.run_folder("demo-choices", "complete")
        self.assertEqual(
            self.started(),
            {
                "out/demo": "--resume",
                "out/demo-words": "--overwrite",
                "out/demo-facts": "--overwrite",
                "out/demo-patching": "--overwrite",
            },
        )


class Summary(RunTest):
    def test_a_part_of_a_run_is_told_of(self):
        place = self.copy_of_run()
        for status in ("complete", "partial"):
            info = json.loads((place / "run.json").read_text())
            (place / "run.json").write_text(json.dumps({**info, "status": status}))
            done = subprocess.run(
                [sys.executable, str(SOURCE / "tools/scripts/summarise_demo.py"), str(place)],
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("The run is partial" in done.stdout, status == "partial")


class Torchrun(Folder):
    """configs/cluster/torchrun-slurm.sh with a Slurm that says how much time is left."""

    def requeued(self, remaining, status=1):
        log = self.folder / "log"
        log.write_text("")
        for name, text in (("srun", f"exit {status}"), ("squeue", f"echo {remaining}"), ("scontrol", f'echo "$1" >> {log}')):
            self.script(f"bin/{name}", text)
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NODELIST": "here",
            "SLURM_JOB_NUM_NODES": "1",
        }
        done = subprocess.run(["bash", str(SOURCE / "configs/cluster/torchrun-slurm.sh")], env=environment)
        self.assertEqual(done.returncode, status)
        return "requeue" in log.read_text()

    def test_a_job_whose_time_is_over_comes_again(self):
        for remaining in ("0:00", "0:59", "1:00", "1:59", "2:00", "INVALID"):
            with self.subTest(remaining=remaining):
                self.assertTrue(self.requeued(remaining))
        for remaining in ("2:01", "10:00", "1:30:00", "1-00:00:00", "UNLIMITED"):
            with self.subTest(remaining=remaining):
                self.assertFalse(self.requeued(remaining))
        self.assertFalse(self.requeued("0:30", status=0))


class Golden(Folder):
    def test_help_is_no_order(self):
        """A copy is asked, which would write below its own folder."""
        (self.folder / "tools/scripts").mkdir(parents=True)
        for name, needs in (("make_torch_archive_golden.py", ["torch"]),
                            ("make_unembed_hash_golden.py", ["torch", "numpy", "safetensors"])):  # fmt: skip
            if any(importlib.util.find_spec(one) is None for one in needs):
                print(f"left out: {name} needs {' and '.join(needs)}")
                continue
            copy = shutil.copy(SOURCE / "tools/scripts" / name, self.folder / "tools/scripts")
            done = subprocess.run([sys.executable, copy, "--help"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("--out", done.stdout)
            self.assertFalse((self.folder / "tests").exists())


class Scale(Folder):
    def test_a_text_has_as_many_tokens_as_its_row_says(self):
        script = module("tools/scripts/simulate_scale.py")
        for positions in (1, 1999, 20000):
            script.make_text(self.folder / "text", positions)
            documents = (self.folder / "text").read_text().split("\n\n")
            self.assertEqual(sum(map(len, documents)), positions)


class Bench(Folder):
    def test_means_that_are_none_or_of_other_layers_are_not_the_same(self):
        difference = module("bench/analyze.py").difference
        ours = [[1.0, 2.0], [10.0, 4.0]]
        self.assertEqual(difference(ours, ours, range(2)), 0)
        self.assertEqual(difference(ours, [[1.0, 2.0], [11.0, 4.0]], range(2)), 0.1)
        for theirs in ([[1.0, math.nan], [10.0, 4.0]], [[math.nan, 2.0], [10.0, 4.0]], ours[:1]):
            self.assertEqual(difference(ours, theirs, range(2)), math.inf)

    def test_processor_seconds_say_nothing_of_a_card(self):
        words = ["--model", "m", "--text", "t", "--device", "cuda", "--cpu-time"]
        done = subprocess.run(
            [sys.executable, str(SOURCE / "bench/analyze.py"), *words], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("--cpu-time", done.stderr)

    def test_the_beginning_of_a_text_whose_first_line_is_long(self):
        first_lines = module("bench/common.py").first_lines
        text = self.folder / "text"
        for content, beginning in ((b"one two\nthree four", b"one two\n"), (b"one two three", b"one two ")):
            text.write_bytes(content)
            self.assertEqual(first_lines(text, 12), beginning)
        text.write_bytes(b"onetwothreefour")
        with self.assertRaisesRegex(SystemExit, "within the first 12 bytes"):
            first_lines(text, 12)

    def test_a_text_too_short_for_a_step_is_refused(self):
        script = module("bench/train_lens.py")
        tokenizer = mock.Mock(eos_token_id=0, return_value=types.SimpleNamespace(input_ids=[1, 2, 3]))
        self.assertEqual(script.windows_of(tokenizer, "a\n\nb", 4, 2), [[0, 1, 2, 3]] * 2)
        with self.assertRaisesRegex(SystemExit, "8 tokens, and 12 are needed"):
            script.windows_of(tokenizer, "a\n\nb", 4, 3)
        words = ["--model", "m", "--text", "t", "--tokens", "1000", "--length", "512"]
        done = subprocess.run(
            [sys.executable, str(SOURCE / "bench/train_lens.py"), *words], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
