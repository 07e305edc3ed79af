import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.data import windows
from models.data.series import Series
from models.data.time_units import DAY_MS
from models.data.windows import Chunk, Lane, Scaled, batches, chunks, scale_of, scaled, split_by_time
from tests.data import some_forecaster


def series(values: NDArray[np.float64], step_ms: int = 60_000) -> Series:
    readings, features = values.shape
    names = tuple(f"f{n}" for n in range(features))
    times = np.arange(readings) * step_ms
    return Series("s", Path("s.csv"), names, np.arange(readings), times, values, np.zeros(readings, bool))


def stretch(readings: int, features: int = 1, seed: int = 0) -> Scaled:
    values = np.random.default_rng(seed).normal(size=(readings, features)).astype(np.float32)
    return Scaled(values, 10**12 + np.cumsum(np.random.default_rng(seed).integers(1, 90_000, readings)))


def whole(one: Scaled, judge_from: int = 0) -> Lane:
    return Lane(one, 0, len(one.times_ms), judge_from)


def joined(pieces: list[Chunk]) -> Chunk:
    first, *_ = pieces
    values, elapsed_s, times_ms, judged = (
        torch.cat([getattr(piece, name) for piece in pieces]) for name in ("values", "elapsed_s", "times_ms", "judged")
    )
    return Chunk(values, first.before, first.step, elapsed_s, times_ms, judged)


def test_a_series_is_scaled_by_its_own_mean_and_deviation() -> None:
    values = np.random.default_rng(1).normal((5, -300), (2, 40), (400, 2))
    values[7, 0] = values[9, 1] = np.nan
    centre, spread, _ = scale_of(series(values))
    np.testing.assert_allclose(centre, np.nanmean(values, axis=0))
    np.testing.assert_allclose(spread, np.nanstd(values, axis=0, ddof=1))
    found = scaled(series(values)).stretch(0, 400)
    np.testing.assert_allclose(found, (values - centre) / spread, rtol=1e-5, atol=1e-6)
    assert np.isnan(found[7, 0])


def test_a_channel_that_never_moves_or_never_comes_is_zeros_or_missing() -> None:
    values = np.stack([np.full(50, 7.0), np.full(50, np.nan), np.arange(50.0)], axis=1)
    values[3, 1] = 2.0
    centre, spread, step = scale_of(series(values))
    assert centre[:2].tolist() == [7.0, 2.0]
    assert spread[0] == pytest.approx(7e-6, rel=1e-2)
    assert spread[1] == step[1] == math.inf
    assert step[0] == spread[0]
    assert step[2] == pytest.approx(1.0)
    found = scaled(series(values)).stretch(0, 50)
    assert not found[:, 0].any()
    assert found[3, 1] == 0
    assert np.isfinite(found[:, 2]).all()


@settings(max_examples=80, deadline=None)
@given(
    readings=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    share=st.floats(0, 0.5),
    lane_readings=st.integers(1, 100),
    warm_up=st.integers(0, 50),
)
def test_lanes_judge_every_reading_once_and_the_last_share_is_for_validation(
    readings: list[int], share: float, lane_readings: int, warm_up: int
) -> None:
    all_series = [stretch(n) for n in readings]
    train, validation = split_by_time(all_series, share, lane_readings, warm_up)
    for one in all_series:
        mine = [[lane for lane in lanes if lane.series is one] for lanes in (train, validation)]
        judged = [n for lanes in mine for lane in lanes for n in range(lane.judge_from, lane.end)]
        count = len(one.times_ms)
        assert judged == list(range(count))
        border = count - int(count * share)
        assert all(lane.end <= border for lane in mine[0]), "nothing to validate on is trained on"
        assert [lane.judge_from for lane in mine[1]] == ([border] if border < count else [])
        assert all(lane.begin == max(0, border - warm_up) for lane in mine[1])
        assert all(lane.end - lane.begin <= lane_readings for lane in mine[0])


def hourly(days: int) -> Scaled:
    """From a Monday at 00:00 on."""
    return Scaled(np.zeros((24 * days, 1), np.float32), 4 * DAY_MS + np.arange(24 * days) * 3_600_000)


def judged_readings(one: Scaled, lanes: list[Lane]) -> list[int]:
    mine = [lane for lane in lanes if lane.series is one]
    held_out = {n for lane in mine for part in lane.held_out for n in range(part.start, part.stop)}
    return [n for lane in mine for n in range(lane.judge_from, lane.end) if n not in held_out]


def test_of_a_fortnight_every_day_of_the_week_is_validated_on_in_some_stream() -> None:
    """The last two days alone would be a weekend, by which no net is judged that learned the working days."""
    streams = [hourly(14) for _ in range(7)]
    train, validation = split_by_time(streams, 0.15, 100, 24)
    days = []
    for one in streams:
        judged = judged_readings(one, validation)
        assert len(judged) == 48
        assert min(judged) >= 7 * 24, "in the last week: the first one is learned from"
        assert sorted(judged + judged_readings(one, train)) == list(range(14 * 24))
        days.append({n // 24 % 7 for n in judged})
        assert len(days[-1]) == 2
    assert set.union(*days) == set(range(7))
    assert all(days.count(one) <= 2 for one in days)


@pytest.mark.parametrize(("days", "held"), [(12, 2), (60, 9)])
def test_the_last_days_are_validated_on_where_they_are_a_week_or_there_is_no_other(days: int, held: int) -> None:
    one = hourly(days)
    train, validation = split_by_time([one], 0.15, 2_000, 24)
    assert judged_readings(one, validation) == list(range((days - held) * 24, days * 24))
    assert judged_readings(one, train) == list(range((days - held) * 24))


def test_what_is_held_out_is_shown_but_not_judged_in_whichever_load_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "LOADED_READINGS", 16)
    one = stretch(100)
    found = joined(list(chunks([Lane(one, 0, 100, 0, (slice(10, 40), slice(90, 100)))], 8)))
    np.testing.assert_array_equal(found.values[:, 0], one.values)
    assert np.flatnonzero(found.judged[:, 0, 0]).tolist() == [*range(1, 10), *range(40, 90)]


def test_lanes_of_similar_length_lie_side_by_side() -> None:
    lanes = [whole(stretch(n)) for n in (5, 100, 7, 90, 6, 95)]
    lengths = [[lane.end for lane in group] for group in batches(lanes, 2)]
    assert lengths == [[100, 95], [90, 7], [6, 5]]
    assert [[lane.end for lane in group] for group in batches(lanes, 4)] == [[100, 95, 90, 7], [6, 5]]


def test_an_order_decides_who_meets_whom_among_equals() -> None:
    lanes = [whole(stretch(10), judge_from=n) for n in range(6)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 0, 4, 1, 3, 2]):
        met = [[lane.judge_from for lane in group] for group in batches(lanes, 2, order)]
        assert met == [order[:2], order[2:4], order[4:]]


@settings(max_examples=40, deadline=None)
@given(readings=st.lists(st.integers(1, 60), min_size=1, max_size=5), chunk_readings=st.integers(1, 70))
def test_chunks_joined_are_the_lanes_and_nothing_after_their_ends_is_judged(
    readings: list[int], chunk_readings: int
) -> None:
    lanes = [whole(stretch(n, features=2, seed=n)) for n in sorted(readings, reverse=True)]
    pieces = list(chunks(lanes, chunk_readings))
    assert all(len(piece.values) == chunk_readings for piece in pieces[:-1])
    found = joined(pieces)
    for s, lane in enumerate(lanes):
        n = lane.end
        np.testing.assert_array_equal(found.values[:n, s], lane.series.values)
        np.testing.assert_array_equal(found.times_ms[:n, s], lane.series.times_ms)
        np.testing.assert_allclose(found.elapsed_s[1:n, s], np.diff(lane.series.times_ms) / 1_000)
        assert found.judged[1:n, s].all()
        assert not found.judged[0, s].any(), "before the first reading nothing was known"
        assert not found.judged[n:, s].any()
        assert not found.values[n:, s].any()
        assert not found.elapsed_s[n:, s].any()


def test_each_chunk_knows_the_reading_before_it() -> None:
    lanes = [whole(stretch(50, seed=1)), whole(stretch(50, seed=2))]
    pieces = list(chunks(lanes, 16))
    assert torch.equal(pieces[0].before, pieces[0].values[0])
    for before, after in pairwise(pieces):
        assert torch.equal(after.before, before.values[-1])


def test_missing_values_are_held_and_not_judged() -> None:
    one = stretch(30, features=2)
    one.values[[0, 1, 5, 6, 29], 0] = np.nan
    (chunk,) = chunks([whole(one)], 100)
    values, judged = chunk.values[:, 0].numpy(), chunk.judged[:, 0].numpy()
    assert values[:2, 0].tolist() == [0, 0], "nothing is known yet"
    assert values[5, 0] == values[6, 0] == one.values[4, 0]
    assert values[29, 0] == one.values[28, 0]
    assert np.flatnonzero(~judged[:, 0]).tolist() == [0, 1, 5, 6, 29]
    assert np.flatnonzero(~judged[:, 1]).tolist() == [0]


def test_what_only_warms_the_memory_up_is_not_judged() -> None:
    (chunk,) = chunks([Lane(stretch(100), 40, 100, 70)], 100)
    assert len(chunk.values) == 60
    assert chunk.judged[:, 0, 0].tolist() == [False] * 30 + [True] * 30


def test_time_that_goes_back_is_no_time() -> None:
    one = stretch(5)
    one.times_ms[:] = [10_000, 12_000, 11_000, 11_000, 14_000]
    (chunk,) = chunks([whole(one)], 10)
    assert chunk.elapsed_s[:, 0].tolist() == [0, 2, 0, 0, 3]


@pytest.mark.parametrize("chunk_readings", [1, 13, 64])
def test_walking_chunk_by_chunk_is_one_long_pass(chunk_readings: int) -> None:
    forecaster = some_forecaster(2, layers=1)
    lanes = [whole(stretch(n, features=2, seed=n)) for n in (150, 150, 97, 20)]

    def walk(length: int) -> torch.Tensor:
        state, outputs = forecaster.fresh(len(lanes)), []
        for chunk in chunks(lanes, length):
            inputs = forecaster.inputs(*chunk[:5])
            memory, state = forecaster.observe(inputs, state)
            outputs.append(memory)
        return torch.cat(outputs)

    with torch.inference_mode():
        assert torch.equal(walk(chunk_readings), walk(1_000))


def all_at_once(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Centre, spread and step as they are defined, from all of a series in memory."""
    known = np.isfinite(values).sum(0)
    centre = np.where(np.isfinite(values), values, 0.0).sum(0) / np.maximum(known, 1)
    squares = np.where(np.isfinite(values), (values - centre) ** 2, 0.0).sum(0)
    last_known = pl.DataFrame(values).fill_nan(None).fill_null(strategy="forward").fill_null(np.nan).to_numpy()
    steps = values - np.concatenate([np.full((1, values.shape[1]), np.nan), last_known[:-1]])
    moved = np.where(np.isfinite(steps), steps * steps, 0.0).sum(0)
    floor, others = np.abs(centre) * 1e-6 + 1e-9, np.maximum(known - 1, 1)
    spread, step = (np.maximum(np.sqrt(total / others), floor) for total in (squares, moved))
    return centre, *(np.where(known >= 2, one, np.inf) for one in (spread, step))


@pytest.mark.parametrize("features", [2, 3, 19])
@pytest.mark.parametrize("piece_readings", [1, 7, 256, 1_000, 5_000])
def test_the_scale_has_the_same_bits_in_pieces_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch, features: int, piece_readings: int
) -> None:
    values = np.random.default_rng(features).lognormal(3, 2, (3_001, features))
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    monkeypatch.setattr(windows, "PIECE_VALUES", piece_readings * features)
    for found, expected in zip(scale_of(series(values)), all_at_once(values), strict=True):
        assert np.array_equal(found, expected)


def test_one_channel_has_the_same_scale_in_pieces_but_for_the_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy adds a single column pair by pair, not row by row."""
    values = np.random.default_rng(1).lognormal(3, 2, (100_001, 1))
    for found, expected in zip(scale_of(series(values)), all_at_once(values), strict=True):
        assert np.array_equal(found, expected), "all of it is one piece"
    monkeypatch.setattr(windows, "PIECE_VALUES", 999)
    for found, expected in zip(scale_of(series(values)), all_at_once(values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@settings(max_examples=40, deadline=None)
@given(
    readings=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    chunk_readings=st.integers(1, 40),
    loaded=st.integers(1, 100),
)
def test_how_many_readings_are_loaded_at_once_changes_nothing(
    readings: list[int], chunk_readings: int, loaded: int
) -> None:
    lanes = [Lane(stretch(n + 3, features=2, seed=n), 3, n + 3, 3 + n // 2) for n in sorted(readings, reverse=True)]
    for lane in lanes:
        lane.series.values[np.random.default_rng(1).random(lane.series.values.shape) < 0.3] = np.nan
    expected = list(chunks(lanes, chunk_readings))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(windows, "LOADED_READINGS", loaded)
        found = list(chunks(lanes, chunk_readings))
    for one, other in zip(found, expected, strict=True):
        for column, same in zip(one, other, strict=True):
            assert torch.equal(column, same)
