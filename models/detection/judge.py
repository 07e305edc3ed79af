"""The judge: one stream after the other, one reading after the other, from the reading to its alarm.

It reads as docs/detection.md does, and is compiled (see compiling). A stream's bits depend on that stream's readings
alone, since no other row is in sight. Only +, -, *, /, square root and comparison are used: those are rounded exactly
(IEEE 754), so no machine changes a bit.

A row is copied into records, one of the stream and one of each channel, changed there and copied back.
Sizes: N readings of a batch, T waves, S streams, F features, E symptoms a channel.
"""

import math

from models.data.arrays import Bools, Doubles, Int64s
from models.data.time_units import DAY_MS
from models.detection.alarm import Change, OpenedBy
from models.detection.arithmetic import add, at_least, at_most, exponential, follow, logarithm, one_if, within
from models.detection.compiling import compiled, is_kept, kept
from models.detection.expectation import (
    band_std,
    bias_of,
    expect,
    learn_band,
    learn_expectation,
    rescale_expectation,
)
from models.detection.kinds import (
    BASE_READINGS,
    BASELINE_READINGS,
    BASELINE_SIGNALS,
    FARTHEST_SYMPTOM,
    PEAK_SPEEDS,
    SPEEDS,
    SYMPTOMS,
    VOTE_EVERY,
)
from models.detection.net_arithmetic import predict, show
from models.detection.records import (
    BAND_DEVIATIONS,
    LATE_LIMIT,
    SMALLEST_VARIANCE,
    Block,
    Events,
    Limits,
    Look,
    Rules,
    Scores,
    Scratch,
    Sheet,
    Step,
)
from models.detection.rhythm import end_visit, local_time
from models.detection.rows import CALENDAR, CHANNELS, SCALARS, Channels, Scalars
from models.detection.scoring import EULER_GAMMA, GUMBEL_SCALE

FARTHEST = 1e6  # spreads, or margins of the range: distances are cut there, so that squares stay finite
SMALLEST_SPREAD = 1e-9  # of a channel that never moved, beside one millionth of its level
LONGEST_DAYS = 1 / 24  # that one reading stands for: after a gap it knows no more than after an hour
FARTHEST_LEVEL = 30.0  # spreads: of what is further off the level deviation takes no more
STRONGEST = 30.0  # standard deviations: a channel further off is no more anomalous, and does not drown the others
LARGEST_LEARNED = 8.0  # standard deviations: of what is further off no more is learned, or a glitch would deafen
SMALLEST_DEVIATION = 0.05  # of a strength, which is around 1, beside its standard deviation
SETTLING = 48.0  # readings that a variance is learned from before the strength, which it scales, is
HIGHEST_SCORE = 1e6
PRIOR_BLOCKS = 2.0  # that what is known of peaks before the first block counts for
LONGEST_RETURN_MS = 100 * 365 * DAY_MS  # no longer return period is told: no one has seen so many readings
MOST_BLOCKS = 1e12  # of a period; also where the interval is not known
LOWEST_IF_ASKED = 0.5  # threshold of prediction and level where it is said how many false alarms there may be
LOWEST_SUDDEN_IF_ASKED = 3.0  # the same of sudden
FARTHEST_BLOCKS = 60.0  # logarithm of them
SMALLEST_PEAK_STD = 1e-9  # of the logarithm of peaks
HIGHEST_PEAK = 8.0  # standard deviations above the mean of the peaks: of a higher one no more is learned
EQUAL_READINGS = 20.0  # equal values in a row that are always healthy
MISSING_READINGS = 3.0  # missing ones in a row that are not, where there were none before
LONGER = 2.0  # times the longest run, or gap, is not healthy
RANGE_GROWTH = 0.05  # of the range, that one anomalous reading widens it by at most
FEWEST_CHANGES = 20.0  # of a value, before it can be stuck
REPEATS = 0.1  # share of its readings: a value that is repeated more often repeats by nature
GAP_READINGS = 256.0  # length of the memory of the usual interval
GAP_SETTLING = 16.0  # readings whose gaps are learned whatever they are

_LAST, _AGE, _TIME_MS = CHANNELS.places["last"], *(SCALARS.places[n] for n in ("age", "time_ms"))
_LATE_RUN, _RESCALE_AT, _LENGTH, _ALARM = (SCALARS.places[n] for n in ("late_run", "rescale_at", "length", "alarm"))
_CHANNELS, _SCALARS = len(CHANNELS), len(SCALARS)
_CALENDAR, _CALENDAR_END = CHANNELS.places[CALENDAR[0]], CHANNELS.places[CALENDAR[-1]] + 1
_RATES = tuple(1 / speed for speed in SPEEDS)
_FADES = tuple(1 - 1 / speed for speed in PEAK_SPEEDS)
_BASE, _BASELINES = SYMPTOMS.places["base"], SYMPTOMS.places["baseline_abs_diff"]
_PEAKS = SYMPTOMS.places[f"peak_{PEAK_SPEEDS[0]}"]


def is_compiled() -> bool:
    """Whether code was kept for these sources, or the first reading waits for the compiler."""
    return all(map(is_kept, (admit, waves_until_scale_moves, hold, show, predict, judge_block)))


# --- before the net: which readings are judged, and what stands for missing values


@kept
def admit(
    times_ms: Int64s,
    values: Doubles,
    streams: Int64s,
    channels: Doubles,
    scalars: Doubles,
    clock: Doubles,
    last: Doubles,
    late: Bools,
    again: Bools,
) -> int:
    """Mark the late and the duplicate readings by each stream's own clock. Returns how many there are.

    streams: (N,) the row of each reading, in offset order. clock, last: (S,), (S, F), room for those of the rows, to be
    moved with the readings; the rows' own move when they are judged, but for their runs of late ones. late, again:
    (N,), False.
    """
    features = values.shape[1]
    for stream in range(len(clock)):
        clock[stream] = scalars[stream, _TIME_MS] if scalars[stream, _AGE] > 0 else -1.0
        for f in range(features):
            last[stream, f] = channels[stream, _LAST, f]
    dropped = 0
    for n in range(len(times_ms)):
        stream, time = streams[n], float(times_ms[n])
        if time < clock[stream] and scalars[stream, _LATE_RUN] < LATE_LIMIT:
            scalars[stream, _LATE_RUN] += 1
            late[n] = True
            dropped += 1
            continue
        same = time == clock[stream]
        for f in range(features):
            same = same and (math.isnan(values[n, f]) or values[n, f] == last[stream, f])
        if same:
            again[n] = True
            dropped += 1
            continue
        for f in range(features):
            if not math.isnan(values[n, f]):
                last[stream, f] = values[n, f]
        clock[stream] = time
        scalars[stream, _LATE_RUN] = 0.0
    return dropped


@kept
def waves_until_scale_moves(scalars: Doubles, adopt_after: float) -> int:
    """How many readings can be taken at most before a stream reaches the age, or its alarm the length, to move."""
    waves = math.inf
    for stream in range(len(scalars)):
        waves = at_most(waves, scalars[stream, _RESCALE_AT] - scalars[stream, _AGE])
        waves = at_most(waves, adopt_after - scalars[stream, _LENGTH] * scalars[stream, _ALARM])
    return int(at_least(waves, 1.0))


@kept
def hold(
    readings: Int64s,
    times_ms: Int64s,
    values: Doubles,
    channels: Doubles,
    scalars: Doubles,
    held: Doubles,
    elapsed_ms: Doubles,
) -> None:
    """Fill in `held` and `elapsed_ms` of a Block. A missing value is, to the net, the last known one."""
    waves, streams = readings.shape
    for stream in range(streams):
        clock = scalars[stream, _TIME_MS] if scalars[stream, _AGE] > 0 else float(times_ms[readings[0, stream]])
        for wave in range(waves):
            n = readings[wave, stream]
            elapsed_ms[wave, stream] = at_least(float(times_ms[n]) - clock, 0.0)
            clock = float(times_ms[n])
            for f in range(values.shape[1]):
                if not math.isnan(values[n, f]):
                    held[wave, stream, f] = values[n, f] + 0.0  # makes +0.0 of -0.0
                else:
                    held[wave, stream, f] = held[wave - 1, stream, f] if wave else channels[stream, _LAST, f]


# --- after the net: what is thought of each reading


@kept
def judge_block(
    rules: Rules,
    block: Block,
    channels: Doubles,
    scalars: Doubles,
    scratch: Scratch,
    sheet: Sheet,
    events: Events,
    place: int,
    count: int,
) -> tuple[int, int]:
    """Judge a block, each stream's readings in turn, and move the scales that are due after it.

    channels: (S, C or C + E, F) and scalars: (S, at least K), changed in place. place, count: of the stream to begin
    with, and of the events that there are already. Returns both as they are after it: not all streams are judged where
    there is not room for an event at each reading of the next one.
    """
    waves, streams, features = block.held.shape
    stream = scratch.stream[0]
    while place < streams and count + waves <= len(events.records):
        load(place, channels, scalars, scratch)
        symptoms = channels[place, _CHANNELS:]
        limits = block.limits[block.limit_sets[place]]
        changes, offsets = block.clock_changes[block.limit_sets[place]], block.clock_offsets[block.limit_sets[place]]
        for wave in range(waves):
            n = block.readings[wave, place]
            time_ms, elapsed_ms = float(block.times_ms[n]), block.elapsed_ms[wave, place]
            local_ms = local_time(time_ms, changes, offsets)
            local_before_ms = local_time(time_ms - elapsed_ms, changes, offsets)
            for f in range(features):
                calendar = scratch.channel_numbers[f, _CALENDAR:_CALENDAR_END]
                end_visit(scratch.channels[f], calendar, local_ms, local_before_ms, stream.days)
                look_at(scratch.channels[f], calendar, scratch.looks[f], block, local_ms, wave, place, f)
                compare(scratch.channels[f], scratch.looks[f], rules)
                limit(scratch.channels[f], scratch.looks[f], limits[f])
                write_band(stream, scratch.channels[f], scratch.looks[f], n, f, sheet)
            stream.age += 1
            scores = score(stream, scratch, elapsed_ms, rules)
            step = step_alarm(stream, scratch, scores, float(block.offsets[n]), time_ms, rules)
            sheet.score[n], sheet.alarm[n] = scores.score, stream.alarm > 0

            asks = len(symptoms) > 0 and asks_for_kind(stream, step)
            if len(symptoms) > 0:
                for f in range(features):
                    follow_symptoms(symptoms, f, scratch.channels[f], scratch.looks[f], step)
            if step.change != Change.NONE or asks:
                note(events, count, stream, scores, step, scratch, symptoms, rules)
                event = events.records[count]
                event.wave, event.place, event.reading, event.asks = wave, place, n, one_if(asks)
                count += 1

            stream.days += at_most(elapsed_ms / DAY_MS, LONGEST_DAYS) * step.learns
            for f in range(features):
                channel, look = scratch.channels[f], scratch.looks[f]
                error = abs(look.residual - bias_of(channel, stream.learned))
                learn_band(channel, error, stream.learned, step.updates_baseline * look.present)
                learn_expectation(channel, look, elapsed_ms, step)
            update_baseline(stream, scratch, scores, step, rules, block.false_alarm_ms[block.limit_sets[place]])
            learn_gap(stream, elapsed_ms)
            for f in range(features):
                learn_scale(scratch.channels[f], scratch.looks[f], step)
        stream.time_ms = float(block.times_ms[block.readings[waves - 1, place]])
        for f in range(features):
            scratch.channels[f].last = block.held[waves - 1, place, f]
        move_scale(stream, scratch, rules)
        store(place, channels, scalars, scratch)
        place += 1
    return place, count


@kept
def expect_next(
    channels: Doubles,
    scalars: Doubles,
    limits: Limits,
    times_ms: Int64s,
    before: Doubles,
    predicted: Doubles,
    scratch: Scratch,
    expected: Doubles,
    profile: Doubles,
) -> None:
    """Fill in what is expected of a reading of each stream, raw, and the profile at its time; changes no row.

    channels, scalars: as judge_block has them. times_ms: (S,). before, predicted: (S, F), the values before, raw, and
    what the net says, in spreads. expected, profile: (S, F).
    """
    stream = scratch.stream[0]
    for place in range(len(channels)):
        load(place, channels, scalars, scratch)
        changes, offsets = limits.clock_changes[limits.sets[place]], limits.clock_offsets[limits.sets[place]]
        time_ms = float(times_ms[place])
        local_ms = local_time(time_ms, changes, offsets)
        local_before_ms = local_time(at_most(stream.time_ms, time_ms), changes, offsets)
        for f in range(channels.shape[2]):
            channel, look, calendar = (
                scratch.channels[f],
                scratch.looks[f],
                scratch.channel_numbers[f, _CALENDAR:_CALENDAR_END],
            )
            end_visit(channel, calendar, local_ms, local_before_ms, stream.days)
            expect(channel, calendar, before[place, f], predicted[place, f], local_ms, look)
            profile[place, f] = look.profile
            middle = look.change + bias_of(channel, stream.learned)
            expected[place, f] = before[place, f] + middle * channel.spread if channel.spread < math.inf else math.nan


@compiled
def load(place: int, channels: Doubles, scalars: Doubles, scratch: Scratch) -> None:
    for k in range(_SCALARS):
        scratch.stream_numbers[0, k] = scalars[place, k]
    for f in range(channels.shape[2]):
        for c in range(_CHANNELS):
            scratch.channel_numbers[f, c] = channels[place, c, f]


@compiled
def store(place: int, channels: Doubles, scalars: Doubles, scratch: Scratch) -> None:
    for k in range(_SCALARS):
        scalars[place, k] = scratch.stream_numbers[0, k]
    for f in range(channels.shape[2]):
        for c in range(_CHANNELS):
            channels[place, c, f] = scratch.channel_numbers[f, c]


# --- residual and level


@compiled
def look_at(
    channel: Channels[float],
    calendar: Doubles,
    look: Look,
    block: Block,
    local_ms: float,
    wave: int,
    place: int,
    f: int,
) -> None:
    """The residual is the reading less its expectation, in spreads; 0 where the value is missing."""
    n = block.readings[wave, place]
    look.value = block.held[wave, place, f]
    look.before = block.held[wave - 1, place, f] if wave else channel.last
    expect(channel, calendar, look.before, block.predicted[wave, place, f], local_ms, look)
    look.residual = within((look.value - look.before) / channel.spread - look.change, FARTHEST)
    look.present = 1.0
    if math.isnan(block.values[n, f]):
        look.present = look.residual = 0.0
    else:
        channel.last_profile = look.profile


@compiled
def compare(channel: Channels[float], look: Look, rules: Rules) -> None:
    """Compare the residual and the distance from the level with the baseline; moves `level_deviation`."""
    look.distance = within((look.value - channel.mean) / channel.spread - look.season, FARTHEST)
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
    if channel.spread < math.inf:
        middle = look.change + bias_of(channel, stream.learned)
        half = band_std(channel) * BAND_DEVIATIONS
        sheet.expected[n, f] = look.before + middle * channel.spread
        sheet.lower[n, f] = look.before + (middle - half) * channel.spread
        sheet.upper[n, f] = look.before + (middle + half) * channel.spread


# --- score


@compiled
def score(stream: Scalars[float], scratch: Scratch, elapsed_ms: float, rules: Rules) -> Scores:
    """What each witness says, over its threshold; moves `residual_strength` and the runs.

    Of prediction and level it is the strength that is compared with its own long past, as anomaly likelihood compares a
    short memory with a long one (Lavin & Ahmad 2015).
    """
    strengths, told = strengths_of(scratch)
    stream.residual_strength += (strengths[0] - stream.residual_strength) * rules.strength_rate
    stream.told_strength += (told[0] - stream.told_strength) * rules.strength_rate
    sudden, outside, equal, missing = furthest_channels(scratch, rules)
    share = rules.baseline_share
    peaks = (
        above(
            stream.told_strength,
            rules.residual_weight,
            stream.residual_strength_mean,
            stream.residual_strength_variance,
            share,
        ),
        above(told[1], rules.level_weight, stream.level_strength_mean, stream.level_strength_variance, share),
        outside,
        sudden,
    )
    runs = (equal, missing, silence(stream, elapsed_ms, rules))
    ratios = (  # in the order of OpenedBy
        peaks[0] / (stream.residual_threshold * stream.prediction_factor),
        peaks[1] / (stream.level_threshold * stream.level_factor),
        peaks[2] / (stream.range_threshold * stream.range_factor),
        peaks[3] / (stream.sudden_threshold * stream.sudden_factor),
        runs[0],
        runs[1],
        runs[2],
    )
    sharp = ratios[2]
    for n in range(3, len(ratios)):
        sharp = at_least(sharp, ratios[n])
    highest = at_least(at_least(ratios[0], ratios[1]), sharp)
    scored = one_if(stream.age > rules.warm_up)
    return Scores(
        at_most(highest, HIGHEST_SCORE) * scored,
        at_most(sharp, HIGHEST_SCORE) * scored,
        scored,
        (stream.residual_strength, strengths[1]),
        peaks,
        runs,
        furthest_of(ratios),
    )


@compiled
def strengths_of(scratch: Scratch) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of residual and level deviation: root mean square over the channels present, each cut at STRONGEST.

    First of all channels, then of those that count alone.
    """
    looks, squares = scratch.looks, scratch.squares
    if len(looks) == 1:
        residual, level = at_most(abs(looks[0].residual_z), STRONGEST), at_most(abs(looks[0].level_z), STRONGEST)
        return (residual, level), (residual * looks[0].counts, level * looks[0].level_counts)
    present, counts, level_counts = 0.0, True, True
    for f in range(len(looks)):
        strength = at_most(abs(looks[f].residual_z), STRONGEST)
        squares[f] = strength * strength
        present += looks[f].present
        counts, level_counts = counts and looks[f].counts > 0, level_counts and looks[f].level_counts > 0
    present = at_least(present, 1.0)
    told_residual = residual = math.sqrt(add(squares) / present)
    if not counts:
        for f in range(len(looks)):
            squares[f] *= looks[f].counts
        told_residual = math.sqrt(add(squares) / present)
    for f in range(len(looks)):
        strength = at_most(abs(looks[f].level_z), STRONGEST)
        squares[f] = strength * strength
    told_level = level = math.sqrt(add(squares) / present)
    if not level_counts:
        for f in range(len(looks)):
            squares[f] *= looks[f].level_counts
        told_level = math.sqrt(add(squares) / present)
    return (residual, level), (told_residual, told_level)


@compiled
def above(strength: float, weight: float, mean: float, variance: float, share: float) -> float:
    """How far a strength is above its long mean, in standard deviations to which a share of the mean is added."""
    return at_least(strength - mean, 0.0) * weight / (math.sqrt(variance) + mean * share + SMALLEST_DEVIATION)


@compiled
def furthest_channels(scratch: Scratch, rules: Rules) -> tuple[float, float, float, float]:
    """Of sudden, range, stuck and missing, each that of the channel that is furthest, of those that count."""
    sudden, outside, equal, missing = 0.0, 0.0, 0.0, 0.0
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        look.outside = outside_of(channel, look, rules)
        follow_runs(channel, look)
        sudden = at_least(at_most(abs(look.residual_z), FARTHEST) * look.counts, sudden)
        outside, equal, missing = (
            at_least(look.outside, outside),
            at_least(look.equal, equal),
            at_least(look.missing, missing),
        )
    return sudden, outside, equal, missing


@compiled
def outside_of(channel: Channels[float], look: Look, rules: Rules) -> float:
    """1.0 where a value is further outside the learned range than its margin; 0 inside, and of an unknown channel."""
    beyond = look.beyond / margin_of(channel, look, rules)
    if beyond > 0:  # NaN, of an unknown channel, is not
        return at_most(beyond, FARTHEST)
    return 0.0


@compiled
def margin_of(channel: Channels[float], look: Look, rules: Rules) -> float:
    spread = channel.spread * look.residual_std
    return at_least((channel.high - channel.low) * rules.range_share, spread * rules.range_spreads)


@compiled
def follow_runs(channel: Channels[float], look: Look) -> None:
    """Take a reading into the runs of equal and of missing values; says how long they are over what is healthy.

    A run that is over may be half as long again as what is healthy, and teaches no more than that.
    """
    if look.present == 0:
        channel.missing_run += one_if(channel.known > 0)
    else:
        longest = at_most(channel.missing_run, LONGER * channel.longest_missing_run + MISSING_READINGS)
        channel.longest_missing_run = at_least(channel.longest_missing_run, longest)
        channel.missing_run = 0.0
        if look.value == look.before:
            channel.equal_run += 1
        else:
            longest = at_most(channel.equal_run, LONGER * channel.longest_equal_run + EQUAL_READINGS)
            channel.longest_equal_run = at_least(channel.longest_equal_run, longest)
            channel.equal_run = 0.0
            channel.changes += 1
    look.missing = channel.missing_run / at_least(channel.longest_missing_run * LONGER, MISSING_READINGS)
    look.equal = 0.0
    if channel.changes >= FEWEST_CHANGES and channel.known - channel.changes <= channel.known * REPEATS:
        look.equal = channel.equal_run / at_least(channel.longest_equal_run * LONGER, EQUAL_READINGS)


@compiled
def silence(stream: Scalars[float], elapsed_ms: float, rules: Rules) -> float:
    """1.0 where the time since the last reading is as long as no healthy gap."""
    healthy = at_least(stream.interval_ms * rules.silent_intervals, stream.longest_gap_ms * LONGER)
    return elapsed_ms / healthy if healthy > 0 else 0.0


@compiled
def furthest_of(ratios: tuple[float, ...]) -> int:
    """OpenedBy: the first of the highest; what is no number is higher than all."""
    best = 0
    for n in range(1, len(ratios)):
        if not ratios[n] <= ratios[best] and not math.isnan(ratios[best]):
            best = n
    return best


# --- alarm


@compiled
def step_alarm(
    stream: Scalars[float], scratch: Scratch, scores: Scores, offset: float, time_ms: float, rules: Rules
) -> Step:
    """Let a score open, hold or close the stream's alarm: see alarm."""
    hot = scores.score >= 1.0
    was_open = stream.alarm > 0
    opens = not was_open and (scores.sharp >= 1.0 if stream.rest > 0 else hot and stream.rest == 0)
    is_open = was_open or opens
    if opens:
        stream.opened_offset, stream.opened_ms, stream.opened_by = offset, time_ms, scores.furthest
        stream.peak = stream.severity = stream.length = stream.quiet = 0.0
        for f in range(len(scratch.channels)):
            scratch.channels[f].mean_in_alarm = 0.0
        ask_more(stream, scores.furthest, rules.opened_factor)
    learns = not is_open and (not hot or stream.rest < 0)

    rises = recovers = shifts = False
    if is_open:
        rises = follow_alarm(stream, scratch, scores.score, rules) and was_open
        recovers = was_open and stream.quiet >= rules.close_after
        shifts = stream.length >= rules.adopt_after and not recovers
    if stream.rest > 0:
        stream.rest -= 1
    elif stream.rest < 0:
        stream.rest += 1
    if recovers:
        stream.rest = rules.rest
    if shifts:
        stream.rest = -rules.relearn
    stream.alarm = one_if(is_open and not recovers and not shifts)

    change = Change.NONE
    if shifts:
        change = Change.LEVEL_SHIFT
    elif recovers:
        change = Change.RECOVERED
    elif opens:
        change = Change.OPENED
    elif rises:
        change = Change.UPDATED
    return Step(change, one_if(learns), one_if(not is_open or stream.length <= rules.learn_first))


@compiled
def follow_alarm(stream: Scalars[float], scratch: Scratch, score: float, rules: Rules) -> bool:
    """Take a reading into the open alarm. Returns whether it became more severe."""
    stream.peak = at_least(stream.peak, score)
    stream.length += 1
    stream.quiet = stream.quiet + 1 if score < rules.close_below else 0.0
    for f in range(len(scratch.channels)):
        channel = scratch.channels[f]
        channel.mean_in_alarm += (scratch.looks[f].value - channel.mean_in_alarm) / at_least(stream.length, 1.0)
    severity = one_if(stream.peak >= rules.major_at) + one_if(stream.peak >= rules.critical_at)
    rises: bool = severity > stream.severity
    stream.severity = severity
    return rises


@compiled
def ask_more(stream: Scalars[float], witness: int, factor: float) -> None:
    """Raise the threshold of the witness that opens an alarm: what comes again and again becomes less of one.

    Those that measure lengths learn the length itself: see follow_runs and learn_gap.
    """
    if witness == OpenedBy.PREDICTION:
        stream.prediction_factor *= factor
    elif witness == OpenedBy.LEVEL:
        stream.level_factor *= factor
    elif witness == OpenedBy.RANGE:
        stream.range_factor *= factor
    elif witness == OpenedBy.SUDDEN:
        stream.sudden_factor *= factor


@compiled
def ask_less(stream: Scalars[float], fades: float) -> None:
    """Let what ask_more did fade by one reading."""
    stream.prediction_factor -= (stream.prediction_factor - 1) * fades
    stream.level_factor -= (stream.level_factor - 1) * fades
    stream.range_factor -= (stream.range_factor - 1) * fades
    stream.sudden_factor -= (stream.sudden_factor - 1) * fades


# --- what is learned


@compiled
def update_baseline(
    stream: Scalars[float], scratch: Scratch, scores: Scores, step: Step, rules: Rules, false_alarm_ms: float
) -> None:
    """Take a reading into the long memories, and into the thresholds, which learn from every reading that is scored."""
    learns = step.updates_baseline
    stream.learned += learns
    settled = stream.learned > SETTLING
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        rate = rate_of(stream.learned, rules) * (learns * look.present)
        near = not_too_far(look.residual, channel.residual_mean, look.residual_std, settled)
        channel.residual_mean, channel.residual_variance = follow(
            channel.residual_mean, channel.residual_variance, near, rate
        )
        near = not_too_far(channel.level_deviation, channel.level_deviation_mean, look.level_std, settled)
        channel.level_deviation_mean, channel.level_deviation_variance = follow(
            channel.level_deviation_mean, channel.level_deviation_variance, near, rate
        )
    rate = rate_of(stream.learned - SETTLING, rules) * learns
    stream.residual_strength_mean, stream.residual_strength_variance = follow(
        stream.residual_strength_mean, stream.residual_strength_variance, scores.strengths[0], rate
    )
    stream.level_strength_mean, stream.level_strength_variance = follow(
        stream.level_strength_mean, stream.level_strength_variance, scores.strengths[1], rate
    )
    stream.block_seen += scores.scored
    stream.sudden_block_peak = at_least(stream.sudden_block_peak, scores.peaks[3] * scores.scored)
    stream.residual_block_peak = at_least(stream.residual_block_peak, scores.peaks[0] * scores.scored)
    stream.level_block_peak = at_least(stream.level_block_peak, scores.peaks[1] * scores.scored)
    stream.range_block_peak = at_least(stream.range_block_peak, scores.peaks[2] * scores.scored)
    if stream.block_seen >= rules.block_readings and stream.alarm == 0:  # what is open is judged as when it opened
        calibrate(stream, rules, false_alarm_ms)
    ask_less(stream, rules.factor_fades)


@compiled
def not_too_far(value: float, mean: float, std: float, settled: bool) -> float:
    """Of what is further off than LARGEST_LEARNED no more is learned than of that."""
    farthest = std * LARGEST_LEARNED if settled else math.inf
    return at_most(at_least(value, mean - farthest), mean + farthest)


@compiled
def rate_of(learned: float, rules: Rules) -> float:
    """The weight of one more reading: a plain mean at first, then a long memory; before the first, only the last."""
    return 1 / at_most(at_least(learned, 1.0), rules.long_readings)


@compiled
def calibrate(stream: Scalars[float], rules: Rules, false_alarm_ms: float) -> None:
    """A block is full: what its peaks, on a logarithmic scale, exceed once in the wanted period scores 1.0.

    false_alarm_ms: event time in which the stream may raise one false alarm; 0: as the rules have it, in readings.
    Block maxima: Coles 2001, ch. 3; parameters of the Gumbel law by the method of moments.
    """
    stream.blocks += 1
    rate = 1 / at_most(stream.blocks + PRIOR_BLOCKS, rules.blocks)
    stream.sudden_peak_mean, stream.sudden_peak_variance = learn_peak(
        stream.sudden_peak_mean, stream.sudden_peak_variance, stream.sudden_block_peak, rate
    )
    stream.residual_peak_mean, stream.residual_peak_variance = learn_peak(
        stream.residual_peak_mean, stream.residual_peak_variance, stream.residual_block_peak, rate
    )
    stream.level_peak_mean, stream.level_peak_variance = learn_peak(
        stream.level_peak_mean, stream.level_peak_variance, stream.level_block_peak, rate
    )
    stream.range_peak_mean, stream.range_peak_variance = learn_peak(
        stream.range_peak_mean, stream.range_peak_variance, stream.range_block_peak, rate
    )
    sharp, smooth = rules.sharp_deviations, rules.smooth_deviations
    lowest, lowest_sudden = rules.lowest_threshold, rules.lowest_sudden
    if false_alarm_ms > 0:
        sharp = smooth = deviations_of(false_alarm_ms / (stream.interval_ms * rules.block_readings))
        lowest, lowest_sudden = LOWEST_IF_ASKED, LOWEST_SUDDEN_IF_ASKED
    stream.sudden_threshold = exceeded(stream.sudden_peak_mean, stream.sudden_peak_variance, sharp, lowest_sudden)
    stream.residual_threshold = exceeded(stream.residual_peak_mean, stream.residual_peak_variance, smooth, lowest)
    stream.level_threshold = exceeded(stream.level_peak_mean, stream.level_peak_variance, smooth, lowest)
    stream.range_threshold = exceeded(stream.range_peak_mean, stream.range_peak_variance, sharp, 1.0)
    stream.sudden_block_peak = stream.residual_block_peak = stream.level_block_peak = stream.range_block_peak = 0.0
    stream.block_seen = 0.0


@compiled
def deviations_of(blocks: float) -> float:
    """ScoreConfig.deviations, of a period in blocks: two at least, since peaks say nothing of what is more frequent."""
    return (logarithm(within(at_least(blocks, 2.0), MOST_BLOCKS)) - EULER_GAMMA) / GUMBEL_SCALE


@compiled
def learn_peak(mean: float, variance: float, peak: float, rate: float) -> tuple[float, float]:
    """On a logarithmic scale; however high it is, one glitch does not lift the threshold out of reach."""
    highest = mean + math.sqrt(variance) * HIGHEST_PEAK + SMALLEST_DEVIATION
    return follow(mean, variance, at_most(logarithm(1 + peak), highest), rate)


@compiled
def exceeded(mean: float, variance: float, deviations: float, lowest: float) -> float:
    highest = logarithm(FARTHEST)
    return at_least(exponential(at_most(mean + math.sqrt(variance) * deviations, highest)) - 1, lowest)


@compiled
def return_periods(
    stream: Scalars[float], scores: Scores, rules: Rules
) -> tuple[float, float, float, float, float, float, float]:
    """How rarely each witness sees what it sees in this stream, in event time (ms), in the order of OpenedBy.

    For those with peaks it is what the law through them says, the inverse of exceeded(). For runs and gaps there is no
    law: of one that is longer than healthy it is known that there was none in all the time judged; else 0.
    """
    block_ms, judged_ms = rules.block_readings * stream.interval_ms, stream.age * stream.interval_ms
    peaks, runs = scores.peaks, scores.runs
    return (
        return_period(peaks[0], stream.residual_peak_mean, stream.residual_peak_variance, block_ms, rules),
        return_period(peaks[1], stream.level_peak_mean, stream.level_peak_variance, block_ms, rules),
        return_period(peaks[2], stream.range_peak_mean, stream.range_peak_variance, block_ms, rules),
        return_period(peaks[3], stream.sudden_peak_mean, stream.sudden_peak_variance, block_ms, rules),
        judged_ms * one_if(runs[0] >= 1),
        judged_ms * one_if(runs[1] >= 1),
        judged_ms * one_if(runs[2] >= 1),
    )


@compiled
def return_period(peak: float, mean: float, variance: float, block_ms: float, rules: Rules) -> float:
    """Event time (ms) in which a block's peak is once as high; of the law's far end no more is said than LONGEST."""
    deviations = (logarithm(1 + peak) - mean) / (math.sqrt(variance) + SMALLEST_PEAK_STD)
    blocks = exponential(within(deviations * GUMBEL_SCALE + EULER_GAMMA, FARTHEST_BLOCKS))
    return at_most(at_least(blocks, 1 / rules.block_readings) * block_ms, LONGEST_RETURN_MS)


@compiled
def learn_gap(stream: Scalars[float], elapsed_ms: float) -> None:
    """Take the time since the reading before into the usual interval, and into the longest gap."""
    if stream.age < 2:
        return
    gap = elapsed_ms
    if stream.age > GAP_SETTLING:
        gap = at_most(gap, LONGER * at_least(stream.longest_gap_ms, stream.interval_ms))
    stream.interval_ms += (gap - stream.interval_ms) / at_most(stream.age - 1, GAP_READINGS)
    stream.longest_gap_ms = at_least(stream.longest_gap_ms, gap)


@compiled
def learn_scale(channel: Channels[float], look: Look, step: Step) -> None:
    """Take a reading into mean and squared distance (Welford 1962), squared difference and range."""
    weight = step.learns * look.present
    if channel.known > 0:  # before the first there was none
        moved = look.value - look.before
        channel.step_square += moved * moved * weight
    channel.known += weight
    distance = look.value - channel.mean
    channel.mean += distance * weight / at_least(channel.known, 1.0)
    channel.square += distance * (look.value - channel.mean) * weight
    if weight > 0:
        channel.low = at_most(channel.low, look.value)
        channel.high = at_least(channel.high, look.value)
    elif look.present > 0 and channel.low <= channel.high and channel.spread < math.inf:
        widen_range(channel, look)


@compiled
def widen_range(channel: Channels[float], look: Look) -> None:
    """Of an anomalous reading the range learns too, but little: a glitch must not hide what comes after it."""
    margin = (channel.high - channel.low) * RANGE_GROWTH + channel.spread * look.residual_std
    channel.low = at_least(at_most(channel.low, look.value), channel.low - margin)
    channel.high = at_most(at_least(channel.high, look.value), channel.high + margin)


@compiled
def move_scale(stream: Scalars[float], scratch: Scratch, rules: Rules) -> None:
    """Adopt the level of an alarm that has lasted; derive centre and spread again at the ages that double."""
    if stream.rest == -rules.relearn:
        for f in range(len(scratch.channels)):
            adopt_level(scratch.channels[f], stream.length)
    if stream.age == stream.rescale_at:
        for f in range(len(scratch.channels)):
            rescale(scratch.channels[f])
        stream.rescale_at *= 2


@compiled
def adopt_level(channel: Channels[float], length: float) -> None:
    """The level since the alarm opened is the normal one; the spread and all of the baseline stay."""
    weight = at_most(length, channel.known)
    channel.square = channel.square / at_least(channel.known, 1.0) * weight
    channel.step_square = channel.step_square / at_least(channel.known, 1.0) * weight
    channel.known = weight
    channel.centre = channel.mean = channel.low = channel.high = channel.mean_in_alarm
    channel.longest_equal_run = at_least(channel.longest_equal_run, channel.equal_run)
    channel.longest_missing_run = at_least(channel.longest_missing_run, channel.missing_run)


@compiled
def rescale(channel: Channels[float]) -> None:
    """Centre and spread are those of all that was learned; what is in spreads is expressed in the new one."""
    spread = step = math.inf
    if channel.known >= 2:
        floor, others = abs(channel.mean) * 1e-6 + SMALLEST_SPREAD, at_least(channel.known - 1, 1.0)
        spread = at_least(math.sqrt(channel.square / others), floor)
        step = at_least(math.sqrt(channel.step_square / others), floor)
    shrink = channel.spread / spread if channel.spread < math.inf else 1.0
    channel.residual_mean *= shrink
    channel.level_deviation *= shrink
    channel.level_deviation_mean *= shrink
    channel.residual_variance *= shrink * shrink
    channel.level_deviation_variance *= shrink * shrink
    rescale_expectation(channel, shrink)
    channel.centre, channel.spread, channel.step = channel.mean, spread, step


# --- for the head that names kinds (see kinds), and for those who hear of alarms


@compiled
def follow_symptoms(symptoms: Doubles, f: int, channel: Channels[float], look: Look, step: Step) -> None:
    """Take a reading into a channel's symptoms (E, F), before it is learned."""
    weight, moved, base = step.learns * look.present, abs(look.value - look.before), symptoms[_BASE, f]
    z = within(look.residual_z, FARTHEST_SYMPTOM)
    signals = (
        z,
        abs(z),
        at_most(moved / channel.spread, FARTHEST_SYMPTOM),
        one_if(moved == 0 and look.present > 0),
        1.0 - look.present,
        one_if(look.value == 0 and look.present > 0),
        within((look.value - base) / channel.spread, FARTHEST_SYMPTOM),
    )
    for speed in range(len(_RATES)):
        for signal in range(len(signals)):
            mean = speed * len(signals) + signal
            symptoms[mean, f] += (signals[signal] - symptoms[mean, f]) * _RATES[speed]
    for speed in range(len(_FADES)):
        symptoms[_PEAKS + speed, f] = at_least(symptoms[_PEAKS + speed, f] * _FADES[speed], signals[1])
    known = at_least(channel.known + weight, 1.0)
    rate = weight / at_most(known, BASELINE_READINGS)
    for n in range(len(BASELINE_SIGNALS)):
        symptoms[_BASELINES + n, f] += (signals[BASELINE_SIGNALS[n]] - symptoms[_BASELINES + n, f]) * rate
    symptoms[_BASE, f] += (look.value - base) * (weight / at_most(known, BASE_READINGS))


@compiled
def asks_for_kind(stream: Scalars[float], step: Step) -> bool:
    """The head is asked at every eighth reading of an alarm, the last one included, and where it rises."""
    in_alarm = stream.alarm > 0 or step.change != Change.NONE
    return in_alarm and (int(stream.length) % VOTE_EVERY == 1 or step.change == Change.UPDATED)


@compiled
def note(
    events: Events,
    count: int,
    stream: Scalars[float],
    scores: Scores,
    step: Step,
    scratch: Scratch,
    symptoms: Doubles,
    rules: Rules,
) -> None:
    event, looks = events.records[count], scratch.looks
    event.change, event.score = step.change.value, scores.score
    event.severity, event.opened_by, event.peak = stream.severity, stream.opened_by, stream.peak
    event.opened_offset, event.opened_ms, event.length = stream.opened_offset, stream.opened_ms, stream.length
    returns_ms = return_periods(stream, scores, rules)
    for witness in range(len(returns_ms)):
        events.returns_ms[count, witness] = returns_ms[witness]
    for f in range(len(looks)):
        events.evidence[count, f] = evidence_of(looks[f], int(stream.opened_by))
        for e in range(len(symptoms)):
            events.symptoms[count, e * len(looks) + f] = symptoms[e, f]


@compiled
def evidence_of(look: Look, witness: int) -> float:
    """How strange a channel is to the witness that opened the alarm."""
    if witness == OpenedBy.LEVEL:
        return look.level_z * look.level_counts
    if witness == OpenedBy.RANGE:
        return look.outside
    if witness == OpenedBy.STUCK:
        return look.equal
    if witness == OpenedBy.MISSING:
        return look.missing
    if witness == OpenedBy.SILENT:
        return 1.0
    return look.residual_z * look.counts
