"""The formats that a record's value may be in, and what a record of many readings is read into.

A reading a record is JSON or MessagePack; many readings a record are columns in MessagePack, JSON or Arrow IPC. The
first byte of a value says which it is.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Doubles, Int64s
from service.errors import RejectedReading
from service.input.labels import NO_LABELS
from service.input.reasons import Reason
from service.input.registry import Registry

MOST_READINGS = 2_048  # of a record: what anomaly.packed_places has bits for
MAX_BATCH_BYTES = 1_048_576
NO_TIME = np.iinfo(np.int64).min  # in a column of times: there is none
ARROW_BEGINS = b"\xff\xff\xff\xff"
ARROW_FILE_BEGINS = b"ARROW1"
MAP_BEGINS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))  # with which a map of MessagePack begins


class InputFormat(StrEnum):
    """What values are read as."""

    AUTO = "auto"  # each as its first byte says
    JSON = "json"
    MSGPACK = "msgpack"
    ARROW = "arrow"

    def of(self, value: bytes) -> "InputFormat":
        """What a value is read as; JSON where nothing speaks for another."""
        if self is not InputFormat.AUTO:
            return self
        if value[:1] and value[0] in MAP_BEGINS:
            return InputFormat.MSGPACK
        return InputFormat.ARROW if value.startswith((ARROW_BEGINS, ARROW_FILE_BEGINS)) else InputFormat.JSON


class TopicMapping(NamedTuple):
    """How the records of a topic are read that are of another form. Paths are those of service.input.paths.

    setting: what it is called, for what is said of a record.
    """

    setting: str
    format: str = "json"
    schema_file: str | None = None  # None: values name their schema in the registry
    message: str | None = None  # which of the file, of Protobuf
    key_format: str = "text"
    readings: str | None = None  # path to the array of them; a value without it is one, or an array of them
    select: tuple[str, ...] = ()  # all of them are true of the readings that are meant
    stream: tuple[str, ...] = ("$key",)
    time: str = "timestamp"
    time_unit: str = "ms"
    time_format: str | None = None
    time_zone: str | None = None
    values: str | Mapping[str, str] = "values"  # to an object or an array of them; or a path for each feature
    metric: str | None = None  # of the name of the one feature that a reading has a value of
    decimal: str | None = None  # of numbers that are text
    missing: tuple[float | str, ...] = ()
    words: Mapping[str | bool, float] = MappingProxyType({})  # numbers that texts and booleans stand for
    quality: str | Mapping[str, str] | None = None
    good: tuple[bool | float | str, ...] = ()
    labels: Mapping[str, str] = NO_LABELS  # a path for each: of what events say of the stream beside its name
    tombstones: str = "refuse"  # or "ignore", or "end": the stream is silent from then on
    registry: Registry | None = None  # of the schemas that values and keys name


NO_MAPPINGS: Mapping[str, TopicMapping] = MappingProxyType({})


class RecordRules(NamedTuple):
    """What is decided by settings."""

    format: InputFormat = InputFormat.AUTO
    max_readings: int = MOST_READINGS  # of a record
    max_batch_bytes: int = MAX_BATCH_BYTES  # of a value with many readings
    mappings: Mapping[str, TopicMapping] = NO_MAPPINGS  # by topic: of those whose records are of another form
    registry: Registry | None = None  # for the topics that have no mapping yet


class RecordReadings(NamedTuple):
    """The n >= 0 readings of one record as columns; a number may be out of bounds, or infinite."""

    times_ms: Int64s  # (n,)
    values: Doubles  # (n, F), NaN where a value is missing
    streams: Sequence[bytes] | None = None  # (n,); None: the record's key


def as_doubles(numbers: NDArray[Any]) -> Doubles:
    """Numbers of any width; a float32 may be a NaN that signals, about which numpy would warn."""
    with np.errstate(invalid="ignore"):
        return numbers.astype(np.float64)


def milliseconds_of(time: float | datetime) -> int:
    """A time as it is written: milliseconds, or text or a type of its own that was read as a date."""
    if isinstance(time, float) and not math.isfinite(time):
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {time}")
    if not isinstance(time, datetime):
        return int(time)
    if time.tzinfo is None:
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {time.isoformat()} has no offset from UTC")
    return round(time.timestamp() * 1000)


def whole_milliseconds(times: NDArray[Any]) -> Int64s:
    """A column of times, (n,); fractions are cut off."""
    if times.dtype.kind == "i":
        return times.astype(np.int64, copy=False)
    known = np.isfinite(times)
    far = np.clip(np.where(known, times, 0.0), -(2.0**62), 2.0**62)
    return np.where(known, far.astype(np.int64), NO_TIME)
