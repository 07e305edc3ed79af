"""The table that `make bench` ends with: what was found, beside what is asked where it is a promise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

SURE = 0.95


class Figure(NamedTuple):
    what: str
    found: str
    asked: str = ""  # nothing where no promise is made
    holds: bool | None = None  # None: nothing is asked


def at_most(what: str, found: float, most: float, unit: str) -> Figure:
    return Figure(what, f"{found:,.2f} {unit}", f"at most {most:,g}", found <= most)


def at_least(what: str, found: float, least: float, unit: str) -> Figure:
    return Figure(what, f"{found:,.2f} {unit}", f"at least {least:,g}", found >= least)


def table(figures: Sequence[Figure]) -> str:
    rows = ["| figure | found | asked | |", "| --- | --- | --- | --- |"]
    said = {None: "", True: "holds", False: "missed"}
    return "\n".join([*rows, *(f"| {one.what} | {one.found} | {one.asked} | {said[one.holds]} |" for one in figures)])


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values, between which the median lies with 95 % whatever they are distributed like.

    By order statistics: how many lie below the median is binomial, with one half. Fewer than six values cannot say
    that, and give infinities.
    """
    ordered, outside, tail = sorted(values), 0, 0.0
    while outside <= len(ordered) // 2:
        tail += math.comb(len(ordered), outside) / 2 ** len(ordered)
        if 2 * tail > 1 - SURE:
            break
        outside += 1
    if not outside:
        return -math.inf, math.inf
    return ordered[outside - 1], ordered[-outside]


def verdict(interval: tuple[float, float], most: float) -> str:
    """Of what may be at most `most`, where the interval is what is known of it."""
    least, highest = interval
    if highest <= most:
        return "holds"
    return "missed" if least > most else "these windows do not tell"
