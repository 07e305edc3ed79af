"""Tables of figures for people: columns with their digits, means with spreads and marks; as files too."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import polars as pl

from models.data.arrays import Doubles
from models.evaluation.kept_runs import write_json
from models.output.output_file import write_or_keep

Table: TypeAlias = tuple[list[str], list[list[str]]]  # header and rows

AREAS = (
    "VUS-PR and AUC-PR are areas under precision-recall curves over all thresholds, with and without a buffer "
    "of up to 100 readings around every event (Paparrizos et al. 2022): the mean over series with an event. A "
    "random score comes to about the share of labelled readings."
)


class Measure(NamedTuple):
    """A column of the tables."""

    name: str
    title: str
    digits: int
    better: int  # -1: less is, +1: more is, 0: not to be ranked


class TitledTable(NamedTuple):
    title: str
    table: Table


class Summary(Protocol):
    """A row of the tables."""

    @property
    def set(self) -> str: ...

    @property
    def name(self) -> str:
        """Of the detector or the cell."""

    def text_of(self, measure: Measure) -> str:
        """The figure as it is shown."""


def measure_table(first_column: str, summaries: Sequence[Summary], of_set: str, measures: Sequence[Measure]) -> Table:
    """The table of one set, for people; `*` marks the best and what cannot be told from it."""
    rows = [[one.name, *(one.text_of(measure) for measure in measures)] for one in summaries if one.set == of_set]
    return [first_column, *(measure.title for measure in measures)], rows


def spread_of(values: Doubles) -> float:
    """Standard deviation over seeds, (N,); 0 of one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def figure(measure: Measure, mean: float, spread: float | None, *, best: bool) -> str:
    """The text of one cell. spread: None: it is left out. best: marked with `*`."""
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


def write_tables(
    path: Path,
    runs: Sequence[Mapping[str, object]],
    summaries: Sequence[Mapping[str, object]],
    text: str,
    about: Mapping[str, object] | None = None,
) -> None:
    """path.csv, a row a run; path.json, `about`, the summaries and the runs; path.md, the text."""
    write_csv(runs, path.with_suffix(".csv"))
    write_json(path.with_suffix(".json"), {**(about or {}), "summaries": summaries, "runs": runs})
    write_or_keep(path.with_suffix(".md"), text)
