"""What people say on the page: a storm on a phone, with a real service, a real `telltale incidents` and a broker."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from service.log.port import Record
from service.stages.incidents.events import CONTROL_APPLIED
from tests.browser.scene import visited
from tests.browser.test_everyone import DESK, FINGER, PHONE, TARGETS, violations
from tests.browser.test_page import TOKEN, browser, checkpoint
from tests.integration.test_end_to_end import Service, wait_until
from tests.integration.test_incidents import controls_of, prepared, running
from tests.kafka import Broker
from tests.service.stages.incidents.plant import NOW_MS, anomaly_record

__all__ = ["browser", "checkpoint"]  # fixtures

STREAMS = tuple(f"site/line-3/pump-{n:02d}/flow" for n in range(30))
ALONE, GROUP = "site/line-5/fan-01/current", "site/line-5"


class Plant(NamedTuple):
    service: Service
    incidents: str  # topic
    broker: Broker

    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(one.record.value or b"") for one in self.broker.read_committed(self.incidents)]

    def holds(self) -> list[bool]:
        """What workers are told of dependencies: that one holds, or no more."""
        controls = [one.record for one in self.broker.read_committed(controls_of(self.incidents))]
        holding = {record.key for record in controls if b'"holds"' in (record.value or b"")}
        return [record.value is not None for record in controls if record.key in holding]

    def until_applied(self, *controls: str) -> None:
        """Type and effect of what `telltale incidents` has taken in last."""

        def look() -> bool:
            applied = [one["data"] for one in self.events() if one["type"] == CONTROL_APPLIED]
            said = [f"{(one['given'] or {}).get('type')} {one['effect']}" for one in applied]
            return said[-len(controls) :] == list(controls)

        wait_until(look, f"{controls} applied")


@pytest.fixture(scope="module")
def storm(kafka: Broker, checkpoint: Path) -> Iterator[Plant]:
    """30 streams of a line within a minute, and one elsewhere."""
    names, topic = prepared(kafka)
    now_s = time.time() - NOW_MS / 1000

    def opened(stream: str, ago_s: float, severity: str) -> tuple[int, Record]:
        return 0, anomaly_record(stream, "opened", now_s - ago_s, now_s - ago_s, severity)

    kafka.produce(names.anomalies, [opened(stream, 200 - n, "critical") for n, stream in enumerate(STREAMS)])
    kafka.produce(names.anomalies, [opened(ALONE, 20, "minor")])  # by then the storm's last update is due
    where = {"TELLTALE_INCIDENTS__TOPIC": topic, "TELLTALE_INCIDENTS__CONTROL_TOPIC": controls_of(topic)}
    with running(kafka, names, topic, "one"):
        service = Service(kafka, checkpoint, names, TELLTALE_HTTP__TOKEN=TOKEN, **where)
        try:
            yield Plant(service.until_listening(), topic, kafka)
        finally:
            service.process.kill()


@contextmanager
def opened(browser: Browser, plant: Plant, **context: Any) -> Iterator[Page]:
    with visited(browser, f"http://127.0.0.1:{plant.service.port}/", **context) as shown:
        shown.page.locator("#token").fill(TOKEN)
        shown.page.locator("#ask button").click()
        expect(shown.page.locator("#incidents-open .incident")).to_have_count(2)
        expect(shown.page.locator("main")).to_be_visible()  # before that nothing in it takes the focus
        yield shown.page
        assert shown.complaints == []


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_in_the_dialogs(browser: Browser, storm: Plant, size: Any, scheme: str) -> None:
    with visited(browser, f"http://127.0.0.1:{storm.service.port}/", **size, color_scheme=scheme) as shown:
        page = shown.page
        expect(page.locator("#ask")).to_be_visible()
        assert violations(page) == []
        page.locator("#token").fill("not-the-token-at-all")
        page.locator("#ask button").click()
        expect(page.locator("#ask-note")).to_have_text("That was not this service's token.")
        assert violations(page) == []
        page.locator("#token").fill(TOKEN)
        page.locator("#ask button").click()
        row = page.locator("#incidents-open > li").first
        for saying in ("Acknowledge", "Mute", "Label"):
            row.get_by_role("button", name=re.compile(f"^{saying} incident")).click()
            expect(page.locator("#say")).to_be_visible()
            assert violations(page) == []
            page.locator("#say-cancel").click()
        assert shown.complaints == []


@pytest.mark.thorough
def test_a_storm_on_a_phone_is_read_acknowledged_and_muted(browser: Browser, storm: Plant) -> None:
    with opened(browser, storm, **PHONE) as page:
        row = page.locator("#incidents-open > li").filter(has_text="site/line-3")
        expect(row).to_contain_text("30 anomalies in 30 streams")
        row.get_by_role("button", name=re.compile("members of incident")).tap()
        members = row.locator(".member")
        expect(members).to_have_count(30)
        expect(members.first).to_contain_text("pump-00/flow")  # what was first comes first

        row.get_by_role("button", name="Acknowledge incident site/line-3").tap()
        page.locator("#say-by").fill("anna")
        page.locator("#say-choices button").tap()
        expect(row.locator(".said")).to_contain_text("acknowledged by anna")
        expect(row.get_by_role("button", name="Acknowledge incident")).to_have_count(0)

        row.get_by_role("button", name="Mute incident site/line-3").tap()
        expect(page.locator("#say-scope option")).to_have_text(
            ["all of site/line-3/*", "only the 30 streams in it now"]
        )
        assert violations(page) == []
        page.locator("#say-learn").check()
        page.locator("#say-choices").get_by_role("button", name="for 8 hours").tap()
        expect(page.locator("#outcome")).to_have_text("Muted: incident site/line-3.")
        expect(row).to_contain_text(re.compile("muted until .*, learned from by anna"))
        storm.until_applied("acknowledgement set", "quiet set")

        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
        small = page.evaluate(
            """([targets, least]) => [...document.querySelectorAll(targets)].filter((one) => one.checkVisibility()
                && !one.matches(".skip") && one.getBoundingClientRect().height < least).map((one) => one.outerHTML)""",
            [TARGETS, FINGER],
        )
        assert small == []
        assert violations(page) == []
        members.nth(1).tap()
        expect(page.locator("#chosen-title")).to_have_text(STREAMS[1])
        expect(page.locator("#incidents")).to_be_hidden()
        expect(page.locator("#chosen-sayings")).to_contain_text("in incident site/line-3")
        expect(page.locator("#chosen-sayings")).to_contain_text("acknowledged by anna")
    told = [one["data"] for one in storm.events() if one["data"].get("acknowledged_by") == "anna"]
    assert {one["group"] for one in told} == {"site/line-3"}


@pytest.mark.thorough
def test_what_is_said_by_keys_can_be_taken_back(browser: Browser, storm: Plant) -> None:
    with opened(browser, storm, **DESK, color_scheme="dark") as page:
        row = page.locator("#incidents-open > li").filter(has_text=GROUP)
        row.locator(".incident").focus()
        page.keyboard.press("a")
        expect(page.locator("#say-by")).to_be_focused()
        page.keyboard.type("ben")
        page.keyboard.press("Enter")
        expect(row.locator(".said")).to_contain_text("acknowledged by ben")
        page.keyboard.press("b")
        expect(page.locator("#say")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(page.locator("#say-choices button", has_text="known, unimportant")).to_be_focused()
        page.keyboard.press("Enter")
        expect(row).to_contain_text("called known, unimportant by ben")
        storm.until_applied("acknowledgement set", "label set")
        listed = page.locator("#in-force-list .said", has_text="by ben")
        expect(listed).to_have_count(2)
        row.get_by_role("button", name=re.compile("member of incident")).click()
        expect(row.locator(".member")).to_have_count(1)
        assert violations(page) == []

        row.get_by_role("button", name=re.compile("Take back: acknowledged")).click()
        expect(row).not_to_contain_text("acknowledged by ben")
        row.get_by_role("button", name=re.compile("Take back: called")).click()
        expect(listed).to_have_count(0)
        storm.until_applied("acknowledgement set", "label set", "None taken_back", "None taken_back")


@pytest.mark.thorough
def test_a_key_says_nothing_of_what_is_chosen_while_another_row_has_the_focus(browser: Browser, storm: Plant) -> None:
    """The row with the focus is acknowledged already, the chosen incident is not."""
    with opened(browser, storm, **DESK) as page:
        page.evaluate("localStorage.setItem('telltale-name', 'ben')")
        rows = page.locator("#incidents-open > li")
        chosen, other = rows.filter(has_text=GROUP), rows.filter(has_text="site/line-3")
        chosen.locator(".incident").click()
        expect(page.locator("#chosen-sayings").get_by_role("button", name="Acknowledge incident")).to_be_visible()
        other.locator(".incident").focus()
        page.keyboard.press("a")
        expect(page.locator("#outcome")).to_have_text("Acknowledge: there is nothing here to say it of.")
        expect(page.locator("#in-force-list .said", has_text="acknowledged by ben")).to_have_count(0)
        page.keyboard.press("m")
        expect(page.locator("#say")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#say")).to_be_hidden()
        expect(other.locator(".incident")).to_be_focused()
        page.locator("#chosen").focus()
        page.keyboard.press("a")
        expect(page.locator("#outcome")).to_have_text(f"Acknowledged: incident {GROUP}.")
        chosen.get_by_role("button", name=re.compile("Take back: acknowledged")).click()
        storm.until_applied("acknowledgement set", "None taken_back")


@pytest.mark.thorough
def test_where_no_token_is_set_the_page_says_why_nothing_can_be_said(
    kafka: Broker, browser: Browser, checkpoint: Path, storm: Plant
) -> None:
    where = {"TELLTALE_INCIDENTS__TOPIC": storm.incidents}
    where |= {"TELLTALE_INCIDENTS__CONTROL_TOPIC": controls_of(storm.incidents)}
    service = Service(kafka, checkpoint, storm.service.names, **where)
    try:
        with visited(browser, f"http://127.0.0.1:{service.until_listening().port}/") as shown:
            expect(shown.page.locator("#incidents-open .incident")).to_have_count(2)
            expect(shown.page.locator("#no-token")).to_be_visible()
            expect(shown.page.locator("[data-action]")).to_have_count(0)
    finally:
        service.process.kill()


@pytest.mark.thorough
def test_streams_that_depend_on_the_chosen_one_are_quiet_until_it_is_taken_back(browser: Browser, storm: Plant) -> None:
    """What is said of the stream that is alone in its group: others, that are anomalous now, depend on it."""
    with opened(browser, storm, **DESK) as page:
        page.evaluate("localStorage.setItem('telltale-name', 'ben')")
        page.locator("#incidents-open > li").filter(has_text=GROUP).locator(".incident").click()
        sayings = page.locator("#chosen-sayings")
        expect(sayings).to_contain_text("in incident site/line-5")
        sayings.get_by_role("button", name=f"Quiet others with {ALONE}").click()
        expect(page.locator("#say-on")).to_have_value(ALONE)
        expect(page.locator("#say-streams")).to_have_value("site/line-5/*")
        assert violations(page) == []
        page.locator("#say-streams").fill("")
        page.locator("#say-choices button").click()
        expect(page.locator("#say")).to_be_visible()  # it asks for them
        page.locator("#say-streams").fill("site/line-3/*, site/line-4/*")
        page.locator("#say-note").fill("the fan cools them")
        page.locator("#say-choices button").click()
        expect(page.locator("#outcome")).to_have_text(f"Others are quiet with: {ALONE}.")
        words = f"2 streams: quiet while {ALONE} is anomalous by ben"
        expect(sayings.locator(".said", has_text=words)).to_have_count(1)
        expect(page.locator("#in-force-list .said", has_text=words)).to_contain_text("the fan cools them")
        storm.until_applied("dependency set", "holds set")
        wait_until(lambda: storm.holds() == [True], "workers being told, as the fan is anomalous")
        take_back = sayings.get_by_role("button", name=re.compile("Take back: 2 streams"))
        take_back.click()
        expect(sayings.locator(".said", has_text=words)).to_have_count(0)
        storm.until_applied("dependency set", "holds set", "None taken_back", "None taken_back")
        wait_until(lambda: storm.holds() == [True, False], "workers being told that it is over")
    applied = [one["data"] for one in storm.events() if one["type"] == CONTROL_APPLIED]
    (given,) = (one["given"] for one in applied if (one["given"] or {}).get("type") == "dependency")
    assert (given["by"], given["streams"], given["on"], given["reason"]) == (
        "ben",
        ["site/line-3/*", "site/line-4/*"],
        [ALONE],
        "the fan cools them",
    )


@pytest.mark.thorough
def test_a_label_makes_a_rule_for_what_comes_later_until_it_is_taken_back(browser: Browser, storm: Plant) -> None:
    """The last test of the storm: its anomaly comes 20 minutes later and is an incident of its own."""
    with opened(browser, storm, **DESK) as page:
        page.evaluate("localStorage.setItem('telltale-name', 'ben')")
        rows = page.locator("#incidents-open > li").filter(has_text=GROUP)
        rows.locator(".incident").click()
        sayings = page.locator("#chosen-sayings")
        expect(sayings).to_contain_text("in incident site/line-5")
        sayings.get_by_role("button", name=f"Label {ALONE}").click()
        expect(page.locator("#say-rule option")).to_have_count(4)
        expect(page.locator("#say-rule")).to_have_value("day")
        assert violations(page) == []
        page.locator("#say-choices").get_by_role("button", name="normal").click()
        expect(sayings).to_contain_text("called normal (so are later ones like it, around its hour each day) by ben")
        storm.until_applied("label set")

        at_s = time.time() - NOW_MS / 1000 + 1_200
        storm.broker.produce(
            storm.service.names.anomalies, [(0, anomaly_record(ALONE, "opened", at_s, at_s, "minor", 1))]
        )
        expect(rows).to_have_count(2, timeout=30_000)
        expect(rows.filter(has_text="no one is notified: rule of label-")).to_have_count(1)
        rows.first.get_by_role("button", name=re.compile("Take back: called")).click()
        expect(rows.filter(has_text="no one is notified")).to_have_count(0, timeout=30_000)
        storm.until_applied("label set", "None taken_back")
    last = storm.events()[-1]["data"]
    assert (last["first_cause"]["anomaly"], last["notified"], last["held_back"]) == (f"{ALONE}#1", True, None)
