"""SenML packs (RFC 8428, JSON) to records that stand alone: names, times and values with their base added."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.errors import RejectedReading
from service.input.reasons import Reason

RELATIVE_S = 2**28  # a time below it is relative to now
MOST_NAME = 256  # of a stream as well; a long base would be there once more in each record
BASES: Mapping[str, str | int] = {"bn": "", "bt": 0, "bv": 0}
VALUES = ("v", "vs", "vb", "vd", "s")


def records_of(documents: Iterable[Any]) -> list[dict[str, Any]]:
    """Each an object with `n`, and `t` in seconds where it has one, beside the fields it came with, less the base's."""
    packs = list(documents)
    if len(packs) > 1:  # a record a line
        packs = [packs]
    (pack,) = packs
    if not isinstance(pack, list) or not all(isinstance(one, dict) for one in pack):
        raise RejectedReading(Reason.BAD_JSON, "found no array of objects, expected a pack of SenML")
    try:
        return list(_resolved(pack))
    except OverflowError as error:
        raise RejectedReading(Reason.BAD_JSON, f"a number and its base: {error}") from error


def _resolved(pack: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    base: dict[str, Any] = {**BASES}
    for one in pack:
        base.update({name: _checked(one, name, kind) for name, kind in BASES.items() if name in one})
        if not any(name in one for name in VALUES):
            continue  # it sets the base alone
        found = {name: value for name, value in one.items() if not name.startswith("b")}
        found["n"] = base["bn"] + _checked(one, "n", "")
        if len(found["n"]) > MOST_NAME:
            raise RejectedReading(
                Reason.BAD_KEY, f"a name of {len(found['n'])} characters, expected at most {MOST_NAME}"
            )
        time = base["bt"] + _checked(one, "t", 0)
        if time >= RELATIVE_S:
            found["t"] = time
        elif time == 0:
            found.pop("t", None)
        else:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP, f"{found['n']}: the time {time} is relative to now, expected seconds since 1970"
            )
        if "v" in one:
            found["v"] = base["bv"] + _checked(one, "v", 0)
        yield found


def _checked(record: Mapping[str, Any], name: str, kind: str | int) -> Any:
    """What a record has of a name; kind where it has nothing, and what it must be alike."""
    value = record.get(name, kind)
    good = isinstance(value, str) if isinstance(kind, str) else type(value) in (int, float)
    if not good:
        raise RejectedReading(
            Reason.BAD_JSON, f"{name} is {value!r:.60}, expected {'text' if isinstance(kind, str) else 'a number'}"
        )
    return value
