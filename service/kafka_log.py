"""The log on a Kafka cluster, through kafka-python; no other module knows that client.

A worker is one consumer in a group and one transactional producer, and a second consumer for the changelog. A commit
is one transaction: outputs, pages, markers, then offsets with the group generation under which the records were
fetched. Whatever fails in between, the producer is thrown away and every partition starts anew; there is no undo.

What is private to kafka-python 3.0 and used here all the same, each with its reason beside it: `_ColumnarRecords`
(fetching columns), `_EndTransactionOnce` (a lost commit is not retried), `_wait` (a commit has a time limit),
`_drop` (closing does not wait), `_check_reachable` (a broker that never answers is noticed), the coordinator's
`_join_task` in `poll` (the client may forget a join that one poll has begun and the next should end).
"""

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import kafka
import numpy as np
import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.partitioner import murmur2
from kafka.producer.transaction_manager import EndTxnHandler
from kafka.record import MemoryRecords, util
from kafka.record.default_records import DefaultRecordBatchBuilder

from service import failpoints
from service.errors import LogUnavailable, RefusedInput, RefusedSetting, TaskMigrated, TelltaleError
from service.log import Commit, Fetched, Partition, Polled, Record, Source, Stored
from service.record_batches import BatchReader, Columns, CorruptBatch, all_of_format_2

log = structlog.get_logger()

CONNECT_WITHIN_S = 10.0
RECONNECT_WITHIN_S = 5.0  # a poll after a failed commit takes at most this much longer
CLOSE_WITHIN_S = 1.0
POLL_SLICE_S = 0.1  # a poll returns this soon after a rebalance, though no records have come
FAILED_COMMITS_IN_A_ROW = 5  # more is not another worker's doing: end the process
LEAST_POLL_RECORDS = 100  # so few can be written within any time limit
PRODUCE_FLUSH_EVERY = 20_000  # the client's queue has no bound of its own
METADATA_MAX_AGE_MS = 15_000  # so soon new partitions are seen, and topics that were deleted
SILENT_AFTER_S = 30.0  # of one who looks on: there is something to read, and nothing comes
STUCK_AFTER_S = 1.0  # a transaction takes milliseconds: one that is open for so long is that of a worker that is gone
GONE_AFTER_S = 10.0  # a topic that cannot be seen for so long is gone; a broker that restarts knows none for a while
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a page of 128 rows with 4 layers of 512 hidden units takes 2 MB
# Compacted, in segments small enough that the cleaner comes round: it leaves the last one alone.
CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": str(3_600_000),
    "min.cleanable.dirty.ratio": "0.5",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}


class TopicSpec(NamedTuple):
    """A topic to be made, or one that was found. replication -1: the cluster's default."""

    partitions: int
    replication: int = -1
    configs: Mapping[str, str] = {}


class _Membership(Protocol):
    """What the client calls ConsumerGroupMetadata."""

    generation_id: int
    member_id: str


class _Assigned(NamedTuple):
    partitions: frozenset[Partition]
    membership: _Membership


class _Lost(NamedTuple):
    """The group has thrown this worker out: what it owned may be another's by now."""


class KafkaLog:
    """One worker of a consumer group. Raises LogUnavailable, RefusedInput or RefusedSetting when it cannot start."""

    def __init__(
        self,
        topics: Sequence[str],
        group: str,
        bootstrap_servers: str,
        anomalies_topic: str,
        dead_letters_topic: str,
        changelog_topic: str,
        *,
        transactional_id: str,
        client: Mapping[str, object] | None = None,
        group_instance_id: str | None = None,
        auto_offset_reset: str = "earliest",
        max_poll_records: int = 20_000,
        session_timeout_ms: int = 10_000,
        heartbeat_interval_ms: int = 500,
        max_poll_interval_ms: int = 45_000,
        request_timeout_ms: int = 10_000,
        transaction_timeout_ms: int = 10_000,
        fetch_max_bytes: int = 16 * 1024 * 1024,
        max_partition_fetch_bytes: int = 1024 * 1024,
        unreachable_after_s: float = 60.0,
        columnar: bool = True,
    ) -> None:
        """client: settings that every client takes (security, client_id).

        transactional_id: this worker's own; a restart with the same one ends what the dead worker left open.
        group_instance_id: with it a restarted worker gets its partitions back at once, but one that is stopped keeps
        them until session_timeout_ms is over. A worker that does not poll for max_poll_interval_ms is thrown out.
        columnar=False takes the client's own way of decoding.
        """
        if transaction_timeout_ms > session_timeout_ms:
            # A dead worker's partitions would wait for its transaction, not for its session.
            raise RefusedSetting(
                f"transaction_timeout_ms is {transaction_timeout_ms}, expected at most session_timeout_ms"
                f" {session_timeout_ms}"
            )
        _require_fast_checksums()
        _silence_client_below_warning()
        self._topics = tuple(topics)
        self._servers = bootstrap_servers
        self._group = group
        self._client = client
        self._anomalies_topic = anomalies_topic
        self._dead_letters_topic = dead_letters_topic
        self._changelog_topic = changelog_topic
        self._auto_offset_reset = auto_offset_reset
        self._max_poll_records = self._at_once = max_poll_records
        self._unreachable_after_s = unreachable_after_s
        self._transaction_timeout_s = transaction_timeout_ms / 1000
        self._events: deque[_Assigned | _Lost] = deque()
        self._owned: frozenset[Partition] = frozenset()
        self._fresh: frozenset[Partition] = frozenset()  # to be reported as starting anew
        self._started: set[Partition] = set()  # the others are paused until `start`
        self._first_offsets: dict[Partition, int] = {}  # where partitions without a committed offset began
        self._topic_ids: dict[str, str] = {}
        self._seen_at: dict[str, float] = {}
        self._restoring: _Restoring | None = None
        self._membership: _Membership | None = None
        self._failed_commits = 0
        self._closed = False
        common: dict[str, object] = {
            "bootstrap_servers": bootstrap_servers.split(","),
            "request_timeout_ms": request_timeout_ms,
            "reconnect_backoff_max_ms": 1_000,  # the client's 30 s make a 6 s restart of the broker an outage of 25
            **(client or {}),
        }
        self._producer_settings: dict[str, object] = {
            **common,
            "transactional_id": transactional_id,
            "allow_auto_create_topics": False,
            "transaction_timeout_ms": transaction_timeout_ms,
            "acks": "all",
            "compression_type": "lz4",
            "batch_size": 1024 * 1024,
            "max_request_size": MAX_MESSAGE_BYTES,
            "retry_backoff_ms": 5,  # p95 of a small transaction: 15 ms, 113 with the client's 100
            "delivery_timeout_ms": request_timeout_ms,
            "max_block_ms": RECONNECT_WITHIN_S * 1000,
            "metrics_enabled": False,
        }
        check_topics(bootstrap_servers, topics, (anomalies_topic, dead_letters_topic), client, changelog_topic)
        reading: dict[str, object] = {
            **common,
            "bootstrap_timeout_ms": CONNECT_WITHIN_S * 1000,
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "fetch_max_bytes": fetch_max_bytes,
            "metrics_enabled": False,
        }
        self._producer: Any = None
        with _connecting(bootstrap_servers):
            self._transactional_producer(CONNECT_WITHIN_S)
            self._consumer: Any = KafkaConsumer(
                **reading,
                group_id=group,
                group_instance_id=group_instance_id,
                auto_offset_reset=auto_offset_reset,
                isolation_level="read_committed",  # also what makes the client wait for pending offsets
                partition_assignment_strategy=[RangePartitionAssignor],
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=heartbeat_interval_ms,
                max_poll_interval_ms=max_poll_interval_ms,
                max_poll_records=max_poll_records,
                max_partition_fetch_bytes=max_partition_fetch_bytes,
            )
        self._ends = _fetch_columns(self._consumer) if columnar else None
        with _connecting(bootstrap_servers):
            self._changelog = _ChangelogReader(changelog_topic, reading, columnar=self._ends is not None)
        self._heard_at = time.monotonic()
        self._consumer.subscribe(topics, listener=_Rebalances(self._consumer, self._events, self._started))
        for topic in topics:  # else the group's leader may assign before it knows the partitions, and then again
            self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> Polled:
        deadline = time.monotonic() + timeout_s
        with _translated(f"polling {self._servers}"):
            drained: dict[TopicPartition, list[Any]] = {}
            left_s = timeout_s
            while not drained and not self._events and not self._fresh and left_s >= 0:
                if self._consumer._coordinator._join_task is not None:
                    self._consumer._coordinator.request_rejoin()
                try:
                    drained = self._consumer.poll(min(left_s, POLL_SLICE_S) * 1000, max_records=self._at_once)
                except kafka_errors.RetriableError as error:
                    log.warning("a poll was interrupted", reason=_said(error))
                    break
                left_s = deadline - time.monotonic()
            assigned, revoked = self._rebalanced()
            fetched = tuple(
                self._fetched(Partition(*tp), parts)
                for tp, parts in drained.items()
                if Partition(*tp) in self._owned and Partition(*tp) in self._started
            )
        if drained or assigned or revoked:
            self._heard_at = time.monotonic()
        else:
            self._check_reachable()
        self._check_same_topics()
        return Polled(assigned, revoked, fetched)

    def inspect(self, partition: Partition) -> Source:
        tp = TopicPartition(*partition)
        with self._starting_anew(f"looking at {partition}"):
            wait_ms = CONNECT_WITHIN_S * 1000
            begin = self._consumer.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
            end = self._consumer.end_offsets([tp], timeout_ms=wait_ms)[tp]
            committed = self._consumer.committed(tp, timeout_ms=wait_ms)
            count = len(self._consumer.partitions_for_topic(partition.topic) or ())
            topic_id = str(self._consumer._cluster.topic_id(partition.topic) or "")
        self._topic_ids[partition.topic] = topic_id
        return Source(topic_id, count, begin, end, committed)

    def restore(self, partition: Partition) -> Stored:
        """One partition's changelog is read at a time; those of the others wait."""
        with self._starting_anew(f"restoring {partition}"):
            if self._restoring is None:
                self._transactional_producer()  # ends what a failed commit left open
                self._restoring = self._changelog.begin(partition)
            if self._restoring.partition != partition:
                return Stored([], [], 0, 1)
            stored = self._changelog.read(self._restoring)
            if self._changelog.stuck_s > STUCK_AFTER_S:
                self._end_transactions_of_the_gone(partition)
        if stored.read >= stored.size:
            self._restoring = None
        return stored

    def _end_transactions_of_the_gone(self, partition: Partition) -> None:
        """Do not wait for the time limit of a transaction that the last owner of this partition left open.

        Taking over a transactional id ends what is open under it. Should its worker live, it is fenced, and starts
        anew: this partition is not its any more.
        """
        try:
            with _admin(self._servers, self._client) as admin:
                for name in _open_transactions(admin, TopicPartition(self._changelog_topic, partition.number)):
                    if name.startswith(f"{self._group}-") and name != self._producer_settings["transactional_id"]:
                        log.warning("ending the open transaction of a worker that is gone", transactional_id=name)
                        settings = {**self._producer_settings, "transactional_id": name}
                        producer = KafkaProducer(**settings, bootstrap_timeout_ms=RECONNECT_WITHIN_S * 1000)
                        try:
                            producer.init_transactions()
                        finally:
                            _drop(producer)
        except (TelltaleError, kafka_errors.KafkaError) as error:
            log.warning("waiting for the end of an open transaction", partition=str(partition), reason=_said(error))
        self._changelog.stuck_s = 0.0

    def start(self, partition: Partition, offset: int | None) -> int:
        tp = TopicPartition(*partition)
        with self._starting_anew(f"starting {partition}"):
            if offset is None:
                offset = self._first_offsets.get(partition)
            if offset is None:
                ask = (
                    self._consumer.end_offsets
                    if self._auto_offset_reset == "latest"
                    else self._consumer.beginning_offsets
                )
                offset = int(ask([tp], timeout_ms=CONNECT_WITHIN_S * 1000)[tp])
            self._first_offsets.setdefault(partition, offset)
            if partition not in self._owned or tp not in self._consumer.assignment():
                raise TaskMigrated(f"{partition}: not assigned to this worker any more")
            self._started.add(partition)  # first: an assignment that comes just now must not pause it again
            self._consumer.seek(tp, offset)
            self._consumer.resume(tp)
        return offset

    def position(self, partition: Partition) -> int:
        with self._starting_anew(f"reading {partition}"):
            return int(self._consumer.position(TopicPartition(*partition), timeout_ms=1_000))

    def commit(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        try:
            with self._starting_anew(f"a transaction on {self._servers}"):
                foreign = [str(commit.partition) for commit in commits if commit.partition not in self._owned]
                if foreign or self._membership is None:
                    raise TaskMigrated(f"{', '.join(foreign)}: not assigned to this worker")
                self._write(commits, self._membership)
        except TaskMigrated as error:
            self._failed_commits += 1
            self._at_once = max(LEAST_POLL_RECORDS, self._at_once // 4)  # it may have been too much for the time limit
            if self._failed_commits >= FAILED_COMMITS_IN_A_ROW:
                raise LogUnavailable(f"{self._failed_commits} commits in a row failed, the last: {error}") from error
            raise
        else:
            self._failed_commits = 0
            self._at_once = min(self._max_poll_records, 2 * self._at_once)

    @contextmanager
    def _starting_anew(self, what: str) -> Iterator[None]:
        """Whatever is interrupted here, every partition starts anew after it."""
        try:
            with _translated(what, interrupted=TaskMigrated):
                yield
        except TaskMigrated:
            self._fresh = self._owned
            self._halt(self._owned)
            raise

    def _halt(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing of these until they are started again."""
        for partition in partitions:
            self._started.discard(partition)
            if self._restoring is not None and self._restoring.partition == partition:
                self._restoring = None
            tp = TopicPartition(*partition)
            if tp in self._consumer.assignment():
                self._consumer.pause(tp)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._drop_producer()
        self._changelog.close()
        try:
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)
        except kafka_errors.KafkaError as error:
            log.warning("did not leave the consumer group", reason=str(error))

    def _write(self, commits: Sequence[Commit], membership: _Membership) -> None:
        """The transaction. Sends, flush, every future checked, offsets, commit; nothing after the offsets."""
        deadline = time.monotonic() + self._transaction_timeout_s
        try:
            producer = self._transactional_producer()
            failpoints.reach("before_begin")
            producer.begin_transaction()
            failpoints.reach("after_begin")
            sent = []
            for commit in commits:
                number = commit.partition.number
                sent += [_send(producer, self._anomalies_topic, number, record) for record in commit.anomalies]
                sent += [_send(producer, self._dead_letters_topic, number, record) for record in commit.dead_letters]
            failpoints.reach("after_anomalies")
            pages = [(commit.partition.number, page) for commit in commits for page in commit.pages]
            sent += [_send(producer, self._changelog_topic, *page) for page in pages[: len(pages) // 2]]
            failpoints.reach("after_pages_half")
            sent += [_send(producer, self._changelog_topic, *page) for page in pages[len(pages) // 2 :]]
            failpoints.reach("after_pages")
            markers = [(commit.partition.number, commit.marker) for commit in commits if commit.marker is not None]
            sent += [_send(producer, self._changelog_topic, *marker) for marker in markers]
            failpoints.reach("after_marker")
            producer.flush(timeout=max(0.0, deadline - time.monotonic()))
            for future in sent:
                future.get(timeout=0)
            offsets = {TopicPartition(*c.partition): OffsetAndMetadata(c.next_offset, "", -1) for c in commits}
            manager = producer._transaction_manager
            _wait(producer, manager.send_offsets_to_transaction(offsets, membership), deadline)
            failpoints.reach("after_offsets")
            failpoints.reach("during_commit")
            _wait(producer, manager.begin_commit(), deadline)
        except BaseException:
            self._drop_producer()
            raise

    def _transactional_producer(self, connect_within_s: float | None = None) -> Any:
        """The producer; after a failed commit a new one, which ends whatever the old one left open."""
        if self._producer is None:
            within_s = RECONNECT_WITHIN_S if connect_within_s is None else connect_within_s
            producer = KafkaProducer(**self._producer_settings, bootstrap_timeout_ms=within_s * 1000)
            try:
                _end_transactions_once(producer)
                producer.init_transactions()
                for topic in (self._anomalies_topic, self._dead_letters_topic, self._changelog_topic):
                    producer.partitions_for(topic)  # else the first send waits for it, beyond the time limit
            except BaseException:
                _drop(producer)
                raise
            self._producer = producer
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            _drop(producer)

    def _rebalanced(self) -> tuple[tuple[Partition, ...], tuple[Partition, ...]]:
        """What was assigned and revoked since the last poll.

        A partition kept over a rebalance is in neither: the client keeps its position, and nobody else can have had
        it if the new generation follows ours directly. If one lies between, another worker may have: start anew.
        """
        known, owned, fresh = self._owned, self._owned, self._fresh
        while self._events:
            event = self._events.popleft()
            if isinstance(event, _Lost):
                owned = fresh = frozenset()
                continue
            kept = event.partitions & owned
            if not _follows(self._membership, event.membership):
                kept = frozenset()
            fresh = (fresh & kept) | (event.partitions - kept)
            owned = event.partitions
            self._membership = event.membership
        revoked, assigned = (known - owned) | (known & fresh), owned & fresh
        for partition in known - owned:
            self._first_offsets.pop(partition, None)
        self._owned, self._fresh = owned, frozenset()
        self._halt({*revoked, *assigned})
        return tuple(sorted(assigned)), tuple(sorted(revoked))

    def _fetched(self, partition: Partition, parts: list[Any]) -> Fetched:
        tp = TopicPartition(*partition)
        columns = _drained(parts) or _columns([])
        if all(isinstance(part, _Chunk) for part in parts):
            next_offset = max(part.next_offset for part in parts)
        else:
            next_offset = self._consumer.position(tp, timeout_ms=1_000)
        end_offset = self._consumer.highwater(tp) if self._ends is None else self._ends.get(tp)
        return Fetched(partition, *columns, next_offset, max(next_offset, end_offset or 0))

    def _check_reachable(self) -> None:
        """Raise when neither records, nor a rebalance, nor a heartbeat's answer has come for long."""
        heard_at = max(self._heard_at, self._consumer._coordinator.heartbeat.last_receive)
        silent_s = time.monotonic() - heard_at
        if silent_s > self._unreachable_after_s:
            raise LogUnavailable(f"{self._servers}: no answer for {silent_s:.0f} s")

    def _check_same_topics(self) -> None:
        """Raise when an input topic is gone, or another one has taken its name: its offsets would mean nothing."""
        now_s = time.monotonic()
        cluster = self._consumer._cluster
        for topic in self._topics:
            found, known = str(cluster.topic_id(topic) or ""), self._topic_ids.get(topic, "")
            if found and known and found != known:
                raise LogUnavailable(f"{self._servers}: topic {topic} was deleted and made anew while it was read")
            if cluster.partitions_for_topic(topic):
                self._seen_at[topic] = now_s
            elif now_s - self._seen_at.get(topic, now_s) > GONE_AFTER_S:
                raise LogUnavailable(f"{self._servers}: topic {topic} is gone")


class _Restoring(NamedTuple):
    """A changelog partition that is being read, from offset begin to end."""

    partition: Partition
    begin: int
    end: int


class _ChangelogReader:
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
            _fetch_columns(self._consumer)

    def begin(self, partition: Partition) -> _Restoring:
        tp = TopicPartition(self._topic, partition.number)
        wait_ms = CONNECT_WITHIN_S * 1000
        end = self._watcher.end_offsets([tp], timeout_ms=wait_ms)[tp]
        begin = self._watcher.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
        self._consumer.assign([tp])
        self._consumer.seek(tp, begin)
        return _Restoring(partition, begin, end)

    def read(self, restoring: _Restoring) -> Stored:
        tp = TopicPartition(self._topic, restoring.partition.number)
        size = restoring.end - restoring.begin
        if size <= 0:
            return Stored([], [], 0, 0)
        began_s, before = time.monotonic(), self._consumer.position(tp, timeout_ms=1_000)
        columns = _drained(self._consumer.poll(timeout_ms=POLL_SLICE_S * 1000).get(tp, []))
        position = self._consumer.position(tp, timeout_ms=1_000)
        self.stuck_s = self.stuck_s + time.monotonic() - began_s if position == before else 0.0
        keys, values = (columns.keys, columns.values) if columns else ([], [])
        if position >= restoring.end:
            self._consumer.unsubscribe()
        return Stored(keys, values, min(size, position - restoring.begin), size)

    def close(self) -> None:
        for consumer in (self._consumer, self._watcher):
            consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 500)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only queues: it runs on the client's I/O thread, where work would stop the heartbeats and errors are lost."""

    def __init__(self, consumer: Any, events: deque[_Assigned | _Lost], started: set[Partition]) -> None:
        self._consumer = consumer
        self._events = events
        self._started = started

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The eager protocol says this of everything before each rebalance; what counts is what is assigned next."""

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self._events.append(_Lost())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        # Before anything is fetched of them: where a partition begins is known only once it is restored.
        self._consumer.pause(*(tp for tp in assigned if Partition(*tp) not in self._started))
        # Remembered now, because what the client answers later may be a generation that poll() has not told of yet,
        # or none at all, with which the broker would not fence a commit.
        self._events.append(_Assigned(frozenset(Partition(*tp) for tp in assigned), self._consumer.group_metadata()))


def _follows(old: _Membership | None, new: _Membership) -> bool:
    return old is not None and old.member_id == new.member_id and new.generation_id == old.generation_id + 1


# --- columns -------------------------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    columns: Columns
    next_offset: int


class _Taken:
    """What the fetcher takes for the list of records: as long as one, but holding a single chunk."""

    def __init__(self, chunk: _Chunk) -> None:
        self._chunk = chunk

    def __len__(self) -> int:
        return len(self._chunk.columns.offsets)

    def __iter__(self) -> Iterator[_Chunk]:
        return iter((self._chunk,))


class _ColumnarRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The client's own holder of one partition's fetched bytes, with its decoder replaced."""

    def __init__(self, fetch_offset: int, tp: TopicPartition, records: Any, **settings: Any) -> None:
        super().__init__(fetch_offset, tp, records, **settings)
        self._data = records._buffer
        self._reader: BatchReader | None = None

    def take(self, n: int | None = None) -> _Taken:
        try:
            if self._reader is None:
                aborted = [(a.first_offset, a.producer_id) for a in self.aborted_transactions]
                self._reader = BatchReader(self._data, self.fetch_offset, aborted, _decompress)
            columns = self._reader.take(n)
        except CorruptBatch as error:
            raise CorruptBatch(f"{self.topic_partition.topic}-{self.topic_partition.partition}, {error}") from error
        self.next_fetch_offset = self._reader.next_offset
        self.leader_epoch = self._reader.leader_epoch
        self.bytes_read = len(self._data)
        self.records_read += len(columns.offsets)
        if self._reader.exhausted:
            self.drain()
        return _Taken(_Chunk(columns, self.next_fetch_offset))


CODECS: Mapping[int, Callable[[bytes], bytes]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


def _decompress(codec: int, data: memoryview) -> bytes:
    if codec not in CODECS:
        raise CorruptBatch(f"a batch with codec {codec}, expected one of 0 to {max(CODECS)}")
    return bytes(CODECS[codec](bytes(data)))


def _partition_records(fetch_offset: int, tp: TopicPartition, records: Any, **settings: Any) -> Any:
    columnar = all_of_format_2(records._buffer)
    return (_ColumnarRecords if columnar else Fetcher.PartitionRecords)(fetch_offset, tp, records, **settings)


def _fetch_columns(consumer: Any) -> dict[TopicPartition, int] | None:
    """Let the consumer fetch columns, and note how far its partitions could be read (the last stable offset).

    None, with a warning, where this version of the client is not made as expected: it then decodes by itself.
    """
    try:
        fetcher = consumer._fetcher
        parse = fetcher._parse_fetched_data
        if fetcher.PartitionRecords is not Fetcher.PartitionRecords or not _decodes_a_sample(fetcher):
            raise AttributeError("a sample was not decoded to what was written")
    except Exception as error:  # whatever a changed client raises, there is another way
        log.warning("records are decoded one by one", client=f"kafka-python {kafka.__version__}", reason=repr(error))
        return None
    ends: dict[TopicPartition, int] = {}

    def parse_and_note(completed: Any) -> Any:
        data = completed.partition_data
        if data.error_code == kafka_errors.OffsetOutOfRangeError.errno:
            log.warning(
                "records were deleted before they were read",
                partition=str(Partition(*completed.topic_partition)),
                offset=completed.fetched_offset,
            )
        elif data.error_code == 0:
            stable = data.last_stable_offset
            ends[completed.topic_partition] = stable if stable >= 0 else data.high_watermark
        return parse(completed)

    fetcher.PartitionRecords = _partition_records
    fetcher._parse_fetched_data = parse_and_note
    return ends


def _decodes_a_sample(fetcher: Any) -> bool:
    """Two records, through the same arguments with which the fetcher makes its holders of records."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1024)
    rows: list[tuple[bytes | None, bytes | None, int]] = [(b"k", b'{"value":1}', 7), (None, None, 9)]
    for delta, (key, value, time_ms) in enumerate(rows):
        builder.append(delta, time_ms, key, value, [])
    part = _partition_records(
        0,
        TopicPartition("sample", 0),
        MemoryRecords(bytes(builder.build())),
        key_deserializer=fetcher.config["key_deserializer"],
        value_deserializer=fetcher.config["value_deserializer"],
        check_crcs=fetcher.config["check_crcs"],
        isolation_level=fetcher._isolation_level,
        aborted_transactions=[],
        metric_aggregator=None,
        on_drain=lambda _: None,
    )
    taken: list[Any] = []
    taken.extend(part.take(10))
    ((keys, values, offsets, times_ms), next_offset) = taken[0]
    found = list(zip(keys, values, times_ms.tolist(), strict=True))
    return found == rows and offsets.tolist() == [0, 1] and next_offset == part.next_fetch_offset == 2 and not part


def _columns(records: list[Any]) -> Columns:
    return Columns(
        [record.key for record in records],
        [record.value for record in records],
        np.array([record.offset for record in records], dtype=np.int64),
        np.array([record.timestamp for record in records], dtype=np.int64),
    )


def _drained(parts: list[Any]) -> Columns | None:
    """What a poll returned of one partition, in order of the offsets.

    Where we do not decode, without the hook or for batches of an older format, the client does.
    """
    found = [part.columns for part in parts if isinstance(part, _Chunk)]
    records = [part for part in parts if not isinstance(part, _Chunk)]
    found += [_columns(records)] if records else []
    found.sort(key=lambda columns: int(columns.offsets[0]))
    return _joined(found) if len(found) > 1 else found[0] if found else None


def _joined(parts: list[Columns]) -> Columns:
    return Columns(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.times_ms for part in parts]),
    )


# --- transactions --------------------------------------------------------------------------------------------------


class _EndTransactionOnce(EndTxnHandler):  # type: ignore[misc]
    """Ends a transaction without asking twice.

    The client repeats the request over a new connection when the first is lost. The lost one may still arrive, and
    then ends the next transaction half-way (reproduced 4 of 4 times). Here it is an error: a new producer follows,
    whose epoch makes the broker refuse what comes late.
    """

    def on_complete(self, correlation_id: int, response_or_exc: object) -> None:
        if isinstance(response_or_exc, Exception):
            self.transaction_manager.clear_in_flight_transactional_request_correlation_id()
            self.fatal_error(
                kafka_errors.KafkaConnectionError(
                    f"no answer to the end of the transaction, its outcome is unknown: {response_or_exc}"
                )
            )
        else:
            super().on_complete(correlation_id, response_or_exc)


def _end_transactions_once(producer: Any) -> None:
    manager = producer._transaction_manager
    if not callable(getattr(manager, "_begin_completing_transaction", None)):
        raise LogUnavailable(f"kafka-python {kafka.__version__} commits in a way not known here, expected 3.0")

    def begin_completing(committed: bool) -> Any:
        if manager._new_partitions_in_transaction:
            manager._enqueue_request(manager._add_partitions_to_transaction_handler())
        handler = _EndTransactionOnce(manager, committed)
        manager._enqueue_request(handler)
        return handler.result

    manager._begin_completing_transaction = begin_completing


def _open_transactions(admin: Any, tp: TopicPartition) -> list[str]:
    """The transactional ids under which something is written to a partition that is not committed yet."""
    producers = admin.describe_producers([tp])[tp].active_producers
    starts = {one.producer_id: one.current_transaction_start_offset for one in producers}
    ids = [number for number, start in starts.items() if start is not None and start >= 0]
    found = admin.list_transactions(producer_id_filters=ids) if ids else {}
    return sorted({listing.transactional_id for listings in found.values() for listing in listings})


def _wait(producer: Any, result: Any, deadline: float) -> None:
    """Wait for a step of the transaction, but not for ever, as the client's public methods do."""
    producer._sender.wakeup()
    if not result.wait(timeout_ms=max(0.0, 1000 * (deadline - time.monotonic()))):
        raise kafka_errors.KafkaTimeoutError("the transaction took longer than its time limit")


def _drop(producer: Any) -> None:
    """Close without waiting for anything that is under way: a broker that hangs must not hang us."""
    try:
        producer.close(timeout=0)
    except kafka_errors.KafkaError:
        producer._sender.force_close()
        producer._closed = True
    producer._sender.join(CLOSE_WITHIN_S / 2)


def _send(producer: Any, topic: str, partition: int, record: Record) -> Any:
    # The client refuses a record without key and value: such a dead letter gets an empty value.
    value = b"" if record.key is None and record.value is None else record.value
    return producer.send(topic, value, record.key, list(record.headers), partition, record.time_ms)


# --- errors --------------------------------------------------------------------------------------------------------

# What the client raises, by what the worker does about it; the first match counts. `None`: a lost connection or a
# time limit, which ends a worker that starts but in a commit only means that its outcome is unknown.
ERRORS: tuple[tuple[tuple[type[Exception], ...], type[TelltaleError] | None, str], ...] = (
    ((kafka_errors.FencedInstanceIdError,), LogUnavailable, "another worker has this group_instance_id"),
    (
        (
            kafka_errors.CommitFailedError,
            kafka_errors.IllegalGenerationError,
            kafka_errors.UnknownMemberIdError,
            kafka_errors.RebalanceInProgressError,
        ),
        TaskMigrated,
        "the group has moved on",
    ),
    (
        (
            kafka_errors.ProducerFencedError,
            kafka_errors.InvalidProducerEpochError,
            kafka_errors.InvalidTxnStateError,
            kafka_errors.InvalidProducerIdMappingError,
            kafka_errors.OutOfOrderSequenceNumberError,
            kafka_errors.UnknownProducerIdError,
            kafka_errors.TransactionAbortedError,
            kafka_errors.IllegalStateError,  # the client has noticed it, and is making a new epoch
        ),
        TaskMigrated,
        "the transaction was ended by another",
    ),
    ((kafka_errors.SaslAuthenticationFailedError,), LogUnavailable, "authentication failed"),
    ((kafka_errors.UnsupportedSaslMechanismError,), LogUnavailable, "authentication failed"),
    ((kafka_errors.AuthorizationError,), LogUnavailable, "not allowed"),
    ((kafka_errors.MessageSizeTooLargeError,), LogUnavailable, "a record is too large"),
    ((kafka_errors.CorruptRecordError, CorruptBatch), LogUnavailable, "corrupt records"),
    ((kafka_errors.KafkaConfigurationError,), RefusedSetting, "a client setting is wrong"),
    ((kafka_errors.RetriableError,), None, "no answer"),
    ((kafka_errors.KafkaError,), LogUnavailable, "refused"),
    ((ValueError,), LogUnavailable, "refused by the client"),
)


@contextmanager
def _translated(where: str, interrupted: type[TelltaleError] = LogUnavailable) -> Iterator[None]:
    """The client's exceptions as ours. interrupted: what a lost connection or an over-long wait is."""
    try:
        yield
    except TelltaleError:
        raise
    except Exception as error:
        for kinds, ours, meaning in ERRORS:
            if isinstance(error, kinds):
                raise (ours or interrupted)(f"{where}: {meaning} ({_said(error)})") from error
        raise


@contextmanager
def _connecting(bootstrap_servers: str) -> Iterator[None]:
    """Say which servers could not be reached, and why: the client raises only that it could not."""
    complaints = _Complaints()
    client = logging.getLogger("kafka.net")
    client.addHandler(complaints)
    client.propagate = False  # a line for every attempt would hide the one that says why
    try:
        with _translated(f"connecting to {bootstrap_servers}"):
            try:
                yield
            except kafka_errors.KafkaTimeoutError as error:
                why = f": {complaints.last}" if complaints.last else ""
                raise LogUnavailable(
                    f"could not connect to {bootstrap_servers} within {CONNECT_WITHIN_S:.0f} s{why}"
                ) from error
    finally:
        client.removeHandler(complaints)
        client.propagate = True


class _Complaints(logging.Handler):
    """Keeps why the last connection failed; at these levels the client writes no secrets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "failed: " in message and "Bootstrap failed" not in message:
            self.last = message.split("failed: ", 1)[1].split(" (backoff")[0]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _require_fast_checksums() -> None:
    if util.crc32c_c is None:
        raise LogUnavailable(
            "kafka-python computes checksums in Python, four times slower than all the rest: found no module crc32c,"
            " expected the one that `pip install crc32c` brings"
        )


def _silence_client_below_warning() -> None:
    """Whatever the log level is: below WARNING the client writes passwords."""
    names = [name for name in logging.root.manager.loggerDict if name == "kafka" or name.startswith("kafka.")]
    for name in names:
        logging.getLogger(name).addFilter(_is_warning)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # it warns of every pause of this process
    parent = logging.getLogger("kafka")
    parent.setLevel(max(parent.level, logging.WARNING))  # for those that are not there yet


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


# --- topics, and writing readings ----------------------------------------------------------------------------------


def produce(
    bootstrap_servers: str,
    topic: str,
    records: Iterable[tuple[Record, int | None]],
    client: Mapping[str, object] | None = None,
) -> int:
    """Append records, to the partition given or else by the key's hash; return how many, once all are written.

    Records are taken as fast as they can be sent: a generator that waits sets the rate.
    """
    _require_fast_checksums()
    _silence_client_below_warning()
    with _connecting(bootstrap_servers):
        producer: Any = KafkaProducer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            compression_type="lz4",
            linger_ms=20,
            allow_auto_create_topics=False,
            batch_size=256 * 1024,
            max_request_size=MAX_MESSAGE_BYTES,
            metrics_enabled=False,
            **(client or {}),
        )
    failures: list[Exception] = []
    count = 0
    try:
        with _translated(f"writing to {topic} on {bootstrap_servers}"):
            for count, (record, partition) in enumerate(records, 1):
                producer.send(
                    topic, record.value, record.key, list(record.headers), partition, record.time_ms
                ).add_errback(failures.append)
                if count % PRODUCE_FLUSH_EVERY == 0 or failures:
                    producer.flush()
                    _raise_first(failures)
            producer.flush()
            _raise_first(failures)
    finally:
        _drop(producer)
    return count


def _raise_first(failures: list[Exception]) -> None:
    if failures:
        raise failures[0]


def create_topics(
    bootstrap_servers: str, topics: Mapping[str, TopicSpec], client: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    """Make those that are missing, wait until they can be used, and return their names."""
    with _admin(bootstrap_servers, client) as admin:
        found = {topic["name"] for topic in admin.describe_topics(list(topics)) if topic["error_code"] == 0}
        missing = {
            name: {
                "num_partitions": spec.partitions,
                "replication_factor": spec.replication,
                "configs": dict(spec.configs),
            }
            for name, spec in topics.items()
            if name not in found
        }
        if missing:
            admin.create_topics(missing, wait_for_metadata=True)
    return tuple(missing)


def describe_topics(
    bootstrap_servers: str, topics: Sequence[str], client: Mapping[str, object] | None = None
) -> dict[str, TopicSpec | None]:
    """Partitions, replication and the settings that differ from the cluster's; None for a topic that does not exist."""
    with _admin(bootstrap_servers, client) as admin:
        described = {t["name"]: t for t in admin.describe_topics(list(topics)) if t["error_code"] == 0}
        configs: dict[str, Any] = {}
        if described:
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
            configs = admin.describe_configs(resources).get("topic", {})
    return {
        name: TopicSpec(
            len(described[name]["partitions"]),
            min(len(partition["replica_nodes"]) for partition in described[name]["partitions"]),
            {key: str(config["value"]) for key, config in configs.get(name, {}).items()},
        )
        if name in described
        else None
        for name in topics
    }


class TopicIdentity(NamedTuple):
    topic_id: str  # another one after the topic was deleted and made anew
    partitions: int


def identify_topic(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None = None) -> TopicIdentity:
    """Raises RefusedInput where there is no such topic."""
    with _admin(bootstrap_servers, client) as admin:
        (found,) = admin.describe_topics([topic])
    if found["error_code"] != 0:
        raise RefusedInput(f"{bootstrap_servers}: found no topic {topic}")
    return TopicIdentity(str(found["topic_id"]), len(found["partitions"]))


def check_topics(
    bootstrap_servers: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    client: Mapping[str, object] | None = None,
    changelog: str | None = None,
) -> None:
    """Raise RefusedInput unless all exist, every other topic has at least as many partitions as each input, and the
    changelog is compacted and can be read.
    """
    others = (*outputs, *([changelog] if changelog else []))
    with _admin(bootstrap_servers, client) as admin:
        described = admin.describe_topics([*inputs, *others])
    counts = {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}
    missing = [
        f"{topic['name']} ({kafka_errors.for_code(topic['error_code']).__name__})"
        for topic in described
        if topic["error_code"] != 0
    ]
    if missing:
        raise RefusedInput(
            f"{bootstrap_servers}: found no topic {', '.join(missing)}; `telltale topics create` makes it"
        )
    widest = max(inputs, key=lambda name: counts[name])
    narrow = [name for name in others if counts[name] < counts[widest]]
    if narrow:
        raise RefusedInput(
            f"{bootstrap_servers}: {', '.join(f'{name} has {counts[name]}' for name in narrow)} partitions, expected at"
            f" least the {counts[widest]} of {widest}"
        )
    if changelog:
        _check_changelog(bootstrap_servers, changelog, client)


def _check_changelog(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None) -> None:
    """Compacted, since retention would delete the memory of quiet streams; and readable, or a restart would fail."""
    try:
        found = describe_topics(bootstrap_servers, [topic], client)[topic]
    except LogUnavailable as error:
        log.warning("the changelog's settings could not be checked", topic=topic, reason=str(error))
    else:
        policy = found.configs.get("cleanup.policy", "delete") if found else ""
        if policy != "compact":
            raise RefusedInput(f"{bootstrap_servers}: {topic} has cleanup.policy={policy}, expected compact")
    with _connecting(bootstrap_servers):
        consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            allow_auto_create_topics=False,
            fetch_max_wait_ms=20,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **(client or {}),
        )
    try:
        with _translated(f"reading {topic} on {bootstrap_servers}"):
            consumer.assign([TopicPartition(topic, 0)])
            consumer.poll(timeout_ms=200)  # raises where reading is not allowed; there need not be anything to read
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)


@contextmanager
def _admin(bootstrap_servers: str, client: Mapping[str, object] | None) -> Iterator[Any]:
    _silence_client_below_warning()
    with _connecting(bootstrap_servers):
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            **(client or {}),
        )
    try:
        with _translated(f"topics of {bootstrap_servers}"):
            yield admin
    finally:
        admin.close()


# --- from outside the group ----------------------------------------------------------------------------------------


class UnjoinedLog:
    """The same log for who looks at it, or writes state to it, without being a worker.

    Joins no group, so that nobody's partitions move, and fetches one partition at a time: that of the last `start`.
    Raises LogUnavailable or RefusedInput when it cannot start.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        changelog_topic: str,
        client: Mapping[str, object] | None = None,
        group: str | None = None,
    ) -> None:
        """group: whose committed offsets `inspect` tells; None: as if there were none."""
        _require_fast_checksums()
        _silence_client_below_warning()
        self._servers = bootstrap_servers
        self._changelog_topic = changelog_topic
        self._client = client or {}
        self._group = group
        self._restoring: _Restoring | None = None
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
        with _connecting(bootstrap_servers):
            self._consumer: Any = KafkaConsumer(
                **settings,
                group_id=group,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                max_poll_records=20_000,
                fetch_max_wait_ms=50,
            )
        columnar = _fetch_columns(self._consumer) is not None
        with _connecting(bootstrap_servers):
            self._changelog = _ChangelogReader(changelog_topic, settings, columnar)
        self.partitions(changelog_topic)

    def partitions(self, topic: str) -> int:
        """How many a topic has. Raises RefusedInput when it is not there."""
        with _translated(f"looking for {topic} on {self._servers}"):
            found = self._consumer.partitions_for_topic(topic)
        if not found:
            raise RefusedInput(f"{self._servers}: found no topic {topic}")
        return len(found)

    def poll(self, timeout_s: float) -> Polled:
        """Raises LogUnavailable when nothing comes for long: ask only while there is something to come.

        A Fetched may hold no records, where the partition goes on behind control records.
        """
        with _translated(f"polling {self._servers}"):
            drained = self._consumer.poll(timeout_ms=timeout_s * 1000)
            fetched = []
            for tp in self._consumer.assignment():
                columns = _drained(drained.get(tp, [])) or _columns([])
                position = self._consumer.position(tp, timeout_ms=1_000)
                if position != self._position:
                    fetched.append(Fetched(Partition(*tp), *columns, position, position))
                self._position = position
        self._check_heard(bool(fetched))
        return Polled((), (), tuple(fetched))

    def inspect(self, partition: Partition) -> Source:
        tp = TopicPartition(*partition)
        count = self.partitions(partition.topic)
        wait_ms = CONNECT_WITHIN_S * 1000
        with _translated(f"looking at {partition}"):
            begin = self._consumer.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
            end = self._consumer.end_offsets([tp], timeout_ms=wait_ms)[tp]
            committed = self._consumer.committed(tp, timeout_ms=wait_ms) if self._group else None
            topic_id = str(self._consumer._cluster.topic_id(partition.topic) or "")
        return Source(topic_id, count, begin, end, committed)

    def restore(self, partition: Partition) -> Stored:
        with _translated(f"reading {self._changelog_topic} on {self._servers}"):
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
        with _translated(f"starting {partition}"):
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
        with _connecting(self._servers):
            producer: Any = KafkaProducer(
                bootstrap_servers=self._servers.split(","),
                bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
                transactional_id=f"{self._group}-import-{uuid.uuid4().hex[:8]}",
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
            with _translated(f"a transaction on {self._servers}"):
                _end_transactions_once(producer)
                producer.init_transactions()
                producer.begin_transaction()
                records = [
                    (commit.partition.number, record)
                    for commit in commits
                    for record in (*commit.pages, commit.marker)
                    if record is not None
                ]
                sent = [_send(producer, self._changelog_topic, *record) for record in records]
                producer.flush(timeout=max(0.0, deadline - time.monotonic()))
                for future in sent:
                    future.get(timeout=0)
                _wait(producer, producer._transaction_manager.begin_commit(), deadline)
        finally:
            _drop(producer)

    def close(self) -> None:
        self._changelog.close()
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)

    def _check_heard(self, heard: bool) -> None:
        now_s = time.monotonic()
        if heard:
            self._heard_at = now_s
        elif now_s - self._heard_at > SILENT_AFTER_S:
            raise LogUnavailable(f"{self._servers}: no answer for {SILENT_AFTER_S:.0f} s")


def members_of(bootstrap_servers: str, group: str, client: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Who is in a consumer group now: client names and hosts. A group that nobody knows has no members."""
    with _admin(bootstrap_servers, client) as admin:
        found = admin.describe_groups([group])[group]
    return tuple(f"{member['client_id']} on {member['client_host'].lstrip('/')}" for member in found["members"])


def partition_of(key: bytes, partitions: int) -> int:
    """Where a producer that is told no partition sends a record with this key: as every Kafka client hashes it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
