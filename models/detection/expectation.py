"""What is expected of a channel's next reading, and how far off it may be.

It starts from the last value. Three corrections follow each other: what the clock says (a profile of the day), the
stream's own level, and the net. Each is heeded by a share between 0 and 1 that it has proven by the readings so far:
the least-squares factor of what was left to explain, less one standard error. A correction that has proven nothing
changes nothing, so the expectation is not worse than the last value; a channel that stays is expected to stay, exactly.

The profile has a number for each quarter of an hour (UTC), in spreads, as whole steps; the four of an hour are digits
of one number of a row. See docs/detection.md, "Expectation".
"""

import math

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.arithmetic import at_least, at_most, within
from models.detection.compiling import compiled
from models.detection.records import BAND_REACH, SMALLEST_STD, Look, Step
from models.detection.rows import Channels

QUARTER_MS = 900_000
QUARTERS = DAY_MS // QUARTER_MS
MEMORY_DAYS = 14.0  # that profile and clock go back; a plain mean over the days before that
MEMORY_READINGS = 512.0  # that the shares go back, at least,
MEMORY_MS = 7_200_000.0  # and the event time, at least
DIGIT = 8_192.0  # values of a step
FARTHEST_STEP = 4_095.0  # where the profile goes further, its steps become larger
SMALLEST_STEP = 1e-9  # spreads
FARTHEST_LEARNED = 100.0  # spreads: what is further off teaches profile and shares no more
CLEAREST = 10.0  # standard deviations: a correction that is larger counts as evidence like one of that size
LARGEST_SURPRISE = 3.0  # standard deviations: what is left to explain counts no more, unless the correction was larger
ANOMALY_WEIGHT = 0.25  # of a reading that is anomalous, or in an alarm, as evidence for or against a correction
LOSS_RATE = 1 / 64  # of one reading in the losses with and without corrections
LARGEST_LOSS = 20.0  # standard deviations
LOSS_POWER = 3  # how often their ratio is squared: where it is .9, half of the corrections is left
BAND_SHARE = 0.9  # of the residuals that the tracked band holds
BAND_RATE = 0.05  # of one reading in the band's width


# --- the profile of the day


@compiled
def quarter_of(hours: Doubles, time_ms: float) -> float:
    """The profile at this time, in steps. hours: (24,)."""
    quarter = int(time_ms // QUARTER_MS) % QUARTERS
    return digit(hours[quarter // 4], quarter % 4)


@compiled
def move_quarter(hours: Doubles, time_ms: float, to: float) -> None:
    """to: in steps, from -4096 to 4095."""
    quarter = int(time_ms // QUARTER_MS) % QUARTERS
    hour, place = quarter // 4, quarter % 4
    scale = 1.0
    for _ in range(place):
        scale *= DIGIT
    hours[hour] += (math.floor(to + 0.5) - digit(hours[hour], place)) * scale


@compiled
def digit(number: float, place: int) -> float:
    """Of a number with digits from -4096 to 4095, the least significant one first; whole numbers, so it is exact."""
    for _ in range(place):
        number = math.floor(number / DIGIT + 0.5)
    return number - math.floor(number / DIGIT + 0.5) * DIGIT


@compiled
def halve(hours: Doubles) -> None:
    """The same profile in steps twice as large."""
    for quarter in range(QUARTERS):
        time_ms = float(quarter * QUARTER_MS)
        move_quarter(hours, time_ms, at_most(quarter_of(hours, time_ms) / 2, DIGIT / 2 - 1))


@compiled
def end_visit(channel: Channels[float], hours: Doubles, time_ms: float, before_ms: float, days: float) -> None:
    """Where a quarter of an hour is over, the profile learns what was read in it: as much as a day counts."""
    if time_ms // QUARTER_MS == before_ms // QUARTER_MS:
        return
    if channel.visit_readings > 0:
        by = channel.visit_sum / channel.visit_readings / at_most(at_least(days, 1.0), MEMORY_DAYS)
        to = quarter_of(hours, before_ms) + by / channel.profile_step
        while abs(to) > FARTHEST_STEP:
            halve(hours)
            channel.profile_step *= 2
            to /= 2
        move_quarter(hours, before_ms, to)
    channel.visit_sum = channel.visit_readings = 0.0


# --- the expectation


@compiled
def expect(
    channel: Channels[float], hours: Doubles, before: float, predicted: float, time_ms: float, look: Look
) -> None:
    """Fill in what is expected of the reading at time_ms, as a change from the value before, in spreads.

    before: the last value, raw. predicted: by the net, in spreads from the centre.
    """
    variance = channel.residual_variance
    look.profile = quarter_of(hours, time_ms) * channel.profile_step
    look.season = look.profile * proven(channel.season_product, channel.season_square, variance)

    look.clock = look.profile - channel.last_profile
    after_clock = look.clock * proven(channel.clock_product, channel.clock_square, variance)

    here = (channel.mean - before) / channel.spread + look.season + channel.level_deviation
    look.level = here - after_clock
    after_level = after_clock + look.level * proven(channel.level_product, channel.level_square, variance)

    look.net = predicted - (before - channel.centre) / channel.spread - after_level
    look.after_clock, look.after_level = after_clock, after_level
    look.corrected = after_level + look.net * proven(channel.net_product, channel.net_square, variance)
    look.change = look.corrected * held_back(channel.last_loss, channel.corrected_loss)


@compiled
def proven(product: float, square: float, variance: float) -> float:
    """The share of a correction that is heeded: its least-squares factor less one standard error, from 0 to 1.

    product, square: sums of correction times what was left to explain, and of the correction's square.
    """
    sure = product - math.sqrt(square * variance)
    return at_most(sure / square, 1.0) if sure > 0 else 0.0


@compiled
def held_back(last_loss: float, corrected_loss: float) -> float:
    """1 unless all corrections together have lately been worse than none; then soon 0."""
    if corrected_loss <= last_loss:
        return 1.0
    ratio = last_loss / corrected_loss
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
    return at_least(channel.band / BAND_REACH, SMALLEST_STD)


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
    channel.last_loss += (loss_of(moved, std) - channel.last_loss) * LOSS_RATE
    channel.corrected_loss += (loss_of(moved - look.corrected, std) - channel.corrected_loss) * LOSS_RATE

    fade = weight * at_most(elapsed_ms / MEMORY_MS, 1 / MEMORY_READINGS)
    slow = weight * at_most(elapsed_ms / (MEMORY_DAYS * DAY_MS), 1 / MEMORY_READINGS)
    channel.season_product, channel.season_square = weigh(
        channel.season_product, channel.season_square, look.profile, deviation, std, FARTHEST_LEARNED, weight, slow
    )
    channel.clock_product, channel.clock_square = weigh(
        channel.clock_product, channel.clock_square, look.clock, moved, std, FARTHEST_LEARNED, weight, slow
    )
    left, clear = moved - look.after_clock, std * CLEAREST
    channel.level_product, channel.level_square = weigh(
        channel.level_product, channel.level_square, look.level, left, std, clear, weight, fade
    )
    left = moved - look.after_level
    channel.net_product, channel.net_square = weigh(
        channel.net_product, channel.net_square, look.net, left, std, clear, weight, fade
    )
    channel.visit_sum += within(deviation - look.profile, FARTHEST_LEARNED)
    channel.visit_readings += 1


@compiled
def loss_of(error: float, std: float) -> float:
    """Quadratic where the error is small, linear where it is large, as Huber's (1964)."""
    z = at_most(abs(error) / std, LARGEST_LOSS)
    return z * z / (1 + z)


@compiled
def weigh(
    product: float,
    square: float,
    correction: float,
    left: float,
    std: float,
    clearest: float,
    weight: float,
    fade: float,
) -> tuple[float, float]:
    """Take in a correction and what it had to explain; both are shortened where the correction is very large."""
    size = abs(correction)
    shorter = clearest / size if size > clearest else 1.0
    correction, left = correction * shorter, left * shorter
    left = within(left, at_least(std * LARGEST_SURPRISE, abs(correction)))
    return (
        product - product * fade + correction * left * weight,
        square - square * fade + correction * correction * weight,
    )


@compiled
def learn_band(channel: Channels[float], error: float, learned: float, weight: float) -> None:
    """The band's width follows the quantile of the errors by stochastic approximation (Robbins & Monro 1951)."""
    rate = at_least(BAND_RATE, 1 / at_least(learned, 2.0)) * weight
    if error > channel.band:
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
    channel.clock_product *= square
    channel.clock_square *= square
    channel.level_product *= square
    channel.level_square *= square
    channel.net_product *= square
    channel.net_square *= square
