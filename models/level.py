"""How far a stream is from its own level, measured by how far that level wanders.

A distance from the long mean says little where the mean wanders by itself: a temperature drifts, a load comes and goes.
So it is measured in standard deviations of a random walk plus noise (the local level model: Harvey 1989, ch. 2): the
noise within blocks of BLOCK readings, and HORIZON steps of the walk, whose step is what the means of neighbouring
blocks differ by beyond that noise. A short signed mean of that distance, the tilt, is what is judged: noise cancels in
it, a lasting shift does not. Sizes: S streams, F features, one wave.
"""

import numpy as np

from models.rows import Bools, Channels, Doubles, Scalars

BLOCK = 25  # readings
HORIZON = 16  # blocks that the level may have wandered
BLOCKS = 64  # that the noise and the step remember
SMALLEST_SHARE = 1e-3  # of the level itself: a distance of less than that is none
SMALLEST_SPREADS = 0.05
FARTHEST = 30.0  # standard deviations: what is further out is not stranger


def follow_level(
    values: Doubles, present: Bools | None, channels: Channels[Doubles], scalars: Scalars[Doubles], readings: int
) -> None:
    """Move the tilt (S, F) by one wave. values: (S, F), held; readings: length of its memory."""
    distance = (values - channels.mean) / wander_of(channels, scalars)
    np.copyto(distance, 0.0, where=channels.known < 2)
    np.clip(distance, -FARTHEST, FARTHEST, out=distance)
    step = (distance - channels.tilt) * (2 / (readings + 1))
    if present is not None:
        step *= present
    tilt = channels.tilt
    tilt += step


def wander_of(channels: Channels[Doubles], scalars: Scalars[Doubles]) -> Doubles:
    """Standard deviation of the distance from the level that is to be expected, (S, F); infinite while unknown."""
    walk = np.maximum(channels.wander - channels.within * (2 / BLOCK), 0.0)
    least = channels.mean * SMALLEST_SHARE
    share = channels.spread * SMALLEST_SPREADS
    wanders = np.sqrt(channels.within + walk * HORIZON + least * least + share * share)
    return np.where((scalars.level_blocks >= 2)[:, None], wanders, channels.spread)


def learn_level(
    values: Doubles, weight: Doubles, learns: Doubles, channels: Channels[Doubles], scalars: Scalars[Doubles]
) -> None:
    """Take one wave into the noise and the walk; after scaling.learn_scale(). weight: (S, F), learns: (S,), 0 or 1."""
    seen = scalars.level_seen
    seen += learns
    from_mean = values - channels.block_mean
    block_mean = channels.block_mean
    block_mean += from_mean * weight / np.maximum(seen, 1)[:, None]
    square = from_mean * (values - block_mean)
    within = channels.within
    within += (square - within) * (weight / np.minimum(np.maximum(channels.known, 1), BLOCKS * BLOCK))
    full = seen >= BLOCK
    if full.any():
        _end_blocks(full, channels, scalars)


def _end_blocks(full: Bools, channels: Channels[Doubles], scalars: Scalars[Doubles]) -> None:
    blocks = scalars.level_blocks
    blocks += full
    step = channels.block_mean - channels.last_block
    rate = (full & (blocks >= 2)) / np.clip(blocks - 1, 1, BLOCKS)
    wander = channels.wander
    wander += (step * step - wander) * rate[:, None]
    np.copyto(channels.last_block, channels.block_mean, where=full[:, None])
    np.copyto(scalars.level_seen, 0.0, where=full)
