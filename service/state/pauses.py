"""In which times nothing is learned of some streams, and for which readings of a partition people had said so.

What people say takes effect between two batches, at an offset that differs from partition to partition. The changelog
has it in a record of its own, written in the transaction of the first batch that was judged by it. So each reading is
judged by the same pauses when it is judged again, and one that comes when a pause was taken back is learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import structlog

from models.data.arrays import Doubles, Int64s
from models.data.cron import parse_cron
from models.data.patterns import Streams
from models.data.quiet_time import NEVER, QuietTime
from models.data.time_units import DAY_MS
from service.input.reading_batch import StreamKey
from service.log.port import Record
from service.state.changelog import UnreadableRecord, sealed, unsealed
from service.state.changelog_keys import Origin, pauses_key

VERSION = 1  # of the record
RECENT_MS = 7 * DAY_MS  # before a reading: of a pause that ended earlier, no gap is counted
MOST_KNOWN = 131_072  # streams of which it is kept whether they are meant: some 20 MB
MOST_BYTES = 256 * 1024  # of what people say at once, and had said, in one record

logger = structlog.get_logger("telltale")


class Window(Protocol):
    """When something holds, and for which streams."""

    @property
    def streams(self) -> Streams: ...

    def last_ends(self, times_ms: Int64s) -> Doubles:
        """As QuietTime has them."""


class SaidPause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quiet time in which nothing is learned, as it was said. Its id is new where any of this is."""

    id: str
    streams: tuple[str, ...]
    from_ms: int | None = None
    until_ms: int | None = None
    cron: str | None = None
    lasts_ms: int = 0
    time_zone: str = "UTC"
    but: tuple[str, ...] = ()  # of those streams none of these

    def window(self) -> QuietTime:
        cron = None if self.cron is None else parse_cron(self.cron, ZoneInfo(self.time_zone))
        return QuietTime(Streams(self.streams, self.but), self.id, self.from_ms, self.until_ms, cron, self.lasts_ms)


@dataclass(slots=True)
class Pause:
    """A window, and of which of a partition's records it was known. until_offset: None: it is."""

    window: Window
    from_offset: int = 0
    until_offset: int | None = None
    _known: dict[StreamKey, bool] = field(default_factory=dict)

    def is_of(self, key: StreamKey) -> bool:
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = key.decode(errors="replace") in self.window.streams
        return found


def paused_until(
    pauses: Sequence[Pause], keys: Sequence[StreamKey], times_ms: Int64s, offsets: Int64s
) -> Doubles | None:
    """When a pause of its stream last ended before each of N >= 1 readings, (N,) ms: see models.detection.pauses.

    None: none that counts, for none of them.
    """
    found: Doubles | None = None
    for one in pauses:
        if one.until_offset is not None and one.until_offset <= int(offsets[0]):
            continue
        ends = one.window.last_ends(times_ms)
        ends[(ends < times_ms - RECENT_MS) | (offsets < one.from_offset)] = NEVER
        if one.until_offset is not None:
            ends[offsets >= one.until_offset] = NEVER
        for n in np.flatnonzero(ends > NEVER).tolist():
            if not one.is_of(keys[n]):
                ends[n] = NEVER
        if (ends > NEVER).any():
            found = ends if found is None else np.maximum(found, ends)
    return found


class _Known(msgspec.Struct, frozen=True):
    said: SaidPause
    from_offset: int
    until_offset: int | None = None  # None: it is said


class _Record(msgspec.Struct, frozen=True):
    pauses: tuple[_Known, ...]
    version: int = VERSION


class TaskPauses:
    """Of one partition: what people say of its readings, and what they had said of some that may be judged again."""

    def __init__(self, known: Sequence[_Known] = ()) -> None:
        self.is_changed = False  # since the changelog has it
        self._known = tuple(known)
        self._wanted: Sequence[SaidPause] | None = None  # as it was last given; None: never
        self._windows: dict[SaidPause, QuietTime] = {}
        self.pauses = self._pauses()

    def adopt(
        self, wanted: Sequence[SaidPause], offset: int, replay_from: int, clock_ms: int | None
    ) -> tuple[list[SaidPause], list[SaidPause]]:
        """Let what is said hold for the partition's records from `offset` on; returns what begins there and what ends.

        wanted: the same object as long as nothing else is said. replay_from: what ended after that offset is kept.
        clock_ms: the partition's; what was over long before is not taken in.
        """
        if wanted is self._wanted:
            return [], []
        self._wanted = wanted
        wanted = _bounded([one for one in wanted if clock_ms is None or not _is_over(one, clock_ms)])
        standing = {one.said for one in self._known if one.until_offset is None}
        begun = [one for one in wanted if one not in standing]
        ended = [one for one in standing if one not in wanted]
        known = [
            msgspec.structs.replace(one, until_offset=offset) if one.until_offset is None and one.said in ended else one
            for one in self._known
        ]
        known += [_Known(one, offset) for one in begun]
        if begun or ended:
            self._known, self.is_changed = _that_fit(known, replay_from), True
            self.pauses = self._pauses()
        return begun, ended

    def record(self, origin: Origin) -> Record:
        """For the changelog."""
        value = sealed(_Record(self._known)) if self._known else None
        return Record(pauses_key(origin), value)

    def _pauses(self) -> tuple[Pause, ...]:
        self._windows = {one.said: self._windows.get(one.said) or one.said.window() for one in self._known}
        return tuple(Pause(self._windows[one.said], one.from_offset, one.until_offset) for one in self._known)


def restored_pauses(value: bytes | None) -> TaskPauses:
    """value: of the record; None: there is none. Raises UnreadableRecord."""
    if value is None:
        return TaskPauses()
    try:
        return TaskPauses(unsealed(value, _Record, VERSION, "the record of pauses").pauses)
    except (ValueError, LookupError, OSError) as error:  # of cron and time zones
        raise UnreadableRecord("corrupt", f"the record of pauses: {error}") from error


def _is_over(one: SaidPause, clock_ms: int) -> bool:
    return one.until_ms is not None and one.until_ms + RECENT_MS < clock_ms


def _bounded(said: Sequence[SaidPause]) -> list[SaidPause]:
    """Those of them that a record has room for, the first ones."""
    sizes = accumulate(len(msgspec.json.encode(one)) for one in said)
    kept = [one for one, size in zip(said, sizes, strict=True) if size <= MOST_BYTES]
    if len(kept) < len(said):
        logger.error("pauses_left_out", found=len(said), expected=f"{MOST_BYTES} bytes at most", kept=len(kept))
    return kept


def _that_fit(known: Sequence[_Known], replay_from: int) -> tuple[_Known, ...]:
    """Without those that ended first, where there are many: a replay of what lies before may then learn more."""
    kept, size = list[_Known](), 0
    for one in reversed(known):
        size += len(msgspec.json.encode(one))
        if one.until_offset is None or one.until_offset > replay_from or size <= MOST_BYTES:
            kept.append(one)
    return tuple(reversed(kept))
