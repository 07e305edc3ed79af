"""Take in controls and anomalies, and commit what came of them. One thread, one transaction a round.

One member of the group has all partitions of the topics of anomalies and of controls, since an incident may have
members in any. What there is of the controls is taken in before the anomalies. Events, state and offsets are in one
transaction, in the first partition of their topics. Nothing is uncommitted between two polls.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from service.errors import LostState, RefusedInput
from service.log.alignment import Alignment
from service.log.port import Commit, Fetched, MemberLog, Partition, Polled, Record, Source
from service.stages.incidents.arrivals import arrived_changes
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.consumed import CONTROLS, Consumed
from service.stages.incidents.controls import Holds, holds_record, type_of
from service.stages.incidents.events import (
    ControlEvent,
    IncidentEvent,
    LostIncidentsData,
    encode_incident,
    lost_record,
)
from service.stages.incidents.inbox import ControlInbox
from service.stages.incidents.records import Collected, IncidentMarker, changed_records, marker_record
from service.stages.member_stage import MemberStage
from service.stages.progress import StageStatus, behind, lag_records
from service.state.changelog import UnreadableRecord
from service.state.changelog_keys import Origin

AT_ONCE = 1_000  # anomalies in one transaction: some 0.3 s, or a stop would wait for long
CONTROLS_AT_ONCE = 100  # each looks at all members

logger = structlog.get_logger("telltale.incidents")


@dataclass(slots=True)
class IncidentStatus(StageStatus):
    """And what this one keeps."""

    open_incidents: int = 0
    tokens: float = 0.0  # left of the budget
    controls: Counter[str] = field(default_factory=Counter)  # in force, by type
    label_rules: int = 0  # in force
    rarer_streams: int = 0  # of which labels ask for rarer anomalies


class _Task:
    """What the owner of the partitions keeps. origin: of the first of the anomalies, whose changelog has the state."""

    def __init__(self, origin: Origin, book: IncidentBook, controls: Partition) -> None:
        self.origin = origin
        self.book = book
        self.consumed = Consumed()
        self.alignment = Alignment(arrived_changes)
        self.inbox = ControlInbox(controls)
        self.collected = Collected(origin)
        self.next_offsets: dict[Partition, int] = {}  # committed
        self.topic_id = ""
        self.lost: Record | None = None  # what is published before anything else
        self.asked: dict[str, bool] = {}  # by dependency, what was written of it and has not been taken in yet
        self.is_running = False

    @property
    def first(self) -> Partition:
        return self.origin.partition

    @property
    def partitions(self) -> list[Partition]:
        return [self.inbox.partition, *self.alignment.partitions]

    def next_offset(self, partition: Partition) -> int:
        """Everything before it was taken in."""
        return self.inbox.next_offset if partition == self.inbox.partition else self.alignment.next_offset(partition)


@dataclass(slots=True)
class _Outcome:
    """What comes of a round."""

    events: list[Record] = field(default_factory=list)
    letters: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    controls: list[ControlEvent] = field(default_factory=list)

    def add(self, consumed: Consumed, events: Sequence[IncidentEvent | ControlEvent]) -> None:
        for event in events:
            self.events.append(encode_incident(event, consumed.take()))
            if isinstance(event, ControlEvent):
                self.controls.append(event)
            else:
                self.counts[event.type.rpartition(".")[2]] += 1


class IncidentStage(MemberStage[IncidentStatus, _Task]):
    """Keeps one book of incidents by what comes of one log."""

    def __init__(
        self,
        log: MemberLog,
        new_book: Callable[[], IncidentBook],
        control_topic: str,
        group: str,
        writer: str,
        stop: threading.Event,
        *,
        reset: bool = False,
        check: Callable[[], None] = lambda: None,
        new_life: Callable[[], str] = lambda: str(uuid.uuid4()),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """control_topic: of those that the log reads, the one with controls; the other has the anomalies.

        group: the consumer group, in whose name the state is kept. writer: transactional id, for the marker.

        reset: go on without state that is lost, else LostState is raised. check: called every round; what it raises
        ends the run. new_life: an id that no other event has. clock: Unix time.
        """
        super().__init__(log, IncidentStatus(), stop)
        self._new_book, self._group, self._writer = new_book, group, writer
        self._controls = Partition(control_topic, 0)
        self._reset, self._check_others = reset, check
        self._new_life, self._clock = new_life, clock

    def _check(self) -> None:
        self._check_others()

    def _put(self, task: _Task, fetched: Iterable[Fetched]) -> None:
        for one in fetched:
            into = task.inbox if one.partition == self._controls else task.alignment
            into.put(one)

    def _say_migrated(self, reason: str) -> None:
        logger.warning("incidents_migrated", reason=reason)

    def _open_and_close(self, polled: Polled) -> None:
        if polled.revoked:
            self._owned -= set(polled.revoked)
            self._task = None  # what is of one partition is of all
        if not polled.assigned:
            return
        self._owned |= set(polled.assigned)
        if too_many := [one for one in self._owned if one.topic == self._controls.topic and one.number > 0]:
            raise RefusedInput(
                f"{self._controls.topic}: found {len(too_many) + 1} partitions, expected 1, as controls take effect in"
                " the order of their offsets; name another topic (incidents.control_topic)"
            )
        if self._task is not None and self._task.is_running:
            for partition in polled.assigned:  # the topic has more partitions than before
                self._start(self._task, partition)
        firsts = [one for one in self._owned if one.number == 0 and one != self._controls]
        if self._task is None and firsts and self._controls in self._owned:
            self._task = _Task(Origin(self._group, firsts[0]), self._new_book(), self._controls)

    # --- restore

    def _restore(self, task: _Task) -> None:
        """Read the next of the changelog; when that was all, begin every partition where the state ends."""
        stored = self._log.restore(task.first)
        task.collected.add(stored.keys, stored.values)
        if stored.read < stored.size:
            return
        source = self._log.inspect(task.first)
        task.topic_id = source.topic_id
        try:
            marker = self._usable_marker(task, source)
            if marker is not None:
                task.collected.fill(task.book, marker)
        except UnreadableRecord as error:
            self._lose(task, str(error))
            marker = None
        obsolete, task.collected = task.collected.names(), Collected(task.origin)
        if marker is not None:
            task.next_offsets = {Partition(task.first.topic, n): offset for n, offset in marker.next_offsets.items()}
            task.consumed = Consumed(list(marker.consumed))
            self._resume_controls(task, marker)
        for partition in sorted(self._owned):
            self._start(task, partition)
        task.book.clean()
        if task.lost is not None:
            task.book.dirty = obsolete  # what is left of it would be found again
        task.is_running = True
        logger.info(
            "incidents_restored",
            topic=task.first.topic,
            partitions=len(self._owned),
            incidents=len(task.book.incidents),
            controls=len(task.book.controls.held),
            next_offsets={str(partition): offset for partition, offset in task.next_offsets.items()},
        )

    def _resume_controls(self, task: _Task, marker: IncidentMarker) -> None:
        """Behind those that the marker knows; if the topic was made again, at its beginning, beside the old ones."""
        if self._log.inspect(self._controls).topic_id == marker.control_topic_id:
            task.next_offsets[self._controls] = marker.control_offset
        else:
            logger.warning("control_topic_made_again", topic=self._controls.topic, kept=len(task.book.controls.held))

    def _usable_marker(self, task: _Task, source: Source) -> IncidentMarker | None:
        marker = task.collected.marker()
        if marker is None:
            if source.committed is not None:
                self._lose(task, "the changelog has no marker of incidents, but offsets are committed")
            return None
        if marker.topic_id != source.topic_id:
            self._lose(
                task, f"the state is of topic {marker.topic_id}, found topic {source.topic_id}: it was made again"
            )
            return None
        return marker

    def _lose(self, task: _Task, detail: str) -> None:
        """The state is not there or of no use."""
        if not self._reset:
            raise LostState(
                f"{task.first.topic}: {detail}. With `state.when_lost: reset` incidents begin again without what was"
                " open, at the offsets that are committed"
            )
        logger.warning("incidents_lost", topic=task.first.topic, detail=detail)
        self.status.counts["lost"] += 1
        task.book, task.next_offsets = self._new_book(), {}
        task.book.life = self._new_life()
        about = LostIncidentsData(task.first.topic, self._group, detail)
        task.lost = lost_record(task.book.life, round(1000 * self._clock()), about)

    def _start(self, task: _Task, partition: Partition) -> None:
        """Begin where the state ends; where it says nothing, at the committed offset, or as the log is set up."""
        offset = task.next_offsets.get(partition)
        source = self._log.inspect(partition)
        if offset is None:  # controls are state: without any they are all read again
            offset = source.begin if partition == self._controls else source.committed
        elif offset < source.begin:
            detail = f"{partition}: records from offset {offset} on are missing, the topic begins at {source.begin}"
            if not self._reset:
                raise LostState(f"{detail}. With `state.when_lost: reset` incidents go on without them")
            logger.warning("incidents_lost", topic=partition.topic, detail=detail)
            self.status.counts["lost"] += 1
            offset = source.begin
        begun = self._log.start(partition, offset)
        task.next_offsets[partition] = begun
        if partition == self._controls:
            task.inbox.begin(begun, source.topic_id)
        else:
            task.alignment.begin(partition, begun)

    # --- what is new

    def _advance(self, task: _Task) -> bool:
        outcome, records = _Outcome([] if task.lost is None else [task.lost]), 0
        unread = behind(self._log, task.partitions)
        self._take_controls(task, outcome)
        if task.inbox.waiting == 0 and self._controls not in unread:
            records = self._take_anomalies(task, unread, outcome)
        self._commit(task, outcome)
        for event in outcome.controls:
            _audit(event)
        self.status.counts.update(outcome.counts)
        self.status.counts.update(task.book.decisions)
        task.book.decisions.clear()
        return records == AT_ONCE or task.inbox.waiting > 0

    def _take_controls(self, task: _Task, outcome: _Outcome) -> None:
        for arrived in task.inbox.take(CONTROLS_AT_ONCE):
            if arrived.letter is not None:
                outcome.letters.append(arrived.letter)
                outcome.counts["controls_rejected"] += 1
            if arrived.given is None:
                continue
            task.consumed.add(CONTROLS, arrived.offset)
            outcome.add(task.consumed, task.book.apply(arrived.given))
            control = arrived.given.control
            if isinstance(control, Holds):
                task.asked.pop(control.dependency, None)
            outcome.counts["control_taken_back" if control is None else f"control_{type_of(control)}"] += 1

    def _take_anomalies(self, task: _Task, unread: list[Partition], outcome: _Outcome) -> int:
        """How many records there were."""
        records = 0
        for arrived in task.alignment.take(unread, AT_ONCE):
            records += 1
            if arrived.letter is not None:
                outcome.letters.append(arrived.letter)
                outcome.counts["rejected"] += 1
            if arrived.change is None:
                continue
            task.consumed.add(arrived.partition.number, arrived.offset)
            outcome.counts["anomalies"] += 1
            outcome.add(task.consumed, task.book.observe(arrived.change))
        return records

    def _commit(self, task: _Task, outcome: _Outcome) -> None:
        """Write everything or nothing; nothing, if there is nothing new. Raises TaskMigrated."""
        offsets = {partition: task.next_offset(partition) for partition in task.partitions}
        moved = {p: offset for p, offset in offsets.items() if task.next_offsets[p] != offset}
        book = task.book
        changed = book.controls.holding_changed().items()
        holding = {name: holds for name, holds in changed if task.asked.get(name) != holds}
        if not moved and not holding and task.lost is None:
            return
        task.next_offsets |= moved
        book.budget.drop_full(book.clock_ms)
        marker = IncidentMarker(
            group=self._group,
            topic=task.first.topic,
            topic_id=task.topic_id,
            next_offsets={p.number: offset for p, offset in task.next_offsets.items() if p != self._controls},
            clock_ms=book.clock_ms,
            tokens=book.budget.tokens,
            tokens_at_ms=book.budget.at_ms,
            group_tokens={group: (one.tokens, one.at_ms) for group, one in book.budget.groups.items()},
            consumed=task.consumed.runs,
            incidents=len(book.incidents),
            members=sum(len(one.members) for one in book.incidents.values()),
            controls=len(book.controls.held),
            control_topic_id=task.inbox.topic_id,
            control_offset=task.next_offsets[self._controls],
            life=book.life,
            writer=self._writer,
        )
        pages = tuple(changed_records(task.origin, book))
        written = Commit(
            task.first,
            offsets[task.first],
            tuple(outcome.events),
            tuple(outcome.letters),
            pages,
            marker_record(marker, task.origin),
            beside=tuple((self._controls, holds_record(name, holds, book.clock_ms)) for name, holds in holding.items()),
        )
        self._log.commit([written, *(Commit(p, offset) for p, offset in moved.items() if p != task.first)])
        book.clean()
        task.asked |= holding
        task.lost = None

    def _report(self) -> None:
        status, task = self.status, self._task
        status.beat_s = self._monotonic()
        status.state = "waiting" if task is None else "running" if task.is_running else "restoring"
        if task is None:
            return
        status.open_incidents, status.tokens = task.book.open_incidents, task.book.budget.tokens
        controls = task.book.controls
        status.controls, status.label_rules = controls.counts(), controls.label_rules
        status.rarer_streams = controls.rarer_streams
        status.lag_records = None
        if task.is_running:
            status.lag_records = lag_records(self._log, {p: task.next_offset(p) for p in task.partitions})


def _audit(event: ControlEvent) -> None:
    """One line for each control that is committed: who said what, and what came of it."""
    about, given = event.data, event.data.given
    logger.info(
        "control_applied",
        control=about.control,
        type="taken_back" if given is None else type_of(given),
        by=None if given is None else given.by,
        effect=about.effect,
        offset=about.offset,
    )
