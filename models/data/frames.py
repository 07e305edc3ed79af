"""Readings in a DataFrame of polars or pandas, as series; and what is found of them, as a frame of the same library.

pandas is not imported here: a caller that passes a frame of it has imported it. Errors count
rows from 0, whatever the frame's index says.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.arrays import Int64s
from models.data.data_file import NOT_FEATURES
from models.data.file_check import FileCheck, Wording
from models.data.file_options import FileOptions, Order
from models.data.series import Series, UnusableData, by_stream
from models.data.stream_key import flaw_of
from models.data.time_units import TimeUnit

FRAME = Path("frame")  # what errors call it
TIME, STREAM, PART = "timestamp", "stream", "part"
MAX_VALUE = 3.4e38  # the largest float32
E = TypeVar("E", bound=StrEnum)
F = TypeVar("F")  # a frame of polars or of pandas
F_co = TypeVar("F_co", covariant=True)  # the same, of what makes one


class Layout(NamedTuple):
    """Which columns of a frame are what; None: those that go by the usual names."""

    time: str | None = None
    stream: str | None = None
    name: str = "sensor"  # of the one stream, where no column names any
    unit: TimeUnit | None = None  # of times that are numbers; None: milliseconds
    order: Order = Order.CHECK


class Source(Protocol[F_co]):
    """A frame, of either library."""

    names: list[str]
    rows: int
    index_is_time: bool

    def column(self, name: str | None) -> pl.Series:
        """A column, or pandas' index (None) or a level of it, checked to be of one kind."""

    def is_column(self, name: str | None) -> bool:
        """Whether it is one, and not a level of an index."""

    def own(self, name: str | None, rows: Int64s) -> Any:
        """Some rows of a column as the frame has them."""

    def with_index(self, columns: Mapping[str, Any]) -> F_co:
        """A frame with a row for each row of this one, and its index."""

    def new(self, columns: Mapping[str, Any]) -> F_co:
        """A frame of other rows."""


class Table(NamedTuple, Generic[F_co]):
    """The readings of a frame."""

    source: Source[F_co]
    series: list[Series]  # a stream each, in the order of their first rows; rows: of the frame
    time: str | None  # the column with the times; None: pandas' index
    stream: str | None  # the column with the streams; None: there is one stream

    def with_rows(self, found: Mapping[str, pl.Series]) -> F_co:
        """What was found of every row, behind its stream and its time."""
        rows = np.arange(self.source.rows)
        columns = {} if self.source.is_column(self.stream) else {STREAM: self._streams(rows)}
        columns |= {str(name): self.source.own(name, rows) for name in self._key_columns()}
        return self.source.with_index({**columns, **found})

    def pick(self, starts: Sequence[int], ends: Sequence[int], found: Mapping[str, pl.Series]) -> F_co:
        """What was found of stretches, behind their streams and the times of their first and last rows."""
        first, last = np.array(starts, np.int64), np.array(ends, np.int64)
        times = {name: self.source.own(self.time, rows) for name, rows in (("start", first), ("end", last))}
        return self.source.new({STREAM: self._streams(first), **times, **found})

    def _key_columns(self) -> list[str | None]:
        return [name for name in (self.stream, self.time) if self.source.is_column(name)]

    def _streams(self, rows: Int64s) -> Any:
        if self.stream is not None:
            return self.source.own(self.stream, rows)
        return pl.Series([self.series[0].key] * len(rows), dtype=pl.String)


def layout(time: str | None, stream: str | None, name: str, unit: str | None, order: str) -> Layout:
    """A layout as a person names it. Raises UnusableData."""
    if flaw := flaw_of(name.encode()):
        raise UnusableData(f"name={name!r} cannot be a stream's name: {flaw}")
    return Layout(
        time,
        stream,
        name,
        None if unit is None else _one_of(TimeUnit, "time_unit", unit),
        _one_of(Order, "order", order),
    )


def read(frame: F, given: Layout, features: Sequence[str] | None) -> Table[F]:
    """Take the readings out of a frame, checked. features: its channels; None: all columns of numbers but a few.

    Never channels: the columns of times and streams, `label` and `part` (rows with `test` are not trained on). A value
    that is NaN, infinite or missing is a missing one. Raises UnusableData.
    """
    source: Source[F] = _source(frame)
    if not source.rows:
        raise UnusableData("frame: no rows")
    time = _time_column(source, given.time)
    stream = given.stream
    if stream is None and STREAM in source.names:
        stream = STREAM
    elif stream is not None:
        _require(source, "stream", stream)
    channels = _channels(source, features, {time, stream})
    columns = {TIME: _times(source.column(time)), **{name: source.column(name) for name in channels}}
    if stream is not None:
        columns[STREAM] = source.column(stream)
    if PART in source.names:
        columns[PART] = source.column(PART)
    for name in channels:
        _check_range(name, columns[name])

    wording = Wording(
        time or "index",
        stream or STREAM,
        "time_unit='{}'",
        "pandas.to_datetime(…, format='{}') makes times of it",
        "make datetimes of it first",
    )
    table = pl.DataFrame([column.alias(name) for name, column in columns.items()])
    piece = FileCheck(FRAME, table.schema, channels, channels, FileOptions(unit=given.unit), wording).check(table)
    series = [
        _in_order(one, given, source.column(time), wording, stream) for one in by_stream(piece, FRAME, given.name)
    ]
    return Table(source, series, time, stream)


class _Polars:
    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self.names = frame.columns
        self.rows = len(frame)
        self.index_is_time = False

    def column(self, name: str | None) -> pl.Series:
        return self._frame[str(name)]

    def is_column(self, name: str | None) -> bool:
        return name is not None

    def own(self, name: str | None, rows: Int64s) -> pl.Series:
        return self._frame[str(name)].gather(rows)

    def new(self, columns: Mapping[str, Any]) -> pl.DataFrame:
        return pl.DataFrame(dict(columns))

    with_index = new


class _Pandas:
    """Columns, and the named levels of the index, which may hold the times or the streams."""

    def __init__(self, frame: Any) -> None:
        odd = next((name for name in frame.columns if not isinstance(name, str)), None)
        if odd is not None:
            raise UnusableData(
                f"frame: column {odd!r} is named by {type(odd).__name__}, expected text; "
                "frame.rename(columns=str) makes texts of such names"
            )
        if twice := frame.columns[frame.columns.duplicated()].tolist():
            raise UnusableData(f"frame: column {twice[0]} is there twice, expected each name once")
        self._frame = frame
        self.names = [*frame.columns, *(name for name in frame.index.names if name and name not in frame.columns)]
        self.rows = len(frame)
        self.index_is_time = getattr(frame.index.dtype, "kind", "") == "M"

    def column(self, name: str | None) -> pl.Series:
        return _from_pandas(self._series(name), name or "index")

    def is_column(self, name: str | None) -> bool:
        return name is not None and name in self._frame.columns

    def own(self, name: str | None, rows: Int64s) -> Any:
        return self._series(name).array.take(rows)

    def with_index(self, columns: Mapping[str, Any]) -> Any:
        return self._build(columns, self._frame.index)

    def new(self, columns: Mapping[str, Any]) -> Any:
        return self._build(columns, None)

    def _series(self, name: str | None) -> Any:
        index = self._frame.index
        if self.is_column(name):
            return self._frame[name]
        return (index if name is None else index.get_level_values(name)).to_series()

    def _build(self, columns: Mapping[str, Any], index: Any) -> Any:
        own = {name: _to_pandas(one) if isinstance(one, pl.Series) else one for name, one in columns.items()}
        return sys.modules["pandas"].DataFrame(own, index=index)


def _source(frame: Any) -> Source[Any]:
    if isinstance(frame, pl.DataFrame):
        return _Polars(frame)
    if "pandas" in sys.modules and isinstance(frame, sys.modules["pandas"].DataFrame):
        return _Pandas(frame)
    collect = "; .collect() makes one of it" if isinstance(frame, pl.LazyFrame) else ""
    raise UnusableData(f"found {type(frame).__name__}, expected a DataFrame of polars or pandas{collect}")


def _to_pandas(column: pl.Series) -> Any:
    """Text keeps its kind where there is none; everything else is numpy's."""
    if column.dtype == pl.String:
        return sys.modules["pandas"].Series(column.to_list(), dtype=str).array
    return column.to_numpy()


def _from_pandas(column: Any, name: str) -> pl.Series:
    """Through numpy where it can be, else value by value: no other library is needed."""
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M" and not type(column.dtype).__name__.startswith("Arrow"):
        zoned = getattr(column.dtype, "tz", None) is not None
        times = (column.dt.tz_convert(None) if zoned else column).to_numpy()
        if np.datetime_data(times.dtype)[0] not in ("ms", "us", "ns"):
            times = times.astype("datetime64[ms]")
        series = pl.Series(name, times)
        return series.dt.replace_time_zone("UTC") if zoned else series
    if isinstance(column.dtype, np.dtype) and kind in "iub":
        return pl.Series(name, column.to_numpy())
    if isinstance(column.dtype, np.dtype) and kind == "f":
        return pl.Series(name, column.to_numpy(np.float64))
    gone = column.isna().tolist()
    values = [None if missing else value for missing, value in zip(gone, column.tolist(), strict=True)]
    numbers = all(isinstance(value, int | float) for value in values if value is not None)
    mixed = numbers and len({type(value) for value in values if value is not None}) > 1
    try:
        return pl.Series(name, values, dtype=pl.Float64 if mixed else None)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise UnusableData(
            f"frame: column {name} holds {' and '.join(kinds)}, expected values of one kind: numbers, times or text"
        ) from error


def _time_column(source: Source[F], given: str | None) -> str | None:
    if given is not None:
        _require(source, "time", given)
        return given
    if TIME in source.names:
        return TIME
    if source.index_is_time:
        return None
    raise UnusableData(
        f"frame: no column `{TIME}`, found {', '.join(source.names)}; time='…' names the column with the times"
    )


def _require(source: Source[F], argument: str, name: str) -> None:
    if name not in source.names:
        raise UnusableData(f"frame: no column `{name}`, as {argument}={name!r} says; found {', '.join(source.names)}")


def _channels(source: Source[F], features: Sequence[str] | None, others: set[str | None]) -> list[str]:
    """The columns with values, which are numbers."""
    if features is None:
        channels = [name for name in source.names if name not in others and name not in NOT_FEATURES]
        if not channels:
            raise UnusableData(f"frame: no column with values beside {', '.join(source.names)}")
    else:
        channels = list(features)
        if missing := [name for name in channels if name not in source.names]:
            raise UnusableData(
                f"frame: no column `{missing[0]}`; expected the channels {', '.join(channels)}, "
                f"found {', '.join(source.names)}"
            )
        if reserved := [name for name in channels if name in others or name in NOT_FEATURES]:
            raise UnusableData(
                f"frame: column {reserved[0]} cannot be a channel: {', '.join(NOT_FEATURES)} and the columns of times "
                "and streams are none; rename it"
            )
    for name in channels:
        column = source.column(name)
        if column.dtype.is_numeric() or column.dtype == pl.Null:
            continue
        which = "; values=[…] names the columns with values" if features is None else ""
        raise UnusableData(f"frame: column {name} is {column.dtype}, expected numbers; first is {column[0]!r}{which}")
    return channels


def _check_range(name: str, column: pl.Series) -> None:
    values = column.cast(pl.Float64).to_numpy()
    far = np.flatnonzero(np.isfinite(values) & (np.abs(values) > MAX_VALUE))
    if len(far):
        raise UnusableData(
            f"frame: column {name}, row {far[0]} is {values[far[0]]:g}, expected at most {MAX_VALUE:g} either side of 0"
        )


def _times(column: pl.Series) -> pl.Series:
    return column.cast(pl.Datetime("ms")) if column.dtype == pl.Date else column


def _in_order(one: Series, given: Layout, times: pl.Series, wording: Wording, stream: str | None) -> Series:
    """The readings of a stream with rising times, or as they come where that was asked for."""
    if given.order is Order.SORT:
        return one.select(np.argsort(one.times_ms, kind="stable"))
    back = np.flatnonzero(np.diff(one.times_ms) <= 0)
    if len(back) and given.order is Order.CHECK:
        _refuse_order(one, int(back[0]) + 1, times, wording, stream)
    return one


def _refuse_order(one: Series, place: int, times: pl.Series, wording: Wording, stream: str | None) -> NoReturn:
    before, row = one.rows[place - 1 : place + 1].tolist()
    same = one.times_ms[place] == one.times_ms[place - 1]
    found = f"is that of row {before} too" if same else f"is before that of row {before}, {times[before]}"
    apart = "stream='…' names the column that tells streams apart; " if stream is None else ""
    raise UnusableData(
        f"frame: row {row}: {wording.time} {times[row]} {found}, both of stream {one.key}; expected times that rise in "
        f"a stream; {apart}order='sort' sorts them; order='keep' judges them as they come, as the service does, and "
        "leaves out those that are late or repeated"
    )


def _one_of(kind: type[E], argument: str, value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise UnusableData(
            f"{argument} is {value!r}, expected one of {', '.join(repr(one.value) for one in kind)}"
        ) from None


def times_column(times: Sequence[Any] | NDArray[Any]) -> pl.Series:
    """Times of single readings, as people have them, as a column. Raises UnusableData."""
    plain = [time.item() if isinstance(time, np.integer) else time for time in times]
    if plain and isinstance(plain[0], np.datetime64):
        return pl.Series(np.array(plain, "datetime64[ms]"))
    try:
        return pl.Series(plain)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise UnusableData(f"time is {plain[0]!r}, expected a datetime, milliseconds or RFC 3339 text") from error
