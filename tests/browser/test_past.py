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
SHOWN_MS = "() => { const [a, b] = document.getElementById('chart').layout.xaxis.range.map(Date.parse); return b - a; }"
CROSSES = """() => {
    const line = document.querySelector("#chart .spikeline");
    const length = line && Math.abs(line.getAttribute("y2") - line.getAttribute("y1"));
    return length > 0.8 * document.getElementById("chart").clientHeight;
}"""
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
    """In the reading's own trace, as the chart library has it: what is live may be drawn before what was."""
    page.wait_for_function(
        """([time, least]) => {
            const local = new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, -1);
            const trace = document.getElementById("chart").data?.find((one) => one.name === "f0");
            return trace && trace.x.filter((x) => x < local).length >= least;
        }""",
        arg=[time_ms, BEFORE],
    )


def test_an_anomaly_that_closed_an_hour_ago_is_shown_by_its_link_with_what_was_before(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        expect(page.locator(SPANS)).not_to_have_count(0)
        expect(page.locator("#chosen-anomaly")).to_contain_text(closed["severity"])
        expect(page.locator("#chosen-anomaly")).to_contain_text(re.compile("opened .* closed .* peak"))
        names = page.evaluate("() => document.getElementById('chart').data.map((trace) => trace.name)")
        assert {"forget", "input", "output", "score", "expected"} <= set(names)


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
        begin = page.evaluate("() => document.getElementById('chart').data[0].x[0]")
        page.locator("#earlier").click()
        page.wait_for_function("begin => (document.getElementById('chart').data?.[0].x[0] ?? '9') < begin", arg=begin)
        page.go_back()
        page.wait_for_function("begin => document.getElementById('chart').data?.[0].x[0] === begin", arg=begin)
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
        box = page.locator("#chart .nsewdrag").first.bounding_box()
        assert box is not None
        whole = page.evaluate(SHOWN_MS)
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for by in ("button", "pointer"):
            page.mouse.move(box["x"] + box["width"] / 4, middle[1])
            page.mouse.down()
            page.mouse.move(*middle, steps=5)
            page.mouse.up()
            expect(page.locator("#whole")).to_be_visible()
            page.wait_for_function(f"whole => Math.abs(({SHOWN_MS})() / whole - 0.25) < 0.05", arg=whole)
            if by == "button":
                page.locator("#whole").click()
            else:
                page.mouse.dblclick(*middle)
            expect(page.locator("#whole")).to_be_hidden()
            page.wait_for_function(f"whole => Math.abs(({SHOWN_MS})() / whole - 1) < 0.01", arg=whole)


def test_a_line_with_the_time_crosses_all_panels_where_the_pointer_is(
    browser: Browser, running: Service, closed: dict[str, Any]
) -> None:
    with opened(browser, running, link(closed)) as page:
        expect_readings_before(page, time_ms(closed["opened_at"]))
        panel, told = page.locator("#chart .nsewdrag").first, page.locator("#chart .hoverlayer")

        def is_told() -> bool:
            """What is told goes when the chart is drawn again, until the pointer moves again."""
            for place in (30, 60):
                panel.hover(position={"x": place, "y": 30})
            whole = all(name in (told.text_content() or "") for name in ("f0", "f1", "score", "forget"))
            return whole and bool(page.evaluate(CROSSES))

        wait_until(is_told, "a line through all panels, with what each has")


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
