"""A partition's own time, and from where it would have to be judged again."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.detection.rows import Rows, fresh
from models.net.forecaster import ForecasterConfig
from service.input.reading_batch import StreamKey
from service.log.port import Partition
from service.state.slab import PAGE_ROWS, StateSlab
from service.state.task import IDLE_TICKS, EventClock, Milestones, PartitionTask, Stage

IDLE_S = 16.0  # so that it ticks every second


def ticks_of(clock: EventClock, times_ms: Sequence[int], borders: Sequence[int] = ()) -> list[int]:
    """Places of the readings at which it ticks."""
    edges = [0, *sorted({border for border in borders if 0 < border < len(times_ms)}), len(times_ms)]
    found = []
    for begin, end in pairwise(edges):
        if begin < end:
            found += [begin + n for n in clock.advance(np.array(times_ms[begin:end], np.int64))]
    return found


def reckoned(times_ms: Sequence[int], tick_ms: int = 1_000) -> list[int]:
    """The same in other words: where the latest time so far is in another second than the one before it."""
    found, latest = [], times_ms[0]
    for n, time_ms in enumerate(times_ms):
        if max(latest, time_ms) // tick_ms != latest // tick_ms:
            found.append(n)
        latest = max(latest, time_ms)
    return found


times = st.lists(st.integers(0, 10_000) | st.integers(0, 253_402_300_799_999), min_size=1, max_size=60)


@given(times, st.lists(st.integers(0, 60)))
def test_ticks_are_where_the_latest_time_moves_on_wherever_batches_end(times_ms: list[int], borders: list[int]) -> None:
    clock = EventClock(IDLE_S)
    assert ticks_of(clock, times_ms, borders) == reckoned(times_ms)
    assert clock.latest_ms == max(times_ms)


@given(times, st.integers(0, 60))
def test_a_clock_that_was_restored_goes_on_as_if_nothing_had_happened(times_ms: list[int], at: int) -> None:
    calm, first, second = (EventClock(IDLE_S) for _ in range(3))
    expected = [(place, calm.tick(place)) for place in ticks_of(calm, times_ms)]
    found = [(place, first.tick(place)) for place in ticks_of(first, times_ms[:at])] if times_ms[:at] else []
    second.restore(first.state)
    if times_ms[at:]:
        found += [(at + n, second.tick(at + n)) for n in ticks_of(second, times_ms[at:])]
    assert found == expected
    assert (second.latest_ms, second.ticks) == (calm.latest_ms, calm.ticks)


def test_a_jump_over_many_ticks_is_one() -> None:
    assert ticks_of(EventClock(IDLE_S), [0, 500, 1_000_000, 1_000_400, 1_001_000]) == [2, 4]


def test_the_first_reading_and_late_ones_never_tick() -> None:
    assert ticks_of(EventClock(IDLE_S), [5_000, 1_000, 4_999, 5_999, 2_000]) == []


def test_a_clock_without_an_idle_time_never_ticks_but_knows_the_time() -> None:
    clock = EventClock(None)
    assert ticks_of(clock, [0, 10**9, 10**12]) == []
    assert clock.latest_ms == 10**12


@pytest.mark.parametrize("idle_s", [1e-9, 0.001, 1e12])
def test_any_idle_time_makes_a_clock(idle_s: float) -> None:
    assert len(ticks_of(EventClock(idle_s), [0, 1, 2])) in (0, 2)


def test_after_sixteen_ticks_it_says_since_when_a_stream_must_have_been_heard() -> None:
    clock = EventClock(IDLE_S)
    assert [clock.tick(10 * n) for n in range(IDLE_TICKS)] == [None] * IDLE_TICKS
    assert [clock.tick(1_000 + n) for n in range(3)] == [0, 10, 20]
    assert len(clock.ticks) == IDLE_TICKS


def test_a_task_judges_again_from_its_oldest_change_that_is_not_written() -> None:
    def rows_for(streams: Sequence[bytes]) -> Rows:
        return fresh(len(streams), ForecasterConfig(("flow",), hidden=16))

    task = PartitionTask(Partition("plant", 0), StateSlab(rows_for))
    assert (task.stage, task.replay_from) == (Stage.RUNNING, None)
    task.next_offset = 50
    assert task.replay_from == 50
    slots = task.slab.slots([StreamKey(b"%d" % n) for n in range(2 * PAGE_ROWS)])
    for slot, offset in ((PAGE_ROWS, 30), (0, 40)):
        one = slots[slot : slot + 1]
        task.slab.scatter(one, task.slab.gather(one), torch.tensor([offset]), offset)
    assert task.replay_from == 30
    task.slab.clean(1)
    assert task.replay_from == 40
    task.slab.clean(0)
    assert task.replay_from == 50


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_milestones_say_by_when_a_reading_was_judged(steps: list[tuple[int, int]]) -> None:
    """steps: how far the partition comes in each second, and how many readings further back is asked each time."""
    milestones, history, asked, at = Milestones(), list[tuple[int, float]](), 0, 0
    for second, (further, on) in enumerate(steps):
        at += further
        milestones.pass_on(at, float(second))
        history.append((at, float(second)))
        asked = min(at, asked + on)
        assert milestones.reached_s(asked) == next((time_s for end, time_s in history if end > asked), None)


def test_milestones_that_no_one_asks_for_any_more_are_let_go() -> None:
    milestones = Milestones()
    for second in range(1_000):
        milestones.pass_on(10 * second, float(second))
        assert milestones.reached_s(10 * second) is None
    assert len(milestones._marks) == 0
