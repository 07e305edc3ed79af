"""The loop: poll, merge the partitions by time, commit the readings of records under the names of their streams.

One member of the group has all partitions, since a stream's readings may be in any. Readings, dead letters and offsets
are in one transaction; there is no other state. An unknown error ends the process: a restart is the recovery.
"""

import threading
import time
from collections.abc import Callable

import structlog

from service.errors import LostState, TaskMigrated
from service.log.alignment import Alignment
from service.log.port import Commit, MemberLog, Partition, Polled, Record
from service.rekey.readings import ArrivedRecord, RecordReader
from service.stages.progress import StageStatus, behind, lag_records

POLL_S = 0.5  # longest wait for records: so soon a stop is noticed
AT_ONCE = 2_000  # records, or readings, in one transaction: some 0.3 s, or a stop would wait for long
MOST_WAITING = 100_000  # readings in memory, of some 600 bytes each

logger = structlog.get_logger("telltale.rekey")


class RekeyStage:
    """Drives one log until it is told to stop."""

    def __init__(
        self,
        log: MemberLog,
        reader: RecordReader,
        stop: threading.Event,
        *,
        wait_s: float = 0.0,
        reset: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """wait_s: how long a record waits for those of other partitions that are of an earlier time.

        reset: go on where records were deleted before they were read, else LostState is raised.
        """
        self.status = StageStatus(beat_s=monotonic())
        self._log, self._reader, self._stop = log, reader, stop
        self._wait_s, self._reset, self._monotonic = wait_s, reset, monotonic
        self._owned: frozenset[Partition] = frozenset()
        self._alignment: Alignment[ArrivedRecord] | None = None
        self._committed: dict[Partition, int] = {}

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
        """One round: all that can be taken in by now is, so that no more than a poll brings is waiting."""
        polled = self._log.poll(min(timeout_s, self._wait_s) if self._waiting else timeout_s)
        try:
            self._open_and_close(polled)
            if self._alignment is not None:
                for fetched in polled.fetched:
                    self._alignment.put(fetched, self._monotonic())
                while self._advance(self._alignment) and not self._stop.is_set():
                    self.status.beat_s = self._monotonic()
        except TaskMigrated as migrated:
            logger.warning("rekey_migrated", reason=str(migrated))
            self._alignment = None
            self.status.counts["migrations"] += 1
        self._report()

    @property
    def _waiting(self) -> int:
        return 0 if self._alignment is None else self._alignment.waiting

    def _open_and_close(self, polled: Polled) -> None:
        if polled.revoked:
            self._owned -= set(polled.revoked)
            self._alignment = None  # what comes back begins again where it is committed
        if not polled.assigned:
            return
        self._owned |= set(polled.assigned)
        fresh = polled.assigned
        if self._alignment is None:
            self._alignment, self._committed = Alignment(self._reader.read, MOST_WAITING, _size), {}
            fresh = tuple(sorted(self._owned))
        for partition in fresh:
            self._start(self._alignment, partition)
        logger.info("rekey_started", partitions=len(self._owned))

    def _start(self, alignment: Alignment[ArrivedRecord], partition: Partition) -> None:
        """Begin at the committed offset, or as the log is set up."""
        source = self._log.inspect(partition)
        offset = source.committed
        if offset is not None and offset < source.begin:
            detail = f"{partition}: records from offset {offset} on are missing, the topic begins at {source.begin}"
            if not self._reset:
                raise LostState(f"{detail}. With `state.when_lost: reset` it goes on without them")
            logger.warning("rekey_lost", topic=partition.topic, detail=detail)
            self.status.counts["lost"] += 1
            offset = source.begin
        begun = self._log.start(partition, offset)
        self._committed[partition] = begun
        alignment.begin(partition, begun)

    def _advance(self, alignment: Alignment[ArrivedRecord]) -> bool:
        """Commit what is next; False: that was all. Raises TaskMigrated."""
        readings: list[Record] = []
        letters: list[Record] = []
        came_by_s = self._monotonic() - self._wait_s
        records, is_all = 0, True
        for arrived in alignment.take(behind(self._log, alignment.partitions), AT_ONCE, came_by_s):
            readings += arrived.readings
            letters += () if arrived.letter is None else (arrived.letter,)
            records += 1
            if max(records, len(readings)) >= AT_ONCE:
                is_all = False
                break
        self._commit(alignment, readings, letters)
        counts = self.status.counts
        counts["records"] += records
        counts["readings"] += len(readings)
        counts["rejected"] += len(letters)
        counts["skipped"] += self._reader.skipped
        self._reader.skipped = 0
        return not is_all

    def _commit(self, alignment: Alignment[ArrivedRecord], readings: list[Record], letters: list[Record]) -> None:
        """Write everything or nothing; nothing, if nothing was taken in."""
        offsets = {partition: alignment.next_offset(partition) for partition in alignment.partitions}
        moved = {p: offset for p, offset in offsets.items() if self._committed[p] != offset}
        if not moved:
            return
        first = min(offsets)  # there is one of its number in every topic
        written = Commit(first, offsets[first], dead_letters=tuple(letters), keyed=tuple(readings))
        self._log.commit([written, *(Commit(p, offset) for p, offset in moved.items() if p != first)])
        self._committed |= moved

    def _report(self) -> None:
        status, alignment = self.status, self._alignment
        status.beat_s = self._monotonic()
        status.state = "waiting" if alignment is None else "running"
        if alignment is None:
            status.lag_records = None
        else:
            next_offsets = {partition: alignment.next_offset(partition) for partition in alignment.partitions}
            status.lag_records = lag_records(self._log, next_offsets)


def _size(arrived: ArrivedRecord) -> int:
    return max(1, len(arrived.readings))
