"""What one reading looks like in one channel: its residual, how far it is from the level, and what of it counts."""

import math

from models.data.arrays import Doubles
from models.detection.arithmetic import at_least, one_if, within
from models.detection.compiling import compiled
from models.detection.expectation import band_std, bias_of, expect
from models.detection.records import BAND_DEVIATIONS, FARTHEST, SMALLEST_VARIANCE, Block, Look, Rules, Sheet
from models.detection.rows import Channels, Scalars

FARTHEST_LEVEL = 30.0  # spreads: of what is further off the level deviation takes no more


@compiled
def look_at(
    channel: Channels[float],
    calendar: Doubles,
    look: Look,
    block: Block,
    local_ms: float,
    day: int,
    days: float,
    wave: int,
    place: int,
    f: int,
) -> None:
    """The residual is the reading less its expectation, in spreads; 0 where the value is missing."""
    n = block.readings[wave, place]
    look.value = block.held[wave, place, f]
    look.before = block.held[wave - 1, place, f] if wave else channel.last
    expect(channel, calendar, look.before, block.predicted[wave, place, f], local_ms, day, days, look)
    look.residual = within((look.value - look.before) * look.per_spread - look.change, FARTHEST)
    look.present = 1.0
    if math.isnan(block.values[n, f]):
        look.present = look.residual = 0.0


@compiled
def compare(channel: Channels[float], look: Look, rules: Rules) -> None:
    """Compare the residual and the distance from the level with the baseline; moves `level_deviation`."""
    look.distance = within((look.value - channel.mean) * look.per_spread - look.season, FARTHEST)
    near = within(look.distance, FARTHEST_LEVEL)
    channel.level_deviation += (near - channel.level_deviation) * rules.level_rate * look.present

    look.residual_std = math.sqrt(channel.residual_variance + SMALLEST_VARIANCE)
    look.level_std = math.sqrt(channel.level_deviation_variance + SMALLEST_VARIANCE)
    look.residual_z = (look.residual - channel.residual_mean) / look.residual_std * look.present
    look.level_z = (channel.level_deviation - channel.level_deviation_mean) / look.level_std * look.present


@compiled
def limit(channel: Channels[float], look: Look, limits: Doubles) -> None:
    """Say what of the reading counts: what is off in a direction that is asked for, and far enough.

    Too high is a reading that is above what was expected, and so far above its level at this hour that it does not just
    come back to it. What does not count raises no alarm and no threshold; the baseline learns from it all the same.
    limits: (4,), as LIMITS.
    """
    up, down, absolute, relative = limits[0] > 0, limits[1] > 0, limits[2], limits[3]
    look.counts = look.level_counts = 1.0
    beyond = at_least(look.value - channel.high, 0.0) if up else 0.0
    below = at_least(channel.low - look.value, 0.0) if down else 0.0
    end = channel.high if beyond >= below else channel.low
    look.beyond = at_least(beyond, below)
    if not (up and down):
        sign = 1.0 if up else -1.0
        look.counts = one_if(look.residual_z * sign > 0 and look.distance * sign >= look.residual * sign / 2)
        look.level_counts = one_if(look.level_z * sign > 0)
    if absolute > 0 or relative > 0:
        expected = look.before + look.change * channel.spread
        level = channel.mean + look.season * channel.spread
        look.counts *= one_if(is_far(look.value - expected, expected, absolute, relative))
        look.level_counts *= one_if(is_far(channel.level_deviation * channel.spread, level, absolute, relative))
        look.beyond *= one_if(is_far(look.beyond, end, absolute, relative))


@compiled
def is_far(deviation: float, of: float, absolute: float, relative: float) -> bool:
    size = abs(deviation)
    far: bool = size >= absolute and size >= abs(of) * relative
    return far


@compiled
def write_band(stream: Scalars[float], channel: Channels[float], look: Look, n: int, f: int, sheet: Sheet) -> None:
    """The band in the sensor's own units; it stays NaN while the scale is unknown."""
    look.bias = bias_of(channel, stream.learned)
    if channel.spread < math.inf:
        middle = look.change + look.bias
        half = band_std(channel) * BAND_DEVIATIONS
        sheet.expected[n, f] = look.before + middle * channel.spread
        sheet.lower[n, f] = look.before + (middle - half) * channel.spread
        sheet.upper[n, f] = look.before + (middle + half) * channel.spread
