"""What a rebalance of the group does to a worker, queued as events until its next poll."""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from kafka import ConsumerRebalanceListener, TopicPartition

from service.log.port import Partition


class Membership(Protocol):
    """What the client calls ConsumerGroupMetadata."""

    generation_id: int
    member_id: str


class Assigned(NamedTuple):
    partitions: frozenset[Partition]
    membership: Membership


class ThrownOut(NamedTuple):
    """The group has thrown this worker out: what it owned may be another's by now."""


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only queues: it runs on the client's I/O thread, where work would stop the heartbeats and errors are lost."""

    def __init__(self, consumer: Any, events: deque[Assigned | ThrownOut], started: set[Partition]) -> None:
        self._consumer = consumer
        self._events = events
        self._started = started

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The eager protocol says this of everything before each rebalance; what counts is what is assigned next."""

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self._events.append(ThrownOut())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        # Before anything is fetched of them: where a partition begins is known only once it is restored.
        self._consumer.pause(*(tp for tp in assigned if Partition(*tp) not in self._started))
        # Remembered now, because what the client answers later may be a generation that poll() has not reported yet,
        # or none at all, with which the broker would not fence a commit.
        self._events.append(Assigned(frozenset(Partition(*tp) for tp in assigned), self._consumer.group_metadata()))


def follows_directly(old: Membership | None, new: Membership) -> bool:
    """Whether no generation lies between the two, in which another worker may have had the partitions."""
    return old is not None and old.member_id == new.member_id and new.generation_id == old.generation_id + 1
