"""The table at the end of `make bench`."""

import pytest

from tests.bench.figures import Figure, at_least, at_most, table


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
