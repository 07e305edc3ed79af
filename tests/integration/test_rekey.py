"""`telltale rekey` on a real broker: each reading once and in order, whatever ends it; and `telltale run` behind it."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.log.port import Partition, Record
from tests.commands import Process
from tests.integration.test_end_to_end import Names, made_topics, new_names, wait_until
from tests.integration.test_incidents import SLOWLY, Stage
from tests.kafka import Broker
from tests.service.stages.rekey.plant import PARTITIONS, PLANTS, TOPIC, Plant, by_stream, in_parts, of_streams

SECONDS = 900
KEYED = PLANTS["keyed"]
KILLS = 4


class Rekey(Stage):
    """`telltale rekey`, seen from outside."""

    def __init__(
        self, broker: Broker, names: Names, source: str, instance: str | None, kind: Plant, **environment: str
    ) -> None:
        own = {} if instance is None else {"TELLTALE_KAFKA__INSTANCE": instance}
        self.process = Process(
            *("rekey", "--topic", source, "--into", names.topic, "--group", f"{names.group}-rekey"),
            *("--bootstrap-servers", broker.bootstrap_servers, "--log-format", "json", "--metrics-port", 0),
            **names.environment,
            **own,
            **environment,
            **{_variable(path): _text(value) for path, value in kind.settings(source).items()},
            TELLTALE_REKEY__WAIT_S="0.1",
        )


def _variable(path: str) -> str:
    return f"TELLTALE_{path.upper().replace('.', '__')}"


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else json.dumps(value)


@contextmanager
def running(
    broker: Broker,
    names: Names,
    source: str,
    instance: str | None = None,
    kind: Plant | None = None,
    **environment: str,
) -> Iterator[Rekey]:
    stage = Rekey(broker, names, source, instance, kind or KEYED, **environment)
    try:
        yield stage
    finally:
        stage.process.kill()


def prepared(broker: Broker) -> tuple[Names, str]:
    """Topics of which the readings' has other times than now, and another number of partitions than its source."""
    return made_topics(broker)._replace(topic=broker.create_topic(4)), broker.create_topic(PARTITIONS, TOPIC)


def produce(broker: Broker, source: str, records: list[list[Record]]) -> None:
    broker.produce(source, [(number, record) for number, mine in enumerate(records) for record in mine])


def until_all_is_taken_in(stage: Rekey) -> None:
    wait_until(lambda: stage.metrics().get("telltale_rekey_lag_records") == 0.0, "all records")


def until_some_are_taken_in(stage: Rekey, some: int = 200) -> None:
    wait_until(lambda: stage.metrics()["telltale_rekey_records_total"] > some, "progress")


def written(broker: Broker, topic: str) -> dict[bytes, list[Record]]:
    found: dict[int, list[Record]] = {}
    for one in broker.read_committed(topic):
        found.setdefault(one.partition, []).append(one.record)
    return by_stream(found)


def calm(source: str, kind: Plant = KEYED) -> dict[bytes, list[Record]]:
    """What a stage that nothing disturbs writes, on a log in memory."""
    return of_streams(kind.written(source, kind.records(SECONDS)))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", PLANTS.values(), ids=list(PLANTS))
def test_readings_are_those_of_a_calm_run_to_the_byte_however_often_the_process_is_killed(
    kafka: Broker, kind: Plant
) -> None:
    names, source = prepared(kafka)
    *parts, last = in_parts(kind.records(SECONDS), KILLS + 1)  # a fast machine would have written all by the last kills
    for part in parts:
        produce(kafka, source, part)
        with running(kafka, names, source, "one", kind, **SLOWLY) as stage:
            until_some_are_taken_in(stage)
            stage.process.signal(signal.SIGKILL)
            stage.process.ended()
    before = sum(map(len, written(kafka, names.topic).values()))
    produce(kafka, source, last)
    with running(kafka, names, source, "one", kind) as stage:
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGTERM)
        assert stage.process.ended() == 0
    found = written(kafka, names.topic)
    assert found == calm(source, kind)
    of_all = sum(map(len, found.values()))
    assert of_all // 20 < before < of_all
    letters = [letter.record for letter in kafka.read_committed(names.dead_letters)]
    expected = kind.written(source, kind.records(SECONDS)).dead_letters[Partition(source, 0)]
    assert sorted((one.value, one.headers) for one in letters) == sorted((one.value, one.headers) for one in expected)
    assert len(letters) >= 53


@pytest.mark.thorough
def test_one_that_stands_by_goes_on_where_the_one_that_was_killed_ended(kafka: Broker) -> None:
    names, source = prepared(kafka)
    produce(kafka, source, KEYED.records(SECONDS))
    with running(kafka, names, source, None, KEYED, **SLOWLY) as first:
        first.until("rekey_started")
        with running(kafka, names, source, None, KEYED, **SLOWLY) as second:
            second.until("metrics_listening")
            until_some_are_taken_in(first)
            owner, other = (second, first) if second.lines("rekey_started") else (first, second)
            owner.process.signal(signal.SIGKILL)
            owner.process.ended()
            until_all_is_taken_in(other)
    assert written(kafka, names.topic) == calm(source)


def test_topics_that_are_not_there_are_named(kafka: Broker) -> None:
    with running(kafka, new_names(), "no-such-topic") as stage:
        assert stage.process.ended() == 1
        assert "found no topic" in "".join(stage.process.err)
        assert "no-such-topic" in "".join(stage.process.err)
