"""The log from outside the group, for commands that look at it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from service.errors import LogUnavailable, RefusedInput
from service.kafka.changelog_reader import ChangelogReader, Restoring
from service.kafka.client import (
    CLOSE_WITHIN_S,
    CONNECT_WITHIN_S,
    MAX_MESSAGE_BYTES,
    connecting,
    require_fast_checksums,
    silence_client_below_warning,
    translated,
)
from service.kafka.columns import columns_of, drained, fetch_columns
from service.kafka.transactional_ids import import_id
from service.kafka.transactions import drop, init_transactions, send, wait_for, wait_for_all
from service.log.port import Commit, Fetched, Partition, Polled, Source, Stored

SILENT_AFTER_S = 30.0  # of one who looks on: there is something to read, and nothing comes


class KafkaGrouplessLog:
    """The same log for who looks at it, or writes state to it, without being a worker.

    Joins no group, so that no member's partitions move, and fetches one partition at a time: that of the last `start`.
    Raises LogUnavailable or RefusedInput when it cannot start.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        changelog_topic: str | None,
        client: Mapping[str, object] | None = None,
        group: str | None = None,
    ) -> None:
        """changelog_topic: None for who has no business with state, and neither restores nor commits.

        group: whose committed offsets `inspect` reports; None: as if there were none.
        """
        require_fast_checksums()
        silence_client_below_warning()
        self._servers = bootstrap_servers
        self._changelog_topic = changelog_topic or ""
        self._client = client or {}
        self._group = group
        self._restoring: Restoring | None = None
        self._position = 0
        self._heard_at = time.monotonic()
        settings: dict[str, object] = {
            "bootstrap_servers": bootstrap_servers.split(","),
            "bootstrap_timeout_ms": CONNECT_WITHIN_S * 1000,
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            **self._client,
        }
        with connecting(bootstrap_servers, self._client):
            self._consumer: Any = KafkaConsumer(
                **settings,
                group_id=group,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                max_poll_records=20_000,
                fetch_max_wait_ms=50,
            )
        columnar = fetch_columns(self._consumer) is not None
        self._changelog: ChangelogReader | None = None
        if changelog_topic is not None:
            with connecting(bootstrap_servers, self._client):
                self._changelog = ChangelogReader(changelog_topic, settings, columnar)
            self.partitions(changelog_topic)

    def partitions(self, topic: str) -> int:
        """How many a topic has. Raises RefusedInput when it is not there."""
        with translated(f"looking for {topic} on {self._servers}"):
            found = self._consumer.partitions_for_topic(topic)
        if not found:
            raise RefusedInput(f"{self._servers}: found no topic {topic}")
        return len(found)

    def poll(self, timeout_s: float) -> Polled:
        """Raises LogUnavailable when nothing comes for long: ask only while there is something to come.

        A Fetched may hold no records, where the partition goes on behind control records.
        """
        with translated(f"polling {self._servers}"):
            polled = self._consumer.poll(timeout_ms=timeout_s * 1000)
            fetched = []
            for tp in self._consumer.assignment():
                columns = drained(polled.get(tp, [])) or columns_of([])
                position = self._consumer.position(tp, timeout_ms=1_000)
                if position != self._position:
                    fetched.append(Fetched(Partition(*tp), *columns[:4], position, position, columns.headers))
                self._position = position
        self._check_heard(bool(fetched))
        return Polled((), (), tuple(fetched))

    def inspect(self, partition: Partition) -> Source:
        tp = TopicPartition(*partition)
        count = self.partitions(partition.topic)
        wait_ms = CONNECT_WITHIN_S * 1000
        with translated(f"looking at {partition}"):
            begin = self._consumer.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
            end = self._consumer.end_offsets([tp], timeout_ms=wait_ms)[tp]
            committed = self._consumer.committed(tp, timeout_ms=wait_ms) if self._group else None
            topic_id = str(self._consumer._cluster.topic_id(partition.topic) or "")
        return Source(topic_id, count, begin, end, committed)

    def offset_at(self, partition: Partition, time_ms: int) -> int | None:
        """The first offset whose record has this timestamp or a later one; None: no record has."""
        tp = TopicPartition(*partition)
        with translated(f"looking at {partition}"):
            found = self._consumer.offsets_for_times({tp: time_ms}, timeout_ms=CONNECT_WITHIN_S * 1000)[tp]
        return None if found is None else int(found.offset)

    def restore(self, partition: Partition) -> Stored:
        if self._changelog is None:
            raise ValueError("this log was opened without a changelog")
        with translated(f"reading {self._changelog_topic} on {self._servers}"):
            if self._restoring is None or self._restoring.partition != partition:
                self._restoring = self._changelog.begin(partition)
                self._heard_at = time.monotonic()
            stored = self._changelog.read(self._restoring)
        self._check_heard(bool(stored.keys) or stored.read >= stored.size)
        if stored.read >= stored.size:
            self._restoring = None
        return stored

    def start(self, partition: Partition, offset: int | None) -> int:
        tp = TopicPartition(*partition)
        with translated(f"starting {partition}"):
            if offset is None:
                offset = int(self._consumer.beginning_offsets([tp], timeout_ms=CONNECT_WITHIN_S * 1000)[tp])
            self._consumer.assign([tp])
            self._consumer.seek(tp, offset)
        self._position, self._heard_at = offset, time.monotonic()
        return offset

    def position(self, partition: Partition) -> int:  # noqa: ARG002  (of the one that is being read)
        return self._position

    def commit(self, commits: Sequence[Commit]) -> None:
        """Pages and markers alone, in one transaction; the group's offsets stay where they are."""
        deadline = time.monotonic() + CONNECT_WITHIN_S
        transactional_id = import_id(self._group or "")
        with connecting(self._servers, self._client):
            producer: Any = KafkaProducer(
                bootstrap_servers=self._servers.split(","),
                bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
                transactional_id=transactional_id,
                transaction_timeout_ms=int(CONNECT_WITHIN_S * 1000),
                acks="all",
                compression_type="lz4",
                max_request_size=MAX_MESSAGE_BYTES,
                retry_backoff_ms=5,
                max_block_ms=CONNECT_WITHIN_S * 1000,
                metrics_enabled=False,
                **self._client,
            )
        try:
            with translated(f"a transaction on {self._servers}"):
                init_transactions(producer, transactional_id)
                producer.begin_transaction()
                records = [
                    (commit.partition.number, record)
                    for commit in commits
                    for record in (*commit.pages, commit.marker)
                    if record is not None
                ]
                sent = [send(producer, self._changelog_topic, *record) for record in records]
                wait_for_all(producer, sent, deadline)
                wait_for(producer, producer._transaction_manager.begin_commit(), deadline)
        finally:
            drop(producer)

    def close(self) -> None:
        if self._changelog is not None:
            self._changelog.close()
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)

    def _check_heard(self, heard: bool) -> None:
        now_s = time.monotonic()
        if heard:
            self._heard_at = now_s
        elif now_s - self._heard_at > SILENT_AFTER_S:
            raise LogUnavailable(f"{self._servers}: no answer for {SILENT_AFTER_S:.0f} s")
