"""Which checkpoint judges which partition, by the markers in the changelog."""

from collections.abc import Iterator

import msgspec

from service.inspect.groupless_log import GrouplessLog
from service.inspect.inspection import collect, marker_of
from service.log.port import Partition
from service.stages.incidents.controls import PromotedModel
from service.state.changelog_keys import Origin


class Judging(msgspec.Struct, frozen=True):
    """A partition, and what judges it."""

    topic: str
    partition: int
    checkpoint: str | None  # digest; None: nothing of it was judged yet
    since: int | None  # offset from which on it does
    next_offset: int | None  # everything before it is judged
    waits_for: str | None  # digest of the one that people promoted, where it has not taken over; None: nothing


def judging(log: GrouplessLog, group: str, topic: str, promoted: PromotedModel | None) -> Iterator[Judging]:
    """Of each partition of a topic. promoted: what people said of the topic last. Raises RefusedInput."""
    for number in range(log.partitions(topic)):
        marker = marker_of(collect(log, Origin(group, Partition(topic, number))))
        waits_for = None if promoted is None else promoted.sha256
        if marker is None:
            yield Judging(topic, number, None, None, None, waits_for)
            continue
        waits = waits_for if waits_for != marker.checkpoint else None
        yield Judging(topic, number, marker.checkpoint, marker.checkpoint_from, marker.next_offset, waits)
