"""How far a member is: what is behind, and how many records that are."""

from service.log.memory_log import MemoryLog, Topics
from service.log.port import Partition, Record
from service.stages.progress import behind, lag_records

EMPTY, FULL = Partition("empty", 0), Partition("full", 0)


def log_of(records: int) -> MemoryLog:
    topics = Topics({"empty": 1, "full": 1})
    topics.append(FULL, [Record(None, b"%d" % n, (), n) for n in range(records)])
    log = MemoryLog(topics)
    log.poll(0.0)
    for partition in (EMPTY, FULL):
        log.start(partition, 0)
    return log


def test_a_partition_is_behind_until_all_of_it_has_come() -> None:
    log = log_of(3)
    assert behind(log, [EMPTY, FULL]) == [FULL]
    log.poll(0.0)
    assert behind(log, [EMPTY, FULL]) == []


def test_the_lag_is_what_is_not_taken_in_of_all_partitions() -> None:
    log = log_of(3)
    assert lag_records(log, {EMPTY: 0, FULL: 1}) == 2
    assert lag_records(log, {EMPTY: 0, FULL: 3}) == 0


def test_nothing_is_known_of_a_partition_whose_end_was_not_heard() -> None:
    log, unheard = log_of(3), Partition("another", 0)
    assert lag_records(log, {FULL: 0, unheard: 0}) is None
    assert behind(log, [unheard]) == [unheard]
