"""How scores are made of residual, level and range: what can be set. The arithmetic is the judge's.

Three things are looked at, each over a threshold of its own; the one that is furthest over it is the score.

1. residual: in its standard deviations for this stream, root mean square over its channels (the strength), smoothed;
2. level: the same of the level deviation, the smoothed distance from the stream's own level;
   of both, how far they are above their own long mean, in standard deviations (what anomaly likelihood takes the tail
   of: Lavin & Ahmad 2015);
3. range: how far the reading lies outside the range learned so far.

The thresholds come from the peaks of the stream's own recent blocks, taken as Gumbel distributed (block maxima: Coles
2001, ch. 3; parameters by the method of moments).
"""

import math
from dataclasses import dataclass

EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score; 64 go into settling
    residual_weight: float = 1.0  # of the residual's deviation; 0: the net counts for nothing
    level_weight: float = 0.5  # of the level's deviation; 0: only the net counts, and the range
    smooth_readings: int = 40  # length of the strength's short memory
    level_readings: int = 45  # length of the level deviation's
    usual_share: float = 0.2  # of the baseline, added to its standard deviation: what is always 0 may be a little more
    long_readings: int = 8192  # length of the long memories
    block_readings: int = 64  # a calibration block
    blocks: int = 128  # blocks the thresholds remember
    false_alarm_rate: float = 2e-3  # a smoothed reading, aimed at by a threshold: an alarm is a run of such
    lowest_threshold: float = 1.5  # deviation
    range_share: float = 0.75  # further outside the range than this share of it scores above 1
    training_readings: int = 4096  # what a training part taught weighs at least as much as this many

    def __post_init__(self) -> None:
        if min(self.warm_up, self.smooth_readings, self.level_readings, self.long_readings) < 1:
            raise ValueError("warm_up, smooth_readings, level_readings and long_readings: expected at least 1 each")
        if min(self.block_readings, self.blocks) < 1 or self.training_readings < 0:
            raise ValueError("block_readings and blocks: expected at least 1 each; training_readings: at least 0")
        if not 0 < self.false_alarm_rate * self.block_readings < 1:
            raise ValueError("false_alarm_rate: expected above 0, and below 1 a block")
        if not min(self.lowest_threshold, self.range_share) > 0:
            raise ValueError("lowest_threshold and range_share: expected above 0")
        if min(self.residual_weight, self.level_weight, self.usual_share) < 0:
            raise ValueError("residual_weight, level_weight and usual_share: expected at least 0")

    @property
    def deviations(self) -> float:
        """Of the blocks' peaks, that a Gumbel law through them exceeds at the wanted rate, above their mean."""
        exceedance = -math.log(self.false_alarm_rate * self.block_readings)
        return (exceedance - EULER_GAMMA) * math.sqrt(6) / math.pi
