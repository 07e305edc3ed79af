"""How quick the page is where a service knows 200,000 streams, by what a person sees in Chromium.

python -m tests.bench.many_streams

Each run opens the page in a browser that has never seen it: when something is painted first, when the list is there,
and how long it takes from the last key of a search to the streams that were searched for.
"""

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from playwright.sync_api import Browser, Page, expect

from tests.bench import load
from tests.bench.http import untrained
from tests.bench.machine import machine
from tests.browser.chromium import running_browser
from tests.integration.test_end_to_end import Service, made_topics, wait_until
from tests.kafka import Broker, running_broker

READINGS = 2  # of each stream
PAUSE_S = 5.0  # between two visits: what HTTP may take of a processor is saved up again
WITHIN_MS = 60_000
WATCHED = """() => {
    window.searched = null;
    const list = document.getElementById("streams");
    const field = document.getElementById("search");
    field.addEventListener("input", () => { window.searched = performance.now(); }, true);
    new MutationObserver(() => {
        const names = [...list.querySelectorAll(".pick")].map((one) => one.dataset.stream);
        if (window.searched === null || !names.length || !names.every((one) => one.includes(field.value))) return;
        const began = window.searched;
        requestAnimationFrame(() => setTimeout(() => { window.found ??= performance.now() - began; }));
    }).observe(list, { childList: true });
}"""
PAINTED = """() => {
    const [first] = performance.getEntriesByName("first-contentful-paint");
    return first?.startTime ?? null;
}"""
LISTED = """() => new Promise((resolve) => {
    const there = () => document.querySelector("#streams .pick")?.checkVisibility({ visibilityProperty: true });
    const look = () => (there() ? resolve(performance.now()) : requestAnimationFrame(look));
    look();
})"""


ASKED = """() => performance.getEntriesByType("resource")
    .find((one) => one.name.includes("/api/v1/streams")).startTime"""


class Run(NamedTuple):
    """Milliseconds: since the page was asked for, since the last key."""

    painted: float
    asked: float  # for the list
    listed: float
    found: float


@contextmanager
def serving(broker: Broker, streams: int) -> Iterator[Service]:
    """A service that has judged readings of all of them."""
    names = made_topics(broker)
    load.fill(broker.bootstrap_servers, names.topic, streams, READINGS * streams)
    with TemporaryDirectory() as folder:
        checkpoint = untrained(Path(folder), hidden=16)
        service = Service(broker, checkpoint, names, TELLTALE_LIMITS__MAX_STREAMS=str(streams))
        try:
            service.until_listening()
            wait_until(lambda: service.judged_records() >= READINGS * streams, "all is judged")
            yield service
        finally:
            service.process.kill()


def visit(browser: Browser, url: str, search: str) -> Run:
    with closing(browser.new_context(viewport={"width": 1280, "height": 800})) as session:
        page = session.new_page()
        page.goto(url, wait_until="commit")
        listed = page.evaluate(LISTED)
        painted = page.wait_for_function(PAINTED).json_value()
        return Run(painted, page.evaluate(ASKED), listed, _searched(page, search))


def _searched(page: Page, search: str) -> float:
    """From the last key on: the list has those with the beginning of the name by then."""
    page.locator("#search").fill(search[:-3])
    expect(page.locator("#streams-count")).to_have_text(re.compile(" of "))
    page.evaluate(WATCHED)
    page.locator("#search").fill(search)
    found = page.wait_for_function("() => window.found").json_value()
    expect(page.locator("#streams .pick")).to_have_count(1)
    return float(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many_streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    expect.set_options(timeout=WITHIN_MS)
    print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}", flush=True)
    with running_broker() as broker, serving(broker, args.streams) as service, running_browser() as browser:
        url = f"http://127.0.0.1:{service.port}/"
        visit(browser, url, load.stream_name(0))  # the service's first answer of each kind
        chosen = np.random.default_rng(0).integers(args.streams, size=args.runs).tolist()
        runs = []
        for n in chosen:
            time.sleep(PAUSE_S)
            runs.append(visit(browser, url, load.stream_name(n)))
        print(f"{args.streams:,} streams, {args.runs} visits; ms: median, 95th percentile, each")
        shown: dict[str, Callable[[Run], float]] = {
            "first paint": lambda run: run.painted,
            "list is asked for": lambda run: run.asked,
            "list is there": lambda run: run.listed,
            "search": lambda run: run.found,
        }
        for what, value in shown.items():
            values = sorted(map(value, runs))
            each = ", ".join(f"{one:.0f}" for one in values)
            print(f"  {what:<18}{np.median(values):>6.0f}{np.percentile(values, 95):>6.0f}   ({each})")
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
