"""Figures of runs as they are to be read: columns with their digits, means with spreads and marks, Markdown and CSV."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from models.data.arrays import Doubles
from models.output.output_file import write_or_keep


class Measure(NamedTuple):
    """A column of the tables."""

    name: str
    title: str
    digits: int
    better: int  # -1: less is, +1: more is, 0: not to be ranked


def spread_of(values: Doubles) -> float:
    """Standard deviation over seeds, (N,); 0 of one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def figure(measure: Measure, mean: float, spread: float | None, *, best: bool) -> str:
    """A cell. spread: None: nothing is said of it. best: marked with `*`."""
    if math.isnan(mean):
        return "-"
    varies = "" if spread is None else f" ± {spread:,.{measure.digits}f}"
    return f"{mean:,.{measure.digits}f}{varies}{' *' if best else ''}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_csv(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """NaN becomes an empty cell."""
    text = pl.DataFrame(rows).with_columns(pl.selectors.float().fill_nan(None)).write_csv()
    write_or_keep(path, text)
