"""The machines of a simulated plant: what loads them by the hour, and the numbers that each has of its own.

Sizes: T readings a stream, S streams, F = 3 features.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from models.data.arrays import Doubles

Range: TypeAlias = tuple[float, float]  # drawn uniformly, both ends included

DAY_H, WEEK_H, YEAR_H = 24.0, 168.0, 8_766.0
MONDAY_H = 72.0  # 1970-01-01 was a Thursday


class MachineType(NamedTuple):
    """What the machines of one type have in common: the ranges that each machine's own numbers are drawn from."""

    level: tuple[Range, Range, Range]  # at full load, in the feature's unit
    spread: tuple[Range, Range, Range]  # in the feature's unit
    daily: Range  # parts of full load, as all below
    weekend: Range
    idle: Range  # less load outside the shift
    unload: Range  # less load in the resting part of the cycle
    ambient: Range  # spreads by which the hall's daily warmth moves the temperature


MACHINES = {
    "pump": MachineType(  # runs through, follows demand
        level=((55, 70), (4, 8), (1.8, 3.5)),
        spread=((0.3, 0.6), (0.03, 0.08), (0.06, 0.12)),
        daily=(0.15, 0.35),
        weekend=(0.1, 0.25),
        idle=(0, 0),
        unload=(0, 0),
        ambient=(0.5, 1.5),
    ),
    "fan": MachineType(  # follows the weather
        level=((30, 42), (1.2, 1.8), (1.2, 2.2)),
        spread=((0.25, 0.5), (0.01, 0.02), (0.04, 0.08)),
        daily=(0.1, 0.2),
        weekend=(0, 0),
        idle=(0, 0),
        unload=(0, 0),
        ambient=(2.5, 4),
    ),
    "compressor": MachineType(  # loads and unloads
        level=((75, 95), (7, 10), (3, 5)),
        spread=((0.4, 0.8), (0.05, 0.1), (0.1, 0.2)),
        daily=(0.05, 0.12),
        weekend=(0, 0.1),
        idle=(0, 0),
        unload=(0.3, 0.5),
        ambient=(0.5, 1.5),
    ),
    "press": MachineType(  # works in shifts, idles at night and on weekends
        level=((45, 60), (120, 180), (3, 5)),
        spread=((0.3, 0.6), (1, 2.5), (0.1, 0.2)),
        daily=(0.02, 0.08),
        weekend=(0, 0),
        idle=(0.5, 0.7),
        unload=(0, 0),
        ambient=(0.5, 1.5),
    ),
}
GAIN: tuple[Range, Range, Range] = ((12, 18), (8, 12), (6, 10))  # spreads from no load to full load
LAG_S: tuple[Range, Range, Range] = ((1_200, 3_000), (60, 240), (20, 60))  # heat is slow, pressure less so
NOISE_S: tuple[Range, Range, Range] = ((180, 360), (60, 120), (20, 60))  # autocorrelation time of the noise
SHIFT_START_H, SHIFT_H, SHIFT_RAMP_H = (5.0, 7.0), (9.0, 15.0), 0.5
PERIOD_H, DUTY, CYCLE_RAMP = (1.0, 2.5), (0.5, 0.7), 0.15


@dataclass(frozen=True, slots=True)
class Machines:
    """The S machines of a plant, each with its own numbers. Phases in hours, loads in parts of full load."""

    level: Doubles  # (S, F)
    spread: Doubles  # (S, F)
    gain: Doubles  # (S, F), spreads
    lag_s: Doubles  # (S, F)
    noise_s: Doubles  # (S, F)
    daily: Doubles  # (S,), as all below
    daily_phase_h: Doubles
    second_phase_h: Doubles
    weekend: Doubles
    idle: Doubles
    shift_start_h: Doubles
    shift_h: Doubles
    unload: Doubles
    period_h: Doubles
    cycle_phase_h: Doubles
    duty: Doubles
    ambient: Doubles

    def rhythm(self, hours: Doubles) -> Doubles:
        """The load that hour, shift and cycle ask for, (T, S)."""
        hours = hours[:, None]
        day_h, week_h = hours % DAY_H, (hours + MONDAY_H) % WEEK_H
        load = 1 + self.daily * (_wave(hours, DAY_H, self.daily_phase_h) - 0.5)
        load += 0.3 * self.daily * _wave(hours, DAY_H / 2, self.second_phase_h)
        load -= self.weekend * _trapezoid(week_h - 5 * DAY_H, np.float64(2 * DAY_H), 3.0)
        at_work = _trapezoid(day_h - self.shift_start_h, self.shift_h, SHIFT_RAMP_H) * (week_h < 5 * DAY_H)
        load -= self.idle * (1 - at_work)
        cycle = (hours + self.cycle_phase_h) % self.period_h / self.period_h
        return load - self.unload * (1 - _trapezoid(cycle, self.duty, CYCLE_RAMP))

    def warmth(self, hours: Doubles) -> Doubles:
        """What the hall's warmth adds to the temperature, in spreads, (T, S): warmest at 15:00 and in late July."""
        hours = hours[:, None]
        return self.ambient * (_wave(hours, DAY_H, 15.0 - DAY_H / 4) + 0.5 * _wave(hours, YEAR_H, 2_700.0))


def draw_machines(streams: int, rng: Generator) -> Machines:
    """Draw the machines; types take turns."""
    machines = [MACHINES[_type(stream)] for stream in range(streams)]

    def draw(ranges: ArrayLike) -> Doubles:
        bounds: Doubles = np.asarray(ranges, dtype=np.float64)
        return np.asarray(rng.uniform(bounds[..., 0], bounds[..., 1]))

    return Machines(
        level=draw([machine.level for machine in machines]),
        spread=draw([machine.spread for machine in machines]),
        gain=draw([GAIN] * streams),
        lag_s=draw([LAG_S] * streams),
        noise_s=draw([NOISE_S] * streams),
        daily=draw([machine.daily for machine in machines]),
        daily_phase_h=rng.uniform(6, 12, streams),
        second_phase_h=rng.uniform(0, DAY_H / 2, streams),
        weekend=draw([machine.weekend for machine in machines]),
        idle=draw([machine.idle for machine in machines]),
        shift_start_h=rng.uniform(*SHIFT_START_H, streams),
        shift_h=rng.uniform(*SHIFT_H, streams),
        unload=draw([machine.unload for machine in machines]),
        period_h=rng.uniform(*PERIOD_H, streams),
        cycle_phase_h=rng.uniform(0, PERIOD_H[1], streams),
        duty=rng.uniform(*DUTY, streams),
        ambient=draw([machine.ambient for machine in machines]),
    )


def _type(stream: int) -> str:
    return tuple(MACHINES)[stream % len(MACHINES)]


def key_of(stream: int) -> str:
    """What a stream is called: its line, its machine's type, its number."""
    return f"line-{stream // 12 + 1:02d}/{_type(stream)}-{stream + 1:03d}"


def _wave(hours: Doubles, period_h: float, phase_h: Doubles | float) -> Doubles:
    return np.sin((hours - phase_h) * (2 * math.pi / period_h))


def _trapezoid(at: Doubles, length: Doubles | np.float64, ramp: float) -> Doubles:
    """0 before 0 and after `length`, 1 between, with slopes of length `ramp` inside."""
    return np.clip(np.minimum(at, length - at) / ramp, 0, 1)
