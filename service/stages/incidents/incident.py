"""An incident and its members, as the book keeps them."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec


class Member(msgspec.Struct, frozen=True, array_like=True):
    """An anomaly that belongs to an incident."""

    anomaly: str
    incident: str
    stream: str
    source: str  # topic and partition of its readings
    closed_as: str | None  # None: it is open
    severity: int
    kind: str
    opened_ms: int
    channel: str = ""  # that was foremost when it opened
    return_period_s: float = 0.0  # the longest so far; 0: not known
    quiet: str | None = None  # why it is nothing to notify anyone of, as of its last event
    label: str | None = None  # what people say that it was
    rule: str | None = None  # id of the label that makes it quiet, though it is about others

    @property
    def is_open(self) -> bool:
        return self.closed_as is None


class Summary(msgspec.Struct, array_like=True):
    """What an incident remembers beside its members. Times are event time."""

    incident: str
    group: str
    began_ms: int  # when its first member opened
    active_ms: int  # when a member last opened or closed
    heard_ms: int  # of the last event of a member
    severity: int = 0
    peak: float = 0.0
    events: int = 0  # published so far
    published_ms: int = 0  # clock at the last of them
    published_open: bool = False  # what the last of them said, as is the rest of published_*
    published_severity: int = 0
    published_streams: int = 0
    pending: bool = False  # it changed since
    asked_severity: int = -1  # for which it was last decided whether to notify people
    notified: bool = False
    held_back: str | None = None
    closed_as: str | None = None
    acknowledgement: str | None = None  # id of the control
    acknowledged_by: str | None = None
    acknowledged_ms: int = 0  # as its record says


@dataclass(slots=True)
class Incident:
    """A summary, its members by the anomaly's id, and what is counted of them."""

    summary: Summary
    members: dict[str, Member] = field(default_factory=dict)
    streams: Counter[str] = field(default_factory=Counter)  # members of each
    open_members: int = 0
