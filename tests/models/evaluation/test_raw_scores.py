"""Scores without an alarm stage, against what they are reading by reading."""

from pathlib import Path

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.data.series import Series
from models.evaluation.raw_scores import (
    HOLD_READINGS,
    RAW_SCORES,
    WINDOW_READINGS,
    judge_raw,
    moving_variance,
    plain_components,
    raw_scores,
    squared_difference,
)

TRAIN = 200


def series_with(values: Doubles) -> Series:
    number = np.arange(len(values), dtype=np.int64)
    names = tuple(f"f{n}" for n in range(values.shape[1]))
    return Series("pump", Path("pump.csv"), names, number, number * 60_000, values, number >= TRAIN)


def noise(features: int = 3, readings: int = 500) -> Doubles:
    return np.random.default_rng(0).standard_normal((readings, features))


def spreads(values: Doubles) -> Doubles:
    spread: Doubles = values[:TRAIN].std(0, ddof=1)
    return spread


def test_a_squared_difference_is_that_of_neighbours_in_spreads() -> None:
    values = noise()
    found = squared_difference(series_with(values))
    expected = (((values[1:] - values[:-1]) / spreads(values)) ** 2).sum(1)
    np.testing.assert_allclose(found[1:], expected)
    assert found[0] == 0


def test_a_moving_variance_is_that_of_the_last_readings() -> None:
    values = noise()
    found = moving_variance(series_with(values))
    for n in (0, 5, WINDOW_READINGS - 1, WINDOW_READINGS, 333):
        window = values[max(0, n + 1 - WINDOW_READINGS) : n + 1] / spreads(values)
        assert found[n] == pytest.approx(window.var(0).sum(), abs=1e-9)


def test_plain_components_see_what_breaks_the_relation_of_channels_and_not_what_keeps_it() -> None:
    both = np.random.default_rng(0).standard_normal(500)
    values = np.stack([both, 2 * both], axis=1) + 0.01 * noise(2)
    values[300], values[400] = (4.0, 8.0), (1.0, -2.0)
    found = plain_components(series_with(values))
    assert found[300] < 0.01
    assert found[400] == pytest.approx(np.abs(np.array([1.0, -2.0]) @ np.array([2.0, -1.0])) ** 2 / 5, rel=0.02)


def test_one_feature_has_no_components() -> None:
    assert set(RAW_SCORES) - set(raw_scores(("one",))) == {"plain PCA"}
    assert set(raw_scores(("one", "other"))) == set(RAW_SCORES)


@pytest.mark.parametrize("name", RAW_SCORES)
def test_score_one_is_the_largest_of_the_training_part_and_labels_are_not_read(name: str) -> None:
    values = noise(readings=500)
    values[300] = 50.0
    values[40:50] = np.nan
    [judged] = judge_raw([series_with(values)], RAW_SCORES[name])
    raw = RAW_SCORES[name](series_with(values))
    assert len(judged.score) == len(judged.alarm) == 300
    np.testing.assert_allclose(judged.score, raw[TRAIN:] / raw[:TRAIN].max())
    assert np.array_equal(
        judged.alarm[:100], [(judged.score[max(0, n - HOLD_READINGS) : n + 1] > 1).any() for n in range(100)]
    )
    assert judged.alarm[100]


@pytest.mark.parametrize("name", RAW_SCORES)
def test_a_series_that_never_moves_while_it_is_learned_is_judged(name: str) -> None:
    values = np.ones((300, 2))
    values[250] = 2.0
    [judged] = judge_raw([series_with(values)], RAW_SCORES[name])
    assert np.isfinite(judged.score).all()
    assert not judged.alarm[:50].any()
    assert judged.alarm[50]


def test_a_series_without_a_test_part_is_left_out() -> None:
    assert judge_raw([series_with(noise(readings=TRAIN))], squared_difference) == []
