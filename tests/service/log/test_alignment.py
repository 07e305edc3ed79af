"""Records of several partitions by event time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from service.log.alignment import Alignment
from service.log.port import Fetched, Partition

A, B = Partition("t", 0), Partition("t", 1)


class Stamped(NamedTuple):
    time_ms: int
    partition: Partition
    offset: int


def read(fetched: Fetched, last_ms: int) -> Iterator[Stamped]:
    """A record without a time of its own (-1) gets that of the one before."""
    for offset, time_ms in zip(fetched.offsets.tolist(), fetched.times_ms.tolist(), strict=True):
        last_ms = last_ms if time_ms < 0 else time_ms
        yield Stamped(last_ms, fetched.partition, offset)


def fetched_of(partition: Partition, first: int, times_ms: Sequence[int]) -> Fetched:
    count = len(times_ms)
    offsets, times = np.arange(first, first + count), np.array(times_ms, np.int64)
    return Fetched(partition, [None] * count, [b""] * count, offsets, times, first + count, first + count)


def begun(most_waiting: int = 100) -> Alignment[Stamped]:
    alignment = Alignment(read, most_waiting)
    for partition in (A, B):
        alignment.begin(partition, 0)
    return alignment


def taken(alignment: Alignment[Stamped], behind: Sequence[Partition] = (), came_by_s: float = 1e9) -> list[int]:
    return [one.time_ms for one in alignment.take(behind, 100, came_by_s)]


def test_what_has_come_is_taken_by_its_time_and_of_a_partition_by_its_offset() -> None:
    alignment = begun()
    alignment.put(fetched_of(A, 0, [1, 5, 3, 9]))
    alignment.put(fetched_of(B, 0, [2, 4, 6]))
    assert taken(alignment) == [1, 2, 4, 5, 3, 6, 9]


def test_of_records_of_the_same_time_the_one_of_the_lowest_rank_is_next() -> None:
    alignment = Alignment(read, rank=lambda one: 1 if one.partition == A else 0)
    for partition in (A, B):
        alignment.begin(partition, 0)
        alignment.put(fetched_of(partition, 0, [1, 5]))
    assert [one.partition for one in alignment.take([], 100)] == [B, A, B, A]


def test_a_partition_of_which_more_is_to_be_read_is_waited_for() -> None:
    alignment = begun()
    alignment.put(fetched_of(A, 0, [1, 5]))
    assert taken(alignment, behind=[B]) == []
    alignment.put(fetched_of(B, 0, [2]))
    assert taken(alignment, behind=[B]) == [1, 2]
    assert taken(alignment) == [5]


def test_what_came_a_moment_ago_waits_for_what_may_come_of_others() -> None:
    alignment = begun()
    alignment.put(fetched_of(A, 0, [5]), now_s=10.0)
    assert taken(alignment, came_by_s=9.0) == []
    alignment.put(fetched_of(B, 0, [2]), now_s=10.5)
    assert taken(alignment, came_by_s=10.2) == [], "the earliest is next, and that has just come"
    assert taken(alignment, came_by_s=10.5) == [2, 5]


def test_so_many_that_memory_is_short_wait_no_longer() -> None:
    alignment = begun(most_waiting=3)
    alignment.put(fetched_of(A, 0, [1, 2, 3, 4]), now_s=10.0)
    assert taken(alignment, behind=[B], came_by_s=9.0) == [1, 2]


def test_everything_before_the_next_offset_was_taken() -> None:
    alignment = begun()
    alignment.put(fetched_of(A, 7, [1, 5]))
    alignment.put(fetched_of(B, 0, [3]))
    assert [alignment.next_offset(A), alignment.next_offset(B)] == [7, 0]
    assert [one.offset for one in alignment.take([], 2)] == [7, 0]
    assert [alignment.next_offset(A), alignment.next_offset(B)] == [8, 1]
    assert alignment.waiting == 1
    assert taken(alignment) == [5]
    assert alignment.next_offset(A) == 9


def test_a_record_without_a_time_stays_behind_the_one_before_it() -> None:
    alignment = begun()
    alignment.put(fetched_of(A, 0, [4]))
    alignment.put(fetched_of(A, 1, [-1, 8]))
    alignment.put(fetched_of(B, 0, [6]))
    assert taken(alignment) == [4, 4, 6, 8]
