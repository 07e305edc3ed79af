"""Whose turn it is to be answered: HTTP takes a stated share of one processor, and lets its clients wait for the rest.

What answering costs is measured, not guessed: the processor time of this process. As long as some is left, a request is
answered when it comes; when it is used up, requests wait in line, one line an address, which are served in turn. Health
and metrics never wait: they are cheap, and people are called when they do not answer. Should even they be asked for so
often that they take far more than the share, the whole process pauses now and then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.answers import refusal
from service.live.watching import NotNow

BURST_S = 1.0  # of processor time: what a person who opens the page needs at once
AT_ONCE = 4  # answers that are made side by side: most of them wait for the worker's round
MOST_WAITING = 64
WAIT_S = 5.0  # in line
LOOK_S = 0.01  # between two looks at what is left
BRAKE_SHARE = 0.25  # nothing that HTTP does may take more, whatever it is asked
LONGEST_PAUSE_S = 0.3  # of all answers, health among them


class Share:
    """What is left of a share of one processor."""

    def __init__(
        self,
        share: float,
        burst_s: float = BURST_S,
        processor: Callable[[], float] = time.process_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """share: of one processor, 1.0 is all of it. burst_s: how much may be saved up, and how much owed."""
        self.share = share
        self._burst_s = burst_s
        self._processor, self._monotonic = processor, monotonic
        self._left_s = burst_s
        self._looked_s, self._used_s = monotonic(), processor()

    def left_s(self) -> float:
        """Seconds of processor time that may be used now; below 0: so much more was."""
        now_s, used_s = self._monotonic(), self._processor()
        earned_s, spent_s = self.share * (now_s - self._looked_s), used_s - self._used_s
        self._looked_s, self._used_s = now_s, used_s
        self._left_s = max(-self._burst_s, min(self._burst_s, self._left_s + earned_s - spent_s))
        return self._left_s

    def wait_s(self) -> float:
        """Until there is some left, if nothing is used meanwhile."""
        return max(0.0, -self.left_s() / self.share)


class Brake:
    """Holds a whole process back that takes far more than it should."""

    def __init__(self, share: Share | None = None, pause: Callable[[float], None] = time.sleep) -> None:
        self._share = share or Share(BRAKE_SHARE)
        self._pause = pause

    def __call__(self) -> None:
        if wait_s := self._share.wait_s():
            self._pause(min(wait_s, LONGEST_PAUSE_S))


class Turns:
    """The lines in which requests wait, in one event loop."""

    def __init__(self, share: Share | None = None) -> None:
        """share: None: no one waits for the processor."""
        self._share = share
        self._making = 0
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        self._calls: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    async def take(self, address: str) -> None:
        """Wait for a turn, which give_back() ends. Raises NotNow where the line is too long, or does not move."""
        if self._lines or not self._free():
            await self._wait(address)
        else:
            self._making += 1

    def give_back(self) -> None:
        self._making -= 1

    def _free(self) -> bool:
        return self._making < AT_ONCE and (self._share is None or self._share.left_s() > 0)

    async def _wait(self, address: str) -> None:
        self._make_room(address)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(address, deque()).append(called)
        if self._calls is None or self._calls.done():
            self._calls = asyncio.create_task(self._call())
        try:
            async with asyncio.timeout(WAIT_S):
                await called
        except BaseException as error:
            if called.done() and not called.cancelled() and called.exception() is None:
                self.give_back()  # called at the very moment
            self._leave(address, called)
            if isinstance(error, TimeoutError):
                raise self._busy() from None
            raise

    async def _call(self) -> None:
        """Let one after another have its turn, an address at a time, until no one waits."""
        while self._lines:
            if self._free():
                address, line = next(iter(self._lines.items()))
                called = line.popleft()
                del self._lines[address]
                if line:
                    self._lines[address] = line  # behind the others
                if not called.done():
                    self._making += 1
                    called.set_result(None)
            else:
                await asyncio.sleep(LOOK_S)

    def _make_room(self, address: str) -> None:
        """Where as many wait as may, the last of the longest line goes, or the one that would make it longer."""
        if self.waiting < MOST_WAITING:
            return
        longest = max(self._lines, key=lambda one: len(self._lines[one]))
        if len(self._lines[longest]) <= len(self._lines.get(address, ())) + 1:
            raise self._busy()
        last = self._lines[longest].pop()
        if not last.done():
            last.set_exception(self._busy())

    def _leave(self, address: str, called: asyncio.Future[None]) -> None:
        line = self._lines.get(address)
        if line is not None and called in line:
            line.remove(called)
            if not line:
                del self._lines[address]

    def _busy(self) -> NotNow:
        share = "" if self._share is None else f", and HTTP takes {100 * self._share.share:g} % of one processor"
        return NotNow(f"others are being answered{share}: the setting http.processor_share is how much")


class InTurn:
    """Lets every request wait for its turn but those that never do."""

    def __init__(self, app: ASGIApp, turns: Turns, at_once: Collection[str]) -> None:
        """at_once: paths that are answered without waiting."""
        self._app = app
        self._turns = turns
        self._at_once = frozenset(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._at_once:
            await self._app(scope, receive, send)
            return
        try:
            await self._turns.take(address_of(scope))
        except NotNow as error:
            await refusal(error)(scope, receive, send)
            return
        over = False

        async def send_on(message: Message) -> None:
            """An answer that begins has been made: what is left is the client's reading, or events without end."""
            nonlocal over
            if not over:
                over = True
                self._turns.give_back()
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            if not over:
                self._turns.give_back()


def address_of(scope: Scope) -> str:
    """The client's, as far as it is known."""
    client = scope.get("client")
    return str(client[0]) if client else ""
