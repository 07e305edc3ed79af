"""All workers of a service, as the process that answers HTTP knows them: one status, one table, any stream.

Each worker is behind a link of its own, which ends when it does; one that is started again comes with another. Where
there is one worker, all of this is that worker.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from service.errors import TelltaleError
from service.http.web_link import SIDE_BY_SIDE, RemoteStreams, RemoteWatching, WebEnd
from service.http.web_messages import Link, Published
from service.input.reading_batch import StreamKey
from service.live.merging import MergedStatus
from service.live.metrics import Metrics
from service.live.status import StatusBoard, WorkerProcess
from service.live.streams import PartitionTable, StreamTable
from service.live.watching import NotNow, TooMuchAsked, UnheldStream, View
from service.log.port import Partition

MOST_REMEMBERED = 1_000  # streams of which it is remembered who holds them

Found = TypeVar("Found")


class _Worker(NamedTuple):
    streams: RemoteStreams
    watching: RemoteWatching


class Workers:
    """Those that are linked now. Puts what they publish, as one, on the board and into the metrics."""

    def __init__(self, board: StatusBoard, metrics: Metrics) -> None:
        self._board, self._metrics = board, metrics
        self._merged = MergedStatus(board.read())
        self._linked: dict[Link, _Worker] = {}
        self._changing = threading.Lock()
        self._asking: ThreadPoolExecutor | None = None

    def connect(self, link: Link, end: Callable[[], None] = lambda: None) -> WebEnd:
        """Begin to listen to a worker. end: called when it has ended."""

        def ended() -> None:
            with self._changing:
                del self._linked[link]
                self._merged.end(link)
                self._publish()
            end()

        web_end = WebEnd(link, lambda published: self._take(link, published), ended)
        with self._changing:
            self._linked = {**self._linked, link: _Worker(RemoteStreams(web_end), RemoteWatching(web_end))}
        web_end.start()
        return web_end

    def supervise(self, processes: Sequence[WorkerProcess]) -> None:
        """What the supervisor says of their processes."""
        with self._changing:
            self._merged.supervise(processes)
            self._publish()

    @property
    def linked(self) -> list[_Worker]:
        with self._changing:
            return list(self._linked.values())

    def ask_each(self, ask: Callable[[_Worker], Found]) -> list[Found | TelltaleError]:
        """The answer of every worker, or why it has none."""

        def answer(worker: _Worker) -> Found | TelltaleError:
            try:
                return ask(worker)
            except TelltaleError as error:
                return error

        linked = self.linked
        if len(linked) < 2:
            return [answer(one) for one in linked]
        with self._changing:  # not before: threads do not outlive a fork
            self._asking = self._asking or ThreadPoolExecutor(SIDE_BY_SIDE * len(linked), thread_name_prefix="ask")
        return list(self._asking.map(answer, linked))

    def _take(self, link: Link, published: Published) -> None:
        with self._changing:
            self._merged.take(link, published.status, published.counted)
            self._publish()

    def _publish(self) -> None:
        self._board.publish(self._merged.status)
        self._metrics.take(self._merged.counted)


class AllStreams:
    """One table of the streams of all workers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._joined: tuple[list[StreamTable], StreamTable] | None = None

    def look(self) -> StreamTable:
        """The latest tables as one; of workers that do not answer there is nothing in it. Raises NotNow without any."""
        answers = self._workers.ask_each(lambda worker: worker.streams.look())
        tables = [one for one in answers if isinstance(one, StreamTable)]
        if not tables:
            raise next((one for one in answers if isinstance(one, TelltaleError)), NotNow("no worker is there"))
        joined = self._joined
        if (
            joined is None
            or len(joined[0]) != len(tables)
            or any(a is not b for a, b in zip(joined[0], tables, strict=True))
        ):
            joined = self._joined = tables, _joined(tables)  # sorted once, however many ask
        return joined[1]


def _joined(tables: Sequence[StreamTable]) -> StreamTable:
    if len(tables) == 1:
        return tables[0]
    parts: dict[Partition, PartitionTable] = {}
    for table in sorted(tables, key=lambda one: one.made_ms):  # of a partition that has just moved, the newest
        parts |= {part.partition: part for part in table.parts}
    return StreamTable(min(table.made_ms for table in tables), [parts[name] for name in sorted(parts)])


class AllViews:
    """Any stream of any worker."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._holders: dict[StreamKey, _Worker] = {}

    def look(self, key: StreamKey) -> View:
        """The stream as it last was, first asked of who had it last. Raises UnheldStream, NotNow and TooMuchAsked."""
        linked, holder = self._workers.linked, self._holders.pop(key, None)
        if len(linked) == 1:
            return linked[0].watching.look(key)
        if holder in linked:
            try:
                view = holder.watching.look(key)
            except UnheldStream:
                pass
            else:
                self._remember(key, holder)
                return view
        answers = self._workers.ask_each(lambda worker: (worker, worker.watching.look(key)))
        for answer in answers:
            if isinstance(answer, tuple):
                self._remember(key, answer[0])
                return answer[1]
        for kind in (NotNow, TooMuchAsked):  # it may be the one that has it
            for answer in answers:
                if isinstance(answer, kind):
                    raise answer
        if not answers:
            raise NotNow("no worker is there")
        raise UnheldStream(f"none of the {len(answers)} workers here holds stream {key.decode(errors='replace')!r}")

    def expect(self, key: StreamKey) -> None:
        """Those that do not hold it forget of it in their next round."""
        for worker in self._workers.linked:
            worker.watching.expect(key)

    def _remember(self, key: StreamKey, worker: _Worker) -> None:
        if len(self._holders) >= MOST_REMEMBERED:
            self._holders = {}
        self._holders[key] = worker
