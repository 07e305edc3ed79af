"""The page for everyone: on a phone, by keyboard alone, read out, in both themes, and by axe-core's rules."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from service.log.port import Record
from service.stages.incidents.events import FirstCause
from tests.browser.scene import visited
from tests.browser.test_incidents import MEMBER
from tests.browser.test_page import browser, checkpoint
from tests.browser.test_past import OTHER, STREAM, closed, incidents, link, running
from tests.integration.test_end_to_end import Service
from tests.kafka import Broker
from tests.service.http.test_incident_list import closing_event, event

__all__ = ["browser", "checkpoint", "closed", "incidents", "running"]  # fixtures

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
DESK: Any = {"viewport": {"width": 1280, "height": 860}}
PHONE: Any = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FINGER = 44  # pixels
BEFORE_ALL = "2020-01-01T00:00:00Z"
TARGETS = "button, select, input:not([type=checkbox]), a"


@contextmanager
def opened(browser: Browser, running: Service, address: str = "", **context: Any) -> Iterator[Page]:
    with visited(browser, f"http://127.0.0.1:{running.port}/{address}", **context) as shown:
        expect(shown.page.locator("#streams .pick").first).to_be_attached()
        expect(shown.page.locator("main")).to_be_visible()  # before that nothing in it has a place or takes the focus
        yield shown.page
        assert shown.complaints == []


def violations(page: Page) -> list[str]:
    if not AXE.exists():
        pytest.skip("axe-core is not here: npm was missing when `make setup` ran")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_on_any_view(
    kafka: Broker, browser: Browser, running: Service, incidents: str, closed: dict[str, Any], size: Any, scheme: str
) -> None:
    first = FirstCause(closed["anomaly"], STREAM, closed["kind"], closed["opened_at"])
    opening = event(group="line-01", first_cause=first, members=[MEMBER])
    kafka.produce(incidents, [(0, Record(None, one)) for one in (opening, closing_event(2))])
    with opened(browser, running, **size, color_scheme=scheme) as page:
        assert violations(page) == []
        page.locator("#streams .pick", has_text=OTHER).click()
        expect(page.locator("#chart")).to_have_attribute("role", "img")
        assert violations(page) == []
        page.evaluate("address => { location.hash = address }", link(closed))
        expect(page.locator("#chosen-anomaly")).to_be_visible()
        assert violations(page) == []
        page.evaluate("address => { location.hash = address }", f"#{quote(STREAM, safe='')}&at={BEFORE_ALL}")
        expect(page.locator("#past-note")).to_contain_text("before the stream began")
        assert violations(page) == []
        page.evaluate("location.hash = ''")
        row = page.locator("#incidents-open > li")
        row.get_by_role("button", name=re.compile("members of incident")).click()
        expect(row.locator(".sparkline")).to_be_visible()
        expect(row.locator(".member")).to_have_count(1)
        page.locator("#incidents-closed summary").click()
        expect(page.locator("#incidents-closed-list .incident")).to_be_visible()
        assert violations(page) == []
        page.locator("#show-keys").click()
        assert violations(page) == []


def test_on_a_phone_the_list_and_the_chosen_stream_are_two_views(browser: Browser, running: Service) -> None:
    with opened(browser, running, **PHONE) as page:
        expect(page.locator("#chosen")).to_be_hidden()
        page.locator("#streams .pick", has_text=OTHER).tap()
        expect(page.locator("#chosen-title")).to_have_text(OTHER)
        expect(page.locator("#streams")).to_be_hidden()
        page.locator("#back").tap()
        expect(page.locator("#streams")).to_be_visible()
        expect(page.locator("#chosen")).to_be_hidden()
        page.go_back()
        expect(page.locator("#chosen-title")).to_have_text(OTHER)
        expect(page.locator("#chosen")).to_be_visible()


@pytest.mark.parametrize("address", ["", f"#{STREAM.replace('/', '%2F')}"], ids=["list", "detail"])
def test_a_phone_needs_no_scrolling_sideways_and_a_finger_finds_all(
    browser: Browser, running: Service, address: str
) -> None:
    with opened(browser, running, address, **PHONE) as page:
        expect(page.locator("#state")).to_have_attribute("data-state", re.compile("ready|busy"))
        if address:
            expect(page.locator("#chart .plot")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
        small = page.evaluate(
            """([targets, least]) => [...document.querySelectorAll(targets)]
                .filter((one) => one.checkVisibility() && !one.matches(".skip"))
                .filter((one) => one.getBoundingClientRect().height < least)
                .map((one) => one.outerHTML.slice(0, 80))""",
            [TARGETS, FINGER],
        )
        assert small == []
        assert page.locator("header").bounding_box()["height"] <= 60  # type: ignore[index]


def test_names_are_cut_in_the_middle(browser: Browser, running: Service) -> None:
    with opened(browser, running, viewport={"width": 320, "height": 700}) as page:
        name = page.locator("#streams .pick", has_text=OTHER).locator(".name")
        ends = "name => [name, name.lastChild].map((one) => one.getBoundingClientRect().right)"  # in one look
        whole, tail = name.evaluate(ends)
        assert tail <= whole + 1
        expect(name.locator(".tail")).to_have_text(re.compile(f"^({'|'.join(OTHER[n:] for n in range(len(OTHER)))})$"))


def test_keys_lead_through_the_page_and_can_be_turned_off(browser: Browser, running: Service) -> None:
    with opened(browser, running, **DESK) as page:
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#keys")).to_be_hidden()
        expect(page.locator("#streams .pick").first).to_be_visible()
        page.keyboard.press("j")
        expect(page.locator(".pick:focus")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page.locator("#now")).to_be_visible()
        expect(page.locator(".pick:focus")).to_have_count(1)
        page.keyboard.press("/")
        page.keyboard.type("pump-002")
        expect(page.locator("#streams .pick")).to_have_count(1)
        page.locator("#show-keys").click()
        page.locator("#letters").uncheck()
        page.keyboard.press("Escape")
        expect(page.locator("#keys")).to_be_hidden()
        page.locator("#show-keys").focus()
        page.keyboard.press("/")
        expect(page.locator("#search")).not_to_be_focused()


def test_the_time_zone_is_named_and_can_be_changed(browser: Browser, running: Service, closed: dict[str, Any]) -> None:
    with opened(browser, running, link(closed), **DESK, timezone_id="Asia/Kolkata") as page:
        expect(page.locator("#zone")).to_have_value("Asia/Calcutta")
        page.locator("#zone").select_option("UTC")
        utc = closed["opened_at"][:19]
        # A field of date and time leaves out seconds of zero.
        expect(page.locator("#around")).to_have_value(utc.removesuffix(":00"))
        expect(page.locator("#chosen-anomaly")).to_contain_text(utc[11:])
        page.reload()
        expect(page.locator("#zone")).to_have_value("UTC")
