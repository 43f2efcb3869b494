"""JSON of run folders. Whatever the reader takes from it goes through here: a value of another kind than docs/output.md
says is an ``Error`` that names the file, the key and what was found."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Tuple

from ._error import Error

#: A kind of value: its name in messages, and whether a value is of it.
Kind = Tuple[str, Callable[[Any], bool]]

# More than that no model has, and a damaged number must not ask for all memory.
_MOST_LAYERS = 100_000


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


TEXT: Kind = ("a text", lambda value: isinstance(value, str))
COUNT: Kind = ("an integer from 0", _is_count)
RANK: Kind = ("an integer from 1", lambda value: _is_count(value) and value > 0)
LAYER: Kind = (f"an integer from 0 to {_MOST_LAYERS}", lambda value: _is_count(value) and value <= _MOST_LAYERS)
OBJECT: Kind = ("an object", lambda value: isinstance(value, dict))
LIST: Kind = ("a list", lambda value: isinstance(value, list))
NUMBER: Kind = ("a number", lambda value: type(value) in (int, float))
SCALAR: Kind = ("a text, a number or null", lambda value: value is None or type(value) in (str, int, float, bool))


def optional(kind: Kind) -> Kind:
    """That kind, or null."""
    return (f"{kind[0]} or null", lambda value: value is None or kind[1](value))


def one_of(name: str, values: List[int]) -> Kind:
    return (name, lambda value: type(value) is int and value in values)


def list_of(kind: Kind, least: int = 0) -> Kind:
    name = f"a list of which each element is {kind[0]}"
    return (name, lambda value: isinstance(value, list) and len(value) >= least and all(map(kind[1], value)))


class Part:
    """An object of a file, or of a line of it."""

    def __init__(self, value: Any, file: Path, line: int = 0, key: str = "") -> None:
        self.file = file
        self.line = line
        self.key = key
        if not isinstance(value, dict):
            self.fail(key, "an object", value)
        self.value: Dict[str, Any] = value

    def take(self, key: str, kind: Kind) -> Any:
        """The value of a key, which must be there."""
        if key not in self.value:
            self.fail(self.inside(key), kind[0])
        return self.check(key, self.value[key], kind)

    def take_if_there(self, key: str, kind: Kind) -> Any:
        """The same, or None where there is no such key."""
        return self.check(key, self.value[key], kind) if key in self.value else None

    def part(self, key: str) -> "Part":
        return Part(self.take(key, OBJECT), self.file, self.line, self.inside(key))

    def parts(self, key: str) -> "List[Part]":
        """A list of objects."""
        return [
            Part(one, self.file, self.line, f"{self.inside(key)}[{index}]")
            for index, one in enumerate(self.take(key, LIST))
        ]

    def check(self, key: str, value: Any, kind: Kind) -> Any:
        if not kind[1](value):
            self.fail(self.inside(key), kind[0], value)
        return value

    def inside(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key

    def fail(self, key: str, expected: str, *found: Any) -> NoReturn:
        place = f"{self.file}{f' line {self.line}' if self.line else ''}{f': {key}' if key else ''}"
        what = _described(found[0]) if found else "nothing"
        raise Error(f"{self.file.name} is damaged, {place}; expected {expected}, found {what}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system says of a file or folder is told as an ``Error``."""
    try:
        yield
    except OSError as error:
        raise Error(f"cannot be read, {path}: {error.strerror or error}", exit_code=3) from None


def read_bytes(file: Path) -> bytes:
    with reading(file):
        return file.read_bytes()


def object_of(content: bytes, file: Path) -> Part:
    """Of a file that holds one object."""
    try:
        text = content.decode("utf-8")
    except ValueError as error:
        raise Error(f"{file.name} is damaged, {file}: {error}") from None
    return parse_object(text, file)


def parse_object(text: str, file: Path, line: int = 0) -> Part:
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise Error(f"{file.name} is damaged, {file}{f' line {line}' if line else ''}: {error}") from None
    return Part(value, file, line)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def _described(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        kind = "an object" if isinstance(value, dict) else "a list"
        return kind if value else f"{kind} that is empty"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
