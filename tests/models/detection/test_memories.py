"""How long blocks and long memories are: counted in readings, or in minutes where a stream sends more often."""

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.alarm import AlarmConfig, Change
from models.detection.records import Scores
from models.detection.scoring import BLOCK_DIGIT, ScoreConfig
from tests.models.detection.interpreted import ALARM_STEP, LEARNING, THRESHOLDS, OneStream
from tests.models.detection.test_expectation import judged

DAY = 8_640  # readings, each 10 s


def stretched(age: float, interval_ms: float, **score: float) -> float:
    one = OneStream(score=ScoreConfig(**score))  # type: ignore[arg-type]
    one.stream.age, one.stream.interval_ms = age, interval_ms
    return float(THRESHOLDS.stretched(one.stream, one.rules))


@pytest.mark.parametrize(
    ("interval_ms", "times"), [(1.0, 4_095), (1_000.0, 60), (10_000.0, 6), (60_000.0, 1), (3_600_000.0, 1), (0.0, 1)]
)
def test_a_block_takes_as_long_as_one_of_readings_a_minute_apart(interval_ms: float, times: float) -> None:
    assert stretched(1e9, interval_ms) == times


@pytest.mark.parametrize(("age", "times"), [(100, 1), (4_096, 1), (8_192, 2), (245_760, 60), (245_761, 60)])
def test_but_no_longer_than_a_sixteenth_of_what_the_stream_is_known_for(age: float, times: float) -> None:
    assert stretched(age, 1_000.0) == times


def test_the_interval_is_a_setting() -> None:
    assert stretched(1e9, 1_000.0, memory_interval_s=0) == 1
    assert stretched(1e9, 1_000.0, memory_interval_s=5) == 5


def test_no_block_is_longer_than_its_readings_can_be_counted() -> None:
    one = OneStream()
    one.stream.age, one.stream.interval_ms = 1e12, 0.001
    readings = one.rules.block_readings * THRESHOLDS.stretched(one.stream, one.rules)
    assert readings * BLOCK_DIGIT < 1
    one.stream.blocks = 7 + (readings - 1) * BLOCK_DIGIT
    assert LEARNING.count_in_block(one.stream, 1.0, readings)
    assert int(one.stream.blocks) == 7, "until calibrate() ends it"


def test_false_alarms_are_counted_in_blocks_of_that_length() -> None:
    """One that is asked for in ten days is as rare in blocks whether they are of 256 readings or of 15,360."""
    thresholds = []
    for interval_ms in (60_000.0, 1_000.0):
        one = OneStream()
        one.stream.age, one.stream.interval_ms = 1e9, interval_ms
        one.stream.level_block_peak = one.stream.residual_block_peak = 3.0
        THRESHOLDS.calibrate(one.stream, one.relation, one.scratch, one.rules, 10.0 * DAY_MS)
        thresholds.append(float(one.stream.level_threshold))
    assert thresholds[0] == thresholds[1]


@pytest.mark.parametrize(("interval_ms", "learned"), [(60_000.0, 32), (10_000.0, 192)])
def test_of_an_alarm_half_an_hour_is_learned(interval_ms: float, learned: int) -> None:
    one = OneStream(alarm=AlarmConfig())
    one.stream.age, one.stream.interval_ms = 1e9, interval_ms
    one.stream.alarm, one.stream.days = 1.0, 90.0
    lessons, hot = 0.0, Scores(2.0, 2.0, 1.0, (0.0,) * 4, (0.0,) * 5, (0.0,) * 3, 0, 0.0)
    for reading in range(1, learned + 3):
        step = ALARM_STEP.step_alarm(
            one.stream, one.scratch, hot, float(reading), reading * interval_ms, one.rules, paused=False
        )
        lessons += step.updates_baseline
    assert lessons == learned


def loud_by_day(days: int, seed: int) -> Doubles:
    """Noise that is four times as loud from 08:00 to 18:00."""
    hour = np.arange(days * DAY) % DAY / DAY * 24
    noise = np.random.default_rng(seed).normal(size=days * DAY)
    return 50 + noise * np.where((hour >= 8) & (hour < 18), 4.0, 1.0)


@pytest.mark.slow
def test_what_is_loud_every_day_is_soon_usual_however_often_it_is_read() -> None:
    """With blocks of 256 readings, which are 43 minutes here, it was told on every day for ever."""
    days = 14
    told = np.zeros(days, int)
    for seed in range(3):
        for one in judged(loud_by_day(days, seed), step_ms=10_000).transitions:
            told[one.reading // DAY] += one.change == Change.OPENED
    assert told[0] > 0, "it is new on the first day"
    assert told[9:].sum() <= 1
