"""Anomaly events that went out before this service started, as their topic keeps them: a restart empties no list."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from service.live.status import RECENT_LIMIT, Status, newest, still_open

Event = Mapping[str, Any]


class EarlierEvents:
    """Heard once, from the thread that reads the topic; read by requests."""

    def __init__(self) -> None:
        self._recent: tuple[Event, ...] = ()  # newest first
        self._details: Mapping[str, Event] = {}

    def hear(self, events: Iterable[Event]) -> None:
        """events: of each partition in their order."""
        in_order = sorted(events, key=lambda one: str(one["time"]))
        self._details = still_open(in_order, {})
        self._recent = newest(in_order, ())

    def recent(self, status: Status, limit: int) -> list[Event]:
        """Newest first: what the worker has published, then what went out before."""
        published = {one["id"] for one in status.recent}
        earlier = (one for one in self._recent if one["id"] not in published)
        return [*status.recent[:limit], *islice(earlier, max(0, min(limit, RECENT_LIMIT) - len(status.recent)))]

    def details(self, status: Status, anomaly: str) -> Event | None:
        """What was last told of an anomaly that is open; None: nothing that is kept."""
        return status.details.get(anomaly) or self._details.get(anomaly)
