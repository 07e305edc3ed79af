"""Since when what opens an alarm has lasted, as far as can be seen."""

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.detection.alarm import Change, OpenedBy
from models.detection.detector import Detector, DetectorConfig, Transition
from models.detection.scoring import ScoreConfig
from tests.data import batch_of, judge, some_forecaster

STEP_MS = 60_000


def opened(values: Doubles, config: DetectorConfig | None = None, skipped: int = 0) -> tuple[Transition, list[int]]:
    """The first alarm that opens, and the times of the readings. skipped: readings left out after 200."""
    detector = Detector.cold(some_forecaster(1), config or DetectorConfig())
    batch = batch_of(values, step_ms=STEP_MS)
    batch.readings.times_ms[200:] += skipped * STEP_MS
    judged = judge(detector, batch, detector.rows_for([b"a"]))
    assert all(one.began_ms is None for one in judged.transitions if one.change is not Change.OPENED)
    return next(one for one in judged.transitions if one.change is Change.OPENED), batch.readings.times_ms.tolist()


def noise(readings: int = 600) -> Doubles:
    return np.random.default_rng(5).normal(50, 1, (readings, 1))


def test_a_stuck_value_began_with_the_first_of_the_equal_readings() -> None:
    values = noise()
    values[300:] = values[300]
    one, times_ms = opened(values)
    assert (one.opened_by, one.began_ms) == (OpenedBy.STUCK, times_ms[300])
    assert one.opened_ms == times_ms[320]


def test_a_missing_value_began_with_the_first_reading_without_it() -> None:
    values = noise()
    values[300:] = np.nan
    one, times_ms = opened(values)
    assert (one.opened_by, one.began_ms, one.opened_ms) == (OpenedBy.MISSING, times_ms[300], times_ms[302])


def test_a_silence_began_with_the_last_reading_before_it() -> None:
    one, times_ms = opened(noise(), skipped=30)
    assert (one.opened_by, one.began_ms, one.opened_ms) == (OpenedBy.SILENT, times_ms[199], times_ms[200])


def test_one_reading_that_is_far_off_began_when_it_came() -> None:
    values = noise()
    values[300] += 40
    one, times_ms = opened(values)
    assert (one.opened_by, one.began_ms, one.opened_ms) == (OpenedBy.SUDDEN, None, times_ms[300])


@pytest.mark.parametrize("shift", [2.5, 3.0])
def test_a_level_that_is_off_began_about_when_it_left_the_usual_one(shift: float) -> None:
    """By the level alone: nothing else is asked."""
    values = np.concatenate([noise(400), noise(200) + shift])
    config = DetectorConfig(ScoreConfig(residual_weight=0.0, lowest_sudden=1e6, range_share=1e3))
    one, times_ms = opened(values, config)
    assert one.opened_by is OpenedBy.LEVEL
    assert one.began_ms is not None
    assert abs(one.began_ms - times_ms[400]) <= 15 * STEP_MS
    assert one.began_ms < one.opened_ms
