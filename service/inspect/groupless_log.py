"""The log as one sees it who is not one of its workers, and the partitions in which to look for a stream."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.log.port import Fetched, Log, Partition

POLL_S = 0.5


class GrouplessLog(Log, Protocol):
    """A log, used without being one of its workers."""

    def partitions(self, topic: str) -> int:
        """How many a topic has. Raises RefusedInput when it is not there."""


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for a stream. first: the partition that its key is sent to unless a producer says otherwise."""

    group: str
    topics: Sequence[str]
    partition: int | None  # this one alone
    first: Callable[[bytes, int], int]

    def partitions(self, log: GrouplessLog, stream: StreamKey) -> Iterator[Partition]:
        for topic in self.topics:
            count = log.partitions(topic)
            if self.partition is not None:
                if not 0 <= self.partition < count:
                    raise RefusedInput(f"{topic} has partitions 0 to {count - 1}, found no partition {self.partition}")
                yield Partition(topic, self.partition)
                continue
            first = self.first(stream, count)
            yield Partition(topic, first)
            yield from (Partition(topic, number) for number in range(count) if number != first)

    def no_state(self) -> RefusedInput:
        """That none of the partitions has a marker."""
        number = "" if self.partition is None else f", partition {self.partition}"
        return RefusedInput(
            f"no state of {' and '.join(self.topics)}{number}, group {self.group}: has a service of this group"
            " judged it?"
        )


def input_of(log: GrouplessLog, partition: Partition, begin: int, end: int) -> Iterator[Fetched]:
    """The records of a partition from one offset to another."""
    at = log.start(partition, begin) if begin < end else end
    while at < end:
        for fetched in log.poll(POLL_S).fetched:
            at = fetched.next_offset
            keep = int(np.searchsorted(fetched.offsets, end))
            if keep:
                yield fetched if keep == len(fetched.keys) else fetched.part(0, keep)
