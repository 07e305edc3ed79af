"""Columns of the parts of many documents, and instances of the classes of a shape made of them.

What walks bytes puts what it finds into slots, one for each part that the shape has: what kind it is of, and the number
or where in the bytes it stands. An instance holds what msgspec would make of the document.

Sizes: R documents, S slots.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from types import NoneType
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Int64s
from service.input.formats import as_doubles
from service.input.times import Moment
from service.input.walks.kinds import (
    ABSENT,
    ASCII,
    BOOLEAN,
    BYTES,
    DECIMAL,
    DOUBLE,
    MOMENT,
    NULL,
    OBJECT,
    SINGLE,
    SYMBOL,
    TEXT,
    WHOLE,
)

SCALARS = frozenset(
    (NULL, WHOLE, SINGLE, DOUBLE, DECIMAL, ASCII, TEXT, SYMBOL)
)  # what `float | int | str | None` takes
ANYTHING = SCALARS | {BOOLEAN, BYTES, MOMENT}


class Part(NamedTuple):
    """A part of a shape: what names lead to."""

    slot: int
    default: Any
    made: Any  # its class, where it is an object
    takes: frozenset[int]  # the kinds that it may be of beside that
    fields: Mapping[str, "Part"]


class Walked(NamedTuple):
    """What was found in some values, in order, and which value each is of; one without any must be read by itself."""

    documents: Sequence[Any]
    values: Int64s


Walk = Callable[[Sequence[bytes]], Walked]
NOTHING = Walked([], np.zeros(0, np.int64))


def joined(parts: Iterable[tuple[Sequence[int] | Int64s, Walked]]) -> Walked:
    """What is of some values each: the places of those among all, and what was found of them."""
    documents: list[Any] = []
    places = [NOTHING.values]
    for where, found in parts:
        documents += found.documents
        places.append(np.asarray(where)[found.values])
    values = np.concatenate(places)
    order = np.argsort(values, kind="stable")
    return Walked([documents[n] for n in order.tolist()], values[order])


class Slots(NamedTuple):
    """What was found of R documents."""

    data: bytes
    kinds: NDArray[np.uint8]  # (S, R)
    begins: Int64s  # (S, R)
    ends: Int64s  # (S, R) of text and bytes
    symbols: Sequence[str] = ()

    def part(self, chosen: NDArray[Any]) -> "Slots":
        """Of some of the documents."""
        return self._replace(kinds=self.kinds[:, chosen], begins=self.begins[:, chosen], ends=self.ends[:, chosen])


class SlotDocuments(Sequence[Any]):
    """R documents as they stand in slots. Instances are made of them where some are needed."""

    def __init__(self, part: Part, slots: Slots) -> None:
        self._part, self._slots = part, slots

    def __len__(self) -> int:
        return int(self._slots.kinds.shape[1])

    def __getitem__(self, place: Any) -> Any:
        return self.instances[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.instances)

    @cached_property
    def instances(self) -> list[Any]:
        return values_of(self._part, self._slots)

    def column(self, names: Sequence[str]) -> list[Any]:
        """(R,) what names lead to in each. Raises AttributeError where one leads to no object."""
        part = self._part
        for name in names:
            if name not in part.fields or (self._slots.kinds[part.slot] != OBJECT).any():
                raise AttributeError(name)
            part = part.fields[name]
        return values_of(part, self._slots)


def part_of(root: Any) -> Part:
    """The class in a type, and what is below it, each with a slot of its own."""
    return _part(root, None, count())


def slots_of(part: Part) -> int:
    """How many it and its fields have."""
    return 1 + sum(map(slots_of, part.fields.values()))


def _part(kind: Any, default: Any, slots: Iterator[int]) -> Part:
    slot, made, kinds = next(slots), class_in(kind), get_args(kind)
    if made is None:
        return Part(slot, default, None, ANYTHING, {})
    takes = SCALARS if float in kinds else frozenset((NULL,) if NoneType in kinds else ())
    fields = msgspec.structs.fields(made)
    return Part(slot, default, made, takes, {one.encode_name: _part(one.type, one.default, slots) for one in fields})


def class_in(kind: Any) -> Any:
    """The class of a type, be it one of several; None: it has none."""
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def values_of(part: Part, slots: Slots) -> list[Any]:
    """(R,) what each document has there."""
    kinds = slots.kinds[part.slot]
    if (kinds == kinds[:1]).all():
        return _of_kind(part, slots, int(kinds[0])) if len(kinds) else []
    values: list[Any] = [None] * len(kinds)
    for kind in set(kinds.tolist()):
        where = np.flatnonzero(kinds == kind)
        for n, value in zip(where.tolist(), _of_kind(part, slots.part(where), kind), strict=True):
            values[n] = value
    return values


def _of_kind(part: Part, slots: Slots, kind: int) -> list[Any]:
    """Of documents that all have the same kind there."""
    if kind == ABSENT:
        return [part.default] * slots.kinds.shape[1]
    if kind == OBJECT:
        columns = [values_of(one, slots) for one in part.fields.values()]
        return list(map(part.made, *columns))
    return READ[kind](slots, slots.begins[part.slot], slots.ends[part.slot])


def _singles(_: Slots, begins: Int64s, __: Int64s) -> list[Any]:
    found: list[Any] = as_doubles(begins.astype(np.uint32).view(np.float32)).tolist()
    return found


def _ascii(slots: Slots, begins: Int64s, ends: Int64s) -> list[Any]:
    text = slots.data.decode("latin-1")  # a character a byte
    return [text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _texts(slots: Slots, begins: Int64s, ends: Int64s) -> list[Any]:
    return list(map(bytes.decode, _bytes(slots, begins, ends)))


def _bytes(slots: Slots, begins: Int64s, ends: Int64s) -> list[Any]:
    return [slots.data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


READ: dict[int, Callable[[Slots, Int64s, Int64s], list[Any]]] = {
    NULL: lambda _, begins, __: [None] * len(begins),
    BOOLEAN: lambda _, begins, __: (begins != 0).tolist(),
    WHOLE: lambda _, begins, __: begins.tolist(),
    SINGLE: _singles,
    DOUBLE: lambda _, begins, __: begins.view(np.float64).tolist(),
    DECIMAL: lambda slots, begins, ends: list(map(float, _bytes(slots, begins, ends))),
    ASCII: _ascii,
    TEXT: _texts,
    BYTES: _bytes,
    SYMBOL: lambda slots, begins, _: [slots.symbols[place] for place in begins.tolist()],
    MOMENT: lambda _, begins, __: list(map(Moment, begins.tolist())),
}
