"""The one port: a log that readings come from, and to which what was judged goes back in one piece.

Adapters: kafka_log (a cluster), file_log (CSV, Parquet, pipes), memory_log (tests and the demo). Records
cross it as columns, never as an object each: how bytes become columns is the adapter's business.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


class Partition(NamedTuple):
    """One partition of an input topic; a set of files is one partition too."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


class Record(NamedTuple):
    """A message to be written."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None


class Fetched(NamedTuple):
    """N >= 1 records of one partition as columns, in offset order; offsets rise but may have gaps.

    times_ms: the records' own timestamps, -1 where there is none. next_offset: where the partition goes on
    after them (past control records too). end_offset: the first offset that could not be read yet; the
    partition's lag is end_offset - next_offset.
    """

    partition: Partition
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: Int64s
    times_ms: Int64s
    next_offset: int
    end_offset: int


class Polled(NamedTuple):
    """What one poll brought. Apply `revoked` first, then `assigned`, then `fetched`.

    A partition that was lost and came back within one poll is in both: its task starts anew.
    """

    assigned: tuple[Partition, ...]
    revoked: tuple[Partition, ...]
    fetched: tuple[Fetched, ...]


class Commit(NamedTuple):
    """What one batch of one partition changes. Everything before next_offset is judged and told."""

    partition: Partition
    next_offset: int
    anomalies: tuple[Record, ...]
    dead_letters: tuple[Record, ...]


class Log(Protocol):
    """Where a worker reads and writes. One thread calls it; nothing it does happens between the calls."""

    def poll(self, timeout_s: float) -> Polled:
        """Wait at most timeout_s for records. The same records never come twice unless commit failed.

        Raises LogUnavailable when the log cannot be reached or refuses this client.
        """

    def commit(self, commits: Sequence[Commit]) -> None:
        """Write all of it, or nothing of it: outputs and offsets move together.

        Raises TaskMigrated when another worker owns the partitions now: the caller drops their tasks.
        """

    def close(self) -> None:
        """Leave at once; what was not committed stays uncommitted. Safe to call twice."""
