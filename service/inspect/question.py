"""What to judge again, and what comes of it."""

from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from service.input.reading_batch import StreamKey


class Question(NamedTuple):
    """What to judge again. around_ms: event time."""

    stream: StreamKey
    around_ms: int
    readings: int
    idle_s: float | None
    prime_readings: int


class Reading(msgspec.Struct, frozen=True):
    """A verdict, for people."""

    offset: int
    fate: str  # judged, late, duplicate, or why it was rejected
    time: str | None
    values: tuple[float | None, ...]
    expected: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    score: float | None
    alarm: bool
    index: int | UnsetType = UNSET  # which of its record's readings; left out of the first, and of what was rejected

    @property
    def place(self) -> tuple[int, int]:
        return self.offset, self.index or 0


class Check(msgspec.Struct, frozen=True):
    """What came out, held against a version of the row in the changelog. differs: the quantities that do."""

    offset: int  # of the last reading in it
    differs: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's readings around a time are judged to be. features: the names of the values."""

    stream: str
    topic: str
    partition: int
    checkpoint: str  # digest
    another_model: bool  # the service judged them with another checkpoint
    begins: int  # offset
    begins_with: str
    features: tuple[str, ...]
    readings: tuple[Reading, ...]
    events: tuple[msgspec.Raw, ...]  # the bytes of every event of the anomalies that touch the readings
    checks: tuple[Check, ...]
    remarks: tuple[str, ...]
