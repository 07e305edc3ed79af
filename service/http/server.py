"""A web server in a thread of its own, so that a slow reader cannot hold the worker up."""

import socket
import threading
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from service.errors import RefusedSetting
from service.http.connections import SWEEP_S, Connection

# Everything comes from here, and neither a script nor a style is in a page's own text.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Content-Security-Policy", CONTENT_POLICY),
]
BACKLOG = 128
TICK_S = 0.1  # between two calls of uvicorn's on_tick
START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0

logger = structlog.get_logger("telltale.http")


def ending_of(api: FastAPI) -> threading.Event:
    """Set when the app's server stops: answers without end have to end then."""
    if not hasattr(api.state, "ending"):
        api.state.ending = threading.Event()
    ending: threading.Event = api.state.ending
    return ending


class Server:
    """Serves the app from a thread of its own, so that a slow reader cannot hold the worker up."""

    def __init__(
        self, api: FastAPI, host: str, port: int, setting: str = "http.", brake: Callable[[], None] = lambda: None
    ) -> None:
        """port: 0 takes any that is free; `port` says which once the server has started.

        setting: what the settings of host and port begin with, for the error that says why the address cannot be had.
        brake: called now and then in the event loop; it may sleep, and all answers with it.
        """
        self.host, self.port = host, port
        self._setting = setting
        self._ending = ending_of(api)
        self._uvicorn = _Uvicorn(_config(api), brake)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    def listen(self) -> None:
        """Take the address; answers come from start() on. Raises RefusedSetting if it cannot be had."""
        self._listener = _listen(self.host, self.port, self._setting)
        self.port = self._listener.getsockname()[1]

    def leave(self) -> None:
        """Give up the address here: another process has it."""
        if self._listener is not None:
            self._listener.close()

    def start(self) -> None:
        """Listen, and return once requests are answered. Raises RefusedSetting if the address cannot be had."""
        if self._listener is None:
            self.listen()
        self._thread = threading.Thread(target=self._run, args=(self._listener,), name="http", daemon=True)
        self._thread.start()
        if not self._uvicorn.up.wait(START_WITHIN_S) or self.failed:
            raise RuntimeError(f"the HTTP server did not come up on {self.host}:{self.port} in {START_WITHIN_S:.0f} s")

    def announce(self) -> None:
        logger.info(
            "http_listening" if self._setting == "http." else "metrics_listening", host=self.host, port=self.port
        )

    @property
    def failed(self) -> bool:
        """Whether it has ended without being asked to. Then end the process too: no one can watch it any more."""
        return self._thread is not None and not self._stopping and not self._thread.is_alive()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._uvicorn.server_state.connections)

    def stop(self) -> None:
        """Answer what is under way and end. Safe to call twice."""
        self._stopping = True
        self._ending.set()
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def _run(self, listener: socket.socket) -> None:
        try:
            self._uvicorn.run(sockets=[listener])
        except (Exception, SystemExit) as error:
            logger.exception("http_failed", error=str(error))
        finally:
            listener.close()
            self._uvicorn.up.set()  # no one may wait for a server that has ended


class _Uvicorn(uvicorn.Server):
    """uvicorn, and when it is up."""

    def __init__(self, config: uvicorn.Config, brake: Callable[[], None]) -> None:
        super().__init__(config)
        self._brake = brake
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def on_tick(self, counter: int) -> bool:
        self._brake()
        if counter % round(SWEEP_S / TICK_S) == 0:
            for one in self.server_state.connections.copy():
                if isinstance(one, Connection):
                    one.look()
        return await super().on_tick(counter)


def _config(api: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # not a line for each request that is none
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=SECURITY_HEADERS,
        backlog=BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16_384,
    )


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise RefusedSetting(
            f"{setting}host: found {host!r}, expected an address of this machine ({error.strerror})"
        ) from error
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise RefusedSetting(f"{setting}port: cannot listen on {host}, port {port}: {error.strerror}") from error
