"""Values as people write them to numbers: text with a decimal sign, and what stands for a missing value."""

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from models.data.arrays import Bools, Doubles
from service.errors import RejectedReading
from service.input.formats import TopicMapping
from service.input.reasons import Reason

NUMBERS = frozenset((float, int, type(None)))
DECIMALS = {
    sign: re.compile(rf"[+-]?(\d+({re.escape(sign)}\d*)?|{re.escape(sign)}\d+)([eE][+-]?\d+)?", re.ASCII)
    for sign in (".", ",")
}


def number_reader(mapping: TopicMapping) -> Callable[[str, Any], float]:
    """What makes a number of a value as it is written; NaN of one that is missing."""
    missing = plain_set(mapping.missing)
    pattern = DECIMALS[mapping.decimal] if mapping.decimal else None
    comma = mapping.decimal == ","

    def of_text(name: str, text: str) -> float:
        if text.strip().casefold() in missing:
            return math.nan
        if pattern is not None and pattern.fullmatch(text.strip()):
            number = float(text.strip().replace(",", ".") if comma else text)
            return math.nan if number in missing else number
        raise RejectedReading(Reason.NOT_A_NUMBER, f"{name} is {shown(text)}, {_hint(text, mapping)}")

    def number(name: str, value: Any) -> float:
        kind = type(value)
        if kind is float or kind is int:
            return math.nan if missing and value in missing else _as_float(value)
        if value is None:
            return math.nan
        if kind is str:
            return of_text(name, value)
        if isinstance(value, Decimal):
            return number(name, float(value))
        raise RejectedReading(Reason.NOT_A_NUMBER, f"{name} is {kind.__name__} {shown(value)}, expected a number")

    return number


def number_column(
    mapping: TopicMapping, read: Callable[[str, Any], float]
) -> Callable[[Sequence[Any]], tuple[Doubles, Bools]]:
    """What makes numbers of N values, (N,), to the bit as number_reader() does, and (N,) which it refuses.

    UNSET is a missing value, as None is.
    """
    as_they_are = NUMBERS if not mapping.missing else frozenset[type]()

    def column(values: Sequence[Any]) -> tuple[Doubles, Bools]:
        if UnsetType in set(map(type, values)):
            values = [None if value is UNSET else value for value in values]
        if as_they_are.issuperset(map(type, values)):
            try:
                return np.array(values, np.float64), np.zeros(len(values), np.bool_)
            except OverflowError:
                pass
        found = [_or_none(read, value) for value in values]
        return np.array(found, np.float64), np.array([one is None for one in found], np.bool_)

    return column


def _or_none(read: Callable[[str, Any], float], value: Any) -> float | None:
    try:
        return read("", value)
    except RejectedReading:
        return None


def _hint(text: str, mapping: TopicMapping) -> str:
    """Which setting reads a text."""
    for sign, pattern in DECIMALS.items():
        if pattern.fullmatch(text.strip()):
            return f'text: {mapping.setting}.decimal: "{sign}" reads it as a number'
    return f"no number: {mapping.setting}.missing may name what stands for a missing value"


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def plain(value: Any) -> Any:
    """A number, or text as it is compared."""
    return value.strip().casefold() if isinstance(value, str) else value if isinstance(value, int | float) else None


def plain_set(values: Sequence[float | str]) -> frozenset[Any]:
    return frozenset(map(plain, values))


def shown(found: Any) -> str:
    """What was found, cut where it is long."""
    text = repr(found)
    return text if len(text) <= 60 else text[:59] + "…"
