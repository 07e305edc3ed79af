"""What a reading does to its stream's alarm: open, hold or close it. alarm has the rules."""

from models.data.time_units import DAY_MS
from models.detection.alarm import Change, OpenedBy
from models.detection.arithmetic import at_least, at_most, one_if
from models.detection.compiling import compiled
from models.detection.records import Rules, Scores, Scratch, Step
from models.detection.rows import Scalars
from models.detection.thresholds import ask_more, stretched


@compiled
def step_alarm(
    stream: Scalars[float],
    scratch: Scratch,
    scores: Scores,
    offset: float,
    time_ms: float,
    rules: Rules,
    paused: bool,
) -> Step:
    """Let a score open, hold or close the stream's alarm: see alarm. paused: nothing is learned meanwhile."""
    hot = scores.score >= 1.0
    was_open, ends_silence = stream.alarm > 0, is_silent(stream)
    opens = not was_open and (scores.sharp >= 1.0 if stream.rest > 0 else hot and stream.rest == 0)
    is_open = was_open or opens
    if opens:
        stream.opened_offset, stream.opened_ms, stream.opened_by = offset, time_ms, scores.furthest
        stream.peak = stream.length = stream.rest = 0.0
        for f in range(len(scratch.channels)):
            scratch.channels[f].mean_in_alarm = 0.0
        ask_more(stream, scratch.relation[0], scores.furthest, rules.opened_factor)
    learns = not paused and not is_open and (not hot or stream.rest < 0)

    severity, rises, recovers, shifts = 0.0, False, False, False
    if is_open:
        severity = at_least(stream.alarm - 1, 0.0)
        if not ends_silence:  # which closes as it was told: it became more severe while it lasted
            severity = at_least(severity, severity_of(scores.rarity, rules))
        follow_alarm(stream, scratch, 0.0 if ends_silence else scores.score, rules, paused)
        rises = was_open and 1 + severity > stream.alarm
        recovers = was_open and (ends_silence or stream.rest >= rules.close_after)
        lasts = stream.length >= rules.adopt_after and has_lasted(
            time_ms, stream.opened_ms, stream.days, rules.adopt_ms
        )
        shifts = lasts and not recovers and not paused
    elif stream.rest > 0:
        stream.rest -= 1
    elif stream.rest < 0:
        stream.rest += 1
    if recovers:
        stream.rest = rules.rest
    if shifts:
        stream.rest = -rules.relearn
    stream.alarm = 1 + severity if is_open and not recovers and not shifts else 0.0

    change = Change.NONE
    if shifts:
        change = Change.LEVEL_SHIFT
    elif recovers:
        change = Change.RECOVERED
    elif opens:
        change = Change.OPENED
    elif rises:
        change = Change.UPDATED
    updates_baseline = not paused and (not is_open or stream.length <= rules.learn_first * stretched(stream, rules))
    return Step(change, severity, one_if(learns), one_if(updates_baseline))


@compiled
def has_lasted(time_ms: float, opened_ms: float, days: float, adopt_ms: float) -> bool:
    """Whether an open alarm has lasted long enough, in event time, to be the new normal: see AlarmConfig.adopt_days.

    Twice as long as the stream was known before is two thirds of all its days until now. Where its clock was set back,
    readings alone count.
    """
    lasted_ms = time_ms - opened_ms
    return bool(lasted_ms < 0 or lasted_ms >= at_most(adopt_ms, days * DAY_MS * 2 / 3))


@compiled
def is_silent(stream: Scalars[float]) -> bool:
    """Whether the open alarm was opened without a reading (see silence): the first one that comes closes it."""
    return bool(stream.alarm > 0 and stream.opened_by == OpenedBy.SILENT.value and stream.length == 0)


@compiled
def severity_of(rarity: float, rules: Rules) -> float:
    """alarm.Severity of a reading. rarity: as Scores has it."""
    return one_if(rarity >= rules.major_rarity) + one_if(rarity >= rules.critical_rarity)


@compiled
def follow_alarm(stream: Scalars[float], scratch: Scratch, score: float, rules: Rules, paused: bool) -> None:
    """Take a reading into the open alarm.

    Of the readings of a pause only the one that opened it counts: the others bring no new normal nearer.
    """
    stream.peak = at_least(stream.peak, score)
    stream.rest = stream.rest + 1 if score < rules.close_below else 0.0
    if not paused or stream.length == 0:
        stream.length += 1
        for f in range(len(scratch.channels)):
            channel = scratch.channels[f]
            channel.mean_in_alarm += (scratch.looks[f].value - channel.mean_in_alarm) / at_least(stream.length, 1.0)
