"""HTTP in a process of its own: what it takes of the worker, and that neither outlives the other."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from service.http.connections import MOST
from service.http.event_stream import MOST_FOLLOWERS
from service.http.turns import AT_ONCE, BURST_S
from tests.http_clients import clients
from tests.integration.test_end_to_end import (
    PARTITIONS,
    Service,
    made_topics,
    plant_records,
    quick,
    service,
    wait_until,
)
from tests.kafka import Broker

__all__ = ["quick"]  # the fixture

CLIENTS = 40
SHARE = 0.05  # the setting's default
WINDOWS, PROBED_S = 4, 3.0
MEMORY_BYTES = 100 * 2**20  # of its own: what it does not share with the worker
STREAMS = [f"machine-{n}" for n in range(6)]


def web_of(running: Service) -> psutil.Process:
    (web,) = psutil.Process(running.process.pid).children()
    return web


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def can_be_listened_on(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def answer_s(port: int, path: str) -> float:
    """How long a probe waits for its 200."""
    began = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as probe:
        probe.request("GET", path)
        assert probe.getresponse().status == 200, path
    return time.monotonic() - began


def longest_wait_s(port: int, seconds: float) -> float:
    ends, longest_s, pause = time.monotonic() + seconds, 0.0, threading.Event()
    while time.monotonic() < ends:
        longest_s = max(longest_s, *(answer_s(port, path) for path in ("/livez", "/readyz")))
        pause.wait(0.1)  # a probe costs too
    return longest_s


@pytest.mark.thorough
def test_it_shares_what_is_loaded_with_the_worker(kafka: Broker, quick: Path) -> None:
    with service(kafka, quick, made_topics(kafka)) as running:
        web = web_of(running)
        running.get("/page/page.js")
        assert web.memory_full_info().uss < MEMORY_BYTES
        metrics = running.get("/metrics")[1]
        (line,) = [line for line in metrics.splitlines() if line.startswith("process_resident_memory_bytes")]
        assert float(line.split()[1]) > 2 * MEMORY_BYTES, "the worker's memory is what is to be watched"


@pytest.mark.thorough
def test_forty_clients_take_the_share_that_is_stated_and_no_more(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, plant_records(streams=6, readings=1_000))
    with service(kafka, quick, names) as running:
        running.until_judged(1_000)
        web = web_of(running)
        with clients(running.port, CLIENTS, STREAMS) as asking:
            asking.go()
            wait_until(lambda: sum(asking.answers().values()) > CLIENTS, "answers")
            spent, began = web.cpu_times(), time.monotonic()
            kafka.produce(names.topic, plant_records(streams=6, readings=1_000))
            longest_s = [longest_wait_s(running.port, PROBED_S) for _ in range(WINDOWS)]
            used, seconds = web.cpu_times(), time.monotonic() - began
            wait_until(lambda: running.metric("telltale_readings_total") >= 1_960, "judging goes on")
            answers = asking.answers()
        used_s = used.user + used.system - spent.user - spent.system
        # What was saved up; and an answer that has begun is made to its end. Probes, too, cost a little.
        assert used_s < SHARE * seconds + BURST_S * (1 + AT_ONCE), f"{used_s:.2f} s of {seconds:.1f} s"
        assert min(longest_s) < 1, longest_s  # the least: on a busy machine anything may wait once
        assert set(answers) <= {200, 404, 429, 503}  # 404: a stream of which nothing has come yet
        assert answers[200]
        assert running.process.running


@pytest.mark.thorough
def test_half_open_idle_and_listening_clients_keep_no_probe_out(kafka: Broker, quick: Path) -> None:
    half = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: "
    listen = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with service(kafka, quick, made_topics(kafka)) as running, ExitStack() as open_ones:
        wait_until(lambda: running.get("/readyz")[0] == 200, "being ready")
        for sent in (half, b"", listen):
            for _ in range(MOST):
                client = open_ones.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10))
                client.sendall(sent)
            for path in ("/livez", "/readyz", "/metrics"):
                assert answer_s(running.port, path) < 1
        assert psutil.Process(web_of(running).pid).num_fds() < MOST + MOST_FOLLOWERS + 64


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_worker_that_is_killed_takes_it_along(kafka: Broker, quick: Path, number: int) -> None:
    names = made_topics(kafka)
    with service(kafka, quick, names) as running:
        web, port = web_of(running), running.port
        running.process.signal(number)
        assert running.process.ended() == -number
        wait_until(lambda: gone(web), "the end of its process")
        assert can_be_listened_on(port)


@pytest.mark.thorough
def test_without_it_the_worker_says_so_and_ends(kafka: Broker, quick: Path) -> None:
    with service(kafka, quick, made_topics(kafka)) as running:
        wait_until(lambda: running.get("/readyz")[0] == 200, "being ready")
        web_of(running).kill()
        assert running.process.ended() == 1
        assert "the HTTP server ended by itself" in running.process.err[-1]
        assert can_be_listened_on(running.port)


@pytest.mark.thorough
def test_a_stopped_worker_is_seen_from_outside_and_goes_on(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    with service(kafka, quick, names) as running:
        wait_until(lambda: running.get("/readyz")[0] == 200, "being ready")
        running.process.signal(signal.SIGSTOP)
        wait_until(lambda: running.status()["beat_age_s"] > 3, "a beat that is long ago")
        assert answer_s(running.port, "/livez") < 1  # only a minute's silence is the end
        assert running.get("/api/v1/streams")[0] == 503
        running.process.signal(signal.SIGCONT)
        wait_until(lambda: running.status()["beat_age_s"] < 2, "beats")
        kafka.produce(names.topic, plant_records(streams=6, readings=200))
        running.until_judged(200)


def test_a_signal_to_all_of_a_terminals_processes_stops_in_order(kafka: Broker, quick: Path) -> None:
    with service(kafka, quick, made_topics(kafka)) as running:
        wait_until(lambda: running.get("/readyz")[0] == 200, "being ready")
        web = web_of(running)
        for _ in range(2):
            web.send_signal(signal.SIGINT)
            web.send_signal(signal.SIGTERM)
        assert running.get("/livez")[0] == 200
        running.process.signal(signal.SIGINT)
        assert running.process.ended() == 0, running.process.err
        assert gone(web)
        assert can_be_listened_on(running.port)
        assert running.lines("stopped")


@pytest.mark.thorough
def test_it_answers_what_the_worker_knows(kafka: Broker, quick: Path) -> None:
    """Across the processes: the status, the table of streams, a stream's readings, its explanation, the histograms."""
    names = made_topics(kafka)
    kafka.produce(names.topic, plant_records(streams=6, readings=600))
    with service(kafka, quick, names) as running:
        running.until_judged(600)

        def holds(path: str, *texts: str) -> Callable[[], bool]:
            def asked() -> bool:
                code, body = running.get(path)
                return code == 200 and all(text in body for text in texts)

            return asked

        wait_until(holds("/api/v1/streams", '"held":6', "machine-5"), "the table")
        wait_until(holds("/api/v1/readings?stream=machine-1", '"reset":true'), "a stream")
        kafka.produce(names.topic, plant_records(streams=6, readings=1_200)[600:])
        wait_until(holds("/api/v1/explanation?stream=machine-1", '"fate":"judged"'), "an explanation")
        assert running.metric("telltale_verdict_latency_seconds_count") > 0
        assert running.status()["partitions"][PARTITIONS - 1]["streams"] == 3
        assert os.getpid() != web_of(running).pid
