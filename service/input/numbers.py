"""Values as people write them to numbers: text with a decimal sign, and what stands for a missing value."""

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import compress
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from models.data.arrays import Bools, Doubles
from service.errors import RejectedReading
from service.input.formats import TopicMapping
from service.input.reasons import Reason

NUMBERS = frozenset((float, int, type(None)))
MOST_EXACT = 2**53  # whole numbers below it are doubles
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
    missing = plain_set(mapping.missing)
    words = frozenset(one for one in missing if isinstance(one, str))
    left_out = [float(one) for one in missing if not isinstance(one, str)]
    pattern = re.compile(f"(?:{DECIMALS[mapping.decimal].pattern}\n)*", re.ASCII) if mapping.decimal else None

    def of_numbers(values: Sequence[Any]) -> Doubles:
        """Raises OverflowError, or ValueError where a number may be beside one that stands for a missing value."""
        numbers = np.array(values, np.float64)
        if left_out:
            if (np.abs(numbers) >= MOST_EXACT).any():
                raise ValueError("a number that a double may not hold")
            numbers[np.isin(numbers, left_out)] = np.nan
        return numbers

    def of_texts(texts: Sequence[str]) -> Doubles:
        """Raises ValueError where one is no number."""
        lines = "".join([f"{text}\n" for text in texts])
        if pattern is None or not pattern.fullmatch(lines) or lines.count("\n") != len(texts):
            raise ValueError("no numbers")
        numbers = lines.replace(",", ".").split("\n")[:-1]
        return of_numbers(list(map(float, numbers)))

    def of_kind(kind: type, values: Sequence[Any]) -> Doubles:
        if kind is not str:
            return of_numbers(values)
        numbers = np.full(len(values), np.nan)
        there = [value.strip().casefold() not in words for value in values] if words else [True] * len(values)
        if any(there):
            numbers[np.array(there, np.bool_)] = of_texts(list(compress(values, there)))
        return numbers

    def column(values: Sequence[Any]) -> tuple[Doubles, Bools]:
        kinds = set(map(type, values))
        if UnsetType in kinds:
            values = [None if value is UNSET else value for value in values]
            kinds = set(map(type, values))
        try:
            if kinds <= NUMBERS:
                return of_numbers(values), np.zeros(len(values), np.bool_)
            if kinds <= {*NUMBERS, str}:
                numbers = np.empty(len(values))
                for kind in (str, float):
                    which = [(type(value) is str) == (kind is str) for value in values]
                    numbers[np.array(which, np.bool_)] = of_kind(kind, list(compress(values, which)))
                return numbers, np.zeros(len(values), np.bool_)
        except (OverflowError, ValueError):
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
