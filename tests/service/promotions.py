"""A worker whose checkpoint is promoted while it runs, and the oracle for what it publishes."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import torch

from models.detection.detector import Detector
from service.errors import TelltaleError
from service.input.anomaly import PROMOTED
from service.input.events import encode_event
from service.input.notices import MODEL_PROMOTED, ModelPromoted, PromotionNotice, model_promoted
from service.input.wire import encode_reading
from service.live.observer import Observer, Promotion
from service.live.status import CheckpointStatus
from service.log.memory_log import Fault, MemoryLog, Topics
from service.log.port import Log, Partition, Record
from service.pipeline import Judge, Pipeline
from service.recovery import RecoveryRules
from service.state.changelog import Layout, Meaning
from service.state.ended_alarms import ended_event, found_event
from service.state.open_alarms import open_alarms
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask
from service.state.writer import StateWriter
from service.worker.worker import Worker
from tests.data import QUICK, some_forecaster
from tests.service.onlooker import Onlooker

FEATURES = ("f0", "f1")
FUTURE_MS = 86_400_000
TOPIC = "plant"
STREAMS, PRIME, ROUND = 4, 60, 50
HOLDS_LONGER = replace(QUICK.alarm, close_after=2 * QUICK.alarm.close_after)
MODELS = {
    "aa" * 32: Detector.cold(some_forecaster(2), QUICK),
    "bb" * 32: Detector.cold(some_forecaster(2, hidden=32, seed=1), replace(QUICK, alarm=HOLDS_LONGER)),
}
A, B = MODELS


def sent(partition: int, readings: int) -> list[Record]:
    """Four streams in turn; every hundred readings each has a jump that lasts for a while, one at a time."""
    random = np.random.default_rng(partition)
    records = []
    for n in range(readings):
        stream, place = n % STREAMS, n // STREAMS
        jumps = place >= 100 and (place + 20 * stream) % 100 < 30
        values = random.normal(size=2) + (1_000 if jumps else 0)
        time_ms = 1_700_000_000_000 + 60_000 * place
        value = b"{" if n % 50 == 7 else encode_reading(FEATURES, time_ms, values.tolist())
        records.append(Record(b"stream-%d" % stream, value, (), time_ms))
    return records


def pipeline_of(digest: str, models: Mapping[str, Detector] = MODELS) -> Pipeline:
    return Pipeline(models[digest], digest, FUTURE_MS)


class Said:
    """What people said last: the port, held in memory."""

    def __init__(self, topics: Topics, digest: str = A) -> None:
        self._topics = topics
        self._promotions = {digest: _promotion(digest) for digest in MODELS}
        self.digest = digest
        self.refusals: list[str] = []

    def wanted(self, topic: str) -> Promotion:
        return self._promotions[self.digest]

    def find(self, topic: str, digest: str) -> Promotion | None:
        return self._promotions.get(digest)

    def open_log(self) -> Log:
        return Onlooker(self._topics)

    def refused(self, partition: Partition, promotion: Promotion, error: TelltaleError) -> None:
        self.refusals.append(f"{partition} {promotion.judge.digest[:2]}: {error}")


def _promotion(digest: str) -> Promotion:
    meaning = Meaning(Layout.of(digest, MODELS[digest].rows_for([])), "numerics")
    return Promotion(Judge(pipeline_of(digest), meaning), CheckpointStatus(digest[:2], digest, FEATURES), "")


class Service:
    """A worker that can be told of another checkpoint."""

    def __init__(
        self,
        topics: Topics,
        *script: Fault,
        said: Said | None = None,
        observers: Sequence[Observer] = (),
        at_once: int = ROUND,
    ) -> None:
        self.topics, self.said = topics, said or Said(topics)
        layout = Layout.of(A, MODELS[A].rows_for([]))
        self.writer = StateWriter("group", layout, "numerics", "writer", 10.0)
        self.worker = Worker(
            MemoryLog(topics, script, max_poll_records=at_once),
            pipeline_of(A),
            self.writer,
            RecoveryRules(False, PRIME),
            threading.Event(),
            observers=observers,
            promotions=self.said,
        )

    def run(self, until: int) -> "Service":
        """Until every partition is judged up to an offset, or a little further."""
        while any(self.topics.committed.get(one, 0) < until for one in self.topics.partitions):
            self.worker.turn(0.0)
        return self

    def run_and_promote(self, digest: str, at: int, until: int) -> "Service":
        """The same, and people promote a checkpoint when every partition has come to `at`."""
        self.run(at)
        self.said.digest = digest
        return self.run(until)

    def settle(self) -> "Service":
        """Until what people said is done, as far as can be told from outside."""
        for _ in range(200):
            self.worker.turn(0.0)
        return self


def promoted(topics: Topics, partition: Partition) -> list[ModelPromoted]:
    """What was reported of promotions, in order."""
    values = [record.value or b"" for record in topics.anomalies[partition]]
    kept = [value for value in values if MODEL_PROMOTED.encode() in value]
    return [msgspec.json.decode(value, type=PromotionNotice).data for value in kept]


class Oracle:
    """What is published of a partition, by its notices alone: no changelog, no second log, other steps."""

    def __init__(self, topics: Topics, models: Mapping[str, Detector] = MODELS) -> None:
        """models: by digest, the one that judges at the beginning first."""
        self._topics, self._models = topics, models

    def expected(self, partition: Partition) -> list[Record]:
        return self.finished(partition)[0]

    def finished(self, partition: Partition) -> tuple[list[Record], PartitionTask]:
        """The same, and what its streams remember at the end."""
        (_, end), (digest, *_), begin = self._topics.bounds(partition), self._models, 0
        task, out = self.task(partition, digest), list[Record]()
        for one in promoted(self._topics, partition):
            out += self._judged(task, digest, begin, one.offset)
            assert (one.before, one.topic, one.partition) == (digest, *partition)
            warm = self._warm(task, one)
            out.append(model_promoted(one))
            out += _of_open_alarms(task, warm, one)
            task, digest, begin = warm, one.checkpoint, one.offset
        return out + self._judged(task, digest, begin, end), task

    def task(self, partition: Partition, digest: str) -> PartitionTask:
        """One that has seen nothing yet."""
        return PartitionTask(partition, StateSlab(self._models[digest].rows_for), EventClock(None))

    def _judged(self, task: PartitionTask, digest: str, begin: int, end: int) -> list[Record]:
        published, pipeline = list[Record](), pipeline_of(digest, self._models)
        while begin < end:
            fetched = self._topics.fetch(task.partition, begin, min(37, end - begin))
            assert fetched is not None
            published += [record for one in pipeline.process(fetched, task) for record in one.commit.anomalies]
            begin = fetched.next_offset
        return published

    def _warm(self, running: PartitionTask, one: ModelPromoted) -> PartitionTask:
        """The last readings of each stream before an offset, then all up to where it takes over."""
        task, pipeline = self.task(running.partition, one.checkpoint), pipeline_of(one.checkpoint, self._models)
        fetched = self._topics.fetch(running.partition, 0, one.warm_until) if one.warm_until else None
        if fetched is not None:
            batch = pipeline.decode(fetched)
            places: dict[bytes, list[int]] = {}
            for n, key in enumerate(batch.keys):
                places.setdefault(key, []).append(n)
            last = np.array(sorted(n for mine in places.values() for n in mine[-PRIME:]))
            mine = batch.part(last)
            slots = task.slab.slots(mine.keys)
            pipeline.replay_readings(mine, slots, task)
            task.slab.end_alarms(torch.tensor(sorted(set(slots.tolist()))), one.warm_until)
            readings = batch.readings
            times_ms, offsets = readings.times_ms.numpy(), readings.offsets.numpy()
            task.clock.cut(fetched.offsets, offsets, times_ms, lambda ticks, _: ticks.offsets[:0])
        self._judged(task, one.checkpoint, one.warm_until, one.offset)
        return task


def expected(topics: Topics, partition: Partition) -> list[Record]:
    return Oracle(topics).expected(partition)


def _of_open_alarms(running: PartitionTask, warm: PartitionTask, one: ModelPromoted) -> list[Record]:
    held = {(alarm.key, alarm.opened_offset): alarm for alarm in open_alarms(running.slab)}
    brought = {(alarm.key, alarm.opened_offset): alarm for alarm in open_alarms(warm.slab)}
    where = (running.partition, one.offset, running.clock.latest_ms or 0)
    ended = [ended_event(held[at], PROMOTED, *where, one.before) for at in held if at not in brought]
    found = [found_event(brought[at], *where, one.checkpoint) for at in brought if at not in held]
    return [encode_event(event) for event in (*ended, *found)]
