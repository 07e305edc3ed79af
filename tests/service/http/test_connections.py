"""Clients that ask slowly, do not read, or are many, on real sockets."""

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest
from fastapi import Response
from prometheus_client import CollectorRegistry

from service.http import connections
from service.http.app import app
from service.http.server import Server
from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState

WITHIN_S = 30.0
HALF = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: "
WHOLE = HALF + b"a\r\n\r\n"
MEGABYTES = bytes(32_000_000)  # more than lies between two ends of a connection


@pytest.fixture
def server() -> Iterator[Server]:
    board = StatusBoard(Status(WorkerState.RUNNING, 1_000, 2_000, 0.0, CheckpointStatus("/x", "abc", ("f0",))))
    api = app(
        board, CollectorRegistry(), 1e9, "0.1.0", monotonic=lambda: 0.0
    )  # the worker beats now, however long it takes
    api.get("/large")(lambda: Response(MEGABYTES))
    server = Server(api, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASKS_WITHIN_S", 1.0)
    monkeypatch.setattr(connections, "READS_WITHIN_S", 1.0)


def connect(server: Server, sent: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
    """address: where the client seems to be."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_S, source_address=(address, 0))
    client.sendall(sent)
    return client


def ask(client: HTTPConnection, path: str) -> int:
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    return answer.status


def status_of(client: socket.socket) -> str:
    """The status of the answer that comes, or `closed`."""
    try:
        return client.recv(1_000)[9:12].decode() or "closed"
    except ConnectionError:
        return "closed"


def until_closed(client: socket.socket, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Seconds until the server has closed it."""
    began = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() < began + WITHIN_S:
        try:
            meanwhile()
            if not client.recv(1_000):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except ConnectionError:
            return time.monotonic() - began
    raise AssertionError("it is still open")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "begun", [b"", HALF, WHOLE, WHOLE + HALF, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_client_that_does_not_ask_is_closed(server: Server, begun: bytes) -> None:
    with connect(server, begun) as client:
        assert until_closed(client) < WITHIN_S


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begun", [HALF, WHOLE + HALF, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"])
def test_a_byte_now_and_then_buys_no_time(server: Server, begun: bytes) -> None:
    with connect(server, begun) as client:
        assert until_closed(client, meanwhile=lambda: client.sendall(b"a")) < WITHIN_S


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_client_that_asks_again_and_again_keeps_its_connection(server: Server) -> None:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)) as client:
        client.connect()
        kept = client.sock
        began = time.monotonic()
        while time.monotonic() < began + 3 * connections.ASKS_WITHIN_S:
            assert ask(client, "/livez") == 200
        assert client.sock is kept


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_read_is_closed(server: Server) -> None:
    with connect(server, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        received = len(client.recv(1))
        began = time.monotonic()
        while server.connections:
            assert time.monotonic() < began + WITHIN_S
        while part := client.recv(1_000_000):
            received += len(part)
        assert received < len(MEGABYTES)


@pytest.mark.alone
@pytest.mark.slow
def test_idle_connections_beyond_all_places_let_a_probe_through(server: Server) -> None:
    with ExitStack() as open_ones:
        for n in range(2 * connections.MOST):
            open_ones.enter_context(connect(server, HALF if n % 2 else b""))
        for path in ("/livez", "/readyz", "/metrics"):
            began = time.monotonic()
            with closing(HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)) as probe:
                assert ask(probe, path) == 200
            assert time.monotonic() - began < 1
        assert server.connections <= connections.MOST


@pytest.mark.slow
def test_clients_that_do_not_read_beyond_all_places_let_a_probe_through(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 8)
    with ExitStack() as open_ones:
        for _ in range(2 * connections.MOST):
            open_ones.enter_context(connect(server, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            with connect(server, WHOLE) as probe:
                assert status_of(probe) == "200"
        assert server.connections <= connections.MOST


def test_anyone_who_holds_most_makes_room_and_others_keep_theirs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 8)
    with ExitStack() as open_ones:
        one = open_ones.enter_context(connect(server, address="127.0.0.2"))
        for _ in range(3 * connections.MOST):
            open_ones.enter_context(connect(server))
        one.sendall(WHOLE)
        assert status_of(one) == "200"


def test_a_kept_connection_answers_as_fast_as_a_fresh_one(server: Server) -> None:
    """An answer in two packets, of which the second waits for the first to be acknowledged, takes 40 ms."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)) as client:
        took_ms = []
        for _ in range(30):
            began = time.perf_counter()
            assert ask(client, "/livez") == 200
            took_ms.append(1000 * (time.perf_counter() - began))
    assert statistics.median(took_ms) < 20
