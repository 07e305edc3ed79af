"""The log in memory, with faults that happen when a script says so: for tests and for the demo.

`Topics` is the cluster: what was appended, what is committed, what was published. It outlives the workers. `MemoryLog`
is one worker's end of it. Nothing is random and no clock is read, so the same script does the same every time.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from threading import Condition
from typing import NamedTuple
from zlib import crc32

import numpy as np

from service.errors import TaskMigrated
from service.log.fitting import MAX_MESSAGE_BYTES, fitted
from service.log.port import (
    POLL_BYTES,
    Backlog,
    Commit,
    Fetched,
    Headers,
    KeptHeaders,
    Partition,
    Polled,
    Record,
    Source,
    Stored,
)


class Crashed(BaseException):
    """The process ends here. Not an Exception: no worker may catch it and go on."""


class Crash(NamedTuple):
    """At the commit-th call of commit (from 1) the process ends, before or after the log has taken it."""

    commit: int
    written: bool = False


class Migrate(NamedTuple):
    """At the commit-th call of commit (from 1) the tasks have migrated; the next poll gives them back."""

    commit: int


class Revoke(NamedTuple):
    """The poll-th call of poll (from 1) takes these partitions away."""

    poll: int
    partitions: tuple[Partition, ...]


class Assign(NamedTuple):
    """The poll-th call of poll (from 1) gives these partitions; in the same poll as a Revoke they start again."""

    poll: int
    partitions: tuple[Partition, ...]


Fault = Crash | Migrate | Revoke | Assign
RESTORED_AT_ONCE = 100  # changelog records in one slice


class _Records:
    """What was appended to one partition, as columns; offsets may have gaps."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.offsets = array("q")
        self.times_ms = array("q")
        self.sizes = array("q")  # in bytes, each with those before it
        self.headers: dict[int, Headers] = {}  # by offset, of those that have some
        self.begin = 0
        self.end = 0


class Topics:
    """The partitions of some topics, what is committed of them, and what was published about them.

    anomalies, dead_letters, scores and changelog: by input partition, in the order of their commits. topic_ids, and
    where a partition begins (`delete_before`), change when a test wants a topic made again or its old records deleted.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.partitions: tuple[Partition, ...] = ()
        self.committed: dict[Partition, int] = {}
        self.anomalies: dict[Partition, list[Record]] = {}
        self.dead_letters: dict[Partition, list[Record]] = {}
        self.scores: dict[Partition, list[Record]] = {}
        self.changelog: dict[Partition, list[Record]] = {}
        self.topic_ids = {topic: f"id-of-{topic}" for topic in partitions}
        self.owners: dict[Partition, MemoryLog] = {}
        self.changed = Condition()
        self._records: dict[Partition, _Records] = {}
        for topic, count in partitions.items():
            self.add_partitions(topic, count)

    def add_partitions(self, topic: str, count: int) -> None:
        """More of them, empty; a worker that is there already is not given them."""
        first = self.count(topic)
        for partition in (Partition(topic, number) for number in range(first, first + count)):
            self.partitions += (partition,)
            self._records[partition] = _Records()
            for written in (self.anomalies, self.dead_letters, self.scores, self.changelog):
                written[partition] = []

    def count(self, topic: str) -> int:
        return sum(partition.topic == topic for partition in self.partitions)

    def append(self, partition: Partition, records: Iterable[Record]) -> None:
        """Write records at the partition's end; a poll that waits in another thread sees them at once."""
        into = self._records[partition]
        with self.changed:
            for record in records:
                into.keys.append(record.key)
                into.values.append(record.value)
                into.offsets.append(into.end)
                into.times_ms.append(-1 if record.time_ms is None else record.time_ms)
                size = len(record.key or b"") + len(record.value or b"")
                into.sizes.append(size + (into.sizes[-1] if into.sizes else 0))
                if record.headers:
                    into.headers[into.end] = record.headers
                into.end += 1
            self.changed.notify_all()

    def skip(self, partition: Partition, count: int) -> None:
        """Leave a gap in the offsets, as control records and compaction do."""
        self._records[partition].end += count

    def delete_before(self, partition: Partition, offset: int) -> None:
        """What retention does: records before an offset are no more."""
        self._records[partition].begin = offset

    def compact(self) -> None:
        """Keep the newest changelog record of each key, as a broker does in its own time."""
        for partition, records in self.changelog.items():
            newest = {record.key: n for n, record in enumerate(records)}
            self.changelog[partition] = [records[n] for n in sorted(newest.values())]

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset that is still there, and the one that the next record will have."""
        records = self._records[partition]
        return records.begin, records.end

    def fetch(self, partition: Partition, offset: int, limit: int, max_bytes: int = POLL_BYTES) -> Fetched | None:
        """At most `limit` records from `offset` on, and `max_bytes` of them but one at least; None: there are none."""
        records = self._records[partition]
        first = bisect_left(records.offsets, max(offset, records.begin))
        last = min(first + limit, len(records.offsets))
        if first >= last:
            return None
        before = records.sizes[first - 1] if first else 0
        last = max(first + 1, min(last, bisect_right(records.sizes, before + max_bytes)))
        next_offset = records.end if last == len(records.offsets) else records.offsets[last - 1] + 1
        return Fetched(
            partition,
            records.keys[first:last],
            records.values[first:last],
            np.array(records.offsets[first:last], dtype=np.int64),
            np.array(records.times_ms[first:last], dtype=np.int64),
            next_offset,
            records.end,
            lambda offset: KeptHeaders(records.headers.get(offset, ())),
        )


class MemoryLog:
    """One worker's end of some `Topics`. The worker that opened last owns every partition."""

    def __init__(
        self,
        topics: Topics,
        script: Sequence[Fault] = (),
        max_poll_records: int = 20_000,
        max_poll_bytes: int = POLL_BYTES,
    ) -> None:
        self._topics = topics
        self._script = tuple(script)
        self._max_poll_records = max_poll_records
        self._max_poll_bytes = max_poll_bytes
        self._owned: set[Partition] = set()
        self._positions: dict[Partition, int] = {}  # of partitions that were started
        self._restored: dict[Partition, int] = {}  # changelog records read
        self._lost: set[Partition] = set()
        self._gained = set(topics.partitions)
        self._polls = 0
        self._commits = 0
        topics.owners.update(dict.fromkeys(topics.partitions, self))

    def poll(self, timeout_s: float) -> Polled:
        self._polls += 1
        revoked, assigned = self._rebalance()
        fetched = self._fetch()
        if not (revoked or assigned or fetched):
            with self._topics.changed:
                fetched = self._fetch()
                if not fetched and self._topics.changed.wait(timeout_s):
                    fetched = self._fetch()
        return Polled(assigned, revoked, fetched)

    def backlogs(self) -> Mapping[Partition, Backlog]:
        return {
            partition: Backlog(
                self._topics.bounds(partition)[1], self._passed(partition), self._topics.count(partition.topic)
            )
            for partition in self._owned
        }

    def inspect(self, partition: Partition) -> Source:
        count = self._topics.count(partition.topic)
        topic_id, committed = self._topics.topic_ids[partition.topic], self._topics.committed.get(partition)
        return Source(topic_id, count, *self._topics.bounds(partition), committed)

    def restore(self, partition: Partition) -> Stored:
        records = self._topics.changelog[partition]
        begin = self._restored.get(partition, 0)
        some = records[begin : begin + RESTORED_AT_ONCE]
        self._restored[partition] = begin + len(some)
        return Stored([r.key for r in some], [r.value for r in some], begin + len(some), len(records))

    def start(self, partition: Partition, offset: int | None) -> int:
        self._positions[partition] = self._topics.bounds(partition)[0] if offset is None else offset
        return self._positions[partition]

    def position(self, partition: Partition) -> int:
        return self._positions[partition]

    def commit(self, commits: Sequence[Commit]) -> None:
        self._commits += 1
        for fault in self._script:
            if isinstance(fault, Crash) and fault.commit == self._commits:
                if fault.written:
                    self._write(commits)
                raise Crashed(f"scripted crash at commit {self._commits}")
            if isinstance(fault, Migrate) and fault.commit == self._commits:
                self._start_again()
                raise TaskMigrated(f"scripted migration at commit {self._commits}")
        foreign = [c.partition for c in commits if not self._owns(c.partition) or c.partition not in self._owned]
        if foreign:
            self._start_again()
            raise TaskMigrated(f"{', '.join(map(str, foreign))}: owned by another worker")
        self._write(commits)

    def close(self) -> None:
        self._topics.owners = {p: owner for p, owner in self._topics.owners.items() if owner is not self}
        self._owned, self._positions, self._gained = set(), {}, set()

    def _rebalance(self) -> tuple[tuple[Partition, ...], tuple[Partition, ...]]:
        lost, gained = self._lost, self._gained
        lost |= {partition for partition in self._owned if not self._owns(partition)}
        for fault in self._script:
            if isinstance(fault, Revoke) and fault.poll == self._polls:
                lost |= set(fault.partitions) & self._owned
            if isinstance(fault, Assign) and fault.poll == self._polls:
                gained |= set(fault.partitions) - (self._owned - lost)
        gained = {partition for partition in gained if self._owns(partition)}
        self._owned = (self._owned - lost) | gained
        for partition in lost | gained:
            self._positions.pop(partition, None)
            self._restored.pop(partition, None)
        self._lost, self._gained = set(), set()
        return tuple(sorted(lost)), tuple(sorted(gained))

    def _fetch(self) -> tuple[Fetched, ...]:
        """Up to max_poll_records and max_poll_bytes over all partitions; every poll another partition comes first."""
        fetched: list[Fetched] = []
        left, left_bytes = self._max_poll_records, self._max_poll_bytes
        owned = sorted(self._positions)
        first = self._polls % len(owned) if owned else 0
        for partition in owned[first:] + owned[:first]:
            room = left > 0 and left_bytes > 0
            part = self._topics.fetch(partition, self._positions[partition], left, left_bytes) if room else None
            if part is not None:
                fetched.append(part)
                left -= len(part.keys)
                left_bytes -= sum(len(one or b"") for column in (part.keys, part.values) for one in column)
                self._positions[partition] = part.next_offset
        return tuple(fetched)

    def _passed(self, partition: Partition) -> int:
        known = (self._topics.committed.get(partition), self._positions.get(partition))
        return max((offset for offset in known if offset is not None), default=self._topics.bounds(partition)[0])

    def _write(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._topics.committed[commit.partition] = commit.next_offset
            self._topics.anomalies[commit.partition] += commit.anomalies
            topic, count = commit.partition.topic, self._topics.count(commit.partition.topic)
            for record in commit.keyed:
                self._topics.anomalies[Partition(topic, crc32(record.key or b"") % count)].append(record)
            letters = [fitted(record, MAX_MESSAGE_BYTES) for record in commit.dead_letters]
            self._topics.dead_letters[commit.partition] += letters
            self._topics.scores[commit.partition] += commit.scores
            for partition, record in commit.beside:
                self._topics.append(partition, [record])
            self._topics.changelog[commit.partition] += commit.pages
            if commit.marker is not None:
                self._topics.changelog[commit.partition].append(commit.marker)

    def _start_again(self) -> None:
        self._lost = set(self._owned)
        self._gained = {partition for partition in self._owned if self._owns(partition)}

    def _owns(self, partition: Partition) -> bool:
        return self._topics.owners.get(partition) is self
