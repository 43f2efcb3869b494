"""The program as the package starts it."""

import codecs
import contextlib
import io
import os
import re
import shutil
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
from support import LENSES, RunTest, needs_pandas


class Words(unittest.TestCase):
    def test_flags_become_words(self):
        flags = dict(
            max_length=64, lens=["logit", "tuned:a"], input=Path("a b.txt"), overwrite=True, resume=False, limit=None, lr=1e-5
        )
        self.assertEqual(
            _program._words(flags),
            [
                "--max-length=64", "--lens=logit", "--lens=tuned:a", "--input=a b.txt", "--overwrite",
                "--resume=false", "--lr=1e-05",
            ],
        )

    def test_true_and_false(self):
        flags = dict(add_bos=False, aliases=True, report=False, help=False, quiet=False, watch=None)
        self.assertEqual(_program._words(flags), ["--add-bos=no", "--aliases=yes", "--report=no", "--quiet=false"])
        for flag in ("foo", "watch", "out", "limit"):
            with self.subTest(flag=flag), self.assertRaises(depthlens.Error) as caught:
                _program._words({flag: False})
            self.assertEqual(caught.exception.exit_code, 2)
            self.assertIn(f"--{flag}; expected a value, since it is no switch, found False", caught.exception.message)

    def test_help_is_true_or_false(self):
        for value in (1, "x", ["x"]):
            with self.subTest(value=value), self.assertRaises(depthlens.Error) as caught:
                depthlens.run("analyze", help=value)
            self.assertIn("--help; expected True or False", caught.exception.message)

    def test_ids_of_tokens(self):
        self.assertEqual(
            _program._words(dict(watch=[262, " the", "262"], watch_pair="#262,#995")),
            ["--watch=#262", "--watch= the", "--watch=262", "--watch-pair=#262,#995"],
        )
        self.assertEqual(_program._words(dict(watch=0)), ["--watch=#0"])
        for value in (262.0, float("nan"), [True]):
            with self.subTest(value=value), self.assertRaises(depthlens.Error) as caught:
                _program._words(dict(watch=value))
            self.assertIn("--watch; expected a token", caught.exception.message)
            self.assertIn("#262", caught.exception.hint)

    @needs_pandas
    def test_ids_of_numpy(self):
        import numpy

        self.assertEqual(_program._words(dict(watch=[numpy.int64(262), numpy.uint8(9)])), ["--watch=#262", "--watch=#9"])
        with self.assertRaises(depthlens.Error):
            _program._words(dict(watch=numpy.float32(262)))

    def test_lists_of_one_flag_are_joined(self):
        self.assertEqual(
            _program._words(dict(experiment=["facts", "exit"], layers=range(3), buckets="10,100")),
            ["--experiment=facts,exit", "--layers=0,1,2", "--buckets=10,100"],
        )

    def test_an_element_of_a_list_is_one_value(self):
        for flag, value, named in (
            ("options", ["Paris, France", "Rome"], "'Paris, France'"),
            ("layers", [0, "3,6"], "'3,6'"),
            ("classes", ("NOUN", ""), "''"),
        ):
            with self.subTest(flag=flag), self.assertRaises(depthlens.Error) as caught:
                _program._words({flag: value})
            self.assertEqual(caught.exception.exit_code, 2)
            self.assertIn(f"--{flag}", caught.exception.message)
            self.assertIn(named, caught.exception.message)
        self.assertEqual(_program._words(dict(watch=[" a, b"])), ["--watch= a, b"])

    def test_a_list_without_a_value_is_no_flag_left_out(self):
        for flag, value in (("input", []), ("layers", ()), ("lens", range(0))):
            with self.subTest(flag=flag), self.assertRaises(depthlens.Error) as caught:
                _program._words({flag: value})
            self.assertEqual(caught.exception.exit_code, 2)
            self.assertIn(f"--{flag}; expected at least one value", caught.exception.message)

    def test_values_that_no_flag_takes(self):
        for value in ({"a": 1}, b"a", [True], [None], object(), "a\0b", "\ud800"):
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

    def test_flags_that_are_treated_apart_are_those_of_the_program(self):
        commands = re.findall(r"^  ([a-z-]+)  ", depthlens.run("--help").split("Subcommands:")[1], re.MULTILINE)
        self.assertGreater(len(commands), 9)
        lists, repeated, switches, yes_no, valued = set(), set(), set(), set(), set()
        for command in commands:
            switches_here = set()
            for flag, value, dots in re.findall(
                r"^ +(?:-[a-z],)?--([a-z-]+)(?: (?!Excludes:)([^\s=]+)[^\s]*( \.\.\.)?)?",
                depthlens.run(command, help=True),
                re.MULTILINE,
            ):
                (valued if value else switches_here).add(flag)
                if dots:
                    repeated.add(flag)
                elif ",..." in value or value == "LIST":
                    lists.add(flag)
                elif re.search("[{,]yes,no[,}]", value):
                    yes_no.add(flag)
            switches_here.remove("help")
            switches |= switches_here
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    text = ["a"] if command == "show" else []  # which reads stdin else
                    depthlens.run(command, *text, **{flag: False for flag in switches_here})
            except depthlens.Error as error:  # of what is missing
                for flag in switches_here:
                    self.assertNotIn("--" + flag, error.message)
        self.assertEqual(switches, set(_program._SWITCHES))
        self.assertEqual(yes_no, set(_program._YES_NO_FLAGS))
        self.assertEqual(switches & valued, set())
        self.assertLessEqual(set(_program._TEXT_FLAGS), valued)
        self.assertEqual(lists, set(_program._COMMA_FLAGS))
        self.assertLessEqual({"input", "lens", "watch-pair"}, repeated)
        self.assertEqual(lists & repeated, set())

    def test_arguments_may_begin_with_a_dash(self):
        self.assertIn("logit", depthlens.run("show", "--last", last=1))

    def test_what_cannot_be_passed_on(self):
        for text in ("a\0b", "\ud800"):
            with self.subTest(text=text):
                self.assert_error(2, "an argument; expected a text that can be passed on", depthlens.run, "show", text)
                self.assert_error(2, "the command", depthlens.run, text)

    def test_the_run_of_a_settings_file(self):
        config = self.folder / "c.toml"
        out = str(self.folder / "out")
        config.write_text(f'input = ["{self.text}"]\nout = "{out}"\nlimit = 1\nreport = "no"\n')
        if sys.version_info >= (3, 11):
            run = depthlens.run("analyze", config=config, quiet=True)
            self.assertEqual((str(run.path), run.info["counts"]["documents"]), (out, 1))
            config.write_bytes(codecs.BOM_UTF8 + config.read_bytes())
            self.assertEqual(str(depthlens.run("analyze", config=config, quiet=True, overwrite=True).path), out)
        other = depthlens.run("analyze", config=config, quiet=True, out=self.folder / "other")
        self.assertEqual(other.path, self.folder / "other")
        with mock.patch.object(sys, "version_info", (3, 10)):
            self.assertIn("out=", self.assert_error(2, "before 3.11", depthlens.run, "analyze", config=config).hint)

    def test_false_takes_back_what_a_settings_file_says(self):
        config = self.folder / "c.toml"
        config.write_text(f'input = "{self.text}"\noverwrite = true\nreport = "yes"\nadd-bos = "yes"\n')
        flags = dict(config=config, out=self.folder / "out", quiet=True)
        run = depthlens.run("analyze", report=False, add_bos=False, **flags)
        self.assertFalse((run.path / "report.html").exists())
        self.assertIs(run.info["settings"]["add_bos"], False)
        with contextlib.redirect_stderr(io.StringIO()):
            self.assert_error(6, "holds another run", depthlens.run, "analyze", overwrite=False, **flags)

    def test_a_complete_run_is_given_back_by_resume(self):
        flags = dict(input=self.text, quiet=True, report=False)
        first = depthlens.run("analyze", out=self.folder / "out", **flags)
        again = depthlens.run("analyze", out=self.folder / "out", resume=True, overwrite=False, **flags)
        self.assertEqual(again.info, first.info)
        config = self.folder / "c.toml"
        config.write_text(f'resume = true\nout = "{self.folder / "out"}"\n')
        if sys.version_info >= (3, 11):
            self.assertEqual(depthlens.run("analyze", config=config, **flags).info, first.info)

    def test_texts_are_utf_8_in_any_locale(self):
        code = (
            "import depthlens, os, pathlib, sys\n"
            "assert sys.getfilesystemencoding() == 'ascii'\n"
            "print(depthlens.run('show', 'caf\\u00e9', last=1, json=True, watch='#262'))\n"
            "path = pathlib.Path(sys.argv[1]) / os.fsdecode(b'caf\\xe9.txt')\n"
            "path.write_text('The capital of France is Paris.')\n"
            "for one in (path, str(path)): print(depthlens.run('count-tokens', input=one))\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
        environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.folder)], env=environment, capture_output=True, encoding="utf-8"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('"text": "caf\\u00e9"', done.stdout)
        self.assertEqual(done.stdout.count('France"'), 2)

    def test_texts_are_utf_8_and_paths_are_bytes_of_the_system(self):
        def encode(text):
            return text.encode("latin-1") if isinstance(text, str) else bytes(text)

        def decode(text):
            return text.decode("latin-1") if isinstance(text, bytes) else os.fspath(text)

        with mock.patch("os.fsencode", encode), mock.patch("os.fsdecode", decode):
            words = _program._words(dict(watch="caf\u00e9", options=["\u65e5"], input="caf\u00e9", out=Path("\u00e9")))
            self.assertEqual(
                [encode(word) for word in words],
                [b"--watch=caf\xc3\xa9", b"--options=\xe6\x97\xa5", b"--input=caf\xe9", b"--out=\xe9"],
            )

    def test_a_place_of_the_run_that_is_no_path(self):
        for name in ("out", "config"):
            for value in (5, ["x"], True):
                with self.subTest(name=name, value=value):
                    self.assert_error(2, f"--{name}; expected one path", depthlens.run, "analyze", **{name: value})

    def test_help_is_a_text(self):
        text = depthlens.run("analyze", help=True, out=self.analysed)
        self.assertIn("--record-fields", text)

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

    def test_a_program_that_is_none(self):
        with mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=str(self.folder)):
            self.assert_error(3, "no program", depthlens.run, "info")
        self.text.chmod(0o755)
        with mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=str(self.text)):
            self.assert_error(3, f"cannot be started, {self.text}", depthlens.run, "info")

    def test_a_relative_path_is_that_of_a_file(self):
        for folder, text in ((self.folder, "the named one"), (self.folder / "of_path", "another one")):
            folder.mkdir(exist_ok=True)
            (folder / "depthlens").write_text(f"#!/bin/sh\necho {text}\n")
            (folder / "depthlens").chmod(0o755)
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            for name in ("depthlens", "./depthlens"):
                path = f"{self.folder / 'of_path'}{os.pathsep}{os.environ['PATH']}"
                with mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=name, PATH=path):
                    self.assertEqual(depthlens.run("info"), "the named one\n")
            with mock.patch.dict(os.environ, PATH="of_path"):
                del os.environ["DEPTHLENS_PROGRAM"]
                self.assertEqual(depthlens.run("info"), "another one\n")
        finally:
            os.chdir(before)

    def test_demo_data_are_found(self):
        folder = depthlens.demo_folder()
        self.assertTrue((folder / "demo" / "config.json").is_file())
        self.assertTrue((folder / "corpora" / "harbour.txt").is_file())

    def test_demo_data_are_not_beside_a_script(self):
        script = self.folder / "script"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        with mock.patch.dict(os.environ, DEPTHLENS_PROGRAM=str(script)):
            self.assertIn("DEPTHLENS_PROGRAM", self.assert_error(3, "not beside", depthlens.demo_folder).hint)


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

    def test_what_cannot_be_shown_is_read_all_the_same(self):
        """Wherever sys.stderr and sys.stdout lead."""
        closed = io.StringIO()
        closed.close()
        full = open("/dev/full", "w")
        narrow = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
        script = "echo 'depthlens: error: café … no' >&2; exit 4"
        for stream in (closed, full, None, narrow):
            with self.subTest(stream=stream), self.program(script), contextlib.redirect_stderr(stream):
                self.assertEqual(self.assert_error(4, "", depthlens.run, "info").message, "café … no")
            script_of_run = f"cp -r {self.analysed}/. $0.out; echo 'a … b'"
            out = self.folder / "program.out"
            with self.subTest(stream=stream), self.program(script_of_run), contextlib.redirect_stdout(stream):
                self.assertEqual(depthlens.run("merge", out=out).path, out)
        with contextlib.suppress(OSError):
            full.close()
        self.assertIn(b"\\u2026", narrow.buffer.getvalue())

    def test_an_end_without_a_message(self):
        with self.program("echo 'cannot load libraries' >&2; exit 127"), contextlib.redirect_stderr(io.StringIO()):
            self.assert_error(127, "exit status 127: cannot load libraries", depthlens.run, "info")

    def test_an_end_by_a_signal(self):
        with self.program("kill -KILL $$"):
            self.assertIn("memory", self.assert_error(137, "SIGKILL", depthlens.run, "info").hint)

    def test_an_end_that_nobody_can_know(self):
        """Where SIGCHLD is ignored the system tells nobody; the main thread sees to it, another one cannot."""
        self.handle(signal.SIGCHLD, signal.SIG_IGN)
        with self.program("exit 7"):
            self.assert_error(7, "exit status 7", depthlens.run, "info")
            self.assertEqual(signal.getsignal(signal.SIGCHLD), signal.SIG_IGN)
            caught = []

            def work():
                try:
                    caught.append(depthlens.run("info"))
                except depthlens.Error as error:
                    caught.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        self.assertIn("how the program ended cannot be known", str(caught[0]))

    def test_a_handler_that_waits_for_every_child(self):
        def reap(*_):
            seen.append(1)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

        def ended(*words, **options):
            process = popen(*words, **options)
            time.sleep(0.3)
            return process

        seen = []
        popen = subprocess.Popen
        self.handle(signal.SIGCHLD, reap)
        with self.program("exit 7"), mock.patch("subprocess.Popen", ended):
            self.assert_error(7, "exit status 7", depthlens.run, "info")
        self.assertTrue(seen)
        self.assertEqual(signal.getsignal(signal.SIGCHLD), reap)

    def test_an_old_run_is_never_given_back(self):
        """Of a script that does not tell how the program ended, for one."""
        out = self.copy_of_run()
        with self.program("exit 0"):
            self.assert_error(6, "wrote no run", depthlens.run, "analyze", out=out)
            self.assertEqual(depthlens.run("analyze", out=out, resume=True).path, out)
            self.assert_error(6, "wrote no run", depthlens.run, "analyze", out=self.folder / "none")
            self.assert_error(3, "no folder of the run", depthlens.run, "analyze")

    @unittest.skipIf(sys.version_info < (3, 11), "Python before 3.11 does not read settings files")
    def test_a_settings_file_that_is_changed_meanwhile(self):
        out, config = self.folder / "out", self.folder / "c.toml"
        config.write_text(f'out = "{out}"\n')
        other = f'out = "{self.analysed}"'
        with self.program(f"cp -r {self.analysed} {out}; echo '{other}' > {config}"):
            self.assertEqual(depthlens.run("analyze", config=config).path, out)

    def test_a_settings_file_that_can_be_read_once(self):
        out, config = self.folder / "out", self.folder / "pipe"
        os.mkfifo(config)
        writer = threading.Thread(target=config.write_text, args=["x = 1\n"])
        writer.start()
        with self.program(f"cat {config} > {self.folder}/log; cp -r {self.analysed} {out}"):
            self.assertEqual(depthlens.run("analyze", config=config, out=out).path, out)
        writer.join()
        self.assertEqual((self.folder / "log").read_text(), "x = 1\n")

    def test_a_working_folder_that_is_changed_meanwhile(self):
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        place = Path(os.getcwd())
        (place / "other").mkdir()
        shutil.copytree(self.analysed, place / "other" / "out")

        class Moving(io.StringIO):
            def write(self, text):
                os.chdir(place / "other")
                return len(text)

        with self.program(f"echo ready >&2; sleep 0.3; cp -r {self.analysed} out"), contextlib.redirect_stderr(Moving()):
            self.assertEqual(depthlens.run("analyze", out="out").path, place / "out")

    def test_an_exception_of_another_signal_ends_the_program(self):
        def stop(*_):
            raise TimeoutError

        self.handle(signal.SIGALRM, stop)
        script = "trap 'echo saved >> $0.log; exit 130' TERM; echo ready >&2; while :; do sleep 0.1; done"

        class Alarm(io.StringIO):
            def write(self, text):
                if text == "ready\n":
                    signal.setitimer(signal.ITIMER_REAL, 0.2)
                return len(text)

        with self.program(script), contextlib.redirect_stderr(Alarm()), self.assertRaises(TimeoutError):
            depthlens.run("info")
        self.assertEqual((self.folder / "program.log").read_text(), "saved\n")

    def handle(self, number, handler):
        self.addCleanup(signal.signal, number, signal.signal(number, handler))

    def test_a_signal_while_the_program_is_started(self):
        """What its handler raises waits until there is somebody to pass it on to."""

        def stop(*_):
            raise TimeoutError

        self.handle(signal.SIGINT, signal.default_int_handler)
        self.handle(signal.SIGUSR1, stop)
        popen = subprocess.Popen
        for number, raised in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, TimeoutError)):
            started = []

            def interrupted(*words, **options):
                started.append(popen(*words, **options))
                self.addCleanup(started[0].kill)
                os.kill(os.getpid(), number)
                return started[0]

            with self.subTest(number), self.program("exec sleep 60"):
                with mock.patch("subprocess.Popen", interrupted), self.assertRaises(raised):
                    depthlens.run("info")
                self.assertIsNotNone(started[0].poll())
                self.assertEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_a_handler_that_raises_nothing_ends_nothing(self):
        seen = []
        self.handle(signal.SIGUSR1, lambda number, frame: seen.append(number))
        with self.program(f"kill -USR1 {os.getpid()}; echo done"):
            self.assertEqual(depthlens.run("info"), "done\n")
        self.assertEqual(seen, [signal.SIGUSR1])

    def test_an_interrupt_reaches_the_program_behind_a_script(self):
        self.handle(signal.SIGINT, signal.default_int_handler)
        inner = self.folder / "inner"
        inner.write_text(
            "#!/bin/sh\ntrap 'echo saved >> $0.log; exit 130' INT\necho ready >&2; for i in $(seq 100); do sleep 0.1; done\n"
        )
        inner.chmod(0o755)

        class Interrupting(io.StringIO):
            def write(self, text):
                if text == "ready\n":
                    os.kill(os.getpid(), signal.SIGINT)
                return len(text)

        with self.program(f"{inner}\necho more"), contextlib.redirect_stderr(Interrupting()):
            with self.assertRaises(KeyboardInterrupt):
                depthlens.run("info")
        self.assertEqual((self.folder / "inner.log").read_text(), "saved\n")

    def test_a_rank_waits_for_the_run_of_all(self):
        out = self.folder / "out"
        script = f"""
            mkdir -p {out}/parts
            (sleep 0.5; cp -r {self.analysed}/. {out}; rmdir {out}/parts) > {self.folder}/log 2>&1 &
        """
        with self.program(script), mock.patch.dict(os.environ, RANK="1", WORLD_SIZE="2"):
            run = depthlens.run("analyze", out=out)
        self.assertEqual(run.info["status"], "complete")

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


class Orphan(RunTest):
    def test_a_run_ends_with_the_python_that_waits_for_it(self):
        """It saves its work, whatever ended Python, and from whatever thread it was started."""
        text = self.folder / "long.txt"
        text.write_text("The capital of France is Paris. " * 500)
        code = (
            "import depthlens, sys, threading\n"
            "def work(): depthlens.run('analyze', input=sys.argv[1], out=sys.argv[2], threads=1, top_k=500)\n"
            "thread = threading.Thread(target=work)\n"
            "thread.start()\n"
            "thread.join()\n"
        )
        for end in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(end=end):
                out = self.folder / end.name
                python = subprocess.Popen(
                    [sys.executable, "-c", code, str(text), str(out)],
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
                self.addCleanup(python.kill)
                self.await_that(lambda: list((out / "parts").glob("*.state")))
                python.send_signal(end)
                python.wait()
                self.await_that(lambda: (out / "run.json").exists())
                self.assertEqual(depthlens.load(out, partial=True).info["status"], "partial")
                self.await_that(lambda: not (out / "parts" / "lock").exists())

    def await_that(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)


class Packaged(RunTest):
    """The program of a wheel, which needs the torch that it was built with."""

    NAMES = ("libtorch.so", "libtorch_cpu.so", "libc10.so")

    def package(self, version, text="__version__ = '{}'\n", lacks=(), more=()):
        torch = self.folder / "site" / "torch"
        shutil.rmtree(torch, ignore_errors=True)
        (torch / "lib").mkdir(parents=True)
        (torch / "__init__.py").write_text("raise RuntimeError('torch must not be imported')\n")
        (torch / "version.py").write_bytes(text.format(version).encode("latin-1"))
        for name in {*self.NAMES, *more} - {*lacks}:
            (torch / "lib" / name).write_text("")
        return self.first(self.folder / "site")

    def first(self, folder):
        return mock.patch.object(sys, "path", [str(folder), *sys.path])

    def find(self, libraries=NAMES):
        return _program._torch_libraries("2.13", libraries)

    def test_the_same_minor_version(self):
        for text in ("__version__ = '{}'\n", "from typing import Final\n__version__: Final[str] = '{}'\n", "# \xff\n__version__ = '{}'\n"):
            with self.subTest(text), self.package("2.13.1+cu130", text, more=["libtorch_cuda.so"]):
                self.assertEqual(self.find(), (self.folder / "site" / "torch" / "lib").resolve())

    def test_another_version(self):
        for version in ("2.12.0+cpu", "2.1.3", "3.13.0", "2.130.0"):
            with self.subTest(version), self.package(version):
                error = self.assert_error(3, f"torch {version} is installed", self.find)
                self.assertEqual(error.hint, "pip install 'torch==2.13.*'")

    def test_a_torch_that_is_not_usable(self):
        for name in self.NAMES:
            with self.subTest(name), self.package("2.13.0", lacks=[name]):
                error = self.assert_error(3, f"{self.folder / 'site' / 'torch'}: no lib/{name}", self.find)
                self.assertIn("--force-reinstall", error.hint)
        for text in ("", "\xff\xfe", "__version__ = 'main'\n"):
            with self.subTest(text), self.package("", text):
                self.assert_error(3, "tells no version", self.find)

    def test_a_build_without_cuda(self):
        with self.package("2.13.0+cpu"):
            self.assert_error(3, "a build without CUDA", self.find, (*self.NAMES, "libtorch_cuda.so"))

    def test_something_else_that_is_called_torch(self):
        for name in ("torch", "torch.py"):
            place = self.folder / name.partition(".")[2]
            place.mkdir(exist_ok=True)
            (place / name).write_text("") if "." in name else (place / name).mkdir()
            with self.subTest(name), self.first(place), mock.patch.object(sys, "path", [str(place)]):
                error = self.assert_error(3, f"{place / name}: it is another thing of this name", self.find)
                self.assertIn("rename", error.hint)

    def test_no_torch(self):
        with mock.patch("importlib.util.find_spec", return_value=None):
            self.assert_error(3, "torch is not installed", self.find)

    def installed(self, script):
        """A package with a program, and a torch; the environment that finds both."""
        self.package("2.13.0")
        package = self.folder / "site" / "depthlens"
        shutil.copytree(Path(depthlens.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "_built.py").write_text(f"VERSION = '0.1'\nTORCH_VERSION = '2.13'\nTORCH_LIBRARIES = {self.NAMES}\n")
        (package / "bin").mkdir()
        (package / "bin" / "depthlens").write_text("#!/bin/sh\n" + script)
        (package / "bin" / "depthlens").chmod(0o755)
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "site")}
        environment.pop("DEPTHLENS_PROGRAM")
        environment.pop("LD_LIBRARY_PATH", None)
        return environment

    def test_own_libraries_come_before_those_of_the_user(self):
        environment = self.installed('echo "$LD_LIBRARY_PATH" "$@"')
        ours = f"{self.folder}/site/depthlens/lib:{self.folder}/site/torch/lib"
        for before, after in ((None, ours), ("/theirs", f"{ours}:/theirs"), ("", ours)):
            if before is not None:
                environment["LD_LIBRARY_PATH"] = before
            with self.subTest(before=before):
                done = subprocess.run(
                    [sys.executable, "-m", "depthlens", "a", "b"], env=environment, capture_output=True, text=True
                )
                self.assertEqual((done.stdout, done.stderr, done.returncode), (f"{after} a b\n", "", 0))

    def test_an_interrupt_while_the_console_script_starts(self):
        environment = self.installed("exit 7")
        # Stands for what is slow to import.
        (self.folder / "site" / "subprocess.py").write_text(
            "import sys, time\nsys.stderr.write('ready\\n')\nsys.stderr.flush()\ntime.sleep(60)\n"
        )
        code = "import sys\nfrom depthlens._start import main\nsys.exit(main())\n"  # as pip writes it
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        self.assertEqual(process.stderr.readline(), "ready\n")
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(), told), (130, "depthlens: error: interrupted\n"))

    def test_an_interrupt_that_comes_before_the_program_is_answered_by_it(self):
        environment = self.installed(f'exec "{os.environ["DEPTHLENS_PROGRAM"]}" "$@"')
        code = (
            "import os, signal\n"
            "from depthlens import _start\n"
            "execve = os.execve\n"
            "os.execve = lambda *words: (os.kill(os.getpid(), signal.SIGINT), execve(*words))\n"
            "_start.main()\n"
        )
        # The program's own libraries are where it was built; those of the false torch are empty.
        shutil.rmtree(self.folder / "site" / "torch" / "lib")
        (self.folder / "site" / "torch" / "lib").mkdir()
        (self.folder / "site" / "depthlens" / "_built.py").write_text("TORCH_VERSION = '2.13'\nTORCH_LIBRARIES = ()\n")
        done = subprocess.run([sys.executable, "-c", code, "info"], env=environment, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (130, "depthlens: error: interrupted\n"))

    def start(self, code, *words, **environment):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        return subprocess.run([sys.executable, *code, *words], env=environment, capture_output=True, text=True)

    def test_the_module_is_the_program_that_run_starts(self):
        done = self.start(["-m", "depthlens"], "--version")
        self.assertEqual((done.stdout, done.returncode), (depthlens.run("--version"), 0))
        done = self.start(["-m", "depthlens"], "info", DEPTHLENS_PROGRAM=str(self.folder / "none"))
        self.assertEqual((done.stdout, done.returncode), ("", 3))
        self.assertIn("no program, DEPTHLENS_PROGRAM=", done.stderr)

    def test_a_package_without_a_program(self):
        """The console script is that of the package, whatever DEPTHLENS_PROGRAM says: it may be named there itself."""
        result = self.start(["-c", "from depthlens._start import main\nmain()"], "info")
        self.assertEqual(result.returncode, 3)
        self.assertTrue(result.stderr.startswith("depthlens: error: this package came without the program"))
        self.assertEqual(result.stdout, "")


if __name__ == "__main__":
    unittest.main()
