"""The histograms of a worker's metrics, and their buckets."""

from collections.abc import Sequence

import numpy as np
from prometheus_client.utils import floatToGoString

from models.data.arrays import Doubles, Int64s

# From a record that is judged in the poll it arrives with, to one that waited for a restart or behind a backlog.
LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_READINGS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 20_000, 50_000, 100_000)
STAGE_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# A commit takes 5 to 20 ms; the transaction's time limit is 10 s.
TRANSACTION_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# 100,000 streams take half a second from pages; a long replay takes minutes.
RESTORE_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Histogram:
    """Counts many values at once, which prometheus_client's own cannot. One thread observes, any may read."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = np.array(bounds, np.float64)
        self._labels = [*map(floatToGoString, self.bounds.tolist()), "+Inf"]
        self._counted: tuple[Int64s, float] = (np.zeros(len(self._labels), np.int64), 0.0)

    def observe(self, values: Sequence[float] | Doubles) -> None:
        # Bucket k holds bounds[k-1] < value <= bounds[k].
        buckets = np.searchsorted(self.bounds, values, side="left")
        counts, total = self._counted
        added = np.bincount(buckets, minlength=len(self._labels))
        self._counted = (counts + added, total + float(np.sum(values)))

    @property
    def counted(self) -> tuple[list[int], float]:
        counts, total = self._counted
        return counts.tolist(), total

    def take(self, counts: Sequence[int], total: float) -> None:
        self._counted = (np.array(counts, np.int64), total)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound, values up to it) of every bucket, and the sum of all values."""
        counts, total = self._counted
        return list(zip(self._labels, np.cumsum(counts).tolist(), strict=True)), total
