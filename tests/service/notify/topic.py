"""A topic in memory, and a member of a group that reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.errors import TaskMigrated
from service.kafka.topic_reader import Read
from service.log.port import Record


@dataclass
class Topic:
    """What is in each partition, and how far it is done. Outlives who reads it."""

    partitions: dict[int, list[bytes]] = field(default_factory=lambda: {0: []})
    committed: dict[int, int] = field(default_factory=dict)
    migrates: bool = False

    def publish(self, records: Sequence[Record], partition: int = 0) -> None:
        self.partitions.setdefault(partition, []).extend(record.value or b"" for record in records)

    def values(self, partition: int = 0) -> list[bytes]:
        return self.partitions[partition]

    def done(self, partition: int = 0) -> int:
        return self.committed.get(partition, 0)


class TopicInMemory:
    """A member that has the partitions it `holds`."""

    def __init__(self, topic: Topic, most: int = 100) -> None:
        """most: records of a partition that a poll brings."""
        self._topic, self._most = topic, most
        self.lag_records: int | None = None
        self.hand_out(topic.partitions)

    def hand_out(self, partitions: Sequence[int] | Mapping[int, object]) -> None:
        self.holds = list(partitions)
        self._positions = {number: self._topic.done(number) for number in self.holds}
        self._began = True

    def poll(self, timeout_s: float, more: bool = True) -> Read:
        values = []
        for number in self.holds:
            begin = self._positions[number]
            part = self._topic.partitions[number][begin : begin + (self._most if more else 0)]
            values += [(number, begin + n, value) for n, value in enumerate(part)]
            self._positions[number] = begin + len(part)
        began, self._began = self._began, False
        positions = {number: self._positions[number] for number in self.holds}
        self.lag_records = sum(len(self._topic.partitions[n]) - at for n, at in positions.items())
        return Read(began and bool(self.holds), values, positions)

    def commit(self, offsets: Mapping[int, int]) -> None:
        if self._topic.migrates:
            raise TaskMigrated("another member has it")
        self._topic.committed |= offsets

    def close(self) -> None:
        pass
