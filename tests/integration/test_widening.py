"""An input topic that gets more partitions while it is read, with the other topics and without them."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from service.input.notices import STATE_LOST
from tests.command_line import Telltale
from tests.integration.test_end_to_end import Names, made_topics, plant_records, quick, service, wait_until
from tests.integration.test_state_tools import using
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture
RECORDS = plant_records(streams=8, readings=200)
NARROW = "has 2 partitions, expected at least the 4 of"


@pytest.mark.thorough
def test_partitions_without_a_place_in_the_other_topics_wait_for_it_and_the_others_go_on(
    kafka: Broker, quick: Path, telltale: Telltale
) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, RECORDS)
    with service(kafka, quick, names) as running:
        running.until_judged(len(RECORDS))
        with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
            admin.create_partitions({names.topic: 4})
        kafka.produce(names.topic, [(number + 2, record) for number, record in RECORDS])
        wait_until(lambda: NARROW in running.get("/readyz")[1], "the reason why it is not ready")
        assert running.get("/readyz")[0] == 503
        kafka.produce(names.topic, RECORDS[:50])
        running.until_judged(len(RECORDS) + 50)
        wait_until(lambda: waiting(running.status()) == len(RECORDS), "the lag of what waits")
        assert not running.lines("tasks_migrated")
        wait_until(lambda: bool(running.lines("partitions_not_served")), "the line that says what is wrong")
        assert NARROW in running.lines("partitions_not_served")[0]["reason"]
        wait_until(lambda: notices(kafka, names) == [0, 1], "a notice for each partition that was there")

        with using(names):
            said = telltale.does("topics", "create", *options(kafka, names))
        assert f"{names.changelog}: widened from 2 to 4 partitions" in said
        running.until_judged(2 * len(RECORDS) + 50)
        wait_until(lambda: running.get("/readyz")[0] == 200, "ready")
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
    with service(kafka, quick, names) as again:
        wait_until(lambda: again.get("/readyz")[0] == 200, "ready again")
    assert notices(kafka, names) == [0, 1]


def options(broker: Broker, names: Names) -> list[str]:
    return ["--topic", names.topic, "--bootstrap-servers", broker.bootstrap_servers]


def waiting(status: dict[str, Any]) -> int:
    return sum(p["lag"] or 0 for p in status["partitions"] if p["stage"] == "waiting")


def notices(broker: Broker, names: Names) -> list[int]:
    """Of which partitions it was reported that their topic has got more of them."""
    events = [json.loads(written.record.value or b"") for written in broker.read_committed(names.anomalies)]
    lost = [event["data"] for event in events if event["type"] == STATE_LOST]
    return sorted(one["partition"] for one in lost if one["reason"] == "partitions_added")
