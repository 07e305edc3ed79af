"""What the page says of how a real service stands, which reads from a real broker, is stopped, and is killed."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import running_browser
from tests.browser.scene import Plant, visited
from tests.browser.test_standing import NO_FIGURE, NOT_GREEN_WITHIN_MS, expect_not_said_to_be_well, expect_state
from tests.integration.test_end_to_end import Service, made_topics, quick, wait_until
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture

STREAMS = tuple(f"pump-{n:02d}" for n in range(12))
ALL = "All 12 streams are judged, and each is as it is expected to be."
WARM_UP = 80  # readings
# What browsers do to the timers of a page that has been in the background for five minutes.
THROTTLED = """
    for (const name of ["setInterval", "setTimeout"]) {
        const set = window[name].bind(window);
        window[name] = (call, ms, ...rest) => set(call, Math.max(ms ?? 0, 60_000), ...rest);
    }
"""


@pytest.fixture(scope="module")
def running(kafka: Broker, quick: Path) -> Iterator[Service]:
    service = Service(kafka, quick, made_topics(kafka))
    try:
        yield service.until_listening()
    finally:
        service.process.kill()


@pytest.fixture(scope="module")
def plant(kafka: Broker, running: Service) -> Iterator[Plant]:
    with closing(Plant(kafka, running.names.topic, STREAMS, history=2 * WARM_UP)) as plant:
        yield plant


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, running: Service, script: str = "") -> Iterator[Page]:
    with visited(browser, f"http://127.0.0.1:{running.port}/", script) as shown:
        yield shown.page


@pytest.mark.thorough
def test_a_service_is_said_to_be_well_when_it_judges_and_not_before(
    browser: Browser, running: Service, plant: Plant
) -> None:
    with opened(browser, running) as page:
        expect_state(page, "busy", "no stream yet")
        expect(page.locator("#unjudged")).to_contain_text(f"nothing has been read from {running.names.topic}")
        expect_not_said_to_be_well(page)
        plant.send(10)
        expect_state(page, "busy", "no stream is judged yet")
        expect(page.locator("#unjudged")).to_contain_text("All 12 streams are still learning what is normal.")
        expect_not_said_to_be_well(page)
        plant.send(2 * WARM_UP - 10)
        plant.start()
        expect_state(page, "ready", "ready")
        expect(page.locator(".calm")).to_have_text(f"Nothing. {ALL}")


@pytest.fixture
def judging(running: Service, plant: Plant) -> Service:
    """It judges all streams."""
    if not plant.started:
        plant.send(2 * WARM_UP)
        plant.start()
    wait_until(lambda: sum(one["warming"] for one in running.status()["partitions"]) == 0, "all have learned")
    return running


@pytest.mark.thorough
@pytest.mark.parametrize("script", ["", THROTTLED], ids=["in the foreground", "in the background"])
def test_a_stopped_service_is_not_green_and_is_again_when_it_goes_on(
    browser: Browser, judging: Service, script: str
) -> None:
    with opened(browser, judging, script) as page:
        expect_state(page, "ready", "ready")
        judging.process.signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            expect(page.locator("#state")).not_to_have_attribute("data-state", "ready", timeout=NOT_GREEN_WITHIN_MS)
            print(f"not green {time.monotonic() - began:.2f} s after SIGSTOP")
            expect_state(page, "gone", re.compile(r"(has not been heard|not come round) since \d\d:\d\d:\d\d$"))
            expect(page.locator("#unjudged")).to_contain_text("What is shown below is as it was at")
            expect(page).to_have_title(re.compile("^(not heard|not judging) · Telltale$"))
            expect_not_said_to_be_well(page)
        finally:
            judging.process.signal(signal.SIGCONT)
        began = time.monotonic()
        expect_state(page, "ready", "ready")
        print(f"green {time.monotonic() - began:.2f} s after SIGCONT")
        expect(page.locator("#open-none")).to_contain_text(ALL)


@pytest.mark.thorough
def test_a_connection_that_has_gone_silent_is_opened_again(browser: Browser, judging: Service) -> None:
    """The process that answers is stopped: nothing is sent, and nothing is closed."""
    (web,) = psutil.Process(judging.process.pid).children()
    with opened(browser, judging) as page:
        expect_state(page, "ready", "ready")
        web.suspend()
        try:
            expect_state(page, "gone", re.compile(r"^the service has not been heard since \d\d:\d\d:\d\d$"))
            expect_not_said_to_be_well(page)
            expect_state(page, "gone", re.compile(r"^the service does not answer; last heard at \d\d:\d\d:\d\d$"))
        finally:
            web.resume()
        expect_state(page, "ready", "ready")


def test_dead_letters_are_said_before_what_is_well(browser: Browser, judging: Service, plant: Plant) -> None:
    with opened(browser, judging) as page:
        expect_state(page, "ready", "ready")
        for stream in STREAMS[:5]:
            plant.send_record(b"this is no reading", stream)
        expect(page.locator("#unjudged")).to_contain_text(
            re.compile(r"5 records were refused and not judged since .*: 5 bad json. They are in the dead letters.")
        )
        expect(page.locator("#open-none")).to_contain_text(ALL)
        expect(page.locator(".calm:visible")).to_have_count(0)
        words = page.locator("main").inner_text()
        assert words.index("5 records were refused") < words.index(ALL)


def test_a_reading_a_day_ahead_is_not_of_just_now(browser: Browser, judging: Service, plant: Plant) -> None:
    with opened(browser, judging) as page:
        expect_state(page, "ready", "ready")
        plant.send_ahead(STREAMS[0], 23 * 3600)
        expect(page.locator("#figure-newest")).to_have_text("23 h ahead")
        expect_state(page, "busy", "the newest reading is ahead of time")


def test_a_killed_service_is_gone_at_once(browser: Browser, judging: Service) -> None:
    """The last test here: it ends the service."""
    with opened(browser, judging) as page:
        expect(page.locator("#figure-rate")).to_have_text(re.compile(r"\d"))
        judging.process.kill()
        expect_state(page, "gone", re.compile(r"^the service does not answer; last heard at \d\d:\d\d:\d\d$"))
        expect(page.locator("#figure-rate")).to_have_text(NO_FIGURE)
        expect(page).to_have_title("no answer · Telltale")
        expect_not_said_to_be_well(page)
