"""Twenty minutes under load with a fault every 15 s: nothing leaks, nothing differs.

Two workers are killed, stopped, ended and cut off in turn. The third suffers what happens to the group and the network,
but its process lives from the beginning to the end: its memory, threads and files are what is measured. Memory is
compared at rest: under load a worker also holds what it has fetched and not yet judged, which is more on a machine that
is busy. So every two minutes no readings come until all are judged and what is free was given back.
"""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from service.live.memory import TIDY_S
from tests.faults.figures import Cast, Figures
from tests.faults.outages import Keeper
from tests.faults.scene import SESSION_MS, Scene, wait_until
from tests.nursery import Child
from tests.proxy import END_TXN, Proxy

FAULT_EVERY_S = 15.0
WATCH_EVERY_S = 5.0
SETTLED_AFTER_S = 300.0  # until then memory may grow: caches, the allocator's arenas, the slabs
REST_EVERY_S = 120.0
REST_S = 2.5 * TIDY_S  # at rest: what is free has gone back twice
RESTED_WITHIN_S = 600.0
BEGUN_WITHIN_S = 600.0  # three workers start at once, beside other work
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
                scene.wait_for_progress(BEGUN_WITHIN_S)
                watch = _Watch(steady)
                while (passed_s := time.monotonic() - began) < minutes * 60 and not steady.ended.is_set():
                    if passed_s // REST_EVERY_S > len(watch.rests):
                        _rest(scene, watch)
                    kind = FAULTS[chance.randrange(len(FAULTS))]
                    happened[kind] += 1
                    _fail(scene, kind, chance, proxy, watched)
                    held.wait(FAULT_EVERY_S - (time.monotonic() - began) % FAULT_EVERY_S)
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


def _rest(scene: Scene, watch: "_Watch") -> None:
    """Until all readings are judged and memory is given back; then readings come again."""
    scene.feed.go(scene.feed.written)
    wait_until(lambda: scene.committed() == scene.feed.ends(), RESTED_WITHIN_S, "a rest")
    held.wait(REST_S)
    watch.note_rest()
    scene.feed.go()


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
        self.rests: list[tuple[float, int]] = []  # s; bytes of its own, the least of what was held since it was tidied
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def note_rest(self) -> None:
        """Now nothing is fetched that is not judged, and has not been for REST_S."""
        second = time.monotonic() - self._began
        held_bytes = [s.own_bytes for s in self._samples if s.second > second - REST_S + TIDY_S]
        if held_bytes:  # else it has ended meanwhile
            self.rests.append((second, min(held_bytes)))

    def figures(self) -> dict[str, object]:
        settled = self._settled()
        if len(settled) < 3:
            return {"memory": "not watched for long enough"}
        return {
            "MiB/h": round(slope_mib_h(self._settled_rests()), 1),
            "MiB at rest": " ".join(f"{held_bytes / 2**20:.1f}" for _, held_bytes in self.rests),
            "MiB under load": f"{min(_own(settled)) / 2**20:.0f} to {max(_own(settled)) / 2**20:.0f}",
            "of libraries, MiB": f"{settled[0].file_bytes / 2**20:.1f} to {settled[-1].file_bytes / 2**20:.1f}",
            "threads": f"{min(s.threads for s in settled)} to {max(s.threads for s in settled)}",
            "files": f"{min(s.files for s in settled)} to {max(s.files for s in settled)}",
        }

    def failures(self) -> list[str]:
        settled = self._settled()
        if len(settled) < 3:
            return []
        wrong = []
        rests = self._settled_rests()
        slope = slope_mib_h(rests)
        if rests and rests[-1][0] - rests[0][0] >= LEAST_FITTED_S and slope > MOST_SLOPE_MIB_H:
            wrong.append(f"memory grows by {slope:.1f} MiB/h, expected at most {MOST_SLOPE_MIB_H:.0f}")
        third = len(settled) // 3
        # Faults make some more, or some less, for a while: the median counts.
        for name in ("threads", "files"):
            first, last = (median(getattr(s, name) for s in part) for part in (settled[:third], settled[-third:]))
            if last > first:
                wrong.append(f"{name}: {first} at first, {last} at last")
        return wrong

    def _settled_rests(self) -> list[tuple[float, int]]:
        return [rest for rest in self.rests if rest[0] >= SETTLED_AFTER_S]

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


def _own(samples: Sequence[Sample]) -> list[int]:
    return [sample.own_bytes for sample in samples]


def slope_mib_h(rests: Sequence[tuple[float, int]]) -> float:
    """How fast what stays grows, in MiB an hour: a line through what is held at rest. rests: s, bytes."""
    if len(rests) < 2:
        return 0.0
    seconds, held_bytes = np.array(rests, dtype=np.float64).T
    return float(np.polyfit(seconds / 3600, held_bytes / 2**20, 1)[0])
