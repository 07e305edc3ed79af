"""Series -> chunks for truncated back-propagation through time; split by time.

A training series is cut into lanes, each a stretch of one stream. Lanes lie side by side in a batch; the batch is
walked through chunk by chunk, and the memory at the end of a chunk is the memory at the start of the next, as in
service, while gradients stop at the border (Williams & Peng 1990).
Sizes: T waves of a chunk, S lanes side by side, F features.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.series import Series


class Scaled(NamedTuple):
    """A stream's training part, in spreads around its centre. R readings."""

    values: NDArray[np.float32]  # (R, F), NaN where missing
    times_ms: NDArray[np.int64]  # (R,)


class Lane(NamedTuple):
    """Readings begin..end of a stream; those before judge_from only warm the memory up."""

    series: Scaled
    begin: int
    end: int
    judge_from: int


class Chunk(NamedTuple):
    """T waves of S lanes. Where a lane has ended, `judged` is False and the values are zeros."""

    values: Tensor  # (T, S, F) float32, missing values held
    before: Tensor  # (S, F) the reading before the first wave
    elapsed_s: Tensor  # (T, S)
    times_ms: Tensor  # (T, S) int64
    judged: Tensor  # (T, S, F) bool: counts in the loss


def scale_of(series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and spread of every channel over the whole series, (F,) each; 0 and infinite where nothing is known."""
    known = np.isfinite(series.values).sum(0)
    safe = np.where(np.isfinite(series.values), series.values, 0.0)
    centre = safe.sum(0) / np.maximum(known, 1)
    squares = np.where(np.isfinite(series.values), (series.values - centre) ** 2, 0.0).sum(0)
    spread = np.maximum(np.sqrt(squares / np.maximum(known - 1, 1)), np.abs(centre) * 1e-6 + 1e-9)
    return centre, np.where(known >= 2, spread, np.inf)


def scaled(series: Series) -> Scaled:
    centre, spread = scale_of(series)
    return Scaled(((series.values - centre) / spread).astype(np.float32), series.times_ms)


def split_by_time(
    series: Sequence[Scaled], validation_share: float, lane_readings: int, warm_up: int
) -> tuple[list[Lane], list[Lane]]:
    """Lanes to train on, and lanes to validate on: the last share of every stream."""
    train, validation = [], []
    for one in series:
        readings = len(one.times_ms)
        border = readings - int(readings * validation_share)
        train += [
            Lane(one, begin, min(begin + lane_readings, border), begin) for begin in range(0, border, lane_readings)
        ]
        if border < readings:
            validation.append(Lane(one, max(0, border - warm_up), readings, border))
    return train, validation


def batches(lanes: Sequence[Lane], side_by_side: int, order: Sequence[int] | None = None) -> list[list[Lane]]:
    """Lanes of similar length side by side; `order` (a permutation) decides who meets whom among equals."""
    shuffled = [lanes[n] for n in order] if order is not None else list(lanes)
    by_length = sorted(shuffled, key=lambda lane: lane.end - lane.begin, reverse=True)
    return [by_length[n : n + side_by_side] for n in range(0, len(by_length), side_by_side)]


def chunks(lanes: Sequence[Lane], chunk_readings: int) -> Iterator[Chunk]:
    """Walk through lanes side by side, the longest first among them."""
    longest = max(lane.end - lane.begin for lane in lanes)
    features = lanes[0].series.values.shape[1]
    values = np.zeros((longest, len(lanes), features), np.float32)
    judged = np.zeros(values.shape, bool)
    times = np.zeros((longest, len(lanes)), np.int64)
    for s, lane in enumerate(lanes):
        stretch = lane.series.values[lane.begin : lane.end]
        values[: len(stretch), s] = _held(stretch)
        judged[lane.judge_from - lane.begin : len(stretch), s] = np.isfinite(stretch[lane.judge_from - lane.begin :])
        times[: len(stretch), s] = lane.series.times_ms[lane.begin : lane.end]
        times[len(stretch) :, s] = lane.series.times_ms[lane.end - 1]
    judged[0] = False  # nothing was known before the first reading
    elapsed = np.maximum(np.diff(times, axis=0, prepend=times[:1]), 0) / 1000
    before = values[0]
    for begin in range(0, longest, chunk_readings):
        part = slice(begin, begin + chunk_readings)
        yield Chunk(
            torch.from_numpy(values[part]),
            torch.from_numpy(before),
            torch.from_numpy(elapsed[part]),
            torch.from_numpy(times[part]),
            torch.from_numpy(judged[part]),
        )
        before = values[part][-1]


def _held(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Missing values replaced by the last known one, or 0."""
    index = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    last = np.maximum.accumulate(index, axis=0)
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, held, 0).astype(np.float32)
