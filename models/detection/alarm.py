"""From score to alarm: a condition that opens, holds, and closes.

closed --score >= 1--> open --score < close_below for close_after readings--> closed (recovered), rests
                       open --adopt_after readings--> closed (level_shift): what lasts is the new normal
An alarm that is open, or a score that would open one, teaches the scale, the level and the range nothing. The
baseline of residuals and level deviations does learn from an alarm's first readings (`learn_first`): what comes again
and again becomes normal, what lasts does not hide itself. Thresholds learn from all: where peaks are frequent, more is
asked of one.

Severity is how many times as rare what was seen is as what opens an alarm, see thresholds.rarity_of().
"""

import math
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    close_below: float = 0.7  # score
    close_after: int = 40  # calm readings in a row
    rest: int = 64  # readings after closing in which prediction and level, which are smoothed, open none
    learn_first: int = 32  # readings of an alarm from which the baseline learns
    adopt_after: int = 512  # readings after which an open alarm is the new normal, at least,
    adopt_days: float = 2.5  # and so long, or twice as long as the stream was known before: a weekend is no new normal
    relearn: int = 128  # readings for which the new normal is learned whatever its score, and none opens
    major_at: float = 10.0  # times as rare as what opens an alarm
    critical_at: float = 1_000.0

    def __post_init__(self) -> None:
        if min(self.close_after, self.adopt_after, self.relearn) < 1 or min(self.rest, self.learn_first) < 0:
            raise ValueError(
                "close_after, adopt_after and relearn: expected at least 1 each; rest and learn_first: at least 0"
            )
        if self.adopt_days < 0:
            raise ValueError("adopt_days: expected at least 0")
        if not 0 < self.close_below <= 1 <= self.major_at <= self.critical_at:
            raise ValueError("expected 0 < close_below <= 1 <= major_at <= critical_at")

    @property
    def times_as_rare(self) -> tuple[float, float, float]:
        """As what opens an alarm, from which on one is of each Severity."""
        return 1.0, self.major_at, self.critical_at

    @property
    def times_as_long(self) -> tuple[float, float, float]:
        """The same of a run, or a silence: one that is twice as long is taken to be ten times as rare."""
        return 1.0, 2 ** math.log10(self.major_at), 2 ** math.log10(self.critical_at)


class Change(IntEnum):
    """What a reading did to its stream's alarm."""

    NONE = 0
    OPENED = 1
    UPDATED = 2  # it became more severe
    RECOVERED = 3
    LEVEL_SHIFT = 4


class OpenedBy(IntEnum):
    """The witness that was furthest over its threshold when an alarm opened, first of equals."""

    PREDICTION = 0  # readings that the memory did not expect
    LEVEL = 1  # readings that stay where they should not be at this hour
    RANGE = 2  # a reading outside everything seen before
    SUDDEN = 3  # one reading far from what was expected
    STUCK = 4  # a value that does not change, is calm or does not swing for longer than it ever did
    MISSING = 5  # a value that is absent for longer than it ever was
    SILENT = 6  # no reading for longer than the stream's rhythm allows
    RELATION = 7  # channels that do not go together as they did


class Severity(IntEnum):
    MINOR = 0
    MAJOR = 1
    CRITICAL = 2
