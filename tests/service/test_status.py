"""Status: a view that never changes, swapped in one piece."""

import dataclasses
import threading

import pytest

from service.status import RECENT_LIMIT, Checkpoint, Counts, PartitionStatus, State, Status, StatusBoard, newest

CHECKPOINT = Checkpoint("/checkpoints/pump.safetensors", "abc", ("temperature",))


def status(beat_s: float = 0.0, readings: int = 0) -> Status:
    return Status(State.RUNNING, 0, 0, beat_s, CHECKPOINT, counts=Counts(readings=readings))


def test_a_status_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        status().published_ms = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Counts().readings = 1  # type: ignore[misc]


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
