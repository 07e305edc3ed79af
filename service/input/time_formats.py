"""Times in text of one layout, all at once: a format such as `%d.%m.%Y %H:%M` to its full width, or ISO 8601.

What is found is what strptime or fromisoformat finds of each, on the clock of its zone. Sizes: N texts of W characters.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Int64s

WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "f": 6}
LIMITS = {"Y": (1970, 9999), "m": (1, 12), "d": (1, 31), "H": (0, 23), "M": (0, 59), "S": (0, 59), "f": (0, 999_999)}
ZERO, NINE = ord("0"), ord("9")
DAY_US, HOUR_US, MINUTE_US, SECOND_US = 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d(:\d\d(\.(?:\d{3}|\d{6}))?)?(Z?)", re.ASCII)

Layout = Sequence[tuple[str, int, str]]  # of each part its code, its width and, where it has no code, its sign


def layout_of(format_: str) -> Layout | None:
    """Of texts that are written as strptime's format says, to their full width; None of one with other parts."""
    layout = [(code, WIDTHS.get(code, 1), sign) for code, sign in re.findall(r"%(.)|([^%])", format_, re.DOTALL)]
    codes = [code for code, _, _ in layout if code]
    if not {"Y", "m", "d"} <= set(codes) <= set(WIDTHS) or len(codes) != len(set(codes)):
        return None
    odd = any(not sign.isascii() or (sign.isspace() and sign != " ") for _, _, sign in layout)
    return None if odd else layout


def iso_layout_of(text: str) -> tuple[Layout, bool] | None:
    """That of an ISO 8601 time such as `2026-01-05 01:00:00.5`, and whether it is in UTC; None of an unusual one."""
    usual = ISO.fullmatch(text)
    if usual is None:
        return None
    between, seconds, fraction, utc = usual.groups()
    format_ = f"%Y-%m-%d{between}%H:%M" + (":%S" if seconds else "") + (".%f" if fraction else "") + utc
    layout = layout_of(format_) or []
    return [(code, len(fraction) - 1 if code == "f" else width, sign) for code, width, sign in layout], bool(utc)


def microseconds_of(texts: Sequence[str], layout: Layout) -> Int64s:
    """Since 1970 on the clock that they are of, (N,).

    Raises ValueError where one is not of the layout, or is no time from 1970 to 9999.
    """
    width = sum(size for _, size, _ in layout)
    if set(map(len, texts)) != {width}:
        raise ValueError("of another width")
    table = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), width)
    parts: dict[str, Int64s] = {}
    at = 0
    for code, size, sign in layout:
        if code:
            parts[code] = _number(table[:, at : at + size], *LIMITS[code]) * 10 ** (WIDTHS[code] - size)
        elif (table[:, at] != ord(sign)).any():
            raise ValueError("of another format")
        at += size
    return _microseconds(parts)


def _number(digits: NDArray[np.uint8], least: int, most: int) -> Int64s:
    if (digits < ZERO).any() or (digits > NINE).any():
        raise ValueError("no digits")
    number = np.zeros(len(digits), np.int64)
    for column in digits.T:
        number = number * 10 + (column.astype(np.int64) - ZERO)
    if (number < least).any() or (number > most).any():
        raise ValueError("out of bounds")
    return number


def _microseconds(parts: dict[str, Int64s]) -> Int64s:
    months = (parts["Y"] - 1970) * 12 + parts["m"] - 1
    first_days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_days = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    days = first_days + parts["d"] - 1
    if (days >= next_days).any():
        raise ValueError("no such day")
    found = days * DAY_US
    for code, unit in (("H", HOUR_US), ("M", MINUTE_US), ("S", SECOND_US), ("f", 1)):
        if code in parts:
            found += parts[code] * unit
    return found
