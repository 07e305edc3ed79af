"""How many records wait, on a real broker: true or absent at every moment, and not ready before anything is judged."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service.log.port import Record
from tests.integration.test_end_to_end import made_topics, plant_records, quick, service, wait_until
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture
BACKLOG: Sequence[tuple[int, Record]] = plant_records(streams=40, readings=6_000)
# So little at once that the worker is seen at it, while all of it lies in the client's buffer.
IN_SMALL_STEPS = {"TELLTALE_KAFKA__MAX_POLL_RECORDS": "50"}


@pytest.mark.thorough
def test_a_workers_lag_is_true_from_the_first_moment_and_it_is_ready_when_it_judges(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, BACKLOG)
    samples: list[dict[str, Any]] = []
    with service(kafka, quick, names, **IN_SMALL_STEPS) as running:

        def all_judged() -> bool:
            samples.append(running.status() | {"ready": json.loads(running.get("/api/v1/summary")[1])["ready"]})
            return judged(samples[-1]) == len(BACKLOG) and lag(samples[-1]) == 0

        wait_until(all_judged, "all of it judged")
        assert running.get("/readyz")[0] == 200
        known = [sample for sample in samples if lag(sample) is not None]
        assert [lag(sample) for sample in known] == [len(BACKLOG) - judged(sample) for sample in known]
        assert len({lag(sample) for sample in known}) > 5, "it was seen at work"
        kafka.produce(names.topic, BACKLOG[:100])
        wait_until(lambda: judged(running.status()) == len(BACKLOG) + 100, "what came later")
    for before, after in pairwise(samples):
        assert not before["ready"] or judged(after) > 0  # asked for after the status: one round later, at most


def judged(status: dict[str, Any]) -> int:
    counts = status["counts"]
    return int(counts["readings"] + sum(counts["rejected"].values()))


def lag(status: dict[str, Any]) -> int | None:
    found = [partition["lag"] for partition in status["partitions"]]
    return sum(found) if found and None not in found else None


def test_a_quiet_topic_is_ready_too(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    with service(kafka, quick, names) as running:
        wait_until(lambda: running.get("/readyz")[0] == 200, "ready")
        assert lag(running.status()) == 0
        assert running.metric("telltale_lag_records") == 0
