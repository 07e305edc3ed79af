"""Random series of many kinds, from which a net learns to recognise a stream's pattern while it reads.

Every series is a pattern (a cycle, a schedule of the clock, or none) with wander, steps and noise on top, seen by a
sensor that may round, saturate or count. Its parameters are drawn, each on its own, so that two series are hardly ever
of one kind. No real series was looked at for them, beyond what sensors do.
Sizes: B series, T readings.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

INTERVALS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
DAY_S, WEEK_S = 86_400.0, 604_800.0
FIRST_MS = 1_500_000_000_000  # begins between 2017 and 2027
BEGINS_WITHIN_MS = 315_360_000_000
CYCLES = 9  # kinds of cycle
SCHEDULES = 3


class SimulatedSeries(NamedTuple):
    """B series side by side."""

    values: Tensor  # (T, B) float64
    times_ms: Tensor  # (T, B) int64
    elapsed_s: Tensor  # (T, B)


def simulate(series: int, readings: int, generator: torch.Generator) -> SimulatedSeries:
    """Draw series; the same generator state gives the same series on one kind of device."""
    draw = _Draw(series, readings, generator)
    times_s, elapsed_s = _times(draw)
    pattern = torch.where(draw.chance(0.25), _schedule(draw, times_s), _cycle(draw)) * draw.switch(0.9)
    noise = _noise(draw) * torch.where(draw.chance(0.2), 1 + 3 * pattern.abs(), 1.0)  # loud where the pattern is
    values = pattern + _wander(draw) + noise + _glitches(draw)
    values = _sensor(draw, values) * draw.log_uniform(1e-3, 1e3) + draw.uniform(-100, 100) * draw.switch(0.7)
    return SimulatedSeries(values, FIRST_MS + (times_s * 1000).long(), elapsed_s)


class _Draw:
    """Numbers for every series, (B,), and for every reading, (T, B)."""

    def __init__(self, series: int, readings: int, generator: torch.Generator) -> None:
        self.series, self.readings, self._generator = series, readings, generator

    def uniform(self, low: float, high: float) -> Tensor:
        return torch.rand(self.series, generator=self._generator, dtype=torch.float64) * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def chance(self, share: float) -> Tensor:
        return self.uniform(0, 1) < share

    def switch(self, share: float) -> Tensor:
        """1 in a share of the series, else 0."""
        return self.chance(share).double()

    def whole(self, below: int) -> Tensor:
        return torch.randint(below, (self.series,), generator=self._generator)

    def normals(self) -> Tensor:
        return torch.randn(self.readings, self.series, generator=self._generator).double()

    def events(self, rate: Tensor) -> Tensor:
        """1 at a share `rate` of the readings, else 0."""
        return (torch.rand(self.readings, self.series, generator=self._generator) < rate).double()

    def per_cycle(self, phase: Tensor) -> Tensor:
        """A normal number for every whole turn of `phase`, at all its readings."""
        turns = (phase - phase[0].floor()).long()
        each = torch.randn(int(turns.max()) + 1, self.series, generator=self._generator).double()
        return each.gather(0, turns)


def _times(draw: _Draw) -> tuple[Tensor, Tensor]:
    """Seconds since FIRST_MS, and since the reading before: regular but for jitter and gaps in some."""
    interval = torch.tensor(INTERVALS_S, dtype=torch.float64)[draw.whole(len(INTERVALS_S))]
    jitter = draw.uniform(0, 0.3) * draw.switch(0.3)
    gaps = draw.events(draw.log_uniform(1e-4, 1e-2) * draw.switch(0.2)) * draw.log_uniform(2, 50)
    elapsed = (interval * (1 + (jitter * draw.normals()).clamp(-0.9, 3) + gaps)).mul(1000).round().div(1000)
    elapsed[0] = 0.0
    begin = draw.uniform(0, BEGINS_WITHIN_MS / 1000).round()
    return begin + elapsed.cumsum(0), elapsed


def _cycle(draw: _Draw) -> Tensor:
    """A pattern that comes back after 3 to 600 readings, in some not exactly so."""
    period = draw.log_uniform(3, 600)
    rate = (1 + draw.uniform(0, 0.4) * draw.switch(0.3) * draw.normals()).clamp(0.1, 4) / period
    phase = rate.cumsum(0) + draw.uniform(0, 1)
    stretched = phase + draw.uniform(0, 0.3) * draw.switch(0.3) * draw.per_cycle(phase).clamp(-2, 2).abs()
    turn = stretched % 1
    sines = _waves(draw, turn, 5)
    beats = torch.zeros_like(turn)
    for _ in range(3):
        height, distance = draw.uniform(-2, 3), turn - draw.uniform(0.1, 0.9)
        distance = distance / draw.log_uniform(0.01, 0.15)
        beats += height * (-(distance**2)).exp()
    share = draw.uniform(0.05, 0.95)
    on = (turn < share).double()
    rises = 1 - (-turn / draw.log_uniform(0.03, 0.5)).exp()
    falls = (-(turn - share) / draw.log_uniform(0.03, 0.5)).clamp(max=0).exp()
    levels = torch.stack([draw.uniform(-1, 1) for _ in range(6)])
    kinds = (
        sines,
        2 * on,
        beats,
        2 * turn,
        4 * (turn - 0.5).abs(),
        (turn < 8 / period).double() * draw.uniform(1, 5),
        2 * torch.where(on > 0, rises, falls),  # heated and left to cool
        levels.gather(0, (turn * 6).long().clamp(0, 5)) * 2,  # steps of a recipe
        2 * (draw.per_cycle(phase) > 0).double() * on,  # cycles that are left out
    )
    several = 1 + draw.uniform(0, 0.5) * draw.switch(0.3) * draw.per_cycle(phase)
    return torch.stack(kinds).gather(0, draw.whole(CYCLES).expand(1, *turn.shape))[0] * several


def _schedule(draw: _Draw, times_s: Tensor) -> Tensor:
    """What people do by the clock: a wave of the day, a shift, a job; in some less, or not, at weekends."""
    local = times_s + FIRST_MS / 1000
    day, weekday = local / DAY_S % 1, (local / DAY_S + 3).floor() % 7
    wave = _waves(draw, day, 4)
    since = (day - draw.uniform(0, 1)) % 1
    shift = 2 * (since < draw.uniform(0.2, 0.7)).double()
    job = draw.uniform(1, 4) * (since < draw.log_uniform(0.005, 0.1)).double()
    kind = torch.stack([wave, shift, job]).gather(0, draw.whole(SCHEDULES).expand(1, *day.shape))[0]
    rests = weekday >= 5
    return torch.where(draw.chance(0.4) & rests, kind * draw.uniform(0, 0.6), kind)


def _waves(draw: _Draw, turn: Tensor, harmonics: int) -> Tensor:
    """A sum of sines, the higher ones smaller. turn: 0..1."""
    waves = torch.zeros_like(turn)
    for n in range(1, harmonics + 1):
        waves += draw.uniform(-1, 1) / n * (math.tau * n * turn + draw.uniform(0, math.tau)).sin()
    return waves


def _wander(draw: _Draw) -> Tensor:
    """Slow waves, random walks, steps, trends."""
    reading = torch.arange(draw.readings, dtype=torch.float64)[:, None]
    slow = (math.tau * reading / draw.log_uniform(50, 3000) + draw.uniform(0, 6.3)).sin()
    walk = draw.normals().cumsum(0) * draw.log_uniform(1e-4, 0.2)
    steps = (draw.events(draw.log_uniform(2e-4, 5e-3)) * draw.normals()).cumsum(0)
    trend = reading / draw.readings * draw.uniform(-2, 2)
    wander = torch.zeros_like(slow)
    layers = slow * draw.uniform(0, 1), walk, steps, trend
    for layer, share in zip(layers, (0.3, 0.35, 0.2, 0.1), strict=True):
        wander += layer * draw.switch(share)
    return wander


def _noise(draw: _Draw) -> Tensor:
    """Of a deviation between hundredths and one: white, or remembering itself; with heavy tails in some."""
    white = draw.normals()
    white = torch.where(draw.chance(0.15), white * white * white * 0.26, white)
    kept = draw.uniform(0, 0.98) * draw.switch(0.5)
    noise, shift = white.clone(), 1
    while shift < min(draw.readings, 512):  # the sum of all powers of `kept`, in as many doublings
        noise[shift:] = noise[shift:] + kept * noise[:-shift].clone()
        kept, shift = kept * kept, 2 * shift
    first = draw.log_uniform(0.003, 1)
    return noise * (noise.std(0) + 1e-9).reciprocal() * first * draw.switch(0.93)


def _glitches(draw: _Draw) -> Tensor:
    return draw.events(draw.log_uniform(1e-4, 5e-3) * draw.switch(0.15)) * draw.normals() * draw.uniform(2, 15)


def _sensor(draw: _Draw, values: Tensor) -> Tensor:
    """What a sensor makes of it: some are skewed, cut off below or above, rounded, or hold a value for a while."""
    values = torch.where(draw.chance(0.1), (values * 0.7).clamp(-6, 4).exp(), values)
    values = torch.where(draw.chance(0.08), values.clamp(min=0), values)
    values = torch.where(draw.chance(0.05), values.clamp(max=1), values)
    unit = draw.log_uniform(0.01, 1)
    values = torch.where(draw.chance(0.25), (values / unit).round() * unit, values)
    every = 1 + draw.whole(8) * draw.chance(0.08).long()
    reading = torch.arange(draw.readings)[:, None]
    return values.gather(0, reading - reading % every)
