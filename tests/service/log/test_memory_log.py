"""The log in memory: the contract, and its script of faults."""

from collections.abc import Sequence
from threading import Thread

import numpy as np
import pytest

from service.errors import TaskMigrated
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import POLL_BYTES, Commit, Log, Partition, Polled, Record
from tests.service.log_contract import LogContract, Reader, World, readings

P0, P1 = Partition("readings", 0), Partition("readings", 1)


class MemoryWorld:
    topic = "readings"

    def __init__(self) -> None:
        self.topics = Topics({self.topic: 2})

    def open(self, max_poll_records: int = 20_000, max_poll_bytes: int = POLL_BYTES) -> MemoryLog:
        return MemoryLog(self.topics, max_poll_records=max_poll_records, max_poll_bytes=max_poll_bytes)

    def append(self, partition: int, records: Sequence[Record]) -> None:
        self.topics.append(Partition(self.topic, partition), records)

    def gap(self, partition: int) -> None:
        self.topics.skip(Partition(self.topic, partition), 2)

    def evict(self, log: Log) -> None:
        MemoryLog(self.topics)

    def anomalies(self) -> list[tuple[int, Record]]:
        return [(p.number, r) for p, records in sorted(self.topics.anomalies.items()) for r in records]

    def dead_letters(self) -> list[tuple[int, Record]]:
        return [(p.number, r) for p, records in sorted(self.topics.dead_letters.items()) for r in records]


class TestMemoryLog(LogContract):
    @pytest.fixture
    def world(self) -> World:
        return MemoryWorld()


def two_partitions_of_ten() -> Topics:
    topics = Topics({"readings": 2})
    topics.append(P0, readings(10))
    topics.append(P1, readings(10))
    return topics


@pytest.mark.parametrize("written", [False, True])
def test_a_crash_at_a_commit_writes_all_of_it_or_nothing(written: bool) -> None:
    topics = two_partitions_of_ten()
    log = MemoryLog(topics, [Crash(commit=2, written=written)])
    reader = Reader(log).until(20)
    log.commit([Commit(P0, 5, (Record(b"s", b"first"),), ())])
    with pytest.raises(Crashed):
        log.commit(reader.commits())
    assert topics.committed == ({P0: 10, P1: 10} if written else {P0: 5})
    assert [r.value for r in topics.anomalies[P1]] == ([b"anomaly 10"] if written else [])
    assert len(Reader(MemoryLog(topics)).until(0 if written else 15).values()) == (0 if written else 15)


def test_a_migration_gives_everything_back_at_what_is_committed() -> None:
    topics = two_partitions_of_ten()
    log = MemoryLog(topics, [Migrate(commit=1)])
    reader = Reader(log).until(20)
    with pytest.raises(TaskMigrated):
        log.commit(reader.commits())
    assert topics.committed == {}
    polled = log.poll(0.0)
    assert polled == Polled((P0, P1), (P0, P1), ())
    for partition in polled.assigned:
        log.start(partition, log.inspect(partition).committed)
    assert [len(f.keys) for f in log.poll(0.0).fetched] == [10, 10]


def test_a_script_moves_partitions_between_polls() -> None:
    topics = two_partitions_of_ten()
    script: list[Fault] = [Revoke(2, (P1,)), Assign(4, (P1,)), Revoke(5, (P0,)), Assign(5, (P0,))]
    log = MemoryLog(topics, script, max_poll_records=4)
    polls = []
    for _ in range(6):
        polls.append(log.poll(0.0))
        for partition in polls[-1].assigned:
            log.start(partition, None)
    assert [(p.revoked, p.assigned) for p in polls] == [
        ((), (P0, P1)),
        ((P1,), ()),
        ((), ()),
        ((), (P1,)),
        ((P0,), (P0,)),
        ((), ()),
    ]
    assert {f.partition for p in polls[1:3] for f in p.fetched} == {P0}
    assert next(f for p in polls[4:] for f in p.fetched if f.partition == P0).offsets[0] == 0


def test_a_worker_that_opens_takes_over_and_the_older_one_hears_of_it() -> None:
    topics = two_partitions_of_ten()
    old = Reader(MemoryLog(topics)).until(20)
    new = Reader(MemoryLog(topics)).until(20)
    with pytest.raises(TaskMigrated):
        old.log.commit(old.commits())
    new.log.commit(new.commits())
    assert old.poll(0.0) == ()
    assert old.owned == set()


def test_a_waiting_poll_sees_what_another_thread_appends() -> None:
    topics = Topics({"readings": 1})
    log = MemoryLog(topics)
    Reader(log).until_owned(1)
    writer = Thread(target=topics.append, args=(P0, readings(5)))
    writer.start()
    assert len(Reader(log).log.poll(10.0).fetched[0].keys) == 5
    writer.join()


def test_the_same_script_does_the_same_every_time() -> None:
    def run() -> list[tuple[tuple[Partition, int, int], ...]]:
        topics = two_partitions_of_ten()
        log = MemoryLog(topics, [Revoke(2, (P0,)), Assign(3, (P0,))], max_poll_records=3)
        found = []
        for _ in range(12):
            polled = log.poll(0.0)
            for partition in polled.assigned:
                log.start(partition, None)
            found.append(tuple((f.partition, int(f.offsets[0]), f.next_offset) for f in polled.fetched))
        assert any(found)
        return found

    assert run() == run()


@pytest.mark.slow
def test_hundreds_of_thousands_of_records_come_quickly() -> None:
    topics = Topics({"readings": 2})
    topics.append(P0, readings(100_000))
    reader = Reader(MemoryLog(topics)).until(100_000)
    assert np.array_equal(np.concatenate([f.offsets for f in reader.fetched]), np.arange(100_000))
