"""The proxy before a server that speaks in Kafka's frames and answers each request with its own bytes."""

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.proxy import END_TXN, PRODUCE, Proxy

SOON_S = 0.1  # how long a test looks at a silence
WITHIN_S = 10.0


class Echo(socketserver.ThreadingTCPServer):
    """Answers a request with its correlation id and what follows, and keeps all it got."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.heard: list[bytes] = []
        self.peers: list[object] = []
        self.may_answer, self.hang_up = threading.Event(), threading.Event()
        self.may_answer.set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Echoing(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        self.server.peers.append(self.client_address)
        with contextlib.suppress(OSError):
            while (frame := read_frame(self.request)) and not self.server.hang_up.is_set():
                self.server.heard.append(frame[8:])
                self.server.may_answer.wait()
                self.request.sendall(struct.pack(">i", len(frame) - 4) + frame[4:])


def read_frame(one: socket.socket) -> bytes:
    size = read(one, 4)
    return read(one, struct.unpack(">i", size)[0]) if size else b""


def read(one: socket.socket, size: int) -> bytes:
    """Empty when the other side has gone."""
    data = b""
    while len(data) < size:
        part = one.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


class Client:
    """One connection through the proxy; numbers its requests from 1."""

    def __init__(self, proxy: Proxy, server: Echo) -> None:
        self.proxy_port, self.server = int(proxy.url.rpartition(":")[2]), server
        self.sent = 0
        self.socket = socket.create_connection(("127.0.0.1", self.proxy_port), timeout=WITHIN_S)
        self.socket.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % server.server_address[1])

    def connected(self) -> "Client":
        assert read(self.socket, 19) == b"HTTP/1.1 200 OK\r\n\r\n"
        return self

    def send(self, payload: bytes, api_key: int = PRODUCE) -> None:
        self.sent += 1
        body = struct.pack(">hhi", api_key, 3, self.sent) + payload
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def answer(self, within_s: float = WITHIN_S) -> tuple[int, bytes]:
        """(number of the request, payload); TimeoutError when none comes, (0, b"") when the proxy has ended."""
        self.socket.settimeout(within_s)
        frame = read_frame(self.socket)
        return (struct.unpack(">i", frame[:4])[0], frame[4:]) if frame else (0, b"")

    def hears_nothing(self) -> bool:
        try:
            self.answer(SOON_S)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def server() -> Iterator[Echo]:
    with Echo() as server:
        yield server
        server.shutdown()


@pytest.fixture
def new_client(proxy: Proxy, server: Echo) -> Iterator[Callable[[], Client]]:
    with contextlib.ExitStack() as closing:

        def new_client() -> Client:
            client = Client(proxy, server)
            closing.callback(client.socket.close)
            return client

        yield new_client


@pytest.fixture
def client(new_client: Callable[[], Client]) -> Client:
    return new_client().connected()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {WITHIN_S} s"
        time.sleep(0.001)


def test_frames_of_any_size_pass_both_ways(client: Client) -> None:
    payloads = [b"", b"x", b"y" * 65_536, b"z" * 3_000_000]
    for payload in payloads:
        client.send(payload)
    assert [client.answer() for _ in payloads] == list(enumerate(payloads, 1))


def test_a_client_that_leaves_is_gone_for_the_server_and_the_other_way_round(
    proxy: Proxy, server: Echo, client: Client, new_client: Callable[[], Client]
) -> None:
    client.socket.close()
    wait_until(lambda: not proxy._connections)
    other = new_client().connected()
    server.hang_up.set()
    other.send(b"the server hangs up on it")
    assert other.answer() == (0, b"")


def test_nothing_is_lost_in_a_black_hole(proxy: Proxy, server: Echo, client: Client) -> None:
    client.send(b"before")
    assert client.answer() == (1, b"before")
    proxy.hang()
    payloads = [b"%d" % i * 1_000 for i in range(100)]
    for payload in payloads:
        client.send(payload)
    assert client.hears_nothing()
    assert server.heard == [b"before"]
    proxy.resume()
    assert [client.answer() for _ in payloads] == list(enumerate(payloads, 2))


def test_what_a_client_sent_into_a_black_hole_arrives_after_the_client_has_left(
    proxy: Proxy, server: Echo, client: Client
) -> None:
    proxy.hang()
    client.send(b"late")
    client.socket.close()
    proxy.resume()
    wait_until(lambda: server.heard == [b"late"])


def test_a_new_connection_waits_for_the_end_of_a_black_hole(proxy: Proxy, new_client: Callable[[], Client]) -> None:
    proxy.hang()
    client = new_client()
    assert client.hears_nothing()
    proxy.resume()
    client.connected().send(b"through")
    assert client.answer() == (1, b"through")


def test_in_a_half_open_network_requests_pass_and_replies_wait(proxy: Proxy, server: Echo, client: Client) -> None:
    proxy.hang(requests=False)
    client.send(b"heard")
    wait_until(lambda: server.heard == [b"heard"])
    assert client.hears_nothing()
    proxy.resume()
    assert client.answer() == (1, b"heard")


def test_in_a_half_open_network_replies_pass_and_requests_wait(proxy: Proxy, server: Echo, client: Client) -> None:
    server.may_answer.clear()
    client.send(b"heard")
    wait_until(lambda: server.heard == [b"heard"])
    proxy.hang(replies=False)
    client.send(b"waits")
    server.may_answer.set()
    assert client.answer() == (1, b"heard")
    assert client.hears_nothing()
    assert server.heard == [b"heard"]
    proxy.resume()
    assert client.answer() == (2, b"waits")


def test_a_reset_breaks_every_connection_and_lets_new_ones_in(
    proxy: Proxy, client: Client, new_client: Callable[[], Client]
) -> None:
    waiting = new_client().connected()
    proxy.hang()
    waiting.send(b"lost")
    proxy.reset()
    for one in (client, waiting):
        with pytest.raises(ConnectionResetError):
            one.answer()
    proxy.resume()
    again = new_client().connected()
    again.send(b"again")
    assert again.answer() == (1, b"again")


def test_connections_are_refused_until_the_proxy_resumes(
    proxy: Proxy, client: Client, new_client: Callable[[], Client]
) -> None:
    proxy.reset(refuse=True)
    with pytest.raises(ConnectionResetError):
        client.answer()
    with pytest.raises(ConnectionResetError):
        new_client().answer()
    proxy.resume()
    new_client().connected()


def round_trip_s(client: Client) -> float:
    start = time.monotonic()
    client.send(b"at once")
    client.answer()
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.alone
def test_a_delay_is_added_each_way_and_does_not_add_up(proxy: Proxy, client: Client) -> None:
    proxy.delay(0.1)
    start = time.monotonic()
    for _ in range(20):
        client.send(b"late")
    answers = [client.answer() for _ in range(20)]
    took_s = time.monotonic() - start
    assert answers == [(number, b"late") for number in range(1, 21)]
    assert 0.2 <= took_s < 2.0  # one after another, they would take 4 s
    proxy.resume()
    assert min(round_trip_s(client) for _ in range(20)) < 0.1


@pytest.mark.parametrize("reconnect", [True, False])
def test_a_request_is_kept_back_from_a_client_that_sees_its_connection_end(
    proxy: Proxy, server: Echo, client: Client, new_client: Callable[[], Client], reconnect: bool
) -> None:
    proxy.keep_back(END_TXN)
    client.send(b"other kinds pass")
    assert client.answer() == (1, b"other kinds pass")
    client.send(b"kept", END_TXN)
    assert client.answer() == (0, b"")
    assert proxy.kept.is_set()
    again = new_client().connected()
    again.send(b"the next one passes", END_TXN)
    assert again.answer() == (1, b"the next one passes")
    assert b"kept" not in server.heard
    proxy.deliver(reconnect=reconnect)
    assert server.heard[-1] == b"kept"
    assert len(server.peers) == (3 if reconnect else 2)


def test_a_request_is_kept_back_from_a_client_that_sees_nothing(proxy: Proxy, server: Echo, client: Client) -> None:
    proxy.keep_back(END_TXN, break_off=False)
    client.send(b"kept", END_TXN)
    client.send(b"behind it")
    assert proxy.kept.wait(WITHIN_S)
    assert client.hears_nothing()
    assert server.heard == []
    proxy.deliver(reconnect=False)
    assert [client.answer(), client.answer()] == [(1, b"kept"), (2, b"behind it")]


def test_a_request_is_delivered_though_its_client_has_given_up(proxy: Proxy, server: Echo, client: Client) -> None:
    proxy.keep_back(END_TXN, break_off=False)
    client.send(b"kept", END_TXN)
    assert proxy.kept.wait(WITHIN_S)
    client.socket.close()
    proxy.deliver(reconnect=False)
    assert server.heard == [b"kept"]
    wait_until(lambda: not proxy._connections)


def test_a_stopped_proxy_takes_no_one(proxy: Proxy, client: Client, new_client: Callable[[], Client]) -> None:
    proxy.hang()
    client.send(b"lost")
    proxy.stop()
    proxy.stop()
    with pytest.raises(ConnectionResetError):
        client.answer()
    with pytest.raises(ConnectionRefusedError):
        new_client()
