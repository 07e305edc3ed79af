"""An incident as its events describe it: CloudEvents on the topic of incidents."""

import uuid
from functools import lru_cache
from heapq import nsmallest

import msgspec

from models.data.rfc3339 import rfc3339
from service.input.events import EVENT_HEADERS
from service.log.port import Record
from service.stages.incidents.changes import SEVERITIES
from service.stages.incidents.controls import Control, GivenControl
from service.stages.incidents.incident import Incident, Member

INCIDENT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "incidents.telltale")
CONTROL_APPLIED = "telltale.control.applied"
INCIDENTS_LOST = "telltale.incidents.lost"
MEMBERS_NAMED = 100  # an event with all of 100,000 would be larger than a topic takes


class FirstCause(msgspec.Struct, frozen=True):
    """The anomaly that began first: not what caused the others, but where to look first."""

    anomaly: str  # id, as in its own events
    stream: str  # its name
    kind: str  # as in its own events
    opened_at: str  # event time, RFC 3339


class NamedMember(msgspec.Struct, frozen=True):
    """An anomaly that belongs to the incident."""

    anomaly: str  # id, as in its own events
    stream: str  # its name
    status: str  # open, closed
    severity: str  # minor, major, critical: the highest so far
    kind: str  # as in its own events
    opened_at: str  # event time, RFC 3339
    closed_as: str | None  # as in its own events; or lost, primed, expired: it has none; null: it is open
    label: str | None  # what people say that it was: fault, normal, known; null: nothing
    channel: str  # with the largest share when it opened; empty: its first event has none
    return_period_s: float  # how rarely its stream is as strange as it was at its strangest; 0: not known
    rule: str | None  # id of the label of others that keeps it from people; null: none does


class IncidentData(msgspec.Struct, frozen=True):
    """An incident as it stands after one of its changes."""

    incident: str  # id, the same in all of its events
    group: str  # its streams' common beginning, or a declared group's name
    status: str  # open, closed
    severity: str  # minor, major, critical: by its members' and by how many streams they are of; it never falls
    streams: int  # that have or had an anomaly in it
    anomalies: int  # its members, open and closed
    open_anomalies: int  # of these, the open ones
    opened_at: str  # when its first member opened
    closed_at: str | None  # when its last open member closed; None: it is open
    # Why its last open member closed; None: it is open. recovered: by its readings; forgotten: its stream was idle;
    # lost: the memory of its stream was; primed: another checkpoint judges; expired: it had no event for long.
    closed_as: str | None
    notified: bool  # whether it is for people: it was not held back, now or at an earlier event of its
    # Why it is not: budget; the reason of a quiet time or a dependency; labelled known, labelled normal; rule of ID; or
    # what return period labels ask for
    held_back: str | None
    acknowledged_by: str | None  # who looks after it; null: no one has said so
    acknowledged_at: str | None  # when they said so
    peak: float  # highest of any member's scores
    first_cause: FirstCause  # below
    members: list[NamedMember]  # the most severe, at most 100
    members_left_out: int  # of the members, those that are not named


class IncidentEvent(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope. time: event time, at which the incident changed."""

    specversion: str
    id: str
    source: str
    type: str  # telltale.incident.opened, .updated, .closed
    subject: str
    time: str
    datacontenttype: str
    data: IncidentData


class ControlData(msgspec.Struct, frozen=True):
    """A control that was taken in."""

    control: str  # id: the key of its record
    effect: str  # set, replaced, taken_back; unknown: nothing has this id, or this incident; over: it is long past
    given: Control | None  # as the record says; null: it takes back what had this id
    offset: int  # of the record, on the topic of controls


class ControlEvent(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope. time: the record's own timestamp."""

    specversion: str
    id: str
    source: str
    type: str  # telltale.control.applied
    subject: str
    time: str
    datacontenttype: str
    data: ControlData


class LostIncidentsData(msgspec.Struct, frozen=True):
    """What was kept of incidents is lost, and all that were open end with it: nothing more is published of them."""

    topic: str  # of the anomalies
    group: str  # consumer group of the stage
    detail: str  # what is lost, for people


class LostIncidentsEvent(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope. time: that of the machine, when it was found."""

    specversion: str
    id: str  # ids of incidents and controls that come after it are made with it
    source: str
    type: str  # telltale.incidents.lost
    subject: str
    time: str
    datacontenttype: str
    data: LostIncidentsData


@lru_cache(maxsize=100_000)  # of a member, in each of its incident's events the same
def _opened_at(time_ms: int) -> str:
    return rfc3339(time_ms)


def incident_id(begun_by: str, life: str = "") -> str:
    """What an incident is called in all of its events. begun_by: the anomaly that opened it. life: see IncidentBook.

    An anomaly that was open when incidents were lost opens another incident, whose events are not those of the first.
    """
    return _id(begun_by, life)


def _id(of: str, life: str) -> str:
    return str(uuid.uuid5(INCIDENT_NAMESPACE, f"{life}/{of}" if life else of))


def incident_event(one: Incident, change: str, now_ms: int) -> IncidentEvent:
    about = one.summary
    first = min(one.members.values(), key=lambda member: (member.opened_ms, member.stream, member.anomaly))
    named = nsmallest(MEMBERS_NAMED, one.members.values(), key=_rank)
    data = IncidentData(
        incident=about.incident,
        group=about.group,
        status="open" if one.open_members else "closed",
        severity=SEVERITIES[about.severity],
        streams=len(one.streams),
        anomalies=len(one.members),
        open_anomalies=one.open_members,
        opened_at=rfc3339(first.opened_ms),
        closed_at=None if one.open_members else rfc3339(about.active_ms),
        closed_as=about.closed_as,
        notified=about.notified,
        held_back=None if about.notified else about.held_back,
        acknowledged_by=about.acknowledged_by,
        acknowledged_at=None if about.acknowledged_by is None else rfc3339(about.acknowledged_ms),
        peak=about.peak,
        first_cause=FirstCause(first.anomaly, first.stream, first.kind, rfc3339(first.opened_ms)),
        members=[_named(member) for member in named],
        members_left_out=len(one.members) - len(named),
    )
    identity = str(uuid.uuid5(INCIDENT_NAMESPACE, f"{about.incident}/{about.events}"))
    kind = f"telltale.incident.{change}"
    return IncidentEvent(
        "1.0", identity, "/telltale/incidents", kind, about.group, rfc3339(now_ms), "application/json", data
    )


def control_event(given: GivenControl, effect: str, life: str = "") -> ControlEvent:
    """life: see IncidentBook; where it is another, controls are taken in again."""
    data = ControlData(given.id, effect, given.control, given.offset)
    identity = _id(f"control/{given.id}/{given.offset}", life)
    time = rfc3339(max(0, given.time_ms))
    return ControlEvent(
        "1.0", identity, "/telltale/incidents", CONTROL_APPLIED, given.id, time, "application/json", data
    )


def lost_record(life: str, time_ms: int, data: LostIncidentsData) -> Record:
    """The event, which ends what stands before it. life: its id."""
    time, source = rfc3339(time_ms), "/telltale/incidents"
    event = LostIncidentsEvent("1.0", life, source, INCIDENTS_LOST, data.topic, time, "application/json", data)
    return Record(data.topic.encode(), msgspec.json.encode(event), EVENT_HEADERS)


def decode_lost(value: bytes) -> LostIncidentsEvent | None:
    """None: it is another event, or none."""
    try:
        event = msgspec.json.decode(value, type=LostIncidentsEvent)
    except msgspec.MsgspecError:
        return None
    return event if event.type == INCIDENTS_LOST else None


def encode_incident(event: IncidentEvent | ControlEvent, consumed: str = "") -> Record:
    """consumed: which records it, and what lies between it and the event before, is made of: see Consumed."""
    headers = (*EVENT_HEADERS, ("telltale-consumed", consumed.encode())) if consumed else EVENT_HEADERS
    key = event.data.incident if isinstance(event, IncidentEvent) else event.data.control
    return Record(key.encode(), msgspec.json.encode(event), headers)


def decode_incident(value: bytes) -> IncidentEvent:
    """Of an event of an incident; those of controls are on the same topic."""
    return msgspec.json.decode(value, type=IncidentEvent)


def _rank(member: Member) -> tuple[bool, int, int, str, str]:
    return (not member.is_open, -member.severity, member.opened_ms, member.stream, member.anomaly)


def _named(member: Member) -> NamedMember:
    status = "open" if member.is_open else "closed"
    severity, opened_at = SEVERITIES[member.severity], _opened_at(member.opened_ms)
    return NamedMember(
        member.anomaly,
        member.stream,
        status,
        severity,
        member.kind,
        opened_at,
        member.closed_as,
        member.label,
        member.channel,
        member.return_period_s,
        member.rule,
    )
