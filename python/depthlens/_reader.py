"""Reads run folders, whose files docs/output.md describes.

Needs nothing but the standard library for ``info``, ``rows`` and ``records``; pandas for data frames.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Union

from ._error import Error

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1

#: What ``Run.frame`` takes where no fields are named: one number a layer each.
NUMBERS = ("final_rank", "final_logprob", "target_rank", "target_logprob", "entropy", "kl_final", "kl_reverse")

# Of the best prediction at a layer: name in the frame, and the key of the record whose rows begin with it.
_TOP1 = {"top1_id": "top_ids", "top1_token": "top_tokens", "top1_logprob": "top_logprobs"}
# Keys of a record that tell which position it is; those behind "item" only tasks have.
_PLACE = ("document", "window", "position", "item", "answer_position", "answer_length", "class")


def load(folder: Union[str, "os.PathLike[str]"], *, partial: bool = False) -> "Run":
    """Opens a run folder.

    A run that was interrupted is refused, since its tables tell of a part of the input only; ``partial=True`` takes
    it all the same. The share of a run (``--shard``) is opened with a warning. Raises ``Error``.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "a run is a folder, and this is a file" if path.exists() else "no such folder"
        raise Error(f"{what}, {path}", exit_code=3)
    if not (path / "run.json").exists():
        raise _not_a_run(path)
    info = _read_object(path / "run.json")
    _check_schema(info, path / "run.json")
    if info.get("status") != "complete" and not partial:
        raise Error(
            f"the run is {info.get('status')}, {path}: its tables tell of a part of the input only",
            "run the same command with --resume to finish it, or say load(…, partial=True)",
        )
    for part, kind in (("model", dict), ("lenses", list), ("settings", dict), ("counts", dict)):
        if not isinstance(info.get(part), kind):
            raise Error(f"run.json is damaged, {path / 'run.json'}: no usable {part!r}")
    if "shard" in info:
        shard = info["shard"]
        warnings.warn(
            f"{path} is share {shard['index']} of {shard['count']} of a run: its tables tell of that share only; "
            "depthlens merge joins them",
            stacklevel=2,
        )
    return Run(path, info)


class Run:
    """A run folder. Tables and records are read from the disk when they are asked for."""

    def __init__(self, path: Path, info: Dict[str, Any]) -> None:
        self.path = path
        #: run.json
        self.info = info
        self._tables: Optional[Tables] = None

    def __repr__(self) -> str:
        counts = self.info["counts"]
        return (
            f"<depthlens run {str(self.path)!r}: {self.info['model'].get('architecture')}, "
            f"lenses {', '.join(self.lenses) or 'none'}, {counts.get('positions')} positions>"
        )

    @property
    def lenses(self) -> List[str]:
        """Names of the lenses, as tables and records have them."""
        return [lens["name"] for lens in self.info["lenses"]]

    @property
    def layers(self) -> List[int]:
        """The layers that were decoded, rising; 0 is what enters the first block."""
        chosen = self.info["settings"].get("layers")
        return list(chosen) if chosen is not None else list(range(int(self.info["model"]["layers"]) + 1))

    @property
    def tables(self) -> "Tables":
        """The tables by name, each a pandas data frame."""
        if self._tables is None:
            self._tables = Tables(self.path)
        return self._tables

    def rows(self, table: str) -> List[Dict[str, Any]]:
        """A table as a list of dictionaries, without pandas."""
        return self.tables.rows(table)

    def records(self) -> Iterator[Dict[str, Any]]:
        """The records one after the other, in the order of the input. ``Error`` where the run wrote none, or where
        there are fewer or more than run.json says."""
        place = self._records_file()
        return _records(place, self.info["counts"].get("records"))

    def frame(self, lens: Optional[str] = "logit", fields: Iterable[str] = NUMBERS) -> "pandas.DataFrame":
        """The records as a data frame with one row for each position and layer.

        Columns: ``lens``; ``document``, ``window``, ``position``, ``item`` and, of tasks, ``answer_position``,
        ``answer_length`` and ``class``; ``token``, ``target`` and ``final``, the texts; ``layer``; then ``fields``.

        ``lens`` is a name, or None for all. ``fields`` are what a record holds for a lens, such as ``final_rank`` and
        ``entropy``, or ``top_ids`` (a list in each row); ``top1_id``, ``top1_token`` and ``top1_logprob`` of the best
        prediction; ``token_id``, ``target_id`` and ``final_id``. What does not exist at a position is missing.
        """
        pandas = _pandas()
        fields = [fields] if isinstance(fields, str) else list(fields)
        names = self.lenses if lens is None else [lens]
        unknown = [name for name in names if name not in self.lenses]
        if unknown or not names:
            raise Error(
                f"no lens {lens!r} in the run, {self.path}" if names else f"the run has no lenses, {self.path}",
                f"its lenses: {', '.join(self.lenses)}" if self.lenses else "records() has what it measured",
                2,
            )
        layers = self.layers
        count = len(layers)
        place: List[Dict[str, Any]] = []
        columns: Dict[str, Dict[str, List[Any]]] = {name: {field: [] for field in fields} for name in names}
        for record in self.records():
            place.append(_place_of(record))
            for name in names:
                if name not in record["lenses"]:
                    raise Error(f"a record has no lens {name!r}, {self.path}")
                for field, values in columns[name].items():
                    values.extend(_per_layer(record, record["lenses"][name], field, count, self.path))

        head = pandas.DataFrame(place, columns=_place_columns(place))
        # One row of `head` for each layer of a position.
        head = head.loc[head.index.repeat(count)].reset_index(drop=True)
        head["layer"] = layers * len(place)
        frames = []
        for name in names:
            frame = head.copy()
            frame.insert(0, "lens", name)
            frames.append(frame.assign(**{field: _series(pandas, columns[name][field]) for field in fields}))
        return pandas.concat(frames, ignore_index=True)

    def _records_file(self) -> Path:
        for name in ("records.jsonl", "records.jsonl.zst"):
            if (self.path / name).is_file():
                return self.path / name
        if self.info["settings"].get("records") == "none":
            raise Error(f"the run wrote no records, {self.path}: it was made with --records none", exit_code=3)
        raise Error(f"the run has no records, {self.path}", exit_code=3)


class Tables(Mapping):  # type: ignore[type-arg]
    """The tables of a run by name. ``tables["lens.quality"]`` is a pandas data frame whose ``attrs["units"]`` has the
    units of its columns; ``rows``, ``columns`` and ``units`` need no pandas."""

    def __init__(self, folder: Path) -> None:
        path = folder / "summary.json"
        if not path.exists():
            raise Error(f"the run has no summary.json, {folder}", exit_code=3)
        summary = _read_object(path)
        _check_schema(summary, path)
        tables = summary.get("tables")
        if not isinstance(tables, dict):
            raise Error(f"summary.json is damaged, {path}: no usable 'tables'")
        for name, table in tables.items():
            if not _is_table(table):
                raise Error(f"summary.json is damaged, {path}: table {name!r}")
        self._folder = folder
        self._tables: Dict[str, Dict[str, Any]] = tables

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
        pandas = _pandas()
        frame = pandas.DataFrame(table["rows"], columns=table["columns"])
        for column in frame.columns:
            if len(frame) > 0 and frame[column].isna().all():
                frame[column] = frame[column].astype("float64")  # a number that exists nowhere
        frame.attrs["units"] = dict(table.get("units", {}))
        return frame

    def rows(self, name: str) -> List[Dict[str, Any]]:
        """A table as a list of dictionaries; what does not exist is None."""
        table = self._table(name)
        return [dict(zip(table["columns"], row)) for row in table["rows"]]

    def columns(self, name: str) -> List[str]:
        return list(self._table(name)["columns"])

    def units(self, name: str) -> Dict[str, str]:
        """Units by column; labels and plain numbers have none."""
        return dict(self._table(name).get("units", {}))

    def _table(self, name: str) -> Dict[str, Any]:
        if name not in self._tables:
            raise UnknownTable(
                f"no table {name!r} in the run, {self._folder}", f"its tables: {', '.join(self._tables)}", 2
            )
        return self._tables[name]


class UnknownTable(Error, KeyError):
    """A ``KeyError`` too, so that ``tables.get(name)`` works as of any mapping."""


def _is_table(table: Any) -> bool:
    if not isinstance(table, dict):
        return False
    columns, rows = table.get("columns"), table.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return False
    return all(isinstance(row, list) and len(row) == len(columns) for row in rows)


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


def _read_object(path: Path) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except OSError as error:
        raise Error(f"cannot be read, {path}: {error.strerror}", exit_code=3) from None
    except ValueError as error:
        raise Error(f"{path.name} is damaged, {path}: {error}") from None
    if not isinstance(value, dict):
        raise Error(f"{path.name} is damaged, {path}: not a JSON object")
    return value


def _check_schema(value: Dict[str, Any], path: Path) -> None:
    version = value.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise Error(f"not written by depthlens, {path}: no usable 'schema_version'")
    if version > SCHEMA_VERSION:
        raise Error(
            f"written by a newer depthlens, {path}: schema_version {version}, and this reader knows {SCHEMA_VERSION}",
            "pip install --upgrade depthlens-cli",
        )


def _records(path: Path, expected: Optional[int]) -> Iterator[Dict[str, Any]]:
    number = 0
    with _open_lines(path) as lines:
        try:
            for number, line in enumerate(lines, 1):
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise Error(f"{path.name} is damaged, {path} line {number}: not a JSON object")
                yield record
        except (ValueError, EOFError) as error:
            raise Error(f"{path.name} is damaged, {path} behind line {number}: {error}") from None
        except OSError as error:
            raise Error(f"cannot be read, {path}: {error}", exit_code=3) from None
    if expected is not None and number != expected:
        raise Error(f"{path.name} is damaged, {path}: {number} records, and run.json counts {expected}")


def _open_lines(path: Path) -> Any:
    """A text file whose lines end at line feeds only, decompressed where its name says so."""
    try:
        if path.suffix != ".zst":
            return open(path, encoding="utf-8", newline="\n")
        return _open_zstd(path)
    except OSError as error:
        raise Error(f"cannot be read, {path}: {error.strerror}", exit_code=3) from None


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
            "pip install 'depthlens-cli[zstd]'",
            2,
        ) from None

    class Reader(io.BufferedReader):
        def read1(self, size: int = -1) -> bytes:
            try:
                return super().read1(size)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from None

    raw = zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True, closefd=True)
    return io.TextIOWrapper(Reader(raw), encoding="utf-8", newline="\n")  # type: ignore[arg-type,unused-ignore]


def _place_of(record: Dict[str, Any]) -> Dict[str, Any]:
    if "lenses" not in record:
        raise Error("records without lenses have no frame", "records() has what the run measured", 2)
    place = {key: record[key] for key in _PLACE if key in record}
    for key in ("token", "target", "final"):
        place[key] = _text_of(record, key, "text")
    return place


def _place_columns(place: List[Dict[str, Any]]) -> List[str]:
    present = {key for one in place for key in one} | {"document", "window", "position", "item"}
    return [key for key in _PLACE + ("token", "target", "final") if key in present]


def _text_of(record: Dict[str, Any], key: str, part: str) -> Any:
    token = record.get(key)
    return None if token is None else token[part]


def _per_layer(record: Dict[str, Any], lens: Dict[str, Any], field: str, count: int, path: Path) -> List[Any]:
    """`count` values, one for each layer."""
    if field in ("token_id", "target_id", "final_id"):
        return [_text_of(record, field[: -len("_id")], "id")] * count
    key = _TOP1.get(field, field)
    if key not in lens:
        known = [name for name, value in lens.items() if isinstance(value, list) or name == "settled_layer"]
        raise Error(
            f"the records have no field {field!r}, {path}",
            "fields: " + ", ".join(known + list(_TOP1) + ["token_id", "target_id", "final_id"]),
            2,
        )
    values = lens[key]
    if values is None or key == "settled_layer":
        return [values] * count
    if not isinstance(values, list) or len(values) != count:
        if key in ("watched", "options"):
            raise Error(f"the field {field!r} is a list of tokens, {path}", "records() has it", 2)
        raise Error(f"the records are damaged, {path}: {field!r} has not one value for each of {count} layers")
    return [row[0] for row in values] if field in _TOP1 else values


def _series(pandas: Any, values: List[Any]) -> Any:
    if values and all(value is None for value in values):
        return pandas.Series(values, dtype="float64")
    return pandas.Series(values)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise Error(
            "data frames need pandas; rows() and records() do without",
            "pip install 'depthlens-cli[pandas]'",
            2,
        ) from None
    return pandas
