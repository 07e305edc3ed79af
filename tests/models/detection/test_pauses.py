"""Readings of which nothing is to be learned: they are judged as any other, and what is remembered stays."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from models.data.arrays import Doubles
from models.data.quiet_time import NEVER, NOW
from models.detection.alarm import AlarmConfig, Change, OpenedBy
from models.detection.detector import NO_PAUSES, Detector, DetectorConfig, Transition, Verdicts
from models.detection.pauses import OF_CHANNELS, OF_STREAM
from models.detection.rows import CHANNELS, LARGEST_RESIDUAL, RELATION_LASTING, SCALARS, Rows
from models.net.packing import pack
from tests.data import Batch, batch_of, some_forecaster, some_kinds
from tests.models.detection.interpreted import without_compiler
from tests.models.detection.test_judge import bits, eventful

MINUTE_MS, HOUR = 60_000, 60
BEGIN, END = 140, 250  # of a pause: after the warm-up, before the scale is derived again


def paused_between(batch: Batch, begin: int, end: int) -> Doubles:
    """From reading `begin` to before reading `end`."""
    number = np.arange(len(batch.streams))
    ends_ms = float(batch.readings.times_ms[end - 1]) + 1
    return np.where(number < begin, NEVER, np.where(number < end, NOW, ends_ms))


def judge(
    detector: Detector, batch: Batch, paused_until: Doubles = NO_PAUSES, borders: Sequence[int] = ()
) -> tuple[list[Verdicts], Rows]:
    """Of one stream, cut into batches at `borders`; the row after it."""
    rows, found = detector.rows_for([b"pump"]), []
    for begin, end in pairwise([0, *borders, len(batch.streams)]):
        some = batch.part(torch.arange(begin, end))
        of_some = paused_until[begin:end] if len(paused_until) else NO_PAUSES
        found.append(detector.observe_in_place(some.readings, pack(some.streams), rows, paused_until=of_some))
    return found, rows


def transitions(values: Doubles, begin: int, end: int, detector: Detector | None = None) -> tuple[Transition, ...]:
    """Of a stream that pauses from reading `begin` to `end`; the same index: it does not."""
    batch = batch_of(values)
    pauses = paused_between(batch, begin, end) if begin < end else NO_PAUSES
    (verdicts,), _ = judge(detector or Detector.cold(some_forecaster(1)), batch, pauses)
    return verdicts.transitions


def noise(readings: int, seed: int = 0) -> Doubles:
    return np.random.default_rng(seed).normal(50.0, 1.0, readings)


@pytest.mark.parametrize("features", [1, 3])
def test_of_a_pause_only_what_is_about_now_is_remembered(features: int) -> None:
    detector, batch = Detector.cold(some_forecaster(features)), eventful(features)
    within_a_quarter = batch.readings._replace(times_ms=batch.readings.times_ms // 60)
    batch = batch._replace(readings=within_a_quarter).part(torch.arange(END))
    _, before = judge(detector, batch.part(torch.arange(BEGIN)))
    (verdicts,), after = judge(detector, batch, paused_between(batch, BEGIN, END))
    _, taught = judge(detector, batch)
    assert any(one.reading >= BEGIN for one in verdicts.transitions), "it is judged"
    assert not torch.equal(after.hidden, before.hidden), "and the net sees it"
    assert after.scalar("age")[0] == END
    for name in set(CHANNELS.names) - {*OF_CHANNELS}:
        assert torch.equal(after.channel(name), before.channel(name)), name
    for name in set(SCALARS.names) - {*OF_STREAM}:
        assert torch.equal(after.scalar(name), before.scalar(name)), name
    stays = [r for r in range(before.relation.shape[1]) if r not in (RELATION_LASTING, LARGEST_RESIDUAL)]
    assert torch.equal(after.relation[:, stays], before.relation[:, stays])
    assert torch.equal(after.relation_statistics, before.relation_statistics)
    assert not torch.equal(taught.channel("mean"), before.channel("mean")), "as it would without a pause"


def test_wherever_batches_end_a_pause_has_the_same_bits() -> None:
    detector = Detector.cold(some_forecaster(3)).with_kinds(some_kinds())
    batch = eventful(3)
    pauses = paused_between(batch, 180, 520)
    (whole,), row = judge(detector, batch, pauses)
    pieces, same = judge(detector, batch, pauses, [1, 179, 181, 256, 333, 519, 521, 640])
    assert bits(torch.cat([one.score for one in pieces])) == bits(whole.score)
    assert all(bits(a) == bits(b) for a, b in zip(row, same, strict=True))
    with without_compiler():
        (interpreted,), other = judge(detector, batch, pauses)
    assert interpreted.transitions == whole.transitions
    assert all(bits(a) == bits(b) for a, b in zip(row, other, strict=True))


def test_a_fault_like_what_was_seen_in_a_pause_is_found_after_it() -> None:
    """On seven days the plant is tested for twelve hours, on and off; later it stops for half an hour."""
    days, fails_at = 9, 8 * 24 * HOUR + 20 * HOUR
    values = noise(days * 24 * HOUR)
    pauses = [(day * 24 * HOUR + 2 * HOUR, day * 24 * HOUR + 14 * HOUR) for day in range(1, 8)]
    for begin, end in pauses:
        values[begin:end] -= 20 * (np.arange(end - begin) // 5 % 2)
    values[fails_at : fails_at + 30] -= 20
    batch = batch_of(values)
    until = np.full(len(values), NEVER)
    for begin, end in pauses:
        until[begin:end], until[end:] = NOW, float(batch.readings.times_ms[end - 1]) + 1

    def opened_at(pauses: Doubles) -> set[int]:
        (verdicts,), _ = judge(Detector.cold(some_forecaster(1)), batch, pauses)
        return {one.reading for one in verdicts.transitions if one.change is Change.OPENED}

    assert fails_at in opened_at(until)
    assert fails_at not in opened_at(NO_PAUSES)


def test_an_alarm_that_lasts_through_a_pause_is_not_the_new_normal() -> None:
    detector = Detector.cold(
        some_forecaster(1), DetectorConfig(alarm=AlarmConfig(adopt_after=128, adopt_days=0.0, learn_first=0))
    )
    values = noise(700)
    values[300:600] += 20 * (np.arange(300) % 2)
    assert Change.LEVEL_SHIFT in [one.change for one in transitions(values, 0, 0, detector)]
    changes = [one.change for one in transitions(values, 310, 590, detector)]
    assert Change.LEVEL_SHIFT not in changes
    assert changes.count(Change.RECOVERED) == changes.count(Change.OPENED) == 1


def test_the_time_without_readings_in_a_pause_is_no_usual_gap() -> None:
    """Also where the first reading comes after its end."""
    detector, batch = Detector.cold(some_forecaster(1)), batch_of(noise(400))
    times_ms = batch.readings.times_ms.clone()
    times_ms[200:] += 4 * HOUR * MINUTE_MS
    batch = batch._replace(readings=batch.readings._replace(times_ms=times_ms))
    ends_ms = float(times_ms[200]) - 5 * MINUTE_MS
    _, row = judge(detector, batch, np.where(np.arange(400) < 200, NEVER, ends_ms))
    assert row.scalar("longest_gap_ms")[0] == MINUTE_MS
    _, row = judge(detector, batch)
    assert row.scalar("longest_gap_ms")[0] > MINUTE_MS


def test_a_stream_that_warms_up_learns_in_a_pause_too() -> None:
    detector, batch = Detector.cold(some_forecaster(1)), batch_of(noise(300))
    _, row = judge(detector, batch, np.full(300, NOW))
    assert row.channel("known")[0, 0] == detector.config.score.warm_up


def test_what_opened_an_alarm_of_silence_in_a_pause_ends_with_its_first_reading() -> None:
    detector = Detector.cold(some_forecaster(1))
    batch = batch_of(noise(300))
    rows = detector.rows_for([b"pump"])
    some = batch.part(torch.arange(200))
    detector.observe_in_place(some.readings, pack(some.streams), rows)
    detector.open_silent(rows, torch.tensor([0]), torch.tensor([2e8], dtype=torch.float64), 200)
    rest = batch.part(torch.arange(200, 300))
    verdicts = detector.observe_in_place(rest.readings, pack(rest.streams), rows, paused_until=np.full(100, NOW))
    assert [(one.reading, one.change, one.opened_by) for one in verdicts.transitions] == [
        (0, Change.RECOVERED, OpenedBy.SILENT)
    ]
