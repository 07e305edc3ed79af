"""Faults put into a series are what they are called. Sizes: R readings, F features."""

import numpy as np
import pytest

from models.data.arrays import Bools, Doubles
from models.detection.kinds import KINDS, Kind
from models.training.injection import CALM_AFTER, CALM_BEFORE, CHANNELS, SHAPES, InjectedFault, disturb, draw

READINGS, FEATURES = 5_000, 4
SPREAD = np.array([1.0, 10.0, 0.1, 3.0])
START = 1_000
CALM = np.ones(READINGS, bool)


def clean() -> Doubles:
    """Around 100 spreads, so that nothing is near 0."""
    noise = np.random.default_rng(5).normal(size=(READINGS, FEATURES))
    values: Doubles = (100 + noise + np.sin(np.arange(READINGS) / 30)[:, None]) * SPREAD
    return values


def drawn(kind: Kind, values: Doubles, calm: Bools = CALM, start: int = START, draws: int = 200) -> list[InjectedFault]:
    found = (draw(kind, start, values, calm, SPREAD, np.random.default_rng(seed)) for seed in range(draws))
    return [fault for fault in found if fault is not None]


def one(kind: Kind, size: float, length: int = 40, channels: tuple[int, ...] = (1, 2)) -> tuple[Doubles, Doubles]:
    """A fault's readings before and after it was put in, in spreads."""
    values = clean()
    fault = InjectedFault(kind, 1_000, 1_000 + length, channels, size)
    changed = values.copy()
    disturb(changed, SPREAD, fault, np.random.default_rng(1))
    at = slice(fault.start, fault.end)
    untouched = np.ones(values.shape, bool)
    untouched[at, list(channels)] = False
    np.testing.assert_array_equal(changed[untouched], values[untouched])
    return (values / SPREAD)[at, list(channels)], (changed / SPREAD)[at, list(channels)]


@pytest.mark.parametrize("kind", [Kind.SPIKE, Kind.LEVEL_SHIFT])
def test_a_spike_and_a_level_shift_are_as_high_as_they_say(kind: Kind) -> None:
    before, after = one(kind, -6.0)
    np.testing.assert_allclose(after - before, -6.0)


def test_a_drift_grows_by_the_same_step_up_to_its_size() -> None:
    before, after = one(Kind.DRIFT, 8.0)
    np.testing.assert_allclose(np.diff(after - before, axis=0), 8 / 40)
    np.testing.assert_allclose((after - before)[[0, -1]], [[8 / 40] * 2, [8.0] * 2])


def test_a_stuck_sensor_repeats_its_last_reading() -> None:
    _, after = one(Kind.STUCK, 0.0)
    np.testing.assert_array_equal(after, np.repeat((clean() / SPREAD)[999:1_000, [1, 2]], 40, axis=0))


def test_noise_is_added_around_the_truth() -> None:
    before, after = one(Kind.NOISE, 3.0, length=3_000)
    assert (after - before).mean() == pytest.approx(0, abs=0.1)
    assert (after - before).std(0) == pytest.approx([3.0, 3.0], rel=0.05)


@pytest.mark.parametrize("reads", [0.0, float("nan")])
def test_a_dropout_reads_zero_or_nothing(reads: float) -> None:
    _, after = one(Kind.DROPOUT, reads)
    np.testing.assert_array_equal(after, np.full((40, 2), reads))


@pytest.mark.parametrize("kind", KINDS)
def test_faults_keep_to_their_shapes_and_change_every_channel_that_they_name(kind: Kind) -> None:
    values, faults = clean(), drawn(kind, clean())
    assert len(faults) == 200
    shortest, longest = SHAPES[kind].readings
    assert {fault.start for fault in faults} == {START}
    lengths = [fault.end - START for fault in faults]
    assert (min(lengths), max(lengths)) >= (shortest, shortest + (longest - shortest) * 0.9)
    assert max(lengths) <= longest
    assert {len(fault.channels) for fault in faults} == set(CHANNELS)
    for fault in faults[:50]:
        changed = values.copy()
        disturb(changed, SPREAD, fault, np.random.default_rng(0))
        assert ((changed != values).any(0) == np.isin(np.arange(FEATURES), fault.channels)).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if SHAPES[kind].size[1]])
def test_sizes_are_drawn_from_their_range_in_either_direction(kind: Kind) -> None:
    sizes = np.array([fault.size for fault in drawn(kind, clean())])
    smallest, largest = SHAPES[kind].size
    assert smallest <= np.abs(sizes).min() < smallest + (largest - smallest) * 0.1
    assert largest >= np.abs(sizes).max() > largest - (largest - smallest) * 0.1
    assert 50 < (sizes > 0).sum() < 150


def test_the_same_seed_draws_the_same_fault() -> None:
    first, again = (drawn(Kind.NOISE, clean(), draws=5) for _ in range(2))
    assert first == again
    assert len(set(first)) == 5


@pytest.mark.parametrize(("reading", "fits"), [(START - CALM_BEFORE - 1, True), (START - CALM_BEFORE, False)])
def test_no_fault_is_put_where_the_detector_has_found_something_of_late(reading: int, fits: bool) -> None:
    calm = CALM.copy()
    calm[reading] = False
    assert bool(drawn(Kind.STUCK, clean(), calm)) == fits


@pytest.mark.parametrize(("after", "fits"), [(0, False), (CALM_AFTER - 1, False), (CALM_AFTER, True)])
def test_no_fault_is_put_where_the_detector_finds_something_soon(after: int, fits: bool) -> None:
    calm = CALM.copy()
    calm[START + SHAPES[Kind.SPIKE].readings[1] + after] = False
    longest = [fault for fault in drawn(Kind.SPIKE, clean(), calm) if fault.end - START == 3]
    assert bool(longest) == fits


def test_a_fault_that_would_outlast_the_series_is_not_put_in() -> None:
    assert not drawn(Kind.SPIKE, clean(), start=READINGS - CALM_AFTER)
    assert drawn(Kind.SPIKE, clean(), start=READINGS - CALM_AFTER - 3)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_do_not_move_or_are_missing_are_left_alone(kind: Kind) -> None:
    values = clean()
    values[:, 0] = 7.0
    values[START - 1, 3] = np.nan
    assert {channel for fault in drawn(kind, values) for channel in fault.channels} == {1, 2}


def test_a_sensor_that_would_have_read_the_same_anyway_cannot_be_stuck() -> None:
    values = clean()
    values[START - 1 :] = values[START - 1]
    assert not drawn(Kind.STUCK, values)
    assert drawn(Kind.NOISE, values)


def test_a_channel_drops_out_to_zero_only_where_that_is_far_off() -> None:
    assert {np.isnan(fault.size) for fault in drawn(Kind.DROPOUT, clean())} == {False, True}
    assert all(np.isnan(fault.size) for fault in drawn(Kind.DROPOUT, clean() - 100 * SPREAD))
