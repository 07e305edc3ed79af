"""A line stands, so nothing is learned of its machines: `telltale incidents` says it, `telltale run` heeds it."""

import signal
from pathlib import Path

import pytest

from service.input.wire import encode_reading
from service.kafka.topics import COMPACTED, TopicSpec, create_topics
from service.log.port import Record
from tests.command_line import Telltale
from tests.integration.test_end_to_end import Service, made_topics, quick, service, wait_until
from tests.integration.test_incidents import controls_of, running
from tests.kafka import Broker
from tests.service.stages.incidents.plant import NOW_MS, anomaly_record

__all__ = ["quick"]  # a fixture

SESSION = {"TELLTALE_KAFKA__SESSION_TIMEOUT_MS": "6000", "TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS": "6000"}
STREAMS = ("line-1/drive", "line-1/m1", "line-2/m1")


EACH = 20  # readings of each stream at a time


def readings(part: int) -> list[tuple[int, Record]]:
    """Of each stream some, a second apart, all of them in one partition."""
    seconds = range(part * EACH, (part + 1) * EACH)
    return [
        (0, Record(name.encode(), encode_reading(["f0", "f1"], NOW_MS + 1_000 * second, [float(second % 7), 1.0])))
        for second in seconds
        for name in STREAMS
    ]


def pauses(running: Service, change: str) -> list[str]:
    """Ids of those that began, or ended, in the partition of the readings."""
    return [name for line in running.lines("learning_pauses") if line["partition"] == 0 for name in line[change]]


@pytest.mark.thorough
def test_nothing_is_learned_of_machines_while_their_line_stands_also_after_kills(
    kafka: Broker, quick: Path, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, topic = made_topics(kafka), kafka.create_topic(1, "incidents")
    controls = controls_of(topic)
    create_topics(kafka.bootstrap_servers, {controls: TopicSpec(1, 1, COMPACTED)})
    monkeypatch.setenv("TELLTALE_INCIDENTS__CONTROL_TOPIC", controls)
    at = ("--bootstrap-servers", kafka.bootstrap_servers)
    environment = {**SESSION, "TELLTALE_INCIDENTS__CONTROL_TOPIC": controls}

    def drive(change: str) -> None:
        kafka.produce(names.anomalies, [(1, anomaly_record("line-1/drive", change, 0, 0, "minor"))])

    def judge(worker: Service, part: int, parts: int) -> float:
        """Produce a part, one of several since the worker's start; returns how many readings paused since then."""
        kafka.produce(names.topic, readings(part))
        wait_until(lambda: worker.metric("telltale_readings_total") >= parts * EACH * len(STREAMS), "all judged")
        return worker.metric("telltale_readings_paused_total")

    said = ("line-1/*", "--on", "line-1/drive", "--reason", "line 1 stands", "--id", "line")
    telltale.does("control", "depend", *said, *at)
    with service(kafka, quick, names, **environment) as worker:
        assert judge(worker, 0, 1) == 0
        with running(kafka, names, topic, **SESSION) as stage:
            drive("opened")
            wait_until(lambda: pauses(worker, "begin") == ["line"], "the pause")
            stage.process.signal(signal.SIGKILL)
            stage.process.ended()
        assert judge(worker, 1, 2) == EACH, "of line-1/m1 alone"
        assert "dependency line" in telltale.does("control", "list", "--type", "holds", *at)
        worker.process.signal(signal.SIGKILL)
        worker.process.ended()
    with service(kafka, quick, names, **environment) as worker:
        assert judge(worker, 2, 1) == EACH
        assert pauses(worker, "begin") == [], "it held from an offset before"
        drive("closed")
        with running(kafka, names, topic, **SESSION) as stage:
            wait_until(lambda: pauses(worker, "end") == ["line"], "its end")
            stage.until("incidents_restored")
        assert judge(worker, 3, 2) == EACH
        assert telltale.does("control", "list", "--type", "holds", *at) == ""
