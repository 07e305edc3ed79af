"""The service under load, watched by a real Prometheus and a real Alertmanager with the configuration in deploy/."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from docs.generated import export_stages
from service.input.events import decode_event
from service.state.open_alarms import SEVERITIES
from tests.commands import Process
from tests.integration.test_end_to_end import NOW_MS, Names, Service, made_topics, quick, service, wait_until
from tests.kafka import Broker
from tests.prometheus import DEPLOY, Served, running_alertmanager, running_prometheus
from tests.service.receiver import Listening, listening

__all__ = ["quick"]  # a fixture

BROKEN, OTHERS = "line-03/pump 012 ü", [f"line-01/pump-{n:03d}" for n in range(30)]
CALM, LOAD = 140, 1_000  # readings of each stream before the fault; of each other stream in all
RATE = 1_500
GRAFANA = {"$job": "telltale", "$__rate_interval": "10s", "$__range": "5m", "$__interval": "10s"}
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


class Scene:
    """What the tests here look at."""

    def __init__(
        self, broker: Broker, names: Names, telltale: Service, prometheus: Served, alerts: Served, hook: Listening
    ):
        self.broker, self.names, self.telltale = broker, names, telltale
        self.prometheus, self.alertmanager, self.hook = prometheus, alerts, hook

    def pushed(self) -> list[dict[str, Any]]:
        """Anomalies that Alertmanager shows, as the service pushed them."""
        return [one for one in self.alertmanager.alerts() if one["labels"]["alertname"] == "TelltaleAnomaly"]


def plant(file: Path, readings: int, broken_from: int, broken_until: int, first: int = 0) -> Path:
    """Streams of f0 and f1; BROKEN has a fault from one reading on and ends with another, the others are calm."""
    frames = []
    for stream in (BROKEN, *OTHERS):
        length = broken_until if stream == BROKEN else readings
        place = np.arange(first, first + length)
        values = np.where((stream == BROKEN) & (place >= first + broken_from), 1_000.0, place % 7.0)
        frames.append(pl.DataFrame({"timestamp": NOW_MS + 60_000 * place, "f0": values, "f1": 1.0, "stream": stream}))
    pl.concat(frames).write_parquet(file)
    return file


@pytest.fixture(scope="module")
def scene(kafka: Broker, quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A service that judges a load of many seconds, in which one stream has a fault that does not end."""
    folder, names = tmp_path_factory.mktemp("prometheus"), made_topics(kafka)
    file = plant(folder / "plant.parquet", LOAD, broken_from=CALM, broken_until=CALM + 4)
    with running_alertmanager(folder) as alertmanager, listening() as hook:
        environment = {
            "TELLTALE_METRICS__TOP_STREAMS": "5",
            "TELLTALE_NOTIFICATIONS__ALERTMANAGER_URLS": alertmanager.url,
            "TELLTALE_NOTIFICATIONS__WEBHOOK_URLS": f"{hook.url}/anomalies",
            "TELLTALE_NOTIFICATIONS__WEBHOOK_AUTHORIZATION": "Bearer a-token-for-the-hook",
        }
        pushed_to = alertmanager.url.removeprefix("http://")
        with (
            service(kafka, quick, names, **environment) as telltale,
            every_stage() as stages,
            running_prometheus(folder, f"127.0.0.1:{telltale.port}", pushed_to, stages) as prom,
            producing(kafka, names, file, RATE),
        ):
            yield Scene(kafka, names, telltale, prom, alertmanager, hook)


@contextmanager
def every_stage() -> Iterator[str]:
    """Where all that stages show is shown, as by those that have nothing to do."""
    registry = CollectorRegistry()
    export_stages(registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class producing:  # noqa: N801  (a context manager)
    def __init__(self, broker: Broker, names: Names, file: Path, rate: int) -> None:
        self._arguments = ("produce", "--data", file, "--rate", rate, "--bootstrap-servers", broker.bootstrap_servers)
        self._names = names

    def __enter__(self) -> Process:
        self.process = Process(*self._arguments, **self._names.environment)
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def expressions() -> list[tuple[str, str]]:
    """(where, expression) of all panels, alerts' inputs aside: what a dashboard or a recording rule asks for."""
    found = [
        (f"{file.stem}: {panel['title']}", target["expr"])
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "recording.yml").read_text())
    found += [("recorded", rule["record"]) for group in rules["groups"] for rule in group["rules"]]
    return found


def filled_in(expression: str) -> str:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


@pytest.mark.thorough
def test_every_expression_of_every_dashboard_returns_data(scene: Scene) -> None:
    left = [(where, filled_in(expression)) for where, expression in expressions()]
    assert len(left) > 50

    def all_answered() -> bool:
        left[:] = [one for one in left if not has_data(scene.prometheus, one[1])]
        return not left

    try:
        wait_until(all_answered, "every expression returns data")
    except AssertionError:
        pytest.fail("no data for\n" + "\n".join(f"  {where}: {expression}" for where, expression in left))


def has_data(prometheus: Served, expression: str) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in prometheus.samples(expression))


@pytest.mark.thorough
def test_an_anomaly_fires_an_alert_that_alertmanager_shows(scene: Scene) -> None:
    def names() -> set[str]:
        return {alert["labels"]["alertname"] for alert in scene.alertmanager.alerts()}

    wait_until(lambda: bool(names() & {"TelltaleAnomalies", "TelltaleCriticalAnomaly"}), "an alert of Prometheus")
    top = scene.prometheus.samples("telltale_top_stream_peak_ratio")
    assert [sample["metric"]["stream"] for sample in top] == [BROKEN]


def test_an_anomaly_shows_up_in_alertmanager_under_its_stream_and_goes_when_it_closes(
    scene: Scene, tmp_path: Path
) -> None:
    def reached() -> list[str]:
        """Severities for which there is an alert, the highest first."""
        return sorted((one["labels"]["severity"] for one in scene.pushed()), key=SEVERITIES.index, reverse=True)

    wait_until(lambda: reached() == ["critical", "major", "minor"], "the anomaly is pushed with each severity")
    alerts = {alert["labels"]["severity"]: alert for alert in scene.pushed()}
    event = last_event(scene)
    for severity, alert in alerts.items():
        assert alert["labels"] == {
            "alertname": "TelltaleAnomaly",
            "stream": BROKEN,
            "topic": scene.names.topic,
            "anomaly": event["data"]["anomaly"],
            "severity": severity,
        }
        assert alert["annotations"]["severity"] == event["data"]["severity"] == "critical"
        assert alert["annotations"]["summary"].startswith(f"{BROKEN}: f0 ")
    assert {severity: alert["receivers"] for severity, alert in alerts.items()} == {
        "minor": [{"name": "plant"}],
        "major": [{"name": "plant"}],
        "critical": [{"name": "plant-critical"}],
    }
    inhibited = {severity: bool(alert["status"]["inhibitedBy"]) for severity, alert in alerts.items()}
    assert inhibited == {"minor": True, "major": True, "critical": False}

    calm = plant(tmp_path / "calm.parquet", 80, broken_from=80, broken_until=80, first=LOAD)
    with producing(scene.broker, scene.names, calm, 10_000):
        wait_until(lambda: scene.pushed() == [], "the anomaly is resolved")
    wait_until(lambda: last_event(scene)["data"]["status"] == "closed", "it is closed on the topic")
    wait_until(lambda: scene.prometheus.samples("telltale_top_stream_peak_ratio") == [], "its series is gone")


def last_event(scene: Scene) -> dict[str, Any]:
    (*_, last) = scene.broker.read_committed(scene.names.anomalies)
    found: dict[str, Any] = json.loads(last.record.value or b"")
    return found


def test_the_webhook_got_the_very_messages_of_the_topic_with_the_login(scene: Scene) -> None:
    on_topic = [written.record.value for written in scene.broker.read_committed(scene.names.anomalies)]
    assert on_topic
    taken = scene.hook.until_taken(len(on_topic))
    assert sorted(taken, key=lambda body: decode_event(body).data.partition) == on_topic  # each partition in order
    first = scene.hook.posted[0]
    assert (first.path, first.headers["Authorization"]) == ("/anomalies", "Bearer a-token-for-the-hook")
    assert decode_event(first.body).change == "opened"
    sent = scene.telltale.metric("telltale_notifications_sent_total")
    assert sent >= len(on_topic) + 2
    assert scene.telltale.metric("telltale_notification_failures_total") == 0


def test_the_login_is_in_no_log_line_and_in_no_metric(scene: Scene) -> None:
    said = "\n".join(scene.telltale.process.err) + scene.telltale.get("/metrics")[1]
    assert re.search("http_listening", said)
    assert "a-token-for-the-hook" not in said
