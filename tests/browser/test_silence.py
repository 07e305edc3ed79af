"""What the page says of streams that send nothing: while it lasts, and of a silence that is over; a real service."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, expect

from service.input.wire import encode_reading
from tests.browser.scene import FEATURES
from tests.browser.test_everyone import DESK, PHONE, opened, violations
from tests.browser.test_page import browser, checkpoint
from tests.integration.test_end_to_end import Service, made_topics, wait_until
from tests.kafka import Broker

__all__ = ["browser", "checkpoint"]  # fixtures

STEADY = tuple(f"line-01/pump-{n:03d}" for n in range(8))  # so that each partition has some: they tell of the others
SILENT, BACK = "line-02/fan-001", "line-02/fan-002"
EVERY_MS = 10_000
READINGS = 720  # two hours
ENDS = 360  # readings of the silent one: an hour ago
GAP = range(200, 320)  # readings that do not come of the one that is back


@pytest.fixture(scope="module")
def running(kafka: Broker, checkpoint: Path) -> Iterator[Service]:
    service = Service(kafka, checkpoint, made_topics(kafka))
    random = np.random.default_rng(5)
    first_ms, sent = round(1000 * time.time()) - EVERY_MS * READINGS, 0
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        for n in range(READINGS):
            for stream in (*STEADY, SILENT, BACK):
                if (stream == SILENT and n >= ENDS) or (stream == BACK and n in GAP):
                    continue
                values = 20 + random.normal(0, 0.1, len(FEATURES))
                record = encode_reading(FEATURES, first_ms + EVERY_MS * n, values.tolist())
                producer.send(service.names.topic, record, stream.encode())
                sent += 1
    try:
        service.until_listening()
        wait_until(lambda: service.status()["counts"]["readings"] >= sent, "all is judged")
        yield service
    finally:
        service.process.kill()


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_silence_is_told_with_the_last_reading_and_how_long_it_has_lasted(
    browser: Browser, running: Service, size: Any, scheme: str
) -> None:
    with opened(browser, running, **size, color_scheme=scheme) as page:
        row = page.locator("#open .pick", has_text=SILENT[-7:])
        expect(row).to_contain_text("silent")
        expect(row).to_contain_text("no reading since")
        expect(row.locator(".since")).to_have_text(re.compile(r", 5\d min$"))  # it opened five minutes after the last
        assert violations(page) == []
        row.click()
        expect(page.locator("#chart")).to_have_attribute("role", "img")
        assert violations(page) == []


@pytest.mark.thorough
def test_a_silence_that_is_over_is_shown_by_its_link(browser: Browser, running: Service) -> None:
    """The stream judged by itself knows of no silence before it sends again, nor of the name that this one has."""
    with opened(browser, running, **DESK) as page:
        closing_row = page.locator("#recent tr", has_text=BACK).first
        expect(closing_row).to_contain_text("is over")
        expect(closing_row).to_contain_text("silent")
        closing_row.get_by_role("button").click()
        expect(page.locator("#chosen-title")).to_have_text(BACK)
        page.wait_for_function("begin => location.hash.startsWith(begin)", arg=f"#{quote(BACK, safe='')}&at=")
        told = page.locator("#chosen-anomaly")
        expect(told).to_contain_text("silent")
        expect(told).to_contain_text("no reading since")
        expect(told).to_contain_text("closed")
        assert violations(page) == []
