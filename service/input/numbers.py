"""Values as people write them to numbers: text with a decimal sign, and what stands for a missing value."""

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import compress
from types import NoneType
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from models.data.arrays import Bools, Doubles
from service.errors import RejectedReading
from service.input.formats import TopicMapping
from service.input.places import places_of
from service.input.reasons import Reason

NUMBERS = frozenset((float, int, type(None)))
MOST_EXACT = 2**53  # whole numbers below it are doubles
DECIMALS = {
    sign: re.compile(rf"[+-]?(\d+({re.escape(sign)}\d*)?|{re.escape(sign)}\d+)([eE][+-]?\d+)?", re.ASCII)
    for sign in (".", ",")
}


# The same with signs between thousands: 1,234.5 or 1.234,5, 1 234,5 with any space, 1'234.5.
GROUPED = {
    sign: re.compile(
        rf"[+-]?[1-9]\d{{0,2}}(([ \xa0\u202f'\u2019{re.escape(other)}])\d{{3}})(\2\d{{3}})*({re.escape(sign)}\d*)?"
    )
    for sign, other in (".,", ",.")
}
BETWEEN_THOUSANDS = str.maketrans("", "", " \xa0\u202f'\u2019")
OF_YAML = {True: ("true", "on", "yes"), False: ("false", "off", "no")}  # which it reads as booleans


def number_reader(mapping: TopicMapping) -> Callable[[str, Any], float]:
    """What makes a number of a value as it is written; NaN of one that is missing."""
    missing = plain_set(mapping.missing)
    pattern = DECIMALS[mapping.decimal] if mapping.decimal else None
    grouped = GROUPED[mapping.decimal] if mapping.decimal else None
    comma = mapping.decimal == ","
    words = _by_word(mapping)

    def of_text(name: str, text: str) -> float:
        if text.strip().casefold() in missing:
            return math.nan
        if words and text.strip().casefold() in words:
            return words[text.strip().casefold()]
        if grouped is not None and grouped.fullmatch(text.strip()):
            text = text.translate(BETWEEN_THOUSANDS).replace("." if comma else ",", "")
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
        if kind is bool:
            return of_boolean(name, value)
        raise RejectedReading(Reason.NOT_A_NUMBER, f"{name} is {kind.__name__} {shown(value)}, expected a number")

    def of_boolean(name: str, value: bool) -> float:
        found = words.get("true" if value else "false")
        if found is None:
            raise RejectedReading(
                Reason.NOT_A_NUMBER,
                f"{name} is bool {value}, expected a number; {mapping.setting}.words: {{true: 1, false: 0}} reads it",
            )
        return found

    return number


def _by_word(mapping: TopicMapping) -> dict[str, float]:
    """Numbers by word, in any case; a boolean of YAML is each word that it may have been."""
    found: dict[str, float] = {}
    for word, number in mapping.words.items():
        words = OF_YAML[word] if isinstance(word, bool) else (word.strip().casefold(),)
        found |= dict.fromkeys(words, float(number))
    return found


def number_column(
    mapping: TopicMapping, read: Callable[[str, Any], float]
) -> Callable[[Sequence[Any]], tuple[Doubles, Bools]]:
    """What makes numbers of N values, (N,), to the bit as number_reader() does, and (N,) which it refuses.

    UNSET is a missing value, as None is.
    """
    missing = plain_set(mapping.missing)
    words = frozenset(one for one in missing if isinstance(one, str))
    left_out = [float(one) for one in missing if not isinstance(one, str)]
    signs = f"0123456789+-eE{mapping.decimal}".encode() if mapping.decimal else None

    def of_numbers(values: Sequence[Any]) -> Doubles:
        """Raises OverflowError, or ValueError where a number may be beside one that stands for a missing value."""
        return without_left_out(np.array(values, np.float64))

    def without_left_out(numbers: Doubles) -> Doubles:
        """Raises ValueError, as above."""
        if left_out:
            if (np.abs(numbers) >= MOST_EXACT).any():
                raise ValueError("a number that a double may not hold")
            numbers[np.isin(numbers, left_out)] = np.nan
        return numbers

    def of_texts(texts: Sequence[str]) -> Doubles:
        """Raises ValueError where one is no number. Of these signs float() reads what DECIMALS has."""
        from service.input.walks.decimals import POWERS, walk  # noqa: PLC0415  (which loads the compiler)

        data = "".join(texts).encode(errors="replace")
        if signs is None or data.translate(None, signs):
            raise ValueError("other signs")
        data = data.replace(b",", b".")
        numbers = np.empty(len(texts))
        if walk(np.frombuffer(data, np.uint8), *places_of(texts), POWERS, numbers):
            return without_left_out(numbers)
        return of_numbers([float(text.replace(",", ".")) for text in texts])

    def of_words(texts: Sequence[str]) -> Doubles:
        """Of numbers, and words for a missing value."""
        if not words:
            return of_texts(texts)
        numbers = np.full(len(texts), np.nan)
        there = [text.strip().casefold() not in words for text in texts]
        if any(there):
            numbers[np.array(there, np.bool_)] = of_texts(list(compress(texts, there)))
        return numbers

    def of_all(values: Sequence[Any], kinds: set[type]) -> Doubles:
        if kinds <= NUMBERS:
            return of_numbers(values)
        if kinds == {str}:
            return of_words(values)
        if not kinds <= {*NUMBERS, str}:
            raise ValueError("what is no number")
        numbers, texts = np.empty(len(values)), np.array([type(value) is str for value in values], np.bool_)
        numbers[texts] = of_words(list(compress(values, texts.tolist())))
        numbers[~texts] = of_numbers(list(compress(values, (~texts).tolist())))
        return numbers

    def column(values: Sequence[Any]) -> tuple[Doubles, Bools]:
        kinds = set(map(type, values))
        if UnsetType in kinds:
            values = [None if value is UNSET else value for value in values]
            kinds = {*kinds, NoneType} - {UnsetType}
        try:
            return of_all(values, kinds), np.zeros(len(values), np.bool_)
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


def signs_of(text: str) -> list[str]:
    """The decimal signs with which a text is a number: both, where three digits behind one may be thousands."""
    return [sign for sign in DECIMALS if any(one[sign].fullmatch(text.strip()) for one in (DECIMALS, GROUPED))]


def _hint(text: str, mapping: TopicMapping) -> str:
    """Which setting reads a text."""
    signs = signs_of(text)
    if len(signs) == 1 or (signs and not any(sign in text for sign in ".,")):
        return f'text: {mapping.setting}.decimal: "{signs[0]}" reads it as a number'
    if signs:
        return (
            f'text, which may be of thousands: {mapping.setting}.decimal says which sign is the decimal one, "." or ","'
        )
    return f"no number: {mapping.setting}.missing may name what stands for a missing value, .words what for a number"


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
