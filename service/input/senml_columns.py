"""SenML packs to instances of a shape, a field of all records at once: to what service.input.senml makes of each.

A value is left to that where it is no array of records as RFC 8428 has them, or a name or a time is refused there.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, chain, compress
from operator import add, attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from service.input.parts import NOTHING, SCALARS, Part, Walk, Walked, part_of
from service.input.senml import BASES, MOST_NAME, RELATIVE_S, VALUES

Number = int | float | UnsetType
FIELDS = {"n": str | UnsetType, "t": Number, "v": Number, **dict.fromkeys(VALUES[1:], Any)}
BASED = ("n", "t", "v")  # to which a base is added, so that they are text or numbers
NOT_WHOLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def walk_of(root: Any) -> Walk | None:
    """What makes an instance of a type of each record; None where the shape has something below a record's fields."""
    part = part_of(root)
    if any(one.made is not None and (name not in BASED or one.takes != SCALARS) for name, one in part.fields.items()):
        return None
    others = [name for name in part.fields if name not in FIELDS and not name.startswith("b")]
    kinds = {**{name: str | UnsetType if unset == "" else Number for name, unset in BASES.items()}, **FIELDS}
    columns = {name: f"f{n}" for n, name in enumerate((*kinds, *others))}
    kind: Any = msgspec.defstruct(
        "Record",
        [(column, kinds.get(name, Any), UNSET) for name, column in columns.items()],
        rename={column: name for name, column in columns.items()},
        frozen=True,
        gc=False,
    )
    decode = msgspec.json.Decoder(list[kind]).decode
    get = {name: attrgetter(column) for name, column in columns.items()}
    wanted = [name for name in (*FIELDS, *others) if name in BASED or name in part.fields]
    of_others = attrgetter(*(columns[name] for name in VALUES if name != "v"))
    no_others = (UNSET,) * (len(VALUES) - 1)

    def instances(packs: Sequence[list[Any]]) -> Walked:
        """Raises ValueError or OverflowError where a record is refused."""
        records, sizes = list(chain.from_iterable(packs)), list(map(len, packs))
        found = {name: list(map(get[name], records)) for name in wanted}
        bases = {name: _bases(list(map(get[name], records)), sizes, unset) for name, unset in BASES.items()}
        # Without a value of any kind a record only sets a base.
        meant = [
            one is not UNSET or of_others(record) != no_others for one, record in zip(found["v"], records, strict=True)
        ]
        found["n"] = _names(bases["bn"], found["n"])
        found["t"] = _times(bases["bt"], found["t"], meant)
        found["v"] = [UNSET if one is UNSET else base + one for base, one in zip(bases["bv"], found["v"], strict=True)]
        of_value = np.repeat(np.arange(len(packs)), sizes)
        if not all(meant):
            found = {name: list(compress(column, meant)) for name, column in found.items()}
            of_value = of_value[np.array(meant, np.bool_)]
        return Walked(_made(part, found, len(of_value)), of_value)

    return lambda values: _whole_or_left(values, decode, instances)


def _whole_or_left(
    values: Sequence[bytes], decode: Callable[[bytes], list[Any]], instances: Callable[[Sequence[list[Any]]], Walked]
) -> Walked:
    """All of them, or each by itself where one is refused."""
    try:
        for value in values:
            if not value.isascii():
                value.decode()  # what is skipped is not looked into
        return instances(list(map(decode, values)))
    except NOT_WHOLE:
        if len(values) == 1:
            return NOTHING
        half = len(values) // 2
        first, second = (_whole_or_left(some, decode, instances) for some in (values[:half], values[half:]))
        return Walked([*first.documents, *second.documents], np.concatenate([first.values, second.values + half]))


def _bases(column: list[Any], sizes: Sequence[int], kind: Any) -> list[Any]:
    """What is in force at each record: what it or the last one before it in its pack says."""
    unset = column.count(UNSET)
    if unset == len(column):
        return [kind] * len(column)
    begins = [0, *accumulate(sizes)][:-1]
    firsts = [column[begin] if size else UNSET for begin, size in zip(begins, sizes, strict=True)]
    if len(column) - unset == len(firsts) - firsts.count(UNSET):  # the first ones alone say anything
        return [kind if one is UNSET else one for one, size in zip(firsts, sizes, strict=True) for _ in range(size)]
    for begin, size, first in zip(begins, sizes, firsts, strict=True):
        if size and first is UNSET:
            column[begin] = kind
    return list(accumulate(column, lambda last, one: last if one is UNSET else one))


def _names(bases: list[str], names: list[Any]) -> list[str]:
    found = list(map(add, bases, ["" if name is UNSET else name for name in names]))
    if max(map(len, found), default=0) > MOST_NAME:
        raise ValueError("a name that is too long")
    return found


def _times(bases: list[Any], times: list[Any], meant: Sequence[bool]) -> list[Any]:
    """In seconds; UNSET where there is none. Raises ValueError of one that is relative to now."""
    found = list(map(add, bases, [0 if time is UNSET else time for time in times]))
    numbers = np.array(found, np.float64)
    absolute = numbers >= RELATIVE_S
    if (~absolute & (numbers != 0) & np.array(meant, np.bool_)).any():
        raise ValueError("a time that is relative to now")
    return found if absolute.all() else [one if here else UNSET for one, here in zip(found, absolute, strict=True)]


def _made(part: Part, found: dict[str, list[Any]], count: int) -> list[Any]:
    """found: the columns of the fields that a document has."""
    columns = [found.get(name, [one.default] * count) for name, one in part.fields.items()]
    return list(map(part.made, *columns))
