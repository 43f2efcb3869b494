"""The program as the package starts it."""

import contextlib
import io
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

import depthlens
from depthlens import _program
from support import LENSES, RunTest


class Words(unittest.TestCase):
    def test_flags_become_words(self):
        flags = dict(
            max_length=64, lens=["logit", "tuned:a"], input=Path("a b.txt"), overwrite=True, resume=False, limit=None, lr=1e-5
        )
        self.assertEqual(
            _program._words(flags),
            ["--max-length=64", "--lens=logit", "--lens=tuned:a", "--input=a b.txt", "--overwrite", "--lr=1e-05"],
        )

    def test_lists_of_one_flag_are_joined(self):
        self.assertEqual(
            _program._words(dict(experiment=["facts", "exit"], layers=range(3), buckets="10,100")),
            ["--experiment=facts,exit", "--layers=0,1,2", "--buckets=10,100"],
        )

    def test_values_that_no_flag_takes(self):
        for value in ({"a": 1}, b"a", [True], [None], object()):
            with self.subTest(value=value), self.assertRaises(depthlens.Error) as caught:
                _program._words(dict(top_k=value))
            self.assertEqual(caught.exception.exit_code, 2)
            self.assertIn("--top-k", caught.exception.message)


class Started(RunTest):
    def test_a_run_is_given_back(self):
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            run = depthlens.run(
                "analyze",
                input=[self.text, self.text],
                out=self.folder / "out",
                lens=LENSES,
                experiment=["trajectory", "flips"],
                top_k=3,
            )
        self.assertEqual(run.info["settings"]["top_k"], 3)
        self.assertEqual(run.info["settings"]["experiments"], ["trajectory", "flips"])
        self.assertEqual(len(run.info["inputs"]), 2)
        self.assertEqual(run.lenses, ["logit", "tuned"])
        self.assertIn("LlamaForCausalLM", stderr.getvalue())
        self.assertEqual(stdout.getvalue(), "")

    def test_what_other_commands_print_is_given_back(self):
        text = depthlens.run("show", "The capital of France is", last=1, numbers=True)
        self.assertIn("·Paris", text)
        self.assertIn('"kind": "run"', depthlens.run("info", self.analysed, json=True))

    def test_flags_that_take_a_list_are_those_of_the_program(self):
        commands = re.findall(r"^  ([a-z-]+)  ", depthlens.run("--help").split("Subcommands:")[1], re.MULTILINE)
        lists, repeated = set(), set()
        for command in commands:
            for flag, value, dots in re.findall(
                r"^ +(?:-[a-z],)?--([a-z-]+) ([^\s=]+)[^\s]*( \.\.\.)?", depthlens.run(command, help=True), re.MULTILINE
            ):
                if dots:
                    repeated.add(flag)
                elif value.endswith(",...") or value == "LIST":
                    lists.add(flag)
        self.assertEqual(lists, set(_program._COMMA_FLAGS))
        self.assertLessEqual({"input", "lens", "watch-pair"}, repeated)
        self.assertEqual(lists & repeated, set())

    def test_arguments_may_begin_with_a_dash(self):
        self.assertIn("logit", depthlens.run("show", "--last", last=1))

    def test_shares_are_merged(self):
        shares = [self.folder / str(index) for index in range(2)]
        for index, share in enumerate(shares):
            with self.assertWarns(UserWarning):
                depthlens.run("analyze", input=self.text, out=share, lens=LENSES, shard=f"{index}/2", quiet=True)
        merged = depthlens.run("merge", *shares, out=self.folder / "merged", quiet=True)
        self.assertEqual(merged.rows("lens.quality"), depthlens.load(self.analysed).rows("lens.quality"))

    def test_the_message_and_exit_code_of_a_failure(self):
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            error = self.assert_error(
                2, "unknown flag '--inptu'", depthlens.run, "analyze", inptu=self.text, out=self.folder / "out"
            )
            self.assertIn("--input", error.hint)
            self.assert_error(
                3, "none.txt", depthlens.run, "analyze", input=self.folder / "none.txt", out=self.folder / "out"
            )
            self.assert_error(2, "unknown command", depthlens.run, "analyse")
        self.assertIn("depthlens: error: unknown flag", stderr.getvalue())
        self.assertFalse((self.folder / "out").exists())

    def test_a_program_that_is_not_there(self):
        with mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=str(self.folder / "none")):
            self.assert_error(3, "DEPTHLENS_PROGRAM", depthlens.run, "info")
        with mock.patch.dict(os.environ, PATH=str(self.folder)):
            del os.environ["DEPTHLENS_PROGRAM"]
            self.assert_error(3, "no program depthlens", depthlens.run, "info")

    def test_demo_data_are_found(self):
        folder = depthlens.demo_folder()
        self.assertTrue((folder / "demo" / "config.json").is_file())
        self.assertTrue((folder / "corpora" / "harbour.txt").is_file())


class FakeProgram(RunTest):
    """Ends of the program that the real one does not come to on demand."""

    def program(self, text):
        path = self.folder / "program"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=str(path))

    def test_progress_is_shown_while_the_program_works(self):
        seen = []

        class Recorder(io.StringIO):
            def write(self, text):
                seen.append((time.monotonic(), text))
                return len(text)

        with self.program("echo first >&2; sleep 0.5; echo second >&2"), contextlib.redirect_stderr(Recorder()):
            depthlens.run("info")
        times = {text.strip(): when for when, text in seen}
        self.assertGreater(times["second"] - times["first"], 0.3)

    def test_the_last_error_counts(self):
        script = "echo 'depthlens: warning: w' >&2; echo 'depthlens: error: one, two; expected 3' >&2; echo 'hint: four' >&2; exit 5"
        with self.program(script), contextlib.redirect_stderr(io.StringIO()):
            error = self.assert_error(5, "one, two; expected 3", depthlens.run, "info")
        self.assertEqual(error.message, "one, two; expected 3")
        self.assertEqual(error.hint, "four")
        self.assertEqual(str(error), "one, two; expected 3\nhint: four")

    def test_an_end_without_a_message(self):
        with self.program("echo 'cannot load libraries' >&2; exit 127"), contextlib.redirect_stderr(io.StringIO()):
            self.assert_error(127, "exit status 127: cannot load libraries", depthlens.run, "info")

    def test_an_end_by_a_signal(self):
        with self.program("kill -KILL $$"):
            self.assertIn("memory", self.assert_error(137, "SIGKILL", depthlens.run, "info").hint)

    def test_much_output_on_both_sides(self):
        script = "i=0; while [ $i -lt 20000 ]; do echo line $i; echo told $i >&2; i=$((i+1)); done"
        with self.program(script), contextlib.redirect_stderr(io.StringIO()) as stderr:
            self.assertEqual(depthlens.run("info").count("\n"), 20000)
        self.assertEqual(stderr.getvalue().count("\n"), 20000)

    def test_an_interrupt_is_passed_on_once(self):
        script = "trap 'echo saved >> $0.log; exit 130' INT; echo ready >&2; while :; do sleep 0.1; done"
        with self.program(script):
            code = "import depthlens; depthlens.run('info')"
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            watchdog = threading.Timer(60, process.kill)
            watchdog.start()
            self.assertEqual(process.stderr.readline(), "ready\n")
            process.send_signal(signal.SIGINT)
            told = process.stderr.read()
            process.wait()
            watchdog.cancel()
            process.stderr.close()
        self.assertIn("KeyboardInterrupt", told)
        self.assertEqual((self.folder / "program.log").read_text(), "saved\n")


class Packaged(RunTest):
    """The program of a wheel, which needs the torch that it was built with."""

    def package(self, version, libraries=True):
        torch = self.folder / "site" / "torch"
        (torch / "lib").mkdir(parents=True, exist_ok=True)
        (torch / "__init__.py").write_text("raise RuntimeError('torch must not be imported')\n")
        (torch / "version.py").write_text(f"__version__ = '{version}'\n")
        if libraries:
            (torch / "lib" / "libtorch_cpu.so").write_text("")
        return mock.patch.object(sys, "path", [str(self.folder / "site"), *sys.path])

    def test_the_same_minor_version(self):
        with self.package("2.13.1+cu130"):
            place = _program._torch_libraries("2.13")
        self.assertEqual(place, (self.folder / "site" / "torch" / "lib").resolve())

    def test_another_version(self):
        for version in ("2.12.0+cpu", "2.1.3", "3.13.0", "2.130.0"):
            with self.subTest(version), self.package(version):
                error = self.assert_error(3, f"torch {version} is installed", _program._torch_libraries, "2.13")
                self.assertEqual(error.hint, "pip install 'torch==2.13.*'")

    def test_a_torch_that_is_not_usable(self):
        with self.package("2.13.0", libraries=False):
            self.assert_error(3, "not usable", _program._torch_libraries, "2.13")

    def test_no_torch(self):
        with mock.patch("importlib.util.find_spec", return_value=None):
            self.assert_error(3, "torch is not installed", _program._torch_libraries, "2.13")

    def test_a_package_without_a_program(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            [sys.executable, "-m", "depthlens", "info"], env=environment, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 3)
        self.assertTrue(result.stderr.startswith("depthlens: error: this package came without the program"))
        self.assertEqual(result.stdout, "")


if __name__ == "__main__":
    unittest.main()
