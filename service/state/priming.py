"""Which readings a stream is primed with when its rows are another checkpoint's."""

import numpy as np
from torch import Tensor

from models.data.arrays import Bools
from service.state.key_index import NO_SLOT


class Priming:
    """Which readings before an offset are the last few of each stream.

    The input is looked through from ever further back until every stream has as many as wanted, or all of it was
    looked through from `first` on. What is chosen depends on the input alone, not on which streams are still to prime.
    """

    def __init__(self, slots: Tensor, room: int, until: int, wanted: int, first: int) -> None:
        """slots: of the streams to prime, in a slab of `room`. first: offset before which nothing is looked at."""
        self.slots = slots
        self.until = until
        self.counting = True
        self._wanted = wanted
        self._mine = np.zeros(room, dtype=bool)
        self._mine[slots.numpy()] = True
        self._span = 2 * wanted * len(slots)
        self._first = first
        self._counts = np.zeros(room, dtype=np.int64)

    @property
    def begin(self) -> int:
        return max(self._first, self.until - self._span)

    def count(self, slots: Tensor) -> None:
        known = slots.numpy()[slots.numpy() != NO_SLOT]
        self._counts += np.bincount(known, minlength=len(self._counts))

    def look_further_back(self) -> None:
        """After all was counted: count again from further back, or go on to choose."""
        if self.begin > self._first and (self._counts[self._mine] < self._wanted).any():
            self._span *= 4
            self._counts[:] = 0
        else:
            self.counting = False
            self._counts -= self._wanted  # what is left are those to pass over

    def choose(self, slots: Tensor) -> Bools:
        """Of N readings, those that are among the last few of a stream to prime; (N,)."""
        index = slots.numpy()
        chosen = np.zeros(len(index), dtype=bool)
        known = np.flatnonzero(index != NO_SLOT)
        known = known[self._mine[index[known]]]
        order = known[np.argsort(index[known], kind="stable")]
        streams, firsts, counts = np.unique(index[order], return_index=True, return_counts=True)
        nth = np.arange(len(order)) - np.repeat(firsts, counts)
        chosen[order] = nth >= np.repeat(self._counts[streams], counts)
        self._counts[streams] -= counts
        return chosen

    def progress(self, next_offset: int) -> float:
        done = (next_offset - self.begin) / max(1, self.until - self.begin)
        return min(1.0, done) / 2 + (0.0 if self.counting else 0.5)
