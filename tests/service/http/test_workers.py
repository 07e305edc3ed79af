"""Two workers behind two links, seen as one."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from models.detection.detector import Detector
from service.http.web_link import WorkerEnd
from service.http.web_messages import Link
from service.http.workers import AllStreams, AllViews, Workers
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading
from service.live.metrics import Build, Metrics
from service.live.reporter import STAGES
from service.live.status import StatusBoard
from service.live.watching import NotNow, UnheldStream
from service.log.memory_log import Topics
from service.log.port import Partition, Record
from tests.data import QUICK, some_forecaster
from tests.service.live.test_watching import FEATURES, Service

WITHIN_S = 60.0
READINGS = 20


def metrics_of(board: StatusBoard) -> Metrics:
    return Metrics(CollectorRegistry(), board, Build("0", "3", "2", "f"), STAGES, [], [], [])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline


class Linked:
    """A worker that turns all the time, with one partition of a topic and one stream in it, both of this name."""

    def __init__(self, name: str, detector: Detector, workers: Workers) -> None:
        topics = Topics({name: 1})
        records = [
            Record(name.encode(), encode_reading(FEATURES, 1_700_000_000_000 + n, [0.1, 0.2]), (), 1_800_000_000_000)
            for n in range(READINGS)
        ]
        topics.append(Partition(name, 0), records)
        self._service = service = Service(detector, topics)
        here, there = (Link(end) for end in socket.socketpair())
        self.link = here
        metrics = metrics_of(service.board)
        metrics.observe_transaction(0.01)
        self._end = WorkerEnd(here, service.board, metrics, service.streams, service.watching)
        self._end.start()
        self._web_end = workers.connect(there)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._ended.wait(0.01):
            self._service.turn()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.link.finish()
        assert self._web_end.ended.wait(WITHIN_S)
        assert self._end.ended.wait(WITHIN_S)
        self.link.close()


class Pair:
    def __init__(self) -> None:
        detector = Detector.cold(some_forecaster(2), QUICK)
        self.board = StatusBoard(Service(detector, Topics({"none": 1})).board.read())
        self.metrics = metrics_of(self.board)
        self.workers = Workers(self.board, self.metrics)
        self.streams, self.views = AllStreams(self.workers), AllViews(self.workers)
        self.a, self.b = Linked("a", detector, self.workers), Linked("b", detector, self.workers)

    def topics(self) -> list[str]:
        return [one.topic for one in self.board.read().partitions]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for one in (pair.a, pair.b):
        if one.link._end.fileno() >= 0:
            one.end()


@pytest.mark.slow
def test_status_counts_and_streams_are_of_both(pair: Pair) -> None:
    until(lambda: pair.board.read().counts.readings == 2 * READINGS)
    assert pair.topics() == ["a", "b"]
    until(lambda: pair.streams.look().total == 2)
    table = pair.streams.look()
    assert {one.stream for one in table.find().streams} == {"a", "b"}
    assert pair.streams.look() is table, "one table for all who ask, so that it is sorted once"
    counts, total = pair.metrics.counted().histograms["transaction"]
    assert sum(counts) == 2
    assert total == pytest.approx(0.02)


@pytest.mark.slow
def test_any_stream_can_be_looked_at_whoever_has_it(pair: Pair) -> None:
    until(lambda: pair.board.read().counts.readings == 2 * READINGS)
    for name in ("a", "b", "b", "a"):
        assert pair.views.look(StreamKey(name.encode())).partition == Partition(name, 0)
    with pytest.raises(UnheldStream, match="none of the 2 workers here"):
        pair.views.look(StreamKey(b"c"))


@pytest.mark.slow
def test_a_worker_that_has_ended_leaves_what_it_counted_and_nothing_else(pair: Pair) -> None:
    until(lambda: pair.board.read().counts.readings == 2 * READINGS)
    assert pair.views.look(StreamKey(b"a")).partition.topic == "a"
    pair.a.end()
    until(lambda: pair.topics() == ["b"])
    assert pair.board.read().counts.readings == 2 * READINGS
    until(lambda: [one.stream for one in pair.streams.look().find().streams] == ["b"])
    with pytest.raises(UnheldStream):
        pair.views.look(StreamKey(b"a"))
    pair.b.end()
    with pytest.raises(NotNow):
        pair.views.look(StreamKey(b"b"))


def test_a_worker_that_has_died_before_it_was_listened_to_does_no_harm(pair: Pair) -> None:
    here, there = socket.socketpair()
    here.close()
    assert pair.workers.connect(Link(there)).ended.wait(WITHIN_S)
    until(lambda: pair.topics() == ["a", "b"])
