"""The table at the end of `make bench`."""

import math
from itertools import product

import pytest

from tests.bench.figures import Figure, at_least, at_most, median_interval, table, verdict


def test_the_table_says_of_each_figure_what_is_asked_and_whether_it_holds() -> None:
    lines = table([at_most("restoring", 6.5, 5, "s"), at_least("share", 1.85, 1.8, "times"), Figure("a", "b")]).split(
        "\n"
    )
    assert lines[2:] == [
        "| restoring | 6.50 s | at most 5 | missed |",
        "| share | 1.85 times | at least 1.8 | holds |",
        "| a | b |  |  |",
    ]


@pytest.mark.parametrize("found", [1.0, 1.5])
def test_what_is_asked_holds_at_the_limit_itself(found: float) -> None:
    assert at_most("ratio", found, 1.5, "").holds
    assert at_least("ratio", found, 1.0, "").holds
    assert not at_most("ratio", found + 1, 1.5, "").holds
    assert not at_least("ratio", found - 1, 1.0, "").holds


def test_the_median_lies_in_its_interval_as_often_as_is_said() -> None:
    """Each value lies above the median or below it, as a coin falls: all ways in which twelve can are counted."""
    inside = 0
    for sides in product((-1.0, 1.0), repeat=12):
        least, most = median_interval([side * (1 + n) for n, side in enumerate(sides)])
        inside += least <= 0 <= most
    assert 0.95 <= inside / 2**12 < 0.97


def test_few_values_give_no_interval() -> None:
    assert median_interval([0.1] * 5) == (-math.inf, math.inf)
    assert median_interval([6, 5, 4, 3, 2, 1]) == (1, 6)


@pytest.mark.parametrize(
    ("interval", "said"),
    [((-0.1, 0.05), "holds"), ((0.051, 0.2), "missed"), ((0.0, 0.2), "these windows do not tell")],
)
def test_a_verdict_is_given_where_the_whole_interval_is_on_one_side(interval: tuple[float, float], said: str) -> None:
    assert verdict(interval, 0.05) == said
