"""A real browser for the tests: Debian's Chromium, driven through Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Where it is; a failure that says what to install where it is not, never a skip."""
    asked = os.environ.get("TELLTALE_TEST_CHROMIUM")
    found = asked or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            "these tests need a browser and found none: install Chromium (Debian: apt install chromium), or set "
            "TELLTALE_TEST_CHROMIUM to the program's path",
            pytrace=False,
        )
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        try:
            # Its sandbox and its shared memory want what containers do not have; all it opens is this service's page.
            arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
        except Error as error:
            pytest.fail(f"{path} does not run: {error.message}", pytrace=False)
        try:
            yield browser
        finally:
            browser.close()
