"""What travels: bytes -> readings and rejects; anomalies and dead letters -> bytes.

Input value: {"timestamp": ms or RFC 3339, "values": {"feature": number or null, ...}}; or "values" as an array in the
checkpoint's order; or "value" for a checkpoint with one feature. Unknown fields are ignored, null is a missing value.
Decoded one message at a time: gluing messages into one JSON array lets a crafted one shift its neighbours' values.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, NewType, cast

import msgspec
import numpy as np
import torch
from msgspec import UNSET, UnsetType

from models.data.arrays import Bools, Doubles, Int64s
from models.data.rfc3339 import rfc3339
from models.data.stream_key import all_without_flaw, flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS, TimeUnit, looks_like
from models.detection.detector import Readings, Transition, Verdicts
from service.errors import RejectedReading
from service.input.anomaly import ANOMALY_NAMESPACE, CHANGE_NAMES, CLOSED_AS, Anomaly, Channel, anomaly_id, opening_of
from service.log.port import Cut, Fetched, Partition, Record, Unreadable

StreamKey = NewType("StreamKey", bytes)  # a Kafka message key: see models.stream_key

MAX_VALUE_BYTES = 65_536
SECONDS = TimeUnit.S.window
MAX_VALUE = 3.4e38  # the largest float32


class Reason(StrEnum):
    """Why a record cannot be read."""

    MISSING_KEY = "missing_key"
    BAD_KEY = "bad_key"
    MISSING_VALUE = "missing_value"
    TOO_LARGE = "too_large"
    BAD_JSON = "bad_json"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    PAST_TIMESTAMP = "past_timestamp"
    WRONG_FEATURES = "wrong_features"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    STREAM_LIMIT = "stream_limit"
    UNREADABLE_BATCH = "unreadable_batch"


class Reject(NamedTuple):
    """A record that cannot be read: index into what was fetched, and why."""

    record: int
    reason: Reason
    detail: str


class ReadingBatch(NamedTuple):
    """N >= 0 readings of one partition as columns, in offset order."""

    partition: Partition
    keys: list[StreamKey]
    readings: Readings
    record_times_ms: Int64s  # (N,) when the records were produced; -1 where unknown

    def part(self, index: Int64s) -> "ReadingBatch":
        """The readings at `index`, which rises."""
        where = torch.from_numpy(index)
        readings = Readings(*(column[where] for column in self.readings))
        return ReadingBatch(
            self.partition, [self.keys[n] for n in index.tolist()], readings, self.record_times_ms[index]
        )


class Decoder:
    """Reads messages for a checkpoint with these features."""

    def __init__(self, features: Sequence[str], max_future_ms: int, max_past_ms: int | None = None) -> None:
        """max_future_ms, max_past_ms: how far a reading may be ahead of its own record's timestamp, and behind it.

        max_past_ms is None where records have no time of their own that says anything: files, whose times are checked
        when they are read. Else a record without one (-1) is refused only if its reading's time looks like seconds.
        """
        self.features = tuple(features)
        self.max_future_ms = max_future_ms
        self.max_past_ms = max_past_ms
        fields = [f"f{n}" for n in range(len(self.features))]
        named = msgspec.defstruct(
            "Values", [(name, float | None) for name in fields], rename=dict(zip(fields, self.features, strict=True))
        )
        message = msgspec.defstruct(
            "Message",
            [
                ("timestamp", int | float | datetime),
                ("values", named | list[float | None] | UnsetType, UNSET),
                ("value", float | UnsetType | None, UNSET),
            ],
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(message).decode

    def decode(self, fetched: Fetched) -> tuple[ReadingBatch, list[Reject]]:
        """Split what was fetched into readings and rejects. Never raises, whatever the bytes."""
        read = self._decode_all(fetched)
        if read is None:
            return self._decode_carefully(fetched)
        return _batch(fetched, cast(list[StreamKey], fetched.keys), *read), []

    def _decode_all(self, fetched: Fetched) -> tuple[Int64s, Doubles] | None:
        """The way of a batch without a flaw; None for any other."""
        keys, values = fetched.keys, fetched.values
        if None in keys or None in values or not _all_good(cast(list[bytes], keys), cast(list[bytes], values)):
            return None
        try:
            messages = list(map(self._decode, cast(list[bytes], values)))
            times = np.array(
                [m.timestamp if type(m.timestamp) is int else _milliseconds(m) for m in messages], np.int64
            )
            columns = self._columns(messages)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError, RejectedReading):
            return None
        if columns.shape != (len(messages), len(self.features)) or (np.abs(columns) > MAX_VALUE).any():
            return None
        if (
            max(map(len, cast(list[bytes], values))) > MAX_VALUE_BYTES
            or times.min() < 0
            or times.max() > MAX_TIMESTAMP_MS
        ):
            return None
        if self._far_from_record(times, fetched.times_ms).any():
            return None
        return times, columns

    def _far_from_record(self, times: Int64s, record_times: Int64s) -> Bools:
        """(N,) which readings' times are not to be believed beside their records'."""
        known = record_times >= 0
        far = known & (times - self.max_future_ms > record_times)
        if self.max_past_ms is None:
            return far
        first, end = SECONDS
        # A record's time that agrees is believed, also where both lie in 1970: the clock of a simulation begins there.
        early = np.where(known, times < record_times - self.max_past_ms, (times >= first) & (times < end))
        return far | early

    def _columns(self, messages: list[Any]) -> Doubles:
        """(N, F) of messages that are all written in the same way; raises if they are not."""
        first = messages[0]
        if first.values is UNSET:
            if any(m.values is not UNSET for m in messages):
                raise ValueError("`values` wins over `value`")
            return np.array([[m.value] for m in messages], np.float64)
        if type(first.values) is list:
            return np.array([m.values for m in messages], np.float64)
        return np.array([msgspec.structs.astuple(m.values) for m in messages], np.float64)

    def _decode_carefully(self, fetched: Fetched) -> tuple[ReadingBatch, list[Reject]]:
        """One record at a time, so that a bad one harms no other, and with the reason."""
        good, times, rows, rejects = [], [], [], []
        flaws = {key: _key_flaw(key) for key in set(fetched.keys)}
        for n, (key, value) in enumerate(zip(fetched.keys, fetched.values, strict=True)):
            try:
                _check_readable(value)
                if flaw := flaws[key]:
                    raise RejectedReading(*flaw)
                time, row = self._read(value)
            except RejectedReading as rejected:
                rejects.append(Reject(n, Reason(rejected.reason), str(rejected)))
            else:
                good.append(n)
                times.append(time)
                rows.append(row)
        all_times, record_times = np.array(times, np.int64), fetched.times_ms[good]
        far = self._far_from_record(all_times, record_times)
        rejects += [
            Reject(good[place], *self._why_far(times[place], int(record_times[place])))
            for place in np.flatnonzero(far).tolist()
        ]
        near = np.flatnonzero(~far).tolist()
        good, rows = [good[place] for place in near], [rows[place] for place in near]
        keys = [StreamKey(fetched.keys[n] or b"") for n in good]
        some = fetched._replace(offsets=fetched.offsets[good], times_ms=fetched.times_ms[good])
        columns = np.array(rows, np.float64).reshape(len(rows), len(self.features))
        return _batch(some, keys, all_times[near], columns), sorted(rejects)

    def _why_far(self, time: int, record_time: int) -> tuple[Reason, str]:
        """What is said of a time that is not to be believed beside its record's."""
        if record_time >= 0 and time > record_time + self.max_future_ms:
            ahead = f"timestamp {time} is {(time - record_time) / 1000:.0f} s ahead of its record's"
            limit = f"expected at most {self.max_future_ms / 1000:.0f} s (limits.max_future_s)"
            return Reason.FUTURE_TIMESTAMP, f"{ahead}, {limit}"
        begin = _unit_hint(time) if looks_like(time) == TimeUnit.S else f"timestamp {time}"
        if record_time < 0:
            where = "and its record has no time"
        else:
            where = (
                f"{(record_time - time) / 1000:.0f} s behind its record's, "
                f"expected at most {(self.max_past_ms or 0) / 1000:.0f} s (limits.max_past_s)"
            )
        return Reason.PAST_TIMESTAMP, f"{begin}; as milliseconds it is {rfc3339(time)}, {where}"

    def _read(self, value: bytes | None) -> tuple[int, list[float | None]]:
        if value is None:
            raise RejectedReading(Reason.MISSING_VALUE, "the record has no value")
        if len(value) > MAX_VALUE_BYTES:
            raise RejectedReading(Reason.TOO_LARGE, f"{_size(value)} bytes, expected at most {MAX_VALUE_BYTES}")
        try:
            message = self._decode(value)
        except msgspec.ValidationError as error:
            raise RejectedReading(_reason(str(error)), str(error)) from error
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RejectedReading(Reason.BAD_JSON, str(error)) from error
        time = _milliseconds(message)
        if not 0 <= time <= MAX_TIMESTAMP_MS:
            if looks_like(time):
                raise RejectedReading(Reason.BAD_TIMESTAMP, _unit_hint(time))
            raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {time} ms, expected 0 to {MAX_TIMESTAMP_MS}")
        return time, self._row(message)

    def _row(self, message: Any) -> list[float | None]:
        if message.values is not UNSET:
            row = message.values if type(message.values) is list else list(msgspec.structs.astuple(message.values))
        elif message.value is not UNSET:
            row = [message.value]
        else:
            raise RejectedReading(Reason.WRONG_FEATURES, f'no "values", expected {", ".join(self.features)}')
        if len(row) != len(self.features):
            raise RejectedReading(
                Reason.WRONG_FEATURES,
                f"{len(row)} values, the checkpoint expects {len(self.features)}: {', '.join(self.features)}",
            )
        for name, value in zip(self.features, row, strict=True):
            if value is not None and not abs(value) <= MAX_VALUE:
                raise RejectedReading(
                    Reason.OUT_OF_RANGE, f"{name} is {value}, expected at most {MAX_VALUE} either side of 0"
                )
        return row


def _batch(fetched: Fetched, keys: list[StreamKey], times: Int64s, columns: Doubles) -> ReadingBatch:
    readings = Readings(torch.from_numpy(fetched.offsets), torch.from_numpy(times), torch.from_numpy(columns))
    return ReadingBatch(fetched.partition, keys, readings, fetched.times_ms)


def _all_good(keys: list[bytes], values: list[bytes]) -> bool:
    return max(map(len, values)) <= MAX_VALUE_BYTES and all_without_flaw(keys)


def _check_readable(value: bytes | None) -> None:
    if isinstance(value, Unreadable):
        raise RejectedReading(Reason.UNREADABLE_BATCH, value.detail)


def _size(data: bytes) -> int:
    """Of all of it, in bytes."""
    return data.size if isinstance(data, Cut) else len(data)


def _key_flaw(key: bytes | None) -> tuple[Reason, str] | None:
    """Why a record with this key cannot be read; None if the key is not why."""
    if key is None:
        return Reason.MISSING_KEY, "the record has no key, expected the stream's name"
    flaw = flaw_of(key, _size(key))
    return (Reason.BAD_KEY, flaw) if flaw else None


def _unit_hint(number: int) -> str:
    unit = looks_like(number)
    return f"timestamp {number} looks like {unit.word if unit else 'no unit'}: expected milliseconds"


def _milliseconds(message: Any) -> int:
    time = message.timestamp
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {time.isoformat()} has no offset from UTC")
        return round(time.timestamp() * 1000)
    return int(time)


def _reason(message: str) -> Reason:
    """What a validation message is about, by the place it names."""
    if "`$.timestamp" in message or "field `timestamp`" in message:
        return Reason.BAD_TIMESTAMP
    if "missing required field" in message:
        return Reason.WRONG_FEATURES
    if "$.value" in message:
        return Reason.NOT_A_NUMBER
    return Reason.BAD_JSON


def encode_reading(features: Sequence[str], time_ms: int, values: Sequence[float]) -> bytes:
    """The message of one reading; NaN travels as null."""
    return msgspec.json.encode({"timestamp": time_ms, "values": dict(zip(features, values, strict=True))})


def dead_letter(fetched: Fetched, reject: Reject) -> Record:
    """The record as it came, with the reason behind its own headers. It may be larger than its topic takes."""
    n = reject.record
    offset, time_ms = int(fetched.offsets[n]), int(fetched.times_ms[n])
    came_with = fetched.headers(offset)
    left_out = (("telltale-headers-left-out", str(came_with.left_out).encode()),) if came_with.left_out else ()
    headers = (
        *came_with.kept,
        ("telltale-reason", reject.reason.encode()),
        ("telltale-detail", reject.detail.encode(errors="replace")[:1024]),
        ("telltale-topic", fetched.partition.topic.encode()),
        ("telltale-partition", str(fetched.partition.number).encode()),
        ("telltale-offset", str(offset).encode()),
        *left_out,
    )
    return Record(fetched.keys[n], fetched.values[n], headers, time_ms if time_ms >= 0 else None)


class Event(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: Anomaly

    @property
    def change(self) -> str:
        """opened, updated or closed."""
        return self.type.rpartition(".")[2]


EVENT_HEADERS = (("content-type", b"application/cloudevents+json"),)


def event(
    batch: ReadingBatch, verdicts: Verdicts, transition: Transition, features: Sequence[str], digest: str
) -> Event:
    """The event of one transition of one alarm. Its id is the same whenever the same transition is published again."""
    n = transition.reading
    key, topic, partition = batch.keys[n], batch.partition.topic, batch.partition.number
    stream, time = key.decode(), rfc3339(int(batch.readings.times_ms[n]))
    change, closed_as = CHANGE_NAMES[transition.change], CLOSED_AS.get(transition.change)
    opened = opening_of(batch.partition, transition.opened_offset, stream)
    columns = [
        [_known(value) for value in column[n].tolist()]
        for column in (batch.readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
    ]
    channels = [
        Channel(name, observed, expected, lower, upper, share)
        for name, observed, expected, lower, upper, share in zip(features, *columns, transition.share, strict=True)
    ]
    offset = int(batch.readings.offsets[n])
    opened_by, guess = transition.opened_by.name.lower(), transition.guess
    anomaly = Anomaly(
        anomaly=anomaly_id(batch.partition, transition.opened_offset, stream),
        stream=stream,
        status="open" if closed_as is None else "closed",
        severity=transition.severity.name.lower(),
        kind=opened_by if guess is None else guess.kind.value,
        closed_as=closed_as,
        score=transition.score,
        peak=transition.peak,
        opened_at=rfc3339(transition.opened_ms),
        closed_at=time if closed_as else None,
        channels=channels,
        checkpoint=digest,
        topic=topic,
        partition=partition,
        offset=offset,
        kind_probability=UNSET if guess is None else guess.probability,
        opened_by=UNSET if guess is None else opened_by,
    )
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, f"{opened}/{change}/{transition.severity.name}"))
    kind = f"telltale.anomaly.{change}"
    return Event("1.0", identity, f"/telltale/{topic}", kind, stream, time, "application/json", anomaly)


def encode_event(one: Event) -> Record:
    return Record(one.subject.encode(), msgspec.json.encode(one), EVENT_HEADERS)


def decode_event(value: bytes) -> Event:
    return msgspec.json.decode(value, type=Event)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
