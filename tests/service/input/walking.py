"""Values that are walked all at once, beside each of them by itself."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from service.input.documents import NOT_SHAPED
from service.input.parts import Walk
from service.input.shapes import Names, Wanted, shape_of
from service.input.times import Moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def root_of(*columns: Names, values: Names | None = None, features: Sequence[str] = (), record: Any = ()) -> Any:
    """The type of a value whose parts are wanted."""
    shape = shape_of(Wanted(None, columns, (), record, values, features))
    assert shape is not None
    return shape.root


def compared(walk: Walk, documents: Callable[[bytes], Any], root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    """How many values were walked, and how many of the others would fit too. Fails where one is of another meaning.

    documents: those in a value, one after the other, by the code that reads a value by itself.
    """
    found = walk(values)
    assert found.values.tolist() == sorted(found.values.tolist())
    walked: dict[int, list[Any]] = {}
    for n, document in zip(found.values.tolist(), found.documents, strict=True):
        walked.setdefault(n, []).append(seen(document))
    others = 0
    for n, value in enumerate(values):
        try:
            expected = [seen(msgspec.convert(one, root)) for one in documents(value)]
        except NOT_SHAPED:
            expected = []
        if n in walked:
            assert walked[n] == expected, value
        else:
            others += expected != []
    return len(walked), others


def seen(found: Any) -> Any:
    """To the bit, with a moment as the datetime that it stands for."""
    if isinstance(found, msgspec.Struct) and not isinstance(found, Moment):
        return {name: seen(getattr(found, name)) for name in found.__struct_fields__}
    if isinstance(found, Moment):
        return datetime, EPOCH + timedelta(microseconds=found.microseconds)
    if isinstance(found, dict):
        return {name: seen(one) for name, one in found.items()}
    if isinstance(found, list):
        return [seen(one) for one in found]
    return (type(found), found.hex()) if isinstance(found, float) else (type(found), found)


def harmed(rng: Random, value: bytes) -> bytes:
    changed = bytearray(value)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) or 1)
        changed[at : at + rng.randrange(3)] = rng.choice((b"", b"\xff", b"\x00", b"\x80", b"\x01", rng.randbytes(2)))
    return bytes(changed)
