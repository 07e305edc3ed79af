import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.arrays import Doubles
from models.detection.rows import CHANNELS, SEASON, Channels, Scalars
from models.detection.scaling import adopt_level, hold, learn_scale, move_scale, spread_of
from tests.data import fresh_columns

NAN = math.nan


def fresh_statistics(streams: int, features: int) -> tuple[Channels[Doubles], Scalars[Doubles]]:
    return fresh_columns(streams, features).views()


def learned(values: Doubles, weight: Doubles | None = None) -> Channels[Doubles]:
    """What is known after values (T, S, F)."""
    channels, _ = fresh_statistics(*values.shape[1:])
    for wave in range(len(values)):
        learn_scale(values[wave], np.ones(values.shape[1:]) if weight is None else weight[wave], channels)
    return channels


def test_a_missing_value_is_the_last_known_one() -> None:
    values = np.array([[[1.0, NAN]], [[NAN, NAN]], [[NAN, 5.0]], [[4.0, NAN]]])
    held = hold(values, last=np.array([[9.0, 8.0]]))
    assert held.values[:, 0].tolist() == [[1, 8], [1, 8], [1, 5], [4, 5]]
    assert held.present is not None
    assert held.present[:, 0].tolist() == [[True, False], [False, False], [False, True], [True, False]]
    assert np.isnan(values[1]).all(), "what was given is not changed"


def test_nothing_is_missing_where_nothing_is() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 2))
    held = hold(values, last=np.zeros((3, 2)))
    assert held.present is None
    np.testing.assert_array_equal(held.values, values)


@pytest.mark.parametrize("level", [0.0, 1e9])
def test_mean_and_spread_are_those_of_the_readings(level: float) -> None:
    values = np.random.default_rng(1).normal(level, 3, (500, 4, 2))
    channels = learned(values)
    np.testing.assert_allclose(channels.mean, values.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(channels.square / 499), values.std(0, ddof=1), rtol=1e-7)
    np.testing.assert_array_equal(channels.low, values.min(0))
    np.testing.assert_array_equal(channels.high, values.max(0))
    assert (channels.known == 500).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6, allow_subnormal=False), st.booleans()), min_size=1, max_size=60))
def test_only_readings_of_weight_1_are_learned(readings: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in readings]).reshape(-1, 1, 1)
    weight = np.array([float(taken) for _, taken in readings]).reshape(-1, 1, 1)
    channels = learned(values, weight)
    taken = values[weight > 0]
    assert channels.known[0, 0] == len(taken)
    if len(taken):
        np.testing.assert_allclose(channels.mean[0, 0], taken.mean(), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(channels.square[0, 0], ((taken - taken.mean()) ** 2).sum(), rtol=1e-6, atol=1e-3)
        assert channels.low[0, 0] == taken.min()
        assert channels.high[0, 0] == taken.max()
    else:
        assert channels.low[0, 0] == math.inf
        assert channels.high[0, 0] == -math.inf


def test_a_spread_is_unknown_before_two_values() -> None:
    values = np.array([3.0, 8.0]).reshape(2, 1, 1)
    assert spread_of(fresh_statistics(1, 1)[0])[0, 0] == math.inf
    assert spread_of(learned(values[:1]))[0, 0] == math.inf
    assert spread_of(learned(values))[0, 0] == pytest.approx(5 / math.sqrt(2))


@pytest.mark.parametrize("level", [0.0, 1.0, -2e7])
def test_a_channel_that_never_moved_has_a_small_spread_that_is_not_0(level: float) -> None:
    spread = spread_of(learned(np.full((9, 1, 1), level)))
    assert spread[0, 0] == pytest.approx(abs(level) * 1e-6 + 1e-9)


def test_the_scale_moves_only_where_it_is_due() -> None:
    values = np.random.default_rng(2).normal(50, 4, (20, 3, 2))
    columns = fresh_columns(3, 2)
    channels, scalars = columns.views()
    for wave in values:
        learn_scale(wave, np.ones((3, 2)), channels)
    scalars.rescale_at[:] = (8, 16, 32)
    move_scale(np.array([False, True, False]), columns)
    np.testing.assert_allclose(channels.centre[1], values[:, 1].mean(0))
    np.testing.assert_allclose(channels.spread[1], values[:, 1].std(0, ddof=1))
    assert channels.centre[[0, 2]].any() == 0
    assert np.isinf(channels.spread[[0, 2]]).all()
    assert scalars.rescale_at.tolist() == [8, 32, 32]


MEANS = ("residual_mean", "level_deviation", "level_deviation_mean", *CHANNELS.names[SEASON])
VARIANCES = ("residual_variance", "level_deviation_variance")


def test_what_is_in_spreads_means_the_same_in_the_new_scale() -> None:
    random = np.random.default_rng(3)
    columns = fresh_columns(1, 3)
    channels, _ = columns.views()
    for wave in random.normal(0, 5, (30, 1, 3)):
        learn_scale(wave, np.ones((1, 3)), channels)
    channels.spread[:] = random.uniform(1, 20, (1, 3))
    powers = dict.fromkeys(MEANS, 1) | dict.fromkeys(VARIANCES, 2)
    for name in powers:
        getattr(channels, name)[:] = random.uniform(0.1, 3, (1, 3))
    before = {name: getattr(channels, name) * channels.spread**power for name, power in powers.items()}
    move_scale(np.array([True]), columns)
    for name, power in powers.items():
        np.testing.assert_allclose(getattr(channels, name) * channels.spread**power, before[name], err_msg=name)


def test_a_first_spread_leaves_what_is_in_spreads_as_it_is() -> None:
    columns = fresh_columns(1, 1)
    channels, _ = columns.views()
    for value in (3.0, 8.0):
        learn_scale(np.array([[value]]), np.ones((1, 1)), channels)
    channels.residual_mean[:], channels.residual_variance[:] = 0.25, 0.5
    move_scale(np.array([True]), columns)
    assert (channels.residual_mean[0, 0], channels.residual_variance[0, 0]) == (0.25, 0.5)


def test_an_adopted_level_is_the_centre_of_what_is_known() -> None:
    values = np.random.default_rng(4).normal(50, 4, (200, 2, 1))
    channels = learned(values)
    _, scalars = fresh_statistics(2, 1)
    scalars.length[:] = 64
    channels.spread[:], channels.mean_in_alarm[:], channels.residual_mean[:], channels.residual_variance[:] = (
        4.0,
        90.0,
        0.1,
        0.2,
    )
    untouched = [statistic[1].copy() for statistic in channels]
    variance = channels.square[0, 0] / channels.known[0, 0]
    adopt_level(np.array([True, False]), channels, scalars)

    for name in ("centre", "mean", "low", "high"):
        assert getattr(channels, name)[0, 0] == 90, name
    assert (channels.spread[0, 0], channels.residual_mean[0, 0], channels.residual_variance[0, 0]) == (4.0, 0.1, 0.2)
    assert channels.known[0, 0] == 64
    assert channels.square[0, 0] / channels.known[0, 0] == pytest.approx(variance)
    for found, before in zip(channels, untouched, strict=True):
        np.testing.assert_array_equal(found[1], before)
