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
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Literal, NoReturn, Optional, Tuple, Union, overload

from ._error import Error
from ._json import reading
from ._reader import Run, load

_PACKAGE = Path(__file__).resolve().parent

# Commands that leave a run folder at --out.
_RUN_COMMANDS = ("analyze", "eval-lens", "merge")
# Flags whose one value is a list with commas in it.
_COMMA_FLAGS = ("device", "experiment", "record-fields", "buckets", "layers", "state-layers", "classes", "options")
# Flags that stand alone, and those that take yes or no.
_SWITCHES = (
    "allow-lens-mismatch", "bias-only", "json", "legacy-keys", "numbers", "offline", "overwrite", "quiet", "resume",
    "stream-layers", "transfer", "verbose",
)  # fmt: skip
_YES_NO_FLAGS = ("add-bos", "aliases", "report", "whitespace-retry")
# Flags that name tokens, and all whose values are texts; other texts may be paths.
_TOKEN_FLAGS = ("watch", "watch-pair")
_TEXT_FLAGS = (*_TOKEN_FLAGS, "options", "document")

_RunCommand = Literal["analyze", "eval-lens", "merge"]
_TextCommand = Literal["show", "train-lens", "convert-lens", "count-tokens", "report", "download", "info"]


@overload
def run(command: _RunCommand, *arguments: Any, help: Literal[True], **flags: Any) -> str: ...
@overload
def run(command: _RunCommand, *arguments: Any, help: Optional[Literal[False]] = None, **flags: Any) -> Run: ...
@overload
def run(command: _RunCommand, *arguments: Any, help: Optional[bool], **flags: Any) -> Union[Run, str]: ...
@overload
def run(command: _TextCommand, *arguments: Any, **flags: Any) -> str: ...
@overload
def run(command: str, *arguments: Any, **flags: Any) -> Union[Run, str]: ...
def run(command: str, *arguments: Any, **flags: Any) -> Union[Run, str]:
    """Runs a command of the program: ``run("analyze", input="a.txt", out="out/a", lens=["logit", "tuned:lens"])``.

    Flags are the long names with underscores for dashes. A list repeats the flag, or is joined by commas where the
    flag is one such list (``experiment``, ``buckets``, ``layers`` …); True and False turn switches on and off, and are
    yes and no where the flag takes these; None gives nothing. Tokens of ``watch`` are texts, or their ids as integers.
    ``arguments`` are those without a name, such as the folders of ``merge``.

    Progress and messages go to ``sys.stderr``. ``analyze``, ``eval-lens`` and ``merge`` give the run that they wrote,
    other commands what they printed. Where the program fails ``Error`` has its message, hint and exit code. An interrupt
    of the main thread is passed on, and raised when the program has saved its work. Every rank of torchrun gives the
    run, when the last of them has written it.
    """
    words = [_value("the command", command), *_words(flags)]
    if arguments:
        encode = _text if command == "show" else _value
        words += ["--", *(encode("an argument", one) for one in arguments)]
    executable, environment = _find_program()
    if command not in _RUN_COMMANDS or flags.get("help"):
        return _start([str(executable), *words], environment)

    # All that tells the run is read before: settings file and working folder may be others when it is made.
    out, config = _path_of(flags, "out"), _path_of(flags, "config")
    if config is not None and out is None and sys.version_info < (3, 11):
        raise Error("Python before 3.11 does not read the settings file", f"say out= in run({command!r}, …) too", 2)
    settings = {} if config is None else _settings_of(config)
    if out is None and isinstance(settings.get("out"), str):
        out = _text(f"{config}: out", settings["out"])
    folder = None if out is None else _absolute(out)
    before = None if folder is None else _state_of(folder)
    _show(sys.stdout, _start([str(executable), *words], environment))
    if folder is None:
        raise Error(f"no folder of the run that was made, {config}", f"say out= in run({command!r}, …) too", 3)
    is_rank = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "") not in ("", "1")
    if is_rank:
        while (folder / "parts").exists():  # what the other ranks are at
            time.sleep(0.1)
    # A rank that starts again goes on by itself, as with resume: what it finds may be complete.
    if _state_of(folder) == before and not (is_rank or flags.get("resume") or settings.get("resume")):
        hint = "if the settings file says resume, say resume=True too" if config is not None and not settings else ""
        raise Error(f"the program ended well, but wrote no run, {folder}", hint, 6)
    return load(folder)


def _path_of(flags: Dict[str, Any], name: str) -> Optional[str]:
    path = flags.get(name)
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise Error(f"unusable value, --{name}; expected one path, found {path!r}", exit_code=2)
    return _value(f"--{name}", path)


def _settings_of(config: str) -> Dict[str, Any]:
    """What a settings file says, as far as Python can tell without taking it away; the program tells what is wrong."""
    if sys.version_info < (3, 11) or not os.path.isfile(config):
        return {}
    import tomllib

    try:
        return tomllib.loads(Path(config).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}


def _absolute(path: str) -> Path:
    with reading(Path(path)):
        return Path(path).absolute()


def _state_of(folder: Path) -> Optional[Tuple[int, int]]:
    """Another one whenever a run is written: it brings a new run.json."""
    try:
        with open(folder / "run.json", "rb") as file:  # a network file system may tell old things of a closed one
            found = os.fstat(file.fileno())
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def demo_folder() -> Path:
    """The folder of the demo data that came with the program: ``demo`` (the model), ``corpora`` and ``tasks``."""
    executable, _ = _find_program()
    program = Path(executable).resolve().parent
    for place in (program.parent / "share" / "depthlens", program.parent.parent / "data"):
        if (place / "demo" / "config.json").is_file():
            return place
    named = os.environ.get("DEPTHLENS_PROGRAM")
    hint = "they are found where DEPTHLENS_PROGRAM names the program itself, not a script that starts it" if named else ""
    raise Error(f"the demo data are not beside the program, {executable}", hint, 3)


def replace_process(packaged: bool) -> NoReturn:
    """Becomes the program, with the words of the command line: that of this package, or the one that ``run`` starts."""
    try:
        executable, environment = _packaged_program() if packaged else _find_program()
        # A Ctrl-C waits for the program, which answers it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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
        encode = _token if name in _TOKEN_FLAGS else _text if name in _TEXT_FLAGS else _value
        if value is None or (name == "help" and value is False):
            continue
        if name == "help" and value is not True:
            raise Error(f"unusable value, {flag}; expected True or False, found {value!r}", exit_code=2)
        if isinstance(value, bool):
            words.append(_yes_or_no(name, value))
        elif not isinstance(value, (list, tuple, range)):
            words.append(f"{flag}={encode(flag, value)}")
        elif not value:
            raise Error(f"unusable value, {flag}; expected at least one value, found an empty list", exit_code=2)
        elif name in _COMMA_FLAGS:
            words.append(f"{flag}={','.join(_element(flag, one, encode) for one in value)}")
        else:
            words += [f"{flag}={encode(flag, one)}" for one in value]
    return words


def _yes_or_no(name: str, value: bool) -> str:
    flag = "--" + name
    if name in _YES_NO_FLAGS:
        return f"{flag}={'yes' if value else 'no'}"
    if value:
        return flag  # the program refuses what is no switch
    if name in _SWITCHES:
        return f"{flag}=false"  # which counts against a settings file
    raise Error(f"unusable value, {flag}; expected a value, since it is no switch, found False", "None gives no flag", 2)


def _element(flag: str, value: Any, encode: Callable[[str, Any], str]) -> str:
    text = encode(flag, value)
    if not text or "," in text:
        raise Error(f"unusable element, {flag}; expected one value, without a comma, found {text!r}", exit_code=2)
    return text


def _token(flag: str, value: Any) -> str:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return f"#{int(value)}"
    if isinstance(value, numbers.Number):
        hint = "the id of a token is an integer, or a text such as '#262'"
        raise Error(f"unusable value, {flag}; expected a token, found {value!r}", hint, 2)
    return _text(flag, value)


def _text(flag: str, value: Any) -> str:
    """A text, as against a path: passed as UTF-8, in which the program takes it, whatever the locale."""
    if isinstance(value, str):
        try:
            value = os.fsdecode(value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            pass  # which is refused as any other that cannot be encoded
    return _value(flag, value)


def _value(flag: str, value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        text = value if isinstance(value, str) else os.fsdecode(value)
        try:
            if b"\0" not in os.fsencode(text):
                return text
        except UnicodeEncodeError:
            pass
        raise Error(f"unusable value, {flag}; expected a text that can be passed on, found {text!r}", exit_code=2)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return repr(float(value))
    raise Error(f"unusable value, {flag}; expected a text, a path or a number, found {value!r}", exit_code=2)


def _start(words: List[str], environment: Dict[str, str]) -> str:
    """Runs a program to its end and returns what it printed."""
    # In a session of its own it gets no Ctrl-C from the terminal but only ours: the second one ends it at once. By
    # DEPTHLENS_PARENT it knows whose end is to end it too. That is the end of this thread, which waits for it below.
    environment = {**environment, "DEPTHLENS_PARENT": str(os.getpid())}
    printed: List[str] = []
    told: List[str] = []
    with _Signals() as signals:
        try:
            process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise Error(f"the program cannot be started, {words[0]}: {error.strerror}", exit_code=3) from None
        signals.pass_to(process)
        threads = [
            threading.Thread(target=_collect, args=(process.stdout, printed, False), daemon=True),
            threading.Thread(target=_collect, args=(process.stderr, told, True), daemon=True),
        ]
        try:
            for thread in threads:
                thread.start()
            status = _end_of(process)
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        signals.let_through()  # what a script left behind may never end
        for thread in threads:
            thread.join()
    if status is None:
        hint = "something in this Python ignores SIGCHLD, or waits for processes that it did not start"
        raise Error("how the program ended cannot be known", hint, 3)
    if status != 0:
        raise _error_of(status, told)
    return "".join(printed)


def _end_of(process: "subprocess.Popen[str]") -> Optional[int]:
    """Waits for it. None where its status was taken by something else, or by nobody: ``Popen`` says 0 then."""
    try:
        end = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return None
    if end is None:
        raise AssertionError  # without WNOHANG there is always an end
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


class _Signals:
    """While a program is started and works, what signals raise in the main thread is passed on to it, Ctrl-C as such and
    anything else as SIGTERM, and raised when it has ended. SIGCHLD waits until then: where it is ignored, or its handler
    waits for every child, nobody could tell how the program ended."""

    def __init__(self) -> None:
        self._handlers: Dict[int, Any] = {}
        self._holds = False
        self._raised: List[BaseException] = []
        self._to_send: List[signal.Signals] = []
        self._group: Optional[int] = None

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
            self._handlers = {
                number: handler
                for number, handler in handlers.items()
                if callable(handler) or (number == signal.SIGCHLD and handler is not None)
            }
        self._holds = True
        try:
            for number in self._handlers:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else self._answer)
        except BaseException:  # of a handler that was not replaced yet
            self._put_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.let_through()
        self._put_back()
        if callable(self._handlers.get(signal.SIGCHLD)):
            signal.raise_signal(signal.SIGCHLD)
        if self._raised:
            raise self._raised[-1]

    def _put_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def pass_to(self, process: "subprocess.Popen[str]") -> None:
        self._group = process.pid
        self._send()

    def let_through(self) -> None:
        """From here on it is raised at once."""
        self._holds = False

    def _answer(self, number: int, frame: Any) -> None:
        try:
            self._handlers[number](number, frame)
        except BaseException as error:
            if not self._holds:
                raise
            self._raised.append(error)
            self._to_send.append(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            self._send()

    def _send(self) -> None:
        while self._group is not None and self._to_send:
            try:
                # To all its processes, as a terminal does: it may be a script.
                os.killpg(self._group, self._to_send.pop(0))
            except OSError:
                pass  # it has ended


def _collect(stream: Any, lines: List[str], show: bool) -> None:
    with stream:
        for line in stream:
            lines.append(line)
            if show:
                _show(sys.stderr, line)


def _show(stream: Any, text: str) -> None:
    """Where it cannot be shown, since the stream is closed, full or None, that is no reason to end."""
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode())
        stream.flush()
    except Exception:
        pass


def _error_of(status: int, told: List[str]) -> Error:
    """What the program said last: its line of error, and perhaps a hint behind it."""
    if status < 0:
        name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
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
    """The program and its environment: the one that DEPTHLENS_PROGRAM names, that of this package, or the one of PATH.
    Its path is absolute: of a name without a folder ``Popen`` would start another one, of PATH."""
    named = os.environ.get("DEPTHLENS_PROGRAM")
    if named:
        if not (os.path.isfile(named) and os.access(named, os.X_OK)):
            raise Error(f"no program, DEPTHLENS_PROGRAM={named}", exit_code=3)
        return Path(os.path.abspath(named)), dict(os.environ)
    if (_PACKAGE / "bin" / "depthlens").exists():
        return _packaged_program()
    found = shutil.which("depthlens")
    if found is None:
        raise Error(
            "no program depthlens, neither in this package nor on PATH",
            "install the wheel, or name the program by DEPTHLENS_PROGRAM",
            3,
        )
    return Path(os.path.abspath(found)), dict(os.environ)


def _packaged_program() -> Tuple[Path, Dict[str, str]]:
    executable = _PACKAGE / "bin" / "depthlens"
    if not executable.exists():
        raise Error(f"this package came without the program, {executable}", "install the wheel", 3)
    try:
        from ._built import TORCH_LIBRARIES, TORCH_VERSION  # written by CMake
    except ImportError:
        raise Error(f"this package is damaged, {_PACKAGE}: no usable _built.py", "install the wheel again", 3) from None
    environment = dict(os.environ)
    # In front of what the user has there: the program's own run path would come behind it. Torch may stand elsewhere
    # than beside this package, as in an environment above this one.
    places = [str(_PACKAGE / "lib"), str(_torch_libraries(TORCH_VERSION, TORCH_LIBRARIES))]
    before = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*places, before] if before else places)
    return executable, environment


def _torch_libraries(needed: str, libraries: Iterable[str]) -> Path:
    """The folder of libtorch. `needed` is MAJOR.MINOR of the torch that the program was built with: the C++ interface of
    another one differs, and the program would not start, or would compute wrongly. `libraries` are those it loads."""
    install = f"pip install 'torch=={needed}.*'"
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise Error(f"torch is not installed; this depthlens needs torch {needed}", install, 3)
    places = list(spec.submodule_search_locations or [])
    folder = Path(places[0] if places else spec.origin or "torch")  # or the file of a module
    found = _version_in(folder / "version.py")
    missing = [name for name in libraries if not (folder / "lib" / name).exists()]
    if found is None and missing:
        problem = "it is another thing of this name"
        install = f"if torch is installed, rename {folder}, which hides it; if not, {install}"
    elif found is None or re.match(r"\d+\.\d+", found) is None:
        problem = "its version.py tells no version"
    elif ".".join(found.split(".")[:2]) != needed:
        raise Error(f"torch {found} is installed, {folder}; this depthlens needs torch {needed}", install, 3)
    elif missing and all("cuda" in name for name in missing):
        problem = f"it is a build without CUDA, and this depthlens was built with CUDA: no lib/{missing[0]}"
    elif missing:
        problem = f"no lib/{missing[0]}"
    else:
        return (folder / "lib").resolve()
    if found is not None or not missing:  # pip takes it for installed
        install = install.replace("install", "install --force-reinstall", 1)
    raise Error(f"the torch that Python finds is not usable, {folder}: {problem}; expected torch {needed}", install, 3)


def _version_in(file: Path) -> Optional[str]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return match.group(1) if match else None
