"""What HTTP takes of judging: a worker with and without those who ask, in turns, on a topic with a backlog."""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

import psutil
import torch
from kafka import KafkaConsumer, TopicPartition

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from models.detection.detector import Detector, DetectorConfig
from models.net.forecaster import Forecaster, ForecasterConfig
from tests.bench import figures, load
from tests.bench.pages import PAGES, pages
from tests.http_clients import clients

CLIENTS = 40


class Asking(Protocol):
    """They ask from `go` to `rest`."""

    def go(self) -> None: ...

    def rest(self) -> None: ...

    def answers(self) -> Mapping[int, int] | Mapping[str, int]:
        """What came, since the start."""


class Visitors(NamedTuple):
    """Those who ask."""

    what: str
    arrive: Callable[[int, Sequence[str]], AbstractContextManager[Asking]]  # port, names of streams


HURRIED = Visitors(f"{CLIENTS} clients that ask without a pause", lambda port, names: clients(port, CLIENTS, names))
LOOKING = Visitors(f"{PAGES} open pages, and one that asks for the past without a pause", pages)
STREAMS = 2_000
WINDOW_S, SETTLE_S = 10.0, 1.0  # all state is written once in 10 s, in each window alike
COMMIT_WITHIN_S = 30.0
FORM, TOGETHER = "msgpack", 50  # of the backlog: single readings are made ten times slower than they are judged
FASTEST = 600_000  # readings a second, of the backlog that is made
MOST_LOST = 0.05
READY_WITHIN_S = 300.0
ONE_PROCESSOR_CGROUP = Path("/sys/fs/cgroup/cpu/telltale-bench")  # cgroup v1, as root


def backlog(windows: int) -> int:
    """Readings that last for as many."""
    return round((2 * windows + 2) * (WINDOW_S + SETTLE_S) * FASTEST)


def measure(
    servers: str, topics: list[str], readings: int, windows: int, hidden: int, limited: bool, visitors: Visitors
) -> str:
    """limited: the worker and its HTTP process on one processor's quota, as with Compose; else on two processors."""
    load.fill_with_many(servers, topics[0], STREAMS, readings, FORM, TOGETHER)
    with TemporaryDirectory() as folder, (Path(folder) / "worker.log").open("w") as log:
        path = untrained(Path(folder), hidden)
        worker = subprocess.Popen(
            [Path(sys.executable).parent / "telltale", "run", "--checkpoint", path, "--http-port", "0"],
            env={**os.environ, **_settings(servers, topics)},
            stderr=log,
        )
        try:
            if limited:
                _limit(worker.pid)
            return _in_turns(worker, Path(log.name), servers, topics[0], windows, limited, visitors)
        finally:
            worker.kill()
            worker.wait()
            if limited:
                ONE_PROCESSOR_CGROUP.rmdir()


def _in_turns(
    worker: "subprocess.Popen[bytes]",
    log: Path,
    servers: str,
    topic: str,
    windows: int,
    limited: bool,
    visitors: Visitors,
) -> str:
    port = _port(worker, log)
    consumer = KafkaConsumer(bootstrap_servers=[servers], group_id="bench-http", enable_auto_commit=False)
    partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic))]

    def judged() -> int:
        return TOGETHER * sum(consumer.committed(one) or 0 for one in partitions)

    deadline = time.monotonic() + READY_WITHIN_S
    while not judged():
        if worker.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the worker does not judge: exit code {worker.poll()}")
        time.sleep(0.5)
    (web,) = psutil.Process(worker.pid).children()
    judging = psutil.Process(worker.pid)

    def window() -> Window:
        """From one commit to another: what a transaction holds is not cut in two."""
        first, began = _next_commit(judged)
        spent = _processor_s(judging), _processor_s(web)
        time.sleep(WINDOW_S)
        last, ended = _next_commit(judged)
        count, seconds = last - first, ended - began
        used = _processor_s(judging) - spent[0], _processor_s(web) - spent[1]
        return Window(count / seconds, 1e6 * used[0] / max(1, count), used[1] / seconds)

    windows_seen: list[Window] = []
    names = [load.stream_name(n) for n in range(STREAMS)]
    with visitors.arrive(port, names) as asking:
        for number in range(2 * windows + 1):
            (asking.go if number % 2 else asking.rest)()
            time.sleep(SETTLE_S)
            windows_seen.append(window())
        got = asking.answers()
    consumer.close()
    where = "one processor's quota" if limited else "no limit"
    backlogged = f"{STREAMS:,} streams, {FORM} of {TOGETHER} readings, {where}"
    return "\n".join(
        (
            f"HTTP: {visitors.what}; {backlogged}; medians of {windows} windows of {WINDOW_S:.0f} s",
            *compared(windows_seen[::2], windows_seen[1::2]),
            f"  answers: {got}; memory of its own {web.memory_full_info().uss / 2**20:,.0f} MB",
        )
    )


class Window(NamedTuple):
    """What was seen in one."""

    rate: float  # readings a second
    cost_us: float  # the worker's processor time a reading
    web_share: float  # of one processor, of the process that answers HTTP


def compared(quiet: Sequence[Window], asked: Sequence[Window]) -> list[str]:
    """Lines that say what was lost. Each asked window is compared with the quiet ones before and after it.

    So a machine that becomes slower or faster meanwhile is in both. The processor time a reading is compared likewise:
    what others take of a busy machine is not in it.
    """

    def line(name: str, seen: Sequence[Window]) -> str:
        rate, cost_us, web_share = (statistics.median(column) for column in zip(*seen, strict=True))
        return f"  {name:<15} {rate:>9,.0f} readings a second, {cost_us:.2f} us each; HTTP takes {web_share:.1%}"

    def beside(value: Callable[[Window], float]) -> list[float]:
        """What each asked window has of those beside it."""
        around = [(value(before) + value(after)) / 2 for before, after in pairwise(quiet)]
        return [value(one) / mean for one, mean in zip(asked, around, strict=True)]

    def change(name: str, changes: Sequence[float]) -> str:
        interval = figures.median_interval(changes)
        each = ", ".join(f"{one:.0%}" for one in sorted(changes))
        said = "too few windows for an interval" if interval[0] == -math.inf else "{:.1%} to {:.1%}".format(*interval)
        holds = f"at most {MOST_LOST:.0%}: {figures.verdict(interval, MOST_LOST)}"
        return f"  {name:<15} {statistics.median(changes):>9.1%}  (95 %: {said}; {holds}; {each})"

    return [
        line("quiet", quiet),
        line("asked", asked),
        change("throughput lost", [1 - one for one in beside(lambda window: window.rate)]),
        change("more processor", [one - 1 for one in beside(lambda window: window.cost_us)]),
    ]


def _next_commit(judged: Callable[[], int]) -> tuple[int, float]:
    """How much has been judged as the next transaction ends, and when that was."""
    before, deadline = judged(), time.monotonic() + COMMIT_WITHIN_S
    while time.monotonic() < deadline:
        if (now := judged()) != before:
            return now, time.monotonic()
    raise SystemExit("the backlog was judged before all was measured, or the worker stands still: give more --readings")


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def untrained(folder: Path, hidden: int) -> Path:
    """Untrained, which costs the same."""
    torch.manual_seed(0)
    detector = Detector.cold(Forecaster(ForecasterConfig(("value",), hidden=hidden)), DetectorConfig())
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    path = folder / "bench.safetensors"
    checkpoints.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


def _settings(servers: str, topics: list[str]) -> dict[str, str]:
    names = ("TOPICS", "ANOMALIES_TOPIC", "DEAD_LETTERS_TOPIC", "CHANGELOG_TOPIC")
    return {
        "TELLTALE_KAFKA__BOOTSTRAP_SERVERS": servers,
        "TELLTALE_KAFKA__GROUP": "bench-http",
        "TELLTALE_LOG__FORMAT": "json",
        **{f"TELLTALE_KAFKA__{name}": topic for name, topic in zip(names, topics, strict=True)},
    }


def _port(worker: "subprocess.Popen[bytes]", log: Path) -> int:
    while worker.poll() is None:
        for line in log.read_text().splitlines():
            if '"http_listening"' in line:
                return int(json.loads(line)["port"])
        time.sleep(0.2)
    raise SystemExit(f"the worker ended with {worker.returncode}: {log.read_text()}")


def _limit(pid: int) -> None:
    ONE_PROCESSOR_CGROUP.mkdir(exist_ok=True)
    (ONE_PROCESSOR_CGROUP / "cpu.cfs_quota_us").write_text("100000")
    (ONE_PROCESSOR_CGROUP / "cgroup.procs").write_text(str(pid))
