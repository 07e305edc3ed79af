"""Incidents on the page: a real service, and events that are on the topic of incidents of a real broker."""

import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, expect

from service.kafka.topics import TopicSpec, create_topics
from service.stages.incidents.events import NamedMember
from tests.browser.scene import visited
from tests.browser.test_page import browser, checkpoint
from tests.integration.test_end_to_end import Service, made_topics
from tests.kafka import Broker
from tests.service.http.test_incident_list import DATA, closing_event, event
from tests.service.stages.incidents.plant import time_at

__all__ = ["browser", "checkpoint"]  # fixtures

MEMBER = NamedMember(
    "a-2", "site/line-3/pump-8/flow", "open", "minor", "level", time_at(1), None, "known", "flow", 86_400.0, None
)
WITHIN_MS = 30_000  # the topic is looked at every 2 s, the list asked for every 10 s


@pytest.fixture
def topic(kafka: Broker) -> str:
    name = f"incidents-{uuid.uuid4().hex[:8]}"
    create_topics(kafka.bootstrap_servers, {name: TopicSpec(1, 1)})
    return name


@pytest.fixture
def running(kafka: Broker, checkpoint: Path, topic: str) -> Iterator[Service]:
    service = Service(kafka, checkpoint, made_topics(kafka), TELLTALE_INCIDENTS__TOPIC=topic)
    try:
        yield service.until_listening()
    finally:
        service.process.kill()


@pytest.mark.thorough
def test_incidents_are_listed_above_what_is_wrong_now_and_lead_to_their_first_cause(
    kafka: Broker, browser: Browser, running: Service, topic: str
) -> None:
    def say(*events: bytes) -> None:
        with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
            for one in events:
                producer.send(topic, one, partition=0)

    rarer = msgspec.structs.replace(MEMBER, anomaly="a-3", return_period_s=40 * 86_400.0)
    say(
        event(incident="i-2", group="site/line-4", severity="minor", acknowledged_by="anna", members=[rarer]),
        event(members=[MEMBER], severity="critical"),
    )
    with visited(browser, f"http://127.0.0.1:{running.port}/") as shown:
        rows = shown.page.locator("#incidents-open .incident")
        expect(rows).to_have_count(2, timeout=WITHIN_MS)
        expect(rows.nth(0)).to_contain_text("once in 40 days")
        expect(rows.nth(0)).to_contain_text("acknowledged by anna")
        expect(rows.nth(1)).to_contain_text("3 anomalies in 2 streams, 2 open")
        first_above = "document.querySelector('#incidents').compareDocumentPosition(document.querySelector('#wrong'))"
        assert shown.page.evaluate(first_above) & 4  # DOCUMENT_POSITION_FOLLOWING
        rows.nth(1).click()
        expect(shown.page.locator("#chosen-title")).to_have_text(DATA.first_cause.stream)
        where = shown.page.evaluate("location.hash")
        assert where.startswith("#site%2Fline-3%2Fpump-7%2Fflow&at=")
        assert f"anomaly={DATA.first_cause.anomaly}" in where
        assert where.endswith(f"incident={DATA.incident}")
        expect(shown.page.locator(".members")).to_have_count(0)
    with visited(browser, f"http://127.0.0.1:{running.port}/{where}") as shown:
        rows = shown.page.locator("#incidents-open .incident")
        named = shown.page.locator("#incidents-open li").filter(
            has=shown.page.locator(f"[data-incident='{DATA.incident}']")
        )
        expect(named.locator(".members .member")).to_have_text([re.compile(MEMBER.stream)], timeout=WITHIN_MS)
        expect(shown.page.locator(".members")).to_have_count(1)

        expect(shown.page.locator("#announcement")).to_be_empty()  # these were open before the page was
        say(event(incident="i-3", group="site/line-5", severity="major"))
        expect(shown.page.locator("#announcement")).to_have_text(
            re.compile("A major incident has opened in site/line-5: 3 anomalies in 2 streams"), timeout=WITHIN_MS
        )
        say(closing_event(1), closing_event(3))
        expect(rows).to_have_count(1, timeout=WITHIN_MS)
        expect(shown.page.locator("#incidents-closed-list .incident")).to_have_count(2)
