"""Values of Avro to instances of a shape, all that have one schema at once."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from service.input.avro_program import program_of
from service.input.parts import SlotDocuments, Slots, Walk, Walked, part_of, slots_of
from service.input.places import places_of
from service.input.walks.operations import MOST_DEPTH


def walk_of(schema: Any, names: Mapping[str, Any], logical: Collection[str], root: Any, framed: int) -> Walk | None:
    """What makes instances of a type of values of a schema; None where none can be made.

    names: the schema's named types. logical: of types as `long-timestamp-millis`, those that documents have as such.
    framed: bytes before each value.
    """
    part = part_of(root)
    program = program_of(schema, names, part, logical)
    if program is None:
        return None
    from service.input.walks.avro import walk  # noqa: PLC0415  (which loads the compiler)

    count = slots_of(part)

    def read(values: Sequence[bytes]) -> Walked:
        data = b"".join(values)
        begins, ends = places_of(values)
        size = (count, len(values))
        found = Slots(
            data, np.zeros(size, np.uint8), np.zeros(size, np.int64), np.zeros(size, np.int64), program.symbols
        )
        refused, left = np.zeros(len(values), np.bool_), np.zeros(MOST_DEPTH, np.int64)
        walk(np.frombuffer(data, np.uint8), begins + framed, ends, program.rows, *found[1:4], left, refused)
        where = np.flatnonzero(~refused)
        return Walked(SlotDocuments(part, found.part(where) if refused.any() else found), where)

    return read
