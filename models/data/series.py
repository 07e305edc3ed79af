"""Sensor series in files, one or many streams a file; `data_file` makes the columns of what people have.

Columns: `timestamp` (integer milliseconds, numbers in a unit that is named, a datetime, or RFC 3339 text), the features
(every other numeric column), and optionally `stream` (else the file is one stream, named after it), `part` (`train` or
`test`) and `label` (read by evaluation only). An empty, NaN or infinite value is a missing one.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import polars as pl

from models.data.arrays import Bools, Doubles, Int64s
from models.data.data_file import DataFile, look
from models.data.errors import UnusableData as UnusableData  # noqa: PLC0414 - part of what a reader of series needs
from models.data.file_check import FileCheck, SeriesPiece
from models.data.file_options import AS_USUAL, FileOptions, Order
from models.data.raw_table import JSON, SUFFIXES, TEXT
from models.data.text_files import stem_of, suffix_of

NOT_READ = (".txt", ".json", ".xls", ".xlsm", ".ods", ".zip", ".bz2", ".xz")
MOST_LATE = 0.05  # share of a stream's readings that are earlier than one before, in a file that is in order


class Series(NamedTuple):
    """One stream of one file, R readings in the order of the file."""

    key: str
    path: Path
    features: tuple[str, ...]
    rows: Int64s  # (R,) row of the file, 0 is the first below the header
    times_ms: Int64s  # (R,)
    values: Doubles  # (R, F), NaN where missing
    test: Bools  # (R,) part = test: never trained on

    def select(self, keep: Bools | Int64s | slice) -> "Series":
        """Some of the readings, by mask, place or stretch (a stretch is no copy)."""
        return self._replace(
            rows=self.rows[keep], times_ms=self.times_ms[keep], values=self.values[keep], test=self.test[keep]
        )


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The data files named, and those below the folders named, sorted within each folder."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if suffix_of(p) in SUFFIXES and p.is_file())
            if not below:
                raise UnusableData(f"{path}: no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file in this folder")
            files += below
        elif not path.exists():
            raise UnusableData(f"{path}: no such file or folder")
        elif suffix_of(path) not in (*SUFFIXES, *TEXT, JSON):
            raise UnusableData(f"{path}: found {path.suffix or 'no suffix'}, expected {FILE_NAMES}")
        else:
            files.append(path)
    return files


FILE_NAMES = ", ".join((*SUFFIXES[:-1], *TEXT[2:], JSON)) + f" or {SUFFIXES[-1]}"


def read_series(
    paths: Iterable[Path],
    features: Sequence[str] | None = None,
    options: FileOptions = AS_USUAL,
    note: Callable[[str], None] = lambda _: None,
    unread: list[str] | None = None,
) -> list[Series]:
    """Every stream of the files, which must all have the features given, or those of the first file.

    note: is called with what was found out of each file. Raises UnusableData, which names every file that is not
    readable; where `unread` is given, what is wrong with those is added to it instead, as long as any can be read.
    """
    series: list[Series] = []
    for file, check in look_at_files(paths, features, options, note, unread):
        try:
            frame = pl.concat([*file.frames(file.rows)])
            streams = by_stream(check.check(frame), file.path, stem_of(file.path))
            series += in_order(streams, options.order, note)
        except UnusableData as error:
            if unread is None:
                raise
            unread.append(str(error))
    if not series:
        _refuse_files(unread or [], 0)
    _check_distinct(series)
    return series


def look_at_files(
    paths: Iterable[Path],
    features: Sequence[str] | None,
    options: FileOptions,
    note: Callable[[str], None] = lambda _: None,
    unread: list[str] | None = None,
) -> "list[tuple[DataFile, FileCheck]]":
    """What is in each file, and a check of its rows; see read_series()."""
    found: list[tuple[DataFile, FileCheck]] = []
    refused: list[str] = []
    paths = list(paths)
    files = find_files(paths)
    for path in files:
        try:
            file = look(path, options, features)
            check = FileCheck(path, file.columns, file.empty, features, options._replace(time_format=file.time_format))
        except UnusableData as error:
            refused.append(str(error))
            continue
        features = check.features
        if file.notes:
            note(f"{path}: {'; '.join(file.notes)}")
        found.append((file, check))
    if other := [path for folder in paths for path in _other_data(folder)]:
        note(f"not read: {', '.join(map(str, other))}: expected {FILE_NAMES}")
    if unread is not None:
        unread += refused
    if not found or (refused and unread is None):
        _refuse_files(refused, len(found))
    return found


def _refuse_files(refused: Sequence[str], others: int) -> NoReturn:
    """others: how many can be read."""
    if not refused:
        raise UnusableData("no data files were given")
    if len(refused) == 1 and not others:
        raise UnusableData(refused[0])
    raise UnusableData("\n".join([f"{len(refused)} of {len(refused) + others} files cannot be read:", *refused]))


def _other_data(folder: Path) -> list[Path]:
    """Files below a folder that hold data, by their names, in a format that is not read."""
    return sorted(path for path in folder.rglob("*") if suffix_of(path) in NOT_READ and path.is_file())


def in_order(series: Sequence[Series], order: Order, note: Callable[[str], None] = lambda _: None) -> list[Series]:
    """The series with their readings in the order of their times, or as they come, as `order` says.

    Single late readings are left to the detector, which counts them.
    """
    result = []
    for one in series:
        late = int((one.times_ms < np.maximum.accumulate(one.times_ms)).sum()) if len(one.times_ms) else 0
        result.append(one)
        if order is Order.CHECK and (twice := int((np.diff(one.times_ms) == 0).sum())):
            note(
                f"{one.path}: {twice:,} of {len(one.times_ms):,} readings of {one.key} have the time of the one before"
            )
        if not late or order is Order.KEEP:
            continue
        where = f"{one.path}: {late:,} of {len(one.times_ms):,} readings of {one.key} are earlier than one before them"
        if order is Order.SORT:
            result[-1] = one.select(np.argsort(one.times_ms, kind="stable"))
            note(f"{where}: sorted")
        elif late > MOST_LATE * len(one.times_ms):
            _refuse_ahead(one)
            raise UnusableData(
                f"{where}; expected rising times: --order sort reads them in the order of their times, "
                "--order keep as they come"
            )
        else:
            note(f"{where}, which makes them late")
    return result


def _refuse_ahead(one: Series) -> None:
    """Refuse a stream that is in order but for single readings, after which all others are earlier."""
    falls = np.flatnonzero(np.diff(one.times_ms) < 0)
    if len(falls) > MOST_LATE * len(one.times_ms):
        return
    place = int(falls[0])
    time, after = (f"{np.datetime64(int(ms), 'ms')}Z" for ms in one.times_ms[place : place + 2])
    raise UnusableData(
        f"{one.path}: reading {place} of {one.key} is of {time}, later than the next, of {after}; expected rising "
        "times: correct or remove it; --order sort puts it last, --order keep reads what follows as late"
    )


def by_stream(piece: SeriesPiece, path: Path, key: str) -> list[Series]:
    """The streams of a piece, in the order of their first rows. key: of its one stream, where it names none."""
    whole = Series(key, path, piece.features, piece.rows, piece.times_ms, piece.values, piece.test)
    if piece.keys is None:
        return [whole]
    keys, first, stream = np.unique(piece.keys.to_numpy().astype(str), return_index=True, return_inverse=True)
    order = np.argsort(stream, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(stream))[:-1])
    return [whole.select(parts[n])._replace(key=str(keys[n])) for n in np.argsort(first).tolist()]


def _check_distinct(series: Sequence[Series]) -> None:
    """One stream in two files would be two memories of one sensor."""
    seen: dict[str, Path] = {}
    for one in series:
        if one.key in seen:
            raise UnusableData(f"{one.path}: stream {one.key} is in {seen[one.key]} already")
        seen[one.key] = one.path
