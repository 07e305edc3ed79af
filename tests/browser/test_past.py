"""What the page shows of the past: a real service, a real broker, and an anomaly that closed an hour ago."""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, Page, expect

from models.data.rfc3339 import rfc3339
from service.cli.moments import time_ms
from service.input.wire import encode_reading
from service.log.port import Record
from service.stages.incidents.events import FirstCause
from tests.browser.scene import FEATURES, visited
from tests.browser.test_page import SPANS, browser, checkpoint
from tests.integration.test_end_to_end import Service, made_topics, wait_until
from tests.kafka import Broker
from tests.service.http.test_incident_list import event

__all__ = ["browser", "checkpoint"]  # fixtures

STREAM, OTHER = "line-01/pump-001", "line-01/pump-002"
EVERY_MS = 10_000
READINGS = 1_080  # three hours
FAULT = range(540, 580)  # of readings: over for more than an hour
PLOT = "(await import('/page/chosen.js')).chart.plot"  # of the page's own module
BEFORE = 200  # readings that are to be shown before it


@pytest.fixture(scope="module")
def incidents(kafka: Broker) -> str:
    """Their topic."""
    return kafka.create_topic(1, "incidents")


@pytest.fixture(scope="module")
def running(kafka: Broker, checkpoint: Path, incidents: str) -> Iterator[Service]:
    service = Service(kafka, checkpoint, made_topics(kafka), TELLTALE_INCIDENTS__TOPIC=incidents)
    try:
        send_history(kafka, service.names.topic)
        service.until_listening()
        wait_until(lambda: service.status()["counts"]["readings"] >= 2 * READINGS, "all is judged")
        yield service
    finally:
        service.process.kill()


def send_history(kafka: Broker, topic: str) -> None:
    random = np.random.default_rng(5)
    first_ms = round(1000 * time.time()) - EVERY_MS * READINGS
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        for n in range(READINGS):
            for stream in (STREAM, OTHER):
                values = 20 + np.sin(n / 12) + random.normal(0, 0.1, len(FEATURES))
                values[0] += 25 if stream == STREAM and n in FAULT else 0
                record = encode_reading(FEATURES, first_ms + EVERY_MS * n, values.tolist())
                producer.send(topic, record, stream.encode())


@pytest.fixture(scope="module")
def closed(running: Service) -> dict[str, Any]:
    """The event with which the anomaly of the fault closed."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        answer = httpx.get(f"http://127.0.0.1:{running.port}/api/v1/anomalies", trust_env=False)
        events = [one["data"] for one in answer.json()["anomalies"]]
        found[:] = [one for one in events if one["stream"] == STREAM and one["closed_at"] is not None]
        return bool(found)

    wait_until(look, "the anomaly has closed")
    worst = max(found, key=lambda one: one["peak"])
    assert time_ms(worst["closed_at"]) < 1000 * time.time() - 3_600_000
    return worst


def link(closed: dict[str, Any]) -> str:
    return f"#{STREAM.replace('/', '%2F')}&at={closed['opened_at']}&anomaly={closed['anomaly']}"


@contextmanager
def opened(browser: Browser, running: Service, address: str) -> Iterator[Page]:
    with visited(browser, f"http://127.0.0.1:{running.port}/{address}") as shown:
        expect(shown.page.locator("#state")).to_have_text(re.compile("ready|readings"))
        yield shown.page
        assert shown.complaints == []


def expect_readings_before(page: Page, time_ms: int) -> None:
    """As they are drawn: what is live may be drawn before what was."""
    expect(page.locator("#chart .plot")).to_be_visible()
    drawn = f"async (time) => {PLOT}.drawing.times.filter((one) => one < time).length"
    wait_until(lambda: page.evaluate(drawn, time_ms) >= BEFORE, f"{BEFORE} readings before")


def shown_ms(page: Page) -> tuple[float, float]:
    """The first and the last time that the chart has room for."""
    first, last = page.evaluate(f"async () => {{ const {{ from, until }} = {PLOT}.shown; return [from, until]; }}")
    return first, last


def test_an_anomaly_that_closed_an_hour_ago_is_shown_by_its_link_with_what_was_before(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        expect(page.locator(SPANS)).not_to_have_count(0)
        expect(page.locator("#chosen-anomaly")).to_contain_text(closed["severity"])
        expect(page.locator("#chosen-anomaly")).to_contain_text(re.compile("opened .* closed .* peak"))
        expect(page.locator("#chart .line[data-name=forget]")).to_be_attached()


def test_a_stream_that_is_chosen_shows_readings_from_before_it_was_looked_at(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, "") as page:
        page.locator("#streams .pick", has_text=OTHER).click()
        expect(page.locator("#chosen-note")).to_contain_text("judged again from the topic")
        expect(page.locator("#build")).to_have_text(re.compile(r"checkpoint \w{12}\.$"))
        digest = page.locator("#build").inner_text().partition("checkpoint ")[2].rstrip(".")
        expect(page.locator("#chosen-note")).to_contain_text(f"judged by checkpoint {digest}. Readings since")
        expect_readings_before(page, round(1000 * time.time()))


@pytest.mark.thorough
def test_the_back_button_and_earlier_and_later_lead_through_time(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        begin, _ = shown_ms(page)
        page.locator("#earlier").click()
        wait_until(lambda: 0 < shown_ms(page)[0] < begin, "earlier readings are shown")
        page.go_back()
        wait_until(lambda: shown_ms(page)[0] == begin, "the ones before are shown again")
        expect(page.locator("#chosen-anomaly")).to_contain_text("closed")
        page.locator("#now").click()
        expect(page.locator("#now")).to_be_disabled()
        page.wait_for_function("hash => location.hash === hash", arg=f"#{STREAM.replace('/', '%2F')}")
        page.go_back()
        expect(page.locator("#chosen-anomaly")).to_contain_text("closed")


def test_dragging_across_the_chart_looks_closer_and_all_is_shown_again(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        expect(page.locator("#closer")).to_be_visible()
        expect(page.locator("#whole")).to_be_hidden()
        whole, inside = shown_ms(page), page.locator("#chart .inside")

        def drag(begin: float, end: float) -> None:
            """From one part of its width to another."""
            box = inside.bounding_box()
            assert box is not None
            for share, act in ((begin, page.mouse.down), (end, page.mouse.up)):
                page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=5)
                act()

        def expect_shown(begin: float, end: float) -> None:
            """Of the whole, from one part to another."""
            length = whole[1] - whole[0]
            asked = pytest.approx([begin, end], abs=0.02)
            wait_until(lambda: [(time - whole[0]) / length for time in shown_ms(page)] == asked, f"{begin} to {end}")

        for by in ("button", "pointer"):
            drag(0.25, 0.5)
            expect(page.locator("#whole")).to_be_visible()
            expect_shown(0.25, 0.5)
            page.keyboard.down("Shift")
            drag(0.2, 0.6)
            page.keyboard.up("Shift")
            expect_shown(0.15, 0.4)
            if by == "button":
                page.locator("#whole").click()
            else:
                inside.dblclick()
            expect(page.locator("#whole")).to_be_hidden()
            expect_shown(0, 1)


def test_a_line_with_the_time_crosses_all_panels_where_the_pointer_is(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        inside = page.locator("#chart .inside")
        inside.hover()
        for name in ("f0", "f1", "score", "forget"):
            expect(page.locator("#chart .told", has_text=name)).to_have_count(1)
        expect(page.locator("#chart .when")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
        lengths = (
            "() => [...document.querySelectorAll('#chart :is(.pointer, .inside)')].map((one) => one.getBBox().height)"
        )
        of_panels, of_line = page.evaluate(lengths)
        assert of_line > 0.9 * of_panels
        page.locator("#zone").select_option("UTC")  # it is drawn again
        expect(page.locator("#chart .pointer")).to_have_count(1)
        page.locator("h1").hover()
        expect(page.locator("#chart .pointer")).to_have_count(0)


def test_a_time_before_the_stream_began_is_said_to_be(browser: Browser, running: Service) -> None:
    address = f"#{STREAM.replace('/', '%2F')}&at={rfc3339(1_600_000_000_000)}"
    with opened(browser, running, address) as page:
        expect(page.locator("#past-note")).to_have_text(
            "That is before the stream began. This is where the stream begins."
        )
        expect(page.locator("#earlier")).to_be_disabled()


def test_why_there_is_no_past_is_said(browser: Browser, running: Service) -> None:
    with opened(browser, running, "#nowhere&at=2026-01-20T09:26:00Z") as page:
        expect(page.locator("#past-note")).to_have_text("The topic has no reading of this stream.")
        page.evaluate("location.hash = '#nowhere&at=yesterday'")
        expect(page.locator("#chosen-note")).to_contain_text("whose time is none")


def test_an_incident_says_what_was_seen_and_expected_and_draws_what_was_first(
    kafka: Broker, browser: Browser, running: Service, incidents: str, closed: dict[str, Any]
) -> None:
    first = FirstCause(closed["anomaly"], STREAM, closed["kind"], closed["opened_at"])
    kafka.produce(incidents, [(0, Record(None, event(group="line-01", first_cause=first)))])
    with opened(browser, running, "") as page:
        row = page.locator("#incidents-open > li")
        expect(row).to_contain_text(re.compile(r"f0 [\d.]+, expected [\d.]+ \([\d.]+ to [\d.]+\)"))
        expect(row).to_contain_text(re.compile(r"once in (more than )?\d+ \w+"))
        row.get_by_role("button", name=re.compile("members of incident")).click()
        chart = row.get_by_role("img", name=re.compile("f0 from .* to .*"))
        expect(chart).to_be_visible()
        expect(chart.locator(".span")).not_to_have_count(0)
        expect(chart.locator(".line")).to_have_attribute("d", re.compile("(L[^L]+){61,}"))


@pytest.mark.thorough
def test_an_incident_that_is_opened_again_draws_what_came_since(
    kafka: Broker, browser: Browser, running: Service, incidents: str
) -> None:
    first = FirstCause("0" * 8, OTHER, "sudden", rfc3339(last_of(running, OTHER)))
    kafka.produce(incidents, [(0, Record(None, event(incident="fresh", group="line-09", first_cause=first)))])
    with opened(browser, running, "") as page:
        row = page.locator("#incidents-open > li", has_text="line-09")
        more = row.get_by_role("button", name=re.compile("members of incident"))
        more.click()
        chart = row.locator(".sparkline")
        expect(chart).to_be_visible()
        ended = chart.get_attribute("aria-label") or ""
        send_after(kafka, running, OTHER, 30)
        more.click()
        expect(chart).to_have_count(0)
        more.click()
        expect(chart).not_to_have_attribute("aria-label", ended)
        expect(chart).to_have_attribute("aria-label", re.compile("f0 from .* to .*"))


def last_of(running: Service, stream: str) -> int:
    """Time of its last reading."""
    address = f"http://127.0.0.1:{running.port}/api/v1/streams"
    (found,) = httpx.get(address, params={"search": stream}, trust_env=False).json()["streams"]
    return time_ms(found["time"])


def send_after(kafka: Broker, running: Service, stream: str, count: int) -> None:
    """That many readings a second apart, and wait until they are judged."""
    last_ms = last_of(running, stream)
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        for n in range(1, count + 1):
            record = encode_reading(FEATURES, last_ms + 1_000 * n, [20.0] * len(FEATURES))
            producer.send(running.names.topic, record, stream.encode())
    wait_until(lambda: last_of(running, stream) == last_ms + 1_000 * count, "they are judged")
