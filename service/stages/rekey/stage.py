"""Merge the partitions by time, and commit the readings of records under the names of their streams.

One member of the group has all partitions, since a stream's readings may be in any. Readings, dead letters and offsets
are in one transaction, and with them what is known of streams whose readings are joined, and the births of Sparkplug
that are valid; there is no other state.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from service.errors import LostState
from service.log.alignment import Alignment
from service.log.port import Commit, Fetched, MemberLog, Partition, Polled, Record, Stored
from service.stages.member_stage import MemberStage
from service.stages.progress import StageStatus, behind, lag_records
from service.stages.rekey.birth_state import BirthChangelog
from service.stages.rekey.births import Births
from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.joining import Join, JoinRules
from service.stages.rekey.readings import (
    ArrivedRecord,
    RecordReader,
    RekeyedEnd,
    RekeyedReading,
    WaitingMessage,
    reading_record,
)
from service.state import changelog_keys
from service.state.changelog import UnreadableRecord

AT_ONCE = 2_000  # records, or readings, in one transaction: some 0.3 s, or a stop would wait for long
READING_BYTES = 600  # in memory, some
MOST_WAITING = 100_000  # readings, or as many bytes of messages that are not read yet

logger = structlog.get_logger("telltale.rekey")


@dataclass(slots=True)
class RekeyStatus(StageStatus):
    """What others see of this stage."""

    joined_streams: int = 0  # of which values are known, where readings are joined
    births: int = 0  # of nodes and devices of Sparkplug, that are valid


class Joining(NamedTuple):
    """How the readings of a stream are joined, and where what is known of it is kept."""

    rules: JoinRules
    changelog: JoinChangelog


class _Task:
    """What the owner of the partitions keeps."""

    def __init__(self, alignment: Alignment[ArrivedRecord | WaitingMessage]) -> None:
        self.alignment = alignment
        self.join: Join | None = None  # where readings are joined, when the changelog is read
        self.births = Births()
        self.is_birth_state_written = False
        self.held_streams: dict[str, bytes] = {}  # of the changelog, until it is read to its end
        self.held_births: dict[str, bytes] = {}  # likewise
        self.is_running = False
        self.committed: dict[Partition, int] = {}


@dataclass(slots=True)
class _Outcome:
    """What comes of a round."""

    readings: list[RekeyedReading | RekeyedEnd] = field(default_factory=list)
    ended: int = 0  # streams of which they say that they are silent
    letters: list[Record] = field(default_factory=list)
    records: int = 0

    @property
    def room(self) -> int:
        return AT_ONCE - max(self.records, len(self.readings))


class RekeyStage(MemberStage[RekeyStatus, _Task]):
    """Merges the partitions of one log by time, and writes each reading under its stream's name."""

    def __init__(
        self,
        log: MemberLog,
        reader: RecordReader,
        stop: threading.Event,
        birth_changelog: BirthChangelog,
        *,
        joining: Joining | None = None,
        wait_s: float = 0.0,
        reset: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """birth_changelog: where births are kept, if the reader has topics with some.

        joining: None: each reading is written as it comes.

        wait_s: how long a record waits for those of other partitions that are of an earlier time.

        reset: go on where records were deleted before they were read, or what was known of streams is lost, else
        LostState is raised.
        """
        super().__init__(log, RekeyStatus(), stop, monotonic)
        self._reader, self._joining, self._wait_s, self._reset = reader, joining, wait_s, reset
        self._birth_changelog = birth_changelog

    @property
    def _with_births(self) -> set[Partition]:
        """The partitions that births may be in."""
        return {partition for partition in self._owned if self._reader.has_births(partition.topic)}

    def _wait_s_of(self, timeout_s: float) -> float:
        timeout_s = super()._wait_s_of(timeout_s)
        waiting = self._task is not None and self._task.is_running and self._task.alignment.waiting
        return min(timeout_s, self._wait_s) if waiting else timeout_s

    def _put(self, task: _Task, fetched: Iterable[Fetched]) -> None:
        for one in fetched:
            task.alignment.put(one, self._monotonic())

    def _say_migrated(self, reason: str) -> None:
        logger.warning("rekey_migrated", reason=reason)

    def _open_and_close(self, polled: Polled) -> None:
        if polled.revoked:
            self._owned -= set(polled.revoked)
            self._task = None  # what comes back begins again where it is committed
        if not polled.assigned:
            return
        self._owned |= set(polled.assigned)
        if self._task is None:
            self._task = _Task(Alignment(self._reader.read, MOST_WAITING, _size, _rank))
        elif self._task.is_running:
            for partition in polled.assigned:  # the topic has more partitions than before
                self._start(self._task, partition)

    # --- restore

    def _restore(self, task: _Task) -> None:
        """Read the next of the changelog, where there is state; when that was all, begin every partition."""
        born = self._with_births
        if born or self._joining is not None:
            stored = self._log.restore(min(self._owned))
            _collect(task.held_births, self._birth_changelog, stored)
            if self._joining is not None:
                _collect(task.held_streams, self._joining.changelog, stored)
            if stored.read < stored.size:
                return
        if self._joining is not None:
            self._fill_join(task, self._joining, self._have_begun({min(self._owned)}))
        if born:
            self._fill_births(task, self._have_begun(born))
        for partition in sorted(self._owned):
            self._start(task, partition)
        task.is_running = True
        known = {} if task.join is None else {"joined_streams": len(task.join)}
        known |= {"births": len(task.births)} if born else {}
        logger.info("rekey_started", partitions=len(self._owned), **known)

    def _have_begun(self, partitions: Iterable[Partition]) -> bool:
        """Whether offsets are committed, so that there is something in the changelog."""
        return any(self._log.inspect(one).committed is not None for one in partitions)

    def _fill_join(self, task: _Task, joining: Joining, has_begun: bool) -> None:
        """Give it what is known of streams."""
        join = self._new_join(joining)
        try:
            if not joining.changelog.fill(join, task.held_streams) and has_begun:
                raise UnreadableRecord("missing", "offsets are committed, but the changelog knows no joined streams")
        except UnreadableRecord as error:
            self._lose(str(error), "the last known values of all streams are missing until they come again")
            join = self._new_join(joining)
            join.dirty |= joining.changelog.names(task.held_streams)  # what is left would be found again
        task.join, task.held_streams = join, {}

    def _fill_births(self, task: _Task, have_begun: bool) -> None:
        """Give it the births that are valid."""
        births = Births()
        try:
            task.is_birth_state_written = self._birth_changelog.fill(births, task.held_births)
            if have_begun and not task.is_birth_state_written:
                raise UnreadableRecord("missing", "offsets are committed, but the changelog knows no births")
        except UnreadableRecord as error:
            self._lose(str(error), "metrics without names are dead letters until their births come again")
            births = Births()
            births.dirty |= self._birth_changelog.names(task.held_births)
        task.births, task.held_births = births, {}

    def _new_join(self, joining: Joining) -> Join:
        return Join(len(self._reader.features), joining.rules)

    def _lose(self, detail: str, then: str) -> None:
        """Something is not there any more, or of no use."""
        if not self._reset:
            raise LostState(f"{detail}. With `state.when_lost: reset` it goes on; {then}")
        logger.warning("rekey_lost", detail=detail)
        self.status.counts["lost"] += 1

    def _start(self, task: _Task, partition: Partition) -> None:
        """Begin at the committed offset, or as the log is set up."""
        source = self._log.inspect(partition)
        offset = source.committed
        if offset is not None and offset < source.begin:
            self._lose(
                f"{partition}: records from offset {offset} on are missing, the topic begins at {source.begin}",
                "without them",
            )
            offset = source.begin
            if self._reader.has_births(partition.topic):
                task.births.clear()  # there may be newer ones among the missing
        begun = self._log.start(partition, offset)
        task.committed[partition] = begun
        task.alignment.begin(partition, begun)

    # --- what is new

    def _advance(self, task: _Task) -> bool:
        out = _Outcome()
        came_by_s = self._monotonic() - self._wait_s
        self._add_idle(task, out)  # those for which the commit before had no room
        if out.room > 0:
            for arrived in task.alignment.take(behind(self._log, task.alignment.partitions), AT_ONCE, came_by_s):
                self._take_in(task, arrived, out)
                if out.room <= 0:
                    break
        self._commit(task, out)
        counts = self.status.counts
        counts["records"] += out.records
        counts["readings"] += len(out.readings) - out.ended
        counts["ended"] += out.ended
        counts["rejected"] += len(out.letters)
        counts["skipped"] += self._reader.skipped
        self._reader.skipped = 0
        if task.join is not None:
            counts["late"] += task.join.late
            task.join.late = 0
        return out.room <= 0

    def _take_in(self, task: _Task, arrived: ArrivedRecord | WaitingMessage, out: _Outcome) -> None:
        if isinstance(arrived, WaitingMessage):
            arrived = self._reader.read_message(arrived, task.births)
        out.records += 1
        out.letters += () if arrived.letter is None else (arrived.letter,)
        out.ended += len(arrived.ends)
        if task.join is None:
            out.readings += (*arrived.readings, *arrived.ends)
            return
        for reading in arrived.readings:
            out.readings += task.join.add(reading)
        for end in arrived.ends:
            out.readings += (*task.join.end(end.key), end)
        self._add_idle(task, out)

    def _add_idle(self, task: _Task, out: _Outcome) -> None:
        if task.join is not None:
            out.readings += task.join.idle(out.room)

    def _commit(self, task: _Task, out: _Outcome) -> None:
        """Write everything or nothing; nothing, if nothing was taken in."""
        alignment = task.alignment
        offsets = {partition: alignment.next_offset(partition) for partition in alignment.partitions}
        moved = {p: offset for p, offset in offsets.items() if task.committed[p] != offset}
        if not moved and not out.readings:
            return
        first = min(offsets)  # there is one of its number in every topic
        features = self._reader.features
        written = Commit(
            first,
            offsets[first],
            dead_letters=tuple(out.letters),
            keyed=tuple(reading_record(features, reading) for reading in out.readings),
        )
        if self._joining is not None and task.join is not None:
            changelog = self._joining.changelog
            pages, marker = tuple(changelog.changed(task.join)), changelog.marker(task.join)
            written = written._replace(pages=pages, marker=marker)
            task.join.dirty.clear()
        if task.births.dirty or (self._with_births and not task.is_birth_state_written):
            written = written._replace(pages=(*written.pages, *self._birth_changelog.changed(task.births)))
            task.births.dirty.clear()
            task.is_birth_state_written = True
        self._log.commit([written, *(Commit(p, offset) for p, offset in moved.items() if p != first)])
        task.committed |= moved

    def _report(self) -> None:
        status, task = self.status, self._task
        status.beat_s = self._monotonic()
        status.state = "waiting" if task is None else "running" if task.is_running else "restoring"
        status.lag_records = None
        if task is not None and task.is_running:
            status.joined_streams = 0 if task.join is None else len(task.join)
            status.births = len(task.births)
            alignment = task.alignment
            status.lag_records = lag_records(self._log, {p: alignment.next_offset(p) for p in alignment.partitions})


def _collect(held: dict[str, bytes], changelog: BirthChangelog | JoinChangelog, stored: Stored) -> None:
    changelog_keys.collect(held, changelog.origin, changelog.kinds, stored.keys, stored.values)


def _size(one: ArrivedRecord | WaitingMessage) -> int:
    if isinstance(one, WaitingMessage):
        (value,) = one.record.values
        return 1 + len(value or b"") // READING_BYTES
    return max(1, len(one.readings))


def _rank(one: ArrivedRecord | WaitingMessage) -> int:
    return one.rank if isinstance(one, WaitingMessage) else 0
