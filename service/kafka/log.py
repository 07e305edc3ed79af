"""The log on a Kafka cluster, through kafka-python; only the modules of this package know that client.

A worker is one consumer in a group and one transactional producer, and a second consumer for the changelog. A commit
is one transaction: outputs, pages, markers, then offsets with the group generation under which the records were
fetched. Whatever fails in between, the producer is thrown away and every partition starts again; there is no undo.

What is private to kafka-python 3.0 and used all the same, each with its reason beside it: in columns
`_ColumnarRecords` (fetching columns); in transactions `_EndTransactionOnce` (a lost commit is not retried),
`wait_for` (a commit has a time limit) and `drop` (closing does not wait); here `_check_reachable` (a broker that never
answers is noticed), the coordinator's `_join_task` in `poll` (the client may forget a join that one poll has begun
and the next should end) and its `is_dynamic_member` in `close` (a member with a name of its own leaves the group).
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from service.errors import LogUnavailable, TaskMigrated, TelltaleError
from service.kafka.assignors import OneOwnerAssignor, RangePartitionAssignor
from service.kafka.backlogs import BacklogWatch
from service.kafka.changelog_reader import ChangelogReader, Restoring
from service.kafka.client import (
    CLOSE_WITHIN_S,
    CONNECT_WITHIN_S,
    connecting,
    forget_set_aside,
    require_fast_checksums,
    said,
    silence_client_below_warning,
    translated,
)
from service.kafka.columns import FetchedChunk, PollBudget, columns_of, drained, fetch_columns
from service.kafka.log_config import POLL_LIMITS, Cluster, GroupMember, PollLimits, TopicNames
from service.kafka.rebalances import Assigned, Membership, RebalanceListener, ThrownOut, follows_directly
from service.kafka.record_windows import Bounds
from service.kafka.topic_watch import TopicWatch
from service.kafka.topics import admin_of, check_first_partitions, check_topics
from service.kafka.transactional_writer import TransactionalWriter
from service.kafka.transactions import open_transactions
from service.kafka.widths import Widths
from service.log.port import Backlog, Commit, Fetched, Partition, Polled, Source, Stored
from service.state.changelog_keys import group_of

logger = structlog.get_logger("telltale.kafka")

POLL_SLICE_S = 0.1  # a poll returns this soon after a rebalance, though no records have come
FAILED_COMMITS_IN_A_ROW = 5  # more is not another worker's doing: end the process
LEAST_POLL_RECORDS = 100  # so few can be written within any time limit
LEAST_POLL_BYTES = 1024 * 1024
METADATA_MAX_AGE_MS = 15_000  # so soon new partitions are seen, and topics that were deleted
STUCK_AFTER_S = 1.0  # a transaction takes milliseconds: one that is open for that long is that of a worker that is gone


class KafkaLog:
    """One worker of a consumer group. Raises LogUnavailable, RefusedInput or RefusedSetting when it cannot start."""

    def __init__(
        self,
        cluster: Cluster,
        topics: TopicNames,
        member: GroupMember,
        limits: PollLimits = POLL_LIMITS,
        *,
        unreachable_after_s: float = 60.0,
        columnar: bool = True,
    ) -> None:
        """columnar=False takes the client's own decoding, which knows no bound of bytes."""
        require_fast_checksums()
        silence_client_below_warning()
        self._cluster, self._topics, self._member, self._limits = cluster, topics, member, limits
        self._at_once = limits.poll_records
        self._unreachable_after_s = unreachable_after_s
        self._events: deque[Assigned | ThrownOut] = deque()
        self._given: frozenset[Partition] = frozenset()  # by the group
        self._owned: frozenset[Partition] = frozenset()  # of these, those that can be served
        self._fresh: frozenset[Partition] = frozenset()  # to be reported as starting again
        self._started: set[Partition] = set()  # the others are paused until `start`
        self._first_offsets: dict[Partition, int] = {}  # where partitions without a committed offset began
        self._restoring: Restoring | None = None
        self._membership: Membership | None = None
        self._failed_commits = 0
        self._closed = False
        self._seen_counts: dict[str, int] = {}  # partitions of each input topic when this was last looked at
        check = check_first_partitions if member.takes_all else check_topics
        counts = check(cluster.servers, topics.readings, topics.outputs, cluster.client, topics.changelog)
        self._writer = TransactionalWriter(cluster, topics, member)
        # What goes out whole has to come in whole.
        self._budget = PollBudget(limits.poll_bytes, Bounds(max(Bounds().record_bytes, 2 * self._writer.letter_bytes)))
        reading = _reading_settings(cluster, limits)
        with connecting(cluster.servers, cluster.client):
            self._writer.producer(CONNECT_WITHIN_S)
            self._consumer = _group_consumer(reading, member, limits)
        self._ends = fetch_columns(self._consumer, self._budget) if columnar else None
        self._topic_watch = TopicWatch(self._consumer, cluster.servers, topics.readings)
        self._backlogs = BacklogWatch(self._consumer, member.auto_offset_reset == "earliest")
        with connecting(cluster.servers, cluster.client):
            self._changelog = ChangelogReader(topics.changelog, reading, columnar=self._ends is not None)
        written = (*topics.outputs, topics.changelog)
        self._widths = Widths(self._changelog.cluster, {name: counts[name] for name in written})
        self._heard_at = time.monotonic()
        listener = RebalanceListener(self._consumer, self._events, self._started)
        self._consumer.subscribe(topics.readings, listener=listener)
        for topic in topics.readings:  # else the group's leader may assign before it knows the partitions, and again
            self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> Polled:
        deadline = time.monotonic() + timeout_s
        self._backlogs.ask(self._given, self._given - self._started)
        with translated(f"polling {self._cluster.servers}"):
            polled: dict[TopicPartition, list[Any]] = {}
            left_s = timeout_s
            while not polled and not self._events and not self._fresh and left_s >= 0:
                if self._consumer._coordinator._join_task is not None:
                    self._consumer._coordinator.request_rejoin()
                try:
                    polled = self._consumer.poll(min(left_s, POLL_SLICE_S) * 1000, max_records=self._at_once)
                except kafka_errors.RetriableError as error:
                    logger.warning("poll_interrupted", reason=said(error))
                    break
                left_s = deadline - time.monotonic()
            assigned, revoked = self._rebalanced()
            fetched = tuple(
                self._fetched(Partition(*tp), parts)
                for tp, parts in polled.items()
                if Partition(*tp) in self._owned and Partition(*tp) in self._started
            )
        if polled or assigned or revoked:
            self._heard_at = time.monotonic()
        else:
            self._check_reachable()
        self._topic_watch.check()
        self._rejoin_if_topics_grew()
        return Polled(assigned, revoked, fetched)

    def _rejoin_if_topics_grew(self) -> None:
        """Let partitions that were added be dealt out.

        The client does this where it leads the group, but one that comes back under its group_instance_id is not told
        that it does: then nobody would. To those that do not lead, the broker answers what they have already.
        """
        counts = {
            topic: len(self._consumer._cluster.partitions_for_topic(topic) or ()) for topic in self._topics.readings
        }
        if any(counts[topic] > count > 0 for topic, count in self._seen_counts.items()):
            self._consumer._coordinator.request_rejoin()
        self._seen_counts = {topic: max(count, self._seen_counts.get(topic, 0)) for topic, count in counts.items()}

    def backlogs(self) -> dict[Partition, Backlog] | None:
        if self._membership is None:
            return None
        counts = {
            topic: len(self._consumer._cluster.partitions_for_topic(topic) or ()) for topic in self._topics.readings
        }
        watch = self._backlogs
        return {
            p: Backlog(
                watch.end(p),
                watch.passed(p, p in self._started),
                counts[p.topic],
                "" if p in self._owned else self._widths.refusal(p, counts[p.topic]),
            )
            for p in sorted(self._given)
        }

    def inspect(self, partition: Partition) -> Source:
        tp = TopicPartition(*partition)
        with self._starting_again(f"looking at {partition}"):
            wait_ms = CONNECT_WITHIN_S * 1000
            begin = self._consumer.beginning_offsets([tp], timeout_ms=wait_ms)[tp]
            end = self._consumer.end_offsets([tp], timeout_ms=wait_ms)[tp]
            committed = self._consumer.committed(tp, timeout_ms=wait_ms)
            count = len(self._consumer.partitions_for_topic(partition.topic) or ())
            topic_id = str(self._consumer._cluster.topic_id(partition.topic) or "")
        self._topic_watch.note(partition.topic, topic_id)
        return Source(topic_id, count, begin, end, committed)

    def restore(self, partition: Partition) -> Stored:
        """One partition's changelog is read at a time; those of the others wait."""
        with self._starting_again(f"restoring {partition}"):
            if self._restoring is None:
                self._writer.producer()  # ends what a failed commit left open
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
        again: this partition is not its any more. Whose it is says the key of the first record that was written in it,
        not its id: ids that earlier versions gave (GROUP-INSTANCE) may be of several groups.
        """
        try:
            with admin_of(self._cluster.servers, self._cluster.client) as admin:
                found = open_transactions(admin, TopicPartition(self._topics.changelog, partition.number))
            for name, begin in found.items():
                key = self._changelog.key_at(partition, begin)
                if name != self._member.transactional_id and key is not None and group_of(key) == self._member.group:
                    logger.warning("open_transaction_ended", transactional_id=name)
                    self._writer.take_over(name)
        except (TelltaleError, kafka_errors.KafkaError) as error:
            logger.warning("open_transaction_awaited", partition=str(partition), reason=said(error))
        self._changelog.stuck_s = 0.0

    def start(self, partition: Partition, offset: int | None) -> int:
        tp = TopicPartition(*partition)
        with self._starting_again(f"starting {partition}"):
            if offset is None:
                offset = self._first_offsets.get(partition)
            if offset is None:
                ask = (
                    self._consumer.end_offsets
                    if self._member.auto_offset_reset == "latest"
                    else self._consumer.beginning_offsets
                )
                offset = int(ask([tp], timeout_ms=CONNECT_WITHIN_S * 1000)[tp])
            self._first_offsets.setdefault(partition, offset)
            if partition not in self._owned or tp not in self._consumer.assignment():
                raise TaskMigrated(f"{partition}: not assigned to this worker any more")
            self._started.add(partition)  # first: an assignment that comes just now must not pause it again
            self._consumer.seek(tp, offset)
            forget_set_aside(self._consumer, tp)
            self._consumer.resume(tp)
        return offset

    def position(self, partition: Partition) -> int:
        with self._starting_again(f"reading {partition}"):
            return int(self._consumer.position(TopicPartition(*partition), timeout_ms=1_000))

    def commit(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        try:
            with self._starting_again(f"a transaction on {self._cluster.servers}"):
                foreign = [str(commit.partition) for commit in commits if commit.partition not in self._owned]
                if foreign or self._membership is None:
                    raise TaskMigrated(f"{', '.join(foreign)}: not assigned to this worker")
                self._writer.write(commits, self._membership)
        except TaskMigrated as error:
            self._failed_commits += 1
            # It may have been too much for the time limit.
            self._at_once = max(LEAST_POLL_RECORDS, self._at_once // 4)
            self._budget.poll_bytes = max(LEAST_POLL_BYTES, self._budget.poll_bytes // 4)
            if self._failed_commits >= FAILED_COMMITS_IN_A_ROW:
                raise LogUnavailable(f"{self._failed_commits} commits in a row failed, the last: {error}") from error
            raise
        else:
            for commit in commits:
                self._backlogs.note_committed(commit.partition, commit.next_offset)
            self._failed_commits = 0
            self._at_once = min(self._limits.poll_records, 2 * self._at_once)
            self._budget.poll_bytes = min(self._limits.poll_bytes, 2 * self._budget.poll_bytes)

    @contextmanager
    def _starting_again(self, what: str) -> Iterator[None]:
        """Whatever is interrupted here, every partition starts again after it."""
        try:
            with translated(what, interrupted=TaskMigrated):
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
        self._writer.drop_producer()
        self._changelog.close()
        if self._member.leaves_at_close:  # the client leaves that to the session where there is a group_instance_id
            self._consumer._coordinator.is_dynamic_member = lambda: True
        try:
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)
        except kafka_errors.KafkaError as error:
            logger.warning("group_not_left", reason=str(error))

    def _rebalanced(self) -> tuple[tuple[Partition, ...], tuple[Partition, ...]]:
        """What was assigned and revoked since the last poll.

        A partition kept over a rebalance is in neither: the client keeps its position, and no one else can have had
        it if the new generation follows ours directly. If one lies between, another worker may have: start again.
        """
        known, given, fresh = self._owned, self._given, self._fresh
        while self._events:
            event = self._events.popleft()
            if isinstance(event, ThrownOut):
                given = fresh = frozenset()
                self._membership = None
                continue
            kept = event.partitions & given
            if not follows_directly(self._membership, event.membership):
                kept = frozenset()
            fresh = (fresh & kept) | (event.partitions - kept)
            given = event.partitions
            self._membership = event.membership
        owned = self._servable(given)
        fresh = (fresh | (owned - known)) & owned
        revoked, assigned = (known - owned) | (known & fresh), owned & fresh
        for partition in known - owned:
            self._first_offsets.pop(partition, None)
        self._given, self._owned, self._fresh = given, owned, frozenset()
        self._halt({*revoked, *assigned})
        self._backlogs.forget({*revoked, *assigned})
        return tuple(sorted(assigned)), tuple(sorted(revoked))

    def _servable(self, given: frozenset[Partition]) -> frozenset[Partition]:
        """Those that have a partition of the same number in every topic that is written to; all, if one is enough."""
        if self._member.takes_all:
            return given
        owned, grown = self._widths.servable(given)
        if grown:
            self._writer.drop_producer()  # it knows no partitions but those that there were
        return owned

    def _fetched(self, partition: Partition, parts: list[Any]) -> Fetched:
        tp = TopicPartition(*partition)
        columns = drained(parts) or columns_of([])
        if all(isinstance(part, FetchedChunk) for part in parts):
            next_offset = max(part.next_offset for part in parts)
        else:
            next_offset = self._consumer.position(tp, timeout_ms=1_000)
        end_offset = self._consumer.highwater(tp) if self._ends is None else self._ends.get(tp)
        return Fetched(partition, *columns[:4], next_offset, max(next_offset, end_offset or 0), columns.headers)

    def _check_reachable(self) -> None:
        """Raise when neither records, nor a rebalance, nor a heartbeat's answer has come for long."""
        heard_at = max(self._heard_at, self._consumer._coordinator.heartbeat.last_receive)
        silent_s = time.monotonic() - heard_at
        if silent_s > self._unreachable_after_s:
            raise LogUnavailable(f"{self._cluster.servers}: no answer for {silent_s:.0f} s")


def _reading_settings(cluster: Cluster, limits: PollLimits) -> dict[str, object]:
    """What the consumers of readings and of the changelog have in common."""
    return {
        **cluster.client_settings(),
        "bootstrap_timeout_ms": CONNECT_WITHIN_S * 1000,
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "fetch_max_bytes": limits.fetch_bytes,
        "metrics_enabled": False,
    }


def _group_consumer(reading: Mapping[str, object], member: GroupMember, limits: PollLimits) -> Any:
    return KafkaConsumer(
        **reading,
        group_id=member.group,
        group_instance_id=member.instance_id,
        auto_offset_reset=member.auto_offset_reset,
        isolation_level="read_committed",  # also what makes the client wait for pending offsets
        partition_assignment_strategy=[OneOwnerAssignor if member.takes_all else RangePartitionAssignor],
        session_timeout_ms=member.session_timeout_ms,
        heartbeat_interval_ms=member.heartbeat_interval_ms,
        max_poll_interval_ms=member.max_poll_interval_ms,
        max_poll_records=limits.poll_records,
        max_partition_fetch_bytes=limits.partition_fetch_bytes,
    )
