"""What is expected of the next reading, against what it is worth by hand."""

import math

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.evaluation.steps import FARTHEST_ERROR, one_step_loss, share_in_band

R = 400
ALL = np.ones(R, np.bool_)


def walk(features: int = 2) -> Doubles:
    values: Doubles = np.random.default_rng(0).standard_normal((R, features)).cumsum(0)
    return values


def before(values: Doubles) -> Doubles:
    return np.concatenate([values[:1], values[:-1]])


def test_the_last_value_has_loss_one_and_the_truth_none() -> None:
    values = walk()
    assert one_step_loss(values, before(values), ALL) == pytest.approx(1)
    assert one_step_loss(values, values, ALL) == 0


def test_the_loss_is_that_of_huber_in_deviations_of_the_differences() -> None:
    values = walk()
    expected = values + np.random.default_rng(1).normal(0, 2, values.shape)
    ours, simple = 0.0, 0.0
    for f in range(2):
        scale = np.diff(values[:, f]).std()
        for n in range(1, R):
            errors = ((expected - values)[n, f], values[n, f] - values[n - 1, f])
            sizes = [min(abs(error) / scale, FARTHEST_ERROR) for error in errors]
            losses = [size**2 / 2 if size < 1 else size - 0.5 for size in sizes]
            ours, simple = ours + losses[0], simple + losses[1]
    assert one_step_loss(values, expected, ALL) == pytest.approx(ours / simple)


def test_readings_that_do_not_count_and_values_that_are_unknown_are_left_out() -> None:
    values = walk()
    expected = before(values)
    counts = ALL.copy()
    counts[100:200] = False
    expected[100:200] += 100
    expected[:50] = np.nan
    values[300, 0] = np.nan
    expected[301, 0] = values[299, 0]  # the last known one
    assert one_step_loss(values, expected, counts) == pytest.approx(1)


def test_channels_that_never_move_count_for_nothing_and_alone_are_nothing_to_measure() -> None:
    values = walk()
    values[:, 1] = 3.0
    expected = before(values)
    expected[:, 1] = 7.0
    assert one_step_loss(values, expected, ALL) == pytest.approx(1)
    assert math.isnan(one_step_loss(values[:, 1:], expected[:, 1:], ALL))
    assert math.isnan(share_in_band(values[:, 1:], expected[:, 1:], expected[:, 1:] + 1, ALL))


def test_a_band_of_three_deviations_holds_nine_tenths_in_its_middle_ninety_percent() -> None:
    errors = np.random.default_rng(0).standard_normal((20_000, 1))
    nothing = np.zeros_like(errors)
    assert share_in_band(errors, nothing, nothing + 3, np.ones(20_000, np.bool_)) == pytest.approx(0.9, abs=0.01)
    assert share_in_band(errors, nothing, nothing + 6, np.ones(20_000, np.bool_)) > 0.99
