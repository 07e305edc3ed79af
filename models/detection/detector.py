"""Predict, compare, score, alarm: the one composition, online and offline.

Sizes: N readings of a batch, T waves, S streams, F features.

A stream's verdicts depend on that stream's readings alone: not on its neighbours, nor on where batches end. What
makes that true to the last bit: the recurrence's one numeric path (cells.Recurrence), a head that multiplies and sums,
row-wise statistics in exactly rounded arithmetic, and no clock, no randomness, no statistics across streams.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools, Doubles, Int64s
from models.detection.alarm import AlarmConfig, Change, OpenedBy, Severity
from models.detection.kinds import ASKED_TOGETHER, SYMPTOMS, Guess, KindsHead, vote_of, with_symptoms
from models.detection.records import NEVER, Block, Events, Limits, Rules, Scratch, Sheet
from models.detection.rows import Rows, RowsInPlace, fresh
from models.detection.scoring import ScoreConfig
from models.detection.ticks import LEAST_TICKS, TICK_MS, Ticks
from models.net.forecaster import Forecaster
from models.net.packing import WaveRun, Waves, pack

if TYPE_CHECKING:
    from models.detection.net_arithmetic import NetArithmetic
    from models.detection.silence import Arrivals

ROOM = 16  # events of a block, at first, beside one at each reading of a stream
LONGEST_BLOCK = 256  # waves at once: bounds the memory a batch of few streams takes
WIDEST_BLOCK = 600  # streams at once: their rows stay in a core's cache
NARROWEST_BLOCK = 128  # so few streams are not cut into fewer, but into fewer waves
# At each call the net's kernel takes (1,024 T + 2,400) S bytes at 64 units. The system clears them where they are 2 MB.
LARGEST_BLOCK, KERNEL_WAVES = 2_000, 2.4  # waves of all streams, and how many of them each stream costs beside its own
NO_PAUSES = np.empty(0)


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
    share: tuple[float, ...]  # of each channel in what the witness saw that opened it; sums to 1, or is 0
    returns_ms: tuple[float, ...]  # how rarely each sees what it sees now, in the order of OpenedBy; 0: unknown
    guess: Guess | None = None  # what fault it looks like now; closed: all along; None: no head that could say
    began_ms: int | None = None  # opened: since when what opened it has lasted, if that is seen to be before opened_ms


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


class Stretch(NamedTuple):
    """T waves of the same S streams, as the net is shown them."""

    readings: Int64s  # (T, S) index into the batch
    offsets: Int64s  # (N,) of all readings of the batch
    times_ms: Int64s  # (T, S)
    leaps: Int64s  # (T, S) minutes from the place in the week to that of the day that a holiday is like
    elapsed_ms: Doubles  # (T, S) since the stream's last reading
    held: Doubles  # (T, S, F), each missing value replaced by the last known one


class Expected(NamedTuple):
    """What was expected of a stretch before it was seen."""

    predicted: Doubles  # (T, S, F) in spreads
    memory: Tensor  # (T, S, H): the top layer's h after each wave


class _Batch(NamedTuple):
    """N readings that are judged, and where it is written what is thought of them."""

    offsets: Int64s  # (N,)
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F)
    sheet: Sheet
    transitions: list[Transition]
    scratch: Scratch
    events: Events  # room for those of one block, as a rule
    paused_until: Doubles  # (N,) as Block has it

    @classmethod
    def of(cls, readings: Readings, scratch: Scratch, symptoms: int, paused_until: Doubles) -> Self:
        # Of other strides, the judge would be compiled again.
        offsets, times_ms, values = (np.ascontiguousarray(column.numpy()) for column in readings)
        count, features = values.shape
        events = Events.room(min(count, LONGEST_BLOCK) + ROOM, features, symptoms)
        return cls(offsets, times_ms, values, Sheet.empty(count, features), [], scratch, events, paused_until)


class Detector:
    """A forecaster and the rules that turn its residuals into alarms, with the streams it was trained on.

    known: the row each training stream ended with, so that it goes on warm where it left off.
    kinds: names the kind of fault when an alarm changes; None: no one does, and rows remember no symptoms.
    limits: of every stream where observe() is given none, a set for one; None: nothing is limited.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        config: DetectorConfig,
        known: Mapping[bytes, int],
        rows: Rows,
        kinds: KindsHead | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.forecaster = forecaster.eval()
        self.config = config
        self._rules = Rules.of(self.config.score, self.config.alarm)
        self.known = known
        self.known_rows = rows
        self.kinds = kinds
        self.limits = limits or Limits.none(1, len(self.features))

    @classmethod
    def cold(cls, forecaster: Forecaster, config: DetectorConfig | None = None) -> Self:
        """A detector that knows no stream yet."""
        return cls(forecaster, config or DetectorConfig(), {}, fresh(0, forecaster.config))

    def with_kinds(self, kinds: KindsHead) -> "Detector":
        """The same detector with this head; what it knows of streams remembers symptoms from now on."""
        rows = self.known_rows if self.kinds is not None else with_symptoms(self.known_rows)
        return Detector(self.forecaster, self.config, self.known, rows, kinds, self.limits)

    def limited(self, limits: Limits | None) -> "Detector":
        """The same detector for one stream, with what is set of it."""
        other = copy(self)
        other.limits = limits or Limits.none(1, len(self.features))
        return other

    @property
    def features(self) -> tuple[str, ...]:
        return self.forecaster.config.features

    @cached_property
    def _scratch(self) -> Scratch:
        """Nothing is kept in it between two calls of the judge, during which no other thread runs."""
        return Scratch.of(len(self.features))

    @cached_property
    def _arithmetic(self) -> "NetArithmetic":
        from models.detection.net_arithmetic import NetArithmetic  # noqa: PLC0415  (numba takes a second to import)

        return NetArithmetic.of(self.forecaster)

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

    def observe(
        self, readings: Readings, waves: Waves, rows: Rows, limits: Limits | None = None
    ) -> tuple[Verdicts, Rows]:
        """Judge a batch. rows, limits: those of waves.slots. Returns the verdicts and the rows after the batch."""
        after = rows.copy()
        among = waves._replace(slots=torch.arange(len(waves.slots)))
        return self.observe_in_place(readings, among, after, limits), after

    def fall_silent(self, ticks: Ticks, rows: Rows, applied: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The streams whose silence is told at the last of their partition's ticks, for the first time or once more.

        applied: (S,) offset of each stream's last reading. Returns places, how severe the silence is by now
        (alarm.Severity), and how long it may be without being told (ms).
        """
        from models.detection.silence import fall_silent  # noqa: PLC0415  (numba takes a second to import)

        silent, severities = np.empty((2, len(applied)), np.int64)
        allowed_ms = np.empty(len(applied))
        columns = rows.scalars.numpy(), applied.numpy()
        count = fall_silent(ticks.by_grid(), *columns, self._rules, silent, severities, allowed_ms)
        places, severity, allowed = (torch.from_numpy(column[:count]) for column in (silent, severities, allowed_ms))
        return places, severity, allowed

    def open_silent(self, rows: Rows, streams: Tensor, since_ms: Tensor, offset: int) -> None:
        """Open an alarm of streams without a reading, because of the record at `offset`: the next reading closes it.

        rows: changed. streams: (S,), whose alarms are closed.
        """
        opened = {"alarm": 1.0, "opened_by": float(OpenedBy.SILENT), "peak": 1.0, "length": 0.0, "rest": 0.0}
        for name, value in opened.items():
            rows.scalar(name)[streams] = value
        rows.scalar("opened_offset")[streams] = -float(offset)
        rows.scalar("opened_ms")[streams] = since_ms
        rows.votes[streams] = 0.0  # of the alarm before

    def raise_silent(self, rows: Rows, streams: Tensor, severities: Tensor) -> None:
        """Let alarms of silence be more severe: severities (S,), of alarm.Severity. rows: changed."""
        lengths = torch.tensor(self.config.alarm.times_as_long, dtype=torch.float64)
        rows.scalar("alarm")[streams] = 1 + severities.double()
        rows.scalar("peak")[streams] = lengths[severities]

    def none_falls_silent(self, ticks: Ticks, offsets: Int64s, rows: Rows, applied: Tensor) -> bool:
        """Whether it is plain, without following its readings, that no stream falls silent during a batch.

        So it is, as a rule: no stream is due at a tick with what it had before, and after a reading in the batch the
        ticks are too few. offsets: (N,) of its readings. rows, applied: see find_silent.
        """
        from models.detection.silence import find_among_others  # noqa: PLC0415  (as above)

        first = offsets[0] if len(offsets) else NEVER
        after = ticks.clock_ms[np.searchsorted(ticks.offsets, first, side="right") :]
        if len(after) and after[-1] - after[0] >= LEAST_TICKS * TICK_MS:
            return False
        due, none_busy = np.zeros(len(ticks), np.bool_), np.zeros(len(applied), np.bool_)
        find_among_others(ticks.by_grid(), rows.scalars.numpy(), applied.numpy(), none_busy, self._rules, due)
        return not due.any()

    def find_silent(self, ticks: Ticks, arrivals: "Arrivals", rows: Rows, applied: Tensor, busy: Bools) -> Int64s:
        """Offsets of the ticks at which streams may fall silent while a batch is judged.

        rows, applied: of all streams of the partition, before the batch; busy: which of them it has readings of.
        """
        from models.detection.silence import find, find_among_others  # noqa: PLC0415  (as above)

        found, grids = np.zeros(len(ticks), np.bool_), ticks.by_grid()
        find(grids, arrivals, self._scratch, self._rules, found)
        find_among_others(grids, rows.scalars.numpy(), applied.numpy(), busy, self._rules, found)
        return ticks.offsets[found]

    @torch.inference_mode()
    def observe_in_place(
        self,
        readings: Readings,
        waves: Waves,
        rows: Rows,
        limits: Limits | None = None,
        paused_until: Doubles = NO_PAUSES,
    ) -> Verdicts:
        """Judge a batch, and change the rows at waves.slots to those after it.

        rows: of all slots, contiguous; no other one is touched. Where this raises, rows may be those of half a batch.
        limits: those of waves.slots. paused_until: (N,) ms; from which readings nothing is learned, see pauses; empty:
        they all teach.
        """
        limits = limits or self.limits.take(np.zeros(len(waves.slots), np.int64))
        batch = _Batch.of(readings, self._scratch, rows.symptom_rows, paused_until)
        in_place = RowsInPlace.of(rows, waves.slots)
        fate, dropped = _admit(batch, waves.streams.numpy(), in_place)
        if dropped == 0:
            self._observe_runs(batch, waves.runs, in_place, limits)
        elif dropped < len(batch.offsets):
            again = _pack_again(waves, fate.judged)
            streams = again.slots.numpy()
            self._observe_runs(batch, again.runs, in_place.take(streams), limits.take(streams))
        batch.transitions.sort(key=lambda transition: transition.reading)
        score, alarm, expected, lower, upper = map(torch.from_numpy, batch.sheet)
        return Verdicts(fate, score, alarm, expected, lower, upper, tuple(batch.transitions))

    def _observe_runs(self, batch: _Batch, runs: Sequence[WaveRun], rows: RowsInPlace, limits: Limits) -> None:
        """Judge in blocks between which some stream's scale moves, so that it is constant within each."""
        judge = _compiled_judge()
        for run in runs:
            readings = run.readings.numpy()
            width = _widest(len(readings))
            longest = _longest(min(width, readings.shape[1]))
            for first in range(0, readings.shape[1], width):
                some = np.ascontiguousarray(readings[:, first : first + width])
                streams, begin = slice(first, first + some.shape[1]), 0
                mine, theirs = rows.take(streams), limits.take(streams)
                while begin < len(some):
                    coming = some[begin : begin + longest], batch.times_ms, mine.channels, mine.scalars, mine.slots
                    end = begin + judge.waves_until_scale_moves(*coming, self._rules.adopt_after, self._rules.adopt_ms)
                    self._judge(batch, some[begin:end], mine, theirs)
                    begin = end

    def _judge(self, batch: _Batch, index: Int64s, rows: RowsInPlace, limits: Limits) -> None:
        """Judge T waves of S streams. index: (T, S) into the batch."""
        judge = _compiled_judge()
        offsets, times_ms, values, sheet, transitions, scratch, events, paused_until = batch
        _, _, channels, scalars, slots = rows
        held, elapsed_ms = np.empty((*index.shape, values.shape[1])), np.empty(index.shape)
        judge.hold(index, times_ms, values, channels, scalars, slots, held, elapsed_ms)
        shown_ms = times_ms[index]
        expected = self.expect(Stretch(index, offsets, shown_ms, leaps_of(shown_ms, limits), elapsed_ms, held), rows)
        said = expected.predicted
        block = Block(index, slots, offsets, times_ms, values, held, elapsed_ms, said, *limits, paused_until)
        judged = self._rules, block, channels, scalars, scratch, sheet
        place, count = judge.judge_block(*judged, events, 0, 0)
        while place < len(slots):
            events = events.doubled()
            place, count = judge.judge_block(*judged, events, place, count)
        if count:
            transitions += self._transitions(events, count, expected.memory, rows)

    def expect(self, stretch: Stretch, rows: RowsInPlace) -> Expected:
        """What was expected of every reading from the memory before it. Moves the memory.

        The one method that a detector with another source of expectations overrides.
        """
        _, _, times_ms, leaps, elapsed_ms, held = stretch
        before = self._arithmetic.recall(rows)
        inputs = self._arithmetic.inputs(times_ms, leaps, elapsed_ms, held, rows)
        memory, after = self.forecaster.observe(inputs, before)
        predicted = self._arithmetic.predict(before.hidden[-1], memory, held, rows)
        self._arithmetic.remember(rows, after)
        return Expected(predicted, memory)

    def _transitions(self, events: Events, count: int, memory: Tensor, rows: RowsInPlace) -> Iterator[Transition]:
        """What happened, in words of the outside; collects votes. memory: (T, S, H)."""
        likely = {} if self.kinds is None else _likely(self.kinds, events, count, memory)
        for n, event in enumerate(events.records[:count]):
            change, votes = Change(int(event["change"])), rows.votes(int(event["place"]))
            if event["asks"]:
                if event["length"] == 1:
                    votes[:] = 0.0
                votes += vote_of(likely[n])
            if change is Change.NONE:
                continue
            guess = None
            if self.kinds is not None:
                guess = Guess.of(votes if change >= Change.RECOVERED else likely[n])
            yield _transition(event, events.returns_ms[n], events.evidence[n], guess)


def _likely(head: KindsHead, events: Events, count: int, memory: Tensor) -> Mapping[int, Doubles]:
    """How likely each kind is, by event, where the head is asked. memory: (T, S, H)."""
    found: dict[int, Doubles] = {}
    asked = np.flatnonzero(events.records["asks"][:count])
    for begin in range(0, len(asked), ASKED_TOGETHER):
        some = asked[begin : begin + ASKED_TOGETHER]
        wave, place = (torch.from_numpy(events.records[name][some].astype(np.int64)) for name in ("wave", "place"))
        symptoms = events.symptoms[some].reshape(len(some), len(SYMPTOMS), -1).transpose(1, 0, 2)
        likely = head.probabilities(np.ascontiguousarray(symptoms), memory[wave, place].double().numpy())
        found.update(zip(some.tolist(), likely, strict=True))
    return found


def _transition(event: np.void, returns_ms: Doubles, evidence: Doubles, guess: Guess | None) -> Transition:
    """evidence: (F,), for the witness that opened the alarm."""
    squares = evidence * evidence
    return Transition(
        reading=int(event["reading"]),
        change=Change(int(event["change"])),
        severity=Severity(int(event["severity"])),
        opened_by=OpenedBy(int(event["opened_by"])),
        score=float(event["score"]),
        peak=float(event["peak"]),
        opened_offset=int(event["opened_offset"]),
        opened_ms=int(event["opened_ms"]),
        returns_ms=tuple(returns_ms.tolist()),
        share=tuple((squares / max(float(squares.sum()), 1e-12)).tolist()),
        guess=guess,
        began_ms=int(event["began_ms"]) if event["began_ms"] < event["opened_ms"] else None,
    )


def leaps_of(times_ms: Int64s, limits: Limits) -> Int64s:
    """As in a Stretch. times_ms: (T, S); limits: those of the S streams."""
    leaps = np.empty_like(times_ms)
    _, _, sets, *calendar = limits
    _compiled_judge().week_leaps(times_ms, sets, *calendar, leaps)
    return leaps


def _widest(waves: int) -> int:
    """How many streams are judged at once where each has this many waves."""
    return min(WIDEST_BLOCK, max(NARROWEST_BLOCK, int(LARGEST_BLOCK / (waves + KERNEL_WAVES))))


def _longest(streams: int) -> int:
    """How many waves of this many streams are judged at once."""
    return min(LONGEST_BLOCK, max(1, int(LARGEST_BLOCK / streams - KERNEL_WAVES)))


@cache
def _compiled_judge() -> ModuleType:
    from models.detection import judge  # noqa: PLC0415  (numba takes a second to import)

    return judge


def _admit(batch: _Batch, streams: Int64s, rows: RowsInPlace) -> tuple[Fate, int]:
    """Which of the readings are late or duplicate, by each stream's own clock, and how many are."""
    late, again = np.zeros((2, len(batch.offsets)), np.bool_)
    _, _, channels, scalars, slots = rows
    room = np.empty(len(slots)), np.empty((len(slots), batch.values.shape[1]))
    given = batch.times_ms, batch.values, streams, channels, scalars, slots
    dropped = _compiled_judge().admit(*given, *room, late, again)
    return Fate(*map(torch.from_numpy, (~(late | again), late, again))), dropped


def _pack_again(waves: Waves, judged: Tensor) -> Waves:
    """Without the readings that are not judged; `slots` is then the place among this batch's streams."""
    kept = judged.nonzero().squeeze(1)
    again = pack(waves.streams[kept])
    return again._replace(runs=tuple(run._replace(readings=kept[run.readings]) for run in again.runs))
