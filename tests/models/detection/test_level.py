"""Sizes: one stream of one channel, unless a test says otherwise."""

import math

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.level import (
    FARTHEST_LEARNED,
    LONGEST_DAYS,
    MEMORY_DAYS,
    PERIODS_A_WEEK,
    days_of,
    distance_from,
    follow_level,
    learn_season,
    phases_at,
)
from models.detection.rows import FARTHEST, Channels, Scalars
from models.net.forecaster import WEEK_MINUTES
from tests.data import fresh_columns

HOUR_MS = 3_600_000


class Stream:
    """A level that is known already, and the season as it is learned."""

    def __init__(self, mean: float = 0.0, spread: float = 1.0, features: int = 1) -> None:
        columns = fresh_columns(features=features)
        self.channels: Channels[Doubles]
        self.scalars: Scalars[Doubles]
        self.channels, self.scalars = columns.views()
        self.season = columns.season()
        self.channels.known[:], self.channels.mean[:], self.channels.spread[:] = 100, mean, spread

    def distance(self, value: Doubles | float, time_ms: int) -> Doubles:
        phase = phases_at(np.array([[time_ms]]), 1)[:, 0]
        return distance_from(np.full((1, 1), value), phase, self.season, self.channels)

    def learn(self, values: Doubles, step_ms: int) -> Doubles:
        """Take in readings, (N,), step_ms apart; returns how far each was from where the level was thought to be."""
        times = np.arange(len(values)) * step_ms
        days = days_of(np.diff(times, prepend=0)[:, None].astype(np.float64))
        phases = phases_at(times[:, None], 1)
        distances = []
        for value, day, phase in zip(values, days, phases.swapaxes(0, 1), strict=True):
            distance = distance_from(np.full((1, 1), value), phase, self.season, self.channels)
            learn_season(distance, np.ones((1, 1)), day, phase, self.season, self.scalars)
            distances.append(float(distance[0, 0]))
        return np.array(distances)


def rhythm(readings: int, step_ms: int, period_ms: float) -> Doubles:
    values: Doubles = 10 * np.sin(2 * math.pi * np.arange(readings) * step_ms / period_ms + 1)
    return values


@pytest.mark.parametrize("period_ms", [DAY_MS, DAY_MS / 2, 7 * DAY_MS, 3.5 * DAY_MS])
def test_a_rhythm_of_the_season_is_expected_once_it_has_been_seen(period_ms: float) -> None:
    values = rhythm(60 * 24, HOUR_MS, period_ms)
    distances = Stream().learn(values, HOUR_MS)
    assert np.abs(distances[-7 * 24 :]).max() < 0.3


def test_a_rhythm_of_another_period_is_not_taken_for_the_season() -> None:
    values = rhythm(60 * 24, HOUR_MS, 1.37 * DAY_MS)
    distances = Stream().learn(values, HOUR_MS)
    assert np.std(distances[-7 * 24 :]) > 0.9 * np.std(values)


def test_noise_teaches_no_season() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 60 * 288)
    stream = Stream()
    distances = stream.learn(noise, 300_000)
    assert np.abs(stream.season).max() < 0.1
    assert np.std(distances) < 1.02 * np.std(noise)


def test_a_reading_counts_by_the_time_it_stands_for() -> None:
    shift = np.full(1_200, 5.0)  # readings a second apart: twenty minutes of a fault
    stream = Stream()
    stream.learn(shift, 1_000)
    assert np.abs(stream.season).max() < 0.2
    of_minutes, of_hours = Stream(), Stream()
    of_minutes.learn(rhythm(14 * 288, 300_000, DAY_MS), 300_000)
    of_hours.learn(rhythm(14 * 24, HOUR_MS, DAY_MS), HOUR_MS)
    np.testing.assert_allclose(of_minutes.season, of_hours.season, atol=0.3)


def test_the_season_changes_with_the_plant_within_weeks() -> None:
    before, after = rhythm(80 * 24, HOUR_MS, DAY_MS), -rhythm(40 * 24, HOUR_MS, DAY_MS)
    distances = Stream().learn(np.concatenate([before, after]), HOUR_MS)
    assert np.abs(distances[80 * 24 : 81 * 24]).max() > 15
    assert np.abs(distances[-24:]).max() < 10 * 2 * math.exp(-40 / MEMORY_DAYS) + 1


def test_days_are_those_since_the_streams_last_reading_and_an_hour_at_most() -> None:
    times_ms = np.array([[0.0, 1e6], [6e4, 1e6 + HOUR_MS], [DAY_MS, 1e6 + 2 * HOUR_MS]])
    clock_ms = np.array([[0.0, 1e6 - 3.6e5]])
    days = days_of(np.diff(times_ms, axis=0, prepend=clock_ms))
    hour = LONGEST_DAYS
    np.testing.assert_allclose(days, [[0, hour / 10], [hour / 60, hour], [hour, hour]])


def test_phases_are_sine_and_cosine_of_the_time_of_the_week() -> None:
    minute = 12_345
    found = phases_at(np.array([[minute * 60_000, (minute + WEEK_MINUTES) * 60_000 + 59_999]]), 3)
    angles = [2 * math.pi * periods * minute / WEEK_MINUTES for periods in PERIODS_A_WEEK]
    expected = [of(angle) for angle in angles for of in (math.sin, math.cos)]
    np.testing.assert_allclose(found[:, 0, 0, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1, :1], (8, 1, 2, 3)))


@pytest.mark.parametrize(("streams", "features"), [(1, 1), (1, 2), (7, 1), (33, 5), (256, 38)])
def test_a_distance_has_the_same_bits_in_any_company(streams: int, features: int) -> None:
    random = np.random.default_rng(1)
    columns = fresh_columns(streams, features)
    columns.channels.numpy()[:] = random.normal(size=columns.channels.shape)
    channels, _ = columns.views()
    channels.known[:] = 9
    values, phases = (
        random.normal(size=(streams, features)),
        phases_at(random.integers(0, 10**12, (1, streams)), features)[:, 0],
    )
    together = distance_from(values, phases, columns.season(), channels)
    for n in range(streams):
        one = slice(n, n + 1)
        of_one = Channels[Doubles].of([statistic[one] for statistic in channels])
        alone = distance_from(values[one], phases[:, one], columns.season()[:, one], of_one)
        np.testing.assert_array_equal(alone, together[one])


def test_there_is_no_distance_while_the_spread_is_not_known() -> None:
    stream = Stream(mean=3.0, spread=np.inf)
    assert stream.distance(7.0, 0)[0, 0] == 0.0
    stream.channels.spread[:] = 2.0
    assert stream.distance(7.0, 0)[0, 0] == 2.0


def test_a_distance_is_cut_where_its_square_would_not_be_finite() -> None:
    stream = Stream()
    assert [stream.distance(value, 0)[0, 0] for value in (-1e300, 999.0, 1e300)] == [-FARTHEST, 999.0, FARTHEST]


def test_the_level_deviation_is_a_short_mean_of_the_signed_distance() -> None:
    deviation, expected = np.zeros((1, 1)), 0.0
    for distance in (4.0, -6.0, 1.0, 30.0):
        follow_level(np.array([[distance]]), None, deviation, 9)
        expected += (distance - expected) * 0.2
        assert deviation[0, 0] == pytest.approx(expected)


def test_a_missing_value_moves_neither_level_deviation_nor_season() -> None:
    stream = Stream(features=2)
    present = np.array([[True, False]])
    distance, phase = np.full((1, 2), 5.0), phases_at(np.array([[HOUR_MS]]), 1)[:, 0]
    follow_level(distance, present, stream.channels.level_deviation, 9)
    learn_season(distance, present * 1.0, np.full(1, LONGEST_DAYS), phase, stream.season, stream.scalars)
    assert stream.channels.level_deviation[0].tolist() == [pytest.approx(1.0), 0]
    assert np.abs(stream.season[:, 0, 0]).max() > 0
    assert not stream.season[:, 0, 1].any()


def test_what_may_not_be_learned_moves_no_season() -> None:
    stream = Stream()
    stream.learn(rhythm(100, HOUR_MS, DAY_MS), HOUR_MS)
    season, days = stream.season.copy(), stream.scalars.days.copy()
    phase = phases_at(np.array([[HOUR_MS]]), 1)[:, 0]
    learn_season(np.full((1, 1), 50.0), np.zeros((1, 1)), np.zeros(1), phase, stream.season, stream.scalars)
    np.testing.assert_array_equal(stream.season, season)
    np.testing.assert_array_equal(stream.scalars.days, days)


def test_a_glitch_teaches_the_season_no_more_than_a_large_distance_does() -> None:
    seasons = []
    for value in (FARTHEST_LEARNED, 1e5):
        stream = Stream()
        stream.learn(np.array([0.0, value]), HOUR_MS)
        seasons.append(stream.season.copy())
    np.testing.assert_array_equal(seasons[0], seasons[1])
    assert np.abs(seasons[0]).max() > 1
