"""From residual to score: how strange a reading is, on one scale for every stream and model. 1.0 is the threshold.

1. strength: the residual in units of this stream's own residual noise, root mean square over its channels;
2. deviation: how far the smoothed strength is above its own long memory, in standard deviations (what anomaly
   likelihood takes the tail of: Lavin & Ahmad 2015); the same of the stream's distance from its own level (see level);
   the larger of the two counts;
3. score: the surprise, the square of the deviation, over the stream's threshold, which comes from the peaks of its own
   recent blocks, taken as Gumbel distributed (block maxima: Coles 2001, ch. 3; parameters by the method of moments);
4. or, if that is more, how far the reading lies outside the range learned so far, with a threshold of the same kind.

Everything is O(1) a reading and lives in the stream's row. Unknown channels have infinite spreads, so the caller holds
np.errstate(all="ignore"). Sizes: S streams, F features, one wave.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.level import follow_level
from models.rows import NO_MINUS, Bools, Channels, Doubles, Scalars

FARTHEST = 1e6  # spreads; residuals are cut there, so that squares stay finite
STRONGEST = 30.0  # noises: a channel further off than that is not stranger, and does not drown the others
LARGEST_LEARNED = (
    100.0  # noises: of a residual further off than that no more is learned, or one glitch made a stream deaf
)
SMALLEST_NOISE = 1e-4  # variance in spreads: a residual of a hundredth of a spread is never strange
SMALLEST_DEVIATION = 0.05  # of a strength, which is around 1, beside its standard deviation
SETTLING = 48  # readings that the residual's noise is learned from before the strength, which it scales, is
HIGHEST_RANGE_SCORE = 8.0
FIRST_BLOCKS = 4  # that a threshold waits for
EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score; 64 go into settling
    residual_weight: float = 1.0  # of the residual's deviation; 0: the net is not listened to
    level_weight: float = 0.5  # of the level's deviation; 0: only the net is listened to, and the range
    smooth_readings: int = 30  # length of the strength's short memory
    level_readings: int = 40  # length of the tilt's
    usual_share: float = 0.2  # of what is usual, added to its standard deviation: what is always 0 may be a little more
    long_readings: int = 4096  # length of the long memories
    block_readings: int = 64  # a calibration block
    blocks: int = 64  # blocks the thresholds remember
    false_alarm_rate: float = 4e-3  # a smoothed reading, aimed at by the threshold: an alarm is a run of such
    lowest_threshold: float = 2.5  # surprise
    range_share: float = 0.5  # further outside the range than this share of it scores above 1
    training_readings: int = 4096  # what a training part taught weighs at least as much as so many readings

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


class Strangeness(NamedTuple):
    """What one wave of readings looks like; each (S,)."""

    score: Doubles
    surprise: Doubles
    tilt: Doubles  # root mean square over the channels
    outside: Doubles  # the range learned so far, in margins
    out_of_range: Bools  # the range says more than residual and level


def noise_of(channels: Channels[Doubles]) -> Doubles:
    """Standard deviation of the residual, (S, F), in spreads."""
    return np.sqrt(channels.noise + SMALLEST_NOISE)


def strength_of(standardised: Doubles, present: Bools | None) -> Doubles:
    """Root mean square over the channels (S, F) -> (S,), missing ones left out, each cut at STRONGEST."""
    strengths = np.minimum(np.abs(standardised), STRONGEST)
    if standardised.shape[1] == 1:
        alone: Doubles = strengths[:, 0]
        return alone
    squares = np.add.reduce(strengths * strengths, axis=1)
    channels = standardised.shape[1] if present is None else np.maximum(np.add.reduce(present, axis=1), 1)
    strength: Doubles = np.sqrt(squares / channels)
    return strength


def judge(
    standardised: Doubles,
    values: Doubles,
    present: Bools | None,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    config: ScoreConfig,
) -> Strangeness:
    """Score one wave. standardised: residual over its noise (S, F); values: (S, F), held. Moves `smooth` and `tilt`."""
    smooth = scalars.smooth
    smooth += (strength_of(standardised, present) - smooth) * (2 / (config.smooth_readings + 1))
    follow_level(values, present, channels, scalars, config.level_readings)
    tilt = strength_of(channels.tilt, None)
    deviation = np.maximum(
        _deviation(smooth, scalars.typical, scalars.variance, config) * config.residual_weight,
        _deviation(tilt, scalars.tilt_typical, scalars.tilt_variance, config) * config.level_weight,
    )
    surprise = surprise_of(deviation)
    outside = _outside(values, channels, config.range_share)
    by_residual = surprise / scalars.threshold
    by_range = np.minimum(outside / scalars.range_threshold, HIGHEST_RANGE_SCORE)
    score = np.maximum(by_residual, by_range) * (scalars.age > config.warm_up)  # neither is ever -0.0
    return Strangeness(score, surprise, tilt, outside, by_range > by_residual)


def _deviation(now: Doubles, usual: Doubles, variance: Doubles, config: ScoreConfig) -> Doubles:
    deviation: Doubles = (now - usual) / (np.sqrt(variance) + usual * config.usual_share + SMALLEST_DEVIATION)
    return deviation


def surprise_of(deviation: Doubles) -> Doubles:
    """The square of a deviation above 0: as a normal law's tail goes, but for factors that the threshold has too."""
    above = np.maximum(deviation, 0.0) + NO_MINUS
    surprise: Doubles = above * above
    return surprise


def _outside(values: Doubles, channels: Channels[Doubles], share: float) -> Doubles:
    """1.0 where a value is further outside the learned range than `share` of it; 0 inside, and of unknown channels."""
    low, high = channels.low, channels.high
    margin = np.maximum((high - low) * share, channels.spread * (share * 5))
    furthest = np.fmax.reduce(np.maximum(values - high, low - values) / margin, axis=1)
    outside: Doubles = np.minimum(np.fmax(furthest, 0.0), FARTHEST)
    return outside + NO_MINUS


def learn_residuals(
    residual: Doubles,
    noise: Doubles,
    strange: Strangeness,
    weight: Doubles,
    learns: Doubles,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    config: ScoreConfig,
) -> None:
    """Take one wave into the long memories.

    residual: (S, F) in spreads. noise: (S, F), what noise_of() says before. weight: (S, F), learns: (S,), 0 or 1.
    """
    learned = scalars.learned
    learned += learns
    farthest = np.where(learned > SETTLING, LARGEST_LEARNED, np.inf)[:, None] * noise
    near = np.clip(residual, channels.bias - farthest, channels.bias + farthest)
    _follow(channels.bias, channels.noise, near, _rate(learned, config)[:, None] * weight)
    rate = _rate(learned - SETTLING, config) * learns
    _follow(scalars.typical, scalars.variance, scalars.smooth, rate)
    _follow(scalars.tilt_typical, scalars.tilt_variance, strange.tilt, rate)

    scored = learns * (scalars.age > config.warm_up)
    seen = scalars.block_seen
    seen += scored
    np.maximum(scalars.block_peak, strange.surprise * scored, out=scalars.block_peak)
    np.maximum(scalars.range_peak, strange.outside * scored, out=scalars.range_peak)
    full = seen >= config.block_readings
    if full.any():
        _calibrate(full, scalars, config)


def _rate(learned: Doubles, config: ScoreConfig) -> Doubles:
    """The weight of one more reading: a plain mean at first, then a long memory; before the first, only the last."""
    rate: Doubles = 1 / np.minimum(np.maximum(learned, 1), config.long_readings)
    return rate


def _follow(mean: Doubles, variance: Doubles, value: Doubles, rate: Doubles) -> None:
    """Exponentially weighted mean and variance (Finch 2009, eq. 124 and 143); rate 0 changes nothing."""
    distance = value - mean
    step = distance * rate
    mean += step
    variance += distance * step
    variance *= 1 - rate


def _calibrate(full: Bools, scalars: Scalars[Doubles], config: ScoreConfig) -> None:
    """Blocks are full: what a Gumbel law through their peaks exceeds at the wanted rate scores 1.0."""
    blocks = scalars.blocks
    blocks += full
    rate = full / np.clip(blocks, 1, config.blocks)
    for peak, mean, variance, threshold, lowest in (
        (scalars.block_peak, scalars.peak_mean, scalars.peak_variance, scalars.threshold, config.lowest_threshold),
        (scalars.range_peak, scalars.range_mean, scalars.range_variance, scalars.range_threshold, 1.0),
    ):
        _follow(mean, variance, peak, rate)
        exceeded = np.maximum(mean + np.sqrt(variance) * config.deviations, lowest)
        np.copyto(threshold, exceeded, where=full & (blocks >= FIRST_BLOCKS))
        np.copyto(peak, 0.0, where=full)
    np.copyto(scalars.block_seen, 0.0, where=full)
