"""Reading a partition's changelog up to where it ended when reading began."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog
from kafka import KafkaConsumer, TopicPartition

from service.kafka.client import CLOSE_WITHIN_S, CONNECT_WITHIN_S, MAX_MESSAGE_BYTES
from service.kafka.columns import PollBudget, drained, fetch_columns
from service.kafka.record_batches import CorruptBatch
from service.kafka.record_windows import Bounds
from service.log.port import Partition, Stored, Unreadable

logger = structlog.get_logger("telltale.kafka")

KEY_WITHIN_S = 2.0
LARGEST_KEY = 1024 * 1024  # of a page: what a record may have beside its value
POLL_SLICE_S = 0.1  # a poll returns this soon after a rebalance, though no records have come


class Restoring(NamedTuple):
    """A changelog partition that is being read, from offset begin to end."""

    partition: Partition
    begin: int
    end: int


class ChangelogReader:
    """Reads partitions of the changelog, one after another, as far as they were written when that began."""

    def __init__(self, topic: str, settings: Mapping[str, object], columnar: bool) -> None:
        self._topic = topic
        self.stuck_s = 0.0  # seconds of reading without getting on
        settings = {**settings, "group_id": None, "max_partition_fetch_bytes": 8 * 1024 * 1024}
        self._consumer: Any = KafkaConsumer(
            **settings, isolation_level="read_committed", max_poll_records=100_000, fetch_max_wait_ms=50
        )
        # What is written but not yet committed counts too: a transaction of the last owner may still be committed.
        self._watcher: Any = KafkaConsumer(**settings, isolation_level="read_uncommitted")
        if columnar:
            fetch_columns(self._consumer, PollBudget(bounds=Bounds(MAX_MESSAGE_BYTES + LARGEST_KEY)))

    @property
    def cluster(self) -> Any:
        """What the client knows of topics; of one that looks at this topic alone, so that others may be added."""
        return self._watcher._cluster

    def begin(self, partition: Partition) -> Restoring:
        tp = TopicPartition(self._topic, partition.number)
        wait_ms = CONNECT_WITHIN_S * 1000
        end = self._watcher.end_offsets([tp], timeout_ms=wait_ms)[tp]
        begin = self._watcher.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
        self._consumer.assign([tp])
        self._consumer.seek(tp, begin)
        return Restoring(partition, begin, end)

    def read(self, restoring: Restoring) -> Stored:
        tp = TopicPartition(self._topic, restoring.partition.number)
        size = restoring.end - restoring.begin
        if size <= 0:
            return Stored([], [], 0, 0)
        began_s, before = time.monotonic(), self._consumer.position(tp, timeout_ms=1_000)
        columns = drained(self._consumer.poll(timeout_ms=POLL_SLICE_S * 1000).get(tp, []))
        position = self._consumer.position(tp, timeout_ms=1_000)
        self.stuck_s = self.stuck_s + time.monotonic() - began_s if position == before else 0.0
        keys, values = (columns.keys, columns.values) if columns else ([], [])
        for value in values:
            if isinstance(value, Unreadable):
                raise CorruptBatch(f"{tp.topic}-{tp.partition}, {value.detail}")
        if position >= restoring.end:
            self._consumer.unsubscribe()
        return Stored(keys, values, min(size, position - restoring.begin), size)

    def key_at(self, partition: Partition, offset: int) -> bytes | None:
        """The key of a record of the partition's changelog, committed or not; None: it has not come in time."""
        tp = TopicPartition(self._topic, partition.number)
        self._watcher.assign([tp])
        self._watcher.seek(tp, offset)
        try:
            records = self._watcher.poll(timeout_ms=KEY_WITHIN_S * 1000, max_records=1).get(tp, [])
        finally:
            self._watcher.unsubscribe()
        return records[0].key if records and records[0].offset == offset else None

    def close(self) -> None:
        for consumer in (self._consumer, self._watcher):
            consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 500)
