"""`telltale run --incidents` on a real broker: labels of a mapping group what fails, though it is killed meanwhile."""

import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from service.kafka.topics import COMPACTED, TopicSpec, create_topics, members_of
from service.log.port import Record
from tests.integration.test_end_to_end import PARTITIONS, Service, made_topics, quick, service, wait_until
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture

START_MS = 1_700_006_400_000
STREAMS, MINUTES = 6, 400
FAULTY, FAULT = 4, range(300, 330)
SILENT, SILENT_FROM = 5, 200


def records(first: int, last: int) -> list[tuple[int, Record]]:
    """Machines whose names say nothing, in two halls. One falls silent, later four fail together."""
    found = []
    for minute in range(first, last):
        for n in range(STREAMS):
            if n == SILENT and minute >= SILENT_FROM:
                continue
            far = n < FAULTY and minute in FAULT
            value = {"timestamp": START_MS + 60_000 * minute, "values": {"f0": 1e6 if far else 0.0, "f1": 1.0}}
            where = {"hall": {"name": f"hall-{n // 2 % 2}"}, "line": 3}
            found.append((n % PARTITIONS, Record(b"p-%d" % n, json.dumps({**value, **where}).encode())))
    return found


def beside(running: Service) -> psutil.Process:
    """The process that makes incidents: neither a worker nor the one that listens."""
    workers = {one["pid"] for one in running.status()["workers"]}
    others = [one for one in psutil.Process(running.process.pid).children() if one.pid not in workers]
    (found,) = (one for one in others if not any(at.status == psutil.CONN_LISTEN for at in one.net_connections("tcp")))
    return found


@pytest.mark.thorough
def test_incidents_are_made_beside_the_workers_by_labels_and_go_on_after_a_kill(kafka: Broker, quick: Path) -> None:
    names, topic = made_topics(kafka), kafka.create_topic(1, "incidents")
    create_topics(kafka.bootstrap_servers, {f"{topic}.control": TopicSpec(1, 1, COMPACTED)})
    mapping = {names.topic: {"labels": {"hall": "hall.name", "line": "line"}}}
    settings = {
        "TELLTALE_INPUT__TOPICS": json.dumps(mapping),
        "TELLTALE_INCIDENTS__IN_WORKER": "true",
        "TELLTALE_INCIDENTS__LABELS": "hall,line",
        "TELLTALE_INCIDENTS__TOPIC": topic,
        "TELLTALE_INCIDENTS__CONTROL_TOPIC": f"{topic}.control",
        "TELLTALE_INCIDENTS__GROUP": f"{names.group}-incidents",
    }

    def told() -> list[dict[str, Any]]:
        return [msgspec.json.decode(one.record.value or b"") for one in kafka.read_committed(topic)]

    def opened() -> list[dict[str, Any]]:
        return [event["data"] for event in told() if event["type"] == "telltale.incident.opened"]

    with service(kafka, quick, names, **settings) as running:
        kafka.produce(names.topic, records(0, 280))
        wait_until(lambda: len(opened()) == 1, "the incident of the silence")
        first = beside(running)
        first.kill()
        kafka.produce(names.topic, records(280, MINUTES))
        wait_until(lambda: len(opened()) == 3, "an incident of each hall that fails")
        wait_until(lambda: told()[-1]["type"] == "telltale.incident.closed", "the end of the fault")
        assert beside(running).pid != first.pid
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0, running.process.err
    events = told()
    assert len({event["id"] for event in events}) == len(events)
    assert [one["group"] for one in opened()] == ["hall-0/3", *sorted(one["group"] for one in opened()[1:])]
    assert opened()[0]["first_cause"]["kind"] == "silent"
    members: dict[str, set[str]] = {}
    for event in events:
        members.setdefault(event["data"]["incident"], set()).update(one["stream"] for one in event["data"]["members"])
    assert list(members.values()) == [{"p-5"}, {"p-0", "p-1"}, {"p-2", "p-3"}]
    assert members_of(kafka.bootstrap_servers, f"{names.group}-incidents") == ()
