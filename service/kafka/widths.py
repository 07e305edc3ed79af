"""How many partitions the topics beside the inputs have: a partition of an input needs one of its number in each.

Input topics may be widened while a worker runs, before the others are or without them. What cannot be served is said,
and served once the others are as wide; all else goes on.
"""

import time
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from service.kafka.topics import too_narrow
from service.log.port import Partition

ASK_EVERY_S = 1.0
SAY_EVERY_S = 60.0

logger = structlog.get_logger("telltale.kafka")


class Widths:
    """Reads what a client knows of the cluster, and lets it ask again while that is too little. Never waits."""

    def __init__(self, cluster: Any, counts: Mapping[str, int]) -> None:
        """cluster: the client's view of it, which it keeps up to date by itself. counts: partitions by topic, now."""
        self._cluster = cluster
        self._counts = dict(counts)
        self._asked: Any = None
        self._asked_s = self._said_s = float("-inf")
        self._refused: frozenset[Partition] = frozenset()
        cluster.set_topics(list(counts))

    def servable(self, given: Collection[Partition]) -> tuple[frozenset[Partition], bool]:
        """Of these partitions, those that can be served; and whether the topics have grown since it was asked last."""
        before = min(self._counts.values())
        for topic, count in self._counts.items():
            self._counts[topic] = max(count, len(self._cluster.partitions_for_topic(topic) or ()))
        width = min(self._counts.values())
        refused = frozenset(partition for partition in given if partition.number >= width)
        if refused:
            self._look_again(refused)
        elif self._refused:
            logger.info("all_partitions_served", partitions=width)
            self._refused = frozenset()
        return frozenset(given) - refused, width > before

    def refusal(self, partition: Partition, count: int) -> str:
        """Why a partition cannot be served. count: of its topic's."""
        expected = max(count, partition.number + 1)
        narrow = {topic: found for topic, found in self._counts.items() if found <= partition.number}
        return too_narrow(narrow, expected, partition.topic)

    def _look_again(self, refused: frozenset[Partition]) -> None:
        """Ask the cluster, and say what is wrong once it has confirmed it: now, and now and then."""
        now_s = time.monotonic()
        if refused != self._refused:
            self._refused, self._asked, self._said_s = refused, None, float("-inf")
        if self._asked is not None and self._asked.is_done and now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            highest = max(refused, key=lambda partition: partition.number)
            names = [str(partition) for partition in sorted(refused)]
            logger.error("partitions_not_served", partitions=names, reason=self.refusal(highest, highest.number + 1))
        if now_s - self._asked_s >= ASK_EVERY_S:
            self._asked, self._asked_s = self._cluster.request_update(), now_s
