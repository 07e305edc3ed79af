"""How far partitions go and where their group stands: asked of the brokers in the background, so that no one waits.

A fetch says how far its partition went too, but what the client holds in its buffer was fetched a while ago, and of a
partition that is not fetched from nothing is heard. Private to the client: its own ways of asking, which it offers to
those alone who wait for the answer.
"""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from kafka import TopicPartition
from kafka.protocol.consumer import OffsetSpec

from service.log.port import Partition

ASK_EVERY_S = 1.0
KNOWN_FOR_S = 10.0  # an end of which nothing is heard for longer is not known any more
COMMITTED_WITHIN_S = 5.0

_Offsets = tuple[dict[TopicPartition, Any], object]  # what was found, and what is to be asked for again


class BacklogWatch:
    """Asks, keeps the answers. The caller's thread reads them, the client's writes them."""

    def __init__(self, consumer: Any, from_the_beginning: bool) -> None:
        """from_the_beginning: where a group begins that has committed nothing; otherwise at the end."""
        self._consumer = consumer
        self._first = OffsetSpec.EARLIEST if from_the_beginning else OffsetSpec.LATEST
        self._ends: dict[TopicPartition, tuple[int, float]] = {}  # with when it was heard
        self._committed: dict[TopicPartition, int] = {}  # or where the group begins that has committed nothing
        self._never: frozenset[TopicPartition] = frozenset()  # of which nothing is committed
        self._asked_s = -ASK_EVERY_S
        self._asking: dict[object, Any] = {}  # what is not answered yet, by whom was asked what

    def ask(self, given: Collection[Partition], waiting: Collection[Partition]) -> None:
        """Ask where these partitions end, and of those that are not started where their group stands."""
        now_s = time.monotonic()
        if not given or now_s - self._asked_s < ASK_EVERY_S:
            return
        self._asked_s = now_s
        wanted = frozenset(TopicPartition(*partition) for partition in waiting)
        self._ask_for_offsets({TopicPartition(*partition) for partition in given}, OffsetSpec.LATEST, self._heard_ends)
        self._ask_for_offsets(self._never & wanted, self._first, self._heard_first)
        if wanted and self._is_free("committed"):
            coordinator = self._consumer._coordinator
            self._asking["committed"] = self._consumer._manager.call_soon(
                coordinator.fetch_committed_offsets_async, list(wanted), COMMITTED_WITHIN_S * 1000
            )
            self._asking["committed"].add_callback(partial(self._heard_committed, wanted))

    def _ask_for_offsets(
        self, partitions: Collection[TopicPartition], spec: OffsetSpec, heard: Callable[[_Offsets], None]
    ) -> None:
        """Each broker for itself: one that does not answer must not keep the others' answers from us."""
        manager, fetcher = self._consumer._manager, self._consumer._fetcher
        by_leader: dict[object, dict[TopicPartition, OffsetSpec]] = {}
        for tp in partitions:
            by_leader.setdefault(manager.cluster.leader_for_partition(tp), {})[tp] = spec
        for leader, specs in by_leader.items():
            if self._is_free((leader, heard)):
                self._asking[leader, heard] = manager.call_soon(fetcher._send_list_offsets_requests, specs)
                self._asking[leader, heard].add_callback(heard)

    def end(self, partition: Partition) -> int | None:
        """The first offset that could not be read yet."""
        offset, heard_s = self._ends.get(TopicPartition(*partition), (0, -KNOWN_FOR_S))
        return offset if time.monotonic() - heard_s < KNOWN_FOR_S else None

    def passed(self, partition: Partition, started: bool) -> int | None:
        """Everything before it is committed, or is nothing to be read. started: what was polled of it is committed."""
        tp = TopicPartition(*partition)
        state = self._consumer._subscription.assignment.get(tp) if started else None
        known = [self._committed.get(tp), state.position.offset if state and state.position else None]
        return max((offset for offset in known if offset is not None), default=None)

    def note_committed(self, partition: Partition, offset: int) -> None:
        self._committed[TopicPartition(*partition)] = offset

    def forget(self, partitions: Collection[Partition]) -> None:
        """What is known of these is of another time; asked again at once."""
        for tp in (TopicPartition(*partition) for partition in partitions):
            self._ends.pop(tp, None)
            self._committed.pop(tp, None)
        self._asked_s = -ASK_EVERY_S

    def _is_free(self, whom: object) -> bool:
        asked = self._asking.get(whom)
        return asked is None or bool(asked.is_done)

    def _heard_ends(self, answer: _Offsets) -> None:
        now_s = time.monotonic()
        self._ends.update({tp: (int(found.offset), now_s) for tp, found in answer[0].items()})

    def _heard_first(self, answer: _Offsets) -> None:
        for tp, found in answer[0].items():
            self._committed.setdefault(tp, int(found.offset))

    def _heard_committed(self, wanted: frozenset[TopicPartition], answer: dict[TopicPartition, Any]) -> None:
        self._committed.update({tp: int(found.offset) for tp, found in answer.items()})
        self._never = wanted - answer.keys()
