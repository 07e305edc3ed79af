"""From residual to score: how anomalous a reading is, on one scale for every stream and model. 1.0 is the threshold.

Three things are looked at, each over a threshold of its own; the one that is furthest over it is the score.

1. residual: in its standard deviations for this stream, root mean square over its channels (the strength), smoothed;
2. level: the same of the level deviation, the smoothed distance from the stream's own level (see level);
   of both, how far they are above their own long mean, in standard deviations (what anomaly likelihood takes the tail
   of: Lavin & Ahmad 2015);
3. range: how far the reading lies outside the range learned so far.

The thresholds come from the peaks of the stream's own recent blocks, taken as Gumbel distributed (block maxima: Coles
2001, ch. 3; parameters by the method of moments).

Everything is O(1) a reading and lives in the stream's row. Unknown channels have infinite spreads, so the caller holds
np.errstate(all="ignore"). Sizes: S streams, F features, one wave; 2: residual and level, 3: and range.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles
from models.detection.level import follow_level
from models.detection.rows import FARTHEST, NO_MINUS, Channels, Scalars, Watched

STRONGEST = 30.0  # standard deviations: a channel further off than that is not stranger, and does not drown the others
LARGEST_LEARNED = (
    100.0  # standard deviations: of what is further off no more is learned, or one glitch made a stream deaf
)
SMALLEST_VARIANCE = 1e-4  # variance in spreads: a hundredth of a spread is never anomalous
SMALLEST_DEVIATION = 0.05  # of a strength, which is around 1, beside its standard deviation
SETTLING = 48  # readings that a variance is learned from before the strength, which it scales, is
HIGHEST_RANGE_SCORE = 8.0
FIRST_BLOCKS = 4  # that a threshold waits for
EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    warm_up: int = 128  # readings of an unknown stream before its first score; 64 go into settling
    residual_weight: float = 1.0  # of the residual's deviation; 0: the net is not listened to
    level_weight: float = 0.5  # of the level's deviation; 0: only the net is listened to, and the range
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
    def weights(self) -> Doubles:
        """Of the deviations of residual and level, (2, 1)."""
        return np.array(((self.residual_weight,), (self.level_weight,)))

    @property
    def lowest(self) -> Doubles:
        """Thresholds of residual, level and range, (3, 1); the range's is its margin."""
        return np.array(((self.lowest_threshold,), (self.lowest_threshold,), (1.0,)))

    @property
    def deviations(self) -> float:
        """Of the blocks' peaks, that a Gumbel law through them exceeds at the wanted rate, above their mean."""
        exceedance = -math.log(self.false_alarm_rate * self.block_readings)
        return (exceedance - EULER_GAMMA) * math.sqrt(6) / math.pi


class Scores(NamedTuple):
    """What one wave of readings looks like."""

    score: Doubles  # (S,)
    threshold_ratio: Doubles  # (3, S): residual, level and range over their thresholds; the largest is the score
    peaks: Doubles  # (3, S): deviations of residual and level, weighted; how far outside the range, in margins
    strength: Doubles  # (2, S): the residual's, smoothed, and the level deviation's
    seen: Doubles  # (2, S, F): residual and level deviation, in spreads
    std: Doubles  # (2, S, F): standard deviations of both
    standardised: (
        Doubles  # (2, S, F): how far they are from their long means, in standard deviations; 0 where a value is missing
    )
    scored: Doubles  # (S,): 1 where the stream is past its warm-up


def std_of(variance: Doubles) -> Doubles:
    """Standard deviations of residuals or level deviations, of any shape, in spreads."""
    return np.sqrt(variance + SMALLEST_VARIANCE)


def strength_of(standardised: Doubles, present: Bools | None) -> Doubles:
    """Root mean square over the channels (..., F) -> (...,), missing ones left out, each cut at STRONGEST."""
    strengths = np.minimum(np.abs(standardised), STRONGEST)
    if standardised.shape[-1] == 1:
        alone: Doubles = strengths[..., 0]
        return alone
    squares = np.add.reduce(strengths * strengths, axis=-1)
    channels = standardised.shape[-1] if present is None else np.maximum(np.add.reduce(present, axis=-1), 1)
    strength: Doubles = np.sqrt(squares / channels)
    return strength


def judge(
    residual: Doubles,
    distance: Doubles,
    values: Doubles,
    present: Bools | None,
    channels: Channels[Doubles],
    scalars: Scalars[Doubles],
    watched: Watched,
    config: ScoreConfig,
) -> Scores:
    """Score one wave. Moves `residual_strength` and `level_deviation`.

    residual, and distance from the level (level.distance_from()): (S, F), in spreads. values: (S, F), held. present:
    (S, F), or None where nothing is missing.
    """
    follow_level(distance, present, channels.level_deviation, config.level_readings)
    seen = np.empty((2, *residual.shape))
    seen[0], seen[1] = residual, channels.level_deviation
    std = std_of(watched.variance)
    standardised = (seen - watched.mean) / std
    if present is None:
        strength = strength_of(standardised, None)
    else:
        standardised *= present
        strength = strength_of(standardised, np.broadcast_to(present, standardised.shape))
    smooth = scalars.residual_strength
    smooth += (strength[0] - smooth) * (2 / (config.smooth_readings + 1))
    strength[0] = smooth

    peaks = np.empty((3, len(smooth)))
    above = np.maximum(strength - watched.strength_mean, 0.0) + NO_MINUS
    baseline = np.sqrt(watched.strength_variance) + watched.strength_mean * config.usual_share + SMALLEST_DEVIATION
    np.divide(above * config.weights, baseline, out=peaks[:2])
    peaks[2] = _outside(values, channels, config.range_share)
    threshold_ratio = peaks / watched.threshold  # never -0.0
    np.minimum(threshold_ratio[2], HIGHEST_RANGE_SCORE, out=threshold_ratio[2])
    scored = (scalars.age > config.warm_up).astype(np.float64)
    score = np.maximum(np.maximum(threshold_ratio[0], threshold_ratio[1]), threshold_ratio[2]) * scored
    return Scores(score, threshold_ratio, peaks, strength, seen, std, standardised, scored)


def _outside(values: Doubles, channels: Channels[Doubles], share: float) -> Doubles:
    """1.0 where a value is further outside the learned range than `share` of it; 0 inside, and of unknown channels."""
    low, high = channels.low, channels.high
    margin = np.maximum((high - low) * share, channels.spread * (share * 5))
    furthest = np.fmax.reduce(np.maximum(values - high, low - values) / margin, axis=1)
    outside: Doubles = np.minimum(np.fmax(furthest, 0.0), FARTHEST)
    return outside + NO_MINUS


def update_baseline(
    scores: Scores,
    weight: Doubles,
    learns: Doubles,
    scalars: Scalars[Doubles],
    watched: Watched,
    config: ScoreConfig,
) -> None:
    """Take one wave into the long memories, and into the thresholds, which learn from every reading that is scored.

    weight: (S, F), learns: (S,), 0 or 1.
    """
    learned = scalars.learned
    learned += learns
    farthest = np.where((learned > SETTLING)[:, np.newaxis], scores.std * LARGEST_LEARNED, np.inf)
    near = np.minimum(np.maximum(scores.seen, watched.mean - farthest), watched.mean + farthest)
    _follow(watched.mean, watched.variance, near, _rate(learned, config)[:, np.newaxis] * weight)
    _follow(
        watched.strength_mean, watched.strength_variance, scores.strength, _rate(learned - SETTLING, config) * learns
    )

    seen = scalars.block_seen
    seen += scores.scored
    np.maximum(watched.block_peak, scores.peaks * scores.scored, out=watched.block_peak)
    full = seen >= config.block_readings
    if full.any():
        _calibrate(full, scalars, watched, config)


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


def _calibrate(full: Bools, scalars: Scalars[Doubles], watched: Watched, config: ScoreConfig) -> None:
    """Blocks are full: what a Gumbel law through their peaks exceeds at the wanted rate scores 1.0."""
    blocks = scalars.blocks
    blocks += full
    _follow(watched.peak_mean, watched.peak_variance, watched.block_peak, full / np.clip(blocks, 1, config.blocks))
    exceeded = watched.peak_mean + np.sqrt(watched.peak_variance) * config.deviations
    np.maximum(exceeded, config.lowest, out=exceeded)
    np.copyto(watched.threshold, exceeded, where=full & (blocks >= FIRST_BLOCKS))
    np.copyto(watched.block_peak, 0.0, where=full)
    np.copyto(scalars.block_seen, 0.0, where=full)
