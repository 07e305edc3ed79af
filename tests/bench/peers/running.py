"""One contender's run: start it, let it work through a topic, and let no figure count that it did not earn."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kafka.admin import KafkaAdminClient

from service.kafka.topics import CHANGELOG
from tests.bench.peers.contenders import BARE, Contender, Peer
from tests.bench.peers.environments import ROOT
from tests.bench.peers.expected import HIDDEN, Expected, Place
from tests.kafka import Broker

STARTS_WITHIN_S = 120.0  # a JVM, a cluster in it, the first assignment of partitions
SLOWEST = 20  # times slower than its usual rate: then it hangs


class Failed(Exception):
    """This run gives no figure; the message says why."""


class Account(NamedTuple):
    """What a peer says at its end. timed, seconds: of the readings behind the first fifth."""

    judged: int
    anomalies: int
    timed: int
    seconds: float


class Task(NamedTuple):
    """What a contender has to do: work through a topic that load.fill() filled. weights: of the peers' LSTM."""

    topic: str
    streams: int
    readings: int
    weights: Path


def rate_of(contender: Contender, broker: Broker, task: Task, expected: Expected | None) -> float:
    """Readings a second of one run. Raises Failed."""
    timeout_s = STARTS_WITHIN_S + SLOWEST * task.readings / contender.rate
    with _own_topics(broker):
        if isinstance(contender, Peer):
            return _rate_of_peer(contender, broker, task, expected, timeout_s)
        arguments = _bare(broker, task) if contender is BARE else _telltale(broker, task)
        command = [sys.executable, "-W", "ignore", "-m", "tests.bench.load", *arguments]
        said = json.loads(_last_line(command, timeout_s))
        if "rate" not in said:
            raise Failed(f"all {task.readings:,} readings came before the first was measured: --readings wants more")
        return float(said["rate"])


def _rate_of_peer(peer: Peer, broker: Broker, task: Task, expected: Expected | None, timeout_s: float) -> float:
    anomalies = broker.create_topic(broker_partitions(broker, task.topic), "peer-anomalies")
    with tempfile.TemporaryDirectory(prefix=f"telltale-peer-{peer.name}-") as folder:
        command = [
            *peer.environment.command(),
            *("--servers", broker.bootstrap_servers),
            *("--topic", task.topic),
            *("--anomalies", anomalies),
            *("--group", anomalies),  # a name that no run had before
            *("--readings", str(task.readings)),
            *("--folder", folder),
            *("--weights", str(task.weights)),
        ]
        account = account_of(command, timeout_s)
    check(account, task.readings, _places(broker, anomalies), expected)
    return account.timed / account.seconds


def account_of(command: Sequence[str], timeout_s: float) -> Account:
    """Run a peer's program to its end and read the account in its last line. Raises Failed."""
    line = _last_line(command, timeout_s)
    try:
        return Account(**json.loads(line))
    except (TypeError, ValueError):
        raise Failed(f"its last line is {line[:200]!r}, expected an account: {', '.join(Account._fields)}") from None


def check(account: Account, readings: int, written: Sequence[Place], expected: Expected | None) -> None:
    """Raises Failed unless every reading was judged and the anomalies are there, each once and the right ones.

    expected: None for a peer that has a rule of its own.
    """
    if account.judged != readings:
        raise Failed(f"judged {account.judged:,} readings, expected {readings:,}")
    if account.timed <= 0 or account.seconds <= 0:
        raise Failed(f"timed {account.timed:,} readings in {account.seconds} s")
    if not written:
        raise Failed("no anomaly is in its topic")
    twice = [place for place, times in Counter(written).items() if times > 1]
    if twice:
        raise Failed(f"{len(twice):,} anomalies are in its topic more than once, the first is {twice[0]}")
    if len(written) != account.anomalies:
        raise Failed(f"{len(written):,} anomalies are in its topic, it reports {account.anomalies:,}")
    if expected is not None:
        missing, wrong = expected.certain - set(written), set(written) - expected.possible
        if missing or wrong:
            raise Failed(
                f"of {len(expected.certain):,} anomalies {len(missing):,} are missing, {len(wrong):,} are wrong"
            )


def _bare(broker: Broker, task: Task) -> list[str]:
    return ["bare", broker.bootstrap_servers, task.topic, str(task.readings)]


def _telltale(broker: Broker, task: Task) -> list[str]:
    partitions = broker_partitions(broker, task.topic)
    outputs = [broker.create_topic(partitions, f"telltale-{what}") for what in ("anomalies", "dead-letters")]
    changelog = broker.create_topic(partitions, "telltale-changelog", CHANGELOG)
    sizes = (str(task.streams), str(task.readings), str(HIDDEN))
    return ["work", broker.bootstrap_servers, task.topic, *outputs, changelog, changelog, *sizes, "keep"]


def _last_line(command: Sequence[str], timeout_s: float) -> str:
    """What a program prints last. It has one core, the last: the broker has the others."""
    if shutil.which("taskset"):
        command = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), *command]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=ROOT,
            env={**os.environ, **one_thread},
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end within {timeout_s:.0f} s") from None
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or ["and said nothing"]
        raise Failed(f"ended with {ran.returncode}: {said[-1]}")
    lines = ran.stdout.strip().splitlines()
    if not lines:
        raise Failed("printed nothing")
    return lines[-1]


def _places(broker: Broker, topic: str) -> list[Place]:
    found = [json.loads(written.record.value or b"") for written in broker.read_committed(topic)]
    return [(anomaly["stream"], anomaly["timestamp"]) for anomaly in found]


def broker_partitions(broker: Broker, topic: str) -> int:
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        return len(admin.describe_topics([topic])[0]["partitions"])


@contextmanager
def _own_topics(broker: Broker) -> Iterator[None]:
    """Delete the topics that were made meanwhile, changelogs above all: every run begins on the same disk."""
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        before = set(admin.list_topics())
        try:
            yield
        finally:
            admin.delete_topics([name for name in admin.list_topics() if name not in before and name[:2] != "__"])
