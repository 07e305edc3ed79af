"""Streams that a client looks at: their rows and latest readings, as the worker's thread lets go of them.

The slabs are the worker's own. A client that wants to see a stream puts its key on a short list and waits; at the end
of its next round the worker copies the row, and from then on keeps the stream's readings too. What it hands out never
changes afterwards. A stream that no one has asked for in a while is taken off the list.
"""

import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch

from models.detection.detector import Readings
from models.detection.rows import Rows
from service.errors import TelltaleError
from service.input.anomaly import BEFORE_RECORD, place_of
from service.input.reading_batch import StreamKey
from service.live.observer import Observer, Round
from service.log.port import Partition
from service.pipeline import Processed
from service.state.slab import StateSlab
from service.state.task import PartitionTask, Stage

MOST_STREAMS = 32
KEPT_READINGS = 512  # of a stream, at least; up to PART_READINGS and one batch more
PART_READINGS = 64  # with a row before them: only where a row was copied can older readings be let go
FORGOTTEN_AFTER_S = 60.0
WITHIN_S = 2.0


class UnheldStream(TelltaleError):
    """This worker has no such stream: ask another one."""


class NotNow(TelltaleError):
    """There may be an answer later: ask again."""


class TooMuchAsked(TelltaleError):
    """Others have asked for as much as there may be: ask again when they have done."""


class ViewPart(NamedTuple):
    """Some readings of a stream in a row."""

    row: Rows  # before them
    readings: Readings


class View(NamedTuple):
    """A stream as it was at the end of a round."""

    partition: Partition
    parts: tuple[ViewPart, ...]  # its readings since it is watched, the latest of them
    row: Rows  # after them
    checkpoint: str = ""  # digest of the one that gave the rows their meaning; empty: that of its topic

    @property
    def row_before(self) -> Rows:
        return self.parts[0].row if self.parts else self.row

    @property
    def readings(self) -> Readings:
        return join([part.readings for part in self.parts], self.row.channels.shape[-1])

    def since(self, offset: int) -> "View":
        """The same without the parts that end before `offset`: what is left may begin before it."""
        return self._replace(parts=tuple(part for part in self.parts if int(part.readings.offsets[-1]) >= offset))


def join(pieces: Sequence[Readings], features: int) -> Readings:
    nothing = torch.empty(0, dtype=torch.int64)
    none = Readings(nothing, nothing, torch.empty(0, features, dtype=torch.float64))
    return Readings(*map(torch.cat, zip(none, *pieces, strict=True)))


class Views(Protocol):
    """Where streams can be looked at: here, or from another process."""

    def look(self, key: StreamKey) -> View:
        """The stream as it last was. Raises UnheldStream, NotNow and TooMuchAsked."""
        ...

    def expect(self, key: StreamKey) -> None:
        """Watch a stream that a client may want to look at soon."""
        ...


@dataclass(slots=True)
class _Watch:
    """asked_s: when a client last did. answer: None until the worker has come round."""

    asked_s: float
    answer: View | TelltaleError | None = None
    slab: "weakref.ref[StateSlab] | None" = None
    parts: list[ViewPart] = field(default_factory=list)


class Watching(Observer):
    """The list, between the worker's thread and those that ask."""

    def __init__(self, most_streams: int = MOST_STREAMS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most_streams = most_streams
        self._monotonic = monotonic
        self._watches: dict[StreamKey, _Watch] = {}
        self._changed = threading.Condition()

    @property
    def wanted(self) -> bool:
        """Whether there is anything to follow: all that a round costs when no one looks."""
        return bool(self._watches)

    def look(self, key: StreamKey, within_s: float = WITHIN_S) -> View:
        """The stream as it last was; waits for the worker's round where it was not watched yet.

        Raises UnheldStream, NotNow and TooMuchAsked.
        """
        with self._changed:
            watch = self._watches.get(key)
            if watch is None:
                self._forget()
                if len(self._watches) >= self._most_streams:
                    raise TooMuchAsked(f"{len(self._watches)} streams are watched, which is as many as there may be")
                watch = self._watches[key] = _Watch(self._monotonic())
            watch.asked_s = self._monotonic()
            if not self._changed.wait_for(lambda: watch.answer is not None, within_s):
                raise NotNow(f"the worker's loop has not come round within {within_s:.0f} s")
            if isinstance(watch.answer, View):
                return watch.answer
            raise watch.answer or NotNow("no answer")

    def expect(self, key: StreamKey) -> None:
        """Watch a stream that a client may want to look at soon, while half of the places are free for questions."""
        with self._changed:
            if key in self._watches:
                self._watches[key].asked_s = self._monotonic()
            elif len(self._watches) < self._most_streams // 2:
                self._watches[key] = _Watch(self._monotonic())

    def turned(self, turn: Round) -> None:
        if self.wanted:
            self.follow(turn.tasks.values(), turn.judged)

    def follow(self, tasks: Collection[PartitionTask], judged: Sequence[Processed]) -> None:
        """At the end of a round: take in what was judged and committed in it, and let everybody see it."""
        with self._changed:
            self._forget()
            read = _read_of(judged, self._watches)
            for key, watch in list(self._watches.items()):
                task = next((one for one in tasks if one.stage is Stage.RUNNING and key in one.slab), None)
                if task is None:
                    watch.answer = _absence(key, tasks)
                    del self._watches[key]
                else:
                    _go_on(watch, key, task, read.get((task.partition, key), []))
            self._changed.notify_all()

    def _forget(self) -> None:
        long_ago = self._monotonic() - FORGOTTEN_AFTER_S
        for key in [key for key, watch in self._watches.items() if watch.asked_s < long_ago]:
            del self._watches[key]


class _ReadSlice(NamedTuple):
    """A stream's readings in a batch."""

    readings: Readings
    judged: int  # neither late nor a duplicate


def _read_of(
    judged: Sequence[Processed], keys: Mapping[StreamKey, _Watch]
) -> dict[tuple[Partition, StreamKey], list[_ReadSlice]]:
    read: dict[tuple[Partition, StreamKey], list[_ReadSlice]] = {}
    for one in judged:
        places: dict[StreamKey, list[int]] = {}
        for n, key in enumerate(one.batch.keys):
            if key in keys:
                places.setdefault(key, []).append(n)
        for key, mine in places.items():
            index = torch.tensor(mine)
            fate = one.verdicts.fate.judged[index] if one.verdicts else torch.empty(0)
            read.setdefault((one.batch.partition, key), []).append(
                _ReadSlice(Readings(*(column[index] for column in one.batch.readings)), int(fate.sum()))
            )
    return read


def _go_on(watch: _Watch, key: StreamKey, task: PartitionTask, read: Sequence[_ReadSlice]) -> None:
    """Add what was read to what is kept; begin again where that does not lead to the row there is.

    The slab may be another one since, a stream may have been forgotten and come back in one batch, and one that falls
    silent is told without a reading.
    """
    row = task.slab.gather(task.slab.find([key]))
    last = watch.answer if isinstance(watch.answer, View) else None
    same_slab = watch.slab is not None and watch.slab() is task.slab
    leads_on = last is not None and _age(row) == _age(last.row) + sum(one.judged for one in read)
    if last is None or not same_slab or not leads_on or _was_told_silent(last.row, row):
        watch.slab, watch.parts = weakref.ref(task.slab), []
    elif read:
        watch.parts = _kept(
            [*watch.parts, ViewPart(last.row, join([one.readings for one in read], row.channels.shape[-1]))]
        )
    digest = "" if task.meaning is None else task.meaning.layout.checkpoint
    watch.answer = View(task.partition, tuple(watch.parts), row, digest)


def _kept(parts: list[ViewPart]) -> list[ViewPart]:
    """The last one joined to the one before if that is short; the first ones let go if there is enough without."""
    if len(parts) > 1 and len(parts[-2].readings.offsets) < PART_READINGS:
        *parts, one, other = parts
        parts = [*parts, ViewPart(one.row, Readings(*map(torch.cat, zip(one.readings, other.readings, strict=True))))]
    lengths = np.array([len(part.readings.offsets) for part in parts])
    enough = lengths[::-1].cumsum()[::-1] >= KEPT_READINGS  # from this part on
    return parts[max(0, int(enough.sum()) - 1) :]


def _age(row: Rows) -> float:
    return float(row.scalar("age")[0])


def _was_told_silent(before: Rows, row: Rows) -> bool:
    """Whether the partition's clock has opened an alarm since."""
    opened, opened_before = (float(one.scalar("opened_offset")[0]) for one in (row, before))
    return opened != opened_before and place_of(opened).reading == BEFORE_RECORD


def _absence(key: StreamKey, tasks: Collection[PartitionTask]) -> TelltaleError:
    busy = sum(task.stage is not Stage.RUNNING for task in tasks)
    if busy:
        return NotNow(f"{busy} of {len(tasks)} partitions do not have their memory back yet")
    return UnheldStream(f"this worker holds no stream {key.decode(errors='replace')!r}")
