"""HTTP: health, metrics and what the worker last published. Read only; nothing here touches the worker itself."""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Query, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from models.forecasting import MOST_STEPS
from service.errors import RefusedSetting, TelltaleError
from service.insights import ExplanationSeen, ForecastSeen, Insight
from service.status import RECENT_LIMIT, PartitionStatus, State, Status, StatusBoard
from service.watching import KEPT_READINGS, NotNow, TooMuchAsked, UnheldStream
from service.wire import MAX_KEY_BYTES, StreamKey

SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
MAX_CONNECTIONS = 64
START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
NAMED = 8  # partitions in one answer
ASK_AGAIN_S = 2
MAX_INTERVAL_S = 366 * 86_400.0
STATUS_OF: dict[type[TelltaleError], int] = {UnheldStream: 404, TooMuchAsked: 429, NotNow: 503}

log = structlog.get_logger("telltale.http")


def app(
    board: StatusBoard,
    registry: CollectorRegistry,
    beat_limit_s: float,
    version: str,
    monotonic: Callable[[], float] = time.monotonic,
    insight: Insight | None = None,
) -> FastAPI:
    """The HTTP interface.

    beat_limit_s: how long the worker's loop may take to come round and still be alive. insight: what looks into live
    streams; None: nothing does.
    """
    api = FastAPI(title="Telltale", version=version, docs_url=None, redoc_url=None)

    @api.get("/")
    async def index() -> Response:
        """What is to be had here."""
        paths = ["/livez", "/readyz", "/metrics", "/api/v1/status", "/api/v1/anomalies", "/openapi.json"]
        return _json({"service": "telltale", "version": version, "paths": paths})

    @api.get("/livez")
    async def livez() -> Response:
        """200 while the worker's loop comes round: otherwise only a restart helps."""
        stuck = _stuck(board.read(), beat_limit_s, monotonic())
        return _health("alive", stuck)

    @api.get("/readyz")
    async def readyz() -> Response:
        """200 when the worker judges all that it is assigned; having no partition is ready too.

        503 while the memory of a partition is being restored, with how far it is.
        """
        status = board.read()
        return _health(
            "ready",
            _stuck(status, beat_limit_s, monotonic()) or _not_running(status) or _recovering(status),
            _assigned(status),
        )

    @api.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Prometheus or OpenMetrics text, whichever is asked for."""
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # the library's answer to an Accept header whose version is no number
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return Response(encode(registry), headers={"content-type": content_type})

    @api.get("/api/v1/status")
    async def status() -> Response:
        """What the worker last published."""
        return _json(_status(board.read(), monotonic()))

    @api.get("/api/v1/anomalies")
    async def anomalies(limit: Annotated[int, Query(ge=1, le=RECENT_LIMIT)] = RECENT_LIMIT) -> Response:
        """The latest anomaly events, newest first, as they went out."""
        return _json({"anomalies": board.read().recent[:limit]})

    if insight is not None:
        api.include_router(_insights(insight))
    return api


Stream = Annotated[str, Query(min_length=1, max_length=MAX_KEY_BYTES, description="The stream's key.")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "This worker holds no such stream."},
    429: {"description": "As many streams are watched, or answers computed, as there may be: ask again."},
    503: {"description": "Its memory is being restored, or too little is known yet: ask again."},
}


def _insights(insight: Insight) -> APIRouter:
    """Questions about live streams. They are answered in threads: neither the event loop nor the worker waits."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/explanation", responses={200: _schema(ExplanationSeen), **REFUSALS})
    def explanation(
        stream: Stream,
        readings: Annotated[int, Query(ge=1, le=KEPT_READINGS, description="At most so many, the latest.")] = 128,
        units: Annotated[bool, Query(description="Every unit's activation too, not only their quantiles.")] = False,
    ) -> Response:
        """What a stream's memory did at its latest readings: gates, cell state, and which channels drove an alarm.

        A stream is watched from when it is first asked for until a minute after it was last asked for; its readings
        are kept meanwhile, and only those can be explained. A diagnostic, not a cause.
        """
        return _answer(lambda: insight.explanation(StreamKey(stream.encode()), readings, units))

    @router.get("/forecast", responses={200: _schema(ForecastSeen), **REFUSALS})
    def forecast(
        stream: Stream,
        steps: Annotated[int, Query(ge=1, le=MOST_STEPS, description="Readings ahead.")] = 48,
        interval_s: Annotated[
            float | None,
            Query(gt=0, le=MAX_INTERVAL_S, description="Between two readings; else the median of those kept."),
        ] = None,
    ) -> Response:
        """A stream's next readings, with the bands they will be in.

        Bands come from the readings kept since the stream is watched: with a few hundred they are tried out on them,
        with fewer they are wider guesses.
        """
        return _answer(lambda: insight.forecast(StreamKey(stream.encode()), steps, interval_s))

    return router


def _schema(answer: type[msgspec.Struct]) -> dict[str, Any]:
    """The OpenAPI description of an answer that msgspec writes."""
    (schema,), parts = msgspec.json.schema_components([answer], ref_template="{name}")
    return {"content": {"application/json": {"schema": _inlined(schema, parts)}}}


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(schema, dict):
        whole = parts[schema["$ref"]] if "$ref" in schema else schema
        return {name: _inlined(part, parts) for name, part in whole.items()}
    return [_inlined(part, parts) for part in schema] if isinstance(schema, list) else schema


def _answer(ask: Callable[[], msgspec.Struct]) -> Response:
    try:
        return _json(ask())
    except tuple(STATUS_OF) as error:
        refused = _json({"reason": str(error)}, STATUS_OF[type(error)])
        if refused.status_code != 404:
            refused.headers["Retry-After"] = str(ASK_AGAIN_S)
        return refused


class Server:
    """Serves the app from a thread of its own, so that a slow reader cannot hold the worker up."""

    def __init__(self, api: FastAPI, host: str, port: int) -> None:
        """port: 0 takes any that is free; `port` tells which once the server has started."""
        self.host, self.port = host, port
        self._uvicorn = _Uvicorn(_config(api))
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Listen, and return once requests are answered. Raises RefusedSetting if the address cannot be had."""
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener,), name="http", daemon=True)
        self._thread.start()
        if not self._uvicorn.up.wait(START_WITHIN_S) or self.failed:
            raise RuntimeError(f"the HTTP server did not come up on {self.host}:{self.port} in {START_WITHIN_S:.0f} s")
        log.info("http_listening", host=self.host, port=self.port)

    @property
    def failed(self) -> bool:
        """Whether it has ended without being told to. Then end the process too: nobody can watch it any more."""
        return self._thread is not None and not self._stopping and not self._thread.is_alive()

    def stop(self) -> None:
        """Answer what is under way and end. Safe to call twice."""
        self._stopping = True
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def _run(self, listener: socket.socket) -> None:
        try:
            self._uvicorn.run(sockets=[listener])
        except (Exception, SystemExit) as error:
            log.exception("http_failed", error=str(error))
        finally:
            listener.close()
            self._uvicorn.up.set()  # nobody shall wait for a server that has ended


class _Uvicorn(uvicorn.Server):
    """uvicorn, and when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _config(api: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=SECURITY_HEADERS,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16_384,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise RefusedSetting(
            f"http.host: found {host!r}, expected an address of this machine ({error.strerror})"
        ) from error
    try:
        return socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise RefusedSetting(f"http.port: cannot listen on {host}, port {port}: {error.strerror}") from error


def _stuck(status: Status, beat_limit_s: float, now_s: float) -> str | None:
    silent_s = now_s - status.beat_s
    return f"the worker's loop has not come round for {silent_s:.1f} s" if silent_s > beat_limit_s else None


def _not_running(status: Status) -> str | None:
    return None if status.state is State.RUNNING else f"the worker is {status.state}"


def _recovering(status: Status) -> str | None:
    """Which partitions do not have their memory back yet."""
    busy = [p for p in status.partitions if p.stage != "running"]
    if not busy:
        return None
    some = ", ".join(f"{p.topic}-{p.number} {p.stage} {100 * p.progress:.0f} %" for p in busy[:NAMED])
    more = f" and {len(busy) - NAMED} more" if len(busy) > NAMED else ""
    return f"{len(busy)} of {len(status.partitions)} partitions: {some}{more}"


def _assigned(status: Status) -> str:
    count = len(status.partitions)
    return f"{count} partitions" if count else "no partition is assigned: other workers have them all"


def _health(good: str, wrong: str | None, detail: str = "") -> Response:
    answer = {"status": "failing", "reason": wrong} if wrong else {"status": good, "reason": detail or None}
    return _json(answer, 503 if wrong else 200)


def _status(status: Status, now_s: float) -> dict[str, Any]:
    return {
        "state": status.state,
        "started_ms": status.started_ms,
        "published_ms": status.published_ms,
        "beat_age_s": round(now_s - status.beat_s, 3),
        "checkpoint": status.checkpoint,
        "partitions": [_partition(partition) for partition in status.partitions],
        "counts": status.counts,
    }


def _partition(partition: PartitionStatus) -> dict[str, Any]:
    return {**msgspec.to_builtins(partition), "lag": partition.lag}


def _json(content: object, status_code: int = 200) -> Response:
    """msgspec writes dataclasses as they are, and NaN and infinity as null."""
    return Response(msgspec.json.encode(content), status_code, media_type="application/json")
