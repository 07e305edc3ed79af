"""`telltale remote-write` from a real broker to a real Prometheus: every sample is there, through kills."""

import signal
import time
from pathlib import Path

import pytest

from service.log.port import Record
from tests.commands import Process
from tests.integration.test_end_to_end import wait_until
from tests.integration.test_incidents import Stage
from tests.kafka import Broker
from tests.prometheus import Served, taking_prometheus
from tests.service.notify.scored import score_record

STREAMS, READINGS = ("line-1/pump ü", "line-2/fan"), 600  # of each, a second apart
SERIES = ("score", "observed", "expected", "lower", "upper")


class Feed(Stage):
    """The command, seen from outside."""

    def __init__(self, broker: Broker, topic: str, prometheus: Served) -> None:
        self.process = Process(
            *("remote-write", "--to", f"{prometheus.url}/api/v1/write", "--bootstrap-servers"),
            *(broker.bootstrap_servers, "--log-format", "json", "--metrics-port", 0, "--group", f"{topic}.group"),
            TELLTALE_SCORES__TOPIC=topic,
            TELLTALE_KAFKA__SESSION_TIMEOUT_MS="6000",
            TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS="6000",
        )

    def until_it_has_partitions(self) -> None:
        wait_until(lambda: self.metrics()['telltale_remote_write_stage{state="running"}'] == 1, "partitions")

    def until_sent(self, readings: int) -> None:
        wait_until(lambda: self.metrics()["telltale_remote_write_readings_total"] >= readings, "what is sent")


def value_of(series: str, stream: int, reading: int) -> float:
    return SERIES.index(series) * 1_000 + stream * 10_000 + reading + 0.25


def produce(broker: Broker, topic: str, began_ms: int, first: int, last: int) -> None:
    """Each stream's readings in a partition of its own."""
    rows = []
    for n in range(first, last):
        for stream, name in enumerate(STREAMS):
            channels = {f"{one}_flow": value_of(one, stream, n) for one in SERIES[1:]}
            value = score_record(name, began_ms + 1_000 * n, value_of("score", stream, n), **channels)
            rows.append((stream, Record(name.encode(), value)))
    broker.produce(topic, rows)


def found(prometheus: Served, series: str, began_ms: int) -> dict[str, dict[int, float]]:
    """By stream each sample's value, by the number of its reading."""
    answer = prometheus.samples(f"telltale_reading_{series}[1h]")
    return {
        one["metric"]["stream"]: {round(at * 1_000 - began_ms) // 1_000: float(value) for at, value in one["values"]}
        for one in answer
    }


def all_are_in(prometheus: Served, began_ms: int) -> bool:
    """And nothing else is."""
    return all(
        found(prometheus, series, began_ms)
        == {name: {n: value_of(series, stream, n) for n in range(READINGS)} for stream, name in enumerate(STREAMS)}
        for series in SERIES
    )


@pytest.mark.thorough
@pytest.mark.programs  # Prometheus
@pytest.mark.parametrize("out_of_order", [None, "1h"])
def test_every_sample_is_in_prometheus_however_often_the_process_is_killed(
    kafka: Broker, tmp_path: Path, out_of_order: str | None
) -> None:
    topic, began_ms = kafka.create_topic(2, "scores"), (round(time.time()) - READINGS) * 1_000
    with taking_prometheus(tmp_path, out_of_order) as prometheus:
        for life in range(4):
            feed = Feed(kafka, topic, prometheus)
            try:
                feed.until_it_has_partitions()
                first = life * READINGS // 4
                produce(kafka, topic, began_ms, first, first + READINGS // 4)
                if life < 3:
                    feed.until_sent(1)
                    feed.process.signal(signal.SIGKILL)
                else:
                    wait_until(lambda: all_are_in(prometheus, began_ms), "all samples")
                    feed.process.signal(signal.SIGTERM)
                    assert feed.process.ended() == 0
            finally:
                feed.process.kill()


@pytest.mark.programs  # Prometheus
def test_samples_that_prometheus_refuses_cost_no_others(kafka: Broker, tmp_path: Path) -> None:
    topic, now_ms = kafka.create_topic(1, "scores"), (round(time.time()) - 60) * 1_000
    with taking_prometheus(tmp_path, None) as prometheus:
        feed = Feed(kafka, topic, prometheus)
        try:
            feed.until_it_has_partitions()
            kafka.produce(topic, [(0, Record(b"new", score_record("new", now_ms)))])
            feed.until_sent(1)
            days_ago_ms = now_ms - 3 * 86_400_000
            records = [score_record("old", days_ago_ms + 1_000 * n) for n in range(3)]
            records += [score_record("new", now_ms + 1_000 * n) for n in range(1, 21)]
            kafka.produce(topic, [(0, Record(b"key", one)) for one in records])
            feed.until_sent(21)
            assert feed.metrics()["telltale_remote_write_refused_total"] == 3
            refused = feed.until("remote_write_refused")
            assert "answered 400" in refused["reason"]
        finally:
            feed.process.kill()
        (one,) = prometheus.samples("telltale_reading_score[1h] @ end()")
        assert (one["metric"]["stream"], len(one["values"])) == ("new", 21)
