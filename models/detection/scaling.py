"""Centre and spread of every channel of every stream, from that stream's own calm readings only.

The scale of a stream moves at fixed ages (its 2nd, 4th, 8th, ... reading), so that it comes with the first readings,
settles soon, and follows slowly after that; and when a lasting anomaly is adopted as the new normal. Between those
readings it is constant: only so can many readings of a stream go through the net in one call.
Sizes: T waves, S streams, F features.
"""

from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles
from models.detection.rows import NO_MINUS, Channels, Columns, Scalars

SMALLEST_SPREAD = 1e-9  # of a channel that never moved, beside one millionth of its level


class Held(NamedTuple):
    """Readings with every missing value replaced by the channel's last known one."""

    values: Doubles  # (T, S, F)
    present: Bools | None  # (T, S, F); None: nothing is missing


def hold(values: Doubles, last: Doubles) -> Held:
    """A missing value (NaN) is the last known value to the net, and neither scored nor learned from.

    values: (T, S, F), last: (S, F).
    """
    held = values + NO_MINUS
    missing = np.isnan(held)
    if not missing.any():
        return Held(held, None)
    for wave in range(len(held)):
        before = held[wave - 1] if wave else last
        np.copyto(held[wave], before, where=missing[wave])
    return Held(held, ~missing)


def learn_scale(values: Doubles, weight: Doubles, channels: Channels[Doubles]) -> None:
    """Take one wave into mean and squared distance (Welford 1962) and the range. values, weight (0 or 1): (S, F)."""
    known, mean, square = channels.known, channels.mean, channels.square
    known += weight
    distance = values - mean
    mean += distance * weight / np.maximum(known, 1)
    square += distance * (values - mean) * weight
    taken = weight > 0
    np.minimum(channels.low, values, out=channels.low, where=taken)
    np.maximum(channels.high, values, out=channels.high, where=taken)


def move_scale(due: Bools, columns: Columns) -> None:
    """Derive centre and spread again for the streams in `due` (S,); what is in spreads is re-expressed."""
    channels, scalars = columns.views()
    watched = columns.watched()
    spread = spread_of(channels)
    shrink = np.where(np.isfinite(channels.spread), channels.spread / spread, 1.0)
    some = due[:, None]
    for in_spreads in (watched.mean, channels.level_deviation, columns.season()):
        np.multiply(in_spreads, shrink, out=in_spreads, where=some)
    np.multiply(watched.variance, shrink * shrink, out=watched.variance, where=some)
    np.copyto(channels.centre, channels.mean, where=some)
    np.copyto(channels.spread, spread, where=some)
    np.multiply(scalars.rescale_at, 2, out=scalars.rescale_at, where=due)


def spread_of(channels: Channels[Doubles]) -> Doubles:
    """Standard deviation of what was learned, (S, F); infinite while fewer than two values are known."""
    spread = np.sqrt(channels.square / np.maximum(channels.known - 1, 1))
    floor = np.abs(channels.mean) * 1e-6 + SMALLEST_SPREAD
    return np.where(channels.known >= 2, np.maximum(spread, floor), np.inf)


def adopt_level(adopted: Bools, channels: Channels[Doubles], scalars: Scalars[Doubles]) -> None:
    """The level since the alarm opened is the normal one from now on, for the streams in `adopted` (S,).

    Centre, mean and range start from there; the spread and all residual statistics stay.
    """
    some = adopted[:, None]
    weight = np.minimum(scalars.length[:, None], channels.known)
    variance = channels.square / np.maximum(channels.known, 1)
    np.copyto(channels.square, variance * weight, where=some)
    np.copyto(channels.known, weight, where=some)
    for statistic in (channels.centre, channels.mean, channels.low, channels.high):
        np.copyto(statistic, channels.mean_in_alarm, where=some)
