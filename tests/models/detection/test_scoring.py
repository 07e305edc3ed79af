import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.detection.alarm import AlarmConfig, Change, OpenedBy
from models.detection.learning import LARGEST_LEARNED, SETTLING
from models.detection.records import (
    BAND_REACH,
    FARTHEST,
    NO_LIMITS,
    SMALLEST_DEVIATION,
    SMALLEST_VARIANCE,
    STRONGEST,
    Scores,
    Step,
)
from models.detection.rows import CHANNELS, SCALARS
from models.detection.scoring import ScoreConfig
from models.detection.thresholds import HIGHEST_PEAK, PRIOR_BLOCKS
from tests.models.detection.interpreted import ARITHMETIC, LEARNING, RESIDUAL, THRESHOLDS, WITNESSES, OneStream
from tests.models.detection.test_expectation import judged, noise, remember


class Seen(NamedTuple):
    """What one reading of one stream looked like."""

    residual: float = 0.0  # deviation
    level: float = 0.0
    outside: float = 0.0
    sudden: float = 0.0
    residuals: Sequence[float] = (0.0,)  # by channel, in spreads; the level deviations are the same
    strength: float = 0.0  # of both


def take(seen: Seen, one: OneStream, present: Sequence[float] = (1.0,), updates: float = 1.0) -> None:
    """One reading, into the baseline."""
    for channel, look, residual, there in zip(one.channels, one.looks, seen.residuals, present, strict=True):
        look.residual, look.present, channel.level_deviation, look.sudden = residual, there, residual, seen.sudden
        look.residual_std = math.sqrt(channel.residual_variance + SMALLEST_VARIANCE)
        look.level_std = math.sqrt(channel.level_deviation_variance + SMALLEST_VARIANCE)
    peaks = (seen.residual, seen.level, seen.outside, 0.0, 0.0)
    scored = float(one.stream.age > one.rules.warm_up)
    scores = Scores(0.0, 0.0, scored, (seen.strength, seen.strength, 0.0, 0.0), peaks, (0.0,) * 3, 0, 0.0)
    step = Step(Change.NONE, 0.0, updates, updates)
    LEARNING.update_baseline(one.stream, one.relation, one.scratch, scores, step, one.rules, 0.0)


def learn(residuals: Doubles, config: ScoreConfig) -> OneStream:
    """One stream of one channel, long past its warm-up, learns every reading; its strength is the residual too."""
    one = OneStream(score=config)
    one.stream.age = 10_000
    for residual in residuals.tolist():
        take(Seen(residuals=(residual,), strength=residual), one)
    return one


def meet(readings: Sequence[Seen], config: ScoreConfig) -> OneStream:
    """One stream, long past its warm-up, after readings that looked like these."""
    one = OneStream(score=config)
    one.stream.age = 10_000
    for seen in readings:
        take(seen, one)
    return one


def threshold_of(one: OneStream, witness: str) -> float:
    return float(getattr(one.channels[0] if witness == "sudden" else one.stream, f"{witness}_threshold"))


def strength_of(residual_z: Sequence[float], present: Sequence[float] | None = None) -> float:
    one = OneStream(len(residual_z))
    for look, z, there in zip(one.looks, residual_z, present or [1.0] * len(residual_z), strict=True):
        look.residual_z, look.present = z, there
    return float(WITNESSES.strengths_of(one.scratch)[0][0])


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
        assert ARITHMETIC.add(squares) == np.add.reduce(squares)


def test_the_sum_over_many_channels_is_that_of_its_blocks() -> None:
    squares = np.random.default_rng(0).normal(size=300) ** 2
    blocks = [np.add.reduce(squares[begin : begin + 128]) for begin in (0, 128, 256)]
    assert ARITHMETIC.add(squares) == (blocks[0] + blocks[1]) + blocks[2]


def test_the_standard_deviation_is_never_0() -> None:
    for variance, std in ((0.0, math.sqrt(SMALLEST_VARIANCE)), (4.0, pytest.approx(2, rel=1e-4))):
        one = OneStream()
        one.channels[0].residual_variance = variance
        RESIDUAL.compare(one.channels[0], one.looks[0], one.rules)
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
    take(Seen(300.0, 200.0, 9.0, 400.0, (9e5,), 50.0), one, updates=0.0)
    moved = [name for name, now in one.numbers().items() if (now != before[name]).any()]
    peaks = [f"{witness}_block_peak" for witness in ("residual", "level", "range")]
    assert moved == ["sudden_block_peak", "blocks", *peaks]


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


QUICK = ScoreConfig(block_readings=10, blocks=32, smooth_period=10_000, sharp_period=10_000, lowest_threshold=0.5)


def by_hand(peaks: Sequence[float], prior_mean: float, prior_variance: float, blocks_a_period: float) -> float:
    """The threshold: a law of shape -0.05 through the logarithms of peaks, and of as many as the prior counts for."""
    logarithms = np.log1p(peaks)
    counted = len(peaks) + PRIOR_BLOCKS
    mean = (logarithms.sum() + PRIOR_BLOCKS * prior_mean) / counted
    squares = ((logarithms - mean) ** 2).sum() + PRIOR_BLOCKS * (prior_variance + (prior_mean - mean) ** 2)
    first, second = math.gamma(1.05), math.gamma(1.1)
    scale = math.sqrt(squares / counted) * 0.05 / math.sqrt(second - first**2)  # method of moments
    place = mean - scale / 0.05 * (1 - first)
    return math.expm1(place + scale / 0.05 * (1 - blocks_a_period**-0.05))


def prior(witness: str) -> tuple[float, float]:
    table = CHANNELS if witness == "sudden" else SCALARS
    return table.field(f"{witness}_peak_mean").initial, table.field(f"{witness}_peak_variance").initial


def test_the_threshold_is_what_a_law_through_the_block_peaks_exceeds_once_in_the_wanted_period() -> None:
    deviations = np.random.default_rng(3).uniform(0, 5, (6, 10))
    stream = meet([Seen(one) for one in deviations.ravel()], QUICK).stream
    expected = by_hand(deviations.max(axis=1).tolist(), *prior("residual"), 10_000 / 10)
    assert stream.residual_threshold == pytest.approx(expected, rel=1e-12)
    assert stream.blocks == 6


def test_the_longer_a_stream_is_known_the_rarer_may_what_is_smoothed_reach_its_threshold() -> None:
    config = replace(QUICK, smooth_period=40, longest_smooth_period=200)
    deviations = np.random.default_rng(3).uniform(0, 5, (30, 10))
    for blocks, period in ((3, 40), (8, 80), (30, 200)):
        seen = deviations[:blocks]
        stream = meet([Seen(one) for one in seen.ravel()], config).stream
        expected = by_hand(seen.max(axis=1).tolist(), *prior("residual"), period / 10)
        assert stream.residual_threshold == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("period", [2_000, 20_000, 2_000_000])
def test_what_reaches_a_threshold_returns_once_in_the_wanted_period(period: int) -> None:
    """Whatever the stream is like: that is what makes return periods a currency."""
    config = ScoreConfig(
        sharp_period=period,
        smooth_period=period,
        longest_smooth_period=period,
        lowest_threshold=1e-3,
        lowest_sudden=1e-3,
    )
    for seed, scale in enumerate((0.5, 3.0)):
        one = OneStream(score=config)
        one.stream.age, one.stream.interval_ms = 10_000.0, 60_000.0
        for peak in np.random.default_rng(seed).gamma(3, scale, 20 * config.block_readings):
            take(Seen(sudden=peak, residual=peak), one)
        one.looks[0].sudden = one.channels[0].sudden_threshold
        thresholds = one.stream.residual_threshold, 0.0, 0.0, 0.0, 0.0
        at = Scores(1.0, 1.0, 1.0, (0.0,) * 4, thresholds, (0.99, 1.0, 0.0), 0, 0.0)
        returns_ms = THRESHOLDS.return_periods(one.stream, one.relation, one.scratch, at, one.rules)
        assert returns_ms[0] == pytest.approx(period * 60_000, rel=0.02)
        assert returns_ms[3] == pytest.approx(period * 60_000, rel=0.02)
        assert returns_ms[4:] == (0.0, one.stream.age * 60_000, 0.0, 0.0), "a run that is healthy says nothing"


def test_no_return_period_is_longer_than_a_hundred_years_or_shorter_than_a_reading() -> None:
    one = OneStream()
    one.stream.interval_ms = 60_000.0
    for peak, expected in ((1e6, THRESHOLDS.LONGEST_RETURN_MS), (0.0, 60_000.0)):
        one.looks[0].sudden = peak
        at = Scores(1.0, 1.0, 1.0, (0.0,) * 4, (peak,) * 5, (0.0,) * 3, 0, 0.0)
        returns_ms = THRESHOLDS.return_periods(one.stream, one.relation, one.scratch, at, one.rules)
        assert returns_ms[3] == pytest.approx(expected)


def test_a_peak_is_ten_times_as_rare_by_steps_that_are_as_wide_as_the_peaks_are_spread() -> None:
    """Beyond the threshold, whatever that is: on the logarithmic scale, by the scale of a law without an end."""
    one = meet([Seen(residual=peak) for peak in np.random.default_rng(7).gamma(3, 0.4, 4_000)], QUICK)
    threshold, scale = one.stream.residual_threshold, math.sqrt(one.stream.residual_peak_variance * 6) / math.pi

    def rarity(peak: float) -> float:
        peaks = (peak, 0.0, 0.0, 0.0, 0.0)
        return float(THRESHOLDS.rarity_of(one.stream, one.relation, one.scratch, peaks, (0.0,) * 3))

    for powers in (0.5, 1.0, 3.0):
        peak = math.expm1(math.log1p(threshold) + scale * powers * math.log(10))
        assert math.exp(rarity(peak)) == pytest.approx(10**powers, rel=1e-6)
    assert rarity(threshold) == rarity(0.9 * threshold) == 0
    one.stream.prediction_factor = 1.5
    assert rarity(1.4 * threshold) == 0, "more is asked of a witness that opened alarms of late"


@pytest.mark.parametrize("run", range(3))
def test_a_run_that_is_twice_as_long_is_ten_times_as_rare(run: int) -> None:
    one = OneStream()
    for times, expected in ((0.5, 1.0), (1.0, 1.0), (2.0, 10.0), (8.0, 1_000.0)):
        runs = tuple(times if n == run else 0.0 for n in range(3))
        found = THRESHOLDS.rarity_of(one.stream, one.relation, one.scratch, (0.0,) * 5, runs)
        assert math.exp(found) == pytest.approx(expected)
    times_as_long = AlarmConfig(major_at=10, critical_at=1_000).times_as_long
    assert times_as_long == pytest.approx((1.0, 2.0, 8.0))


def test_of_a_channel_that_seldom_changes_a_jump_returns_as_often_as_one_of_any_channel() -> None:
    one = OneStream(2)
    one.stream.interval_ms = 60_000.0
    steady, switch = one.channels
    for channel, changes in ((steady, 1_000.0), (switch, 10.0)):
        channel.known, channel.changes, channel.sudden_peak_mean, channel.sudden_peak_variance = (
            1_000,
            changes,
            0.5,
            0.04,
        )
    one.scratch.relation[0].sudden_peak_mean, one.scratch.relation[0].sudden_peak_variance = 2.0, 0.04

    def returns_ms(steady_sudden: float, switch_sudden: float) -> float:
        one.looks[0].sudden, one.looks[1].sudden = steady_sudden, switch_sudden
        at = Scores(1.0, 1.0, 1.0, (0.0,) * 4, (0.0,) * 5, (0.0,) * 3, 0, 0.0)
        found: float = THRESHOLDS.return_periods(one.stream, one.relation, one.scratch, at, one.rules)[OpenedBy.SUDDEN]
        return found

    assert returns_ms(0.0, math.expm1(2.0)) == pytest.approx(256 * 60_000 * math.gamma(1.05) ** -20, rel=1e-6)
    assert returns_ms(math.expm1(2.0), 0.0) > 1_000 * returns_ms(0.0, math.expm1(2.0))


def test_each_witness_has_a_threshold_that_knows_nothing_of_the_others() -> None:
    loud = np.random.default_rng(3).uniform(5, 9, 60)
    peaks = loud.reshape(6, 10).max(axis=1).tolist()
    met = {
        "residual": meet([Seen(residual=one) for one in loud], QUICK),
        "level": meet([Seen(level=one) for one in loud], QUICK),
        "range": meet([Seen(outside=one) for one in loud], QUICK),
        "sudden": meet([Seen(sudden=one) for one in loud], QUICK),
    }
    silent = meet([Seen()] * 60, QUICK)
    for witness in met:
        found = {name: threshold_of(one, witness) for name, one in met.items()}
        assert found.pop(witness) == pytest.approx(by_hand(peaks, *prior(witness), 1_000), rel=1e-12)
        assert set(found.values()) == {threshold_of(silent, witness)}


@pytest.mark.slow
def test_thresholds_never_sink_below_the_lowest() -> None:
    one = meet([Seen()] * 4_000, ScoreConfig(block_readings=10, lowest_threshold=1.25, lowest_sudden=4.5))
    assert [threshold_of(one, name) for name in ("residual", "level", "sudden")] == [1.25, 1.25, 4.5]
    assert one.stream.range_threshold == 1.0, "its margin"


@pytest.mark.slow
def test_one_glitch_without_measure_lifts_no_threshold_out_of_reach() -> None:
    calm = [Seen(sudden=peak) for peak in np.random.default_rng(4).uniform(2, 4, 600)]
    before = threshold_of(meet(calm, QUICK), "sudden")
    glitch = meet([*calm, Seen(sudden=FARTHEST)] + [Seen(sudden=2.0)] * 9, QUICK)
    again = meet(calm + [Seen(sudden=FARTHEST)] * 300, QUICK)
    assert before < threshold_of(glitch, "sudden") < 4 * before
    assert threshold_of(again, "sudden") > 100 * before, "what comes in every block is normal"
    assert QUICK.deviations(QUICK.sharp_period) < HIGHEST_PEAK, "a peak at the threshold is learned as it is"


@pytest.mark.slow
@pytest.mark.parametrize("witness", ["residual", "level"])
def test_one_fault_hardly_deafens_what_is_smoothed_but_what_comes_in_every_block_is_normal(witness: str) -> None:
    calm = [Seen(residual=peak, level=peak) for peak in np.random.default_rng(4).uniform(2, 4, 600)]
    fault, quiet = Seen(residual=FARTHEST, level=FARTHEST), [Seen(residual=2.0, level=2.0)] * 9
    before, once, often = (
        threshold_of(meet(seen, QUICK), witness) for seen in (calm, [*calm, fault, *quiet], calm + [fault] * 300)
    )
    assert before < once < 1.6 * before, "prediction, whose period is longer, rises the more"
    assert often > 100 * before


def test_a_peak_of_what_is_smoothed_that_is_at_the_threshold_is_learned_as_it_is() -> None:
    """However rarely alarms are asked for: a threshold that is further off than the highest peak would sink."""
    seen = [Seen(one) for one in np.random.default_rng(3).uniform(0, 5, 60)]
    configs = (replace(QUICK, highest_smooth_peak=highest) for highest in (0.5, 8.0))
    found = [threshold_of(meet(seen, config), "residual") for config in configs]
    assert QUICK.deviations(QUICK.smooth_period) > 3
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [1.0, 1.0 + 1e-12, 1.4142135, 2.0, 3.5, 1e3, 1e6, 3.4e38])
def test_logarithm_and_exponential_are_those_of_the_library_to_the_last_digits(number: float) -> None:
    found = ARITHMETIC.logarithm(number)
    assert found == pytest.approx(math.log(number), rel=1e-14, abs=1e-16)
    assert ARITHMETIC.exponential(found) == pytest.approx(number, rel=1e-13)


def test_blocks_long_ago_are_forgotten() -> None:
    config = ScoreConfig(block_readings=4, blocks=8, smooth_period=100, longest_smooth_period=100, lowest_threshold=0.1)
    loud, quiet = np.tile([9.0, 12.0], 80), np.tile([2.0, 2.5], 400)
    only_quiet, both = (meet([Seen(one) for one in of], config).stream for of in (quiet, np.concatenate([loud, quiet])))
    assert both.residual_threshold == pytest.approx(only_quiet.residual_threshold, rel=1e-3)


def test_nothing_from_before_the_end_of_the_warm_up_sets_the_threshold() -> None:
    config = replace(QUICK, warm_up=25)
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
    assert thresholds[0] == pytest.approx(by_hand(peaks, *prior("residual"), 1_000))


def score(residual: float, value: float, one: OneStream, elapsed_ms: float = 0.0) -> Scores:
    """Of a reading at its level; the residual's long variance is 1."""
    for channel, look in zip(one.channels, one.looks, strict=True):
        channel.residual_variance, channel.mean = 1 - SMALLEST_VARIANCE, value
        look.residual, look.value = residual, value
        RESIDUAL.compare(channel, look, one.rules)
        RESIDUAL.limit(channel, look, NO_LIMITS)
    with np.errstate(all="ignore"):
        found: Scores = WITNESSES.score(one.stream, one.relation, one.scratch, elapsed_ms, one.rules)
    return found


def test_the_short_memory_smooths_the_strength() -> None:
    one, smooth = OneStream(score=ScoreConfig(smooth_readings=9)), 0.0
    for residual in np.random.default_rng(5).normal(size=50):
        score(residual, 0.0, one)
        smooth += (abs(residual) - smooth) * 0.2
        assert one.stream.residual_strength == pytest.approx(smooth)


def test_of_the_short_memory_it_is_known_how_much_one_reading_has_of_it() -> None:
    one, residuals = OneStream(score=ScoreConfig(smooth_readings=9)), np.random.default_rng(6).normal(size=60)
    for n, residual in enumerate(residuals):
        score(residual, 0.0, one)
        shares = np.abs(residuals[: n + 1]) * 0.2 * 0.8 ** np.arange(n, -1, -1)
        assert one.stream.residual_strength == pytest.approx(shares.sum())
        assert one.stream.residual_largest == pytest.approx(shares.max())


def test_one_reading_is_told_by_sudden_alone_and_two_by_prediction_too() -> None:
    one = OneStream()
    stream = one.stream
    stream.age, stream.residual_threshold, one.channels[0].sudden_threshold = 500, 2.0, 1e3
    alone = [score(residual, 0.0, one).score for residual in (25.0, *[0.0] * 10)]
    assert max(alone) < 1
    assert alone[-1] > 0.9, "it would hold an alarm open"
    again = score(25.0, 0.0, one)
    assert again.score > 1
    assert again.furthest == OpenedBy.PREDICTION


def test_the_score_is_the_deviation_of_the_smoothed_strength_over_the_threshold() -> None:
    one = OneStream(score=ScoreConfig(usual_share=0.3))
    stream = one.stream
    stream.age, stream.residual_strength, stream.told_strength = 500, 2.0, 2.0
    stream.residual_strength_mean, stream.residual_strength_variance, stream.residual_threshold = 1.0, 0.25, 8.0
    one.channels[0].sudden_threshold = 1e3
    scores = score(2.0, 0.0, one)
    several = 2.0 - 2.0 * one.rules.strength_rate
    assert scores.peaks[0] == pytest.approx((several - 1) / (0.5 + 0.3 + SMALLEST_DEVIATION))
    assert scores.score == pytest.approx(1 / (0.5 + 0.3 + SMALLEST_DEVIATION) / 8), "the echo of the one counts below 1"
    assert scores.furthest == OpenedBy.PREDICTION


def test_a_deviation_below_the_baseline_is_none() -> None:
    one = OneStream()
    one.stream.age, one.stream.residual_strength, one.stream.told_strength = 500, 1.0, 1.0
    one.stream.residual_strength_mean, one.stream.level_strength_mean = 3.0, 2.0
    scores = score(1.0, 0.0, one)
    assert (scores.peaks[0], scores.peaks[1]) == (0, 0)


@pytest.mark.parametrize(("weight", "by"), [(0.5, "residual"), (2.0, "level"), (0.0, "residual")])
def test_of_residual_and_level_the_one_further_over_its_threshold_counts(weight: float, by: str) -> None:
    one = OneStream(score=ScoreConfig(level_weight=weight, level_readings=99, usual_share=0.0))
    channel, stream = one.channels[0], one.stream
    stream.age, stream.residual_strength, stream.told_strength = 500, 2.0, 2.0
    stream.residual_strength_mean, stream.residual_strength_variance = 1.0, 0.25
    channel.level_deviation, channel.level_deviation_mean, channel.level_deviation_variance = -1.0, 0.5, 0.36
    stream.level_strength_mean, stream.level_strength_variance = 1.0, 0.25
    stream.residual_threshold, stream.level_threshold = 4.0, 8.0
    one.channels[0].sudden_threshold = 1e3
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
    one.stream.age, one.stream.residual_strength_mean, one.stream.range_threshold = 500, 1_000, 1
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
        (1e9, FARTHEST),
    ],
)
def test_range_scores_1_at_its_share_of_the_range_outside_it(value: float, expected: float) -> None:
    scores = score(0.0, value, with_range(0.0, 10.0, 0.1, ScoreConfig(range_share=0.05)))
    assert scores.score == pytest.approx(expected, abs=1e-9)
    assert (scores.furthest == OpenedBy.RANGE) == (expected > 0)


def test_a_narrow_range_is_judged_by_the_residuals_spread_instead() -> None:
    assert score(0.0, 11.0, with_range(5.0, 5.0, 2.0, ScoreConfig(range_spreads=3.0))).score == pytest.approx(1)


def test_an_unknown_channel_has_no_range_and_hides_no_other() -> None:
    one = OneStream(2, ScoreConfig(range_share=0.1))
    one.stream.age, one.stream.residual_strength_mean = 500, 1_000
    assert score(0.0, 7.0, one).score == pytest.approx(0, abs=1e-9)
    channel = one.channels[1]
    channel.low, channel.high, channel.spread = 0, 1, 0.1
    known = score(0.0, 7.0, one)
    assert (known.score > 1, known.furthest) == (True, OpenedBy.RANGE)


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
    assert WITNESSES.furthest_of(ratios) == furthest == np.argmax(ratios)


def test_a_score_of_nothing_is_a_zero_without_a_sign() -> None:
    one = with_range(-1.0, 1.0, math.inf, ScoreConfig())  # inside it, and the spread is not known: -1 / infinity
    one.stream.residual_strength_variance = 1.0
    scores = score(0.0, 0.0, one)
    assert (scores.score, *scores.peaks) == (0, 0, 0, 0, 0, 0)
    assert not np.signbit((scores.score, *scores.peaks)).any()


def with_runs(**fields: float) -> OneStream:
    """A stream whose value changes at each reading, and was always there."""
    one = with_range(0.0, 1.0, 1.0, ScoreConfig())
    one.channels[0].known = one.channels[0].changes = 1_000.0
    one.stream.interval_ms = 1_000.0
    for name, number in fields.items():
        setattr(one.channels[0], name, number)
    return one


def judge_values(one: OneStream, values: Sequence[float | None]) -> list[Scores]:
    """None: missing."""
    scores, look = [], one.looks[0]
    for value in values:
        look.before, look.present = look.value, float(value is not None)
        scores.append(score(0.0, look.value if value is None else value, one))
    return scores


@pytest.mark.parametrize(
    ("changes", "longest", "stuck_from"),
    [(1_000, 0, 20), (1_000, 9, 20), (1_000, 15, 30), (1_000, 100, 200), (850, 15, 60), (600, 100, 400)],
)
def test_equal_readings_are_stuck_from_twenty_on_and_twice_the_longest_run_before_or_four_times_if_it_repeats(
    changes: int, longest: int, stuck_from: int
) -> None:
    scores = judge_values(with_runs(longest_equal_run=longest, changes=changes), [0.5] + [0.25] * (stuck_from + 1))
    first = next(n for n, one in enumerate(scores) if one.score >= 1)
    assert first == stuck_from + 1
    assert scores[first].furthest == OpenedBy.STUCK
    assert scores[first].score == scores[first].sharp


@pytest.mark.parametrize(("moves", "stuck"), [(0.0, True), (0.02, True), (0.5, False)])
def test_a_value_that_hardly_moves_any_more_is_stuck(moves: float, stuck: bool) -> None:
    """Of noise that comes with a memory; what a sensor that is stuck adds of its own is a fiftieth of it."""
    values = 50 + remember(noise(readings=3_200), 0.8)
    values[3_000:] = values[2_999] + moves * noise(seed=1, readings=200)
    opened = [one.opened_by for one in judged(values).transitions if one.change == Change.OPENED]
    assert (OpenedBy.STUCK in opened) == stuck


@pytest.mark.parametrize(("step_s", "told"), [(2, False), (90, True)])
def test_noise_that_falls_to_a_tenth_is_told_once_nights_have_been_seen(step_s: int, told: bool) -> None:
    """After two hours and after three days."""
    values = 50 + remember(noise(readings=3_200), 0.8)
    values[3_000:] = values[2_999] + 0.1 * remember(noise(seed=1, readings=200), 0.8)
    transitions = judged(values, step_ms=step_s * 1_000).transitions
    opened = [one.opened_by for one in transitions if one.change == Change.OPENED]
    assert (OpenedBy.STUCK in opened) == told


def test_noise_that_falls_to_a_tenth_is_told_where_the_value_moves_by_nature() -> None:
    """Up and down with the day, by more from reading to reading than what is left of the noise."""
    of_day = 10 * np.sin(2 * np.pi * np.arange(3_200) / 288)
    values = 50 + of_day + 0.5 * noise(readings=3_200) * np.where(np.arange(3_200) < 3_000, 1.0, 0.1)
    transitions = judged(values, step_ms=300_000).transitions
    assert [one.opened_by for one in transitions if one.change == Change.OPENED] == [OpenedBy.STUCK]


def test_nights_that_are_calm_are_no_anomaly() -> None:
    values = 50 + remember(noise(readings=28 * 288), 0.8) * np.where(np.arange(28 * 288) % 288 < 96, 0.05, 1.0)
    assert OpenedBy.STUCK not in [one.opened_by for one in judged(values, step_ms=300_000).transitions]


def judge_errors(one: OneStream, moves: Sequence[float], errors: Sequence[float]) -> list[tuple[float, float]]:
    """Readings with these moves and, in standard deviations, errors; returns run and sum of calm after each."""
    runs, value = [], 0.0
    for move, error in zip(moves, errors, strict=True):
        value, one.looks[0].before = value + move, value
        score(error, value, one)
        runs.append(WITNESSES.digits_of(float(one.channels[0].equal_run)))
    return runs


def as_digits(equal: float, calm: float) -> float:
    return float(WITNESSES.as_digits(equal, WITNESSES.in_parts(calm)))


@pytest.mark.parametrize(("error", "counts"), [(0.0, 1.0), (0.68, 0.0), (1.0, -1.164), (3.0, -18.476), (50.0, -18.476)])
def test_a_reading_speaks_for_calm_or_against_it_by_its_error(error: float, counts: float) -> None:
    ((_, calm),) = judge_errors(with_runs(band=BAND_REACH, equal_run=as_digits(0, 32)), [0.5], [error])
    assert calm == pytest.approx(32 + counts, abs=1 / 64 + 1e-3)


def test_of_noise_no_more_is_usual_than_half_as_much_again_as_the_band_says() -> None:
    ((_, calm),) = judge_errors(with_runs(band=BAND_REACH / 10, equal_run=as_digits(0, 32)), [0.5], [0.15])
    assert calm == pytest.approx(32 - 1.164, abs=1 / 64 + 1e-3)


def test_what_is_equal_and_what_is_calm_are_counted_each_by_itself() -> None:
    one, calm = with_runs(band=BAND_REACH), 0.0
    runs = judge_errors(one, [0.0, 0.3, 0.3, 0.01, 0.0, 0.3, 0.0], [calm, 3.0, *[calm] * 5])
    assert runs == [(1, 1), (0, 0), (0, 1), (1, 2), (2, 3), (0, 4), (1, 5)]


def test_a_run_of_equal_values_ends_with_another_and_a_sum_of_calm_loses_by_what_speaks_against_it() -> None:
    one = with_runs(band=BAND_REACH, equal_run=as_digits(12, 24))
    ((equal, calm),) = judge_errors(one, [0.5], [9.0])
    assert equal == 0
    assert calm == pytest.approx(24 - 18.476, abs=1 / 64 + 1e-3)
    assert WITNESSES.digits_of(float(one.channels[0].longest_equal_run)) == (12, 24)


@pytest.mark.parametrize(("equal", "calm"), [(0, 0.0), (3, 0.015625), (2**27 - 1, 2.0**20 - 1), (7, 1e12), (1, 0.01)])
def test_two_numbers_are_one_and_two_again(equal: int, calm: float) -> None:
    cut = math.floor(min(calm, 2.0**20 - 1) * 64) / 64
    assert WITNESSES.digits_of(as_digits(equal, calm)) == (equal, cut)


def test_what_is_no_number_is_no_calm() -> None:
    assert WITNESSES.digits_of(as_digits(3, math.nan)) == (3, 0)


@pytest.mark.parametrize(("days", "longest"), [(1.0, 240.0), (3.0, 20.0)])
def test_what_is_calm_teaches_its_whole_length_in_the_first_days(days: float, longest: float) -> None:
    one = with_runs(band=BAND_REACH)
    one.stream.days = days
    judge_errors(one, [0.2, -0.2] * 120 + [9.0], [0.0] * 240 + [9.0])
    assert WITNESSES.digits_of(float(one.channels[0].longest_equal_run)) == (0, longest)


def test_calm_hides_no_value_that_stands_still() -> None:
    """A long sum of calm says nothing of how long the value may be equal."""
    one = with_runs(band=BAND_REACH, longest_equal_run=as_digits(5, 400))
    scores = judge_values(one, [0.5] + [0.25] * 21)
    assert next(n for n, found in enumerate(scores) if found.score >= 1) == 21


def test_a_value_that_stands_still_by_nature_is_never_stuck() -> None:
    scores = judge_values(with_runs(changes=450.0), [0.5] * 400)
    assert max(one.score for one in scores) < 1


@pytest.mark.parametrize(("longest", "missing_from"), [(0, 3), (1, 3), (5, 10)])
def test_missing_values_are_told_from_three_on_and_twice_the_longest_run_before(
    longest: int, missing_from: int
) -> None:
    scores = judge_values(with_runs(longest_missing_run=longest), [0.5] + [None] * missing_from)
    assert [one.score >= 1 for one in scores] == [False] * missing_from + [True]
    assert scores[-1].furthest == OpenedBy.MISSING


def test_a_run_that_is_over_teaches_how_long_a_healthy_one_is_and_one_teaches_only_so_much() -> None:
    one = with_runs()
    judge_values(one, [0.1] + [0.2] * 8 + [0.3] + [None] * 2 + [0.4] + [0.5] * 500 + [0.6])
    channel = one.channels[0]
    assert channel.longest_missing_run == 2
    assert channel.longest_equal_run == 2 * 7 + 20, "the five hundred may have been a fault"


@pytest.mark.parametrize(("longest_ms", "silent_from_ms"), [(1_000, 3_000), (1_500, 3_000), (4_000, 8_000)])
def test_silence_is_three_usual_intervals_and_twice_the_longest_gap_before(
    longest_ms: float, silent_from_ms: float
) -> None:
    one = with_runs()
    one.stream.longest_gap_ms = longest_ms
    before, at = (score(0.0, 0.5, one, elapsed_ms) for elapsed_ms in (silent_from_ms - 1, silent_from_ms))
    assert (before.score >= 1, at.score >= 1, at.furthest) == (False, True, OpenedBy.SILENT)


def test_the_usual_interval_follows_the_stream_and_one_long_gap_does_not_make_it_long() -> None:
    one = OneStream()
    for elapsed_ms in [0.0] + [1_000.0] * 400 + [3_600_000.0] + [1_000.0] * 10:
        one.stream.age += 1
        LEARNING.learn_gap(one.stream, elapsed_ms)
    assert one.stream.interval_ms == pytest.approx(1_000, rel=0.01)
    assert one.stream.longest_gap_ms == 2_000


def test_a_witness_that_opens_alarms_is_asked_for_more_and_is_forgiven_in_time() -> None:
    one = OneStream(score=ScoreConfig(opened_factor=1.5, opened_readings=100))
    for _ in range(2):
        THRESHOLDS.ask_more(one.stream, one.scratch.relation[0], OpenedBy.RANGE, one.rules.opened_factor)
    assert one.stream.range_factor == 2.25
    THRESHOLDS.ask_less(one.stream, one.scratch.relation[0], one.rules.factor_fades)
    assert one.stream.range_factor == 1 + 1.25 * 0.99
    others = [name for name in SCALARS.names if name.endswith("_factor") and name != "range_factor"]
    assert len(others) == 3
    assert {getattr(one.stream, name) for name in others} == {1.0}
