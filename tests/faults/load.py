"""Rows at full speed: workers that come and go, and streams by the hundred thousand that are all new."""

import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator

from service.input.wire import encode_reading
from service.log.port import Record
from tests.faults import plant
from tests.faults.figures import Cast, Figures
from tests.faults.scene import PARTITIONS, STARTED_WITHIN_S, Scene, wait_until

CALM_S = 10.0
CHANGE_EVERY_S = 1.5
AHEAD = 3_000  # readings that wait to be judged
POLL_RECORDS = 200  # few, so that a machine of two cores is enough for four workers and all around them
LEAST_SHARE = 0.2
MEMBERS_SESSION_MS = 10_000  # workers leave in good order: it is not about heartbeats that a busy machine sends late
STEP = 499  # readings a step of the oracle, where there are too many for one
MOST_WORKERS = 4
PROGRESS_WITHIN_S, FLOOD_WITHIN_S = 300.0, 1_500.0

held = threading.Event()  # never set: to let something last


def members(cast: Cast, count: int) -> Figures:
    """A worker joins or leaves every 1.5 s; how much is judged meanwhile, against how much in calm."""
    chance = random.Random(cast.seed)
    settings = {
        "kafka.max_poll_records": POLL_RECORDS,
        "kafka.session_timeout_ms": MEMBERS_SESSION_MS,
        "kafka.transaction_timeout_ms": MEMBERS_SESSION_MS,
    }
    with Scene(*cast, ahead=AHEAD, step=STEP, settings=settings) as scene:
        scene.start("w0")
        scene.start("w1", member=False)
        scene.wait_for_progress(PROGRESS_WITHIN_S)
        calm = _rate(scene, CALM_S)
        began, before, extra, joined = time.monotonic(), _judged(scene), ["w1"], 1
        for change in range(count):
            if not extra or (len(extra) + 1 < MOST_WORKERS and chance.random() < 0.5):
                joined += 1
                extra.append(f"w{joined}")
                scene.start(extra[-1], member=False)
            else:
                scene.workers[extra.pop(chance.randrange(len(extra)))].signal(signal.SIGTERM)
            held.wait(max(0.0, began + (change + 1) * CHANGE_EVERY_S - time.monotonic()))
        seconds = time.monotonic() - began
        busy = (_judged(scene) - before) / seconds
        outcome = scene.finish()
    figures = Figures.of("workers joining and leaving", count, outcome)
    share = busy / calm
    figures.extra |= {
        "readings/s calm": round(calm),
        "changing": round(busy),
        "share": f"{share:.0%}",
        "in s": round(seconds),
    }
    figures.require(share >= LEAST_SHARE, f"{share:.0%} of the calm throughput, expected {LEAST_SHARE:.0%}")
    return figures


def _rate(scene: Scene, seconds: float) -> float:
    began, before = time.monotonic(), _judged(scene)
    held.wait(seconds)
    return (_judged(scene) - before) / (time.monotonic() - began)


def _judged(scene: Scene) -> int:
    """Readings with a published verdict, as a reader of committed records has seen it."""
    return sum(dict(scene.witness.published).values())


# --- new keys ------------------------------------------------------------------------------------------------------

KNOWN = 8  # streams of each partition that are there from the start
MAX_STREAMS = 20_000  # of a partition
WARM = 100  # readings of each known stream before the flood
KNOWN_EVERY = 50  # in the flood, one record in this many is a known stream's
BYTES_A_STREAM = 3_000  # rows, index, and what the allocator keeps of both while a slab doubles
BYTES_BESIDE = 250 * 2**20  # fetched records, batches under way


def new_keys(cast: Cast, count: int) -> Figures:
    """`count` streams with one reading each, as fast as they can be written, beside some that are known."""

    def source(seed: int, partition: int) -> Iterator[Record]:
        return _flood(seed, partition, count // PARTITIONS)

    settings = {
        "http.enabled": True,
        "http.port": 0,
        "limits.max_streams": MAX_STREAMS,
        "limits.stream_ttl_s": 1e9,
        "kafka.session_timeout_ms": 10_000,
        "kafka.transaction_timeout_ms": 10_000,
    }
    with Scene(
        *cast, rate=1e9, step=STEP, verdicts_of="known", max_streams=MAX_STREAMS, ttl_s=1e9, keep_dead_letters=False,
        source=source, settings=settings, held_back=True,
    ) as scene:  # fmt: skip
        child = scene.start("w0")
        wait_until(lambda: scene.said("http_listening", "w0") == 1, STARTED_WITHIN_S, "the HTTP port")
        scene.feed.go(PARTITIONS * KNOWN * WARM)
        known = PARTITIONS * KNOWN * WARM
        wait_until(lambda: sum(scene.committed().values()) >= known, PROGRESS_WITHIN_S, "the known streams")
        # What is committed is published after it, and reaches the process that answers a moment later.
        wait_until(lambda: _published_readings(scene) >= known, PROGRESS_WITHIN_S, "the known streams in the metrics")
        series, before = _series(scene), _memory(child.pid)
        began = time.monotonic()
        scene.feed.go()
        wait_until(lambda: scene.feed.exhausted, FLOOD_WITHIN_S, "all readings written")
        ends = scene.feed.ends()
        wait_until(lambda: scene.committed() == ends, FLOOD_WITHIN_S, "all readings judged")
        seconds = time.monotonic() - began
        after, most = _series(scene), _memory(child.pid, "VmHWM")
        outcome = scene.finish()
    figures = Figures.of(f"{count:,} new keys at full speed", 1, outcome)
    cap = PARTITIONS * MAX_STREAMS * BYTES_A_STREAM + BYTES_BESIDE
    grown = most - before
    figures.extra |= {
        "MB grown": grown >> 20,
        "cap": cap >> 20,
        "readings/s": round(count / seconds),
        "series": len(after),
    }
    figures.require(grown <= cap, f"memory grew by {grown >> 20} MB, expected at most {cap >> 20}")
    figures.require(after == series, f"metric series that came or went: {sorted(after ^ series)[:5]}")
    figures.require(not child.code, f"the worker ended with {child.code}")
    return figures


def _flood(seed: int, partition: int, count: int) -> Iterator[Record]:
    """First the known streams alone, then one reading of each new one, with the known streams between."""
    chance = random.Random(f"{seed}/{partition}")
    time_ms = plant.START_MS
    for n in range(KNOWN * WARM + count + count // KNOWN_EVERY):
        time_ms += 1_000
        flooding = n >= KNOWN * WARM and n % KNOWN_EVERY
        key = (
            b"new-%d-%d" % (partition, n)
            if flooding
            else b"known-%d-%d" % (partition, n // (KNOWN_EVERY if n >= KNOWN * WARM else 1) % KNOWN)
        )
        spike = 90.0 if chance.random() < 0.01 else 0.0
        yield Record(
            key, encode_reading(plant.FEATURES, time_ms, [chance.gauss(0, 1) + spike, chance.gauss(5, 2)]), (), time_ms
        )


def _series(scene: Scene) -> set[str]:
    """Name and labels of every metric."""
    return set(_metrics(scene))


def _published_readings(scene: Scene) -> float:
    return _metrics(scene)["telltale_readings_total"]


def _metrics(scene: Scene) -> dict[str, float]:
    port = next(line["port"] for line in scene.lines("w0") if line["event"] == "http_listening")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def _memory(pid: int, name: str = "VmRSS") -> int:
    """Bytes. VmHWM: the most there ever were."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))
