import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.arrays import Doubles
from models.detection.alarm import OpenedBy
from models.detection.residuals import (
    HIGHEST_RANGE_SCORE,
    LARGEST_LEARNED,
    SETTLING,
    SMALLEST_DEVIATION,
    SMALLEST_VARIANCE,
    STRONGEST,
    ScoreConfig,
    Scores,
    judge,
    std_of,
    strength_of,
    update_baseline,
)
from models.detection.rows import CHANNELS, SCALARS, Channels, Scalars, Watched
from tests.data import fresh_columns


class Statistics(NamedTuple):
    channels: Channels[Doubles]
    scalars: Scalars[Doubles]
    watched: Watched


class Seen(NamedTuple):
    """What one reading of one stream looked like."""

    residual: float = 0.0  # deviation
    level: float = 0.0
    outside: float = 0.0
    residuals: Sequence[float] = (0.0,)  # by channel, in spreads; the level deviations are the same
    strength: float = 0.0  # of both


def fresh_statistics(streams: int = 1, features: int = 1) -> Statistics:
    columns = fresh_columns(streams, features)
    return Statistics(*columns.views(), columns.watched())


def saying(seen: Seen, statistics: Statistics, config: ScoreConfig) -> Scores:
    pair = np.broadcast_to(np.array(seen.residuals), (2, 1, len(seen.residuals)))
    return Scores(
        score=np.zeros(1),
        threshold_ratio=np.zeros((3, 1)),
        peaks=np.array([[seen.residual], [seen.level], [seen.outside]]),
        strength=np.full((2, 1), seen.strength),
        seen=pair,
        std=std_of(statistics.watched.variance),
        standardised=pair,
        scored=(statistics.scalars.age > config.warm_up).astype(np.float64),
    )


def take(
    seen: Seen, statistics: Statistics, config: ScoreConfig, weight: Doubles | None = None, learns: float = 1.0
) -> None:
    """One wave of one stream. weight: (1, F)."""
    _, scalars, watched = statistics
    weight = np.ones((1, len(seen.residuals))) if weight is None else weight
    update_baseline(saying(seen, statistics, config), weight, np.array([learns]), scalars, watched, config)


def learn(residuals: NDArray[np.float64], config: ScoreConfig) -> Statistics:
    """One stream of one channel, long past its warm-up, learns every reading; its strength is the residual too."""
    statistics = fresh_statistics()
    statistics.scalars.age[:] = 10_000
    for residual in residuals.tolist():
        take(Seen(residuals=(residual,), strength=residual), statistics, config)
    return statistics


def meet(readings: Sequence[Seen], config: ScoreConfig) -> Scalars[Doubles]:
    """What one stream, long past its warm-up, knows after readings that looked like these."""
    statistics = fresh_statistics()
    statistics.scalars.age[:] = 10_000
    for seen in readings:
        take(seen, statistics, config)
    return statistics.scalars


def test_strength_is_the_root_mean_square_over_the_channels_that_are_there() -> None:
    standardised = np.array([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    present = np.array([[True, True, True], [True, False, False], [False, False, False]])
    np.testing.assert_allclose(strength_of(standardised, None), [math.sqrt(25 / 3), math.sqrt(1 / 3), 0])
    np.testing.assert_allclose(strength_of(standardised, present), [math.sqrt(25 / 3), 1, 0])
    np.testing.assert_array_equal(strength_of(np.array([[-2.5], [0.5]]), None), [2.5, 0.5])


def test_a_channel_that_is_off_without_measure_is_no_stronger_than_the_strongest() -> None:
    standardised = np.array([[1e6, 0.0, 0.0, 0.0], [STRONGEST, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(strength_of(standardised, None), [STRONGEST / 2, STRONGEST / 2])
    assert strength_of(np.array([[-1e6]]), None)[0] == STRONGEST


@pytest.mark.parametrize("features", [1, 2, 8, 9, 38, 129])
def test_strength_has_the_same_bits_in_any_company(features: int) -> None:
    standardised = np.random.default_rng(features).normal(size=(333, features))
    together = strength_of(standardised, None)
    for n in range(333):
        assert strength_of(standardised[n : n + 1], None)[0] == together[n]


def test_noise_is_never_0() -> None:
    assert std_of(np.zeros((1, 1)))[0, 0] == math.sqrt(SMALLEST_VARIANCE)
    assert std_of(np.full((1, 1), 4.0))[0, 0] == pytest.approx(2, rel=1e-4)


def test_long_memories_are_mean_and_variance_while_they_fill() -> None:
    residuals = np.random.default_rng(1).normal(3, 2, 200)
    channels, scalars, _ = learn(residuals, ScoreConfig(long_readings=1_000))
    counted = residuals[16:]  # the first 16 warm the memory up
    assert channels.residual_mean[0, 0] == pytest.approx(counted.mean())
    assert channels.residual_variance[0, 0] == pytest.approx(counted.var())
    assert channels.level_deviation_mean[0, 0] == channels.residual_mean[0, 0]
    assert channels.level_deviation_variance[0, 0] == channels.residual_variance[0, 0]
    settled = counted[SETTLING:]
    assert scalars.residual_strength_mean[0] == pytest.approx(settled.mean())
    assert scalars.residual_strength_variance[0] == pytest.approx(settled.var())
    assert (scalars.level_strength_mean[0], scalars.level_strength_variance[0]) == (
        scalars.residual_strength_mean[0],
        scalars.residual_strength_variance[0],
    )


def test_long_memories_forget_at_a_steady_rate_when_they_are_full() -> None:
    residuals = np.random.default_rng(2).normal(3, 2, 16 + 500)
    channels, *_ = learn(residuals, ScoreConfig(long_readings=50))
    first, rest = residuals[16:66], residuals[66:]
    weights = np.concatenate(
        [np.full(50, (1 - 1 / 50) ** len(rest) / 50), (1 - 1 / 50) ** np.arange(len(rest))[::-1] / 50]
    )
    counted = np.concatenate([first, rest])
    assert weights.sum() == pytest.approx(1)
    mean = (weights * counted).sum()
    assert channels.residual_mean[0, 0] == pytest.approx(mean)
    assert channels.residual_variance[0, 0] == pytest.approx((weights * (counted - mean) ** 2).sum())


def test_of_what_may_not_be_learned_only_thresholds_learn() -> None:
    config = ScoreConfig()
    statistics = learn(np.arange(100.0), config)
    channels, scalars, _ = statistics
    before = [statistic.copy() for statistic in (*channels, *scalars)]
    take(Seen(300.0, 200.0, 9.0, (9e5,), 50.0), statistics, config, np.zeros((1, 1)), learns=0.0)
    moved = [
        name
        for name, now, then in zip((*CHANNELS.names, *SCALARS.names), (*channels, *scalars), before, strict=True)
        if (now != then).any()
    ]
    assert moved == ["block_seen", "residual_block_peak", "level_block_peak", "range_block_peak"]


def test_of_a_residual_without_measure_no_more_is_learned_than_of_a_large_one() -> None:
    calm = np.random.default_rng(8).normal(0, 1, 300)
    channels, *_ = learn(calm, ScoreConfig())
    largest = float(channels.residual_mean[0, 0] + LARGEST_LEARNED * std_of(channels.residual_variance)[0, 0])
    noises = [
        float(std_of(learn(np.append(calm, last), ScoreConfig()).channels.residual_variance)[0, 0])
        for last in (largest, 1e6)
    ]
    assert noises[0] == pytest.approx(noises[1])
    assert noises[1] < 8


def test_a_missing_channel_learns_nothing_while_the_others_do() -> None:
    config, statistics = ScoreConfig(), fresh_statistics(features=2)
    weight = np.array([[1.0, 0.0]])
    for residual in range(30):
        take(Seen(residuals=(float(residual),) * 2), statistics, config, weight)
    for mean in (statistics.channels.residual_mean, statistics.channels.level_deviation_mean):
        assert mean[0].tolist() == [pytest.approx(np.arange(16, 30).mean()), 0]


def test_the_threshold_is_what_a_gumbel_law_through_the_block_peaks_exceeds_at_the_wanted_rate() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    deviations = np.random.default_rng(3).uniform(0, 5, (6, 10))
    peaks = deviations.max(axis=1).tolist()
    scalars = meet([Seen(one) for one in deviations.ravel()], config)
    beta = pstdev(peaks) * math.sqrt(6) / math.pi  # method of moments
    mu = fmean(peaks) - 0.5772156649015329 * beta
    by_hand = mu - beta * math.log(config.false_alarm_rate * config.block_readings)
    exact = mu - beta * math.log(-math.log(1 - config.false_alarm_rate * config.block_readings))
    assert scalars.residual_threshold[0] == pytest.approx(by_hand, rel=1e-12)
    assert scalars.residual_threshold[0] == pytest.approx(exact, rel=1e-3)
    assert scalars.blocks[0] == 6


def test_residual_level_and_range_have_thresholds_of_one_kind_that_know_nothing_of_each_other() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    loud = np.random.default_rng(3).uniform(0, 5, 60)
    of_residual = meet([Seen(residual=one) for one in loud], config)
    of_level = meet([Seen(level=one) for one in loud], config)
    of_range = meet([Seen(outside=one) for one in loud], config)
    assert of_residual.residual_threshold[0] == of_level.level_threshold[0] == of_range.range_threshold[0] > 1
    assert of_residual.level_threshold[0] == of_range.residual_threshold[0] == of_level.residual_threshold[0] == 0.5
    assert of_residual.range_threshold[0] == of_level.range_threshold[0] == 1.0  # its margin: it never sinks below


def test_a_threshold_waits_for_four_blocks_and_never_sinks_below_the_lowest() -> None:
    config = ScoreConfig(block_readings=10, lowest_threshold=4.0)
    for readings in (0, 39):
        assert meet([Seen(1.0)] * readings, config).residual_threshold[0] == SCALARS.field("residual_threshold").initial
    assert meet([Seen(1.0)] * 40, config).residual_threshold[0] == 4.0


def test_blocks_long_ago_are_forgotten() -> None:
    config = ScoreConfig(block_readings=4, blocks=8, lowest_threshold=0.1)
    loud, quiet = np.tile([9.0, 12.0], 80), np.tile([2.0, 2.5], 400)
    only_quiet, both = (meet([Seen(one) for one in of], config) for of in (quiet, np.concatenate([loud, quiet])))
    assert both.residual_threshold[0] == pytest.approx(only_quiet.residual_threshold[0], rel=1e-3)


def test_nothing_from_before_the_end_of_the_warm_up_sets_the_threshold() -> None:
    config = ScoreConfig(warm_up=25, block_readings=10, lowest_threshold=0.5, false_alarm_rate=1e-4)
    random = np.random.default_rng(4)
    after = random.uniform(0, 5, 50)
    thresholds = []
    for loud in (1.0, 200.0):
        statistics = fresh_statistics()
        for deviation in (*np.full(25, loud), *after):
            statistics.scalars.age[:] += 1
            take(Seen(deviation), statistics, config)
        thresholds.append(float(statistics.scalars.residual_threshold[0]))
    assert thresholds[0] == thresholds[1]
    peaks = after.reshape(5, 10).max(axis=1).tolist()
    beta = pstdev(peaks) * math.sqrt(6) / math.pi
    assert thresholds[0] == pytest.approx(fmean(peaks) - beta * (0.5772156649015329 + math.log(1e-4 * 10)))


def judge_one(residual: float, value: float, statistics: Statistics, config: ScoreConfig | None = None) -> Scores:
    """Its long variance is 1; the reading is at its level."""
    nothing = np.zeros_like(statistics.channels.mean)
    statistics.channels.residual_variance[:] = 1 - SMALLEST_VARIANCE
    with np.errstate(all="ignore"):  # as a detector does
        return judge(nothing + residual, nothing, nothing + value, None, *statistics, config or ScoreConfig())


def test_the_short_memory_smooths_the_strength() -> None:
    statistics, smooth = fresh_statistics(), 0.0
    for residual in np.random.default_rng(5).normal(size=50):
        judge_one(residual, 0.0, statistics, ScoreConfig(smooth_readings=9))
        smooth += (abs(residual) - smooth) * 0.2
        assert statistics.scalars.residual_strength[0] == pytest.approx(smooth)


def test_the_score_is_the_deviation_of_the_smoothed_strength_over_the_threshold() -> None:
    _, scalars, _ = statistics = fresh_statistics()
    scalars.age[:], scalars.residual_strength[:] = 500, 2.0
    scalars.residual_strength_mean[:], scalars.residual_strength_variance[:] = 1.0, 0.25
    scalars.residual_threshold[:] = 8.0
    scores = judge_one(2.0, 0.0, statistics, ScoreConfig(usual_share=0.3))
    assert scores.peaks[0, 0] == pytest.approx(1 / (0.5 + 0.3 + SMALLEST_DEVIATION))
    assert scores.score[0] == pytest.approx(scores.peaks[0, 0] / 8)
    assert scores.threshold_ratio[:, 0].argmax() == OpenedBy.PREDICTION


def test_a_deviation_below_the_usual_is_none() -> None:
    _, scalars, _ = statistics = fresh_statistics()
    scalars.age[:], scalars.residual_strength[:], scalars.residual_strength_mean[:], scalars.level_strength_mean[:] = (
        500,
        1.0,
        3.0,
        2.0,
    )
    scores = judge_one(1.0, 0.0, statistics)
    assert (scores.peaks[0, 0], scores.peaks[1, 0], scores.score[0]) == (0, 0, 0)


@pytest.mark.parametrize(("weight", "by"), [(0.5, "residual"), (2.0, "level"), (0.0, "residual")])
def test_of_residual_and_level_the_one_further_over_its_threshold_counts(weight: float, by: str) -> None:
    channels, scalars, _ = statistics = fresh_statistics()
    scalars.age[:], scalars.residual_strength[:] = 500, 2.0
    scalars.residual_strength_mean[:], scalars.residual_strength_variance[:] = 1.0, 0.25
    channels.level_deviation[:] = -1.0
    channels.level_deviation_mean[:], channels.level_deviation_variance[:] = 0.5, 0.36
    scalars.level_strength_mean[:], scalars.level_strength_variance[:] = 1.0, 0.25
    scalars.residual_threshold[:], scalars.level_threshold[:] = 4.0, 8.0
    config = ScoreConfig(level_weight=weight, level_readings=99, usual_share=0.0)
    scores = judge_one(2.0, 0.0, statistics, config)
    level = (0.98 + 0.5) / math.sqrt(0.36 + SMALLEST_VARIANCE)
    assert scores.strength[1, 0] == pytest.approx(level)
    ratios = {
        "residual": 1 / (0.5 + SMALLEST_DEVIATION) / 4,
        "level": weight * (level - 1) / (0.5 + SMALLEST_DEVIATION) / 8,
    }
    assert max(ratios, key=lambda name: ratios[name]) == by
    assert scores.threshold_ratio[:, 0].argmax() == (OpenedBy.LEVEL if by == "level" else OpenedBy.PREDICTION)
    assert scores.score[0] == pytest.approx(ratios[by])


def test_the_score_is_0_until_the_warm_up_is_over() -> None:
    for age, scored in ((1, False), (128, False), (129, True)):
        channels, scalars, _ = statistics = fresh_statistics()
        channels.low[:], channels.high[:], channels.spread[:] = 0, 1, 0.1
        scalars.age[:] = age
        scores = judge_one(1e6, 50.0, statistics, ScoreConfig(warm_up=128))
        assert (scores.score[0] > 0) == scored


@pytest.mark.parametrize(
    ("value", "score"),
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
def test_the_range_rule_scores_1_at_its_share_of_the_range_outside_it(value: float, score: float) -> None:
    channels, scalars, _ = statistics = fresh_statistics()
    channels.low[:], channels.high[:], channels.spread[:] = 0.0, 10.0, 1.0
    scalars.age[:], scalars.residual_strength_mean[:] = 500, 1_000  # the residual says nothing
    scores = judge_one(0.0, value, statistics, ScoreConfig(range_share=0.05))
    assert scores.score[0] == pytest.approx(score, abs=1e-9)
    assert (scores.threshold_ratio[:, 0].argmax() == OpenedBy.RANGE) == (score > 0)


def test_a_narrow_range_is_judged_by_the_spread_instead() -> None:
    channels, scalars, _ = statistics = fresh_statistics()
    channels.low[:], channels.high[:], channels.spread[:] = 5.0, 5.0, 2.0
    scalars.age[:], scalars.residual_strength_mean[:] = 500, 1_000
    assert judge_one(0.0, 5.5, statistics, ScoreConfig(range_share=0.05)).score[0] == pytest.approx(1)


def test_an_unknown_channel_has_no_range_and_hides_no_other() -> None:
    channels, scalars, _ = statistics = fresh_statistics(features=2)
    scalars.age[:], scalars.residual_strength_mean[:] = 500, 1_000
    config = ScoreConfig(range_share=0.1)
    unknown = judge_one(0.0, 7.0, statistics, config)
    assert unknown.score[0] == pytest.approx(0, abs=1e-9)
    channels.low[0, 1], channels.high[0, 1], channels.spread[0, 1] = 0, 1, 0.1
    known = judge_one(0.0, 7.0, statistics, config)
    assert known.score[0] == HIGHEST_RANGE_SCORE
    assert known.threshold_ratio[:, 0].argmax() == OpenedBy.RANGE


@pytest.mark.parametrize("streams", [1, 2, 7, 8, 9, 16, 33])
def test_a_score_of_nothing_is_a_zero_without_a_sign_however_many_streams_there_are(streams: int) -> None:
    channels, scalars, watched = fresh_statistics(streams)
    channels.low[:], channels.high[:] = -1.0, 1.0  # inside it, and the spread is not known: -1 / infinity
    scalars.age[:], scalars.residual_strength_mean[:], scalars.residual_strength_variance[:] = 1_000.0, 40.0, 1.0
    nothing = np.zeros((streams, 1))
    found = judge(nothing, nothing, nothing, None, channels, scalars, watched, ScoreConfig())
    for zeros in (found.score, found.peaks):
        assert (zeros == 0.0).all()
        assert not np.signbit(zeros).any()
