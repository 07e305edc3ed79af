"""The row of `telltale rekey`: killed at fail-points and at random, each reading is there once, to the byte."""

import random
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from service import failpoints
from service.host import log_lines
from service.kafka.topics import CHANGELOG
from service.log.port import Partition, Record
from service.process.rekey import run_rekey
from service.settings import loading
from service.stages.rekey.readings import SOURCE
from tests.faults.figures import Cast, Figures
from tests.faults.oracle import Differences, Published, compare
from tests.faults.scene import SESSION_MS, Fault, wait_until
from tests.faults.worker import fail
from tests.kafka import Broker
from tests.service.stages.rekey.plant import PARTITIONS, PLANTS, Plant, by_stream, in_parts, of_streams

POINTS = ("before_begin", "after_begin", "after_anomalies", "after_offsets", "during_commit")
AT_RANDOM = 0.4  # of the kills: at any moment, not at a fail-point
RECORDS_A_KILL = 4_000  # enough for the commits that a fail-point waits for
POLL_RECORDS = 40  # so few that a kill has many commits to be in
WIDTH = 4  # partitions that are written to
REACHED_WITHIN_S, ENDED_WITHIN_S, DRAINED_WITHIN_S = 120.0, 60.0, 1_800.0


class _Written(NamedTuple):
    streams: dict[bytes, list[Record]]
    letters: list[Record]


def run(orders: Mapping[str, Any]) -> int:
    """A process of `telltale rekey`. orders: `settings` by "section.field"; `fail`: a scene.Fault."""
    log_lines.configure("INFO", "json")
    if orders["fail"]:
        failpoints.arm(fail(**orders["fail"]))
    run_rekey(loading.load(None, orders["settings"]))
    return 0


def kills(cast: Cast, count: int, plant: str) -> Figures:
    """kill -9 of the one process of the stage, which is started again each time. plant: its name."""
    kind, chance = PLANTS[plant], random.Random(cast.seed)
    records = kind.records(count * RECORDS_A_KILL // kind.a_second)
    parts = in_parts(records, count + 1)  # one at a time: a fast machine would have written all by the last kills
    source, settings = _prepared(cast.broker, kind)
    folder = Path(tempfile.mkdtemp(prefix="telltale-faults-"))
    killed: Counter[str] = Counter()

    def start(fault: Fault | None) -> Any:
        orders = {"settings": settings, "fail": None if fault is None else fault._asdict()}
        return cast.nursery.start("rekey", orders, folder / "rekey.log")

    for n in range(count):
        at_random = chance.random() < AT_RANDOM
        point = POINTS[n % len(POINTS)]
        within_ms = 6.0 if point == "during_commit" else 0.0
        _produce(cast.broker, source, parts[n])
        child = start(None if at_random else Fault(point, chance.randrange(1, 4), within_ms=within_ms))
        reached = child.ended.wait(chance.uniform(0.5, 3.0) if at_random else REACHED_WITHIN_S)
        child.signal(signal.SIGKILL)
        child.wait(ENDED_WITHIN_S)
        killed["random" if at_random else point if reached else f"not at {point}"] += 1
    expected = _calm(source, kind, records)
    wanted = sum(map(len, expected.streams.values()))
    before = _found(cast.broker, settings)
    _produce(cast.broker, source, parts[count])
    child = start(None)
    wait_until(lambda: _count(cast.broker, settings) >= wanted, DRAINED_WITHIN_S, "all readings")
    child.signal(signal.SIGTERM)
    code = child.wait(ENDED_WITHIN_S)
    figures = Figures(
        f"kill -9, rekey, {plant}",
        count,
        wanted,
        _differences(expected, _found(cast.broker, settings)),
    )
    figures.extra |= {"at": dict(sorted(killed.items())), "written between kills": _size(before)}
    figures.require(code == 0, f"it ended with {code} after SIGTERM")
    figures.require(0 < _size(before) < wanted, f"{_size(before)} of {wanted} readings were written between the kills")
    return figures


def _produce(broker: Broker, source: str, records: list[list[Record]]) -> None:
    broker.produce(source, [(number, record) for number, mine in enumerate(records) for record in mine])


def _prepared(broker: Broker, kind: Plant) -> tuple[str, dict[str, object]]:
    """A topic, and the settings that read it."""
    source = broker.create_topic(PARTITIONS, "gateways")
    return source, {
        **kind.settings(source),
        "kafka.bootstrap_servers": broker.bootstrap_servers,
        "kafka.dead_letters_topic": broker.create_topic(1, "dead-letters"),
        "kafka.changelog_topic": broker.create_topic(1, "changelog", CHANGELOG),
        "kafka.instance": "one",
        "kafka.max_poll_records": POLL_RECORDS,
        "kafka.session_timeout_ms": SESSION_MS,
        "kafka.transaction_timeout_ms": SESSION_MS,
        "rekey.topics": [source],
        "rekey.topic": broker.create_topic(WIDTH, "readings"),
        "rekey.group": f"rekey-{uuid.uuid4().hex[:8]}",
        "rekey.wait_s": 0.05,
    }


def _calm(source: str, kind: Plant, records: list[list[Record]]) -> _Written:
    """What a stage that nothing disturbs writes, on a log in memory."""
    topics = kind.written(source, records)
    return _Written(of_streams(topics), topics.dead_letters[Partition(source, 0)])


def _found(broker: Broker, settings: Mapping[str, Any]) -> _Written:
    found: dict[int, list[Record]] = {}
    for one in broker.read_committed(settings["rekey.topic"]):
        found.setdefault(one.partition, []).append(one.record)
    letters = [one.record for one in broker.read_committed(settings["kafka.dead_letters_topic"])]
    return _Written(by_stream(found), letters)


def _count(broker: Broker, settings: Mapping[str, Any]) -> int:
    return _size(_found(broker, settings))


def _size(written: _Written) -> int:
    return sum(map(len, written.streams.values()))


def _differences(expected: _Written, found: _Written) -> Differences:
    """By stream, whose order is that of time; of dead letters the same set."""
    differences = Differences()
    for number, stream in enumerate(sorted({*expected.streams, *found.streams})):
        wanted, there = (list(map(_published, one.streams.get(stream, []))) for one in (expected, found))
        differences.add(compare(number, wanted, there, _source))
    wanted, there = (sorted(map(_published, one.letters), key=_place) for one in (expected, found))
    differences.add(compare(-1, wanted, there, _place))
    return differences


def _published(record: Record) -> Published:
    return record.key, record.value, record.headers


def _source(record: Published) -> object:
    return dict(record[2]).get(SOURCE)


def _place(letter: Published) -> tuple[bytes | None, bytes | None]:
    headers = dict(letter[2])
    return headers.get("telltale-partition"), headers.get("telltale-offset")
