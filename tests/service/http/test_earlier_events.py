"""What went out before the service started, beside what its worker has published since."""

from collections.abc import Iterable
from typing import Any

from service.http.earlier_events import EarlierEvents
from service.live.status import RECENT_LIMIT, CheckpointStatus, PartitionStatus, Status, WorkerState


def event(number: int, anomaly: str = "a", status: str = "open", peak: float = 1.0) -> dict[str, Any]:
    """Those with a higher number are later."""
    data = {"anomaly": anomaly, "status": status, "peak": peak}
    return {"id": f"e-{number}", "time": f"2026-01-20T09:{number // 60:02}:{number % 60:02}Z", "data": data}


def published(*events: dict[str, Any], details: dict[str, Any] | None = None, held: Iterable[int] = ()) -> Status:
    """events: newest first. held: numbers of partitions."""
    checkpoint = CheckpointStatus("plant.safetensors", "abcdef", ("f0",))
    partitions = tuple(PartitionStatus("plant", number) for number in held)
    return Status(WorkerState.RUNNING, 0, 0, 0.0, checkpoint, partitions, recent=events, details=details or {})


def ids(events: list[Any]) -> list[str]:
    return [one["id"] for one in events]


def is_wanted(earlier: EarlierEvents) -> bool:
    """It changes between two looks, which the type checker does not expect of a property."""
    return earlier.wanted


def test_what_went_out_before_comes_behind_what_was_published_and_nothing_twice() -> None:
    earlier = EarlierEvents()
    assert ids(earlier.recent(published(event(9)), 5)) == ["e-9"]
    earlier.hear([event(3), event(5), event(1), event(4)])  # of two partitions
    assert ids(earlier.recent(published(event(9), event(5)), 60)) == ["e-9", "e-5", "e-4", "e-3", "e-1"]
    assert ids(earlier.recent(published(event(9), event(5)), 3)) == ["e-9", "e-5", "e-4"]
    assert ids(earlier.recent(published(event(9), event(5)), 1)) == ["e-9"]


def test_no_more_events_are_kept_than_a_status_has() -> None:
    earlier = EarlierEvents()
    earlier.hear([event(n) for n in range(2 * RECENT_LIMIT)])
    found = earlier.recent(published(), 2 * RECENT_LIMIT)
    assert (len(found), found[0]["id"]) == (RECENT_LIMIT, f"e-{2 * RECENT_LIMIT - 1}")


def test_of_an_anomaly_that_is_open_the_worker_knows_better_than_the_topic_did() -> None:
    earlier = EarlierEvents()
    earlier.hear([event(1, "a"), event(2, "b"), event(3, "a", peak=4.0), event(4, "b", status="closed")])
    assert earlier.details(published(), "a") == event(3, "a", peak=4.0)["data"]
    assert earlier.details(published(), "b") is None
    since = {"a": event(5, "a", peak=9.0)["data"]}
    assert earlier.details(published(details=since), "a") == since["a"]


def test_a_partition_that_comes_from_another_worker_has_the_topic_read_again() -> None:
    earlier = EarlierEvents()
    assert is_wanted(earlier)
    earlier.recent(published(held=[0]), 5)
    earlier.hear([event(1)])
    assert not is_wanted(earlier)
    earlier.details(published(held=[0, 1]), "a")
    assert is_wanted(earlier)
    earlier.hear([event(1), event(2, "b"), event(4, "b", status="closed")])
    assert not is_wanted(earlier)
    assert ids(earlier.recent(published(event(5), event(3), held=[0, 1]), 9)) == ["e-5", "e-4", "e-3", "e-2", "e-1"]


def test_a_partition_that_has_been_away_is_read_again_and_one_that_goes_is_not() -> None:
    earlier = EarlierEvents()
    earlier.recent(published(held=[0, 1]), 5)
    earlier.hear([])
    earlier.recent(published(held=[0]), 5)
    assert not is_wanted(earlier)
    earlier.recent(published(held=[0, 1]), 5)
    assert is_wanted(earlier)
