"""HTTP: what a stream's readings were around a time, judged again from the topic."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from textwrap import wrap
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from service.http.answers import REFUSALS, Stream, json_of, refusal
from service.http.event_stream import EventStream
from service.http.past_process import PastProcess, PastQuestion
from service.http.picture import MISSING, can_draw, picture_of, picture_of_words
from service.live.watching import NotNow, TooMuchAsked

MOST_READINGS = 5_000
USUAL_READINGS = 600
LATEST_MS = 253_402_300_799_000  # the end of the year 9999
LONGEST_TOPIC = 249  # Kafka's own limit
USUAL_IN_PICTURE, MOST_IN_PICTURE = 240, 1_000
PICTURE = "/api/v1/past.png"
WORDS_WIDTH = 100  # letters of a line in a picture
PNG: dict[str, Any] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
NO_PICTURES: dict[str, Any] = {"description": "Pillow, which draws them, is not installed."}


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

    @api.get("/past.png", response_class=Response, responses={200: PNG, **REFUSALS, 501: NO_PICTURES})
    async def picture(
        stream: Stream,
        around_ms: Annotated[int, Query(ge=0, lt=LATEST_MS, description="Event time in milliseconds.")],
        readings: Annotated[
            int, Query(ge=2, le=MOST_IN_PICTURE, description="How many, half of them before that time.")
        ] = USUAL_IN_PICTURE,
        topic: Annotated[str | None, Query(max_length=LONGEST_TOPIC)] = None,
        partition: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """The same as a picture: readings in their bands, the score, and where an anomaly was open.

        What the topic keeps no more is said in the picture, and so is why nothing can be drawn. An address that the
        service has made for a notification is signed, and needs no token.
        """
        if not can_draw():
            return json_of({"reason": MISSING}, 501)
        try:
            answers = await past.ask(PastQuestion(stream, around_ms, readings, topic, partition))
        except TooMuchAsked as error:
            return refusal(error)
        async for name, body in answers:
            if name == "past":
                return Response(await asyncio.to_thread(picture_of, body, around_ms), media_type="image/png")
            if name == "refused":
                words = wrap(msgspec.json.decode(body, type=_Refused).reason, WORDS_WIDTH)
                return Response(await asyncio.to_thread(picture_of_words, stream, words), media_type="image/png")
        return refusal(NotNow("looking back ended without an answer"))

    return api


class _Refused(msgspec.Struct):
    reason: str


async def _events(answers: AsyncIterator[tuple[str, bytes]]) -> AsyncGenerator[bytes]:
    async for name, body in answers:
        yield b"event: %s\ndata: %s\n\n" % (name.encode(), body)


def _described() -> dict[str, Any]:
    return {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
