"""Pictures of the page for the documentation: the demo's plant, in both themes and sizes, while something is wrong.

python -m tests.browser.screenshots
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser

from tests.browser.chromium import running_browser

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
PORT = 8092
DESK: Any = {"viewport": {"width": 1280, "height": 860}}
PHONE: Any = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WITHIN_S = 400.0
WATCHED = 30  # streams whose readings are kept from the beginning, so that there is something before the fault
ENOUGH = 150  # readings before it
SOME = 15  # readings that the anomaly is open


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["demo", "--seconds", str(WITHIN_S), "--streams", "200", "--http-port", str(PORT)]
    demo = subprocess.Popen([Path(sys.executable).parent / "telltale", *command])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}/api/v1/", trust_env=False, timeout=10) as client:
            stream = _something_wrong(client)
        with running_browser() as browser:
            for scheme in ("light", "dark"):
                _take(browser, f"#{stream}", f"page-{scheme}", scheme, DESK)
                _take(browser, f"#{stream}", f"phone-stream-{scheme}", scheme, PHONE)
                _take(browser, "", f"phone-list-{scheme}", scheme, PHONE)
    finally:
        demo.terminate()
        demo.wait()


def _something_wrong(client: httpx.Client) -> str:
    """A stream with an open anomaly whose readings before it are known."""
    watched: Sequence[str] = ()
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            watched = watched or [
                one["stream"] for one in client.get("streams", params={"limit": WATCHED}).json()["streams"]
            ]
            kept = {stream: client.get("readings", params={"stream": stream}).json() for stream in watched}
            found = client.get("anomalies/open").json()["anomalies"]
        except (httpx.TransportError, KeyError):  # the demo is still training
            time.sleep(0.5)
            continue
        for one in found:
            stream, alarm = one["stream"]["stream"], one["stream"]["alarm"]
            readings = kept.get(stream, {}).get("readings", ())
            if alarm["readings"] >= SOME and len(readings) >= ENOUGH + alarm["readings"] and alarm["peak"] > 2:
                return str(stream)
    raise TimeoutError(f"nothing went wrong with a watched stream within {WITHIN_S:.0f} s")


def _take(browser: Browser, address: str, name: str, scheme: Any, size: Any) -> None:
    with closing(browser.new_context(**size, color_scheme=scheme)) as session:
        page = session.new_page()
        page.goto(f"http://127.0.0.1:{PORT}/{address}")
        page.wait_for_selector("#chart .shapelayer path[d$='Z']" if address else "#open .pick")
        page.wait_for_function("() => /\\d/.test(document.getElementById('figure-rate').textContent)")
        page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
