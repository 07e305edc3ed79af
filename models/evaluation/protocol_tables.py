"""What judge_by_protocol() found, as tables: the folds, the worst of each set, and differences to the baselines."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.data.arrays import Doubles
from models.evaluation.benchmark import BenchmarkRun
from models.evaluation.evaluation_tables import (
    MEASURES_OVER_SETS,
    OWN,
    SHARES,
    STANDS_IN,
    SetFigures,
    drawn_figures,
    mean_over_sets,
)
from models.evaluation.evidence import FEWEST_EVENTS, FEWEST_SEEDS, TIE, TOO_FEW
from models.evaluation.protocol import CHOSEN, Fold, Judgement
from models.evaluation.tables import Measure, Table, TitledTable, markdown, write_tables

SHOWN = tuple(measure for measure in MEASURES_OVER_SETS if measure.name in {"vus_pr", "f1", "false_alarms", "loss"})
NAB_STANDARD = next(measure for measure in OWN["nab"] if measure.name == "nab_standard")


def protocol_tables(judgement: Judgement, runs: Sequence[BenchmarkRun]) -> list[TitledTable]:
    """runs: all others, of which the baselines are compared."""
    return [
        TitledTable("families left out", _folds(judgement.folds)),
        TitledTable("over the families of a set: mean ± standard deviation; the worst", _spread(judgement.folds)),
        TitledTable("settings chosen", _chosen(judgement.folds)),
        TitledTable(
            f"{CHOSEN} less each baseline, mean over sets: the middle {TIE} % of paired draws of series",
            _differences([*judgement.runs, *runs]),
        ),
    ]


def write_protocol(judgement: Judgement, runs: Sequence[BenchmarkRun], path: Path) -> None:
    """path.csv, a row a family; path.json and path.md."""
    rows = [
        {**{name: getattr(fold, name) for name in ("set", "family", "series", "events", "chosen")}, **fold.figures}
        for fold in judgement.folds
    ]
    text = "\n".join(f"## {title}\n\n{markdown(*table)}" for title, table in protocol_tables(judgement, runs))
    write_tables(path, rows, [], text)


def _measures(name: str) -> tuple[Measure, ...]:
    return (*SHOWN, NAB_STANDARD) if name == "nab" else SHOWN


def _folds(folds: Sequence[Fold]) -> Table:
    measures = (*SHOWN, NAB_STANDARD) if any(fold.set == "nab" for fold in folds) else SHOWN
    rows = [
        [
            f"{fold.set} {fold.family}",
            f"{fold.series}",
            f"{fold.events}",
            *(_figure(fold, one) if one in _measures(fold.set) else "-" for one in measures),
            fold.chosen,
        ]
        for fold in folds
    ]
    return ["family", "series", "events", *(measure.title for measure in measures), "chosen"], rows


def _told(fold: Fold, measure: Measure) -> bool:
    return measure.name not in SHARES or fold.events >= FEWEST_EVENTS


def _figure(fold: Fold, measure: Measure) -> str:
    found = fold.figures[measure.name]
    return _number(found, measure) if _told(fold, measure) or math.isnan(found) else TOO_FEW


def _spread(folds: Sequence[Fold]) -> Table:
    rows = []
    for name in dict.fromkeys(fold.set for fold in folds):
        for measure in _measures(name):
            known = [fold for fold in folds if fold.set == name and not math.isnan(fold.figures[measure.name])]
            if known:
                values = np.array([fold.figures[measure.name] for fold in known])
                rows.append(
                    [f"{name} {measure.title}", f"{len(known)}", _mean_of(values, measure), _worst(known, measure)]
                )
    return ["figure", "families", "mean", "worst"], rows


def _worst(folds: Sequence[Fold], measure: Measure) -> str:
    """Of the families with enough events to have the figure."""
    told = [fold for fold in folds if _told(fold, measure)]
    if not told:
        return TOO_FEW
    worst = min(told, key=lambda fold: measure.better * fold.figures[measure.name])
    return f"{_number(worst.figures[measure.name], measure)} ({worst.family})"


def _mean_of(values: Doubles, measure: Measure) -> str:
    mean = _number(float(values.mean()), measure)
    return f"{mean} ± {_number(float(values.std()), measure)}" if len(values) >= FEWEST_SEEDS else mean


def _chosen(folds: Sequence[Fold]) -> Table:
    counted = Counter(fold.chosen for fold in folds).most_common()
    return ["detector", "families"], [[name, f"{times}"] for name, times in counted]


def _differences(runs: Sequence[BenchmarkRun]) -> Table:
    by_set = {name: drawn_figures([run for run in runs if run.set == name]) for name in _sets(runs)}
    others = [name for name in dict.fromkeys(run.detector for run in runs) if name != CHOSEN]
    rows = []
    ours = mean_over_sets([of[CHOSEN] for of in by_set.values()])
    for other in others:
        found = [of.get(other) or of.get(STANDS_IN.get(other, "")) for of in by_set.values()]
        if all(found):
            theirs = mean_over_sets([one for one in found if one])
            rows.append([other, *(_difference(ours, theirs, measure) for measure in SHOWN)])
    return ["less", *(measure.title for measure in SHOWN)], rows


def _difference(ours: SetFigures, theirs: SetFigures, measure: Measure) -> str:
    found = float(ours.found[measure.name].mean() - theirs.found[measure.name].mean())
    drawn = ours.drawn[measure.name].mean(0) - theirs.drawn[measure.name].mean(0)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return "-"
    if not all(one.evidence.of(measure.name).comparable for one in (ours, theirs)):
        return TOO_FEW
    low, high = np.percentile(drawn, [50 - TIE / 2, 50 + TIE / 2])
    return f"{found:+.{measure.digits}f} [{low:+.{measure.digits}f}, {high:+.{measure.digits}f}]"


def _sets(runs: Sequence[BenchmarkRun]) -> list[str]:
    return list(dict.fromkeys(run.set for run in runs))


def _number(value: float, measure: Measure) -> str:
    return "-" if math.isnan(value) else f"{value:.{measure.digits}f}"
