"""The one port: a log that readings come from, and to which what was judged goes back in one piece.

Adapters: kafka_log (a cluster), file_log (CSV, Parquet, pipes), memory_log (tests and the demo). Records
cross it as columns, never as an object each: how bytes become columns is the adapter's business.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from models.data.arrays import Int64s

POLL_BYTES = 8 * 1024 * 1024  # of records that one poll brings, unless it is a single one: 400,000 readings of 20 bytes


class Partition(NamedTuple):
    """One partition of an input topic; a set of files is one partition too."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """A message to be written."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    time_ms: int | None = None


class Cut(bytes):
    """The first bytes of a key or value that is too large to be held whole, and what is known of all of it."""

    size: int
    sha256: str

    def __new__(cls, kept: bytes, size: int, sha256: str) -> Self:
        """size: in bytes, of all of it, as is sha256 (hex)."""
        cut = super().__new__(cls, kept)
        cut.size, cut.sha256 = size, sha256
        return cut


class Unreadable(Cut):
    """Stands for records that cannot be told apart: the batch that they came in, as it was stored."""

    detail: str

    def __new__(cls, kept: bytes, size: int, sha256: str, detail: str = "") -> Self:
        """detail: which offsets these are, what was found and what was expected."""
        unreadable = super().__new__(cls, kept, size, sha256)
        unreadable.detail = detail
        return unreadable


class KeptHeaders(NamedTuple):
    """A record's headers, as far as they are held."""

    kept: Headers = ()
    left_out: int = 0


def no_headers(offset: int) -> KeptHeaders:  # noqa: ARG001  (of every record the same)
    """Of a log whose records have none."""
    return KeptHeaders()


class Fetched(NamedTuple):
    """N >= 1 records of one partition as columns, in offset order; offsets rise but may have gaps.

    times_ms: the records' own timestamps, -1 where there is none. next_offset: where the partition goes on
    after them (past control records too). end_offset: the first offset that could not be read yet; the
    partition's lag is end_offset - next_offset. A key or value may be a `Cut`, a value without a key `Unreadable`.
    headers: finds those of the record at an offset; only few records are asked for theirs.
    """

    partition: Partition
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: Int64s
    times_ms: Int64s
    next_offset: int
    end_offset: int
    headers: Callable[[int], KeptHeaders] = no_headers

    def part(self, begin: int, end: int) -> "Fetched":
        """Records begin to end (0 <= begin < end <= N), as if they had been fetched alone."""
        after = self.next_offset if end == len(self.keys) else int(self.offsets[end])
        keys, values = self.keys[begin:end], self.values[begin:end]
        return self._replace(
            keys=keys,
            values=values,
            offsets=self.offsets[begin:end],
            times_ms=self.times_ms[begin:end],
            next_offset=after,
        )


class Polled(NamedTuple):
    """What one poll brought. Apply `revoked` first, then `assigned`, then `fetched`.

    A partition that was lost and came back within one poll is in both: its task starts again.
    """

    assigned: tuple[Partition, ...]
    revoked: tuple[Partition, ...]
    fetched: tuple[Fetched, ...]


class Backlog(NamedTuple):
    """How far an assigned partition goes, as far as the log knows by now."""

    end: int | None  # the first offset that could not be read yet; None: not heard yet, or not for long
    passed: int | None  # everything before it is committed, or is nothing to be read; None: not known yet
    partitions: int = 0  # of its topic, as far as the log knows by now
    refused: str = ""  # why it cannot be served: it is in no Polled until it can


NOT_HEARD = Backlog(None, None)


class Source(NamedTuple):
    """An input partition as the log finds it."""

    topic_id: str  # another one after a topic was deleted and made again; empty where the log has none
    partitions: int  # of its topic
    begin: int  # the first offset that is still there
    end: int  # the offset that its next record will have
    committed: int | None  # where the group stands; None: it has never committed


class Stored(NamedTuple):
    """The next records of a partition's changelog, oldest first. read == size: that was all of it."""

    keys: list[bytes | None]
    values: list[bytes | None]
    read: int  # offsets read since the first call
    size: int  # offsets to be read in all


class Commit(NamedTuple):
    """What one batch of one partition changes. Everything before next_offset is judged and published."""

    partition: Partition
    next_offset: int
    anomalies: tuple[Record, ...] = ()
    dead_letters: tuple[Record, ...] = ()
    pages: tuple[Record, ...] = ()  # for the changelog
    marker: Record | None = None  # for the changelog, behind the pages
    keyed: tuple[Record, ...] = ()  # for the topic of anomalies, each in the partition that its key is hashed to
    scores: tuple[Record, ...] = ()  # for the topic of scores, where there is one
    beside: tuple[tuple[Partition, Record], ...] = ()  # for other topics


class Log(Protocol):
    """Where a worker reads and writes. One thread calls it; nothing it does happens between the calls."""

    def poll(self, timeout_s: float) -> Polled:
        """Wait at most timeout_s for records. The same records never come twice unless `start` goes back to them.

        Raises LogUnavailable when the log cannot be reached or refuses this client.
        """

    def inspect(self, partition: Partition) -> Source:
        """What there is of an assigned partition."""

    def restore(self, partition: Partition) -> Stored:
        """The next slice of an assigned partition's changelog; the first call after its assignment begins it.

        All that is committed before the first call is read, what is being committed by then included.
        """

    def start(self, partition: Partition, offset: int | None) -> int:
        """Fetch an assigned partition from this offset on; until then nothing is fetched. Returns the offset.

        None: from the beginning or the end, as the log is set up to begin where nothing is known.
        """

    def position(self, partition: Partition) -> int:
        """Where a started partition goes on: everything before it has been fetched, or is nothing to be fetched."""

    def commit(self, commits: Sequence[Commit]) -> None:
        """Write all of it, or nothing of it: outputs, changelog and offsets move together.

        A partition may have several, in the order of their offsets. Raises TaskMigrated when another worker owns the
        partitions now: the caller drops their tasks.
        """

    def close(self) -> None:
        """Leave at once; what was not committed stays uncommitted. Safe to call twice."""


class MemberLog(Log, Protocol):
    """The log of a worker: a group assigns its partitions."""

    def backlogs(self) -> Mapping[Partition, Backlog] | None:
        """Of every assigned partition, at once: nothing is waited for. Ask when all that was polled is committed.

        None: the group has not said yet which partitions are this worker's, or has thrown it out.
        """
