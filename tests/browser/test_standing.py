"""What the page says of how the service stands, in a real browser, for states that a real server shows of a worker."""

import dataclasses
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from service.http.app import app
from service.http.server import Server
from service.live.status import CheckpointStatus, Counts, PartitionStatus, Status, StatusBoard, WorkerState
from service.live.streams import Streams
from tests.browser.chromium import running_browser
from tests.browser.scene import visited
from tests.browser.test_everyone import DESK, PHONE, violations

BEAT_S = 0.1
NO_FIGURE = "\N{EN DASH}"
NOT_GREEN_WITHIN_MS = 8_000  # 3 s by the rule; a loaded machine takes longer to draw
P0 = PartitionStatus("plant", 0, next_offset=100, end_offset=100, streams=30)
P1 = PartitionStatus("plant", 1, next_offset=100, end_offset=100, streams=10)
WELL = "Nothing. All 40 streams are judged, and each is as it is expected to be."


class Worker:
    """Publishes a status again and again, as a worker's loop does, to a server beside it."""

    def __init__(self) -> None:
        checkpoint = CheckpointStatus("/checkpoints/plant.safetensors", "abcdef", ("f0",))
        self._began_ms = now_ms() - 60_000
        self.calm = Status(WorkerState.RUNNING, self._began_ms, now_ms(), time.monotonic(), checkpoint, (P0, P1))
        self._board, self._streams = StatusBoard(self.calm), Streams()
        self.server = Server(app(self._board, None, 60.0, "0.1.0", streams=self._streams), "127.0.0.1", 0)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.port}/"
        self.ahead_s = 0.0  # event time of the newest reading, from now
        self.clock_ahead_ms = 0  # of the service's clock
        self._status = self.calm
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def show(self, **changes: Any) -> None:
        self._status = dataclasses.replace(self.calm, **changes)

    def be_calm(self) -> None:
        self._stopped.clear()
        self.ahead_s, self.clock_ahead_ms = 0.0, 0
        self.show()

    def stop_turning(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.server.stop()

    def _run(self) -> None:
        readings = 1_000
        while not self._ended.wait(BEAT_S):
            if self._stopped.is_set():
                continue
            readings += 40
            clock_ms = now_ms() + self.clock_ahead_ms
            latest_ms = clock_ms + round(1000 * self.ahead_s)
            partitions = tuple(
                dataclasses.replace(one, event_time_ms=latest_ms if one.streams else None)
                for one in self._status.partitions
            )
            counts = self._status.counts
            if any(one.streams for one in partitions):
                counts = dataclasses.replace(counts, readings=counts.readings + readings)
            self._board.publish(
                dataclasses.replace(
                    self._status,
                    beat_s=time.monotonic(),
                    published_ms=clock_ms,
                    partitions=partitions,
                    counts=counts,
                )
            )
            self._streams.publish((), clock_ms)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    worker = Worker()
    try:
        yield worker
    finally:
        worker.close()


@pytest.fixture
def worker(shared: Worker) -> Worker:
    shared.be_calm()
    return shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, worker: Worker, hash_: str = "", **context: Any) -> Iterator[Page]:
    with visited(browser, f"{worker.url}{hash_}", **context) as shown:
        expect(shown.page.locator("#state")).not_to_have_text("connecting")
        yield shown.page
        assert shown.complaints == []


def expect_state(page: Page, state: str, text: str | re.Pattern[str]) -> None:
    expect(page.locator("#state")).to_have_text(text)
    expect(page.locator("#state")).to_have_attribute("data-state", state)


def expect_not_said_to_be_well(page: Page) -> None:
    expect(page.locator(".calm:visible")).to_have_count(0)
    expect(page.get_by_text("as it is expected to be").locator("visible=true")).to_have_count(0)


def test_all_that_is_judged_and_as_expected_is_said_with_its_number(browser: Browser, worker: Worker) -> None:
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")
        expect(page.locator(".calm")).to_have_text(WELL)
        expect(page.locator("#unjudged")).to_be_hidden()
        expect(page.locator("#figure-newest")).to_have_text(re.compile(r"^[01] s ago$"))
        expect(page).to_have_title("Telltale")


@pytest.mark.thorough
def test_a_worker_that_stands_still_beside_a_server_that_answers_is_not_green(browser: Browser, worker: Worker) -> None:
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")
        worker.stop_turning()
        began = time.monotonic()
        expect(page.locator("#state")).not_to_have_attribute("data-state", "ready", timeout=NOT_GREEN_WITHIN_MS)
        print(f"not green {time.monotonic() - began:.2f} s after the last beat")
        expect_state(page, "gone", re.compile(r"^the worker's loop has not come round since \d\d:\d\d:\d\d$"))
        expect(page.locator("#unjudged")).to_contain_text(re.compile(r"not come round for \d+ s: nothing is judged"))
        expect(page).to_have_title("not judging · Telltale")
        expect(page.locator("#figure-rate")).to_have_text(NO_FIGURE)
        expect_not_said_to_be_well(page)
        worker.be_calm()
        expect_state(page, "ready", "ready")
        expect(page.locator(".calm")).to_have_text(WELL)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_where_an_address_names_no_stream_and_the_worker_stands_still(
    browser: Browser, worker: Worker, size: Any, scheme: str
) -> None:
    with opened(browser, worker, "#%", **size, color_scheme=scheme) as page:
        expect(page.locator("#chosen-note")).to_contain_text("which is not a stream's name")
        assert violations(page) == []
        if size == PHONE:
            page.locator("#back").click()
            expect(page.locator("#chosen")).to_be_hidden()
        expect(page.locator(".calm")).to_be_visible()
        assert violations(page) == []
        worker.stop_turning()
        expect(page.locator("#state")).to_have_attribute("data-state", "gone")
        assert violations(page) == []


RESTORING = dataclasses.replace(P1, stage="restoring", progress=0.254, streams=3, next_offset=None)
NOTHING = Counts()
NOT_READY = [
    (
        "starting",
        {"state": WorkerState.STARTING, "partitions": ()},
        r"^the service is starting since ",
        "Nothing is judged yet",
    ),
    ("stopping", {"state": WorkerState.STOPPING}, "^the service is stopping$", "Nothing is judged any more"),
    (
        "restoring",
        {"partitions": (P0, RESTORING)},
        "^1 of 2 partitions is not judged yet$",
        "1 of 2 partitions: plant-1 restoring 25 %",
    ),
    (
        "waiting",
        {"partitions": (P0, dataclasses.replace(P1, waits_for="what waits is not known"))},
        "^1 of 2 partitions is not judged yet$",
        "1 of 2 partitions: plant-1 what waits is not known",
    ),
    (
        "not joined",
        {"partitions": (), "joined": False},
        "^the group has not said yet which partitions are this worker's$",
        "Nothing is judged by this worker",
    ),
    (
        "no stream",
        {"partitions": (dataclasses.replace(P0, streams=0),)},
        "^no stream yet$",
        "No stream yet: nothing has been read from plant.",
    ),
    (
        "no stream, all refused",
        {"partitions": (dataclasses.replace(P0, streams=0),), "counts": Counts(rejected={"bad_json": 7})},
        "^no stream yet$",
        "No stream yet: none of the 7 records read from plant could be judged.",
    ),
    (
        "all learning",
        {"partitions": (dataclasses.replace(P0, warming=30), dataclasses.replace(P1, warming=10))},
        "^no stream is judged yet$",
        "No stream is judged yet. All 40 streams are still learning what is normal.",
    ),
    (
        "half learning",
        {"partitions": (dataclasses.replace(P0, warming=20), P1)},
        "^20 of 40 streams are judged$",
        "20 of 40 streams are not judged yet: still learning what is normal.",
    ),
    (
        "lag",
        {"partitions": (P0, dataclasses.replace(P1, end_offset=2_151_101))},
        "^readings wait to be judged$",
        "2,151,001 records wait to be judged",
    ),
]


@pytest.mark.parametrize(
    ("changes", "state", "item"), [one[1:] for one in NOT_READY], ids=[one[0] for one in NOT_READY]
)
def test_what_is_not_judged_is_said_and_nothing_is_green(
    browser: Browser, worker: Worker, changes: dict[str, Any], state: str, item: str
) -> None:
    worker.show(**changes)
    with opened(browser, worker) as page:
        expect_state(page, "busy", re.compile(state))
        expect(page.locator("#unjudged")).to_contain_text(item)
        expect(page.locator(".calm:visible")).to_have_count(0)
        expect(page.locator("header")).not_to_contain_text("ready")


def test_a_few_that_learn_are_said_before_those_that_are_well(browser: Browser, worker: Worker) -> None:
    worker.show(partitions=(P0, dataclasses.replace(P1, warming=2)))
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")
        expect(page.locator("#open-none")).to_have_text(
            "38 of 40 streams are judged, and each of these is as it is expected to be."
        )
        expect(page.locator(".calm")).to_have_count(0)
        words = page.locator("main").inner_text()
        assert words.index("2 of 40 streams are not judged yet") < words.index("38 of 40 streams are judged")


def test_records_that_were_refused_are_said_before_what_is_well(browser: Browser, worker: Worker) -> None:
    worker.show(counts=Counts(rejected={"bad_json": 3, "stream_limit": 2}))
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")  # 5 among thousands, none of them now
        expect(page.locator("#unjudged")).to_contain_text(
            re.compile(r"5 records were refused .* 0 of them since this page was opened: 3 bad json, 2 stream limit")
        )
        expect(page.locator("#open-none")).to_have_text(WELL)
        expect(page.locator(".calm")).to_have_count(0)
        assert page.locator("#unjudged").bounding_box()["y"] < page.locator("#open-none").bounding_box()["y"]  # type: ignore[index]
        worker.show(counts=Counts(rejected={"bad_json": 3_000, "stream_limit": 2}))
        expect(page.locator("#unjudged")).to_contain_text("2,997 of them since this page was opened")
        expect_state(page, "busy", "records are refused")


def test_refusals_that_the_worker_warns_of_are_grave_as_long_as_they_go_on(browser: Browser, worker: Worker) -> None:
    worker.show(counts=Counts(readings=1_000_000, rejected={"bad_json": 100}), many_refused=True)
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")  # none of them now
        worker.show(counts=Counts(readings=1_020_000, rejected={"bad_json": 102}), many_refused=True)
        expect(page.locator("#unjudged")).to_contain_text("2 of them since this page was opened")
        expect_state(page, "busy", "records are refused")


def test_a_lag_that_is_not_known_is_not_none(browser: Browser, worker: Worker) -> None:
    worker.show(partitions=(P0, dataclasses.replace(P1, end_offset=None)))
    with opened(browser, worker) as page:
        expect(page.locator("#figure-lag")).to_have_text("unknown")
        expect(page.locator("#unjudged")).to_contain_text("How many records wait to be judged is not known yet.")
        expect(page.locator(".calm")).to_have_count(0)


def test_a_worker_without_partitions_is_not_green(browser: Browser, worker: Worker) -> None:
    worker.show(partitions=())
    with opened(browser, worker) as page:
        expect_state(page, "waiting", "this worker has no partition")
        expect(page.locator("#unjudged")).to_contain_text("other workers have them all")
        expect(page.locator("#open-none")).to_have_text("Nothing is judged now, so nothing can be found wrong.")


def test_late_readings_and_those_that_came_twice_are_told_of(browser: Browser, worker: Worker) -> None:
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")
        worker.show(counts=Counts(late=12, duplicate=3))
        expect(page.locator("#unjudged")).to_contain_text(
            "12 readings came late and 3 twice since this page was opened: they were dropped and not judged."
        )


def test_a_reading_from_the_future_is_ahead_and_not_of_just_now(browser: Browser, worker: Worker) -> None:
    worker.ahead_s = 23 * 3600
    with opened(browser, worker) as page:
        expect(page.locator("#figure-newest")).to_have_text("23 h ahead")
        expect_state(page, "busy", "the newest reading is ahead of time")
        expect(page.locator("#unjudged")).to_contain_text("The newest reading is 23 h ahead of the service's clock.")


def test_ages_are_by_the_services_clock_and_a_browser_with_another_says_so(browser: Browser, worker: Worker) -> None:
    worker.clock_ahead_ms = -2 * 3_600_000
    with opened(browser, worker) as page:
        expect(page.locator("#figure-newest")).to_have_text(re.compile(r"^[0-2] s ago$"))
        expect(page.locator("#clocks")).to_have_text("This browser's clock is 2 h ahead of the service's.")
        expect_state(page, "ready", "ready")


@pytest.mark.thorough
def test_the_state_is_read_out_when_it_changes_and_not_each_second(browser: Browser, worker: Worker) -> None:
    count = """() => {
        window.changes = [];
        const state = document.getElementById("state");
        new MutationObserver(() => window.changes.push(state.textContent)).observe(state, {childList: true});
    }"""
    with opened(browser, worker) as page:
        expect_state(page, "ready", "ready")
        page.evaluate(count)
        worker.stop_turning()
        expect(page.locator("#unjudged")).to_contain_text(re.compile(r"not come round for (8|9|\d\d) s"))
        said = page.evaluate("window.changes")
        assert len(set(said)) == len(said) <= 2  # a loaded machine may not have heard the service meanwhile
        assert page.locator("#state").get_attribute("role") == "status"


ADDRESSES = ["#", "#%", "#%zz", "#%ff%fe", "#%E0%A4%A", "#" + "x" * 5_000, "#" + "%F0%9F%98%80" * 2_000, "#%00", "#a=b"]


@pytest.mark.thorough
def test_no_address_breaks_the_page(browser: Browser, worker: Worker) -> None:
    for address in ADDRESSES:
        with opened(browser, worker, address) as page:
            expect_state(page, "ready", "ready")
            expect(page.locator(".calm")).to_have_text(WELL)
            expect(page.locator("#streams-count")).to_have_text("0")


@pytest.mark.parametrize("address", ["#%zz", "#" + "x" * 5_000])
def test_an_address_that_names_no_stream_is_said_to(browser: Browser, worker: Worker, address: str) -> None:
    said = re.compile(r"This page's address (ends with|names a stream of more than 256 bytes).* Choose a stream")
    with opened(browser, worker, address) as page:
        expect(page.locator("#chosen-note")).to_have_text(said)
        assert len(page.locator("#chosen-note").inner_text()) < 300
        page.evaluate("location.hash = 'pump-7'")
        expect(page.locator("#chosen-title")).to_have_text("pump-7")
        page.evaluate("address => { location.hash = address }", address)
        expect(page.locator("#chosen-title")).to_have_text("No stream is chosen")
        expect(page.locator("#chosen-note")).to_have_text(said)
        expect_state(page, "ready", "ready")
