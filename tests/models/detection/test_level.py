"""Sizes: one stream of one channel, unless a test says otherwise."""

import math

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.alarm import Change
from models.detection.judge import FARTHEST, FARTHEST_LEARNED, LONGEST_DAYS, MEMORY_DAYS
from models.detection.records import PERIODS_A_WEEK, PHASES, Step
from models.detection.rows import SEASON
from models.detection.scoring import ScoreConfig
from models.net.clock import MINUTE_MS, WEEK_MINUTES
from tests.models.detection.interpreted import JUDGE, OneStream

HOUR_MS = 3_600_000
LEARNS = Step(Change.NONE, 1.0, 1.0)


class Level:
    """A level that is known already, and the season as it is learned."""

    def __init__(self, mean: float = 0.0, spread: float = 1.0, features: int = 1) -> None:
        self.one = OneStream(features, ScoreConfig(level_readings=9))
        for channel in self.one.channels:
            channel.known, channel.mean, channel.spread = 100, mean, spread

    @property
    def season(self) -> Doubles:
        """(P, F)"""
        return np.array([self.one.numbers()[name] for name in SEASON])

    @property
    def days(self) -> float:
        return float(self.one.stream.days)

    def distance(self, value: float, time_ms: int = 0) -> float:
        channel, look = self.one.channels[0], self.one.looks[0]
        look.value = value
        JUDGE.compare(channel, look, PHASES[time_ms // MINUTE_MS % WEEK_MINUTES], self.one.rules)
        return float(look.distance)

    def learn(self, values: Doubles, step_ms: int) -> Doubles:
        """Take in readings, (N,), step_ms apart; returns how far each was from where the level was thought to be."""
        distances = []
        for n, value in enumerate(values.tolist()):
            distances.append(self.distance(value, n * step_ms))
            self.learn_season(min(step_ms / DAY_MS, LONGEST_DAYS) if n else 0.0, n * step_ms)
        return np.array(distances)

    def learn_season(self, days: float, time_ms: int, step: Step = LEARNS) -> None:
        phase = PHASES[time_ms // MINUTE_MS % WEEK_MINUTES]
        JUDGE.learn_season(self.one.stream, self.one.scratch, days, step, phase)


def rhythm(readings: int, step_ms: int, period_ms: float) -> Doubles:
    values: Doubles = 10 * np.sin(2 * math.pi * np.arange(readings) * step_ms / period_ms + 1)
    return values


@pytest.mark.parametrize("period_ms", [DAY_MS, DAY_MS / 2, 7 * DAY_MS, 3.5 * DAY_MS])
def test_a_rhythm_of_the_season_is_expected_once_it_has_been_seen(period_ms: float) -> None:
    values = rhythm(60 * 24, HOUR_MS, period_ms)
    distances = Level().learn(values, HOUR_MS)
    assert np.abs(distances[-7 * 24 :]).max() < 0.3


def test_a_rhythm_of_another_period_is_not_taken_for_the_season() -> None:
    values = rhythm(60 * 24, HOUR_MS, 1.37 * DAY_MS)
    distances = Level().learn(values, HOUR_MS)
    assert np.std(distances[-7 * 24 :]) > 0.9 * np.std(values)


def test_noise_teaches_no_season() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 60 * 288)
    level = Level()
    distances = level.learn(noise, 300_000)
    assert np.abs(level.season).max() < 0.1
    assert np.std(distances) < 1.02 * np.std(noise)


def test_a_reading_counts_by_the_time_it_stands_for() -> None:
    shift = np.full(1_200, 5.0)  # readings a second apart: twenty minutes of a fault
    level = Level()
    level.learn(shift, 1_000)
    assert np.abs(level.season).max() < 0.2
    of_minutes, of_hours = Level(), Level()
    of_minutes.learn(rhythm(14 * 288, 300_000, DAY_MS), 300_000)
    of_hours.learn(rhythm(14 * 24, HOUR_MS, DAY_MS), HOUR_MS)
    np.testing.assert_allclose(of_minutes.season, of_hours.season, atol=0.3)


def test_the_season_changes_with_the_plant_within_weeks() -> None:
    before, after = rhythm(80 * 24, HOUR_MS, DAY_MS), -rhythm(40 * 24, HOUR_MS, DAY_MS)
    distances = Level().learn(np.concatenate([before, after]), HOUR_MS)
    assert np.abs(distances[80 * 24 : 81 * 24]).max() > 15
    assert np.abs(distances[-24:]).max() < 10 * 2 * math.exp(-40 / MEMORY_DAYS) + 1


def test_phases_are_sine_and_cosine_of_the_time_of_the_week() -> None:
    minute = 2_345
    angles = [2 * math.pi * periods * minute / WEEK_MINUTES for periods in PERIODS_A_WEEK]
    expected = [of(angle) for angle in angles for of in (math.sin, math.cos)]
    np.testing.assert_allclose(PHASES[minute], expected, atol=1e-6)
    assert PHASES.shape == (WEEK_MINUTES, len(SEASON))


def test_there_is_no_distance_while_the_spread_is_not_known() -> None:
    level = Level(mean=3.0, spread=math.inf)
    assert level.distance(7.0) == 0.0
    level.one.channels[0].spread = 2.0
    assert level.distance(7.0) == 2.0


def test_a_distance_is_cut_where_its_square_would_not_be_finite() -> None:
    level = Level()
    assert [level.distance(value) for value in (-1e300, 999.0, 1e300)] == [-FARTHEST, 999.0, FARTHEST]


def test_the_level_deviation_is_a_short_mean_of_the_signed_distance() -> None:
    level, expected = Level(), 0.0
    for distance in (4.0, -6.0, 1.0, 30.0):
        level.distance(distance)
        expected += (distance - expected) * 0.2
        assert level.one.channels[0].level_deviation == pytest.approx(expected)


def test_a_missing_value_moves_neither_level_deviation_nor_season() -> None:
    level = Level(features=2)
    phase = PHASES[60]
    for channel, look, present in zip(level.one.channels, level.one.looks, (1.0, 0.0), strict=True):
        look.value, look.present = 5.0, present
        JUDGE.compare(channel, look, phase, level.one.rules)
    level.learn_season(LONGEST_DAYS, HOUR_MS)
    assert level.one.numbers()["level_deviation"].tolist() == [pytest.approx(1.0), 0]
    assert np.abs(level.season[:, 0]).max() > 0
    assert not level.season[:, 1].any()


def test_what_may_not_be_learned_moves_no_season() -> None:
    level = Level()
    level.learn(rhythm(100, HOUR_MS, DAY_MS), HOUR_MS)
    season, days = level.season, level.days
    level.distance(50.0)
    level.learn_season(LONGEST_DAYS, HOUR_MS, Step(Change.NONE, 0.0, 0.0))
    np.testing.assert_array_equal(level.season, season)
    assert level.days == days


def test_a_glitch_teaches_the_season_no_more_than_a_large_distance_does() -> None:
    seasons = []
    for value in (FARTHEST_LEARNED, 1e5):
        level = Level()
        level.learn(np.array([0.0, value]), HOUR_MS)
        seasons.append(level.season)
    np.testing.assert_array_equal(seasons[0], seasons[1])
    assert np.abs(seasons[0]).max() > 1
