"""The judge: one stream after the other, one reading after the other, from the reading to its alarm.

It is compiled (see compiling), and so is what it calls: expectation, residual, witnesses, alarm_step, events, learning
and thresholds hold the steps that docs/detection.md describes. A stream's bits depend on that stream's readings
alone, since no other row is in sight. Only +, -, *, /, square root and comparison are used: those are rounded exactly
(IEEE 754), so no machine changes a bit.

A row is copied into records, one of the stream and one of each channel, changed there and copied back.
Rows stay where they are: channels, (R, C + R or C + R + E, F), and scalars, (R, at least K + Q), have those of a whole
slab, and slots, (S,), says which are those of the streams at hand.
Sizes: N readings of a batch, T waves, S streams, F features, E symptoms a channel.
"""

import math

from models.data.arrays import Bools, Doubles, Int64s
from models.data.time_units import DAY_MS
from models.detection.alarm import Change
from models.detection.alarm_step import has_lasted, is_silent, step_alarm
from models.detection.arithmetic import at_least, at_most, one_if
from models.detection.compiling import compiled, fetch_ahead, is_kept, kept
from models.detection.events import asks_for_kind, follow_symptoms, note
from models.detection.expectation import bias_of, expect, learn_band, learn_expectation
from models.detection.learning import (
    learn_gap,
    learn_scale,
    learn_silence,
    move_scale,
    never_moved,
    readings_until_due,
    update_baseline,
)
from models.detection.net_arithmetic import predict, recall, remember, show
from models.detection.pauses import is_paused, keep, put_back
from models.detection.records import LATE_LIMIT, Block, Events, Limits, Rules, Scores, Scratch, Sheet, Step
from models.detection.relation import learn_relation, relate
from models.detection.residual import compare, limit, look_at, write_band
from models.detection.rhythm import end_visit, local_place, week_leaps
from models.detection.rows import CALENDAR_BEGIN, CALENDAR_END, CHANNELS, RELATION_MATRIX, RELATIONS, SCALARS, Scalars
from models.detection.witnesses import score

LONGEST_DAYS = 1 / 24  # that one reading stands for: after a gap it knows no more than after an hour
JUDGED, LATE, AGAIN = range(3)  # what becomes of a reading

_LAST, _AGE, _TIME_MS = CHANNELS.places["last"], *(SCALARS.places[n] for n in ("age", "time_ms"))
_LATE_RUN, _LENGTH, _ALARM = (SCALARS.places[n] for n in ("late_run", "length", "alarm"))
_CENTRE, _SPREAD = CHANNELS.places["centre"], CHANNELS.places["spread"]
_OPENED_MS, _DAYS = SCALARS.places["opened_ms"], SCALARS.places["days"]
_CHANNELS, _SCALARS, _RELATIONS = len(CHANNELS), len(SCALARS), len(RELATIONS)


def is_compiled() -> bool:
    """Whether code was kept for these sources, or the first reading waits for the compiler."""
    from models.detection import row_copies, silence  # noqa: PLC0415  (the latter imports this module)

    judging = (admit, waves_until_scale_moves, hold, week_leaps, recall, show, predict, remember, judge_block)
    beside = (silence.fall_silent, silence.find, silence.find_among_others, row_copies.copy_rows)
    return all(map(is_kept, (*judging, *beside)))


# --- before the net: which readings are judged, and what stands for missing values


@kept
def admit(
    times_ms: Int64s,
    values: Doubles,
    streams: Int64s,
    channels: Doubles,
    scalars: Doubles,
    slots: Int64s,
    clock: Doubles,
    last: Doubles,
    late: Bools,
    again: Bools,
) -> int:
    """Mark the late and the duplicate readings by each stream's own clock. Returns how many there are.

    streams: (N,) which of the S streams each reading is of, in offset order. clock, last: (S,), (S, F), room for those
    of the rows, to be moved with the readings; the rows' own move when they are judged, but for their runs of late
    ones. late, again: (N,), False.
    """
    features = values.shape[1]
    for stream in range(len(slots)):
        slot = slots[stream]
        clock[stream] = scalars[slot, _TIME_MS] if scalars[slot, _AGE] > 0 else -1.0
        for f in range(features):
            last[stream, f] = channels[slot, _LAST, f]
    dropped = 0
    for n in range(len(times_ms)):
        stream, time = streams[n], float(times_ms[n])
        slot = slots[stream]
        fate = fate_of(time, values[n], last[stream], clock[stream], scalars[slot, _LATE_RUN])
        if fate != JUDGED:
            scalars[slot, _LATE_RUN] += one_if(fate == LATE)
            late[n], again[n] = fate == LATE, fate == AGAIN
            dropped += 1
            continue
        for f in range(features):
            if not math.isnan(values[n, f]):
                last[stream, f] = values[n, f]
        clock[stream] = time
        scalars[slot, _LATE_RUN] = 0.0
    return dropped


@compiled
def fate_of(time_ms: float, values: Doubles, last: Doubles, clock_ms: float, late_run: float) -> int:
    """What becomes of a reading. last, clock_ms: the stream's last values (F,) and its time, -1 if it had none."""
    if time_ms < clock_ms and late_run < LATE_LIMIT:
        return LATE
    same = time_ms == clock_ms
    for f in range(len(values)):
        same = same and (math.isnan(values[f]) or values[f] == last[f])
    return AGAIN if same else JUDGED


@kept
def waves_until_scale_moves(
    readings: Int64s,
    times_ms: Int64s,
    channels: Doubles,
    scalars: Doubles,
    slots: Int64s,
    adopt_after: float,
    adopt_ms: float,
) -> int:
    """How many waves can be taken at most before a stream may reach the age, or its alarm the length, to move.

    readings: (T, S) index into times_ms, (N,).
    """
    waves = int(at_least(at_most(adopt_after, float(len(readings))), 1.0))
    for stream in range(len(slots)):
        slot = slots[stream]
        age = int(scalars[slot, _AGE])
        waves, sooner = min(waves, readings_until_due(age, False)), readings_until_due(age, True)
        if sooner < waves:
            for f in range(channels.shape[2]):
                if never_moved(channels[slot, _CENTRE, f], channels[slot, _SPREAD, f]):
                    waves = sooner
        if scalars[slot, _ALARM] == 0:
            continue
        wave = max(int(adopt_after - scalars[slot, _LENGTH]) - 1, 0)
        opened_ms, days = scalars[slot, _OPENED_MS], scalars[slot, _DAYS]
        while wave + 1 < waves and not has_lasted(float(times_ms[readings[wave, stream]]), opened_ms, days, adopt_ms):
            wave += 1
        waves = min(waves, wave + 1)
    return waves


@kept
def hold(
    readings: Int64s,
    times_ms: Int64s,
    values: Doubles,
    channels: Doubles,
    scalars: Doubles,
    slots: Int64s,
    held: Doubles,
    elapsed_ms: Doubles,
) -> None:
    """Fill in `held` and `elapsed_ms` of a Block. A missing value is, to the net, the last known one."""
    waves, streams = readings.shape
    for stream in range(streams):
        slot = slots[stream]
        clock = scalars[slot, _TIME_MS] if scalars[slot, _AGE] > 0 else float(times_ms[readings[0, stream]])
        for wave in range(waves):
            n = readings[wave, stream]
            elapsed_ms[wave, stream] = at_least(float(times_ms[n]) - clock, 0.0)
            clock = float(times_ms[n])
            for f in range(values.shape[1]):
                if not math.isnan(values[n, f]):
                    held[wave, stream, f] = values[n, f] + 0.0  # makes +0.0 of -0.0
                else:
                    held[wave, stream, f] = held[wave - 1, stream, f] if wave else channels[slot, _LAST, f]


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

    The rows are changed where they are. place, count: of the stream to begin with, and of the events that there are
    already. Returns both as they are after it: not all streams are judged where there is not room for an event at each
    reading of the next one.
    """
    waves, streams, features = block.held.shape
    stream = scratch.stream[0]
    while place < streams and count + waves <= len(events.records):
        slot = block.slots[place]
        fetch_next(place, block.slots, channels, scalars)
        load(slot, channels, scalars, scratch)
        related = RELATION_MATRIX + features if len(scratch.matrix) > 0 else 0
        relation, symptoms = channels[slot, _CHANNELS : _CHANNELS + related], channels[slot, _CHANNELS + related :]
        one = block.limit_sets[place]
        limits, holidays, like = block.limits[one], block.holidays[one], block.like[one]
        changes, offsets = block.clock_changes[one], block.clock_offsets[one]
        for wave in range(waves):
            n = block.readings[wave, place]
            time_ms, elapsed_ms = float(block.times_ms[n]), block.elapsed_ms[wave, place]
            local_ms, day = local_place(time_ms, changes, offsets, holidays, like)
            local_before_ms, day_before = local_place(time_ms - elapsed_ms, changes, offsets, holidays, like)
            stream.age += 1
            paused = is_paused(block.paused_until, n, time_ms, elapsed_ms, stream.age, rules)
            for f in range(features):
                calendar = scratch.channel_numbers[f, CALENDAR_BEGIN:CALENDAR_END]
                end_visit(scratch.channels[f], calendar, local_ms, local_before_ms, day_before, stream.days, paused)
            if paused:
                keep(relation, scratch)
            for f in range(features):
                calendar = scratch.channel_numbers[f, CALENDAR_BEGIN:CALENDAR_END]
                look_at(
                    scratch.channels[f], calendar, scratch.looks[f], block, local_ms, day, stream.days, wave, place, f
                )
                compare(scratch.channels[f], scratch.looks[f], rules)
                limit(scratch.channels[f], scratch.looks[f], limits[f])
                write_band(stream, scratch.channels[f], scratch.looks[f], n, f, sheet)
            if related > 0:
                relate(relation, limits, scratch, rules)
            scores = score(stream, relation, scratch, elapsed_ms, rules)
            learn_silence(stream, elapsed_ms, is_silent(stream), rules)
            step = step_alarm(stream, scratch, scores, float(block.offsets[n]), time_ms, rules, paused)
            sheet.score[n], sheet.alarm[n] = scores.score, stream.alarm > 0

            asks = len(symptoms) > 0 and asks_for_kind(stream, step) and (not paused or step.change != Change.NONE)
            if len(symptoms) > 0:
                for f in range(features):
                    follow_symptoms(symptoms, f, scratch.channels[f], scratch.looks[f], step)
            if step.change != Change.NONE or asks:
                note(events, count, stream, relation, scores, step, scratch, symptoms, elapsed_ms, rules)
                event = events.records[count]
                event.wave, event.place, event.reading, event.asks = wave, place, n, one_if(asks)
                count += 1

            learn(stream, relation, scratch, scores, step, elapsed_ms, rules, block.false_alarm_ms[one])
            if paused:
                put_back(relation, scratch)
        stream.time_ms = float(block.times_ms[block.readings[waves - 1, place]])
        for f in range(features):
            scratch.channels[f].last = block.held[waves - 1, place, f]
        move_scale(stream, relation, scratch, rules)
        store(slot, channels, scalars, scratch)
        place += 1
    return place, count


@compiled
def learn(
    stream: Scalars[float],
    relation: Doubles,
    scratch: Scratch,
    scores: Scores,
    step: Step,
    elapsed_ms: float,
    rules: Rules,
    false_alarm_ms: float,
) -> None:
    """Take a reading into what its stream remembers."""
    stream.days += at_most(elapsed_ms / DAY_MS, LONGEST_DAYS)  # of anomalies too, as the profile learns
    for f in range(len(scratch.channels)):
        channel, look = scratch.channels[f], scratch.looks[f]
        learn_band(channel, abs(look.residual - look.bias), stream.learned, step.updates_baseline * look.present)
        learn_expectation(channel, look, elapsed_ms, step)
    update_baseline(stream, relation, scratch, scores, step, rules, false_alarm_ms)
    learn_gap(stream, elapsed_ms)
    for f in range(len(scratch.channels)):
        learn_scale(scratch.channels[f], scratch.looks[f], step)
    if len(scratch.matrix) > 0:
        learn_relation(relation, scratch, step)


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

    channels, scalars: of S rows, in the order of the others. times_ms: (S,). before, predicted: (S, F), the values
    before, raw, and what the net says, in spreads. expected, profile: (S, F).
    """
    stream = scratch.stream[0]
    for place in range(len(channels)):
        load(place, channels, scalars, scratch)
        one = limits.sets[place]
        changes, offsets = limits.clock_changes[one], limits.clock_offsets[one]
        holidays, like = limits.holidays[one], limits.like[one]
        time_ms = float(times_ms[place])
        before_ms = at_most(stream.time_ms, time_ms)
        local_ms, day = local_place(time_ms, changes, offsets, holidays, like)
        local_before_ms, day_before = local_place(before_ms, changes, offsets, holidays, like)
        for f in range(channels.shape[2]):
            channel, look, calendar = (
                scratch.channels[f],
                scratch.looks[f],
                scratch.channel_numbers[f, CALENDAR_BEGIN:CALENDAR_END],
            )
            end_visit(channel, calendar, local_ms, local_before_ms, day_before, stream.days, False)
            expect(channel, calendar, before[place, f], predicted[place, f], local_ms, day, stream.days, look)
            profile[place, f] = look.profile
            middle = look.change + bias_of(channel, stream.learned)
            expected[place, f] = before[place, f] + middle * channel.spread if channel.spread < math.inf else math.nan


@compiled
def fetch_next(place: int, slots: Int64s, channels: Doubles, scalars: Doubles) -> None:
    if place + 1 < len(slots):
        fetch_ahead(channels, slots[place + 1], channels.strides[0])
        fetch_ahead(scalars, slots[place + 1], scalars.strides[0])


@compiled
def load(slot: int, channels: Doubles, scalars: Doubles, scratch: Scratch) -> None:
    for k in range(_SCALARS):
        scratch.stream_numbers[0, k] = scalars[slot, k]
    if len(scratch.matrix) > 0:
        for q in range(_RELATIONS):
            scratch.relation_numbers[0, q] = scalars[slot, _SCALARS + q]
    for f in range(channels.shape[2]):
        for c in range(_CHANNELS):
            scratch.channel_numbers[f, c] = channels[slot, c, f]


@compiled
def store(slot: int, channels: Doubles, scalars: Doubles, scratch: Scratch) -> None:
    for k in range(_SCALARS):
        scalars[slot, k] = scratch.stream_numbers[0, k]
    if len(scratch.matrix) > 0:
        for q in range(_RELATIONS):
            scalars[slot, _SCALARS + q] = scratch.relation_numbers[0, q]
    for f in range(channels.shape[2]):
        for c in range(_CHANNELS):
            channels[slot, c, f] = scratch.channel_numbers[f, c]
