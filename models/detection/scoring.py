"""How scores are made of what eight witnesses say: what can be set. The arithmetic is the judge's.

Each witness looks at readings in a way of its own, over a threshold of its own; the one that is furthest over it is the
score.

- sudden: this reading's residual, in its standard deviations for this stream; the channel furthest over its threshold;
  of several channels also the smaller of two residuals, if one leaps and soon leaps back;
- prediction: the same, root mean square over the channels (the strength), smoothed, less the share of the one reading
  that has the largest: it takes two at least;
- level: the same of the level deviation, the smoothed distance from the stream's own level;
  of prediction and level, how far they are above their own long mean, in standard deviations (what anomaly likelihood
  takes the tail of: Lavin & Ahmad 2015);
- range: how far the reading lies outside the range learned so far;
- relation: how far the channels are from what the others say that they should be, root mean square, of this reading
  and smoothed with its sign; each is compared with its own long mean as prediction and level are; smoothed also the
  channel that is furthest over a threshold of its own;
- stuck, missing, silent: equal or calm values or none that swing, absent values, or no reading, for longer than this
  stream ever knew.

The thresholds of the first five come from the peaks of the stream's own recent blocks. The logarithms of these are
taken to follow a generalised extreme value law of shape -SHAPE, which ends far out: the logarithm makes heavy tails,
and the end takes a little from them, since those of normal noise are not so heavy (block maxima: Coles 2001, ch. 3;
parameters by the method of moments).
"""

import math
from dataclasses import dataclass

SHAPE = 0.05
SHAPE_MEAN = 0.9735042655627756  # Γ(1 + SHAPE)
SHAPE_STD = 0.06033419261044142  # √(Γ(1 + 2 SHAPE) - Γ(1 + SHAPE)²)

BLOCK_DIGIT = 2.0**-20
"""What a scored reading adds to Scalars.blocks: whole ones are full blocks, the rest is of the one that is not."""


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score; 64 go into settling
    residual_weight: float = 1.0  # of the residual's deviation; 0: the net counts for nothing
    level_weight: float = 0.5  # of the level's deviation; 0: only the net counts, and the range
    smooth_readings: int = 40  # length of the strength's short memory
    level_readings: int = 45  # length of the level deviation's
    usual_share: float = 0.2  # of the baseline, added to its standard deviation: what is always 0 may be a little more
    long_readings: int = 8192  # length of the long memories
    block_readings: int = 256  # a calibration block
    blocks: int = 32  # blocks the thresholds remember
    memory_interval_s: float = 60.0  # of what sends more often, blocks and long memories are as long as with this
    sharp_period: int = 24_800  # readings in which a healthy stream reaches the threshold of sudden, or of range, once
    lasting_period: int = 11_100  # the same of relation where it lasts
    smooth_period: int = 2_440  # of prediction and level: as many as the stream was judged for, but at least this
    longest_smooth_period: int = 11_100  # and at most this
    highest_smooth_peak: float = 3.0  # standard deviations above their mean: a higher peak of them teaches no more
    opened_factor: float = 1.2  # of the threshold of a witness that opens an alarm
    opened_readings: int = 5_000  # in which that fades: so often it may open alarms before more and more is asked
    lowest_threshold: float = 1.5  # deviations of prediction and level
    lowest_sudden: float = 5.0  # deviations
    range_share: float = 0.05  # further outside the range than this share of it scores above 1
    range_spreads: float = 3.0  # and further than this many standard deviations of the residual
    silent_intervals: float = 3.0  # usual intervals without a reading are silence, if no gap was half as long

    def __post_init__(self) -> None:
        if min(self.warm_up, self.smooth_readings, self.level_readings, self.long_readings) < 1:
            raise ValueError("warm_up, smooth_readings, level_readings and long_readings: expected at least 1 each")
        if min(self.block_readings, self.blocks) < 1 or self.block_readings * BLOCK_DIGIT >= 1:
            raise ValueError(
                f"block_readings and blocks: expected at least 1 each, and below {1 / BLOCK_DIGIT:,.0f} readings"
            )
        if min(self.sharp_period, self.lasting_period, self.smooth_period) < 2 * self.block_readings:
            raise ValueError("sharp_period, lasting_period and smooth_period: expected at least two blocks each")
        if not min(self.lowest_threshold, self.lowest_sudden, self.range_share, self.range_spreads) > 0:
            raise ValueError("lowest_threshold, lowest_sudden, range_share and range_spreads: expected above 0")
        if min(self.opened_factor, self.opened_readings, self.silent_intervals) < 1:
            raise ValueError("opened_factor, opened_readings and silent_intervals: expected at least 1 each")
        if not self.highest_smooth_peak > 0:
            raise ValueError("highest_smooth_peak: expected above 0")
        if self.memory_interval_s < 0:
            raise ValueError("memory_interval_s: expected at least 0")
        if min(self.residual_weight, self.level_weight, self.usual_share) < 0:
            raise ValueError("residual_weight, level_weight and usual_share: expected at least 0")

    def deviations(self, period: float) -> float:
        """Of the blocks' peaks, that the law through them exceeds once in `period` readings, above their mean."""
        exceedance = math.log(period / self.block_readings)
        return (SHAPE_MEAN - math.exp(-SHAPE * exceedance)) / SHAPE_STD
