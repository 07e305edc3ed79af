"""HTTP: everything that can be asked of a worker, and controls. Nothing here touches the worker itself."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Query, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from service.http import control_routes as api_controls
from service.http import incident_routes as api_incidents
from service.http import insight_routes as api_insights
from service.http import page_routes as api_page
from service.http import past_routes as api_past
from service.http import stream_routes as api_streams
from service.http.access import PROBES, Access
from service.http.answers import Head, json_of, schema
from service.http.control_list import ControlList
from service.http.earlier_events import EarlierEvents
from service.http.event_stream import Followers
from service.http.health import HealthSummary, assigned, stuck, summary, unready
from service.http.incident_list import IncidentList
from service.http.past_process import PastProcess
from service.http.server import ending_of
from service.http.turns import InTurn, Turns
from service.input.events import Event
from service.live.insights import Insight
from service.live.status import (
    RECENT_LIMIT,
    CheckpointStatus,
    Counts,
    PartitionStatus,
    ShadowStatus,
    Status,
    StatusBoard,
    WorkerProcess,
)
from service.live.streams import Tables

METRICS = "/metrics"
RENDERED_S = 0.2  # who scrapes sooner gets the same text: it takes a few milliseconds to write
DESCRIPTION = """What a Telltale service holds and has found; only controls can be given, with a token. It answers for
the partitions of its own workers: where several services share a group, ask each. Numbers that are not known are null;
scores are 1.0 at the alarm threshold. Where a token is set, it goes with every request: `Authorization: Bearer
TOKEN`."""


def app(
    board: StatusBoard,
    registry: CollectorRegistry | None,
    beat_limit_s: float,
    version: str,
    monotonic: Callable[[], float] = time.monotonic,
    insight: Insight | None = None,
    streams: Tables | None = None,
    token: str | None = None,
    names: frozenset[str] | None = None,
    turns: Turns | None = None,
    past: PastProcess | None = None,
    write_control: api_controls.WriteControl | None = None,
    incidents: IncidentList | None = None,
    controls: ControlList | None = None,
    earlier: EarlierEvents | None = None,
) -> FastAPI:
    """The HTTP interface.

    registry: None: metrics are not served here. beat_limit_s: how long the worker's loop may take to come round and
    still be alive. insight: what looks into live streams, streams: what lists them; None: nothing does. token, names:
    who may ask, see Access. turns: in which requests are answered; None: as they come. past: what judges readings again
    from their topic; None: there is no topic. write_control: writes to the topic of controls; incidents, controls:
    read from their topics; None: likewise. earlier: what was told of anomalies before this service started.
    """
    turns, earlier = turns or Turns(), earlier or EarlierEvents()
    api = FastAPI(title="Telltale", version=version, description=DESCRIPTION, docs_url=None, redoc_url=None)
    api.add_middleware(Head)
    api.add_middleware(InTurn, turns=turns, at_once={*PROBES, METRICS})
    api.add_middleware(Access, token=token, names=names, public=api_page.PATHS, signed={api_past.PICTURE})

    def state(status: Status) -> HealthSummary:
        return summary(status, version, beat_limit_s, monotonic())

    api.include_router(_health(board, beat_limit_s, monotonic))
    if registry is not None:
        api.include_router(_metrics(registry))
    api.include_router(_published(board, earlier, state, monotonic))
    if streams is not None:
        followers = Followers(board, state, ending_of(api), insight, turns)
        api.include_router(api_streams.router(streams, board, earlier, insight, followers))
    if insight is not None:
        api.include_router(api_insights.router(insight))
    if past is not None:
        api.include_router(api_past.router(past))
    api.include_router(api_incidents.router(incidents or IncidentList()))
    api.include_router(api_controls.router(controls or ControlList(), write_control, token is not None))
    api.include_router(api_page.router())
    return api


def metrics_app(registry: CollectorRegistry, version: str, names: frozenset[str] | None) -> FastAPI:
    """/metrics and nothing else, for an address of its own: anyone who can reach it may read them."""
    api = FastAPI(title="Telltale metrics", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    api.add_middleware(Head)
    api.add_middleware(Access, token=None, names=names, public=())
    api.include_router(_metrics(registry))
    return api


def _health(board: StatusBoard, beat_limit_s: float, monotonic: Callable[[], float]) -> APIRouter:
    api = APIRouter(tags=["health"])

    @api.get("/livez")
    async def livez() -> Response:
        """200 while the worker's loop comes round: otherwise only a restart helps."""
        return _verdict("alive", stuck(board.read(), beat_limit_s, monotonic()))

    @api.get("/readyz")
    async def readyz() -> Response:
        """200 when the worker judges all that it is assigned; having no partition is ready too.

        503 while the memory of a partition is being restored, with how far it is.
        """
        status = board.read()
        return _verdict("ready", unready(status, beat_limit_s, monotonic()), assigned(status))

    return api


def _metrics(registry: CollectorRegistry, monotonic: Callable[[], float] = time.monotonic) -> APIRouter:
    api = APIRouter(tags=["health"])
    rendered: dict[str, tuple[float, bytes]] = {}  # by content type: when, and what

    @api.get(METRICS)
    async def metrics(request: Request) -> Response:
        """Prometheus or OpenMetrics text, whichever is asked for."""
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # the library's answer to an Accept header whose version is no number
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        made_s, text = rendered.get(content_type, (-RENDERED_S, b""))
        if monotonic() - made_s >= RENDERED_S:
            made_s, text = rendered[content_type] = monotonic(), encode(registry)
        return Response(text, headers={"content-type": content_type})

    return api


class StatusSeen(msgspec.Struct, frozen=True):
    """What the worker last published."""

    state: str  # starting, running, stopping
    started_ms: int
    published_ms: int
    beat_age_s: float  # since the worker's loop last came round
    checkpoint: CheckpointStatus
    models: dict[str, CheckpointStatus]  # by topic: of those that another one judges
    unusable_model: str  # why the checkpoint that people promoted judges nothing; empty: nothing is wrong
    shadow: ShadowStatus | None  # a second checkpoint that is compared; null: there is none
    partitions: list[PartitionStatus]
    counts: Counts
    workers: list[WorkerProcess]  # that a supervisor looks after; empty: there is one worker and no supervisor


class Recent(msgspec.Struct, frozen=True):
    """The latest anomaly events, newest first, as they went out."""

    anomalies: list[Event]


def _published(
    board: StatusBoard,
    earlier: EarlierEvents,
    state: Callable[[Status], HealthSummary],
    monotonic: Callable[[], float],
) -> APIRouter:
    api = APIRouter(prefix="/api/v1")

    @api.get("/status", tags=["service"], responses={200: _status_schema()})
    async def status() -> Response:
        """What the worker last published: its partitions, and what it has done since it started."""
        return json_of(_status(board.read(), monotonic()))

    @api.get("/summary", tags=["service"], responses={200: schema(HealthSummary)})
    async def in_short() -> Response:
        """The same in a few figures."""
        return json_of(state(board.read()))

    @api.get("/anomalies", tags=["anomalies"], responses={200: schema(Recent)})
    async def anomalies(limit: Annotated[int, Query(ge=1, le=RECENT_LIMIT)] = RECENT_LIMIT) -> Response:
        """The latest anomaly events, newest first, as they went out; also those from before this service started."""
        return json_of({"anomalies": earlier.recent(board.read(), limit)})

    return api


def _verdict(good: str, wrong: str | None, detail: str = "") -> Response:
    answer = {"status": "failing", "reason": wrong} if wrong else {"status": good, "reason": detail or None}
    return json_of(answer, 503 if wrong else 200)


def _status(status: Status, now_s: float) -> dict[str, Any]:
    seen = StatusSeen(
        state=status.state,
        started_ms=status.started_ms,
        published_ms=status.published_ms,
        beat_age_s=round(now_s - status.beat_s, 3),
        checkpoint=status.checkpoint,
        models=dict(status.models),
        unusable_model=status.unusable_model,
        shadow=status.shadow,
        partitions=[],
        counts=status.counts,
        workers=list(status.workers),
    )
    return {**msgspec.structs.asdict(seen), "partitions": [_partition(one) for one in status.partitions]}


def _status_schema() -> dict[str, Any]:
    described = schema(StatusSeen)
    partition = described["content"]["application/json"]["schema"]["properties"]["partitions"]["items"]
    partition["properties"]["lag"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    return described


def _partition(partition: PartitionStatus) -> dict[str, Any]:
    return {**msgspec.to_builtins(partition), "lag": partition.lag}
