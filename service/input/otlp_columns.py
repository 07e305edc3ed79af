"""Requests of OTLP in Protobuf to instances of a shape, all of a poll at once.

A document is as in service.input.otlp. What stands in many points alike is made once: resources, scopes, attributes,
names.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.data.arrays import Int64s
from service.input.otlp import NO_RECORDED_VALUE, TEMPORALITIES, Messages, attributes_of, series_of, source_of
from service.input.parts import SCALARS, Part, Walk, Walked, part_of
from service.input.places import places_of

MOST_KNOWN_BYTES = 16_777_216  # of each kind
MOST_DEPTH = 16  # of attributes within attributes: far less than the library reads
WHOLE = ("resource", "attributes")  # objects, of which a shape may need parts


class _Known(dict[Any, Any]):
    """What is made of bytes, once for all that are alike."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make, self._bytes = make, 0

    def __missing__(self, key: Any) -> Any:
        self._bytes += len(key) if isinstance(key, bytes) else sum(map(len, key))
        if self._bytes > MOST_KNOWN_BYTES:
            self.clear()
            self._bytes = 0
        found = self[key] = self._make(key)
        return found


class _About(NamedTuple):
    """Attributes, as they are and as the shape has them."""

    plain: dict[str, Any]
    shaped: Any


def walk_of(root: Any, messages: Messages) -> Walk | None:
    """What makes an instance of a type of each point; None where the shape needs parts of what has none."""
    part = part_of(root)
    if any(one.made is not None and not _can_be(name, one) for name, one in part.fields.items()):
        return None
    from service.input.walks.otlp import COLUMNS, LEAST_POINT, walk  # noqa: PLC0415  (which loads the compiler)

    instances = _instances_of(part, messages)

    def read(values: Sequence[bytes]) -> Walked:
        data = b"".join(values)
        begins, ends = places_of(values)
        rows = np.empty((len(data) // LEAST_POINT + 1, COLUMNS), np.int64)
        count = walk(np.frombuffer(data, np.uint8), begins, ends, rows)
        return instances(data, rows[:count])

    return read


def _can_be(name: str, part: Part) -> bool:
    return name in WHOLE or (part.takes == SCALARS and name not in ("scalar", "monotonic"))


def _instances_of(part: Part, messages: Messages) -> Callable[[bytes, Int64s], Walked]:
    from service.input.walks import otlp as at  # noqa: PLC0415  (which loads the compiler)

    def about(name: str, parse: Callable[[bytes], Any]) -> Callable[[bytes], _About | None]:
        wanted = part.fields.get(name)

        def make(written: bytes) -> _About | None:
            try:
                plain = attributes_of(parse(written).attributes)
                if _depth(plain) > MOST_DEPTH:
                    return None
                made = wanted is not None and wanted.made is not None
                return _About(plain, msgspec.convert(plain, wanted.made) if wanted and made else plain)
            except (messages.error, msgspec.MsgspecError):
                return None

        return make

    def scope_of(written: bytes) -> str | None:
        try:
            scope = messages.scope.FromString(written)
            return None if _depth(attributes_of(scope.attributes)) > MOST_DEPTH else str(scope.name)
        except messages.error:
            return None

    texts = _Known(bytes.decode)
    resources = _Known(about("resource", messages.resource.FromString))
    points = _Known(about("attributes", messages.point.FromString))
    scopes = _Known(scope_of)
    sources = _Known(lambda written: source_of(resources[written].plain))
    series = _Known(lambda written: series_of(texts[written[0]], points[written[1]].plain))

    def instances(data: bytes, rows: Int64s) -> Walked:
        def spans(column: int) -> list[bytes]:
            begins, ends = rows[:, column].tolist(), rows[:, column + 1].tolist()
            return [data[begin:end] for begin, end in zip(begins, ends, strict=True)]

        of_resource, of_scope, of_point = spans(at.RESOURCE), spans(at.SCOPE), spans(at.ATTRIBUTES)
        all_of = ((resources, of_resource), (scopes, of_scope), (points, of_point))
        if any(known[one] is None for known, found in all_of for one in set(found)):
            requests, bad = rows[:, at.REQUEST], np.zeros(len(rows), np.bool_)
            for known, found in all_of:
                bad |= np.array([known[one] is None for one in found], np.bool_)
            return instances(data, rows[~np.isin(requests, requests[bad])])
        is_sum = rows[:, at.IS_SUM].tolist()

        def of_sums(name: str, found: list[Any]) -> list[Any]:
            default = part.fields[name].default
            return [one if of_sum else default for one, of_sum in zip(found, is_sum, strict=True)]

        columns: dict[str, Callable[[], list[Any]]] = {
            "name": lambda: [texts[name] for name in spans(at.NAME)],
            "unit": lambda: [texts[unit] for unit in spans(at.UNIT)],
            "kind": lambda: ["sum" if one else "gauge" for one in is_sum],
            "scalar": lambda: [True] * len(rows),
            "source": lambda: [sources[resource] for resource in of_resource],
            "resource": lambda: [resources[resource].shaped for resource in of_resource],
            "scope": lambda: [scopes[scope] for scope in of_scope],
            "temporality": lambda: of_sums("temporality", [TEMPORALITIES[n] for n in rows[:, at.TEMPORALITY].tolist()]),
            "monotonic": lambda: of_sums("monotonic", (rows[:, at.MONOTONIC] != 0).tolist()),
            "series": lambda: [series[one] for one in zip(spans(at.NAME), of_point, strict=True)],
            "attributes": lambda: [points[point].shaped for point in of_point],
            "time": lambda: [time or None for time in rows[:, at.TIME].tolist()],
            "value": lambda: _values(rows),
        }
        made = [columns[name]() if name in columns else [one.default] * len(rows) for name, one in part.fields.items()]
        return Walked(list(map(part.made, *made)), rows[:, at.REQUEST])

    return instances


def _values(rows: Int64s) -> list[Any]:
    from service.input.walks.otlp import DOUBLE, FLAGS, INTEGER, VALUE, VALUE_KIND  # noqa: PLC0415  (as above)

    whole = np.ascontiguousarray(rows[:, VALUE])
    kinds = np.where(rows[:, FLAGS] & NO_RECORDED_VALUE, 0, rows[:, VALUE_KIND])
    if (kinds == DOUBLE).all():
        return list(whole.view(np.float64).tolist())
    return [
        double if kind == DOUBLE else integer if kind == INTEGER else None
        for double, integer, kind in zip(whole.view(np.float64).tolist(), whole.tolist(), kinds.tolist(), strict=True)
    ]


def _depth(value: Any) -> int:
    """How many objects and arrays are in one another."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0
