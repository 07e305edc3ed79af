"""A new checkpoint takes over a partition without a pause: it is warmed up beside the one that judges.

The candidate gets a task of its own. It is restored by the code that restores a partition after a restart with another
checkpoint: the streams are those of the changelog, and each is warmed up with its last readings before the offset X
that the changelog has come to. Then it judges what has come since, and publishes none of it. When it has come as far as
the task that runs, at offset Y, it takes that one's place in one transaction: all of its pages, a marker, the events of
open alarms, and a notice with X and Y. A crash before that transaction leaves everything as it was, and the next worker
warms a candidate up again; after it, the pages are there.
"""

import time
from collections import deque
from typing import Protocol

import numpy as np
import torch

from models.detection.detector import Readings
from service.errors import TelltaleError
from service.input.anomaly import PROMOTED
from service.input.events import encode_event
from service.input.notices import ModelPromoted, model_promoted
from service.input.reading_batch import ReadingBatch
from service.live.observer import Promotion
from service.log.port import Commit, Fetched, Log, Partition
from service.pipeline import Pipeline, Processed
from service.recovery import Recovery, RecoveryRules
from service.state.ended_alarms import ended_event, found_event
from service.state.open_alarms import open_alarms
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask, Stage

NEAR_RECORDS = 20_000  # so few behind, the rest is read at once
LEVEL_WITHIN_S = 0.5  # in which it is read, or else in the next round


class Promotions(Protocol):
    """Which checkpoint is to judge which topic, as people last said. The worker's thread asks."""

    def wanted(self, topic: str) -> Promotion | None:
        """What is to judge it, loaded and verified; None: what the worker was made with."""

    def find(self, topic: str, digest: str) -> Promotion | None:
        """One that goes on where it wrote the marker; None: it is not known any more, or cannot be used."""

    def open_log(self) -> Log:
        """The same log from outside the group, on which a candidate reads."""

    def refused(self, partition: Partition, promotion: Promotion, error: TelltaleError) -> None:
        """A checkpoint cannot take over a partition; it is not tried again."""


class Candidate:
    """A checkpoint on its way to take over one partition."""

    def __init__(
        self,
        log: Log,
        promotion: Promotion,
        group: str,
        rules: RecoveryRules,
        running: PartitionTask,
        idle_s: float | None,
    ) -> None:
        """log: its own, from outside the group. running: the task that it takes over from."""
        self.promotion, self.partition = promotion, running.partition
        pipeline, meaning = promotion.judge
        slab = StateSlab(pipeline.detector.rows_for)
        clock, pauses = EventClock(idle_s), running.pauses
        self.task = PartitionTask(running.partition, slab, clock, meaning=meaning, pauses=pauses)
        self._log, self._pipeline = log, pipeline
        self._recovery = Recovery(
            log, pipeline, group, *meaning, rules, self.task, begin_at=running.next_offset, beside=True
        )
        self._ahead: deque[Fetched] = deque()
        self.warm_until: int | None = None  # X; None: it is not that far

    def step(self, until: int) -> bool:
        """Go on a little; whether it has judged all before `until`. Raises LostState and LogUnavailable."""
        if self._is_warm():
            return self._follow(until)
        if self.task.stage is not Stage.RESTORING:
            for fetched in self._log.poll(0.0).fetched:
                rest = self._recovery.take(fetched)
                if rest is not None:
                    self._ahead.append(rest)
        self._recovery.step()
        if self._is_warm():
            self.warm_until = self.task.next_offset
        return False

    def _is_warm(self) -> bool:
        return self.task.stage is Stage.RUNNING

    def close(self) -> None:
        self._log.close()

    def _follow(self, until: int) -> bool:
        """Judge what came since, as the task that runs has, and publish none of it."""
        position = self._log.position(self.partition)
        ends_s = time.monotonic() + (LEVEL_WITHIN_S if until - position <= NEAR_RECORDS else 0.0)
        while not self._judge_before(until):
            if self._log.position(self.partition) >= until:
                return True
            left_s = ends_s - time.monotonic()
            self._ahead.extend(self._log.poll(max(0.0, min(0.05, left_s))).fetched)
            if left_s <= 0:
                return self._judge_before(until)
        return True

    def _judge_before(self, until: int) -> bool:
        """Of what has been read; whether the first record that is left comes at or after `until`."""
        while self._ahead:
            first = self._ahead.popleft()
            records = int(np.searchsorted(first.offsets, until))
            if records:
                self._pipeline.process(first.part(0, records), self.task)
            if records < len(first.keys):
                self._ahead.appendleft(first.part(records, len(first.keys)))
                return True
        return False

    def take_over(self, running: PartitionTask, before: Pipeline) -> Processed:
        """What is to be published when it takes the place of `running`, which `before` judges, at its offset.

        An alarm that both have open is carried over. Of the others, those of `running` are closed, as `promoted`, and
        those that the candidate brings are opened. From here on its task is the partition's, with all pages to write.
        """
        task, partition = self.task, self.partition
        offset = running.next_offset or 0
        time_ms = running.clock.latest_ms or 0
        held = {(one.key, one.opened_offset): one for one in open_alarms(running.slab)}
        brought = {(one.key, one.opened_offset): one for one in open_alarms(task.slab)}
        digest = self.promotion.judge.digest
        ended = [held[key] for key in held if key not in brought]
        found = [brought[key] for key in brought if key not in held]
        events = [
            *(ended_event(one, PROMOTED, partition, offset, time_ms, before.digest) for one in ended),
            *(found_event(one, partition, offset, time_ms, digest) for one in found),
        ]
        task.next_offset = task.checkpoint_from = offset
        for number in range(task.slab.pages):
            task.slab.mark_membership_changed(number)
        warm_until = offset if self.warm_until is None else self.warm_until
        notice = model_promoted(ModelPromoted(digest, before.digest, *partition, offset, warm_until))
        notices = (*self._recovery.notices, notice)
        commit = Commit(partition, offset, (*notices, *map(encode_event, events)))
        nothing = _no_readings(self.task, len(before.detector.features))
        return Processed(commit, nothing, None, [], events, {}, NOTHING, before.digest)


NOTHING = dict.fromkeys(("records", "judged", "late", "duplicate", "rejected", "evicted", "skipped"), 0)


def _no_readings(task: PartitionTask, features: int) -> ReadingBatch:
    none = torch.empty(0, dtype=torch.int64)
    readings = Readings(none, none, torch.empty(0, features, dtype=torch.float64))
    empty = np.empty(0, np.int64)
    return ReadingBatch(task.partition, [], readings, empty, empty)
