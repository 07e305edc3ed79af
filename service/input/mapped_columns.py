"""Records of a mapped topic to columns, all at once: each path is taken from every reading before the next one is.

What is read here is to the bit what MappedReader reads of the same record by itself. A record in which anything is
unusual or wrong is left to it, so that it can say what.

Sizes: R records, N readings, F features.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import compress
from types import NoneType
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from msgspec import UNSET

from models.data.arrays import Bools, Doubles, Int64s
from models.data.time_units import TimeUnit
from service.errors import RefusedSetting, RejectedReading
from service.input.columns import Columns
from service.input.documents import key_of, shaped_documents_of
from service.input.formats import NO_TIME, TopicMapping
from service.input.labels import LabelReader, Labels
from service.input.numbers import number_column, number_reader, plain, plain_set
from service.input.one_metric import is_of_a_feature
from service.input.parts import SlotDocuments
from service.input.paths import READING, Around, Path, path
from service.input.shapes import Names, Shape, Wanted, shape_of
from service.input.times import TimeRules, time_column

LEAST_READING_BYTES = 4  # of a record of many, and 1 a feature: in columns a reading takes some 90, and 32 a feature
MOST_KEYS = 100_000  # whose parts are kept
REFUSED = object()


class MappedRecords(NamedTuple):
    """R records as they came. times_ms: (R,), -1 where unknown. headers: those of some records, of each by name."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    times_ms: Int64s
    headers: Callable[[Sequence[int]], list[Mapping[str, bytes]]]


def header_text(written: bytes) -> str:
    """Of what is not UTF-8, what can be read."""
    return written.decode(errors="replace")


class ReadColumns(NamedTuple):
    """The readings of the records that were read, and (R,) which were not."""

    columns: Columns
    left: Bools
    skipped: int  # readings that are not selected


class Paths(NamedTuple):
    """Those of a mapping. values: to all of them; None: by_feature has one for each."""

    readings: Path | None
    select: tuple[Path, ...]
    stream: tuple[Path, ...]
    time: Path
    values: Path | None
    by_feature: tuple[Path, ...]
    quality: tuple[Path | None, ...]  # one for each feature, or none
    labels: tuple[Path, ...]


def paths_of(mapping: TopicMapping, features: Sequence[str]) -> Paths:
    """Raises RefusedSetting where the mapping names values one by one, and a feature is not among them."""
    values, quality = mapping.values, mapping.quality
    by_feature: tuple[Path, ...] = ()
    if not isinstance(values, str):
        if missing := [name for name in features if name not in values]:
            raise RefusedSetting(
                f"{mapping.setting}.values: found {', '.join(values)}, expected a path of the checkpoint's "
                f"feature {missing[0]} as well"
            )
        by_feature = tuple(path(values[name]) for name in features)
    of_quality: tuple[Path | None, ...] = ()
    if isinstance(quality, str):
        of_quality = (path(quality),) * len(features)
    elif quality is not None:
        of_quality = tuple(path(quality[name]) if name in quality else None for name in features)
    select = list(map(path, mapping.select))
    if mapping.metric is not None:
        select.append(is_of_a_feature(path(mapping.metric), features))
    return Paths(
        readings=path(mapping.readings) if mapping.readings else None,
        select=tuple(select),
        stream=tuple(map(path, mapping.stream)),
        time=path(mapping.time),
        values=path(values) if isinstance(values, str) else None,
        by_feature=by_feature,
        quality=of_quality,
        labels=tuple(map(path, mapping.labels.values())),
    )


class _Readings(NamedTuple):
    """N readings, each with the document and the record that it is in. headers: those of each record."""

    topic: str
    records: MappedRecords
    objects: Sequence[Any]
    documents: Sequence[Any]
    document: Int64s
    record: Int64s
    headers: Callable[[], Sequence[Mapping[str, bytes]]]

    def part(self, chosen: Bools) -> "_Readings":
        if chosen.all():
            return self
        objects = list(compress(self.objects, chosen.tolist()))
        return self._replace(objects=objects, document=self.document[chosen], record=self.record[chosen])


class _KeyParts(dict[bytes | None, Any]):
    """What a path finds in keys; REFUSED where a key cannot be read."""

    def __init__(self, read: Callable[[bytes | None], Any], one: Path) -> None:
        super().__init__()
        self._read, self._find = read, one.find

    def __missing__(self, key: bytes | None) -> Any:
        if len(self) >= MOST_KEYS:
            self.clear()
        try:
            found = self._find(None, Around("", self._read(key), {}, None, None))
        except RejectedReading:
            found = REFUSED
        self[key] = found
        return found


def column_reader(
    mapping: TopicMapping, paths: Paths, features: Sequence[str], max_readings: int
) -> "ColumnReader | None":
    """None where some path is neither names nor a formula, or is of what records are not read all at once."""
    of_reading = [*paths.by_feature, *(one for one in paths.quality if one is not None)]
    if paths.values is not None:
        of_reading.append(paths.values)
    if paths.readings is not None:
        of_reading.append(paths.readings)
    everywhere = [*paths.select, *paths.stream, *paths.labels, paths.time]
    if not features or any(one.place != READING for one in of_reading):
        return None
    taken_whole = [*paths.by_feature, *(one for one in (paths.values, paths.readings) if one is not None)]
    if any(one.names is None for one in taken_whole) or not all(map(_is_of_columns, (*of_reading, *everywhere))):
        return None
    tested = [one for one in paths.select if one.formula is None]
    named = (*paths.stream, *paths.labels, paths.time)
    parts = [one for one in (*named, *paths.quality, *paths.select) if one and one not in tested]
    shape = shape_of(
        Wanted(
            readings=paths.readings and paths.readings.names,
            columns=[*_names(READING, parts), *_names(READING, paths.by_feature)],
            tested=_names(READING, tested),
            record=_names("record", [*parts, *tested]),
            values=paths.values and paths.values.names,
            features=features,
        )
    )
    return shape and ColumnReader(mapping, paths, shape, features, max_readings)


def _names(place: str, paths: Iterable[Path]) -> list[Names]:
    return [names for one in paths if one.place == place for names in one.leaves]


def _is_of_columns(one: Path) -> bool:
    """Whether it is found of all readings at once. What is of a key is found once for each key, whatever it is."""
    return one.names is not None or one.formula is not None or one.place == "key"


class ColumnReader:
    """Reads the records of a mapping whose paths are names below one another, or formulas of them."""

    def __init__(
        self, mapping: TopicMapping, paths: Paths, shape: Shape, features: Sequence[str], max_readings: int
    ) -> None:
        self._paths, self._shape = paths, shape
        self._max_readings = max_readings
        self._width = len(features)
        self._documents = shaped_documents_of(mapping, shape.root)
        self._numbers = number_column(mapping, number_reader(mapping))
        unit = TimeUnit(mapping.time_unit)
        self._times_ms = time_column(TimeRules(mapping.setting, unit, mapping.time_format, mapping.time_zone))
        self._good = plain_set(mapping.good)
        key = key_of(mapping)
        self._keys = {one: _KeyParts(key, one) for one in (*paths.select, *paths.stream, *paths.labels, paths.time)}
        self._labels = LabelReader(mapping.labels)
        self._values = self._one_by_one() if paths.values is None else self._side_by_side(paths.values, features)

    def read(self, topic: str, records: MappedRecords, fit: Bools) -> ReadColumns:
        """fit: (R,) which of the records may be looked into. Raises RegistryUnavailable."""
        left = ~fit
        readings, skipped = self._selected(self._readings(topic, records, left), left)
        counts = np.bincount(readings.record, minlength=len(left))
        if int(counts.max(initial=0)) > 1:
            sizes = np.fromiter((len(value or b"") for value in records.values), np.int64, len(left))
            least = LEAST_READING_BYTES + self._width
            left |= (counts > self._max_readings) | ((counts > 1) & (counts * least > sizes))
        times = self._times(readings)
        keys, unnamed = self._names(readings)
        values, unread = self._values(readings.objects)
        self._judge_quality(values, readings)
        labels, unsure = self._labels_of(readings)
        left[readings.record[(times == NO_TIME) | unnamed | unread | unsure]] = True
        indices = np.arange(len(times)) - (np.cumsum(counts) - counts)[readings.record]
        columns = Columns(readings.record, indices, keys, times, values, named=True, labels=labels)
        if left.any():
            columns = columns.part(~left[readings.record])
        return ReadColumns(columns, left, int(skipped[~left].sum()))

    def _readings(self, topic: str, records: MappedRecords, left: Bools) -> _Readings:
        where = np.flatnonzero(~left)
        values = cast(Sequence[bytes], records.values)
        read = self._documents(values if len(where) == len(left) else [values[n] for n in where.tolist()])
        left[where[read.refused]] = True
        documents, record = read.documents, where[read.values]
        headers = cache(lambda: records.headers(range(len(records.keys))))
        if isinstance(documents, SlotDocuments) and self._shape.readings is None:  # each is a reading
            return _Readings(topic, records, documents, documents, np.arange(len(documents)), record, headers)
        inside: Sequence[Any] = documents
        if self._shape.readings is not None:
            inside = self._shape.found_or_none(self._shape.readings, documents)
        kinds = set(map(type, inside))
        if kinds == {NoneType}:
            inside = documents
        elif not kinds.isdisjoint((list, NoneType)):
            return self._flattened(
                _Readings(topic, records, inside, documents, np.arange(len(inside)), record, headers)
            )
        return _Readings(topic, records, inside, documents, np.arange(len(inside)), record, headers)

    def _flattened(self, found: _Readings) -> _Readings:
        """Those in what was found of each document: an array of them, one, or none: then the document is one."""
        objects: list[Any] = []
        counts = []
        for one, document in zip(found.objects, found.documents, strict=True):
            some = one if type(one) is list else [document if one is None else one]
            objects += some
            counts.append(len(some))
        within = np.repeat(found.document, counts)
        return found._replace(objects=objects, document=within, record=found.record[within])

    def _selected(self, readings: _Readings, left: Bools) -> tuple[_Readings, Int64s]:
        """Those that are meant, and (R,) how many of each record are not."""
        chosen = np.ones(len(readings.objects), np.bool_)
        for one in self._paths.select:
            found = self._column(one, readings)
            chosen &= np.fromiter(map(bool, found), np.bool_, len(found))
            left[readings.record[_is_unsure(found)]] = True
        skipped = np.bincount(readings.record[~chosen], minlength=len(left))
        return readings.part(chosen), skipped

    def _column(self, one: Path, readings: _Readings) -> list[Any]:
        """What a path finds of each reading."""
        if one.place == READING:
            return self._found(one, readings.objects)
        if one.place == "record":
            return _taken(self._found(one, readings.documents), readings.document)
        return _taken(self._record_column(one, readings), readings.record)

    def _found(self, one: Path, objects: Sequence[Any]) -> list[Any]:
        if one.formula is not None:
            return list(one.formula.column(lambda names: self._shape.found_or_none(names, objects)))
        return self._shape.found_or_none(one.names or (), objects)

    def _record_column(self, one: Path, readings: _Readings) -> list[Any]:
        records = readings.records
        if one.place == "key":
            parts = self._keys[one]
            return [parts[key] for key in records.keys]
        if one.place == "header":
            (name,) = one.names or ("",)
            found = [headers.get(name) for headers in readings.headers()]
            try:
                return list(map(bytes.decode, cast(list[bytes], found)))
            except (TypeError, UnicodeDecodeError):  # one is missing, or is no text
                return [None if written is None else header_text(written) for written in found]
        if one.place == "topic":
            return [readings.topic] * len(records.keys)
        return [None if time < 0 else time for time in records.times_ms.tolist()]

    def _times(self, readings: _Readings) -> Int64s:
        if self._paths.time.text == "$time":
            times = readings.records.times_ms[readings.record]
            return np.where(times < 0, NO_TIME, times)
        return self._times_ms(self._column(self._paths.time, readings))

    def _names(self, readings: _Readings) -> tuple[list[bytes], Bools]:
        """(N,) and which of them are no names."""
        parts = [self._column(one, readings) for one in self._paths.stream]
        unnamed = np.zeros(len(readings.objects), np.bool_)
        try:
            return _encoded(_joined(parts)), unnamed
        except TypeError:  # some part of a name is no text
            for n, found in enumerate(parts):
                unnamed |= np.array([type(part) not in (str, int) for part in found], np.bool_)
                parts[n] = list(map(str, found))
            return _encoded(_joined(parts)), unnamed

    def _labels_of(self, readings: _Readings) -> tuple[list[Labels] | None, Bools]:
        """(N,) and of which of them they are not known; None where the mapping names none."""
        unsure = np.zeros(len(readings.objects), np.bool_)
        if not self._paths.labels:
            return None, unsure
        columns = [self._column(one, readings) for one in self._paths.labels]
        for found in columns:
            unsure |= _is_unsure(found)
        return self._labels.of_columns(columns), unsure

    def _judge_quality(self, values: Doubles, readings: _Readings) -> None:
        for n, one in enumerate(self._paths.quality):
            if one is not None:
                found = self._column(one, readings)
                bad = [quality is not None and plain(quality) not in self._good for quality in found]
                values[np.array(bad, np.bool_), n] = np.nan

    def _one_by_one(self) -> Callable[[Sequence[Any]], tuple[Doubles, Bools]]:
        places = [one.names or () for one in self._paths.by_feature]

        def values(objects: Sequence[Any]) -> tuple[Doubles, Bools]:
            return self._rows([self._shape.found(names, objects) for names in places], {None, UNSET})

        return values

    def _side_by_side(self, place: Path, features: Sequence[str]) -> Callable[[Sequence[Any]], tuple[Doubles, Bools]]:
        names = place.names or ()
        gets = [self._shape.get((name,)) for name in features]
        # A null beside its name is a missing value; below other names, nothing.
        alone = {float, int, str, NoneType} if names == (place.text,) else {float, int, str}

        def of_kind(kind: type, found: list[Any]) -> tuple[Doubles, Bools]:
            if issubclass(kind, msgspec.Struct):
                return self._rows([list(map(get, found)) for get in gets], {UNSET})
            if kind is list and set(map(len, found)) == {self._width}:
                return self._rows(list(zip(*found, strict=True)), set())
            if kind in alone and self._width == 1:
                return self._rows([found], set())
            return np.zeros((len(found), self._width)), np.ones(len(found), np.bool_)

        places = [(*names, name) for name in features]

        def values(objects: Sequence[Any]) -> tuple[Doubles, Bools]:
            with suppress(AttributeError):  # where it is no object in all of them
                return self._rows([self._shape.column(place, objects) for place in places], {UNSET})
            found = self._shape.found(names, objects)
            kinds = set(map(type, found))
            if len(kinds) == 1:
                return of_kind(kinds.pop(), found)
            if self._width == 1 and kinds <= alone:
                return self._rows([found], set())
            rows, unread = np.zeros((len(found), self._width)), np.zeros(len(found), np.bool_)
            for kind in kinds:
                where = [n for n, one in enumerate(found) if type(one) is kind]
                rows[where], unread[where] = of_kind(kind, [found[n] for n in where])
            return rows, unread

        return values

    def _rows(self, columns: Sequence[Sequence[Any]], nothing: set[Any]) -> tuple[Doubles, Bools]:
        """(N, F) of F columns of N values, and (N,) which rows cannot be read, or are of what is `nothing` alone."""
        values, unread = np.empty((len(columns[0]), self._width)), np.zeros(len(columns[0]), np.bool_)
        for n, column in enumerate(columns):
            values[:, n], bad = self._numbers(column)
            unread |= bad
        empty = np.isnan(values[:, 0]) if nothing else np.zeros(len(values), np.bool_)
        if empty.any():
            empty &= np.isnan(values).all(axis=1)
        for n in np.flatnonzero(empty).tolist():
            row = [column[n] for column in columns]
            unread[n] |= all(one is None or one is UNSET for one in row) and nothing.issuperset(row)
        return values, unread


def _joined(parts: Sequence[list[str]]) -> list[str]:
    """Raises TypeError where one of several is no text."""
    return parts[0] if len(parts) == 1 else list(map("/".join, zip(*parts, strict=True)))


def _encoded(names: list[str]) -> list[bytes]:
    """Raises TypeError where one is no text."""
    try:
        found = "\n".join(names).encode().split(b"\n")  # half of the time that it takes to encode each
        return found if len(found) == len(names) else list(map(str.encode, names))
    except UnicodeEncodeError:
        return [name.encode(errors="surrogatepass") for name in names]


def _is_unsure(found: list[Any]) -> Bools:
    """(N,) of which it is not known whether they are true: objects of which nothing was needed, and of unread keys."""
    unsure = [REFUSED, *(kind() for kind in set(map(type, found)) if issubclass(kind, msgspec.Struct))]
    if not any(one in found for one in unsure):
        return np.zeros(len(found), np.bool_)
    return np.array([one in unsure for one in found], np.bool_)


def _taken(found: list[Any], where: Int64s) -> list[Any]:
    """found[n] for each n of `where`."""
    return found if np.array_equal(where, np.arange(len(found))) else [found[n] for n in where.tolist()]
