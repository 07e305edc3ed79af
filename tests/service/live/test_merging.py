"""Several workers as one: sums that never go down, partitions that come once, events in one row."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.live.merging import MergedStatus
from service.live.metrics import Counted
from service.live.status import (
    RECENT_LIMIT,
    CheckpointStatus,
    Counts,
    Notified,
    PartitionStatus,
    ProcessState,
    Status,
    WorkerProcess,
    WorkerState,
)

CHECKPOINT = CheckpointStatus("plant.safetensors", "abc", ("a",))
FIRST = Status(WorkerState.STARTING, 1, 1, 0.0, CHECKPOINT)
NONE = Counted({}, {})


def of(
    numbers: tuple[int, ...] = (),
    counts: Counts | None = None,
    events: tuple[Mapping[str, Any], ...] = (),
    count: int = 0,
) -> Status:
    partitions = tuple(PartitionStatus("readings", number, streams=10) for number in numbers)
    return Status(
        WorkerState.RUNNING, 5, 7, 3.0, CHECKPOINT, partitions, counts=counts or Counts(), recent=events, events=count
    )


def two_workers(first: ProcessState = ProcessState.RUNNING) -> list[WorkerProcess]:
    return [WorkerProcess(1, first, 11, 5, 0), WorkerProcess(2, ProcessState.RUNNING, 12, 5, 0)]


def test_one_worker_alone_is_seen_as_it_is() -> None:
    merged = MergedStatus(FIRST)
    counted = Counted({"latency": ([1, 2], 0.5)}, {"webhook": Notified(1, 2, 3, 4)})
    status = of((0, 1), Counts(readings=7, rejected={"bad_json": 2}), ({"id": "a"},), count=1)
    merged.take("w", status, counted)
    shown = merged.status
    assert shown.started_ms == FIRST.started_ms
    for name in ("state", "published_ms", "beat_s", "partitions", "joined", "counts", "recent", "events", "details"):
        assert getattr(shown, name) == getattr(status, name)
    assert merged.counted == counted


def test_many_are_refused_if_they_are_at_one_worker() -> None:
    merged = MergedStatus(FIRST)
    merged.take("a", of((0,)), NONE)
    merged.take("b", replace(of((1,)), many_refused=True), NONE)
    assert merged.status.many_refused
    merged.end("b")
    assert not merged.status.many_refused


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.booleans()), max_size=30
    )  # worker, readings more, whether it is killed and started again first
)
def test_sums_are_of_everything_ever_counted_and_never_go_down(steps: list[tuple[str, int, bool]]) -> None:
    merged, runs, held, total, before = MergedStatus(FIRST), dict.fromkeys("abc", 0), dict.fromkeys("abc", 0), 0, 0
    for worker, more, killed in steps:
        if killed:
            merged.end((worker, runs[worker]))
            runs[worker] += 1
            held[worker] = 0
        held[worker] += more
        total += more
        count = held[worker]
        counts = Counts(readings=count, rejected={"bad_json": count})
        merged.take((worker, runs[worker]), of(counts=counts), Counted({"batch": ([count, 0], float(count))}, {}))
        assert merged.status.counts.readings == merged.status.counts.rejected["bad_json"] == total >= before
        assert merged.counted.histograms["batch"] == ([total, 0], float(total))
        before = total


def test_notifications_that_waited_in_a_worker_that_ended_do_not_wait_any_more() -> None:
    merged = MergedStatus(FIRST)
    merged.take("a", of(), Counted({}, {"webhook": Notified(5, 1, 0, 9)}))
    merged.end("a")
    merged.take("b", of(), Counted({}, {"webhook": Notified(1, 0, 0, 2)}))
    assert merged.counted.notified == {"webhook": Notified(6, 1, 0, 2)}


def test_a_partition_that_moved_is_its_new_owners_though_the_old_one_does_not_know_yet() -> None:
    merged = MergedStatus(FIRST)
    merged.take("a", of((0, 1)), NONE)
    merged.take("b", of((2,)), NONE)
    new = of((1, 2))
    merged.take("b", new, NONE)
    merged.take("a", of((0, 1)), NONE)
    assert [one.number for one in merged.status.partitions] == [0, 1, 2]
    assert merged.status.partitions[1] is new.partitions[0]


def test_events_of_all_workers_are_in_one_row_numbered_without_a_gap() -> None:
    merged = MergedStatus(FIRST)
    merged.take("a", of(events=({"id": 1},), count=1), NONE)
    merged.take("b", of(events=({"id": 2},), count=1), NONE)
    merged.take("a", of(events=({"id": 3}, {"id": 1}), count=2), NONE)
    assert [event["id"] for event in merged.status.recent] == [3, 2, 1]
    assert merged.status.events == 3
    merged.end("a")
    assert merged.status.events == 3, "what was counted stays counted"
    many = tuple({"id": f"b{n}"} for n in range(RECENT_LIMIT))
    merged.take("b", of(events=many, count=1 + 500), NONE)
    assert merged.status.events == 503
    assert merged.status.recent == many, "older ones would be counted back over a gap"


def test_all_workers_must_run_but_those_that_are_lost_for_good() -> None:
    merged = MergedStatus(FIRST)
    merged.supervise(two_workers())
    merged.take("b", of((0, 1)), NONE)
    states = [merged.status.state]
    merged.supervise(two_workers(ProcessState.LOST))
    states.append(merged.status.state)
    merged.supervise(two_workers())
    merged.take("a", of(), NONE)
    states.append(merged.status.state)
    assert states == [WorkerState.STARTING, WorkerState.RUNNING, WorkerState.RUNNING]
    assert merged.status.workers == tuple(two_workers())
