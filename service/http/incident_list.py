"""Incidents as the page lists them: the open ones and the latest that closed, from the events on their topic.

They are read in a thread of the process that serves HTTP; the worker has no part in it.
"""

import threading
from collections.abc import Callable, Iterable

import msgspec

from service.incidents.changes import SEVERITIES
from service.incidents.events import FirstCause

MOST_OPEN = 1_000  # held; more than a person reads, and bounded where closing events are lost
LATEST_CLOSED = 20
STOP_WITHIN_S = 0.5


class IncidentSeen(msgspec.Struct, frozen=True):
    """An incident as its last event says, without its members."""

    incident: str
    group: str
    status: str
    severity: str
    streams: int
    anomalies: int
    open_anomalies: int
    opened_at: str
    closed_at: str | None
    held_back: str | None
    acknowledged_by: str | None
    first_cause: FirstCause


class IncidentsFound(msgspec.Struct, frozen=True):
    """followed: whether the topic is there and is read; found: how many are open, of which `limit` are listed."""

    followed: bool
    found: int
    open: list[IncidentSeen]  # the most severe first, then the latest
    closed: list[IncidentSeen]  # the latest that closed first


class _Event(msgspec.Struct):
    """Other events on the topic have other data, and are passed over."""

    data: IncidentSeen


class IncidentList:
    """Written by the thread that follows the topic, read by requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(_Event)
        self._followed = False
        self._open: dict[str, IncidentSeen] = {}  # the one heard of last at the end
        self._closed: dict[str, IncidentSeen] = {}  # likewise

    def begin(self) -> None:
        """The topic is read from here on, and what was heard before is of another."""
        with self._lock:
            self._open, self._closed = {}, {}

    def follow(self, followed: bool) -> None:
        self._followed = followed

    def hear(self, values: Iterable[bytes | None]) -> None:
        for value in values:
            try:
                seen = self._decoder.decode(value or b"").data
            except msgspec.MsgspecError:
                continue
            with self._lock:
                self._add(seen)

    def found(self, limit: int) -> IncidentsFound:
        with self._lock:
            opened, closed = list(self._open.values()), list(self._closed.values())
        opened.sort(key=lambda one: one.opened_at, reverse=True)
        opened.sort(key=lambda one: SEVERITIES.index(one.severity), reverse=True)
        return IncidentsFound(self._followed, len(opened), opened[:limit], closed[::-1])

    def _add(self, seen: IncidentSeen) -> None:
        self._open.pop(seen.incident, None)
        self._closed.pop(seen.incident, None)
        kept, most = (self._open, MOST_OPEN) if seen.status == "open" else (self._closed, LATEST_CLOSED)
        kept[seen.incident] = seen
        if len(kept) > most:
            del kept[next(iter(kept))]


Follow = Callable[[IncidentList, threading.Event], None]  # returns when the event is set


class FollowedIncidents:
    """The list, and the thread that keeps it."""

    def __init__(self, follow: Follow) -> None:
        self.list = IncidentList()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=follow, args=(self.list, self._ended), name="incidents", daemon=True)

    def start(self) -> None:
        """In the process that answers: threads do not survive a fork."""
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(STOP_WITHIN_S)
