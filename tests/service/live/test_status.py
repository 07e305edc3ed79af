"""Status: a view that never changes, swapped in one piece."""

import dataclasses
import threading

import pytest

from service.live.status import (
    DETAILS_LIMIT,
    RECENT_LIMIT,
    CheckpointStatus,
    Counts,
    PartitionStatus,
    Status,
    StatusBoard,
    WorkerState,
    newest,
    still_open,
)

CHECKPOINT = CheckpointStatus("/checkpoints/pump.safetensors", "abc", ("temperature",))


def status(beat_s: float = 0.0, readings: int = 0) -> Status:
    return Status(WorkerState.RUNNING, 0, 0, beat_s, CHECKPOINT, counts=Counts(readings=readings))


def test_a_status_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        status().published_ms = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Counts().readings = 1  # type: ignore[misc]


@pytest.mark.slow
def test_a_reader_sees_one_publication_and_never_a_mixture() -> None:
    board = StatusBoard(status())
    done = threading.Event()

    def publish() -> None:
        for n in range(20_000):
            board.publish(status(float(n), n))
        done.set()

    worker = threading.Thread(target=publish)
    worker.start()
    last = -1
    while not done.is_set():
        seen = board.read()
        assert seen.beat_s == seen.counts.readings >= last
        last = seen.counts.readings
    worker.join()


@pytest.mark.parametrize(
    ("next_offset", "end_offset", "lag"), [(None, None, None), (3, None, None), (3, 10, 7), (10, 10, 0), (11, 10, 0)]
)
def test_lag_is_what_lies_between_the_offsets(next_offset: int | None, end_offset: int | None, lag: int | None) -> None:
    assert PartitionStatus("plant", 0, next_offset, end_offset).lag == lag


def test_the_latest_events_are_kept_newest_first() -> None:
    recent = newest([{"n": 1}, {"n": 2}], ({"n": 0},))
    assert [event["n"] for event in recent] == [2, 1, 0]
    many = newest(({"n": n} for n in range(250)), recent)
    assert [event["n"] for event in many] == list(range(249, 249 - RECENT_LIMIT, -1))


def event(anomaly: str, status: str = "open", severity: str = "minor") -> dict[str, dict[str, str]]:
    return {"data": {"anomaly": anomaly, "status": status, "severity": severity}}


def test_of_anomalies_that_have_not_closed_the_latest_event_is_known() -> None:
    before = still_open([event("a"), event("b"), event("c")], {})
    after = still_open([event("a", severity="major"), event("b", "closed"), event("d"), event("x", "closed")], before)
    assert {name: data["severity"] for name, data in after.items()} == {"c": "minor", "a": "major", "d": "minor"}
    assert list(before) == ["a", "b", "c"], "what was published does not change"


def test_of_very_many_open_anomalies_the_latest_are_known() -> None:
    known = still_open([event(str(n)) for n in range(DETAILS_LIMIT + 3)], {"old": {}})
    assert list(known) == [str(n) for n in range(3, DETAILS_LIMIT + 3)]
