"""How good what is expected of the next reading is, whatever an alarm stage makes of it.

Sizes: R readings of a stream, F features.
"""

import math

import numpy as np

from models.data.arrays import Bools, Doubles
from models.detection.records import BAND_DEVIATIONS

NINETY_PERCENT = 1.6449  # standard deviations to either side
FARTHEST_ERROR = 10.0  # of a step, in standard deviations of the differences


def one_step_loss(values: Doubles, expected: Doubles, counts: Bools) -> float:
    """Loss over that of expecting the last known value: below 1 is better than "as before". NaN: nothing to compare.

    Huber's, in standard deviations of a channel's differences, each error cut at FARTHEST_ERROR, summed over all
    channels that move. values, expected: (R, F), NaN where there is none; counts: (R,).
    """
    before = hold(values, np.full(values.shape[1], np.nan))[:-1]
    changes, errors = values[1:] - before, values[1:] - expected[1:]
    scale = np.array([_deviation(column) for column in changes.T])
    known = counts[1:, None] & np.isfinite(changes) & np.isfinite(errors) & (scale > 0)
    scale = np.where(scale > 0, scale, 1.0)
    ours, simple = (_huber((error / scale)[known]).sum() for error in (errors, changes))
    return float(ours / simple) if simple > 0 else math.nan


def share_in_band(values: Doubles, expected: Doubles, upper: Doubles, counts: Bools) -> float:
    """Share of the values in the middle 90 % of the band, were errors normal; of channels that move."""
    moves = np.array([_deviation(column) > 0 for column in values.T])
    known = counts[:, None] & np.isfinite(values) & np.isfinite(upper) & moves
    within = np.abs(values - expected) <= (upper - expected) * (NINETY_PERCENT / BAND_DEVIATIONS)
    return float(within[known].mean()) if known.any() else math.nan


def hold(values: Doubles, before: Doubles) -> Doubles:
    """Every missing value replaced by the last known one, or by that before the first, (F,)."""
    known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), before)


def _deviation(column: Doubles) -> float:
    known = column[np.isfinite(column)]
    return float(known.std()) if len(known) else 0.0


def _huber(error: Doubles) -> Doubles:
    size = np.minimum(np.abs(error), FARTHEST_ERROR)
    return np.where(size < 1, 0.5 * size * size, size - 0.5)
