"""Reports in a real browser: in both themes and sizes, by axe-core's rules, with the chart library beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from models.evaluation.benchmark import WHOLE
from models.evaluation.comparison import ComparisonPlan
from models.evaluation.comparison_report import comparison_report
from models.evaluation.evaluation_report import evaluation_report
from models.evaluation.evaluation_tables import summarise
from models.evaluation.series_report import set_reports
from tests.browser.scene import visited
from tests.browser.test_everyone import DESK, PHONE, violations
from tests.browser.test_page import browser
from tests.models.evaluation.test_comparison import some_comparison
from tests.models.evaluation.test_evaluation_tables import some_run
from tests.models.evaluation.test_series_report import some_judged

__all__ = ["browser"]  # a fixture

NAMES = ("evaluation", "press", "comparison")
MADE = "telltale 0.1.0, 2026-01-20 09:26:00 UTC: telltale evaluate history/"
ONE_MB = 1_000_000
LEAST_WIDTH = 640  # pixels of a plot: a phone scrolls it, and its words do not lie on one another


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of them: sets of few series and of many, series with events that were missed, cells side by side."""
    folder = tmp_path_factory.mktemp("reports")
    runs = [
        some_run(of_set, name, seed, [area] * series)
        for of_set, series in (("press", 2), ("saw", 20))
        for name, area in ((WHOLE, 0.9), ("level only", 0.4))
        for seed in range(3)
    ]
    evaluation_report(runs, summarise(runs)).write(folder / "evaluation.html", MADE)
    tested = [some_judged(3_000, 9)] * 3
    labels = [np.arange(3_000) // 100 == place for place in (5, 7, 9)]
    for stem, page in set_reports("press", tested, labels).items():
        page.write(folder / f"{stem}.html", MADE)
    comparison_report(some_comparison(), ComparisonPlan(("a", "b", "c"), seeds=3, hidden=16)).write(
        folder / "comparison.html", MADE
    )
    return folder


@contextmanager
def opened(browser: Browser, report: Path, **context: Any) -> Iterator[Page]:
    with visited(browser, report.as_uri(), **context) as shown:
        expect(shown.page.locator("footer")).to_have_text(MADE)
        yield shown.page
        assert shown.complaints == []


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_drawn_and_axe_finds_nothing(
    browser: Browser, reports: Path, name: str, size: Any, scheme: str
) -> None:
    with opened(browser, reports / f"{name}.html", **size, color_scheme=scheme) as page:
        figures = page.locator("script.figure").count()
        assert figures
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        assert page.locator(".plot:has(.main-svg)").count() == figures
        assert page.evaluate("document.documentElement.scrollWidth") <= size["viewport"]["width"]
        narrowest = "Math.min(...[...document.querySelectorAll('.plot')].map((one) => one.clientWidth))"
        assert page.evaluate(narrowest) >= LEAST_WIDTH
        assert violations(page) == []


def test_reports_of_a_folder_share_the_chart_library_and_are_small(reports: Path) -> None:
    (library,) = reports.glob("plotly-*.min.js")
    assert library.stat().st_size > ONE_MB
    assert max(path.stat().st_size for path in reports.glob("*.html")) < ONE_MB


def test_a_report_without_its_library_says_what_is_missing(browser: Browser, reports: Path, tmp_path: Path) -> None:
    alone = tmp_path / "comparison.html"
    alone.write_bytes((reports / "comparison.html").read_bytes())
    (library,) = reports.glob("plotly-*.min.js")
    with visited(browser, alone.as_uri()) as shown:
        expect(shown.page.locator("#no-charts")).to_contain_text(library.name)
