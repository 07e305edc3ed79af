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


def swung(longest_turn: float = 0.0, usual_turn: float = 0.0, turn: float = 0.0, **fields: float) -> OneStream:
    one = OneStream()
    for name, number in fields.items():
        setattr(one.channels[0], name, number)
    channel = one.channels[0]
    channel.swing_run = math.copysign(WITNESSES.as_digits(abs(channel.swing_run), turn), channel.swing_run)
    channel.longest_swing = WITNESSES.as_digits(channel.longest_swing, longest_turn)
    channel.longest_missing_run = WITNESSES.as_digits(channel.longest_missing_run, usual_turn)
    return one


def runs(one: OneStream) -> tuple[float, float, float, float]:
    """The swing, below 0 since it was high, and the turn until now; the longest of each."""
    channel = one.channels[0]
    run, turn = WITNESSES.digits_of(abs(float(channel.swing_run)))
    longest, longest_turn = WITNESSES.digits_of(float(channel.longest_swing))
    return math.copysign(run, channel.swing_run), turn, longest, longest_turn


def cycle(turns: int, height: float = 8.0) -> Doubles:
    place = np.arange(turns * 2 * HALF_TURN)
    return 40 + height * np.sin(np.pi * (place + 0.5) / HALF_TURN) + 0.4 * noise(readings=len(place))


def openings(values: Doubles) -> list[Transition]:
    return [one for one in judged(values, step_ms=STEP_MS).transitions if one.change == Change.OPENED]


def test_a_swing_ends_where_the_value_is_high_after_low_or_low_after_high() -> None:
    one, found = swung(), []
    for value in (0.0, 1.5, 0.5, 2.0, -0.9, -1.1, None, -3.0, 1.1):
        follow(one, [value])
        found.append(runs(one)[::2])
    assert found == [(1, 0), (-1, 2), (-2, 2), (-3, 2), (-4, 2), (1, 5), (1, 5), (2, 5), (-1, 5)]


def test_a_turn_is_from_where_the_value_becomes_high_to_where_it_does_again() -> None:
    one, found = swung(), []
    for value in (1.5, 0.0, -1.5, None, 1.5, 1.5, -1.5, 1.5, -1.5, 0.0, 0.0, 1.5):
        follow(one, [value])
        found.append((*runs(one)[1::2], WITNESSES.usual_turn(one.channels[0])))
    assert [turn for turn, *_ in found] == [1, 2, 3, 3, 1, 2, 3, 1, 2, 3, 4, 1]
    assert found[0][1:] == (1, 1), "what there was before the first counts too"
    assert found[4][1:] == (4, 1 + 3 / 16)
    assert found[-1][1] == 5


def test_turns_of_the_first_readings_are_none() -> None:
    """Their scale is derived at each age that doubles."""
    one = swung(turn=30)
    follow(one, [1.5], age=512 + 30)
    assert runs(one)[1::2] == (1, 0)
    one = swung(turn=30)
    follow(one, [1.5], age=512 + 31)
    assert runs(one)[1::2] == (1, 31)


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
    assert (one.looks[0].equal, one.looks[0].still, runs(one)[0]) == (2, 40, -100)


@pytest.mark.parametrize(
    ("age", "interval_ms", "longest"),
    [(100.0, 1_000.0, 500.0), (1e5, 1_000.0, 2 * 30 + 10), (1e5, 200_000.0, 500.0)],
    ids=["not known as regular", "may have been a fault", "lasted a day"],
)
def test_a_swing_that_is_over_teaches_what_is_healthy(age: float, interval_ms: float, longest: float) -> None:
    one = swung(longest_swing=30, swing_run=499)
    follow(one, [1.5], age, interval_ms)
    assert runs(one)[2] == longest


@pytest.mark.parametrize(
    ("longest", "usual", "late"),
    [(100, 98, 125), (100, 75, 100 + 25 * math.log(256) / math.log(100)), (100, 71, None)],
    ids=["a quarter more", "by chance", "does not turn regularly"],
)
def test_a_turn_is_late_by_how_regular_turns_are(longest: float, usual: float, late: float | None) -> None:
    known = 10_000.0
    if late is None:
        assert not any(WITNESSES.is_late(float(turn), longest, usual, known) for turn in range(100, 300))
        return
    assert not WITNESSES.is_late(math.ceil(late) - 1, longest, usual, known)
    assert WITNESSES.is_late(math.ceil(late), longest, usual, known)
    assert not WITNESSES.is_late(math.ceil(2 * late), longest, usual, known), "it does not turn any more"
    assert not WITNESSES.is_late(math.ceil(late), longest, usual, 48.0 * longest), "so few turns say little"


def test_of_turns_of_twenty_readings_one_may_be_left_out() -> None:
    assert not any(WITNESSES.is_late(float(turn), 20.0, 19.0, 1e5) for turn in range(20, 60))
    assert any(WITNESSES.is_late(float(turn), 21.0, 20.0, 1e5) for turn in range(21, 60))


def test_a_late_turn_is_stuck_since_the_value_was_last_high() -> None:
    one = swung(longest_swing=50, swing_run=-40, longest_turn=100, usual_turn=98, turn=123)
    assert follow(one, [0.0]) == 0
    assert follow(one, [0.0], knows_nights=False) == 0
    assert follow(one, [0.0]) == 1
    assert one.looks[0].still == 126


def test_a_cycle_that_becomes_longer_is_told_in_its_first_turns() -> None:
    for times, seed in ((1.5, 0), (2.0, 1)):
        place = np.arange(120 * 2 * HALF_TURN)
        before = place < 100 * 2 * HALF_TURN
        phase = np.cumsum(np.where(before, 1.0, 1 / times)) / HALF_TURN
        values = 40 + 8 * np.sin(np.pi * phase) + 0.4 * noise(seed, readings=len(place))
        (first, *_) = openings(values)
        told = (first.opened_ms - MONDAY_MS) // STEP_MS - before.sum()
        assert first.opened_by == OpenedBy.STUCK
        assert 0 < told <= 2 * times * 2 * HALF_TURN


def test_a_level_that_is_adopted_is_as_long_a_swing_as_it_lasted() -> None:
    one = swung(longest_swing=30, swing_run=-700)
    LEARNING.adopt_level(one.channels[0], 700.0)
    assert runs(one)[2] == 700


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
    assert runs(one)[2] == int(longest)


def test_a_cycle_that_is_half_as_high_is_told_soon_and_began_at_its_last_turn() -> None:
    whole = cycle(100)
    values = np.append(whole, cycle(20, height=4.0))
    (first, *_) = openings(values)
    place = (first.opened_ms - MONDAY_MS) // STEP_MS
    assert first.opened_by == OpenedBy.STUCK
    assert len(whole) < place <= len(whole) + 3 * HALF_TURN
    assert first.began_ms is not None
    last_turn = (first.began_ms - MONDAY_MS) // STEP_MS
    assert len(whole) - 2 * HALF_TURN < last_turn < len(whole) - HALF_TURN, "where it became high for the last time"
    assert not openings(cycle(120))


def test_a_walk_does_not_swing() -> None:
    for seed in range(3):
        assert OpenedBy.STUCK not in [one.opened_by for one in openings(np.cumsum(noise(seed)))]


def test_noise_with_a_memory_swings_seldom_and_is_not_told() -> None:
    for seed in range(3):
        assert OpenedBy.STUCK not in [one.opened_by for one in openings(remember(noise(seed), 0.98))]
