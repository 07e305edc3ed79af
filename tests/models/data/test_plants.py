import numpy as np
import pytest

from models.data.families import PlainFault, Simulated
from models.data.plants import DAY_READINGS, DAYS, SCHEDULES, constants, plants

FEATURES = ("value",)


@pytest.fixture(scope="module")
def made() -> list[Simulated]:
    return list(plants(FEATURES, machines=4))


def test_every_machine_has_a_fortnight_to_learn_from_and_one_to_be_judged_on(made: list[Simulated]) -> None:
    assert {one.family for one in made} == set(SCHEDULES)
    for one in made:
        assert len(one.label) == 2 * DAYS * DAY_READINGS
        assert np.flatnonzero(one.series.test)[0] == DAYS * DAY_READINGS
        assert one.series.test.sum() == DAYS * DAY_READINGS


def test_the_same_seed_gives_the_same_plants() -> None:
    one, same, other = (
        np.stack([made.series.values for made in plants(FEATURES, machines=1, seed=seed)]) for seed in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert (one != other).any()


def test_what_the_clock_asks_for_is_missed_once_in_the_second_fortnight(made: list[Simulated]) -> None:
    faulty = [one for one in made if one.fault is PlainFault.MISSED]
    assert {one.family for one in faulty} == set(SCHEDULES) - {"batch cycles"}
    healthy = {one.series.key: one for one in made if one.fault is None}
    for one in faulty:
        twin = healthy[one.series.key.replace("-missed", "-healthy")]
        apart = (twin.series.values != one.series.values)[:, 0]
        assert np.array_equal(apart, one.label)
        assert not one.label[~one.series.test].any()
        days = np.flatnonzero(one.label) // DAY_READINGS
        assert len(set(days.tolist())) == 1
        assert (twin.series.values - one.series.values)[one.label].mean() > 5


def test_a_job_comes_at_six_every_day(made: list[Simulated]) -> None:
    for one in made:
        if one.family == "job at 06:00" and one.fault is None:
            days = np.flatnonzero(one.edge).reshape(2 * DAYS, 2) % DAY_READINGS
            assert (days[:, 0] == 72).all()
            assert len(set(days[:, 1].tolist())) == 1


def test_a_machine_that_is_off_at_weekends_shows_zero_there(made: list[Simulated]) -> None:
    for one in made:
        if one.family == "zero at weekends" and one.fault is None:
            weekend = np.arange(len(one.label)) // DAY_READINGS % 7 >= 5
            assert np.array_equal(one.series.values[:, 0] == 0, weekend)


def test_batches_last_40_to_300_readings_and_keep_no_hour(made: list[Simulated]) -> None:
    for one in made:
        if one.family == "batch cycles":
            begins = np.flatnonzero(one.edge)[::2]
            lengths = np.diff(begins)
            assert 36 <= lengths.min() <= lengths.max() <= 318
            assert lengths.max() < 1.15 * lengths.min()
            assert len(set((begins % DAY_READINGS).tolist())) > len(begins) / 2


def test_constants_last_twenty_days_at_every_interval() -> None:
    for one in constants(FEATURES):
        assert len(np.unique(one.series.values)) == 1
        assert np.ptp(one.series.times_ms) == pytest.approx(20 * 86_400_000, rel=0.01)
