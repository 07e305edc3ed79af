"""The row of random batch borders, poll sizes and schedules: on the log in memory, thousands of crashes in a minute."""

import random
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from math import exp, log
from pathlib import Path
from typing import Any

import msgspec
import torch

from models.checkpoints import checkpoint
from models.checkpoints.checkpoint import Checkpoint
from service.errors import LogUnavailable
from service.host import log_lines
from service.log.memory_log import Assign, Crash, Crashed, Fault, Migrate, Revoke, Topics
from service.log.port import Partition
from service.state.changelog_keys import Origin
from tests.faults import oracle, plant
from tests.faults.memory import GROUP, Incarnation, filled, undisturbed
from tests.faults.oracle import Differences, Expected, compare, compare_state
from tests.faults.scene import TTL_S, restored

PARTITIONS = (Partition("readings", 0), Partition("readings", 1))


def run(orders: Mapping[str, Any]) -> int:
    """orders: checkpoint, seed, numbers (of the schedules), readings, many (a record); `into`: a file."""
    log_lines.configure("ERROR", "json")
    torch.set_num_threads(1)
    loaded = checkpoint.load(Path(orders["checkpoint"]))
    made = plant.many_a_record if orders["many"] else plant.records
    inputs = {p: list(islice(made(orders["seed"], p.number), orders["readings"] // 2)) for p in PARTITIONS}
    wanted = {partition: undisturbed(loaded, filled(inputs), partition, TTL_S) for partition in PARTITIONS}
    differences, happened = Differences(), Counter[str]()
    for number in orders["numbers"]:
        topics = filled(inputs)
        happened += _play(loaded, topics, random.Random(f"{orders['seed']}/{number}"))
        for partition in PARTITIONS:
            found = _differences(Path(orders["checkpoint"]), topics, partition, wanted[partition])
            found.other = [f"schedule {number}, {one}" for one in found.other]
            differences.add(found)
    Path(orders["into"]).write_bytes(msgspec.json.encode({"differences": differences, "happened": happened}))
    return 0


def _play(loaded: Checkpoint, topics: Topics, chance: random.Random) -> Counter[str]:
    """Workers, one after another, until all is judged; how each is cut short is chance, and where batches end too."""
    happened: Counter[str] = Counter()
    ends = {partition: topics.bounds(partition)[1] for partition in topics.partitions}
    largest = chance.choice((30, 1_000, 5_000))
    while topics.committed != ends:
        worker = Incarnation(loaded, topics, TTL_S, _script(chance), flush_s=chance.choice((0.2, 1.0, 10.0)))
        happened["workers"] += 1
        turns = chance.choice((3, 10, 40, 10_000))
        try:
            while turns and topics.committed != ends:
                turns -= 1
                worker.clock.now_s += chance.expovariate(10)
                worker.turn(int(exp(chance.uniform(0, log(largest)))))
                happened["rounds"] += 1
            if turns:
                worker.worker.flush()
                happened["ended in good order"] += 1
        except Crashed:
            happened["crashes at a commit"] += 1
        except LogUnavailable:  # of flush, when its commit comes at a migration: the next worker judges the rest again
            happened["ended with state that was not written"] += 1
        if chance.random() < 0.3:
            topics.compact()
    last = Incarnation(loaded, topics, TTL_S)
    while last.worker._recoveries or not last.worker._tasks:
        last.turn(1_000)
    last.worker.flush()  # what was replayed is in the pages now
    return happened


def _script(chance: random.Random) -> list[Fault]:
    script: list[Fault] = [Crash(chance.randrange(1, 60), written=chance.random() < 0.5)]
    if chance.random() < 0.5:
        script.append(Migrate(chance.randrange(1, 30)))
    if chance.random() < 0.5:
        at, some = chance.randrange(2, 30), (chance.choice(PARTITIONS),)
        script += [Revoke(at, some), Assign(at + chance.randrange(0, 4), some)]
    return script


def _differences(path: Path, topics: Topics, partition: Partition, wanted: Expected) -> Differences:
    number = partition.number
    anomalies, dead_letters = (
        [oracle.published(record) for record in records[partition]]
        for records in (topics.anomalies, topics.dead_letters)
    )
    differences = compare(number, wanted.anomalies, anomalies, oracle.name_of_anomaly)
    differences.add(compare(number, wanted.dead_letters, dead_letters, oracle.name_of_dead_letter))
    changelog = {record.key: record.value for record in topics.changelog[partition]}
    marker, state, lost = restored(path, Origin(GROUP, partition), changelog)
    if marker.counts != wanted.counts or (marker.next_offset, marker.replay_from) != (wanted.end, wanted.end):
        differences.other.append(f"partition {number}: the last marker is {marker}")
    differences.other += lost
    differences.add(compare_state(number, wanted.state, state))
    return differences
