"""Twenty minutes under load with a fault every 15 s: nothing leaks, nothing differs.

Two workers are killed, stopped, ended and cut off in turn. The third suffers what happens to the group and the network,
but its process lives from the beginning to the end: its memory, threads and files are what is measured.
"""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from tests.faults.figures import Cast, Figures
from tests.faults.outages import Keeper
from tests.faults.scene import SESSION_MS, Scene
from tests.nursery import Child
from tests.proxy import END_TXN, Proxy

FAULT_EVERY_S = 15.0
WATCH_EVERY_S = 5.0
SETTLED_AFTER_S = 300.0  # until then memory may grow: caches, the allocator's arenas, the slabs
WINDOW_S = 30.0  # the least of what is held in such a time is what stays: what is free goes back every 10 s
MOST_SLOPE_MIB_H = 8.0
LEAST_FITTED_S = 300.0  # a slope over less says nothing
RATE = 1_000.0
STEP = 211  # readings a step of the oracle: millions are too many for one
FAULTS = ("kill", "stop", "end", "reset", "half-open", "late end", "black hole", "delay")

held = threading.Event()  # never set: to let something last


def soak(cast: Cast, minutes: float) -> Figures:
    """A fault every 15 s, for that many minutes."""
    chance = random.Random(cast.seed)
    happened: Counter[str] = Counter()
    proxy, watched = Proxy(), Proxy()
    began = time.monotonic()
    try:
        with Scene(*cast, rate=RATE, step=STEP) as scene:
            steady = scene.start("steady", proxy=watched.url)
            with Keeper(scene, ("w0", "w1"), proxy.url) as keeper:
                scene.wait_for_progress(300)
                watch = _Watch(steady)
                for number in count(1):
                    held.wait(max(0.0, began + number * FAULT_EVERY_S - time.monotonic()))
                    if time.monotonic() - began > minutes * 60:
                        break
                    kind = FAULTS[chance.randrange(len(FAULTS))]
                    happened[kind] += 1
                    _fail(scene, kind, chance, proxy, watched)
                watch.stop()
                keeper.stop()
            alive = not steady.ended.is_set()
            outcome = scene.finish(("w0", "w1", "steady"))
    finally:
        proxy.stop()
        watched.stop()
    figures = Figures.of(f"soak of {minutes:.0f} min", sum(happened.values()), outcome)
    figures.extra |= {"faults": dict(sorted(happened.items())), "restarts": keeper.restarts, **watch.figures()}
    figures.require(alive, "the steady worker ended")
    figures.failures += watch.failures()
    return figures


def _fail(scene: Scene, kind: str, chance: random.Random, proxy: Proxy, watched: Proxy) -> None:
    """One fault, over within seconds. Network faults fall on the steady worker as often as on the others."""
    child = scene.workers[chance.choice(("w0", "w1"))]
    way = chance.choice((proxy, watched))
    if kind == "kill":
        child.signal(signal.SIGKILL)
    elif kind == "end":
        child.signal(signal.SIGTERM)
    elif kind == "stop":
        child.signal(signal.SIGSTOP)
        held.wait(SESSION_MS / 1000 + chance.uniform(0.5, 2.0))
        child.signal(signal.SIGCONT)
    elif kind == "reset":
        way.reset()
    elif kind == "delay":
        way.delay(0.2)
        held.wait(5.0)
    elif kind == "late end":
        way.keep_back(END_TXN)
        if way.kept.wait(5.0):
            held.wait(chance.uniform(0.0, 1.0))
            way.deliver()
    else:
        way.hang(requests=kind != "half-open", replies=True)
        held.wait(chance.uniform(2.0, 6.0))
    way.resume()


class Sample(NamedTuple):
    """What a process holds at a moment.

    Memory is what it has for itself (RssAnon). Pages of libraries (RssFile) are the page cache's: they count as
    resident from when the process first touches them, and go when others need the room.
    """

    second: float
    own_bytes: int
    file_bytes: int
    threads: int
    files: int


class _Watch:
    """How much a process holds, every few seconds."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def figures(self) -> dict[str, object]:
        settled = self._settled()
        if len(settled) < 3:
            return {"memory": "not watched for long enough"}
        return {
            "MiB/h": round(slope_mib_h(_own(settled)), 1),
            "least MiB by minute": " ".join(f"{held / 2**20:.1f}" for _, held in least_by(60.0, _own(self._samples))),
            "of libraries, MiB": f"{settled[0].file_bytes / 2**20:.1f} to {settled[-1].file_bytes / 2**20:.1f}",
            "threads": f"{min(s.threads for s in settled)} to {max(s.threads for s in settled)}",
            "files": f"{min(s.files for s in settled)} to {max(s.files for s in settled)}",
        }

    def failures(self) -> list[str]:
        settled = self._settled()
        if len(settled) < 3:
            return []
        wrong = []
        slope = slope_mib_h(_own(settled))
        if settled[-1].second - settled[0].second >= LEAST_FITTED_S and slope > MOST_SLOPE_MIB_H:
            wrong.append(f"memory grows by {slope:.1f} MiB/h, expected at most {MOST_SLOPE_MIB_H:.0f}")
        third = len(settled) // 3
        # Faults make some more, or some less, for a while: the median counts.
        for name in ("threads", "files"):
            first, last = (median(getattr(s, name) for s in part) for part in (settled[:third], settled[-third:]))
            if last > first:
                wrong.append(f"{name}: {first} at first, {last} at last")
        return wrong

    def _settled(self) -> list[Sample]:
        last = self._samples[-1].second if self._samples else 0.0
        return [sample for sample in self._samples if sample.second >= min(SETTLED_AFTER_S, last / 3)]

    def _look(self) -> None:
        process = Path("/proc") / str(self._child.pid)
        while not self._stop.wait(WATCH_EVERY_S) and not self._child.ended.is_set():
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            own, of_files = (int(status[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
            files = len(list((process / "fd").iterdir()))
            self._samples.append(Sample(time.monotonic() - self._began, own, of_files, int(status["Threads"]), files))


def _own(samples: Sequence[Sample]) -> list[tuple[float, int]]:
    return [(sample.second, sample.own_bytes) for sample in samples]


def slope_mib_h(samples: Sequence[tuple[float, int]]) -> float:
    """How fast what stays grows, in MiB an hour: a line through the least of each WINDOW_S. samples: s, bytes."""
    least = least_by(WINDOW_S, samples)
    if len(least) < 2:
        return 0.0
    seconds, held = np.array(least, dtype=np.float64).T
    return float(np.polyfit(seconds / 3600, held / 2**20, 1)[0])


def least_by(window_s: float, samples: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """The sample with the least bytes of each window. samples: s, bytes, in the order of time."""
    least: dict[int, tuple[float, int]] = {}
    for second, held_bytes in samples:
        window = int(second // window_s)
        if window not in least or held_bytes < least[window][1]:
            least[window] = (second, held_bytes)
    return list(least.values())
