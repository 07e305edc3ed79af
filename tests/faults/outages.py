"""Rows in which the broker, or the way to it, fails; and those in which a worker is told to stop."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tests.faults.broker import OwnBroker
from tests.faults.figures import Cast, Figures
from tests.faults.scene import SESSION_MS, Fault, Outcome, Scene, wait_until
from tests.proxy import END_TXN, Proxy

PROGRESS_WITHIN_S = 15.0
BLACK_HOLE_S, STOP_S, HALF_OPEN_S, SLOW_S, REFUSED_S = 60.0, 20.0, 15.0, 15.0, 5.0
DELAY_S = 0.2
DOWN_S = 4.0
ON_THE_WAY = ("black hole", "requests lost", "replies lost", "reset", "delay")
AT_THE_BROKER = ("kill -9", "restart", "stop")
EXIT_WITHIN_S = 5.0
HUNG_AT = ("restored", "under load", "in a restore", "in a commit", "for a while")  # when the broker is stopped
RATE, PARTITIONS = 60.0, 2
STEP = 7  # readings a step of the oracle: a tenth of the processor's time of one a step, over nine scenes at once

held = threading.Event()  # never set: to let an outage last


@contextmanager
def in_front(scene: Scene, slots: tuple[str, ...]) -> Iterator[tuple[Proxy, "Keeper"]]:
    """Workers behind a proxy, kept running."""
    proxy = Proxy()
    try:
        with Keeper(scene, slots, proxy.url) as keeper:
            yield proxy, keeper
    finally:
        proxy.stop()


class Keeper:
    """Starts workers again when they end, as whatever runs them in production does."""

    def __init__(self, scene: Scene, slots: tuple[str, ...], proxy: str | None = None) -> None:
        self.restarts = 0
        self._scene, self._slots, self._proxy = scene, slots, proxy
        self._stop = threading.Event()
        for slot in slots:
            scene.start(slot, proxy=proxy)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(0.5):
            for slot in self._slots:
                if self._scene.workers[slot].ended.is_set():
                    self._scene.start(slot, proxy=self._proxy)
                    self.restarts += 1


def on_the_way(cast: Cast, kind: str, count: int) -> Figures:
    """The network between workers and broker fails `count` times; the broker and the readings are well."""
    progress_s: list[float] = []
    with (
        Scene(*cast, rate=RATE, partitions=PARTITIONS, step=STEP) as scene,
        in_front(scene, ("w0", "w1")) as (proxy, keeper),
    ):
        scene.wait_for_progress(300)
        for _ in range(count):
            _break(proxy, kind)
            proxy.resume()
            progress_s.append(_progress_s(scene))
        keeper.stop()
        outcome = scene.finish(("w0", "w1"))
    return _figures(kind, outcome, progress_s, keeper.restarts)


def _break(proxy: Proxy, kind: str) -> None:
    if kind == "black hole":
        proxy.hang()
        held.wait(BLACK_HOLE_S)
    elif kind in ("requests lost", "replies lost"):
        proxy.hang(requests=kind == "requests lost", replies=kind == "replies lost")
        held.wait(HALF_OPEN_S)
    elif kind == "reset":
        proxy.reset(refuse=True)
        held.wait(REFUSED_S)
    else:
        proxy.delay(DELAY_S)
        held.wait(SLOW_S)


def at_the_broker(own: OwnBroker, cast: Cast, kind: str, count: int) -> Figures:
    """The broker itself dies, restarts or stands still."""
    progress_s: list[float] = []
    with Scene(*cast, rate=RATE, partitions=PARTITIONS, step=STEP) as scene, Keeper(scene, ("w0", "w1")) as keeper:
        scene.wait_for_progress(300)
        for _ in range(count):
            if kind == "stop":
                own.stop()
                held.wait(STOP_S)
                own.resume()
            else:
                (own.kill if kind == "kill -9" else own.end)()
                held.wait(DOWN_S)
                own.start()
            progress_s.append(_progress_s(scene))
        keeper.stop()
        outcome = scene.finish(("w0", "w1"))
    return _figures(kind, outcome, progress_s, keeper.restarts)


def _progress_s(scene: Scene) -> float:
    """From now until readings have verdicts in every partition that had none before."""
    before = dict(scene.witness.published)
    return wait_until(
        lambda: all(latest > before.get(number, -1) for number, latest in dict(scene.witness.published).items()),
        300,
        "progress",
    )


def _figures(kind: str, outcome: Outcome, progress_s: list[float], restarts: int) -> Figures:
    figures = Figures.of(f"broker: {kind}", len(progress_s), outcome)
    slowest = max(progress_s)
    figures.extra |= {"progress after s": {kind: round(slowest, 1)}, "restarts": restarts}
    figures.extra |= {"fenced": outcome.lines["tasks_migrated"]}
    figures.require(slowest <= PROGRESS_WITHIN_S, f"progress within {PROGRESS_WITHIN_S:.0f} s: it took {slowest:.1f} s")
    return figures


def late_end_of_transaction(cast: Cast, count: int) -> Figures:
    """EndTxn is kept back, and comes when the next transaction may be open."""
    chance = random.Random(cast.seed)
    how: Counter[str] = Counter()
    with Scene(*cast, rate=150, partitions=PARTITIONS, step=STEP) as scene, in_front(scene, ("w0",)) as (proxy, keeper):
        for number in range(count):
            scene.wait_for_progress(300)
            break_off = number % 4 < 3
            proxy.keep_back(END_TXN, break_off=break_off)
            assert proxy.kept.wait(120), "no transaction was ended"
            held.wait(chance.uniform(0.0, 1.2) if break_off else SESSION_MS / 1000 + chance.uniform(0.0, 1.0))
            try:
                proxy.deliver(reconnect=chance.random() < 0.5)
                how["delivered after a break" if break_off else "delivered late"] += 1
            except (AssertionError, OSError, TimeoutError):
                how["the broker had hung up"] += 1
        keeper.stop()
        outcome = scene.finish()
    figures = Figures.of("EndTxn held back and delivered late", sum(how.values()), outcome)
    figures.extra |= {"how": dict(how), "fenced": outcome.lines["tasks_migrated"], "restarts": keeper.restarts}
    figures.require(how["delivered after a break"] > 0, "none was delivered after its connection was broken off")
    return figures


def terminations(cast: Cast, count: int, alone: int) -> Figures:
    """SIGTERM under load, `count` times; and `alone` times with no way to the broker.

    There it ends with 0 only where all that it judged is written: the next start then has nothing to judge again.
    """
    chance = random.Random(cast.seed)
    took_s: list[float] = []
    alone_s: list[float] = []
    codes: Counter[int] = Counter()
    wrong: list[str] = []
    all_written: list[int] = []  # how many restores there had been when it said so
    with Scene(*cast, rate=400, step=STEP) as scene:
        for _ in range(count):
            before = scene.said("state_restored")
            scene.start("w0")
            scene.wait_for_start(before)
            held.wait(chance.uniform(0.0, 0.8))
            seconds, code = _end(scene)
            took_s.append(seconds)
            if code:
                wrong.append(f"exit code {code} under load")
        replayed = sum(line["replayed"] for line in scene.lines() if line["event"] == "state_restored")
        for _ in range(alone):
            proxy = Proxy()
            before = scene.said("state_restored")
            scene.start("w0", proxy=proxy.url)
            scene.wait_for_start(before)
            scene.wait_for_progress(300)  # one that has judged nothing yet has nothing to write, and ends with 0
            held.wait(chance.uniform(0.0, 0.5))
            proxy.hang()
            held.wait(chance.uniform(0.0, 1.0))
            seconds, code = _end(scene)
            alone_s.append(seconds)
            codes[code] += 1
            if not code:
                all_written.append(scene.said("state_restored"))
            proxy.stop()
        outcome = scene.finish()
        restored = [line["replayed"] for line in scene.lines("w0") if line["event"] == "state_restored"]
    figures = Figures.of("SIGTERM under load; with the broker gone", count + alone, outcome)
    slowest, slowest_alone = max(took_s), max(alone_s, default=0.0)
    figures.extra |= {"exit at most": f"{slowest:.1f} s; {slowest_alone:.1f} s", "replayed": replayed}
    figures.extra |= {"exit codes with the broker gone": dict(codes)}
    figures.failures += wrong
    for before in all_written:
        again = sum(restored[before : before + scene.partitions])
        figures.require(again == 0, f"{again} readings were judged again after an exit with 0 and the broker gone")
    figures.require(slowest <= EXIT_WITHIN_S, f"exit within {EXIT_WITHIN_S:.0f} s: {slowest:.1f} s")
    figures.require(slowest_alone <= EXIT_WITHIN_S, f"exit within {EXIT_WITHIN_S:.0f} s: {slowest_alone:.1f} s")
    figures.require(replayed == 0, f"{replayed} readings were replayed after SIGTERM")
    return figures


def hung_terminations(own: OwnBroker, cast: Cast, count: int) -> Figures:
    """SIGTERM while the broker stands still with all its connections, `count` times, at each of several moments."""
    took_s: list[float] = []
    codes: Counter[str] = Counter()
    with Scene(*cast, rate=RATE, partitions=PARTITIONS, step=STEP) as scene:
        for number in range(count):
            moment = HUNG_AT[number % len(HUNG_AT)]
            _hang(own, scene, moment)
            seconds, code = _end(scene)
            took_s.append(seconds)
            codes[f"{moment}: {code}"] += 1
            own.resume()
        outcome = scene.finish()
    figures = Figures.of("SIGTERM while the broker stands still", count, outcome)
    in_time = sum(seconds <= EXIT_WITHIN_S for seconds in took_s)
    figures.extra |= {"exit codes": dict(codes), "in time": f"{in_time} of {count}"}
    figures.extra |= {"exit s": f"{min(took_s):.1f}, {median(took_s):.1f}, {max(took_s):.1f}"}
    figures.require(in_time == count, f"exit within {EXIT_WITHIN_S:.0f} s: {in_time} of {count}, {max(took_s):.1f} s")
    figures.require(not codes["in a commit: 0"], f"{dict(codes)}")  # there it cannot have been written
    return figures


def _hang(own: OwnBroker, scene: Scene, moment: str) -> None:
    """Let the worker come to that moment, and stop the broker."""
    points = {"in a restore": "restore_50", "in a commit": "after_pages"}
    before = scene.said("state_restored")
    if moment in points:
        child = scene.start("w0", Fault(points[moment], number=signal.SIGSTOP))
        assert child.stopped.wait(60), f"{points[moment]} was not reached"
        own.stop()
        child.signal(signal.SIGCONT)
        return
    scene.start("w0")
    scene.wait_for_start(before)
    if moment != "restored":
        scene.wait_for_progress(60)
    own.stop()
    held.wait(2.0 if moment == "for a while" else 0.0)


def _end(scene: Scene) -> tuple[float, int]:
    began = time.monotonic()
    code = scene.stop("w0", within_s=60)
    return time.monotonic() - began, code
