"""The results of a comparison: means over seeds, ties, places over sets; as tables and as files."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.evaluation.comparison import Comparison, ComparisonJob, ComparisonPlan, ComparisonRun
from models.evaluation.evidence import FEW_EVENTS, FEW_SEEDS, FEWEST_SEEDS, Evidence
from models.evaluation.tables import Measure, Table, figure, markdown, measure_table, spread_of, write_tables

OVER_SETS = "all sets"
MEASURES = (
    Measure("validation_error", "validation error", 4, -1),
    Measure("test_error", "test error", 4, -1),
    Measure("vus_pr", "VUS-PR", 3, 1),
    Measure("auc_pr", "AUC-PR", 3, 1),
    Measure("recall", "recall", 2, 1),
    Measure("precision", "precision", 2, 1),
    Measure("f1", "F1", 2, 1),
    Measure("false_alarms", "false alarms", 1, -1),
    Measure("delay", "delay", 0, -1),
)
COSTS = (
    Measure("parameters", "parameters", 0, 0),
    Measure("bytes_per_stream", "bytes a stream", 0, 0),
    Measure("seconds", "training s", 0, 0),
    Measure("epochs", "epochs", 0, 0),
    Measure("speed", "readings a second", 0, 0),
)
# Errors of different sets have different sizes: over sets, they are shares of the error of expecting no change.
MEASURES_OVER_SETS = (
    Measure("validation_share", "validation error", 3, -1),
    Measure("test_share", "test error", 3, -1),
    *(one for one in MEASURES if one.name in ("vus_pr", "auc_pr", "recall", "f1", "false_alarms")),
)
RANKED = ("validation_error", "test_error", "vus_pr", "f1")
MARK = (
    f"± is the standard deviation over seeds. {FEW_SEEDS} * marks the best cell of a column and those that cannot be "
    f"told from it: their means are no further apart than both deviations, added as variances. Fewer than "
    f"{FEWEST_SEEDS} seeds tell none apart, and give no places. {FEW_EVENTS}"
)


class ComparisonSummary(NamedTuple):
    """A cell on a set, or over all of them: the mean over seeds, and their standard deviation, by measure."""

    set: str
    cell: str
    mean: dict[str, float]
    spread: dict[str, float]
    best: frozenset[str]  # the measures in which it is the best, or cannot be told from the best
    few: dict[str, str]  # what is shown in place of shares of too few, by measure
    seeds: int

    @property
    def name(self) -> str:
        return self.cell

    def text_of(self, measure: Measure) -> str:
        if measure.name in self.few:
            return self.few[measure.name]
        spread = (self.spread[measure.name] or None) if self.seeds >= FEWEST_SEEDS else None
        return figure(measure, self.mean[measure.name], spread, best=measure.name in self.best)


def summarise(comparison: Comparison) -> list[ComparisonSummary]:
    """Every cell on every set, in the order of the runs; then over all sets, if there are several."""
    numbers = {run.job: _numbers(run, comparison.speeds[run.job.set][run.job.cell]) for run in comparison.runs}
    sets, cells, seeds = (list(dict.fromkeys(column)) for column in zip(*numbers, strict=True))
    summaries = []
    for name in sets:
        of_set = {cell: [numbers[ComparisonJob(name, cell, seed)] for seed in seeds] for cell in cells}
        summaries += _summarise(name, of_set, MEASURES + COSTS)
    if len(sets) > 1:
        over = {cell: [_over_sets(numbers, sets, cell, seed) for seed in seeds] for cell in cells}
        summaries += _summarise(OVER_SETS, over, MEASURES_OVER_SETS + COSTS)
    return summaries


def _over_sets(
    numbers: Mapping[ComparisonJob, Mapping[str, float]], sets: Sequence[str], cell: str, seed: int
) -> dict[str, float]:
    """Means over the sets on which any net has the figure: one that diverged on one of them has no mean."""
    means = {}
    for measure in MEASURES_OVER_SETS + COSTS:
        having = {job.set for job, of in numbers.items() if not math.isnan(of[measure.name])}
        found = [numbers[ComparisonJob(name, cell, seed)][measure.name] for name in sets if name in having]
        means[measure.name] = statistics.fmean(found) if found else math.nan
    of = [numbers[ComparisonJob(name, cell, seed)] for name in sets]
    return means | {name: sum(one[name] for one in of) for name in ("events", "alarms")} | {"precision": math.nan}


def _numbers(run: ComparisonRun, speed: float) -> dict[str, float]:
    plain = {
        name: getattr(run, name)
        for name in ComparisonRun._fields
        if name not in ("job", "architecture", "ended", "figures")
    }
    shares = {
        "validation_share": _share(run.validation_error, run.no_change_validation),
        "test_share": _share(run.test_error, run.no_change_test),
    }
    return {**plain, **shares, **run.figures._asdict(), "speed": speed}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _summarise(
    name: str, cells: Mapping[str, Sequence[Mapping[str, float]]], measures: Sequence[Measure]
) -> list[ComparisonSummary]:
    by_measure = {
        cell: {measure.name: np.array([run[measure.name] for run in runs], float) for measure in measures}
        for cell, runs in cells.items()
    }
    mean = {cell: {name: float(column.mean()) for name, column in of.items()} for cell, of in by_measure.items()}
    spread = {cell: {name: spread_of(column) for name, column in of.items()} for cell, of in by_measure.items()}
    few = {cell: _few(runs) for cell, runs in cells.items()}
    seeds = min(map(len, cells.values()))
    best: dict[str, set[str]] = {}
    for m in measures:
        known = {c: (mean[c][m.name], spread[c][m.name]) for c in cells if m.name not in few[c]}
        best[m.name] = best_of(known, m.better) if seeds >= FEWEST_SEEDS and len(known) > 1 else set()
    return [
        ComparisonSummary(
            name,
            cell,
            mean[cell],
            spread[cell],
            frozenset(m.name for m in measures if cell in best[m.name]),
            few[cell],
            seeds,
        )
        for cell in cells
    ]


def _few(runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """In place of the shares of few events or alarms, what they are of; of NaN, which is shown as such, nothing."""
    shares = {}
    for name, of in (("recall", "events"), ("precision", "alarms"), ("f1", "events")):
        value, whole = (statistics.fmean(run[of_run] for run in runs) for of_run in (name, of))
        part = math.nan if name == "f1" else statistics.fmean(run[name] * run[of] for run in runs)
        if not math.isnan(value) and (text := Evidence(len(runs), whole, part).share):
            shares[name] = text
    return shares


def best_of(cells: Mapping[str, tuple[float, float]], better: int) -> set[str]:
    """The best cell, and those that it cannot be told from: no further off than both spreads, added as variances."""
    known = {cell: pair for cell, pair in cells.items() if not math.isnan(pair[0])}
    if not better or not known:
        return set()
    best, spread = max(known.values(), key=lambda pair: better * pair[0])
    return {cell for cell, (mean, own) in known.items() if abs(mean - best) <= math.hypot(own, spread)}


def ranks(summaries: Sequence[ComparisonSummary], measure: Measure) -> dict[str, float]:
    """The mean place of every cell over the sets that have the figure, 1 is the best; equal means share a place."""
    places: dict[str, list[float]] = {}
    for name in dict.fromkeys(one.set for one in summaries if one.set != OVER_SETS):
        means = {one.cell: -measure.better * one.mean[measure.name] for one in summaries if one.set == name}
        if any(map(math.isnan, means.values())):
            continue
        for cell, mean in means.items():
            below, equal = (
                sum(other < mean for other in means.values()),
                sum(other == mean for other in means.values()),
            )
            places.setdefault(cell, []).append(below + (equal + 1) / 2)
    return {cell: statistics.fmean(found) for cell, found in places.items()}


def table(summaries: Sequence[ComparisonSummary], name: str) -> Table:
    """How well every cell does on one set, or over all of them."""
    return measure_table("cell", summaries, name, MEASURES_OVER_SETS if name == OVER_SETS else MEASURES)


def cost_table(summaries: Sequence[ComparisonSummary], name: str) -> Table:
    """What a cell costs on one set, or in the mean over all of them."""
    return measure_table("cell", summaries, name, COSTS)


def rank_table(summaries: Sequence[ComparisonSummary]) -> Table | None:
    """The mean place of every cell over the sets; None of one set, and where too few seeds decide the places."""
    sets = {one.set for one in summaries}
    if OVER_SETS not in sets or min(one.seeds for one in summaries) < FEWEST_SEEDS:
        return None
    measures = [m for m in MEASURES if m.name in RANKED and not any(m.name in one.few for one in summaries)]
    of = {measure.title: found for measure in measures if (found := ranks(summaries, measure))}
    cells = dict.fromkeys(one.cell for one in summaries)
    return ["cell", *of], [[cell, *(f"{found[cell]:.2f}" for found in of.values())] for cell in cells]


def write(comparison: Comparison, plan: ComparisonPlan, folder: Path) -> None:
    """comparison.csv, a row a run; comparison.json, the summaries and the budget too; comparison.md, the tables."""
    rows = [
        {**run.job._asdict(), "ended": run.ended, **_numbers(run, comparison.speeds[run.job.set][run.job.cell])}
        for run in comparison.runs
    ]
    summaries = summarise(comparison)
    parts = []
    for name in dict.fromkeys(one.set for one in summaries):
        parts += [f"## {name}\n", markdown(*table(summaries, name)), markdown(*cost_table(summaries, name))]
    if places := rank_table(summaries):
        parts += ["## mean place over the sets\n", markdown(*places)]
    parts.append(f"{MARK}\n")
    kept = [one._asdict() | {"best": sorted(one.best)} for one in summaries]
    write_tables(folder / "comparison", rows, kept, "\n".join(parts), {"plan": asdict(plan)})
