"""NAB's score at known points, and against its rules written out reading by reading."""

import math

import numpy as np
import pytest

from models.data.arrays import Bools, Doubles
from models.evaluation.nab import PROFILES, Profile, nab_score, optimised

STANDARD = PROFILES["standard"]
every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def marks(text: str) -> Bools:
    """`..##.` as labels or detections."""
    return np.array([one == "#" for one in text])


def sigmoid(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


@every_profile
def test_never_to_detect_scores_0_and_every_window_at_once_100(profile: Profile) -> None:
    labels = [marks("...####......##.."), marks("#####"), marks(".......")]
    first = [label & ~np.concatenate([[False], label[:-1]]) for label in labels]
    assert nab_score([(label, np.zeros(len(label), bool)) for label in labels], profile) == 0
    assert nab_score(list(zip(labels, first, strict=True)), profile) == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize(
    ("label", "detected", "value"),
    [
        # The second of four readings in a window: three quarters of its width before its end.
        ("...####....", "....#......", sigmoid(-3 / 4) / sigmoid(-1)),
        # The last one of a window still earns something.
        ("...####....", "......#....", sigmoid(-1 / 4) / sigmoid(-1)),
        # Only the earliest detection in a window counts.
        ("...####....", "....###....", sigmoid(-3 / 4) / sigmoid(-1)),
        # Right behind a window that was missed: a third of the width, where nearly all of the cost is due already.
        ("...####....", ".......#...", -1 + 0.11 * sigmoid(1 / 3)),
        ("..###########......", ".............#.....", -1 + 0.11 * sigmoid(1 / 10)),
        # Far off, and before the first window: all of it.
        ("##..........", "#.......#...", 1 - 0.11),
        ("...####....", "#..#.......", 1 - 0.11),
        # Three widths behind is not yet far.
        (".###......", ".#.......#", 1 + 0.11 * sigmoid(3)),
        # A single reading has no width to be behind of.
        (".#.......", ".##......", 1 - 0.11),
        # Two false alarms, each measured from the window before it.
        ("###...##...", "#..#....#..", 0 + 0.11 * (sigmoid(1 / 2) + sigmoid(1))),
    ],
)
def test_values_worked_out_by_hand(label: str, detected: str, value: float) -> None:
    windows = len([run for run in label.split(".") if run])
    expected = 100 * (value + windows) / (2 * windows)
    assert nab_score([(marks(label), marks(detected))], STANDARD) == pytest.approx(expected, rel=1e-12)


def test_profiles_weigh_false_alarms_and_misses() -> None:
    streams = [(marks("..##....##."), marks("#.#........"))]  # one of two windows, one false alarm far off
    expected = {"standard": 100 * (2 - 0.11) / 4, "low_fp": 100 * (2 - 0.22) / 4, "low_fn": 100 * (3 - 0.11) / 6}
    assert {name: nab_score(streams, profile) for name, profile in PROFILES.items()} == pytest.approx(expected)


def test_without_a_window_there_is_no_score() -> None:
    assert math.isnan(nab_score([(marks("...."), marks(".#.."))], STANDARD))
    assert math.isnan(nab_score([], STANDARD))
    assert math.isnan(optimised([(marks("...."), np.ones(4))], STANDARD).score)


def some_streams(seed: int) -> list[tuple[Bools, Doubles]]:
    """Windows and scores, most of them 0, with ties."""
    random = np.random.default_rng(seed)
    streams = []
    for _ in range(4):
        label = np.zeros(120, bool)
        for begin in random.integers(0, 120, 3):
            label[begin : begin + random.integers(1, 15)] = True
        score = np.where(random.random(120) < 0.15 + 0.2 * label, np.round(random.random(120) + 0.4 * label, 1), 0.0)
        streams.append((label, score))
    return streams


def value_by_hand(label: Bools, detected: Bools, profile: Profile) -> tuple[float, int]:
    """Reading by reading, as NAB tells the story."""
    value, windows, paid, behind = 0.0, 0, True, (-1, 0)
    for n in range(len(label)):
        if label[n] and (n == 0 or not label[n - 1]):
            width = next((m for m in range(n, len(label)) if not label[m]), len(label)) - n
            last, paid = n + width - 1, False
            windows += 1
        if label[n] and detected[n] and not paid:
            value += sigmoid(-(last - n + 1) / width) / sigmoid(-1)
            paid = True
        if label[n] and n == last:
            value -= 0 if paid else profile.miss
            behind = (last, width)
        if not label[n] and detected[n]:
            far = behind[1] < 2 or (n - behind[0]) / (behind[1] - 1) > 3
            value += profile.false_alarm * (-1 if far else sigmoid((n - behind[0]) / (behind[1] - 1)))
    return value, windows


@every_profile
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_its_rules(seed: int, profile: Profile) -> None:
    streams = [(label, score >= 0.6) for label, score in some_streams(seed)]
    values = [value_by_hand(label, detected, profile) for label, detected in streams]
    value, windows = sum(one[0] for one in values), sum(one[1] for one in values)
    expected = 100 * (value + windows * profile.miss) / (windows + windows * profile.miss)
    assert nab_score(streams, profile) == pytest.approx(expected, rel=1e-9)


@every_profile
@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_the_best_of_all_thresholds(seed: int, profile: Profile) -> None:
    streams = some_streams(seed)
    thresholds = [math.inf, *sorted({one for _, score in streams for one in score.tolist() if one > 0}, reverse=True)]
    scores = [nab_score([(label, score >= one) for label, score in streams], profile) for one in thresholds]
    best = optimised(streams, profile)
    assert best.score == pytest.approx(max(scores), rel=1e-9)
    assert best.threshold == thresholds[int(np.argmax(scores))]


def test_never_to_detect_may_be_the_best() -> None:
    best = optimised([(marks("......##"), np.array([3.0, 2, 1, 3, 2, 1, 0, 0]))], STANDARD)
    assert (best.threshold, best.score) == (math.inf, 0)


def test_an_alarm_that_stays_open_is_one_detection_only_if_it_is_passed_as_one() -> None:
    label, opened, stays_open = marks("##......."), marks("....#...."), marks("....#####")
    assert nab_score([(label, stays_open)], STANDARD) < nab_score([(label, opened)], STANDARD) < 0
