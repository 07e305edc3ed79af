"""What is known of joined streams <-> the changelog's records: one a stream, and a marker.

They are in the first partition of the changelog, under keys that name the topic that is written and the consumer group.
What changed is written in the transaction that writes the readings and commits the offsets.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote

import msgspec

from service.log.port import Partition, Record
from service.stages.rekey.joining import Join, JoinedStream
from service.state.changelog import UnreadableRecord, sealed, unsealed
from service.state.changelog_keys import JOINED, MARKER, Origin, entry_key, marker_key

VERSION = 1


class JoinMarker(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of streams were written by."""

    version: int = VERSION
    group: str
    topic: str  # that is written
    features: list[str]
    clock_ms: int
    streams: int  # records of streams that there are


class _Stream(msgspec.Struct, frozen=True):
    version: int
    stream: JoinedStream


class JoinChangelog:
    """The records of one group and of the topic that it writes."""

    kinds = (JOINED, MARKER)

    def __init__(self, group: str, topic: str, features: Sequence[str]) -> None:
        self.origin = Origin(group, Partition(topic, 0))
        self._features = list(features)

    def changed(self, join: Join) -> Iterator[Record]:
        """What has changed since it was clean; what was forgotten as a record without a value."""
        for key in sorted(join.dirty):
            stream = join.get(key)
            value = None if stream is None else sealed(_Stream(VERSION, stream))
            yield Record(entry_key(self.origin, JOINED, quote(key, safe="")), value)

    def marker(self, join: Join) -> Record:
        marker = JoinMarker(
            group=self.origin.group,
            topic=self.origin.partition.topic,
            features=self._features,
            clock_ms=join.clock_ms,
            streams=len(join),
        )
        return Record(marker_key(self.origin), sealed(marker))

    def names(self, held: dict[str, bytes]) -> set[bytes]:
        """The streams of all that was written."""
        return {unquote(name).encode() for name in held if name}

    def fill(self, join: Join, held: dict[str, bytes]) -> bool:
        """Give an empty join what was written; False: there is no marker, under "". Raises UnreadableRecord."""
        if (value := held.get("")) is None:
            return False
        marker = unsealed(value, JoinMarker, VERSION, "the marker of joined streams")
        if len(held) - 1 != marker.streams:
            raise UnreadableRecord(
                "missing", f"found records of {len(held) - 1} joined streams, the marker says {marker.streams}"
            )
        places = [marker.features.index(name) if name in marker.features else None for name in self._features]
        join.restore(
            marker.clock_ms,
            (
                (unquote(name).encode(), _placed(unsealed(value, _Stream, VERSION, "a joined stream").stream, places))
                for name, value in held.items()
                if name
            ),
        )
        return True


def _placed(stream: JoinedStream, places: Sequence[int | None]) -> JoinedStream:
    """For these features, each in its place among those that were written; None: it was not."""
    for window in stream.windows:
        window.values = [None if n is None else window.values[n] for n in places]
        window.times_ms = [0 if n is None else window.times_ms[n] for n in places]
        window.sources = ["" if n is None else window.sources[n] for n in places]
    stream.values = [None if n is None else stream.values[n] for n in places]
    stream.times_ms = [0 if n is None else stream.times_ms[n] for n in places]
    return stream
