"""Data files as tables with the columns that they have, before anything is made of them.

CSV and its relatives and JSON lines, also compressed; Parquet, Arrow IPC (Feather) and Excel.
"""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import polars as pl

from models.data import prometheus_answer, text_files, workbook
from models.data.errors import UnusableData
from models.data.file_options import FileOptions
from models.data.text_files import COMPRESSED, SEPARATORS, opened, suffix_of

TEXT, LINES, JSON = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson"), ".json"
DAMAGED = "it is empty, damaged or something else"
ARROW = (".arrow", ".feather", ".ipc")
ARROW_FILE, FEATHER_1 = b"ARROW1", b"FEA1"  # with which they begin
# Of files in folders; .txt and .json only where they are named.
SUFFIXES = (".csv", ".parquet", ".tsv", ".jsonl", *ARROW, workbook.SUFFIX, ".ndjson")


NO_UNITS: Mapping[str, str] = MappingProxyType({})


Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


class RawTable(NamedTuple):
    """A file's own columns."""

    names: tuple[str, ...]
    frames: Callable[[int], Iterator[pl.DataFrame]]
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = NO_UNITS  # of columns, where a row below the header has them
    comma_apart: bool = True  # whether commas part its cells, or nothing does


def raw_table(path: Path, options: FileOptions) -> RawTable:
    """What is in a file, by its suffix. Raises UnusableData, here or where its frames are read."""
    suffix = suffix_of(path)
    if suffix in (".parquet", *ARROW, workbook.SUFFIX) and path.suffix.lower() != suffix:
        raise UnusableData(f"{path}: found a compressed file, expected {suffix} itself, which compresses what it holds")
    if suffix == ".parquet":
        return _scanned(path, pl.scan_parquet)
    if suffix in ARROW:
        return _raw_arrow(path)
    if suffix == workbook.SUFFIX:
        table = workbook.read(path, options.sheet, options.columns, options.skip_lines, options.leave_out)
        notes = [f"sheet {table.sheet}"] if options.sheet is None and table.sheet != "Sheet1" else []
        notes += _header_notes(options, "row", table.before, table.frame.columns, table.units)
        return in_memory(table.frame, tuple(notes))._replace(units=_by_name(table.frame.columns, table.units))
    if suffix in (*LINES, JSON):
        return _raw_lines(path, options)
    with readable(path):
        layout = text_files.layout_of(path, options)
    notes = _header_notes(options, "line", layout.before, layout.names, layout.units)
    if layout.separator != "," and options.separator is None:
        notes.append(f"separator {SEPARATORS.get(layout.separator, repr(layout.separator))}")
    if layout.encoding != "utf-8" and options.encoding is None:
        notes.append(f"encoding {layout.encoding}")
    if layout.unnamed_last:
        notes.append("a separator ends every line")

    def frames(_rows: int) -> Iterator[pl.DataFrame]:
        with readable(path):
            yield from text_files.read_text(path, layout)

    units = _by_name(layout.names, layout.units)
    return RawTable(layout.names, frames, tuple(notes), units, comma_apart=layout.separator == ",")


def _by_name(names: Sequence[str], units: Sequence[str]) -> Mapping[str, str]:
    return dict(zip(names, units, strict=False))


def _header_notes(
    options: FileOptions, what: str, before: int, names: Sequence[str], units: Sequence[str]
) -> list[str]:
    """For people, of what is around the header, and left out. what: a line or a row."""
    notes = []
    if options.leave_out:
        notes.append(f"{what}s that begin with {' or '.join(options.leave_out)} left out")
    if before and options.skip_lines is None:
        notes.append(f"{before} {what}{'s'[: before > 1]} before the header left out")
    if units:
        named = [f"{name} in {unit}" for name, unit in zip(names, units, strict=True) if unit]
        notes.append(f"the row below the header has units: {', '.join(named)}")
    return notes


def _scanned(path: Path, scanned: Callable[[Path], pl.LazyFrame]) -> RawTable:
    """A file of which rows can be read without those before them."""
    with readable(path):
        scan = _flat(scanned(path))
        names = tuple(scan.collect_schema())
        count = int(scan.select(pl.len()).collect().item())

    def frames(rows: int) -> Iterator[pl.DataFrame]:
        with readable(path):
            for begin in range(0, max(1, count), rows):
                yield scan.slice(begin, rows).collect()

    return RawTable(names, frames)


def _raw_arrow(path: Path) -> RawTable:
    """A file of Arrow IPC, or a stream of it in a file."""
    with readable(path):
        with path.open("rb") as file:
            begin = file.read(len(ARROW_FILE))
        if begin.startswith(FEATHER_1):
            raise UnusableData(f"{path}: is Feather of version 1, expected version 2, which is Arrow IPC")
        return _scanned(path, pl.scan_ipc) if begin == ARROW_FILE else in_memory(_flat(pl.read_ipc_stream(path)), ())


def _raw_lines(path: Path, options: FileOptions) -> RawTable:
    with readable(path), opened(path) as file:
        whole = file.read().removeprefix(codecs.BOM_UTF8)
    found = _document(whole) if suffix_of(path) == JSON else None
    if isinstance(found, dict) and prometheus_answer.is_answer(found):
        frame = prometheus_answer.table_of(path, found, options)
        return in_memory(frame, ("an answer of Prometheus, each of its series a stream",))
    lines = _of_array(path, found)
    if lines is None:
        lines = [line for line in whole.split(b"\n") if line.strip()]
    for row, line in enumerate(lines):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnusableData(
                f"{path}: row {row} is {line[:80].decode(errors='replace')!r}, expected a JSON object such as "
                '{"timestamp": "2026-01-31T23:59:00Z", "temp": 20.5}'
            )
    if not lines:
        raise UnusableData(f"{path}: no rows")
    with readable(path):
        frame = _flat(pl.read_ndjson(b"\n".join(lines), infer_schema_length=None))
    if nested := [name for name, kind in frame.schema.items() if kind.is_nested()]:
        first = json.dumps(frame[nested[0]][0].to_list())[:80]
        raise UnusableData(
            f"{path}: column {nested[0]} holds {first}, expected single values or objects of them; "
            "`telltale input try --file` says what reads it from a topic"
        )
    return in_memory(frame, ())


def _document(whole: bytes) -> Any:
    """The one in a file; None: it is lines of JSON."""
    try:
        return json.loads(whole)
    except ValueError:
        return None


def _of_array(path: Path, found: Any) -> list[bytes] | None:
    """The objects of a file that is one array of them, a line each; None: it is lines of JSON."""
    if isinstance(found, dict):
        names = ", ".join(list(found)[:8]) or "nothing in it"
        raise UnusableData(
            f"{path}: is one JSON object with {names}, expected an array of objects, an object a line, or an answer of "
            "Prometheus; `telltale input try --file` says what reads it from a topic"
        )
    return [json.dumps(one).encode() for one in found] if isinstance(found, list) else None


def _flat(frame: Frame) -> Frame:
    """With a column for each value within an object: `a.b` is what is called b in a."""
    while inner := [name for name, kind in frame.collect_schema().items() if isinstance(kind, pl.Struct)]:
        frame = frame.with_columns(pl.col(name).name.prefix_fields(f"{name}.") for name in inner).unnest(inner)
    return frame


def in_memory(frame: pl.DataFrame, notes: tuple[str, ...]) -> RawTable:
    def frames(rows: int) -> Iterator[pl.DataFrame]:
        return frame.iter_slices(rows)

    return RawTable(tuple(frame.columns), frames, notes)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong while a file is being read, as UnusableData: never in a library's words."""
    kind = suffix_of(path)[1:]
    try:
        yield
    except OSError as error:
        compressed = path.suffix.lower() in COMPRESSED
        why = error.strerror or ("it is not compressed as its name says" if compressed else DAMAGED)
        raise UnusableData(f"{path}: cannot be read as {kind}: {why}") from error
    except text_files.DAMAGED as error:
        raise UnusableData(f"{path}: cannot be read as {kind}: its compression is damaged or cut short") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UnusableData(f"{path}: cannot be read as {kind}: {DAMAGED}") from error
