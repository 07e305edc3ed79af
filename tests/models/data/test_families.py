import numpy as np
import pytest

from models.data.families import FAMILIES, READINGS, PlainFault, Simulated, families, faults_of

FEATURES = ("value",)


@pytest.fixture(scope="module")
def made() -> list[Simulated]:
    return list(families(FEATURES, copies=3))


def twins(made: list[Simulated], fault: PlainFault) -> list[tuple[Simulated, Simulated]]:
    """Every series with this fault, and the healthy one of its name."""
    healthy = {one.series.key: one for one in made if one.fault is None}
    return [(healthy[one.series.key.replace(f"-{fault}", "-healthy")], one) for one in made if one.fault is fault]


def test_every_family_comes_healthy_and_with_each_of_its_faults(made: list[Simulated]) -> None:
    expected = {(name, fault) for name, family in FAMILIES.items() for fault in (None, *faults_of(family))}
    assert {(one.family, one.fault) for one in made} == expected
    assert len(made) == 3 * len(expected)
    assert len({one.series.key for one in made}) == len(made)


def test_a_family_has_its_length_rising_times_and_no_missing_value(made: list[Simulated]) -> None:
    for one in made:
        assert one.series.values.shape == (READINGS, 1)
        assert np.isfinite(one.series.values).all()
        assert (np.diff(one.series.times_ms) > 0).all()


def test_the_same_seed_gives_the_same_families_and_another_seed_others() -> None:
    one, same, other = (
        np.stack([made.series.values for made in families(FEATURES, copies=1, seed=seed, readings=5_000)])
        for seed in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert all((a != b).any() for a, b in zip(one, other, strict=True))


def test_further_features_are_missing_throughout() -> None:
    one = next(families(("a", "b", "c"), copies=1))
    assert one.series.features == ("a", "b", "c")
    assert np.isfinite(one.series.values[:, 0]).all()
    assert np.isnan(one.series.values[:, 1:]).all()


def test_a_healthy_series_has_no_label(made: list[Simulated]) -> None:
    assert not any(one.label.any() for one in made if one.fault is None)


@pytest.mark.parametrize("fault", [fault for fault in PlainFault if fault is not PlainFault.MISSED])
def test_a_series_equals_its_healthy_twin_before_its_fault(made: list[Simulated], fault: PlainFault) -> None:
    for healthy, faulty in twins(made, fault):
        begin = int(faulty.label.argmax())
        assert READINGS // 2 <= begin < READINGS * 0.95
        assert np.array_equal(healthy.series.times_ms, faulty.series.times_ms)
        assert np.array_equal(healthy.series.values[:begin], faulty.series.values[:begin])


def test_a_spike_is_one_reading_five_ranges_off(made: list[Simulated]) -> None:
    for healthy, faulty in twins(made, PlainFault.SPIKE):
        apart = (faulty.series.values - healthy.series.values)[:, 0]
        assert faulty.label.sum() == 1
        assert np.array_equal(apart != 0, faulty.label)
        assert np.abs(apart).max() == pytest.approx(5 * np.ptp(healthy.series.values), abs=0.51)


def test_a_shift_is_600_readings_a_third_of_the_range_off(made: list[Simulated]) -> None:
    for healthy, faulty in twins(made, PlainFault.SHIFT):
        apart = (faulty.series.values - healthy.series.values)[:, 0]
        assert faulty.label.sum() == 600
        assert np.array_equal(apart != 0, faulty.label)
        assert np.abs(apart).max() == pytest.approx(0.3 * np.ptp(healthy.series.values), abs=0.51)


def test_a_stuck_sensor_repeats_one_reading_far_longer_than_it_ever_did(made: list[Simulated]) -> None:
    for healthy, faulty in twins(made, PlainFault.STUCK):
        assert faulty.label.sum() == 300
        assert len(np.unique(faulty.series.values[faulty.label])) == 1
        changes = np.flatnonzero(np.diff(healthy.series.values[:, 0]))
        assert np.diff(changes).max() < 30


def test_doubled_noise_is_doubled(made: list[Simulated]) -> None:
    """Where the noise is not hidden in sums, exponentials and roundings."""
    for healthy, faulty in twins(made, PlainFault.NOISE):
        assert faulty.label.sum() == 300
        if healthy.family == "duty cycle":
            calm, loud = (one.series.values[faulty.label, 0] for one in (healthy, faulty))
            level = np.where(calm > 50, 80.0, 20.0)
            assert np.allclose(loud - level, 2 * (calm - level))


def test_a_missing_peak_keeps_a_day_at_its_lowest(made: list[Simulated]) -> None:
    pairs = twins(made, PlainFault.MISSING_PEAK)
    assert {healthy.family for healthy, _ in pairs} == {"sine", "latency", "weekdays", "temperature"}
    for healthy, faulty in pairs:
        fell = (healthy.series.values - faulty.series.values)[faulty.label, 0]
        assert fell.min() >= 0
        assert fell.max() > 0.3 * np.ptp(healthy.series.values)
        hours = np.ptp(healthy.series.times_ms[faulty.label]) / 3_600_000
        assert 6 < hours <= 24


def test_a_counter_only_rises_but_for_its_resets(made: list[Simulated]) -> None:
    for one in made:
        if one.family == "counter" and one.fault is None:
            falls = np.diff(one.series.values[:, 0]) < 0
            assert 3 <= falls.sum() <= 15
            assert (one.series.values[1:][falls] < 200).all()
