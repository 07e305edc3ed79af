"""How channels go together: a channel that leaves the others is told, whatever its own past allows.

Sizes: one stream of several channels.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models.data.arrays import Doubles
from models.detection.alarm import Change, OpenedBy
from models.detection.detector import Detector, Transition
from models.detection.relation import RIDGE
from models.detection.rows import (
    LASTING_LAW,
    LAW_PEAK,
    LAW_THRESHOLD,
    MOST_RELATED,
    RELATION_LASTING,
    RELATION_MATRIX,
    fresh,
)
from models.detection.sensor_rules import Direction, SensorRule, SensorRules
from tests.data import Judged, batch_of, judge, some_forecaster
from tests.models.detection.interpreted import RELATION, THRESHOLDS, OneStream

READINGS, AT, LASTS = 6_000, 4_500, 120


def plant(seed: int = 0, readings: int = READINGS) -> Doubles:
    """A load that wanders, and what follows it: flow, power, and a pressure that falls where they rise."""
    random = np.random.default_rng(seed)
    load = np.zeros(readings)
    for n in range(1, readings):
        load[n] = 0.98 * load[n - 1] + random.normal(0, 0.2)
    noise = random.normal(0, 0.05, (readings, 3))
    return np.stack([100 + 20 * load, 40 + 6 * load, 8 - load], axis=1) + noise * [20, 6, 1]


def judged(values: Doubles, *rules: SensorRule) -> Judged:
    names = tuple(f"f{n}" for n in range(values.shape[1]))
    limits = SensorRules(rules, names).limits([b"pump"])
    detector = Detector.cold(some_forecaster(values.shape[1])).limited(limits)
    return judge(detector, batch_of(values), detector.rows_for([b"pump"]))


def opened(found: Judged, witness: OpenedBy) -> list[Transition]:
    return [one for one in found.transitions if one.change is Change.OPENED and one.opened_by is witness]


def another_load(values: Doubles, channel: int) -> Doubles:
    """The channel goes on as on another plant: nothing of it is unlike its own past."""
    values = values.copy()
    values[AT : AT + LASTS, channel] = plant(seed=9)[AT : AT + LASTS, channel]
    return values


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_that_leaves_the_others_is_told_and_named(channel: int) -> None:
    (first, *_) = opened(judged(another_load(plant(), channel)), OpenedBy.RELATION)
    assert AT <= first.reading < AT + LASTS
    assert int(np.argmax(first.share)) == channel
    assert first.returns_ms[OpenedBy.RELATION] > max(first.returns_ms[: OpenedBy.RELATION])


@pytest.mark.parametrize(("lasts", "told"), [(LASTS, [0]), (3, [])])
def test_what_is_off_by_little_is_told_if_it_lasts(lasts: int, told: list[int]) -> None:
    random = np.random.default_rng(0)
    load = random.normal(size=(READINGS, 1))
    values = load + random.normal(0, 0.5, (READINGS, 4))
    values[AT : AT + lasts, 0] += 1.5  # each reading is as far off as load and noise take it anyway
    found = opened(judged(values), OpenedBy.RELATION)
    assert [int(np.argmax(one.share)) for one in found] == told
    assert all(AT + 3 < one.reading < AT + LASTS for one in found)


def test_channels_that_go_together_raise_no_alarm_however_far_they_go() -> None:
    values = plant()
    values[AT : AT + LASTS] += 1.5 * np.array([20, 6, -1])
    assert opened(judged(values), OpenedBy.RELATION) == []


def test_channels_that_have_nothing_to_do_with_each_other_say_nothing_of_each_other() -> None:
    values = np.random.default_rng(1).normal(size=(READINGS, 4))
    found = judged(values)
    assert len(opened(found, OpenedBy.RELATION)) <= 1
    precision = found.rows.relation[0, RELATION_MATRIX:].triu(1)
    assert precision.abs().max() < 0.05


@pytest.mark.parametrize("missing", [False, True])
def test_the_precision_is_the_inverse_of_the_correlations_and_the_ridge(*, missing: bool) -> None:
    values = plant(readings=1_025)
    if missing:
        values[np.random.default_rng(2).random(1_025) < 0.1, 1] = np.nan
    found = judged(values[:1_024]).rows  # the scale, and this with it, was derived at the last of them
    square, products = found.channel("square")[0].numpy(), found.relation[0, RELATION_MATRIX:].numpy()
    correlations = np.tril(products, -1) / np.sqrt(np.outer(square, square))
    correlations += correlations.T + np.diag(1 + RIDGE + 3 / found.channel("known")[0].numpy())
    assert np.triu(products) == pytest.approx(np.triu(np.linalg.inv(correlations)), abs=1e-9)
    if not missing:
        whole = np.corrcoef(values[:1_024].T)
        assert correlations - np.diag(np.diag(correlations)) == pytest.approx(whole - np.eye(3), abs=0.05)


def test_inverting_is_exact_enough_where_channels_are_alike() -> None:
    for features in (2, 7, 40):
        same = np.ones((features, features)) + np.eye(features) * RIDGE
        inverse = same.copy()
        RELATION.invert(inverse)
        assert inverse @ same == pytest.approx(np.eye(features), abs=1e-9)


@pytest.mark.parametrize(("sign", "direction"), [(1, Direction.UP), (-1, Direction.DOWN)])
def test_only_a_channel_that_is_off_in_the_direction_that_is_asked_for_counts(sign: int, direction: Direction) -> None:
    values = plant()
    values[AT : AT + LASTS, 1] += sign * 9.0
    other = Direction.DOWN if direction is Direction.UP else Direction.UP
    alone = SensorRule(channels=("f0", "f2"), minimum_deviation=1e6)  # these seem off to the other side

    def told(asked: Direction) -> bool:
        return bool(opened(judged(values, SensorRule(channels=("f1",), direction=asked), alone), OpenedBy.RELATION))

    assert told(direction)
    assert not told(other)


def jumpy(seed: int, *, second: Doubles) -> Doubles:
    """A channel that jumps now and then, by nature, and another beside it."""
    random = np.random.default_rng(seed)
    first = random.normal(size=READINGS) + random.choice([0.0, 15.0], READINGS, p=[0.99, 0.01])
    return np.stack([first, second], axis=1)


def test_a_jump_of_a_calm_channel_is_told_beside_one_that_often_jumps() -> None:
    def told(second: Doubles) -> list[int]:
        """The readings at which the second channel is said to be the one."""
        found = opened(judged(jumpy(6, second=second)), OpenedBy.SUDDEN)
        return [one.reading for one in found if np.argmax(one.share) == 1]

    calm = np.random.default_rng(5).normal(size=READINGS) + 12 * np.sin(np.arange(READINGS) * np.pi / 100)
    assert told(calm) == []
    calm[AT] += 9.0  # within its range
    assert told(calm) == [AT]


def test_a_channel_that_seldom_changes_has_the_threshold_of_all() -> None:
    switch = np.zeros(READINGS)
    switch[2_000:2_030] = 1.0
    found = judged(jumpy(6, second=switch)).rows
    of_all = found.channel("sudden_threshold")[0, 1]
    own = judged(jumpy(6, second=np.random.default_rng(5).normal(size=READINGS))).rows.channel("sudden_threshold")
    assert of_all > 2 * own[0, 1]


def set_points(seed: int, readings: int = READINGS) -> Doubles:
    """Two channels that stay at a set point for a while, each at its own: edges are as high as faults."""
    random = np.random.default_rng(seed)
    levels = [np.repeat(random.integers(0, 2, readings // 80 + 1), 80)[:readings] * 30.0 for _ in range(2)]
    return np.stack(levels, axis=1) + random.normal(size=(readings, 2))


@pytest.mark.parametrize(("lasts", "told"), [(1, True), (2, True), (4, True), (60, False)])
def test_a_leap_is_told_beside_edges_that_are_as_high_if_it_soon_leaps_back(*, lasts: int, told: bool) -> None:
    values = set_points(3)
    at = AT - AT % 80 + 20
    up = 20.0 if values[at, 1] < 15 else -20.0
    values[at : at + lasts, 1] += up
    found = [one for one in opened(judged(values), OpenedBy.SUDDEN) if at <= one.reading < at + 80]
    assert [(one.reading - at, int(np.argmax(one.share))) for one in found] == ([(lasts, 1)] if told else [])
    if told:
        sudden_ms = found[0].returns_ms[OpenedBy.SUDDEN]
        assert sudden_ms > 20_000 * 60_000, "rarer than what is exceeded once in the wanted period"


def test_what_one_channel_is_off_by_for_long_is_told_beside_channels_that_are_wild() -> None:
    random = np.random.default_rng(0)
    load = random.normal(size=(READINGS, 1))
    values = load + random.normal(0, 0.5, (READINGS, 4))
    for begin in random.integers(0, READINGS - 100, 60):  # of its own accord, now here, now there
        values[begin : begin + 40, 3] += random.choice([-3.0, 3.0])
    values[AT : AT + LASTS, 0] += 1.2
    found = opened(judged(values), OpenedBy.RELATION)
    assert 0 in [int(np.argmax(one.share)) for one in found if AT <= one.reading < AT + LASTS]


@pytest.mark.parametrize(("wanders", "heeded"), [(False, True), (True, False)])
def test_a_threshold_is_heeded_once_it_has_foretold_its_blocks(*, wanders: bool, heeded: bool) -> None:
    random = np.random.default_rng(1)
    one = OneStream(2)
    one.channels[0].known = one.channels[0].changes = 1_000.0
    since = []
    for block in range(1, 33):
        passed = one.relation[LASTING_LAW + LAW_THRESHOLD, 0] * 1.1
        one.relation[LASTING_LAW + LAW_PEAK, 0] = passed if wanders and block % 3 == 0 else random.uniform(3, 4)
        THRESHOLDS.learn_law(one.relation, LASTING_LAW, 0, 1 / min(block + 2, 32), 4.0, 1.5)
        since.append(THRESHOLDS.over_own(1.0, one.relation, LASTING_LAW, 0, one.channels[0]) > 0)
    assert since[:8] == [False] * 8
    assert all(since[8:]) if heeded else not any(since)
    one.channels[0].changes = 100.0
    assert THRESHOLDS.over_own(1e6, one.relation, LASTING_LAW, 0, one.channels[0]) == 0, "it repeats by nature"


def test_faults_that_were_told_do_not_hide_the_next_one() -> None:
    random = np.random.default_rng(1)
    one = OneStream(2)
    one.channels[0].known = one.channels[0].changes = 1_000.0
    for block in range(1, 33):
        peak = 30.0 if block % 8 == 0 else random.uniform(3, 4)
        one.relation[LASTING_LAW + LAW_PEAK, 0] = peak
        THRESHOLDS.learn_law(one.relation, LASTING_LAW, 0, 1 / min(block + 2, 32), 4.0, 1.5)
    assert THRESHOLDS.over_own(30.0, one.relation, LASTING_LAW, 0, one.channels[0]) > 1


def test_a_threshold_that_must_prove_itself_learns_of_an_alarm_what_opened_it_alone() -> None:
    values = plant()
    values[AT : AT + LASTS, 1] += 12.0
    after = judged(values[: AT + LASTS])
    (told,) = opened(after, OpenedBy.RELATION)
    before = judged(values[: told.reading + 1])  # with the reading that opened it
    assert after.alarm[-1]
    assert before.rows.relation[0, LASTING_LAW + LAW_PEAK].equal(after.rows.relation[0, LASTING_LAW + LAW_PEAK])
    assert after.rows.relation[0, RELATION_LASTING, 1].abs() > 2 * before.rows.relation[0, RELATION_LASTING, 1].abs()


def test_one_channel_remembers_nothing_of_others() -> None:
    one, several = (fresh(1, some_forecaster(features).config) for features in (1, 3))
    assert one.bytes_per_stream <= 1_400
    assert one.relation.numel() == 0
    assert several.relation.shape == (1, RELATION_MATRIX + 3, 3)
    assert several.symptoms.numel() == several.votes.numel() == 0


def test_of_very_many_channels_it_is_not_remembered_how_they_go_together() -> None:
    most, more = (fresh(1, some_forecaster(features).config) for features in (MOST_RELATED, MOST_RELATED + 1))
    assert most.relation.shape == (1, RELATION_MATRIX + MOST_RELATED, MOST_RELATED)
    assert more.relation.numel() == more.relation_statistics.numel() == 0
    values = np.random.default_rng(4).normal(size=(300, MOST_RELATED + 1))
    assert judged(values).score.isfinite().all()


def test_a_value_that_is_missing_is_not_told_and_teaches_nothing() -> None:
    values = plant()
    values[1_000:1_100, 1] = np.nan
    found, calm = judged(values), judged(plant())
    told: Sequence[int] = [one.reading for one in opened(found, OpenedBy.RELATION)]
    assert not [n for n in told if 1_000 <= n < 1_100]
    assert torch.equal(calm.score[:1_000], found.score[:1_000])
