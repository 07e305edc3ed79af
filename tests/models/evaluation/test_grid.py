"""Grids of settings: what they combine, what they set, and what is refused."""

from dataclasses import replace

import pytest

from models.detection.detector import DetectorConfig
from models.detection.scoring import ScoreConfig
from models.evaluation.grid import UnknownSetting, name_of, parse, with_setting


def some_numbers() -> tuple[str, str]:
    """A number with a fraction and a whole one, whatever they are called today."""
    default = ScoreConfig()
    fraction = next(name for name in ScoreConfig.__slots__ if isinstance(getattr(default, name), float))
    whole = next(name for name in ScoreConfig.__slots__ if isinstance(getattr(default, name), int))
    return fraction, whole


def test_a_grid_has_every_combination_in_order() -> None:
    fraction, whole = some_numbers()
    grid = parse([f"score.{fraction}=0.25,0.5", f"score.{whole}=100,200"])
    assert [tuple(value for _, value in setting) for setting in grid] == [
        (0.25, 100),
        (0.25, 200),
        (0.5, 100),
        (0.5, 200),
    ]
    assert name_of(grid[0]) == f"score.{fraction}=0.25 score.{whole}=100"
    assert parse([]) == ()


def test_a_setting_changes_what_it_names_and_nothing_else() -> None:
    fraction, whole = some_numbers()
    [setting] = parse([f"score.{fraction}=0.25", f"score.{whole}=100"])
    before = DetectorConfig()
    after = with_setting(before, setting)
    assert isinstance(getattr(after.score, whole), int)
    assert getattr(after.score, fraction) == 0.25
    unchanged = {fraction: getattr(before.score, fraction), whole: getattr(before.score, whole)}
    assert replace(after, score=replace(after.score, **unchanged)) == before


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("score.no_such=1", "names 'score.no_such', expected one of score."),
        ("score=1", "names 'score', expected one of"),
        ("score.{}=high", "expected NAME=VALUE,VALUE with values it may have: could not convert"),
        ("score.{}", "expected NAME=VALUE,VALUE"),
        ("score.{}=-1", "expected NAME=VALUE,VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(option: str, expected: str) -> None:
    with pytest.raises(UnknownSetting, match=expected):
        parse([option.format("warm_up" if "warm_up" in ScoreConfig.__slots__ else some_numbers()[1])])
