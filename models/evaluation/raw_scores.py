"""Scores without a memory, calibration or alarm stage: what a detector of any effort must beat.

Each has settings that stand here, none that is fitted to labels. Score 1.0 is the largest one of the stream's own
training part, and an alarm that opened closes after HOLD_READINGS below it, or every reading would be an alarm of its
own.
Sizes: R readings of a stream, F features.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.data import windows
from models.data.arrays import Bools, Doubles
from models.data.series import Series
from models.evaluation.evaluation import Judged
from models.evaluation.steps import hold

EXPLAINED = 0.99  # share of the training part's variance that the components kept have
WINDOW_READINGS = 40  # that a variance is of
HOLD_READINGS = 40
SMALLEST_SCORE = 1e-12  # that may be 1.0: a training part may never move

RawScore = Callable[[Series], Doubles]  # (R,) of every reading, the training part's too


def judge_raw(series: Sequence[Series], score: RawScore) -> list[Judged]:
    """The test part of every series that has one."""
    return [_judge(one, score(one)) for one in series if one.test.any()]


def plain_components(series: Series) -> Doubles:
    """Squared distance of a reading from the principal components of its stream's training part.

    Channels are centred and not scaled: one that moves little in the training part says little.
    """
    held, centre, _ = _held(series)
    centred = held - centre
    _, strengths, axes = np.linalg.svd(centred[~series.test], full_matrices=False)
    explained = np.cumsum(strengths**2)
    least = int(np.searchsorted(explained, EXPLAINED * explained[-1])) + 1
    kept = axes[: min(least, len(strengths) - 1) if explained[-1] > 0 else 0]  # one is left to be far from
    apart = centred - centred @ kept.T @ kept
    return _total(apart * apart)


def squared_difference(series: Series) -> Doubles:
    """Squared change since the reading before, in spreads of the training part, over all channels."""
    held, centre, spread = _held(series)
    changes = np.diff((held - centre) / spread, axis=0, prepend=(held[:1] - centre) / spread)
    return _total(changes * changes)


def moving_variance(series: Series) -> Doubles:
    """Variance of the last WINDOW_READINGS, in spreads of the training part, over all channels."""
    held, centre, spread = _held(series)
    scaled = (held - centre) / spread
    length = np.minimum(np.arange(1, len(scaled) + 1), WINDOW_READINGS)[:, None]
    mean, square = (_moving_sum(column) / length for column in (scaled, scaled * scaled))
    return _total(np.maximum(square - mean * mean, 0.0))


def raw_scores(features: Sequence[str]) -> Mapping[str, RawScore]:
    """Those that make sense for streams with these features, by name."""
    scores = dict(RAW_SCORES)
    if len(features) < 2:  # the only component of one feature is the feature
        del scores["plain PCA"]
    return scores


RAW_SCORES: Mapping[str, RawScore] = {
    "plain PCA": plain_components,
    "moving variance": moving_variance,
    "squared difference": squared_difference,
}


def _held(series: Series) -> tuple[Doubles, Doubles, Doubles]:
    """Values with the last known one where one is missing, and the training part's centre and spread."""
    centre, spread, _ = windows.scale_of(series.select(~series.test))
    return hold(series.values, centre), centre, spread


def _total(of_channels: Doubles) -> Doubles:
    total: Doubles = of_channels.sum(1)
    return total


def _moving_sum(values: Doubles) -> Doubles:
    total = np.cumsum(values, axis=0)
    before = np.concatenate([np.zeros((WINDOW_READINGS, values.shape[1])), total[:-WINDOW_READINGS]])[: len(total)]
    moving: Doubles = total - before
    return moving


def _judge(series: Series, score: Doubles) -> Judged:
    train, test = score[~series.test], series.test
    relative = score[test] / max(float(train.max(initial=0.0)), SMALLEST_SCORE)
    part = series.select(test)
    expected, lower, upper = (np.full(part.values.shape, np.nan) for _ in range(3))
    return Judged(part, relative, _open(relative), expected, lower, upper)


def _open(score: Doubles) -> Bools:
    """Above 1, and for HOLD_READINGS after it."""
    number = np.arange(len(score))
    last = np.maximum.accumulate(np.where(score > 1, number, -HOLD_READINGS - 1))
    open_at: Bools = number - last <= HOLD_READINGS
    return open_at
