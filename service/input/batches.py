"""Records of many readings in MessagePack or JSON: a map of columns.

    {"timestamps": [N times], "values": {"flow": [N numbers], ...}}     or "values": [N rows of F numbers]
    "stream": a name, or [N names], where the stream is not the record's key

Sizes: R records, N readings of one, F features.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from models.data.arrays import Doubles, Int64s
from service.errors import RejectedReading
from service.input.formats import MAP_BEGINS, NO_TIME, RecordReadings, milliseconds_of, whole_milliseconds
from service.input.packed_numbers import Packed, read_packed
from service.input.reasons import Reason

FARTHEST_MS = 2**62  # times are cut there: any that is so far is out of bounds, and fits in a column
OBJECT_BEGINS = MAP_BEGINS | {ord("{")}

T = TypeVar("T")


class _Head(NamedTuple):
    """A record's parts: numbers as the bytes that they are written in."""

    timestamps: Raw
    columns: tuple[Raw, ...]  # one a feature; empty where there are rows
    rows: Raw | None
    streams: str | list[str] | UnsetType


class BatchReader:
    """Reads records of many readings for a checkpoint with these features."""

    def __init__(self, features: Sequence[str], max_readings: int, codec: ModuleType, malformed: Reason) -> None:
        """codec: msgspec.json or msgspec.msgpack. malformed: what is wrong with a value that it cannot read."""
        self._features = tuple(features)
        self._max_readings = max_readings
        self._malformed = malformed
        names = [f"f{n}" for n in range(len(self._features))]
        rename = dict(zip(names, self._features, strict=True))
        columns = msgspec.defstruct("Columns", [(name, Raw) for name in names], rename=rename)
        head = msgspec.defstruct(
            "Batch",
            [
                *((name, Raw, Raw()) for name in ("timestamp", "timestamps", "values")),
                ("stream", str | list[str] | UnsetType, UNSET),
            ],
        )
        decoder: Callable[[Any], Any] = codec.Decoder
        self._head, self._columns = decoder(head).decode, decoder(columns).decode
        self._times = decoder(list[int | float | datetime]).decode
        self._numbers, self._rows = decoder(list[float | None]).decode, decoder(list[list[float | None]]).decode

    def read(self, values: Sequence[bytes]) -> list[RecordReadings | RejectedReading | None]:
        """Each of R records: its readings; or why it cannot be decoded at all; or None, where it is not of this form.

        Never raises, whatever the bytes.
        """
        heads = [_tried(self._malformed, self._open, value) for value in values]
        good = [head for head in heads if isinstance(head, _Head)]
        times = iter(read_packed([head.timestamps for head in good]))
        columns = iter(read_packed([column for head in good for column in head.columns]))
        rows = iter(read_packed([head.rows for head in good if head.rows is not None], len(self._features)))
        found: list[RecordReadings | RejectedReading | None] = []
        for head in heads:
            if not isinstance(head, _Head):
                found.append(head)
                continue
            packed = [next(rows)] if head.rows is not None else [next(columns) for _ in head.columns]
            found.append(_tried(self._malformed, self._assembled, head, next(times), packed))
        return found

    def _open(self, value: bytes) -> _Head | None:
        try:
            head = self._head(value)
        except msgspec.ValidationError as error:
            reason = Reason.BAD_KEY if "$.stream" in str(error) else self._malformed
            raise RejectedReading(reason, str(error)) from error
        if len(head.timestamp) or not len(head.timestamps):
            return None
        if not len(head.values):
            raise RejectedReading(Reason.WRONG_FEATURES, f'no "values", expected {", ".join(self._features)}')
        if memoryview(head.values)[0] not in OBJECT_BEGINS:
            return _Head(head.timestamps, (), head.values, head.stream)
        try:
            columns = self._columns(head.values)
        except msgspec.ValidationError as error:
            raise RejectedReading(Reason.WRONG_FEATURES, f"{error}, in values") from error
        return _Head(head.timestamps, msgspec.structs.astuple(columns), None, head.stream)

    def _assembled(self, head: _Head, times: Packed | None, packed: Sequence[Packed | None]) -> RecordReadings:
        times_ms = self._written_times(head.timestamps) if times is None else whole_milliseconds(times)
        count = len(times_ms)
        if count > self._max_readings:
            raise RejectedReading(
                Reason.TOO_MANY_READINGS,
                f"{count} readings, expected at most {self._max_readings} (limits.max_readings)",
            )
        if head.rows is not None:
            values = self._written_rows(head.rows) if packed[0] is None else packed[0].astype(np.float64)
            _check_lengths("values", len(values), count)
        else:
            values = np.empty((count, len(self._features)))
            for n, (name, raw, column) in enumerate(zip(self._features, head.columns, packed, strict=True)):
                numbers = self._written_numbers(name, raw) if column is None else column
                _check_lengths(f"values of {name}", len(numbers), count)
                values[:, n] = numbers
        return RecordReadings(times_ms, values, _streams(head.streams, count))

    def _written_times(self, raw: Raw) -> Int64s:
        """Of times that are written in several ways, or as text."""
        try:
            return np.fromiter(map(_cut_ms, self._times(raw)), np.int64)
        except msgspec.ValidationError as error:
            raise RejectedReading(Reason.BAD_TIMESTAMP, f"{error}, in timestamps") from error

    def _written_numbers(self, name: str, raw: Raw) -> Doubles:
        try:
            return np.array(self._numbers(raw), np.float64)
        except msgspec.ValidationError as error:
            raise RejectedReading(Reason.NOT_A_NUMBER, f"{error}, in values of {name}") from error

    def _written_rows(self, raw: Raw) -> Doubles:
        try:
            rows = self._rows(raw)
        except msgspec.ValidationError as error:
            raise RejectedReading(Reason.NOT_A_NUMBER, f"{error}, in values") from error
        width = len(self._features)
        for n, row in enumerate(rows):
            if len(row) != width:
                raise RejectedReading(
                    Reason.WRONG_FEATURES,
                    f"reading {n}: {len(row)} values, the checkpoint expects {width}: {', '.join(self._features)}",
                )
        return np.array(rows, np.float64).reshape(len(rows), width)


def _tried(malformed: Reason, step: Callable[..., T], *arguments: Any) -> T | RejectedReading:
    """What a step returns, or why there is nothing."""
    try:
        return step(*arguments)
    except RejectedReading as rejected:
        return rejected
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        return RejectedReading(malformed, str(error))


def _check_lengths(what: str, found: int, count: int) -> None:
    if found != count:
        raise RejectedReading(Reason.WRONG_FEATURES, f"{found} {what}, but {count} timestamps")


def _cut_ms(time: float | datetime) -> int:
    if isinstance(time, float) and not math.isfinite(time):
        return NO_TIME
    return max(-FARTHEST_MS, min(milliseconds_of(time), FARTHEST_MS))


def _streams(streams: str | list[str] | UnsetType, count: int) -> list[bytes] | None:
    if isinstance(streams, UnsetType):
        return None
    if isinstance(streams, str):
        return [streams.encode()] * count
    if len(streams) != count:
        raise RejectedReading(Reason.BAD_KEY, f"{len(streams)} streams, but {count} timestamps")
    return [name.encode() for name in streams]
