"""The book of incidents <-> the changelog's records: one an incident, a member and a control, and a marker.

They are in the first partition of the changelog, under keys that name the topic of anomalies and the consumer group.
What changed is written in the transaction that publishes it, so what is read again is exactly what was published, and
nothing is judged again.
"""

from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

import msgspec

from service.log.port import Record
from service.stages.incidents.book import Dirty, IncidentBook
from service.stages.incidents.budget import Budget
from service.stages.incidents.consumed import Run
from service.stages.incidents.controls import Control
from service.stages.incidents.incident import Member, Summary
from service.state.changelog import UnreadableRecord, sealed, unsealed
from service.state.changelog_keys import CONTROL, INCIDENT, MARKER, MEMBER, Origin, entry_key, marker_key, parse_key

VERSION = 4


class IncidentMarker(msgspec.Struct, frozen=True, kw_only=True):
    """How far the stage has come in every partition of the topic of anomalies."""

    version: int = VERSION
    group: str
    topic: str
    topic_id: str
    next_offsets: dict[int, int]  # by partition
    clock_ms: int
    tokens: float  # of the budget
    tokens_at_ms: int | None
    group_tokens: dict[str, tuple[float, int | None]] = {}  # of budgets of groups, and when; the others are full
    consumed: list[Run]  # since the last event
    incidents: int  # records of incidents that there are
    members: int
    controls: int
    control_topic_id: str
    control_offset: int  # next of the topic of controls
    life: str  # of the book
    writer: str  # transactional id


class _Incident(msgspec.Struct, frozen=True):
    version: int
    incident: Summary


class _Member(msgspec.Struct, frozen=True):
    version: int
    member: Member


class _Control(msgspec.Struct, frozen=True):
    version: int
    id: str
    control: Control


def changed_records(origin: Origin, book: IncidentBook) -> Iterator[Record]:
    """What has changed since the book was clean; what is no more as a record without a value."""
    for name in sorted(book.dirty.incidents):
        one = book.incidents.get(name)
        value = None if one is None else sealed(_Incident(VERSION, one.summary))
        yield Record(_key(origin, INCIDENT, name), value)
    for name in sorted(book.dirty.members):
        member = book.member(name)
        yield Record(_key(origin, MEMBER, name), None if member is None else sealed(_Member(VERSION, member)))
    for name in sorted(book.dirty.controls):
        control = book.controls.held.get(name)
        yield Record(_key(origin, CONTROL, name), None if control is None else sealed(_Control(VERSION, name, control)))


def _key(origin: Origin, kind: str, name: str) -> bytes:
    """What others wrote to the topic of anomalies may have any name."""
    return entry_key(origin, kind, quote(name, safe=""))


def marker_record(marker: IncidentMarker, origin: Origin) -> Record:
    return Record(marker_key(origin), sealed(marker))


class Collected:
    """The newest record under each key that belongs to one origin; bytes, not looked into yet."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._held: dict[str, dict[str, bytes]] = {INCIDENT: {}, MEMBER: {}, CONTROL: {}, MARKER: {}}

    def add(self, keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
        """Take in records in the order of the changelog."""
        for key, value in zip(keys, values, strict=True):
            parsed = parse_key(key or b"")
            if parsed is None or (parsed.topic, parsed.group) != (self._origin.partition.topic, self._origin.group):
                continue
            held = self._held.get(parsed.kind)
            if held is None:
                continue
            if value is None:
                held.pop(parsed.name, None)
            else:
                held[parsed.name] = value

    def names(self) -> Dirty:
        """Of all that was written."""
        return Dirty(*({unquote(name) for name in self._held[kind]} for kind in (INCIDENT, MEMBER, CONTROL)))

    def marker(self) -> IncidentMarker | None:
        """None: there is none. Raises UnreadableRecord."""
        value = self._held[MARKER].get("")
        return None if value is None else unsealed(value, IncidentMarker, VERSION, "the marker of incidents")

    def fill(self, book: IncidentBook, marker: IncidentMarker) -> None:
        """Give an empty book what was written. Raises UnreadableRecord."""
        incidents, members, controls = self._held[INCIDENT], self._held[MEMBER], self._held[CONTROL]
        found = (len(incidents), len(members), len(controls))
        expected = (marker.incidents, marker.members, marker.controls)
        if found != expected:
            raise UnreadableRecord(
                "missing", f"found {found} records of incidents, members and controls, the marker says {expected}"
            )
        book.life, book.clock_ms = marker.life, marker.clock_ms
        budget = book.budget
        budget.tokens, budget.at_ms = marker.tokens, marker.tokens_at_ms
        if budget.group_per_day is not None:
            budget.groups = {
                group: Budget(budget.group_per_day, *tokens) for group, tokens in marker.group_tokens.items()
            }
        for value in controls.values():
            stored = unsealed(value, _Control, VERSION, "a control")
            book.controls.put(stored.id, stored.control)
        for value in incidents.values():
            book.restore(unsealed(value, _Incident, VERSION, "an incident").incident)
        for value in members.values():
            member = unsealed(value, _Member, VERSION, "a member of an incident").member
            if member.incident not in book.incidents:
                raise UnreadableRecord(
                    "missing", f"member {member.anomaly} is of incident {member.incident}, not found"
                )
            book.restore_member(member)
        book.restored()
