"""The order in which a recurrent net may see many streams.

A batch holds N readings of S streams in offset order. A net steps a stream's readings one after another, but all
streams at once: wave k is the k-th reading of every stream that has one.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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

    slots: (N,) int64, slab row of each reading, in offset order; N >= 1.
    """
    by_slot, order = torch.sort(slots, stable=True)
    present, counts = torch.unique_consecutive(by_slot, return_counts=True)
    firsts = counts.cumsum(0) - counts
    by_count = torch.argsort(counts, descending=True, stable=True)
    counts, firsts = counts[by_count], firsts[by_count]

    place = torch.empty_like(by_count)
    place[by_count] = torch.arange(len(by_count))
    streams = torch.empty_like(slots)
    streams[order] = torch.repeat_interleave(place, counts[place])
    return Waves(present[by_count], streams, _runs(order, counts, firsts))


def _runs(order: Tensor, counts: Tensor, firsts: Tensor) -> tuple[WaveRun, ...]:
    runs = []
    begin = 0
    for end in reversed(torch.unique_consecutive(counts).tolist()):
        busy = int((counts >= end).sum())
        waves = torch.arange(begin, end).unsqueeze(1)
        runs.append(WaveRun(order[firsts[:busy] + waves]))
        begin = end
    return tuple(runs)
