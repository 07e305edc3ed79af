"""What a worker holds: what is free goes back to the system, and what comes near the limit is reported."""

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.live.memory import (
    LOOK_S,
    TIDY_S,
    Limit,
    MemoryKeeper,
    bytes_per_stream,
    memory_limit,
    resident_bytes,
    settle,
)

MIB = 2**20


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def container(tmp_path: Path, entry: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup. limits: by file."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(entry)
    for name, content in limits.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(content)
    return proc, cgroups


@pytest.mark.parametrize(
    ("entry", "limits", "expected"),
    [
        ("0::/pod/worker\n", {"pod/worker/memory.max": "2097152\n"}, Limit(2 * MIB, "the container's memory.max")),
        (
            "0::/pod/worker\n",
            {"pod/memory.max": "1048576\n", "pod/worker/memory.max": "max\n"},
            Limit(MIB, "the container's memory.max"),
        ),
        ("0::/\n", {"memory.max": "3145728\n"}, Limit(3 * MIB, "the container's memory.max")),
        (
            "5:cpu,cpuacct:/x\n4:memory:/docker/a\n0::/\n",
            {"memory/docker/a/memory.limit_in_bytes": "4194304\n"},
            Limit(4 * MIB, "the container's memory.limit_in_bytes"),
        ),
    ],
)
def test_the_lowest_limit_of_the_container_counts(
    tmp_path: Path, entry: str, limits: dict[str, str], expected: Limit
) -> None:
    assert memory_limit(*container(tmp_path, entry, limits)) == expected


@pytest.mark.parametrize(
    ("entry", "limits"),
    [
        ("0::/\n", {"memory.max": "max\n"}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}),
        ("not a cgroup\n", {}),
    ],
)
def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path, entry: str, limits: dict[str, str]) -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit(*container(tmp_path, entry, limits)) == Limit(whole, "the machine's memory")


@pytest.mark.slow
def test_a_limit_of_the_process_counts_too() -> None:
    asked = (
        "from pathlib import Path; from service.live.memory import memory_limit; print(memory_limit(Path('/nowhere')))"
    )
    limited = f'ulimit -v 4000000; exec {sys.executable} -c "{asked}"'
    said = subprocess.run(["/bin/sh", "-c", limited], capture_output=True, text=True, check=True).stdout
    assert said == f"Limit(bytes={4_000_000 * 1024}, origin='ulimit (address space)')\n"


def test_what_is_near_the_limit_is_told_once_at_each_step_and_again_after_it_has_fallen() -> None:
    clock, held = Clock(), (700, 801, 850, 901, 899, 960, 960, 500, 805)
    looks = iter(held)
    limit = Limit(1000 * MIB, "ulimit")
    keeper = MemoryKeeper(limit, row_bytes=1_000, clock=clock, resident=lambda: next(looks) * MIB)
    reported = []
    for _ in held:
        clock.now_s += LOOK_S
        with capture_logs() as logs:
            keeper.look(streams=5_000)
        reported.append([line["resident_mb"] for line in logs])
    assert reported == [[], [801], [], [901], [], [960], [], [], [805]]


def test_the_warning_says_how_much_room_is_left_and_what_helps() -> None:
    clock = Clock()
    keeper = MemoryKeeper(Limit(1000 * MIB, "the container's memory.max"), 968, clock=clock, resident=lambda: 900 * MIB)
    clock.now_s += LOOK_S
    with capture_logs() as logs:
        keeper.look(streams=5_000)
    (line,) = logs
    assert (line["event"], line["log_level"], line["streams"]) == ("memory_near_limit", "warning", 5_000)
    assert (line["limit_mb"], line["limit_of"], line["row_bytes"]) == (1000, "the container's memory.max", 968)
    assert line["room_for_streams"] == 100 * MIB // bytes_per_stream(968, 0)
    assert "limits.max_streams" in line["hint"]


@pytest.mark.slow
@pytest.mark.parametrize(("known", "warned"), [(10_000, False), (1_000_000, True)])
def test_streams_that_will_not_fit_are_told_before_the_work_begins(known: int, warned: bool) -> None:
    keeper = MemoryKeeper(Limit(1000 * MIB, "ulimit"), row_bytes=1_000, resident=lambda: 400 * MIB)
    with capture_logs() as logs:
        keeper.foresee([b"press-%05d" % (n % 100_000) for n in range(known)])
    assert [line["event"] for line in logs] == ["memory_may_not_suffice"] * warned


def test_where_nothing_is_known_nothing_is_told() -> None:
    clock = Clock()
    for keeper in (
        MemoryKeeper(None, 1_000, clock=clock),
        MemoryKeeper(Limit(1, "ulimit"), 1_000, clock=clock, resident=lambda: None),
    ):
        clock.now_s += LOOK_S
        with capture_logs() as logs:
            keeper.foresee([b"pump"])
            keeper.look(1)
        assert logs == []
    assert resident_bytes(Path("/nowhere")) is None


@pytest.fixture
def settled() -> Iterator[None]:
    """The collector as the service sets it."""
    thresholds = gc.get_threshold()
    settle()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Cycle:
    """As what the client leaves of a poll: few objects, and a buffer behind them."""

    def __init__(self) -> None:
        self.me = self
        self.buffer = bytes(MIB)


@pytest.mark.usefixtures("settled")
def test_cycles_with_buffers_behind_them_do_not_wait_for_the_collector() -> None:
    clock = Clock()
    keeper = MemoryKeeper(None, 1_000, clock=clock)
    gone = weakref.ref(Cycle())
    keeper.look(0)
    assert gone() is not None
    clock.now_s += TIDY_S
    keeper.look(0)
    assert gone() is None


@pytest.mark.usefixtures("settled")
def test_what_a_restore_took_is_given_back_when_it_is_over() -> None:
    keeper = MemoryKeeper(None, 1_000, clock=Clock())
    gone = weakref.ref(Cycle())
    keeper.recovered(1.0, 0)
    assert gone() is None


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library keeps what is free")
def test_gaps_between_buffers_go_back_to_the_system() -> None:
    clock = Clock()
    keeper = MemoryKeeper(None, 1_000, clock=clock)
    buffers = [os.urandom(50_000) for _ in range(4_000)]  # 200 MB, each too small for a mapping of its own
    full = resident_bytes()
    del buffers[1::2]
    del buffers[0 : len(buffers) - 1]  # the last one stays: what is before it cannot be cut off at the end
    clock.now_s += TIDY_S
    keeper.look(0)
    left = resident_bytes()
    assert full is not None
    assert left is not None
    assert full - left > 150_000_000
    assert len(buffers) == 1


ARRAYS_OF_BATCHES = """
import resource
import numpy as np
from service.live.memory import settle

def batch():
    for _ in range(20):
        np.ones(2**17)  # 1 MB: most arrays of 5,000 readings with one feature are no larger than 1.3 MB

settle()
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library cannot be set up")
def test_the_arrays_of_a_batch_are_not_cleared_by_the_system_again() -> None:
    ran = subprocess.run([sys.executable, "-c", ARRAYS_OF_BATCHES], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 100  # pages a batch, of 5,120
