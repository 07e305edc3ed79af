"""HTTP: what a stream's readings were around a time, judged again from the topic."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from service.http.answers import REFUSALS, Stream, refusal
from service.http.event_stream import EventStream
from service.http.past_process import PastProcess, PastQuestion
from service.live.watching import TooMuchAsked

MOST_READINGS = 5_000
USUAL_READINGS = 600
LATEST_MS = 253_402_300_799_000  # the end of the year 9999
LONGEST_TOPIC = 249  # Kafka's own limit


def router(past: PastProcess) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["one stream"])

    @api.get("/past", response_class=StreamingResponse, responses={200: _described(), **REFUSALS})
    async def look_back(
        stream: Stream,
        around_ms: Annotated[
            int | None,
            Query(ge=0, lt=LATEST_MS, description="Event time in milliseconds; left out: the latest readings."),
        ] = None,
        readings: Annotated[
            int, Query(ge=2, le=MOST_READINGS, description="How many, half of them before that time.")
        ] = USUAL_READINGS,
        topic: Annotated[str | None, Query(max_length=LONGEST_TOPIC)] = None,
        partition: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """A stream's readings around a time, judged again from the topic by the code of `telltale replay`.

        Server-sent events: `progress` (what is read, read, of), and at the end `past` or `refused` with a reason. A
        client that goes away ends the work. One question is answered at a time.
        """
        around = LATEST_MS if around_ms is None else around_ms
        try:
            answers = await past.ask(PastQuestion(stream, around, readings, topic, partition))
        except TooMuchAsked as error:
            return refusal(error)
        return EventStream(_events(answers))

    return api


async def _events(answers: AsyncIterator[tuple[str, bytes]]) -> AsyncGenerator[bytes]:
    async for name, body in answers:
        yield b"event: %s\ndata: %s\n\n" % (name.encode(), body)


def _described() -> dict[str, Any]:
    return {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
