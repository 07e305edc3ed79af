"""`telltale incidents` on a real broker: exactly once, whatever ends it."""

import json
import signal
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from service.incidents.events import decode_incident
from service.log.port import Record
from tests.integration.test_end_to_end import Names, Process, made_topics, new_names, wait_until
from tests.kafka import Broker
from tests.service.incidents.plant import PER_DAY, calm, plant_anomalies

PARTITIONS = 2  # as many as the topics of the test have
ALL = plant_anomalies(3_000, PARTITIONS)
COUNTS: Mapping[int, Sequence[Record]] = dict(enumerate(ALL))
RULES = {"TELLTALE_INCIDENTS__EXPIRE_S": "86400", "TELLTALE_INCIDENTS__BUDGET_PER_DAY": str(PER_DAY)}
SLOWLY = {"TELLTALE_KAFKA__MAX_POLL_RECORDS": "50", "TELLTALE_KAFKA__SESSION_TIMEOUT_MS": "6000"}
SLOWLY |= {"TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS": "6000"}


class Stage:
    """`telltale incidents`, seen from outside."""

    def __init__(self, broker: Broker, names: Names, topic: str, instance: str | None, **environment: str) -> None:
        where = {"TELLTALE_INCIDENTS__TOPIC": topic, "TELLTALE_INCIDENTS__GROUP": f"{names.group}-incidents"}
        own = {} if instance is None else {"TELLTALE_KAFKA__INSTANCE": instance}
        self.process = Process(
            *("incidents", "--bootstrap-servers", broker.bootstrap_servers, "--log-format", "json"),
            *("--metrics-port", 0),
            **names.environment,
            **where,
            **own,
            **RULES,
            **environment,
        )

    def lines(self, event: str) -> list[dict[str, Any]]:
        said = [json.loads(line) for line in list(self.process.err) if line.startswith("{")]
        return [line for line in said if line["event"] == event]

    def until(self, event: str) -> dict[str, Any]:
        wait_until(lambda: bool(self.lines(event)) or not self.process.running, event)
        assert self.process.running, self.process.err
        return self.lines(event)[0]

    def metrics(self) -> dict[str, float]:
        port = self.until("metrics_listening")["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


@contextmanager
def running(
    broker: Broker, names: Names, topic: str, instance: str | None = None, **environment: str
) -> Iterator[Stage]:
    stage = Stage(broker, names, topic, instance, **environment)
    try:
        yield stage
    finally:
        stage.process.kill()


def published(broker: Broker, topic: str) -> list[Record]:
    return [one.record for one in broker.read_committed(topic)]


def prepared(broker: Broker) -> tuple[Names, str]:
    names = made_topics(broker)
    topic = broker.create_topic(1, "incidents")
    records = [(number, record) for number, mine in COUNTS.items() for record in mine]
    broker.produce(names.anomalies, records)
    return names, topic


def until_all_is_taken_in(stage: Stage) -> None:
    wait_until(lambda: stage.metrics().get("telltale_incident_lag_records") == 0.0, "all anomalies")


def until_some_are_taken_in(stage: Stage, some: int = 100) -> None:
    wait_until(lambda: stage.metrics()["telltale_incident_anomalies_total"] > some, "progress")


def assert_exactly_once(broker: Broker, topic: str) -> list[Record]:
    found = published(broker, topic)
    assert [(record.key, record.value) for record in found] == calm(found, COUNTS)
    events = [decode_incident(record.value or b"") for record in found]
    assert len({event.id for event in events}) == len(events) > 2_000
    return found


def test_incidents_are_those_of_a_calm_run_to_the_byte_however_often_the_process_is_killed(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    for _ in range(6):
        with running(kafka, names, topic, "one", **SLOWLY) as stage:
            until_some_are_taken_in(stage)
            stage.process.signal(signal.SIGKILL)
            stage.process.ended()
    before = len(published(kafka, topic))
    with running(kafka, names, topic, "one") as stage:
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGTERM)
        assert stage.process.ended() == 0
    assert 0 < before < len(assert_exactly_once(kafka, topic))


def test_one_that_stands_by_goes_on_where_the_one_that_was_killed_ended(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    with running(kafka, names, topic, **SLOWLY) as first:
        first.until("incidents_restored")
        with running(kafka, names, topic, **SLOWLY) as second:
            second.until("metrics_listening")
            until_some_are_taken_in(first)
            owner, other = (second, first) if second.lines("incidents_restored") else (first, second)
            owner.process.signal(signal.SIGKILL)
            owner.process.ended()
            until_all_is_taken_in(other)
    assert_exactly_once(kafka, topic)


def test_topics_that_are_not_there_are_named(kafka: Broker) -> None:
    with running(kafka, new_names(), "no-such-topic") as stage:
        assert stage.process.ended() == 1
        assert "found no topic" in "".join(stage.process.err)
        assert "no-such-topic" in "".join(stage.process.err)
