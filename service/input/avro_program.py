"""A schema of Avro to a program: a few instructions that read a value of it, and put the parts of a shape into slots.

service.input.walks.avro runs it. What it has no instructions for is read another way, a value at a time: what the shape
has otherwise than the schema, arrays that it needs, and types that the library makes objects of, decimals for one.

A program is rows of four integers: an operation and what it is told. A schema with no way to end is refused elsewhere.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.data.arrays import Int64s
from service.input.parts import ANYTHING, Part
from service.input.walks.kinds import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    MOMENT,
    NULL,
    OBJECT,
    SINGLE,
    SYMBOL,
    TEXT,
    WHOLE,
)
from service.input.walks.operations import (
    BEHIND_LENGTH,
    BITS,
    BRANCH,
    END,
    ENUM,
    FLAT,
    INTEGER,
    ITEM,
    JUMP,
    MOST_DEPTH,
    NOWHERE,
    REFUSE,
    SPAN,
    TIME,
)

PRIMITIVES = {
    "null": (FLAT, NULL, 0),
    "boolean": (BITS, BOOLEAN, 1),
    "int": (INTEGER, WHOLE, 0),
    "long": (INTEGER, WHOLE, 0),
    "float": (BITS, SINGLE, 4),
    "double": (BITS, DOUBLE, 8),
    "bytes": (SPAN, BYTES, BEHIND_LENGTH),
    "string": (SPAN, TEXT, BEHIND_LENGTH),
}
TICKS = {"long-timestamp-millis": 1000, "long-timestamp-micros": 1}  # microseconds
LIMIT = 2**53  # microseconds: what a double holds exactly, up to the year 2255


class Program(NamedTuple):
    """What reads values of a schema."""

    rows: Int64s  # (instructions, 4)
    symbols: Sequence[str]  # of all enumerations


def program_of(schema: Any, names: Mapping[str, Any], root: Part, logical: Collection[str]) -> Program | None:
    """None where a value of the schema cannot be walked.

    names: the schema's named types. logical: of types as `long-timestamp-millis`, those that the library reads as such.
    """
    compiler = _Compiler(names, logical)
    try:
        compiler.add(schema, root, 0)
    except _UnknownError:
        return None
    compiler.rows.append((END, 0, 0, 0))
    return Program(np.array(compiler.rows, np.int64), compiler.symbols)


class _UnknownError(Exception):
    """There are no instructions for a part of the schema."""


class _Compiler:
    def __init__(self, names: Mapping[str, Any], logical: Collection[str]) -> None:
        self.rows: list[tuple[int, int, int, int]] = []
        self.symbols: list[str] = []
        self._names, self._logical = names, logical

    def add(self, schema: Any, part: Part | None, depth: int) -> None:
        """part: what is made of it; None: nothing. depth: how many arrays and maps it is in."""
        if isinstance(schema, list):
            self._add_union(schema, part, depth)
            return
        kind = schema if isinstance(schema, str) else schema["type"]
        slot = NOWHERE if part is None else part.slot
        takes = ANYTHING if part is None else part.takes
        if not isinstance(kind, str):
            self.add(kind, part, depth)
        elif isinstance(schema, dict) and f"{kind}-{schema.get('logicalType')}" in self._logical:
            self._add_moment(f"{kind}-{schema['logicalType']}", slot, takes)
        elif kind in PRIMITIVES:
            operation, found, size = PRIMITIVES[kind]
            self._put(takes, found, (operation, slot, found, size))
        elif kind == "fixed":
            self._put(takes, BYTES, (SPAN, slot, BYTES, int(schema["size"])))
        elif kind == "enum":
            self._put(takes, SYMBOL, (ENUM, slot, len(schema["symbols"]), len(self.symbols)))
            self.symbols += schema["symbols"]
        elif kind in ("record", "error"):
            self._add_record(schema, part, depth)
        elif kind in ("array", "map"):
            self._add_blocks(schema, part, depth)
        else:
            self.add(self._names[kind], part, depth)

    def _put(self, takes: Collection[int], kind: int, row: tuple[int, int, int, int]) -> None:
        """An instruction, where what it reads may be there in the shape."""
        self.rows.append(row if kind in takes else (REFUSE, 0, 0, 0))

    def _add_moment(self, logical: str, slot: int, takes: Collection[int]) -> None:
        if logical not in TICKS:
            raise _UnknownError
        tick = TICKS[logical]
        self._put(takes, MOMENT, (TIME, slot, tick, (LIMIT - 1) // tick))

    def _add_record(self, schema: Any, part: Part | None, depth: int) -> None:
        if part is not None and part.made is None:  # it is needed whole
            self.rows.append((REFUSE, 0, 0, 0))
            return
        if part is not None:
            self.rows.append((FLAT, part.slot, OBJECT, 0))
        for field in schema["fields"]:
            self.add(field["type"], part and part.fields.get(field["name"]), depth)

    def _add_union(self, schemas: Sequence[Any], part: Part | None, depth: int) -> None:
        self.rows.append((BRANCH, len(schemas), 0, 0))
        table, ends = len(self.rows), []
        self.rows += [(JUMP, 0, 0, 0)] * len(schemas)
        for n, schema in enumerate(schemas):
            self.rows[table + n] = (JUMP, len(self.rows), 0, 0)
            self.add(schema, part, depth)
            ends.append(len(self.rows))
            self.rows.append((JUMP, 0, 0, 0))
        for end in ends:
            self.rows[end] = (JUMP, len(self.rows), 0, 0)

    def _add_blocks(self, schema: Any, part: Part | None, depth: int) -> None:
        if part is not None:
            self.rows.append((REFUSE, 0, 0, 0))
            return
        if depth == MOST_DEPTH:
            raise _UnknownError
        head = len(self.rows)
        self.rows.append((ITEM, depth, 0, 0))
        if schema["type"] == "map":
            self.rows.append((SPAN, NOWHERE, TEXT, BEHIND_LENGTH))
        self.add(schema["items" if schema["type"] == "array" else "values"], None, depth + 1)
        self.rows.append((JUMP, head, 0, 0))
        self.rows[head] = (ITEM, depth, len(self.rows), 0)
