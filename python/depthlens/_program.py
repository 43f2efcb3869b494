"""Starts the program: from Python by ``run``, and from the shell by the console script ``depthlens``."""

from __future__ import annotations

import importlib.util
import numbers
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Literal, NoReturn, Optional, Tuple, Union, overload

from ._error import Error
from ._reader import Run, load

_PACKAGE = Path(__file__).resolve().parent

# Commands that leave a run folder at --out.
_RUN_COMMANDS = ("analyze", "eval-lens", "merge")
# Flags whose one value is a list with commas in it.
_COMMA_FLAGS = ("experiment", "record-fields", "buckets", "layers", "state-layers", "classes", "options")


@overload
def run(command: Literal["analyze", "eval-lens", "merge"], *arguments: Any, out: Any, **flags: Any) -> Run: ...
@overload
def run(command: str, *arguments: Any, **flags: Any) -> Any: ...
def run(command: str, *arguments: Any, **flags: Any) -> Union[Run, str]:
    """Runs a command of the program: ``run("analyze", input="a.txt", out="out/a", lens=["logit", "tuned:lens"])``.

    Flags are the long names with underscores for dashes. A list repeats the flag, or is joined by commas where the
    flag is one such list (``experiment``, ``buckets``, ``layers`` …); True gives a switch; False and None give nothing.
    ``arguments`` are those without a name, such as the folders of ``merge``.

    Progress and messages go to ``sys.stderr``. ``analyze``, ``eval-lens`` and ``merge`` give the run that they wrote,
    other commands what they printed. Where the program fails ``Error`` has its message, hint and exit code. An interrupt
    is passed on, and raised when the program has saved its work.
    """
    words = [command, *_words(flags)]
    if arguments:
        words += ["--", *(_value("an argument", one) for one in arguments)]
    executable, environment = _find_program()
    printed = _start([str(executable), *words], environment)
    out = flags.get("out")
    if command not in _RUN_COMMANDS or out is None:
        return printed
    sys.stdout.write(printed)
    return load(os.fspath(out))


def demo_folder() -> Path:
    """The folder of the demo data that came with the program: ``demo`` (the model), ``corpora`` and ``tasks``."""
    executable, _ = _find_program()
    program = Path(executable).resolve().parent
    for place in (program.parent / "share" / "depthlens", program.parent.parent / "data"):
        if (place / "demo" / "config.json").is_file():
            return place
    raise Error(f"the demo data are not beside the program, {executable}", exit_code=3)


def main() -> NoReturn:
    """The console script: becomes the program."""
    try:
        executable, environment = _packaged_program()
        os.execve(executable, [str(executable), *sys.argv[1:]], environment)
    except Error as error:
        sys.exit(_complain(error))
    except OSError as error:
        sys.exit(_complain(Error(f"the program cannot be started, {error.filename}: {error.strerror}", exit_code=3)))


def _complain(error: Error) -> int:
    print(f"depthlens: error: {error}", file=sys.stderr)
    return error.exit_code


def _words(flags: Dict[str, Any]) -> List[str]:
    words = []
    for key, value in flags.items():
        name = key.replace("_", "-")
        flag = "--" + name
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (list, tuple, range)) and name in _COMMA_FLAGS:
            words.append(f"{flag}={','.join(_value(flag, one) for one in value)}")
        elif isinstance(value, (list, tuple, range)):
            words += [f"{flag}={_value(flag, one)}" for one in value]
        else:
            words.append(f"{flag}={_value(flag, value)}")
    return words


def _value(flag: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return repr(float(value))
    raise Error(f"unusable value, {flag}; expected a text, a path or a number, found {value!r}", exit_code=2)


def _start(words: List[str], environment: Dict[str, str]) -> str:
    """Runs a program to its end and returns what it printed."""
    # In a session of its own it gets no Ctrl-C from the terminal but only ours: the second one ends it at once.
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    printed: List[str] = []
    told: List[str] = []
    threads = [
        threading.Thread(target=_collect, args=(process.stdout, printed, False), daemon=True),
        threading.Thread(target=_collect, args=(process.stderr, told, True), daemon=True),
    ]
    for thread in threads:
        thread.start()
    interrupted = False
    while process.poll() is None:
        try:
            process.wait()
        except KeyboardInterrupt:
            interrupted = True
            process.send_signal(signal.SIGINT)
    for thread in threads:
        thread.join()
    if interrupted:
        raise KeyboardInterrupt
    if process.returncode != 0:
        raise _error_of(process.returncode, told)
    return "".join(printed)


def _collect(stream: Any, lines: List[str], show: bool) -> None:
    with stream:
        for line in stream:
            lines.append(line)
            if show:
                sys.stderr.write(line)
                sys.stderr.flush()


def _error_of(status: int, told: List[str]) -> Error:
    """What the program said last: its line of error, and perhaps a hint behind it."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = "memory may have run out; --resume goes on with a run" if name == "SIGKILL" else ""
        return Error(f"the program was ended by {name}", hint, 128 - status)
    message, hint = "", ""
    for line in told:
        line = line.rstrip("\n")
        if line.startswith("depthlens: error: "):
            message, hint = line[len("depthlens: error: ") :], ""
        elif line.startswith("hint: ") and message:
            hint = line[len("hint: ") :]
    if not message:
        message = f"the program ended with exit status {status}" + (f": {told[-1].strip()}" if told else "")
    return Error(message, hint, status)


def _find_program() -> Tuple[Path, Dict[str, str]]:
    """The program and its environment: the one that DEPTHLENS_PROGRAM names, that of this package, or the one of PATH."""
    named = os.environ.get("DEPTHLENS_PROGRAM")
    if named:
        if not os.access(named, os.X_OK):
            raise Error(f"no program, DEPTHLENS_PROGRAM={named}", exit_code=3)
        return Path(named), dict(os.environ)
    if (_PACKAGE / "bin" / "depthlens").exists():
        return _packaged_program()
    found = shutil.which("depthlens")
    if found is None:
        raise Error(
            "no program depthlens, neither in this package nor on PATH",
            "pip install depthlens-cli, or name it by DEPTHLENS_PROGRAM",
            3,
        )
    return Path(found), dict(os.environ)


def _packaged_program() -> Tuple[Path, Dict[str, str]]:
    executable = _PACKAGE / "bin" / "depthlens"
    if not executable.exists():
        raise Error(f"this package came without the program, {executable}", "pip install depthlens-cli", 3)
    try:
        from ._built import TORCH_VERSION  # written by CMake
    except ImportError:
        raise Error(f"this package is damaged, {_PACKAGE}: no _built.py", "pip install depthlens-cli", 3) from None
    libraries = _torch_libraries(TORCH_VERSION)
    environment = dict(os.environ)
    # The program looks beside its own package; torch may stand elsewhere, as in an environment above this one.
    if libraries != (_PACKAGE.parent / "torch" / "lib").resolve():
        before = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{libraries}{os.pathsep + before if before else ''}"
    return executable, environment


def _torch_libraries(needed: str) -> Path:
    """The folder of libtorch. `needed` is MAJOR.MINOR of the torch that the program was built with: the C++ interface of
    another one differs, and the program would not start, or would compute wrongly."""
    install = f"pip install 'torch=={needed}.*'"
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise Error(f"torch is not installed; this depthlens needs torch {needed}", install, 3)
    folder = Path(list(spec.submodule_search_locations)[0])
    found = _version_in(folder / "version.py")
    if found is None or re.match(r"\d+\.\d+", found) is None or not (folder / "lib" / "libtorch_cpu.so").exists():
        raise Error(f"the torch that is installed is not usable, {folder}; expected torch {needed}", install, 3)
    if ".".join(found.split(".")[:2]) != needed:
        raise Error(f"torch {found} is installed, {folder}; this depthlens needs torch {needed}", install, 3)
    return (folder / "lib").resolve()


def _version_in(file: Path) -> Optional[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return match.group(1) if match else None
