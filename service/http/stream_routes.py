"""HTTP for the page and for other clients: all streams, those in alarm, and events."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from models.data.rfc3339 import rfc3339
from service.http.answers import REFUSALS, Stream, answer, refusal, schema, to_key
from service.http.earlier_events import EarlierEvents
from service.http.event_stream import EventStream, Followers, describe_events
from service.http.turns import address_of
from service.input.anomaly import Channel
from service.live.insights import Insight
from service.live.status import Status, StatusBoard
from service.live.streams import Order, StreamSeen, Tables
from service.live.watching import TooMuchAsked

MOST_SHOWN = 500  # streams in one answer
MOST_SKIPPED = 100_000_000
LONGEST_SEARCH = 256
LOOKED_AT_SOON = 12  # open alarms whose streams' readings are kept while a client shows the list


class StreamsFound(msgspec.Struct, frozen=True):
    """Some of the streams that this worker holds."""

    made_at: str  # when the streams were like this
    held: int  # all there are
    found: int  # of these, as many as match
    streams: list[StreamSeen]


class OpenAnomaly(msgspec.Struct, frozen=True):
    """An anomaly that is open."""

    stream: StreamSeen
    kind: str | None  # null: what was told of it is not kept: it is long ago, or very many are open
    channels: list[Channel] | None  # when it last became more severe; null likewise
    return_period_s: float | None  # then, how rarely the stream is as strange; null likewise


class OpenAnomalies(msgspec.Struct, frozen=True):
    """What is wrong now, the highest peak first."""

    made_at: str
    found: int  # all that are open
    anomalies: list[OpenAnomaly]


def router(
    streams: Tables, board: StatusBoard, earlier: EarlierEvents, insight: Insight | None, followers: Followers
) -> APIRouter:
    """Answered in threads, but for the events: neither the event loop nor the worker waits."""
    api = APIRouter(prefix="/api/v1")

    @api.get("/streams", tags=["streams"], responses={200: schema(StreamsFound), **REFUSALS})
    def find_streams(
        search: Annotated[str, Query(max_length=LONGEST_SEARCH, description="Part of a stream's key.")] = "",
        sort: Annotated[
            Order,
            Query(
                description="score: the strangest last reading first; silence: the last reading that is longest ago; "
                "peak: the open alarm that went highest."
            ),
        ] = Order.SCORE,
        alarm: Annotated[bool, Query(description="Only streams whose alarm is open.")] = False,
        offset: Annotated[int, Query(ge=0, le=MOST_SKIPPED, description="How many are left out first.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 50,
    ) -> Response:
        """All streams that this worker holds, sorted and searched here, page by page."""

        def ask() -> StreamsFound:
            table = streams.look()
            found = table.find(search, sort, alarm, offset, limit)
            return StreamsFound(rfc3339(table.made_ms), table.total, found.total, found.streams)

        return answer(ask)

    @api.get("/anomalies/open", tags=["anomalies"], responses={200: schema(OpenAnomalies), **REFUSALS})
    def open_anomalies(limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 100) -> Response:
        """What is wrong now, the highest peak first.

        The readings of the first streams are kept from now on, for as long as a client asks.
        """

        def ask() -> OpenAnomalies:
            table = streams.look()
            found = table.find(order=Order.PEAK, alarm=True, most=limit)
            if insight is not None:
                insight.expect([to_key(one.stream) for one in found.streams[:LOOKED_AT_SOON]])
            status = board.read()
            shown = [_open_anomaly(one, earlier, status) for one in found.streams]
            return OpenAnomalies(rfc3339(table.made_ms), found.total, shown)

        return answer(ask)

    @api.get(
        "/events", tags=["events"], response_class=StreamingResponse, responses={200: describe_events(), **REFUSALS}
    )
    async def events(
        request: Request,
        stream: Stream | None = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """Server-sent events, until the client goes away."""
        key = None if stream is None else to_key(stream)
        try:
            return EventStream(followers.stream(key, last_event_id, address_of(request.scope)))
        except TooMuchAsked as error:
            return refusal(error)

    return api


def _open_anomaly(stream: StreamSeen, earlier: EarlierEvents, status: Status) -> OpenAnomaly:
    known = earlier.details(status, stream.alarm.anomaly) if stream.alarm else None
    if known is None:
        return OpenAnomaly(stream, None, None, None)
    channels = msgspec.convert(known["channels"], list[Channel])
    return OpenAnomaly(stream, known["kind"], channels, known["return_period_s"])
