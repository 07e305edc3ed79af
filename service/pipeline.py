"""THE HOT PATH: what was fetched goes in, what is to be committed comes out.

decode -> slots -> waves -> gather -> observe -> scatter -> commit. After decoding there are only columns: nothing here
is done a message at a time, except for what is rare (rejects, alarms).
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch

from models.alarm import Change
from models.detection import Detector, Verdicts
from models.packing import pack
from service.log import Commit, Fetched, Record
from service.task import PartitionTask
from service.wire import Decoder, Event, ReadingBatch, Reject, dead_letter, encode_event, event


class Processed(NamedTuple):
    """One batch, judged: what to commit, and what to tell of it."""

    commit: Commit
    batch: ReadingBatch
    verdicts: Verdicts | None  # None: not one reading could be read
    rejects: list[Reject]
    events: list[Event]
    stage_s: Mapping[str, float]  # seconds each stage took


class Pipeline:
    """Judges batches with one checkpoint. Has no state of its own: that is in the task."""

    def __init__(self, detector: Detector, digest: str, max_future_ms: int) -> None:
        """digest: the checkpoint's. max_future_ms: how far a reading may be ahead of its own record's timestamp."""
        self.detector = detector
        self.digest = digest
        self._decoder = Decoder(detector.features, max_future_ms)

    def process(self, fetched: Fetched, task: PartitionTask) -> Processed:
        """Judge what was fetched of the task's partition; the task's slab is moved on to after it."""
        clock = _Stopwatch()
        batch, rejects = self._decoder.decode(fetched)
        clock.lap("decode")
        verdicts = self._judge(batch, task, clock) if batch.keys else None
        events = self._tell(batch, verdicts) if verdicts else []
        dead_letters = tuple(dead_letter(fetched, reject) for reject in rejects)
        task.next_offset, task.end_offset = fetched.next_offset, fetched.end_offset
        task.open_alarms += _opened(verdicts)
        anomalies: tuple[Record, ...] = tuple(map(encode_event, events))
        clock.lap("tell")
        commit = Commit(fetched.partition, fetched.next_offset, anomalies, dead_letters)
        return Processed(commit, batch, verdicts, rejects, events, clock.laps)

    def _judge(self, batch: ReadingBatch, task: PartitionTask, clock: "_Stopwatch") -> Verdicts:
        readings = batch.readings
        slots = task.slab.slots(batch.keys)
        clock.lap("slots")
        waves = pack(slots)
        clock.lap("pack")
        rows = task.slab.gather(waves.slots)
        clock.lap("gather")
        verdicts, after = self.detector.observe(readings, waves, rows)
        clock.lap("observe")
        applied = torch.empty_like(waves.slots)
        for run in waves.runs:
            applied[: run.readings.shape[1]] = readings.offsets[run.readings[-1]]
        task.slab.scatter(waves.slots, after, applied, int(readings.offsets[0]))
        latest = int(readings.times_ms.max())
        task.event_time_ms = latest if task.event_time_ms is None else max(task.event_time_ms, latest)
        clock.lap("scatter")
        return verdicts

    def _tell(self, batch: ReadingBatch, verdicts: Verdicts) -> list[Event]:
        features = self.detector.features
        return [event(batch, verdicts, transition, features, self.digest) for transition in verdicts.transitions]


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
