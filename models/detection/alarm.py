"""From score to alarm: a condition that opens, holds, and closes. Sizes: S streams, one wave.

closed --score >= 1--> open --score < close_below for close_after readings--> closed (recovered), rests
                       open --adopt_after readings--> closed (level_shift): what lasts is the new normal
An alarm that is open, or a score that would open one, teaches the scale, the level and the range nothing. The
baseline of residuals and level deviations does learn from an alarm's first readings (`learn_first`): what comes again
and again becomes normal, what lasts does not hide itself. Thresholds learn from all: where peaks are frequent, more is
asked of one.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from models.detection.rows import Channels, Scalars


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    close_below: float = 0.7  # score
    close_after: int = 40  # calm readings in a row
    rest: int = 64  # readings after closing in which none opens
    learn_first: int = 32  # readings of an alarm from which the baseline learns
    adopt_after: int = 512  # readings after which an open alarm is the new normal
    relearn: int = 128  # readings for which the new normal is learned whatever its score, and none opens
    major_at: float = 2.0  # peak score
    critical_at: float = 4.0

    def __post_init__(self) -> None:
        if min(self.close_after, self.adopt_after, self.relearn) < 1 or min(self.rest, self.learn_first) < 0:
            raise ValueError(
                "close_after, adopt_after and relearn: expected at least 1 each; rest and learn_first: at least 0"
            )
        if not 0 < self.close_below <= 1 <= self.major_at <= self.critical_at:
            raise ValueError("expected 0 < close_below <= 1 <= major_at <= critical_at")


class Change(IntEnum):
    """What a reading did to its stream's alarm."""

    NONE = 0
    OPENED = 1
    UPDATED = 2  # it became more severe
    RECOVERED = 3
    LEVEL_SHIFT = 4


class OpenedBy(IntEnum):
    """What was furthest over its threshold when an alarm opened, in the order of residuals.Scores.threshold_ratio."""

    PREDICTION = 0  # the residual: the memory did not expect it
    LEVEL = 1  # readings that stay where they should not be at this hour
    RANGE = 2  # a reading outside everything seen before


class Severity(IntEnum):
    MINOR = 0
    MAJOR = 1
    CRITICAL = 2


class Step(NamedTuple):
    """What one wave did; each (S,)."""

    change: Int64s  # Change
    learns: Doubles  # 1 where scale and level may learn from the reading
    updates_baseline: Doubles  # 1 where the baseline of residuals and level deviations may


def is_restless(scalars: Scalars[Doubles]) -> bool:
    """Whether any stream is in an alarm, rests or relearns: if none is, a wave of low scores changes no alarm."""
    return bool((scalars.alarm + scalars.rest + scalars.relearn).any())


def step(
    score: Doubles,
    furthest: Int64s,
    values: Doubles,
    times_ms: Doubles,
    offsets: Doubles,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    config: AlarmConfig,
) -> Step:
    """Let one wave of scores (S,) work on the alarms, in place.

    furthest: (S,) OpenedBy, what the score is of. values: (S, F). times_ms, offsets: (S,) float64.
    """
    hot = score >= 1.0
    was_open = scalars.alarm > 0
    opens = hot & ~was_open & (scalars.rest <= 0)
    is_open = was_open | opens
    if opens.any():
        _open(opens, offsets, times_ms, furthest, channels, scalars)
    learns = ~is_open & (~hot | (scalars.relearn > 0))

    rises = closes = shifts = np.zeros_like(opens)
    if is_open.any():
        rises = _follow(is_open, score, values, channels, scalars, config) & was_open
        recovers = was_open & (scalars.quiet >= config.close_after)
        shifts = is_open & (scalars.length >= config.adopt_after) & ~recovers
        closes = recovers | shifts
    rest, relearn = scalars.rest, scalars.relearn
    rest -= rest > 0
    relearn -= relearn > 0
    if closes.any():
        np.copyto(rest, np.where(shifts, config.relearn, config.rest), where=closes)
        np.copyto(relearn, config.relearn, where=shifts)
    np.copyto(scalars.alarm, is_open & ~closes)

    updates_baseline = ~is_open | (scalars.length <= config.learn_first)
    change = np.where(opens, Change.OPENED, np.where(rises, Change.UPDATED, Change.NONE))
    closed = np.where(shifts, Change.LEVEL_SHIFT, Change.RECOVERED)
    changed = np.where(closes, closed, change)
    return Step(changed, learns.astype(np.float64), updates_baseline.astype(np.float64))


def _open(
    opens: Bools,
    offsets: Doubles,
    times_ms: Doubles,
    furthest: Int64s,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
) -> None:
    np.copyto(scalars.opened_offset, offsets, where=opens)
    np.copyto(scalars.opened_ms, times_ms, where=opens)
    np.copyto(scalars.opened_by, furthest, where=opens)
    for statistic in (scalars.peak, scalars.severity, scalars.length, scalars.quiet):
        np.copyto(statistic, 0.0, where=opens)
    np.copyto(channels.mean_in_alarm, 0.0, where=opens[:, None])


def _follow(
    is_open: Bools,
    score: Doubles,
    values: Doubles,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    config: AlarmConfig,
) -> Bools:
    """Take one wave into the open alarms. Returns which became more severe."""
    peak, length, quiet = scalars.peak, scalars.length, scalars.quiet
    np.maximum(peak, score, out=peak, where=is_open)
    length += is_open
    np.copyto(quiet, np.where(score < config.close_below, quiet + 1, 0.0), where=is_open)
    step = (values - channels.mean_in_alarm) / np.maximum(length, 1)[:, None]
    np.add(channels.mean_in_alarm, step, out=channels.mean_in_alarm, where=is_open[:, None])
    severity = (peak >= config.major_at).astype(np.float64) + (peak >= config.critical_at)
    rises: Bools = is_open & (severity > scalars.severity)
    np.copyto(scalars.severity, severity, where=is_open)
    return rises
