"""From score to alarm: a condition that opens, holds, and closes. Sizes: S streams, one wave.

closed --score >= 1--> open --score < close_below for close_after readings--> closed (recovered), rests
                       open --adopt_after readings--> closed (level_shift): what lasts is the new normal
An alarm that is open, or a score that would open one, teaches nothing: an anomaly that passes leaves no trace in
scale, statistics or calibration.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from models.rows import Channels, Scalars


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    close_below: float = 0.5  # score
    close_after: int = 8  # calm readings in a row
    rest: int = 32  # readings after closing in which none opens
    adopt_after: int = 256  # readings after which an open alarm is the new normal
    relearn: int = 128  # readings for which the new normal is learned whatever its score, and none opens
    major_at: float = 2.0  # peak score
    critical_at: float = 4.0


class Change(IntEnum):
    """What a reading did to its stream's alarm."""

    NONE = 0
    OPENED = 1
    UPDATED = 2  # it became more severe
    RECOVERED = 3
    LEVEL_SHIFT = 4


class Severity(IntEnum):
    MINOR = 0
    MAJOR = 1
    CRITICAL = 2


class Step(NamedTuple):
    """What one wave did; each (S,)."""

    change: Tensor  # int64 Change
    learns: Tensor  # float64, 1 where the reading may be learned from


def is_restless(scalars: Scalars[Tensor]) -> bool:
    """Whether any stream is in an alarm, rests or relearns: if none is, a wave of low scores changes no alarm."""
    return bool((scalars.alarm + scalars.rest + scalars.relearn).any())


def step(
    score: Tensor,
    out_of_range: Tensor,
    values: Tensor,
    times_ms: Tensor,
    offsets: Tensor,
    channels: Channels[Tensor],
    scalars: Scalars[Tensor],
    config: AlarmConfig,
) -> Step:
    """Let one wave of scores (S,) work on the alarms, in place.

    out_of_range: (S,) bool, whether the score is the range rule's. values: (S, F). times_ms, offsets: (S,) float64.
    """
    hot = score >= 1.0
    was_open = scalars.alarm > 0
    opens = hot & ~was_open & (scalars.rest <= 0)
    is_open = was_open | opens

    _keep(scalars.opened_offset, opens, offsets)
    _keep(scalars.opened_ms, opens, times_ms)
    _keep(scalars.opened_by, opens, out_of_range.double())
    scalars.peak.copy_(torch.where(opens, score, torch.maximum(scalars.peak, score)) * is_open)
    scalars.length.copy_((torch.where(opens, 0.0, scalars.length) + 1) * is_open)
    scalars.quiet.copy_(torch.where(score < config.close_below, scalars.quiet + 1, 0.0) * is_open)
    level = torch.where(opens.unsqueeze(1), 0.0, channels.level)
    _keep(channels.level, is_open.unsqueeze(1), level + (values - level) / scalars.length.clamp(min=1).unsqueeze(1))

    severity = (scalars.peak >= config.major_at).double() + (scalars.peak >= config.critical_at)
    rises = was_open & (severity > scalars.severity)
    scalars.severity.copy_(severity)

    recovers = was_open & (scalars.quiet >= config.close_after)
    shifts = is_open & (scalars.length >= config.adopt_after) & ~recovers
    closes = recovers | shifts
    scalars.alarm.copy_(is_open & ~closes)
    learns = ~is_open & (~hot | (scalars.relearn > 0))
    scalars.relearn.copy_(torch.where(shifts, config.relearn, (scalars.relearn - 1).clamp(min=0)))
    rest = torch.where(shifts, config.relearn, config.rest)
    scalars.rest.copy_(torch.where(closes, rest, (scalars.rest - 1).clamp(min=0)))
    return Step(_change(opens, rises, recovers, shifts), learns.double())


def _keep(statistic: Tensor, where: Tensor, new: Tensor) -> None:
    statistic.copy_(torch.where(where, new, statistic))


def _change(opens: Tensor, rises: Tensor, recovers: Tensor, shifts: Tensor) -> Tensor:
    change = opens * Change.OPENED + (rises & ~recovers & ~shifts) * Change.UPDATED
    return change + recovers * Change.RECOVERED + (shifts & ~opens) * Change.LEVEL_SHIFT
