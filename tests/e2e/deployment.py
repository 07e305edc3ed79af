"""docker-compose.yml as people run it: `make e2e`. Not collected by `make test`: it needs an engine, and minutes.

The image is built from the Dockerfile as it is. The tests go on from each other, in the order in which they stand.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from models.checkpoints.checkpoint import Checkpoint, load
from service.log.port import Partition
from service.pipeline import Pipeline
from service.settings.settings import Settings
from tests.e2e.compose import PROJECT, WORKERS, Deployment, NoEngine, deployed, left_of_project, wait_until
from tests.faults import oracle
from tests.faults.memory import filled
from tests.kafka import Written
from tests.needed import needed

pytestmark = pytest.mark.timeout(1_800)

FIRST_ANOMALY_WITHIN_S = 120.0
SEEN_WITHIN_S = 300.0
JUDGED_WITHIN_S = 600.0
FASTER = "2000"  # readings a second: a fault begins every 1.5 s
MANY = 8  # anomalies
UNJUDGED = 5_000  # readings
DEFAULTS = Settings()
READINGS, ANOMALIES = DEFAULTS.kafka.topics[0], DEFAULTS.kafka.anomalies_topic


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Everything up, or a failure that says what to install; never a skip."""
    with needed(deployed(), NoEngine) as deployment:
        yield deployment
        if request.session.testsfailed:
            print(deployment.explain())


def answered(url: str, name: str | None = None) -> int:
    """The status of what is answered; name: the host that the request says it is for, where that is not the URL's."""
    request = urllib.request.Request(url, headers={} if name is None else {"Host": name})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def opened(deployment: Deployment) -> list[Written]:
    """The anomalies on the topic, as they opened."""
    written = deployment.kafka.read_committed(ANOMALIES)
    return [one for one in written if b"telltale.anomaly.opened" in (one.record.value or b"")]


def offset_of(anomaly: Written) -> int:
    return int(json.loads(anomaly.record.value or b"")["data"]["offset"])


def asked(deployment: Deployment, query: str) -> list[float]:
    """Every value that Prometheus has for a query."""
    answer = deployment.get("PROMETHEUS_PORT", f"/api/v1/query?query={query}")
    return [float(series["value"][1]) for series in answer["data"]["result"]]


def behind(deployment: Deployment) -> int:
    """Readings that are on the topic and not yet committed."""
    with KafkaConsumer(
        bootstrap_servers=deployment.kafka.bootstrap_servers,
        group_id=DEFAULTS.kafka.group,
        enable_auto_commit=False,
        isolation_level="read_committed",
    ) as consumer:
        partitions = [TopicPartition(READINGS, number) for number in consumer.partitions_for_topic(READINGS)]
        ends = consumer.end_offsets(partitions)
        return sum(ends[partition] - (consumer.committed(partition) or 0) for partition in partitions)


def differences(deployment: Deployment, checkpoint: Checkpoint) -> oracle.Differences:
    """What was published against what a run that no one disturbed publishes for the readings on the topic."""
    readings, published = deployment.kafka.read_committed(READINGS), deployment.kafka.read_committed(ANOMALIES)
    print(f"{len(readings):,} readings on the topic, {len(published):,} messages about anomalies")
    limits = DEFAULTS.limits
    future_ms, past_ms = int(limits.max_future_s * 1000), int(limits.max_past_s * 1000)
    pipeline = Pipeline(checkpoint.detector, checkpoint.digest, future_ms, limits.max_streams, past_ms)
    found = oracle.Differences()
    for number in sorted({one.partition for one in readings}):
        partition = Partition(READINGS, number)
        topics = filled({Partition("readings", 0): [one.record for one in readings if one.partition == number]})
        fetched = topics.fetch(Partition("readings", 0), 0, len(readings))
        assert fetched is not None
        judge = oracle.Undisturbed(pipeline, oracle.new_task(pipeline, partition, limits.stream_ttl_s), step=5_000)
        judge.judge(fetched._replace(partition=partition))
        here = [oracle.published(one.record) for one in published if one.partition == number]
        found.add(oracle.compare(number, judge.finish().anomalies, here, oracle.name_of_anomaly))
    return found


def test_faults_of_the_plant_are_on_the_topic_of_anomalies_within_two_minutes(deployment: Deployment) -> None:
    wait_until(lambda: bool(opened(deployment)), FIRST_ANOMALY_WITHIN_S, "an anomaly on the topic")
    took_s = time.monotonic() - deployment.began
    print(f"the first anomaly was on the topic {took_s:.0f} s after `up`")
    assert took_s < FIRST_ANOMALY_WITHIN_S
    states = deployment.states()
    assert states["topics"] == states["trainer"] == ["exited 0"]
    wait_until(
        lambda: deployment.states()["telltale"] == ["healthy 0"], SEEN_WITHIN_S, "the service's own health check"
    )


def test_the_page_is_for_a_browser_on_this_machine_and_metrics_are_for_prometheus_alone(
    deployment: Deployment,
) -> None:
    published = deployment.compose("port", "telltale", "8080").strip()
    assert answered(f"http://{published}/") == 200
    assert answered(f"http://{published.replace('127.0.0.1', 'localhost')}/api/v1/summary") == 200
    assert answered(f"http://{published}/api/v1/summary", name="another.example") == 421
    assert answered(f"http://{published}/metrics") == 404


def test_the_image_runs_as_a_user_without_rights_and_holds_nothing_to_build_with(deployment: Deployment) -> None:
    def said(script: str) -> str:
        return deployment.compose("exec", "--no-TTY", "telltale", "sh", "-c", f"{script} 2>&1 || true").strip()

    assert said("id -u") == "10001"
    assert "Read-only file system" in said("touch /opt/own/new")
    assert said("command -v pip pip3 uv gcc cc make git") == ""
    assert "No module named pip" in said("python -m pip --version")
    assert said('python -c "from models.detection.judge import is_compiled; print(is_compiled())"') == "True"


def test_prometheus_has_the_metrics_and_alertmanager_shows_an_anomaly(deployment: Deployment) -> None:
    def has_metrics() -> bool:
        readings, anomalies = (
            asked(deployment, f"sum({name})") for name in ("telltale_readings_total", "telltale_anomalies_opened_total")
        )
        return bool(readings and anomalies and readings[0] > 0 and anomalies[0] > 0)

    def fires() -> bool:
        alerts = deployment.get("PROMETHEUS_PORT", "/api/v1/alerts")["data"]["alerts"]
        return any("Anomal" in one["labels"]["alertname"] and one["state"] == "firing" for one in alerts)

    def shows() -> bool:
        alerts = deployment.get("ALERTMANAGER_PORT", "/api/v2/alerts?active=true")
        return any("Anomal" in one["labels"]["alertname"] for one in alerts)

    wait_until(has_metrics, SEEN_WITHIN_S, "the service's metrics in Prometheus")
    wait_until(fires, SEEN_WITHIN_S, "an alert of Prometheus about anomalies")
    wait_until(shows, SEEN_WITHIN_S, "that alert in Alertmanager")


def test_killing_the_service_and_starting_more_of_it_changes_nothing_that_is_told(
    deployment: Deployment, tmp_path: Path
) -> None:
    faster = deployment.with_settings(DEMO_RATE=FASTER)
    faster.up()
    wait_until(lambda: len(opened(deployment)) > MANY, JUDGED_WITHIN_S, "many anomalies")
    deployment.compose("kill", "telltale")
    assert deployment.states()["telltale"] == ["exited 137"]
    ends = {one.partition: one.offset for one in deployment.kafka.read_committed(READINGS)}
    wait_until(lambda: behind(deployment) > UNJUDGED, SEEN_WITHIN_S, "readings that no one judges")
    faster.up("--scale", f"telltale={WORKERS}")
    wait_until(
        lambda: sum(offset_of(one) > ends[one.partition] for one in opened(deployment)) > MANY,
        JUDGED_WITHIN_S,
        "many anomalies that opened after the service was killed",
    )
    deployment.compose("stop", "producer")
    wait_until(lambda: behind(deployment) == 0, JUDGED_WITHIN_S, "all readings judged")
    deployment.compose("cp", "telltale:/checkpoints/telltale.safetensors", str(tmp_path / "plant.safetensors"))

    found = differences(deployment, load(tmp_path / "plant.safetensors"))

    assert found.none, found
    assert deployment.kafka.read_committed(DEFAULTS.kafka.dead_letters_topic) == []


def test_down_leaves_nothing_but_the_volumes_and_these_only_if_asked_to(deployment: Deployment) -> None:
    deployment.compose("down")
    assert left_of_project()["containers"] == left_of_project()["networks"] == []
    assert {one.removeprefix(f"{PROJECT}_") for one in left_of_project()["volumes"]} >= {"kafka", "checkpoints"}
    deployment.compose("down", "--volumes")
    assert left_of_project()["volumes"] == []
