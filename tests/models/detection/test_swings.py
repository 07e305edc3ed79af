"""How long a value takes from where it is low to where it is high, and back: `stuck` where it no longer does."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.detection.alarm import Change, OpenedBy
from models.detection.detector import Transition
from tests.models.detection.interpreted import LEARNING, WITNESSES, OneStream
from tests.models.detection.test_expectation import MONDAY_MS, judged, noise, remember

HALF_TURN = 20  # readings
STEP_MS = 300_000


def follow(
    one: OneStream,
    values: Sequence[float | None],
    age: float = 1e4,
    interval_ms: float = 1_000.0,
    knows_nights: bool = True,
) -> float:
    """Readings of a channel whose mean is 0 and whose spread is 1; None: missing. Returns how strange the last is."""
    channel, look = one.channels[0], one.looks[0]
    channel.mean, look.per_spread = 0.0, 1.0
    for value in values:
        look.present, look.value = float(value is not None), 0.0 if value is None else value
        look.equal = look.still = 0.0
        WITNESSES.follow_swings(channel, look, interval_ms, age, knows_nights)
    return float(look.equal)


def swung(**fields: float) -> OneStream:
    one = OneStream()
    for name, number in fields.items():
        setattr(one.channels[0], name, number)
    return one


def cycle(turns: int, height: float = 8.0) -> Doubles:
    place = np.arange(turns * 2 * HALF_TURN)
    return 40 + height * np.sin(np.pi * (place + 0.5) / HALF_TURN) + 0.4 * noise(readings=len(place))


def openings(values: Doubles) -> list[Transition]:
    return [one for one in judged(values, step_ms=STEP_MS).transitions if one.change == Change.OPENED]


def test_a_swing_ends_where_the_value_is_high_after_low_or_low_after_high() -> None:
    one, found = swung(), []
    for value in (0.0, 1.5, 0.5, 2.0, -0.9, -1.1, None, -3.0, 1.1):
        follow(one, [value])
        found.append((one.channels[0].swing_run, one.channels[0].longest_swing))
    assert found == [(1, 0), (-1, 2), (-2, 2), (-3, 2), (-4, 2), (1, 5), (1, 5), (2, 5), (-1, 5)]


def test_of_a_channel_whose_spread_is_not_known_nothing_is_counted() -> None:
    one = swung()
    one.looks[0].present, one.looks[0].per_spread = 1.0, 0.0
    WITNESSES.follow_swings(one.channels[0], one.looks[0], 1_000.0, 1e4, True)
    assert one.channels[0].swing_run == 0


@pytest.mark.parametrize("longest", [3, 10, 31])
@pytest.mark.parametrize("swings", [25, 64, 1_000, 100_000])
def test_a_swing_is_told_from_as_many_longest_ones_on_as_chance_does_not_make(longest: int, swings: int) -> None:
    """Of values that turn at random, whose swings are exponential, one in 256 is told in as long as it was known."""
    healthy, times = max(longest, 10), 1 + math.log(256) / math.log(swings)
    run, known = math.ceil(healthy * times), swings * healthy
    one = swung(longest_swing=longest, swing_run=run - 2)
    assert follow(one, [0.5], age=known + run - 2) == 0
    assert follow(one, [0.5], age=known + run - 1) == 1
    assert one.looks[0].still == run
    assert follow(one, [None], age=known + run) == 1, "a missing value ends none"
    assert follow(one, [0.5] * run, age=known + 2 * run) == 1, "it counts no more when it goes on"
    assert follow(one, [1.5], age=known + run) == 0


def test_so_few_values_that_turn_at_random_are_told() -> None:
    """256 of them, each in as long as it was known before: one by the odds, and hardly more than three by chance."""
    told = 0
    for seed in range(256):
        swings = np.random.default_rng(seed).exponential(size=400)
        known, rest = swings[:200], swings[200:]
        longest = known.max()
        told += bool((rest > longest * WITNESSES.times_the_longest(known.sum() / longest)).any())
    assert told <= 3


@pytest.mark.parametrize(("age", "told"), [(24 * 30 + 99, False), (24 * 30 + 100, True)])
def test_only_of_a_value_that_has_swung_often(age: float, told: bool) -> None:
    assert (follow(swung(longest_swing=30, swing_run=99), [0.5], age) == 1) == told
    assert follow(swung(longest_swing=30, swing_run=99), [0.5], age, knows_nights=False) == 0


def test_an_equal_run_that_is_longer_over_what_is_healthy_counts_instead() -> None:
    one = swung(longest_swing=30, swing_run=-99)
    one.looks[0].present = one.looks[0].per_spread = 1.0
    one.looks[0].equal, one.looks[0].still = 2.0, 40.0
    WITNESSES.follow_swings(one.channels[0], one.looks[0], 1_000.0, 1e4, True)
    assert (one.looks[0].equal, one.looks[0].still, one.channels[0].swing_run) == (2, 40, -100)


@pytest.mark.parametrize(
    ("age", "interval_ms", "longest"),
    [(100.0, 1_000.0, 500.0), (1e5, 1_000.0, 2 * 30 + 10), (1e5, 200_000.0, 500.0)],
    ids=["not known as regular", "may have been a fault", "lasted a day"],
)
def test_a_swing_that_is_over_teaches_what_is_healthy(age: float, interval_ms: float, longest: float) -> None:
    one = swung(longest_swing=30, swing_run=499)
    follow(one, [1.5], age, interval_ms)
    assert one.channels[0].longest_swing == longest


def test_a_level_that_is_adopted_is_as_long_a_swing_as_it_lasted() -> None:
    one = swung(longest_swing=30, swing_run=-700)
    LEARNING.adopt_level(one.channels[0], 700.0)
    assert one.channels[0].longest_swing == 700


@pytest.mark.parametrize(
    ("shrink", "longest"),
    [
        (1.2, 50),
        (1.0, 50),
        (0.68, 50),
        (0.66, 50 * math.exp((0.66**-2 - 1) / 2)),
        (1 / 2, 50 * math.exp(1.5)),
        (0.01, 1e3),
    ],
)
def test_where_the_spread_grew_by_half_swings_are_taken_to_be_as_much_rarer(shrink: float, longest: float) -> None:
    """As those of normal noise are, but no longer than a 24th of what is known: then it swings, and is told later."""
    one = swung(longest_swing=50, known=24_000.0)
    assert WITNESSES.swing_in_new_spread(50.0, shrink, 24_000.0) == pytest.approx(longest, rel=1e-9)
    assert WITNESSES.swing_in_new_spread(1_500.0, 0.5, 24_000.0) == 1_500, "never shorter than it was seen"
    one.channels[0].spread = shrink
    one.channels[0].square, one.channels[0].step_square = 23_999.0, 23_999.0
    LEARNING.rescale(one.channels[0])
    assert one.channels[0].spread == 1
    assert one.channels[0].longest_swing == pytest.approx(longest, rel=1e-9)


def test_a_cycle_that_is_half_as_high_is_told_soon_and_began_at_its_last_turn() -> None:
    whole = cycle(100)
    values = np.append(whole, cycle(20, height=4.0))
    (first, *_) = openings(values)
    place = (first.opened_ms - MONDAY_MS) // STEP_MS
    assert first.opened_by == OpenedBy.STUCK
    assert len(whole) < place <= len(whole) + 3 * HALF_TURN
    assert first.began_ms is not None
    last_turn = (first.began_ms - MONDAY_MS) // STEP_MS
    assert len(whole) - HALF_TURN < last_turn < len(whole)
    assert not openings(cycle(120))


def test_a_walk_does_not_swing() -> None:
    for seed in range(3):
        assert OpenedBy.STUCK not in [one.opened_by for one in openings(np.cumsum(noise(seed)))]


def test_noise_with_a_memory_swings_seldom_and_is_not_told() -> None:
    for seed in range(3):
        assert OpenedBy.STUCK not in [one.opened_by for one in openings(remember(noise(seed), 0.98))]
