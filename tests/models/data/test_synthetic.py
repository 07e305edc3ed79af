import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.arrays import Doubles
from models.data.synthetic import FEATURES, QUIET, Fault, FaultKind, Plant, PlantSimulator, plant, to_frame

DAY = 1_440  # readings, one a minute
WARM_UP = 1_000
ROUNDING = 0.0011  # two roundings to three decimals


@pytest.fixture(scope="module")
def faulty() -> Plant:
    return plant(14, 8_000, seed=7, fault_every=400, first_fault_after=WARM_UP)


@pytest.fixture(scope="module")
def calm() -> Plant:
    """The same plant, but nothing ever breaks."""
    return plant(14, 8_000, seed=7, fault_every=None, first_fault_after=WARM_UP)


@pytest.fixture(scope="module")
def week() -> Plant:
    """Eight days of forty machines without faults."""
    return plant(40, 8 * DAY, seed=11, fault_every=None)


def of_kind(plant: Plant, kind: FaultKind) -> list[Fault]:
    found = [fault for fault in plant.faults if fault.kind is kind]
    assert len(found) >= 10
    return found


def machines(plant: Plant, name: str) -> list[int]:
    return [stream for stream, key in enumerate(plant.keys) if f"/{name}-" in key]


def readings_of(plant: Plant, fault: Fault) -> Doubles:
    """The readings of the channels concerned, (readings, channels)."""
    columns = [FEATURES.index(channel) for channel in fault.channels]
    return plant.values[fault.stream, fault.start : fault.end, columns].T


def spreads_of(plant: Plant, fault: Fault) -> Doubles:
    return plant.spread[fault.stream, [FEATURES.index(channel) for channel in fault.channels]]


def raised_by(faulty: Plant, calm: Plant, fault: Fault) -> tuple[Doubles, float]:
    """What the fault adds, in spreads, (readings, channels), and how much of it may be rounding."""
    spreads = spreads_of(faulty, fault)
    return (readings_of(faulty, fault) - readings_of(calm, fault)) / spreads, float(ROUNDING / spreads.min())


def without_slow_part(series: Doubles, window: int) -> Doubles:
    """The series less its mean over the `window` + 1 readings around each."""
    mean: Doubles = np.convolve(series, np.full(window + 1, 1 / (window + 1)), "valid")
    return series[window // 2 : -(window // 2)] - mean


def correlation(one: Doubles, other: Doubles) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def assert_same(one: Plant, other: Plant) -> None:
    assert one.keys == other.keys
    assert one.faults == other.faults
    np.testing.assert_array_equal(one.times_ms, other.times_ms)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.present, other.present)


def test_the_same_seed_is_the_same_plant() -> None:
    assert_same(plant(5, 700, seed=3, fault_every=150), plant(5, 700, seed=3, fault_every=150))


def test_another_seed_is_another_plant() -> None:
    one, other = plant(5, 700, seed=3, fault_every=150), plant(5, 700, seed=4, fault_every=150)
    assert one.faults != other.faults
    assert not np.any(one.spread == other.spread)
    assert abs(correlation(np.diff(one.values[0, :120, 1]), np.diff(other.values[0, :120, 1]))) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[1_500, 1_500], [1, 2, 997, 1_024, 1, 975], [25] * 120])
def test_pieces_joined_are_the_whole(sizes: list[int]) -> None:
    whole = PlantSimulator(35, seed=5, fault_every=200, first_fault_after=50).advance(3_000)
    simulator = PlantSimulator(35, seed=5, fault_every=200, first_fault_after=50)
    pieces = [simulator.advance(size) for size in sizes]
    joined = Plant(
        keys=pieces[0].keys,
        first=0,
        first_fault_after=50,
        spread=pieces[0].spread,
        times_ms=np.concatenate([piece.times_ms for piece in pieces], axis=1),
        values=np.concatenate([piece.values for piece in pieces], axis=1),
        present=np.concatenate([piece.present for piece in pieces], axis=1),
        faults=tuple(fault for piece in pieces for fault in piece.faults if fault.start >= piece.first),
    )
    assert_same(joined, whole)
    np.testing.assert_array_equal(np.concatenate([piece.labels() for piece in pieces], axis=1), whole.labels())
    across = {fault.kind for piece in pieces for fault in piece.faults if fault.start < piece.first}
    assert len(across) >= 4, "too few faults go from one piece to the next to call this a test"


def test_a_piece_lists_every_fault_that_touches_it_whole() -> None:
    whole = PlantSimulator(9, seed=5, fault_every=200).advance(3_000)
    simulator = PlantSimulator(9, seed=5, fault_every=200)
    for first in range(0, 3_000, 100):
        touching = tuple(fault for fault in whole.faults if fault.start < first + 100 and fault.end > first)
        assert simulator.advance(100).faults == touching


def test_a_plant_ends_with_its_last_reading(faulty: Plant) -> None:
    assert max(fault.end for fault in faulty.faults) == faulty.times_ms.shape[1]


def test_no_fault_comes_before_the_part_to_train_on_ends(faulty: Plant, calm: Plant) -> None:
    assert min(fault.start for fault in faulty.faults) >= WARM_UP
    np.testing.assert_array_equal(faulty.values[:, :WARM_UP], calm.values[:, :WARM_UP])


def test_faults_of_a_stream_leave_each_other_time(faulty: Plant) -> None:
    for stream in range(len(faulty.keys)):
        own = [fault for fault in faulty.faults if fault.stream == stream]
        assert len(own) >= 5
        assert all(after.start - before.end >= QUIET for before, after in pairwise(own))
        assert {fault.key for fault in own} == {faulty.keys[stream]}


def test_without_its_faults_it_is_the_same_plant(faulty: Plant, calm: Plant) -> None:
    assert calm.faults == ()
    assert calm.present.all()
    assert np.isfinite(calm.values).all()
    concerned = np.zeros(faulty.values.shape, dtype=np.bool_)
    for fault in faulty.faults:
        for channel in fault.channels:
            concerned[fault.stream, fault.start : fault.end, FEATURES.index(channel)] = True
    np.testing.assert_array_equal(faulty.values[~concerned], calm.values[~concerned])
    np.testing.assert_array_equal(faulty.times_ms, calm.times_ms)


@pytest.mark.slow
def test_faults_are_as_frequent_as_asked() -> None:
    made = plant(50, 10_000, seed=1, fault_every=1_000)
    affected = made.labels().mean()
    expected = 50 * 10_000 * (1 - affected) / 1_000
    assert len(made.faults) == pytest.approx(expected, rel=0.15)


def test_the_kinds_take_turns() -> None:
    for made in (plant(1, 14_000, seed=2, fault_every=300), plant(7, 3_000, seed=2, fault_every=300)):
        assert {fault.kind for fault in made.faults[:7]} == set(FaultKind)


def test_a_spike_is_short_and_stands_out(faulty: Plant, calm: Plant) -> None:
    for fault in of_kind(faulty, FaultKind.SPIKE):
        assert 1 <= fault.end - fault.start <= 3
        assert len(fault.channels) == 1
        assert 8 <= abs(fault.magnitude) <= 15
        raised, rounding = raised_by(faulty, calm, fault)
        np.testing.assert_allclose(raised, fault.magnitude, atol=rounding)


def test_a_level_shift_is_one_height_all_along(faulty: Plant, calm: Plant) -> None:
    for fault in of_kind(faulty, FaultKind.LEVEL_SHIFT):
        assert 4 <= abs(fault.magnitude) <= 8
        raised, rounding = raised_by(faulty, calm, fault)
        np.testing.assert_allclose(raised, fault.magnitude, atol=rounding)


def test_a_drift_grows_evenly_until_it_is_repaired(faulty: Plant, calm: Plant) -> None:
    for fault in of_kind(faulty, FaultKind.DRIFT):
        assert 5 <= abs(fault.magnitude) <= 10
        raised, rounding = raised_by(faulty, calm, fault)
        assert np.abs(raised[0]).max() < abs(fault.magnitude) / 50 + rounding
        assert np.abs(np.diff(raised, 2, axis=0)).max(initial=0) < 4 * rounding
        if fault.end < faulty.times_ms.shape[1]:
            np.testing.assert_allclose(raised[-1], fault.magnitude, atol=rounding)


def test_a_stuck_channel_repeats_its_last_reading(faulty: Plant, calm: Plant) -> None:
    for fault in of_kind(faulty, FaultKind.STUCK):
        before = faulty.values[fault.stream, fault.start - 1, FEATURES.index(fault.channels[0])]
        np.testing.assert_array_equal(readings_of(faulty, fault), before)
        if fault.end - fault.start > 20:
            assert readings_of(calm, fault).std() > 0.4 * spreads_of(calm, fault)[0]


def test_a_noise_burst_makes_the_same_noise_louder(faulty: Plant, calm: Plant) -> None:
    for fault in of_kind(faulty, FaultKind.NOISE_BURST):
        assert 5 <= fault.magnitude <= 8
        louder, usual = readings_of(faulty, fault), readings_of(calm, fault)
        assert louder.min() >= 0
        steps, usual_steps = np.diff(louder, axis=0), np.diff(usual, axis=0)
        assert correlation(steps, usual_steps) > 0.9
        assert steps.std() / usual_steps.std() == pytest.approx(fault.magnitude, rel=0.2)


def test_a_dropout_reads_zero_or_nothing_far_from_normal(faulty: Plant, calm: Plant) -> None:
    dropouts = of_kind(faulty, FaultKind.DROPOUT)
    for fault in dropouts:
        expected = np.nan if fault.magnitude == 0 else 0.0
        np.testing.assert_array_equal(readings_of(faulty, fault), expected)
        assert (readings_of(calm, fault) > 4 * spreads_of(calm, fault)).all()
        assert faulty.present[fault.stream, fault.start : fault.end].all()
    assert {len(fault.channels) for fault in dropouts} == {1, len(FEATURES)}
    assert len({fault.magnitude == 0 for fault in dropouts}) == 2


def test_a_silence_sends_nothing(faulty: Plant) -> None:
    sent = np.ones_like(faulty.present)
    for fault in of_kind(faulty, FaultKind.SILENCE):
        assert fault.channels == FEATURES
        assert np.isnan(readings_of(faulty, fault)).all()
        sent[fault.stream, fault.start : fault.end] = False
    np.testing.assert_array_equal(faulty.present, sent)


def test_a_faults_times_hold_its_readings_and_no_others(faulty: Plant) -> None:
    labels = np.zeros_like(faulty.present)
    for fault in faulty.faults:
        times_ms = faulty.times_ms[fault.stream]
        within = (fault.start_ms <= times_ms) & (times_ms < fault.end_ms)
        np.testing.assert_array_equal(np.flatnonzero(within), np.arange(fault.start, fault.end))
        labels[fault.stream] |= within
    np.testing.assert_array_equal(faulty.labels(), labels)


def test_times_rise_with_a_little_jitter(faulty: Plant) -> None:
    steps_ms = np.diff(faulty.times_ms, axis=1)
    assert np.abs(steps_ms - 60_000).max() <= 0.06 * 60_000 + 1
    assert steps_ms.std() > 0.01 * 60_000


def test_pieces_follow_each_other_in_time() -> None:
    simulator = PlantSimulator(30, seed=1, step_s=5.0)
    pieces = [simulator.advance(3) for _ in range(20)]
    assert all(before.times_ms.max() < after.times_ms.min() for before, after in pairwise(pieces))


def test_a_spread_is_the_size_of_a_channels_noise(week: Plant) -> None:
    """Over ten minutes the load hardly moves: what is left is noise, less what it remembers of itself."""
    for stream in range(len(week.keys)):
        for channel in range(len(FEATURES)):
            short = without_slow_part(week.values[stream, :, channel], 10).std() / week.spread[stream, channel]
            assert 0.4 < short < 1.3


@pytest.mark.parametrize("name", ["pump", "fan"])
def test_a_day_is_like_the_day_before(week: Plant, name: str) -> None:
    for stream in machines(week, name):
        days = week.values[stream, : 5 * DAY, 0]
        assert correlation(days[DAY:], days[:-DAY]) > 0.6
        assert correlation(days[DAY // 2 :], days[: -DAY // 2]) < -0.3


def test_presses_rest_at_night_and_on_weekends(week: Plant) -> None:
    for stream in machines(week, "press"):
        hours = week.values[stream, :, 1].reshape(8, 24, 60).mean(axis=2)
        at_work = hours[:5, 8:14]
        resting = [hours[:5, 0:4], hours[5:7, 8:14]]
        assert all(at_work.min() > rest.max() for rest in resting)
        assert hours[7, 8:14].min() > resting[1].max(), "Monday is a working day again"


def test_the_load_moves_pressure_and_vibration_together_and_heat_later(week: Plant) -> None:
    for stream in machines(week, "compressor"):
        heat, pressure, vibration = (without_slow_part(channel, 180) for channel in week.values[stream].T)
        assert correlation(pressure, vibration) > 0.5
        lags = range(-30, 31)
        after = [correlation(pressure[30:-30], heat[30 + lag : len(heat) - 30 + lag]) for lag in lags]
        assert 3 <= lags[int(np.argmax(after))] <= 30
        assert max(after) > 0.25


def test_machines_of_a_plant_differ(week: Plant) -> None:
    assert len(set(week.keys)) == 40
    assert len(np.unique(week.values.mean(axis=1).round(2), axis=0)) == 40
    assert (week.values > 0).all()


def test_the_table_has_every_sent_reading_in_time_order(faulty: Plant, tmp_path: Path) -> None:
    path = tmp_path / "plant.parquet"
    to_frame(faulty).write_parquet(path)
    frame = pl.read_parquet(path)
    assert frame.columns == ["timestamp", *FEATURES, "stream", "label", "part"]
    assert len(frame) == faulty.present.sum()
    assert frame["timestamp"].is_sorted()
    assert frame["label"].sum() == (faulty.labels() & faulty.present).sum()
    assert (frame["part"] == "train").sum() == WARM_UP * 14
    assert frame.filter(pl.col("part") == "train")["label"].sum() == 0
    assert not frame.select(pl.col(FEATURES).is_nan().any()).to_numpy().any()
    for stream, key in enumerate(faulty.keys):
        own, sent = frame.filter(pl.col("stream") == key), faulty.present[stream]
        np.testing.assert_array_equal(own["timestamp"].to_numpy(), faulty.times_ms[stream, sent])
        np.testing.assert_array_equal(own.select(FEATURES).to_numpy(), faulty.values[stream, sent])


def test_the_table_of_a_piece_knows_where_it_stands() -> None:
    simulator = PlantSimulator(3, seed=1, first_fault_after=150)
    parts = [to_frame(simulator.advance(100))["part"].value_counts(sort=True).rows() for _ in range(3)]
    assert sorted(parts[1]) == [("test", 150), ("train", 150)]
    assert (parts[0], parts[2]) == ([("train", 300)], [("test", 300)])


@pytest.mark.slow
def test_a_large_plant_is_made_quickly() -> None:
    started = time.perf_counter()
    plant(200, 3_000, seed=1)
    assert time.perf_counter() - started < 10, "300 streams of 20,000 readings take 3 s on one core"


def test_wrong_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="streams is 0, expected at least 1"):
        plant(0, 10, seed=1)
    with pytest.raises(ValueError, match="step_s is 0, expected more than 0"):
        plant(1, 10, seed=1, step_s=0)
    with pytest.raises(ValueError, match=f"fault_every is 10, expected at least {QUIET}"):
        plant(1, 10, seed=1, fault_every=10)
