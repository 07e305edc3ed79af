"""What is written in the columns of a data file, as numbers and times."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl

from models.data.errors import UnusableData
from models.data.file_options import FileOptions, numbers_of_words

MISSING = ("", "-", "--", "na", "n/a", "#n/a", "nan", "null", "none", "nil")  # words for no value, in any case
# Of 1,234.5 and of 1.234,5, by the decimal sign.
THOUSANDS = {".": r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$", ",": r"^[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?$"}
POINT_GROUPS = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"  # 1.230, which may be 1230 or 1.23
# 1 234,5 with any space that programs write there, and 1'234.5.
SPACED, SPACES = r"^[+-]?[1-9]\d{0,2}([ \x{a0}\x{202f}'\x{2019}]\d{3})+([.,]\d*)?$", r"[ \x{a0}\x{202f}'\x{2019}]"
WITH_UNIT = r"^([+-]?[\d.,]+(?:[eE][+-]?\d+)?)(?:\s+([^\d\s]\S{0,9})|([%°]\S{0,3}))$"
HALVES = ("am", "pm", "a.m.", "p.m.")  # of the day: no units
CLOCK = r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?\s*([AaPp]\.?[Mm]\.?|[zZ]|UTC|GMT|[+-]\d\d:?\d\d)?"
DAY = r"(\d{4}[-/.]\d\d?[-/.]\d\d?|\d{1,2}[-/. ]([A-Za-z]{3}|\d{1,2})[-/. ]\d{2,4})"
TIMES = rf"^({DAY}([ T]+{CLOCK})?|{CLOCK})$"
DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T]+(\d{1,2}:\d\d)(:\d\d)?([.]\d+)?(\s*[AaPp][Mm])?)?")


def date_format(path: Path, texts: pl.Series) -> str | None:
    """The format of times that begin with day or month. Raises UnusableData where it may be either."""
    first = next((match for text in texts.head(1) if (match := DATE.fullmatch(text))), None)
    if first is None:
        return None
    separator = first.group(2)
    day, month = (
        texts.str.extract(rf"^\d{{1,2}}{re.escape(separator)}(\d{{1,2}})" if second else r"^(\d{1,2})")
        .cast(pl.Int64, strict=False)
        .fill_null(0)
        for second in (False, True)
    )
    clock = ""
    if first.group(5):
        clock = " %I:%M" if first.group(8) else " %H:%M"
        clock += ":%S" if first.group(6) else ""
        clock += "%.f" if first.group(7) else ""
        clock += " %p" if first.group(8) else ""
    formats = [f"{order}{clock}".replace("/", separator) for order in ("%d/%m/%Y", "%m/%d/%Y")]
    if separator == "." or (day > 12).any():
        return formats[0]
    if (month > 12).any():
        return formats[1]
    raise UnusableData(
        f"{path}: row 0: timestamp {texts[0]!r} may begin with the day or the month; "
        f"--time-format '{formats[0]}' or '{formats[1]}' says which"
    )


def holds_times(column: pl.Series) -> bool:
    """Whether each value of a column is a time, or the day or the clock of one."""
    if column.dtype != pl.String:
        return column.dtype.is_temporal() and column.null_count() < len(column)
    text = column.drop_nulls().str.strip_chars()
    return len(text) > 0 and bool(text.str.contains(TIMES).all())


def decimal_in(path: Path, frame: pl.DataFrame, comma_apart: bool) -> str:
    """The decimal point of numbers in text. Raises UnusableData where a comma or a point may be either.

    comma_apart: whether cells are parted by commas, which they rarely are where a comma is the decimal point.
    """
    commas = points = groups = both = several = comma_groups = plain_points = 0
    doubtful: str | None = None  # the first number such as 1.230 in a column that speaks for thousands
    for column in frame.iter_columns():
        text = column.str.strip_chars()
        commas += _count(text, r"^[+-]?\d+(,\d+)+([eE][+-]?\d+)?$")
        comma_groups += _count(text, r"^[+-]?[1-9]\d{0,2}(,\d{3})+$")
        both += _count(text, r"^[+-]?[1-9]\d{0,2}(\.\d{3})+,\d")
        points = _count(text, r"^[+-]?[\d,]*\.\d")
        groups = _count(text, POINT_GROUPS)
        several += _count(text, r"^[+-]?[1-9]\d{0,2}(\.\d{3}){2,}$")
        plain_points += points - groups
        whole = _count(text, r"^[+-]?\d{1,3}$") and not _count(text, r"^[+-]?\d{4,}$")
        if groups and (whole or not comma_apart):
            doubtful = doubtful or text.filter(text.str.contains(POINT_GROUPS)).first()  # type: ignore[assignment]
    if (both and not comma_groups) or (several and not plain_points):
        return ","
    if not commas and doubtful and not plain_points:
        raise UnusableData(
            f"{path}: all values with a point have three digits behind it, such as {doubtful}, which may be thousands: "
            "--decimal . reads it as the decimal point, --decimal , as that of thousands"
        )
    if not commas or plain_points:
        return "."
    if commas == comma_groups:
        raise UnusableData(
            f"{path}: all values with a comma have three digits behind it, as of thousands: "
            "--decimal , reads it as the decimal point, --decimal . as that of thousands"
        )
    return ","


def _count(text: pl.Series, pattern: str) -> int:
    return int(text.str.contains(pattern).sum())


def unit_in(column: pl.Series) -> str:
    """The unit that stands behind every number of a column of text, such as °C; empty if there is none."""
    found = column.drop_nulls().str.extract_groups(WITH_UNIT)
    units = found.struct[1].fill_null(found.struct[2]).unique().to_list() if len(found) else []
    unit = units[0] if len(units) == 1 else None
    return unit if unit and unit.lower() not in HALVES else ""


def without_unit(column: pl.Series, unit: str) -> pl.Series:
    """Text without that unit behind it; what has another is as it was."""
    return column.str.strip_suffix(unit).str.strip_chars_end() if unit else column


def without_words(column: pl.Series, options: FileOptions) -> pl.Series:
    """Text, without the words that mean that there is no value, and without spaces between thousands."""
    text = column.str.strip_chars()
    spaced = text.str.contains(SPACED).fill_null(value=False)
    if spaced.any():
        text = text.str.replace_all(SPACES, "").zip_with(spaced, text)
    words = [*MISSING, *(word.strip().lower() for word in options.missing)]
    text = text.set(text.str.to_lowercase().is_in(words).fill_null(value=False), None)
    if options.word:
        # With an exponent, a point is none of thousands.
        numbers = {word: f"{number!r}e0" for word, number in numbers_of_words(options.word).items()}
        text = text.str.to_lowercase().replace_strict(numbers, default=None, return_dtype=pl.String).fill_null(text)
    return text


def as_numbers(column: pl.Series, decimal: str | None, missing: Sequence[float]) -> pl.Series:
    """As numbers, null where it is none."""
    if column.dtype == pl.String:
        sign, other = (",", ".") if decimal == "," else (".", ",")
        grouped = column.str.contains(THOUSANDS[sign]).fill_null(value=False)
        if grouped.any():
            column = column.str.replace_all(other, "", literal=True).zip_with(grouped, column)
        column = column.str.replace(",", ".", literal=True) if decimal == "," else column
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.set(numbers.is_in(missing).fill_null(value=False), math.nan) if missing else numbers


def missing_numbers(words: Sequence[str]) -> list[float]:
    """The numbers among the words that mean that there is no value."""
    found = []
    for word in words:
        with suppress(ValueError):
            found.append(float(word))
    return [number for number in found if math.isfinite(number)]


def converted(
    frame: pl.DataFrame,
    numbers: Sequence[str],
    decimal: str | None,
    options: FileOptions,
    missing: Sequence[float],
    units: Mapping[str, str],
    times: pl.DataType | None,
) -> pl.DataFrame:
    """With the columns of numbers as such, those behind which a unit stands too, and times in text as `times` says."""
    columns = []
    for name in numbers:
        column = frame[name]
        if column.dtype.is_numeric() and not missing:
            continue
        if column.dtype == pl.Boolean:
            columns.append(column.cast(pl.Float64))
            continue
        if column.dtype == pl.String:
            column = without_unit(without_words(column, options), units.get(name, ""))
            switches = column.str.to_lowercase().replace_strict({"true": "1", "false": "0"}, default=None)
            column = switches.fill_null(column)
        columns.append(as_numbers(column, decimal, missing))
    if frame["timestamp"].dtype == pl.String:
        text = frame["timestamp"].str.strip_chars()
        text = text.set((text.str.len_bytes() == 0).fill_null(value=False), None)
        if times is not None and times != pl.String:
            text = (text.str.replace(",", ".", literal=True) if decimal == "," else text).cast(times)
        columns.append(text)
    return frame.with_columns(columns)
