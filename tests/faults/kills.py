"""Rows in which workers are killed, stopped, started and ended."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil

from tests.faults.figures import Cast, Figures
from tests.faults.scene import SESSION_MS, Fault, Scene, wait_until

IN_A_COMMIT = (
    "decode",
    "before_begin",
    "after_begin",
    "after_anomalies",
    "after_pages_half",
    "after_pages",
    "after_marker",
    "after_offsets",
    "during_commit",
    "after_commit",
)
IN_A_RECOVERY = ("restore_10", "restore_50", "restore_90", "replay")
DURING_COMMIT_MS = 6.0
AT_RANDOM = 0.4  # of the kills: at any moment, not at a fail-point
REACHED_WITHIN_S = 15.0  # at the first try, and twice as long at each other: a machine may have much else to do
STARTED_WITHIN_S, ENDED_WITHIN_S = 180.0, 60.0
TRIES = 5  # a fail-point is not on every worker's way: nothing to replay, no partition to commit
SESSION_S = SESSION_MS / 1000
BACK_WITHIN_S = 4.0
DEFAULT_SESSION = {"kafka.session_timeout_ms": 10_000, "kafka.transaction_timeout_ms": 10_000}


def kills(cast: Cast, count: int, workers: int) -> Figures:
    """kill -9 at every fail-point in turn and at random, under load."""
    chance = random.Random(cast.seed)
    revoked = ("revoke",) * 3 if workers == 1 else ()  # it costs two starts, and three workers do not wait for one
    points = (*revoked, *IN_A_RECOVERY, *IN_A_COMMIT)
    plan = [planned(points[n % len(points)], chance) for n in range(count - int(count * AT_RANDOM))]
    plan += [None] * (count - len(plan))
    chance.shuffle(plan)
    killed: Counter[str] = Counter()
    with Scene(*cast) as scene:
        slots = [f"w{n}" for n in range(workers)]
        began = time.monotonic()
        _each(slots, plan, lambda slot, fault, moment: kill(scene, slot, fault, moment, killed), chance)
        seconds = time.monotonic() - began
        outcome = scene.finish(tuple(slots))
        replayed = sum(line["replayed"] for line in scene.lines() if line["event"] == "state_restored")
    figures = Figures.of(f"kill -9, {workers} worker{'s' if workers > 1 else ''}", sum(killed.values()), outcome)
    figures.extra |= {
        "at": dict(sorted(killed.items())),
        "replayed": replayed,
        "s a kill": round(seconds / count, 2),
    }
    wanted = Counter("random" if fault is None else fault.point for fault in plan)
    missed = {point: many - killed[point] for point, many in wanted.items() if killed[point] < many}
    figures.require(not missed, f"not reached in {TRIES} tries: {missed}")
    return figures


def planned(point: str, chance: random.Random) -> Fault | None:
    hit = 1 if point in IN_A_RECOVERY or point == "revoke" else chance.randrange(1, 9)
    return Fault(point, hit, within_ms=DURING_COMMIT_MS if point == "during_commit" else 0.0)


def kill(scene: Scene, slot: str, fault: Fault | None, moment: random.Random, killed: Counter[str]) -> None:
    for number in range(TRIES):
        within_s = REACHED_WITHIN_S * 2**number
        child = scene.start(slot, fault)
        if fault is None:
            child.ended.wait(moment.uniform(0.02, 1.5))
            reached = True
        elif fault.point == "revoke":
            reached = _reaches_revoke(scene, slot, within_s)
        else:
            reached = child.ended.wait(within_s)
        at = fault.point if fault else "random"
        child.signal(signal.SIGKILL)
        code = child.wait(ENDED_WITHIN_S)
        killed[f"ended with {code}" if code >= 0 else at if reached else f"not at {at}"] += 1
        if reached:
            return


def _reaches_revoke(scene: Scene, slot: str, within_s: float) -> bool:
    """Let another worker join, so that this one loses some of its partitions."""
    child = scene.workers[slot]
    restored = scene.said("state_restored", slot)
    wait_until(
        lambda: child.ended.is_set() or scene.said("state_restored", slot) >= restored + scene.partitions,
        STARTED_WITHIN_S,
        "a start",
    )
    other = scene.start(f"{slot}-joins", member=False)
    reached = child.ended.wait(within_s)
    other.signal(signal.SIGTERM)
    other.wait(ENDED_WITHIN_S)
    return reached


def kills_in_recovery(cast: Cast, count: int) -> Figures:
    """A kill, and three more, each in the recovery from the one before."""
    chance = random.Random(cast.seed)
    depths: Counter[str] = Counter()
    with Scene(*cast) as scene:
        for _ in range(count):
            chain = [chance.choice(IN_A_COMMIT[3:]), *(chance.choice(IN_A_RECOVERY) for _ in range(3))]
            for depth, point in enumerate(chain):
                for number in range(TRIES):
                    child = scene.start("w0", Fault(point, 1 if depth else chance.randrange(2, 12)))
                    reached = child.ended.wait(REACHED_WITHIN_S * 2**number)
                    child.signal(signal.SIGKILL)
                    child.wait(ENDED_WITHIN_S)
                    depths[f"depth {depth}" if reached else f"not at {point}"] += 1
                    if reached:
                        break
        outcome = scene.finish()
    figures = Figures.of("kill -9 in recovery, 3 deep", count, outcome)
    figures.extra |= {"reached": dict(sorted(depths.items()))}
    figures.require(depths["depth 3"] == count, f"the third kill was reached {depths['depth 3']} times of {count}")
    return figures


def supervised(cast: Cast, count: int) -> Figures:
    """kill -9 of one of three workers that a supervisor looks after, under load, with the session that is the default.

    Seconds are until a reading that is written after the kill has its verdict in every partition, less what that
    takes when nothing is killed. The least counts: on a machine with much else to do anything may wait once.
    """
    chance, seconds = random.Random(cast.seed), list[float]()
    with Scene(*cast, settings={"workers": 3, **DEFAULT_SESSION}) as scene:
        child = scene.start("w0")
        scene.wait_for_progress(STARTED_WITHIN_S)
        calm_s = min(scene.wait_for_progress(STARTED_WITHIN_S) for _ in range(3))
        for _ in range(count):
            chance.choice(psutil.Process(child.pid).children()).kill()
            seconds.append(scene.wait_for_progress(STARTED_WITHIN_S) - calm_s)
        outcome = scene.finish()
        ended = child.ended.is_set()
    figures = Figures.of("kill -9, one of 3 supervised", count, outcome)
    figures.extra |= {"s to progress": [round(one, 1) for one in sorted(seconds)], "s when calm": round(calm_s, 1)}
    figures.require(ended, "the supervisor of the beginning is not the one that was stopped at the end")
    figures.require(min(seconds) <= BACK_WITHIN_S, f"progress after {min(seconds):.1f} s, expected {BACK_WITHIN_S} s")
    figures.require(outcome.lines["process_ended"] == count, f"{outcome.lines['process_ended']} ends were seen")
    return figures


def stops(cast: Cast, count: int, *, control: bool = False) -> Figures:
    """SIGSTOP for longer than the session, mostly within a commit, while a third worker goes on.

    control: with offsets sent in the group's name alone. Then the oracle must find what is published twice.
    """
    chance = random.Random(cast.seed)
    stopped: Counter[str] = Counter()
    plan: list[Fault | None] = [
        Fault(p, chance.randrange(3, 9), signal.SIGSTOP) for p in _cycle(("decode", *IN_A_COMMIT[:8]), count)
    ]
    with Scene(*cast, control=control) as scene:
        scene.start("w2")
        _each(("w0", "w1"), plan, lambda slot, fault, moment: _stop_once(scene, slot, fault, moment, stopped), chance)
        lines = scene.lines()
        outcome = scene.finish(("w2",))
    name = "negative control: the group's name alone" if control else "SIGSTOP longer than the session"
    figures = Figures.of(name, sum(stopped.values()), outcome)
    fenced = sum(line["event"] == "tasks_migrated" for line in lines)
    figures.extra |= {"fenced": fenced, "at": dict(sorted(stopped.items()))}
    if control:
        figures.expects_differences = True
        figures.require(outcome.differences.twice > 0, "the oracle found nothing that was published twice")
    else:
        figures.require(fenced > 0, "no worker was fenced")
    return figures


def _stop_once(scene: Scene, slot: str, fault: Fault | None, moment: random.Random, stopped: Counter[str]) -> None:
    assert fault is not None
    child = scene.start(slot, fault)
    if not child.stopped.wait(REACHED_WITHIN_S):
        child.signal(signal.SIGSTOP)
        child.stopped.wait(5)
        stopped["random"] += 1
    else:
        stopped[fault.point] += 1
    held = threading.Event()
    held.wait(SESSION_S + moment.uniform(0.5, 1.5))
    said = _noticed(scene, slot)
    child.signal(signal.SIGCONT)
    with suppress(TimeoutError):  # it may have had no partition; whether anything was fenced is counted over all
        wait_until(lambda: child.ended.is_set() or _noticed(scene, slot) > said, 3.0, "fencing")
    child.signal(signal.SIGTERM)
    child.signal(signal.SIGCONT)  # it may have stopped again
    if not child.ended.wait(3):
        child.signal(signal.SIGKILL)
        child.wait(ENDED_WITHIN_S)


def _noticed(scene: Scene, slot: str) -> int:
    """How often the worker saw that its partitions are others' now."""
    return scene.said("tasks_migrated", slot) + scene.said("partition_revoked", slot)


def _each(
    slots: Sequence[str],
    plan: Sequence[Fault | None],
    once: Callable[[str, Fault | None, random.Random], None],
    chance: random.Random,
) -> None:
    """Deal the plan out to the slots, which work at the same time."""

    def work(slot: str, mine: Sequence[Fault | None], seed: float) -> None:
        moment = random.Random(seed)
        for fault in mine:
            once(slot, fault, moment)

    with ThreadPoolExecutor(len(slots)) as threads:
        done = [threads.submit(work, slot, plan[n :: len(slots)], chance.random()) for n, slot in enumerate(slots)]
        for one in done:
            one.result()


def _cycle(points: Sequence[str], count: int) -> list[str]:
    return [points[n % len(points)] for n in range(count)]
