import math
from statistics import fmean, pstdev

import numpy as np
import pytest
from numpy.typing import NDArray

from models.forecaster import ForecasterConfig
from models.residuals import (
    HIGHEST_RANGE_SCORE,
    LARGEST_LEARNED,
    SETTLING,
    SMALLEST_DEVIATION,
    SMALLEST_NOISE,
    STRONGEST,
    ScoreConfig,
    Strangeness,
    judge,
    learn_residuals,
    noise_of,
    strength_of,
    surprise_of,
)
from models.rows import FRESH_SCALARS, Channels, Columns, Doubles, Scalars, fresh

Statistics = tuple[Channels[Doubles], Scalars[Doubles]]


def fresh_statistics(streams: int = 1, features: int = 1) -> Statistics:
    config = ForecasterConfig(tuple(f"f{n}" for n in range(features)), hidden=16)
    return Columns.of(fresh(streams, config)).views()


def saying(surprise: float, outside: float = 0.0, tilt: float = 0.0) -> Strangeness:
    one = np.ones(1)
    return Strangeness(0 * one, surprise * one, tilt * one, outside * one, np.zeros(1, bool))


def take(
    residual: Doubles,
    strange: Strangeness,
    statistics: Statistics,
    config: ScoreConfig,
    weight: Doubles | None = None,
    learns: float = 1.0,
) -> None:
    """One wave of one stream. residual, weight: (1, F)."""
    channels, scalars = statistics
    weight = np.ones_like(residual) if weight is None else weight
    learn_residuals(residual, noise_of(channels), strange, weight, np.array([learns]), channels, scalars, config)


def learn(
    residuals: NDArray[np.float64],
    surprises: NDArray[np.float64],
    config: ScoreConfig,
    outsides: NDArray[np.float64] | None = None,
) -> Statistics:
    """One stream of one channel, long past its warm-up, learns every reading; smooth and tilt are the residual too."""
    channels, scalars = fresh_statistics()
    scalars.age[:] = 10_000
    outsides = np.zeros(len(residuals)) if outsides is None else outsides
    for residual, surprise, outside in zip(residuals, surprises, outsides, strict=True):
        scalars.smooth[:] = residual
        strange = saying(surprise, outside, min(abs(float(residual)), STRONGEST))
        take(np.array([[residual]]), strange, (channels, scalars), config)
    return channels, scalars


def test_surprise_is_the_square_of_what_is_above_the_usual() -> None:
    deviations = np.linspace(-6, 1_000, 400)
    oracle = [max(deviation, 0.0) ** 2 for deviation in deviations.tolist()]
    np.testing.assert_allclose(surprise_of(deviations), oracle, rtol=1e-12)


def test_surprise_has_the_same_bits_in_any_company() -> None:
    deviations = np.random.default_rng(0).normal(0, 8, 1_000)
    together = surprise_of(deviations)
    alone = np.concatenate([surprise_of(deviations[n : n + 1]) for n in range(1_000)])
    np.testing.assert_array_equal(alone, together)


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
    channels, _ = fresh_statistics()
    assert noise_of(channels)[0, 0] == math.sqrt(SMALLEST_NOISE)
    channels.noise[:] = 4.0
    assert noise_of(channels)[0, 0] == pytest.approx(2, rel=1e-4)


def test_long_memories_are_mean_and_variance_while_they_fill() -> None:
    residuals = np.random.default_rng(1).normal(3, 2, 200)
    channels, scalars = learn(residuals, np.zeros(200), ScoreConfig(long_readings=1_000))
    counted = residuals[16:]  # the first 16 warm the memory up
    assert channels.bias[0, 0] == pytest.approx(counted.mean())
    assert channels.noise[0, 0] == pytest.approx(counted.var())
    settled = counted[SETTLING:]
    assert scalars.typical[0] == pytest.approx(settled.mean())
    assert scalars.variance[0] == pytest.approx(settled.var())
    strengths = np.minimum(np.abs(settled), STRONGEST)
    assert scalars.tilt_typical[0] == pytest.approx(strengths.mean())
    assert scalars.tilt_variance[0] == pytest.approx(strengths.var())


def test_long_memories_forget_at_a_steady_rate_when_they_are_full() -> None:
    residuals = np.random.default_rng(2).normal(3, 2, 16 + 500)
    channels, _ = learn(residuals, np.zeros(len(residuals)), ScoreConfig(long_readings=50))
    first, rest = residuals[16:66], residuals[66:]
    weights = np.concatenate(
        [np.full(50, (1 - 1 / 50) ** len(rest) / 50), (1 - 1 / 50) ** np.arange(len(rest))[::-1] / 50]
    )
    counted = np.concatenate([first, rest])
    assert weights.sum() == pytest.approx(1)
    mean = (weights * counted).sum()
    assert channels.bias[0, 0] == pytest.approx(mean)
    assert channels.noise[0, 0] == pytest.approx((weights * (counted - mean) ** 2).sum())


def test_what_may_not_be_learned_changes_nothing() -> None:
    config = ScoreConfig()
    channels, scalars = learn(np.arange(100.0), np.arange(100.0), config)
    before = [statistic.copy() for statistic in (*channels, *scalars)]
    take(np.array([[9e5]]), saying(300.0, 9.0), (channels, scalars), config, np.zeros((1, 1)), learns=0.0)
    for now, then in zip((*channels, *scalars), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_of_a_residual_without_measure_no_more_is_learned_than_of_a_large_one() -> None:
    calm = np.random.default_rng(8).normal(0, 1, 300)
    channels, _ = learn(calm, np.zeros(300), ScoreConfig())
    largest = float(channels.bias[0, 0] + LARGEST_LEARNED * noise_of(channels)[0, 0])
    noises = [
        float(noise_of(learn(np.append(calm, last), np.zeros(301), ScoreConfig())[0])[0, 0]) for last in (largest, 1e6)
    ]
    assert noises[0] == pytest.approx(noises[1])
    assert noises[1] < 8


def test_a_missing_channel_learns_nothing_while_the_others_do() -> None:
    config = ScoreConfig()
    channels, scalars = fresh_statistics(features=2)
    weight = np.array([[1.0, 0.0]])
    for residual in range(30):
        take(np.full((1, 2), float(residual)), saying(0.0), (channels, scalars), config, weight)
    assert channels.bias[0].tolist() == [pytest.approx(np.arange(16, 30).mean()), 0]


def test_the_threshold_is_what_a_gumbel_law_through_the_block_peaks_exceeds_at_the_wanted_rate() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    surprises = np.random.default_rng(3).uniform(0, 5, (6, 10))
    peaks = surprises.max(axis=1).tolist()
    _, scalars = learn(np.zeros(60), surprises.ravel(), config)
    beta = pstdev(peaks) * math.sqrt(6) / math.pi  # method of moments
    mu = fmean(peaks) - 0.5772156649015329 * beta
    by_hand = mu - beta * math.log(config.false_alarm_rate * config.block_readings)
    exact = mu - beta * math.log(-math.log(1 - config.false_alarm_rate * config.block_readings))
    assert scalars.threshold[0] == pytest.approx(by_hand, rel=1e-12)
    assert scalars.threshold[0] == pytest.approx(exact, rel=1e-3)
    assert scalars.blocks[0] == 6


def test_the_range_has_a_threshold_of_the_same_kind_that_never_sinks_below_its_margin() -> None:
    config = ScoreConfig(block_readings=10, blocks=32, false_alarm_rate=1e-4, lowest_threshold=0.5)
    peaks = np.random.default_rng(3).uniform(0, 5, (6, 10))
    _, of_surprise = learn(np.zeros(60), peaks.ravel(), config)
    _, of_range = learn(np.zeros(60), np.zeros(60), config, peaks.ravel())
    assert of_range.range_threshold[0] == of_surprise.threshold[0] > 1
    assert of_surprise.range_threshold[0] == 1.0


def test_a_threshold_waits_for_four_blocks_and_never_sinks_below_the_lowest() -> None:
    config = ScoreConfig(block_readings=10, lowest_threshold=4.0)
    for readings in (0, 39):
        assert learn(np.zeros(readings), np.ones(readings), config)[1].threshold[0] == FRESH_SCALARS.threshold
    assert learn(np.zeros(40), np.ones(40), config)[1].threshold[0] == 4.0


def test_blocks_long_ago_are_forgotten() -> None:
    config = ScoreConfig(block_readings=4, blocks=8, lowest_threshold=0.1)
    loud, quiet = np.tile([9.0, 12.0], 80), np.tile([2.0, 2.5], 400)
    _, only_quiet = learn(np.zeros(800), quiet, config)
    _, both = learn(np.zeros(960), np.concatenate([loud, quiet]), config)
    assert both.threshold[0] == pytest.approx(only_quiet.threshold[0], rel=1e-3)


def test_nothing_from_before_the_end_of_the_warm_up_sets_the_threshold() -> None:
    config = ScoreConfig(warm_up=25, block_readings=10, lowest_threshold=0.5, false_alarm_rate=1e-4)
    random = np.random.default_rng(4)
    after = random.uniform(0, 5, 50)
    thresholds = []
    for loud in (1.0, 200.0):
        channels, scalars = fresh_statistics()
        for surprise in (*np.full(25, loud), *after):
            scalars.age[:] += 1
            take(np.zeros((1, 1)), saying(surprise), (channels, scalars), config)
        thresholds.append(float(scalars.threshold[0]))
    assert thresholds[0] == thresholds[1]
    peaks = after.reshape(5, 10).max(axis=1).tolist()
    beta = pstdev(peaks) * math.sqrt(6) / math.pi
    assert thresholds[0] == pytest.approx(fmean(peaks) - beta * (0.5772156649015329 + math.log(1e-4 * 10)))


def judge_one(
    standardised: float, value: float, statistics: Statistics, config: ScoreConfig | None = None
) -> Strangeness:
    with np.errstate(all="ignore"):  # as a detector does
        return judge(np.array([[standardised]]), np.array([[value]]), None, *statistics, config or ScoreConfig())


def test_the_short_memory_smooths_the_strength() -> None:
    channels, scalars = fresh_statistics()
    smooth = 0.0
    for standardised in np.random.default_rng(5).normal(size=50):
        judge_one(standardised, 0.0, (channels, scalars), ScoreConfig(smooth_readings=9))
        smooth += (abs(standardised) - smooth) * 0.2
        assert scalars.smooth[0] == pytest.approx(smooth)


def test_the_score_is_the_surprise_of_the_smoothed_strength_over_the_threshold() -> None:
    channels, scalars = fresh_statistics()
    scalars.age[:], scalars.smooth[:], scalars.typical[:], scalars.variance[:] = 500, 2.0, 1.0, 0.25
    scalars.threshold[:] = 8.0
    strange = judge_one(2.0, 0.0, (channels, scalars), ScoreConfig(usual_share=0.3))
    deviation = 1 / (0.5 + 0.3 + SMALLEST_DEVIATION)
    assert strange.surprise[0] == pytest.approx(deviation**2)
    assert strange.score[0] == pytest.approx(strange.surprise[0] / 8)
    assert not strange.out_of_range[0]


@pytest.mark.parametrize(("weight", "by"), [(0.5, "residual"), (0.8, "level"), (0.0, "residual")])
def test_of_residual_and_level_the_one_further_from_its_usual_counts(weight: float, by: str) -> None:
    channels, scalars = fresh_statistics()
    scalars.age[:], scalars.smooth[:], scalars.typical[:], scalars.variance[:] = 500, 2.0, 1.0, 0.25
    channels.tilt[:], scalars.tilt_typical[:], scalars.tilt_variance[:] = -1.0, 0.5, 0.01
    channels.known[:] = 1  # the level is not known yet: its tilt only fades
    config = ScoreConfig(level_weight=weight, level_readings=99, usual_share=0.0)
    strange = judge_one(2.0, 0.0, (channels, scalars), config)
    deviations = {
        "residual": 1 / (0.5 + SMALLEST_DEVIATION),
        "level": weight * (1 - 0.02 - 0.5) / (0.1 + SMALLEST_DEVIATION),
    }
    assert max(deviations, key=lambda name: deviations[name]) == by
    assert strange.surprise[0] == pytest.approx(deviations[by] ** 2)


def test_the_score_is_0_until_the_warm_up_is_over() -> None:
    for age, scored in ((1, False), (128, False), (129, True)):
        channels, scalars = fresh_statistics()
        channels.low[:], channels.high[:], channels.spread[:] = 0, 1, 0.1
        scalars.age[:] = age
        strange = judge_one(1e6, 50.0, (channels, scalars), ScoreConfig(warm_up=128))
        assert (strange.score[0] > 0) == scored


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
    channels, scalars = fresh_statistics()
    channels.low[:], channels.high[:], channels.spread[:] = 0.0, 10.0, 1.0
    scalars.age[:], scalars.typical[:] = 500, 1_000  # the residual says nothing
    channels.mean[:] = value  # nor does the level
    strange = judge_one(0.0, value, (channels, scalars), ScoreConfig(range_share=0.05))
    assert strange.score[0] == pytest.approx(score, abs=1e-9)
    assert strange.out_of_range[0] == (score > 0)


def test_a_narrow_range_is_judged_by_the_spread_instead() -> None:
    channels, scalars = fresh_statistics()
    channels.low[:], channels.high[:], channels.spread[:] = 5.0, 5.0, 2.0
    scalars.age[:], scalars.typical[:] = 500, 1_000
    assert judge_one(0.0, 5.5, (channels, scalars), ScoreConfig(range_share=0.05)).score[0] == pytest.approx(1)


def test_an_unknown_channel_has_no_range_and_hides_no_other() -> None:
    channels, scalars = fresh_statistics(features=2)
    scalars.age[:], scalars.typical[:] = 500, 1_000
    config = ScoreConfig(range_share=0.1)
    with np.errstate(all="ignore"):
        unknown = judge(np.zeros((1, 2)), np.array([[7.0, 7.0]]), None, channels, scalars, config)
        assert unknown.score[0] == pytest.approx(0, abs=1e-9)
        channels.low[0, 1], channels.high[0, 1], channels.spread[0, 1] = 0, 1, 0.1
        known = judge(np.zeros((1, 2)), np.array([[7.0, 2.0]]), None, channels, scalars, config)
    assert known.score[0] == HIGHEST_RANGE_SCORE
    assert known.out_of_range[0]


@pytest.mark.parametrize("streams", [1, 2, 7, 8, 9, 16, 33])
def test_a_score_of_nothing_is_a_zero_without_a_sign_however_many_streams_there_are(streams: int) -> None:
    channels, scalars = Columns.of(fresh(streams, ForecasterConfig(("a",)))).views()
    channels.low[:], channels.high[:] = -1.0, 1.0  # inside it, and the spread is not known: -1 / infinity
    scalars.age[:], scalars.typical[:], scalars.variance[:] = 1_000.0, 40.0, 1.0
    nothing = np.zeros((streams, 1))
    found = judge(nothing, nothing, None, channels, scalars, ScoreConfig())
    assert (found.score == 0.0).all()
    assert not np.signbit(found.score).any()
    assert not np.signbit(found.surprise).any()
