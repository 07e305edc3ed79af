"""Sensor series in files: CSV or Parquet, one or many streams a file.

Columns: `timestamp` (integer milliseconds, a datetime, or RFC 3339 text), the features (every other numeric column),
and optionally `stream` (else the file is one stream, named after it), `part` (`train` or `test`) and `label` (read by
evaluation only). An empty, NaN or infinite value is a missing one.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

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

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "Series":
        """Some of the readings, by mask or place."""
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


def _read_file(path: Path, features: Sequence[str] | None) -> list[Series]:
    frame = _load(path)
    if "timestamp" not in frame.columns:
        raise UnusableData(f"{path}: no column `timestamp`, found {', '.join(frame.columns)}")
    if frame.is_empty():
        raise UnusableData(f"{path}: no rows")
    names = _features(path, frame, features)
    times = _times_ms(path, frame["timestamp"])
    values = frame.select(pl.col(names).cast(pl.Float64)).to_numpy().copy()
    values[~np.isfinite(values)] = np.nan
    test = (
        (frame["part"].cast(pl.String) == "test").fill_null(value=False).to_numpy() if "part" in frame.columns else None
    )
    rows = np.arange(len(frame))
    whole = Series(path.stem, path, names, rows, times, values, np.zeros(len(frame), bool) if test is None else test)
    if "stream" not in frame.columns:
        return [whole]
    streams = frame["stream"].cast(pl.String)
    if streams.null_count():
        raise UnusableData(f"{path}: row {int(streams.is_null().arg_max() or 0)} has no stream")
    if (streams.str.len_bytes() == 0).any():
        raise UnusableData(f"{path}: row {int((streams.str.len_bytes() == 0).arg_max() or 0)} has an empty stream name")
    keys, first, stream = np.unique(streams.to_numpy().astype(str), return_index=True, return_inverse=True)
    by_stream = np.argsort(stream, kind="stable")
    parts = np.split(by_stream, np.cumsum(np.bincount(stream))[:-1])
    return [whole.select(parts[n])._replace(key=str(keys[n])) for n in np.argsort(first).tolist()]


def _load(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnusableData(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def _features(path: Path, frame: pl.DataFrame, expected: Sequence[str] | None) -> tuple[str, ...]:
    found = [name for name in frame.columns if name not in NOT_FEATURES]
    numeric = [name for name in found if frame[name].dtype.is_numeric() or frame[name].null_count() == len(frame)]
    if expected is None:
        if text := [name for name in found if name not in numeric]:
            raise UnusableData(f"{path}: column {text[0]} is {frame[text[0]].dtype}, expected numbers")
        if not numeric:
            raise UnusableData(f"{path}: no feature columns beside {', '.join(frame.columns)}")
        return tuple(numeric)
    if missing := [name for name in expected if name not in numeric]:
        raise UnusableData(f"{path}: found features {', '.join(numeric)}; expected {', '.join(missing)} as well")
    return tuple(expected)


def _times_ms(path: Path, column: pl.Series) -> NDArray[np.int64]:
    if column.null_count():
        raise UnusableData(f"{path}: row {int(column.is_null().arg_max() or 0)} has no timestamp")
    if column.dtype.is_integer():
        times = column
    elif isinstance(column.dtype, pl.Datetime):
        times = column.dt.epoch("ms")
    elif column.dtype == pl.String:
        times = _parse_times(path, column).dt.epoch("ms")
    else:
        raise UnusableData(f"{path}: timestamp is {column.dtype}, expected milliseconds, a datetime or RFC 3339 text")
    result: NDArray[np.int64] = times.cast(pl.Int64).to_numpy().copy()
    early = np.flatnonzero(result < 0)
    if len(early):
        raise UnusableData(f"{path}: row {early[0]}: timestamp {result[early[0]]} is before 1970")
    return result


def _parse_times(path: Path, column: pl.Series) -> pl.Series:
    """Text with an offset from UTC, or without one: then it is UTC."""
    zoned = column.str.contains(r"(?:[zZ]|[+-]\d\d:?\d\d)$").all()
    try:
        parsed = column.str.to_datetime(time_unit="ms", time_zone="UTC" if zoned else None, strict=False)
    except pl.exceptions.PolarsError:  # it finds no format that fits any of them
        parsed = pl.Series([None] * len(column), dtype=pl.Datetime("ms"))
    if parsed.null_count():
        row = int(parsed.is_null().arg_max() or 0)
        raise UnusableData(
            f"{path}: row {row}: timestamp {column[row]!r}, expected RFC 3339 such as 2026-01-31T23:59:00Z"
        )
    return parsed


def _check_distinct(series: Sequence[Series]) -> None:
    """One stream in two files would be two memories of one sensor."""
    seen: dict[str, Path] = {}
    for one in series:
        if one.key in seen:
            raise UnusableData(f"{one.path}: stream {one.key} is in {seen[one.key]} already")
        seen[one.key] = one.path
