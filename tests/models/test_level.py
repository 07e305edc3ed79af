"""Sizes: one stream of one channel, unless a test says otherwise."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.forecaster import ForecasterConfig
from models.level import BLOCK, FARTHEST, HORIZON, follow_level, learn_level, wander_of
from models.rows import Channels, Columns, Doubles, Scalars, fresh

Statistics = tuple[Channels[Doubles], Scalars[Doubles]]


def learned(values: NDArray[np.float64], spread: float = 0.0) -> Statistics:
    """After these readings, (N, F), the mean being theirs."""
    features = values.shape[1]
    config = ForecasterConfig(tuple(f"f{n}" for n in range(features)), hidden=16)
    channels, scalars = Columns.of(fresh(1, config)).views()
    channels.spread[:] = spread
    for value in values:
        channels.known[:] += 1
        learn_level(value[None], np.ones((1, features)), np.ones(1), channels, scalars)
    channels.mean[:] = values.mean(0)
    return channels, scalars


def test_noise_is_the_variance_within_blocks_and_the_walk_what_their_means_differ_by() -> None:
    values = np.random.default_rng(0).normal(0, 2, (8, BLOCK)) + np.arange(8)[:, None] * 5
    channels, _ = learned(values.reshape(-1, 1))
    means = values.mean(1)
    assert channels.wander[0, 0] == pytest.approx((np.diff(means) ** 2).mean())
    assert channels.within[0, 0] == pytest.approx(values.var(1).mean())
    assert channels.last_block[0, 0] == pytest.approx(means[-1])


def test_a_level_that_stays_wanders_by_its_noise_and_one_that_drifts_by_far_more() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 40 * BLOCK)
    drift = np.linspace(0, 40, len(noise))
    wanders = wander_of(*learned(np.stack([noise, noise + drift], axis=1)))[0]
    assert wanders[0] == pytest.approx(1, rel=0.2)
    assert wanders[1] == pytest.approx(math.sqrt(1 + HORIZON), rel=0.2)  # a step of 1 a block


def test_until_two_blocks_are_known_a_level_wanders_by_the_streams_spread() -> None:
    for readings, known in ((2 * BLOCK - 1, False), (2 * BLOCK, True)):
        channels, scalars = learned(np.random.default_rng(2).normal(size=(readings, 1)), spread=7.0)
        assert (wander_of(channels, scalars)[0, 0] == 7.0) is not known


def test_the_tilt_is_a_short_mean_of_the_signed_distance_in_what_the_level_wanders() -> None:
    channels, scalars = learned(np.random.default_rng(3).normal(10, 1, (4 * BLOCK, 1)))
    centre, wanders = float(channels.mean[0, 0]), float(wander_of(channels, scalars)[0, 0])
    tilt = 0.0
    for value in (12.0, 7.0, 11.0, 1e9):
        follow_level(np.array([[value]]), None, channels, scalars, 9)
        tilt += (max(-FARTHEST, min(FARTHEST, (value - centre) / wanders)) - tilt) * 0.2
        assert channels.tilt[0, 0] == pytest.approx(tilt)


def test_noise_cancels_in_the_tilt_and_a_small_lasting_shift_does_not() -> None:
    random = np.random.default_rng(4)
    channels, scalars = learned(random.normal(0, 1, (40 * BLOCK, 1)))
    tilts = []
    for shift in (0.0, 1.5):
        channels.tilt[:] = 0
        for value in random.normal(shift, 1, 200):
            follow_level(np.array([[value]]), None, channels, scalars, 40)
        tilts.append(float(channels.tilt[0, 0]))
    assert abs(tilts[0]) < 0.6
    assert tilts[1] > 1


def test_a_missing_value_moves_neither_tilt_nor_level() -> None:
    channels, scalars = learned(np.random.default_rng(5).normal(size=(3 * BLOCK, 2)))
    before = [statistic[0, 1] for statistic in (channels.tilt, channels.block_mean, channels.within)]
    present = np.array([[True, False]])
    follow_level(np.full((1, 2), 50.0), present, channels, scalars, 9)
    learn_level(np.full((1, 2), 50.0), present.astype(float), np.ones(1), channels, scalars)
    assert [statistic[0, 1] for statistic in (channels.tilt, channels.block_mean, channels.within)] == before
    assert channels.tilt[0, 0] > 1


def test_what_may_not_be_learned_moves_no_level() -> None:
    channels, scalars = learned(np.random.default_rng(6).normal(size=(3 * BLOCK + 3, 1)))
    before = [statistic.copy() for statistic in (*channels, *scalars)]
    learn_level(np.array([[1e6]]), np.zeros((1, 1)), np.zeros(1), channels, scalars)
    for now, then in zip((*channels, *scalars), before, strict=True):
        np.testing.assert_array_equal(now, then)
