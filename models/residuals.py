"""From residual to score: how strange a reading is, on one scale for every stream and model. 1.0 is the threshold.

1. strength: the residual in units of this stream's own residual noise, root mean square over its channels;
2. surprise: -log10 of the tail probability of the smoothed strength against its own long memory
   (anomaly likelihood: Lavin & Ahmad 2015);
3. score: surprise over the stream's threshold, which comes from the peaks of its own recent blocks, taken as
   Gumbel distributed (block maxima: Coles 2001, ch. 3; parameters by the method of moments);
4. or, if that is more, how far the reading lies outside the range learned so far.

Everything is O(1) a reading and lives in the stream's row. Sizes: S streams, F features, one wave.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.rows import Channels, Scalars

FARTHEST = 1e6  # spreads; residuals are cut there, so that squares stay finite
SMALLEST_NOISE = 1e-4  # variance in spreads: a residual of a hundredth of a spread is never strange
SMALLEST_VARIANCE = 1e-2  # of the smoothed strength, which is around 1
LARGEST_DEVIATION = 35.0  # standard deviations; the tail probability ends near the smallest double
HIGHEST_RANGE_SCORE = 8.0
LOG10_E = math.log10(math.e)
EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score
    smooth_readings: int = 10  # length of the short memory
    long_readings: int = 2048  # length of the long memory
    block_readings: int = 128  # a calibration block
    blocks: int = 32  # blocks the threshold remembers
    false_alarm_rate: float = 1e-4  # a reading, aimed at by the threshold
    lowest_threshold: float = 4.0  # surprise: no stream alarms at less than one reading in 10,000
    range_share: float = 0.05  # further outside the range than this share of it scores above 1


class Strangeness(NamedTuple):
    """What one wave of readings looks like; each (S,)."""

    score: Tensor
    surprise: Tensor
    out_of_range: Tensor  # bool: the range says more than the residual


def noise_of(channels: Channels[Tensor]) -> Tensor:
    """Standard deviation of the residual, (S, F), in spreads."""
    return (channels.noise + SMALLEST_NOISE).sqrt()


def strength_of(standardised: Tensor, present: Tensor | None) -> Tensor:
    """standardised residuals (S, F) -> (S,), missing channels left out."""
    if standardised.shape[1] == 1:
        return standardised.squeeze(1).abs()
    squares = standardised * standardised
    if present is None:
        return squares.mean(1).sqrt()
    return (squares.sum(1) / present.sum(1).clamp(min=1)).sqrt()


def judge(
    standardised: Tensor,
    values: Tensor,
    present: Tensor | None,
    channels: Channels[Tensor],
    scalars: Scalars[Tensor],
    config: ScoreConfig,
) -> Strangeness:
    """Score one wave. standardised: residual over its noise (S, F); values: (S, F), held. Moves `smooth` alone."""
    strength = strength_of(standardised, present)
    scalars.smooth.add_((strength - scalars.smooth) * (2 / (config.smooth_readings + 1)))
    deviation = (scalars.smooth - scalars.typical) / (scalars.variance + SMALLEST_VARIANCE).sqrt()
    surprise = torch.special.log_ndtr(-deviation.clamp(max=LARGEST_DEVIATION)) * -LOG10_E
    by_residual = surprise / scalars.threshold
    by_range = _range_score(values, channels, config.range_share)
    score = torch.where(scalars.age > config.warm_up, torch.maximum(by_residual, by_range), 0.0)
    return Strangeness(score, surprise, by_range > by_residual)


def _range_score(values: Tensor, channels: Channels[Tensor], share: float) -> Tensor:
    """1.0 where a value is further outside the learned range than `share` of it; 0 inside, and of unknown channels."""
    margin = torch.maximum((channels.high - channels.low) * share, channels.spread * (share * 5))
    outside = torch.maximum(values - channels.high, channels.low - values)
    known = torch.where(channels.known > 0, outside / margin, 0.0)
    return known.amax(1).clamp(0.0, HIGHEST_RANGE_SCORE)


def learn_residuals(
    residual: Tensor,
    surprise: Tensor,
    weight: Tensor,
    learns: Tensor,
    channels: Channels[Tensor],
    scalars: Scalars[Tensor],
    config: ScoreConfig,
) -> None:
    """Take one wave into the long memories. residual: (S, F) in spreads; weight: (S, F), learns: (S,), 0 or 1."""
    scalars.learned.add_(learns)
    rate = 1 / scalars.learned.clamp(1, config.long_readings)
    _follow(channels.bias, channels.noise, residual, rate.unsqueeze(1) * weight)
    _follow(scalars.typical, scalars.variance, scalars.smooth, rate * learns)

    scalars.block_seen.add_(learns)
    scalars.block_peak.copy_(torch.maximum(scalars.block_peak, surprise * learns))
    full = scalars.block_seen >= config.block_readings
    if full.any():
        _calibrate(full, scalars, config)


def _follow(mean: Tensor, variance: Tensor, value: Tensor, rate: Tensor) -> None:
    """Exponentially weighted mean and variance (Finch 2009, eq. 124 and 143); rate 0 changes nothing."""
    distance = value - mean
    step = distance * rate
    mean.add_(step)
    variance.add_(distance * step).mul_(1 - rate)


def _calibrate(full: Tensor, scalars: Scalars[Tensor], config: ScoreConfig) -> None:
    """Blocks are full: the surprise that a Gumbel law through their peaks exceeds at the wanted rate scores 1.0."""
    warm = full & (scalars.age > config.warm_up)
    blocks = scalars.blocks + warm
    mean, variance = scalars.peak_mean.clone(), scalars.peak_variance.clone()
    _follow(mean, variance, scalars.block_peak, warm / blocks.clamp(1, config.blocks))
    exceedance = -math.log(config.false_alarm_rate * config.block_readings)
    threshold = mean + variance.sqrt() * ((exceedance - EULER_GAMMA) * math.sqrt(6) / math.pi)
    threshold = torch.where(blocks >= 4, threshold.clamp(min=config.lowest_threshold), scalars.threshold)
    for statistic, new in (
        (scalars.blocks, blocks),
        (scalars.peak_mean, mean),
        (scalars.peak_variance, variance),
        (scalars.threshold, threshold),
        (scalars.block_seen, torch.zeros_like(mean)),
        (scalars.block_peak, torch.zeros_like(mean)),
    ):
        statistic.copy_(torch.where(full, new, statistic))
