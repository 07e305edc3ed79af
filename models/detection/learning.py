"""What a stream learns from a reading: baseline, usual interval and scale."""

import math

from models.data.arrays import Doubles
from models.detection.alarm import Change
from models.detection.arithmetic import at_least, at_most, follow, one_if, within
from models.detection.compiling import compiled
from models.detection.expectation import FARTHEST_LEARNED, rescale_expectation
from models.detection.records import LONGER, Look, Rules, Scores, Scratch, Step
from models.detection.relation import rescale_relation, shrink_relation
from models.detection.rhythm import move_origin
from models.detection.rows import (
    CALENDAR_BEGIN,
    CALENDAR_END,
    LASTING_LAW,
    LAW_PEAK,
    REBOUND_LAW,
    RELATION_MEAN,
    RELATION_VARIANCE,
    Channels,
    Scalars,
)
from models.detection.scoring import BLOCK_DIGIT
from models.detection.thresholds import ask_less, calibrate, stretched
from models.detection.ticks import LEAST_TICKS, TICK_MS
from models.detection.witnesses import as_digits, digits_of, healthy_gap, swing_in_new_spread

SMALLEST_SPREAD = 1e-9  # of a channel that never moved,
SMALLEST_SHARE = 1e-6  # and this share of its level
LARGEST_LEARNED = 8.0  # standard deviations: of what is further off no more is learned, or a glitch would deafen
SETTLING = 48.0  # readings that a variance is learned from before the strength, which it scales, is
RANGE_GROWTH = 0.05  # of the range, that one anomalous reading widens it by at most
WAITS_READINGS = 256  # after which it is asked again whether a channel that never moved does
GAP_READINGS = 256.0  # length of the memory of the usual interval
GAP_SETTLING = 16.0  # readings whose gaps are learned whatever they are


@compiled
def update_baseline(
    stream: Scalars[float],
    relation: Doubles,
    scratch: Scratch,
    scores: Scores,
    step: Step,
    rules: Rules,
    false_alarm_ms: float,
) -> None:
    """Take a reading into the long memories, and into the thresholds, which learn from every reading that is scored.

    But a channel's own thresholds of `relation` learn nothing of an alarm but the reading that opened it.
    """
    learns, times = step.updates_baseline, stretched(stream, rules)
    longest = rules.long_readings * times
    stream.learned += learns
    settled, related = stream.learned > SETTLING, len(scratch.matrix) > 0
    seen = scores.scored * one_if(stream.alarm == 0 or step.change == Change.OPENED)
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        channel.sudden_block_peak = at_least(channel.sudden_block_peak, look.sudden * scores.scored)
        rate = rate_of(stream.learned, longest) * (learns * look.present)
        near = not_too_far(look.residual, channel.residual_mean, look.residual_std, settled)
        channel.residual_mean, channel.residual_variance = follow(
            channel.residual_mean, channel.residual_variance, near, rate
        )
        near = not_too_far(channel.level_deviation, channel.level_deviation_mean, look.level_std, settled)
        channel.level_deviation_mean, channel.level_deviation_variance = follow(
            channel.level_deviation_mean, channel.level_deviation_variance, near, rate
        )
        if related:
            lasting = abs(look.relation_lasting) * look.lasting_counts
            see_peak(relation, LASTING_LAW, f, lasting * seen)
            see_peak(relation, REBOUND_LAW, f, look.rebound * seen)
            near = not_too_far(look.relation, relation[RELATION_MEAN, f], look.relation_std, settled)
            relation[RELATION_MEAN, f], relation[RELATION_VARIANCE, f] = follow(
                relation[RELATION_MEAN, f], relation[RELATION_VARIANCE, f], near, rate
            )
    rate = rate_of(stream.learned - SETTLING, longest) * learns
    stream.residual_strength_mean, stream.residual_strength_variance = follow(
        stream.residual_strength_mean, stream.residual_strength_variance, scores.strengths[0], rate
    )
    stream.level_strength_mean, stream.level_strength_variance = follow(
        stream.level_strength_mean, stream.level_strength_variance, scores.strengths[1], rate
    )
    together = scratch.relation[0]
    if related:
        together.strength_mean, together.strength_variance = follow(
            together.strength_mean, together.strength_variance, scores.strengths[2], rate
        )
        together.lasting_mean, together.lasting_variance = follow(
            together.lasting_mean, together.lasting_variance, scores.strengths[3], rate
        )
        together.block_peak = at_least(together.block_peak, scores.peaks[3] * scores.scored)
        together.lasting_block_peak = at_least(together.lasting_block_peak, scores.peaks[4] * scores.scored)
    stream.residual_block_peak = at_least(stream.residual_block_peak, scores.peaks[0] * scores.scored)
    stream.level_block_peak = at_least(stream.level_block_peak, scores.peaks[1] * scores.scored)
    stream.range_block_peak = at_least(stream.range_block_peak, scores.peaks[2] * scores.scored)
    is_full = count_in_block(stream, scores.scored, rules.block_readings * times)
    if is_full and stream.alarm == 0:  # what is open is judged as when it opened
        calibrate(stream, relation, scratch, rules, false_alarm_ms)
    ask_less(stream, together, rules.factor_fades / times)


@compiled
def count_in_block(stream: Scalars[float], scored: float, readings: float) -> bool:
    """Take a reading into the calibration block, which takes this many; says whether it is full."""
    seen, full = stream.blocks - int(stream.blocks), readings * BLOCK_DIGIT
    if seen < full:
        seen += scored * BLOCK_DIGIT
        stream.blocks += scored * BLOCK_DIGIT
    return seen >= full


@compiled
def see_peak(relation: Doubles, law: int, f: int, value: float) -> None:
    relation[law + LAW_PEAK, f] = at_least(relation[law + LAW_PEAK, f], value)


@compiled
def not_too_far(value: float, mean: float, std: float, settled: bool) -> float:
    """Of what is further off than LARGEST_LEARNED no more is learned than of that."""
    farthest = std * LARGEST_LEARNED if settled else math.inf
    return at_most(at_least(value, mean - farthest), mean + farthest)


@compiled
def rate_of(learned: float, longest: float) -> float:
    """The weight of one more reading: a plain mean at first, then a long memory; before the first, only the last."""
    return 1 / at_most(at_least(learned, 1.0), longest)


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
def learn_silence(stream: Scalars[float], elapsed_ms: float, was_told: bool, rules: Rules) -> None:
    """A reading ends a silence that was told: a few of the kind, and the stream is not regular (see silence).

    Where no reading is missing, it only came later than those of others: how much later is not known.
    """
    if not was_told:
        return
    healthy_ms = healthy_gap(stream.interval_ms, stream.longest_gap_ms, rules)
    most_ms = at_least(healthy_ms, LEAST_TICKS * TICK_MS) * LONGER
    gap_ms = at_most(elapsed_ms, most_ms) if elapsed_ms >= healthy_ms else most_ms
    stream.longest_gap_ms = at_least(stream.longest_gap_ms, gap_ms)


@compiled
def learn_scale(channel: Channels[float], look: Look, step: Step) -> None:
    """Take a reading into mean and squared distance (Welford 1962), squared difference and range.

    A channel that never moved has no scale by which anything is too far: its first leap is learned, although it is an
    anomaly.
    """
    weight = step.learns * look.present
    if never_moved(channel.centre, channel.spread):
        weight = look.present
    if channel.known > 0:  # before the first there was none
        moved = look.value - look.before
        channel.step_square += moved * moved * weight
    channel.known += weight
    distance = look.value - channel.mean
    look.moved = distance * weight
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
def move_scale(stream: Scalars[float], relation: Doubles, scratch: Scratch, rules: Rules) -> None:
    """Adopt the level of an alarm that has lasted; derive centre and spread again where that is due."""
    related = len(scratch.matrix) > 0
    if stream.rest == -rules.relearn:
        if related:
            shrink_relation(relation, scratch, stream.length)
        for f in range(len(scratch.channels)):
            adopt_level(scratch.channels[f], stream.length)
    if readings_until_due(int(stream.age) - 1, has_never_moved(scratch)) == 1:
        move_scales(stream, relation, scratch, rules)


@compiled
def move_scales(stream: Scalars[float], relation: Doubles, scratch: Scratch, rules: Rules) -> None:
    """At ages that double, those of all channels; more often, those of channels that never moved."""
    doubled, begun = is_power_of_two(stream.age), False
    for f in range(len(scratch.channels)):
        channel = scratch.channels[f]
        never = never_moved(channel.centre, channel.spread)
        scratch.looks[f].shrink = 1.0
        if doubled or never:
            centre, was_known = channel.centre, channel.spread < math.inf
            scratch.looks[f].shrink = rescale(channel)
            if was_known:
                calendar = scratch.channel_numbers[f, CALENDAR_BEGIN:CALENDAR_END]
                by = within((channel.centre - centre) / channel.spread, FARTHEST_LEARNED)
                move_origin(channel, calendar, by)
        if never and not never_moved(channel.centre, channel.spread):
            begun = True
            begin_to_move(channel, rules)
    if len(scratch.matrix) > 0 and (doubled or begun):
        rescale_relation(relation, scratch)


@compiled
def readings_until_due(age: int, waits: bool) -> int:
    """How many readings after that of this age centre and spread are next derived again.

    waits: whether a channel never moved. Then they are also each WAITS_READINGS, since the first leap is not far off.
    """
    due = 2
    while due <= age:
        due *= 2
    until = due - age
    return min(until, WAITS_READINGS - age % WAITS_READINGS) if waits else until


@compiled
def has_never_moved(scratch: Scratch) -> bool:
    """Whether that is so of one of the channels."""
    waits = False
    for f in range(len(scratch.channels)):
        waits = waits or never_moved(scratch.channels[f].centre, scratch.channels[f].spread)
    return waits


@compiled
def is_power_of_two(age: float) -> bool:
    return bool(int(age) & (int(age) - 1) == 0)


@compiled
def never_moved(centre: float, spread: float) -> bool:
    """Whether a channel's spread is that of one value."""
    return bool(spread <= abs(centre) * SMALLEST_SHARE + SMALLEST_SPREAD)


@compiled
def begin_to_move(channel: Channels[float], rules: Rules) -> None:
    """What is usual of residuals and level deviations is not known of a time in which all were 0.

    It is taken as if readings were independent: residuals are then as large as the steps from reading to reading.
    """
    step = channel.step / channel.spread
    channel.residual_variance = at_least(channel.residual_variance, step * step)
    smoothed = rules.level_rate / (2 - rules.level_rate)
    channel.level_deviation_variance = at_least(channel.level_deviation_variance, smoothed)


@compiled
def adopt_level(channel: Channels[float], length: float) -> None:
    """The level since the alarm opened is the normal one; the spread and all of the baseline stay."""
    weight = at_most(length, channel.known)
    channel.square = channel.square / at_least(channel.known, 1.0) * weight
    channel.step_square = channel.step_square / at_least(channel.known, 1.0) * weight
    channel.known = weight
    channel.centre = channel.mean = channel.low = channel.high = channel.mean_in_alarm
    equal, calm = digits_of(channel.equal_run)
    longest_equal, longest_calm = digits_of(channel.longest_equal_run)
    channel.longest_equal_run = as_digits(at_least(longest_equal, equal), at_least(longest_calm, calm))
    longest_missing, usual = digits_of(channel.longest_missing_run)
    channel.longest_missing_run = as_digits(at_least(longest_missing, channel.missing_run), usual)
    run, _ = digits_of(abs(channel.swing_run))
    longest_swing, longest_turn = digits_of(channel.longest_swing)
    channel.longest_swing = as_digits(at_least(longest_swing, run), longest_turn)


@compiled
def rescale(channel: Channels[float]) -> float:
    """Centre and spread are those of all that was learned; what is in spreads is expressed in the new one.

    Returns what it is multiplied by.
    """
    spread = step = math.inf
    if channel.known >= 2:
        floor, others = abs(channel.mean) * SMALLEST_SHARE + SMALLEST_SPREAD, at_least(channel.known - 1, 1.0)
        spread = at_least(math.sqrt(channel.square / others), floor)
        step = at_least(math.sqrt(channel.step_square / others), floor)
    shrink = channel.spread / spread if channel.spread < math.inf else 1.0
    longest_swing, longest_turn = digits_of(channel.longest_swing)
    longest_swing = swing_in_new_spread(longest_swing, shrink, channel.known)
    channel.longest_swing = as_digits(float(int(longest_swing)), longest_turn)
    channel.residual_mean *= shrink
    channel.level_deviation *= shrink
    channel.level_deviation_mean *= shrink
    channel.residual_variance *= shrink * shrink
    channel.level_deviation_variance *= shrink * shrink
    rescale_expectation(channel, shrink)
    channel.centre, channel.spread, channel.step = channel.mean, spread, step
    return shrink
