"""`python -m tests.bench.rebalance`: how long records wait when a group's members change, by assignment strategy.

On a broker of its own, with readings coming all the time, a second consumer joins a first one, leaves, is killed and,
where it is a static member, comes back. Each is done several times, at other moments of the heartbeat's interval.
Every consumer is a process and the client's own, without Telltale: what is measured is the client and its protocol.
"""

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from tests.kafka import running_broker

T = TypeVar("T")

STRATEGIES = {
    "range": RangePartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
PARTITIONS = 8
EVERY_S = 0.01  # a record to each partition
HEARTBEAT_MS = 500
SESSION_MS = 6_000
WITHIN_S = 30.0
SETTLED_S = 1.5  # so long without a rebalance counts as calm
MEASURES = ("joins", "pause of first", "leaves", "killed", "restarts")


class Heard(NamedTuple):
    """What one poll brought."""

    at: float
    partitions: frozenset[int]


class Member:
    """A consumer in a process of its own; its clock is ours (CLOCK_MONOTONIC is the machine's)."""

    def __init__(self, servers: str, topic: str, group: str, strategy: str, instance: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "tests.bench.rebalance", "consumer"]
        self._process = subprocess.Popen(
            [*command, servers, topic, group, strategy, instance],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.heard: list[Heard] = []
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(WITHIN_S):
            raise SystemExit("a consumer did not start")

    def __enter__(self) -> "Member":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def join(self) -> float:
        """Let it subscribe; until then it has only been made."""
        assert self._process.stdin is not None
        start = time.monotonic()
        self._process.stdin.write("join\n")
        self._process.stdin.flush()
        return start

    def end(self, how: signal.Signals) -> float:
        """SIGTERM: it closes its client, which leaves the group unless the member is static."""
        start = time.monotonic()
        self._process.send_signal(how)
        return start

    def first_after(self, start: float, partitions: frozenset[int]) -> float:
        """Seconds from start to its first record of one of the partitions."""
        return _within(
            lambda: next((h.at - start for h in self.heard if h.at > start and h.partitions & partitions), None)
        )

    def owned(self) -> frozenset[int]:
        """The partitions of the last half second."""
        return frozenset().union(*(h.partitions for h in self.heard if h.at > time.monotonic() - 0.5))

    def longest_pause(self, start: float, end: float) -> float:
        times = [h.at for h in list(self.heard) if start - 0.5 <= h.at <= end]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if said == "ready":
                self._ready.set()
            else:
                self.heard.append(Heard(said[0], frozenset(said[1])))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rebalance", description=__doc__)
    parser.add_argument("--phases", type=int, default=5, help="joins and graceful leaves of each kind")
    parser.add_argument("--kills", type=int, default=2, help="of each kind, and restarts of static members")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    args = parser.parse_args()
    with running_broker() as broker:
        print(
            f"broker: {broker.kind}; {PARTITIONS} partitions, a record to each every {EVERY_S * 1000:.0f} ms;", end=" "
        )
        print(f"heartbeat {HEARTBEAT_MS} ms, session {SESSION_MS} ms; seconds, median (longest)")
        print(f"{'':24}" + "".join(f"{name:>17}" for name in MEASURES), flush=True)
        topic = broker.create_topic(PARTITIONS, "rebalance")
        with _records(broker.bootstrap_servers, topic):
            for strategy in args.strategies:
                for static in (False, True):
                    took = _measure(broker.bootstrap_servers, topic, strategy, static, args.phases, args.kills)
                    name = f"{strategy}{', static' if static else ''}"
                    print(f"{name:24}" + "".join(f"{_shown(took[m]):>17}" for m in MEASURES), flush=True)


def _shown(took_s: list[float]) -> str:
    return f"{statistics.median(took_s):.2f} ({max(took_s):.2f})" if took_s else "-"


@contextlib.contextmanager
def _records(servers: str, topic: str) -> Iterator[None]:
    """Records to every partition, at a steady rate, for as long as the context lasts."""
    enough = threading.Event()

    def produce() -> None:
        with KafkaProducer(bootstrap_servers=servers) as producer:
            while not enough.wait(EVERY_S):
                for partition in range(PARTITIONS):
                    producer.send(topic, b"v", partition=partition)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _measure(servers: str, topic: str, strategy: str, static: bool, phases: int, kills: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {name: [] for name in MEASURES}
    group = f"rebalance-{uuid.uuid4().hex[:10]}"
    everything = frozenset(range(PARTITIONS))

    def member(name: str) -> Member:
        return Member(servers, topic, group, strategy, name if static else "")

    with member("first") as first:
        first.join()
        _calm(first, everything)
        endings = ["leaves"] * phases + ["killed"] * kills + (["restarts"] * kills if static else [])
        for number, ending in enumerate(endings):
            with member("second") as second:
                phase_s = HEARTBEAT_MS / 1000 * number / len(endings)  # of the first one's heartbeat
                time.sleep(phase_s)
                start = second.join()
                joined = second.first_after(start, everything)
                taken = _shared(first, second)
                took["joins"].append(joined)
                took["pause of first"].append(first.longest_pause(start, time.monotonic()))
                time.sleep(phase_s)
                if ending == "restarts":
                    took[ending].append(_restart(second, member, everything, taken))
                else:
                    start = second.end(signal.SIGKILL if ending == "killed" else signal.SIGTERM)
                    took[ending].append(first.first_after(start, taken))
            _calm(first, everything)
    return took


def _restart(
    second: Member, member: Callable[[str], Member], everything: frozenset[int], taken: frozenset[int]
) -> float:
    """Kill it, and let one of the same name come at once (its process waits, so that no import is measured)."""
    with member("second") as again:
        second.end(signal.SIGKILL)
        took_s = again.first_after(again.join(), everything)
        _within(lambda: True if again.owned() == taken else None)
    return took_s


def _shared(first: Member, second: Member) -> frozenset[int]:
    """Wait until each has a half, and go on having it; return the second's."""
    half = PARTITIONS // 2
    since: list[float] = []

    def settled() -> frozenset[int] | None:
        owned = first.owned(), second.owned()
        if [len(o) for o in owned] != [half, half] or owned[0] & owned[1]:
            since.clear()
        elif not since:
            since.append(time.monotonic())
        return owned[1] if since and time.monotonic() - since[0] > SETTLED_S else None

    return _within(settled)


def _calm(first: Member, everything: frozenset[int]) -> None:
    _within(lambda: True if first.owned() == everything else None)
    start = time.monotonic()
    _within(lambda: True if first.owned() == everything and time.monotonic() - start > SETTLED_S else None)


def _within(condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + WITHIN_S
    while (met := condition()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"a group did not come to rest within {WITHIN_S} s")
        time.sleep(0.005)
    return met


def consume(servers: str, topic: str, group: str, strategy: str, instance: str) -> None:
    """A member's process: made at once, in the group once told to, gone by SIGTERM."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=group,
        group_instance_id=instance or None,
        partition_assignment_strategy=[STRATEGIES[strategy]],
        heartbeat_interval_ms=HEARTBEAT_MS,
        session_timeout_ms=SESSION_MS,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="latest",
    )
    leaving = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    print('"ready"', flush=True)
    sys.stdin.readline()
    threading.Thread(target=_wait_for_the_bench_to_end, args=(leaving,), daemon=True).start()
    consumer.subscribe([topic])
    consumer.partitions_for_topic(topic)  # as KafkaLog does: else the leader may assign before it knows them
    while not leaving.is_set():
        drained = consumer.poll(timeout_ms=50)
        if drained:
            print(json.dumps([time.monotonic(), [tp.partition for tp in drained]]), flush=True)
    consumer.close()


def _wait_for_the_bench_to_end(leaving: threading.Event) -> None:
    sys.stdin.read()
    leaving.set()


if __name__ == "__main__":
    if sys.argv[1:2] == ["consumer"]:
        consume(*sys.argv[2:])
    else:
        main()
