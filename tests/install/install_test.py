"""The installed tree, moved elsewhere: program, demo data, manual page, completions, and a project that links it."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

BUILD = Path(os.environ["DEPTHLENS_BUILD"])
LIBTORCH = Path(os.environ["DEPTHLENS_LIBTORCH"])
CMAKE = os.environ["DEPTHLENS_TEST_CMAKE"]
HERE = Path(__file__).resolve().parent


def run(*words, **keywords):
    return subprocess.run([str(word) for word in words], capture_output=True, encoding="utf-8", timeout=600, **keywords)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = Path(tempfile.mkdtemp(prefix="depthlens-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        first = cls.work / "first"
        done = run(CMAKE, "--install", BUILD, "--prefix", first)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        cls.prefix = cls.work / "moved" / "elsewhere"
        cls.prefix.parent.mkdir()
        first.rename(cls.prefix)
        cls.program = cls.prefix / "bin" / "depthlens"
        cls.commands = re.findall(r"^  ([a-z-]+)  ", cls.help().split("Subcommands:")[1], re.MULTILINE)

    @classmethod
    def help(cls, *words):
        return cls.start(*words, "--help").stdout

    @classmethod
    def start(cls, *words):
        # Nothing of the environment may be needed, nor the folder one is in.
        return run(cls.program, *words, cwd="/", env={"HOME": str(cls.work)})

    def flags_of(self, command):
        options = self.help(command).split("\nExample")[0]
        flags = re.findall(r"^ +((?:-[a-z],)?--[a-z-]+)", options, re.MULTILINE)
        return [name for flag in flags for name in flag.split(",")]

    def completed(self, shell):
        return {
            "man": self.prefix / "share/man/man1/depthlens.1",
            "bash": self.prefix / "share/bash-completion/completions/depthlens",
            "zsh": self.prefix / "share/zsh/site-functions/_depthlens",
            "fish": self.prefix / "share/fish/vendor_completions.d/depthlens.fish",
        }[shell]


class Program(Installed):
    def test_it_finds_libtorch_and_the_demo_model(self):
        shown = self.start("show", "The capital of France is", "--last", "1", "--threads", "1")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertRegex(shown.stdout, r"12 +·Paris")
        described = self.start("info")
        self.assertIn(str(self.prefix / "share/depthlens/demo"), described.stdout)

    def test_demo_data_are_used_from_there(self):
        text = self.prefix / "share/depthlens/corpora/letter.txt"
        out = self.work / "out"
        lens = self.prefix / "share/depthlens/demo/lens"
        done = self.start(
            "analyze", "--input", text, "--limit", "1", "--out", out, "--lens", f"tuned:{lens}", "--threads", "1", "--quiet"
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue((out / "run.json").exists())

    def test_the_run_path_leads_nowhere_into_the_build(self):
        if shutil.which("readelf") is None:
            self.skipTest("no readelf")
        lines = run("readelf", "-d", self.program).stdout.splitlines()
        paths = [re.search(r"\[(.*)\]", line).group(1) for line in lines if "(RUNPATH)" in line]
        self.assertEqual(paths, [f"$ORIGIN/../lib:{LIBTORCH}/lib"])
        self.assertFalse(any("(RPATH)" in line for line in lines))

    def test_the_licence_is_there(self):
        self.assertIn("Apache License", (self.prefix / "share/doc/depthlens/LICENSE").read_text())


class ShellFiles(Installed):
    def test_they_have_every_flag_of_every_command(self):
        self.assertIn("analyze", self.commands)
        self.assertGreaterEqual(len(self.commands), 9)
        texts = {shell: self.completed(shell).read_text() for shell in ("man", "bash", "zsh", "fish")}
        man, bash, zsh, fish = texts["man"].replace("\\-", "-"), texts["bash"], texts["zsh"], texts["fish"]
        for command in self.commands:
            section = man.split(f".SH DEPTHLENS {command}\n")[1].split("\n.SH ")[0]
            case = bash.split(f"\n    {command})\n")[1].split("esac ;;")[0]
            words = re.search(r'flags="(.*)"', case).group(1).split()
            arguments = zsh.split(f"\n        {command})\n")[1].split(" ;;\n")[0]
            lines = "\n".join(line for line in fish.splitlines() if f"seen_subcommand_from {command}'" in line)
            flags = self.flags_of(command)
            self.assertIn("--seed", flags)
            self.assertEqual(sorted(words), sorted(flags), command)
            for flag in flags:
                with self.subTest(command=command, flag=flag):
                    self.assertIn(f"\\fB{flag}\\fR", section)
                    self.assertRegex(arguments, re.escape(flag) + r"=?\[")
                    self.assertRegex(lines, f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} ")

    def test_an_unknown_kind_is_refused(self):
        done = self.start("--generate", "tcsh")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("one of man, bash, zsh, fish", done.stderr)

    def test_the_manual_page_has_no_faults(self):
        if shutil.which("groff") is None:
            self.skipTest("no groff")
        done = run("groff", "-k", "-man", "-Tutf8", "-ww", "-z", self.completed("man"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def complete_in_bash(self, *words):
        script = (
            f'source "{self.completed("bash")}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _depthlens; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = run("bash", "-c", script, "bash", "depthlens", *words, cwd=self.prefix)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_completes(self):
        self.assertEqual(self.complete_in_bash("an"), ["analyze"])
        self.assertEqual(self.complete_in_bash("analyze", "--lens-"), ["--lens-alignment"])
        self.assertEqual(self.complete_in_bash("analyze", "--dtype", "b"), ["bfloat16"])
        self.assertEqual(self.complete_in_bash("analyze", "--dtype", "="), ["auto", "float32", "bfloat16", "float16"])
        self.assertEqual(self.complete_in_bash("analyze", "--dtype", "=", "fl"), ["float32", "float16"])
        self.assertEqual(self.complete_in_bash("analyze", "--lens", "tuned", ":", "share/d"), ["share/doc", "share/depthlens"])
        self.assertEqual(self.complete_in_bash("analyze", "--record-fields", "ent"), ["entropy"])
        self.assertEqual(
            self.complete_in_bash("analyze", "--record-fields", "entropy,kl"), ["entropy,kl_final", "entropy,kl_reverse"]
        )
        self.assertEqual(self.complete_in_bash("analyze", "--experiment", "=", "flips,tr"), ["flips,trajectory"])
        self.assertEqual(self.complete_in_bash("analyze", "--experiment", "flips,fl"), [])
        self.assertEqual(self.complete_in_bash("merge", "in"), ["include"])
        self.assertEqual(self.complete_in_bash("analyze", "--top-k", ""), [])

    def test_zsh_reads_its_file(self):
        if shutil.which("zsh") is None:
            self.skipTest("no zsh")
        script = f'autoload -U compinit; compinit -u -D; source "{self.completed("zsh")}"; print ${{_comps[depthlens]}}'
        done = run("zsh", "-f", "-c", script)
        self.assertEqual((done.stdout, done.stderr), ("_depthlens\n", ""))

    def test_fish_completes(self):
        if shutil.which("fish") is None:
            self.skipTest("no fish")
        def complete(words):
            script = f'source "{self.completed("fish")}"; complete -C "depthlens {words}"'
            done = run("fish", "-c", script, env={**os.environ, "HOME": str(self.work)})
            self.assertEqual(done.stderr, "")
            return done.stdout.splitlines()

        # Without a description: that of the flag is not theirs.
        self.assertEqual(complete("analyze --dtype "), ["auto", "bfloat16", "float16", "float32"])
        self.assertEqual(complete("analyze --record-fields ent"), ["entropy"])
        self.assertEqual(complete("analyze --record-fields entropy,kl"), ["entropy,kl_final", "entropy,kl_reverse"])
        self.assertEqual(complete("analyze --experiment=flips,tr"), ["--experiment=flips,trajectory"])
        self.assertEqual(complete("analyze --experiment flips,fl"), [])


class Consumer(Installed):
    def configure(self, name, *arguments):
        compiler = f"-DCMAKE_CXX_COMPILER={os.environ['DEPTHLENS_TEST_CXX']}"
        sanitizers = os.environ.get("DEPTHLENS_TEST_FLAGS")
        flags = [f"-DCMAKE_CXX_FLAGS=-fsanitize={sanitizers}"] if sanitizers else []
        return run(
            CMAKE, "-S", HERE / "consumer", "-B", self.work / name, f"-DCMAKE_PREFIX_PATH={self.prefix}", compiler, *flags, *arguments
        )

    def test_a_project_links_the_libraries(self):
        done = self.configure("consumer")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        built = run(CMAKE, "--build", self.work / "consumer")
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        said = run(self.work / "consumer/consumer", self.prefix / "share/depthlens/demo")
        self.assertEqual(said.returncode, 0, said.stderr)
        version = self.start("--version").stdout.strip()
        self.assertEqual(said.stdout, f"{version}, 12 blocks, 8192 tokens\n")

    def test_another_libtorch_is_refused_by_name(self):
        root = self.work / "libtorch"
        (root / "share/cmake/Torch").mkdir(parents=True)
        (root / "share/cmake/Torch/TorchConfig.cmake").write_text("")
        header = root / "include/torch/headeronly/version.h"
        header.parent.mkdir(parents=True)
        header.write_text("".join(f"#define TORCH_VERSION_{part} {n}\n" for part, n in (("MAJOR", 9), ("MINOR", 8), ("PATCH", 7))))
        (root / "lib").symlink_to(LIBTORCH / "lib")
        for below, own in (("include", "torch"), ("include/torch", "headeronly"), ("include/torch/headeronly", "version.h")):
            for name in (LIBTORCH / below).iterdir():
                if name.name != own:
                    (root / below / name.name).symlink_to(name)
        done = self.configure("other", f"-DLibtorch_ROOT={root}")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(" ".join(done.stderr.split()), r"built with libtorch \d+\.\d+, and libtorch 9\.8\.7 is at")


if __name__ == "__main__":
    unittest.main()
