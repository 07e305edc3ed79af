"""THE HOT PATH: what was fetched goes in, what is to be committed comes out.

decode -> slots -> waves -> gather -> observe -> scatter -> commit. After decoding there are only columns: nothing here
is done a message at a time, except for what is rare (rejects, alarms).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Int64s
from models.data.quiet_time import NEVER
from models.detection.alarm import Change
from models.detection.detector import NO_PAUSES, Detector, Readings, Verdicts
from models.detection.records import Limits
from models.detection.row_copies import copy_rows
from models.detection.rows import Rows, RowsInPlace
from models.detection.sensor_rules import Excluded, SensorRules
from models.detection.ticks import Ticks
from models.net.packing import Waves, pack, places_in_streams
from service import failpoints
from service.input.anomaly import FORGOTTEN, packed_places
from service.input.events import Event, encode_event, event
from service.input.formats import RecordRules
from service.input.reading_batch import ReadingBatch, StreamEnd, StreamKey
from service.input.rejects import Reject, dead_letter, with_refused_streams
from service.input.scores import ScoreStream
from service.input.wire import ANY_FORMAT, Decoder
from service.log.port import Commit, Fetched
from service.state.changelog import Meaning
from service.state.ended_alarms import ended_event
from service.state.key_index import NO_SLOT
from service.state.open_alarms import open_alarms
from service.state.pauses import Pause, paused_until
from service.state.silences import offsets_of_silence, tell_ended, tell_silence
from service.state.slab import StateSlab
from service.state.task import PartitionTask, Stretch

# A call costs 1.4 ms however few readings it is given; with many it gains nothing by more, and the net loses its cache.
TOGETHER = 4_096
# Readings in one call, and those of one record more: bounds the memory that records of many readings take.
AT_ONCE = 65_536


class Processed(NamedTuple):
    """One batch, judged: what to commit, and what to publish of it."""

    commit: Commit
    batch: ReadingBatch
    verdicts: Verdicts | None  # None: not one reading could be read
    rejects: list[Reject]
    events: list[Event]
    stage_s: Mapping[str, float]  # seconds each stage took, of all batches judged together, with the first
    # records, those rejected; readings judged, late, duplicate, skipped; idle streams evicted; where there are any,
    # values that count as missing, by Excluded
    counts: Mapping[str, int]
    checkpoint: str  # digest of the one that judged the readings


class _Piece(NamedTuple):
    """What is judged in one go: a batch, or the part of one between two ticks of its partition's clock."""

    fetched: Fetched
    task: PartitionTask
    batch: ReadingBatch
    rejects: list[Reject]
    idle_before: int | None = None  # first, forget streams without a reading since this offset
    silent_by: Ticks | None = None  # and tell which streams fall silent at the last of these ticks
    ends: tuple[StreamEnd, ...] = ()  # and of which it is said that they are silent


class _JudgedPiece(NamedTuple):
    batch: ReadingBatch  # the readings there was room for
    rejects: list[Reject]  # the others too
    verdicts: Verdicts | None
    evicted: int
    changed: Sequence[Event]  # of alarms that change before the batch is judged: streams forgotten, or silent


class Pipeline:
    """Judges batches with one checkpoint. Has no state of its own: that is in the task."""

    def __init__(
        self,
        detector: Detector,
        digest: str,
        max_future_ms: int,
        max_streams: int | None = None,
        max_past_ms: int | None = None,
        rules: RecordRules = ANY_FORMAT,
        sensors: SensorRules | None = None,
        scores: ScoreStream | None = None,
        pauses: Sequence[Pause] = (),
    ) -> None:
        """digest: the checkpoint's. max_future_ms, max_past_ms, rules, sensors: see Decoder.

        max_streams: of a partition; the readings of any further stream become dead letters. None: no limit.
        scores: what is written to the topic of scores; None: there is none.
        pauses: in which nothing is learned of some streams, beside those of the tasks.
        """
        self.detector = detector
        self.digest = digest
        self.max_streams = max_streams
        self.sensors = sensors
        self._scores = scores
        self._pauses = tuple(pauses)
        self._decoder = Decoder(detector.features, max_future_ms, max_past_ms, rules, sensors)

    def process_all(self, work: Sequence[tuple[Fetched, PartitionTask]]) -> list[Processed]:
        """Judge what was fetched of several partitions, small batches together; each has a task of its own.

        In the order of `work`; a batch of many readings, or during which idle streams are forgotten, comes back in
        several pieces.
        """
        clock = _Stopwatch()
        pieces = [piece for fetched, task in work for piece in self._pieces(fetched, task)]
        clock.lap("decode")
        if work:
            failpoints.reach("decode")
        done = [one for group in _groups(pieces) for one in self._process_together(group)]
        return [done[0]._replace(stage_s={**clock.laps, **done[0].stage_s}), *done[1:]] if done else []

    def process(self, fetched: Fetched, task: PartitionTask) -> list[Processed]:
        """Judge what was fetched of the task's partition; the task's slab is moved on to after it."""
        return self.process_all([(fetched, task)])

    def process_stream(self, fetched: Fetched, task: PartitionTask, stream: StreamKey) -> list[Processed]:
        """The same of one stream alone, whatever else the records hold."""
        batch, rejects = self._decode(fetched, task)
        mine = batch.part(np.flatnonzero([key == stream for key in batch.keys]))
        of_mine = [reject for reject in rejects if fetched.keys[reject.record] == stream]
        return self._process_together([_Piece(fetched, task, mine, of_mine)])

    def decode(self, fetched: Fetched, task: PartitionTask | None = None) -> ReadingBatch:
        """The readings among what was fetched.

        task: of the partition, whose pauses hold beside those of the pipeline; None: those alone hold.
        """
        return self._decode(fetched, task)[0]

    def _decode(self, fetched: Fetched, task: PartitionTask | None) -> tuple[ReadingBatch, list[Reject]]:
        batch, rejects = self._decoder.decode(fetched)
        pauses = (*self._pauses, *(() if task is None else task.pauses.pauses))
        if pauses and batch.keys:
            times_ms, offsets = batch.readings.times_ms.numpy(), batch.readings.offsets.numpy()
            batch = batch._replace(paused_until=paused_until(pauses, batch.keys, times_ms, offsets))
        return batch, rejects

    def replay_readings(self, batch: ReadingBatch, slots: Tensor, task: PartitionTask) -> list[Verdicts]:
        """Judge readings again of streams that are in the slab at `slots` (N,), and publish nothing.

        Returns what is thought of them: of the first AT_ONCE, of those after them, and so on.
        """
        verdicts = []
        for begin in range(0, len(batch.keys), AT_ONCE):
            some = np.arange(begin, min(begin + AT_ONCE, len(batch.keys)))
            verdicts += self._judge([(batch.part(some), task)], [slots[begin : begin + AT_ONCE]], _Stopwatch())
        return verdicts

    def warmed_up(self, slots: Tensor, task: PartitionTask) -> Tensor:
        """(N,) before which of N >= 1 readings their streams, at `slots`, have warmed up, by those of the batch too."""
        ages = task.slab.rows.scalar("age")[slots] + places_in_streams(slots)
        return ages > self.detector.config.score.warm_up

    def _pieces(self, fetched: Fetched, task: PartitionTask) -> Iterator[_Piece]:
        """What was fetched, cut between records: where the clock ticks, and where there are many readings."""
        batch, rejects = self._decode(fetched, task)
        offsets = batch.readings.offsets.numpy()
        find_silent = partial(offsets_of_silence, self.detector, task.slab, batch)
        stretches = task.clock.cut(fetched.offsets, offsets, batch.readings.times_ms.numpy(), find_silent, batch.ends)
        if len(offsets) > AT_ONCE:
            before = np.searchsorted(offsets, fetched.offsets)  # (R,) readings before each record
            stretches = [part for one in stretches for part in _parts(one, before)]
        if len(stretches) == 1:
            _, _, idle_before, silent_by, ends = stretches[0]
            yield _Piece(fetched, task, batch, rejects, idle_before, silent_by, ends)
            return
        for begin, end, idle_before, silent_by, ends in stretches:
            first = int(np.searchsorted(offsets, fetched.offsets[begin]))
            last = int(np.searchsorted(offsets, fetched.offsets[end - 1], side="right"))
            mine = [reject._replace(record=reject.record - begin) for reject in rejects if begin <= reject.record < end]
            readings = batch.between(first, last)._replace(skipped=batch.skipped if begin == stretches[0].begin else 0)
            yield _Piece(fetched.part(begin, end), task, readings, mine, idle_before, silent_by, ends)

    def _process_together(self, group: Sequence[_Piece]) -> list[Processed]:
        clock = _Stopwatch()
        admitted = [self._admit(piece) for piece in group]
        clock.lap("slots")
        readable = [
            (one.batch, piece.task, slots)
            for piece, (one, slots) in zip(group, admitted, strict=True)
            if one.batch.keys
        ]
        judged = iter(
            self._judge([one[:2] for one in readable], [one[2] for one in readable], clock) if readable else []
        )
        done = [
            self._emit(piece, one._replace(verdicts=next(judged)) if one.batch.keys else one)
            for piece, (one, _) in zip(group, admitted, strict=True)
        ]
        clock.lap("emit")
        return [done[0]._replace(stage_s=clock.laps), *done[1:]]

    def _admit(self, piece: _Piece) -> tuple[_JudgedPiece, Tensor]:
        """The readings that are to be judged, and the slots (N,) of their streams."""
        task, batch, rejects = piece.task, piece.batch, piece.rejects
        evicted, changed = 0, list[Event]()
        if piece.idle_before is not None:
            evicted, changed = self._forget_idle(piece, piece.idle_before)
        changed += self.tell_silence(task, piece.silent_by, piece.ends)
        slots = torch.empty(0, dtype=torch.int64)
        if batch.keys:
            slots = batch.slots(partial(task.slab.slots, limit=self.max_streams))
        if len(slots) and int(slots.min()) == NO_SLOT:
            out = (slots == NO_SLOT).numpy()
            detail = f"a new stream, but {self.max_streams} are remembered of this partition, which is its limit"
            rejects = with_refused_streams(rejects, piece.fetched, batch, out, detail)
            batch, slots = batch.part(np.flatnonzero(~out)), slots[~out]
        if len(slots) and int(batch.readings.offsets[0]) <= task.covered:
            fresh = (task.slab.applied[slots] < batch.readings.offsets).numpy()
            batch, slots = batch.part(np.flatnonzero(fresh)), slots[fresh]
        return _JudgedPiece(batch, rejects, None, evicted, changed), slots

    def tell_silence(self, task: PartitionTask, ticks: Ticks | None, ends: Sequence[StreamEnd]) -> list[Event]:
        """The events of the streams that are told as silent at the last of the ticks, and of those that records end.

        Their alarms are open from here on.
        """
        of_task = task.partition, self.digest
        events = [] if ticks is None else tell_silence(self.detector, task.slab, ticks, *of_task)
        events += tell_ended(self.detector, task.slab, ends, *of_task)
        task.open_alarms += sum(event.change == "opened" for event in events)
        return events

    def _forget_idle(self, piece: _Piece, before: int) -> tuple[int, list[Event]]:
        """How many streams without a reading since offset `before` there were, and the events of their open alarms."""
        task, offset, readings = piece.task, int(piece.fetched.offsets[0]), piece.batch.readings
        alarms = open_alarms(task.slab)
        forgotten = set(task.slab.evict_idle(before, offset))
        task.open_alarms = self.detector.count_alarms(task.slab.rows)
        time_ms = int(readings.times_ms[readings.offsets == offset].max())  # the clock ticks at this record
        return len(forgotten), [
            ended_event(one, FORGOTTEN, task.partition, offset, time_ms, self.digest)
            for one in alarms
            if one.key in forgotten
        ]

    def _judge(
        self, work: Sequence[tuple[ReadingBatch, PartitionTask]], slots: Sequence[Tensor], clock: "_Stopwatch"
    ) -> list[Verdicts]:
        """Judge the batches of one or more partitions in one call, as if their slabs were one behind the other."""
        begins = list(accumulate((task.slab.room for _, task in work), initial=0))
        waves = pack(torch.cat([own + begin for own, begin in zip(slots, begins, strict=False)]))
        shares = _shares(waves.slots.numpy(), begins)
        clock.lap("pack")
        readings = Readings(*map(torch.cat, zip(*(batch.readings for batch, _ in work), strict=True)))
        indices = np.concatenate([batch.indices for batch, _ in work])
        packed = torch.from_numpy(packed_places(readings.offsets.numpy(), indices))
        limits = self._limits(work, waves)
        pauses = _pauses_of([batch for batch, _ in work])
        with _rows_to_judge([task.slab for _, task in work], shares, waves) as (rows, of_rows):
            clock.lap("gather")
            verdicts = self.detector.observe_in_place(readings._replace(offsets=packed), of_rows, rows, limits, pauses)
            clock.lap("observe")
        last = torch.empty_like(waves.slots)  # of each stream, which of the readings
        for run in waves.runs:
            last[: run.readings.shape[1]] = run.readings[-1]
        applied = readings.offsets[last]
        ends = list(accumulate((len(batch.keys) for batch, _ in work), initial=0))
        for (batch, task), (own, streams), first in zip(work, shares, ends, strict=False):
            task.slab.note_judged(own, applied[streams], int(batch.readings.offsets[0]))
            labels = batch.labels
            latest = None if labels is None else [labels[n] for n in (last[streams] - first).tolist()]
            task.slab.note_labels(own, latest)
        parts = [verdicts.part(begin, end) for begin, end in pairwise(ends)]
        for (_, task), own, part in zip(work, slots, parts, strict=True):
            judged = part.fate.judged.numpy()
            task.slab.note_scores(own.numpy()[judged], part.score.numpy()[judged])
        clock.lap("scatter")
        return parts

    def _limits(self, work: Sequence[tuple[ReadingBatch, PartitionTask]], waves: Waves) -> Limits | None:
        """What the rules set of the streams of these waves; None: nothing, of none of them."""
        if self.sensors is None or not self.sensors.limits_any:
            return None
        keys = [key for batch, _ in work for key in batch.keys]
        return self.sensors.limits([keys[n] for n in waves.runs[0].readings[0].tolist()])

    def _emit(self, piece: _Piece, judged: _JudgedPiece) -> Processed:
        """Make events of what was found, and note in the task how far it has come."""
        fetched, task, (batch, rejects, verdicts, *_) = piece.fetched, piece.task, judged
        events = list(judged.changed)
        if verdicts is not None:
            features = self.detector.features
            told = features, self.digest, self.sensors
            events += [event(batch, verdicts, change, *told) for change in verdicts.transitions]
        task.next_offset = fetched.next_offset
        task.open_alarms += _opened(verdicts)
        anomalies = tuple(map(encode_event, events))
        dead_letters = tuple(dead_letter(fetched, reject) for reject in rejects)
        scores = () if self._scores is None or verdicts is None else self._scores.records(batch, verdicts)
        commit = Commit(fetched.partition, fetched.next_offset, anomalies, dead_letters, scores=scores)
        counts = {**_counted(len(fetched.keys), judged), "skipped": piece.batch.skipped}
        task.counts.update(counts)
        return Processed(commit, batch, verdicts, rejects, events, {}, counts, self.digest)


class Judge(NamedTuple):
    """What judges a partition: a checkpoint's pipeline, and what gives its rows their meaning."""

    pipeline: Pipeline
    meaning: Meaning

    @property
    def digest(self) -> str:
        """The checkpoint's."""
        return self.pipeline.digest


def _counted(records: int, one: _JudgedPiece) -> Mapping[str, int]:
    fate = one.verdicts.fate if one.verdicts else None
    late, duplicate = (int(fate.late.sum()), int(fate.duplicate.sum())) if fate else (0, 0)
    return {
        "records": records,
        "judged": len(one.batch.keys) - late - duplicate,
        "late": late,
        "duplicate": duplicate,
        "rejected": len(one.rejects),
        "evicted": one.evicted,
        **_excluded(one.batch),
    }


def _excluded(batch: ReadingBatch) -> Mapping[str, int]:
    """Values that count as missing, by reason, where there are any."""
    if batch.excluded is None:
        return {}
    counts = batch.excluded.sum(axis=0).tolist()
    return {str(reason): count for reason, count in zip(Excluded, counts, strict=True) if count}


def _parts(stretch: Stretch, before: Int64s) -> Iterator[Stretch]:
    """The stretch in parts of about AT_ONCE readings. before: (R,) readings before each record."""
    inner = np.flatnonzero(np.diff(before[stretch.begin : stretch.end] // AT_ONCE)) + stretch.begin + 1
    borders = [stretch.begin, *inner.tolist(), stretch.end]
    for begin, end in pairwise(borders):
        yield stretch._replace(begin=begin, end=end) if begin == stretch.begin else Stretch(begin, end)


def _groups(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """What is judged in one call: neighbours, as long as they are few readings and no two of one partition."""
    group: list[_Piece] = []
    readings = 0
    for one in pieces:
        if group and (readings + len(one.batch.keys) > TOGETHER or one.task is group[-1].task):
            yield group
            group, readings = [], 0
        group.append(one)
        readings += len(one.batch.keys)
    if group:
        yield group


class _Share(NamedTuple):
    """Which of the S streams of a call are those of one slab."""

    slots: Tensor  # int64, within the slab
    streams: Tensor  # int64, 0..S


def _shares(numbers: Int64s, begins: Sequence[int]) -> list[_Share]:
    """Of each slab. numbers: (S,) the streams' slots as if the slabs were one behind the other. begins: of each slab,
    and the last one's end.
    """
    which = np.searchsorted(begins, numbers, side="right") - 1
    order = np.argsort(which, kind="stable")
    borders = np.searchsorted(which[order], np.arange(len(begins))).tolist()
    slots, streams = torch.from_numpy((numbers - np.array(begins)[which])[order]), torch.from_numpy(order)
    return [_Share(slots[begin:end], streams[begin:end]) for begin, end in pairwise(borders)]


@contextmanager
def _rows_to_judge(slabs: Sequence[StateSlab], shares: Sequence[_Share], waves: Waves) -> Iterator[tuple[Rows, Waves]]:
    """Rows that hold those of the waves' streams and that judging changes, and the waves with slots among these.

    Of one slab they are its own, in place. Of several they are copies side by side, put back when all are judged.
    """
    if len(slabs) == 1:
        with slabs[0].judged_in_place() as rows:
            yield rows, waves
        return
    rows = Rows(*(column.new_empty((len(waves.slots), *column.shape[1:])) for column in slabs[0].rows))
    for slab, (slots, streams) in zip(slabs, shares, strict=True):
        copy_rows(RowsInPlace.of(slab.rows, slots), RowsInPlace.of(rows, streams))
    yield rows, waves._replace(slots=torch.arange(len(waves.slots)))
    for slab, (slots, streams) in zip(slabs, shares, strict=True):
        with slab.judged_in_place() as own:
            copy_rows(RowsInPlace.of(rows, streams), RowsInPlace.of(own, slots))


def _pauses_of(batches: Sequence[ReadingBatch]) -> Doubles:
    """As the detector takes them, of the readings of all batches."""
    if all(one.paused_until is None for one in batches):
        return NO_PAUSES
    none = (np.full(len(one.keys), NEVER) if one.paused_until is None else one.paused_until for one in batches)
    return np.concatenate(list(none))


def _opened(verdicts: Verdicts | None) -> int:
    """Alarms opened less those closed."""
    changes = [transition.change for transition in verdicts.transitions] if verdicts else []
    return changes.count(Change.OPENED) - changes.count(Change.RECOVERED) - changes.count(Change.LEVEL_SHIFT)


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = now - self._since
        self._since = now
