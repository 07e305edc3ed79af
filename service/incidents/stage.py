"""The loop: poll, take in anomalies, commit what came of them. One thread, one transaction a round.

One member of the group has all partitions of the topic of anomalies, since an incident may have members in any. Events,
state and offsets are in one transaction, in the first partition of their topics. Nothing is uncommitted between two
polls. An unknown error ends the process: a restart is the recovery.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.errors import LostState, TaskMigrated
from service.incidents.arrivals import arrived_changes
from service.incidents.book import IncidentBook
from service.incidents.consumed import Consumed
from service.incidents.events import encode_incident
from service.incidents.records import Collected, IncidentMarker, changed_records, marker_record
from service.log.alignment import Alignment
from service.log.port import NOT_HEARD, Commit, MemberLog, Partition, Polled, Record, Source
from service.state.changelog import Origin, UnreadableRecord

POLL_S = 0.5  # longest wait for records: so soon a stop is noticed
AT_ONCE = 1_000  # anomalies in one transaction: some 0.3 s, or a stop would wait for long

logger = structlog.get_logger("telltale.incidents")


@dataclass(slots=True)
class StageStatus:
    """What others see of the stage. Written by its own thread alone."""

    beat_s: float = 0.0  # time.monotonic() when the loop last came round
    state: str = "waiting"  # for partitions; restoring; running
    counts: Counter[str] = field(default_factory=Counter)  # since the start
    open_incidents: int = 0
    tokens: float = 0.0  # left of the budget
    lag_records: int | None = None  # records that are not taken in yet; None: not known


class _Task:
    """What the owner of the partitions keeps. partition: the first, whose changelog has the state."""

    def __init__(self, origin: Origin, book: IncidentBook) -> None:
        self.origin = origin
        self.book = book
        self.consumed = Consumed()
        self.alignment = Alignment(arrived_changes)
        self.collected = Collected(origin)
        self.next_offsets: dict[int, int] = {}  # committed, by partition
        self.topic_id = ""
        self.is_running = False

    @property
    def first(self) -> Partition:
        return self.origin.partition


class IncidentStage:
    """Drives one log with one book of incidents until it is told to stop."""

    def __init__(
        self,
        log: MemberLog,
        new_book: Callable[[], IncidentBook],
        group: str,
        writer: str,
        stop: threading.Event,
        *,
        reset: bool = False,
    ) -> None:
        """group: the consumer group, in whose name the state is kept. writer: transactional id, for the marker.

        reset: go on without state that is lost, else LostState is raised.
        """
        self.status = StageStatus(beat_s=time.monotonic())
        self._log, self._new_book, self._group, self._writer = log, new_book, group, writer
        self._stop, self._reset = stop, reset
        self._owned: frozenset[Partition] = frozenset()
        self._task: _Task | None = None

    def read(self) -> StageStatus:
        """What the watchdog looks at."""
        return self.status

    def run(self, written: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set; the log is closed in any case. written: called when all is committed at the end."""
        try:
            while not self._stop.is_set():
                self.turn()
            written()
        finally:
            self._log.close()

    def turn(self, timeout_s: float = POLL_S) -> None:
        """One round."""
        restoring = self._task is not None and not self._task.is_running
        polled = self._log.poll(0.0 if restoring or self._has_work() else timeout_s)
        try:
            self._open_and_close(polled)
            task = self._task
            if task is not None and not task.is_running:
                self._restore(task)
            elif task is not None:
                for fetched in polled.fetched:
                    task.alignment.put(fetched)
                self._advance(task)
        except TaskMigrated as migrated:
            logger.warning("incidents_migrated", reason=str(migrated))
            self._task = None
            self.status.counts["migrations"] += 1
        self._report()

    def _has_work(self) -> bool:
        return self._task is not None and self._task.alignment.waiting >= AT_ONCE

    def _open_and_close(self, polled: Polled) -> None:
        if polled.revoked:
            self._owned -= set(polled.revoked)
            self._task = None  # what is of one partition is of all
        if not polled.assigned:
            return
        self._owned |= set(polled.assigned)
        if self._task is not None and self._task.is_running:
            for partition in polled.assigned:  # the topic has more partitions than before
                self._start(self._task, partition)
        first = min(self._owned)
        if self._task is None and first.number == 0:
            self._task = _Task(Origin(self._group, first), self._new_book())

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
        task.collected = Collected(task.origin)
        if marker is not None:
            task.next_offsets = dict(marker.next_offsets)
            task.consumed = Consumed(list(marker.consumed))
        for partition in sorted(self._owned):
            self._start(task, partition)
        task.book.clean()
        task.is_running = True
        logger.info(
            "incidents_restored",
            topic=task.first.topic,
            partitions=len(self._owned),
            incidents=len(task.book.incidents),
            next_offsets=task.next_offsets,
        )

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

    def _start(self, task: _Task, partition: Partition) -> None:
        """Begin where the state ends; where it says nothing, at the committed offset, or as the log is set up."""
        offset = task.next_offsets.get(partition.number)
        source = self._log.inspect(partition)
        if offset is None:
            offset = source.committed
        elif offset < source.begin:
            detail = f"{partition}: anomalies from offset {offset} on are missing, the topic begins at {source.begin}"
            if not self._reset:
                raise LostState(f"{detail}. With `state.when_lost: reset` incidents go on without them")
            logger.warning("incidents_lost", topic=partition.topic, detail=detail)
            self.status.counts["lost"] += 1
            offset = source.begin
        begun = self._log.start(partition, offset)
        task.next_offsets[partition.number] = begun
        task.alignment.begin(partition, begun)

    # --- what is new

    def _advance(self, task: _Task) -> None:
        """Take in what is next, and commit what came of it."""
        events: list[Record] = []
        letters: list[Record] = []
        counts: Counter[str] = Counter()
        for arrived in task.alignment.take(self._behind(task), AT_ONCE):
            if arrived.letter is not None:
                letters.append(arrived.letter)
                counts["rejected"] += 1
            if arrived.change is None:
                continue
            task.consumed.add(arrived.partition.number, arrived.offset)
            counts["anomalies"] += 1
            for event in task.book.observe(arrived.change):
                events.append(encode_incident(event, task.consumed.take()))
                counts[event.type.rpartition(".")[2]] += 1
        self._commit(task, events, letters)
        self.status.counts.update(counts)
        self.status.counts.update(task.book.decisions)
        task.book.decisions.clear()

    def _behind(self, task: _Task) -> list[Partition]:
        """Partitions of which there is more to be read than has come."""
        backlogs = self._log.backlogs() or {}
        ends = {partition: backlogs.get(partition, NOT_HEARD).end for partition in task.alignment.partitions}
        return [p for p, end in ends.items() if end is None or self._log.position(p) < end]

    def _commit(self, task: _Task, events: list[Record], letters: list[Record]) -> None:
        """Write everything or nothing; nothing, if nothing was taken in. Raises TaskMigrated."""
        offsets = {partition: task.alignment.next_offset(partition) for partition in task.alignment.partitions}
        moved = {p: offset for p, offset in offsets.items() if task.next_offsets[p.number] != offset}
        if not moved:
            return
        task.next_offsets |= {partition.number: offset for partition, offset in moved.items()}
        book = task.book
        marker = IncidentMarker(
            group=self._group,
            topic=task.first.topic,
            topic_id=task.topic_id,
            next_offsets=task.next_offsets,
            clock_ms=book.clock_ms,
            tokens=book.budget.tokens,
            tokens_at_ms=book.budget.at_ms,
            consumed=task.consumed.runs,
            incidents=len(book.incidents),
            members=sum(len(one.members) for one in book.incidents.values()),
            writer=self._writer,
        )
        pages = tuple(changed_records(task.origin, book))
        written = Commit(
            task.first,
            offsets[task.first],
            tuple(events),
            tuple(letters),
            pages,
            marker_record(marker, task.origin),
        )
        self._log.commit([written, *(Commit(p, offset) for p, offset in moved.items() if p != task.first)])
        book.clean()

    def _report(self) -> None:
        status, task = self.status, self._task
        status.beat_s = time.monotonic()
        status.state = "waiting" if task is None else "running" if task.is_running else "restoring"
        if task is None:
            return
        status.open_incidents, status.tokens = task.book.open_incidents, task.book.budget.tokens
        backlogs = self._log.backlogs() or {}
        ends = {partition: backlogs.get(partition, NOT_HEARD).end for partition in task.alignment.partitions}
        behind = [max(0, end - task.alignment.next_offset(p)) for p, end in ends.items() if end is not None]
        status.lag_records = sum(behind) if task.is_running and len(behind) == len(ends) else None
