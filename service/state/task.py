"""One partition's unit of work: its memory, and how far it has come."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from msgspec import UNSET

from models.data.arrays import Int64s
from models.detection.ticks import Ticks
from service.input.reading_batch import StreamEnd
from service.log.port import Partition
from service.state.changelog import Marker, Meaning
from service.state.pauses import TaskPauses
from service.state.slab import StateSlab

NO_OFFSET = -1
NO_END = np.iinfo(np.int64).max  # of a partition: an offset behind all
IDLE_TICKS = 16  # an idle stream is one without a reading for that many


class Stage(StrEnum):
    """What a task is doing about its memory."""

    WAITING = "waiting"  # cannot be served yet: topics that it needs are not there
    RESTORING = "restoring"  # reads its pages from the changelog
    PRIMING = "priming"  # warms streams up whose pages are another checkpoint's
    REPLAYING = "replaying"  # judges again, publishing nothing, what came after the pages were written
    RUNNING = "running"


class Stretch(NamedTuple):
    """Neighbouring records between two ticks of their partition's clock."""

    begin: int  # index of its first record
    end: int  # index behind its last
    idle_before: int | None = None  # before it, forget streams without a reading since this offset; None: none is idle
    silent_by: Ticks | None = None  # and tell which streams fall silent at the last of these ticks; None: none does
    ends: tuple[StreamEnd, ...] = ()  # and of which streams it is said that they are silent; before all its readings


class Forgetting(NamedTuple):
    """Where idle streams are forgotten; each (E,), rising."""

    offsets: Int64s  # of the records before which they are
    before: Int64s  # since which offset they had no reading


FindSilent = Callable[[Ticks, Forgetting], Int64s]
"""The offsets of those ticks at which streams may fall silent."""


class ClockState(NamedTuple):
    """What is remembered of a partition's clock."""

    latest_ms: int | None
    idle_ticks: Sequence[int]
    silence_ticks: Sequence[Sequence[int]]

    @classmethod
    def of(cls, marker: Marker) -> Self:
        return cls(marker.event_time_ms, marker.ticks, () if marker.silence_ticks is UNSET else marker.silence_ticks)


class EventClock:
    """How a partition's own time passes: by the latest event time of any of its readings, never by a wall clock.

    Silence is told by ticks of its own, see models.detection.ticks. For idle streams it ticks when that time enters
    another sixteenth of `idle_s`; a jump over several is one tick, so that a plant that stood still for a month, or
    history read side by side, makes no stream idle. Several ticks within one record are one too. Ticks depend on the
    readings and their order alone, not on where batches end.
    """

    def __init__(self, idle_s: float | None) -> None:
        """idle_s: seconds of event time without a reading after which a stream is idle; None: none ever is."""
        self._tick_ms = None if idle_s is None else max(1, int(idle_s * 1000) // IDLE_TICKS)
        self.latest_ms: int | None = None
        self.ticks: list[int] = []  # offsets of the readings at which it last ticked, the latest IDLE_TICKS of them
        self.silence_ticks = Ticks.none()  # the latest of those by which silence is told

    @property
    def state(self) -> ClockState:
        """What a marker keeps of it."""
        return ClockState(self.latest_ms, self.ticks, self.silence_ticks.stored())

    def restore(self, state: ClockState) -> None:
        self.latest_ms, self.ticks = state.latest_ms, list(state.idle_ticks)[-IDLE_TICKS:]
        self.silence_ticks = Ticks.restored(state.silence_ticks)

    def advance(self, times_ms: Int64s) -> list[int]:
        """Let N >= 1 readings pass; returns the indices of those at which the clock ticks, before they are judged."""
        return self._idle_ticks(self._move(times_ms))

    def cut(
        self,
        record_offsets: Int64s,
        reading_offsets: Int64s,
        times_ms: Int64s,
        find_silent: FindSilent,
        ends: tuple[StreamEnd, ...] = (),
    ) -> list[Stretch]:
        """Let the readings (N,) among records (R,) pass; returns the records in stretches between two ticks.

        Of the ticks of silence it is only those at which `find_silent` says that a stream may fall silent. A stretch
        also begins at the first of some `ends` behind a reading.
        """
        if not len(times_ms):
            return [Stretch(0, len(record_offsets), ends=ends)]
        latest = self._move(times_ms)
        at, ticks = np.unique(reading_offsets[self._idle_ticks(latest)]), Ticks.among(reading_offsets, latest)
        if not len(at) and not len(ticks) and not ends:
            return [Stretch(0, len(record_offsets))]
        idle = {offset: before for offset in at.tolist() if (before := self.tick(offset)) is not None}
        silent = self._find_silent(ticks, idle, find_silent)
        offsets = sorted({*at.tolist(), *silent, *_first_behind_readings(ends, reading_offsets)})
        begins = dict(zip(np.searchsorted(record_offsets, offsets).tolist(), offsets, strict=True))
        borders = sorted({0, *begins, len(record_offsets)})
        ended = np.searchsorted([one.offset for one in ends], [*record_offsets[borders[:-1]], NO_END]).tolist()
        return [
            Stretch(
                begin,
                end,
                idle.get(begins.get(begin, NO_OFFSET)),
                silent.get(begins.get(begin, NO_OFFSET)),
                ends[first:last],
            )
            for (begin, end), (first, last) in zip(pairwise(borders), pairwise(ended), strict=True)
        ]

    def _move(self, times_ms: Int64s) -> Int64s:
        """Let N >= 1 readings pass; returns what the clock is before each of them, and after the last, (N + 1,)."""
        first = int(times_ms[0]) if self.latest_ms is None else self.latest_ms
        latest = np.maximum.accumulate(np.concatenate([[first], times_ms]))
        self.latest_ms = int(latest[-1])
        return latest

    def _idle_ticks(self, latest: Int64s) -> list[int]:
        if self._tick_ms is None or latest[-1] // self._tick_ms == latest[0] // self._tick_ms:
            return []
        return np.flatnonzero(np.diff(latest // self._tick_ms)).tolist()

    def _find_silent(self, ticks: Ticks, idle: Mapping[int, int], find_silent: FindSilent) -> dict[int, Ticks]:
        """By the offset of the record before which streams may fall silent, the ticks until then."""
        if not len(ticks):
            return {}
        known = self.silence_ticks.and_then(ticks)
        forgetting = Forgetting(*(np.array([*column], np.int64) for column in (idle.keys(), idle.values())))
        found = np.intersect1d(find_silent(known, forgetting), ticks.offsets).tolist()
        self.silence_ticks = known.latest()
        return {offset: known.until(offset) for offset in found}

    def tick(self, offset: int) -> int | None:
        """Note a tick; returns the offset since which a stream must have had a reading; None: none is idle yet."""
        before = self.ticks[0] if len(self.ticks) == IDLE_TICKS else None
        self.ticks = [*self.ticks, offset][-IDLE_TICKS:]
        return before


def _first_behind_readings(ends: Sequence[StreamEnd], reading_offsets: Int64s) -> list[int]:
    """The offsets of those before which there is a reading, and no other one since."""
    offsets = np.array([one.offset for one in ends], np.int64)
    before, firsts = np.unique(np.searchsorted(reading_offsets, offsets), return_index=True)
    found: list[int] = offsets[firsts[before > 0]].tolist()
    return found


def records_in(counts: Mapping[str, int]) -> int:
    """How many records were judged; before they were counted, each held one reading or was rejected."""
    fates = ("judged", "late", "duplicate", "rejected")
    return counts["records"] if "records" in counts else sum(counts.get(fate, 0) for fate in fates)


class Milestones:
    """When a partition came to which offset: how old a change is that is known by its offset alone.

    One mark for each time it is noted, those that lie before what is still asked for are let go.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()  # (everything before this offset, was judged by then)

    def pass_on(self, next_offset: int, now_s: float) -> None:
        """The partition has come to this offset."""
        if not self._marks or next_offset > self._marks[-1][0]:
            self._marks.append((next_offset, now_s))

    def reached_s(self, offset: int) -> float | None:
        """When the reading at `offset` was judged; None: nothing is known of it. Ask for rising offsets."""
        while self._marks and self._marks[0][0] <= offset:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else None


@dataclass(slots=True)
class PartitionTask:
    """Lives from the assignment of its partition to its revocation."""

    partition: Partition
    slab: StateSlab
    clock: EventClock = field(default_factory=lambda: EventClock(None))
    stage: Stage = Stage.RUNNING
    next_offset: int | None = None  # everything before it has been judged; None: not known yet
    open_alarms: int = 0
    covered: int = -1  # readings up to this offset may be in a row already
    counts: Counter[str] = field(default_factory=Counter)  # what became of the partition's records and readings, ever
    topic_id: str = ""
    partitions: int = 1  # of the topic
    meaning: Meaning | None = None  # of its rows; None: that of its topic, as the settings say
    checkpoint_from: int = 0  # offset from which on this checkpoint judges
    rules: str = ""  # digest of the sensors' rules; "": none excludes a value
    rules_from: int | None = None  # offset from which on they judge; None: none ever has excluded a value
    primed_from: int = 0  # offset from which on the readings before that may warm streams up
    progress: float = 1.0  # of the stage, 0 to 1
    asked_s: float | None = None  # when it was last asked which pages are due
    credit: float = 0.0  # pages that could have been written since
    milestones: Milestones = field(default_factory=Milestones)
    pauses: TaskPauses = field(default_factory=TaskPauses)  # in which nothing is learned of some streams

    @property
    def replay_from(self) -> int | None:
        """From where the input would have to be judged again if this process ended now."""
        since = self.slab.dirty_since()
        return self.next_offset if since is None else since
