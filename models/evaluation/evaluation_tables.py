"""The results of an evaluation: means and spreads over seeds, ties, means over sets; as tables and files.

The series decide whether two detectors differ: 1,000 times as many series are drawn with replacement as there are
(Efron 1979), the same ones for every detector, and the figures are computed again.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.data.arrays import Doubles
from models.evaluation.benchmark import BenchmarkRun, weigh
from models.evaluation.evidence import (
    FEW_DAYS,
    FEW_EVENTS,
    FEW_SEEDS,
    FEWEST_EVENTS,
    FEWEST_SEEDS,
    FEWEST_SERIES,
    TIE,
    SetEvidence,
    comparable,
    evidence_of,
    evidence_over_sets,
)
from models.evaluation.tables import Measure, Table, figure, markdown, measure_table, spread_of, write_tables
from models.output.wording import counted

OVER_SETS = "mean over sets"
SHARES = ("recall", "precision", "f1")  # of events or alarms
DRAWS = 1_000
MARK = (
    f"± is the standard deviation over seeds. {FEW_SEEDS} * marks the best of a column and those that cannot be told "
    f"from it: the middle {TIE} % of {DRAWS:,} draws of series, the same for both, hold a difference of 0. No mark: "
    f"fewer than {FEWEST_SERIES} series, or fewer than {FEWEST_EVENTS} events or alarms, tell none apart, nor do sets "
    f"of one series in the mean over sets. {FEW_EVENTS} {FEW_DAYS}"
)

MEASURES = (
    Measure("vus_pr", "VUS-PR", 3, 1),
    Measure("auc_pr", "AUC-PR", 3, 1),
    Measure("recall", "event recall", 3, 1),
    Measure("precision", "precision", 3, 1),
    Measure("f1", "event F1", 3, 1),
    Measure("false_alarms", "false / 10,000", 2, -1),
    Measure("false_alarms_a_day", "false / day", 3, -1),
    Measure("alarms_a_day", "alarms / day", 3, -1),
    Measure("delay", "delay", 0, -1),
    Measure("loss", "loss / as before", 3, -1),
    Measure("band", "90 % band", 3, 0),
)
POINTS = (
    Measure("point_f1", "F1", 3, 1),
    Measure("false_alarm_rate", "FAR", 3, -1),
    Measure("missed_alarm_rate", "MAR", 3, -1),
)
NAB = (
    Measure("nab_standard", "NAB standard", 1, 1),
    Measure("nab_low_fp", "NAB low FP", 1, 1),
    Measure("nab_low_fn", "NAB low FN", 1, 1),
    Measure("nab_standard_optimised", "standard, optimised", 1, 1),
    Measure("nab_low_fp_optimised", "low FP, optimised", 1, 1),
    Measure("nab_low_fn_optimised", "low FN, optimised", 1, 1),
)
# A day is 300 readings in one set and 86,400 in another: what is counted in days has no mean over sets.
A_DAY = ("false_alarms_a_day", "alarms_a_day")
MEASURES_OVER_SETS = tuple(measure for measure in MEASURES if measure.name not in A_DAY)
STANDS_IN = {
    "PCA": "last value",
    "plain PCA": "squared difference",
}  # over all sets, for a baseline on the sets where it makes no sense
OWN = {"nab": NAB, "skab": POINTS}  # the figures that a benchmark is published with


class EvaluationSummary(NamedTuple):
    """A detector on a set, or over all of them: means over seeds and their standard deviation, by measure."""

    set: str
    detector: str
    seeds: int
    mean: dict[str, float]
    spread: dict[str, float]
    best: frozenset[str]  # the measures in which it is the best, or cannot be told from the best
    few: dict[str, str]  # what is shown in place of shares of too few, by measure

    @property
    def name(self) -> str:
        return self.detector

    def text_of(self, measure: Measure) -> str:
        if measure.name in self.few:
            return self.few[measure.name]
        spread = self.spread[measure.name] if self.seeds >= FEWEST_SEEDS else None
        return figure(measure, self.mean[measure.name], spread, best=measure.name in self.best)


class SetFigures(NamedTuple):
    """A detector's figures by name: (N,) of N seeds, and (N, DRAWS) of drawn series."""

    found: dict[str, Doubles]
    drawn: dict[str, Doubles]
    evidence: SetEvidence


def measures_of(name: str) -> tuple[Measure, ...]:
    return MEASURES + OWN.get(name, ())


def summarise(runs: Sequence[BenchmarkRun]) -> list[EvaluationSummary]:
    """Every detector on every set, in the order of the runs; then over all sets, if there are several.

    There only detectors that are on all of them, or have one that STANDS_IN for them.
    """
    by_set = {
        name: drawn_figures([run for run in runs if run.set == name]) for name in dict.fromkeys(r.set for r in runs)
    }
    summaries = [one for name, of in by_set.items() for one in _summarise(name, of, measures_of(name))]
    if len(by_set) > 1:
        over = {}
        for detector in dict.fromkeys(run.detector for run in runs):
            found = [of.get(detector) or of.get(STANDS_IN.get(detector, "")) for of in by_set.values()]
            if all(found):
                over[detector] = mean_over_sets([one for one in found if one])
        summaries += _summarise(OVER_SETS, over, MEASURES_OVER_SETS)
    return summaries


def drawn_figures(runs: Sequence[BenchmarkRun]) -> dict[str, SetFigures]:
    """By detector. The draws are those of every other set with as many series."""
    series = len(runs[0].tallies)
    draws = np.random.default_rng(0).multinomial(series, np.full(series, 1 / series), DRAWS).astype(np.float64)
    figures = {}
    for detector in dict.fromkeys(run.detector for run in runs):
        of = [run for run in runs if run.detector == detector]
        weighed = [weigh(run, np.vstack([np.ones(series), draws])) for run in of]
        columns = {name: np.stack([one[name] for one in weighed]) for name in weighed[0]}
        figures[detector] = SetFigures(
            {name: column[:, 0] for name, column in columns.items()},
            {name: column[:, 1:] for name, column in columns.items()},
            evidence_of([run.tallies for run in of]),
        )
    return figures


def mean_over_sets(of: Sequence[SetFigures]) -> SetFigures:
    """Means over the sets; a baseline, which has no seeds, counts the same for every seed."""
    names = [measure.name for measure in MEASURES_OVER_SETS]
    seeds = max(len(one.found[names[0]]) for one in of)
    found = {n: _mean([np.broadcast_to(one.found[n], seeds) for one in of]) for n in names}
    drawn = {n: _mean([np.broadcast_to(one.drawn[n], (seeds, DRAWS)) for one in of]) for n in names}
    return SetFigures(found, drawn, evidence_over_sets([one.evidence for one in of]))


def _mean(columns: Sequence[Doubles]) -> Doubles:
    """Over the sets on which there is something to measure."""
    table = np.stack(columns)
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(0)
    means: Doubles = np.divide(total, known.sum(0), out=np.full(total.shape, np.nan), where=known.any(0))
    return means


def _summarise(name: str, of: Mapping[str, SetFigures], measures: Sequence[Measure]) -> list[EvaluationSummary]:
    best = {}
    for measure in measures:
        known = comparable({d: one.evidence.of(measure.name) for d, one in of.items()})
        best[measure.name] = best_of({d: _of_measure(of[d], measure) for d in of if d in known}, measure)
    return [
        EvaluationSummary(
            name,
            detector,
            len(next(iter(one.found.values()))),
            {measure.name: float(one.found[measure.name].mean()) for measure in measures},
            {measure.name: spread_of(one.found[measure.name]) for measure in measures},
            frozenset(measure.name for measure in measures if detector in best[measure.name]),
            {name: text for name in (*SHARES, *A_DAY) if (text := one.evidence.of(name).share)},
        )
        for detector, one in of.items()
    ]


def _of_measure(figures: SetFigures, measure: Measure) -> tuple[float, Doubles]:
    return float(figures.found[measure.name].mean()), figures.drawn[measure.name].mean(0)


def best_of(detectors: Mapping[str, tuple[float, Doubles]], measure: Measure) -> set[str]:
    """The best detector, and those that it cannot be told from. Each: the mean, and that of every draw, (DRAWS,).

    Of a measure that is not to be ranked, none.
    """
    if not measure.better:
        return set()
    known = {name: pair for name, pair in detectors.items() if not math.isnan(pair[0])}
    if not known:
        return set()
    best = max(known, key=lambda name: measure.better * known[name][0])
    return {name for name in known if name == best or _ties(known[name], known[best])}


def _ties(one: tuple[float, Doubles], best: tuple[float, Doubles]) -> bool:
    apart = one[1] - best[1]
    apart = apart[np.isfinite(apart)]
    if one[0] == best[0] or not len(apart):
        return one[0] == best[0]
    low, high = np.percentile(apart, [50 - TIE / 2, 50 + TIE / 2])
    return bool(low <= 0 <= high)


def facts(runs: Sequence[BenchmarkRun], name: str) -> str:
    """What a set is, in a line."""
    first = next(run for run in runs if run.set == name)
    readings, labelled = (sum(getattr(one, of) for one in first.tallies) for of in ("readings", "labelled"))
    events, days = sum(one.events for one in first.tallies), sum(one.days for one in first.tallies)
    return (
        f"{len(first.tallies)} series, {counted(readings, 'test reading')} of {counted(first.features, 'feature')}, "
        f"{days:,.1f} stream-days, {counted(events, 'event')} in "
        f"{100 * labelled / readings:.1f} % of the readings"
    )


def tables(summaries: Sequence[EvaluationSummary], name: str) -> list[Table]:
    """The table of a set, and that of the figures it is published with, if it has any of its own."""
    measures = [MEASURES_OVER_SETS if name == OVER_SETS else MEASURES, *([OWN[name]] if name in OWN else [])]
    return [measure_table("detector", summaries, name, of) for of in measures]


def write(runs: Sequence[BenchmarkRun], summaries: Sequence[EvaluationSummary], folder: Path) -> None:
    """evaluation.csv, a row a run; evaluation.json, the summaries too; evaluation.md, the tables."""
    rows = [
        {
            **{name: getattr(run, name) for name in ("set", "detector", "seed", "seconds", "ended")},
            **{name: column.item() for name, column in weigh(run, np.ones((1, len(run.tallies)))).items()},
            **{f"nab_{name}_threshold": value for name, value in run.threshold.items()},
        }
        for run in runs
    ]
    parts = []
    for name in dict.fromkeys(one.set for one in summaries):
        parts.append(f"## {name}\n")
        if name != OVER_SETS:
            parts.append(f"{facts(runs, name)}.\n")
        parts += [markdown(*each) for each in tables(summaries, name)]
    kept = [one._asdict() | {"best": sorted(one.best)} for one in summaries]
    write_tables(folder / "evaluation", rows, kept, "\n".join([*parts, f"{MARK}\n"]))
