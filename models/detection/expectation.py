"""What is expected of a channel's next reading, and how far off it may be.

It starts from the last value. Three corrections follow each other: what the clock says (a profile of the day), the
stream's own level, and the net. Each is heeded by a share between 0 and 1 that it has proven by the readings so far:
the least-squares factor of what was left to explain, less one standard error. A correction that has proven nothing
changes nothing, so the expectation is not worse than the last value; a channel that stays is expected to stay, exactly.
See docs/detection.md, "Expectation".
"""

import math

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.arithmetic import at_least, at_most, one_if, proven, within
from models.detection.compiling import compiled
from models.detection.records import BAND_REACH, SMALLEST_BAND, SMALLEST_STD, Look, Step
from models.detection.rhythm import daily_at, week_share, weekly_at
from models.detection.rows import Channels

MEMORY_READINGS = 512.0  # that the shares go back, at least,
MEMORY_MS = 7_200_000.0  # and the event time, at least
CLOCK_MEMORY_MS = 5.0 * DAY_MS  # the same of shares of what the clock says: what it said in its first days is forgotten
SMALLEST_STEP = 1e-9  # spreads
FARTHEST_LEARNED = 100.0  # spreads: what is further off teaches profile and shares no more
CLEAREST = 10.0  # standard deviations: a correction that is larger counts as evidence like one of that size
LARGEST_SURPRISE = 3.0  # standard deviations: what is left to explain counts no more, unless the correction was larger
BEYOND = 3.0  # standard deviations by which what is left may pass the correction: else noise holds a share below 1
SEASON_BEYOND = 0.0  # a share of the season that gives way less makes what is strange here look usual for the hour
FARTHEST_OFF = 6.0  # standard deviations: what is farther from the clock's share moves it no more than that
ANOMALY_WEIGHT = 0.25  # of a reading that is anomalous, or in an alarm, as evidence for or against a correction
LOSS_RATE = 1 / 64  # of one reading in the losses with and without level and net
LARGEST_LOSS = 20.0  # standard deviations
LOSS_POWER = 3  # how often their ratio is squared: where it is .9, half of the corrections is left
BAND_SHARE = 0.9  # of the residuals that the tracked band holds
BAND_RATE = 0.05  # of one reading in the band's width


# --- the expectation


@compiled
def expect(
    channel: Channels[float],
    calendar: Doubles,
    before: float,
    predicted: float,
    time_ms: float,
    day: int,
    days: float,
    look: Look,
) -> None:
    """Fill in what is expected of the reading at time_ms, as a change from the value before, in spreads.

    before: the last value, raw. predicted: by the net, in spreads from the centre. day: of the week, that it counts as.
    days: seen so far.
    """
    variance, look.per_spread = channel.residual_variance, 1 / channel.spread
    look.daily = daily_at(channel, calendar, time_ms)
    look.weekly = weekly_at(channel, calendar, day, look.daily)
    look.profile = look.daily + look.weekly * week_share(channel)
    known = one_if(days >= 1)  # before a whole day was seen, what the profile says of the hours to come is nothing
    look.hour_level = (look.profile - mean_from_centre(channel, look)) * known
    look.season_share = proven(channel.season_product, channel.season_square, variance)
    look.season = look.hour_level * look.season_share

    look.clock = (look.profile - channel.last_profile) * known
    look.clock_share = proven(channel.clock_product, channel.clock_square, variance)
    after_clock = look.clock * look.clock_share

    here = (channel.mean - before) * look.per_spread + look.season + channel.level_deviation
    look.level = here - after_clock
    after_level = after_clock + look.level * proven(channel.level_product, channel.level_square, variance)

    look.net = predicted - (before - channel.centre) * look.per_spread - after_level
    look.after_clock, look.after_level = after_clock, after_level
    look.corrected = after_level + look.net * proven(channel.net_product, channel.net_square, variance)
    look.change = after_clock + (look.corrected - after_clock) * held_back(channel.clock_loss, channel.corrected_loss)


@compiled
def mean_from_centre(channel: Channels[float], look: Look) -> float:
    """In spreads. The profile is told from the centre, which stays until it is derived again; the mean moves."""
    return (channel.mean - channel.centre) * look.per_spread


@compiled
def held_back(clock_loss: float, corrected_loss: float) -> float:
    """1 unless level and net together have lately been worse than the clock alone; then soon 0.

    The clock is held back by its share only: it speaks at few readings, which most losses of late know nothing of.
    """
    if corrected_loss <= clock_loss:
        return 1.0
    ratio = clock_loss / corrected_loss
    for _ in range(LOSS_POWER):
        ratio *= ratio
    return ratio


@compiled
def bias_of(channel: Channels[float], learned: float) -> float:
    """What residuals have been on the mean, towards 0 by one standard error: a counter's steady rise, say."""
    error = math.sqrt(channel.residual_variance / at_least(learned, 1.0))
    return channel.residual_mean - within(channel.residual_mean, error)


@compiled
def band_std(channel: Channels[float]) -> float:
    return at_least(channel.band / BAND_REACH, SMALLEST_BAND)


# --- what it learns


@compiled
def learn_expectation(channel: Channels[float], look: Look, elapsed_ms: float, step: Step) -> None:
    """Take a reading into losses and shares, and into the quarter's visit.

    Anomalies count for a part: a shift that opens an alarm every day must become expected, and one missed day must not
    undo what many have proven. Of the profile they are one day among fourteen.
    """
    if look.present <= 0:
        return
    weight = step.learns + (1 - step.learns) * ANOMALY_WEIGHT
    moved, deviation = look.residual + look.change, look.distance + look.season
    std = math.sqrt(channel.residual_variance) + SMALLEST_STD
    channel.clock_loss += (loss_of(moved - look.after_clock, std) - channel.clock_loss) * LOSS_RATE
    channel.corrected_loss += (loss_of(moved - look.corrected, std) - channel.corrected_loss) * LOSS_RATE

    fade = weight * at_most(elapsed_ms * (1 / MEMORY_MS), 1 / MEMORY_READINGS)
    slow = weight * at_most(elapsed_ms * (1 / CLOCK_MEMORY_MS), 1 / MEMORY_READINGS)
    channel.season_product, channel.season_square = weigh_clock(
        channel.season_product,
        channel.season_square,
        look.season_share,
        look.hour_level,
        deviation,
        std,
        SEASON_BEYOND,
        weight,
        slow,
    )
    beyond_day = deviation + mean_from_centre(channel, look) - look.daily
    channel.week_product, channel.week_square = weigh(
        channel.week_product, channel.week_square, look.weekly, beyond_day, std, FARTHEST_LEARNED, BEYOND, weight, slow
    )
    channel.clock_product, channel.clock_square = weigh_clock(
        channel.clock_product, channel.clock_square, look.clock_share, look.clock, moved, std, BEYOND, weight, slow
    )
    left, clear = moved - look.after_clock, std * CLEAREST
    channel.level_product, channel.level_square = weigh(
        channel.level_product, channel.level_square, look.level, left, std, clear, BEYOND, weight, fade
    )
    left = moved - look.after_level
    channel.net_product, channel.net_square = weigh(
        channel.net_product, channel.net_square, look.net, left, std, clear, BEYOND, weight, fade
    )
    channel.visit_sum += within(beyond_day, farthest_learned(channel, look))
    channel.visit_readings += 1
    # by the share as it is now: one that grows is no change by the clock
    channel.last_profile = look.daily + look.weekly * week_share(channel)


@compiled
def farthest_learned(channel: Channels[float], look: Look) -> float:
    """In spreads; of the spread that is due, where it is larger than the one in use: work after a first night, say."""
    wider = math.sqrt(channel.square / at_least(channel.known, 1.0)) * look.per_spread
    return FARTHEST_LEARNED * at_least(wider, 1.0)


@compiled
def loss_of(error: float, std: float) -> float:
    """Quadratic where the error is small, linear where it is large, as Huber's (1964)."""
    size = at_most(abs(error), std * LARGEST_LOSS)
    return size * size / (std * (std + size))


@compiled
def weigh_clock(
    product: float,
    square: float,
    share: float,
    correction: float,
    left: float,
    std: float,
    beyond: float,
    weight: float,
    fade: float,
) -> tuple[float, float]:
    """As weigh(), but a reading far from what the share says counts for less: an M-estimate (Huber 1964).

    So the edges of a first weekend or a missed job say little against what all other days have proven.
    """
    off = abs(left - correction * share)
    if off > std * FARTHEST_OFF:
        weight *= std * FARTHEST_OFF / off
    return weigh(product, square, correction, left, std, FARTHEST_LEARNED, beyond, weight, fade)


@compiled
def weigh(
    product: float,
    square: float,
    correction: float,
    left: float,
    std: float,
    clearest: float,
    beyond: float,
    weight: float,
    fade: float,
) -> tuple[float, float]:
    """Take in a correction and what it had to explain; both are shortened where the correction is very large.

    clearest: the size that a correction counts as at most. beyond: standard deviations by which what is left may
    pass it.
    """
    size = abs(correction)
    shorter = clearest / size if size > clearest else 1.0
    correction, left = correction * shorter, left * shorter
    left = within(left, at_least(std * LARGEST_SURPRISE, abs(correction) + std * beyond))
    return (
        product - product * fade + correction * left * weight,
        square - square * fade + correction * correction * weight,
    )


@compiled
def learn_band(channel: Channels[float], error: float, learned: float, weight: float) -> None:
    """The band's width follows the quantile of the errors by stochastic approximation (Robbins & Monro 1951).

    It narrows slowly, so it does not begin with what only warms the memory up: of a stream that was trained on, the
    first error is the whole first value.
    """
    rate = at_least(BAND_RATE, 1 / at_least(learned, 2.0)) * weight
    if learned < 1:
        channel.band += (error - channel.band) * weight
    elif error > channel.band:
        channel.band = channel.band * (1 + rate * BAND_SHARE) if channel.band > 0 else error * weight
    else:
        channel.band *= 1 - rate * (1 - BAND_SHARE)


# --- where the scale moves


@compiled
def rescale_expectation(channel: Channels[float], factor: float) -> None:
    """Express what is in spreads in the new one."""
    channel.profile_step = at_most(at_least(channel.profile_step * factor, SMALLEST_STEP), FARTHEST_LEARNED)
    channel.last_profile *= factor
    channel.visit_sum *= factor
    channel.band *= factor
    square = factor * factor
    channel.season_product *= square
    channel.season_square *= square
    channel.week_product *= square
    channel.week_square *= square
    channel.clock_product *= square
    channel.clock_square *= square
    channel.level_product *= square
    channel.level_square *= square
    channel.net_product *= square
    channel.net_square *= square
