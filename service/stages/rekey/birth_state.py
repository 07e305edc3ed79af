"""The births that are valid <-> the changelog's records: one a node or device, and a marker.

They are in the first partition of the changelog, under keys that name the topic that is written and the consumer group.
What changed is written in the transaction that writes the readings and commits the offsets.
"""

from collections.abc import Iterator
from urllib.parse import quote, unquote

import msgspec

from service.log.port import Partition, Record
from service.stages.rekey.births import Birth, Births
from service.state.changelog import UnreadableRecord, sealed, unsealed
from service.state.changelog_keys import BIRTH, Origin, entry_key

VERSION = 1
MARKED = ""  # the name under which the marker is


class _Marker(msgspec.Struct, frozen=True):
    version: int
    births: int  # records of births that there are


class _Entry(msgspec.Struct, frozen=True):
    version: int
    birth: Birth


class BirthChangelog:
    """The records of one group and of the topic that it writes."""

    kinds = (BIRTH,)

    def __init__(self, group: str, topic: str) -> None:
        self.origin = Origin(group, Partition(topic, 0))

    def changed(self, births: Births) -> Iterator[Record]:
        """What has changed since it was clean, with the marker; what has ended as a record without a value."""
        for source in sorted(births.dirty):
            birth = births.get(source)
            value = None if birth is None else sealed(_Entry(VERSION, birth))
            yield Record(entry_key(self.origin, BIRTH, quote(source, safe="")), value)
        yield Record(entry_key(self.origin, BIRTH, MARKED), sealed(_Marker(VERSION, len(births))))

    def names(self, held: dict[str, bytes]) -> set[str]:
        """The sources of all that was written."""
        return {unquote(name) for name in held if name != MARKED}

    def fill(self, births: Births, held: dict[str, bytes]) -> bool:
        """Give empty births what was written; False: there is no marker. Raises UnreadableRecord."""
        if (value := held.get(MARKED)) is None:
            return False
        marker = unsealed(value, _Marker, VERSION, "the marker of births")
        if len(held) - 1 != marker.births:
            raise UnreadableRecord(
                "missing", f"found records of {len(held) - 1} births, the marker says {marker.births}"
            )
        births.restore(
            (unquote(name), unsealed(value, _Entry, VERSION, "a birth").birth)
            for name, value in held.items()
            if name != MARKED
        )
        return True
