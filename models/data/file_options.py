"""What a person says of data files that they do not say themselves."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from models.data.time_units import TimeUnit


class Order(StrEnum):
    """What to do about rows of a stream whose times do not rise."""

    CHECK = "check"  # refuse them
    SORT = "sort"  # read them in the order of their times
    KEEP = "keep"  # read them as they come, as the service does


class FileOptions(NamedTuple):
    """What files do not say themselves, or what it is wrong to find out; None and empty: find out, or as usual."""

    unit: TimeUnit | None = None  # of times that are numbers; None: milliseconds
    time_column: str | None = None  # or two, such as date,time, which are joined
    time_format: str | None = None  # of times that are text, as strptime has it; or one of number_clocks.CLOCKS
    zone: str | None = None  # of times without one; None: UTC
    stream_column: str | None = None
    name_column: str | None = None  # of the names of values, where a row holds one value
    value_column: str = "value"  # of that value
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    columns: tuple[str, ...] = ()  # all of a text file's, by place
    skip_lines: int | None = None  # of a text file or a sheet, before its header
    leave_out: tuple[str, ...] = ()  # with which lines of a text, or rows of a sheet, begin that are no readings
    sheet: str | None = None  # of an Excel workbook; None: the only one with cells
    missing: tuple[str, ...] = ()  # further words and numbers for no value
    word: tuple[str, ...] = ()  # that stand for numbers, such as ON=1
    quality_column: tuple[str, ...] = ()  # with flags of all values of a row, or CHANNEL=COLUMN of those of one
    good: tuple[str, ...] = ()  # the flags of good values
    order: Order = Order.KEEP


AS_USUAL = FileOptions()


def numbers_of_words(words: Sequence[str]) -> dict[str, float]:
    """By word in lower case, of such as ON=1."""
    parted = [one.rpartition("=") for one in words]
    return {word.strip().lower(): float(number) for word, _, number in parted}
