"""Faults of a known kind and size, put into real series: what the head that names kinds is trained and judged on.

They go only where the detector finds nothing in the series as it is; no label is read.
Sizes: R readings of a series, F features.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator

from models.data.arrays import Bools, Doubles
from models.detection.kinds import Kind

Range: TypeAlias = tuple[float, float]  # drawn uniformly

CALM_BEFORE = 64  # readings without an alarm that a fault needs before it
CALM_AFTER = 32  # and after it
SETTLED = 64  # readings in which a channel must have moved, or it gets no fault
LEAST_MOVE = 0.05  # spreads, standard deviation over those readings
LEAST_CHANGE = 0.5  # spreads, root mean square: a sensor stuck at what it would have read anyway shows no fault
FROM_ZERO = 3.0  # spreads; a channel that is nearer to 0 drops out as missing values


class Shape(NamedTuple):
    readings: tuple[int, int]  # shortest, longest
    size: Range = (0.0, 0.0)  # in spreads, without its sign


SHAPES = {
    Kind.SPIKE: Shape((1, 3), (5, 12)),  # height
    Kind.LEVEL_SHIFT: Shape((40, 200), (3, 8)),  # height
    Kind.DRIFT: Shape((80, 240), (4, 10)),  # height it has reached at its end
    Kind.STUCK: Shape((40, 160)),
    Kind.NOISE: Shape((24, 96), (1.5, 4)),  # standard deviation of what is added
    Kind.DROPOUT: Shape((8, 60)),
}
CHANNELS = (1, 1, 2, 3)  # how many a fault may touch, each entry as likely; never more than there are


class InjectedFault(NamedTuple):
    """Readings start to end (exclusive) of some channels. size: in spreads, signed; dropout: 0 zeros, NaN missing."""

    kind: Kind
    start: int
    end: int
    channels: tuple[int, ...]
    size: float


def draw(kind: Kind, start: int, values: Doubles, calm: Bools, spread: Doubles, rng: Generator) -> InjectedFault | None:
    """A fault that begins at reading `start`; None where the series is not calm or no channel is fit for it.

    values: (R, F), NaN where missing. calm: (R,), where the series as it is gives no alarm. spread: (F,), what sizes
    count.
    """
    end = start + int(rng.integers(*SHAPES[kind].readings, endpoint=True))
    if end + CALM_AFTER > len(values) or not calm[max(start - CALM_BEFORE, 0) : end + CALM_AFTER].all():
        return None
    before, during = values[max(start - SETTLED, 0) : start], values[start:end]
    usable = np.isfinite(before).all(0) & np.isfinite(during).all(0) & np.isfinite(spread)
    usable[usable] = before[:, usable].std(0) >= LEAST_MOVE * spread[usable]
    if kind is Kind.STUCK:
        change = np.sqrt(((during - before[-1]) ** 2).mean(0))
        usable &= change >= LEAST_CHANGE * spread
    found = np.flatnonzero(usable)
    if not len(found):
        return None
    channels = np.sort(rng.choice(found, min(int(rng.choice(CHANNELS)), len(found)), replace=False))
    size = float(rng.uniform(*SHAPES[kind].size))
    if rng.random() < 0.5:
        size = -size
    if kind is Kind.DROPOUT:
        size = _dropout(during[:, channels], spread[channels], rng)
    return InjectedFault(kind, start, end, tuple(channels.tolist()), size)


def disturb(values: Doubles, spread: Doubles, fault: InjectedFault, rng: Generator) -> None:
    """Put one fault into the series, in place. values: (R, F), spread: (F,)."""
    columns = list(fault.channels)
    at = np.ix_(range(fault.start, fault.end), columns)
    length = fault.end - fault.start
    height = fault.size * spread[columns]
    match fault.kind:
        case Kind.SPIKE | Kind.LEVEL_SHIFT:
            values[at] += height
        case Kind.DRIFT:
            values[at] += (np.arange(1, length + 1) / length)[:, None] * height
        case Kind.STUCK:
            values[at] = values[fault.start - 1, columns]
        case Kind.NOISE:
            values[at] += rng.standard_normal((length, len(columns))) * height
        case Kind.DROPOUT:
            values[at] = fault.size


def _dropout(during: Doubles, spread: Doubles, rng: Generator) -> float:
    """What is read: 0, as sensors without a supply do, where that is far from the true value; else nothing (NaN)."""
    far = bool((np.abs(during) >= FROM_ZERO * spread).all())
    return 0.0 if far and rng.random() < 0.5 else float("nan")
