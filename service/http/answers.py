"""How HTTP's answers are made: msgspec writes them, and describes them for OpenAPI; errors have a status each.

HEAD is GET without the body, for every path.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Query, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.data.stream_key import MAX_KEY_BYTES
from service.errors import TelltaleError
from service.input.reading_batch import StreamKey
from service.live.watching import NotNow, TooMuchAsked, UnheldStream

ASK_AGAIN_S = 2
STATUS_OF: dict[type[TelltaleError], int] = {UnheldStream: 404, TooMuchAsked: 429, NotNow: 503}
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "This worker holds no such stream."},
    429: {"description": "As many streams are watched, or answers computed, as there may be: ask again."},
    503: {"description": "Its memory is being restored, or too little is known yet: ask again."},
}
Stream = Annotated[str, Query(min_length=1, max_length=MAX_KEY_BYTES, description="The stream's key.")]


def to_key(stream: str) -> StreamKey:
    return StreamKey(stream.encode())


def answer(ask: Callable[[], msgspec.Struct]) -> Response:
    """What `ask` returns, or why it could not."""
    try:
        return json_of(ask())
    except tuple(STATUS_OF) as error:
        return refusal(error)


def refusal(error: TelltaleError) -> Response:
    refused = json_of({"reason": str(error)}, STATUS_OF[type(error)])
    if refused.status_code != 404:
        refused.headers["Retry-After"] = str(ASK_AGAIN_S)
    return refused


def json_of(content: object, status_code: int = 200) -> Response:
    """msgspec writes dataclasses as they are, and NaN and infinity as null."""
    return Response(msgspec.json.encode(content), status_code, media_type="application/json")


def schema(answer: Any) -> dict[str, Any]:
    """The OpenAPI description of a type that msgspec writes."""
    (whole,), parts = msgspec.json.schema_components([answer], ref_template="{name}")
    return {"content": {"application/json": {"schema": _inlined(whole, parts)}}}


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(schema, dict):
        whole = parts[schema["$ref"]] if "$ref" in schema else schema
        return {name: _inlined(part, parts) for name, part in whole.items()}
    return [_inlined(part, parts) for part in schema] if isinstance(schema, list) else schema


class Head:
    """Answers HEAD with what GET would answer, up to the body; the server leaves the body away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        # Kept until the answer has ended: a client that has the head may ask again at once, and whatever an answer
        # without end occupies, a listener's place for one, is free by then.
        kept: list[Message] = []

        async def keep_head(message: Message) -> None:
            if message.get("more_body"):
                raise _Answered
            kept.append(message)

        try:
            await self._app({**scope, "method": "GET"}, receive, keep_head)
        except* _Answered:
            kept.append({"type": "http.response.body"})
        for message in kept:
            await send(message)


class _Answered(Exception):
    """An answer without end needs no more than its head."""
