"""`telltale run --workers 3`, seen from outside: one port, one group member a worker, and one that dies is back."""

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from service.kafka.topics import members_of
from tests.faults.broker import OwnBroker
from tests.integration.test_end_to_end import (
    PARTITIONS,
    Service,
    made_topics,
    plant_records,
    quick,
    service,
    wait_until,
)
from tests.integration.test_web_process import gone
from tests.kafka import Broker

__all__ = ["quick"]  # the fixture

WORKERS = 3
BACK_WITHIN_S = 4.0
STOPS_WITHIN_S = 5.0
THREE = {"TELLTALE_WORKERS": str(WORKERS)}


def pids(running: Service) -> dict[int, int]:
    """By number."""
    return {one["number"]: one["pid"] for one in running.status()["workers"]}


def ready(running: Service) -> bool:
    """All workers run, and all partitions are judged."""
    if running.get("/readyz")[0] != 200:
        return False
    return len([one for one in running.status()["partitions"] if one["stage"] == "running"]) == PARTITIONS


def answers(running: Service, path: str) -> bool:
    return running.get(path)[0] == 200


def said(running: Service, event: str) -> bool:
    return bool(running.lines(event))


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(map(gone, processes))


@pytest.mark.thorough
def test_it_answers_for_all_workers(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, plant_records(streams=6, readings=600))
    with service(kafka, quick, names, **THREE) as running:
        running.until_judged(600)
        wait_until(lambda: ready(running), "being ready")
        assert len(members_of(kafka.bootstrap_servers, names.group)) == WORKERS
        wait_until(lambda: running.metric("telltale_partitions") == PARTITIONS, "partitions")
        text = running.get("/metrics")[1]
        names_of_series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
        assert len(names_of_series) == len(set(names_of_series)), "a series that comes twice fails the whole scrape"
        for number in range(1, WORKERS + 1):
            assert f'telltale_worker_restarts_total{{worker="{number}"}} 0.0' in text
            assert f'process_resident_memory_bytes{{worker="{number}"}}' in text
        assert 'telltale_workers{state="running"} 3.0' in text
        wait_until(lambda: '"held":6' in running.get("/api/v1/streams")[1], "the streams of all workers")
        for n in range(6):
            wait_until(partial(answers, running, f"/api/v1/readings?stream=machine-{n}"), "any stream")
        assert running.get("/api/v1/readings?stream=unheard-of")[0] == 404


def test_sums_go_on_and_work_goes_on_soon_after_a_worker_is_killed(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    records = plant_records(streams=6, readings=1_800)
    kafka.produce(names.topic, records[:600])
    with service(kafka, quick, names, **THREE) as running:
        running.until_judged(600)
        wait_until(lambda: ready(running), "being ready")
        before, told = pids(running), running.metric("telltale_readings_total")
        psutil.Process(before[2]).kill()
        began = time.monotonic()
        wait_until(lambda: pids(running)[2] not in (None, before[2]), "another process")
        wait_until(lambda: ready(running), "being ready again")
        seconds = time.monotonic() - began
        print(f"judged again after {seconds:.2f} s")
        assert seconds <= BACK_WITHIN_S
        after = pids(running)
        assert {number: after[number] for number in (1, 3)} == {number: before[number] for number in (1, 3)}
        assert running.metric("telltale_readings_total") >= told
        assert 'telltale_worker_restarts_total{worker="2"} 1.0' in running.get("/metrics")[1]
        kafka.produce(names.topic, records[600:1_200])
        running.until_judged(1_200)


def test_the_process_that_answers_http_is_started_again_too(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    with service(kafka, quick, names, **THREE) as running:
        wait_until(lambda: ready(running), "being ready")
        workers = set(pids(running).values())
        (web,) = [one for one in psutil.Process(running.process.pid).children() if one.pid not in workers]
        web.kill()
        kafka.produce(names.topic, plant_records(streams=6, readings=100))
        running.until_judged(100)
        assert set(pids(running).values()) == workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_its_processes_stops_it_in_order_and_leaves_the_group(
    kafka: Broker, quick: Path, number: int
) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, plant_records(streams=6, readings=100))
    with service(kafka, quick, names, **THREE) as running:
        running.until_judged(100)
        wait_until(lambda: ready(running), "being ready")
        children = psutil.Process(running.process.pid).children()
        began = time.monotonic()
        for one in children:
            one.send_signal(number)
        running.process.signal(number)
        assert running.process.ended() == 0, running.process.err
        seconds = time.monotonic() - began
        print(f"stopped after {seconds:.2f} s")
        assert seconds <= STOPS_WITHIN_S
        assert all_gone(children)
        assert members_of(kafka.bootstrap_servers, names.group) == ()


def test_when_the_supervisor_is_killed_nothing_is_left(kafka: Broker, quick: Path) -> None:
    with service(kafka, quick, made_topics(kafka), **THREE) as running:
        wait_until(lambda: ready(running), "being ready")
        children = psutil.Process(running.process.pid).children()
        assert len(children) == WORKERS + 1
        running.process.signal(signal.SIGKILL)
        assert running.process.ended() == -signal.SIGKILL
        wait_until(partial(all_gone, children), "the end of all")


@pytest.fixture(scope="module")
def own(java: None) -> Iterator[OwnBroker]:
    with OwnBroker() as own:
        yield own


@pytest.mark.thorough
def test_it_stops_in_time_though_the_broker_hangs_and_a_second_signal_ends_it_at_once(
    own: OwnBroker, quick: Path
) -> None:
    names = made_topics(own.broker)
    own.broker.produce(names.topic, plant_records(streams=6, readings=100))
    for signals in (1, 2):
        with service(own.broker, quick, names, **THREE) as running:
            wait_until(partial(ready, running), "being ready")
            children = psutil.Process(running.process.pid).children()
            own.stop()
            try:
                began = time.monotonic()
                running.process.signal(signal.SIGTERM)
                if signals == 2:
                    wait_until(partial(said, running, "stopping"), "hearing the first")
                    running.process.signal(signal.SIGTERM)
                code = running.process.ended()
                seconds = time.monotonic() - began
            finally:
                own.resume()
            print(f"{signals} signals: ended with {code} after {seconds:.2f} s")
            assert seconds <= (STOPS_WITHIN_S if signals == 1 else 1.0)
            assert code == 128 + signal.SIGTERM if signals == 2 else code in (0, 1)
            wait_until(partial(all_gone, children), "the end of all")
