"""Server-sent events: what is new, for as long as a client listens and the service runs.

summary: the service's own state, every second, which is also the sign of life. anomaly: one opened, became more severe
or closed; its id lets a listener that was cut off go on behind it. gap: more happened since than is still known, so
lists have to be asked for again. readings: of the stream that was asked for, first all that are kept, then what is new.
stream: that stream cannot be shown, and why. Nothing is queued for anybody: every listener looks at what the worker
published, from where it last was, so one that is slow misses what passed meanwhile and holds no one up.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.errors import TelltaleError
from service.http.turns import Turns
from service.input.reading_batch import StreamKey
from service.live.insights import Insight
from service.live.status import Status, StatusBoard
from service.live.watching import NotNow, TooMuchAsked, UnheldStream

LOOK_S = 0.25
SUMMARY_S = 1.0
READINGS_S = 0.5
TAKEN_WITHIN_S = 20.0
MOST_FOLLOWERS = 32


class Followers:
    """Who listens, in the event loop of one app."""

    def __init__(
        self,
        board: StatusBoard,
        summary: Callable[[Status], msgspec.Struct],
        ending: threading.Event,
        insight: Insight | None,
        turns: Turns,
        most: int = MOST_FOLLOWERS,
    ) -> None:
        self._board = board
        self._summary = summary
        self._ending = ending
        self._insight = insight
        self._turns = turns
        self._most = most
        self._count = 0

    def stream(self, key: StreamKey | None, last_id: str | None, address: str = "") -> AsyncGenerator[bytes]:
        """key: the stream whose readings are wanted. last_id: of the last anomaly that the listener has seen.

        address: the listener's. Readings wait for their turn in its line, as any answer does.

        Raises TooMuchAsked where as many listen as there may be.
        """
        if self._count >= self._most:
            raise TooMuchAsked(f"{self._count} listen already, which is as many as there may be")
        return self._lines(key, last_id, address)

    async def _lines(self, key: StreamKey | None, last_id: str | None, address: str) -> AsyncGenerator[bytes]:
        self._count += 1
        try:
            async for name, data, number in self._events(key, last_id, address):
                yield _line(name, data, number)
        finally:
            self._count -= 1

    async def _events(
        self, key: StreamKey | None, last_id: str | None, address: str
    ) -> AsyncIterator[tuple[str, object, str | None]]:
        sent, gap = _place(self._board.read(), last_id)
        look = _StreamLook(self._insight, key, self._turns, address)
        ticks, looking = 0, None
        if gap:
            yield "gap", {}, None
        try:
            while not self._ending.is_set():
                status = self._board.read()
                new = status.events - sent
                if new > len(status.recent):
                    yield "gap", {}, f"{status.started_ms}-{status.events - len(status.recent)}"
                known = min(new, len(status.recent))
                for number, event in enumerate(reversed(status.recent[:known]), status.events - known):
                    yield "anomaly", event, f"{status.started_ms}-{number + 1}"
                sent = status.events
                if ticks % round(SUMMARY_S / LOOK_S) == 0:
                    yield "summary", self._summary(status), None
                # Readings may have to wait for their turn, and the sign of life must not.
                if looking is None and ticks % round(READINGS_S / LOOK_S) == 0:
                    looking = asyncio.create_task(look.news())
                ticks += 1
                await asyncio.sleep(LOOK_S)
                if looking is not None and looking.done():
                    for name, data in looking.result():
                        yield name, data, None
                    looking = None
        finally:
            if looking is not None:
                looking.cancel()


class _StreamLook:
    """What is new of one stream."""

    def __init__(self, insight: Insight | None, key: StreamKey | None, turns: Turns, address: str) -> None:
        self._insight = insight
        self._key = key
        self._turns = turns
        self._address = address
        self._after: int | None = None
        self._excuse: str | None = None

    async def news(self) -> list[tuple[str, object]]:
        if self._insight is None or self._key is None:
            return []
        try:
            await self._turns.take(self._address)
            try:
                traced = await asyncio.to_thread(self._insight.trace, self._key, self._after)
            finally:
                self._turns.give_back()
        except (UnheldStream, NotNow, TooMuchAsked) as error:
            return self._excused(error)
        first, self._excuse = self._after is None, None
        self._after = traced.readings[-1].offset if traced.readings else -1 if first else self._after
        return [("readings", traced)] if first or traced.readings else []

    def _excused(self, error: TelltaleError) -> list[tuple[str, object]]:
        """Why there is nothing to be seen, once."""
        if self._excuse == str(error):
            return []
        self._excuse = str(error)
        return [("stream", {"stream": (self._key or b"").decode(), "reason": self._excuse})]


def _place(status: Status, last_id: str | None) -> tuple[int, bool]:
    """The number of the last event that a listener knows, and whether it may have missed some that no one knows now.

    Without an id it has just asked for the lists, and goes on from here.
    """
    begun, _, number = (last_id or "").partition("-")
    if last_id is None:
        return status.events, False
    if begun == str(status.started_ms) and number.isdecimal() and int(number) <= status.events:
        return int(number), False
    return status.events, True


def _line(name: str, data: object, number: str | None) -> bytes:
    head = f"event: {name}\n" + (f"id: {number}\n" if number else "")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


class EventStream(StreamingResponse):
    """Events, to a listener that takes each of them in time."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events
        super().__init__(events, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(TAKEN_WITHIN_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except (TimeoutError, ClientDisconnect):
            return  # the client does not read, or has gone
        finally:
            await self._events.aclose()  # now, and not when it is collected: the listener's place is free


def describe_events() -> dict[str, Any]:
    """The OpenAPI description of what EventStream sends."""
    return {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": (__doc__ or "").strip()}
