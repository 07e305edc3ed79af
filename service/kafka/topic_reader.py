"""A topic whose partitions the members of a group share, each committed when all that was read of it is done.

For what may be done twice but not be left undone: no transaction, at least once.
"""

from collections.abc import Mapping
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition

from service.errors import TaskMigrated
from service.kafka.client import CLOSE_WITHIN_S, CONNECT_WITHIN_S, translated
from service.kafka.event_reader import group_consumer

POSITION_WITHIN_MS = 1_000


class TopicReader:
    """Raises LogUnavailable when the brokers cannot be reached."""

    def __init__(
        self, servers: str, topic: str, group: str, client: Mapping[str, object], *, session_timeout_ms: int
    ) -> None:
        """Where the group has no offset yet, it begins behind what is there now.

        session_timeout_ms: after it, another member reads on where one was killed.
        """
        self._servers, self._topic, self._group = servers, topic, group
        self._read_to: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self.lag_records: int | None = None  # that are not read yet, as far as the brokers have said; None: not of all
        self._consumer: Any = group_consumer(servers, group, client, session_timeout_ms, from_end=True)
        self._consumer.subscribe([topic])

    def poll(self, timeout_s: float, more: bool = True) -> list[bytes]:
        """Values, in order within a partition. Raises TaskMigrated when partitions went to others meanwhile.

        more: whether they are wanted; a partition that has just come may bring some all the same.
        """
        with translated(f"reading {self._topic} on {self._servers}"):
            assigned = self._consumer.assignment()
            if assigned:
                (self._consumer.resume if more else self._consumer.pause)(*assigned)
            polled = self._consumer.poll(timeout_ms=timeout_s * 1000)
            positions = {tp: self._consumer.position(tp, POSITION_WITHIN_MS) for tp in self._consumer.assignment()}
            ends = {tp: self._consumer.highwater(tp) for tp in positions}
        known = all(None not in (positions[tp], ends[tp]) for tp in positions)
        self.lag_records = sum(max(0, ends[tp] - positions[tp]) for tp in positions) if known else None
        self._read_to = {tp: position for tp, position in positions.items() if position is not None}
        self._committed = {tp: offset for tp, offset in self._committed.items() if tp in positions}
        return [record.value or b"" for records in polled.values() for record in records]

    def commit(self) -> None:
        """All that was read is done. Raises TaskMigrated when another member has one of the partitions."""
        due = {tp: offset for tp, offset in self._read_to.items() if self._committed.get(tp) != offset}
        if not due:
            return
        with translated(f"offsets of {self._group} on {self._servers}", interrupted=TaskMigrated):
            offsets = {tp: OffsetAndMetadata(offset, "", -1) for tp, offset in due.items()}
            self._consumer.commit(offsets, timeout_ms=CONNECT_WITHIN_S * 1000)
        self._committed |= due

    @property
    def partitions(self) -> int:
        """That this member has."""
        return len(self._read_to)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)
