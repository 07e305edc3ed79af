"""The order in which a recurrent net may see many streams.

A batch holds N readings of S streams in offset order. A net steps a stream's readings one after another, but all
streams at once: wave k is the k-th reading of every stream that has one.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Int64s = NDArray[np.int64]


class WaveRun(NamedTuple):
    """T waves in a row that hold the same S streams, the first S of Waves.slots."""

    readings: Tensor  # (T, S) int64: index into the batch of each stream's reading in each wave


class Waves(NamedTuple):
    """A batch in the order in which it is judged."""

    slots: Tensor  # (S,) int64: the streams of the batch, those with most readings first
    streams: Tensor  # (N,) int64: index into `slots` of each reading, in offset order
    runs: tuple[WaveRun, ...]  # as many as there are distinct numbers of readings a stream


def pack(slots: Tensor) -> Waves:
    """Order N readings so that a recurrent net sees each stream's readings in turn.

    slots: (N,) int64, slab row of each reading, in offset order; N >= 1. In numpy, whose calls take a fifth of the time
    of torch's: with few readings there is little else.
    """
    by_reading = slots.numpy()
    order, firsts, counts = _by_slot(by_reading)
    by_count = np.argsort(-counts, kind="stable")
    place = np.empty_like(by_count)
    place[by_count] = np.arange(len(by_count))
    streams = np.empty_like(by_reading)
    streams[order] = place.repeat(counts)
    present = torch.from_numpy(by_reading[order[firsts[by_count]]])
    return Waves(present, torch.from_numpy(streams), _runs(order, counts[by_count], firsts[by_count]))


def places_in_streams(slots: Tensor) -> Tensor:
    """(N,) how many readings of the same stream are before each. slots: as of pack()."""
    order, firsts, counts = _by_slot(slots.numpy())
    places = np.empty_like(order)
    places[order] = np.arange(len(order)) - firsts.repeat(counts)
    return torch.from_numpy(places)


def _by_slot(slots: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """The readings stream by stream, (N,); where in that those of each begin, and how many they are, (S,)."""
    order = np.argsort(slots, kind="stable")
    by_slot = slots[order]
    begins = np.empty(len(by_slot), np.bool_)
    begins[0] = True
    np.not_equal(by_slot[1:], by_slot[:-1], out=begins[1:])
    firsts = np.flatnonzero(begins)
    counts = np.empty_like(firsts)
    np.subtract(firsts[1:], firsts[:-1], out=counts[:-1])
    counts[-1] = len(by_slot) - firsts[-1]
    return order, firsts, counts


def _runs(order: Int64s, counts: Int64s, firsts: Int64s) -> tuple[WaveRun, ...]:
    """counts, firsts: (S,) of each stream's readings, and where in `order` they begin; the most readings first."""
    runs = []
    begin = 0
    last = np.flatnonzero(counts[1:] != counts[:-1])  # the last streams that have as many readings
    for busy in [len(counts), *(last[::-1] + 1).tolist()]:
        end = int(counts[busy - 1])
        waves = np.arange(begin, end)[:, None]
        runs.append(WaveRun(torch.from_numpy(order[firsts[:busy] + waves])))
        begin = end
    return tuple(runs)
