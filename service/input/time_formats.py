"""Times in text of one layout, all at once: a format such as `%d.%m.%Y %H:%M` to its full width, or ISO 8601.

What is found is what strptime or fromisoformat finds of each, on the clock of its zone. Sizes: N texts, P parts.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.data.arrays import Int64s
from service.input.places import places_of
from service.input.walks.layouts import FRACTION, OFFSET, REST, SIGN

CODES = "YmdHMSf"  # in the order of their parts
WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "f": 6}
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d(:\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


class Layout(NamedTuple):
    """How times are written. parts: (P, 3) as service.input.walks.times has them."""

    parts: Int64s
    offset: bool = False  # whether they name theirs from UTC


def layout_of(format_: str) -> Layout | None:
    """Of texts that are written as strptime's format says, to their full width; None of one with other parts."""
    written = re.findall(r"%(.)|([^%])", format_, re.DOTALL)
    codes = [code for code, _ in written if code]
    if not {"Y", "m", "d"} <= set(codes) <= set(WIDTHS) or len(codes) != len(set(codes)):
        return None
    odd = any(not sign.isascii() or (sign.isspace() and sign != " ") for _, sign in written)
    return None if odd else Layout(np.array(_parts(written), np.int64))


def iso_layout_of(text: str) -> Layout | None:
    """That of an ISO 8601 time such as `2026-01-05 01:00:00.5Z`, whatever its fraction; None of an unusual one."""
    usual = ISO.fullmatch(text)
    if usual is None:
        return None
    between, seconds, offset = usual.groups()
    written = [("Y", ""), ("", "-"), ("m", ""), ("", "-"), ("d", ""), ("", between), ("H", ""), ("", ":"), ("M", "")]
    if seconds:
        written += [("", ":"), ("S", "")]
    more = [(REST, 0, 0)] * bool(seconds) + [(OFFSET, 0, 0)] * bool(offset)
    return Layout(np.array([*_parts(written), *more], np.int64), bool(offset))


def _parts(written: Sequence[tuple[str, str]]) -> list[tuple[int, int, int]]:
    """written: of each part its code, or the sign that it is."""
    return [(CODES.index(code), WIDTHS[code], 0) if code else (SIGN, 1, ord(sign)) for code, sign in written]


def microseconds_of(texts: Sequence[str], layout: Layout) -> Int64s:
    """Since 1970, (N,): in UTC where they name their offset, else on the clock that they are of.

    Raises ValueError where one is not of the layout, or is no time from 1970 to 9999.
    """
    from service.input.walks.times import walk  # noqa: PLC0415  (which loads the compiler)

    data = "".join(texts).encode("ascii")
    begins, ends = places_of(texts)
    found = np.empty(len(texts), np.int64)
    if not walk(np.frombuffer(data, np.uint8), begins, ends, layout.parts, np.zeros(FRACTION + 1, np.int64), found):
        raise ValueError("of another layout")
    return found
