"""An anomaly as its events describe it, and what it is called in all of them."""

import uuid
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from models.data.arrays import Int64s
from models.detection.alarm import Change
from service.input.labels import Labels
from service.log.port import Partition

OFFSET_BITS = 42  # of a packed place, below those of the index: 4e12 records of a partition
ANOMALY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "anomalies.telltale")
CHANGE_NAMES = {
    Change.OPENED: "opened",
    Change.UPDATED: "updated",
    Change.RECOVERED: "closed",
    Change.LEVEL_SHIFT: "closed",
}
CLOSED_AS = {Change.RECOVERED: "recovered", Change.LEVEL_SHIFT: "level_shift"}
FORGOTTEN = "forgotten"  # closed_as of an anomaly whose stream is forgotten
PROMOTED = "promoted"  # closed_as of an anomaly of a checkpoint that another has taken over from


class Channel(msgspec.Struct, frozen=True):
    """One feature of the reading at which the anomaly changed."""

    name: str
    observed: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    share: float  # of what the witness saw that opened the anomaly, over all channels 1
    unit: str | UnsetType = UNSET  # of all these values, where detection.rules gives one


class Anomaly(msgspec.Struct, frozen=True):
    """An anomaly as it stands after one of its transitions."""

    anomaly: str  # id, the same in all of its events
    stream: str
    status: str  # open, closed
    severity: str  # minor, major, critical: by the rarest that was seen so far
    kind: str  # what opened it (see opened_by), or, of a checkpoint with a head for kinds, what fault it looks like
    # recovered; level_shift: it lasted and is the new normal; forgotten: its stream was idle; promoted: another
    # checkpoint judges, and does not see it
    closed_as: str | None
    score: float  # of the reading at which it changed; 0 where no reading of its stream did
    peak: float
    opened_at: str
    closed_at: str | None
    channels: list[Channel]  # below; empty where no reading of its stream changed it
    return_period_s: float  # how rarely this stream is as strange as now: the longest of any witness, over their number
    witnesses: dict[str, float]  # of each that can say, how rarely it sees what it sees now, in seconds of event time
    checkpoint: str
    topic: str
    partition: int
    offset: int
    index: int | UnsetType = UNSET  # which of its message's readings, from 0; left out of the first, as of a single one
    # Only of a checkpoint with a head for kinds; a checkpoint without one says in `kind` what is in opened_by here.
    # Of an open anomaly what it looks like now, of a closed one what it looked like all along.
    kind_probability: float | UnsetType = UNSET  # 0..1, among the kinds there are
    # prediction: the memory did not expect it; level: readings that stay where they should not be at this hour;
    # range: outside everything seen; sudden: one reading far from what was expected; stuck: unchanged for longer than
    # ever; missing: absent for longer than ever; silent: no reading for longer than the stream's rhythm allows;
    # relation: channels that do not go together as they did
    opened_by: str | UnsetType = UNSET
    # opened, and updated of silence: since when it has lasted, where that is seen to be before opened_at: of a value
    # that is stuck or missing and of silence its last good reading or the one after it, of a level about when it left
    # the usual one
    began_at: str | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET  # of the stream as of that reading, where its topic's mapping names any


class Place(NamedTuple):
    """A reading in its partition."""

    offset: int  # of its record
    reading: int  # which of the record's it is, from 0; BEFORE_RECORD: none, the partition's clock ticks before it

    def __str__(self) -> str:
        return f"{self.offset}:{self.reading}" if self.reading else f"{self.offset}"


BEFORE_RECORD = -1


def packed_places(offsets: Int64s, indices: Int64s) -> Int64s:
    """Places as one number each, (N,): that of the first reading of a record is its offset.

    A stream's row has one number for the reading at which its alarm opened, a double: 53 bits.
    """
    return offsets + (indices << OFFSET_BITS)


def place_of(packed: float) -> Place:
    """What is at a packed place; a tick of the partition's clock has its record's offset with a minus: see silence."""
    if packed < 0:
        return Place(-int(packed), BEFORE_RECORD)
    reading, offset = divmod(int(packed), 1 << OFFSET_BITS)
    return Place(offset, reading)


def anomaly_id(partition: Partition, opened_at: int, stream: str) -> str:
    """What an anomaly is called in all of its events. opened_at: packed place of the reading at which it opened."""
    return str(uuid.uuid5(ANOMALY_NAMESPACE, opening_of(partition, opened_at, stream)))


def opening_of(partition: Partition, opened_at: int, stream: str) -> str:
    """The reading at which an anomaly opened, by its packed place and its stream."""
    return f"{partition.topic}/{partition.number}/{place_of(opened_at)}/{stream}"
