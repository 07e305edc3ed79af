"""Whether the input topics are still there, and still the same ones."""

import time
from collections.abc import Sequence
from typing import Any

from service.errors import LogUnavailable

GONE_AFTER_S = 10.0  # a topic that cannot be seen for that long is gone; a broker that restarts knows none for a while


class TopicWatch:
    """Reads what a consumer knows of the cluster. Never waits."""

    def __init__(self, consumer: Any, servers: str, topics: Sequence[str]) -> None:
        self._consumer = consumer
        self._servers = servers
        self._topics = tuple(topics)
        self._topic_ids: dict[str, str] = {}
        self._seen_at: dict[str, float] = {}

    def note(self, topic: str, topic_id: str) -> None:
        """The id that the topic has when one of its partitions is begun with."""
        self._topic_ids[topic] = topic_id

    def check(self) -> None:
        """Raise when an input topic is gone, or another one has taken its name: its offsets would mean nothing."""
        now_s = time.monotonic()
        cluster = self._consumer._cluster
        for topic in self._topics:
            found, known = str(cluster.topic_id(topic) or ""), self._topic_ids.get(topic, "")
            if found and known and found != known:
                raise LogUnavailable(f"{self._servers}: topic {topic} was deleted and made again while it was read")
            if cluster.partitions_for_topic(topic):
                self._seen_at[topic] = now_s
            elif now_s - self._seen_at.get(topic, now_s) > GONE_AFTER_S:
                raise LogUnavailable(f"{self._servers}: topic {topic} is gone")
