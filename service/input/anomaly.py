"""An anomaly as its events describe it, and what it is called in all of them."""

import uuid

import msgspec
from msgspec import UNSET, UnsetType

from models.detection.alarm import Change
from service.log.port import Partition

ANOMALY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "anomalies.telltale")
CHANGE_NAMES = {
    Change.OPENED: "opened",
    Change.UPDATED: "updated",
    Change.RECOVERED: "closed",
    Change.LEVEL_SHIFT: "closed",
}
CLOSED_AS = {Change.RECOVERED: "recovered", Change.LEVEL_SHIFT: "level_shift"}


class Channel(msgspec.Struct, frozen=True):
    """One feature of the reading at which the anomaly changed."""

    name: str
    observed: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    share: float  # of the reading's residual, over all channels 1


class Anomaly(msgspec.Struct, frozen=True):
    """An anomaly as it stands after one of its transitions."""

    anomaly: str  # id, the same in all of its events
    stream: str
    status: str  # open, closed
    severity: str  # minor, major, critical: by the peak so far
    kind: str  # what opened it (see opened_by), or, of a checkpoint with a head for kinds, what fault it looks like
    closed_as: str | None  # recovered; level_shift: it lasted and is the new normal
    score: float
    peak: float
    opened_at: str
    closed_at: str | None
    channels: list[Channel]
    checkpoint: str
    topic: str
    partition: int
    offset: int
    # Only of a checkpoint with a head for kinds; a checkpoint without one says in `kind` what is in opened_by here.
    # Of an open anomaly what it looks like now, of a closed one what it looked like all along.
    kind_probability: float | UnsetType = UNSET  # 0..1, among the kinds there are
    # prediction: the memory did not expect it; level: readings that stay where they should not be at this hour;
    # range: outside everything seen
    opened_by: str | UnsetType = UNSET


def anomaly_id(partition: Partition, opened_offset: int, stream: str) -> str:
    """What an anomaly is called in all of its events: by the reading at which it opened."""
    return str(uuid.uuid5(ANOMALY_NAMESPACE, opening_of(partition, opened_offset, stream)))


def opening_of(partition: Partition, opened_offset: int, stream: str) -> str:
    """The reading at which an anomaly opened, by its place and its stream."""
    return f"{partition.topic}/{partition.number}/{opened_offset}/{stream}"
