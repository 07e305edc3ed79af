"""The parts of a record that a mapping's paths name, as classes that msgspec decodes into.

Objects become instances of a few classes whose fields are the names on the paths; all other fields are skipped. A
record that does not fit, such as one with text where a path has an object, fails to decode: it is read another way.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from service.input.parts import SlotDocuments

Names = tuple[str, ...]
Get = Callable[[Any], Any]

SCALARS = float | int | str | None


class Wanted(NamedTuple):
    """Which parts a mapping needs, as names below one another."""

    readings: Names | None  # the array of readings; None: a value is one, or an array of them
    columns: Sequence[Names]  # of a reading
    tested: Sequence[Names]  # of a reading, of which it matters only whether they are true
    record: Sequence[Names]  # of the whole value
    values: Names | None  # of a reading, to an object of features, an array of them or a number; None: by `columns`
    features: Sequence[str]


class Shape(NamedTuple):
    """What parts of a value are."""

    root: Any  # the type of a value
    readings: Names | None  # of the array of readings
    get: Callable[[Names], Get]  # what takes the part of an instance that names lead to

    def column(self, names: Names, objects: Sequence[Any]) -> list[Any]:
        """What names lead to in each object. Raises AttributeError where one leads to no object."""
        if isinstance(objects, SlotDocuments):
            return objects.column(names)
        return list(map(self.get(names), objects)) if names else list(objects)

    def found(self, names: Names, objects: Sequence[Any]) -> list[Any]:
        """The same; UNSET where nothing is, or a name on the way leads to no object."""
        try:
            return self.column(names, objects)
        except AttributeError:
            get = self.get(names)
            return [_or_unset(get, one) for one in objects]

    def found_or_none(self, names: Names, objects: Sequence[Any]) -> list[Any]:
        """The same, with None where nothing is: as paths find it."""
        found = self.found(names, objects)
        return [None if one is UNSET else one for one in found] if UNSET in found else found


class _Node:
    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.whole = self.tested = self.values = self.readings = False

    def at(self, names: Names) -> "_Node":
        node = self
        for name in names:
            node = node.below.setdefault(name, _Node())
        return node


def shape_of(wanted: Wanted) -> Shape | None:
    """None where an object is needed as a whole and in parts: that no class is."""
    reading, root = _Node(), _Node()
    for node in (reading, root):
        for names in wanted.columns:
            node.at(names).whole = True
        for names in wanted.tested:
            node.at(names).tested = True
        if wanted.values is not None:
            container = node.at(wanted.values)
            if container.whole and len(wanted.features) == 1:  # it is the one value of a reading, or left
                continue
            container.values = bool(wanted.values)
            for name in wanted.features:
                container.at((name,)).whole = True
    for names in wanted.record:
        root.at(names).whole = True
    if wanted.readings is not None:
        root.at(wanted.readings).readings = True
    classes = _Classes(reading, len(wanted.features) == 1)
    if not (classes.can_be(reading) and classes.can_be(root)):
        return None
    alone = wanted.readings is not None or bool(wanted.record)
    whole = classes.struct(root) if alone else _one_or_many(classes.struct(root))
    return Shape(whole, wanted.readings, classes.get)


class _Classes:
    def __init__(self, reading: _Node, single: bool) -> None:
        self._reading = reading
        self._single = single  # whether a number alone is all values of a reading
        self._fields: dict[str, str] = {}

    def can_be(self, node: _Node) -> bool:
        """Whether classes are made of it. A root that is a value itself, and not an object, is none."""
        if node.whole and (node.below or node.values or node.readings):
            return False
        if node.readings and (node.below or node.values or node.tested):
            return False
        return all(self.can_be(one) for one in node.below.values())

    def struct(self, node: _Node) -> Any:
        fields = [(self._field(name), *self._kind(one)) for name, one in node.below.items()]
        rename = {self._field(name): name for name in node.below}
        return msgspec.defstruct("Part", fields, rename=rename, frozen=True, gc=False)

    def _kind(self, node: _Node) -> tuple[Any, Any]:
        """Type and default."""
        if node.readings:
            return _one_or_many(self.struct(self._reading)) | None, None
        if not node.below:
            return Any, UNSET
        one = self.struct(node)
        if node.values:
            return (one | list[Any] | SCALARS if self._single else one | list[Any] | None), UNSET
        return one | None, None if node.tested else one()

    def _field(self, name: str) -> str:
        return self._fields.setdefault(name, f"f{len(self._fields)}")

    def get(self, names: Names) -> Get:
        return attrgetter(".".join(map(self._field, names)))


def _one_or_many(one: Any) -> Any:
    return one | list[one]


def _or_unset(get: Get, one: Any) -> Any:
    try:
        return get(one)
    except AttributeError:
        return UNSET
