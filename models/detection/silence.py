"""Streams that are silent while others of their partition go on: told by the partition's clock, without a reading.

A partition's clock is the latest event time of any of its readings. It ticks when that passes a minute, at most once a
record, and shows what it was before that record: whatever could have come until then has. How long a stream is silent
is counted from the first tick after its last reading on. So neither a stream that is behind the others nor a device
whose clock is ahead makes anyone silent. The longest time between two ticks is left out: where the whole plant stood
still, no one is silent because another was the first to send again.

A silence that goes on becomes more severe: it is told again when it is so long that this is rarer by far, see
AlarmConfig.times_as_long. The tick at which a stream is told depends on its row, on the place of its last reading and
on the ticks alone, not on where batches end. find() says before a batch is judged at which ticks that may be,
fall_silent() which are told there.
Sizes: S streams, N readings of a batch, F features, E ticks at which idle streams are forgotten.
"""

import math
from typing import NamedTuple

from models.data.arrays import Bools, Doubles, Int64s
from models.detection.alarm import OpenedBy, Severity
from models.detection.arithmetic import at_least, count_until, one_if
from models.detection.compiling import compiled, kept
from models.detection.judge import JUDGED, LATE, fate_of
from models.detection.learning import learn_gap
from models.detection.pauses import is_paused
from models.detection.records import NEVER, Rules, Scratch
from models.detection.rows import SCALARS
from models.detection.ticks import COARSER, GRIDS, LEAST_TICKS, MOST_TICKS, RING, TICK_MS, GridTicks
from models.detection.witnesses import healthy_gap

REGULAR = 16.0  # usual intervals: a stream that ever paused for longer has no rhythm to be late by
PAUSE_TICKS = 60.0  # a pause that was no longer does not make it irregular, however short the interval is

_AGE, _TIME_MS, _LATE_RUN, _ALARM = (SCALARS.places[name] for name in ("age", "time_ms", "late_run", "alarm"))
_INTERVAL_MS, _LONGEST_GAP_MS = SCALARS.places["interval_ms"], SCALARS.places["longest_gap_ms"]
_OPENED_BY, _LENGTH = SCALARS.places["opened_by"], SCALARS.places["length"]
_OPENED_BY_SILENCE = OpenedBy.SILENT.value
_SEVERITIES = len(Severity)


class Arrivals(NamedTuple):
    """A batch that is to be judged, and what its S streams remember; see find()."""

    offsets: Int64s  # (N,)
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F)
    streams: Int64s  # (N,) which stream each is of
    in_row: Int64s  # (S,) offset of the last reading that is in its row already
    applied: Int64s  # (S,) the same; moved with the readings
    scalars: Doubles  # (S, K) of its row; moved
    last: Doubles  # (S, F) of its row; moved
    fresh_scalars: Doubles  # (S, K) of the row that it begins with once it is forgotten
    fresh_last: Doubles  # (S, F)
    unsure: Bools  # (S,) as `ended`: room to note that how long it may be silent hangs on its alarm
    ended: Bools  # (S,) whether a record among them says that it is silent, so that it may have an alarm
    forgets_at: Int64s  # (E,) offsets of the records before which idle streams are forgotten
    forgets_before: Int64s  # (E,) offset since which they had no reading
    paused_until: Doubles  # (N,) ms, as pauses has it; empty: no stream pauses


@compiled
def allowed_silence(age: float, interval_ms: float, longest_gap_ms: float, rules: Rules) -> float:
    """Event time (ms) after which a stream's silence is told; 0: never, since it is new or was not regular."""
    longest_pause_ms = at_least(interval_ms * REGULAR, PAUSE_TICKS * TICK_MS)
    if age <= rules.warm_up or interval_ms <= 0 or longest_gap_ms > longest_pause_ms:
        return 0.0
    return at_least(healthy_gap(interval_ms, longest_gap_ms, rules), LEAST_TICKS * TICK_MS)


@compiled
def telling(ticks: GridTicks, allowed_ms: float, applied: int, until: int) -> int:
    """The tick, as an index, at which a stream is told that has no reading behind `applied` until record `until`.

    -1: none.
    """
    grid, tick_ms = 0, float(TICK_MS)
    while grid < GRIDS and allowed_ms >= tick_ms * MOST_TICKS:
        grid, tick_ms = grid + 1, tick_ms * COARSER
    if allowed_ms <= 0 or grid == GRIDS:
        return -1
    begin, end = ticks.begins[grid], ticks.begins[grid + 1]
    first = begin + count_until(ticks.offsets[begin:end], applied)
    if first == begin:  # it may be long past: what is no longer remembered cannot be counted
        return -1
    longest_ms = 0.0
    for n in range(first + 1, min(end, first - 1 + RING)):
        if ticks.offsets[n] > until:
            break
        longest_ms = at_least(float(ticks.clock_ms[n] - ticks.clock_ms[n - 1]), longest_ms)
        if float(ticks.clock_ms[n] - ticks.clock_ms[first]) - longest_ms >= allowed_ms:
            return n
    return -1


@compiled
def told_severity(scalars: Doubles) -> int:
    """alarm.Severity with which a stream's silence has been told; -1: not yet; 3: its alarm is of something else.

    scalars: (at least K,) of its row.
    """
    if scalars[_ALARM] > 0 and (scalars[_OPENED_BY] != _OPENED_BY_SILENCE or scalars[_LENGTH] > 0):
        return _SEVERITIES
    return int(scalars[_ALARM]) - 1


@compiled
def length_of(severity: int, rules: Rules) -> float:
    """Times as long as a silence that is told, from which on one is as severe."""
    if severity <= 0:
        return 1.0
    return rules.major_length if severity == 1 else rules.critical_length


@kept
def fall_silent(
    ticks: GridTicks,
    scalars: Doubles,
    applied: Int64s,
    rules: Rules,
    silent: Int64s,
    severities: Int64s,
    allowed: Doubles,
) -> int:
    """Fill `silent` (S,) with the streams that are told at the last tick; returns how many.

    scalars: (S, at least K). applied: (S,) offset of the last reading of each. severities, allowed: (S,) room for how
    severe the silence of each of them is by now, and how long (ms) it may be without being told: what is told of it
    hangs on its row alone.
    """
    count, offset = 0, ticks.offsets[ticks.begins[1] - 1]
    for s in range(len(applied)):
        severity = told_severity(scalars[s])
        if severity >= _SEVERITIES - 1:
            continue
        allowed_ms = allowed_silence(scalars[s, _AGE], scalars[s, _INTERVAL_MS], scalars[s, _LONGEST_GAP_MS], rules)
        tick = telling(ticks, allowed_ms * length_of(severity + 1, rules), applied[s], offset)
        if tick < 0 or ticks.offsets[tick] != offset:
            continue
        while tick >= 0 and severity < _SEVERITIES - 1:
            severity += 1
            tick = telling(ticks, allowed_ms * length_of(severity + 1, rules), applied[s], offset)
        silent[count], severities[count], allowed[count] = s, severity, allowed_ms
        count += 1
    return count


@kept
def find(ticks: GridTicks, arrivals: Arrivals, scratch: Scratch, rules: Rules, found: Bools) -> None:
    """Mark the ticks at which streams of a batch may be told. found: (ticks of the finest grid,).

    What a stream is used to moves with its readings as it will when they are judged, unless it was silent: what that
    teaches hangs on its alarm. Whether one is open then is not known, so more may be marked than is told.
    """
    stream, a = scratch.stream[0], arrivals
    for n in range(len(a.offsets)):
        s, offset, time_ms = a.streams[n], a.offsets[n], float(a.times_ms[n])
        if offset <= a.in_row[s]:
            continue
        is_told = _mark(ticks, a, s, offset, rules, found)
        forgets = count_until(a.forgets_at, offset) - 1
        if forgets >= 0 and a.forgets_before[forgets] > a.applied[s]:
            is_told = False
            a.unsure[s] = a.ended[s]
            for k in range(a.scalars.shape[1]):
                a.scalars[s, k] = a.fresh_scalars[s, k]
            for f in range(a.last.shape[1]):
                a.last[s, f] = a.fresh_last[s, f]
        a.applied[s] = offset
        age, before_ms = a.scalars[s, _AGE], a.scalars[s, _TIME_MS]
        fate = fate_of(time_ms, a.values[n], a.last[s], before_ms if age > 0 else -1.0, a.scalars[s, _LATE_RUN])
        if fate != JUDGED:
            a.scalars[s, _LATE_RUN] += one_if(fate == LATE)
            continue
        elapsed_ms = at_least(time_ms - before_ms, 0.0) if age > 0 else 0.0
        a.unsure[s] = a.unsure[s] or is_told
        stream.age = age + 1
        stream.interval_ms, stream.longest_gap_ms = a.scalars[s, _INTERVAL_MS], a.scalars[s, _LONGEST_GAP_MS]
        if not is_paused(a.paused_until, n, time_ms, elapsed_ms, stream.age, rules):
            learn_gap(stream, elapsed_ms)
        a.scalars[s, _AGE], a.scalars[s, _TIME_MS], a.scalars[s, _LATE_RUN] = age + 1, time_ms, 0.0
        a.scalars[s, _ALARM] = 0.0
        a.scalars[s, _INTERVAL_MS], a.scalars[s, _LONGEST_GAP_MS] = stream.interval_ms, stream.longest_gap_ms
        for f in range(a.values.shape[1]):
            if not math.isnan(a.values[n, f]):
                a.last[s, f] = a.values[n, f]
    for s in range(len(a.applied)):
        _mark(ticks, a, s, NEVER, rules, found)


@kept
def find_among_others(
    ticks: GridTicks, scalars: Doubles, applied: Int64s, busy: Bools, rules: Rules, found: Bools
) -> None:
    """Mark the ticks at which streams are told of which the batch has no reading. busy: (S,) those that it has of."""
    for s in range(len(applied)):
        if not busy[s]:
            _mark_told(ticks, scalars[s], applied[s], NEVER, rules, found)


@compiled
def _mark(ticks: GridTicks, a: Arrivals, s: int, until: int, rules: Rules, found: Bools) -> bool:
    """Mark where a stream may be told between its last reading and the record `until`; whether it may be silent."""
    if a.unsure[s]:
        first = count_until(ticks.offsets[: ticks.begins[1]], a.applied[s])
        for n in range(first, count_until(ticks.offsets[: ticks.begins[1]], until)):
            if float(ticks.clock_ms[n] - ticks.clock_ms[first]) >= LEAST_TICKS * TICK_MS:
                found[n] = True
        return True
    return _mark_told(ticks, a.scalars[s], a.applied[s], until, rules, found)


@compiled
def _mark_told(ticks: GridTicks, scalars: Doubles, applied: int, until: int, rules: Rules, found: Bools) -> bool:
    """The same of a stream whose row is known; scalars: (at least K,)."""
    severity = told_severity(scalars)
    is_silent = 0 <= severity < _SEVERITIES
    allowed_ms = allowed_silence(scalars[_AGE], scalars[_INTERVAL_MS], scalars[_LONGEST_GAP_MS], rules)
    while severity < _SEVERITIES - 1:
        tick = telling(ticks, allowed_ms * length_of(severity + 1, rules), applied, until)
        if tick < 0:
            break
        found[_finest(ticks, tick)] = is_silent = True
        severity += 1
    return is_silent


@compiled
def _finest(ticks: GridTicks, tick: int) -> int:
    """The same tick on the finest grid."""
    return count_until(ticks.offsets[: ticks.begins[1]], ticks.offsets[tick]) - 1
