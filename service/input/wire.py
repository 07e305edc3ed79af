"""What travels: bytes -> readings and rejects; anomalies and dead letters -> bytes.

Input value: {"timestamp": ms or RFC 3339, "values": {"feature": number or null, ...}}; or "values" as an array in the
checkpoint's order; or "value" for a checkpoint with one feature. Unknown fields are ignored, null is a missing value.
Decoded one message at a time: gluing messages into one JSON array lets a crafted one shift its neighbours' values.
"""

import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, NewType, cast

import msgspec
import numpy as np
import torch
from msgspec import UNSET, UnsetType
from torch import Tensor

from models.data.arrays import Bools, Doubles, Int64s
from models.data.rfc3339 import rfc3339
from models.data.stream_key import all_without_flaw, flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS, TimeUnit, looks_like
from models.detection.alarm import OpenedBy
from models.detection.detector import Readings, Transition, Verdicts
from models.detection.sensor_rules import SensorRules
from service.errors import RejectedReading
from service.input.anomaly import ANOMALY_NAMESPACE, CHANGE_NAMES, CLOSED_AS, Anomaly, Channel, anomaly_id, opening_of
from service.input.arrow import ArrowReader
from service.input.batches import BatchReader
from service.input.columns import Columns, Single, columns_of
from service.input.formats import NO_TIME, InputFormat, RecordReadings, RecordRules, milliseconds_of
from service.input.hints import Hints
from service.input.mapping import LEAST_READING_BYTES, SHOWN_READINGS, MappedReader, MappedRecord
from service.input.reasons import Reason
from service.log.port import Cut, Fetched, Partition, Record, Unreadable

StreamKey = NewType("StreamKey", bytes)  # a Kafka message key: see models.stream_key

MAX_VALUE_BYTES = 65_536
SECONDS = TimeUnit.S.window
MAX_VALUE = 3.4e38  # the largest float32
HINTED = frozenset(
    (
        *(Reason.MISSING_KEY, Reason.BAD_KEY, Reason.MISSING_VALUE, Reason.BAD_JSON, Reason.BAD_TIMESTAMP),
        *(Reason.PAST_TIMESTAMP, Reason.WRONG_FEATURES, Reason.NOT_A_NUMBER),
    )
)
METRIC_NAMES = ("name", "metric")
COLUMN_OF_TIMES = b'"timestamps"'
ANY_FORMAT = RecordRules()

Flaw = tuple[Reason, str]  # why something cannot be read


class Reject(NamedTuple):
    """A record that cannot be read: index into what was fetched, and why."""

    record: int
    reason: Reason
    detail: str


class Runs(NamedTuple):
    """The keys of a batch where they are the same many times in a row: one a run, and how often."""

    keys: list[StreamKey]
    counts: Int64s

    def between(self, first: int, last: int) -> "Runs":
        """Those of the readings first to last, which are whole runs."""
        ends = np.cumsum(self.counts)
        begin, end = np.searchsorted(ends, [first, last], side="right").tolist()
        return Runs(self.keys[begin:end], self.counts[begin:end])


class ReadingBatch(NamedTuple):
    """N >= 0 readings of one partition as columns, in offset order. Those of one record have the same offset."""

    partition: Partition
    keys: list[StreamKey]
    readings: Readings
    record_times_ms: Int64s  # (N,) when the records were produced; -1 where unknown
    indices: Int64s  # (N,) which of its record's readings each is, from 0
    runs: Runs | None = None  # where records hold many readings of one stream each
    skipped: int = 0  # readings, and tombstones, that the topic's mapping leaves out; not of a part
    excluded: Int64s | None = None  # (N, 2) values that count as missing, as Excluded; None: not one does

    def slots(self, find: Callable[[Sequence[StreamKey]], Tensor]) -> Tensor:
        """The slot of each reading's stream, (N,) int64. find: those of some keys."""
        if self.runs is None:
            return find(self.keys)
        return find(self.runs.keys).repeat_interleave(torch.from_numpy(self.runs.counts))

    def between(self, first: int, last: int) -> "ReadingBatch":
        """The readings first to last, which are all those of their records."""
        part = slice(first, last)
        readings = Readings(*(column[part] for column in self.readings))
        runs = None if self.runs is None else self.runs.between(first, last)
        times_ms, indices = self.record_times_ms[part], self.indices[part]
        excluded = None if self.excluded is None else self.excluded[part]
        return ReadingBatch(self.partition, self.keys[part], readings, times_ms, indices, runs, excluded=excluded)

    def part(self, index: Int64s) -> "ReadingBatch":
        """The readings at `index`, which rises."""
        where = torch.from_numpy(index)
        readings = Readings(*(column[where] for column in self.readings))
        keys = [self.keys[n] for n in index.tolist()]
        excluded = None if self.excluded is None else self.excluded[index]
        return ReadingBatch(
            self.partition, keys, readings, self.record_times_ms[index], self.indices[index], excluded=excluded
        )


class Decoder:
    """Reads messages for a checkpoint with these features."""

    def __init__(
        self,
        features: Sequence[str],
        max_future_ms: int,
        max_past_ms: int | None = None,
        rules: RecordRules = ANY_FORMAT,
        sensors: SensorRules | None = None,
    ) -> None:
        """max_future_ms, max_past_ms: how far a reading may be ahead of its own record's timestamp, and behind it.

        max_past_ms is None where records have no time of their own that says anything: files, whose times are checked
        when they are read. Else a record without one (-1) is refused only if its reading's time looks like seconds.
        """
        self.features = tuple(features)
        self.max_future_ms = max_future_ms
        self.max_past_ms = max_past_ms
        self.rules = rules
        self.sensors = sensors
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
                # Of one value also what it is of: all metrics of a device must not become one stream.
                *((name, Any, UNSET) for name in (METRIC_NAMES if len(self.features) == 1 else ())),
            ],
        )
        self._decoders: Mapping[InputFormat, Callable[[bytes], Any]] = {
            InputFormat.JSON: msgspec.json.Decoder(message).decode,
            InputFormat.MSGPACK: msgspec.msgpack.Decoder(message).decode,
        }
        self._batches = {
            InputFormat.JSON: BatchReader(self.features, rules.max_readings, msgspec.json, Reason.BAD_JSON),
            InputFormat.MSGPACK: BatchReader(self.features, rules.max_readings, msgspec.msgpack, Reason.BAD_MSGPACK),
        }
        self._arrow = ArrowReader(self.features, rules.max_readings)
        self._hints = Hints(self.features, rules.max_readings, self._far_from_record)
        self._mapped = {
            topic: MappedReader(mapping, self.features, rules.max_readings) for topic, mapping in rules.mappings.items()
        }

    def decode(self, fetched: Fetched) -> tuple[ReadingBatch, list[Reject]]:
        """Split what was fetched into readings and rejects. Raises RegistryUnavailable alone, whatever the bytes.

        A value that the rules of its sensor exclude is a missing one already.
        """
        batch, rejects = self._decode(fetched)
        if self.sensors is None or not self.sensors.excludes:
            return batch, rejects
        values, excluded = self.sensors.clean(batch.readings.values.numpy(), batch.keys)
        if excluded is None:
            return batch, rejects
        readings = batch.readings._replace(values=torch.from_numpy(values))
        return batch._replace(readings=readings, excluded=excluded), rejects

    def _decode(self, fetched: Fetched) -> tuple[ReadingBatch, list[Reject]]:
        if (mapped := self._mapped.get(fetched.partition.topic)) is not None:
            return self._decode_mapped(fetched, mapped)
        decode = self._decoders.get(self.rules.format.of(fetched.values[0] or b""))
        read = self._decode_all(fetched, decode) if decode else None
        if read is None:
            return self._decode_carefully(fetched)
        return _batch(fetched, cast(list[StreamKey], fetched.keys), *read), []

    def _decode_all(self, fetched: Fetched, decode: Callable[[bytes], Any]) -> tuple[Int64s, Doubles] | None:
        """The way of records without a flaw, a reading each and in one format; None for any other."""
        keys, values = fetched.keys, fetched.values
        if None in keys or None in values or not _all_good(cast(list[bytes], keys), cast(list[bytes], values)):
            return None
        try:
            messages = list(map(decode, cast(list[bytes], values)))
            times = np.array(
                [m.timestamp if type(m.timestamp) is int else milliseconds_of(m.timestamp) for m in messages], np.int64
            )
            columns = self._columns(messages)
            if messages[0].values is UNSET and len(self.features) == 1:
                for message, key in zip(messages, keys, strict=True):
                    _check_metric(message, cast(bytes, key))
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
        """One record at a time, so that a bad one harms no other, and with the reason. Columns stay columns."""
        read = self._read_records(fetched)
        rejects = [
            Reject(n, Reason(one.reason), str(one)) for n, one in enumerate(read) if isinstance(one, RejectedReading)
        ]
        columns = columns_of(fetched.keys, read, len(self.features))
        batch, rejects = self._judged_apart(fetched, columns, rejects, {})
        return batch, [self._with_hint(fetched, reject) for reject in rejects]

    def _with_hint(self, fetched: Fetched, reject: Reject) -> Reject:
        """The reject, and the mapping that would read the record if one is known."""
        n, value = reject.record, fetched.values[reject.record]
        if reject.reason not in HINTED or isinstance(value, Cut) or isinstance(fetched.keys[n], Cut):
            return reject
        hint = self._hints.of(fetched.partition.topic, fetched.keys[n], value, int(fetched.times_ms[n]))
        return reject._replace(detail=f"{reject.detail}; {hint}") if hint else reject

    def _decode_mapped(self, fetched: Fetched, mapped: MappedReader) -> tuple[ReadingBatch, list[Reject]]:
        """The records of a topic that has a mapping, one at a time."""
        check = partial(self._checked, written=InputFormat.MSGPACK, flaw=None)  # as large as those
        read = mapped.read(fetched.partition.topic, self._mapped_records(fetched), check)
        rejects = [Reject(n, *flaw) for n, flaw in read.rejects.items()]
        batch, rejects = self._judged_apart(fetched, read.columns, rejects, read.flaws)
        return batch._replace(skipped=read.skipped), rejects

    def _mapped_records(self, fetched: Fetched) -> Iterator[MappedRecord]:
        for n, (key, value, time_ms) in enumerate(
            zip(fetched.keys, fetched.values, fetched.times_ms.tolist(), strict=True)
        ):
            yield MappedRecord(key, value, time_ms, partial(self._headers, fetched, n))

    def _headers(self, fetched: Fetched, n: int) -> dict[str, str]:
        """Those of a record that are text, by name."""
        kept = fetched.headers(int(fetched.offsets[n])).kept
        return {name: value.decode(errors="replace") for name, value in kept if value is not None}

    def _judged_apart(
        self,
        fetched: Fetched,
        columns: Columns,
        rejects: list[Reject],
        flaws: Mapping[tuple[int, int], Flaw],
    ) -> tuple[ReadingBatch, list[Reject]]:
        """The readings that can be judged, and the records in which there are others, with those that hold none.

        flaws: by record and index, what is known already to be wrong with readings that have NO_TIME.
        """
        record_times = fetched.times_ms[columns.records]
        bad = self._is_bad(columns, record_times)
        if bad.any():
            rejects = sorted([*rejects, *self._refused(columns, record_times, bad, flaws)])
            columns = columns.part(~bad)
        some = fetched._replace(offsets=fetched.offsets[columns.records], times_ms=fetched.times_ms[columns.records])
        keys = cast(list[StreamKey], columns.keys)
        batch = _batch(some, keys, columns.times_ms, columns.values, columns.indices)
        return batch._replace(runs=_runs(fetched, columns) if columns.one_stream_a_record else None), rejects

    def _read_records(self, fetched: Fetched) -> list[Single | RecordReadings | RejectedReading]:
        """What each record holds, or why it cannot be decoded at all. MessagePack is read all at once."""
        flaws = {key: _key_flaw(key) for key in set(fetched.keys)}
        read: dict[int, Single | RecordReadings | RejectedReading] = {}
        packed: dict[int, bytes] = {}
        for n, (key, value) in enumerate(zip(fetched.keys, fetched.values, strict=True)):
            flaw = flaws[key]
            written = self.rules.format.of(value or b"")
            try:
                good = self._checked(value, written, flaw)
            except RejectedReading as rejected:
                read[n] = rejected
            else:
                if written is InputFormat.MSGPACK:
                    packed[n] = good
                elif written is InputFormat.ARROW:
                    read[n] = self._fit(self._arrow.read(good), good, flaw)
                else:
                    read[n] = self._read_json(good, flaw, key)
        many = self._batches[InputFormat.MSGPACK].read(list(packed.values()))
        for (n, value), found in zip(packed.items(), many, strict=True):
            flaw = flaws[fetched.keys[n]]
            one = (
                self._read_single(value, InputFormat.MSGPACK, flaw, fetched.keys[n])
                if found is None
                else self._fit(found, value, flaw)
            )
            read[n] = one
        return [read[n] for n in range(len(fetched.keys))]

    def _checked(self, value: bytes | None, written: InputFormat, flaw: Flaw | None) -> bytes:
        """The value, if it is there and no larger than it may be."""
        if isinstance(value, Unreadable):
            raise RejectedReading(Reason.UNREADABLE_BATCH, value.detail)
        most = MAX_VALUE_BYTES if written is InputFormat.JSON else self.rules.max_batch_bytes
        if value is not None and len(value) <= most:
            return value
        if flaw:
            raise RejectedReading(*flaw)
        if value is None:
            raise RejectedReading(Reason.MISSING_VALUE, "the record has no value")
        raise RejectedReading(Reason.TOO_LARGE, f"{_size(value)} bytes, expected at most {most}")

    def _read_json(
        self, value: bytes, flaw: Flaw | None, key: bytes | None
    ) -> Single | RecordReadings | RejectedReading:
        one = self._read_single(value, InputFormat.JSON, flaw, key)
        if isinstance(one, RejectedReading) and COLUMN_OF_TIMES in value:
            (many,) = self._batches[InputFormat.JSON].read([value])
            return one if many is None else self._fit(many, value, flaw)
        return one

    def _fit(
        self, read: RecordReadings | RejectedReading, value: bytes, flaw: Flaw | None
    ) -> RecordReadings | RejectedReading:
        """What was read of a record of many readings, if it has a key that it needs and is not mostly claims.

        An array of nulls, or of columns that share their bytes, could else take much more memory than a poll brings.
        """
        if isinstance(read, RejectedReading):
            return read
        if flaw and read.streams is None:
            return RejectedReading(*flaw)
        count, least = len(read.times_ms), LEAST_READING_BYTES + len(self.features)
        if count * least <= len(value):
            return read
        detail = f"{count} readings in {len(value)} bytes, expected at least {least} bytes each"
        return RejectedReading(Reason.TOO_MANY_READINGS, detail)

    def _is_bad(self, columns: Columns, record_times: Int64s) -> Bools:
        """(N,) which readings cannot be judged."""
        times = columns.times_ms
        bad: Bools = (times < 0) | (times > MAX_TIMESTAMP_MS) | (np.abs(columns.values) > MAX_VALUE).any(axis=1)
        bad |= self._far_from_record(np.clip(times, 0, MAX_TIMESTAMP_MS), record_times)
        if columns.named and not all_without_flaw(columns.keys):
            good = {key: flaw_of(key) is None for key in set(columns.keys)}
            bad |= ~np.array([good[key] for key in columns.keys], np.bool_)
        return bad

    def _refused(
        self, columns: Columns, record_times: Int64s, bad: Bools, flaws: Mapping[tuple[int, int], Flaw]
    ) -> Iterator[Reject]:
        """One for each record with readings that cannot be judged."""
        places = np.flatnonzero(bad)
        records, firsts, counts = np.unique(columns.records[places], return_index=True, return_counts=True)
        holds = np.bincount(columns.records, minlength=int(records[-1]) + 1)
        for record, first, count in zip(records.tolist(), firsts.tolist(), counts.tolist(), strict=True):
            shown = places[first : first + min(count, SHOWN_READINGS)].tolist()
            whys = [
                flaws.get((record, int(columns.indices[n]))) or self._why_bad(columns, n, int(record_times[n]))
                for n in shown
            ]
            if int(holds[record]) == 1:
                yield Reject(record, *whys[0])
                continue
            shown_whys = [f"{int(columns.indices[n])}: {detail}" for n, (_, detail) in zip(shown, whys, strict=True)]
            yield Reject(record, whys[0][0], refused_readings(count, int(holds[record]), shown_whys))

    def _why_bad(self, columns: Columns, n: int, record_time: int) -> Flaw:
        """What is said of a reading that cannot be judged."""
        if flaw := flaw_of(columns.keys[n]):
            return Reason.BAD_KEY, flaw
        time = int(columns.times_ms[n])
        if time == NO_TIME:
            return Reason.BAD_TIMESTAMP, "no timestamp"
        if not 0 <= time <= MAX_TIMESTAMP_MS:
            return Reason.BAD_TIMESTAMP, _out_of_bounds(time)
        for name, value in zip(self.features, columns.values[n].tolist(), strict=True):
            if abs(value) > MAX_VALUE:
                return Reason.OUT_OF_RANGE, _out_of_range(name, value)
        return self._why_far(time, record_time)

    def _why_far(self, time: int, record_time: int) -> Flaw:
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

    def _read_single(
        self, value: bytes, written: InputFormat, flaw: Flaw | None, key: bytes | None
    ) -> Single | RejectedReading:
        """The one reading that a record holds."""
        malformed = Reason.BAD_JSON if written is InputFormat.JSON else Reason.BAD_MSGPACK
        try:
            if flaw:
                raise RejectedReading(*flaw)
            message = self._decoders[written](value)
            time = milliseconds_of(message.timestamp)
            if not 0 <= time <= MAX_TIMESTAMP_MS:
                raise RejectedReading(Reason.BAD_TIMESTAMP, _out_of_bounds(time))
            row = self._row(message)
            if message.values is UNSET and key is not None:
                _check_metric(message, key)
            return Single(time, row)
        except RejectedReading as rejected:
            return rejected
        except msgspec.ValidationError as error:
            return RejectedReading(_reason(str(error)) or malformed, str(error))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return RejectedReading(malformed, str(error))

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
            if value is not None and abs(value) > MAX_VALUE:
                raise RejectedReading(Reason.OUT_OF_RANGE, _out_of_range(name, value))
        return row


def _batch(
    fetched: Fetched, keys: list[StreamKey], times: Int64s, columns: Doubles, indices: Int64s | None = None
) -> ReadingBatch:
    """indices: None where each record holds one reading."""
    readings = Readings(torch.from_numpy(fetched.offsets), torch.from_numpy(times), torch.from_numpy(columns))
    firsts = np.zeros(len(keys), np.int64) if indices is None else indices
    return ReadingBatch(fetched.partition, keys, readings, fetched.times_ms, firsts)


def with_refused_streams(
    rejects: Sequence[Reject], fetched: Fetched, batch: ReadingBatch, out: Bools, detail: str
) -> list[Reject]:
    """The rejects with those of the readings for whose streams there is no room. out: (N,) which of the batch's."""
    records = np.searchsorted(fetched.offsets, batch.readings.offsets.numpy())
    holds = np.bincount(records, minlength=len(fetched.keys))
    refused: dict[int, list[int]] = {}
    for record, index in zip(records[out].tolist(), batch.indices[out].tolist(), strict=True):
        refused.setdefault(record, []).append(index)
    found = {reject.record: reject for reject in rejects}
    for record, indices in refused.items():
        before = found.get(record)
        if before is None and int(holds[record]) == 1 and indices == [0]:
            found[record] = Reject(record, Reason.STREAM_LIMIT, detail)
            continue
        refusal = refused_readings(
            len(indices), int(holds[record]), [f"{n}: {detail}" for n in indices[:SHOWN_READINGS]]
        )
        reason = Reason.STREAM_LIMIT if before is None else before.reason
        found[record] = Reject(record, reason, refusal if before is None else f"{before.detail}; {refusal}")
    return sorted(found.values())


def _runs(fetched: Fetched, columns: Columns) -> Runs:
    counts = np.bincount(columns.records, minlength=len(fetched.keys))
    held = np.flatnonzero(counts)
    return Runs([StreamKey(fetched.keys[n] or b"") for n in held.tolist()], counts[held])


def refused_readings(count: int, of: int, shown: Sequence[str]) -> str:
    """The detail of a record in which some readings cannot be judged. shown: index and reason of the first of them."""
    more = f"; and {count - len(shown)} more" if count > len(shown) else ""
    others = "" if count == of else ", the others are judged"
    return f"{count} of {of} readings refused{others}. Reading {'; reading '.join(shown)}{more}"


def _all_good(keys: list[bytes], values: list[bytes]) -> bool:
    return max(map(len, values)) <= MAX_VALUE_BYTES and all_without_flaw(keys)


def _size(data: bytes) -> int:
    """Of all of it, in bytes."""
    return data.size if isinstance(data, Cut) else len(data)


def _key_flaw(key: bytes | None) -> Flaw | None:
    """Why a record with this key cannot be read; None if the key is not why."""
    if key is None:
        return Reason.MISSING_KEY, "the record has no key, expected the stream's name"
    flaw = flaw_of(key, _size(key))
    return (Reason.BAD_KEY, flaw) if flaw else None


def _check_metric(message: Any, key: bytes) -> None:
    """Refuse one value of a metric that the key does not name: all that its device sends would be one stream."""
    for field in METRIC_NAMES:
        metric = getattr(message, field)
        if type(metric) is str and metric.encode(errors="replace").lower() not in key.lower():
            raise RejectedReading(
                Reason.BAD_KEY,
                f"the value is of the {field} {metric[:80]!r}, which the key {key.decode()} does not name: all metrics "
                "with this key would be one stream",
            )


def _unit_hint(number: int) -> str:
    unit = looks_like(number)
    return f"timestamp {number} looks like {unit.word if unit else 'no unit'}: expected milliseconds"


def _out_of_bounds(time: int) -> str:
    return _unit_hint(time) if looks_like(time) else f"timestamp {time} ms, expected 0 to {MAX_TIMESTAMP_MS}"


def _out_of_range(name: str, value: float) -> str:
    return f"{name} is {value}, expected at most {MAX_VALUE} either side of 0"


def _reason(message: str) -> Reason | None:
    """What a validation message is about, by the place it names; None: the value as a whole."""
    if "`$.timestamp" in message or "field `timestamp`" in message:
        return Reason.BAD_TIMESTAMP
    if "missing required field" in message:
        return Reason.WRONG_FEATURES
    if "$.value" in message:
        return Reason.NOT_A_NUMBER
    return None


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
    batch: ReadingBatch,
    verdicts: Verdicts,
    transition: Transition,
    features: Sequence[str],
    digest: str,
    sensors: SensorRules | None = None,
) -> Event:
    """The event of one transition of one alarm. Its id is the same whenever the same transition is published again."""
    n = transition.reading
    key, topic, partition = batch.keys[n], batch.partition.topic, batch.partition.number
    stream, time = key.decode(), rfc3339(int(batch.readings.times_ms[n]))
    change, closed_as = CHANGE_NAMES[transition.change], CLOSED_AS.get(transition.change)
    columns = [
        [_known(value) for value in column[n].tolist()]
        for column in (batch.readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
    ]
    units = [None] * len(features) if sensors is None else sensors.of(key).units
    channels = [
        Channel(name, observed, expected, lower, upper, share, UNSET if unit is None else unit)
        for name, observed, expected, lower, upper, share, unit in zip(
            features, *columns, transition.share, units, strict=True
        )
    ]
    offset, index = int(batch.readings.offsets[n]), int(batch.indices[n])
    opening = opening_of(batch.partition, transition.opened_offset, stream)
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
        return_period_s=round(max(transition.returns_ms) / len(OpenedBy) / 1000, 3),
        witnesses={
            witness.name.lower(): round(returns_ms / 1000, 3)
            for witness, returns_ms in zip(OpenedBy, transition.returns_ms, strict=True)
            if returns_ms > 0
        },
        checkpoint=digest,
        topic=topic,
        partition=partition,
        offset=offset,
        index=index or UNSET,
        kind_probability=UNSET if guess is None else guess.probability,
        opened_by=UNSET if guess is None else opened_by,
    )
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, f"{opening}/{change}/{transition.severity.name}"))
    kind = f"telltale.anomaly.{change}"
    return Event("1.0", identity, f"/telltale/{topic}", kind, stream, time, "application/json", anomaly)


def encode_event(one: Event) -> Record:
    return Record(one.subject.encode(), msgspec.json.encode(one), EVENT_HEADERS)


def decode_event(value: bytes) -> Event:
    return msgspec.json.decode(value, type=Event)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
