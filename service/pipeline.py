"""THE HOT PATH: what was fetched goes in, what is to be committed comes out.

decode -> slots -> waves -> gather -> observe -> scatter -> commit. After decoding there are only columns: nothing here
is done a message at a time, except for what is rare (rejects, alarms).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from models.alarm import Change
from models.detection import Detector, Readings, Verdicts
from models.packing import pack
from models.rows import Rows
from service.log import Commit, Fetched
from service.task import PartitionTask
from service.wire import Decoder, Event, ReadingBatch, Reject, dead_letter, encode_event, event

# A call costs 1.4 ms however few readings it is given; with many it gains nothing by more, and the net loses its cache.
TOGETHER = 4_096


class Processed(NamedTuple):
    """One batch, judged: what to commit, and what to tell of it."""

    commit: Commit
    batch: ReadingBatch
    verdicts: Verdicts | None  # None: not one reading could be read
    rejects: list[Reject]
    events: list[Event]
    stage_s: Mapping[str, float]  # seconds each stage took, of all batches judged together, told with the first


class Pipeline:
    """Judges batches with one checkpoint. Has no state of its own: that is in the task."""

    def __init__(self, detector: Detector, digest: str, max_future_ms: int) -> None:
        """digest: the checkpoint's. max_future_ms: how far a reading may be ahead of its own record's timestamp."""
        self.detector = detector
        self.digest = digest
        self._decoder = Decoder(detector.features, max_future_ms)

    def process_all(self, work: Sequence[tuple[Fetched, PartitionTask]]) -> list[Processed]:
        """Judge what was fetched of several partitions, small batches together; each has a task of its own."""
        return [one for group in _groups(work) for one in self._process_together(group)]

    def process(self, fetched: Fetched, task: PartitionTask) -> Processed:
        """Judge what was fetched of the task's partition; the task's slab is moved on to after it."""
        return self._process_together([(fetched, task)])[0]

    def _process_together(self, group: Sequence[tuple[Fetched, PartitionTask]]) -> list[Processed]:
        clock = _Stopwatch()
        decoded = [self._decoder.decode(fetched) for fetched, _ in group]
        clock.lap("decode")
        readable = [(batch, task) for (batch, _), (_, task) in zip(decoded, group, strict=True) if batch.keys]
        judged = iter(self._judge(readable, clock) if readable else [])
        done = [
            self._tell(fetched, task, batch, rejects, next(judged) if batch.keys else None)
            for (fetched, task), (batch, rejects) in zip(group, decoded, strict=True)
        ]
        clock.lap("tell")
        return [done[0]._replace(stage_s=clock.laps), *done[1:]]

    def _judge(self, work: Sequence[tuple[ReadingBatch, PartitionTask]], clock: "_Stopwatch") -> list[Verdicts]:
        """Judge the batches of one or more partitions in one call, as if their slabs were one behind the other."""
        slots = [task.slab.slots(batch.keys) for batch, task in work]
        clock.lap("slots")
        begins = list(accumulate((task.slab.room for _, task in work), initial=0))
        waves = pack(torch.cat([own + begin for own, begin in zip(slots, begins, strict=False)]))
        clock.lap("pack")
        places = [
            ((waves.slots >= begin) & (waves.slots < end)).nonzero().squeeze(1) for begin, end in pairwise(begins)
        ]
        own_slots = [waves.slots[place] - begin for place, begin in zip(places, begins, strict=False)]
        rows = _join([task.slab.gather(own) for (_, task), own in zip(work, own_slots, strict=True)], places)
        clock.lap("gather")
        readings = Readings(*map(torch.cat, zip(*(batch.readings for batch, _ in work), strict=True)))
        verdicts, after = self.detector.observe(readings, waves, rows)
        clock.lap("observe")
        applied = torch.empty_like(waves.slots)
        for run in waves.runs:
            applied[: run.readings.shape[1]] = readings.offsets[run.readings[-1]]
        for (batch, task), own, place in zip(work, own_slots, places, strict=True):
            mine = after if len(work) == 1 else after.take(place)
            task.slab.scatter(own, mine, applied[place], int(batch.readings.offsets[0]))
            latest = int(batch.readings.times_ms.max())
            task.event_time_ms = latest if task.event_time_ms is None else max(task.event_time_ms, latest)
        clock.lap("scatter")
        ends = list(accumulate((len(batch.keys) for batch, _ in work), initial=0))
        return [verdicts.part(begin, end) for begin, end in pairwise(ends)]

    def _tell(
        self,
        fetched: Fetched,
        task: PartitionTask,
        batch: ReadingBatch,
        rejects: list[Reject],
        verdicts: Verdicts | None,
    ) -> Processed:
        """Put into words what was found, and note in the task how far it has come."""
        events: list[Event] = []
        if verdicts is not None:
            features = self.detector.features
            events = [event(batch, verdicts, change, features, self.digest) for change in verdicts.transitions]
        task.next_offset, task.end_offset = fetched.next_offset, fetched.end_offset
        task.open_alarms += _opened(verdicts)
        anomalies = tuple(map(encode_event, events))
        dead_letters = tuple(dead_letter(fetched, reject) for reject in rejects)
        commit = Commit(fetched.partition, fetched.next_offset, anomalies, dead_letters)
        return Processed(commit, batch, verdicts, rejects, events, {})


def _groups(work: Sequence[tuple[Fetched, PartitionTask]]) -> Iterator[list[tuple[Fetched, PartitionTask]]]:
    """What is judged in one call: neighbours, as long as they are few readings."""
    group: list[tuple[Fetched, PartitionTask]] = []
    for one in work:
        if group and sum(len(fetched.keys) for fetched, _ in (*group, one)) > TOGETHER:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _join(rows: Sequence[Rows], places: Sequence[Tensor]) -> Rows:
    """The rows of several slabs as those of one; places: where each slab's are to be."""
    if len(rows) == 1:
        return rows[0]
    stacked = Rows(*map(torch.cat, zip(*rows, strict=True)))
    joined = Rows(*map(torch.empty_like, stacked))
    joined.put(torch.cat(list(places)), stacked)
    return joined


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
