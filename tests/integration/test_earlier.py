"""What the API knows of anomalies after a restart: a real service on a real broker."""

import json
from pathlib import Path
from typing import Any

from tests.command_line import Telltale
from tests.integration.test_end_to_end import Service, made_topics, quick, service, wait_until
from tests.integration.test_pictures import READINGS, STREAM, history
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture


def listed(running: Service, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(running.get(f"/api/v1/{path}")[1])["anomalies"]
    return found


def test_a_service_that_starts_again_knows_what_was_told_of_open_anomalies(
    kafka: Broker, quick: Path, telltale: Telltale, tmp_path: Path
) -> None:
    names = made_topics(kafka)
    data = ("--data", history(tmp_path / "plant.parquet"), "--bootstrap-servers", kafka.bootstrap_servers)
    with service(kafka, quick, names) as running:
        telltale.does("produce", "--topic", names.topic, *data)
        running.until_judged(READINGS)
        wait_until(lambda: bool(listed(running, "anomalies/open")), "an anomaly is open")
        told, (before,) = listed(running, "anomalies"), listed(running, "anomalies/open")
        assert before["stream"]["stream"] == STREAM
        assert before["kind"] is not None
    with service(kafka, quick, names) as running:
        wait_until(lambda: listed(running, "anomalies") == told, "what was told before is listed")
        wait_until(lambda: bool(listed(running, "anomalies/open")), "the stream is there again")
        (after,) = listed(running, "anomalies/open")
    assert {**after, "stream": None} == {**before, "stream": None}
