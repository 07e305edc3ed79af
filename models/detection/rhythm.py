"""What the clock says of a channel: a profile of the day, and what each day of the week makes of it.

The profile has a number for each quarter of an hour, in spreads from the centre, a running mean over the days seen. A
day of the week shows a share of its own of the profile, at a level of its own: a weekend on which a machine rests shows
none of it, far below. So a week costs 14 numbers beside the day's 96, and two weeks are enough to know one.

Its times are local: those that the clocks beside the stream show, in ms since 1970 as if they showed UTC. Where clocks
are set back, an hour of the profile is visited twice; where they are set forward, one is left out. A holiday is taken
for the day of the week that it is like.

All are whole steps, and digits of a row's numbers, four in each: the quarters, then the levels of Monday to Sunday and
of the day that is not over yet, then the gains of the same. See docs/detection.md, "Expectation".
"""

import math

from models.data.arrays import Doubles, Int64s
from models.data.time_units import DAY_MS, MINUTE_MS
from models.detection.arithmetic import at_least, at_most, count_until, proven, within
from models.detection.compiling import compiled, kept
from models.detection.records import SMALLEST_VARIANCE
from models.detection.rows import Channels

QUARTER_MS = 900_000
QUARTERS = DAY_MS // QUARTER_MS
WEEK = 7
THURSDAY = 3  # the first of January 1970; Monday is 0
DAY_MINUTES = DAY_MS // MINUTE_MS
LEVELS = QUARTERS  # the first day's place among the digits
TODAY = WEEK  # the place of the day that is not over, after those of the week
GAINS = LEVELS + WEEK + 1
MEMORY_DAYS = 14.0  # that the profile goes back; a plain mean over the days before that
MEMORY_WEEKS = 4.0  # that the days of the week go back
LONGEST_VISIT = 4.0  # quarters that the readings of one stand for, where the next ones come later
DIGIT_BITS = 13  # so a row's number, of 53 bits, holds four
DIGITS = 1 << DIGIT_BITS  # from half of them below 0 on
ALL_LEAST = sum(1 << (DIGIT_BITS * n) for n in range(4)) * DIGITS // 2  # what makes the least of four digits 0
FARTHEST_STEP = 4_095.0  # where the profile goes further, its steps become larger
GAIN_STEP = 1 / 1_024  # so a day shows the profile up to five times as large
PRODUCT_STEPS = 256.0  # squared steps that the digit of today's product counts
LARGEST_GAIN = 3.0  # no day shows more of the profile: as much as the first working day after a weekend at rest


@compiled
def digit(calendar: Doubles, place: int) -> float:
    """In steps: a digit from -4096 to 4095, the least significant one first; whole numbers, so it is exact."""
    number = int(calendar[place // 4]) + ALL_LEAST
    return float(((number >> (DIGIT_BITS * (place % 4))) & (DIGITS - 1)) - DIGITS // 2)


@compiled
def set_digit(calendar: Doubles, place: int, to: float) -> None:
    """to: in steps, from -4096 to 4095."""
    scale = float(1 << (DIGIT_BITS * (place % 4)))
    calendar[place // 4] += (math.floor(to + 0.5) - digit(calendar, place)) * scale


@compiled
def local_time(time_ms: float, changes: Int64s, offsets: Int64s) -> float:
    """What clocks show that are set so. changes, offsets: a row of ClockTable."""
    return time_ms + float(offsets[count_until(changes, int(time_ms))])


@compiled
def quarters_of(time_ms: float) -> int:
    """How many are over since 1970. In whole numbers: the remainder of a float takes ten times as long."""
    return int(time_ms) // QUARTER_MS


@compiled
def days_of(time_ms: float) -> int:
    return int(time_ms) // DAY_MS


@compiled
def quarter_of(time_ms: float) -> int:
    return quarters_of(time_ms) % QUARTERS


@compiled
def weekday_of(day: int) -> int:
    """day: since 1970."""
    return (day + THURSDAY) % WEEK


@compiled
def local_place(time_ms: float, changes: Int64s, offsets: Int64s, holidays: Int64s, like: Int64s) -> tuple[float, int]:
    """The local time, and the day of the week that it counts as. The others are a row of Limits."""
    local_ms = local_time(time_ms, changes, offsets)
    return local_ms, weekday_like(local_ms, holidays, like)


@compiled
def weekday_like(local_ms: float, holidays: Int64s, like: Int64s) -> int:
    """The day of the week, or that which a holiday is like. holidays, like: a row of Limits."""
    day = days_of(local_ms)
    before = count_until(holidays, day)
    return int(like[before - 1]) if before > 0 and holidays[before - 1] == day else weekday_of(day)


@kept
def week_leaps(
    times_ms: Int64s,
    sets: Int64s,
    clock_changes: Int64s,
    clock_offsets: Int64s,
    holidays: Int64s,
    like: Int64s,
    leaps: Int64s,
) -> None:
    """Fill in how far the place in the week leaps on a holiday, to the day that it is like: minutes, 0 on other days.

    times_ms, leaps: (T, S). The others are those of Limits.
    """
    waves, streams = times_ms.shape
    for stream in range(streams):
        one = sets[stream]
        for wave in range(waves):
            leaps[wave, stream] = 0
            if holidays.shape[1] > 0:
                time_ms = float(times_ms[wave, stream])
                local_ms, day = local_place(time_ms, clock_changes[one], clock_offsets[one], holidays[one], like[one])
                leaps[wave, stream] = (day - weekday_of(days_of(local_ms))) * DAY_MINUTES


@compiled
def daily_at(channel: Channels[float], calendar: Doubles, time_ms: float) -> float:
    """The profile of the day, in spreads from the centre."""
    return digit(calendar, quarter_of(time_ms)) * channel.profile_step


@compiled
def weekly_at(channel: Channels[float], calendar: Doubles, day: int, daily: float) -> float:
    """What a day of the week adds to that, in spreads. day: Monday is 0."""
    level, gain = digit(calendar, LEVELS + day) * channel.profile_step, digit(calendar, GAINS + day) * GAIN_STEP
    return level + gain * daily


@compiled
def week_share(channel: Channels[float]) -> float:
    """How much is heeded of what the day of the week adds to the profile."""
    return proven(channel.week_product, channel.week_square, channel.residual_variance)


@compiled
def end_visit(
    channel: Channels[float],
    calendar: Doubles,
    time_ms: float,
    before_ms: float,
    day: int,
    days: float,
    paused: bool,
) -> None:
    """Where a quarter of an hour is over, profile and day learn what was read in it; where a day is, the week does.

    day: of the week, that before_ms counts as. days: seen so far. time_ms is before before_ms where clocks are set back
    in between. paused: nothing is learned from the reading at time_ms, so a day of which nothing was seen is none.
    """
    if quarters_of(time_ms) == quarters_of(before_ms):
        return
    if channel.visit_readings > 0:
        quarter, daily = quarter_of(before_ms), daily_at(channel, calendar, before_ms)
        seen = daily + channel.visit_sum / channel.visit_readings
        set_level(channel, calendar, quarter, daily + (seen - daily) / days_counted(days))
        daily = daily_at(channel, calendar, before_ms)
        quarters = at_most(at_least(float(quarters_of(time_ms) - quarters_of(before_ms)), 1.0), LONGEST_VISIT)
        follow_day(channel, calendar, quarter, seen - daily, daily, quarters)
    channel.visit_sum = channel.visit_readings = 0.0
    if days_of(time_ms) != days_of(before_ms) and not (paused and is_unseen(calendar)):
        end_day(channel, calendar, day, weekday_of(days_of(before_ms)), days)
        daily = daily_at(channel, calendar, before_ms)  # all quarters have moved by now: so has the last one
        channel.last_profile = daily + weekly_at(channel, calendar, day, daily) * week_share(channel)


@compiled
def days_counted(days: float) -> float:
    """Visits of a quarter of an hour, with this one, that the profile is a mean of."""
    return at_most(math.floor(days) + 1.0, MEMORY_DAYS)


@compiled
def set_level(channel: Channels[float], calendar: Doubles, place: int, to: float) -> None:
    """to: in spreads."""
    to /= channel.profile_step
    while abs(to) > FARTHEST_STEP:
        halve(calendar)
        channel.profile_step *= 2
        to /= 2
    set_digit(calendar, place, to)


@compiled
def set_gain(calendar: Doubles, place: int, to: float) -> None:
    set_digit(calendar, GAINS + place, within(to / GAIN_STEP, FARTHEST_STEP))


@compiled
def set_product(channel: Channels[float], calendar: Doubles, to: float) -> None:
    """Of today. to: in spreads²."""
    to /= channel.profile_step * channel.profile_step * PRODUCT_STEPS
    while abs(to) > FARTHEST_STEP:
        halve(calendar)
        channel.profile_step *= 2
        to /= 4
    set_digit(calendar, GAINS + TODAY, to)


@compiled
def product_of(channel: Channels[float], calendar: Doubles) -> float:
    """Of today, in spreads²."""
    return digit(calendar, GAINS + TODAY) * channel.profile_step * channel.profile_step * PRODUCT_STEPS


@compiled
def halve(calendar: Doubles) -> None:
    """The same levels, and the same product, in steps twice as large."""
    for place in range(GAINS):
        set_digit(calendar, place, at_most(digit(calendar, place) / 2, DIGITS / 2 - 1))
    set_digit(calendar, GAINS + TODAY, digit(calendar, GAINS + TODAY) / 4)


@compiled
def move_origin(channel: Channels[float], calendar: Doubles, by: float) -> None:
    """The centre is `by` spreads higher than before: what profile and week say of a value stays the same.

    The profile is moved by whole steps, so that nothing seems to happen between two quarters.
    """
    farthest = 0.0
    for quarter in range(QUARTERS):
        farthest = at_least(farthest, abs(digit(calendar, quarter)))
    while farthest + abs(by) / channel.profile_step > FARTHEST_STEP:
        halve(calendar)
        channel.profile_step *= 2
        farthest /= 2
    steps = math.floor(by / channel.profile_step + 0.5)
    moved = steps * channel.profile_step
    for quarter in range(QUARTERS):
        set_digit(calendar, quarter, digit(calendar, quarter) - steps)
    for day in range(WEEK):
        level, gain = digit(calendar, LEVELS + day) * channel.profile_step, digit(calendar, GAINS + day) * GAIN_STEP
        set_level(channel, calendar, LEVELS + day, level + gain * moved)
    channel.last_profile -= moved


@compiled
def follow_day(
    channel: Channels[float], calendar: Doubles, quarter: int, beyond: float, daily: float, quarters: float
) -> None:
    """Take a visit into the mean of today's distance from the profile, and of that times the profile.

    The latter counts the profile from where its day begins, so that it does not hang on the centre.
    """
    share, origin = quarters / QUARTERS, digit(calendar, 0) * channel.profile_step
    today = digit(calendar, LEVELS + TODAY) * channel.profile_step + beyond * share
    product = product_of(channel, calendar) + beyond * (daily - origin) * share
    lost = uneven(quarter)
    set_level(channel, calendar, LEVELS + TODAY, today + lost * channel.profile_step)
    set_product(channel, calendar, product + lost * channel.profile_step * channel.profile_step * PRODUCT_STEPS)


@compiled
def uneven(quarter: int) -> float:
    """Between -1/2 and 1/2, each value once a day, in no order: a sum of rounded steps is right to a step then.

    What a quarter adds to the day is less than a step: rounded as it is, it would be lost each time.
    """
    return (quarter * 37 % QUARTERS + 0.5) / QUARTERS - 0.5


@compiled
def is_unseen(calendar: Doubles) -> bool:
    """Whether nothing is known of the day that is not over."""
    return digit(calendar, LEVELS + TODAY) == 0 and digit(calendar, GAINS + TODAY) == 0


@compiled
def end_day(channel: Channels[float], calendar: Doubles, day: int, own: int, days: float) -> None:
    """Fit the day that is over as level + gain times the profile (least squares), as one week of at most four.

    day: of the week, that it counts as. own: the one that it was.

    The profile has moved towards the day while it lasted, and so away from all others: what these add is told from
    where the profile is now, so that what is expected of them stays the same.
    """
    mean, variance = moments(calendar, channel.profile_step)
    level, product = digit(calendar, LEVELS + TODAY) * channel.profile_step, product_of(channel, calendar)
    set_digit(calendar, LEVELS + TODAY, 0.0)
    set_digit(calendar, GAINS + TODAY, 0.0)
    unexplained = at_least(channel.residual_variance, SMALLEST_VARIANCE)  # not 0, as of a channel that never moved
    above_origin = mean - digit(calendar, 0) * channel.profile_step
    gain = (product - level * above_origin) / (variance + unexplained / QUARTERS)
    gain = at_most(at_least(gain, -1.0), LARGEST_GAIN - 1)
    level -= gain * mean
    before = days_counted(days) - 1  # days that the profile is a mean of, beside this one
    kept, moved = 1.0, 0.0
    if before > 0:
        kept, moved = at_least(1 - gain / before, 0.0), level / before

    rate = 1 / at_most(at_least(math.ceil(days / WEEK), 1.0), MEMORY_WEEKS)
    for other in range(WEEK):
        if other != day and days <= (own - other - 1) % WEEK + 1:  # not seen yet: as the profile says
            continue
        a_level, a_gain = (
            digit(calendar, LEVELS + other) * channel.profile_step,
            digit(calendar, GAINS + other) * GAIN_STEP,
        )
        a_level -= (1 + a_gain) * moved
        a_gain = (1 + a_gain) * kept - 1
        if other == day:
            a_gain += (gain - a_gain) * rate
            a_level += (level - a_level) * rate
        set_gain(calendar, other, a_gain)
        set_level(channel, calendar, LEVELS + other, a_level)


@compiled
def moments(calendar: Doubles, step: float) -> tuple[float, float]:
    """Mean and variance of the profile over the day, in spreads."""
    total = squares = 0.0
    for quarter in range(QUARTERS):
        here = digit(calendar, quarter)
        total += here
        squares += here * here
    mean = total / QUARTERS
    return mean * step, (squares / QUARTERS - mean * mean) * step * step
