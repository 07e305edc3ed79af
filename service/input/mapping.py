"""Records of any form to readings, as a person maps them: where stream, time and values are.

Sizes: n readings of a record, F features.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from models.data.arrays import Bools
from models.data.time_units import TimeUnit, looks_like
from service.errors import RejectedReading
from service.input.columns import Columns, End, in_order
from service.input.documents import documents_in_text, documents_of, key_of
from service.input.formats import MAX_BATCH_BYTES, NO_TIME, TopicMapping
from service.input.labels import LabelReader, Labels
from service.input.mapped_columns import (
    LEAST_READING_BYTES,
    ColumnReader,
    MappedRecords,
    column_reader,
    header_text,
    paths_of,
)
from service.input.names import NO_FEATURES, kind_of
from service.input.numbers import number_reader, plain, plain_set, shown
from service.input.one_metric import metrics_of, one_metric
from service.input.paths import READING, Around, Path, path
from service.input.reasons import Reason
from service.input.times import TimeRules, time_reader

NO_ENDS: Mapping[int, End] = MappingProxyType({})
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
SHOWN_READINGS = 3  # of those of a record that cannot be read
SHOWN_NAMES = 8
OF_THE_RECORD = ("key", "header", "topic")  # where a path may look in a record without a value
FEW_RECORDS = 16  # fewer are read one at a time, which then takes less
Flaw = tuple[Reason, str]


class MappedColumns(NamedTuple):
    """What was read of R records. A reading that cannot be read has NO_TIME."""

    columns: Columns
    rejects: Mapping[int, Flaw]  # by record: those of which nothing is in the columns
    flaws: Mapping[tuple[int, int], Flaw]  # by record and index: of its first readings that cannot be read
    skipped: int  # readings that are not selected, and tombstones
    ends: Mapping[int, End] = NO_ENDS  # by record: of streams, of tombstones


class _Rows:
    """Readings of some records, one below the other."""

    def __init__(self) -> None:
        self.records: list[int] = []
        self.indices: list[int] = []
        self.keys: list[bytes] = []
        self.times_ms: list[int] = []
        self.values: list[list[float]] = []
        self.labels: list[Labels] = []

    def cut(self, length: int) -> None:
        """Take back those behind the first `length`."""
        for column in (self.records, self.indices, self.keys, self.times_ms, self.values, self.labels):
            del column[length:]

    def columns(self, features: int, *, labelled: bool) -> Columns:
        return Columns(
            np.array(self.records, np.int64),
            np.array(self.indices, np.int64),
            self.keys,
            np.array(self.times_ms, np.int64),
            np.array(self.values, np.float64).reshape(len(self.values), features),
            named=True,
            labels=self.labels if labelled else None,
        )


class MappedReader:
    """Reads the records of one topic for a checkpoint with these features."""

    def __init__(
        self,
        mapping: TopicMapping,
        features: Sequence[str],
        max_readings: int,
        max_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        """max_readings: of a record. max_bytes: of a value."""
        self.mapping = mapping
        self._features = tuple(features)
        self._max_readings = max_readings
        self._max_bytes = max_bytes
        self._documents = documents_of(mapping)
        self._key = key_of(mapping)
        self._paths = paths_of(mapping, self._features)
        unit = TimeUnit(mapping.time_unit)
        self._time_ms = time_reader(TimeRules(mapping.setting, unit, mapping.time_format, mapping.time_zone))
        self._number = number_reader(mapping)
        values = self._paths.values
        if values is not None and mapping.metric is not None:
            self._row = one_metric(path(mapping.metric), values, self._features, self._number, self._refuse_values)
        else:
            self._row = self._one_by_one(self._paths.by_feature) if values is None else self._side_by_side(values)
        self._good = plain_set(mapping.good)
        found = [self._paths.time, *self._paths.select, *self._paths.stream, *self._paths.labels]
        self._labels = LabelReader(mapping.labels)
        self._nothing = [math.nan] * len(self._features)
        self._needs_headers = any(one.text.startswith("$header") for one in found)
        self._needs_key = any(one.text.startswith("$key") for one in found)

    @cached_property
    def _all_at_once(self) -> ColumnReader | None:
        return column_reader(self.mapping, self._paths, self._features, self._max_readings)

    def read(self, topic: str, records: MappedRecords, check: Callable[[bytes], object]) -> MappedColumns:
        """The readings of some records. Whatever the bytes, it raises nothing but RegistryUnavailable.

        check: raises RejectedReading of a value that is not to be looked into.
        """
        if len(records.keys) < FEW_RECORDS or self._all_at_once is None:
            return self._read_apart(topic, records, range(len(records.keys)), check)
        most = self._all_at_once.read(topic, records, self._fit(records.values))
        if not most.left.any():
            return MappedColumns(most.columns, {}, {}, most.skipped)
        rest = self._read_apart(topic, records, np.flatnonzero(most.left).tolist(), check)
        return rest._replace(columns=in_order(most.columns, rest.columns), skipped=most.skipped + rest.skipped)

    def _fit(self, values: Sequence[bytes | None]) -> Bools:
        """(R,) which may be looked into."""
        if set(map(type, values)) == {bytes} and max(map(len, cast(Sequence[bytes], values))) <= self._max_bytes:
            return np.ones(len(values), np.bool_)
        return np.array([type(value) is bytes and len(value) <= self._max_bytes for value in values], np.bool_)

    def _read_apart(
        self, topic: str, records: MappedRecords, which: Iterable[int], check: Callable[[bytes], object]
    ) -> MappedColumns:
        """Some of the records, one at a time."""
        rows, skipped = _Rows(), 0
        rejects: dict[int, Flaw] = {}
        flaws: dict[tuple[int, int], Flaw] = {}
        ends: dict[int, End] = {}
        for n in which:
            begin, value = len(rows.keys), records.values[n]
            try:
                if value is None and self.mapping.tombstones == "end":
                    end = self._ended(topic, records, n)
                    if end is None:
                        skipped += 1
                    else:
                        ends[n] = end
                    continue
                if value is not None:
                    check(value)
                skipped += self._read_one(n, topic, records, rows, flaws)
                self._check_claims(len(rows.keys) - begin, value)
            except RejectedReading as rejected:
                rejects[n] = Reason(rejected.reason), str(rejected)
                rows.cut(begin)
        columns = rows.columns(len(self._features), labelled=bool(self._paths.labels))
        return MappedColumns(columns, rejects, flaws, skipped, ends)

    def _ended(self, topic: str, records: MappedRecords, n: int) -> End | None:
        """What record n, which has no value, says of its stream; None: its key or headers are not selected."""
        around = self._around(topic, records, n)
        if all(one.find(None, around) for one in self._paths.select if one.place in OF_THE_RECORD):
            return End(self._name(None, around), around.time_ms or 0)
        return None

    def _around(self, topic: str, records: MappedRecords, n: int) -> Around:
        time_ms = int(records.times_ms[n])
        key = self._key(records.keys[n]) if self._needs_key else None
        headers = NO_HEADERS
        if self._needs_headers:
            (written,) = records.headers([n])
            headers = {name: header_text(one) for name, one in written.items()}
        return Around(topic, key, headers, None if time_ms < 0 else time_ms, None)

    def _read_one(
        self, n: int, topic: str, records: MappedRecords, rows: _Rows, flaws: dict[tuple[int, int], Flaw]
    ) -> int:
        """Add the readings of record n; returns how many are skipped."""
        value = records.values[n]
        if value is None:
            if self.mapping.tombstones == "ignore":
                return 1
            raise RejectedReading(
                Reason.MISSING_VALUE,
                f"the record has no value; {self.mapping.setting}.tombstones: ignore skips it, `end` tells that its "
                "stream is silent",
            )
        around = self._around(topic, records, n)
        index = skipped = flawed = 0
        for reading, here in self.selected(value, around):
            if here is None:
                skipped += 1
                continue
            if index == self._max_readings:
                raise RejectedReading(
                    Reason.TOO_MANY_READINGS, f"more than {self._max_readings} readings (limits.max_readings)"
                )
            try:
                one = self._one(reading, here)
            except RejectedReading as rejected:
                one = b"", NO_TIME, self._nothing
                flawed += 1
                if flawed <= SHOWN_READINGS:
                    flaws[n, index] = Reason(rejected.reason), str(rejected)
            rows.records.append(n)
            rows.indices.append(index)
            rows.keys.append(one[0])
            rows.times_ms.append(one[1])
            rows.values.append(one[2])
            if self._paths.labels:
                found = [_found_or_none(one, reading, here) for one in self._paths.labels]
                rows.labels.append(self._labels.of(found))
            index += 1
        return skipped

    def _check_claims(self, count: int, value: bytes | None) -> None:
        """Refuse a record whose readings would take much more memory than it brought."""
        if count > 1 and count * (LEAST_READING_BYTES + len(self._features)) > len(value or b""):
            detail = f"{count} readings in {len(value or b'')} bytes"
            raise RejectedReading(Reason.TOO_MANY_READINGS, detail)

    def selected(self, value: bytes, record: Around) -> Iterator[tuple[Any, Around | None]]:
        """The readings in a value, each with what is around it; None: it is not selected."""
        for document in _plain_documents(self._documents(value)):
            around = Around(record.topic, record.key, record.headers, record.time_ms, document)
            for reading in self._within(document, around):
                chosen = all(one.find(reading, around) for one in self._paths.select)
                yield reading, around if chosen else None

    def is_number(self, value: Any) -> bool:
        """Whether it is one, or stands for a missing one."""
        try:
            self._number("", value)
        except RejectedReading:
            return False
        return True

    def _within(self, document: Any, around: Around) -> Sequence[Any]:
        if self._paths.readings is None:
            return document if isinstance(document, list) else [document]
        found = self._paths.readings.find(document, around)
        if isinstance(found, str):
            where = f"{self._paths.readings.text} ({self.mapping.setting}.readings)"
            inside = (one if isinstance(one, list) else [one] for one in documents_in_text(found, where))
            return [*chain.from_iterable(inside)]
        return found if isinstance(found, list) else [document if found is None else found]

    def _one(self, reading: Any, around: Around) -> tuple[bytes, int, list[float]]:
        where = self._paths.time
        time = where.find(reading, around)
        if where.text == "$time":
            time_ms = -1 if time is None else time
        else:
            time_ms = -1 if time is None else self._time_ms(time, around.time_ms)
        if time_ms < 0:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"nothing at {where.text} ({self.mapping.setting}.time), found {names_shown(reading)}; "
                "`$time` is the record's own time",
            )
        return self._name(reading, around), time_ms, self._values(reading, around)

    def _name(self, reading: Any, around: Around) -> bytes:
        parts = []
        for one in self._paths.stream:
            found = one.find(reading, around)
            if type(found) is not str:
                found = self._as_name(one, found, reading)
            parts.append(found)
        return "/".join(parts).encode(errors="surrogatepass")

    def _as_name(self, one: Path, found: Any, reading: Any) -> str:
        if type(found) is int:
            return str(found)
        if one.text == "$key" and found is None:
            raise RejectedReading(
                Reason.MISSING_KEY,
                f"the record has no key; {self.mapping.setting}.stream says where the stream's name is instead, "
                f"found {names_shown(reading)}",
            )
        what = "nothing" if found is None else f"{type(found).__name__} {shown(found)}"
        raise RejectedReading(
            Reason.BAD_KEY,
            f"{what} at {one.text} ({self.mapping.setting}.stream), expected text or a whole number; "
            f"found {names_shown(reading)}",
        )

    def _values(self, reading: Any, around: Around) -> list[float]:
        row = self._row(reading, around)
        for n, one in enumerate(self._paths.quality):
            if one is None:
                continue
            quality = one.find(reading, around)
            if quality is not None and plain(quality) not in self._good:
                row[n] = math.nan
        return row

    def _one_by_one(self, paths: Sequence[Path]) -> Callable[[Any, Around], list[float]]:
        """Values by a path each."""

        def row(reading: Any, around: Around) -> list[float]:
            found = [one.find(reading, around) for one in paths]
            if not any(one is not None for one in found):
                self._refuse_values(", ".join(one.text for one in paths), reading)
            return [self._number(name, one) for name, one in zip(self._features, found, strict=True)]

        return row

    def _side_by_side(self, place: Path) -> Callable[[Any, Around], list[float]]:
        """Values by one path: to an object with the features' names, an array in their order, or the one number."""
        number, features = self._number, self._features
        # What may be taken as it is; where some numbers stand for missing ones, nothing is.
        plain = None if self.mapping.missing else float

        def row(reading: Any, around: Around) -> list[float]:
            found = place.find(reading, around)
            if isinstance(found, dict):
                if not any(name in found for name in self._features):
                    self._refuse_values(place.text, found, f": {', '.join(self._features)}")
                get: Callable[[str], Any] = found.get
                return [get(name) if type(get(name)) is plain else number(name, get(name)) for name in features]
            if isinstance(found, list):
                if len(found) != len(self._features):
                    raise RejectedReading(
                        Reason.WRONG_FEATURES,
                        f"{len(found)} values, the checkpoint expects {len(self._features)}: "
                        f"{', '.join(self._features)}",
                    )
                return [self._number(name, one) for name, one in zip(self._features, found, strict=True)]
            if found is None and not _has(reading, place.text):
                self._refuse_values(place.text, reading)
            if len(self._features) > 1:
                raise RejectedReading(
                    Reason.WRONG_FEATURES,
                    f"one value at {place.text} ({self.mapping.setting}.values), the checkpoint expects "
                    f"{len(self._features)}: {', '.join(self._features)}",
                )
            return [self._number(self._features[0], found)]

        return row

    def _refuse_values(self, where: str, found: Any, expected: str = "") -> None:
        raise RejectedReading(
            Reason.WRONG_FEATURES,
            f"no values at {where} ({self.mapping.setting}.values){expected}, found {names_shown(found)}",
        )


def _found_or_none(one: Path, reading: Any, around: Around) -> Any:
    """Also where the path cannot be applied: no reading is refused for a label."""
    try:
        return one.find(reading, around)
    except RejectedReading:
        return None


def mapped_names(mapping: TopicMapping, value: bytes) -> tuple[str, ...]:
    """The features that a record has, before there is a checkpoint that says which they are; none if it has none."""
    if isinstance(mapping.values, Mapping):
        return tuple(mapping.values)
    place = path(mapping.values)
    reader = MappedReader(mapping._replace(metric=None), (), 1)
    try:
        readings = reader.selected(value, Around("", None, {}, None, None))
        if mapping.metric is not None:
            return metrics_of(path(mapping.metric), readings)
        beside = _beside(mapping)
        for reading, around in readings:
            found = place.find(reading, around) if around else None
            if isinstance(found, dict):
                return tuple(name for name, one in found.items() if reader.is_number(one) and not beside(name, one))
            if found is not None and not isinstance(found, list):
                return ("value",)
    except RejectedReading:
        pass
    return ()


def mapped_left_out(mapping: TopicMapping, value: bytes, features: Sequence[str]) -> dict[str, str]:
    """What stands among the values of a record and is none of the features, by name: what it is.

    What the mapping itself names is not left out.
    """
    if isinstance(mapping.values, Mapping) or mapping.metric is not None:
        return {}
    place, used, beside, left_out = path(mapping.values), _used(mapping), _beside(mapping), dict[str, str]()
    reader = MappedReader(mapping, (), 1)
    try:
        for reading, around in reader.selected(value, Around("", None, {}, None, None)):
            found = place.find(reading, around) if around else None
            for name, one in found.items() if isinstance(found, dict) else ():
                if name not in features and not (place.names == () and name in used):
                    number = "looks like a name or a time" if beside(name, one) else "no feature"
                    left_out[name] = number if reader.is_number(one) else kind_of(one)
    except RejectedReading:
        pass
    return left_out


def _plain_documents(documents: Iterable[Any]) -> Iterator[Any]:
    """Those, and in place of a text that is JSON itself what is in it."""
    for document in documents:
        if isinstance(document, str) and document.lstrip().startswith(("{", "[")):
            yield from documents_in_text(document, "the value")
        else:
            yield document


def _beside(mapping: TopicMapping) -> Callable[[str, Any], bool]:
    """Whether a number of this name stands beside the values and is none.

    One that is a time of today is none. Its name says so where the values are all that a reading holds.
    """
    if not isinstance(mapping.values, str) or path(mapping.values).names != ():
        return lambda _name, one: _is_time(one)
    used = _used(mapping)
    return lambda name, one: name in used or name.lower() in NO_FEATURES or _is_time(one)


def _is_time(one: Any) -> bool:
    """Whether it is a time of 1980 to 2100 in a unit in which measures are none."""
    return type(one) is int and looks_like(one) not in (None, TimeUnit.S)


def _used(mapping: TopicMapping) -> frozenset[str]:
    """The names of a reading that the mapping takes for something else than values."""
    quality = [mapping.quality] if isinstance(mapping.quality, str) else []
    found = [path(one) for one in (mapping.time, *mapping.stream, *mapping.labels.values(), *quality)]
    return frozenset(one.names[0] for one in found if one.place == READING and one.names)


def _has(reading: Any, name: str) -> bool:
    """Whether a null is there, and not nothing."""
    return isinstance(reading, dict) and name in reading


def names_shown(found: Any) -> str:
    """What there is where something was expected."""
    if isinstance(found, dict):
        names = [str(name) for name in found]
        return ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "") or "an empty object"
    return "nothing" if found is None else shown(found)
