"""Streams of one channel through the detector; T readings. Errors are compared with those of the last value.

Sizes: T readings.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.data.arrays import Bools, Doubles, Int64s
from models.data.families import series_of
from models.detection.alarm import Change
from models.detection.detector import Detector, DetectorConfig, Expected, Readings, Stretch, Verdicts
from models.detection.priming import prime
from models.detection.records import BAND_DEVIATIONS, BAND_REACH, Step
from models.detection.rows import RowsInPlace
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from tests.data import some_forecaster
from tests.models.detection.interpreted import EXPECTATION, OneStream, a_look

MINUTE_MS = 60_000
FIVE_MINUTES_MS = 5 * MINUTE_MS
MONDAY_MS = 1_767_571_200_000
DAYS = 28


class Said(Detector):
    """A detector whose net says, of every reading, what it is told to."""

    said: Doubles  # (T,) in the sensor's units

    def expect(self, stretch: Stretch, rows: RowsInPlace) -> Expected:
        expected = super().expect(stretch, rows)
        said = self.said[stretch.offsets[stretch.readings]][..., None]
        return expected._replace(predicted=(said - rows.channel("centre")) / rows.channel("spread"))


def untrained() -> Detector:
    """Its net says that all stays as it was."""
    return Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=16)))


def told(said: Doubles) -> Detector:
    detector = Said.cold(Forecaster(ForecasterConfig(("a",), hidden=16)))
    detector.said = said
    return detector


def judged(values: Doubles, detector: Detector | None = None, step_ms: int = MINUTE_MS) -> Verdicts:
    """values: (T,)"""
    return judged_at(MONDAY_MS + np.arange(len(values)) * step_ms, values, detector)


def judged_at(times_ms: Int64s, values: Doubles, detector: Detector | None = None) -> Verdicts:
    detector = detector or untrained()
    place = torch.arange(len(values))
    readings = Readings(place, torch.from_numpy(times_ms), torch.from_numpy(values)[:, None])
    verdicts, _ = detector.observe(readings, pack(torch.zeros_like(place)), detector.rows_for([b"a"]))
    return verdicts


def loss(values: Doubles, verdicts: Verdicts, begin: int) -> float:
    """Mean absolute error from a reading on, over that of the last value."""
    error = np.abs(verdicts.expected[:, 0].numpy() - values)[begin:]
    return float(np.nanmean(error) / np.nanmean(np.abs(np.diff(values))[begin - 1 :]))


def held(values: Doubles, verdicts: Verdicts, begin: int) -> float:
    """The share of readings within the band that is to hold nine in ten."""
    half = (verdicts.upper - verdicts.lower)[:, 0].numpy() / 2 * BAND_REACH / BAND_DEVIATIONS
    return float(np.mean((np.abs(values - verdicts.expected[:, 0].numpy()) <= half)[begin:]))


def remember(noise: Doubles, memory: float) -> Doubles:
    values = noise.copy()
    for n in range(1, len(values)):
        values[n] += memory * values[n - 1]
    return values


def noise(seed: int = 0, readings: int = 6_000) -> Doubles:
    return np.random.default_rng(seed).normal(size=readings)


# --- never worse than simple


@pytest.mark.parametrize("value", [21.5, 0.0, -1e9])
def test_a_channel_that_stays_is_expected_to_stay_exactly_whatever_the_net_says(value: float) -> None:
    verdicts = judged(np.full(3_000, value), Detector.cold(some_forecaster(1)), FIVE_MINUTES_MS)
    assert (verdicts.expected[2:, 0] == value).all()
    assert not verdicts.transitions


def test_a_channel_that_has_come_to_rest_is_expected_to_stay_exactly() -> None:
    values = np.concatenate([50 + noise(readings=1_000), np.full(5_000, 50.0)])
    verdicts = judged(values, told(50 + noise(seed=1)))
    assert (verdicts.expected[-1_000:, 0] == 50.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_walk_is_expected_as_well_as_by_its_last_value(seed: int) -> None:
    values = np.cumsum(noise(seed))
    assert loss(values, judged(values, Detector.cold(some_forecaster(1))), 1_000) < 1.005


@pytest.mark.parametrize("seed", range(4))
def test_a_net_that_misleads_is_not_heeded(seed: int) -> None:
    values = np.cumsum(noise(seed))
    misleading = values + np.random.default_rng(9).normal(size=len(values)) * 10
    assert loss(values, judged(values, told(np.roll(misleading, 1))), 1_000) < 1.005


def test_a_net_that_begins_to_mislead_is_heeded_no_longer_than_its_shares_remember() -> None:
    values = np.cumsum(noise())
    said = np.where(np.arange(len(values)) < 3_000, values, values[::-1])
    verdicts = judged(values, told(said))
    assert loss(values, verdicts, 4_000) < 1.01


def test_a_net_that_knows_is_heeded() -> None:
    values = 5 * np.cumsum(noise())
    assert loss(values, judged(values, told(values + 0.1 * noise(seed=1))), 500) < 0.1


@pytest.mark.parametrize(
    ("values", "most"),
    [
        (50 + noise(), 0.75),  # the best there is: .71
        (50 + remember(noise(), 0.5), 0.9),  # .87
        (50 + 10 * np.sin(np.arange(6_000) * 2 * math.pi / 288) + noise(), 0.78),
        (np.cumsum(np.abs(30 + 5 * noise())), 0.4),  # a counter
    ],
)
def test_what_the_last_value_does_not_know_is_gained_without_a_net(values: Doubles, most: float) -> None:
    assert loss(values, judged(values, step_ms=FIVE_MINUTES_MS), 2_000) < most


# --- the clock


def job(days: int, seed: int = 0, begin_h: float = 6.0, length_h: float = 0.75) -> tuple[Doubles, Bools]:
    """Readings five minutes apart of a machine that works at the same time every day, and where that begins or ends."""
    hour = np.arange(days * 288) / 12 % 24
    work = np.where((hour >= begin_h) & (hour < begin_h + length_h), 25.0, 0.0)
    return 60 + work + 0.3 * noise(seed, len(work)), np.diff(work, prepend=0.0) != 0


@pytest.mark.parametrize(("begin_h", "length_h"), [(6.0, 0.5), (6.25, 0.75), (22.0, 8.0)])
def test_a_job_of_every_day_is_expected_after_two_weeks_as_well_as_calm_readings(
    begin_h: float, length_h: float
) -> None:
    values, edges = job(DAYS, begin_h=begin_h, length_h=length_h)
    error = np.abs(judged(values, step_ms=FIVE_MINUTES_MS).expected[:, 0].numpy() - values)
    judged_from = np.arange(len(values)) >= 14 * 288
    assert error[edges & judged_from].mean() < 2 * error[~edges & judged_from].mean()


def test_a_day_without_the_job_is_an_anomaly_that_is_soon_forgotten() -> None:
    values, edges = job(DAYS)
    missed = slice(20 * 288, 21 * 288)
    values[missed] = np.minimum(values[missed], 61.0)
    verdicts = judged(values, step_ms=FIVE_MINUTES_MS)
    error = np.abs(verdicts.expected[:, 0].numpy() - values)
    begin = 20 * 288 + 6 * 12
    assert error[begin] > 20
    assert verdicts.alarm[begin : begin + 12].any()
    later = edges & (np.arange(len(values)) >= 24 * 288)
    assert error[later].max() < 8  # of 25, on the same day of the next week


def test_readings_at_other_times_of_the_quarter_and_missing_ones_change_little() -> None:
    values, edges = job(DAYS)
    times_ms = MONDAY_MS + np.arange(len(values)) * FIVE_MINUTES_MS
    times_ms += np.random.default_rng(2).integers(0, 200_000, len(values))
    missing = np.random.default_rng(3).random(len(values)) < 0.2
    missing |= np.roll(edges, -1)  # the last reading before an edge too
    error = np.abs(judged_at(times_ms, np.where(missing, np.nan, values)).expected[:, 0].numpy() - values)
    later = edges & ~missing & (np.arange(len(values)) >= 14 * 288)
    assert later.any()
    assert error[later].mean() < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_noise_teaches_no_season(seed: int) -> None:
    values = 50 + noise(seed, readings=20 * 288)
    rows = untrained().rows_for([b"a"])
    place = torch.arange(len(values))
    readings = Readings(place, MONDAY_MS + place * FIVE_MINUTES_MS, torch.from_numpy(values)[:, None])
    _, rows = untrained().observe(readings, pack(torch.zeros_like(place)), rows)
    totals = (rows.channel(name).item() for name in ("season_product", "season_square", "residual_variance"))
    assert EXPECTATION.proven(*totals) < 0.2


# --- shares


def test_a_correction_is_heeded_by_its_least_squares_factor_less_one_standard_error() -> None:
    random = np.random.default_rng(0)
    correction = random.normal(size=300)
    left = 0.6 * correction + 0.5 * random.normal(size=300)
    factor = (correction @ left) / (correction @ correction)
    error = 0.5 / math.sqrt(correction @ correction)
    share = EXPECTATION.proven(correction @ left, correction @ correction, 0.25)
    assert share == pytest.approx(factor - error)


@pytest.mark.parametrize(("product", "square", "share"), [(0, 0, 0), (-5, 1, 0), (1.5, 4, 0), (50, 4, 1)])
def test_a_share_is_between_nothing_and_all(product: float, square: float, share: float) -> None:
    assert EXPECTATION.proven(product, square, 1.0) == share


def test_one_glitch_counts_as_evidence_no_more_than_a_clear_correction() -> None:
    product, square = 0.0, 0.0
    weigh: Callable[..., tuple[float, float]] = EXPECTATION.weigh
    product, square = weigh(product, square, 450.0, 450.0, 1.0, 10.0, 3.0, 1.0, 0.0)
    assert (product, square) == (100.0, 100.0)
    product, square = weigh(0.0, 0.0, 0.5, 450.0, 1.0, 10.0, 3.0, 1.0, 0.0)
    assert (product, square) == (1.75, 0.25)


def test_a_correction_that_is_right_but_for_noise_is_heeded_wholly() -> None:
    product, square = 0.0, 0.0
    for error in noise(readings=400).tolist():
        product, square = EXPECTATION.weigh(product, square, 50.0, 50.0 + error, 1.0, 100.0, 3.0, 1.0, 0.0)
    assert product / square == pytest.approx(1.0, abs=0.003)


def test_days_that_the_clock_has_wrong_say_little_against_those_that_it_has_right() -> None:
    right, wrong = (50.0, 50.0), (50.0, 15.0)
    plain, robust = (0.0, 0.0), (0.0, 0.0)
    for correction, left in (*[right] * 10, *[wrong] * 4, *[right] * 4):
        plain = EXPECTATION.weigh(*plain, correction, left, 1.0, 100.0, 3.0, 1.0, 0.0)
        share = EXPECTATION.proven(*robust, 1.0)
        robust = EXPECTATION.weigh_clock(*robust, share, correction, left, 1.0, 3.0, 1.0, 0.0)
    assert EXPECTATION.proven(*plain, 1.0) < 0.85
    assert EXPECTATION.proven(*robust, 1.0) > 0.94


def test_a_clock_that_is_wrong_on_all_days_is_not_heeded() -> None:
    product, square = 0.0, 0.0
    for left in (*[50.0] * 10, *[0.0] * 40):
        share = EXPECTATION.proven(product, square, 1.0)
        product, square = EXPECTATION.weigh_clock(product, square, share, 50.0, left, 1.0, 3.0, 1.0, 0.1)
    assert EXPECTATION.proven(product, square, 1.0) < 0.1


def test_a_missing_value_teaches_nothing() -> None:
    one = OneStream()
    before = one.numbers()
    look = a_look(residual=1.0, clock=1.0, weekly=1.0, level=1.0, net=1.0, profile=1.0, distance=1.0, present=0.0)
    EXPECTATION.learn_expectation(one.channels[0], look, 60_000.0, Step(Change.NONE, 0.0, 1.0, 1.0))
    for name, numbers in one.numbers().items():
        np.testing.assert_array_equal(numbers, before[name], err_msg=name)


# --- the band


@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_cauchy", "uniform"])
def test_a_band_holds_nine_in_ten_readings(draw: str) -> None:
    values = 50 + getattr(np.random.default_rng(5), draw)(size=8_000)
    assert 0.87 < held(values, judged(values), 1_000) < 0.93


def test_a_band_does_not_begin_with_errors_that_only_warm_the_memory_up() -> None:
    channel, errors = OneStream().channels[0], np.abs(noise(readings=400))
    for place, error in enumerate(errors.tolist()):
        learned = float(place - 15)
        EXPECTATION.learn_band(channel, 1_000.0 if place == 0 else error, learned, 1.0)
    assert np.mean(errors[200:] <= channel.band) == pytest.approx(0.9, abs=0.03)


def test_a_band_of_a_stream_that_was_trained_on_is_right_from_its_first_reading_on() -> None:
    """Its training part begins at 5,000, where the row of a stream that has read nothing has 0."""
    values = 5_000 + noise(seed=3, readings=1_500)
    part = series_of("a", ("a",), MONDAY_MS + FIVE_MINUTES_MS * np.arange(400), values[:400])
    detector = prime(untrained().forecaster, DetectorConfig(), [part])
    later = MONDAY_MS + FIVE_MINUTES_MS * np.arange(400, 1_500)
    verdicts = judged_at(later, values[400:], detector)
    assert 0.87 < held(values[400:], verdicts, 0) < 0.93


def test_a_band_is_as_narrow_as_the_errors_of_a_counter_whose_spread_is_all_that_it_counted() -> None:
    values = np.cumsum(np.random.default_rng(6).poisson(30, 8_000).astype(np.float64))
    verdicts = judged(values)
    assert 0.87 < held(values, verdicts, 1_000) < 0.93
    assert (verdicts.upper - verdicts.lower)[-1, 0] < 1e-3 * np.std(values)


def test_a_band_is_wider_where_readings_have_been_farther_off_for_so_long_that_it_is_normal() -> None:
    values = 50 + noise(readings=9_000) * np.where(np.arange(9_000) < 3_000, 1.0, 3.0)
    assert 0.86 < held(values, judged(values), 6_900) < 0.93
