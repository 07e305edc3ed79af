import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.detection.alarm import Change, OpenedBy
from models.detection.judge import HIGHEST_RANGE_SCORE, LARGEST_LEARNED, SETTLING, SMALLEST_DEVIATION, STRONGEST
from models.detection.records import SMALLEST_VARIANCE, Scores, Step
from models.detection.rows import SCALARS
from models.detection.scoring import ScoreConfig
from tests.models.detection.interpreted import JUDGE, OneStream


class Seen(NamedTuple):
    """What one reading of one stream looked like."""

    residual: float = 0.0  # deviation
    level: float = 0.0
    outside: float = 0.0
    residuals: Sequence[float] = (0.0,)  # by channel, in spreads; the level deviations are the same
    strength: float = 0.0  # of both


def take(seen: Seen, one: OneStream, present: Sequence[float] = (1.0,), updates: float = 1.0) -> None:
    """One reading, into the baseline."""
    for channel, look, residual, there in zip(one.channels, one.looks, seen.residuals, present, strict=True):
        look.residual, look.present, channel.level_deviation = residual, there, residual
        look.residual_std = math.sqrt(channel.residual_variance + SMALLEST_VARIANCE)
        look.level_std = math.sqrt(channel.level_deviation_variance + SMALLEST_VARIANCE)
    peaks = (seen.residual, seen.level, seen.outside)
    scored = float(one.stream.age > one.rules.warm_up)
    scores = Scores(0.0, scored, (seen.strength, seen.strength), peaks, 0)
    JUDGE.update_baseline(one.stream, one.scratch, scores, Step(Change.NONE, updates, updates), one.rules)


def learn(residuals: Doubles, config: ScoreConfig) -> OneStream:
    """One stream of one channel, long past its warm-up, learns every reading; its strength is the residual too."""
    one = OneStream(score=config)
    one.stream.age = 10_000
    for residual in residuals.tolist():
        take(Seen(residuals=(residual,), strength=residual), one)
    return one


def meet(readings: Sequence[Seen], config: ScoreConfig) -> Any:
    """What one stream, long past its warm-up, knows after readings that looked like these."""
    one = OneStream(score=config)
    one.stream.age = 10_000
    for seen in readings:
        take(seen, one)
    return one.stream


def strength_of(residual_z: Sequence[float], present: Sequence[float] | None = None) -> float:
    one = OneStream(len(residual_z))
    for look, z, there in zip(one.looks, residual_z, present or [1.0] * len(residual_z), strict=True):
        look.residual_z, look.present = z, there
    return float(JUDGE.strengths_of(one.scratch)[0])


def test_strength_is_the_root_mean_square_over_the_channels_that_are_there() -> None:
    assert strength_of([3.0, 4.0, 0.0]) == pytest.approx(math.sqrt(25 / 3))
    assert strength_of([1.0, 0.0, 0.0]) == pytest.approx(math.sqrt(1 / 3))
    assert strength_of([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == 1
    assert strength_of([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]) == 0
    assert (strength_of([-2.5]), strength_of([0.5])) == (2.5, 0.5)


def test_a_channel_that_is_off_without_measure_is_no_stronger_than_the_strongest() -> None:
    assert strength_of([1e6, 0.0, 0.0, 0.0]) == strength_of([STRONGEST, 0.0, 0.0, 0.0]) == STRONGEST / 2
    assert strength_of([-1e6]) == STRONGEST


@pytest.mark.parametrize("features", [1, 2, 7, 8, 9, 38, 128])
def test_the_sum_over_channels_has_the_bits_of_numpys(features: int) -> None:
    for squares in np.random.default_rng(features).normal(size=(20, features)) ** 2:
        assert JUDGE.add(squares) == np.add.reduce(squares)


def test_the_sum_over_many_channels_is_that_of_its_blocks() -> None:
    squares = np.random.default_rng(0).normal(size=300) ** 2
    blocks = [np.add.reduce(squares[begin : begin + 128]) for begin in (0, 128, 256)]
    assert JUDGE.add(squares) == (blocks[0] + blocks[1]) + blocks[2]


def test_the_standard_deviation_is_never_0() -> None:
    for variance, std in ((0.0, math.sqrt(SMALLEST_VARIANCE)), (4.0, pytest.approx(2, rel=1e-4))):
        one = OneStream()
        one.channels[0].residual_variance = variance
        JUDGE.compare(one.channels[0], one.looks[0], one.rules)
        assert one.looks[0].residual_std == std


def test_long_memories_are_mean_and_variance_while_they_fill() -> None:
    residuals = np.random.default_rng(1).normal(3, 2, 200)
    one = learn(residuals, ScoreConfig(long_readings=1_000))
    channel, stream = one.channels[0], one.stream
    counted = residuals[16:]  # the first 16 warm the memory up
    assert channel.residual_mean == pytest.approx(counted.mean())
    assert channel.residual_variance == pytest.approx(counted.var())
    assert channel.level_deviation_mean == channel.residual_mean
    assert channel.level_deviation_variance == channel.residual_variance
    settled = counted[int(SETTLING) :]
    assert stream.residual_strength_mean == pytest.approx(settled.mean())
    assert stream.residual_strength_variance == pytest.approx(settled.var())
    assert stream.level_strength_mean == stream.residual_strength_mean
    assert stream.level_strength_variance == stream.residual_strength_variance


def test_long_memories_forget_at_a_steady_rate_when_they_are_full() -> None:
    residuals = np.random.default_rng(2).normal(3, 2, 16 + 500)
    channel = learn(residuals, ScoreConfig(long_readings=50)).channels[0]
    first, rest = residuals[16:66], residuals[66:]
    weights = np.concatenate(
        [np.full(50, (1 - 1 / 50) ** len(rest) / 50), (1 - 1 / 50) ** np.arange(len(rest))[::-1] / 50]
    )
    counted = np.concatenate([first, rest])
    assert weights.sum() == pytest.approx(1)
    mean = (weights * counted).sum()
    assert channel.residual_mean == pytest.approx(mean)
    assert channel.residual_variance == pytest.approx((weights * (counted - mean) ** 2).sum())


def test_of_what_may_not_be_learned_only_thresholds_learn() -> None:
    one = learn(np.arange(100.0), ScoreConfig())
    one.channels[0].level_deviation = 9e5
    before = one.numbers()
    take(Seen(300.0, 200.0, 9.0, (9e5,), 50.0), one, updates=0.0)
    moved = [name for name, now in one.numbers().items() if (now != before[name]).any()]
    assert moved == ["block_seen", "residual_block_peak", "level_block_peak", "range_block_peak"]


def test_of_a_residual_without_measure_no_more_is_learned_than_of_a_large_one() -> None:
    calm = np.random.default_rng(8).normal(0, 1, 300)
    channel = learn(calm, ScoreConfig()).channels[0]
    largest = channel.residual_mean + LARGEST_LEARNED * math.sqrt(channel.residual_variance + SMALLEST_VARIANCE)
    variances = [learn(np.append(calm, last), ScoreConfig()).channels[0].residual_variance for last in (largest, 1e6)]
    assert variances[0] == pytest.approx(variances[1])
    assert variances[1] < 64


def test_a_missing_channel_learns_nothing_while_the_others_do() -> None:
    one = OneStream(2)
    for residual in range(30):
        take(Seen(residuals=(float(residual),) * 2), one, present=(1.0, 0.0))
    for name in ("residual_mean", "level_deviation_mean"):
        assert one.numbers()[name].tolist() == [pytest.approx(np.arange(16, 30).mean()), 0]


def test_the_threshold_is_what_a_gumbel_law_through_the_block_peaks_exceeds_at_the_wanted_rate() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    deviations = np.random.default_rng(3).uniform(0, 5, (6, 10))
    peaks = deviations.max(axis=1).tolist()
    stream = meet([Seen(one) for one in deviations.ravel()], config)
    beta = pstdev(peaks) * math.sqrt(6) / math.pi  # method of moments
    mu = fmean(peaks) - 0.5772156649015329 * beta
    by_hand = mu - beta * math.log(config.false_alarm_rate * config.block_readings)
    exact = mu - beta * math.log(-math.log(1 - config.false_alarm_rate * config.block_readings))
    assert stream.residual_threshold == pytest.approx(by_hand, rel=1e-12)
    assert stream.residual_threshold == pytest.approx(exact, rel=1e-3)
    assert stream.blocks == 6


def test_residual_level_and_range_have_thresholds_of_one_kind_that_know_nothing_of_each_other() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    loud = np.random.default_rng(3).uniform(0, 5, 60)
    of_residual = meet([Seen(residual=one) for one in loud], config)
    of_level = meet([Seen(level=one) for one in loud], config)
    of_range = meet([Seen(outside=one) for one in loud], config)
    assert of_residual.residual_threshold == of_level.level_threshold == of_range.range_threshold > 1
    assert of_residual.level_threshold == of_range.residual_threshold == of_level.residual_threshold == 0.5
    assert of_residual.range_threshold == of_level.range_threshold == 1.0  # its margin: it never sinks below


def test_a_threshold_waits_for_four_blocks_and_never_sinks_below_the_lowest() -> None:
    config = ScoreConfig(block_readings=10, lowest_threshold=4.0)
    for readings in (0, 39):
        found = meet([Seen(1.0)] * readings, config).residual_threshold
        assert found == SCALARS.field("residual_threshold").initial
    assert meet([Seen(1.0)] * 40, config).residual_threshold == 4.0


def test_blocks_long_ago_are_forgotten() -> None:
    config = ScoreConfig(block_readings=4, blocks=8, lowest_threshold=0.1)
    loud, quiet = np.tile([9.0, 12.0], 80), np.tile([2.0, 2.5], 400)
    only_quiet, both = (meet([Seen(one) for one in of], config) for of in (quiet, np.concatenate([loud, quiet])))
    assert both.residual_threshold == pytest.approx(only_quiet.residual_threshold, rel=1e-3)


def test_nothing_from_before_the_end_of_the_warm_up_sets_the_threshold() -> None:
    config = ScoreConfig(warm_up=25, block_readings=10, lowest_threshold=0.5, false_alarm_rate=1e-4)
    after = np.random.default_rng(4).uniform(0, 5, 50)
    thresholds = []
    for loud in (1.0, 200.0):
        one = OneStream(score=config)
        for deviation in (*np.full(25, loud), *after):
            one.stream.age += 1
            take(Seen(deviation), one)
        thresholds.append(float(one.stream.residual_threshold))
    assert thresholds[0] == thresholds[1]
    peaks = after.reshape(5, 10).max(axis=1).tolist()
    beta = pstdev(peaks) * math.sqrt(6) / math.pi
    assert thresholds[0] == pytest.approx(fmean(peaks) - beta * (0.5772156649015329 + math.log(1e-4 * 10)))


def score(residual: float, value: float, one: OneStream) -> Scores:
    """Of a reading at its level; the residual's long variance is 1."""
    for channel, look in zip(one.channels, one.looks, strict=True):
        channel.residual_variance, channel.mean = 1 - SMALLEST_VARIANCE, value
        look.residual, look.value = residual, value
        JUDGE.compare(channel, look, one.rules)
    with np.errstate(all="ignore"):
        found: Scores = JUDGE.score(one.stream, one.scratch, one.rules)
    return found


def test_the_short_memory_smooths_the_strength() -> None:
    one, smooth = OneStream(score=ScoreConfig(smooth_readings=9)), 0.0
    for residual in np.random.default_rng(5).normal(size=50):
        score(residual, 0.0, one)
        smooth += (abs(residual) - smooth) * 0.2
        assert one.stream.residual_strength == pytest.approx(smooth)


def test_the_score_is_the_deviation_of_the_smoothed_strength_over_the_threshold() -> None:
    one = OneStream(score=ScoreConfig(usual_share=0.3))
    stream = one.stream
    stream.age, stream.residual_strength = 500, 2.0
    stream.residual_strength_mean, stream.residual_strength_variance, stream.residual_threshold = 1.0, 0.25, 8.0
    scores = score(2.0, 0.0, one)
    assert scores.peaks[0] == pytest.approx(1 / (0.5 + 0.3 + SMALLEST_DEVIATION))
    assert scores.score == pytest.approx(scores.peaks[0] / 8)
    assert scores.furthest == OpenedBy.PREDICTION


def test_a_deviation_below_the_baseline_is_none() -> None:
    one = OneStream()
    one.stream.age, one.stream.residual_strength = 500, 1.0
    one.stream.residual_strength_mean, one.stream.level_strength_mean = 3.0, 2.0
    scores = score(1.0, 0.0, one)
    assert (scores.peaks[0], scores.peaks[1], scores.score) == (0, 0, 0)


@pytest.mark.parametrize(("weight", "by"), [(0.5, "residual"), (2.0, "level"), (0.0, "residual")])
def test_of_residual_and_level_the_one_further_over_its_threshold_counts(weight: float, by: str) -> None:
    one = OneStream(score=ScoreConfig(level_weight=weight, level_readings=99, usual_share=0.0))
    channel, stream = one.channels[0], one.stream
    stream.age, stream.residual_strength = 500, 2.0
    stream.residual_strength_mean, stream.residual_strength_variance = 1.0, 0.25
    channel.level_deviation, channel.level_deviation_mean, channel.level_deviation_variance = -1.0, 0.5, 0.36
    stream.level_strength_mean, stream.level_strength_variance = 1.0, 0.25
    stream.residual_threshold, stream.level_threshold = 4.0, 8.0
    scores = score(2.0, 0.0, one)
    level = (0.98 + 0.5) / math.sqrt(0.36 + SMALLEST_VARIANCE)
    assert scores.strengths[1] == pytest.approx(level)
    ratios = {
        "residual": 1 / (0.5 + SMALLEST_DEVIATION) / 4,
        "level": weight * (level - 1) / (0.5 + SMALLEST_DEVIATION) / 8,
    }
    assert max(ratios, key=lambda name: ratios[name]) == by
    assert scores.furthest == (OpenedBy.LEVEL if by == "level" else OpenedBy.PREDICTION)
    assert scores.score == pytest.approx(ratios[by])


def test_the_score_is_0_until_the_warm_up_is_over() -> None:
    for age, scored in ((1, False), (128, False), (129, True)):
        one = with_range(0, 1, 0.1, ScoreConfig(warm_up=128))
        one.stream.age = age
        assert (score(1e6, 50.0, one).score > 0) == scored


def with_range(low: float, high: float, spread: float, config: ScoreConfig) -> OneStream:
    """A stream of which the residual says nothing."""
    one = OneStream(score=config)
    channel = one.channels[0]
    channel.low, channel.high, channel.spread = low, high, spread
    one.stream.age, one.stream.residual_strength_mean = 500, 1_000
    return one


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0),
        (10.0, 0),
        (5.0, 0),
        (10.5, 1),
        (-0.5, 1),
        (11.0, 2),
        (-1.0, 2),
        (10.25, 0.5),
        (1e9, HIGHEST_RANGE_SCORE),
    ],
)
def test_the_range_rule_scores_1_at_its_share_of_the_range_outside_it(value: float, expected: float) -> None:
    scores = score(0.0, value, with_range(0.0, 10.0, 1.0, ScoreConfig(range_share=0.05)))
    assert scores.score == pytest.approx(expected, abs=1e-9)
    assert (scores.furthest == OpenedBy.RANGE) == (expected > 0)


def test_a_narrow_range_is_judged_by_the_spread_instead() -> None:
    assert score(0.0, 5.5, with_range(5.0, 5.0, 2.0, ScoreConfig(range_share=0.05))).score == pytest.approx(1)


def test_an_unknown_channel_has_no_range_and_hides_no_other() -> None:
    one = OneStream(2, ScoreConfig(range_share=0.1))
    one.stream.age, one.stream.residual_strength_mean = 500, 1_000
    assert score(0.0, 7.0, one).score == pytest.approx(0, abs=1e-9)
    channel = one.channels[1]
    channel.low, channel.high, channel.spread = 0, 1, 0.1
    known = score(0.0, 7.0, one)
    assert (known.score, known.furthest) == (HIGHEST_RANGE_SCORE, OpenedBy.RANGE)


@pytest.mark.parametrize(
    ("ratios", "furthest"),
    [
        ((0.0, 0.0, 0.0), 0),
        ((1.0, 2.0, 2.0), 1),
        ((1.0, 2.0, 3.0), 2),
        ((math.nan, 2.0, 3.0), 0),
        ((1.0, math.nan, 3.0), 1),
        ((1.0, 2.0, math.nan), 2),
    ],
)
def test_the_furthest_is_the_first_of_the_highest(ratios: tuple[float, float, float], furthest: int) -> None:
    assert JUDGE.furthest_of(ratios) == furthest == np.argmax(ratios)


def test_a_score_of_nothing_is_a_zero_without_a_sign() -> None:
    one = with_range(-1.0, 1.0, math.inf, ScoreConfig())  # inside it, and the spread is not known: -1 / infinity
    one.stream.residual_strength_variance = 1.0
    scores = score(0.0, 0.0, one)
    assert (scores.score, *scores.peaks) == (0, 0, 0, 0)
    assert not np.signbit((scores.score, *scores.peaks)).any()
