"""A process that answers what a stream's past was: it reads topics and judges again, at the lowest priority.

It is a fork of the one that answers HTTP, made before that has threads, so that what is loaded is shared. For each
question it forks once more: what answering takes is given back with that process, and a question that no one waits for
any more ends by killing it. One question is answered at a time; others wait.

Questions and answers are lines of JSON on a socket. An answer has a name: progress, past or refused.
"""

import asyncio
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
import structlog

from service.errors import TelltaleError
from service.host.forks import fork
from service.live.watching import TooMuchAsked

LONGEST_S = 300.0  # that one answer may take
LOOK_S = 0.05  # between two looks whether it has come to an end
MOST_WAITING = 8
LOWEST_PRIORITY = 19  # of a processor that is wanted by judging too, it gets 1.5 %
CHUNK = 65_536
END = "end"
PROCESS_FAILED = "looking back failed: the service's log says why"

logger = structlog.get_logger("telltale.http")


class PastQuestion(msgspec.Struct, frozen=True, array_like=True):
    """What is asked. topic, partition: None: wherever the stream is."""

    stream: str
    around_ms: int  # event time
    readings: int
    topic: str | None = None
    partition: int | None = None


Tell = Callable[[str, object], None]  # name and body of an answer
LookBack = Callable[[PastQuestion, Tell], None]  # raises TelltaleError where it cannot be answered


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    number: int
    question: PastQuestion | None  # None: no one waits for the answer any more


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    number: int
    name: str
    body: msgspec.Raw


class _Answering(NamedTuple):
    """A question that is being answered, and by whom."""

    number: int
    pid: int
    begun_s: float


class PastProcess:
    """As the process sees it that answers HTTP."""

    def __init__(self, look_back: LookBack) -> None:
        self._look_back = look_back
        self._socket: socket.socket | None = None
        self._pid: int | None = None
        self._lines: _Lines | None = None
        self._turn = asyncio.Lock()
        self._asked = 0
        self._waiting = 0

    def start(self, leave: Callable[[], None]) -> None:
        """Call it before this process has threads. leave: closes what the other one must not hold open."""
        self._socket, theirs = socket.socketpair()
        ours = self._socket
        self._lines = _Lines(ours)

        def serve() -> int:
            ours.close()
            leave()
            return _Questions(theirs, self._look_back).serve()

        self._pid = fork(serve)
        theirs.close()

    def stop(self) -> None:
        """Safe to call twice."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)  # whatever it answers dies with it
            os.waitpid(self._pid, 0)
            self._pid = None
        if self._socket is not None:
            self._socket.close()

    async def ask(self, question: PastQuestion) -> AsyncIterator[tuple[str, bytes]]:
        """Names and JSON of what comes; the last is past or refused. A client that stops to listen stops the answering.

        Raises TooMuchAsked where as many wait as may.
        """
        if self._waiting >= MOST_WAITING:
            raise TooMuchAsked(f"{self._waiting} wait already for what a stream's past was")
        return self._answers(question)

    async def _answers(self, question: PastQuestion) -> AsyncIterator[tuple[str, bytes]]:
        self._waiting += 1
        try:
            if self._turn.locked():
                yield "progress", b'{"what":"turn","read":0,"of":0}'
            async with self._turn:
                self._asked += 1
                number = self._asked
                self._send(_Asked(number, question))
                try:
                    async for name, body in self._answers_to(number):
                        yield name, body
                finally:
                    self._send(_Asked(number, None))
        finally:
            self._waiting -= 1

    def _send(self, asked: _Asked) -> None:
        """A short line, to a process that does nothing but read such lines: there is always room for it."""
        if self._socket is not None:
            with suppress(OSError):  # it has ended, which the next answer says
                self._socket.send(_line(asked))

    async def _answers_to(self, number: int) -> AsyncIterator[tuple[str, bytes]]:
        """What is left of an earlier question is passed over, and the half of a line of one that was killed."""
        while self._lines is not None and (line := await self._lines.next()):
            try:
                answer = msgspec.json.decode(line, type=_Answer)
            except msgspec.DecodeError:
                continue
            if answer.number != number:
                continue
            if answer.name == END:
                return
            yield answer.name, bytes(answer.body)
        yield "refused", msgspec.json.encode({"reason": PROCESS_FAILED})


class _Lines:
    """The lines that come on a socket. Waiting for the next may be cancelled: it is there the next time."""

    def __init__(self, incoming: socket.socket) -> None:
        incoming.setblocking(False)
        self._socket = incoming
        self._whole: deque[bytes] = deque()
        self._begun: list[bytes] = []

    async def next(self) -> bytes:
        """With its end; empty where the other side has ended."""
        while not self._whole:
            some = await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)
            if not some:
                return b""
            *ended, begun = some.split(b"\n")
            for part in ended:
                self._whole.append(b"".join([*self._begun, part, b"\n"]))
                self._begun = []
            self._begun.append(begun)
        return self._whole.popleft()


class _Questions:
    """The other end: a process for each question, one at a time."""

    def __init__(self, asked: socket.socket, look_back: LookBack) -> None:
        self._socket = asked
        self._look_back = look_back
        self._answering: _Answering | None = None

    def serve(self) -> int:
        """Until the asking process ends; returns the exit code."""
        begun = b""
        while True:
            readable = select.select([self._socket], [], [], LOOK_S if self._answering else None)[0]
            self._look()
            if not readable:
                continue
            if not (some := self._socket.recv(CHUNK)):
                self._end()
                return 0
            *lines, begun = (begun + some).split(b"\n")
            for line in lines:
                self._take(msgspec.json.decode(line, type=_Asked))

    def _take(self, asked: _Asked) -> None:
        if asked.question is None:
            if self._answering is not None and self._answering.number == asked.number:
                self._end()
            return
        self._end()
        question, number = asked.question, asked.number
        pid = fork(lambda: _answer(self._socket, number, question, self._look_back))
        self._answering = _Answering(number, pid, time.monotonic())

    def _look(self) -> None:
        """Say when an answer has come to its end, and end one that takes too long."""
        one = self._answering
        if one is None:
            return
        pid, status = os.waitpid(one.pid, os.WNOHANG)
        if pid:
            self._answering = None
            if status:
                _tell(self._socket, one.number, "refused", {"reason": PROCESS_FAILED})
            _tell(self._socket, one.number, END, None)
        elif time.monotonic() - one.begun_s > LONGEST_S:
            self._end()
            reason = f"looking back took longer than {LONGEST_S:.0f} s: ask for fewer readings, or for later ones"
            _tell(self._socket, one.number, "refused", {"reason": reason})
            _tell(self._socket, one.number, END, None)

    def _end(self) -> None:
        if self._answering is not None:
            os.kill(self._answering.pid, signal.SIGKILL)
            os.waitpid(self._answering.pid, 0)
            self._answering = None


def _answer(answers: socket.socket, number: int, question: PastQuestion, look_back: LookBack) -> int:
    os.nice(LOWEST_PRIORITY)
    try:
        look_back(question, lambda name, body: _tell(answers, number, name, body))
    except TelltaleError as error:
        _tell(answers, number, "refused", {"reason": str(error)})
    return 0


def _tell(answers: socket.socket, number: int, name: str, body: object) -> None:
    """On a line of its own, behind whatever an answer that was killed has left."""
    answers.sendall(b"\n" + _line(_Answer(number, name, msgspec.Raw(msgspec.json.encode(body)))))


def _line(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message) + b"\n"
