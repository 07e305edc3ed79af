"""The keys of the changelog's records: of which input topic, kind and consumer group."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from service.log.port import Partition

PAGE, ROSTER, MARKER, PAUSES = "page", "roster", "marker", "pauses"
# What stages keep in the same topic, by names: service/stages/incidents, and service/stages/rekey.
INCIDENT, MEMBER, CONTROL, JOINED, BIRTH = "incident", "member", "control", "joined", "birth"
NAMED = (INCIDENT, MEMBER, CONTROL, JOINED, BIRTH)
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,6})", re.ASCII)  # of a page, as `entry_key` writes it


class Origin(NamedTuple):
    """Whose records: those that this consumer group keeps of this input partition."""

    group: str
    partition: Partition


class Key(NamedTuple):
    """What a record is about, and whose it is."""

    topic: str
    kind: str
    name: str  # of a page or roster its number; empty: of marker and pauses, of which there is one
    group: str


def page_key(origin: Origin, number: int) -> bytes:
    return entry_key(origin, PAGE, number)


def roster_key(origin: Origin, number: int) -> bytes:
    return entry_key(origin, ROSTER, number)


def marker_key(origin: Origin) -> bytes:
    return f"{origin.partition.topic}/{MARKER}/{origin.group}".encode()


def pauses_key(origin: Origin) -> bytes:
    return f"{origin.partition.topic}/{PAUSES}/{origin.group}".encode()


def entry_key(origin: Origin, kind: str, name: object) -> bytes:
    """name: without a slash."""
    return f"{origin.partition.topic}/{kind}/{name}/{origin.group}".encode()


def group_of(key: bytes) -> str | None:
    """Whose record it is; None: not a key that anything here writes."""
    parsed = parse_key(key)
    return None if parsed is None else parsed.group


def parse_key(key: bytes) -> Key | None:
    """A topic's name has no slash, so whatever a group is called, its key can be read in one way alone.

    None: not a key that anything here writes.
    """
    topic, _, rest = key.decode(errors="replace").partition("/")
    kind, _, rest = rest.partition("/")
    if kind in (MARKER, PAUSES):
        return Key(topic, kind, "", rest)
    name, _, group = rest.partition("/")
    if kind in NAMED or (kind in (PAGE, ROSTER) and _NUMBER.fullmatch(name)):
        return Key(topic, kind, name, group)
    return None


def collect(
    held: dict[str, bytes],
    origin: Origin,
    kinds: Collection[str],
    keys: Iterable[bytes | None],
    values: Iterable[bytes | None],
) -> None:
    """Take in records in the order of the changelog: the newest of each name, of an origin and of some kinds."""
    for key, value in zip(keys, values, strict=True):
        parsed = parse_key(key or b"")
        if parsed is None or (parsed.topic, parsed.group) != (origin.partition.topic, origin.group):
            continue
        if parsed.kind not in kinds:
            continue
        if value is None:
            held.pop(parsed.name, None)
        else:
            held[parsed.name] = value
