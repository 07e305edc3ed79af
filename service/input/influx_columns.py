"""Lines of Influx's protocol to instances of a shape, all of a poll at once.

A document is as in service.input.documents: `measurement`, `tags` and `fields` by their names, and `time`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from service.input.parts import Part, SlotDocuments, Slots, Walk, Walked, part_of
from service.input.places import places_of
from service.input.walks.kinds import ABSENT, OBJECT

SHORTEST = 6  # bytes of a line, with its end
NOWHERE = -1


def walk_of(root: Any) -> Walk | None:
    """What makes an instance of a type of each line; None where the shape needs all tags or fields as they are."""
    part = part_of(root)
    if any(part.fields[name].made is None for name in ("tags", "fields") if name in part.fields):
        return None
    from service.input.walks.decimals import POWERS  # noqa: PLC0415  (loads the compiler)
    from service.input.walks.influx import IN_FIELDS, IN_TAGS, MOST_TAGS, walk  # noqa: PLC0415  (loads the compiler)

    sections = ((part.fields.get("tags"), IN_TAGS), (part.fields.get("fields"), IN_FIELDS))
    names, wanted = _wanted(sections)
    fixed = [part.fields.get(name) for name in ("measurement", "tags", "fields", "time")]
    about = np.array([part.slot, *(NOWHERE if one is None else one.slot for one in fixed)])
    takes = np.array([sum(1 << kind for kind in sorted(one)) for one in _takes(part)])

    def read(values: Sequence[bytes]) -> Walked:
        data = b"".join(values)
        value_begins, value_ends = places_of(values)
        most = min(data.count(b"\n"), len(data) // SHORTEST) + len(values) + 1
        kinds = np.zeros((len(takes), most), np.uint8)
        begins, ends = np.zeros(kinds.shape, np.int64), np.zeros(kinds.shape, np.int64)
        of_value, tags = np.zeros(most, np.int64), np.zeros((MOST_TAGS, 2), np.int64)
        count = walk(
            np.frombuffer(data, np.uint8), value_begins, value_ends, names, wanted, about, takes, POWERS, tags,
            kinds, begins, ends, of_value,
        )  # fmt: skip
        found = Slots(data, kinds[:, :count], begins[:, :count], ends[:, :count])
        return Walked(SlotDocuments(part, found), of_value[:count])

    return read


def _wanted(sections: Sequence[tuple[Part | None, int]]) -> tuple[Any, Any]:
    """The names that are wanted, and of each where it begins and ends in them, its section and its slot."""
    names, rows = b"", []
    for part, section in sections:
        for name, one in (part.fields if part else {}).items():
            encoded = name.encode()
            rows.append((len(names), len(names) + len(encoded), section, one.slot))
            names += encoded
    return np.frombuffer(names, np.uint8), np.array(rows, np.int64).reshape(-1, 4)


def _takes(part: Part) -> Iterator[frozenset[int]]:
    """Of each slot, the kinds that it takes."""
    yield part.takes | {ABSENT, OBJECT}
    for one in part.fields.values():
        yield from _takes(one)
