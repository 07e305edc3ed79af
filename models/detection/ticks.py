"""The ticks of a partition's clock by which silence is told (see silence), and which of them are remembered.

Ticks lie on grids: at a passed minute, at every fourth of them, at every sixteenth, and so on. A silence is looked at
on the grid on which it is 5 to 20 ticks long, so that the last RING ticks of each grid are enough.
Sizes: K ticks, N readings, G grids.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Self

import numpy as np

from models.data.arrays import Int64s

TICK_MS = 60_000  # of the finest grid
COARSER = 4  # times the grid before it
GRIDS = 6  # the last ticks every 17 hours: silences of up to two weeks are told
RING = 24  # ticks of each grid that are remembered
LEAST_TICKS = 5.0  # no shorter silence is told
MOST_TICKS = 20.0  # of a longer one, the next grid is asked


class GridTicks(NamedTuple):
    """Ticks grid by grid, as compiled code takes them."""

    offsets: Int64s  # those of the finest grid first
    clock_ms: Int64s
    begins: Int64s  # (G + 1,) where the ticks of each grid begin


class Ticks(NamedTuple):
    """In the order in which they came; every tick of a grid is one of all finer grids too."""

    offsets: Int64s  # (K,) of the records at which the clock ticked
    clock_ms: Int64s  # (K,) what it was before them
    grids: Int64s  # (K,) the coarsest grid each is of

    @classmethod
    def none(cls) -> Self:
        return cls(*np.zeros((3, 0), np.int64))

    @classmethod
    def among(cls, reading_offsets: Int64s, latest_ms: Int64s) -> Self:
        """Those at N readings. reading_offsets: (N,); latest_ms: (N + 1,) the clock before each and after the last."""
        if latest_ms[0] // TICK_MS == latest_ms[-1] // TICK_MS:
            return cls.none()
        first = np.flatnonzero(np.diff(reading_offsets, prepend=reading_offsets[0] - 1))  # of each record
        before, after = latest_ms[first], latest_ms[np.append(first[1:], len(reading_offsets))]
        grids = np.full(len(first), -1)
        for grid in range(GRIDS):
            grids += before // (TICK_MS * COARSER**grid) != after // (TICK_MS * COARSER**grid)
        ticking = grids >= 0
        return cls(reading_offsets[first[ticking]], before[ticking], grids[ticking])

    @classmethod
    def restored(cls, stored: Sequence[Sequence[int]]) -> Self:
        """From what stored() gave."""
        offsets, clock_ms, grids = stored or ((), (), ())
        columns = (list(accumulate(offsets)), list(accumulate(clock_ms)), list(grids))
        return cls(*(np.array(column, np.int64) for column in columns))

    def stored(self) -> list[list[int]]:
        """Offsets and times as differences, which are short to write; nothing where there are none."""
        differences = [np.diff(column, prepend=0).tolist() for column in (self.offsets, self.clock_ms)]
        return [*differences, self.grids.tolist()] if len(self) else []

    def __len__(self) -> int:
        return len(self.offsets)

    def and_then(self, later: "Ticks") -> "Ticks":
        return Ticks(*(np.concatenate(columns) for columns in zip(self, later, strict=True)))

    def until(self, offset: int) -> "Ticks":
        """Those at records up to this one."""
        return Ticks(*(column[: np.searchsorted(self.offsets, offset, side="right")] for column in self))

    def latest(self) -> "Ticks":
        """The last RING of each grid."""
        kept = np.zeros(len(self.offsets), np.bool_)
        for grid in range(GRIDS):
            kept[np.flatnonzero(self.grids >= grid)[-RING:]] = True
        return Ticks(*(column[kept] for column in self))

    def by_grid(self) -> GridTicks:
        places = [np.flatnonzero(self.grids >= grid) for grid in range(GRIDS)]
        index = np.concatenate(places)
        begins = np.cumsum([0, *map(len, places)])
        return GridTicks(self.offsets[index], self.clock_ms[index], begins)
