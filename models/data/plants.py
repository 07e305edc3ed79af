"""Healthy machines whose work the clock or their own cycle drives: 14 days to learn from, then 14 days to be quiet in.

A machine's twin misses one thing that is due in the second fortnight: a job, a shift, a working day. Neither alarms on
what comes every day nor silence about what does not come can be excused by too little data.

Sizes: R readings of a machine.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from models.data.arrays import Bools, Doubles
from models.data.families import PlainFault, Simulated, key_of, remember, series_of
from models.data.synthetic import START_MS

STEP_S = 300.0
DAY_READINGS = 288
DAYS = 14  # to learn from, and as many to be judged on
MISSED_DAYS = (DAYS + 3, DAYS + 4, DAYS + 8, DAYS + 9, DAYS + 10)  # Thursday and Friday, Tuesday to Thursday
FREE_OF_ALARM_S = 20 * 86_400.0  # constants
CONSTANT_INTERVALS_S = (30.0, 60.0, 300.0, 900.0, 3_600.0)
CONSTANTS = (21.5, 0.0)


class Work(NamedTuple):
    """What a machine does: R readings, or those of a day."""

    level: Doubles  # (R,)
    due: Bools  # (R,) work that the clock asks for


Schedule = Callable[[Generator, Doubles, Doubles], Work]  # of the days since the first Monday, and the time of day


def plants(features: Sequence[str], machines: int, seed: int = 0) -> Iterator[Simulated]:
    """Every kind of plant, `machines` of each, healthy; where the clock drives it, once with something missed too.

    The first feature has the values; any others are missing throughout. `test` begins with the 15th day.
    """
    readings = 2 * DAYS * DAY_READINGS
    day, place = np.divmod(np.arange(readings), DAY_READINGS)
    test = day >= DAYS
    times_ms = START_MS + (np.arange(readings) * STEP_S * 1_000).astype(np.int64)
    for number, (name, schedule) in enumerate(SCHEDULES.items()):
        for machine in range(machines):
            rng = default_rng([seed, number, machine])
            work = schedule(rng, day.astype(np.float64), place * (24 / DAY_READINGS))
            noise = remember(rng.normal(0, rng.uniform(0.2, 0.5), readings), 0.3)
            missed_day = MISSED_DAYS[int(rng.integers(len(MISSED_DAYS)))]
            edge, size = _edges(work.level), float(np.abs(noise).mean())
            healthy = series_of(
                key_of(name, seed, machine, None), features, times_ms, _shown(work.level, noise)
            )._replace(test=test)
            yield Simulated(name, None, healthy, np.zeros(readings, np.bool_), edge, size)
            missed = work.due & (day == missed_day)
            if missed.any():
                idle = float(work.level[~work.due].min())
                values = _shown(np.where(missed, idle, work.level), noise)
                label = np.zeros(readings, np.bool_)
                label[np.flatnonzero(missed)[0] : np.flatnonzero(missed)[-1] + 1] = True
                key = key_of(name, seed, machine, PlainFault.MISSED)
                faulty = series_of(key, features, times_ms, values)._replace(test=test)
                yield Simulated(name, PlainFault.MISSED, faulty, label, edge, size)


def constants(features: Sequence[str]) -> Iterator[Simulated]:
    """Sensors that show one value for 20 days, at several intervals."""
    for interval_s in CONSTANT_INTERVALS_S:
        readings = int(FREE_OF_ALARM_S / interval_s)
        times_ms = START_MS + (np.arange(readings) * interval_s * 1_000).astype(np.int64)
        nowhere = np.zeros(readings, np.bool_)
        for value in CONSTANTS:
            key = f"constant/{value}/{interval_s:.0f}s"
            series = series_of(key, features, times_ms, np.full(readings, value))
            yield Simulated(f"every {interval_s:.0f} s", None, series, nowhere, nowhere)


def _shown(level: Doubles, noise: Doubles) -> Doubles:
    """A machine that is off shows 0, without noise."""
    return np.where(level == 0, 0.0, level + noise)


def _edges(level: Doubles) -> Bools:
    """Readings that the level leaps to, by a fifth of its range at least."""
    leap = np.abs(np.diff(level, prepend=level[0]))
    return leap > 0.2 * np.ptp(level)


def _quarter(rng: Generator, low_h: float, high_h: float) -> float:
    """A time of day on a quarter of an hour."""
    return math.floor(rng.uniform(low_h, high_h) * 4) / 4


def _job_at_six(rng: Generator, day: Doubles, hour: Doubles) -> Work:
    """Half an hour or an hour of work at 06:00 every day, on top of a gentle rhythm."""
    length_h = float(rng.choice([0.5, 0.75, 1.0]))
    due = (hour >= 6) & (hour < 6 + length_h)
    rhythm: Doubles = 60 + 5 * np.sin((day + hour / 24 + rng.random()) * 2 * math.pi)
    return Work(rhythm + rng.uniform(15, 30) * due, due)


def _shifts(rng: Generator, _day: Doubles, hour: Doubles) -> Work:
    """Twelve hours a day from a quarter of an hour that is the machine's own."""
    start_h = _quarter(rng, 5, 8)
    due = (hour >= start_h) & (hour < start_h + 12)
    return Work(np.where(due, 60 + rng.uniform(8, 20), 60.0), due)


def _weekday_weekend(rng: Generator, day: Doubles, hour: Doubles) -> Work:
    """Ten hours of work from Monday to Friday, a third of it at weekends."""
    start_h = _quarter(rng, 6, 9)
    working = (hour >= start_h) & (hour < start_h + 10)
    weekend = day % 7 >= 5
    height = np.where(weekend, 0.3, 1.0) * rng.uniform(20, 40)
    return Work(np.where(working, 40 + height, 40.0), working & ~weekend)


def _zero_at_weekends(rng: Generator, day: Doubles, hour: Doubles) -> Work:
    """Runs from Monday to Friday and is switched off at weekends; missing is a day on which it stays off."""
    weekend = day % 7 >= 5
    rhythm = rng.uniform(60, 90) + 6 * np.sin((hour / 24 + rng.random()) * 2 * math.pi)
    return Work(np.where(weekend, 0.0, rhythm), ~weekend)


def _batches(rng: Generator, day: Doubles, _hour: Doubles) -> Work:
    """Cycles of 40 to 300 readings, each machine's own within a twentieth, that know no clock."""
    length, filled = rng.uniform(40, 300), rng.uniform(0.3, 0.7)
    lengths = length * rng.uniform(0.95, 1.05, len(day) // 38 + 2)
    ends = np.cumsum(lengths)
    cycle = np.searchsorted(ends, np.arange(len(day)), side="right")
    within = (np.arange(len(day)) - (ends - lengths)[cycle]) / lengths[cycle]
    return Work(np.where(within < filled, 30 + rng.uniform(20, 40), 30.0), np.zeros(len(day), np.bool_))


SCHEDULES: Mapping[str, Schedule] = {
    "job at 06:00": _job_at_six,
    "12-hour shifts": _shifts,
    "weekdays": _weekday_weekend,
    "zero at weekends": _zero_at_weekends,
    "batch cycles": _batches,
}
