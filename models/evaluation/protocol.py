"""Settings chosen without the series they are judged on: every family of series is left out once.

A family is what series have in common that settings could be fitted to: a folder of NAB, a valve of SKAB, a machine.
For each, the setting is taken that is best on all others, sets counting the same, and the family is judged with that.
What all families come to is how well the way of choosing does on series that it never saw; the worst of them says what
a user of another plant may meet. Labels choose only between settings, and never for their own family.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles
from models.evaluation.benchmark import NAB_FIGURES, WHOLE, BenchmarkRun, setting_name, weigh
from models.evaluation.grid import Setting

CHOSEN = f"{WHOLE}, by protocol"
CRITERIA = ("f1", "vus_pr", "nab_standard")


class Fold(NamedTuple):
    """A family that was left out, and how it was judged."""

    set: str
    family: str
    series: int
    events: int
    chosen: str  # the detector
    figures: dict[str, float]  # by name, means over seeds


class Judgement(NamedTuple):
    folds: list[Fold]
    runs: list[BenchmarkRun]  # CHOSEN on every set, a run a seed


def judge_by_protocol(runs: Sequence[BenchmarkRun], settings: Sequence[Setting], criterion: str) -> Judgement:
    """Leave every family out. runs: of every set, with the detector as it is and with every setting."""
    candidates = _candidates(runs, [WHOLE, *map(setting_name, settings)])
    folds: list[Fold] = []
    chosen_runs: list[BenchmarkRun] = []
    for name, of in candidates.items():
        families = of[WHOLE][0].families
        chosen = {family: _choose(candidates, name, family, criterion) for family in dict.fromkeys(families)}
        folds += [_fold(of[detector], family, detector) for family, detector in chosen.items()]
        by_seed = ([of[chosen[family]][seed] for family in families] for seed in range(len(of[WHOLE])))
        chosen_runs += map(_joined, by_seed)
    return Judgement(folds, chosen_runs)


def _candidates(runs: Sequence[BenchmarkRun], names: Sequence[str]) -> dict[str, dict[str, list[BenchmarkRun]]]:
    """The runs of every seed by set and detector."""
    return {
        of_set: {name: [run for run in runs if (run.set, run.detector) == (of_set, name)] for name in names}
        for of_set in dict.fromkeys(run.set for run in runs)
    }


def _choose(
    candidates: dict[str, dict[str, list[BenchmarkRun]]], left_out_set: str, left_out: str, criterion: str
) -> str:
    """The best detector on all series but those of a family; of equals the first."""
    values: dict[str, float] = {}
    for name in candidates[left_out_set]:
        by_set = []
        for of_set, of in candidates.items():
            kept = np.array([of_set != left_out_set or family != left_out for family in of[name][0].families])
            by_set.append(_mean(of[name], kept)[criterion])
        known = [value for value in by_set if not math.isnan(value)]
        values[name] = float(np.mean(known)) if known else -math.inf
    return max(values, key=lambda name: values[name])


def _fold(runs: Sequence[BenchmarkRun], family: str, detector: str) -> Fold:
    kept = np.array([one == family for one in runs[0].families])
    figures = _mean(runs, kept)
    return Fold(runs[0].set, family, int(kept.sum()), int(figures["events"]), detector, figures)


def _mean(runs: Sequence[BenchmarkRun], kept: Bools) -> dict[str, float]:
    """The figures of some series, means over seeds."""
    weights: Doubles = kept.astype(np.float64)[None]
    seeds = [weigh(run, weights) for run in runs]
    return {name: float(np.mean([one[name].item() for one in seeds])) for name in seeds[0]}


def _joined(of_series: Sequence[BenchmarkRun]) -> BenchmarkRun:
    """Every series from a run of its own: they are judged with what was chosen for their families.

    NAB's optimised threshold has seen all of them, so it has no place here.
    """
    nab = {fixed: tuple(run.nab[fixed][place] for place, run in enumerate(of_series)) for fixed, _ in NAB_FIGURES}
    nab |= {optimised: (math.nan,) * len(of_series) for _, optimised in NAB_FIGURES}
    tallies = tuple(run.tallies[place] for place, run in enumerate(of_series))
    return of_series[0]._replace(detector=CHOSEN, tallies=tallies, nab=nab, threshold={})
