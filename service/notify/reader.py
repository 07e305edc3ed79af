"""What feeds read their topic through: service.kafka.topic_reader, or a topic in a test's memory."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Read(Protocol):
    """What a poll brought."""

    @property
    def began(self) -> bool: ...  # partitions were handed out just now: all is read from what was committed on
    @property
    def values(self) -> Sequence[tuple[int, int, bytes]]: ...  # partition, offset, value
    @property
    def positions(self) -> Mapping[int, int]: ...  # of each partition of this member's: everything before it was read


class Reader(Protocol):
    """A topic, as a member of a group reads it."""

    lag_records: int | None  # that are not read yet; None: not known

    def poll(self, timeout_s: float, more: bool = True) -> Read: ...
    def commit(self, offsets: Mapping[int, int]) -> None: ...  # raises TaskMigrated
    def close(self) -> None: ...
