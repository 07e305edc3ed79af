"""The anomalies of several partitions in the order of their event time, as far as that can be known.

The earliest of what has come is next; a partition of which nothing has come is waited for while there is something to
be read of it. So a stage that starts again after days takes in those days as they were, not one partition after the
other. Memory bounds the waiting.
"""

from collections import deque
from collections.abc import Collection, Iterator
from typing import NamedTuple

from service.errors import RejectedReading
from service.incidents.changes import AnomalyChange, read_change
from service.input.reasons import Reason
from service.input.wire import Reject, dead_letter
from service.log.port import Fetched, Partition, Record

MOST_WAITING = 200_000  # changes, of some 500 bytes each: then the earliest is taken without waiting


class Arrived(NamedTuple):
    """A record of the topic of anomalies: a change of one, or what it becomes as a dead letter."""

    time_ms: int
    partition: Partition
    offset: int
    change: AnomalyChange | None
    letter: Record | None = None


class Alignment:
    """What has come of each partition and is not taken in yet."""

    def __init__(self) -> None:
        self._waiting: dict[Partition, deque[Arrived]] = {}
        self._next_offsets: dict[Partition, int] = {}  # behind what has come
        self._last_ms: dict[Partition, int] = {}

    def begin(self, partition: Partition, offset: int) -> None:
        """Nothing has come of it yet; it begins at this offset."""
        self._waiting[partition] = deque()
        self._next_offsets[partition] = offset
        self._last_ms[partition] = 0

    def put(self, fetched: Fetched) -> None:
        """What was fetched of a partition that has begun."""
        waiting, last_ms = self._waiting[fetched.partition], self._last_ms[fetched.partition]
        for n, value in enumerate(fetched.values):
            offset = int(fetched.offsets[n])
            try:
                change = read_change(value)
            except RejectedReading as refused:
                letter = dead_letter(fetched, Reject(n, Reason(refused.reason), str(refused)))
                waiting.append(Arrived(last_ms, fetched.partition, offset, None, letter))
            else:
                if change is not None:
                    last_ms = change.time_ms
                    waiting.append(Arrived(last_ms, fetched.partition, offset, change))
        self._last_ms[fetched.partition] = last_ms
        self._next_offsets[fetched.partition] = fetched.next_offset

    def take(self, behind: Collection[Partition], most: int) -> Iterator[Arrived]:
        """What is next, in order. behind: partitions of which more is to be read. most: at most that many."""
        for _ in range(most):
            full = sum(map(len, self._waiting.values())) >= MOST_WAITING
            if not full and any(not self._waiting[partition] for partition in behind if partition in self._waiting):
                return
            heads = [waiting[0] for waiting in self._waiting.values() if waiting]
            if not heads:
                return
            first = min(heads, key=lambda one: (one.time_ms, one.partition))
            self._waiting[first.partition].popleft()
            yield first

    def next_offset(self, partition: Partition) -> int:
        """Everything before it was taken."""
        waiting = self._waiting[partition]
        return waiting[0].offset if waiting else self._next_offsets[partition]

    @property
    def partitions(self) -> list[Partition]:
        return sorted(self._waiting)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))
