"""Sensor series in files: CSV or Parquet, one or many streams a file.

Columns: `timestamp` (integer milliseconds, a datetime, or RFC 3339 text), the features (every other numeric column),
and optionally `stream` (else the file is one stream, named after it), `part` (`train` or `test`) and `label` (read by
evaluation only). An empty, NaN or infinite value is a missing one.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

NOT_FEATURES = ("timestamp", "stream", "label", "part")
SUFFIXES = (".csv", ".parquet")


class UnusableData(ValueError):
    """A file cannot be used: says which, where, what was found and what was expected."""


class Series(NamedTuple):
    """One stream of one file, R readings in the order of the file."""

    key: str
    path: Path
    features: tuple[str, ...]
    rows: NDArray[np.int64]  # (R,) row of the file, 0 is the first below the header
    times_ms: NDArray[np.int64]  # (R,)
    values: NDArray[np.float64]  # (R, F), NaN where missing
    test: NDArray[np.bool_]  # (R,) part = test: never trained on

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Series":
        """Some of the readings, by mask, place or stretch (a stretch is no copy)."""
        return self._replace(
            rows=self.rows[keep], times_ms=self.times_ms[keep], values=self.values[keep], test=self.test[keep]
        )


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The data files named, and those below the folders named, sorted within each folder."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not below:
                raise UnusableData(f"{path}: no {' or '.join(SUFFIXES)} file in this folder")
            files += below
        elif not path.exists():
            raise UnusableData(f"{path}: no such file or folder")
        elif path.suffix not in SUFFIXES:
            raise UnusableData(f"{path}: found {path.suffix or 'no suffix'}, expected {' or '.join(SUFFIXES)}")
        else:
            files.append(path)
    return files


def read_series(paths: Iterable[Path], features: Sequence[str] | None = None) -> list[Series]:
    """Every stream of the files, which must all have the features given, or those of the first file."""
    series: list[Series] = []
    for path in find_files(paths):
        found = _read_file(path, features)
        features = found[0].features
        series += found
    if not series:
        raise UnusableData("no data files were given")
    _check_distinct(series)
    return series


class Piece(NamedTuple):
    """Some rows of a file, checked, in its order; N readings."""

    features: tuple[str, ...]
    keys: pl.Series | None  # (N,) text, the stream of each; None: the file is one stream
    rows: NDArray[np.int64]  # (N,)
    times_ms: NDArray[np.int64]  # (N,)
    values: NDArray[np.float64]  # (N, F), NaN where missing
    test: NDArray[np.bool_]  # (N,)


class FileCheck:
    """Checks the rows of one file, which come in one piece or in several; what is wrong names file and row."""

    def __init__(self, path: Path, columns: pl.Schema, empty: Collection[str], features: Sequence[str] | None) -> None:
        """columns: of the whole file. empty: those without any value. features: expected; None: what there is."""
        if "timestamp" not in columns:
            raise UnusableData(f"{path}: no column `timestamp`, found {', '.join(columns)}")
        self.path = path
        self.features = _features(path, columns, empty, features)
        self._begin = 0
        self._zoned: bool | None = None

    def check(self, frame: pl.DataFrame) -> Piece:
        """The next rows of the file."""
        rows = np.arange(self._begin, self._begin + len(frame))
        times = self._times_ms(frame["timestamp"])
        values = frame.select(pl.col(self.features).cast(pl.Float64)).to_numpy().copy()
        values[~np.isfinite(values)] = np.nan
        test = np.zeros(len(frame), bool)
        if "part" in frame.columns:
            test = (frame["part"].cast(pl.String) == "test").fill_null(value=False).to_numpy().copy()
        keys = self._keys(frame["stream"]) if "stream" in frame.columns else None
        self._begin += len(frame)
        return Piece(self.features, keys, rows, times, values, test)

    def _keys(self, column: pl.Series) -> pl.Series:
        streams = column.cast(pl.String)
        if streams.null_count():
            raise UnusableData(f"{self.path}: row {self._first(streams.is_null())} has no stream")
        if (streams.str.len_bytes() == 0).any():
            raise UnusableData(f"{self.path}: row {self._first(streams.str.len_bytes() == 0)} has an empty stream name")
        return streams

    def _times_ms(self, column: pl.Series) -> NDArray[np.int64]:
        if column.null_count():
            raise UnusableData(f"{self.path}: row {self._first(column.is_null())} has no timestamp")
        if column.dtype.is_integer():
            times = column
        elif isinstance(column.dtype, pl.Datetime):
            times = column.dt.epoch("ms")
        elif column.dtype == pl.String:
            times = self._parse_times(column).dt.epoch("ms")
        else:
            raise UnusableData(
                f"{self.path}: timestamp is {column.dtype}, expected milliseconds, a datetime or RFC 3339 text"
            )
        result: NDArray[np.int64] = times.cast(pl.Int64).to_numpy().copy()
        early = np.flatnonzero(result < 0)
        if len(early):
            raise UnusableData(
                f"{self.path}: row {self._begin + early[0]}: timestamp {result[early[0]]} is before 1970"
            )
        return result

    def _parse_times(self, column: pl.Series) -> pl.Series:
        """Text with an offset from UTC, or without one: then it is UTC; the same in all of the file."""
        with_offset = column.str.contains(r"(?:[zZ]|[+-]\d\d:?\d\d)$")
        if self._zoned is None:
            self._zoned = bool(with_offset.all())
        elif self._zoned and not with_offset.all():
            self._refuse_time(column, int((~with_offset).arg_max() or 0))
        try:
            parsed = column.str.to_datetime(time_unit="ms", time_zone="UTC" if self._zoned else None, strict=False)
        except pl.exceptions.PolarsError:  # it finds no format that fits any of them
            parsed = pl.Series([None] * len(column), dtype=pl.Datetime("ms"))
        if parsed.null_count():
            self._refuse_time(column, int(parsed.is_null().arg_max() or 0))
        return parsed

    def _refuse_time(self, column: pl.Series, place: int) -> NoReturn:
        raise UnusableData(
            f"{self.path}: row {self._begin + place}: timestamp {column[place]!r},"
            " expected RFC 3339 such as 2026-01-31T23:59:00Z"
        )

    def _first(self, found: pl.Series) -> int:
        return self._begin + int(found.arg_max() or 0)


def _read_file(path: Path, features: Sequence[str] | None) -> list[Series]:
    frame = _load(path)
    empty = [name for name in frame.columns if frame[name].null_count() == len(frame)]
    check = FileCheck(path, frame.schema, empty, features)
    if frame.is_empty():
        raise UnusableData(f"{path}: no rows")
    piece = check.check(frame)
    whole = Series(path.stem, path, piece.features, piece.rows, piece.times_ms, piece.values, piece.test)
    if piece.keys is None:
        return [whole]
    keys, first, stream = np.unique(piece.keys.to_numpy().astype(str), return_index=True, return_inverse=True)
    by_stream = np.argsort(stream, kind="stable")
    parts = np.split(by_stream, np.cumsum(np.bincount(stream))[:-1])
    return [whole.select(parts[n])._replace(key=str(keys[n])) for n in np.argsort(first).tolist()]


def _load(path: Path) -> pl.DataFrame:
    with readable(path):
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema_length=None)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong while a file is being read, as UnusableData."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnusableData(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def _features(
    path: Path, columns: pl.Schema, empty: Collection[str], expected: Sequence[str] | None
) -> tuple[str, ...]:
    found = [name for name in columns if name not in NOT_FEATURES]
    numeric = [name for name in found if columns[name].is_numeric() or name in empty]
    if expected is None:
        if text := [name for name in found if name not in numeric]:
            raise UnusableData(f"{path}: column {text[0]} is {columns[text[0]]}, expected numbers")
        if not numeric:
            raise UnusableData(f"{path}: no feature columns beside {', '.join(columns)}")
        return tuple(numeric)
    if missing := [name for name in expected if name not in numeric]:
        raise UnusableData(f"{path}: found features {', '.join(numeric)}; expected {', '.join(missing)} as well")
    return tuple(expected)


def _check_distinct(series: Sequence[Series]) -> None:
    """One stream in two files would be two memories of one sensor."""
    seen: dict[str, Path] = {}
    for one in series:
        if one.key in seen:
            raise UnusableData(f"{one.path}: stream {one.key} is in {seen[one.key]} already")
        seen[one.key] = one.path
