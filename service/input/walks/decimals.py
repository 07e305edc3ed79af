"""Decimal numbers in text to doubles, in compiled code: those that one multiplication or division makes.

W. D. Clinger, How to read floating point numbers accurately, 1990: an integer and a power of ten that a double holds
exactly give the double nearest to their product or quotient. Others are left to Python.
"""

import numpy as np

from models.data.arrays import Bytes, Doubles, Int64s
from models.detection.compiling import compiled, kept

POWERS: Doubles = np.array([float(10**n) for n in range(23)])  # those that a double holds exactly
MOST_WHOLE = 2**53
MOST_DIGITS = 18
NO_NUMBER, EXACT, OTHER = 0, 1, 2


@kept
def walk(data: Bytes, begins: Int64s, ends: Int64s, powers: Doubles, found: Doubles) -> bool:
    """Whether all N texts data[begins[n]:ends[n]] are numbers that are EXACT: then found, (N,), has them."""
    for n in range(len(begins)):
        how, found[n] = decimal(data, begins[n], ends[n], powers)
        if how != EXACT:
            return False
    return True


@compiled
def decimal(data: Bytes, begin: int, end: int, powers: Doubles) -> tuple[int, float]:
    """The number in data[begin:end], `-61.5` or `1e-3`: EXACT, or OTHER, which Python reads, or NO_NUMBER.

    powers: POWERS.
    """
    at, whole, digits, behind = begin, 0, 0, 0
    negative = at < end and data[at] == ord("-")
    if negative:
        at += 1
    first = at
    at, whole, digits = _digits(data, at, end, whole, digits)
    if at == first:
        return NO_NUMBER, 0.0
    if at < end and data[at] == ord("."):
        at += 1
        first = at
        at, whole, digits = _digits(data, at, end, whole, digits)
        behind = at - first
        if behind == 0:
            return NO_NUMBER, 0.0
    if at < end and data[at] in (ord("e"), ord("E")):
        exponent, at = _exponent(data, at + 1, end)
        behind -= exponent
    if at != end:
        return NO_NUMBER, 0.0
    if digits > MOST_DIGITS or whole > MOST_WHOLE or behind > 22 or behind < -22:
        return OTHER, 0.0
    number = float(whole)
    number = number / powers[behind] if behind >= 0 else number * powers[-behind]
    return EXACT, -number if negative else number


@compiled
def _digits(data: Bytes, at: int, end: int, whole: int, digits: int) -> tuple[int, int, int]:
    """Take the digits from `at` on into a whole number of so far `digits`; the place behind them, and both."""
    while at < end and ord("0") <= data[at] <= ord("9"):
        if digits < MOST_DIGITS:
            whole = whole * 10 + (int(data[at]) - ord("0"))
        digits += 1
        at += 1
    return at, whole, digits


@compiled
def _exponent(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """That of one or two digits, and the place behind it; -1 where there is none."""
    negative = at < end and data[at] == ord("-")
    if at < end and data[at] in (ord("-"), ord("+")):
        at += 1
    value, first = 0, at
    while at < end and at - first < 3 and ord("0") <= data[at] <= ord("9"):
        value = value * 10 + (int(data[at]) - ord("0"))
        at += 1
    if at == first or at - first > 2:
        at = -1
    return -value if negative else value, at


@compiled
def bits_of(number: float) -> int:
    """Of a double, as an integer."""
    return int(np.float64(number).view(np.int64))
