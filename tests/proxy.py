"""A proxy between clients and brokers that can fall silent, break off, slow down, or keep one request back.

Clients are told to go through it (`proxy_url`, HTTP CONNECT), so it also stands before the addresses that a broker
advertises, and a worker process needs nothing but its URL. It moves whole Kafka frames (plaintext, not TLS), on an
event loop in a thread of its own. Every method may be called from any thread; what it asks for is so when it returns.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

PRODUCE, SYNC_GROUP, END_TXN = 0, 14, 26  # API keys

CALL_WITHIN_S = 10.0
FRAMES_UNDER_WAY = 64  # a direction of a connection; more wait with the sender, as before a full TCP window
LINGER_NOT = struct.pack("ii", 1, 0)  # with it a socket that is closed tells its peer by RST


@dataclass(eq=False)
class _Connection:
    """A client's connection through to its broker, and the request that was kept back from it."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter | None = None
    task: "asyncio.Future[None]" = field(default_factory=asyncio.Future)
    kept: bytes | None = None
    delivered: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def ends(self) -> list[asyncio.StreamWriter]:
        return [self.client] if self.broker is None else [self.client, self.broker]


class Proxy:
    """Lets everything pass until it is told otherwise."""

    def __init__(self) -> None:
        self.kept = threading.Event()  # set once a request is being kept back
        self._requests_pass, self._replies_pass = asyncio.Event(), asyncio.Event()
        self._refuses = False
        self._delay_s = 0.0
        self._wanted: tuple[int, bool] | None = None  # API key of the request to keep back, whether to break off
        self._keeping: _Connection | None = None
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.resume()

    def resume(self) -> None:
        """Let everything pass again. What waited arrives, whole and in order: only `reset` loses something."""
        self._refuses, self._delay_s = False, 0.0
        self._call(self._let(requests=True, replies=True))

    def hang(self, *, requests: bool = True, replies: bool = True) -> None:
        """Let nothing through, but keep connections open: a black hole; with one of the two False, a half-open network.

        New connections are taken, and come to nothing until `resume`.
        """
        self._call(self._let(requests=not requests, replies=not replies))

    def delay(self, each_way_s: float) -> None:
        """Let every request and every reply arrive this much later than it would."""
        self._delay_s = each_way_s

    def reset(self, *, refuse: bool = False) -> None:
        """Break every connection off, with all that is under way; refuse: new ones too, until `resume`."""
        self._refuses = self._refuses or refuse
        self._call(self._reset())

    def keep_back(self, api_key: int, *, break_off: bool = True) -> None:
        """Keep the next request of this kind, and break its connection off towards the client.

        break_off=False: the connection stays, and what the client sends after that request waits behind it.
        """
        self.kept.clear()
        self._wanted = (api_key, break_off)

    def deliver(self, *, reconnect: bool = True) -> None:
        """Let the broker have what was kept back, now, and wait for its answer.

        reconnect: over a connection of its own, and the client's is broken off; else over the one that it was sent on.
        """
        self._call(self._deliver(reconnect))

    def stop(self) -> None:
        """Break every connection off and refuse new ones, for good."""
        if not self._loop.is_closed():
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _call(self, asked: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(CALL_WITHIN_S)

    async def _let(self, *, requests: bool, replies: bool) -> None:
        for passes, event in ((requests, self._requests_pass), (replies, self._replies_pass)):
            if passes:
                event.set()
            else:
                event.clear()

    async def _end(self) -> None:
        self._server.close()
        await self._reset()

    async def _reset(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            for end in connection.ends():
                _reset_when_closed(end)
            connection.task.cancel()
        await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next round

    async def _deliver(self, reconnect: bool) -> None:
        connection, self._keeping = self._keeping, None
        assert connection is not None, "no request is kept back"
        assert connection.kept is not None
        assert connection.broker is not None
        if reconnect:
            reader, broker = await asyncio.open_connection(*connection.broker.get_extra_info("peername")[:2])
            connection.task.cancel()
            broker.write(connection.kept)
            assert await _frame(reader) is not None, "the broker did not answer what was kept back"
            broker.transport.abort()
        else:
            broker = connection.broker
            broker.write(connection.kept)
            await connection.answered.wait()
            connection.delivered.set()

    # --- one connection --------------------------------------------------------------------------------------------

    def _accept(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        connection = _Connection(client)
        self._connections.add(connection)
        connection.task = self._loop.create_task(self._serve(connection, requests))

    async def _serve(self, connection: _Connection, requests: asyncio.StreamReader) -> None:
        try:
            if self._refuses:
                _reset_when_closed(connection.client)
            else:
                await self._connect(connection, requests)
        except (OSError, EOFError):
            pass  # one side has gone: the other is told below
        finally:
            self._connections.discard(connection)
            for end in connection.ends():
                end.transport.abort()

    async def _connect(self, connection: _Connection, requests: asyncio.StreamReader) -> None:
        asked = await requests.readuntil(b"\r\n\r\n")
        host, _, port = asked.split()[1].decode().rpartition(":")
        await self._requests_pass.wait()
        await self._replies_pass.wait()
        replies, connection.broker = await asyncio.open_connection(host.strip("[]"), int(port))
        for end in connection.ends():
            end.transport.set_write_buffer_limits(0)  # drain() is then: all is with the kernel, nothing left to lose
        connection.client.write(b"HTTP/1.1 200 OK\r\n\r\n")
        pumps = [
            asyncio.ensure_future(self._pump(requests, self._requests_pass, partial(self._request, connection))),
            asyncio.ensure_future(self._pump(replies, self._replies_pass, partial(self._reply, connection))),
        ]
        try:
            ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in ended:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, passes: asyncio.Event, arrived: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Hand over frame after frame, each when it is due and may pass, until the sender has gone."""
        under_way: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(FRAMES_UNDER_WAY)
        reading = asyncio.ensure_future(self._read(source, under_way))
        try:
            while True:
                due, frame = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                await passes.wait()
                if frame is None:
                    return
                await arrived(frame)
        finally:
            reading.cancel()

    async def _read(self, source: asyncio.StreamReader, under_way: "asyncio.Queue[tuple[float, bytes | None]]") -> None:
        frame: bytes | None = b""
        while frame is not None:
            frame = await _frame(source)
            await under_way.put((self._loop.time() + self._delay_s, frame))

    async def _request(self, connection: _Connection, frame: bytes) -> None:
        api_key = int.from_bytes(frame[4:6], "big")
        if self._wanted is not None and self._wanted[0] == api_key:
            (_, break_off), self._wanted = self._wanted, None
            connection.kept = frame
            self._keeping = connection
            self.kept.set()  # first, as the client goes on as soon as its connection has ended
            if break_off:
                connection.client.transport.abort()
            await connection.delivered.wait()
        else:
            assert connection.broker is not None
            connection.broker.write(frame)
            await connection.broker.drain()

    async def _reply(self, connection: _Connection, frame: bytes) -> None:
        if connection.kept is not None and connection.kept[8:12] == frame[4:8]:  # the correlation id
            connection.answered.set()
        with contextlib.suppress(ConnectionError):  # that the client has gone is for its requests' side to say
            if not connection.client.is_closing():
                connection.client.write(frame)
                await connection.client.drain()


def _reset_when_closed(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)


async def _frame(source: asyncio.StreamReader) -> bytes | None:
    """A size and as many bytes; None when the sender has gone."""
    try:
        size = await source.readexactly(4)
        return size + await source.readexactly(int.from_bytes(size, "big"))
    except (OSError, EOFError):
        return None
