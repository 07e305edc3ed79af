"""Anomaly events that went out before this service had their partition, as their topic keeps them.

A restart empties no list, nor does a partition that comes from another worker leave its anomalies there.
"""

from collections.abc import Iterable, Mapping
from heapq import merge
from itertools import islice
from typing import Any

from service.live.status import RECENT_LIMIT, Status, newest, still_open

Event = Mapping[str, Any]


class EarlierEvents:
    """Heard from the thread that reads the topic; read by requests, which say by their status what is held now."""

    def __init__(self) -> None:
        self._recent: tuple[Event, ...] = ()  # newest first
        self._details: Mapping[str, Event] = {}
        self._held: frozenset[tuple[str, int]] = frozenset()  # partitions, when someone last asked
        self._heard: frozenset[tuple[str, int]] | None = None  # likewise, when the topic was read; None: it was not

    @property
    def wanted(self) -> bool:
        """Whether the topic is to be read: at the start, and when a partition has come since."""
        return self._heard is None or not self._held <= self._heard

    def hear(self, events: Iterable[Event]) -> None:
        """events: of each partition in their order."""
        held = self._held
        in_order = sorted(events, key=_time)
        self._details = still_open(in_order, {})
        self._recent = newest(in_order, ())
        self._heard = held

    def recent(self, status: Status, limit: int) -> list[Event]:
        """Newest first: what the worker has published, and what others have."""
        self._look(status)
        published = {one["id"] for one in status.recent}
        earlier = (one for one in self._recent if one["id"] not in published)
        return list(islice(merge(status.recent, earlier, key=_time, reverse=True), min(limit, RECENT_LIMIT)))

    def details(self, status: Status, anomaly: str) -> Event | None:
        """What was last told of an anomaly that is open; None: nothing that is kept."""
        self._look(status)
        return status.details.get(anomaly) or self._details.get(anomaly)

    def _look(self, status: Status) -> None:
        """Of a partition that goes, and comes again, others have told meanwhile."""
        held = frozenset((one.topic, one.number) for one in status.partitions)
        if held == self._held:
            return
        self._held = held
        if self._heard is not None:
            self._heard &= held


def _time(event: Event) -> str:
    return str(event["time"])
