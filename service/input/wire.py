"""Bytes -> readings and rejects, for a checkpoint; a reading -> bytes.

Input value: {"timestamp": ms or RFC 3339, "values": {"feature": number or null, ...}}; or "values" as an array in the
checkpoint's order; or "value" for a checkpoint with one feature. Unknown fields are ignored, null is a missing value.
{"timestamp": …, "silent": true} says that its stream sends nothing from then on: it was switched off, or was lost.
Decoded one message at a time: gluing messages into one JSON array lets a crafted one shift its neighbours' values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

import msgspec
import numpy as np
import torch
from msgspec import UNSET, UnsetType

from models.data.arrays import Bools, Doubles, Int64s
from models.data.stream_key import all_without_flaw, flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS
from models.detection.sensor_rules import SensorRules
from service.errors import RejectedReading
from service.input.arrow import ArrowReader
from service.input.batches import BatchReader
from service.input.columns import Columns, End, Single, columns_of
from service.input.documents import likely_format
from service.input.flaws import (
    MAX_VALUE,
    METRIC_NAMES,
    Flaw,
    check_metric,
    key_flaw,
    out_of_bounds,
    out_of_range,
    reason_of,
    size_of,
)
from service.input.formats import NO_TIME, InputFormat, RecordReadings, RecordRules, milliseconds_of
from service.input.hints import Hints
from service.input.mapped_columns import LEAST_READING_BYTES, MappedRecords
from service.input.mapping import SHOWN_READINGS, MappedReader
from service.input.reading_batch import ReadingBatch, Runs, StreamEnd, StreamKey, batch_of
from service.input.reasons import Reason
from service.input.rejects import Reject, refused_readings
from service.input.time_limits import TimeLimits
from service.log.port import Cut, Fetched, Headers, Unreadable

MAX_VALUE_BYTES = 65_536
HINTED = frozenset(
    (
        *(Reason.MISSING_KEY, Reason.BAD_KEY, Reason.MISSING_VALUE, Reason.BAD_JSON, Reason.BAD_TIMESTAMP),
        *(Reason.PAST_TIMESTAMP, Reason.FUTURE_TIMESTAMP, Reason.WRONG_FEATURES, Reason.NOT_A_NUMBER),
    )
)
COLUMN_OF_TIMES = b'"timestamps"'
ANY_FORMAT = RecordRules()
Read = Single | RecordReadings | End | RejectedReading
"""What a record holds, or why it cannot be read."""


class _Silent(msgspec.Struct):
    timestamp: int | float | datetime
    silent: bool


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
        self.time_limits = TimeLimits(max_future_ms, max_past_ms)
        self.rules = rules
        self.sensors = sensors
        fields = [f"f{n}" for n in range(len(self.features))]
        renamed = dict(zip(fields, self.features, strict=True))
        named = msgspec.defstruct("Values", [(name, float | None) for name in fields], rename=renamed, gc=False)
        message = msgspec.defstruct(
            "Message",
            [
                ("timestamp", int | float | datetime),
                ("values", named | list[float | None] | UnsetType, UNSET),
                ("value", float | UnsetType | None, UNSET),
                # Of one value also what it is of: all metrics of a device must not become one stream.
                *((name, Any, UNSET) for name in (METRIC_NAMES if len(self.features) == 1 else ())),
            ],
            gc=False,  # what is decoded holds no cycles
        )
        self._decoders: Mapping[InputFormat, Callable[[bytes], Any]] = {
            InputFormat.JSON: msgspec.json.Decoder(message).decode,
            InputFormat.MSGPACK: msgspec.msgpack.Decoder(message).decode,
        }
        self._silent: Mapping[InputFormat, Callable[[bytes], _Silent]] = {
            InputFormat.JSON: msgspec.json.Decoder(_Silent).decode,
            InputFormat.MSGPACK: msgspec.msgpack.Decoder(_Silent).decode,
        }
        self._batches = {
            InputFormat.JSON: BatchReader(self.features, rules.max_readings, msgspec.json, Reason.BAD_JSON),
            InputFormat.MSGPACK: BatchReader(self.features, rules.max_readings, msgspec.msgpack, Reason.BAD_MSGPACK),
        }
        self._arrow = ArrowReader(self.features, rules.max_readings)
        self._hints = Hints(self.features, rules.max_readings, self.time_limits.far)
        self._mapped = {
            topic: MappedReader(mapping, self.features, rules.max_readings, rules.max_batch_bytes)
            for topic, mapping in rules.mappings.items()
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
        return batch_of(fetched, cast(list[StreamKey], fetched.keys), *read), []

    def _decode_all(self, fetched: Fetched, decode: Callable[[bytes], Any]) -> tuple[Int64s, Doubles] | None:
        """The way of records without a flaw, a reading each and in one format; None for any other."""
        keys, values = cast(list[bytes], fetched.keys), cast(list[bytes], fetched.values)  # a missing one has no length
        try:
            if not _all_good(keys, values):
                return None
            messages = list(map(decode, values))
            times = np.array(
                [m.timestamp if type(m.timestamp) is int else milliseconds_of(m.timestamp) for m in messages], np.int64
            )
            columns = self._columns(messages)
            if messages[0].values is UNSET and len(self.features) == 1:
                for message, key in zip(messages, keys, strict=True):
                    if message.name is not UNSET or message.metric is not UNSET:
                        check_metric(message, key)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError, RejectedReading):
            return None
        if columns.shape != (len(messages), len(self.features)) or (np.abs(columns) > MAX_VALUE).any():
            return None
        if times.min() < 0 or times.max() > MAX_TIMESTAMP_MS:
            return None
        if self.time_limits.far(times, fetched.times_ms).any():
            return None
        return times, columns

    def _columns(self, messages: list[Any]) -> Doubles:
        """(N, F) of messages that are all written in the same way; raises if they are not."""
        first = messages[0]
        if first.values is UNSET:
            if any(m.values is not UNSET for m in messages):
                raise ValueError("`values` wins over `value`")
            one_column = np.array([m.value for m in messages], np.float64)  # a list of lists takes five times as long
            return one_column[:, None]
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
        batch, rejects = self._with_ends(
            fetched, batch, rejects, {n: one for n, one in enumerate(read) if isinstance(one, End)}
        )
        return batch, [self._with_hint(fetched, reject) for reject in rejects]

    def _with_ends(
        self, fetched: Fetched, batch: ReadingBatch, rejects: list[Reject], ends: Mapping[int, End]
    ) -> tuple[ReadingBatch, list[Reject]]:
        """The batch with what records say of their streams, and the rejects with those of which it cannot be."""
        if not ends:
            return batch, rejects
        kept, refused = list[StreamEnd](), list[Reject]()
        for n, (stream, time_ms) in ends.items():
            record_ms = int(fetched.times_ms[n])
            if flaw := flaw_of(stream):
                refused.append(Reject(n, Reason.BAD_KEY, flaw))
            elif self.time_limits.far(np.array([time_ms]), np.array([record_ms])).any():
                refused.append(Reject(n, *self.time_limits.why_far(time_ms, record_ms)))
            else:
                kept.append(StreamEnd(int(fetched.offsets[n]), StreamKey(stream), time_ms))
        return batch._replace(ends=tuple(kept)), sorted([*rejects, *refused])

    def _with_hint(self, fetched: Fetched, reject: Reject) -> Reject:
        """The reject, and the mapping that would read the record if one is known."""
        n, value = reject.record, fetched.values[reject.record]
        if reject.reason not in HINTED or isinstance(value, Cut) or isinstance(fetched.keys[n], Cut):
            return reject
        try:
            hint = self._hints.of(fetched.partition.topic, fetched.keys[n], value, int(fetched.times_ms[n]))
        except Exception as error:  # whatever it is: a guess about a record that is refused must not end the worker
            hint = f"no mapping could be guessed ({type(error).__name__})"
        if not hint and reject.reason == Reason.BAD_JSON and value is not None:
            hint = likely_format(value)
        return reject._replace(detail=f"{reject.detail}; {hint}") if hint else reject

    def _decode_mapped(self, fetched: Fetched, mapped: MappedReader) -> tuple[ReadingBatch, list[Reject]]:
        """The records of a topic that has a mapping."""
        check = partial(self._checked, written=InputFormat.MSGPACK, flaw=None)  # as large as those
        records = MappedRecords(fetched.keys, fetched.values, fetched.times_ms, partial(self._headers, fetched))
        read = mapped.read(fetched.partition.topic, records, check)
        rejects = [Reject(n, *flaw) for n, flaw in read.rejects.items()]
        batch, rejects = self._judged_apart(fetched, read.columns, rejects, read.flaws)
        return self._with_ends(fetched, batch._replace(skipped=read.skipped), rejects, read.ends)

    def _headers(self, fetched: Fetched, which: Sequence[int]) -> list[Mapping[str, bytes]]:
        """Those of some records that have a value, of each by name."""
        return [_with_values(fetched.headers(offset).kept) for offset in fetched.offsets[which].tolist()]

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
        batch = batch_of(some, keys, columns.times_ms, columns.values, columns.indices)
        runs = _runs(fetched, columns) if columns.one_stream_a_record else None
        return batch._replace(runs=runs, labels=columns.labels), rejects

    def _read_records(self, fetched: Fetched) -> list[Read]:
        """What each record holds, or why it cannot be decoded at all. MessagePack is read all at once."""
        flaws = {key: key_flaw(key) for key in set(fetched.keys)}
        read: dict[int, Read] = {}
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
        raise RejectedReading(Reason.TOO_LARGE, f"{size_of(value)} bytes, expected at most {most}")

    def _read_json(self, value: bytes, flaw: Flaw | None, key: bytes | None) -> Read:
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
        bad: Bools = (times < 0) | (times > MAX_TIMESTAMP_MS)
        if (far := np.abs(columns.values) > MAX_VALUE).any():
            bad |= far.any(axis=1)
        bad |= self.time_limits.far(np.clip(times, 0, MAX_TIMESTAMP_MS), record_times)
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
            return Reason.BAD_TIMESTAMP, out_of_bounds(time)
        for name, value in zip(self.features, columns.values[n].tolist(), strict=True):
            if abs(value) > MAX_VALUE:
                return Reason.OUT_OF_RANGE, out_of_range(name, value)
        return self.time_limits.why_far(time, record_time)

    def _read_single(
        self, value: bytes, written: InputFormat, flaw: Flaw | None, key: bytes | None
    ) -> Single | End | RejectedReading:
        """The one reading that a record holds, or that its stream sends no more."""
        malformed = Reason.BAD_JSON if written is InputFormat.JSON else Reason.BAD_MSGPACK
        try:
            if flaw:
                raise RejectedReading(*flaw)
            message = self._decoders[written](value)
            time = milliseconds_of(message.timestamp)
            if not 0 <= time <= MAX_TIMESTAMP_MS:
                raise RejectedReading(Reason.BAD_TIMESTAMP, out_of_bounds(time))
            if message.values is UNSET and message.value is UNSET and self._is_silent(value, written):
                return End(key or b"", time)
            row = self._row(message)
            if message.values is UNSET and key is not None:
                check_metric(message, key)
            return Single(time, row)
        except RejectedReading as rejected:
            return rejected
        except msgspec.ValidationError as error:
            return RejectedReading(reason_of(str(error)) or malformed, str(error))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return RejectedReading(malformed, str(error))

    def _is_silent(self, value: bytes, written: InputFormat) -> bool:
        try:
            return self._silent[written](value).silent
        except msgspec.MsgspecError:
            return False

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
                raise RejectedReading(Reason.OUT_OF_RANGE, out_of_range(name, value))
        return row


def _with_values(headers: Headers) -> Mapping[str, bytes]:
    return {name: value for name, value in headers if value is not None}


def _runs(fetched: Fetched, columns: Columns) -> Runs:
    counts = np.bincount(columns.records, minlength=len(fetched.keys))
    held = np.flatnonzero(counts)
    return Runs([StreamKey(fetched.keys[n] or b"") for n in held.tolist()], counts[held])


def _all_good(keys: list[bytes], values: list[bytes]) -> bool:
    return max(map(len, values)) <= MAX_VALUE_BYTES and all_without_flaw(keys)


def encode_reading(features: Sequence[str], time_ms: int, values: Sequence[float | None]) -> bytes:
    """The message of one reading; NaN travels as null."""
    return msgspec.json.encode({"timestamp": time_ms, "values": dict(zip(features, values, strict=True))})


def encode_silent(time_ms: int) -> bytes:
    """The message that a stream is silent from then on."""
    return msgspec.json.encode({"timestamp": time_ms, "silent": True})
