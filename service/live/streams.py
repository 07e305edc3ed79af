"""All streams of a worker at one moment, to be sorted and searched by HTTP clients.

The slabs are the worker's own. Once a client asks, and about once a second as long as one does, the worker's
thread copies a few columns and hands them out; they never change afterwards. Sorting and searching is the asker's
work, done once a table however many ask, in numpy, which lets the worker's thread run meanwhile.
Sizes: S slots of all partitions one behind the other, free ones too.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from models.data.arrays import Bools, Bytes, Doubles, Floats, Int64s
from models.data.rfc3339 import rfc3339
from models.detection.alarm import OpenedBy, Severity
from models.detection.rows import SCALARS
from service.input.anomaly import anomaly_id
from service.input.reading_batch import StreamKey
from service.live.observer import Observer, Round
from service.live.watching import NotNow
from service.log.port import Partition
from service.state.task import PartitionTask

EVERY_S = 1.0  # between two tables
ASKED_FOR_S = 10.0  # how long a question keeps new tables coming
WITHIN_S = 2.0
NO_STREAMS = np.empty(0, np.bool_)
COLUMNS = ("age", "time_ms", "alarm", "opened_offset", "opened_ms", "opened_by", "peak", "length")
PLACES = [SCALARS.places[name] for name in COLUMNS]


class Order(StrEnum):
    """What comes first."""

    SCORE = "score"  # the highest score of a last reading
    SILENCE = "silence"  # the last reading that is longest ago, by its own time
    PEAK = "peak"  # the highest score since the open alarm opened


class OpenAlarm(msgspec.Struct, frozen=True):
    """An alarm that is open."""

    anomaly: str  # id, the same as in its events
    severity: str  # minor, major, critical: by the rarest that was seen so far
    opened_at: str
    opened_by: str  # a witness: see anomaly.Anomaly
    peak: float  # highest score since it opened
    readings: int  # since it opened


class StreamSeen(msgspec.Struct, frozen=True):
    """A stream as it was when the table was made."""

    stream: str
    topic: str
    partition: int
    score: float | None  # of its last reading; null: none since its memory was restored
    time: str | None  # of its last reading; null: none yet
    readings: int  # judged, ever
    alarm: OpenAlarm | None


class FoundStreams(NamedTuple):
    """Some of the streams that were asked for."""

    total: int  # of all that match
    streams: list[StreamSeen]


class Names:
    """The keys of a slab's slots, searched as one text."""

    def __init__(self, keys: tuple[StreamKey | None, ...]) -> None:
        self.keys = keys

    @cached_property
    def held(self) -> Bools:
        """(S,) whether there is a stream in the slot."""
        return np.fromiter((key is not None for key in self.keys), np.bool_, len(self.keys))

    def containing(self, text: str) -> Bools:
        """(S,) of the streams whose name has `text` in it; ASCII letters match in either case."""
        joined, ends = self._joined
        wanted = np.frombuffer(text.encode().lower(), np.uint8)
        at = np.arange(max(0, len(joined) - len(wanted) + 1))
        for n, letter in enumerate(wanted):
            at = at[joined[at + n] == letter] if n else np.flatnonzero(joined[: len(at)] == letter)
        slots = np.searchsorted(ends, at, side="right")
        found = np.zeros(len(self.keys), np.bool_)
        found[slots[at + len(wanted) <= ends[slots]]] = True  # not from the end of one name into the next
        return found & self.held

    @cached_property
    def _joined(self) -> tuple[Bytes, Int64s]:
        """All names one behind the other, in small letters, and where each ends."""
        names = [key or b"" for key in self.keys]
        ends = np.cumsum(np.fromiter(map(len, names), np.int64, len(names)))
        return np.frombuffer(b"".join(names).lower(), np.uint8), ends


class PartitionTable(NamedTuple):
    """The streams of one partition, by slot."""

    partition: Partition
    names: Names
    scores: Floats
    columns: Doubles  # (S, COLUMNS)


class StreamTable:
    """What the worker's thread let go of."""

    def __init__(self, made_ms: int, parts: Sequence[PartitionTable]) -> None:
        self.made_ms = made_ms
        self.parts = tuple(parts)
        self._orders: dict[Order, Int64s] = {}

    @property
    def total(self) -> int:
        """Streams there are."""
        return int(self._held.sum())

    def find(
        self, search: str = "", order: Order = Order.SCORE, alarm: bool = False, skip: int = 0, most: int = 50
    ) -> FoundStreams:
        """A page of the streams whose name has `search` in it. alarm: only those whose alarm is open."""
        wanted = self._held
        if alarm:
            wanted = wanted & (self._column("alarm") > 0)
        if search:
            wanted = wanted & np.concatenate([NO_STREAMS, *(part.names.containing(search) for part in self.parts)])
        places = self._places(order)
        places = places[wanted[places]]
        return FoundStreams(len(places), [self._seen(place) for place in places[skip : skip + most].tolist()])

    def _places(self, order: Order) -> Int64s:
        """(S,) all slots in this order; sorted once a table."""
        if order not in self._orders:
            self._orders[order] = np.argsort(self._rank(order), kind="stable")
        return self._orders[order]

    def _rank(self, order: Order) -> Doubles:
        """(S,) what is least comes first."""
        if order is Order.SILENCE:
            return np.where(self._column("age") > 0, self._column("time_ms"), np.inf)
        if order is Order.PEAK:
            return -self._column("peak") * self._column("alarm")
        scores = np.concatenate([np.empty(0, np.float32), *(part.scores for part in self.parts)])
        return -np.where(np.isnan(scores), -1.0, scores).astype(np.float64)

    @cached_property
    def _held(self) -> Bools:
        return np.concatenate([NO_STREAMS, *(part.names.held for part in self.parts)])

    def _column(self, name: str) -> Doubles:
        at = COLUMNS.index(name)
        return np.concatenate([np.empty(0), *(part.columns[:, at] for part in self.parts)])

    @cached_property
    def _begins(self) -> Int64s:
        return np.cumsum([0, *(len(part.scores) for part in self.parts)])

    def _seen(self, place: int) -> StreamSeen:
        number = int(np.searchsorted(self._begins, place, side="right")) - 1
        part, slot = self.parts[number], place - int(self._begins[number])
        row = dict(zip(COLUMNS, part.columns[slot].tolist(), strict=True))
        name, score = (part.names.keys[slot] or b"").decode(), float(part.scores[slot])
        return StreamSeen(
            stream=name,
            topic=part.partition.topic,
            partition=part.partition.number,
            score=None if np.isnan(score) else score,
            time=rfc3339(int(row["time_ms"])) if row["age"] else None,
            readings=int(row["age"]),
            alarm=_open_alarm(part.partition, name, row) if row["alarm"] else None,
        )


class Tables(Protocol):
    """Where the table can be had: here, or from another process."""

    def look(self) -> StreamTable:
        """The latest table. Raises NotNow where there is none."""
        ...


class Streams(Observer):
    """The table, between the worker's thread and those that ask."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._asked_s: float | None = None
        self._made_s = 0.0
        self._table: StreamTable | None = None
        self._changed = threading.Condition()

    @property
    def wanted(self) -> bool:
        """Whether a new table is due: all that a round costs when no one asks."""
        if self._asked_s is None:
            return False
        now_s = self._monotonic()
        return now_s - self._asked_s < ASKED_FOR_S and (self._table is None or now_s - self._made_s >= EVERY_S)

    def look(self, within_s: float = WITHIN_S) -> StreamTable:
        """The latest table; waits for the worker's round where it is old, and takes the old one if none comes.

        Raises NotNow where there is none at all.
        """
        with self._changed:
            self._asked_s = self._monotonic()
            last = self._table
            if last is None or self._asked_s - self._made_s > 2 * EVERY_S:
                self._changed.wait_for(lambda: self._table is not last, within_s)
            if self._table is None:
                raise NotNow(f"the worker's loop has not come round within {within_s:.0f} s")
            return self._table

    def turned(self, turn: Round) -> None:
        if self.wanted:
            self.publish(turn.tasks.values(), time.time_ns() // 1_000_000)

    def publish(self, tasks: Iterable[PartitionTask], now_ms: int) -> None:
        """At the end of a round: let everybody see all streams as they are now."""
        last = {part.partition: part.names for part in self._table.parts} if self._table else {}
        table = StreamTable(now_ms, [_part(task, last.get(task.partition)) for task in tasks])
        with self._changed:
            self._table, self._made_s = table, self._monotonic()
            self._changed.notify_all()


def _part(task: PartitionTask, last: Names | None) -> PartitionTable:
    keys = task.slab.keys
    held = len(keys)
    columns = task.slab.rows.scalars[:held].numpy().take(PLACES, axis=1)
    names = last if last is not None and last.keys is keys else Names(keys)
    return PartitionTable(task.partition, names, task.slab.scores[:held].copy(), columns)


def _open_alarm(partition: Partition, stream: str, row: Mapping[str, float]) -> OpenAlarm:
    return OpenAlarm(
        anomaly=anomaly_id(partition, int(row["opened_offset"]), stream),
        severity=Severity(int(row["alarm"]) - 1).name.lower(),
        opened_at=rfc3339(int(row["opened_ms"])),
        opened_by=OpenedBy(int(row["opened_by"])).name.lower(),
        peak=row["peak"],
        readings=int(row["length"]),
    )
