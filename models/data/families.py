"""Nine plain families of sensor series, without a fault and with one: what any detector should cope with untrained.

A reading is made of what is normal at its moment (the level), what chance adds to it (the noise), and how the sensor
shows the two: value = show(level + noise). Faults change one of the three, so a series with a fault equals its healthy
twin up to the fault's first reading.

Sizes: R readings of a series.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from models.data.arrays import Bools, Doubles, Int64s
from models.data.series import Series
from models.data.synthetic import START_MS
from models.data.time_units import DAY_MS

READINGS = 12_000
FAULTS_FROM = 0.5  # of a series; what comes before teaches
FAULTS_UNTIL = 0.9
SPIKE_RANGES = 5.0  # ranges of the healthy series
SHIFT_RANGES = 0.3
SHIFT_READINGS = 600
STUCK_READINGS = 300
NOISE_READINGS = 300
NOISE_FACTOR = 2.0
DAY_S = 86_400.0


class PlainFault(StrEnum):
    SPIKE = "spike"  # one reading, 5 ranges off
    STUCK = "stuck"  # 300 equal readings
    SHIFT = "shift"  # 600 readings, 30 % of the range off
    MISSING_PEAK = "missing_peak"  # a day stays at its lowest level
    NOISE = "noise"  # 300 readings with twice the noise
    MISSED = "missed"  # of a plant: work that is due by the clock does not come


class Simulated(NamedTuple):
    """A series that was made, and what is true of it; R readings of one feature."""

    family: str
    fault: PlainFault | None
    series: Series
    label: Bools  # (R,) in the fault
    edge: Bools  # (R,) the level leaps to here: what only a memory or a clock can expect
    noise: float = math.nan  # mean absolute; NaN: it is not what is added to the level


class Parts(NamedTuple):
    """What the values of a series are made of; both (R,)."""

    level: Doubles
    noise: Doubles
    show: Callable[[Doubles], Doubles]

    @property
    def values(self) -> Doubles:
        return self.show(self.level + self.noise)


@dataclass(frozen=True, slots=True)
class Family:
    make: Callable[[Generator, Doubles], Parts]  # from the seconds since START_MS of R readings
    interval_s: float
    irregular: bool = False  # exponential intervals
    below_zero: bool = True  # faults may go down as well as up
    daily: bool = False  # it has a peak that can be missing
    holds_still: bool = False  # long runs of equal readings, and noise that is mostly 0, are normal


def families(features: Sequence[str], copies: int, seed: int = 0, readings: int = READINGS) -> Iterator[Simulated]:
    """Every family, `copies` series each: healthy, and once with each fault that it can have.

    The first feature has the values; any others are missing throughout.
    """
    for place, (name, family) in enumerate(FAMILIES.items()):
        for copy in range(copies):
            times_ms, parts = _draw(family, default_rng([seed, place, copy]), readings)
            for number, fault in enumerate((None, *faults_of(family))):
                values, label = parts.values, np.zeros(readings, np.bool_)
                if fault:
                    rng = default_rng([seed, place, copy, number])
                    values, label = _with_fault(family, parts, times_ms, fault, rng)
                key = key_of(name, seed, copy, fault)
                yield Simulated(
                    name, fault, series_of(key, features, times_ms, values), label, np.zeros(readings, np.bool_)
                )


def faults_of(family: Family) -> tuple[PlainFault, ...]:
    """Those that differ from what is normal in it."""
    found = [PlainFault.SPIKE, PlainFault.SHIFT]
    if not family.holds_still:
        found += [PlainFault.STUCK, PlainFault.NOISE]
    if family.daily:
        found.append(PlainFault.MISSING_PEAK)
    return tuple(found)


def key_of(family: str, seed: int, copy: int, fault: PlainFault | None) -> str:
    """A name that a file may have, and that begins with the family."""
    return f"{family.replace(' ', '-').replace(':', '')}__{seed}-{copy}-{fault or 'healthy'}"


def series_of(key: str, features: Sequence[str], times_ms: Int64s, values: Doubles) -> Series:
    """A series that no file holds; values: (R,), of its first feature."""
    table = np.full((len(values), len(features)), np.nan)
    table[:, 0] = values
    rows = np.arange(len(values), dtype=np.int64)
    return Series(key, Path("simulated"), tuple(features), rows, times_ms, table, np.ones(len(values), np.bool_))


def remember(noise: Doubles, memory: float) -> Doubles:
    """Noise with the same standard deviation in which each value keeps `memory` of the one before."""
    kept, before = np.empty_like(noise), float(noise[0])
    fresh = math.sqrt(1 - memory**2)
    for place, one in enumerate(noise.tolist()):
        before = memory * before + fresh * one
        kept[place] = before
    return kept


def _draw(family: Family, rng: Generator, readings: int) -> tuple[Int64s, Parts]:
    intervals = np.full(readings, family.interval_s)
    if family.irregular:
        intervals = np.maximum(rng.exponential(family.interval_s, readings), 1.0)
    offsets_ms = np.cumsum(np.rint(intervals * 1_000)).astype(np.int64)
    return START_MS + offsets_ms, family.make(rng, offsets_ms / 1_000)


def _with_fault(
    family: Family, parts: Parts, times_ms: Int64s, fault: PlainFault, rng: Generator
) -> tuple[Doubles, Bools]:
    values = parts.values
    span = float(np.ptp(values))
    sign = -1.0 if family.below_zero and rng.random() < 0.5 else 1.0
    begin = int(rng.uniform(FAULTS_FROM, FAULTS_UNTIL) * len(values))
    label = np.zeros(len(values), np.bool_)
    match fault:
        case PlainFault.SPIKE:
            label[begin] = True
            values[begin] += sign * np.rint(SPIKE_RANGES * span)
        case PlainFault.SHIFT:
            label[begin : begin + SHIFT_READINGS] = True
            values[label] += sign * max(1.0, np.rint(SHIFT_RANGES * span))  # whole: what counts, counts on
        case PlainFault.STUCK:
            label[begin : begin + STUCK_READINGS] = True
            values[label] = values[begin]
        case PlainFault.NOISE:
            label[begin : begin + NOISE_READINGS] = True
            values = parts._replace(noise=np.where(label, NOISE_FACTOR * parts.noise, parts.noise)).values
        case PlainFault.MISSING_PEAK:
            day = _day_with_a_peak(parts.level, times_ms, begin)
            quiet = np.where(day, parts.level[day].min(), parts.level)
            label = parts.level > quiet
            values = parts._replace(level=quiet).values
    return values, label


def _day_with_a_peak(level: Doubles, times_ms: Int64s, begin: int) -> Bools:
    """The first 24 hours after a reading that begin at the lowest level and in which it rises as on most days."""
    begin = min(begin, int(np.searchsorted(times_ms, times_ms[-1] - 5 * DAY_MS)))
    first_ms = times_ms[begin]
    first_ms = times_ms[begin + int(level[(times_ms >= first_ms) & (times_ms < first_ms + DAY_MS)].argmin())]
    days = [(times_ms >= begin_ms) & (times_ms < begin_ms + DAY_MS) for begin_ms in first_ms + DAY_MS * np.arange(4)]
    height = 0.5 * max(float(np.ptp(level[day])) for day in days)
    return next(day for day in days if np.ptp(level[day]) > height)


def _same(values: Doubles) -> Doubles:
    return values.copy()


def _sine(rng: Generator, seconds: Doubles) -> Parts:
    level = 50 + 10 * np.sin((seconds / DAY_S + rng.random()) * 2 * math.pi)
    return Parts(level, rng.normal(0, rng.uniform(0.2, 0.8), len(seconds)), _same)


def _walk(rng: Generator, seconds: Doubles) -> Parts:
    return Parts(np.zeros(len(seconds)), rng.standard_normal(len(seconds)), np.cumsum)


def _counter(rng: Generator, seconds: Doubles) -> Parts:
    """Of requests, say: it begins again at 0 whenever its process does."""
    resets = np.cumsum(rng.uniform(800, 2_500, len(seconds) // 800).astype(np.int64))
    epoch = np.searchsorted(resets, np.arange(len(seconds)), side="right")

    def show(steps: Doubles) -> Doubles:
        total = np.cumsum(np.maximum(np.rint(steps), 0.0))
        before = np.concatenate([[0.0], total[resets[resets < len(total)] - 1]])
        shown: Doubles = total - before[epoch]
        return shown

    rate = rng.uniform(15, 60)
    return Parts(np.full(len(seconds), rate), rng.poisson(rate, len(seconds)).astype(np.float64) - rate, show)


def _duty_cycle(rng: Generator, seconds: Doubles) -> Parts:
    """A heater, say: on for a while, off for a while, both known within a tenth."""
    on, off = rng.uniform(20, 60), rng.uniform(40, 120)
    lengths = np.tile([on, off], len(seconds) // 40) * rng.uniform(0.9, 1.1, 2 * (len(seconds) // 40))
    phase = np.searchsorted(np.cumsum(lengths), np.arange(len(seconds)), side="right")
    return Parts(np.where(phase % 2 == 0, 80.0, 20.0), rng.normal(0, 0.6, len(seconds)), _same)


def _rare_gauge(rng: Generator, seconds: Doubles) -> Parts:
    """A queue of errors, say: nearly always 0."""
    seen = rng.random(len(seconds)) < 0.004
    waiting = np.where(seen, rng.integers(1, 6, len(seconds)).astype(np.float64), 0.0)
    return Parts(np.zeros(len(seconds)), waiting, _same)


def _latency(rng: Generator, seconds: Doubles) -> Parts:
    """In milliseconds: log-normal, slower while the day is busy."""
    busy = np.maximum(np.sin((seconds / DAY_S - 0.25) * 2 * math.pi), 0.0)
    level: Doubles = math.log(rng.uniform(20, 200)) + 0.8 * busy
    return Parts(level, rng.normal(0, 0.35, len(seconds)), np.exp)


def _weekdays(rng: Generator, seconds: Doubles) -> Parts:
    """Demand: a working day from 08:00 to 18:00 from Monday to Friday, a little at the weekend."""
    hours = seconds / 3_600 % 24
    working = np.clip(np.minimum(hours - 8, 18 - hours), 0, 1)
    week = np.where(seconds / DAY_S % 7 < 5, 1.0, 0.2)  # START_MS is a Monday
    return Parts(100 + 300 * working * week, remember(rng.normal(0, 12, len(seconds)), 0.5), _same)


def _temperature(rng: Generator, seconds: Doubles) -> Parts:
    level = 20 + 3 * np.sin((seconds / DAY_S - 0.375) * 2 * math.pi)
    return Parts(level, remember(rng.normal(0, 0.6, len(seconds)), 0.95), lambda values: values.round(2))


def _quantised(rng: Generator, seconds: Doubles) -> Parts:
    """A slow value of which the sensor shows half degrees only."""
    level = np.full(len(seconds), rng.uniform(40, 80))
    return Parts(level, remember(rng.normal(0, 1.5, len(seconds)), 0.9), lambda values: np.rint(values * 2) / 2)


FAMILIES: Mapping[str, Family] = {
    "sine": Family(_sine, 300, daily=True),
    "walk": Family(_walk, 60),
    "counter": Family(_counter, 60, below_zero=False),
    "duty cycle": Family(_duty_cycle, 10, below_zero=False),
    "rare gauge": Family(_rare_gauge, 60, below_zero=False, holds_still=True),
    "latency": Family(_latency, 300, below_zero=False, daily=True),
    "weekdays": Family(_weekdays, 300, below_zero=False, daily=True),
    "temperature": Family(_temperature, 300, irregular=True, daily=True),
    "quantised": Family(_quantised, 60),
}
