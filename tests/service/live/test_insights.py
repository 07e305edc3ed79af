"""Explanations and forecasts of live streams, asked over a socket while the worker turns."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from models.detection.detector import Detector
from models.insight.explanation import CAVEAT, explain
from models.insight.forecasting import ForecastConfig, forecast
from service.http.app import app
from service.http.server import Server
from service.input.reading_batch import StreamKey
from service.live import insights
from service.live.insights import ExplanationSeen, ForecastSeen, Insight, seen_explanation, seen_forecast
from service.live.watching import KEPT_READINGS, TooMuchAsked, Watching
from tests.service.live.test_watching import DIGEST, P0, PUMP, READINGS, Service, one_partition, sent

FORECAST = ForecastConfig(steps=12)


class Live:
    """A worker whose streams can be asked for over HTTP."""

    def __init__(self, detector: Detector) -> None:
        self.service = Service(detector, one_partition(sent()))
        self.insight = Insight(detector, DIGEST, self.service.watching)
        api = app(self.service.board, CollectorRegistry(), 1e9, "0.1.0", insight=self.insight)
        self.server = Server(api, "127.0.0.1", 0)
        self.server.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.server.port}", trust_env=False, timeout=60)

    def ask(self, path: str, **parameters: Any) -> httpx.Response:
        """Let the worker turn until there is an answer."""
        with ThreadPoolExecutor(1) as others:
            asked = others.submit(self.client.get, f"/api/v1/{path}", params=parameters)
            while not asked.done():
                self.service.turn()
            return asked.result()

    def close(self) -> None:
        self.client.close()
        self.server.stop()


@pytest.fixture(scope="module")
def live(detector: Detector) -> Iterator[Live]:
    """The stream is watched from early on, and everything has been judged."""
    live = Live(detector)
    live.service.turn(2)
    live.service.look()
    while live.service.judged[-1].commit.next_offset < READINGS:
        live.service.turn()
    live.service.watching.look(PUMP)
    yield live
    live.close()


def test_a_live_explanation_is_that_of_the_same_readings_offline(live: Live, detector: Detector) -> None:
    answer = live.ask("explanation", stream=PUMP.decode(), readings=150)
    assert answer.status_code == 200
    seen = msgspec.json.decode(answer.content, type=ExplanationSeen)
    view = live.service.watching.look(PUMP)
    offline = seen_explanation(
        explain(detector, view.row_before, view.readings, 150), detector.features, PUMP, DIGEST, P0
    )
    assert answer.content == msgspec.json.encode(offline)
    _, scores = live.service.of(PUMP)
    assert [one.score for one in seen.readings] == scores[-150:].tolist()
    assert (seen.stream, seen.topic, seen.partition) == (PUMP.decode(), "readings", 0)
    assert seen.caveat == CAVEAT
    assert seen.alarms
    assert {one.fate for one in seen.readings} == {"judged", "late", "duplicate"}
    (layer,) = seen.layers
    assert [gate.name for gate in layer.gates] == ["input", "forget", "output", "candidate"]
    assert all(len(gate.mean) == 150 for gate in layer.gates)


def test_units_come_only_when_they_are_asked_for(live: Live) -> None:
    without, whole = (
        live.ask("explanation", stream=PUMP.decode(), readings=3, units=units).json() for units in (False, True)
    )
    assert "units" not in without["layers"][0]["gates"][0]
    assert [len(reading) for reading in whole["layers"][0]["gates"][0]["units"]] == [16, 16, 16]


@pytest.mark.slow
def test_a_live_forecast_is_that_of_the_same_readings_offline(live: Live, detector: Detector) -> None:
    answer = live.ask("forecast", stream=PUMP.decode(), steps=12)
    assert answer.status_code == 200
    view = live.service.watching.look(PUMP)
    offline = forecast(detector, view.row_before, view.readings, FORECAST)
    assert answer.content == msgspec.json.encode(seen_forecast(offline, detector.features, PUMP, DIGEST, P0))
    seen = msgspec.json.decode(answer.content, type=ForecastSeen)
    assert len(seen.steps) == 12
    assert (seen.interval_s, seen.tried_from) == (60.0, FORECAST.origins)
    assert [band.level for band in seen.steps[0].channels[0].bands] == [0.5, 0.8, 0.95]


@pytest.mark.slow
def test_a_forecast_right_after_the_first_question_needs_an_interval(detector: Detector) -> None:
    live = Live(detector)
    try:
        live.service.turn(12)
        early = live.ask("forecast", stream="fan")
        assert (early.status_code, early.headers["retry-after"]) == (503, "2")
        assert "0 readings cannot tell how far apart" in early.json()["reason"]
        given = live.ask("forecast", stream="fan", interval_s=30, steps=2)
        assert given.status_code == 200
        assert given.json()["residuals"] == 0
        assert all(channel["median"] is not None for step in given.json()["steps"] for channel in step["channels"])
    finally:
        live.close()


def test_a_stream_that_is_not_held_is_not_found(live: Live) -> None:
    for path in ("explanation", "forecast"):
        answer = live.ask(path, stream="nobody/here")
        assert answer.status_code == 404
        assert answer.json() == {"reason": "this worker holds no stream 'nobody/here'"}


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("explanation", {}),
        ("explanation", {"stream": ""}),
        ("explanation", {"stream": "x" * 257}),
        ("explanation", {"stream": "fan", "readings": 0}),
        ("explanation", {"stream": "fan", "readings": KEPT_READINGS + 1}),
        ("forecast", {"stream": "fan", "steps": 0}),
        ("forecast", {"stream": "fan", "steps": 1_001}),
        ("forecast", {"stream": "fan", "interval_s": 0}),
        ("forecast", {"stream": "fan", "interval_s": "nan"}),
        ("forecast", {"stream": "fan", "interval_s": 1e12}),
    ],
)
def test_a_question_out_of_bounds_is_refused(live: Live, path: str, parameters: dict[str, Any]) -> None:
    assert live.client.get(f"/api/v1/{path}", params=parameters).status_code == 422


@pytest.mark.slow
def test_too_many_streams_are_refused_with_when_to_ask_again(detector: Detector, live: Live) -> None:
    crowded = Insight(detector, DIGEST, Watching(most_streams=0))
    api = app(live.service.board, CollectorRegistry(), 1e9, "0.1.0", insight=crowded)
    server = Server(api, "127.0.0.1", 0)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/api/v1/explanation"
        answer = httpx.get(url, params={"stream": "fan"}, trust_env=False)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    finally:
        server.stop()


def test_no_more_answers_are_computed_at_once_than_there_may_be(
    live: Live, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "WAIT_S", 0.01)
    insight = Insight(detector, DIGEST, live.service.watching, at_once=1)
    computing, done = threading.Event(), threading.Event()

    def slowly(*given: Any) -> Any:
        computing.set()
        assert done.wait(30)
        return explain(*given)

    monkeypatch.setattr(insights, "explain", slowly)
    with ThreadPoolExecutor(1) as others:
        first = others.submit(insight.explanation, PUMP, 5)
        assert computing.wait(30)
        with pytest.raises(TooMuchAsked, match="other answers are being computed"):
            insight.explanation(PUMP, 5)
        done.set()
        assert len(first.result().readings) == 5
    assert len(insight.explanation(PUMP, 5).readings) == 5


@pytest.mark.slow
def test_many_questions_side_by_side_have_the_answers_they_have_alone(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "WAIT_S", 60.0)
    alone = live.client.get("/api/v1/explanation", params={"stream": PUMP.decode(), "readings": 20}).content
    with ThreadPoolExecutor(6) as others:
        asked = [
            others.submit(
                httpx.get,
                f"{live.client.base_url}/api/v1/explanation",
                params={"stream": PUMP.decode(), "readings": 20},
                trust_env=False,
                timeout=60,
            )
            for _ in range(6)
        ]
        assert [one.result().content for one in asked] == [alone] * 6


def test_the_event_loop_does_not_wait_for_an_answer(live: Live) -> None:
    """No one turns the worker, so a question about a new stream waits; health is answered meanwhile."""
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(live.client.get, "/api/v1/explanation", params={"stream": "fan"})
        while StreamKey(b"fan") not in live.service.watching._watches:
            pass
        healthy = httpx.get(f"{live.client.base_url}/livez", trust_env=False)
        assert healthy.status_code == 200
        assert not asked.done()
        while not asked.done():
            live.service.turn()
        assert asked.result().status_code == 200


def test_answers_are_described_and_the_description_holds(live: Live) -> None:
    document = live.client.get("/openapi.json").json()
    for path, answer in (("explanation", ExplanationSeen), ("forecast", ForecastSeen)):
        described = document["paths"][f"/api/v1/{path}"]["get"]
        assert {"200", "404", "422", "429", "503"} <= set(described["responses"])
        assert described["description"]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == {field.name for field in msgspec.structs.fields(answer)}
        assert "$ref" not in str(schema)


@pytest.mark.slow
def test_without_insight_there_are_no_such_questions(live: Live) -> None:
    server = Server(app(live.service.board, CollectorRegistry(), 1e9, "0.1.0"), "127.0.0.1", 0)
    server.start()
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/api/v1/forecast?stream=fan", trust_env=False)
        assert answer.status_code == 404
    finally:
        server.stop()
