"""Reads run folders, whose files docs/output.md describes.

Needs nothing but the standard library for ``info``, ``rows`` and ``records``; pandas for data frames.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Union

from ._error import Error
from ._json import (
    COUNT, LAYER, LIST, NUMBER, OBJECT, RANK, SCALAR, TEXT, Kind, Part, list_of, object_of, one_of, optional,
    parse_object, read_bytes, reading
)  # fmt: skip

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1

#: What ``Run.frame`` takes where no fields are named, as far as the records have it: one number a layer each.
NUMBERS = ("final_rank", "final_logprob", "target_rank", "target_logprob", "entropy", "kl_final", "kl_reverse")

# Of the best prediction at a layer: name in the frame, and the key of the record whose rows begin with it.
_TOP1 = {"top1_id": "top_ids", "top1_token": "top_tokens", "top1_logprob": "top_logprobs"}
# What a lens has for each layer.
_OF_LAYERS: Dict[str, Kind] = {
    **{name: optional(list_of(RANK if name.endswith("rank") else NUMBER)) for name in NUMBERS},
    "top_ids": list_of(list_of(COUNT, least=1)),
    "top_tokens": list_of(list_of(TEXT, least=1)),
    "top_logprobs": list_of(list_of(NUMBER, least=1)),
}
# Keys of a record that tell which position it is; those behind "item" only tasks have.
_PLACE: Dict[str, Kind] = {
    "document": COUNT,
    "window": COUNT,
    "position": COUNT,
    "item": SCALAR,
    "answer_position": COUNT,
    "answer_length": COUNT,
    "class": TEXT,
}
# The tokens of a position, and their ids as fields of a frame.
_TOKENS = ("token", "target", "final")
_IDS = {f"{token}_id": token for token in _TOKENS}
# Types of columns that have no rows to tell them; the others hold texts or lists.
_INTEGERS = (
    "document", "window", "position", "answer_position", "answer_length", "layer", "final_rank", "settled_layer",
    "top1_id", "token_id", "final_id",
)  # fmt: skip
_FLOATS = (*NUMBERS, "top1_logprob")


def load(folder: Union[str, "os.PathLike[str]"], *, partial: bool = False) -> "Run":
    """Opens a run folder.

    A run that was interrupted is refused, since its tables tell of a part of the input only; ``partial=True`` takes
    it all the same. The share of a run (``--shard``) is opened with a warning. Raises ``Error``.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise Error(f"no folder is named; expected a text or a path, found {folder!r}", exit_code=2)
    if not os.fspath(folder):
        raise Error("no folder is named, ''", exit_code=2)
    path = Path(os.fsdecode(folder))
    with reading(path):
        path = path.absolute()  # it stays the same when the working folder changes
        if not path.is_dir():
            what = "a run is a folder, and this is a file" if path.exists() else "no such folder"
            raise Error(f"{what}, {path}", exit_code=3)
        if not (path / "run.json").exists():
            raise _not_a_run(path)
    content = read_bytes(path / "run.json")
    info = object_of(content, path / "run.json")
    _check_schema(info)
    status = info.take("status", TEXT)
    if status != "complete" and not partial:
        raise Error(
            f"the run is {status}, {path}: its tables tell of a part of the input only",
            "run the same command with --resume to finish it, or say load(…, partial=True)",
        )
    run = Run(path, info, content)
    if "shard" in info.value:
        shard = info.part("shard")
        warnings.warn(
            f"{path} is share {shard.take('index', COUNT)} of {shard.take('count', COUNT)} of a run: its tables tell "
            "of that share only; depthlens merge joins them",
            stacklevel=2,
        )
    return run


class Run:
    """A run folder. Tables and records are read from the disk when they are asked for; ``Error`` where another run has
    come into the folder meanwhile."""

    def __init__(self, path: Path, info: Part, content: bytes) -> None:
        self.path = path
        self._content = content
        #: run.json
        self.info = info.value
        self._tables: Optional[Tables] = None
        settings, counts = info.part("settings"), info.part("counts")
        depth: int = info.part("model").take("layers", LAYER)
        chosen: Optional[List[int]] = settings.take_if_there("layers", list_of(LAYER, least=1))
        self._lenses: List[str] = [lens.take("name", TEXT) for lens in info.parts("lenses")]
        self._layers = list(range(depth + 1)) if chosen is None else chosen
        self._record_fields: Optional[List[str]] = settings.take_if_there("record_fields", list_of(TEXT))
        # What tells the kind of a task: pos and choices have a setting of their own, facts none.
        self._task_columns: Tuple[str, ...] = ()
        if "classes" in settings.value:
            self._task_columns = ("class",)
        elif "keep" in settings.value and "options" not in settings.value:
            self._task_columns = ("answer_position", "answer_length")
        self._record_count: Optional[int] = counts.take_if_there("records", COUNT)

    def __repr__(self) -> str:
        return (
            f"<depthlens run {str(self.path)!r}: {self.info['model'].get('architecture')}, "
            f"lenses {', '.join(self.lenses) or 'none'}, {self.info['counts'].get('positions')} positions>"
        )

    @property
    def lenses(self) -> List[str]:
        """Names of the lenses, as tables and records have them."""
        return list(self._lenses)

    @property
    def layers(self) -> List[int]:
        """The layers that were decoded, rising; 0 is what enters the first block."""
        return list(self._layers)

    @property
    def tables(self) -> "Tables":
        """The tables by name, each a pandas data frame."""
        if self._tables is None:
            tables = Tables(self.path)
            self._check_same()
            self._tables = tables
        return self._tables

    def rows(self, table: str) -> List[Dict[str, Any]]:
        """A table as a list of dictionaries, without pandas."""
        return self.tables.rows(table)

    def records(self) -> Iterator[Dict[str, Any]]:
        """The records one after the other, in the order of the input. ``Error`` where the run wrote none, or where
        there are fewer or more than run.json says."""
        return (record.value for record in self._records())

    def frame(self, lens: Optional[str] = "logit", fields: Optional[Iterable[str]] = None) -> "pandas.DataFrame":
        """The records as a data frame with one row for each position and layer.

        Columns: ``lens``; ``document``, ``window``, ``position``, ``item`` and, of tasks, ``answer_position``,
        ``answer_length`` and ``class``; ``token``, ``target`` and ``final``, the texts; ``layer``; then ``fields``.

        ``lens`` is a name, or None for all. ``fields`` are what a record holds for a lens, such as ``final_rank`` and
        ``entropy``, or ``top_ids`` (a list in each row); ``top1_id``, ``top1_token`` and ``top1_logprob`` of the best
        prediction; ``token_id``, ``target_id`` and ``final_id``. Without them it is ``NUMBERS``, those that the
        records have. What does not exist at a position is missing.
        """
        pd = _pandas()
        fields = self._numbers() if fields is None else [fields] if isinstance(fields, str) else list(fields)
        names = self.lenses if lens is None else [lens]
        if not self.lenses:
            raise Error(f"the run has no lenses, {self.path}", "records() has what it measured", 2)
        if any(name not in self.lenses for name in names):
            raise Error(f"no lens {lens!r} in the run, {self.path}", f"its lenses: {', '.join(self.lenses)}", 2)
        place: List[Dict[str, Any]] = []
        columns: Dict[str, Dict[str, List[Any]]] = {name: {field: [] for field in fields} for name in names}
        for record in self._records():
            place.append(_place_of(record))
            lenses = record.part("lenses")
            for name in names:
                readout = lenses.part(name)
                for field, values in columns[name].items():
                    values.extend(_per_layer(record, readout, field, self._layers))

        if not place:
            known = (*_OF_LAYERS, "settled_layer") if self._record_fields is None else self._record_fields
            for field in fields:
                _check_field(field, known, self._records_file())

        # One row of the places for each layer of a position.
        keys = _place_columns(place, self._task_columns)
        head = pd.DataFrame({key: _series(pd, key, [one.get(key) for one in place]) for key in keys})
        head = head.loc[head.index.repeat(len(self._layers))].reset_index(drop=True)
        head["layer"] = _series(pd, "layer", self._layers * len(place))
        frames = []
        for name in names:
            frame = head.copy()
            frame.insert(0, "lens", name)
            frames.append(frame.assign(**{field: _series(pd, field, columns[name][field]) for field in fields}))
        whole: pandas.DataFrame = pd.concat(frames, ignore_index=True)
        return whole

    def _records(self) -> Iterator[Part]:
        return _records(self._records_file(), self._record_count, self._check_same)

    def _check_same(self) -> None:
        """To be called when a file is read, or open: a run that replaces another takes its run.json away first, and
        brings its own last."""
        path = self.path / "run.json"
        with reading(path):
            same = path.exists() and path.read_bytes() == self._content
        if not same:
            raise Error(f"the run is not the one that was opened, {self.path}: its run.json has changed", "load it again")

    def _numbers(self) -> List[str]:
        if self._record_fields is None:
            return list(NUMBERS)
        numbers = [name for name in NUMBERS if name in self._record_fields]
        if not numbers:
            raise Error(
                f"the records have none of the numbers that a frame takes by itself, {self.path}",
                f"name fields: {', '.join(self._record_fields)}",
                2,
            )
        return numbers

    def _records_file(self) -> Path:
        with reading(self.path):
            for name in ("records.jsonl", "records.jsonl.zst"):
                if (self.path / name).is_file():
                    return self.path / name
        if self.info["settings"].get("records") == "none":
            raise Error(f"the run wrote no records, {self.path}: it was made with --records none", exit_code=3)
        raise Error(f"the run has no records, {self.path}", exit_code=3)


class Tables(Mapping[str, "pandas.DataFrame"]):
    """The tables of a run by name. ``tables["lens.quality"]`` is a pandas data frame whose ``attrs["units"]`` has the
    units of its columns; ``rows``, ``columns`` and ``units`` need no pandas."""

    def __init__(self, folder: Path) -> None:
        path = folder / "summary.json"
        with reading(folder):
            if not path.exists():
                raise Error(f"the run has no summary.json, {folder}", exit_code=3)
        summary = object_of(read_bytes(path), path)
        _check_schema(summary)
        tables = summary.part("tables")
        self._folder = folder
        self._tables: Dict[str, Dict[str, Any]] = {name: _table_of(tables.part(name)) for name in tables.value}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __repr__(self) -> str:
        return f"<tables of {str(self._folder)!r}: {', '.join(self._tables)}>"

    def __getitem__(self, name: str) -> "pandas.DataFrame":
        table = self._table(name)
        pd = _pandas()
        frame: pandas.DataFrame = pd.DataFrame(table["rows"], columns=table["columns"])
        for place, column in enumerate(frame.columns):
            if column == "token_id":
                frame[column] = _series(pd, column, [row[place] for row in table["rows"]])
            elif len(frame) == 0:
                frame[column] = frame[column].astype(_type_of(column, table["units"].get(column)))
            elif frame[column].isna().all():
                frame[column] = frame[column].astype("float64")  # a number that exists nowhere
        frame.attrs["units"] = dict(table["units"])
        return frame

    def rows(self, name: str) -> List[Dict[str, Any]]:
        """A table as a list of dictionaries; what does not exist is None."""
        table = self._table(name)
        return [dict(zip(table["columns"], row)) for row in table["rows"]]

    def columns(self, name: str) -> List[str]:
        return list(self._table(name)["columns"])

    def units(self, name: str) -> Dict[str, str]:
        """Units by column; labels and plain numbers have none."""
        return dict(self._table(name)["units"])

    def _table(self, name: str) -> Dict[str, Any]:
        if name not in self._tables:
            raise UnknownTable(
                f"no table {name!r} in the run, {self._folder}", f"its tables: {', '.join(self._tables)}", 2
            )
        return self._tables[name]


class UnknownTable(Error, KeyError):
    """A ``KeyError`` too, so that ``tables.get(name)`` works as of any mapping."""


def _table_of(table: Part) -> Dict[str, Any]:
    columns = table.take("columns", list_of(TEXT))
    for index, row in enumerate(table.take("rows", LIST)):
        key = f"rows[{index}]"
        if len(table.check(key, row, list_of(SCALAR))) != len(columns):
            table.fail(table.inside(key), f"{len(columns)} values, one for each column", row)
    units = table.part("units") if "units" in table.value else Part({}, table.file)
    for name in units.value:
        units.take(name, TEXT)
    return {"columns": columns, "rows": table.value["rows"], "units": units.value}


def _type_of(column: str, unit: Optional[str]) -> str:
    """Of a column without rows to tell it: what has a unit is a number, and a count where the unit is things."""
    counts = unit in ("blocks", "items", "pairs", "positions", "targets", "tokens", "words")
    if counts or column in ("layer", "translator", "answer_position") or (column, unit) == ("threshold", "rank"):
        return "int64"
    return "object" if unit is None else "float64"


def _not_a_run(path: Path) -> Error:
    if (path / "parts").is_dir():
        return Error(
            f"the run is not finished, {path}: it has no run.json yet",
            "if nothing is at work there, run the same command with --resume to finish it",
            3,
        )
    below = sorted(file.parent.name for file in path.glob("*/run.json"))
    hint = ""
    if below:
        hint = f"runs in it: {', '.join(below[:5])}{', …' if len(below) > 5 else ''}"
    return Error(f"not a run folder, {path}: it has no run.json", hint, 3)


def _check_schema(file: Part) -> None:
    version = file.value.get("schema_version")
    if type(version) is not int or version < 1:
        raise Error(f"not written by depthlens, {file.file}: no usable 'schema_version'")
    if version > SCHEMA_VERSION:
        raise Error(
            f"written by a newer depthlens, {file.file}: schema_version {version}, and this reader knows "
            f"{SCHEMA_VERSION}",
            "install the wheel of the depthlens that wrote it",
        )


def _records(path: Path, expected: Optional[int], opened: Callable[[], None]) -> Iterator[Part]:
    number = 0
    with reading(path), _open_lines(path) as lines:
        opened()
        try:
            for number, line in enumerate(lines, 1):
                yield parse_object(line, path, number)
        except (ValueError, EOFError) as error:
            raise Error(f"{path.name} is damaged, {path} behind line {number}: {error}") from None
    if expected is not None and number != expected:
        raise Error(f"{path.name} is damaged, {path}: {number} records, and run.json counts {expected}")


def _open_lines(path: Path) -> Any:
    """A text file whose lines end at line feeds only, decompressed where its name says so."""
    if path.suffix != ".zst":
        return open(path, encoding="utf-8", newline="\n")
    return _open_zstd(path)


def _open_zstd(path: Path) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        pass
    else:
        return zstd.open(path, "rt", encoding="utf-8", newline="\n")
    try:
        import zstandard
    except ImportError:
        raise Error(
            f"the records are compressed by zstd, {path}: Python before 3.14 reads them with the package zstandard",
            "pip install zstandard",
            2,
        ) from None

    class Frames(io.RawIOBase):
        """What the frames of a file hold. zstandard's own streams take one that is cut for one that has ended, and so
        leave its checksum unread."""

        def __init__(self) -> None:
            self.file = open(path, "rb")
            self.frame: Any = None
            self.left = b""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            while not self.left:
                # Little at once: four bytes may stand for 128 KiB.
                compressed = self.file.read(1 << 12)
                if not compressed and self.frame is not None:
                    raise EOFError("the compressed file ends before its end was reached")
                if not compressed:
                    return 0
                self.left = self._decompressed(compressed)
            count = min(len(buffer), len(self.left))
            buffer[:count] = self.left[:count]
            self.left = self.left[count:]
            return count

        def _decompressed(self, compressed: bytes) -> bytes:
            parts = []
            while compressed:
                if self.frame is None:
                    self.frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    parts.append(self.frame.decompress(compressed))
                except zstandard.ZstdError as error:
                    raise ValueError(str(error)) from None
                compressed = self.frame.unused_data if self.frame.eof else b""
                if self.frame.eof:
                    self.frame = None
            return b"".join(parts)

        def close(self) -> None:
            self.file.close()
            super().close()

    return io.TextIOWrapper(io.BufferedReader(Frames(), 1 << 16), encoding="utf-8", newline="\n")


def _place_of(record: Part) -> Dict[str, Any]:
    if "lenses" not in record.value:
        raise Error(f"records without lenses have no frame, {record.file}", "records() has what the run measured", 2)
    place = {key: record.take(key, kind) for key, kind in _PLACE.items() if key in record.value}
    for key in _TOKENS:
        place[key] = _of_token(record, key, "text", TEXT)
    return place


def _place_columns(place: List[Dict[str, Any]], of_task: Tuple[str, ...]) -> List[str]:
    present = {key for one in place for key in one} | {"document", "window", "position", "item", *of_task, *_TOKENS}
    return [key for key in (*_PLACE, *_TOKENS) if key in present]


def _of_token(record: Part, key: str, part: str, kind: Kind) -> Any:
    return None if record.take(key, optional(OBJECT)) is None else record.part(key).take(part, kind)


def _check_field(field: str, present: Collection[str], file: Path) -> None:
    """Whether records have a field of a frame, where ``present`` is what they have for a lens."""
    if field in _IDS:
        return
    if field in ("watched", "options") and field in present:
        raise Error(f"the field {field!r} is a list of tokens, {file}", "records() has it", 2)
    if _TOP1.get(field, field) not in present:
        known = [name for name in present if name not in ("watched", "options")]
        known += [name for name, rows in _TOP1.items() if rows in present]
        raise Error(f"the records have no field {field!r}, {file}", f"fields: {', '.join([*known, *_IDS])}", 2)


def _per_layer(record: Part, readout: Part, field: str, layers: List[int]) -> List[Any]:
    """A value for each layer."""
    count = len(layers)
    if field in _IDS:
        return [_of_token(record, _IDS[field], "id", COUNT)] * count
    _check_field(field, readout.value, record.file)
    key = _TOP1.get(field, field)
    if key == "settled_layer":
        return [readout.take(key, optional(one_of("one of the layers that were decoded", layers)))] * count
    values = readout.take(key, _OF_LAYERS.get(key, LIST))
    if values is None:
        return [None] * count
    if len(values) != count:
        readout.fail(readout.inside(key), f"a value for each of {count} layers", values)
    return [row[0] for row in values] if field in _TOP1 else values


def _series(pd: Any, name: str, values: List[Any]) -> Any:
    if not values:
        return pd.Series(values, dtype="int64" if name in _INTEGERS else "float64" if name in _FLOATS else "object")
    if name == "item" or (name in _IDS and None in values):
        return pd.Series(values, dtype="object")  # beside a missing one, integers would become floating-point numbers
    if name not in ("class", *_TOKENS) and all(value is None for value in values):
        return pd.Series(values, dtype="float64")
    return pd.Series(values)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise Error(
            "data frames need pandas; rows() and records() do without",
            "pip install pandas",
            2,
        ) from None
    return pandas
