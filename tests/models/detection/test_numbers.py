"""Whatever values come, what is remembered stays numbers, and what is expected stays near what was seen.

Sizes: T readings, F channels.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.arrays import Bools, Doubles, Int64s
from models.data.series import Series
from models.detection.detector import Detector, DetectorConfig, Readings
from models.detection.priming import prime
from models.detection.rows import CALENDAR
from models.net.packing import pack
from models.training.loop import usable
from service.input.flaws import MAX_VALUE
from tests.data import some_forecaster

T, F = 2_400, 2
LARGEST_NUMBER = 8_192**4 / 2  # of four digits
WARM = 200  # readings: before them a range is hardly known
FARTHEST_RANGES = 3.0

Random = np.random.Generator


def shape_of(random: Random) -> Doubles:
    """(T,), of a scale of its own."""
    t = np.arange(T)
    noise = random.normal(size=T)
    shapes = (
        np.zeros(T),
        np.where(random.random(T) < 0.003, 1.0, 0.0),
        np.sin(t / random.uniform(2, 200)) + 0.05 * noise,
        np.cumsum(noise),
        np.cumsum(random.random(T) < 0.1).astype(np.float64),
        np.exp(2 * noise),
        np.round(0.6 * noise),
        t // random.integers(5, 400) % 2.0,
        np.where(random.random(T) < 0.002, 1e30, noise),
        noise * np.exp(8 * np.sin(t / 300)),
        np.where(t < T // 2, 5.0, 5.0 + noise),
        np.where(t < T // 2, noise, 3.0),
    )
    scale = 10 ** random.uniform(-12, 12)
    values: Doubles = scale * (shapes[random.integers(len(shapes))] + random.choice([0.0, 1.0, -1.0, 1e3]))
    return values


def hostile(random: Random) -> Doubles:
    """(T,): with missing values, stretches that repeat, and what broken sensors send."""
    values = shape_of(random)
    if random.random() < 0.4:
        values[random.random(T) < random.uniform(0, 0.5)] = np.nan
    begin = random.integers(T)
    if random.random() < 0.3:
        values[begin : begin + random.integers(1, 800)] = values[begin]
    if random.random() < 0.2:
        values[begin : begin + 40] = random.choice([65_535, -9_999, MAX_VALUE, -MAX_VALUE, 5e-324])
    return values


def times(random: Random) -> Int64s:
    """(T,) ms: steps of seconds to an hour, even or not, sometimes a year without readings."""
    step = 10 ** random.uniform(3, 6.5)
    steps = np.full(T, step) if random.random() < 0.5 else random.exponential(step, T)
    if random.random() < 0.3:
        steps[random.integers(0, T, 3)] += random.choice([3_600_000, 3 * 86_400_000, 400 * 86_400_000])
    return (1_700_000_000_000 + np.cumsum(steps)).astype(np.int64)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_rows_hold_numbers_and_expectations_stay_near_what_was_seen(seed: int, trained: bool) -> None:
    random = np.random.default_rng(seed)
    values, times_ms = np.stack([hostile(random) for _ in range(F)], axis=1), times(random)
    judged = np.arange(T) >= (T // 2 if trained else 0)
    detector = Detector.cold(some_forecaster(F), DetectorConfig())
    if trained:
        series = Series("a", Path("a.csv"), ("a", "b"), np.arange(T), times_ms, values, judged)
        detector = prime(detector.forecaster, detector.config, usable([series]))

    place = torch.zeros(int(judged.sum()), dtype=torch.int64)
    readings = Readings(torch.arange(len(place)), torch.from_numpy(times_ms[judged]), torch.from_numpy(values[judged]))
    verdicts, rows = detector.observe(readings, pack(place), detector.rows_for([b"a"]))

    assert not verdicts.score.isnan().any()
    assert not any(column.isnan().any() for column in rows)
    assert all(rows.channel(four).abs().max() <= LARGEST_NUMBER for four in CALENDAR)
    assert ranges_outside(verdicts.expected.numpy(), values, judged).max() < FARTHEST_RANGES


def ranges_outside(expected: Doubles, values: Doubles, judged: Bools) -> Doubles:
    """(T, F) of the judged: how many of the ranges seen by then an expectation lies outside of them."""
    low = np.minimum.accumulate(np.where(np.isnan(values), np.inf, values))[judged]
    high = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))[judged]
    width = np.where(high > low, high - low, np.inf)
    outside = np.fmax(low - expected, expected - high) / width
    outside[:WARM] = 0.0
    return np.nan_to_num(outside)
