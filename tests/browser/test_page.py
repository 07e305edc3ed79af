"""The live page in a real browser, shown by a real service that reads from a real broker."""

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from models import checkpoint as checkpoints
from models.detection import Detector
from service.wire import encode_reading
from tests.browser.chromium import running_browser
from tests.data import QUICK, some_forecaster
from tests.integration.test_end_to_end import Service, made_topics
from tests.kafka import Broker

TOKEN = "a-token-of-the-tests"
FEATURES = ("f0", "f1")
STREAMS = tuple(f"line-{n % 3:02d}/pump-{n:03d}" for n in range(40))
SICK, OTHER = STREAMS[7], STREAMS[8]
HISTORY = 240  # readings of each stream that are there before anybody looks
EVERY_S = 0.2  # between two readings of a stream, from then on
SHOWN_WITHIN_MS = 3_000
SPANS = "#chart .shapelayer path[d$='Z']"  # shapes that are closed: the threshold is a line

expect.set_options(timeout=60_000)


class Plant:
    """Streams of readings to a topic, in the time that the wall clock shows; one of them can be made sick."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, linger_ms=0)
        self._topic = topic
        self._random = np.random.default_rng(0)
        self._step = 0
        self._started_s = time.time()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plant")
        self.sick: frozenset[str] = frozenset()

    def send_history(self) -> None:
        while self._step < HISTORY:
            self._send()
        self._producer.flush()
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._producer.close()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._send()

    def _send(self) -> None:
        time_ms = round(1000 * (self._started_s + (self._step - HISTORY) * EVERY_S))
        for n, stream in enumerate(STREAMS):
            values = 20 + n + math.sin(self._step / 12 + n) + self._random.normal(0, 0.1, len(FEATURES))
            values[0] += 25 if stream in self.sick else 0
            self._producer.send(self._topic, encode_reading(FEATURES, time_ms, values.tolist()), stream.encode())
        self._step += 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "quick.safetensors"
    detector = Detector.cold(some_forecaster(len(FEATURES)), QUICK)
    data = checkpoints.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoints.Metrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoints.save(path, detector, checkpoints.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


@pytest.fixture(scope="module")
def running(kafka: Broker, checkpoint: Path) -> Iterator[Service]:
    service = Service(
        kafka, checkpoint, made_topics(kafka), TELLTALE_HTTP__TOKEN=TOKEN, TELLTALE_HTTP__METRICS_PORT="0"
    )
    try:
        yield service.until_listening()
    finally:
        service.process.kill()


@pytest.fixture(scope="module")
def plant(kafka: Broker, running: Service) -> Iterator[Plant]:
    with closing(Plant(kafka, running.names.topic)) as plant:
        plant.send_history()
        yield plant


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


class Opened:
    """The page, and what its console said."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # Being asked for the token is an answer 401, which the console shows as an error.
        if message.type in ("error", "warning") and "401" not in message.text:
            self.complaints.append(message.text)

    def charted(self) -> dict[str, Any]:
        """What the chart shows, as the chart library has it."""
        shown: dict[str, Any] = self.page.evaluate(
            "() => { const traces = document.getElementById('chart').data;"
            " return {names: traces.map((t) => t.name), value: traces.find((t) => t.name === 'f0').y.at(-1)}; }"
        )
        return shown


@contextmanager
def opened(browser: Browser, running: Service, stream: str = "", **context: Any) -> Iterator[Opened]:
    """The page after the token has been given, with a stream chosen by its address."""
    with closing(browser.new_context(viewport={"width": 1280, "height": 800}, **context)) as session:
        shown = Opened(session.new_page())
        shown.page.goto(f"http://127.0.0.1:{running.port}/#{stream}")
        shown.page.locator("#token").fill(TOKEN)
        shown.page.locator("#ask button").click()
        expect(shown.page.locator("#state")).to_have_text("ready")
        yield shown
        assert shown.complaints == []


def test_the_page_asks_for_the_token_and_again_after_a_wrong_one(browser: Browser, running: Service) -> None:
    with closing(browser.new_context()) as session:
        page = session.new_page()
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.locator("#token").fill("not-the-token-at-all")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-note")).to_have_text("That was not this service's token.")
        expect(page.locator("#figure-streams")).not_to_have_text(re.compile(r"\d"))
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("ready")
        assert page.evaluate("() => document.cookie + JSON.stringify(localStorage)") == "{}"


def test_metrics_have_an_address_of_their_own_that_needs_no_token(running: Service) -> None:
    port = running.lines("metrics_listening")[0]["port"]
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert "telltale_readings_total" in metrics.text
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/status", trust_env=False).status_code == 404
    page = f"http://127.0.0.1:{running.port}"
    assert httpx.get(f"{page}/api/v1/status", trust_env=False).status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{page}/api/v1/status", headers=bearer, trust_env=False).status_code == 200
    assert httpx.get(f"{page}/metrics", headers=bearer, trust_env=False).status_code == 404
    assert TOKEN not in "".join(running.process.err)


def test_an_injected_fault_is_a_shaded_span_within_three_seconds(
    browser: Browser, running: Service, plant: Plant
) -> None:
    with opened(browser, running, SICK) as shown:
        shown.page.wait_for_function("() => (document.getElementById('chart').data?.[0].x.length ?? 0) > 5")
        expect(shown.page.locator(SPANS)).to_have_count(0)
        expect(shown.page.locator("#open-none")).to_be_visible()
        plant.sick = frozenset({SICK})
        began = time.monotonic()
        shown.page.wait_for_selector(SPANS, timeout=SHOWN_WITHIN_MS)
        print(f"shown after {time.monotonic() - began:.2f} s, of which at most {EVERY_S} s until the next reading")
        wrong = shown.page.locator("#open .pick")
        expect(wrong).to_have_count(1)
        expect(wrong).to_contain_text(SICK)
        expect(wrong).to_contain_text("f0")
        expect(shown.page.locator("#recent tr").first).to_contain_text(SICK)
        expect(shown.page).to_have_title("(1) Telltale")


def test_choosing_a_stream_changes_the_chart_and_the_strangest_comes_first(
    browser: Browser, running: Service, plant: Plant
) -> None:
    plant.sick = frozenset({SICK})
    with opened(browser, running) as shown:
        strangest = shown.page.locator("#streams .pick").first
        expect(strangest).to_contain_text(SICK)
        expect(shown.page.locator("#chosen-title")).to_have_text(SICK)  # what is wrong is shown without being asked for
        shown.page.locator("#streams .pick", has_text=OTHER).click()
        expect(shown.page.locator("#chosen-title")).to_have_text(OTHER)
        shown.page.wait_for_function("() => document.getElementById('chart').data?.length > 0")
        expect(shown.page.locator(SPANS)).to_have_count(0)
        value = shown.charted()["value"]
        assert abs(value - (20 + STREAMS.index(OTHER))) < 2
        assert {"forget", "input", "output", "score"} <= set(shown.charted()["names"])


def test_search_and_pages_are_the_services_and_the_keyboard_is_enough(
    browser: Browser, running: Service, plant: Plant
) -> None:
    with opened(browser, running) as shown:
        page = shown.page
        expect(page.locator("#streams-count")).to_have_text(str(len(STREAMS)))
        expect(page.locator("#streams .pick")).to_have_count(25)
        page.locator("#after").click()
        expect(page.locator("#place")).to_have_text(f"26 to {len(STREAMS)} of {len(STREAMS)}")
        page.locator("body").press("/")
        page.keyboard.type("PUMP-01")
        expect(page.locator("#streams-count")).to_have_text(f"10 of {len(STREAMS)}")
        expect(page.locator("#streams .pick")).to_have_count(10)
        page.keyboard.type("nowhere")
        expect(page.locator("#place")).to_have_text("no stream has that in its name")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_there_and_can_be_changed(
    browser: Browser, running: Service, plant: Plant, scheme: Any
) -> None:
    with opened(browser, running, OTHER, color_scheme=scheme) as shown:
        shown.page.wait_for_function("() => document.getElementById('chart').data?.length > 0")
        paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128"
        assert shown.page.evaluate(paper) == (scheme == "dark")
        shown.page.locator("#theme").click()
        assert shown.page.evaluate(paper) == (scheme == "light")
        shown.page.reload()
        assert shown.page.evaluate(paper) == (scheme == "light")


def test_the_page_says_when_the_service_is_gone(browser: Browser, running: Service) -> None:
    """The last test here: it ends the service."""
    with opened(browser, running) as shown:
        running.process.kill()
        expect(shown.page.locator("#state")).to_have_text("the service does not answer")
        shown.complaints.clear()  # that nobody answers
