"""What the process holds: given back to the system now and then, and held against what it may hold.

Two things make memory grow in a worker that has all its streams. What the Kafka client leaves of a poll that timed out
(an exception, its traceback, the frames with fetched bytes in them) is a cycle: some 30 objects a round with up to
megabytes behind them, while Python's collector counts objects and comes round after thousands of rounds. And buffers of
all sizes, made and dropped by several threads, leave gaps that the allocator keeps. So both are asked, at an interval,
to give back what is free, and the allocator is set up to leave few gaps.
"""

import ctypes
import gc
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from service.live.observer import Observer, Round

TIDY_S = 10.0  # between two times that memory is given back; each takes some 10 ms, where 100 MB are free
LOOK_S = 1.0  # between two looks at what is held
NEAR = (0.95, 0.9, 0.8)  # shares of the limit at which it is reported
FAR = 0.75  # below which it may be reported again
# glibc, see mallopt(3): one arena for all threads. Most arrays of a batch stay in it: each that is a mapping of its own
# is cleared by the system at its first touch, which took as long as judging. What is larger goes outside, or its gaps
# would make what is held grow for longer than a soak lasts.
MEBIBYTE = 1024 * 1024
ALLOCATOR = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 2 * MEBIBYTE), "M_TRIM_THRESHOLD": (-1, 64 * MEBIBYTE)}
INDEX_BYTES = 220  # of a stream beside its row and its name, at most: 160 to 190 with half a million and more

HINT = (
    "raise the container's limit, add workers (they share the partitions), lower limits.max_streams or"
    " limits.stream_ttl_s; docs/how-to/limits.md says what a number of streams needs"
)

logger = structlog.get_logger("telltale.memory")


class Limit(NamedTuple):
    """What the process may hold, and who says so."""

    bytes: int
    origin: str


def settle() -> None:
    """What is loaded by now lives as long as the process: the collector need not look at it again.

    What comes and goes from now on leaves few gaps: see ALLOCATOR.
    """
    if (mallopt := _of_glibc("mallopt", ctypes.c_int, ctypes.c_int)) is not None:
        for parameter, value in ALLOCATOR.values():
            mallopt(parameter, value)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def give_back() -> None:
    """Break up cycles that no one reaches any more, and let the system have the pages that are free."""
    gc.collect()
    if _trim is not None:
        _trim(0)


def _of_glibc(name: str, *takes: Any) -> Callable[..., int] | None:
    """A function of glibc's allocator; other C libraries have none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = takes, ctypes.c_int
    found: Callable[..., int] = function
    return found


_trim = _of_glibc("malloc_trim", ctypes.c_size_t)


def resident_bytes(proc: Path = Path("/proc")) -> int | None:
    """What the process holds in memory; None where the system does not say."""
    try:
        return int((proc / "self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def memory_limit(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Limit | None:
    """The lowest of the limits there are: of the container, of the process, of the machine."""
    found = [
        *_of_cgroups(proc, cgroups),
        *(
            Limit(soft, f"ulimit ({name})")
            for name, soft in (
                ("address space", resource.getrlimit(resource.RLIMIT_AS)[0]),
                ("data", resource.getrlimit(resource.RLIMIT_DATA)[0]),
            )
            if soft != resource.RLIM_INFINITY
        ),
        Limit(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the machine's memory"),
    ]
    return min(found, default=None)


def _of_cgroups(proc: Path, cgroups: Path) -> list[Limit]:
    """memory.max of the process's cgroup and of those above it (v2), or memory.limit_in_bytes (v1)."""
    try:
        entries = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    found = []
    for number, controllers, path in (entry for entry in entries if len(entry) == 3):
        if number == "0":
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            limit = _number_in(place / name)
            if limit is not None:
                found.append(Limit(limit, f"the container's {name}"))
            if place == root:
                break
    return found


def _number_in(file: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < 1 << 62 else None  # v1 writes "none" as a huge number


def bytes_per_stream(row_bytes: int, name_bytes: float) -> int:
    """What a stream takes in a worker, on average: its row, its name and its places in the index."""
    return round(row_bytes + name_bytes + INDEX_BYTES)


class MemoryKeeper(Observer):
    """The worker's: asked every round, it does something every few seconds."""

    def __init__(
        self,
        limit: Limit | None,
        row_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[], int | None] = resident_bytes,
    ) -> None:
        """row_bytes: of one stream's row, as the checkpoint lays it out."""
        self.limit = limit
        self._row_bytes = row_bytes
        self._clock = clock
        self._resident = resident
        self._tidied_s = self._looked_s = clock()
        self._reported = 0.0  # the highest share of NEAR that was reported

    def recovered(self, seconds: float, replayed: int) -> None:  # noqa: ARG002
        """What a partition's changelog was read into is free now, and the next one's would go elsewhere in the heap."""
        give_back()

    def turned(self, turn: Round) -> None:
        self.look(sum(len(task.slab) for task in turn.tasks.values()))

    def look(self, streams: int) -> None:
        """streams: how many the worker remembers now."""
        now_s = self._clock()
        if now_s - self._tidied_s >= TIDY_S:
            self._tidied_s = now_s
            give_back()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._compare(streams)

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Warn before the work begins if the streams that the checkpoint knows will not fit. Logged once."""
        held = self._resident()
        if self.limit is None or held is None or not keys:
            return
        name_bytes = sum(map(len, keys)) / len(keys)
        needed = held + len(keys) * bytes_per_stream(self._row_bytes, name_bytes)
        if needed > NEAR[-1] * self.limit.bytes:
            logger.warning(
                "memory_may_not_suffice",
                streams_known=len(keys),
                needed_mb=_mb(needed),
                **self._figures(held, self.limit),
                hint=HINT,
            )

    def _compare(self, streams: int) -> None:
        held = self._resident()
        if self.limit is None or held is None:
            return
        share = held / self.limit.bytes
        if share < FAR:
            self._reported = 0.0
        reached = next((near for near in NEAR if share >= near), 0.0)
        if reached > self._reported:
            self._reported = reached
            room = max(0, self.limit.bytes - held) // bytes_per_stream(self._row_bytes, 0)
            logger.warning(
                "memory_near_limit",
                streams=streams,
                room_for_streams=room,
                **self._figures(held, self.limit),
                hint=HINT,
            )

    def _figures(self, held: int, limit: Limit) -> dict[str, object]:
        return {
            "resident_mb": _mb(held),
            "limit_mb": _mb(limit.bytes),
            "limit_of": limit.origin,
            "row_bytes": self._row_bytes,
        }


def _mb(size: int) -> int:
    return round(size / 2**20)
