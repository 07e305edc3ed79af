"""Incidents as the page lists them: the open ones and the latest that closed, from the events on their topic.

They are read in a thread of the process that serves HTTP; the worker has no part in it.
"""

import threading
from collections.abc import Callable, Iterable

import msgspec

from service.http.control_list import ControlList
from service.http.earlier_events import EarlierEvents
from service.stages.incidents.changes import SEVERITIES
from service.stages.incidents.events import FirstCause, NamedMember, decode_lost

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
    acknowledged_at: str | None
    peak: float
    first_cause: FirstCause
    return_period_s: float  # how rarely a stream of it is as strange, by the rarest that is named; 0: not known


class IncidentsFound(msgspec.Struct, frozen=True):
    """followed: whether the topic is there and is read; found: how many are open, of which `limit` are listed."""

    followed: bool
    found: int
    open: list[IncidentSeen]  # the rarest first; those of which no one is notified last
    closed: list[IncidentSeen]  # the latest that closed first


class MembersFound(msgspec.Struct, frozen=True):
    """An incident with its members."""

    incident: IncidentSeen
    members: list[NamedMember]  # the most severe
    members_left_out: int


class _Data(IncidentSeen, frozen=True, kw_only=True):
    """Members stay as they came: most of them no one asks for. How rare they are does not come, and is made of them."""

    members: msgspec.Raw
    members_left_out: int
    return_period_s: float = 0.0


class _Rarity(msgspec.Struct):
    """Of a member."""

    return_period_s: float = 0.0


class _Event(msgspec.Struct):
    """Other events on the topic have other data, and are passed over."""

    data: _Data


class IncidentList:
    """Written by the thread that follows the topic, read by requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(_Event)
        self._rarities = msgspec.json.Decoder(list[_Rarity])
        self._followed = False
        self._open: dict[str, _Data] = {}  # the one that changed last is last
        self._closed: dict[str, _Data] = {}  # likewise

    def begin(self) -> None:
        """The topic is read from here on, and what was heard before is of another."""
        with self._lock:
            self._open, self._closed = {}, {}

    def follow(self, followed: bool) -> None:
        self._followed = followed

    def hear(self, _keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
        for value in values:
            try:
                data = self._decoder.decode(value or b"").data
                rarest = max((one.return_period_s for one in self._rarities.decode(data.members)), default=0.0)
            except msgspec.MsgspecError:
                self._end_all(value or b"")
                continue
            with self._lock:
                self._add(msgspec.structs.replace(data, members=data.members.copy(), return_period_s=rarest))

    def found(self, limit: int, anomaly: str | None = None) -> IncidentsFound:
        """anomaly: only those that have it among the members that are named."""
        with self._lock:
            opened, closed = list(self._open.values()), list(self._closed.values())
        if anomaly is not None:
            opened, closed = ([one for one in some if _has(one, anomaly)] for some in (opened, closed))
        opened.sort(key=_rank, reverse=True)
        return IncidentsFound(
            self._followed, len(opened), [_seen(one) for one in opened[:limit]], [_seen(one) for one in closed[::-1]]
        )

    def members(self, incident: str) -> MembersFound | None:
        """None: nothing is known of such an incident."""
        with self._lock:
            data = self._open.get(incident) or self._closed.get(incident)
        if data is None:
            return None
        members = msgspec.json.decode(data.members, type=list[NamedMember])
        return MembersFound(_seen(data), members, data.members_left_out)

    def _end_all(self, value: bytes) -> None:
        """If the event says that incidents were lost: nothing more comes of those that are open."""
        lost = decode_lost(value)
        if lost is None:
            return
        with self._lock:
            for data in list(self._open.values()):
                self._add(msgspec.structs.replace(data, status="closed", open_anomalies=0, closed_at=lost.time))

    def _add(self, data: _Data) -> None:
        self._open.pop(data.incident, None)
        self._closed.pop(data.incident, None)
        kept, most = (self._open, MOST_OPEN) if data.status == "open" else (self._closed, LATEST_CLOSED)
        kept[data.incident] = data
        if len(kept) > most:
            del kept[next(iter(kept))]


def _rank(data: _Data) -> tuple[bool, float, int, str]:
    """What a person looks at first has the highest."""
    return data.held_back is None, data.return_period_s, SEVERITIES.index(data.severity), data.opened_at


def _seen(data: _Data) -> IncidentSeen:
    return IncidentSeen(*(getattr(data, name) for name in IncidentSeen.__struct_fields__))


def _has(data: _Data, anomaly: str) -> bool:
    return data.first_cause.anomaly == anomaly or msgspec.json.encode(anomaly) in bytes(data.members)


Follow = Callable[[IncidentList, ControlList, EarlierEvents, threading.Event], None]  # returns when the event is set


class FollowedIncidents:
    """The lists, with what was told of anomalies before, and the thread that keeps them."""

    def __init__(self, follow: Follow) -> None:
        self.list, self.controls, self.earlier = IncidentList(), ControlList(), EarlierEvents()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=follow, args=(self.list, self.controls, self.earlier, self._ended), name="incidents", daemon=True
        )

    def start(self) -> None:
        """In the process that answers: threads do not survive a fork."""
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(STOP_WITHIN_S)
