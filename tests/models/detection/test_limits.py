"""Which deviations raise alarms: their direction, and how far off they must be at least."""

import numpy as np
import pytest
import torch

from models.data.arrays import Doubles
from models.data.families import series_of
from models.detection.alarm import Change, OpenedBy
from models.detection.detector import Detector
from models.detection.judging import judge_series
from models.detection.priming import prime
from models.detection.records import Limits
from models.detection.rows import CHANNELS, SCALARS
from models.detection.sensor_rules import Direction, SensorRule, SensorRules
from models.evaluation.evaluation import backtest
from models.net.packing import pack
from tests.data import Judged, batch_of, judge, some_forecaster, some_kinds
from tests.models.detection.interpreted import without_compiler
from tests.models.detection.test_judge import bits, eventful

READINGS = 3_000
AT = 2_000
LEVEL, NOISE = 50.0, 1.0


def calm(features: int = 1, seed: int = 0) -> Doubles:
    return np.random.default_rng(seed).normal(LEVEL, NOISE, (READINGS, features))


def with_step(height: float, length: int, values: Doubles | None = None) -> Doubles:
    values = calm() if values is None else values.copy()
    values[AT : AT + length, 0] += height
    return values


def judged(values: Doubles, *rules: SensorRule) -> Judged:
    names = tuple(f"f{n}" for n in range(values.shape[1]))
    limits = SensorRules(rules, names).limits([b"pump"])
    detector = Detector.cold(some_forecaster(values.shape[1])).limited(limits)
    return judge(detector, batch_of(values), detector.rows_for([b"pump"]))


def opened(values: Doubles, *rules: SensorRule) -> list[int]:
    """The readings at which alarms open."""
    found = judged(values, *rules).alarm
    return (found[1:] & ~found[:-1]).nonzero().squeeze(1).add(1).tolist()


@pytest.mark.parametrize("length", [1, 12, 300])
@pytest.mark.parametrize("sign", [1, -1])
def test_only_what_is_off_in_the_direction_that_is_asked_for_raises_an_alarm(sign: int, length: int) -> None:
    values = with_step(sign * 20 * NOISE, length)
    wanted, other = (Direction.UP, Direction.DOWN) if sign > 0 else (Direction.DOWN, Direction.UP)
    assert opened(values)[0] == AT
    assert opened(values, SensorRule(direction=Direction.BOTH)) == opened(values)
    assert opened(values, SensorRule(direction=wanted))[0] == AT
    assert opened(values, SensorRule(direction=other)) == [], "neither the fault nor its end"


def test_drops_that_no_one_asks_for_do_not_hide_a_rise() -> None:
    values = calm()
    values[200:AT:90] -= 25 * NOISE
    values[AT] += 9 * NOISE
    assert AT not in opened(values)
    assert opened(values, SensorRule(direction=Direction.UP)) == [AT]


@pytest.mark.parametrize("length", [1, 400])
@pytest.mark.parametrize("relative", [False, True])
def test_what_is_nearer_than_the_least_deviation_raises_no_alarm(length: int, *, relative: bool) -> None:
    def rule(deviation: float) -> SensorRule:
        if relative:
            return SensorRule(minimum_relative_deviation=deviation / LEVEL)
        return SensorRule(minimum_deviation=deviation)

    values = with_step(12.0, length)
    assert opened(values)[0] == AT
    assert opened(values, rule(8.0))[0] == AT
    assert opened(values, rule(17.0)) == []


def test_both_least_deviations_must_be_exceeded() -> None:
    values = with_step(12.0, 1)
    near, far = SensorRule(minimum_deviation=8.0), SensorRule(minimum_relative_deviation=17.0 / LEVEL)
    assert opened(values, near) == [AT]
    assert opened(values, near, far) == opened(values, far) == []


def test_what_does_not_count_is_learned_from_all_the_same() -> None:
    limits = SensorRule(minimum_deviation=1e6, direction=Direction.UP)
    found, expected = judged(calm(), limits).rows, judged(calm()).rows
    assert found.channel("sudden_peak_mean") < expected.channel("sudden_peak_mean"), "nothing counts"
    of_peaks = ("_peak", "_peak_mean", "_peak_variance", "_threshold")
    for name in SCALARS.names:
        if not name.endswith(of_peaks) and not name.startswith("told_"):
            assert torch.equal(found.scalar(name), expected.scalar(name)), name
    for name in CHANNELS.names:
        if not name.endswith(of_peaks):
            assert torch.equal(found.channel(name), expected.channel(name)), name


@pytest.mark.slow
def test_each_direction_has_about_half_of_the_false_alarms_of_both() -> None:
    streams = [series_of(f"s{n}", ("f0",), np.arange(READINGS) * 60_000, calm(seed=n)[:, 0]) for n in range(100)]
    detector = Detector.cold(some_forecaster(1))

    def alarms(*directions: Direction) -> int:
        sensors = SensorRules([SensorRule(direction=one) for one in directions], ("f0",))
        verdicts = judge_series(detector, streams, detector.rows_for([b"new"] * len(streams)), sensors=sensors)
        return sum(one.change == Change.OPENED for one in verdicts.transitions)

    both = alarms()
    assert both > 10
    assert 0.3 * both < alarms(Direction.UP) < 0.8 * both
    assert 0.3 * both < alarms(Direction.DOWN) < 0.8 * both


def test_a_channel_is_limited_by_itself() -> None:
    values = with_step(20.0, 60, calm(3))
    on_the_first, on_another = (SensorRule(channels=(name,), minimum_deviation=1e6) for name in ("f0", "f1"))
    assert opened(values, on_the_first) == []
    assert opened(values, on_another)[0] == AT
    (transition, *_) = judged(values, on_another).transitions
    assert transition.share[0] == max(transition.share)
    assert transition.share[1] == 0


def test_stuck_and_missing_values_are_told_whatever_the_limits() -> None:
    limits = SensorRule(direction=Direction.UP, minimum_deviation=1e6)
    stuck, missing = calm(), calm()
    stuck[AT:] = stuck[AT]
    missing[AT : AT + 30] = np.nan
    assert [one.opened_by for one in judged(stuck, limits).transitions][:1] == [OpenedBy.STUCK]
    assert [one.opened_by for one in judged(missing, limits).transitions][:1] == [OpenedBy.MISSING]


@pytest.mark.slow
@pytest.mark.parametrize("features", [1, 3])
def test_compiled_and_interpreted_have_the_same_bits_with_limits(features: int) -> None:
    names = tuple(f"f{n}" for n in range(features))
    rules = [
        SensorRule(channels=("f0",), direction=Direction.DOWN),
        SensorRule(minimum_deviation=2.0, time_zone="America/New_York"),
    ]
    detector = Detector.cold(some_forecaster(features)).with_kinds(some_kinds())
    detector, batch = detector.limited(SensorRules(rules, names).limits([b"a"])), eventful(features)

    def found() -> Judged:
        return judge(detector, batch, detector.rows_for([b"alone"]), [100, 333])

    compiled = found()
    with without_compiler():
        interpreted = found()
    assert compiled.transitions
    assert compiled.transitions == interpreted.transitions
    for column, expected in zip((compiled.score, *compiled.rows), (interpreted.score, *interpreted.rows), strict=True):
        assert bits(column) == bits(expected)


def test_streams_of_a_batch_have_each_its_own_limits() -> None:
    """Also where some readings are not judged, so that streams are packed once more."""
    rules = SensorRules([SensorRule("b*", minimum_deviation=1e6), SensorRule("c*", direction=Direction.DOWN)], ("f0",))
    keys, values = [b"a", b"b", b"c"], with_step(20.0, 1)
    one = batch_of(values)
    streams = torch.arange(3).repeat(READINGS)
    readings = one.readings._replace(
        offsets=torch.arange(3 * READINGS),
        times_ms=one.readings.times_ms.repeat_interleave(3),
        values=one.readings.values.repeat_interleave(3, dim=0),
    )
    readings.times_ms[3 * 100 : 3 * 100 + 3] = readings.times_ms[3 * 99]  # the same time and other values are judged
    readings.values[3 * 100 + 1] = readings.values[3 * 99 + 1]  # the same reading again is not
    detector = Detector.cold(some_forecaster(1))
    waves = pack(streams)
    limits = rules.limits([keys[slot] for slot in waves.slots.tolist()])
    verdicts, _ = detector.observe(readings, waves, detector.rows_for(keys).take(waves.slots), limits)
    assert verdicts.fate.duplicate.sum() == 1
    assert sorted({transition.reading % 3 for transition in verdicts.transitions}) == [0]
    assert rules.limits(keys) is not None
    assert SensorRules([SensorRule(unit="bar")], ("f0",)).limits(keys) is None


def test_series_are_judged_and_streams_primed_with_the_limits() -> None:
    values = with_step(12.0, 1)
    sensors = SensorRules([SensorRule(minimum_deviation=17.0)], ("f0",))
    one = series_of("pump", ("f0",), np.arange(READINGS) * 60_000, values[:, 0])
    for rules, alarms in ((None, 1), (sensors, 0)):
        detector = Detector.cold(some_forecaster(1))
        verdicts = judge_series(detector, [one], detector.rows_for([b"pump"]), sensors=rules)
        assert len(np.flatnonzero(np.diff(verdicts.alarm.numpy().astype(int)) > 0)) == alarms
        (tested,) = backtest(detector, [one], rules)
        assert bool(tested.alarm.any()) is bool(alarms)
    up = SensorRules([SensorRule(direction=Direction.UP)], ("f0",))
    plain, limited = (
        prime(some_forecaster(1), Detector.cold(some_forecaster(1)).config, [one], rules) for rules in (None, up)
    )
    assert not torch.equal(plain.known_rows.scalars, limited.known_rows.scalars)


@pytest.mark.slow
def test_the_fewer_false_alarms_are_asked_for_the_fewer_are_raised() -> None:
    streams = [series_of(f"s{n}", ("f0",), np.arange(READINGS) * 3_600_000, calm(seed=n)[:, 0]) for n in range(40)]
    detector = Detector.cold(some_forecaster(1))
    opened_in = []
    for days in (25, 400):  # of 125 days each
        sensors = SensorRules([SensorRule(false_alarm_ms=days * 86_400_000.0)], ("f0",))
        verdicts = judge_series(detector, streams, detector.rows_for([b"new"] * len(streams)), sensors=sensors)
        opened_in.append(sum(one.change == Change.OPENED for one in verdicts.transitions))
    assert 80 < opened_in[0] < 600, "some 200 are asked for"
    assert opened_in[1] < opened_in[0] / 4


def test_false_alarms_are_those_of_the_first_rule_that_says_them() -> None:
    rules = SensorRules(
        [SensorRule("a*", false_alarm_ms=0.0), SensorRule("b*", false_alarm_ms=5.0), SensorRule(false_alarm_ms=7.0)],
        ("f0",),
    )
    found = rules.limits([b"a", b"b", b"c", b"a2"])
    assert found is not None
    assert found.false_alarm_ms[found.sets].tolist() == [0, 5, 7, 0]


def test_without_limits_there_is_one_set_that_limits_nothing() -> None:
    none = Limits.none(4, 2)
    assert none.channels.tolist() == [[[1.0, 1.0, 0.0, 0.0]] * 2]
    assert none.sets.tolist() == [0] * 4
    assert (none.clock_changes.shape, none.clock_offsets.tolist()) == ((1, 0), [[0]])
