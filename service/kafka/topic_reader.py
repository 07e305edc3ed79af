"""A topic whose partitions the members of a group share; offsets are committed when what was read is done.

For what may be done twice but not be left undone: no transaction, at least once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition

from service.errors import TaskMigrated
from service.kafka.client import (
    CLOSE_WITHIN_S,
    CONNECT_WITHIN_S,
    connecting,
    require_fast_checksums,
    silence_client_below_warning,
    translated,
)

POSITION_WITHIN_MS = 1_000
MOST_AT_ONCE = 500
MAX_POLL_INTERVAL_MS = 300_000

logger = structlog.get_logger("telltale.kafka")


class Read(NamedTuple):
    """What a poll brought.

    began: partitions were handed out just now. What was read of any before is read again, from what is committed.
    """

    began: bool
    values: list[tuple[int, int, bytes]]  # partition, offset and value, in order within a partition
    positions: Mapping[int, int]  # of each partition that this member has: everything before it was read


class TopicReader:
    """Raises LogUnavailable when the brokers cannot be reached."""

    def __init__(
        self,
        servers: str,
        topic: str,
        group: str,
        client: Mapping[str, object] | None = None,
        *,
        session_timeout_ms: int,
        from_end: bool = False,
    ) -> None:
        """session_timeout_ms: after it, another member reads on where one was killed.

        from_end: a group without any offset yet begins behind what is there now, else before it. A partition that is
        added later is read from its beginning.
        """
        self._servers, self._topic, self._group = servers, topic, group
        self._held = _Held(topic)
        self._began = 0  # of the generations, the one that the caller knows of
        self._committed: dict[int, int] = {}
        self.lag_records: int | None = None  # that are not read yet, as far as the brokers have said; None: not of all
        self._consumer = _consumer(servers, group, client or {}, session_timeout_ms)
        if from_end:
            self._commit_end_if_new()
        self._consumer.subscribe([topic], listener=self._held)

    def poll(self, timeout_s: float, more: bool = True) -> Read:
        """more: whether records are wanted; without them the member stays in the group all the same.

        A partition that has just come may bring some all the same.
        """
        try:
            with translated(f"reading {self._topic} on {self._servers}"):
                read = self._poll(timeout_s, more)
        except TaskMigrated:  # partitions were taken meanwhile
            read = None
        if read is None:
            self._began = -1  # what was polled is read again
        return read or Read(False, [], {})

    def _poll(self, timeout_s: float, more: bool) -> Read | None:
        """None: partitions were handed out meanwhile, or a position is not known yet."""
        mine = self._partitions(self._held.partitions)
        if mine:
            (self._consumer.resume if more else self._consumer.pause)(*mine)
        polled = self._consumer.poll(timeout_ms=timeout_s * 1000)
        generation, mine = self._held.generation, self._partitions(self._held.partitions)
        began = generation != self._began and bool(mine)
        if began:
            self._rewind(mine)
            polled = {}
        found = {tp: self._consumer.position(tp, POSITION_WITHIN_MS) for tp in mine}
        ends = {tp: self._consumer.highwater(tp) for tp in mine}
        if generation != self._held.generation or None in found.values():
            return None
        self._began = generation
        known = None not in ends.values()
        self.lag_records = sum(max(0, ends[tp] - found[tp]) for tp in mine) if known else None
        positions = {tp.partition: position for tp, position in found.items()}
        values = [(tp.partition, one.offset, one.value or b"") for tp, records in polled.items() for one in records]
        return Read(began, values, positions)

    def _rewind(self, partitions: Sequence[TopicPartition]) -> None:
        """To what is committed: of a partition that it had before, the client goes on where it was."""
        self._committed.clear()
        for tp in partitions:
            committed = self._consumer.committed(tp, timeout_ms=CONNECT_WITHIN_S * 1000)
            if committed is None:
                self._consumer.seek_to_beginning(tp)
            else:
                self._consumer.seek(tp, committed)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """By partition, everything before it is done. Raises TaskMigrated when another member has one of them."""
        due = {number: offset for number, offset in offsets.items() if self._committed.get(number) != offset}
        if due:
            with translated(f"offsets of {self._group} on {self._servers}", interrupted=TaskMigrated):
                self._commit(due)
            self._committed |= due

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)

    def _commit_end_if_new(self) -> None:
        """Also a process that is killed before it has read anything leaves to the next what came since."""
        with translated(f"offsets of {self._group} on {self._servers}"):
            there = self._partitions(self._consumer.partitions_for_topic(self._topic))
            within_ms = CONNECT_WITHIN_S * 1000
            if not there or any(self._consumer.committed(tp, timeout_ms=within_ms) is not None for tp in there):
                return
            ends = self._consumer.end_offsets(there, timeout_ms=within_ms)
        offsets = {tp.partition: end for tp, end in ends.items()}
        try:
            with translated(f"offsets of {self._group} on {self._servers}"):
                self._commit(offsets)
        except TaskMigrated as error:  # another member is there, so the group has begun
            logger.info("group_had_begun", topic=self._topic, group=self._group, reason=str(error))

    def _commit(self, offsets: Mapping[int, int]) -> None:
        given = {TopicPartition(self._topic, n): OffsetAndMetadata(offset, "", -1) for n, offset in offsets.items()}
        self._consumer.commit(given, timeout_ms=CONNECT_WITHIN_S * 1000)

    def _partitions(self, numbers: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]


def _consumer(servers: str, group: str, client: Mapping[str, object], session_timeout_ms: int) -> Any:
    """A member of a group that commits by itself alone. Raises LogUnavailable when the brokers cannot be reached."""
    require_fast_checksums()
    silence_client_below_warning()
    with connecting(servers, client):
        return KafkaConsumer(
            bootstrap_servers=servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            group_id=group,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // 3,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_poll_records=MOST_AT_ONCE,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            fetch_max_wait_ms=100,
            reconnect_backoff_max_ms=1_000,
            metrics_enabled=False,
            **client,
        )


class _Held(ConsumerRebalanceListener):  # type: ignore[misc]
    """Which partitions this member has. It runs on the client's own thread: it only notes."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.partitions: frozenset[int] = frozenset()
        self.generation = 0  # rises whenever what was known of the partitions is of no use

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self.partitions = frozenset()

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self.partitions = frozenset()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.partitions = frozenset(tp.partition for tp in assigned if tp.topic == self._topic)
        self.generation += 1
