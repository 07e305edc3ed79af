"""From residual to score: how strange a reading is, on one scale for every stream and model. 1.0 is the threshold.

1. strength: the residual in units of this stream's own residual noise, root mean square over its channels;
2. surprise: -log10 of the tail probability of the smoothed strength against its own long memory
   (anomaly likelihood: Lavin & Ahmad 2015);
3. score: surprise over the stream's threshold, which comes from the peaks of its own recent blocks, taken as
   Gumbel distributed (block maxima: Coles 2001, ch. 3; parameters by the method of moments);
4. or, if that is more, how far the reading lies outside the range learned so far.

Everything is O(1) a reading and lives in the stream's row. Unknown channels have infinite spreads, so the caller holds
np.errstate(all="ignore"). Sizes: S streams, F features, one wave.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from models.rows import NO_MINUS, Bools, Channels, Doubles, Scalars

FARTHEST = 1e6  # spreads; residuals are cut there, so that squares stay finite
SMALLEST_NOISE = 1e-4  # variance in spreads: a residual of a hundredth of a spread is never strange
SMALLEST_VARIANCE = 1e-2  # of the smoothed strength, which is around 1
SETTLING = 48  # readings that the residual's noise is learned from before the strength, which it scales, is
LARGEST_DEVIATION = 35.0  # standard deviations; the tail probability ends near the smallest double
HIGHEST_RANGE_SCORE = 8.0
LOG10_E = math.log10(math.e)
EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score; 64 go into settling
    smooth_readings: int = 10  # length of the short memory
    long_readings: int = 2048  # length of the long memory
    block_readings: int = 128  # a calibration block
    blocks: int = 32  # blocks the threshold remembers
    false_alarm_rate: float = 1e-4  # a reading, aimed at by the threshold
    lowest_threshold: float = 4.0  # surprise: no stream alarms at less than one reading in 10,000
    range_share: float = 0.1  # further outside the range than this share of it scores above 1

    def __post_init__(self) -> None:
        if min(self.warm_up, self.smooth_readings, self.long_readings, self.block_readings, self.blocks) < 1:
            raise ValueError(
                "warm_up, smooth_readings, long_readings, block_readings and blocks: expected at least 1 each"
            )
        if not 0 < self.false_alarm_rate < 1 or not self.lowest_threshold > 0 or not self.range_share > 0:
            raise ValueError("false_alarm_rate: expected 0 to 1; lowest_threshold and range_share: expected above 0")


class Strangeness(NamedTuple):
    """What one wave of readings looks like; each (S,)."""

    score: Doubles
    surprise: Doubles
    out_of_range: Bools  # the range says more than the residual


def noise_of(channels: Channels[Doubles]) -> Doubles:
    """Standard deviation of the residual, (S, F), in spreads."""
    return np.sqrt(channels.noise + SMALLEST_NOISE)


def strength_of(standardised: Doubles, present: Bools | None) -> Doubles:
    """standardised residuals (S, F) -> (S,), missing channels left out."""
    if standardised.shape[1] == 1:
        alone: Doubles = np.abs(standardised[:, 0])
        return alone
    squares = np.add.reduce(standardised * standardised, axis=1)
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
    """Score one wave. standardised: residual over its noise (S, F); values: (S, F), held. Moves `smooth` alone."""
    smooth = scalars.smooth
    smooth += (strength_of(standardised, present) - smooth) * (2 / (config.smooth_readings + 1))
    deviation = (smooth - scalars.typical) / np.sqrt(scalars.variance + SMALLEST_VARIANCE)
    surprise = surprise_of(np.minimum(deviation, LARGEST_DEVIATION))
    by_residual = surprise / scalars.threshold
    by_range = _range_score(values, channels, config.range_share)
    score = np.maximum(by_residual, by_range) * (scalars.age > config.warm_up)  # neither is ever -0.0
    return Strangeness(score, surprise, by_range > by_residual)


def surprise_of(deviation: Doubles) -> Doubles:
    """-log10 of the probability that a normal variable is further than `deviation` above its mean."""
    surprise: Doubles = torch.special.log_ndtr(torch.from_numpy(-deviation)).numpy() * -LOG10_E
    return surprise + NO_MINUS


def _range_score(values: Doubles, channels: Channels[Doubles], share: float) -> Doubles:
    """1.0 where a value is further outside the learned range than `share` of it; 0 inside, and of unknown channels."""
    low, high = channels.low, channels.high
    margin = np.maximum((high - low) * share, channels.spread * (share * 5))
    outside = np.maximum(values - high, low - values)
    furthest = np.fmax.reduce(outside / margin, axis=1)
    score: Doubles = np.minimum(np.fmax(furthest, 0.0), HIGHEST_RANGE_SCORE)
    return score + NO_MINUS


def learn_residuals(
    residual: Doubles,
    surprise: Doubles,
    weight: Doubles,
    learns: Doubles,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    config: ScoreConfig,
) -> None:
    """Take one wave into the long memories. residual: (S, F) in spreads; weight: (S, F), learns: (S,), 0 or 1."""
    learned = scalars.learned
    learned += learns
    _follow(channels.bias, channels.noise, residual, _rate(learned, config)[:, None] * weight)
    _follow(scalars.typical, scalars.variance, scalars.smooth, _rate(learned - SETTLING, config) * learns)

    scored = learns * (scalars.age > config.warm_up)
    seen = scalars.block_seen
    seen += scored
    np.maximum(scalars.block_peak, surprise * scored, out=scalars.block_peak)
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
    """Blocks are full: the surprise that a Gumbel law through their peaks exceeds at the wanted rate scores 1.0."""
    blocks = scalars.blocks
    blocks += full
    _follow(scalars.peak_mean, scalars.peak_variance, scalars.block_peak, full / np.clip(blocks, 1, config.blocks))
    exceedance = -math.log(config.false_alarm_rate * config.block_readings)
    deviations = (exceedance - EULER_GAMMA) * math.sqrt(6) / math.pi
    threshold = np.maximum(scalars.peak_mean + np.sqrt(scalars.peak_variance) * deviations, config.lowest_threshold)
    np.copyto(scalars.threshold, threshold, where=full & (blocks >= 4))
    np.copyto(scalars.block_seen, 0.0, where=full)
    np.copyto(scalars.block_peak, 0.0, where=full)
