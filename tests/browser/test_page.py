"""The live page in a real browser, shown by a real service that reads from a real broker.

What it says of how the service stands is in test_standing and test_standing_live.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import running_browser
from tests.browser.scene import EVERY_S, Opened, Plant, save_checkpoint, visited
from tests.integration.test_end_to_end import Service, made_topics
from tests.kafka import Broker

TOKEN = "a-token-of-the-tests"
STREAMS = tuple(f"line-{n % 3:02d}/pump-{n:03d}" for n in range(40))
SICK, OTHER = STREAMS[7], STREAMS[8]
HISTORY = 240  # readings of each stream that are there before anybody looks
SHOWN_WITHIN_S = 3.0
SPANS = "#chart .span"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("page") / "quick.safetensors")


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
    with closing(Plant(kafka, running.names.topic, STREAMS, HISTORY)) as plant:
        plant.send(HISTORY)
        plant.start()
        yield plant


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, running: Service, stream: str = "", **context: Any) -> Iterator[Opened]:
    """The page after the token has been given, with a stream chosen by its address."""
    with visited(browser, f"http://127.0.0.1:{running.port}/#{stream}", **context) as shown:
        shown.page.locator("#token").fill(TOKEN)
        shown.page.locator("#ask button").click()
        expect(shown.page.locator("#state")).to_have_text("ready")
        yield shown
        assert shown.complaints == []


def test_the_page_asks_for_the_token_and_again_after_a_wrong_one(browser: Browser, running: Service) -> None:
    with visited(browser, f"http://127.0.0.1:{running.port}/") as shown:
        page = shown.page
        expect(page.locator("#state")).to_have_text("a token is needed")
        page.locator("#token").fill("not-the-token-at-all")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-note")).to_have_text("That was not this service's token.")
        expect(page.locator("#figure-streams")).not_to_have_text(re.compile(r"\d"))
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#figure-streams")).to_have_text(re.compile(r"\d"))
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


@pytest.mark.thorough
@pytest.mark.alone
def test_an_injected_fault_is_a_shaded_span_within_three_seconds(
    browser: Browser, running: Service, plant: Plant
) -> None:
    with opened(browser, running, SICK) as shown:
        expect(shown.page.locator("#chart .line").first).to_be_attached()
        expect(shown.page.locator(SPANS)).to_have_count(0)
        expect(shown.page.locator("#open-none")).to_be_visible()
        plant.sick = frozenset({SICK})
        began = time.monotonic()
        overbooked = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # then everything takes so much longer
        shown.page.wait_for_selector(SPANS, timeout=1000 * SHOWN_WITHIN_S * overbooked)
        print(f"shown after {time.monotonic() - began:.2f} s, of which at most {EVERY_S} s until the next reading")
        wrong = shown.page.locator("#open .pick")
        expect(wrong).to_have_count(1)
        expect(wrong).to_contain_text(SICK)
        expect(wrong).to_contain_text("f0")
        expect(shown.page.locator("#recent tr").first).to_contain_text(SICK)
        expect(shown.page).to_have_title("(1) Telltale")
        expect(shown.page.locator("#announcement")).to_contain_text(f"anomaly has opened in {SICK}")


def test_choosing_a_stream_changes_the_chart_and_the_strangest_comes_first(
    browser: Browser, running: Service, plant: Plant
) -> None:
    plant.sick = frozenset({SICK})
    with opened(browser, running) as shown:
        strangest = shown.page.locator("#streams .pick").first
        expect(strangest).to_contain_text(SICK)
        expect(shown.page.locator("#chosen-title")).to_have_text(SICK)  # what is wrong is shown without being asked for
        shown.page.locator("#search").fill(OTHER)  # the list's first 25 change with the scores
        shown.page.locator("#streams .pick", has_text=OTHER).click()
        expect(shown.page.locator("#chosen-title")).to_have_text(OTHER)
        assert {"f0", "f1", "expected", "score", "forget", "input", "output"} == set(shown.charted())
        expect(shown.page.locator(SPANS)).to_have_count(0)
        shown.page.locator("#chart .inside").hover()
        told = shown.page.locator("#chart .told").first
        expect(told).to_have_text(re.compile(r"^f0 [\d.]+, expected"))
        assert abs(float((told.text_content() or "").split()[1].rstrip(",")) - (20 + STREAMS.index(OTHER))) < 2


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
        dark = "dark => (getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 128) === dark"
        shown.page.wait_for_function(dark, arg=scheme == "dark")
        shown.page.locator("#theme").click()
        shown.page.wait_for_function(dark, arg=scheme == "light")
        shown.page.reload(wait_until="commit")
        expect(shown.page.locator("#theme")).to_have_text(scheme)  # the other one, to be chosen again
        shown.page.wait_for_function(dark, arg=scheme == "light")
        shown.page.route("**/page/page.js", lambda asked: asked.fulfill(body="", content_type="text/javascript"))
        shown.page.reload()
        assert shown.page.evaluate(dark, scheme == "light"), "painted in the other one until the modules are there"


@pytest.mark.thorough
def test_on_a_phone_a_storm_is_five_rows_until_all_are_asked_for(
    browser: Browser, running: Service, plant: Plant
) -> None:
    """The last test here: many streams are in alarm after it."""
    plant.sick = frozenset(STREAMS[:8])
    phone: Any = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(browser, running, **phone) as shown:
        expect(shown.page.locator("#open-all")).to_have_text("show all 8")
        rows = shown.page.locator("#open .pick")
        expect(rows).to_have_count(5)
        shown.page.locator("#open-all").tap()
        expect(rows).to_have_count(8)
        expect(rows.nth(5)).to_be_focused()
        expect(shown.page.locator("#open-all")).to_be_hidden()
