"""Streams, open anomalies, readings and events, asked over a socket while the worker turns."""

import asyncio
import dataclasses
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from models.detection.detector import Detector
from models.insight.explanation import explain
from service.http import event_stream as following
from service.http import turns
from service.http.app import StatusSeen, app
from service.http.event_stream import EventStream, Followers
from service.http.health import HealthSummary, summary
from service.http.server import STOP_WITHIN_S, Server
from service.http.stream_routes import OpenAnomalies, StreamsFound
from service.http.turns import Share, Turns
from service.http.web_link import WebEnd, WorkerEnd
from service.http.web_messages import Link
from service.http.workers import AllStreams, AllViews, Workers
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading
from service.live.insights import Insight, TraceSeen
from service.live.metrics import Build, Metrics
from service.live.reporter import STAGES
from service.live.status import RECENT_LIMIT, CheckpointStatus, Status, StatusBoard, WorkerState
from service.live.streams import Streams, Tables
from service.live.watching import Views
from service.log.port import Record
from tests.service.live.test_watching import DIGEST, FEATURES, P0, PUMP, Service, one_partition, sent

WITHIN_S = 120.0
STARTED_MS = 1_000


def readings_of(key: bytes, first: int, count: int, level: float = 0.0) -> list[Record]:
    random = np.random.default_rng(first)
    values = random.normal(size=(count, 2)) + level
    return [
        Record(
            key, encode_reading(FEATURES, 1_700_000_000_000 + 60_000 * (first + n), row.tolist()), (), 1_800_000_000_000
        )
        for n, row in enumerate(values)
    ]


class Live:
    """A worker that turns all the time, behind a socket."""

    def __init__(self, detector: Detector, linked: bool) -> None:
        """linked: HTTP knows the worker through a link alone, as where it is a process of its own."""
        self.detector = detector
        self.topics = one_partition([])
        self.service = Service(detector, self.topics)
        self.board = board = self.service.board
        watching: Views = self.service.watching
        streams: Tables = self.service.streams
        self._links: list[Link] = []
        self._linked: list[WorkerEnd | WebEnd] = []
        if linked:
            self._links = [Link(end) for end in socket.socketpair()]
            worker_end = WorkerEnd(self._links[0], board, metrics_of(board), streams, watching)
            board = StatusBoard(board.read())
            workers = Workers(board, metrics_of(board))
            watching, streams = AllViews(workers), AllStreams(workers)
            worker_end.start()
            self._linked = [worker_end, workers.connect(self._links[1])]
        self._heard = board
        insight = Insight(detector, DIGEST, watching)
        api = app(board, CollectorRegistry(), 1e9, "0.1.0", insight=insight, streams=streams)
        self.server = Server(api, "127.0.0.1", 0)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.port}/api/v1/"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=WITHIN_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._ended.wait(0.01):
            self.service.turn()

    def send(self, records: list[Record]) -> None:
        self.topics.append(P0, records)

    def until_heard(self) -> None:
        """Until HTTP knows of the partition, and of all that the worker has published by now."""
        deadline = time.monotonic() + WITHIN_S
        published = self.board.read()
        while not self._heard.read().partitions or self._heard.read().events < published.events:
            assert time.monotonic() < deadline

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self._ended.set()
        self._thread.join()
        for link in self._links:
            link.finish()
        for end in self._linked:
            assert end.ended.wait(WITHIN_S)
        for link in self._links:
            link.close()


def metrics_of(board: StatusBoard) -> Metrics:
    return Metrics(CollectorRegistry(), board, Build("0", "3", "2", "f"), STAGES, [], [], [])


@pytest.fixture(params=[False, True], ids=["here", "linked"])
def live(request: pytest.FixtureRequest, detector: Detector) -> Iterator[Live]:
    with closing(Live(detector, request.param)) as live:
        yield live


class ServerEvent(NamedTuple):
    name: str
    id: str | None
    data: Any


class Listener:
    """Reads events one by one."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def next(self, *names: str) -> ServerEvent:
        """The next event of these names, whatever comes before it."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            fields = {}
            for line in self._lines:
                if not line:
                    break
                name, _, value = line.partition(": ")
                fields[name] = value
            assert fields, "the events have ended"
            if not names or fields["event"] in names:
                return ServerEvent(fields["event"], fields.get("id"), json.loads(fields["data"]))
        raise AssertionError(f"no {names} within {WITHIN_S} s")

    def ended(self) -> bool:
        """Whether nothing comes any more, whatever still does."""
        return all(True for _ in self._lines)


@contextmanager
def listening(url: str, last_id: str | None = None, **parameters: str) -> Iterator[Listener]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    with (
        httpx.Client(trust_env=False, timeout=WITHIN_S) as client,
        client.stream("GET", f"{url}events", params=parameters, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Listener(answer)


def event(number: int) -> dict[str, Any]:
    return {"id": str(number), "data": {"anomaly": str(number), "status": "open"}}


class Published:
    """A board that the test writes on, behind a socket."""

    def __init__(self) -> None:
        self.board = StatusBoard(
            Status(WorkerState.RUNNING, STARTED_MS, 2_000, 0.0, CheckpointStatus("/x", "abc", ("f0",)))
        )
        self.server = Server(app(self.board, None, 1e9, "0.1.0", streams=Streams()), "127.0.0.1", 0)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.port}/api/v1/"

    def publish_anomalies(self, count: int) -> None:
        last = self.board.read()
        new = tuple(event(last.events + count - n) for n in range(min(count, RECENT_LIMIT)))
        recent = (*new, *last.recent)[:RECENT_LIMIT]
        self.board.publish(dataclasses.replace(last, recent=recent, events=last.events + count))

    def close(self) -> None:
        self.server.stop()


@pytest.fixture
def published() -> Iterator[Published]:
    with closing(Published()) as published:
        yield published


# --- lists


@pytest.mark.slow
def test_streams_are_sorted_searched_and_paged_while_the_worker_turns(live: Live) -> None:
    keys = [f"line-{n % 2}/pump-{n:02d}" for n in range(30)]
    for key in keys:
        live.send(readings_of(key.encode(), 0, 132))
    live.send(readings_of(b"line-1/sick", 0, 120) + readings_of(b"line-1/sick", 120, 12, level=60))
    while live.board.read().counts.readings < 31 * 132:
        assert live._thread.is_alive()
    live.until_heard()
    deadline = time.monotonic() + WITHIN_S
    while (found := live.get("streams"))["held"] < 31 or found["streams"][0]["stream"] != "line-1/sick":
        assert time.monotonic() < deadline
    assert found["found"] == 31
    assert found["streams"][0]["score"] > 1
    scores = [one["score"] for one in found["streams"]]
    assert scores == sorted(scores, reverse=True)
    found = live.get("streams", search="LINE-1/pump", offset=10, limit=3)
    assert (found["held"], found["found"], len(found["streams"])) == (31, 15, 3)
    (wrong,) = live.get("streams", alarm=True)["streams"]
    assert wrong["stream"] == "line-1/sick"

    wrong = live.get("anomalies/open")
    assert wrong["found"] == 1
    (anomaly,) = wrong["anomalies"]
    events = live.get("anomalies")["anomalies"]
    opened = next(event["data"] for event in events if event["subject"] == "line-1/sick")
    assert anomaly["stream"]["alarm"]["anomaly"] == opened["anomaly"]
    assert anomaly["stream"]["alarm"]["opened_at"] == opened["opened_at"]
    assert anomaly["kind"] == opened["kind"]
    assert anomaly["return_period_s"] == opened["return_period_s"] > 0
    assert [one["name"] for one in anomaly["channels"]] == list(FEATURES)

    # What is wrong is watched without being asked for: its readings are there when somebody looks.
    watches = live.service.watching._watches
    while (watch := watches.get(StreamKey(b"line-1/sick"))) is None or watch.answer is None:
        assert time.monotonic() < deadline
    live.send(readings_of(b"line-1/sick", 132, 3, level=60))
    while not (kept := live.get("readings", stream="line-1/sick")["readings"]):
        assert time.monotonic() < deadline
    assert len(kept) == 3


@pytest.mark.slow
def test_readings_come_once_and_are_those_of_the_explanation(live: Live, detector: Detector) -> None:
    live.send(sent(readings=200))
    while live.board.read().counts.readings < 190:
        assert live._thread.is_alive()
    first = live.get("readings", stream=PUMP.decode())
    assert (first["reset"], first["readings"], first["layers"]) == (True, [], [])
    live.send(sent(readings=600, seed=1)[200:])
    while live.board.read().counts.readings < 570:
        assert live._thread.is_alive()
    seen: list[Any] = []
    gates: list[float] = []
    after = -1
    whole = live.get("readings", stream=PUMP.decode(), after=after)
    assert whole["reset"]
    middle = whole["readings"][70]["offset"]
    rest = live.get("readings", stream=PUMP.decode(), after=middle)
    assert not rest["reset"]
    assert rest["readings"] == whole["readings"][71:]
    seen, gates = rest["readings"], rest["layers"][0]["gates"][1]["mean"]
    assert gates == whole["layers"][0]["gates"][1]["mean"][71:]
    nothing = live.get("readings", stream=PUMP.decode(), after=seen[-1]["offset"])
    assert (nothing["reset"], nothing["readings"], nothing["layers"]) == (False, [], [])
    view = live.service.watching.look(PUMP)
    offline = explain(detector, view.row_before, view.readings)
    assert [one["score"] for one in whole["readings"]] == offline.verdicts.score.tolist()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "offset=-1", "offset=1.5", "sort=name", f"search={'x' * 257}", "alarm=perhaps"],
)
def test_a_question_out_of_bounds_is_refused(published: Published, query: str) -> None:
    assert httpx.get(f"{published.url}streams?{query}", trust_env=False).status_code == 422


@pytest.mark.slow
def test_while_the_worker_does_not_come_round_there_is_an_answer_all_the_same(published: Published) -> None:
    answer = httpx.get(f"{published.url}streams", trust_env=False, timeout=WITHIN_S)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "has not come round" in answer.json()["reason"]


def test_answers_are_described_and_the_descriptions_hold(live: Live) -> None:
    document = httpx.get(f"{live.url}../../openapi.json", trust_env=False).json()
    live.send(sent(readings=20))
    live.until_heard()
    for path, answer, parameters in (
        ("streams", StreamsFound, {}),
        ("anomalies/open", OpenAnomalies, {}),
        ("readings", TraceSeen, {"stream": PUMP.decode()}),
        ("summary", HealthSummary, {}),
        ("status", StatusSeen, {}),
    ):
        described = document["paths"][f"/api/v1/{path}"]["get"]
        assert described["description"]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == {field.name for field in msgspec.structs.fields(answer)}
        assert "$ref" not in str(schema)
        if path != "readings":
            msgspec.json.decode(live.client.get(path, params=parameters).content, type=answer)
    assert "text/event-stream" in document["paths"]["/api/v1/events"]["get"]["responses"]["200"]["content"]
    partition = live.get("status")["partitions"][0]
    shown = document["paths"]["/api/v1/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(partition) == set(shown["properties"]["partitions"]["items"]["properties"])


# --- events


@pytest.mark.slow
@pytest.mark.alone
def test_anyone_who_listens_hears_of_the_service_every_second_and_of_anomalies_as_they_come(
    published: Published,
) -> None:
    with listening(published.url) as listener:
        first = listener.next("summary")
        assert first.data["state"] == "running"
        began = time.monotonic()
        published.publish_anomalies(2)
        heard = [listener.next("anomaly") for _ in range(2)]
        assert time.monotonic() - began < 1
        assert [(one.id, one.data["id"]) for one in heard] == [(f"{STARTED_MS}-1", "1"), (f"{STARTED_MS}-2", "2")]
        again = [listener.next("summary") for _ in range(2)]
        assert 0.5 < time.monotonic() - began < 5
        assert again[-1].data["events"] == 2


def test_a_listener_that_was_cut_off_goes_on_behind_what_it_knows(published: Published) -> None:
    published.publish_anomalies(5)
    with listening(published.url, last_id=f"{STARTED_MS}-3") as listener:
        assert [listener.next("anomaly", "gap").data["id"] for _ in range(2)] == ["4", "5"]


@pytest.mark.parametrize("last_id", ["999-3", f"{STARTED_MS}-77", "no id", "-"])
def test_what_an_id_of_another_worker_means_is_not_known_and_said(published: Published, last_id: str) -> None:
    published.publish_anomalies(5)
    with listening(published.url, last_id=last_id) as listener:
        assert listener.next().name == "gap"
        assert listener.next().name == "summary"


@pytest.mark.slow
def test_more_than_is_still_known_is_a_gap_and_then_what_is_known(published: Published) -> None:
    with listening(published.url) as listener:
        listener.next("summary")
        published.publish_anomalies(RECENT_LIMIT + 50)
        gap = listener.next("gap", "anomaly")
        assert (gap.name, gap.id) == ("gap", f"{STARTED_MS}-50")
        assert listener.next("gap", "anomaly").data["id"] == "51"


@pytest.mark.slow
def test_the_chosen_streams_readings_come_first_all_then_what_is_new(live: Live) -> None:
    live.send(sent(readings=100))
    while live.board.read().counts.readings < 95:
        assert live._thread.is_alive()
    with listening(live.url, stream=PUMP.decode()) as listener:
        first = listener.next("readings").data
        assert (first["reset"], first["readings"], first["stream"]) == (True, [], PUMP.decode())
        live.send(readings_of(PUMP, 5_000, 3))
        seen = listener.next("readings").data["readings"]
        live.send(readings_of(PUMP, 5_003, 2))
        while len(seen) < 5:
            data = listener.next("readings").data
            assert not data["reset"]
            assert len(data["layers"][0]["gates"][0]["mean"]) == len(data["readings"])
            seen += data["readings"]
        assert len({one["offset"] for one in seen}) == 5


@pytest.mark.slow
def test_a_stream_that_is_not_there_is_said_once_and_the_rest_goes_on(live: Live) -> None:
    with listening(live.url, stream="nobody") as listener:
        data = listener.next("stream").data
        assert data == {"stream": "nobody", "reason": "this worker holds no stream 'nobody'"}
        assert [listener.next().name for _ in range(3)] == ["summary"] * 3


@pytest.mark.slow
def test_head_of_the_events_takes_no_listeners_place(published: Published) -> None:
    for _ in range(following.MOST_FOLLOWERS + 1):
        answer = httpx.head(f"{published.url}events", trust_env=False, timeout=WITHIN_S)
        assert (answer.status_code, answer.headers["content-type"][:17]) == (200, "text/event-stream")


@pytest.mark.slow
def test_the_sign_of_life_comes_while_readings_wait_for_their_turn(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 2 * WITHIN_S)
    used_up = Turns(Share(1e-9, burst_s=1e-9))
    insight = Insight(live.detector, DIGEST, live.service.watching)
    followers = Followers(
        live.board, lambda status: summary(status, "0", 1e9, 0.0), threading.Event(), insight, used_up
    )

    async def listen() -> None:
        summaries = 0
        async for line in followers.stream(PUMP, None):
            assert line.startswith(b"event: summary")
            summaries += 1
            if summaries == 3:
                assert used_up.waiting == 1
                return

    asyncio.run(asyncio.wait_for(listen(), WITHIN_S))


@pytest.mark.slow
def test_events_end_when_the_server_stops_and_soon(published: Published) -> None:
    with listening(published.url) as listener:
        listener.next("summary")
        began = time.monotonic()
        published.server.stop()
        assert listener.ended()
        assert time.monotonic() - began < STOP_WITHIN_S


@pytest.mark.slow
def test_no_more_listen_than_may_and_anyone_who_leaves_makes_room(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.02)

    def refused() -> bool:
        with httpx.stream("GET", f"{published.url}events", trust_env=False, timeout=WITHIN_S) as answer:
            return answer.status_code == 429 and "listen already" in answer.read().decode()

    with ExitStack() as others:
        listeners = [others.enter_context(listening(published.url)) for _ in range(following.MOST_FOLLOWERS)]
        for one in listeners:
            one.next("summary")
        assert refused()
    deadline = time.monotonic() + WITHIN_S
    while refused():
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_a_listener_that_does_not_read_holds_no_one_up(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.002)
    last = published.board.read()
    big = {"id": "1", "data": {"text": "x" * 1_000_000}}
    with socket.create_connection(("127.0.0.1", published.server.port), timeout=WITHIN_S) as idle:
        idle.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
        with listening(published.url) as other:
            other.next("summary")
            for n in range(12):  # more than lies between two ends of a connection
                published.board.publish(dataclasses.replace(last, recent=(big,), events=last.events + n + 1))
                assert other.next("anomaly").id == f"{STARTED_MS}-{n + 1}"
            assert other.next().name == "summary"


@pytest.mark.slow
def test_a_listener_that_takes_nothing_in_time_makes_room(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "TAKEN_WITHIN_S", 0.05)
    followers = Followers(
        published.board, lambda status: summary(status, "0", 1e9, 0.0), threading.Event(), None, Turns(), 1
    )

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def listen() -> None:
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        await asyncio.wait_for(EventStream(followers.stream(None, None))(scope, receive, send), WITHIN_S)
        gc.collect()
        await asyncio.sleep(0)
        assert followers.stream(None, None)

    asyncio.run(listen())
