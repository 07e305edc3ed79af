"""Records of several partitions in the order of their event time, as far as that can be known.

The earliest of what has come is next; a partition of which nothing has come is waited for while there is something to
be read of it. So a stage that starts again after days takes in those days as they were, not one partition after the
other. Memory bounds the waiting.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Generic, Protocol, TypeVar

from service.log.port import Fetched, Partition

MOST_WAITING = 200_000  # records, of some 500 bytes each: then the earliest is taken without waiting


class Arrived(Protocol):
    """What is made of a record that has come. time_ms: of its event; of a partition, it need not rise."""

    @property
    def time_ms(self) -> int: ...
    @property
    def partition(self) -> Partition: ...
    @property
    def offset(self) -> int: ...


T = TypeVar("T", bound=Arrived)


class Alignment(Generic[T]):
    """What has come of each partition and is not taken in yet."""

    def __init__(
        self,
        read: Callable[[Fetched, int], Iterable[T]],
        most_waiting: int = MOST_WAITING,
        size: Callable[[T], int] = lambda _: 1,
        rank: Callable[[T], int] = lambda _: 0,
    ) -> None:
        """read: makes of what was fetched what waits, in the order of offsets.

        It is given the time of the last one before, for a record without a time of its own; 0: there is none.

        most_waiting: sizes that may wait; then the earliest is taken without waiting. size: of one.

        rank: of those of the same time in several partitions the one of the lowest rank is next.
        """
        self._read, self._most_waiting, self._size, self._rank = read, most_waiting, size, rank
        self._waiting: dict[Partition, deque[tuple[float, T]]] = {}  # each with when it came
        self._next_offsets: dict[Partition, int] = {}  # behind what has come
        self._last_ms: dict[Partition, int] = {}
        self.waiting = 0  # sizes of all that waits

    def begin(self, partition: Partition, offset: int) -> None:
        """Nothing has come of it yet; it begins at this offset."""
        self.waiting -= sum(self._size(one) for _, one in self._waiting.get(partition, ()))
        self._waiting[partition] = deque()
        self._next_offsets[partition] = offset
        self._last_ms[partition] = 0

    def put(self, fetched: Fetched, now_s: float = 0.0) -> None:
        """What was fetched of a partition that has begun."""
        waiting, last_ms = self._waiting[fetched.partition], self._last_ms[fetched.partition]
        for one in self._read(fetched, last_ms):
            waiting.append((now_s, one))
            self.waiting += self._size(one)
            last_ms = one.time_ms
        self._last_ms[fetched.partition] = last_ms
        self._next_offsets[fetched.partition] = fetched.next_offset

    def take(self, behind: Collection[Partition], most: int, came_by_s: float = math.inf) -> Iterator[T]:
        """What is next, in order.

        behind: partitions of which more is to be read. most: at most that many. came_by_s: what came later waits.
        """
        heads = [(*self._place(waiting[0][1]), one) for one, waiting in self._waiting.items() if waiting]
        heapify(heads)
        is_blocked = any(not self._waiting[one] for one in behind if one in self._waiting)
        for _ in range(most):
            is_full = self.waiting >= self._most_waiting
            if not heads or (is_blocked and not is_full):
                return
            *_, partition = heads[0]
            waiting = self._waiting[partition]
            came_s, first = waiting[0]
            if came_s > came_by_s and not is_full:
                return
            waiting.popleft()
            self.waiting -= self._size(first)
            if waiting:
                heapreplace(heads, (*self._place(waiting[0][1]), partition))
            else:
                heappop(heads)
                is_blocked |= partition in behind
            yield first

    def _place(self, one: T) -> tuple[int, int]:
        return one.time_ms, self._rank(one)

    def next_offset(self, partition: Partition) -> int:
        """Everything before it was taken."""
        waiting = self._waiting[partition]
        return waiting[0][1].offset if waiting else self._next_offsets[partition]

    @property
    def partitions(self) -> list[Partition]:
        return sorted(self._waiting)
