"""A proxy between a client and the brokers that can fall silent, break off, or keep one request back.

The client is told to go through it (`proxy_url`, HTTP CONNECT), so it also sits before the addresses that a broker
advertises.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial

END_TXN = 26


class Proxy:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._forwards = threading.Event()
        self._forwards.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._stopped = False
        self._keep_back: int | None = None
        self._deliver: Callable[[], None] | None = None
        self.kept = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Break every connection off and refuse new ones."""
        self._stopped = True
        self._forwards.set()
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            _end(one)

    def hang(self) -> None:
        """Keep connections open, but let nothing through any more."""
        self._forwards.clear()

    def resume(self) -> None:
        self._forwards.set()

    def keep_back(self, api_key: int) -> None:
        """Keep the next request of this kind, and break its connection off towards the client."""
        self.kept.clear()
        self._keep_back = api_key

    def deliver(self) -> None:
        """Let the broker have what was kept back, now, and wait for its answer."""
        assert self._deliver is not None
        self._deliver()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            part = client.recv(4096)
            if not part:
                _end(client)
                return
            request += part
        host, _, port = request.split()[1].decode().rpartition(":")
        self._forwards.wait()
        broker = socket.create_connection((host.strip("[]"), int(port)))
        with self._lock:
            self._sockets += [client, broker]
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=self._requests, args=(client, broker), daemon=True).start()
        self._responses(client, broker)

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        try:
            while True:
                size = _exactly(client, 4)
                body = _exactly(client, struct.unpack(">i", size)[0])
                self._forwards.wait()
                if struct.unpack(">h", body[:2])[0] == self._keep_back:
                    self._keep_back = None
                    self._deliver = partial(_ask, broker.getpeername(), size + body)
                    self.kept.set()  # first, as the client goes on as soon as its connection has ended
                    _end(client)
                    return
                broker.sendall(size + body)
        except OSError:
            _end(client)
            _end(broker)

    def _responses(self, client: socket.socket, broker: socket.socket) -> None:
        try:
            while part := broker.recv(65_536):
                self._forwards.wait()
                client.sendall(part)
        except OSError:
            pass
        _end(client)
        _end(broker)


def _ask(address: tuple[str, int], frame: bytes) -> None:
    with socket.create_connection(address[:2]) as broker:
        broker.sendall(frame)
        _exactly(broker, struct.unpack(">i", _exactly(broker, 4))[0])


def _exactly(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = one.recv(size - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
