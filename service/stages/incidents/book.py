"""The pure part: anomalies go in one by one, changes of incidents come out. Event time alone; replayable to the byte.

An anomaly joins the newest incident of its group that was active within `gap_ms` of its beginning and has lasted no
longer than `longest_ms`; else it opens one. Active is an incident when a member opens or closes: streams that fail
together do so within minutes, while an anomaly that lasts for days must not collect everything that happens meanwhile.

An incident is published when it opens and when its last open member closes; in between when its severity rises, when it
has twice the streams that its last event said, and else at most once in `update_every_ms`. So 500 streams that fail
together are some ten events, however fast they come.

The clock is the latest time that any anomaly has brought: what is due by time comes with the next anomaly of any
stream.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

from models.data.rfc3339 import milliseconds_of
from service.input.anomaly import FORGOTTEN
from service.stages.incidents.budget import Budget
from service.stages.incidents.changes import RECOVERED, AnomaliesEnded, AnomalyChange
from service.stages.incidents.controls import UNIMPORTANT, Acknowledgement, Control, GivenControl
from service.stages.incidents.events import ControlEvent, IncidentEvent, control_event, incident_event, incident_id
from service.stages.incidents.in_force import ControlsInForce
from service.stages.incidents.incident import Incident, Member, Summary
from service.stages.incidents.rules import IncidentRules

BUDGET = "budget"  # why an incident is held back for which there was no token
RULE = "rule"  # why one is held back of which rules of labels make all open members quiet
QUIET = "quiet"  # why one is held back of which each open member is quiet, for any reason
RULED = "ruled"  # a member that a rule makes quiet
EXPIRED = "expired"  # closed_as
NEVER_MS = 1 << 62


class Dirty(NamedTuple):
    """Ids of what has changed since `clean`, also of what is no more."""

    incidents: set[str]
    members: set[str]
    controls: set[str]

    @classmethod
    def nothing(cls) -> "Dirty":
        return cls(set(), set(), set())


class IncidentBook:
    """The incidents that are open, or closed so lately that an anomaly may still join them."""

    def __init__(self, rules: IncidentRules, budget: Budget) -> None:
        self.rules, self.budget = rules, budget
        self.life = ""  # what ids are made with: id of the event that said that incidents were lost; empty: none were
        self.clock_ms = 0
        self.incidents: dict[str, Incident] = {}
        self.decisions: Counter[str] = Counter()  # notified, or why not, since it was made
        self.dirty = Dirty.nothing()
        self.controls = ControlsInForce(rules.dependencies)
        self._of: dict[str, str] = {}  # incident, by the anomaly's id
        self._groups: dict[str, set[str]] = {}  # incidents of each
        self._dues: list[tuple[int, str]] = []  # heap of times at which to look at an incident again
        self._due_ms: dict[str, int] = {}  # of each the earliest of these; later ones are passed over

    @property
    def open_incidents(self) -> int:
        return sum(one.open_members > 0 for one in self.incidents.values())

    def member(self, anomaly: str) -> Member | None:
        """The anomaly of this id; None: it is in no incident that is kept."""
        incident = self._of.get(anomaly)
        return None if incident is None else self.incidents[incident].members[anomaly]

    def observe(self, change: AnomalyChange | AnomaliesEnded) -> list[IncidentEvent]:
        """Take in one transition of one anomaly, or the end of many; returns what is to be published, in order.

        A transition costs as many steps as the anomaly's group has incidents, and the logarithm of all of them; the end
        of many as many steps as there are members.
        """
        if isinstance(change, AnomaliesEnded):
            return self._end(change)
        self.clock_ms = max(self.clock_ms, change.time_ms)
        events = list(self._pass_time())
        known = self._of.get(change.anomaly)
        if known is None and not change.is_open:
            return events  # its incident has expired, or its opening was never seen
        one = self.incidents[known] if known is not None else self._joinable(change) or self._begin(change)
        self._enter(one, change)
        events += self._publish_due(one)
        self._schedule(one)
        return events

    def apply(self, given: GivenControl) -> list[IncidentEvent | ControlEvent]:
        """Take in a control; returns what is to be published of it, in order.

        It is in force for the anomalies that are taken in from now on, and for the open ones as they are. Costs as many
        steps as there are members.
        """
        control = given.control
        effect, touched = self._take_back(given.id) if control is None else self._set(given.id, control)
        for name in self.controls.over(self.clock_ms):
            effect = "over" if name == given.id else effect
            self._drop(name)
        events: list[IncidentEvent | ControlEvent] = [control_event(given, effect, self.life)]
        for one in sorted(self.incidents.values(), key=_age):
            if self._look_again(one) or one.summary.incident in touched:
                one.summary.pending = False
                events.append(self._publish(one, "updated" if one.open_members else "closed"))
                self._schedule(one)
        return events

    def clean(self) -> None:
        """What has changed is written."""
        self.dirty = Dirty.nothing()

    def restore(self, one: Summary) -> None:
        """Take in an incident as it was written; its members follow."""
        self._add(Incident(one))

    def restore_member(self, member: Member) -> None:
        """Take in a member; its incident is there already."""
        self._put(self.incidents[member.incident], member)

    def restored(self) -> None:
        """All that was written is here."""
        for one in self.incidents.values():
            self._schedule(one)

    # --- controls

    def _set(self, name: str, control: Control) -> tuple[str, set[str]]:
        """The effect, and the incidents that it is about by their ids."""
        if isinstance(control, Acknowledgement):
            one = self.incidents.get(control.incident)
            if one is None:
                return "unknown", set()
            about = one.summary
            effect = "set" if about.acknowledgement is None else "replaced"
            about.acknowledgement, about.acknowledged_by = name, control.by
            about.acknowledged_ms = milliseconds_of(control.at)
            return effect, {about.incident}
        effect = "replaced" if name in self.controls.held else "set"
        self.controls.put(name, control)
        self.dirty.controls.add(name)
        return effect, set()

    def _take_back(self, name: str) -> tuple[str, set[str]]:
        if self._drop(name):
            return "taken_back", set()
        for one in self.incidents.values():
            if one.summary.acknowledgement == name:
                one.summary.acknowledgement = one.summary.acknowledged_by = None
                return "taken_back", {one.summary.incident}
        return "unknown", set()

    def _drop(self, name: str) -> bool:
        if not self.controls.drop(name):
            return False
        self.dirty.controls.add(name)
        return True

    def _look_again(self, one: Incident) -> bool:
        """Whether the controls say something else of one of its members than they did."""
        changed = False
        for member in list(one.members.values()):
            again = self._asked(member, self.clock_ms)
            if not member.is_open:
                again = msgspec.structs.replace(member, label=again.label)
            if again != member:
                self._count_rule(member, again)
                self._put(one, again)
                self.dirty.members.add(member.anomaly)
                changed = True
        return changed

    def _asked(self, member: Member, time_ms: int) -> Member:
        """The member with its label, and why no one is to be notified of it: the first of these that says so.

        The settings; a quiet time or a dependency; what people say that it is; what they said of others of its stream,
        unless they say what this one is.
        """
        label = self.controls.label(member.anomaly, member.stream, member.opened_ms)
        quiet = self.rules.quiet(member.stream, time_ms) or self.controls.quiet(member.stream, time_ms)
        rule = None
        if quiet is None and label in UNIMPORTANT:
            quiet = f"labelled {label}"
        elif quiet is None and label is None:
            found = self.controls.ruled(member)
            rule, quiet = (None, None) if found is None else found
        return msgspec.structs.replace(member, quiet=quiet, label=label, rule=rule)

    def _count_rule(self, before: Member | None, member: Member) -> None:
        if member.rule is not None and (before is None or before.rule is None):
            self.decisions[RULED] += 1

    # --- membership

    def _joinable(self, change: AnomalyChange) -> Incident | None:
        rules, opened_ms, found = self.rules, change.opened_ms, list[Incident]()
        for name in self._groups.get(rules.groups.of(change.stream, change.labels), ()):
            one = self.incidents[name]
            begins_ms = one.summary.began_ms - rules.gap_ms
            ends_ms = min(one.summary.active_ms + rules.gap_ms, one.summary.began_ms + rules.longest_ms)
            if begins_ms <= opened_ms <= ends_ms and one.summary.closed_as != EXPIRED:
                found.append(one)
        return max(found, key=_age, default=None)

    def _begin(self, change: AnomalyChange) -> Incident:
        group, opened_ms = self.rules.groups.of(change.stream, change.labels), change.opened_ms
        begun_by = change.anomaly
        if change.time_ms != change.opened_ms:  # its opening was not seen, or its incident has expired: this is another
            begun_by = f"{begun_by}/{change.time_ms}"
        one = Incident(Summary(incident_id(begun_by, self.life), group, opened_ms, opened_ms, change.time_ms))
        self._add(one)
        return one

    def _add(self, one: Incident) -> None:
        self.incidents[one.summary.incident] = one
        self._groups.setdefault(one.summary.group, set()).add(one.summary.incident)

    def _enter(self, one: Incident, change: AnomalyChange) -> None:
        """Note what the anomaly is like now."""
        about, before = one.summary, one.members.get(change.anomaly)
        severity = change.severity if before is None else max(before.severity, change.severity)
        opened_ms = change.opened_ms if before is None else before.opened_ms
        channel = change.channel if before is None else before.channel
        member = Member(
            change.anomaly,
            about.incident,
            change.stream,
            change.source,
            None if change.is_open else change.closed_as or RECOVERED,
            severity,
            change.kind,
            opened_ms,
            channel,
            max(change.return_period_s, 0.0 if before is None else before.return_period_s),
        )
        member = self._asked(member, change.time_ms)
        if before is None:
            about.began_ms = min(about.began_ms, opened_ms)
            about.active_ms = max(about.active_ms, opened_ms)
        if not change.is_open:
            about.active_ms = max(about.active_ms, change.time_ms)
            about.closed_as = _in_incident(change.closed_as)
        about.heard_ms = max(about.heard_ms, change.time_ms)
        self._put(one, member)
        severe = max(about.severity, severity, self._by_breadth(one))
        self._count_rule(before, member)
        pending = member != before or severe > about.severity or change.peak > about.peak
        about.severity, about.peak = severe, max(about.peak, change.peak)
        about.pending = about.pending or pending
        self.dirty.incidents.add(about.incident)
        self.dirty.members.add(member.anomaly)

    def _put(self, one: Incident, member: Member) -> None:
        before = one.members.get(member.anomaly)
        if before is None:
            one.streams[member.stream] += 1
        opened = member.is_open - (before is not None and before.is_open)
        one.open_members += opened
        self.controls.note(member.stream, opened)
        one.members[member.anomaly] = member
        self._of[member.anomaly] = member.incident

    def _by_breadth(self, one: Incident) -> int:
        streams, broad = len(one.streams), self.rules.broad_streams
        return 2 if streams >= 10 * broad else 1 if streams >= broad else 0

    def _end(self, ended: AnomaliesEnded) -> list[IncidentEvent]:
        events = list[IncidentEvent]()
        for one in sorted(self.incidents.values(), key=_age):
            mine = [member for member in one.members.values() if _is_about(ended, member)]
            if mine:
                self._close_members(one, mine, ended.closed_as)
                one.summary.active_ms = max(one.summary.active_ms, self.clock_ms)
                one.summary.pending = True
                events += self._publish_due(one)
                self._schedule(one)
        return events

    # --- publishing

    def _publish_due(self, one: Incident) -> list[IncidentEvent]:
        about = one.summary
        if not about.pending:
            return []
        is_open = one.open_members > 0
        if about.events == 0:
            # An anomaly whose first event closes it opens no incident, so a member of this one is open.
            return [self._publish(one, "opened")]
        rises = is_open and (
            about.severity > about.published_severity or len(one.streams) >= 2 * about.published_streams
        )
        ends = about.published_open and not is_open
        if rises or ends or self.clock_ms >= about.published_ms + self.rules.update_every_ms:
            return [self._publish(one, "updated" if is_open else "closed")]
        return []

    def _publish(self, one: Incident, change: str) -> IncidentEvent:
        about = one.summary
        about.closed_as = (about.closed_as or RECOVERED) if one.open_members == 0 else None
        if one.open_members and not about.notified:
            self._decide(one)
        event = incident_event(one, change, self.clock_ms)
        about.events += 1
        about.published_ms, about.published_open = self.clock_ms, one.open_members > 0
        about.published_severity, about.published_streams = about.severity, len(one.streams)
        about.pending = False
        self.dirty.incidents.add(about.incident)
        return event

    def _decide(self, one: Incident) -> None:
        """Whether it is for people: asked when it opens, when it rises, and when a quiet time is over."""
        about = one.summary
        asked = [member for member in one.members.values() if member.is_open]
        reasons = [member.quiet for member in asked]
        if None not in reasons:
            if about.held_back is None:
                self.decisions[RULE if all(member.rule for member in asked) else QUIET] += 1
            about.held_back = min(filter(None, reasons))
            return
        if about.severity > about.asked_severity:
            about.asked_severity = about.severity
            about.notified = self.budget.take(about.severity, self.clock_ms, about.group)
            about.held_back = None if about.notified else BUDGET
            self.decisions["notified" if about.notified else BUDGET] += 1
        else:
            about.held_back = BUDGET  # it was asked before, and a quiet time is over

    # --- time

    def _pass_time(self) -> Iterator[IncidentEvent]:
        """What is due: updates that have waited, incidents that expire, and those that no one can join any more."""
        for one in sorted(self._take_due(), key=_age):  # a book that was read again has them in another order
            about = one.summary
            if one.open_members and self.clock_ms > about.heard_ms + self.rules.expire_ms:
                yield self._expire(one)
            yield from self._publish_due(one)
            if not one.open_members and self.clock_ms > about.active_ms + self.rules.gap_ms:
                if about.pending:
                    yield self._publish(one, "closed")
                self._forget(one)
            else:
                self._schedule(one)

    def _take_due(self) -> list[Incident]:
        """Those with which something is due now; they are no longer scheduled."""
        found = list[Incident]()
        while self._dues and self._dues[0][0] <= self.clock_ms:
            due_ms, name = heappop(self._dues)
            if self._due_ms.get(name) != due_ms:
                continue  # it was looked at earlier, or is forgotten
            del self._due_ms[name]
            one = self.incidents[name]
            if self._due_of(one) <= self.clock_ms:
                found.append(one)
            else:
                self._schedule(one)  # it has changed since
        return found

    def _schedule(self, one: Incident) -> None:
        """Look at it again when something is due; a time that turns out to be too early costs a look."""
        name, due_ms = one.summary.incident, self._due_of(one)
        if due_ms < self._due_ms.get(name, NEVER_MS):
            self._due_ms[name] = due_ms
            heappush(self._dues, (due_ms, name))

    def _due_of(self, one: Incident) -> int:
        about, rules = one.summary, self.rules
        ends_ms = (about.heard_ms + rules.expire_ms if one.open_members else about.active_ms + rules.gap_ms) + 1
        return min(ends_ms, about.published_ms + rules.update_every_ms) if about.pending else ends_ms

    def _expire(self, one: Incident) -> IncidentEvent:
        """Its open members have sent no event for longer than streams are remembered."""
        self._close_members(one, [member for member in one.members.values() if member.is_open], EXPIRED)
        return self._publish(one, "closed")

    def _close_members(self, one: Incident, members: Sequence[Member], closed_as: str) -> None:
        for member in members:
            self._put(one, msgspec.structs.replace(member, closed_as=closed_as))
            self.dirty.members.add(member.anomaly)
        one.summary.closed_as = closed_as
        self.dirty.incidents.add(one.summary.incident)

    def _forget(self, one: Incident) -> None:
        about = one.summary
        for anomaly in one.members:
            del self._of[anomaly]
            self.dirty.members.add(anomaly)
        del self.incidents[about.incident]
        self._due_ms.pop(about.incident, None)
        self._groups[about.group].remove(about.incident)
        if not self._groups[about.group]:
            del self._groups[about.group]
        self.dirty.incidents.add(about.incident)


def _is_about(ended: AnomaliesEnded, member: Member) -> bool:
    mine = ended.source == member.source and ended.stream in (None, member.stream)
    return mine and member.is_open


def _in_incident(closed_as: str | None) -> str:
    """Of an incident: a new level is a recovery like another."""
    return closed_as if closed_as == FORGOTTEN else RECOVERED


def _age(one: Incident) -> tuple[int, str]:
    """In this order the oldest is first, whatever order they came in."""
    return one.summary.began_ms, one.summary.incident
