"""Data files as people have them, as tables with Telltale's columns: whatever `raw_table` reads.

What a file leaves open is found out where that is safe, and noted; what is not safe is refused with the option that
settles it. Rows are counted from 0, below the header.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import polars as pl

from models.data.column_values import (
    as_numbers,
    converted,
    date_format,
    decimal_in,
    holds_times,
    missing_numbers,
    unit_in,
    without_unit,
    without_words,
)
from models.data.errors import UnusableData
from models.data.file_options import FileOptions
from models.data.number_clocks import CLOCKS
from models.data.raw_table import RawTable, in_memory, raw_table
from models.data.text_files import SAMPLE_LINES
from models.data.time_units import TimeUnit

NOT_FEATURES = ("timestamp", "stream", "label", "part")
TIME_NAMES = ("timestamp", "time", "datetime", "date_time", "date time", "date", "ts")
LABELS = ("anomaly", "is_anomaly", "label", "labels", "changepoint", "attack", "fault", "outlier", "target", "class")
QUALITIES = ("quality", "status", "validity", "valid", "good", "qc", "q", "flag", "statuscode", "opcquality")
MOST_FLAGS = 4  # that a column of them holds
INDEXES = (
    *("", "index", "idx", "id", "row", "row_id", "unnamed: 0", "no", "nr", "no.", "nr.", "#", "n", "seq", "sequence"),
    *("record", "recnbr", "recno", "record number", "sample", "scan", "reading", "count", "counter", "lfd", "lfd. nr."),
)
TIME_WORDS, LEAST_TIME = frozenset((*TIME_NAMES, "epoch", "unixtime")), 1e8  # of columns that hold times as numbers
UNIT_IN_NAME = re.compile(r"[\[(_ ]\s*(s|sec|seconds|ms|us|µs|ns)\s*[\])]?$", re.IGNORECASE)
COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")  # a number with a decimal comma
OFFSET_IN_NAME = re.compile(r"(?:UTC|GMT)\s*([+-]\d{1,2})(?::?(\d\d))?", re.IGNORECASE)
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "seconds"), TimeUnit.S),
    "ms": TimeUnit.MS,
    "us": TimeUnit.US,
    "µs": TimeUnit.US,
    "ns": TimeUnit.NS,
}
METRIC_NAMES = (
    *("metric", "sensor", "name", "variable", "tag", "channel", "measurement", "parameter"),
    *("_field", "field", "tagname", "varname", "signal"),
)
VALUE_NAMES = ("value", "_value", "varvalue", "val")  # of the values that such a column names
SENTINELS = (-9999.0, -999.0, -99999.0, -32768.0, 9999.0, 32767.0, 65535.0, 99999.0, 999999.0, 9.9e37)
FAR = 5  # times the other values' range, or the largest of them, that a sentinel is away from them
NEAR = 1e-3  # of a sentinel


class DataFile(NamedTuple):
    """A data file before its rows are read."""

    path: Path
    columns: pl.Schema  # as `frames` has them
    empty: tuple[str, ...]  # columns without any value
    rows: int
    frames: Callable[[int], Iterator[pl.DataFrame]]  # all rows, about that many at once
    time_format: str | None  # of times that are text
    notes: tuple[str, ...]  # what was found out, or is doubtful, for people


def look(path: Path, options: FileOptions, features: Sequence[str] | None) -> DataFile:
    """Find out what is in a file. features: its channels; None: all columns of numbers. Raises UnusableData.

    Everything is read, to find out what its columns are.
    """
    raw, joined = _with_one_time(raw_table(path, options), options.time_column)
    raw = _without_bad(path, raw, options, features, joined)
    raw = _long_as_wide(path, raw, options)
    time = joined or _time_column(path, raw, options.time_column)
    stream = _stream_column(path, raw.names, options.stream_column)
    renamed = {time: "timestamp", **({stream: "stream"} if stream else {})}
    for name in renamed.values():
        if name in raw.names and name not in renamed:
            renamed[name] = f"{name} "  # another column was named in its place
    names = [renamed.get(name, name) for name in raw.names]
    notes = list(raw.notes)
    if time != "timestamp" and options.time_column is None:
        notes.append(f"times in column {time or '(no name)'}")
    survey = _Survey(path, names, options, features, raw.comma_apart)
    for frame in raw.frames(max(1, _SURVEYED // len(names))):
        survey.add(frame.rename(renamed))
    if not survey.rows:
        raise UnusableData(f"{path}: no rows")
    _check_time_column(path, time, raw.units.get(time, ""), survey, options)
    missing = missing_numbers(options.missing)
    time_format = options.time_format or survey.time_format
    if time_format and not options.time_format:
        notes.append(f"times are {time_format}")
    if survey.without_zone and options.zone is None:
        notes.append("times without a zone are read as UTC, --times-in names another")
    if survey.is_of_1970 and options.unit is None and not time_format:
        notes.append("times are milliseconds from 1970 on, --time-unit or --time-format says what they are else")
    if survey.leaps_from_1970:
        notes.append(
            "some times are of 1970, as of a clock that was not set, others of today: --leave-out leaves out such lines"
        )
    if survey.decimal == "," and options.decimal is None:
        notes.append("decimal comma")
    numbers, empty = survey.numbers(), survey.empty()
    notes += survey.doubts(numbers)
    whole = survey.whole_times

    def frames(rows: int) -> Iterator[pl.DataFrame]:
        for frame in raw.frames(rows):
            yield converted(frame.rename(renamed), numbers, survey.decimal, options, missing, survey.units, whole)

    columns = survey.schema(numbers)
    return DataFile(path, columns, empty, survey.rows, frames, time_format, tuple(notes))


_SURVEYED = 2 * 1024 * 1024  # values at once


def _with_one_time(raw: RawTable, given: str | None) -> tuple[RawTable, str | None]:
    """Where two columns are named as that of the times: with one in their place, and its name."""
    both = [name.strip() for name in (given or "").split(",")]
    if given in raw.names or len(both) < 2 or not set(both) <= set(raw.names):
        return raw, None
    joined = " ".join(both)

    def frames(rows: int) -> Iterator[pl.DataFrame]:
        for frame in raw.frames(rows):
            texts = [_as_text(frame[name]).str.strip_chars().alias(name) for name in both]
            time = pl.select(pl.concat_str(texts, separator=" ").alias(joined)).to_series()
            yield frame.drop(both).insert_column(0, time)

    names = (joined, *(name for name in raw.names if name not in both))
    return raw._replace(names=names, frames=frames), joined


def _as_text(column: pl.Series) -> pl.Series:
    """Of a part of times; of a date that a spreadsheet keeps as a midnight, the date."""
    is_date = isinstance(column.dtype, pl.Datetime) and (column.dt.truncate("1d") == column).all()
    return column.cast(pl.Date if is_date else pl.String).cast(pl.String)


def _without_bad(
    path: Path, raw: RawTable, options: FileOptions, features: Sequence[str] | None, time: str | None
) -> RawTable:
    """Without values whose flag is there and is none of the good ones, and without the flags."""
    if not options.quality_column:
        return raw
    if not options.good:
        raise UnusableData("--quality-column is given, expected --good too, with the flags of good values")
    flags = [_flag_and_channel(path, raw.names, one) for one in options.quality_column]
    beside = {flag for flag, _ in flags}
    time = time or _time_column(path, raw, options.time_column)
    reserved = {
        time,
        options.name_column,
        _stream_column(path, raw.names, options.stream_column),
        *NOT_FEATURES,
        *beside,
    }
    values = (
        [options.value_column] if options.name_column else features or [one for one in raw.names if one not in reserved]
    )
    good = [one.strip().lower() for one in options.good]
    numbers = missing_numbers(options.good)

    def frames(rows: int) -> Iterator[pl.DataFrame]:
        for frame in raw.frames(rows):
            marked = frame
            for flag, channel in flags:
                text = frame[flag].cast(pl.String).str.strip_chars()
                is_good = text.str.to_lowercase().is_in(good) | text.cast(pl.Float64, strict=False).is_in(numbers)
                bad = ~is_good.fill_null(value=False) & (text.fill_null("") != "")
                for name in [channel] if channel else [one for one in values if one in raw.names]:
                    marked = marked.with_columns(pl.when(bad).then(None).otherwise(pl.col(name)).alias(name))
            yield marked.drop(beside)

    note = f"values are missing where {' or '.join(flag for flag, _ in flags)} is not {' or '.join(options.good)}"
    names = tuple(name for name in raw.names if name not in beside)
    return raw._replace(names=names, frames=frames, notes=(*raw.notes, note))


def _flag_and_channel(path: Path, names: Sequence[str], given: str) -> tuple[str, str | None]:
    """The column of the flags, and whose they are; None: of all of the row."""
    channel, _, flag = given.partition("=")
    if given in names or not flag:
        _require(path, names, given, "--quality-column")
        return given, None
    _require(path, names, channel, "--quality-column")
    _require(path, names, flag, "--quality-column")
    return flag, channel


def _long_as_wide(path: Path, raw: RawTable, options: FileOptions) -> RawTable:
    """One value a row, as a row for all values of one time and stream. All of it is in memory meanwhile."""
    name, value = options.name_column, options.value_column
    if name is None:
        return raw
    for column, option in ((name, "--name-column"), (value, "--value-column")):
        _require(path, raw.names, column, option)
    frame = pl.concat(list(raw.frames(_SURVEYED)))
    index, beside = _keys_of_rows(path, raw, frame, options)
    if empty := frame[name].is_null().arg_true().to_list():
        raise UnusableData(f"{path}: row {empty[0]} has no {name}, expected the name of its value")
    twice = frame.select(pl.struct([*index, name]).is_first_distinct().not_()).to_series().arg_true().to_list()
    if twice:
        raise UnusableData(
            f"{path}: row {twice[0]}: {frame[name][twice[0]]} is there a second time with the same "
            f"{', '.join(index)}, expected one value of each name"
        )
    wide = frame.pivot(name, index=index, values=value, maintain_order=True)
    notes = [f"one value a row, named by {name}: {', '.join(wide.columns[len(index) :])}"]
    if beside:
        notes.append(f"left out, as each value has one of its own: {', '.join(map(shown_name, beside))}")
    return in_memory(wide, (*raw.notes, *notes))._replace(comma_apart=raw.comma_apart)


def _keys_of_rows(path: Path, raw: RawTable, frame: pl.DataFrame, options: FileOptions) -> tuple[list[str], list[str]]:
    """The columns that say which values belong together, and those that say something of each value alone."""
    rest = [column for column in frame.columns if column not in (options.name_column, options.value_column)]
    stream = _stream_column(path, raw.names, options.stream_column)
    time = _time_column(path, raw._replace(names=tuple(rest)), options.time_column)
    keys = [one for one in rest if one in (time, stream)]
    beside = [one for one in rest if one not in keys]
    several = frame.group_by(keys).agg(pl.col(beside).n_unique()).select(pl.col(beside).max()) if beside else frame
    alone = [one for one in beside if several[one][0] > 1]
    return [one for one in rest if one not in alone], alone


def _in_words(kind: pl.DataType | None) -> str:
    """What a column holds that are no numbers."""
    if kind is None or kind in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "lists" if kind.is_nested() else "durations" if kind == pl.Duration else f"{kind}".lower()


def _shown(value: object) -> str:
    return repr(value.to_list() if isinstance(value, pl.Series) else value)[:80]


def _is_quality(name: str) -> bool:
    return re.split(r"[ ._-]+", name.strip().lower())[-1] in QUALITIES


def _quality_hint(name: str) -> str:
    return f": --quality-column '{name}' --good FLAG makes values missing that are not good"


def shown_name(name: str) -> str:
    return name or "(no name)"


def _require(path: Path, names: Sequence[str], column: str, option: str) -> None:
    if column not in names:
        raise UnusableData(f"{path}: no column `{column}`, as {option} says; found {', '.join(names)}")


def _time_column(path: Path, raw: RawTable, given: str | None) -> str:
    """The one that is named so, else the only one that holds times."""
    names = raw.names
    if given is not None:
        _require(path, names, given, "--time-column")
        return given
    if "timestamp" in names:
        return "timestamp"
    found = [name for name in names if name.lower() in TIME_NAMES]
    first = pl.DataFrame() if found else next(raw.frames(SAMPLE_LINES), pl.DataFrame()).head(SAMPLE_LINES)
    holding = found or [one.name for one in first.iter_columns() if holds_times(one)]
    if len(holding) == 1:
        return holding[0]
    several = f", and {' and '.join(holding)} may each be it" if holding else ""
    join = f", --time-column {','.join(holding)} joins them" if len(holding) == 2 else ""
    if len(names) == 1:
        join = ", --separator says what is between its cells"
    raise UnusableData(
        f"{path}: no column `timestamp`, found {', '.join(map(shown_name, names))}{several}; --time-column names the "
        f"one with the times{join}"
    )


def _check_time_column(path: Path, time: str, unit: str, survey: "_Survey", options: FileOptions) -> None:
    """Refuse times of which the header, or the row of units below it, says what no option does."""
    word = UNIT_IN_NAME.search(unit or time)
    says = TIME_UNITS.get((word[1] if word else unit.strip()).lower())
    if survey.times_are_numbers and options.unit is None and says is not None and says != TimeUnit.MS:
        raise UnusableData(
            f"{path}: column {time} has times in {says.word}, as its header says, expected milliseconds; --time-unit "
            f"{says} reads them"
        )
    offset = OFFSET_IN_NAME.search(time)
    hours, minutes = (int(offset[1]), int(offset[2] or 0)) if offset else (0, 0)
    if (hours or minutes) and survey.without_zone and options.zone is None:
        # The signs of these zones are the other way round, and none has half an hour.
        reads = "names a zone that has it" if minutes else f"Etc/GMT{-hours:+d} reads them"
        raise UnusableData(f"{path}: column {time} names an offset from UTC, its times have none; --times-in {reads}")


def _stream_column(path: Path, names: Sequence[str], given: str | None) -> str | None:
    if given is not None:
        _require(path, names, given, "--stream-column")
        return given
    return "stream" if "stream" in names else None


class _Column:
    """What was found in a column that may be a channel."""

    def __init__(self) -> None:
        self.kind: pl.DataType | None = None
        self.present = self.numbers = self.infinite = 0
        self.bad: tuple[int, object] | None = None  # the first that is no number: row and value
        self.unit: str | None = None  # which stands behind each number; empty: none; None: no value seen
        self.switches = True  # whether all that is no number is true or false
        self.zeros_and_ones = True
        self.flags: set[float] = set()  # values, as long as they are whole and few
        self.counts_rows = self.rises = True
        self.last: float | None = None
        self.low, self.high = math.inf, -math.inf  # of what is not near a sentinel
        self.sentinels: Counter[float] = Counter()

    def add(self, raw: pl.Series, present: pl.Series, numbers: pl.Series, begin: int) -> None:
        self.kind = raw.dtype
        bad = present & numbers.is_null()
        self.present += int(present.sum())
        self.numbers += int((present & numbers.is_not_null()).sum())
        if bad.any():
            first = int(bad.arg_max() or 0)
            self.bad = self.bad or (begin + first, raw[first])
            self.switches &= raw.dtype == pl.Boolean or (
                raw.dtype == pl.String and bool(raw.filter(bad).str.to_lowercase().is_in(["true", "false"]).all())
            )
        values = numbers.drop_nulls().to_numpy()
        self.infinite += int(np.isinf(values).sum())
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.zeros_and_ones &= bool(np.isin(values, (0, 1)).all())
        if len(self.flags) <= MOST_FLAGS:
            self.flags |= {*np.unique(values)[: MOST_FLAGS + 1].tolist()}
        steps = np.diff(values if self.last is None else np.append(self.last, values))
        self.rises &= bool((steps > 0).all()) and len(values) == len(raw)
        self.counts_rows &= self.rises and bool((steps == 1).all())
        self.last = float(values[-1])
        self.sentinels.update(values[np.isin(values, SENTINELS)].tolist())
        near = np.zeros(len(values), bool)  # such as a sentinel that an offset was added to
        for sentinel in SENTINELS:
            near |= np.abs(values - sentinel) <= NEAR * abs(sentinel)
        if not near.all():
            self.low = min(self.low, float(values[~near].min()))
            self.high = max(self.high, float(values[~near].max()))

    def far_sentinels(self) -> dict[float, int]:
        """Those far from all other values."""
        if self.low > self.high:
            return {}
        room = FAR * max(self.high - self.low, abs(self.high), abs(self.low))
        return {
            value: count
            for value, count in self.sentinels.items()
            if value < self.low - room or value > self.high + room
        }


class _Survey:
    """Looks at all rows of a file once, for what its columns are."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        options: FileOptions,
        features: Sequence[str] | None,
        comma_apart: bool,
    ) -> None:
        """comma_apart: whether cells are parted by commas."""
        self.rows = 0
        self.decimal = options.decimal
        self.time_format: str | None = None
        self.whole_times: pl.DataType | None = None  # of times that are numbers, in text
        self._path = path
        self._options = options
        self._features = features
        self._comma_apart = comma_apart
        self._names = names
        self._columns = {name: _Column() for name in names if name not in NOT_FEATURES}
        self._kinds: dict[str, pl.DataType] = {}
        self.times_are_numbers = False
        self._earliest_time, self._latest_time = math.inf, -math.inf  # of those
        self.without_zone = False  # whether times are text or datetimes that name none
        self._missing = missing_numbers(options.missing)
        self._words: dict[str, None] = {}  # that count as missing, of those in the file

    def add(self, frame: pl.DataFrame) -> None:
        bare = {name: self._bare(column, frame[name]) for name, column in self._columns.items()}
        if self.decimal is None:
            text = pl.DataFrame([one for one in bare.values() if one.dtype == pl.String])
            self.decimal = decimal_in(self._path, text, self._comma_apart)
        self._look_at_times(frame["timestamp"])
        self._kinds = dict(frame.schema)
        for name, column in self._columns.items():
            numbers = as_numbers(bare[name], self.decimal, self._missing)
            column.add(frame[name], bare[name].is_not_null(), numbers, self.rows)
        self.rows += len(frame)

    def _bare(self, column: _Column, raw: pl.Series) -> pl.Series:
        """Text without words for no value, which are noted, and without the unit of all numbers of the first piece."""
        if raw.dtype != pl.String:
            return raw
        text = without_words(raw, self._options)
        gone = raw.filter(raw.is_not_null() & text.is_null()).unique().to_list()
        self._words |= dict.fromkeys(word for word in gone if word.strip())
        if column.unit is None and text.null_count() < len(text):
            column.unit = unit_in(text)
        return without_unit(text, column.unit or "")

    @property
    def units(self) -> dict[str, str]:
        """Of the columns behind whose numbers one stands."""
        return {name: column.unit for name, column in self._columns.items() if column.unit}

    def numbers(self) -> list[str]:
        """The columns that are, or may be, channels. Raises UnusableData where it is in doubt which."""
        good = [name for name, column in self._columns.items() if column.numbers == column.present]
        for name, column in self._columns.items():
            wanted = self._features is None or name in self._features
            is_named = self._features is not None and wanted and not column.switches
            if column.bad and wanted and (is_named or column.numbers >= column.present / 2):
                self._refuse_value(name, *column.bad, column.unit or "")
        if self._features is not None:
            switches = [name for name, one in self._columns.items() if one.bad and one.switches]
            return [*good, *(name for name in self._features if name in switches)] if self._features else []
        likely = [name for name in good if name and self._columns[name].present and not self._doubtful(name)]
        named = f"--features {','.join(likely) or 'A,B,C'}"
        for name, column in self._columns.items():
            if column.bad:
                self._refuse_text(name, column, named)
        for name in good:
            if doubt := self._doubtful(name):
                raise UnusableData(f"{self._path}: column {shown_name(name)} {doubt}; {named} names the channels")
            if not name.isprintable() or '"' in name or "\\" in name:
                raise UnusableData(
                    f"{self._path}: column {name!r}: expected a name of a channel without quotes, backslashes and "
                    f"control characters; --columns A,B,C names all {len(self._names)} columns by their place"
                )
        return good

    def empty(self) -> tuple[str, ...]:
        return tuple(name for name, column in self._columns.items() if not column.present)

    def schema(self, numbers: Sequence[str]) -> pl.Schema:
        kinds = dict(self._kinds)
        for name in numbers:
            kinds[name] = kinds[name] if kinds[name].is_numeric() else pl.Float64()
        return pl.Schema(kinds or dict.fromkeys(self._names, pl.String()))

    def doubts(self, numbers: Sequence[str]) -> list[str]:
        """What people should know of the values that are read."""
        found = [f"{', '.join(map(repr, self._words))} read as missing"] if self._words else []
        if behind := [f"{name} in {unit}" for name, unit in self.units.items() if name in numbers]:
            found.append(f"values have units: {', '.join(behind)}")
        if self._features is not None:
            flags = [one for one in self._names if _is_quality(one) and one not in self._features]
            found += [f"column {one} is not looked at{_quality_hint(one)}" for one in flags]
        if self._features is None:
            found += [f"column {name} has no value" for name in self.empty()]
        for name in numbers:
            if self._features is not None and name not in self._features:
                continue
            if infinite := self._columns[name].infinite:
                found.append(f"column {name} is infinite in {infinite:,} of {self.rows:,} rows, read as missing")
            for value, count in self._columns[name].far_sentinels().items():
                found.append(
                    f"column {name} is {value:g} in {count:,} of {self.rows:,} rows, far from its other values: if "
                    f"that means that there is no value, --missing={value:g} says so"
                )
        return found

    def _doubtful(self, name: str) -> str:
        column = self._columns[name]
        if name.strip().lower() in LABELS and column.zeros_and_ones and column.present:
            return "holds 0 and 1 and looks like a label, which a net must not learn"
        words = re.split(r"[ ._-]+", name.strip().lower())
        if _is_quality(name) and 0 < len(column.flags) <= MOST_FLAGS and all(map(float.is_integer, column.flags)):
            flags = ", ".join(f"{one:g}" for one in sorted(column.flags))
            return f"holds {flags} alone and looks like a quality flag, which is no sensor{_quality_hint(name)}"
        if column.rises and column.present > 1 and column.low >= LEAST_TIME and not TIME_WORDS.isdisjoint(words):
            return "rises with each row and looks like a time, which is no sensor"
        if name.strip().lower() in INDEXES and column.counts_rows and column.present > 1:
            return "counts the rows and looks like an index, which is no sensor"
        return ""

    def _refuse_value(self, name: str, row: int, value: object, unit: str) -> NoReturn:
        comma = isinstance(value, str) and COMMA.fullmatch(value)
        helps = f"--missing='{value}' reads it as missing, --word '{value}=1' as a number"
        if comma:
            helps = "--decimal , reads it"
        elif not isinstance(value, str):
            helps = "--features names other channels"
        expected = f"a number in {unit}" if unit else "a number"
        raise UnusableData(f"{self._path}: column {name}, row {row} is {_shown(value)}, expected {expected}; {helps}")

    def _refuse_text(self, name: str, column: _Column, named: str) -> NoReturn:
        row, value = column.bad or (0, None)
        kind = "Boolean" if column.switches else _in_words(column.kind)
        more = ""
        if isinstance(value, str) and COMMA.fullmatch(value):
            more = "; --decimal , reads it"
        elif kind == "text":
            more = f"; --stream-column '{name}' if it names the streams"
            more += f"; {_quality_hint(name)[2:]}" if _is_quality(name) else ""
            more += f"; --word '{value}=1' makes a number of it" if str(value).isalnum() else ""
            names = [one for one, found in self._columns.items() if found.bad and one.lower() in METRIC_NAMES]
            values = [one for one in self._columns if one.lower() in VALUE_NAMES]
            if names and values:
                of = "" if values[0] == self._options.value_column else f" --value-column {values[0]}"
                more += f"; --name-column {names[0]}{of} if it says what each row's value is"
        raise UnusableData(
            f"{self._path}: column {name} is {kind}, expected numbers; row {row} is {_shown(value)}; "
            f"{named} names the channels{more}"
        )

    @property
    def is_of_1970(self) -> bool:
        """Whether its times are numbers that are none of after 1979 as milliseconds."""
        return self.times_are_numbers and self._latest_time < TimeUnit.MS.window[0]

    @property
    def leaps_from_1970(self) -> bool:
        """Whether some of its times are zero or little more, as of a clock that was not set, and some of today."""
        first, end = (self._options.unit or TimeUnit.MS).window
        is_number = self.times_are_numbers and self._options.time_format is None
        return is_number and self._earliest_time < first / 100 and first <= self._latest_time < end

    def _note_bounds(self, times: pl.Series) -> None:
        earliest, latest = (times.min(), times.max()) if times.dtype.is_numeric() else (None, None)
        if isinstance(earliest, int | float) and isinstance(latest, int | float):
            self._earliest_time = min(self._earliest_time, earliest)
            self._latest_time = max(self._latest_time, latest)

    def _look_at_times(self, column: pl.Series) -> None:
        if isinstance(column.dtype, pl.Datetime):
            self.without_zone = column.dtype.time_zone is None
        clock = CLOCKS.get(self._options.time_format or "")
        self.without_zone |= clock is not None and clock.on_the_wall
        self.times_are_numbers |= column.dtype.is_numeric()
        self._note_bounds(column)
        if column.dtype != pl.String:
            return
        text = column.str.strip_chars().drop_nulls()
        text = text.filter(text.str.len_bytes() > 0)
        if not self.rows and self._options.time_format is None:
            self.time_format = date_format(self._path, text)
        if not len(text):
            return
        kind: pl.DataType = pl.String()
        plain = text.str.replace(",", ".", literal=True) if self.decimal == "," else text
        if not self._options.time_format:
            if not plain.cast(pl.Int64, strict=False).null_count():
                kind = pl.Int64()
            elif not plain.cast(pl.Float64, strict=False).null_count():
                kind = pl.Float64()
        if kind == pl.String() and clock is None:
            self.without_zone = not text.str.contains(r"(?:[zZ]|UTC|GMT|\d\s*[+-]\d\d(?::?\d\d)?)$").all()
        self.times_are_numbers |= kind.is_numeric()
        self._note_bounds(plain.cast(kind) if kind.is_numeric() else text)
        both = {self.whole_times or kind, kind}
        self.whole_times = kind if len(both) == 1 else pl.String() if pl.String() in both else pl.Float64()
