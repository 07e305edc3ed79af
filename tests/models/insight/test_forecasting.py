"""More than one step ahead: what is expected next, where paths lead, how often bands hold."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.detection.detector import Detector, Readings
from models.detection.rows import Rows, fresh
from models.insight.forecasting import LEVELS, ForecastConfig, UnknownInterval, expect, forecast, paths
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from tests.data import QUICK, batch_of, faulty, judge, some_forecaster

MINUTE_MS = 60_000


def no_change() -> Detector:
    """An untrained net: it expects that nothing changes."""
    return Detector.cold(Forecaster(ForecasterConfig(("f0",), hidden=16)), QUICK)


def observe(detector: Detector, readings: Readings, row: Rows) -> Rows:
    return detector.observe(readings, pack(torch.zeros_like(readings.offsets)), row)[1]


def walk(readings: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=readings).cumsum()


def test_what_is_expected_next_is_what_the_next_verdict_says_to_the_bit() -> None:
    detector = Detector.cold(some_forecaster(3, layers=2), QUICK)
    batch = faulty(3, seed=5, streams=3, readings=600)
    rows = judge(detector, batch.part(torch.arange(400)), fresh(3, detector.forecaster.config)).rows
    expected = expect(detector, rows, batch.readings.times_ms[400:].max().expand(3))
    for stream in range(3):
        mine = batch.part(torch.arange(400, 600)).readings
        first = int((batch.streams[400:] == stream).nonzero()[0])
        later = Readings(mine.offsets[:1], mine.times_ms.max().reshape(1), mine.values[first : first + 1])
        verdicts, _ = detector.observe(
            later, pack(torch.zeros(1, dtype=torch.int64)), rows.take(torch.tensor([stream]))
        )
        assert verdicts.fate.judged.all()
        assert torch.equal(verdicts.expected[0], expected[stream])


def test_a_path_without_residuals_is_what_the_detector_expects_of_a_stream_that_does_as_expected() -> None:
    """The oracle reads, again and again, exactly what it expects; what is learned from readings stands still."""
    detector = Detector.cold(some_forecaster(2), QUICK)
    past = batch_of(np.random.default_rng(0).normal(size=(140, 2))).readings
    row = observe(detector, past, fresh(1, detector.forecaster.config))
    still = row
    times_ms = past.times_ms[-1] + MINUTE_MS * torch.arange(1, 11)
    path = paths(detector, row, times_ms[:, None], torch.zeros(10, 1, 1, 2, dtype=torch.float64))[:, 0, 0]
    for step in range(10):
        value = expect(detector, still, times_ms[step : step + 1])
        np.testing.assert_allclose(path[step], value[0], rtol=1e-5, atol=1e-5)
        row = observe(detector, Readings(past.offsets[:1], times_ms[step : step + 1], value), row)
        still = row._replace(channels=still.channels.clone(), scalars=still.scalars)
        for name in ("last", "last_profile"):
            still.channel(name).copy_(row.channel(name))


def test_streams_side_by_side_have_the_paths_they_have_alone() -> None:
    detector = Detector.cold(some_forecaster(2), QUICK)
    batch = faulty(2, seed=1, streams=3, readings=900)
    rows = judge(detector, batch, fresh(3, detector.forecaster.config)).rows
    times_ms = batch.readings.times_ms.max() + MINUTE_MS * torch.arange(1, 5)[:, None].expand(4, 3)
    residual = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 16, 2)))
    together = paths(detector, rows, times_ms, residual)
    for n in range(3):
        alone = paths(detector, rows.take(torch.tensor([n])), times_ms[:, n : n + 1], residual[:, n : n + 1])
        np.testing.assert_array_equal(alone[:, 0], together[:, n])


def test_the_bands_of_a_random_walk_widen_with_the_root_of_the_steps() -> None:
    """The net that expects no change is right about a random walk, and the normal law says how wide its bands are."""
    values = walk(1_000)
    config = ForecastConfig(steps=36, paths=4_000, block=1, origins=0)
    ahead = forecast(no_change(), fresh(1, no_change().forecaster.config), batch_of(values).readings, config)
    deviation = np.diff(values)[-900:].std()
    for band in ahead.bands:
        reach = NormalDist().inv_cdf((1 + band.level) / 2) * deviation
        for step in (0, 8, 35):
            half = (band.upper - band.lower)[step, 0] / 2
            assert half == pytest.approx(reach * math.sqrt(step + 1), rel=0.15)


def test_bands_of_noise_that_goes_nowhere_do_not_spread() -> None:
    values = np.random.default_rng(2).normal(size=1_048)
    past = batch_of(values[:1_000]).readings
    row = fresh(1, no_change().forecaster.config)
    untried, tried = (forecast(no_change(), row, past, ForecastConfig(origins=origins)) for origins in (0, 32))
    assert (untried.origins, tried.origins) == (0, 32)
    assert (untried.widened == 1).all()
    for ahead in (untried, tried):
        half = (ahead.bands[1].upper - ahead.bands[1].lower)[24:, 0].mean() / 2
        assert 0.8 < half / NormalDist().inv_cdf(0.9) < 1.5


@pytest.mark.slow
def test_bands_hold_about_as_often_as_they_say_on_a_stream_the_net_is_wrong_about() -> None:
    values = np.sin(np.arange(1_400) / 6) * 3 + np.random.default_rng(3).normal(size=1_400)
    held = []
    for end in range(700, 1_376, 52):
        past = batch_of(values[end - 700 : end]).readings
        ahead = forecast(
            no_change(),
            fresh(1, no_change().forecaster.config),
            past,
            ForecastConfig(steps=24, paths=64, tried_paths=32, origins=24),
        )
        came = values[end : end + 24]
        held.append([((came >= b.lower[:, 0]) & (came <= b.upper[:, 0])).mean() for b in ahead.bands])
    for level, share in zip(LEVELS, np.mean(held, axis=0), strict=True):
        assert share == pytest.approx(level, abs=0.12)


def test_a_narrower_band_lies_within_a_wider_one_and_around_the_median() -> None:
    detector = Detector.cold(some_forecaster(2), QUICK)
    past = batch_of(np.random.default_rng(0).normal(size=(200, 2))).readings
    ahead = forecast(detector, fresh(1, detector.forecaster.config), past, ForecastConfig(steps=12, origins=0))
    ends = [ahead.bands[n].lower for n in (2, 1, 0)] + [ahead.median] + [ahead.bands[n].upper for n in (0, 1, 2)]
    assert (np.diff(np.stack(ends), axis=0) >= 0).all()
    assert [band.level for band in ahead.bands] == list(LEVELS)
    assert np.diff(ahead.times_ms).tolist() == [MINUTE_MS] * 11
    assert ahead.times_ms[0] == int(past.times_ms[-1]) + MINUTE_MS


def test_a_seed_makes_a_forecast_what_it_is() -> None:
    detector = Detector.cold(some_forecaster(1), QUICK)
    past, row = batch_of(walk(300)).readings, fresh(1, detector.forecaster.config)
    one, again, other = (forecast(detector, row, past, ForecastConfig(steps=8, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.median, again.median)
    np.testing.assert_array_equal(one.bands[2].upper, again.bands[2].upper)
    assert (one.median != other.median).any()


def test_the_row_and_the_readings_before_it_are_left_as_they_were() -> None:
    detector = Detector.cold(some_forecaster(1), QUICK)
    row = observe(detector, batch_of(walk(100)).readings, fresh(1, detector.forecaster.config))
    before = Rows(*(column.clone() for column in row))
    forecast(detector, row, batch_of(walk(300), first_ms=100 * MINUTE_MS).readings, ForecastConfig(steps=8))
    assert all(torch.equal(*pair) for pair in zip(row, before, strict=True))


def test_an_alarms_residuals_are_not_drawn_again() -> None:
    values = walk(400)
    values[300:315] += 500
    past = batch_of(values).readings
    row = fresh(1, no_change().forecaster.config)
    ahead = forecast(no_change(), row, past, ForecastConfig(steps=1, block=1, paths=2_000, origins=0))
    assert ahead.residuals < 400 - 15
    assert (ahead.bands[2].upper - ahead.bands[2].lower)[0, 0] < 100, "what it did to the noise fades"


def test_with_too_few_residuals_they_are_drawn_from_a_normal_law() -> None:
    past, row = batch_of(walk(40)).readings, fresh(1, no_change().forecaster.config)
    ahead = forecast(no_change(), row, past, ForecastConfig(steps=3))
    assert (ahead.residuals, ahead.origins) == (0, 0)
    assert np.isfinite(ahead.median).all()


def test_the_interval_is_the_median_of_those_read_or_the_one_given() -> None:
    past = batch_of(walk(30)).readings
    times_ms = past.times_ms + torch.where(torch.arange(30) > 20, 500_000, 0)
    row = fresh(1, no_change().forecaster.config)
    for given, interval_ms in ((None, MINUTE_MS), (1_500, 1_500)):
        ahead = forecast(no_change(), row, past._replace(times_ms=times_ms), ForecastConfig(steps=2), given)
        assert ahead.interval_ms == interval_ms
        assert ahead.times_ms.tolist() == [int(times_ms[-1]) + interval_ms, int(times_ms[-1]) + 2 * interval_ms]


def test_without_two_readings_an_interval_has_to_be_given() -> None:
    one = Readings(*(column[:1] for column in batch_of(walk(300)).readings))
    row = observe(no_change(), batch_of(walk(300)).readings, fresh(1, no_change().forecaster.config))
    nothing = Readings(*(column[:0] for column in one))
    for past in (one, nothing):
        with pytest.raises(UnknownInterval, match=rf"{len(past.offsets)} readings? cannot tell"):
            forecast(no_change(), row, past, ForecastConfig())
    ahead = forecast(no_change(), row, nothing, ForecastConfig(steps=2), MINUTE_MS)
    assert np.isfinite(ahead.median).all()
    assert ahead.median.shape == (2, 1)


def test_of_a_channel_whose_scale_is_unknown_nothing_is_said() -> None:
    values = np.random.default_rng(0).normal(size=(200, 2))
    values[:, 1] = np.nan
    detector = Detector.cold(some_forecaster(2), QUICK)
    past = batch_of(values).readings
    ahead = forecast(detector, fresh(1, detector.forecaster.config), past, ForecastConfig(steps=4))
    assert np.isfinite(ahead.median[:, 0]).all()
    assert np.isnan(ahead.median[:, 1]).all()
    assert np.isnan(ahead.bands[0].upper[:, 1]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0, expected 1 to 1000"),
        ({"steps": 1_001}, "steps is 1001"),
        ({"paths": 0}, "paths, tried_paths, block, fewest_residuals: expected at least 1"),
        ({"origins": -1}, "origins: at least 0"),
    ],
)
def test_a_forecast_that_makes_no_sense_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForecastConfig(**wrong)
