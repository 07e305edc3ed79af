"""Records of many readings as a stream of Arrow IPC messages: a schema, and the rows of one or more batches.

A column `timestamp` (milliseconds as integers, or a type of Arrow for times), one of numbers for each feature, and
`stream` (text, a dictionary's too) where the stream is not the record's key; others are passed over. What a producer
sends again and again, the schema and the sizes of its batches, is looked at once.
Sizes: N readings of a record, F features.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Bools, Doubles, Int64s
from models.data.stream_key import MAX_KEY_BYTES
from service.errors import RejectedReading
from service.input.arrow_metadata import (
    VIEWS,
    BadArrow,
    Batch,
    ColumnType,
    Header,
    Kind,
    Schema,
    batch_of,
    dictionary_kinds,
    dictionary_of,
    message_of,
    schema_of,
)
from service.input.formats import (
    ARROW_BEGINS,
    ARROW_FILE_BEGINS,
    NO_TIME,
    RecordReadings,
    as_doubles,
    whole_milliseconds,
)
from service.input.reasons import Reason

TIME, STREAM = "timestamp", "stream"
HEAD_BYTES = 8  # of a message: where it begins, and the size of its metadata
MOST_METADATA_BYTES = 65_536
MOST_LAYOUTS = 128  # that are remembered
FAR = 2**52  # times in any unit are cut there: as milliseconds they are out of bounds
INLINE_BYTES = 12  # of a view's text
SECONDS, MILLISECONDS = 0, 1  # units of a timestamp
PER_MS = {SECONDS: 0, MILLISECONDS: 1, 2: 1_000, 3: 1_000_000}  # and microseconds, nanoseconds
WIDTHS: dict[Kind, np.dtype[Any]] = dict.fromkeys((Kind.UTF8, Kind.BINARY), np.dtype("<i4"))  # of where texts end
WIDTHS |= dict.fromkeys((Kind.LARGE_UTF8, Kind.LARGE_BINARY), np.dtype("<i8"))
NUMBER_TYPES = {
    **{ColumnType(Kind.FLOAT, precision): np.dtype(f"<f{2 << precision}") for precision in range(3)},
    **{ColumnType(Kind.INT, bits, signed=True): np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{ColumnType(Kind.INT, bits, signed=False): np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
VIEW = np.dtype([("length", "<i4"), ("begins", "<i4"), ("number", "<i4"), ("offset", "<i4")])

T = TypeVar("T")


class _Layout(NamedTuple):
    """A schema, and which of its columns are which."""

    schema: Schema
    dictionaries: dict[int, ColumnType]
    time: int
    stream: int | None
    features: tuple[int, ...]
    batches: "dict[bytes, _Sized]"  # those that came, by their metadata


class _Sized(NamedTuple):
    """A batch's columns within its body."""

    batch: Batch
    body_bytes: int
    even: tuple[int, int] | None  # of doubles without a null at equal distances: where the first is, how far the next
    dictionary: int | None = None  # what it is the values of, instead of readings


class ArrowReader:
    """Reads records in Arrow IPC for a checkpoint with these features."""

    def __init__(self, features: Sequence[str], max_readings: int) -> None:
        self._features = tuple(features)
        self._max_readings = max_readings
        self._layouts: dict[bytes, _Layout] = {}  # by the metadata of their schema

    def read(self, value: bytes) -> RecordReadings | RejectedReading:
        """A record's readings, or why it cannot be decoded at all. Never raises, whatever the bytes."""
        try:
            return self._read(value)
        except RejectedReading as rejected:
            return rejected
        except (BadArrow, UnicodeDecodeError) as error:
            return RejectedReading(Reason.BAD_ARROW, str(error))

    def _read(self, value: bytes) -> RecordReadings:
        metadata, at = _metadata_at(value, 0)
        layout = self._layouts.get(metadata) or self._new_layout(metadata)
        dictionaries: dict[int, list[bytes]] = {}
        parts: list[RecordReadings] = []
        readings = 0
        while at < len(value):
            metadata, begin = _metadata_at(value, at)
            if not metadata:
                break
            sized = layout.batches.get(metadata) or _new_batch(metadata, layout)
            at = begin + sized.body_bytes
            if at > len(value):
                raise BadArrow(f"{len(value)} bytes, but a body that ends at {at}")
            if sized.dictionary is not None:
                kind = layout.dictionaries[sized.dictionary]
                dictionaries[sized.dictionary] = _texts(value, begin, sized.batch, 0, kind)
                continue
            readings += sized.batch.rows
            if readings > self._max_readings:
                raise RejectedReading(
                    Reason.TOO_MANY_READINGS,
                    f"{readings} readings, expected at most {self._max_readings} (limits.max_readings)",
                )
            if sized.batch.rows:
                parts.append(_readings(value, begin, sized, layout, dictionaries))
        return _joined(parts, len(self._features))

    def _new_layout(self, metadata: bytes) -> _Layout:
        message = message_of(metadata)
        if message.header is not Header.SCHEMA:
            raise BadArrow("the first message is no schema")
        schema = schema_of(message)
        places = {name: n for n, name in enumerate(schema.names)}
        if len(places) < len(schema.names):
            raise BadArrow(f"columns {', '.join(schema.names)}: a name is there twice")
        if TIME not in places:
            raise RejectedReading(Reason.BAD_TIMESTAMP, f"no column {TIME}, found {', '.join(schema.names)}")
        if missing := [name for name in self._features if name not in places]:
            raise RejectedReading(
                Reason.WRONG_FEATURES, f"no column {missing[0]}, found {', '.join(schema.names) or 'none'}"
            )
        for name in self._features:
            _number_type(name, schema.types[places[name]])
        stream = places.get(STREAM)
        if stream is not None and STREAM in self._features:
            stream = None
        features = tuple(places[name] for name in self._features)
        layout = _Layout(schema, dictionary_kinds(message), places[TIME], stream, features, {})
        _remember(self._layouts, metadata, layout)
        return layout


def names_of_numbers(value: bytes) -> tuple[str, ...]:
    """The columns that may be features. Raises BadArrow."""
    schema = schema_of(message_of(_metadata_at(value, 0)[0]))
    numbers = (Kind.INT, Kind.FLOAT, Kind.NULL)
    return tuple(
        name
        for name, of in zip(schema.names, schema.types, strict=True)
        if name not in (TIME, STREAM) and of.kind in numbers and of.dictionary is None
    )


def _metadata_at(value: bytes, at: int) -> tuple[bytes, int]:
    """The metadata of the message at a place, empty at the stream's end, and where its body begins."""
    if value.startswith(ARROW_FILE_BEGINS):
        raise BadArrow("an Arrow file, expected an Arrow stream: new_stream in pyarrow, write_ipc_stream in Polars")
    size = int.from_bytes(value[at + 4 : at + HEAD_BYTES], "little")
    begin = at + HEAD_BYTES + size
    if not value.startswith(ARROW_BEGINS, at) or begin > len(value) or at + HEAD_BYTES > len(value):
        raise BadArrow(f"{len(value)} bytes: no whole message at byte {at}")
    if size > MOST_METADATA_BYTES:
        raise BadArrow(f"{size} bytes of metadata, expected at most {MOST_METADATA_BYTES}")
    return value[at + HEAD_BYTES : begin], begin


def _new_batch(metadata: bytes, layout: _Layout) -> _Sized:
    message = message_of(metadata)
    if message.header is Header.SCHEMA:
        raise BadArrow("a second schema")
    if message.header is Header.DICTIONARY:
        dictionary = dictionary_of(message, layout.dictionaries)
        sized = _Sized(dictionary.batch, message.body_bytes, None, dictionary.id)
    else:
        batch = batch_of(message, layout.schema)
        sized = _Sized(batch, message.body_bytes, _even(batch, layout))
    _remember(layout.batches, metadata, sized)
    return sized


def _remember(known: dict[bytes, T], metadata: bytes, what: T) -> None:
    """Producers of a topic send few layouts; one that always sends another costs time, not memory."""
    if len(known) >= MOST_LAYOUTS:
        known.clear()
    known[metadata] = what


def _even(batch: Batch, layout: _Layout) -> tuple[int, int] | None:
    """Where the first feature's doubles are and how far the next one's, if all are written so and none is missing."""
    columns = [batch.columns[place] for place in layout.features]
    types = [layout.schema.types[place] for place in layout.features]
    if any(of.kind is not Kind.FLOAT or of.detail != 2 for of in types) or any(column.nulls for column in columns):
        return None
    begins = [column.buffers[1].begin for column in columns]
    steps = {after - before for before, after in pairwise(begins)} or {8 * batch.rows}
    if len(steps) > 1 or any(column.buffers[1].size < 8 * batch.rows for column in columns):
        return None
    return begins[0], steps.pop()


def _readings(
    value: bytes, body: int, sized: _Sized, layout: _Layout, dictionaries: dict[int, list[bytes]]
) -> RecordReadings:
    batch, schema = sized.batch, layout.schema
    times_ms = _times(value, body, batch, layout.time, schema.types[layout.time])
    if sized.even is not None:
        first, step = sized.even
        shape, strides = (batch.rows, len(layout.features)), (8, step)
        values: Doubles = np.ndarray(shape, np.float64, value, body + first, strides)
    else:
        values = np.empty((batch.rows, len(layout.features)))
        for n, place in enumerate(layout.features):
            values[:, n] = _numbers(value, body, batch, place, _number_type(schema.names[place], schema.types[place]))
    if layout.stream is None:
        return RecordReadings(times_ms, values)
    of = schema.types[layout.stream]
    if of.dictionary is None:
        return RecordReadings(times_ms, values, _texts(value, body, batch, layout.stream, of))
    named = dictionaries.get(of.dictionary, [])
    return RecordReadings(times_ms, values, _named(value, body, batch, layout.stream, of, named))


def _number_type(name: str, of: ColumnType) -> np.dtype[Any] | None:
    """None: a column of nulls alone."""
    if of.kind is Kind.NULL:
        return None
    if of in NUMBER_TYPES:
        return NUMBER_TYPES[of]
    raise RejectedReading(Reason.NOT_A_NUMBER, f"column {name} is of type {of.kind.name.lower()}, expected numbers")


def _plain(value: bytes, body: int, batch: Batch, place: int, of: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of a column as they are written; where they are null, anything."""
    begin, size = batch.columns[place].buffers[1]
    if size < batch.rows * of.itemsize:
        raise BadArrow(f"{size} bytes for {batch.rows} numbers of {of.itemsize} bytes")
    return np.frombuffer(value, of, batch.rows, body + begin)


def _missing(value: bytes, body: int, batch: Batch, place: int) -> Bools | None:
    """(N,) which rows of a column are null; None: none is."""
    column = batch.columns[place]
    begin, size = column.buffers[0]
    if not column.nulls or not size:
        return None
    if 8 * size < batch.rows:
        raise BadArrow(f"{size} bytes for the nulls among {batch.rows} rows")
    bits = np.frombuffer(value, np.uint8, -(-batch.rows // 8), body + begin)
    missing: Bools = np.unpackbits(bits, count=batch.rows, bitorder="little") == 0
    return missing


def _numbers(value: bytes, body: int, batch: Batch, place: int, of: np.dtype[Any] | None) -> Doubles:
    if of is None:
        return np.full(batch.rows, np.nan)
    numbers = as_doubles(_plain(value, body, batch, place, of))
    missing = _missing(value, body, batch, place)
    if missing is not None:
        numbers[missing] = np.nan
    return numbers


def _times(value: bytes, body: int, batch: Batch, place: int, of: ColumnType) -> Int64s:
    """In milliseconds, NO_TIME where there is none."""
    if of.kind is Kind.TIMESTAMP and of.detail in PER_MS:
        written = _plain(value, body, batch, place, np.dtype("<i8"))
        times = written if of.detail == MILLISECONDS else _as_milliseconds(written, of.detail)
    elif of.kind in (Kind.INT, Kind.FLOAT):
        written = _plain(value, body, batch, place, _number_type(TIME, of) or np.dtype("<i8"))
        times = whole_milliseconds(written if written.dtype.kind == "i" else as_doubles(written))
    else:
        raise RejectedReading(
            Reason.BAD_TIMESTAMP,
            f"column {TIME} is of type {of.kind.name.lower()}, expected milliseconds or timestamps",
        )
    missing = _missing(value, body, batch, place)
    return times if missing is None else np.where(missing, NO_TIME, times)


def _as_milliseconds(times: Int64s, unit: int) -> Int64s:
    return np.clip(times, -FAR, FAR) * 1_000 if unit == SECONDS else times // PER_MS[unit]


def _named(value: bytes, body: int, batch: Batch, place: int, of: ColumnType, named: Sequence[bytes]) -> list[bytes]:
    """The names that a column's numbers point to; none, which names no stream, where it is null."""
    numbers = _plain(value, body, batch, place, _number_type(STREAM, of._replace(dictionary=None)) or np.dtype("<i4"))
    missing = _missing(value, body, batch, place)
    numbers = numbers if missing is None else np.where(missing, 0, numbers)
    if len(numbers) and (not named or int(numbers.min()) < 0 or int(numbers.max()) >= len(named)):
        if missing is None or not missing.all():
            raise BadArrow(f"a dictionary of {len(named)} names, but numbers {numbers.min()} to {numbers.max()}")
        return [b""] * len(numbers)
    names = [named[n] for n in numbers.tolist()]
    return names if missing is None else [b"" if gone else name for gone, name in zip(missing, names, strict=True)]


def _texts(value: bytes, body: int, batch: Batch, place: int, of: ColumnType) -> list[bytes]:
    """A column of text; none where it is null."""
    if of.kind in VIEWS:
        texts = _viewed_texts(value, body, batch, place)
    elif of.kind in WIDTHS:
        texts = _plain_texts(value, body, batch, place, WIDTHS[of.kind])
    else:
        raise RejectedReading(Reason.BAD_KEY, f"column {STREAM} is of type {of.kind.name.lower()}, expected text")
    missing = _missing(value, body, batch, place)
    return texts if missing is None else [b"" if gone else text for gone, text in zip(missing, texts, strict=True)]


def _plain_texts(value: bytes, body: int, batch: Batch, place: int, width: np.dtype[Any]) -> list[bytes]:
    _, (begin, size), (first, room) = batch.columns[place].buffers
    if size < (batch.rows + 1) * width.itemsize:
        raise BadArrow(f"{size} bytes for the ends of {batch.rows} texts")
    ends = np.frombuffer(value, width, batch.rows + 1, body + begin).astype(np.int64)
    if int(ends[0]) < 0 or int(ends[-1]) > room or bool((np.diff(ends) < 0).any()):
        raise BadArrow(f"texts that end beyond their {room} bytes, or before they begin")
    return [value[start:end] for start, end in pairwise((ends + (body + first)).tolist())]


def _viewed_texts(value: bytes, body: int, batch: Batch, place: int) -> list[bytes]:
    _, (begin, size), *data = batch.columns[place].buffers
    if size < batch.rows * VIEW.itemsize:
        raise BadArrow(f"{size} bytes for the views of {batch.rows} texts")
    views = np.frombuffer(value, VIEW, batch.rows, body + begin)
    texts = []
    for n, (length, number, offset) in enumerate(
        zip(*(views[name].tolist() for name in ("length", "number", "offset")), strict=True)
    ):
        at = body + begin + n * VIEW.itemsize + 4
        if length > INLINE_BYTES:
            if not 0 <= number < len(data) or not 0 <= offset <= data[number].size - length:
                raise BadArrow(f"a text of {length} bytes that lies outside its buffers")
            at = body + data[number].begin + offset
        elif length < 0:
            raise BadArrow(f"a text of {length} bytes")
        texts.append(value[at : at + min(length, MAX_KEY_BYTES + 1)])  # many may be views of one
    return texts


def _joined(parts: Sequence[RecordReadings], features: int) -> RecordReadings:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return RecordReadings(np.empty(0, np.int64), np.empty((0, features)))
    streams = None if parts[0].streams is None else [name for part in parts for name in part.streams or ()]
    times_ms, values = (np.concatenate(columns) for columns in zip(*(part[:2] for part in parts), strict=True))
    return RecordReadings(times_ms, values, streams)
