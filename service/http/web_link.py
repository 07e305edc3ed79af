"""Between the worker and the process that answers HTTP: what is published goes one way, questions go the other.

The worker's own thread does none of this: it publishes to the board and answers at the end of a round as before, and
threads of this module look at the board a few times a second, ask on behalf of the other process, and wait for it where
it does not read.
"""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate

import structlog

from service.errors import TelltaleError
from service.http.web_messages import (
    Answer,
    Arrays,
    AskTable,
    AskView,
    Expect,
    Link,
    Published,
    SentPart,
    SentTable,
    ToWeb,
    ToWorker,
    Up,
    array_of,
    send_view,
    take_view,
)
from service.input.reading_batch import StreamKey
from service.live.metrics import Metrics
from service.live.status import Status, StatusBoard
from service.live.streams import Names, StreamTable, Tables
from service.live.streams import PartitionTable as TablePart
from service.live.watching import WITHIN_S, NotNow, TooMuchAsked, UnheldStream, View, Views

PUBLISH_EVERY_S = 0.2  # between two looks at the board
SIDE_BY_SIDE = 8  # questions that wait for the worker's round
FRESH_S = 0.5  # a table that was asked for no longer ago is not asked for again
SLACK_S = 1.0  # beyond what the worker takes itself before it says that it has not come round
REFUSALS: dict[str, type[TelltaleError]] = {one.__name__: one for one in (UnheldStream, NotNow, TooMuchAsked)}

logger = structlog.get_logger("telltale.http")


class WorkerEnd:
    """In the worker's process: sends what is published, and asks the worker what it is asked, in threads of its own."""

    def __init__(
        self,
        link: Link,
        board: StatusBoard,
        metrics: Metrics,
        streams: Tables,
        watching: Views,
    ) -> None:
        self._link = link
        self._board, self._metrics = board, metrics
        self._streams, self._watching = streams, watching
        self._publishing, self._tables = threading.Lock(), threading.Lock()
        self._published: Status | None = None  # the last that was sent
        self._table: StreamTable | None = None  # the last that was sent
        self._number = 0
        self.up = threading.Event()  # that process has started, or has ended
        self.ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_publishing, name="web-publish", daemon=True),
            threading.Thread(target=self._listen, name="web-listen", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _keep_publishing(self) -> None:
        try:
            while not self.ended.is_set():
                self._publish()
                self.ended.wait(PUBLISH_EVERY_S)
        except OSError:
            return  # _listen sees it too
        finally:
            self._link.finish()  # a process that hears nothing more must not go on answering

    def _publish(self) -> None:
        """What is new on the board, if anything is."""
        with self._publishing:
            status = self._board.read()
            if status is not self._published:
                self._link.send(Published(status, self._metrics.counted()))
                self._published = status

    def _listen(self) -> None:
        try:
            with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="web-ask") as pool:
                while (received := self._link.receive(ToWorker)) is not None:
                    message, _ = received
                    if isinstance(message, Up):
                        self.up.set()
                    elif isinstance(message, Expect):
                        self._watching.expect(message.key)
                    else:
                        pool.submit(self._answer, message)
        finally:
            self.ended.set()
            self.up.set()

    def _answer(self, asked: AskTable | AskView) -> None:
        arrays = Arrays()
        try:
            if isinstance(asked, AskView):
                answer = Answer(asked.question, view=send_view(self._watching.look(asked.key), arrays))
            else:
                answer = Answer(asked.question, table=self._send_table(asked.seen, arrays))
        except tuple(REFUSALS.values()) as error:
            answer = Answer(asked.question, refusal=type(error).__name__, reason=str(error))
        except Exception:
            logger.exception("http_question_failed")
            raise
        try:
            if answer.table is not None:
                self._publish()  # a table must show no alarm of which the status does not know
            self._link.send(answer, arrays)
        except OSError:
            return

    def _send_table(self, seen: int, arrays: Arrays) -> SentTable | None:
        """What has changed since the table of number `seen`; None: nothing."""
        table = self._streams.look()
        with self._tables:
            last = self._table if self._table is not None and seen == self._number else StreamTable(0, ())
            if table is last:
                return None
            self._table, self._number = table, self._number + 1
            number = self._number
        known = {part.partition: part.names for part in last.parts}
        parts = [
            SentPart(
                part.partition,
                None if known.get(part.partition) is part.names else list(part.names.keys),
                arrays.put(part.scores),
                arrays.put(part.columns),
            )
            for part in table.parts
        ]
        return SentTable(number, table.made_ms, parts)


class WebEnd:
    """In the other process: takes in what a worker publishes, and asks it."""

    def __init__(self, link: Link, take: Callable[[Published], None], end: Callable[[], None] = lambda: None) -> None:
        """take: called with all that is published, end: once when the worker has ended; both in a thread of this."""
        self._link = link
        self._take, self._end = take, end
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[tuple[Answer, bytearray]]] = {}
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="link", daemon=True)

    def start(self) -> None:
        """Once requests are answered."""
        self._thread.start()
        self.send(Up())

    def ask(self, ask: Callable[[int], ToWorker]) -> tuple[Answer, bytearray]:
        """Raises UnheldStream, NotNow and TooMuchAsked."""
        number, within_s = next(self._numbers), WITHIN_S + SLACK_S
        waiting = self._waiting[number] = Future[tuple[Answer, bytearray]]()
        try:
            self._link.send(ask(number))
            answer, body = waiting.result(within_s)
        except TooLate as error:
            raise NotNow(f"the worker has not answered within {within_s:.0f} s") from error
        except OSError as error:
            raise NotNow("the worker has ended") from error
        finally:
            del self._waiting[number]
        if answer.refusal is not None:
            raise REFUSALS[answer.refusal](answer.reason)
        return answer, body

    def send(self, message: ToWorker) -> None:
        try:
            self._link.send(message)
        except OSError:
            return  # the worker has ended, and this process is about to

    def _listen(self) -> None:
        try:
            while (received := self._link.receive(ToWeb)) is not None:
                message, body = received
                if isinstance(message, Published):
                    self._take(message)
                elif waiting := self._waiting.get(message.question):
                    waiting.set_result((message, body))
        finally:
            self._link.close()
            for waiting in list(self._waiting.values()):
                waiting.set_exception(ConnectionResetError())
            self._end()
            self.ended.set()


class RemoteWatching:
    """`Watching` as the other process sees it."""

    def __init__(self, end: WebEnd) -> None:
        self._end = end

    def look(self, key: StreamKey) -> View:
        answer, body = self._end.ask(lambda number: AskView(number, key))
        if answer.view is None:
            raise NotNow("no answer")
        return take_view(answer.view, body)

    def expect(self, key: StreamKey) -> None:
        self._end.send(Expect(key))


class RemoteStreams:
    """`Streams` as the other process sees it: one table for all who ask."""

    def __init__(self, end: WebEnd, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._end = end
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._asked_s = 0.0
        self._table: StreamTable | None = None
        self._number = 0

    def look(self) -> StreamTable:
        """The latest table; an old one where the worker does not come round. Raises NotNow where there is none."""
        with self._turn:
            if self._table is not None and self._monotonic() - self._asked_s < FRESH_S:
                return self._table
            try:
                answer, body = self._end.ask(lambda number: AskTable(number, self._number))
            except NotNow:
                if self._table is None:
                    raise
            else:
                if answer.table is not None:
                    self._table = self._take(answer.table, body)
            self._asked_s = self._monotonic()
            if self._table is None:
                raise NotNow("no answer")
            return self._table

    def _take(self, sent: SentTable, body: bytearray) -> StreamTable:
        last = {part.partition: part.names for part in self._table.parts} if self._table else {}
        self._number = sent.number
        return StreamTable(
            sent.made_ms,
            [
                TablePart(
                    part.partition,
                    last[part.partition] if part.keys is None else Names(tuple(part.keys)),
                    array_of(part.scores, body),
                    array_of(part.columns, body),
                )
                for part in sent.parts
            ],
        )
