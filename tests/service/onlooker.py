"""A service in memory whose state is looked at from outside, and the oracle for what is found there."""

from collections.abc import Callable, Sequence

from torch import Tensor

from models.detection.detector import Detector
from models.detection.rows import Rows
from models.detection.sensor_rules import SensorRules
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading
from service.inspect.groupless_log import Search
from service.log.memory_log import MemoryLog, Topics
from service.log.port import Commit, Partition, Polled, Record, Source, Stored
from service.pipeline import Pipeline
from service.recovery import Recovery, RecoveryRules
from service.state.changelog import Layout
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter
from tests.data import QUICK, Batch, faulty, some_forecaster

FEATURES = ("f0", "f1")
TOPIC, GROUP, DIGEST, NUMERICS = "plant", "service", "0123456789abcdef" * 4, "arithmetic"
PARTITIONS = tuple(Partition(TOPIC, number) for number in range(2))
P0, P1 = PARTITIONS
MAX_FUTURE_MS = 86_400_000
BATCH = 50  # records the service judges at once
STEP = 7  # and the oracle
READINGS = 2_000  # of each partition
MIDDLE = 1_000  # about half of the readings
STREAMS = 5  # in each partition


def key(stream: int) -> StreamKey:
    return StreamKey(b"stream-%d" % stream)


WANTED = [key(0), key(3)]


def sent(history: Batch) -> list[Record]:
    """Every reading of a history as a record; one in fifty cannot be read."""
    streams, times, values = history.streams.tolist(), history.readings.times_ms.tolist(), history.readings.values
    return [
        Record(key(stream), b"{" if n % 50 == 7 else encode_reading(FEATURES, time_ms, row))
        for n, (stream, time_ms, row) in enumerate(zip(streams, times, values.tolist(), strict=True))
    ]


def plant(readings: int = READINGS) -> Topics:
    """Two partitions with five streams each, of which each has everything that can go wrong."""
    topics = Topics({TOPIC: len(PARTITIONS)})
    for partition in PARTITIONS:
        topics.append(partition, sent(faulty(2, seed=partition.number, streams=STREAMS, readings=readings)))
    return topics


class Service:
    """Judges a partition and writes its state, until it is left standing: its pages lag behind its marker."""

    def __init__(
        self,
        topics: Topics,
        partition: Partition,
        detector: Detector,
        digest: str = DIGEST,
        idle_s: float | None = None,
        flush_interval_s: float = 10.0,
        prime_readings: int = 0,
        sensors: SensorRules | None = None,
    ) -> None:
        """Batches are a second apart."""
        self.seconds = 0.0
        self.pipeline = Pipeline(detector, digest, MAX_FUTURE_MS, 1_000, sensors=sensors)
        self.layout = Layout.of(digest, detector.rows_for([]))
        self.writer = StateWriter(GROUP, self.layout, NUMERICS, "writer", flush_interval_s, clock=lambda: self.seconds)
        self.log = MemoryLog(topics, max_poll_records=BATCH)
        self.log.poll(0)  # assigns
        self.task = PartitionTask(partition, StateSlab(detector.rows_for), EventClock(idle_s))
        rules = RecoveryRules(reset=False, prime_readings=prime_readings)
        recovery = Recovery(self.log, self.pipeline, GROUP, self.layout, NUMERICS, rules, self.task)
        while self.task.stage is not Stage.RUNNING:
            recovery.step()
            for fetched in self.log.poll(0).fetched:
                recovery.take(fetched)
        self.log.start(partition, self.task.next_offset)

    def run(self, until: int | None = None) -> "Service":
        """Up to an offset or a batch further; all there is if not given."""
        while self.task.next_offset is None or until is None or self.task.next_offset < until:
            fetched = self.log.poll(0).fetched
            if not fetched:
                return self
            self.seconds += 1
            commits = [one.commit for one in self.pipeline.process(fetched[0], self.task)]
            commits[-1] = self.writer.complete(commits[-1], self.task, self.writer.due(self.task))
            self.log.commit(commits)
        return self


class Onlooker:
    """`Topics` as they are looked at, and written to, by one who is no worker."""

    def __init__(self, topics: Topics, group_commits: bool = False, poll_records: int = 500) -> None:
        self.topics = topics
        self._poll_records = poll_records
        self._committed = group_commits
        self._restored: dict[Partition, int] = {}
        self._at: tuple[Partition, int] | None = None

    def partitions(self, topic: str) -> int:
        return sum(partition.topic == topic for partition in self.topics.partitions)

    def poll(self, timeout_s: float) -> Polled:
        assert self._at is not None
        partition, offset = self._at
        fetched = self.topics.fetch(partition, offset, self._poll_records)
        assert fetched is not None, "there must be something to come"
        self._at = (partition, fetched.next_offset)
        return Polled((), (), (fetched,))

    def inspect(self, partition: Partition) -> Source:
        committed = self.topics.committed.get(partition) if self._committed else None
        topic_id = self.topics.topic_ids[partition.topic]
        return Source(topic_id, self.partitions(partition.topic), *self.topics.bounds(partition), committed)

    def restore(self, partition: Partition) -> Stored:
        records = self.topics.changelog[partition]
        begin = self._restored.get(partition, 0)
        end = min(begin + 7, len(records))
        self._restored[partition] = 0 if end == len(records) else end
        some = records[begin:end]
        return Stored([r.key for r in some], [r.value for r in some], end, len(records))

    def start(self, partition: Partition, offset: int | None) -> int:
        at = self.topics.bounds(partition)[0] if offset is None else offset
        self._at = (partition, at)
        return at

    def position(self, partition: Partition) -> int:
        return self._at[1] if self._at is not None else 0

    def commit(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self.topics.changelog[commit.partition] += commit.pages
            if commit.marker is not None:
                self.topics.changelog[commit.partition].append(commit.marker)

    def close(self) -> None:
        pass


def search(partition: int | None = None, first: int = 0, group: str = GROUP) -> Search:
    """first: the partition that every key is sent to."""
    return Search(group, [TOPIC], partition, lambda _key, _count: first)


def undisturbed(
    topics: Topics, partition: Partition, detector: Detector, until: int, idle_s: float | None = None
) -> StateSlab:
    """The memory of a partition judged from its beginning up to an offset, in other steps, with no changelog."""
    pipeline = Pipeline(detector, DIGEST, MAX_FUTURE_MS)
    task = PartitionTask(partition, StateSlab(detector.rows_for), EventClock(idle_s))
    fetched = topics.fetch(partition, 0, until)
    assert fetched is not None
    assert int(fetched.offsets[-1]) == until - 1
    for begin in range(0, until, STEP):
        pipeline.process(fetched.part(begin, min(begin + STEP, until)), task)
    return task.slab


def row_of(slab: StateSlab, stream: StreamKey) -> tuple[Rows, int]:
    slots = slab.find([stream])
    assert int(slots[0]) >= 0, stream
    return slab.gather(slots), int(slab.applied[slots][0])


def same_bits(found: Rows, expected: Rows) -> bool:
    return all(bits(one) == bits(other) for one, other in zip(found, expected, strict=True))


def bits(column: Tensor) -> bytes:
    return column.contiguous().numpy().tobytes()


def flipped(record: Record, place: int) -> Record:
    value = bytearray(record.value or b"")
    value[place] ^= 1
    return record._replace(value=bytes(value))


def replace_newest(topics: Topics, partition: Partition, kind: str, change: Callable[[Record], Record]) -> None:
    """Change the newest record of a kind (page, roster, marker) that is of this group."""
    records = topics.changelog[partition]
    at = max(n for n, record in enumerate(records) if f"/{kind}/".encode() in (record.key or b""))
    records[at] = change(records[at])


def other_model() -> tuple[Detector, str]:
    return Detector.cold(some_forecaster(2, seed=5), QUICK), "f" * 64
