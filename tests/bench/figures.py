"""The table that `make bench` ends with: what was found, beside what is asked where it is a promise."""

from collections.abc import Sequence
from typing import NamedTuple


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
