"""What every Log does: one suite, run on every adapter.

A World is the other side of the log under test: it writes what the log is to read and reads what the log has
written. Its topic has two partitions; all its logs are workers of one group.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pytest

from service.errors import TaskMigrated
from service.log.port import (
    POLL_BYTES,
    Backlog,
    Commit,
    Fetched,
    Headers,
    KeptHeaders,
    Log,
    MemberLog,
    Partition,
    Record,
    Source,
)

WITHIN_S = 180.0
TIMES_MS = 1_700_000_000_000


class World(Protocol):
    topic: str

    def open(self, max_poll_records: int = 20_000, max_poll_bytes: int = POLL_BYTES) -> MemberLog:
        """A worker; if there was one before it in the same test, this is that one, restarted."""

    def append(self, partition: int, records: Sequence[Record]) -> None: ...

    def gap(self, partition: int) -> None:
        """Let the offsets after this one have a hole."""

    def evict(self, log: Log) -> None:
        """Let the log's partitions pass to another worker, or to no one, without the log knowing."""

    def anomalies(self) -> list[tuple[int, Record]]:
        """What readers of anomalies see: (partition, record), in order within a partition."""

    def dead_letters(self) -> list[tuple[int, Record]]: ...


def readings(count: int, start: int = 0) -> list[Record]:
    return [Record(b"s%d" % (i % 7), b'{"value":%d}' % i, (), TIMES_MS + i) for i in range(start, start + count)]


class Reader:
    """Polls a log and keeps what came, by partition."""

    def __init__(self, log: Log, starts: bool = True) -> None:
        """starts: every partition where its group stands, as soon as it is assigned."""
        self.log = log
        self.starts = starts
        self.owned: set[Partition] = set()
        self.assigned: list[Partition] = []
        self.revoked: list[Partition] = []
        self.fetched: list[Fetched] = []

    def poll(self, timeout_s: float = 0.2) -> tuple[Fetched, ...]:
        polled = self.log.poll(timeout_s)
        assert self.owned.issuperset(polled.revoked), "revoked what was never assigned"
        self.owned.difference_update(polled.revoked)
        assert self.owned.isdisjoint(polled.assigned), "assigned twice"
        self.owned.update(polled.assigned)
        if self.starts:
            for partition in polled.assigned:
                self.log.start(partition, self.log.inspect(partition).committed)
        assert self.owned.issuperset(f.partition for f in polled.fetched), "fetched what is not assigned"
        self.assigned += polled.assigned
        self.revoked += polled.revoked
        self.fetched += polled.fetched
        return polled.fetched

    def until(self, count: int) -> "Reader":
        """Poll until `count` records have come."""
        deadline = time.monotonic() + WITHIN_S
        while len(self.values()) < count:
            assert time.monotonic() < deadline, f"{len(self.values())} of {count} records within {WITHIN_S} s"
            self.poll()
        return self

    def until_owned(self, count: int) -> "Reader":
        deadline = time.monotonic() + WITHIN_S
        while len(self.owned) != count:
            assert time.monotonic() < deadline, f"{len(self.owned)} of {count} partitions within {WITHIN_S} s"
            self.poll()
        return self

    def values(self, partition: int | None = None) -> list[bytes | None]:
        return [v for f in self.fetched if partition in (None, f.partition.number) for v in f.values]

    def offsets(self, partition: int) -> list[int]:
        return [int(o) for f in self.fetched if f.partition.number == partition for o in f.offsets]

    def commits(self) -> list[Commit]:
        """One commit a partition, for everything that has come, with one anomaly each."""
        ends = {f.partition: f.next_offset for f in self.fetched}
        return [Commit(p, end, (Record(b"s", b"anomaly %d" % end),), ()) for p, end in ends.items()]


def restored(log: Log, partition: Partition) -> list[tuple[bytes | None, bytes | None]]:
    """All that the partition's changelog holds, in order."""
    found: list[tuple[bytes | None, bytes | None]] = []
    deadline, read = time.monotonic() + WITHIN_S, -1
    while True:
        assert time.monotonic() < deadline, f"{read} read within {WITHIN_S} s"
        stored = log.restore(partition)
        assert len(stored.keys) == len(stored.values)
        assert read <= stored.read <= stored.size
        read = stored.read
        found += zip(stored.keys, stored.values, strict=True)
        if stored.read == stored.size:
            return found


def until_backlogs(log: MemberLog, wanted: dict[Partition, Backlog], poll: Callable[[], object] | None = None) -> None:
    """Look until the log says so; it asks while it is polled, and nothing comes of a poll for no time."""
    deadline = time.monotonic() + WITHIN_S
    while (found := log.backlogs()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted} within {WITHIN_S} s"
        (poll or asking(log))()


def asking(log: MemberLog) -> Callable[[], object]:
    def ask() -> None:
        assert log.poll(0.0).fetched == ()

    return ask


class LogContract:
    """Subclass with a fixture `world`."""

    def test_records_come_in_order_with_keys_values_offsets_and_times(self, world: World) -> None:
        world.append(0, readings(30))
        world.append(1, readings(20, 100))
        reader = Reader(world.open()).until(50)
        for number, count, start in ((0, 30, 0), (1, 20, 100)):
            assert reader.values(number) == [r.value for r in readings(count, start)]
            assert reader.offsets(number) == list(range(count))
            parts = [f for f in reader.fetched if f.partition == Partition(world.topic, number)]
            assert [k for f in parts for k in f.keys] == [r.key for r in readings(count, start)]
            assert [int(t) for f in parts for t in f.times_ms] == [r.time_ms for r in readings(count, start)]
            assert parts[-1].next_offset == parts[-1].end_offset == count
            assert all(f.offsets.dtype == f.times_ms.dtype == np.int64 for f in parts)

    def test_every_partition_is_assigned_once(self, world: World) -> None:
        reader = Reader(world.open()).until_owned(2)
        reader.poll()
        assert sorted(reader.assigned) == [Partition(world.topic, 0), Partition(world.topic, 1)]
        assert reader.revoked == []

    def test_nulls_and_empties_stay_what_they_are(self, world: World) -> None:
        written = [Record(None, b"v"), Record(b"k", None), Record(b"", b""), Record(b"k", b"\x00}\x00")]
        world.append(0, written)
        (part,) = Reader(world.open()).until(4).fetched
        assert list(zip(part.keys, part.values, strict=True)) == [(r.key, r.value) for r in written]

    def test_headers_do_not_disturb_the_records_around_them(self, world: World) -> None:
        headers = (("trace", b"0123456789" * 20), ("empty", b""))
        records = [r._replace(headers=headers if i % 3 else ()) for i, r in enumerate(readings(20))]
        world.append(0, records)
        assert Reader(world.open()).until(20).values() == [r.value for r in records]

    def test_the_headers_of_a_record_are_found_by_its_offset(self, world: World) -> None:
        several: Headers = (("a", b""), ("a", b"2"), ("ü", b"\x00"))
        came_with: tuple[Headers, ...] = ((), (("trace", b"1"),), several)
        world.append(0, [r._replace(headers=came_with[i % 3]) for i, r in enumerate(readings(20))])
        reader = Reader(world.open(max_poll_records=7)).until(20)
        found = [(offset, f.headers(offset)) for f in reader.fetched for offset in f.offsets.tolist()]
        assert found == [(n, KeptHeaders(came_with[n % 3])) for n in range(20)]
        (first, *_) = reader.fetched
        assert first.part(3, 5).headers(4) == KeptHeaders(came_with[1])

    def test_a_poll_brings_at_most_so_many_bytes_but_always_a_record(self, world: World) -> None:
        sizes = [10, 10, 5_000, 10, 70_000, 70_000, 10, 3_000, 3_000, 3_000, 10]
        world.append(0, [Record(b"k", os.urandom(size), (), TIMES_MS) for size in sizes])
        world.append(1, readings(20))
        reader = Reader(world.open(max_poll_bytes=10_000))
        brought: list[list[int]] = []
        while len(reader.values()) < len(sizes) + 20:
            brought.append([len(value or b"") for f in reader.poll() for value in f.values])
        assert [len(value or b"") for value in reader.values(0)] == sizes
        assert reader.values(1) == [r.value for r in readings(20)]
        assert all(sum(some) <= 10_000 or sum(some) - max(some) <= 10_000 for some in brought)
        assert sum(70_000 in some for some in brought) == 2

    def test_a_dead_letter_too_large_for_its_topic_goes_cut_with_its_own_headers_first(self, world: World) -> None:
        world.append(0, readings(3))
        log = world.open()
        Reader(log).until(3)
        value, key = os.urandom(3_000_000), os.urandom(900_000)
        ours = (("telltale-reason", b"too_large"), ("telltale-offset", b"2"))
        theirs: Headers = (("trace", b"1"), ("telltale-reason", b"theirs"), ("huge", b"h" * 900_000), ("null", None))
        whole = Record(b"s", b"not json", (*theirs[:2], *ours))
        log.commit([Commit(Partition(world.topic, 0), 3, (), (whole, Record(key, value, (*theirs, *ours))))])
        log.close()
        (_, first), (_, second) = world.dead_letters()
        assert first._replace(time_ms=None) == whole
        assert (first.key, second.key) == (whole.key, key[: len(second.key or b"")])
        assert second.value == value[: len(second.value or b"")]
        assert len(second.value or b"") > 500_000
        assert second.headers == (
            *theirs[:2],
            ("null", b""),
            *ours,
            ("telltale-key-bytes", b"900000"),
            ("telltale-key-sha256", hashlib.sha256(key).hexdigest().encode()),
            ("telltale-value-bytes", b"3000000"),
            ("telltale-value-sha256", hashlib.sha256(value).hexdigest().encode()),
            ("telltale-headers-left-out", b"1"),
        )

    def test_records_of_any_size_come_whole(self, world: World) -> None:
        records = [
            Record(b"k" * (size % 300), b"v" * size, (), TIMES_MS) for size in (0, 1, 62, 63, 64, 8_191, 200_000)
        ]
        world.append(0, records)
        reader = Reader(world.open()).until(len(records))
        assert reader.values() == [r.value for r in records]
        assert [k for f in reader.fetched for k in f.keys] == [r.key for r in records]

    def test_nothing_comes_twice_with_or_without_commits(self, world: World) -> None:
        log = world.open(max_poll_records=7)
        reader = Reader(log)
        for round_number in range(5):
            world.append(round_number % 2, readings(10, 10 * round_number))
            reader.until(10 * round_number + 10)
            if round_number % 2:
                log.commit(reader.commits())
        for _ in range(3):
            assert reader.poll(0.05) == ()
        assert sorted(reader.offsets(0)) == list(range(30))
        assert sorted(reader.offsets(1)) == list(range(20))

    def test_a_poll_brings_at_most_so_many_records_and_every_partition_gets_its_turn(self, world: World) -> None:
        world.append(0, readings(50))
        world.append(1, readings(50))
        reader = Reader(world.open(max_poll_records=8))
        counts = []
        while len(reader.values()) < 100:
            counts.append(sum(len(f.keys) for f in reader.poll()))
        assert max(counts) <= 8
        assert len(reader.values(0)) == len(reader.values(1)) == 50

    def test_one_poll_brings_all_partitions(self, world: World) -> None:
        world.append(0, readings(50))
        world.append(1, readings(50))
        log = world.open()
        Reader(log).until(100)
        world.append(0, readings(5))
        world.append(1, readings(5))
        reader = Reader(log)
        reader.owned = {Partition(world.topic, 0), Partition(world.topic, 1)}
        reader.until(10)
        assert len(reader.fetched) <= 3

    def test_a_poll_with_nothing_to_bring_returns_in_time(self, world: World) -> None:
        log = world.open()
        Reader(log).until_owned(2)
        start = time.monotonic()
        assert log.poll(0.2) == ((), (), ())
        assert log.poll(0.0) == ((), (), ())
        assert time.monotonic() - start < 5.0

    def test_offsets_have_gaps_and_reading_goes_on_after_them(self, world: World) -> None:
        world.append(0, readings(3))
        world.gap(0)
        world.append(0, readings(3, 3))
        log = world.open()
        reader = Reader(log).until(6)
        assert reader.values() == [r.value for r in readings(6)]
        offsets = reader.offsets(0)
        assert offsets == sorted(set(offsets))
        assert offsets[-1] > 5
        log.commit(reader.commits())
        log.close()
        world.append(0, readings(1, 6))
        assert Reader(world.open()).until(1).values() == [readings(1, 6)[0].value]

    def test_lag_is_known_while_reading(self, world: World) -> None:
        world.append(0, readings(20))
        reader = Reader(world.open(max_poll_records=6)).until(20)
        assert [f.end_offset for f in reader.fetched] == [20] * len(reader.fetched)
        assert [f.end_offset - f.next_offset for f in reader.fetched] == [14, 8, 2, 0]

    def test_how_far_each_partition_goes_is_known_before_anything_is_fetched_and_stays_true(self, world: World) -> None:
        here, other = Partition(world.topic, 0), Partition(world.topic, 1)
        world.append(0, readings(20))
        first = world.open()
        reader = Reader(first).until(20)
        first.commit([Commit(here, 8)])
        first.close()
        log = world.open(max_poll_records=5)
        reader = Reader(log, starts=False).until_owned(2)
        until_backlogs(log, {here: Backlog(20, 8, 2), other: Backlog(0, 0, 2)})
        log.start(here, 8)
        log.start(other, None)
        reader.until(5)
        until_backlogs(log, {here: Backlog(20, 13, 2), other: Backlog(0, 0, 2)})
        world.append(0, readings(30, 20))  # while what was fetched before is still being handed out
        world.append(1, readings(3))
        until_backlogs(log, {here: Backlog(50, 50, 2), other: Backlog(3, 3, 2)}, lambda: reader.poll(0.05))
        log.commit([Commit(here, 30)])
        known = log.backlogs()
        assert known is not None
        assert known[here] == Backlog(50, 50, 2)

    def test_outputs_and_offsets_move_together(self, world: World) -> None:
        world.append(0, readings(10))
        world.append(1, readings(10))
        log = world.open()
        reader = Reader(log).until(20)
        anomaly = Record(b"s3", b'{"id":"a"}', (("content-type", b"application/cloudevents+json"),))
        dead = Record(None, b"not json", (("reason", b"not JSON"), ("offset", b"7")))
        empty = Record(b"s1", None, (("reason", b"no value"),))
        log.commit(
            [
                Commit(Partition(world.topic, 0), 10, (anomaly, anomaly._replace(value=b"second")), ()),
                Commit(Partition(world.topic, 1), 4, (anomaly,), (dead, empty)),
            ]
        )
        log.close()
        published = [(n, r._replace(time_ms=None)) for n, r in world.anomalies()]
        assert published == [(0, anomaly), (0, anomaly._replace(value=b"second")), (1, anomaly)]
        assert [(n, r._replace(time_ms=None)) for n, r in world.dead_letters()] == [(1, dead), (1, empty)]
        again = Reader(world.open()).until(6)
        assert again.offsets(0) == []
        assert again.offsets(1) == [4, 5, 6, 7, 8, 9]
        assert reader.values(1)[4:] == again.values(1)

    def test_keyed_records_go_with_the_offsets_those_of_a_key_to_one_partition_in_order(self, world: World) -> None:
        world.append(0, readings(3))
        world.append(1, readings(2))
        log = world.open()
        Reader(log).until(5)
        keyed = tuple(Record(b"s%d" % (i % 7), b"%d" % i, (("n", b"1"),), TIMES_MS + i) for i in range(70))
        log.commit([Commit(Partition(world.topic, 0), 3, keyed=keyed), Commit(Partition(world.topic, 1), 2)])
        places = {key: [(n, r) for n, r in world.anomalies() if r.key == key] for key in {r.key for r in keyed}}
        for key, found in places.items():
            assert [record for _, record in found] == [record for record in keyed if record.key == key]
            assert len({number for number, _ in found}) == 1
        assert {number for found in places.values() for number, _ in found} == {0, 1}
        assert Reader(world.open()).until(0).values() == []

    def test_a_commit_without_outputs_moves_the_offsets(self, world: World) -> None:
        world.append(1, readings(10))
        log = world.open()
        Reader(log).until(10)
        log.commit([Commit(Partition(world.topic, 1), 6, (), ())])
        log.commit([Commit(Partition(world.topic, 1), 8, (), ())])
        log.commit([])
        log.close()
        assert Reader(world.open()).until(2).offsets(1) == [8, 9]

    def test_what_was_not_committed_comes_again_after_reopening(self, world: World) -> None:
        world.append(0, readings(10))
        log = world.open()
        Reader(log).until(10)
        log.close()
        assert world.anomalies() == []
        assert Reader(world.open()).until(10).values() == [r.value for r in readings(10)]

    def test_a_refused_commit_writes_nothing_and_the_partitions_start_again(self, world: World) -> None:
        world.append(0, readings(10))
        world.append(1, readings(10))
        log = world.open()
        reader = Reader(log).until(20)
        log.commit([Commit(Partition(world.topic, 0), 5, (Record(b"s", b"first"),), ())])
        world.evict(log)
        with pytest.raises(TaskMigrated):
            log.commit(reader.commits())
        log.close()
        again = Reader(world.open()).until(15)
        assert [r.value for _, r in world.anomalies()] == [b"first"]
        assert again.offsets(0) == [5, 6, 7, 8, 9]
        assert again.offsets(1) == list(range(10))
        again.log.commit(again.commits())
        assert len(world.anomalies()) == 3

    def test_a_commit_for_a_partition_of_another_worker_is_refused_and_reading_goes_on(self, world: World) -> None:
        world.append(0, readings(10))
        world.append(1, readings(10))
        log = world.open()
        reader = Reader(log).until(20)
        log.commit([Commit(Partition(world.topic, 0), 4, (Record(b"s", b"first"),), ())])
        with pytest.raises(TaskMigrated):
            log.commit([*reader.commits(), Commit(Partition(world.topic, 99), 1, (), ())])
        assert [r.value for _, r in world.anomalies()] == [b"first"]
        reader.fetched.clear()
        reader.until(16)
        assert sorted(reader.revoked) == [Partition(world.topic, 0), Partition(world.topic, 1)]
        assert reader.owned == {Partition(world.topic, 0), Partition(world.topic, 1)}
        assert reader.offsets(0) == [4, 5, 6, 7, 8, 9]
        assert reader.offsets(1) == list(range(10))
        log.commit(reader.commits())
        assert [n for n, _ in world.anomalies()] == [0, 0, 1]

    # --- the changelog, and where to begin

    def test_of_a_partition_that_is_not_started_nothing_is_fetched(self, world: World) -> None:
        world.append(0, readings(10))
        world.append(1, readings(10, 100))
        log = world.open()
        reader = Reader(log, starts=False).until_owned(2)
        assert [reader.poll(0.05) for _ in range(4)] == [()] * 4
        assert log.start(Partition(world.topic, 1), 3) == 3
        reader.until(7)
        for _ in range(3):
            reader.poll(0.05)
        assert reader.offsets(0) == []
        assert reader.offsets(1) == [3, 4, 5, 6, 7, 8, 9]

    def test_starting_again_goes_back_or_ahead(self, world: World) -> None:
        world.append(0, readings(20))
        log = world.open(max_poll_records=6)
        reader = Reader(log).until(12)
        here = Partition(world.topic, 0)
        reader.fetched.clear()
        log.start(here, 4)
        reader.until(6)
        assert reader.offsets(0) == [4, 5, 6, 7, 8, 9]
        reader.fetched.clear()
        log.start(here, 17)
        reader.until(3)
        assert reader.offsets(0) == [17, 18, 19]
        assert [f.next_offset for f in reader.fetched] == [20]

    def test_without_an_offset_it_starts_at_the_beginning(self, world: World) -> None:
        world.append(0, readings(5))
        log = world.open()
        reader = Reader(log, starts=False).until_owned(2)
        assert log.start(Partition(world.topic, 0), None) == 0
        assert log.start(Partition(world.topic, 1), None) == 0
        assert reader.until(5).offsets(0) == [0, 1, 2, 3, 4]

    def test_a_partition_is_looked_at(self, world: World) -> None:
        world.append(0, readings(10))
        here, other = Partition(world.topic, 0), Partition(world.topic, 1)
        log = world.open()
        reader = Reader(log).until(10)
        before, empty = log.inspect(here), log.inspect(other)
        assert before == Source(before.topic_id, 2, 0, 10, None)
        assert empty == Source(before.topic_id, 2, 0, 0, None)
        assert before.topic_id
        log.commit([Commit(here, 7)])
        assert log.inspect(here) == before._replace(committed=7)
        log.close()
        again = world.open()
        Reader(again, starts=False).until_owned(2)
        assert again.inspect(here) == before._replace(committed=7)
        assert reader.revoked == []

    def test_the_changelog_comes_back_in_the_order_it_was_committed(self, world: World) -> None:
        here, other = Partition(world.topic, 0), Partition(world.topic, 1)
        world.append(0, readings(10))
        log = world.open()
        Reader(log).until(10)
        pages = [Record(b"page-%d" % n, bytes([n]) * 40_000) for n in range(6)]
        log.commit([Commit(here, 2, pages=tuple(pages[:3]), marker=Record(b"marker", b"2"))])
        log.commit(
            [
                Commit(here, 3),
                Commit(here, 4, pages=(pages[3],), marker=Record(b"marker", b"4")),
                Commit(other, 0, pages=(pages[4],)),
            ]
        )
        log.commit([Commit(here, 5, pages=(Record(b"page-1", b""), Record(b"page-2", None)))])
        log.close()
        again = world.open()
        Reader(again, starts=False).until_owned(2)
        assert restored(again, here) == [
            *[(page.key, page.value) for page in pages[:3]],
            (b"marker", b"2"),
            (b"page-3", pages[3].value),
            (b"marker", b"4"),
            (b"page-1", b""),
            (b"page-2", None),
        ]
        assert restored(again, other) == [(b"page-4", pages[4].value)]

    def test_an_empty_changelog_is_all_read_at_once(self, world: World) -> None:
        log = world.open()
        Reader(log, starts=False).until_owned(2)
        assert restored(log, Partition(world.topic, 0)) == []

    def test_a_changelog_of_any_length_is_read_to_its_end(self, world: World) -> None:
        here = Partition(world.topic, 1)
        log = world.open()
        Reader(log).until_owned(2)
        written = [Record(b"page-%d" % n, b"x" * 9_000) for n in range(450)]
        log.commit([Commit(here, 0, pages=tuple(written[:300]))])
        log.commit([Commit(here, 0, pages=tuple(written[300:]))])
        log.close()
        again = world.open()
        Reader(again, starts=False).until_owned(2)
        assert restored(again, here) == [(record.key, record.value) for record in written]

    def test_memory_can_be_restored_while_another_partition_is_read(self, world: World) -> None:
        here, other = Partition(world.topic, 0), Partition(world.topic, 1)
        log = world.open()
        Reader(log).until_owned(2)
        log.commit([Commit(here, 0, pages=tuple(Record(b"page-%d" % n, b"x" * 9_000) for n in range(250)))])
        log.close()
        world.append(1, readings(50))
        again = world.open(max_poll_records=5)
        reader = Reader(again, starts=False).until_owned(2)
        again.start(other, None)
        found = 0
        while (stored := again.restore(here)).read < stored.size:
            found += len(stored.keys)
            reader.poll(0.0)
        assert found + len(stored.keys) == 250
        assert reader.until(50).offsets(1) == list(range(50))

    def test_of_a_refused_commit_no_page_and_no_marker_is_ever_seen(self, world: World) -> None:
        here = Partition(world.topic, 0)
        world.append(0, readings(10))
        log = world.open()
        reader = Reader(log).until(10)
        log.commit([Commit(here, 5, pages=(Record(b"page", b"first"),), marker=Record(b"marker", b"5"))])
        world.evict(log)
        with pytest.raises(TaskMigrated):
            log.commit([Commit(here, 9, pages=(Record(b"page", b"second"),), marker=Record(b"marker", b"9"))])
        log.close()
        again = world.open()
        reader = Reader(again, starts=False).until_owned(2)
        assert restored(again, here) == [(b"page", b"first"), (b"marker", b"5")]
        assert again.inspect(here).committed == 5
        again.start(here, 5)
        assert reader.until(5).offsets(0) == [5, 6, 7, 8, 9]

    def test_a_partition_that_comes_back_is_restored_and_started_again(self, world: World) -> None:
        here = Partition(world.topic, 0)
        world.append(0, readings(10))
        log = world.open()
        reader = Reader(log).until(10)
        assert restored(log, here) == []
        log.commit([Commit(here, 5, pages=(Record(b"page", b"first"),))])
        with pytest.raises(TaskMigrated):
            log.commit([Commit(here, 9, pages=(Record(b"page", b"second"),)), Commit(Partition(world.topic, 99), 1)])
        reader.fetched.clear()
        reader.starts = False
        deadline = time.monotonic() + WITHIN_S
        while len(reader.assigned) < 4:
            assert time.monotonic() < deadline, "the partitions did not come back"
            assert reader.poll(0.05) == ()
        assert [reader.poll(0.05) for _ in range(3)] == [()] * 3
        assert restored(log, here) == [(b"page", b"first")]
        log.start(here, log.inspect(here).committed)
        assert reader.until(5).offsets(0) == [5, 6, 7, 8, 9]

    def test_closing_twice_is_safe(self, world: World) -> None:
        log = world.open()
        log.poll(0.0)
        log.close()
        log.close()
