"""Sizes: T readings of one stream, F features."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.arrays import Doubles
from models.detection import judge
from models.detection.alarm import AlarmConfig, Change
from models.detection.records import Step
from models.detection.rows import fresh
from models.net.forecaster import ForecasterConfig
from tests.models.detection.interpreted import LEARNING, OneStream, a_look

NAN = math.nan


def hold(values: Doubles, last: list[float]) -> Doubles:
    """Of one stream; values: (T, F)."""
    rows = fresh(1, ForecasterConfig(tuple(f"f{n}" for n in range(len(last))), hidden=16))
    rows.channel("last")[0] = rows.channel("last").new_tensor(last)
    held, elapsed_ms = np.empty((len(values), 1, len(last))), np.empty((len(values), 1))
    index = np.arange(len(values))[:, None]
    times_ms = np.arange(len(values)) * 60_000
    slots = np.zeros(1, np.int64)
    judge.hold(index, times_ms, values, rows.channels.numpy(), rows.scalars.numpy(), slots, held, elapsed_ms)
    assert elapsed_ms[:, 0].tolist() == [0, *[60_000] * (len(values) - 1)]
    return held[:, 0]


def learned(values: Doubles, weight: Doubles | None = None) -> Any:
    """What is known of one channel after values (T,)."""
    one = OneStream()
    for n, value in enumerate(values.tolist()):
        learns = 1.0 if weight is None else weight[n]
        LEARNING.learn_scale(one.channels[0], a_look(value=value), Step(Change.NONE, 0.0, learns, 1.0))
    return one.channels[0]


def test_a_missing_value_is_the_last_known_one() -> None:
    values = np.array([[1.0, NAN], [NAN, NAN], [NAN, 5.0], [4.0, NAN]])
    assert hold(values, last=[9.0, 8.0]).tolist() == [[1, 8], [1, 8], [1, 5], [4, 5]]
    assert np.isnan(values[1]).all(), "what was given is not changed"


def test_nothing_is_filled_in_where_nothing_is_missing() -> None:
    values = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(hold(values, last=[0.0, 0.0]), values)


def test_a_zero_is_held_without_a_sign() -> None:
    assert not np.signbit(hold(np.array([[-0.0]]), last=[1.0])).any()


@pytest.mark.parametrize("level", [0.0, 1e9])
def test_mean_and_spread_are_those_of_the_readings(level: float) -> None:
    values = np.random.default_rng(1).normal(level, 3, 500)
    channel = learned(values)
    assert channel.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
    assert math.sqrt(channel.square / 499) == pytest.approx(values.std(ddof=1), rel=1e-7)
    assert (channel.low, channel.high, channel.known) == (values.min(), values.max(), 500)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6, allow_subnormal=False), st.booleans()), min_size=1, max_size=60))
def test_only_readings_of_weight_1_are_learned(readings: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in readings])
    weight = np.array([float(taken) for _, taken in readings])
    channel = learned(values, weight)
    taken = values[weight > 0]
    assert channel.known == len(taken)
    if len(taken):
        np.testing.assert_allclose(channel.mean, taken.mean(), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(channel.square, ((taken - taken.mean()) ** 2).sum(), rtol=1e-6, atol=1e-3)
    assert channel.low == min(taken, default=math.inf)
    assert channel.high == max(taken, default=-math.inf)


@pytest.mark.parametrize("moved", [False, True])
def test_only_a_channel_that_never_moved_learns_its_scale_from_an_anomaly(moved: bool) -> None:
    values = np.full(9, 4.0)
    values[3] += moved
    channel = learned(values)
    LEARNING.rescale(channel)
    LEARNING.learn_scale(channel, a_look(value=9.0, before=4.0), Step(Change.OPENED, 0.0, 0.0, 1.0))
    assert (channel.known, channel.high == 9.0) == ((9, False) if moved else (10, True))


def rescaled(channel: Any) -> float:
    LEARNING.rescale(channel)
    return float(channel.spread)


def test_a_spread_is_unknown_before_two_values() -> None:
    values = np.array([3.0, 8.0])
    assert rescaled(learned(values[:0])) == math.inf
    assert rescaled(learned(values[:1])) == math.inf
    assert rescaled(learned(values)) == pytest.approx(5 / math.sqrt(2))


@pytest.mark.parametrize("level", [0.0, 1.0, -2e7])
def test_a_channel_that_never_moved_has_a_small_spread_that_is_not_0(level: float) -> None:
    assert rescaled(learned(np.full(9, level))) == pytest.approx(abs(level) * 1e-6 + 1e-9)


@pytest.mark.parametrize(("age", "moves"), [(15, False), (16, True), (17, False), (768, False)])
def test_the_scale_moves_only_where_it_is_due(age: int, moves: bool) -> None:
    values = np.random.default_rng(2).normal(50, 4, 16)
    one = OneStream()
    one.scratch.channels[0] = learned(values)
    one.stream.age = age
    LEARNING.move_scale(one.stream, one.relation, one.scratch, one.rules)
    channel = one.channels[0]
    assert channel.centre == pytest.approx(values.mean() if moves else 0)
    assert channel.spread == (pytest.approx(values.std(ddof=1)) if moves else math.inf)


@pytest.mark.parametrize("age", [2, 3, 255, 256, 767, 768, 1_000, 1_024])
def test_scales_are_due_at_ages_that_double_and_often_while_a_channel_never_moved(age: int) -> None:
    doubled = [2**power for power in range(1, 12)]
    expected = {False: doubled, True: sorted({*doubled, *range(256, 2_048, 256)})}
    for waits, due in expected.items():
        assert LEARNING.readings_until_due(age, waits) == min(one for one in due if one > age) - age


SHARES = ("season", "week", "clock", "level", "net")
POWERS = {
    **dict.fromkeys(("residual_mean", "level_deviation", "level_deviation_mean"), 1),
    **dict.fromkeys(("band", "profile_step", "last_profile", "visit_sum"), 1),
    **dict.fromkeys(("residual_variance", "level_deviation_variance"), 2),
    **{f"{share}_{total}": 2 for share in SHARES for total in ("product", "square")},
}


def test_what_is_in_spreads_means_the_same_in_the_new_scale() -> None:
    random = np.random.default_rng(3)
    channel = learned(random.normal(0, 5, 30))
    channel.spread = random.uniform(1, 20)
    for name in POWERS:
        setattr(channel, name, random.uniform(0.1, 3))
    before = {name: getattr(channel, name) * channel.spread**power for name, power in POWERS.items()}
    spread = channel.spread
    assert rescaled(channel) != spread
    for name, power in POWERS.items():
        assert getattr(channel, name) * channel.spread**power == pytest.approx(before[name]), name


def test_a_first_spread_leaves_what_is_in_spreads_as_it_is() -> None:
    channel = learned(np.array([3.0, 8.0]))
    channel.residual_mean, channel.residual_variance = 0.25, 0.5
    rescaled(channel)
    assert (channel.residual_mean, channel.residual_variance) == (0.25, 0.5)


def test_an_adopted_level_is_the_centre_of_what_is_known() -> None:
    one = OneStream(alarm=AlarmConfig(relearn=7))
    one.scratch.channels[0] = learned(np.random.default_rng(4).normal(50, 4, 200))
    channel, one.stream.length = one.channels[0], 64
    channel.spread, channel.mean_in_alarm = 4.0, 90.0
    channel.residual_mean, channel.residual_variance = 0.1, 0.2
    variance, untouched = channel.square / channel.known, one.numbers()

    one.stream.rest = -6
    LEARNING.move_scale(one.stream, one.relation, one.scratch, one.rules)
    assert channel.mean == untouched["mean"][0]

    one.stream.rest = -7
    LEARNING.move_scale(one.stream, one.relation, one.scratch, one.rules)
    assert (channel.centre, channel.mean, channel.low, channel.high) == (90, 90, 90, 90)
    assert (channel.spread, channel.residual_mean, channel.residual_variance) == (4.0, 0.1, 0.2)
    assert channel.known == 64
    assert channel.square / channel.known == pytest.approx(variance)
