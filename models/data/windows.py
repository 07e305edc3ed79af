"""Series -> chunks for truncated back-propagation through time; split by time.

A training series is cut into lanes, each a stretch of one stream. Lanes lie side by side in a batch; the batch is
walked through chunk by chunk, and the memory at the end of a chunk is the memory at the start of the next, as in
service, while gradients stop at the border (Williams & Peng 1990). A series may be larger than memory (see spool.py):
nothing here holds more of one than a piece, or the readings of a few chunks.
Sizes: T waves of a chunk, S lanes side by side, F features.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Floats, Int64s
from models.data.series import Series
from models.data.time_units import DAY_MS

PIECE_VALUES = 4 * 1024 * 1024  # of a series at once: 32 MB
TWO_WEEKS = 13.0  # days, with what a part may lack at its ends
WHOLE_DAYS = 0.75  # of a validation part: from here on it is a whole number of days
LOADED_READINGS = 2048  # of each lane at once, about: a lane of the usual length in one go

Table = TypeVar("Table", Doubles, Floats)


class Scaled(NamedTuple):
    """A stream's training part, and its scale. R readings."""

    values: Doubles | Floats  # (R, F) in the sensor's units, NaN where missing
    times_ms: Int64s  # (R,)
    centre: Doubles = np.zeros(1)  # (F,), or one for all
    spread: Doubles = np.ones(1)
    step: Doubles = np.ones(1)  # root mean square of the differences

    def stretch(self, begin: int, end: int) -> Floats:
        """Readings begin..end, scaled."""
        return ((self.values[begin:end] - self.centre) / self.spread).astype(np.float32)

    def step_in_spreads(self, features: int) -> Floats:
        """(F,); 1 where the scale is unknown."""
        step = np.ones(features)
        np.divide(self.step, self.spread, out=step, where=np.isfinite(self.spread))
        return step.astype(np.float32)


class Lane(NamedTuple):
    """Readings begin..end of a stream; those before judge_from, or held out, are only shown to the memory."""

    series: Scaled
    begin: int
    end: int
    judge_from: int
    held_out: tuple[slice, ...] = ()  # of the stream's readings


class Chunk(NamedTuple):
    """T waves of S lanes. Where a lane has ended, `judged` is False and the values are zeros."""

    values: Tensor  # (T, S, F) float32, missing values held
    before: Tensor  # (S, F) the reading before the first wave
    step: Tensor  # (S, F) root mean square of each channel's differences, in spreads
    elapsed_s: Tensor  # (T, S)
    times_ms: Tensor  # (T, S) int64
    judged: Tensor  # (T, S, F) bool: counts in the loss


def scale_of(series: Series) -> tuple[Doubles, Doubles, Doubles]:
    """Centre, spread and step of every channel over the whole series, (F,) each.

    They are 0, infinite and infinite where nothing is known.
    """
    known = sum((np.isfinite(piece).sum(0) for piece in pieces_of(series.values)), np.zeros(1, np.int64))
    centre = _total(np.where(np.isfinite(piece), piece, 0.0) for piece in pieces_of(series.values))
    centre = centre / np.maximum(known, 1)
    squares = _total(np.where(np.isfinite(piece), (piece - centre) ** 2, 0.0) for piece in pieces_of(series.values))
    steps = _total(_squared_steps(series.values))
    floor, others = np.abs(centre) * 1e-6 + 1e-9, np.maximum(known - 1, 1)
    spread, step = (np.maximum(np.sqrt(total / others), floor) for total in (squares, steps))
    return centre, np.where(known >= 2, spread, np.inf), np.where(known >= 2, step, np.inf)


def _squared_steps(values: Doubles) -> Iterator[Doubles]:
    """Of every piece the squared differences of each value from the last one known; 0 where either is missing."""
    last = np.full(values.shape[1], np.nan)
    for piece in pieces_of(values):
        known = np.isfinite(piece)
        filled = _filled(np.concatenate([last[None], piece]), last)
        steps = piece - filled[:-1]
        yield np.where(known & np.isfinite(filled[:-1]), steps * steps, 0.0)
        last = filled[-1]


def _filled(values: Table, last: Table) -> Table:
    """Missing values replaced by the last known one; at first that is `last`."""
    index = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    known = np.maximum.accumulate(index, axis=0)
    held = np.take_along_axis(values, np.maximum(known, 0), axis=0)
    filled: Table = np.where(known >= 0, held, last)
    return filled


def pieces_of(values: Doubles) -> Iterator[Doubles]:
    """All rows of a table that may be larger than memory."""
    readings = max(1, PIECE_VALUES // values.shape[1])
    return (values[begin : begin + readings] for begin in range(0, max(1, len(values)), readings))


def _total(pieces: Iterator[Doubles]) -> Doubles:
    """The sum over all rows. The sum so far is the first row of the next piece: numpy adds row by row, so with
    several channels the bits are those of one sum over everything.
    """
    total: Doubles = next(pieces).sum(0)
    for piece in pieces:
        total = np.concatenate([total[None], piece]).sum(0)
    return total


def scaled(series: Series) -> Scaled:
    return Scaled(series.values, series.times_ms, *scale_of(series))


def split_by_time(
    series: Sequence[Scaled], validation_share: float, lane_readings: int, warm_up: int
) -> tuple[list[Lane], list[Lane]]:
    """Lanes to train on, and lanes to validate on: the last share of every stream, in whole days where it has some.

    Where that is less than a week of two weeks or more, it is days apart in the last week, other ones of each stream:
    by the last two days of a fortnight that began on a Monday no net is judged by its working days.
    """
    train, validation = [], []
    for number, one in enumerate(series):
        readings = len(one.times_ms)
        held_out = _days_apart(one.times_ms, validation_share, number)
        border = readings if held_out else _border(one.times_ms, validation_share)
        train += [
            Lane(one, begin, min(begin + lane_readings, border), begin, held_out)
            for begin in range(0, border, lane_readings)
        ]
        judged = held_out or ((slice(border, readings),) if border < readings else ())
        validation += [Lane(one, max(0, day.start - warm_up), day.stop, day.start) for day in judged]
    return train, validation


def _days_apart(times_ms: Int64s, validation_share: float, number: int) -> tuple[slice, ...]:
    """Readings of the days to validate a stream on, the latest first; none where its last share is to be taken whole.

    number: of the stream. Each begins a day earlier than the one before it.
    """
    last = int(times_ms[-1])
    span = (last - int(times_ms[0])) / DAY_MS
    days = round(span * validation_share)
    if span < TWO_WEEKS or not 1 <= days < 7:
        return ()
    back = [(number + day * 7 // days) % 7 for day in range(days)]
    edges = [[last - (day + 1) * DAY_MS, last - day * DAY_MS] for day in back]
    found = [slice(*np.searchsorted(times_ms, edge, side="right").tolist()) for edge in edges]
    return tuple(one for one in found if one.start < one.stop)


def _border(times_ms: Int64s, validation_share: float) -> int:
    """Where the validation part begins: what is learned by the time of day is judged at every time of day."""
    readings = len(times_ms)
    days = (int(times_ms[-1]) - int(times_ms[0])) / DAY_MS * validation_share
    if days < WHOLE_DAYS:
        return readings - int(readings * validation_share)
    return int(np.searchsorted(times_ms, times_ms[-1] - round(days) * DAY_MS, side="right"))


def batches(lanes: Sequence[Lane], side_by_side: int, order: Sequence[int] | None = None) -> list[list[Lane]]:
    """Lanes of similar length side by side; `order` (a permutation) decides among lanes of equal length."""
    shuffled = [lanes[n] for n in order] if order is not None else list(lanes)
    by_length = sorted(shuffled, key=lambda lane: lane.end - lane.begin, reverse=True)
    return [by_length[n : n + side_by_side] for n in range(0, len(by_length), side_by_side)]


def chunks(lanes: Sequence[Lane], chunk_readings: int) -> Iterator[Chunk]:
    """Walk through lanes side by side, the longest first among them."""
    for load in _loads(lanes, chunk_readings * max(1, LOADED_READINGS // chunk_readings)):
        for begin in range(0, len(load.values), chunk_readings):
            part = slice(begin, begin + chunk_readings)
            yield Chunk(
                load.values[part],
                load.values[begin - 1] if begin else load.before,
                load.step,
                load.elapsed_s[part],
                load.times_ms[part],
                load.judged[part],
            )


def _loads(lanes: Sequence[Lane], readings: int) -> Iterator[Chunk]:
    """The same in large chunks, each read from the series when it is needed."""
    longest = max(lane.end - lane.begin for lane in lanes)
    features = lanes[0].series.values.shape[1]
    clock = np.array([lane.series.times_ms[lane.begin] for lane in lanes])
    step = np.stack([lane.series.step_in_spreads(features) for lane in lanes])
    last = np.zeros((len(lanes), features), np.float32)
    for begin in range(0, longest, readings):
        values = np.zeros((min(readings, longest - begin), len(lanes), features), np.float32)
        judged = np.zeros(values.shape, bool)
        times = np.tile(clock, (len(values), 1))
        for s, lane in enumerate(lanes):
            start, end = lane.begin + begin, min(lane.begin + begin + readings, lane.end)
            if start >= end:
                continue
            stretch = lane.series.stretch(start, end)
            judge_from = max(0, lane.judge_from - start)
            values[: len(stretch), s] = _filled(stretch, last[s])
            judged[judge_from : len(stretch), s] = np.isfinite(stretch[judge_from:])
            for part in lane.held_out:
                judged[max(0, part.start - start) : max(0, part.stop - start), s] = False
            times[: len(stretch), s] = lane.series.times_ms[start:end]
            times[len(stretch) :, s] = lane.series.times_ms[end - 1]
        if begin == 0:
            judged[0] = False  # nothing was known before the first reading
        elapsed = np.maximum(np.diff(times, axis=0, prepend=clock[None]), 0) / 1000
        yield Chunk(*map(torch.from_numpy, (values, last if begin else values[0], step, elapsed, times, judged)))
        last, clock = values[-1], times[-1]
