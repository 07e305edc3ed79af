"""HEAD: what GET would answer, without its body."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from service.http.answers import Head
from service.http.event_stream import EventStream


def test_the_head_of_an_endless_answer_comes_after_its_listener_has_left() -> None:
    happened: list[str] = []

    async def events() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"data: 1\n\n"
        finally:
            happened.append("left")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        happened.append(message["type"])

    scope = {"type": "http", "method": "HEAD", "asgi": {"spec_version": "2.3"}}
    asyncio.run(Head(EventStream(events()))(scope, receive, send))
    assert happened == ["left", "http.response.start", "http.response.body"]
