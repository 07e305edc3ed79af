"""Simple expectations against what they say, worked out reading by reading, and how they are judged."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.series import Series
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.evaluation.baselines import (
    BASELINES,
    Expectation,
    baselines,
    expecting,
    last_value,
    principal_components,
    seasonal_naive,
    without,
)
from models.evaluation.evaluation import backtest
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.loop import usable
from tests.data import QUICK

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def some_series(
    values: NDArray[np.float64], test_from: int, times_ms: NDArray[np.int64] | None = None, key: str = "pump"
) -> Series:
    number = np.arange(len(values), dtype=np.int64)
    times = number * HOUR_MS if times_ms is None else times_ms
    names = tuple(f"f{n}" for n in range(values.shape[1]))
    return Series(key, Path(f"{key}.csv"), names, number, times, values, number >= test_from)


def irregular(seed: int, features: int = 2, readings: int = 200) -> Series:
    """Gaps of days, repeated times, a clock that is set back by an hour, and missing values."""
    random = np.random.default_rng(seed)
    steps = random.choice([0, HOUR_MS, 2 * HOUR_MS, 30 * HOUR_MS], readings, p=[0.05, 0.7, 0.22, 0.03])
    steps[150] = -HOUR_MS
    values = random.normal(size=(readings, features)).cumsum(0)
    values[random.random(values.shape) < 0.1] = np.nan
    return some_series(values, 100, steps.cumsum() + DAY_MS)


def latest(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if not np.isnan(value)), np.nan)


def test_the_last_value_is_the_last_one_known() -> None:
    values = np.array([[np.nan, 1.0], [3.0, np.nan], [np.nan, np.nan], [5.0, 2.0]])
    expected = [[np.nan, np.nan], [np.nan, 1.0], [3.0, 1.0], [3.0, 1.0]]
    np.testing.assert_array_equal(last_value(some_series(values, 2)), expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_seasonal_expectation_is_the_last_value_known_a_day_before(seed: int) -> None:
    series = irregular(seed)
    expected = seasonal_naive(series)
    for n in range(len(series.rows)):
        until = [m for m in range(n) if max(series.times_ms[: m + 1]) <= series.times_ms[n] - DAY_MS]
        for f, column in enumerate(series.values.T):
            by_hand = latest(column[: until[-1] + 1].tolist()) if until else latest(column[:n].tolist())
            np.testing.assert_equal(expected[n, f], by_hand)


def test_a_training_part_of_two_days_has_no_season() -> None:
    values = np.random.default_rng(0).normal(size=(100, 1))
    two_days, more = some_series(values, 49), some_series(values, 50)
    np.testing.assert_array_equal(seasonal_naive(two_days), last_value(two_days))
    np.testing.assert_array_equal(seasonal_naive(more)[24:], values[:-24])


def correlated(seed: int, readings: int = 400) -> Series:
    """Six channels that two hidden ones drive, with a little noise, and one that does not move until the end."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(readings, 2))
    values = hidden @ random.normal(size=(2, 6)) * random.uniform(1, 50, 6) + random.normal(size=6) * 100
    values += 0.01 * random.normal(size=values.shape)
    still = np.where(np.arange(readings) < readings - 5, 7.0, 8.0)
    return some_series(np.column_stack([values, still]), 250)


def test_principal_components_are_those_of_the_covariance() -> None:
    series = correlated(0)
    train = series.values[:250, :6]
    mean, deviation = train.mean(0), train.std(0, ddof=1)
    scaled = (series.values[:, :6] - mean) / deviation
    shares, axes = np.linalg.eigh(np.cov(scaled[:250].T))
    shares, axes = shares[::-1] / shares.sum(), axes[:, ::-1]
    kept = axes[:, : next(k for k in range(1, 7) if shares[:k].sum() >= 0.9)]
    by_hand = scaled @ kept @ kept.T * deviation + mean
    expected = principal_components(series)
    np.testing.assert_allclose(expected[:, :6], by_hand, rtol=1e-8)
    np.testing.assert_allclose(expected[:, 6], 7.0)


def test_principal_components_see_a_channel_that_leaves_the_others() -> None:
    series = correlated(1)
    broken = series.values.copy()
    broken[300, 2] += 3 * broken[:250, 2].std()
    off = np.abs(broken - principal_components(series._replace(values=broken)))[:, :6] / broken[:250, :6].std(0)
    assert off[300].argmax() == 2
    assert off[300, 2] > 10 * np.delete(off, 300, axis=0).max()


@pytest.mark.parametrize("expectation", [last_value, seasonal_naive, principal_components])
def test_what_comes_later_changes_no_expectation(expectation: Expectation) -> None:
    series = irregular(5, features=4)
    changed = series.values.copy()
    changed[160:] = changed[160:] * 3 + 100
    before, after = expectation(series), expectation(series._replace(values=changed))
    np.testing.assert_array_equal(before[:160], after[:160])
    assert not np.array_equal(before[161:], after[161:], equal_nan=True)


def some_streams() -> list[Series]:
    random = np.random.default_rng(2)
    streams = []
    for n in range(3):
        values = random.normal(size=(400 + 50 * n, 2)).cumsum(0)
        values[340 : 350 + 10 * n] += 40
        values[random.random(values.shape) < 0.02] = np.nan
        streams.append(some_series(values, 260 + 20 * n, key=f"pump-{n}"))
    return streams


def test_an_expectation_that_is_given_is_judged_as_one_of_a_net() -> None:
    """An untrained net expects no change: given just that expectation, a detector must come to the same bits."""
    series = some_streams()
    untrained = prime(Forecaster(ForecasterConfig(series[0].features, hidden=16)), QUICK, usable(series))
    detector = expecting(series, lambda one: np.nan_to_num(last_value(one)), QUICK)
    for one, other in zip(backtest(untrained, series), backtest(detector, series), strict=True):
        assert one.series.key == other.series.key
        np.testing.assert_array_equal(one.score, other.score)
        np.testing.assert_array_equal(one.alarm, other.alarm)
        np.testing.assert_array_equal(one.expected, other.expected)
        assert one.alarm.any(), "else nothing was compared"


def test_where_nothing_is_expected_there_is_no_residual() -> None:
    series = [one._replace(values=np.clip(one.values, -1e9, 1e9)) for one in some_streams()]
    detector = expecting(series, lambda one: np.full_like(one.values, np.nan), QUICK)
    for one in backtest(detector, series):
        known = np.isfinite(one.series.values)
        np.testing.assert_allclose(one.expected[known], one.series.values[known], atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_judges_every_test_part(name: str) -> None:
    series = some_streams()
    tested = backtest(BASELINES[name](series, DetectorConfig()), series)
    assert [len(one.score) for one in tested] == [int(one.test.sum()) for one in series]
    assert any(one.score.any() for one in tested)


def test_one_feature_has_no_principal_components() -> None:
    assert set(BASELINES) - set(baselines(["value"])) == {"PCA"}
    assert set(baselines(["a", "b"])) == set(BASELINES)


@pytest.mark.parametrize("channel", ["residual", "level"])
def test_a_channel_that_is_switched_off_weighs_nothing_and_all_else_stays(channel: str) -> None:
    before, after = asdict(QUICK), asdict(without(QUICK, channel))
    assert after["score"].pop(f"{channel}_weight") == 0
    assert before["score"].pop(f"{channel}_weight") > 0
    assert before == after
