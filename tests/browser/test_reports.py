"""Reports of all kinds in a real browser: both themes and sizes, axe-core's rules, the chart library beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from models.detection.detector import Readings
from models.detection.rows import fresh
from models.evaluation.benchmark import WHOLE
from models.evaluation.comparison import ComparisonPlan
from models.evaluation.comparison_report import comparison_report
from models.evaluation.evaluation_report import evaluation_report
from models.evaluation.evaluation_tables import summarise
from models.evaluation.series_report import set_reports
from models.insight.explanation import explain
from models.insight.explanation_report import Subject, explanation_report, forecast_report
from models.insight.forecasting import ForecastConfig, forecast
from models.insight.gradients import draw_windows, flows_at_first
from models.insight.gradients_report import flow_report, memory_report
from models.insight.memory_tasks import TASKS, Outcome, TrainingBudget, trials
from models.insight.shadow_report import Comparison, shadow_report
from models.net.cells import CELLS
from models.net.forecaster import ForecasterConfig
from models.output.page import ReportPage
from models.training.loop import fit
from models.training.report import training_report
from tests.browser.scene import visited
from tests.browser.test_everyone import DESK, PHONE, violations
from tests.browser.test_page import browser
from tests.models.evaluation.test_comparison import some_comparison
from tests.models.evaluation.test_evaluation_tables import some_run
from tests.models.evaluation.test_series_report import some_judged
from tests.models.insight.test_explanation import detector_with, with_a_jump
from tests.models.insight.test_gradients import FEATURES, some_series
from tests.models.insight.test_shadow_report import ALARMS, PARTITIONS
from tests.models.training.test_report import CPU, FAST, noise

__all__ = ["browser"]  # a fixture

NAMES = (
    *("evaluation", "press", "comparison"),
    *("training", "shadow", "explanation", "forecast", "gradients", "memory-tasks"),
)
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
    pages = {
        "comparison": comparison_report(some_comparison(), ComparisonPlan(("a", "b", "c"), seeds=3, hidden=16)),
        "training": _training(),
        "shadow": shadow_report(
            Comparison("ab" * 32, "cd" * 32, PARTITIONS, {"line-2/fan": 12}, ALARMS, 200),
            lambda stream, at_ms: f"http://plant-7/#{len(stream)}&at={at_ms}",
        ),
        **_of_one_stream(),
        "gradients": _gradients(),
        "memory-tasks": _memory_tasks(),
    }
    for name, page in pages.items():
        page.write(folder / f"{name}.html", MADE)
    return folder


def _training() -> ReportPage:
    series = [noise(1_500, "pump", missing=0.1), noise(1_000, "boiler")]
    return training_report(fit(series, ForecasterConfig(series[0].features, hidden=16), FAST, CPU), series, FAST, "a/")


def _of_one_stream() -> dict[str, ReportPage]:
    """A stream that jumps at its end, its alarm explained, and what is expected after it."""
    detector, readings = detector_with("lstm", features=3, layers=2), with_a_jump(1, features=3)
    row, subject = fresh(1, detector.forecaster.config), Subject("pump", detector.features, "ab" * 32)
    explained = explain(detector, row, readings, 150)
    assert explained.accounts
    past, came = (Readings(*(column[part] for column in readings)) for part in (slice(200), slice(200, 212)))
    ahead = forecast(detector, row, past, ForecastConfig(steps=12))
    return {
        "explanation": explanation_report(explained, subject),
        "forecast": forecast_report(ahead, past, came, subject),
    }


def _gradients() -> ReportPage:
    chunk = draw_windows([some_series(2_000)], 20, 16, 0)
    found = [flow for cell in CELLS for flow in flows_at_first(ForecasterConfig(FEATURES, cell, 16), chunk, 20, 0)]
    return flow_report(found, "16 losses of a stream", ["lstm: diverged before it had learned anything."])


def _memory_tasks() -> ReportPage:
    """What each cell might have learned: the shorter the lag, the sooner."""
    asked = trials(tuple(TASKS), tuple(CELLS), (50, 100), (1, 2), chrono=True)
    found = [
        Outcome(one, "learned", 320 * one.lag, 0.01, 1.0)
        if one.lag == 50
        else Outcome(one, "hopeless", 9_600, 0.3, 1.0)
        for one in asked
    ]
    return memory_report(found, TrainingBudget())


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
        expect(page.locator(".plot:has(.main-svg)")).to_have_count(figures)
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
