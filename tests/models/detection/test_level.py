"""Sizes: one stream of one channel, unless a test says otherwise."""

import math

import pytest

from models.detection.records import FARTHEST
from models.detection.scoring import ScoreConfig
from tests.models.detection.interpreted import RESIDUAL, OneStream


class Level:
    """A level that is known already, and no season."""

    def __init__(self, mean: float = 0.0, spread: float = 1.0, features: int = 1) -> None:
        self.one = OneStream(features, ScoreConfig(level_readings=9))
        for channel in self.one.channels:
            channel.known, channel.mean, channel.spread = 100, mean, spread

    def distance(self, value: float, season: float = 0.0) -> float:
        channel, look = self.one.channels[0], self.one.looks[0]
        look.value, look.season, look.per_spread = value, season, 1 / channel.spread
        RESIDUAL.compare(channel, look, self.one.rules)
        return float(look.distance)


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


def test_what_the_season_explains_is_no_distance() -> None:
    assert Level(mean=5.0, spread=2.0).distance(9.0, season=1.5) == 0.5


def test_a_missing_value_does_not_move_the_level_deviation() -> None:
    level = Level(features=2)
    for channel, look, present in zip(level.one.channels, level.one.looks, (1.0, 0.0), strict=True):
        look.value, look.present, look.per_spread = 5.0, present, 1.0
        RESIDUAL.compare(channel, look, level.one.rules)
    assert level.one.numbers()["level_deviation"].tolist() == [pytest.approx(1.0), 0]
