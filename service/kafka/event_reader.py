"""One topic's first partition, read by one member of a group, whose offset is committed when what was read is done.

For what may be done twice but not be left undone: no transaction, at least once.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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

MOST_AT_ONCE = 500
MAX_POLL_INTERVAL_MS = 300_000


class Read(NamedTuple):
    """What a poll brought. began: the partition was taken over just now; what is known of it begins here.

    holds: whether this member has the partition.
    """

    holds: bool
    began: bool
    values: list[tuple[int, bytes]]  # by offset
    position: int  # everything before it was read


class EventReader:
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

        from_end: where the group has no offset yet, begin behind what is there now, else before it.
        """
        self._servers, self._topic, self._group = servers, topic, group
        self._tp = TopicPartition(topic, 0)
        self._listener = _Listener(self._tp)
        self._held = 0  # of the listener's generations, the one whose position is known
        self._consumer = group_consumer(servers, group, client or {}, session_timeout_ms, from_end)
        self._consumer.subscribe([topic], listener=self._listener)

    def poll(self, timeout_s: float, more: bool = True) -> Read:
        """more: whether records are wanted; without them the member stays in the group all the same."""
        with translated(f"reading {self._topic} on {self._servers}"):
            holds = self._listener.holds
            if holds:
                (self._consumer.resume if more else self._consumer.pause)(self._tp)
            polled = self._consumer.poll(timeout_ms=timeout_s * 1000)
            holds, began = self._listener.holds, self._listener.generation != self._held
            self._held = self._listener.generation
            position = self._consumer.position(self._tp, timeout_ms=1_000) if holds else None
        values = [(record.offset, record.value or b"") for record in polled.get(self._tp, []) if holds]
        if holds and position is None:  # it is not known yet, so nothing was read
            self._held -= 1
            return Read(False, False, [], 0)
        return Read(holds, holds and began, values, position or 0)

    def commit(self, offset: int) -> None:
        """Everything before it is done. Raises TaskMigrated when another member has the partition."""
        with translated(f"offsets of {self._group} on {self._servers}", interrupted=TaskMigrated):
            self._consumer.commit({self._tp: OffsetAndMetadata(offset, "", -1)}, timeout_ms=CONNECT_WITHIN_S * 1000)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)


def group_consumer(
    servers: str, group: str, client: Mapping[str, object], session_timeout_ms: int, from_end: bool
) -> Any:
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
            auto_offset_reset="latest" if from_end else "earliest",
            max_poll_records=MOST_AT_ONCE,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            fetch_max_wait_ms=100,
            reconnect_backoff_max_ms=1_000,
            metrics_enabled=False,
            **client,
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the client's own thread: it only notes."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self.holds = False
        self.generation = 0  # rises whenever what was known of the partition is of no use

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self.holds = False

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self.holds = False

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.holds = self._tp in set(assigned)
        self.generation += 1
