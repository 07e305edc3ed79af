"""A simulated plant: sensor series with named, labelled faults.

Every machine has a load that follows the hours, the shifts and its own cycle. The load drives three channels, each with
its own gain and lag, and each channel's sensor adds noise that remembers itself:

    load  = 1 + daily rhythm - weekend - idle outside the shift - unloaded part of the cycle + wander
    value = level + spread * (gain * (lagged load - 1) + ambient + noise)

A spread is the standard deviation of the channel's noise at full load, rhythm and load left out; faults are measured
in it. A day takes a channel through 3 to 17 spreads, so that faults often stay inside the range of a normal day.

Sizes: T readings a stream, S streams, F = 3 features.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.random import SeedSequence, default_rng

from models.data.arrays import Bools, Doubles, Int64s
from models.data.machines import Range, draw_machines, key_of

FEATURES = ("temperature", "pressure", "vibration")  # degrees Celsius, bar, mm/s
START_MS = 1_767_571_200_000  # Monday 2026-01-05, 00:00 UTC
JITTER = 0.03  # steps; how early or late a reading may come
QUIET = 120  # readings; the least time from a fault's end to the stream's next fault
WANDER = 0.05  # of full load, standard deviation; what the load does that no rhythm explains
WANDER_S = 2_700.0  # for how long it remembers
DECIMALS = 3  # what a sensor reports
BLOCK = 1_024  # readings made at a time: the working arrays stay small whatever the length


class FaultKind(StrEnum):
    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    STUCK = "stuck"
    NOISE_BURST = "noise_burst"
    DROPOUT = "dropout"
    SILENCE = "silence"


class Fault(NamedTuple):
    """One fault of one stream. start and end (exclusive) count readings from the plant's first.

    start_ms <= time < end_ms holds for the readings concerned and for no other of the stream, jitter included.

    magnitude: spike, level shift: signed height in spreads; drift: signed height it has reached at its end;
    noise burst: the factor; dropout: spreads from the level down to the 0 that is read, or 0 where the value is
    missing (NaN); stuck, silence: 0.
    """

    key: str
    stream: int
    kind: FaultKind
    start: int
    end: int
    channels: tuple[str, ...]
    start_ms: int
    end_ms: int
    magnitude: float


@dataclass(frozen=True, slots=True)
class Plant:
    """T consecutive readings of S streams, and every fault that touches them."""

    keys: tuple[str, ...]
    first: int  # the index of the first of these readings; 0 unless the plant is made in pieces
    first_fault_after: int
    spread: Doubles  # (S, F), in the feature's unit: what magnitudes count
    times_ms: Int64s  # (S, T), rising in each stream
    values: Doubles  # (S, T, F); NaN: missing, or never sent
    present: Bools  # (S, T); False: the reading was never sent
    faults: tuple[Fault, ...]  # by start, then by stream

    def labels(self) -> Bools:
        """Which readings belong to a fault, (S, T); unsent ones too."""
        labels = np.zeros(self.present.shape, dtype=np.bool_)
        for fault in self.faults:
            labels[fault.stream, max(fault.start - self.first, 0) : fault.end - self.first] = True
        return labels


class FaultShape(NamedTuple):
    readings: tuple[int, int]  # shortest, longest
    magnitude: Range = (0.0, 0.0)  # without its sign
    channels: tuple[int, ...] = (1,)  # how many it may touch, each as likely


SHAPES = {
    FaultKind.SPIKE: FaultShape((1, 3), (8, 15)),
    FaultKind.LEVEL_SHIFT: FaultShape((60, 300), (4, 8), (1, 1, 2)),
    FaultKind.DRIFT: FaultShape((100, 400), (5, 10), (1, 1, 2)),
    FaultKind.STUCK: FaultShape((60, 300)),
    FaultKind.NOISE_BURST: FaultShape((30, 120), (5, 8)),
    FaultKind.DROPOUT: FaultShape((5, 60), channels=(1, 1, len(FEATURES))),
    FaultKind.SILENCE: FaultShape((30, 200), channels=(len(FEATURES),)),
}
KINDS = tuple(FaultKind)
HEIGHTS = {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT, FaultKind.DRIFT}  # up or down


def plant(
    streams: int,
    readings: int,
    seed: int,
    *,
    step_s: float = 60.0,
    start_ms: int = START_MS,
    fault_every: float | None = 1_500.0,
    first_fault_after: int = 0,
) -> Plant:
    """Simulate a whole plant; a fault that outlasts it ends with it. The arguments are PlantSimulator's."""
    simulator = PlantSimulator(
        streams, seed, step_s=step_s, start_ms=start_ms, fault_every=fault_every, first_fault_after=first_fault_after
    )
    whole = simulator.advance(readings)
    return replace(whole, faults=tuple(simulator.cut(fault, readings) for fault in whole.faults))


def to_frame(plant: Plant) -> pl.DataFrame:
    """The readings that were sent, in time order, as a table to be written to a file.

    Columns: timestamp (ms since 1970), the features (null: missing), stream, label (1 in a fault), part: `train` up to
    first_fault_after, then `test`. A silence has no rows: only the gap shows it.
    """
    sent = np.flatnonzero(plant.present)
    rows = sent[np.argsort(plant.times_ms.ravel()[sent], kind="stable")]
    stream, reading = np.divmod(rows, plant.present.shape[1])
    values = plant.values.reshape(-1, len(FEATURES))[rows]
    return pl.DataFrame(
        {
            "timestamp": plant.times_ms.ravel()[rows],
            **{name: pl.Series(values[:, column]).fill_nan(None) for column, name in enumerate(FEATURES)},
            "stream": pl.Series(plant.keys, dtype=pl.String).gather(stream),
            "label": plant.labels().ravel()[rows].astype(np.int8),
            "part": pl.Series(["train", "test"]).gather((reading + plant.first >= plant.first_fault_after).astype(int)),
        }
    )


class PlantSimulator:
    """The plant in pieces: what advance() returns, joined, is what one long call returns, to the bit.

    seed: the same seed is the same plant; with other faults, or none, it is the same plant but for its faults.
    step_s: from one reading to the next. Each stream reports at its own moment within the step, so pieces written one
    after the other, each in time order, are in time order.
    fault_every: mean number of readings from a fault's end to the stream's next fault; None: no faults. The kinds take
    turns, and neighbouring streams begin with different ones, so seven faults in a row or across are of seven kinds.
    first_fault_after: readings before the first fault may come: the part to train on.
    """

    def __init__(
        self,
        streams: int,
        seed: int,
        *,
        step_s: float = 60.0,
        start_ms: int = START_MS,
        fault_every: float | None = 1_500.0,
        first_fault_after: int = 0,
    ) -> None:
        if streams < 1:
            raise ValueError(f"streams is {streams}, expected at least 1")
        if step_s <= 0:
            raise ValueError(f"step_s is {step_s}, expected more than 0")
        if fault_every is not None and fault_every < QUIET:
            raise ValueError(f"fault_every is {fault_every}, expected at least {QUIET}, or None for no faults")
        self.keys = tuple(key_of(stream) for stream in range(streams))
        self._seed, self._step_s, self._start_ms = seed, step_s, start_ms
        self._first_fault_after = first_fault_after
        self._more_quiet = 0.0 if fault_every is None else fault_every - QUIET
        character, self._wander_rng, self._noise_rng, self._jitter_rng = map(default_rng, SeedSequence(seed).spawn(4))
        self._machines = draw_machines(streams, character)
        self._moment = character.uniform(2 * JITTER, 1 - 2 * JITTER, streams)  # steps
        self._wander = character.standard_normal(streams) * WANDER
        self._noise = character.standard_normal((streams, len(FEATURES)))
        self._lagged = np.repeat(self._machines.rhythm(self._hours(0, 1))[0][:, None], len(FEATURES), axis=1)
        self._last = np.full((streams, len(FEATURES)), np.nan)
        self._first = 0
        self._next = [] if fault_every is None else [self._fault(s, 0, first_fault_after) for s in range(streams)]
        self._next_start = np.array([fault.start for fault in self._next], dtype=np.int64)
        self._ordinal = np.zeros(streams, dtype=np.int64)

    def advance(self, readings: int) -> Plant:
        """The next readings. Faults that began before them or end after them are listed whole."""
        first, streams = self._first, len(self.keys)
        times_ms = np.empty((streams, readings), dtype=np.int64)
        values = np.empty((streams, readings, len(FEATURES)))
        faults: set[Fault] = set()
        for start in range(0, readings, BLOCK):
            count = min(BLOCK, readings - start)
            block, noise = self._normal(count)
            for fault in self._faults_until(self._first + count):
                self._disturb(block, noise, fault)
                faults.add(fault)
            block = block.round(DECIMALS)
            values[:, start : start + count] = block.swapaxes(0, 1)
            times_ms[:, start : start + count] = self._times_ms(count).T
            self._last = block[-1]
            self._first += count
        return Plant(
            keys=self.keys,
            first=first,
            first_fault_after=self._first_fault_after,
            spread=self._machines.spread,
            times_ms=times_ms,
            values=values,
            present=_present((streams, readings), first, faults),
            faults=tuple(sorted(faults, key=lambda fault: (fault.start, fault.stream))),
        )

    def cut(self, fault: Fault, end: int) -> Fault:
        """The same fault, over before the reading `end`."""
        end = min(fault.end, end)
        return fault._replace(end=end, end_ms=self._earliest_ms(fault.stream, end))

    def _normal(self, readings: int) -> tuple[Doubles, Doubles]:
        """The next readings without faults, and the noise that is in them; (T, S, F), both in the feature's unit."""
        machines, decay = self._machines, math.exp(-self._step_s / WANDER_S)
        hours = self._hours(self._first, readings)

        wander = self._wander_rng.standard_normal((readings, len(self.keys)))
        wander *= WANDER * math.sqrt(1 - decay**2)
        self._wander = _remember(wander, np.float64(decay), self._wander)

        keep = np.exp(-self._step_s / machines.lag_s)
        load = machines.rhythm(hours) + wander
        lagged = load[:, :, None] * (1 - keep)
        self._lagged = _remember(lagged, keep, self._lagged)

        keep = np.exp(-self._step_s / machines.noise_s)
        noise = self._noise_rng.standard_normal(lagged.shape)
        noise *= np.sqrt(1 - keep**2)
        self._noise = _remember(noise, keep, self._noise)
        noise[:, :, 2] *= 0.5 + 0.5 * load  # a machine at rest shakes less

        noise = noise * machines.spread
        values = machines.level + machines.spread * machines.gain * (lagged - 1) + noise
        values[:, :, 0] += machines.spread[:, 0] * machines.warmth(hours)
        return values, noise

    def _disturb(self, values: Doubles, noise: Doubles, fault: Fault) -> None:
        """Put into the block (T, S, F) what of the fault falls into it."""
        start, end = max(fault.start - self._first, 0), min(fault.end - self._first, len(values))
        columns = [FEATURES.index(channel) for channel in fault.channels]
        at = np.ix_(range(start, end), [fault.stream], columns)
        height = fault.magnitude * self._machines.spread[fault.stream, columns]
        match fault.kind:
            case FaultKind.SPIKE | FaultKind.LEVEL_SHIFT:
                values[at] += height
            case FaultKind.DRIFT:
                done = np.arange(start, end) + (self._first + 1 - fault.start)
                values[at] += (done / (fault.end - fault.start))[:, None, None] * height
            case FaultKind.STUCK:
                before = values[start - 1] if start else self._last
                values[at] = before[fault.stream, columns]
            case FaultKind.NOISE_BURST:
                louder = values[at] + (fault.magnitude - 1) * noise[at]
                values[at] = np.maximum(louder, 0.0)  # as little as no vibration, never less
            case FaultKind.DROPOUT:
                values[at] = 0.0 if fault.magnitude < 0 else np.nan
            case FaultKind.SILENCE:
                values[at] = np.nan

    def _faults_until(self, stop: int) -> Iterator[Fault]:
        """Every fault with a reading from here to `stop` (exclusive); where one ends there, the next is drawn."""
        for stream in np.flatnonzero(self._next_start < stop).tolist():
            fault = self._next[stream]
            while fault.start < stop:
                yield fault
                if fault.end > stop:
                    break
                self._ordinal[stream] += 1
                fault = self._fault(stream, int(self._ordinal[stream]), fault.end)
            self._next[stream], self._next_start[stream] = fault, fault.start

    def _fault(self, stream: int, ordinal: int, quiet_from: int) -> Fault:
        """The stream's fault number `ordinal`, from its own generator: the same in pieces of any size."""
        rng = default_rng([self._seed, stream, ordinal])
        kind = KINDS[(stream + ordinal) % len(KINDS)]
        shape = SHAPES[kind]
        start = quiet_from + QUIET + int(rng.exponential(self._more_quiet))
        end = start + int(rng.integers(*shape.readings, endpoint=True))
        chosen = np.sort(rng.choice(len(FEATURES), rng.choice(shape.channels), replace=False)).tolist()
        channels = tuple(FEATURES[column] for column in chosen)
        magnitude = float(rng.uniform(*shape.magnitude))
        downward = bool(rng.random() < 0.5)
        if kind is FaultKind.DROPOUT and downward:
            magnitude = -float(min(self._machines.level[stream, chosen] / self._machines.spread[stream, chosen]))
        elif kind in HEIGHTS and downward and "vibration" not in channels:  # a machine that wears only shakes more
            magnitude = -magnitude
        times_ms = self._earliest_ms(stream, start), self._earliest_ms(stream, end)
        return Fault(self.keys[stream], stream, kind, start, end, channels, *times_ms, magnitude)

    def _times_ms(self, readings: int) -> Int64s:
        """When the next readings are taken, (T, S)."""
        steps = np.arange(self._first, self._first + readings)[:, None] + self._moment
        steps += self._jitter_rng.uniform(-JITTER, JITTER, steps.shape)
        return self._start_ms + np.rint(steps * (self._step_s * 1_000)).astype(np.int64)

    def _earliest_ms(self, stream: int, reading: int) -> int:
        return self._start_ms + math.floor((reading + float(self._moment[stream]) - JITTER) * self._step_s * 1_000)

    def _hours(self, first: int, readings: int) -> Doubles:
        """Hours since 1970 at the beginning of each step, (T,)."""
        return (self._start_ms / 1_000 + np.arange(first, first + readings) * self._step_s) / 3_600


def _present(shape: tuple[int, int], first: int, faults: Iterable[Fault]) -> Bools:
    """Which readings are sent, (S, T): all but those in a silence. first: the index of the first reading."""
    present = np.ones(shape, dtype=np.bool_)
    for fault in faults:
        if fault.kind is FaultKind.SILENCE:
            present[fault.stream, max(fault.start - first, 0) : fault.end - first] = False
    return present


def _remember(inputs: Doubles, keep: Doubles | np.float64, before: Doubles) -> Doubles:
    """x(t) = keep * x(t - 1) + input(t), in place, from `before`: AR(1) noise and the first-order low-pass alike.

    inputs: (T, ...). Returns a copy of the last x.
    """
    for t in range(len(inputs)):
        inputs[t] += keep * before
        before = inputs[t]
    return before.copy()
