import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.series import Series
from models.net.forecaster import ForecasterConfig
from models.output.page import ReportPage
from models.training.loop import Fitted, fit
from models.training.report import training_report
from models.training.run import Ending, TrainingConfig
from tests.data import some_forecaster

CPU = torch.device("cpu")
FAST = TrainingConfig(epochs=2, epoch_steps=1, lane_readings=300, side_by_side=16, learning_rate=1e-2)


def noise(readings: int, key: str = "s", features: int = 2, missing: float = 0.0) -> Series:
    """Independent normal values: nothing of them can be forecast, and their residuals are normal."""
    random = np.random.default_rng(len(key) + readings)
    values = 50 + random.normal(0, 3, (readings, features))
    values[random.random(values.shape) < missing] = np.nan
    times, names = 10**12 + np.arange(readings) * 60_000, tuple(f"f{n}" for n in range(features))
    return Series(key, Path(f"{key}.csv"), names, np.arange(readings), times, values, np.zeros(readings, bool))


def text_of(report: ReportPage, path: Path) -> str:
    """What the page says, in words: without its scripts."""
    report.write(path)
    page = re.sub(r"<(script|style).*?</\1>", "", path.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


@pytest.fixture(scope="module")
def series() -> list[Series]:
    return [noise(1_500, "pump", missing=0.1), noise(1_000, "boiler")]


@pytest.fixture(scope="module")
def fitted(series: list[Series]) -> Fitted:
    return fit(series, ForecasterConfig(series[0].features, hidden=16), FAST, CPU)


def test_it_says_what_was_learned_from_what(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    said = text_of(training_report(fitted, series, FAST, "plant/"), tmp_path / "report.html")
    assert "plant/: 2 streams, 2,500 readings, 2 features; lstm, 16 hidden units, 1 layer; 2 epochs" in said
    assert fitted.best is not None
    assert f"epoch {fitted.best.number}: validation loss {fitted.best.validation_loss:.4f}" in said
    first, last = "2001-09-09 01:46:40 UTC", "2001-09-10 02:45:40 UTC"
    assert f"of a stream 1,000 to 1,500, median 1,500 from {first} to {last} between two readings 60 s (median)" in said
    for n in range(2):
        column = np.concatenate([one.values[:, n] for one in series])
        numbers = (np.nanmin(column), np.nanmean(column), np.nanmax(column))
        assert f"f{n} {' '.join(f'{x:.6g}' for x in numbers)} {100 * np.isnan(column).mean():.2f} %" in said


def test_the_bands_of_normal_noise_hold_what_they_should(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    said = text_of(training_report(fitted, series, FAST, "plant/"), tmp_path / "report.html")
    found = re.findall(r"± \d\.\d\d ([\d.]+) % ([\d.]+) %", said)
    assert [float(nominal) for nominal, _ in found] == [50, 80, 90, 95, 99, 99.73]
    for nominal, inside in found:
        assert float(inside) == pytest.approx(float(nominal), abs=5.0)


def test_every_epoch_is_in_the_curves(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    training_report(fitted, series, FAST, "plant/").write(page)
    for epoch in fitted.epochs:
        for value in (epoch.loss, epoch.validation_loss, epoch.gradient_norm, epoch.largest_norm, epoch.learning_rate):
            assert repr(value) in page.read_text()


@pytest.mark.slow
def test_the_same_run_makes_the_same_bytes(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    for name in ("one", "other"):
        training_report(fitted, series, FAST, "plant/").write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_remarks_are_told(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    remarked = fitted._replace(remarks=("It diverged <b>here</b>.", "Try less."))
    said = text_of(training_report(remarked, series, FAST, "plant/"), tmp_path / "report.html")
    assert "It diverged &lt;b&gt;here&lt;/b&gt;. Try less." in said
    assert "Nothing in the course of training stands out." not in said


def test_a_run_without_a_good_epoch_has_a_report_too(series: list[Series], tmp_path: Path) -> None:
    nothing = Fitted(some_forecaster(2), [], None, 0.5, 1.0, Ending.INTERRUPTED, ())
    said = text_of(training_report(nothing, series, FAST, "plant/"), tmp_path / "report.html")
    assert "the forecaster does just that" in said
    assert "Forecasts" in said


@pytest.mark.slow
def test_losses_that_are_not_finite_are_no_trouble(fitted: Fitted, series: list[Series], tmp_path: Path) -> None:
    bad = fitted.epochs[-1]._replace(number=3, loss=math.nan, validation_loss=math.inf, largest_norm=math.inf)
    diverged = fitted._replace(epochs=[*fitted.epochs, bad], ended=Ending.DIVERGED)
    assert "ended: diverged" in text_of(training_report(diverged, series, FAST, "x"), tmp_path / "report.html")


def test_without_a_validation_part_it_says_so(series: list[Series], fitted: Fitted, tmp_path: Path) -> None:
    whole = replace(FAST, validation_share=0.0)
    said = text_of(training_report(fitted, series, whole, "plant/"), tmp_path / "report.html")
    assert "No stream has a validation part long enough" in said


def test_channels_without_a_value_or_a_change_are_no_trouble(fitted: Fitted, tmp_path: Path) -> None:
    odd = noise(200)
    odd.values[:, 0], odd.values[:, 1] = np.nan, 7.0
    said = text_of(training_report(fitted, [odd], FAST, "plant/"), tmp_path / "report.html")
    assert "f0 - - - 100.00 %" in said
    assert "f1 7 7 7 0.00 %" in said
