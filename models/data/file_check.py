"""The rows of a data file, checked: what is wrong with one is said with file, row and the option that helps."""

import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import numpy as np
import polars as pl

from models.data.arrays import Bools, Doubles, Int64s
from models.data.data_file import NOT_FEATURES
from models.data.errors import UnusableData
from models.data.file_options import AS_USUAL, FileOptions
from models.data.number_clocks import CLOCKS, SECONDS_OF_1970, NumberClock, clock_of
from models.data.stream_key import all_without_flaw, flaw_of
from models.data.text_files import stem_of
from models.data.time_texts import likely_formats, parsed
from models.data.time_units import (
    DAY_MS,
    MAX_TIMESTAMP_MS,
    TimeUnit,
    date_in_digits,
    flaw_of_clock,
    looks_like,
)

YEARS = 1980, 2100  # whole numbers that look like them
MOST_STEP_MS = 366 * DAY_MS  # of rows of a clock that counts more than milliseconds
WITH_YEAR = re.compile(r"%[-_0]?[YyGgCcDFxsv+]")


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
    digits: str = "--time-format '{}' reads it"
    clock: str = "--time-format {} reads it"  # of another program
    format_hint: Callable[[str], str] = lambda _: ""  # of a time in text that is not RFC 3339


def _format_hint(text: str) -> str:
    """Which option reads a text, or leaves its row out."""
    if forms := likely_formats(text):
        named = " or ".join(f"'{form}'" for form in forms)
        return f"; --time-format {named} {'reads it' if len(forms) == 1 else 'says which it is'}"
    if not any(sign.isdigit() for sign in text):
        return f"; --leave-out {shlex.quote(text)} leaves out lines that begin so"
    return "; --time-format says how it is written, such as '%d.%m.%Y %H:%M:%S'"


FILES = Wording(format_hint=_format_hint)


class FileCheck:
    """Checks the rows of one file, which come in one piece or in several; what is wrong names file and row."""

    def __init__(
        self,
        path: Path,
        columns: pl.Schema,
        empty: Collection[str],
        features: Sequence[str] | None,
        options: FileOptions = AS_USUAL,
        wording: Wording = FILES,
    ) -> None:
        """columns: of the whole file. empty: those without any value. features: expected; None: what there is."""
        if "timestamp" not in columns:
            raise UnusableData(f"{path}: no column `timestamp`, found {', '.join(columns)}")
        if "stream" not in columns and (flaw := flaw_of(os.fsencode(stem_of(path)))):
            raise UnusableData(f"{path}: its name cannot be that of its stream: {flaw}")
        self.path = path
        self.features = _features(path, columns, empty, features)
        self._begin = 0
        self._zoned: bool | None = None
        self._unit = options.unit
        self._format, self._zone = options.time_format, options.zone
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
        if self._format in CLOCKS:
            times = self._by_clock(column, CLOCKS[self._format]).dt.epoch("ms")
        elif column.dtype.is_integer() and self._format is not None:
            times = self._parse_format(column.cast(pl.String), self._format).dt.epoch("ms")
        elif column.dtype.is_integer() or column.dtype.is_float():
            times = self._in_milliseconds(column)
        elif column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
            times = self._with_zone(column.cast(pl.Datetime("ms")) if column.dtype == pl.Date else column).dt.epoch(
                "ms"
            )
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
                self._check_clock(column)
            if self._unit is None:
                self._refuse_kind(column.dtype, f"; {self._wording.unit.format('ms')} reads numbers with fractions")
            return (column.cast(pl.Float64) * 1000 / unit.per_second).round()
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count():
            place = int(whole.is_null().arg_max() or 0)
            self._refuse_unit(column[place], place, unit)
        self._check_unit(whole.to_numpy(), unit)
        if self._unit is None and not self._begin:
            self._check_digits(whole)
        return whole * 1000 if unit == TimeUnit.S else whole // (unit.per_second // 1000)

    def _check_unit(self, numbers: Int64s | Doubles, unit: TimeUnit) -> None:
        """Refuse numbers that are times of today in another unit, or of after the year 9999 in this one."""
        late = np.flatnonzero(numbers > min(MAX_TIMESTAMP_MS * unit.per_second // 1000, 2**63 - 1))
        if len(late):
            self._refuse_unit(numbers[late[0]].item(), int(late[0]), unit)
        if unit == TimeUnit.S and not self._begin and len(numbers) and numbers.min() >= SECONDS_OF_1970:
            self._refuse_unit(numbers[0].item(), 0, unit)
        shorter = [] if self._unit == TimeUnit.MS else [one for one in TimeUnit if one.per_second < unit.per_second]
        for other in shorter:
            first, end = other.window
            within = np.flatnonzero((numbers >= first) & (numbers < end))
            before = self._before[other] = max(self._before.get(other, -1), numbers[numbers < first].max(initial=-1))
            # A clock that begins at zero passes through such numbers, but does not leap into them.
            if len(within) and 2 * before < numbers[within].min():
                self._refuse_unit(numbers[within[0]].item(), int(within[0]), unit)

    def _check_clock(self, numbers: pl.Series) -> None:
        """Refuse numbers that are all times by the same other clock."""
        low, high = numbers.min(), numbers.max()
        name = clock_of(low)  # type: ignore[arg-type]
        if name is not None and name == clock_of(high):  # type: ignore[arg-type]
            raise UnusableData(
                f"{self.path}: row {self._begin}: {self._wording.time} {numbers[0]} looks like {CLOCKS[name].word}, "
                f"expected milliseconds, a datetime or RFC 3339 text; {self._wording.clock.format(name)}; a clock that "
                f"begins at zero is read by {self._wording.unit.format('ms')}"
            )

    def _check_digits(self, numbers: pl.Series) -> None:
        """Refuse whole numbers that are all dates in digits, years, or times by another clock.

        A clock that begins at zero passes through small ones, but with longer steps.
        """
        form = date_in_digits(numbers[0]) if len(numbers) else None
        if form is not None and not parsed(numbers.cast(pl.String), form).null_count():
            raise UnusableData(
                f"{self.path}: row 0: {self._wording.time} {numbers[0]} looks like a date in digits, expected "
                f"milliseconds; {self._wording.digits.format(form)}; a clock that begins at zero is read by "
                f"{self._wording.unit.format('ms')}"
            )
        name = clock_of(numbers[0]) if len(numbers) > 1 else None
        steps = numbers.diff().drop_nulls().abs()
        if name is not None and (steps * CLOCKS[name].ms <= MOST_STEP_MS * CLOCKS[name].parts).all():
            self._check_clock(numbers)
        if len(numbers) > 1 and numbers.is_between(*YEARS).all() and (steps <= 1).all():
            raise UnusableData(
                f"{self.path}: row {self._begin}: {self._wording.time} {numbers[0]} looks like a year, expected "
                f"milliseconds, a datetime or RFC 3339 text; a clock that begins at zero is read by "
                f"{self._wording.unit.format('ms')}"
            )

    def _refuse_unit(self, number: float, place: int, unit: TimeUnit) -> NoReturn:
        where = f"{self.path}: row {self._begin + place}: {self._wording.time} {number}"
        likely = looks_like(number)
        name = clock_of(number) if likely in (None, TimeUnit.S) else None
        if name is not None:
            raise UnusableData(
                f"{where} looks like {CLOCKS[name].word}, expected {unit.word}; {self._wording.clock.format(name)}"
            )
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
        """Text with an offset from UTC, or without one: then it is of the zone; the same in all of the file."""
        if self._format is not None:
            return self._parse_format(column, self._format)
        text = _as_rfc3339(column)
        with_offset = text.str.contains(r"(?:[zZ]|[+-]\d\d:?\d\d)$")
        if self._zoned is None:
            self._zoned = bool(with_offset.all())
        elif self._zoned and not with_offset.all():
            self._refuse_time(column, int((~with_offset).arg_max() or 0))
        try:
            found = text.str.to_datetime(time_unit="ms", time_zone="UTC" if self._zoned else None, strict=False)
        except pl.exceptions.PolarsError:  # it finds no format that fits any of them
            found = pl.Series([None] * len(column), dtype=pl.Datetime("ms"))
        if found.null_count():
            self._refuse_time(column, int(found.is_null().arg_max() or 0))
        return self._with_zone(found)

    def _parse_format(self, column: pl.Series, form: str) -> pl.Series:
        if flaw := flaw_of_clock(form, self._zone):
            zone = "; --times-in names it" if "%Z" in form and self._zone is None else ""
            raise UnusableData(f"--time-format is {form!r}, expected {flaw}{zone}")
        if not WITH_YEAR.search(form):
            raise UnusableData(f"--time-format is {form!r}, expected a format with a year")
        try:
            times = parsed(column, form)
        except pl.exceptions.PolarsError:
            raise UnusableData(f"--time-format is {form!r}, expected one such as '%d.%m.%Y %H:%M:%S'") from None
        if times.null_count():
            place = int(times.is_null().arg_max() or 0)
            raise UnusableData(
                f"{self.path}: row {self._begin + place}: {self._wording.time} {column[place]!r}, expected {form}; "
                "--time-format names another"
            )
        return self._as_named(column, times) if "%Z" in form else self._with_zone(times)

    def _as_named(self, column: pl.Series, times: pl.Series) -> pl.Series:
        """Of text with the name of the zone's time, such as CET and CEST, which says which of two times is meant."""
        first, second = self._with_zone(times, "earliest"), self._with_zone(times, "latest")
        is_first, is_second = self._is_named(column, first), self._is_named(column, second)
        bad = ~(is_first | is_second)
        if bad.any():
            place = int(bad.arg_max() or 0)
            raise UnusableData(
                f"{self.path}: row {self._begin + place}: {self._wording.time} {column[place]!r}, expected the name "
                f"that this time has in {self._zone}: {first.dt.strftime('%Z')[place]}; --times-in names another zone"
            )
        return first.zip_with(is_first, second)

    def _is_named(self, column: pl.Series, times: pl.Series) -> pl.Series:
        """(N,) whether the text has the name of the time."""
        found = pl.repeat(value=False, n=len(column), eager=True)
        names = times.dt.strftime("%Z")
        for name in names.unique().to_list():
            within = column.str.contains(rf"(?:^|[^A-Za-z]){re.escape(name)}(?:$|[^A-Za-z])")
            found |= within & (names == name)
        return found

    def _by_clock(self, column: pl.Series, clock: NumberClock) -> pl.Series:
        numbers = _as_whole_or_float(column)
        least, most = (
            -clock.zero_ms * clock.parts // clock.ms,
            (MAX_TIMESTAMP_MS - clock.zero_ms) * clock.parts // clock.ms,
        )
        bad = (numbers.is_null() | ~numbers.is_between(least, most)).fill_null(value=True)
        if bad.any():
            place = int(bad.arg_max() or 0)
            raise UnusableData(
                f"{self.path}: row {self._begin + place}: {self._wording.time} {column[place]!r}, expected "
                f"{clock.word}, as --time-format {self._format} says"
            )
        if numbers.dtype.is_integer():
            found = numbers * clock.ms // clock.parts
        else:
            found = (numbers * clock.ms / clock.parts).round().cast(pl.Int64)
        times = (found + clock.zero_ms).cast(pl.Datetime("ms"))
        return self._with_zone(times) if clock.on_the_wall else times

    def _with_zone(self, times: pl.Series, ambiguous: Literal["earliest", "latest"] = "earliest") -> pl.Series:
        """Times without a zone are of the one that was named. ambiguous: of an hour that is there twice."""
        if self._zone is None or not isinstance(times.dtype, pl.Datetime) or times.dtype.time_zone is not None:
            return times
        zoned = times.dt.replace_time_zone(self._zone, ambiguous=ambiguous, non_existent="null")
        if zoned.null_count():
            place = int(zoned.is_null().arg_max() or 0)
            raise UnusableData(
                f"{self.path}: row {self._begin + place}: {self._wording.time} {times[place]} is in the hour that the "
                f"clocks of {self._zone} leave out, expected a time that there is; --times-in names another zone"
            )
        return zoned

    def _refuse_time(self, column: pl.Series, place: int) -> NoReturn:
        raise UnusableData(
            f"{self.path}: row {self._begin + place}: {self._wording.time} {column[place]!r},"
            f" expected RFC 3339 such as 2026-01-31T23:59:00Z{self._wording.format_hint(column[place])}"
        )

    def _first(self, found: pl.Series) -> int:
        return self._begin + int(found.arg_max() or 0)


def _as_whole_or_float(column: pl.Series) -> pl.Series:
    """Numbers, in text too, with a point or a comma; null where there is none."""
    if column.dtype == pl.String:
        text = column.str.strip_chars().str.replace(",", ".", literal=True)
        whole = text.cast(pl.Int64, strict=False)
        return whole if not whole.null_count() else text.cast(pl.Float64, strict=False)
    return column.cast(pl.Int64 if column.dtype.is_integer() else pl.Float64, strict=False)


def _as_rfc3339(column: pl.Series) -> pl.Series:
    """Usual variants, as it has them: a date alone, no seconds, a space before the zone, UTC, an offset of hours."""
    text = column.str.strip_chars().str.replace(r"\s*(?:UTC|GMT)$", "Z").str.replace(r"\s+([+-]\d\d:?\d*)$", "${1}")
    text = text.str.replace(r"(\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?[+-]\d\d)$", "${1}:00")
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
    return text.str.replace(r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d)(|[zZ]|[+-]\d\d:?\d\d)$", "${1}:00${2}")


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
