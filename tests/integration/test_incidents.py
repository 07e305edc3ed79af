"""`telltale incidents` on a real broker: exactly once, whatever ends it."""

import json
import signal
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.data.label_windows import read_label_windows
from service.kafka.topics import COMPACTED, TopicSpec, create_topics
from service.log.port import Record
from service.stages.incidents.controls import Acknowledgement, read_control
from service.stages.incidents.events import CONTROL_APPLIED, decode_lost
from tests.command_line import Telltale
from tests.commands import Process
from tests.integration.test_end_to_end import Names, made_topics, new_names, quick, service, wait_until
from tests.kafka import Broker
from tests.service.stages.incidents.plant import (
    GROUP_PER_DAY,
    NOW_MS,
    PER_DAY,
    acknowledgements,
    anomaly_record,
    calm,
    plant_anomalies,
    plant_controls,
    time_at,
)

__all__ = ["quick"]  # a fixture

PARTITIONS = 2  # as many as the topics of the test have
ALL = plant_anomalies(3_000, PARTITIONS)
COUNTS: Mapping[int, Sequence[Record]] = dict(enumerate(ALL))
SAID = plant_controls()
RULES = {"TELLTALE_INCIDENTS__EXPIRE_S": "86400", "TELLTALE_INCIDENTS__BUDGET_PER_DAY": str(PER_DAY)}
RULES |= {"TELLTALE_INCIDENTS__GROUP_BUDGET_PER_DAY": str(GROUP_PER_DAY)}
SLOWLY = {"TELLTALE_KAFKA__MAX_POLL_RECORDS": "50", "TELLTALE_KAFKA__SESSION_TIMEOUT_MS": "6000"}
SLOWLY |= {"TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS": "6000"}


class Stage:
    """`telltale incidents`, seen from outside."""

    def __init__(self, broker: Broker, names: Names, topic: str, instance: str | None, **environment: str) -> None:
        where = {"TELLTALE_INCIDENTS__TOPIC": topic, "TELLTALE_INCIDENTS__GROUP": f"{names.group}-incidents"}
        where |= {"TELLTALE_INCIDENTS__CONTROL_TOPIC": controls_of(topic)}
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

    @property
    def metrics_port(self) -> int:
        return int(self.until("metrics_listening")["port"])

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
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


def controls_of(topic: str) -> str:
    """The topic of controls that belongs to a topic of incidents."""
    return f"{topic}.control"


def published(broker: Broker, topic: str) -> list[Record]:
    return [one.record for one in broker.read_committed(topic)]


def prepared(broker: Broker) -> tuple[Names, str]:
    names = made_topics(broker)
    topic = broker.create_topic(1, "incidents")
    create_topics(broker.bootstrap_servers, {controls_of(topic): TopicSpec(1, 1, COMPACTED)})
    return names, topic


def until_all_is_taken_in(stage: Stage) -> None:
    wait_until(lambda: stage.metrics().get("telltale_incident_lag_records") == 0.0, "all anomalies")


def until_some_are_taken_in(stage: Stage, some: int = 100) -> None:
    wait_until(lambda: stage.metrics()["telltale_incident_anomalies_total"] > some, "progress")


def assert_exactly_once(broker: Broker, topic: str) -> list[Record]:
    found = published(broker, topic)
    controls = published(broker, controls_of(topic))
    assert [(record.key, record.value) for record in found] == calm(found, COUNTS, controls)
    names = [msgspec.json.decode(record.value or b"")["id"] for record in found]
    assert len(set(names)) == len(names) > 2_000
    return found


@pytest.mark.thorough
def test_incidents_are_those_of_a_calm_run_to_the_byte_however_often_the_process_is_killed(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    for life in range(6):
        kafka.produce_part(names.anomalies, COUNTS, life, 7)
        with running(kafka, names, topic, "one", **SLOWLY) as stage:
            until_some_are_taken_in(stage)
            said = [*SAID, *acknowledgements(published(kafka, topic))]
            kafka.produce(controls_of(topic), [(0, record) for record in said])
            until_some_are_taken_in(stage, 200)
            stage.process.signal(signal.SIGKILL)
            stage.process.ended()
    before = len(published(kafka, topic))
    kafka.produce_part(names.anomalies, COUNTS, 6, 7)
    with running(kafka, names, topic, "one") as stage:
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGTERM)
        assert stage.process.ended() == 0
    found = assert_exactly_once(kafka, topic)
    assert 0 < before < len(found)
    told = [msgspec.json.decode(record.value or b"") for record in found]
    assert sum(one["type"] == CONTROL_APPLIED for one in told) >= 6 * len(SAID)
    assert len({one["data"]["incident"] for one in told if one["data"].get("acknowledged_by")}) > 6


@pytest.mark.thorough
def test_one_that_stands_by_goes_on_where_the_one_that_was_killed_ended(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    kafka.produce_part(names.anomalies, COUNTS, 0, 1)
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


@pytest.mark.thorough
def test_where_incidents_are_lost_one_event_ends_them_and_a_kill_says_it_no_second_time(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    kafka.produce(controls_of(topic), [(0, record) for record in SAID])
    kafka.produce_part(names.anomalies, COUNTS, 0, 2)
    with running(kafka, names, topic, "one") as stage:
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGKILL)
        stage.process.ended()
    names = names._replace(changelog=made_topics(kafka).changelog)
    with running(kafka, names, topic, "one") as stage:
        assert stage.process.ended() == 1
        assert "no marker of incidents, but offsets are committed" in "".join(stage.process.err)
    with running(kafka, names, topic, "one", TELLTALE_STATE__WHEN_LOST="reset") as stage:
        wait_until(lambda: stage.metrics().get("telltale_incident_state_problems_total") == 1.0, "the loss")
        wait_until(lambda: any(decode_lost(one.value or b"") for one in published(kafka, topic)), "the event")
        stage.process.signal(signal.SIGKILL)
        stage.process.ended()
    kafka.produce_part(names.anomalies, COUNTS, 1, 2)
    with running(kafka, names, topic, "one") as stage:
        until_all_is_taken_in(stage)
    found = assert_exactly_once(kafka, topic)
    assert sum(decode_lost(one.value or b"") is not None for one in found) == 1


@pytest.mark.thorough
def test_what_people_say_by_the_command_is_in_the_incidents_and_can_be_taken_back(
    kafka: Broker, telltale: Telltale, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names, topic = made_topics(kafka), kafka.create_topic(1, "incidents")
    create_topics(kafka.bootstrap_servers, {controls_of(topic): TopicSpec(1, 1, COMPACTED)})
    monkeypatch.setenv("TELLTALE_INCIDENTS__CONTROL_TOPIC", controls_of(topic))
    monkeypatch.setenv("TELLTALE_KAFKA__ANOMALIES_TOPIC", names.anomalies)
    at = ("--bootstrap-servers", kafka.bootstrap_servers)
    forever = ("--until", time_at(900_000_000))

    def events(stream: str) -> list[dict[str, Any]]:
        said = [msgspec.json.decode(one.value or b"") for one in published(kafka, topic)]
        return [one["data"] for one in said if one["data"].get("first_cause", {}).get("stream") == stream]

    def until(stream: str, **expected: object) -> dict[str, Any]:
        wait_until(lambda: any(expected.items() <= event.items() for event in events(stream)), f"{stream}: {expected}")
        return events(stream)[-1]

    def opens(stream: str, at_s: float, n: int = 0) -> None:
        kafka.produce(names.anomalies, [(0, anomaly_record(stream, "opened", at_s, at_s, "minor", n))])

    with running(kafka, names, topic) as stage:
        telltale.does(
            *("control", "quiet", "a/1/*", "--reason", "overhaul", "--id", "q", "--by", "anna", *forever, *at)
        )
        stage.until("control_applied")
        opens("a/1/s", 0)
        held = until("a/1/s", notified=False, held_back="overhaul")
        telltale.does("control", "acknowledge", held["incident"], "--by", "ben", *at)
        until("a/1/s", acknowledged_by="ben")
        telltale.does("control", "take-back", "q", *at)
        until("a/1/s", notified=True, held_back=None, acknowledged_by="ben")
        refused = telltale.refuses("control", "label", "known", "--anomaly", "b/1/s#0", *at, code=1)
        assert "found no anomaly b/1/s#0, expected one whose events are still on the topic" in refused
        opens("b/1/s", 10)
        until("b/1/s", notified=True)
        label = ("--anomaly", "b/1/s#0", "--note", "the valve sticks", "--rule", "always", "--id", "l")
        said = telltale.does("control", "label", "known", *label, *at)
        assert "rule: b/1/s, prediction, channel vibration, at most minor" in said
        assert until("b/1/s", notified=True)["members"][0]["label"] == "known"
        opens("b/1/s", 5_000, 1)
        assert until("b/1/s", held_back="rule of l")["members"][0]["rule"] == "l"
        assert stage.metrics()["telltale_incident_label_rules"] == 1.0
        told = [(line["type"], line["effect"]) for line in stage.lines("control_applied")]
        assert told == [("quiet", "set"), ("acknowledgement", "set"), ("taken_back", "taken_back"), ("label", "set")]
        assert stage.metrics()['telltale_incident_controls_in_force{type="label"}'] == 1.0
        said = telltale.does("control", "labels", "--out", tmp_path / "labels.csv", *at)
        assert "labels.csv: 1 stretch (1 known)" in said
        (window,) = read_label_windows(tmp_path / "labels.csv").windows
        assert window == ("b/1/s", NOW_MS + 10_000, NOW_MS + 10_001, "known"), "it is open, and has one event"
    (ack, label) = map(msgspec.json.decode, telltale.does("control", "list", "--json", *at).splitlines())
    assert (ack["type"], ack["by"], ack["incident"]) == ("acknowledgement", "ben", held["incident"])
    assert (label["type"], label["anomaly"], label["note"]) == ("label", "b/1/s#0", "the valve sticks")


@pytest.mark.thorough
def test_a_storm_that_was_muted_and_labelled_is_quiet_the_next_day_until_the_label_is_taken_back(
    kafka: Broker, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, topic = prepared(kafka)
    monkeypatch.setenv("TELLTALE_INCIDENTS__CONTROL_TOPIC", controls_of(topic))
    monkeypatch.setenv("TELLTALE_KAFKA__ANOMALIES_TOPIC", names.anomalies)
    at, day_s = ("--bootstrap-servers", kafka.bootstrap_servers), 86_400

    def storm(day: int, change: str = "opened") -> None:
        """20 streams of a line within 20 seconds; each closes after ten minutes."""
        began_s, after_s = day * day_s, 0 if change == "opened" else 600
        records = [
            (0, anomaly_record(f"line/a/{n:02d}", change, began_s + n + after_s, began_s + n, "minor", day))
            for n in range(20)
        ]
        kafka.produce(names.anomalies, records)

    def events() -> list[dict[str, Any]]:
        said = [msgspec.json.decode(one.value or b"") for one in published(kafka, topic)]
        return [one["data"] for one in said if one["type"] != CONTROL_APPLIED]

    def until_last(**expected: object) -> dict[str, Any]:
        wait_until(lambda: expected.items() <= [{}, *events()][-1].items(), f"{expected}")
        return events()[-1]

    with running(kafka, names, topic) as stage:
        mute = ("control", "quiet", "line/*", "--reason", "night shift", "--until", time_at(3_600), "--id", "mute")
        telltale.does(*mute, *at)
        stage.until("control_applied")
        storm(0)
        muted = until_last(status="open", streams=20, notified=False, held_back="night shift")
        telltale.does("control", "take-back", "mute", *at)
        until_last(incident=muted["incident"], streams=20, notified=True)
        storm(0, "closed")
        until_last(incident=muted["incident"], status="closed")
        span = ("--streams", "line/*", "--from", time_at(0), "--until", time_at(60), "--id", "drill")
        said = telltale.does("control", "label", "known", *span, "--rule", "day", "--note", "a drill", *at)
        assert said.count("rule: line/") == 20
        wait_until(lambda: stage.metrics()["telltale_incident_label_rules"] == 20, "the rules")

        storm(1)
        quiet = until_last(streams=20, notified=False, held_back="rule of drill")
        assert quiet["incident"] != muted["incident"]
        assert {one["rule"] for one in quiet["members"]} == {"drill"}
        telltale.does("control", "take-back", "drill", *at)
        again = until_last(incident=quiet["incident"], streams=20, notified=True, held_back=None)
        assert {one["rule"] for one in again["members"]} == {None}
        counts = stage.metrics()
        assert counts["telltale_incident_anomalies_ruled_total"] == 20
        assert counts['telltale_incidents_held_back_total{cause="rule"}'] == 1
        assert counts["telltale_incidents_notified_total"] == 2


def test_a_worker_writes_controls_that_come_over_http_to_their_topic(kafka: Broker, quick: Path) -> None:
    names, topic = made_topics(kafka), f"{kafka.create_topic(1, 'incidents')}.control"
    create_topics(kafka.bootstrap_servers, {topic: TopicSpec(1, 1, COMPACTED)})
    login = {"TELLTALE_HTTP__TOKEN": "0123456789abcdef", "TELLTALE_INCIDENTS__CONTROL_TOPIC": topic}
    said = {"type": "acknowledgement", "incident": "7f6a1c0e", "by": "anna", "note": "on my way"}

    def ask(method: str, path: str, body: bytes = b"") -> dict[str, str]:
        headers = {"Authorization": "Bearer 0123456789abcdef"}
        request = urllib.request.Request(f"http://127.0.0.1:{worker.port}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, str] = json.load(answer)
            return found

    with service(kafka, quick, names, **login) as worker:
        name = ask("POST", "/api/v1/controls", json.dumps(said).encode())["control"]
        assert ask("DELETE", f"/api/v1/controls/{name}") == {"control": name}
    given, back = published(kafka, topic)
    control = read_control(given.key, given.value)[1]
    assert isinstance(control, Acknowledgement)
    assert (control.incident, control.by, control.note) == ("7f6a1c0e", "anna", "on my way")
    assert (back.key, back.value) == (name.encode(), None)


def test_topics_that_are_not_there_are_named(kafka: Broker) -> None:
    with running(kafka, new_names(), "no-such-topic") as stage:
        assert stage.process.ended() == 1
        assert "found no topic" in "".join(stage.process.err)
        assert "no-such-topic" in "".join(stage.process.err)
