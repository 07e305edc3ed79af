"""Predict, compare, score, alarm: the one composition, online and offline.

Sizes: N readings of a batch, T waves, S streams, F features.

A stream's verdicts depend on that stream's readings alone: not on its neighbours, nor on where batches end. What
makes that true to the last bit: the recurrence's one numeric path (cells.Recurrence), a head that multiplies and sums,
row-wise statistics in exactly rounded arithmetic, and no clock, no randomness, no statistics across streams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Int64s
from models.detection import alarm, level, residuals, scaling
from models.detection.alarm import AlarmConfig, Change, OpenedBy, Severity
from models.detection.kinds import (
    ASKED_TOGETHER,
    VOTE_EVERY,
    Guess,
    KindsHead,
    follow,
    symptoms_of,
    vote_of,
    votes_of,
    with_symptoms,
)
from models.detection.residuals import ScoreConfig
from models.detection.rows import FARTHEST, Channels, Columns, Rows, Scalars, fresh
from models.net.cells import CellState
from models.net.forecaster import Forecaster
from models.net.packing import Waves, pack

BAND_DEVIATIONS = 3.0  # half the expected band, in standard deviations of the stream's own residual
LONGEST_BLOCK = 256  # waves at once: bounds the memory a batch of few streams takes
LATE_LIMIT = 32  # late readings in a row after which a stream's clock was set back, not its readings late


class Readings(NamedTuple):
    """N readings in offset order."""

    offsets: Tensor  # (N,) int64
    times_ms: Tensor  # (N,) int64, event time
    values: Tensor  # (N, F) float64, NaN where a value is missing


class Fate(NamedTuple):
    """What became of N readings; each (N,) bool. Late and duplicate readings are not judged: score 0, no band."""

    judged: Tensor
    late: Tensor  # older than the stream's last one
    duplicate: Tensor  # the same time and values as the stream's last one


@dataclass(frozen=True, slots=True)
class Transition:
    """An alarm opened, became more severe, or closed at a reading of the batch."""

    reading: int  # index into the batch
    change: Change
    severity: Severity
    opened_by: OpenedBy
    score: float
    peak: float
    opened_offset: int
    opened_ms: int
    share: tuple[float, ...]  # of each channel in what opened it, residual or level deviation; sums to 1, or is 0
    guess: Guess | None = None  # what fault it looks like now; closed: all along; None: no head that could say


class Verdicts(NamedTuple):
    """What is thought of N readings, in offset order."""

    fate: Fate
    score: Tensor  # (N,) float64; 1.0 is the alarm threshold
    alarm: Tensor  # (N,) bool: the stream's alarm is open after this reading; False where it was not judged
    expected: Tensor  # (N, F) float64; NaN while a stream's scale is unknown
    lower: Tensor  # (N, F)
    upper: Tensor  # (N, F)
    transitions: tuple[Transition, ...]  # in offset order

    def part(self, begin: int, end: int) -> "Verdicts":
        """Those of some of the readings, as if they had been the batch."""
        fate = Fate(*(column[begin:end] for column in self.fate))
        mine = (replace(t, reading=t.reading - begin) for t in self.transitions if begin <= t.reading < end)
        score, alarms, *band = (c[begin:end] for c in (self.score, self.alarm, self.expected, self.lower, self.upper))
        return Verdicts(fate, score, alarms, band[0], band[1], band[2], tuple(mine))


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    score: ScoreConfig = field(default_factory=ScoreConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)


class Block(NamedTuple):
    """T waves of the same S streams."""

    readings: Tensor  # (T, S) int64: index into the batch
    offsets: Tensor  # (T, S) float64
    times_ms: Tensor  # (T, S) int64
    elapsed_ms: Tensor  # (T, S) float64: since the stream's last reading
    values: Tensor  # (T, S, F)

    @property
    def waves(self) -> int:
        return len(self.readings)

    def part(self, begin: int, end: int) -> "Block":
        return Block(*(column[begin:end] for column in self))


class _Sheet(NamedTuple):
    """Where verdicts are written while a batch is judged, in offset order."""

    score: Tensor
    alarm: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor
    transitions: list[Transition]

    @classmethod
    def empty(cls, readings: int, features: int) -> Self:
        nothing = torch.full((readings, features), torch.nan, dtype=torch.float64)
        score = torch.zeros(readings, dtype=torch.float64)
        return cls(score, torch.zeros(readings, dtype=torch.bool), nothing, nothing.clone(), nothing.clone(), [])


class Expected(NamedTuple):
    """Of T waves of S streams, in spreads; each (T, S, F)."""

    predicted: Tensor
    residual: Tensor
    memory: Tensor  # (T, S, H): the top layer's h after each wave


class Detector:
    """A forecaster and the rules that turn its residuals into alarms, with the streams it was trained on.

    known: the row each training stream ended with, so that it goes on warm where it left off.
    kinds: names the kind of fault when an alarm changes; None: no one does, and rows remember no symptoms.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        config: DetectorConfig,
        known: Mapping[bytes, int],
        rows: Rows,
        kinds: KindsHead | None = None,
    ) -> None:
        self.forecaster = forecaster.eval()
        self.config = config
        self.known = known
        self.known_rows = rows
        self.kinds = kinds

    @classmethod
    def cold(cls, forecaster: Forecaster, config: DetectorConfig | None = None) -> Self:
        """A detector that knows no stream yet."""
        return cls(forecaster, config or DetectorConfig(), {}, fresh(0, forecaster.config))

    def with_kinds(self, kinds: KindsHead) -> "Detector":
        """The same detector with this head; what it knows of streams remembers symptoms from now on."""
        rows = self.known_rows if self.kinds is not None else with_symptoms(self.known_rows)
        return Detector(self.forecaster, self.config, self.known, rows, kinds)

    @property
    def features(self) -> tuple[str, ...]:
        return self.forecaster.config.features

    def rows_for(self, keys: Sequence[bytes]) -> Rows:
        """The rows that new streams start with: warm where they were trained on, else fresh."""
        rows = fresh(len(keys), self.forecaster.config)
        if self.kinds is not None:
            rows = with_symptoms(rows)
        warm = [(place, self.known[key]) for place, key in enumerate(keys) if key in self.known]
        if warm:
            places, known = torch.tensor(warm).T
            rows.put(places, self.known_rows.take(known))
        return rows

    def count_warming(self, rows: Rows) -> int:
        """How many of these streams are not scored yet."""
        age = rows.scalar("age")
        return int(((age > 0) & (age <= self.config.score.warm_up)).sum())

    def count_alarms(self, rows: Rows) -> int:
        """How many of these streams have an open alarm."""
        return int((rows.scalar("alarm") > 0).sum())

    @torch.inference_mode()
    def observe(self, readings: Readings, waves: Waves, rows: Rows) -> tuple[Verdicts, Rows]:
        """Judge a batch. rows: those of waves.slots. Returns the verdicts and the rows after the batch."""
        columns = Columns.of(rows)
        sheet = _Sheet.empty(len(readings.offsets), len(self.features))
        with np.errstate(all="ignore"):  # an unknown spread is infinite, and means nothing yet
            fate = _admit(readings, waves, columns)
            if fate.judged.all():
                self._observe_runs(readings, waves, columns, sheet)
            elif fate.judged.any():
                self._observe_admitted(readings, waves, columns, sheet, fate.judged)
        sheet.transitions.sort(key=lambda transition: transition.reading)
        return Verdicts(fate, *sheet[:-1], tuple(sheet.transitions)), columns.rows()

    def _observe_admitted(
        self, readings: Readings, waves: Waves, columns: Columns, sheet: _Sheet, judged: Tensor
    ) -> None:
        """Pack again without the late and duplicate readings; `slots` is then the place among this batch's streams."""
        kept = judged.nonzero().squeeze(1)
        again = pack(waves.streams[kept])
        again = again._replace(runs=tuple(run._replace(readings=kept[run.readings]) for run in again.runs))
        busy = columns.take(again.slots)
        self._observe_runs(readings, again, busy, sheet)
        columns.put(again.slots, busy)

    def _observe_runs(self, readings: Readings, waves: Waves, columns: Columns, sheet: _Sheet) -> None:
        for run in waves.runs:
            busy = columns.first(run.readings.shape[1])
            for index in torch.split(run.readings, LONGEST_BLOCK):
                offsets, times_ms, values = readings.offsets[index], readings.times_ms[index], readings.values[index]
                block = Block(index, offsets.double(), times_ms, _elapsed_ms(times_ms, busy), values)
                self._observe_block(block, busy, sheet)

    def _observe_block(self, block: Block, columns: Columns, sheet: _Sheet) -> None:
        """Judge a block in pieces between which some stream's scale moves, so that it is constant within each."""
        begin = 0
        while begin < block.waves:
            end = min(block.waves, begin + self._waves_until_scale_moves(columns))
            self._judge(block.part(begin, end), columns, sheet)
            _move_scales(columns, self.config.alarm)
            begin = end

    def _waves_until_scale_moves(self, columns: Columns) -> int:
        """How many readings can be taken at most before a stream reaches the age, or its alarm the length, to move."""
        _, scalars = columns.views()
        until_rescale = scalars.rescale_at - scalars.age
        until_adoption = self.config.alarm.adopt_after - scalars.length * scalars.alarm
        return max(1, int(np.minimum(until_rescale, until_adoption).min()))

    def _judge(self, block: Block, columns: Columns, sheet: _Sheet) -> None:
        """Judge T waves of S streams whose scale does not move before the last of them."""
        channels, scalars = columns.views()
        held = scaling.hold(block.values.numpy(), channels.last)
        offsets, times = block.offsets.numpy(), block.times_ms.double().numpy()
        expected = self.expect(block, torch.from_numpy(held.values), columns)
        residual = expected.residual.numpy()
        if held.present is not None:
            residual = np.where(held.present, residual, 0.0)

        score, alarms = np.empty_like(offsets), np.empty_like(offsets)
        bias, std = np.empty_like(residual), np.empty_like(residual)
        season, watched = columns.season(), columns.watched()
        phases = level.phases_at(block.times_ms.numpy(), len(self.features))
        days = level.days_of(block.elapsed_ms.numpy())
        everyone, everywhere = np.ones_like(scalars.age), np.ones_like(channels.last)
        restless = alarm.is_restless(scalars)
        age = scalars.age
        for wave in range(block.waves):
            values, present = held.values[wave], None if held.present is None else held.present[wave]
            age += 1
            bias[wave] = channels.residual_mean
            distance = level.distance_from(values, phases[:, wave], season, channels)
            scores = residuals.judge(
                residual[wave], distance, values, present, channels, scalars, watched, self.config.score
            )
            score[wave], std[wave], standardised = scores.score, scores.std[0], scores.standardised[0]

            learns, updates_baseline, weight, change = everyone, everyone, everywhere, None
            if restless or (scores.score >= 1.0).any():
                step = alarm.step(
                    scores.score,
                    scores.threshold_ratio.argmax(axis=0),
                    values,
                    times[wave],
                    offsets[wave],
                    channels,
                    scalars,
                    self.config.alarm,
                )
                learns, updates_baseline = step.learns, step.updates_baseline
                weight = np.broadcast_to(learns[:, None], values.shape)
                restless = alarm.is_restless(scalars)
                change = step.change
            alarms[wave] = scalars.alarm
            baseline_weight = weight
            if updates_baseline is not everyone:
                baseline_weight = np.broadcast_to(updates_baseline[:, None], values.shape)
            if present is not None:
                weight, baseline_weight = weight * present, baseline_weight * present
            if self.kinds is not None:
                before = held.values[wave - 1] if wave else channels.last
                follow(standardised, values, before, present, weight, channels, symptoms_of(columns))
            if change is not None:
                guesses = self._guess(change, scalars, columns, expected.memory[wave])
                _note(change, block.readings[wave], scores, scalars, guesses, sheet)
            residuals.update_baseline(scores, baseline_weight, updates_baseline, scalars, watched, self.config.score)
            level.learn_season(distance, weight, days[wave] * learns, phases[:, wave], season, scalars)
            scaling.learn_scale(values, weight, channels)

        np.copyto(scalars.time_ms, times[-1])
        np.copyto(channels.last, held.values[-1])
        _write(block, expected.predicted.numpy() + bias, std, score, alarms, channels, sheet)

    def expect(self, block: Block, values: Tensor, columns: Columns) -> Expected:
        """What was expected of every reading from the memory before it, and how far off it is.

        The one method that a detector with another source of expectations overrides.
        """
        channels, _ = columns.views()
        centre, spread, last = map(torch.from_numpy, (channels.centre, channels.spread, channels.last))
        scaled = (values - centre) / spread
        before = (last - centre) / spread
        inputs = self.forecaster.inputs(scaled, before, block.elapsed_ms / 1000, block.times_ms)
        state = CellState(columns.hidden.contiguous(), columns.cell.contiguous())
        memory, after = self.forecaster.observe(inputs, state)
        memory_before = torch.cat([state.hidden[-1:], memory[:-1]])
        columns.hidden.copy_(after.hidden)
        columns.cell.copy_(after.cell)

        predicted = self.forecaster.predict(memory_before, torch.cat([before.unsqueeze(0), scaled[:-1]]))
        return Expected(predicted, (scaled - predicted).clamp(-FARTHEST, FARTHEST), memory)

    def _guess(
        self, change: Int64s, scalars: Scalars[Doubles], columns: Columns, memory: Tensor
    ) -> Mapping[int, Guess]:
        """What the anomalies of the streams that changed look like; collects votes. memory: (S, H), after this wave.

        While an anomaly is open, that is what the head says of it now; when it closes, what most votes are for.
        """
        if self.kinds is None:
            return {}
        in_alarm = (scalars.alarm > 0) | (change > 0)
        if not in_alarm.any():
            return {}
        symptoms, votes, length = symptoms_of(columns), votes_of(columns), scalars.length
        asked = in_alarm & ((length % VOTE_EVERY == 1) | (change == Change.UPDATED))
        votes[:, in_alarm & (length == 1)] = 0.0
        guesses: dict[int, Guess] = {}
        streams = asked.nonzero()[0]
        for begin in range(0, len(streams), ASKED_TOGETHER):
            some = streams[begin : begin + ASKED_TOGETHER]
            likely = self.kinds.probabilities(symptoms[:, some], memory[some].double().numpy())
            votes[:, some] += vote_of(likely).T
            guesses.update((stream, Guess.of(likely[n])) for n, stream in enumerate(some.tolist()) if change[stream])
        for stream in (change >= Change.RECOVERED).nonzero()[0].tolist():
            guesses[stream] = Guess.of(votes[:, stream])
        return guesses


def _elapsed_ms(times_ms: Tensor, columns: Columns) -> Tensor:
    """Since each stream's last reading, its clock standing before the first of these; (T, S)."""
    _, scalars = columns.views()
    times = times_ms.double().numpy()
    clock = np.where(scalars.age > 0, scalars.time_ms, times[0])
    return torch.from_numpy(np.maximum(np.diff(times, axis=0, prepend=clock[np.newaxis]), 0.0))


def _move_scales(columns: Columns, config: AlarmConfig) -> None:
    channels, scalars = columns.views()
    adopted = scalars.relearn == config.relearn
    if adopted.any():
        scaling.adopt_level(adopted, channels, scalars)
    due = scalars.age == scalars.rescale_at
    if due.any():
        scaling.move_scale(due, columns)


def _note(
    change: Int64s,
    readings: Tensor,
    scores: residuals.Scores,
    scalars: Scalars[Doubles],
    guesses: Mapping[int, Guess],
    sheet: _Sheet,
) -> None:
    """Write the wave's transitions down: rare, so one at a time."""
    for stream in change.nonzero()[0].tolist():
        opened_by = OpenedBy(int(scalars.opened_by[stream]))
        standardised = scores.standardised[1 if opened_by is OpenedBy.LEVEL else 0, stream]
        squares = standardised * standardised
        sheet.transitions.append(
            Transition(
                reading=int(readings[stream]),
                change=Change(int(change[stream])),
                severity=Severity(int(scalars.severity[stream])),
                opened_by=opened_by,
                score=float(scores.score[stream]),
                peak=float(scalars.peak[stream]),
                opened_offset=int(scalars.opened_offset[stream]),
                opened_ms=int(scalars.opened_ms[stream]),
                share=tuple((squares / max(float(squares.sum()), 1e-12)).tolist()),
                guess=guesses.get(stream),
            )
        )


def _write(
    block: Block,
    middle: Doubles,
    std: Doubles,
    score: Doubles,
    alarms: Doubles,
    channels: Channels[Doubles],
    sheet: _Sheet,
) -> None:
    """Put a judged block where its readings stand in the batch, the band in the sensor's own units."""
    known = channels.spread < np.inf
    for column, scaled in (
        (sheet.expected, middle),
        (sheet.lower, middle - std * BAND_DEVIATIONS),
        (sheet.upper, middle + std * BAND_DEVIATIONS),
    ):
        raw = np.where(known, scaled * channels.spread + channels.centre, np.nan)
        column[block.readings] = torch.from_numpy(raw)
    sheet.score[block.readings] = torch.from_numpy(score)
    sheet.alarm[block.readings] = torch.from_numpy(alarms > 0)


def _admit(readings: Readings, waves: Waves, columns: Columns) -> Fate:
    """Tell late and duplicate readings from those to be judged, by each stream's own clock.

    Time that only rises costs two comparisons; the streams in which it does not are gone through one by one.
    """
    channels, scalars = columns.views()
    late = torch.zeros_like(readings.times_ms, dtype=torch.bool)
    duplicate = late.clone()
    clock = np.where(scalars.age > 0, scalars.time_ms, -1.0)
    suspect = scalars.late_run > 0
    latest = clock.copy()
    for run in waves.runs:
        times = readings.times_ms[run.readings].double().numpy()
        streams = times.shape[1]
        suspect[:streams] |= (np.diff(times, axis=0, prepend=latest[None, :streams]) <= 0).any(0)
        latest[:streams] = times[-1]
    seen = {
        stream: _Seen(float(clock[stream]), channels.last[stream], int(scalars.late_run[stream]))
        for stream in suspect.nonzero()[0].tolist()
    }
    for n in np.flatnonzero(suspect[waves.streams.numpy()]).tolist() if seen else ():
        stream = int(waves.streams[n])
        late[n], duplicate[n], seen[stream] = _look(readings, n, seen[stream])
    for stream, after in seen.items():
        scalars.late_run[stream] = after.late_run
    return Fate(~(late | duplicate), late, duplicate)


class _Seen(NamedTuple):
    """Where a stream stands while its readings are admitted."""

    clock_ms: float  # -1: no reading yet
    last: Doubles  # (F,), held values
    late_run: int


def _look(readings: Readings, n: int, seen: _Seen) -> tuple[bool, bool, _Seen]:
    """Whether a reading is late, whether it is a duplicate, and where its stream stands after it."""
    time, values = int(readings.times_ms[n]), readings.values[n].numpy()
    if time < seen.clock_ms and seen.late_run < LATE_LIMIT:
        return True, False, seen._replace(late_run=seen.late_run + 1)
    held = np.where(np.isnan(values), seen.last, values)
    if time == seen.clock_ms and bool((held == seen.last).all()):
        return False, True, seen
    return False, False, _Seen(time, held, 0)
