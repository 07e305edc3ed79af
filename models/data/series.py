"""Sensor series in files: CSV or Parquet, one or many streams a file.

Columns: `timestamp` (integer milliseconds, numbers in a unit that is named, a datetime, or RFC 3339 text), the features
(every other numeric column), and optionally `stream` (else the file is one stream, named after it), `part` (`train` or
`test`) and `label` (read by evaluation only). An empty, NaN or infinite value is a missing one.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import polars as pl

from models.data.arrays import Bools, Doubles, Int64s
from models.data.stream_key import all_without_flaw, flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS, TimeUnit, looks_like

NOT_FEATURES = ("timestamp", "stream", "label", "part")
SUFFIXES = (".csv", ".parquet")


class UnusableData(ValueError):
    """A file cannot be used: says which, where, what was found and what was expected."""


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


def read_series(
    paths: Iterable[Path], features: Sequence[str] | None = None, unit: TimeUnit | None = None
) -> list[Series]:
    """Every stream of the files, which must all have the features given, or those of the first file.

    unit: of timestamps that are numbers; None: milliseconds, and an error where they look like another unit.
    """
    series: list[Series] = []
    for path in find_files(paths):
        found = _read_file(path, features, unit)
        features = found[0].features
        series += found
    if not series:
        raise UnusableData("no data files were given")
    _check_distinct(series)
    return series


class SeriesPiece(NamedTuple):
    """Some rows of a file, checked, in its order; N readings."""

    features: tuple[str, ...]
    keys: pl.Series | None  # (N,) text, the stream of each; None: the file is one stream
    rows: Int64s  # (N,)
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F), NaN where missing
    test: Bools  # (N,)


class Wording(NamedTuple):
    """How errors call what is the reader's own: columns, and how the unit of numeric times is named."""

    time: str = "timestamp"
    stream: str = "stream"
    unit: str = "--time-unit {}"


FILES = Wording()


class FileCheck:
    """Checks the rows of one file, which come in one piece or in several; what is wrong names file and row."""

    def __init__(
        self,
        path: Path,
        columns: pl.Schema,
        empty: Collection[str],
        features: Sequence[str] | None,
        unit: TimeUnit | None = None,
        wording: Wording = FILES,
    ) -> None:
        """columns: of the whole file. empty: those without any value. features: expected; None: what there is.

        unit: see read_series().
        """
        if "timestamp" not in columns:
            raise UnusableData(f"{path}: no column `timestamp`, found {', '.join(columns)}")
        if "stream" not in columns and (flaw := flaw_of(os.fsencode(path.stem))):
            raise UnusableData(f"{path}: its name cannot be that of its stream: {flaw}")
        self.path = path
        self.features = _features(path, columns, empty, features)
        self._begin = 0
        self._zoned: bool | None = None
        self._unit = unit
        self._wording = wording
        self._before: dict[TimeUnit, float] = {}  # latest time so far that is before those that look like a unit

    def check(self, frame: pl.DataFrame) -> SeriesPiece:
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
        return SeriesPiece(self.features, keys, rows, times, values, test)

    def _keys(self, column: pl.Series) -> pl.Series:
        streams = column.cast(pl.String)
        if streams.null_count():
            raise UnusableData(f"{self.path}: row {self._first(streams.is_null())} has no {self._wording.stream}")
        if (streams.str.len_bytes() == 0).any():
            raise UnusableData(f"{self.path}: row {self._first(streams.str.len_bytes() == 0)} has an empty stream name")
        names = streams.unique(maintain_order=True).to_list()
        if not all_without_flaw([name.encode() for name in names]):
            name, flaw = next((name, flaw) for name in names if (flaw := flaw_of(name.encode())))
            raise UnusableData(
                f"{self.path}: row {self._first(streams == name)}: {name!r} cannot be a stream's name: {flaw}"
            )
        return streams

    def _times_ms(self, column: pl.Series) -> Int64s:
        if column.null_count():
            raise UnusableData(f"{self.path}: row {self._first(column.is_null())} has no {self._wording.time}")
        if column.dtype.is_integer() or column.dtype.is_float():
            times = self._in_milliseconds(column)
        elif isinstance(column.dtype, pl.Datetime):
            times = column.dt.epoch("ms")
        elif column.dtype == pl.String:
            times = self._parse_times(column).dt.epoch("ms")
        else:
            self._refuse_kind(column.dtype, "")
        result: Int64s = times.cast(pl.Int64).to_numpy().copy()
        early = np.flatnonzero(result < 0)
        if len(early):
            raise UnusableData(
                f"{self.path}: row {self._begin + early[0]}: {self._wording.time} {result[early[0]]} is before 1970"
            )
        return result

    def _in_milliseconds(self, column: pl.Series) -> pl.Series:
        """Numbers, in the unit that was named; what is rounded is no more than half a millisecond."""
        unit = self._unit or TimeUnit.MS
        if column.dtype.is_float():
            if not column.is_finite().all():
                raise UnusableData(f"{self.path}: row {self._first(~column.is_finite())} has no {self._wording.time}")
            self._check_unit(column.cast(pl.Float64).to_numpy(), unit)
            if self._unit is None:
                self._refuse_kind(column.dtype, f"; {self._wording.unit.format('ms')} reads numbers with fractions")
            return (column.cast(pl.Float64) * 1000 / unit.per_second).round()
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count():
            place = int(whole.is_null().arg_max() or 0)
            self._refuse_unit(column[place], place, unit)
        self._check_unit(whole.to_numpy(), unit)
        return whole * 1000 if unit == TimeUnit.S else whole // (unit.per_second // 1000)

    def _check_unit(self, numbers: Int64s | Doubles, unit: TimeUnit) -> None:
        """Refuse numbers that are times of today in another unit, or of after the year 9999 in this one."""
        late = np.flatnonzero(numbers > min(MAX_TIMESTAMP_MS * unit.per_second // 1000, 2**63 - 1))
        if len(late):
            self._refuse_unit(numbers[late[0]].item(), int(late[0]), unit)
        shorter = [] if self._unit == TimeUnit.MS else [one for one in TimeUnit if one.per_second < unit.per_second]
        for other in shorter:
            first, end = other.window
            within = np.flatnonzero((numbers >= first) & (numbers < end))
            before = self._before[other] = max(self._before.get(other, -1), numbers[numbers < first].max(initial=-1))
            # A clock that begins at zero passes through such numbers, but does not leap into them.
            if len(within) and 2 * before < numbers[within].min():
                self._refuse_unit(numbers[within[0]].item(), int(within[0]), unit)

    def _refuse_unit(self, number: float, place: int, unit: TimeUnit) -> NoReturn:
        where = f"{self.path}: row {self._begin + place}: {self._wording.time} {number}"
        likely = looks_like(number)
        if likely is None or likely == unit:
            raise UnusableData(f"{where} is after the year 9999 in {unit.word}")
        option = self._wording.unit
        as_it_is = f"; a clock that begins at zero is read by {option.format('ms')}" if self._unit is None else ""
        raise UnusableData(
            f"{where} looks like {likely.word}: expected {unit.word}; {option.format(likely)} reads it{as_it_is}"
        )

    def _refuse_kind(self, kind: pl.DataType, hint: str) -> NoReturn:
        raise UnusableData(
            f"{self.path}: {self._wording.time} is {kind}, expected milliseconds, a datetime or RFC 3339 text{hint}"
        )

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
            f"{self.path}: row {self._begin + place}: {self._wording.time} {column[place]!r},"
            " expected RFC 3339 such as 2026-01-31T23:59:00Z"
        )

    def _first(self, found: pl.Series) -> int:
        return self._begin + int(found.arg_max() or 0)


def _read_file(path: Path, features: Sequence[str] | None, unit: TimeUnit | None) -> list[Series]:
    frame = _load(path)
    empty = [name for name in frame.columns if frame[name].null_count() == len(frame)]
    check = FileCheck(path, frame.schema, empty, features, unit)
    if frame.is_empty():
        raise UnusableData(f"{path}: no rows")
    return by_stream(check.check(frame), path, path.stem)


def by_stream(piece: SeriesPiece, path: Path, key: str) -> list[Series]:
    """The streams of a piece, in the order of their first rows. key: of its one stream, where it names none."""
    whole = Series(key, path, piece.features, piece.rows, piece.times_ms, piece.values, piece.test)
    if piece.keys is None:
        return [whole]
    keys, first, stream = np.unique(piece.keys.to_numpy().astype(str), return_index=True, return_inverse=True)
    order = np.argsort(stream, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(stream))[:-1])
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
