"""The row of `telltale incidents`: killed at fail-points and at random, while people say things, to the byte.

The oracle is a book in memory that takes in the records in the order that the events' headers say.
"""

import random
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from service import failpoints
from service.host import log_lines
from service.kafka.topics import CHANGELOG, COMPACTED
from service.log.port import Record
from service.process.incidents import run_incidents
from service.settings import loading
from service.stages.incidents.events import CONTROL_APPLIED
from tests.faults.figures import Cast, Figures
from tests.faults.kills import AT_RANDOM, DURING_COMMIT_MS, ENDED_WITHIN_S
from tests.faults.oracle import compare, name_of_anomaly
from tests.faults.rekeying import POINTS
from tests.faults.scene import SESSION_MS, Fault, wait_until
from tests.faults.worker import fail
from tests.kafka import Broker
from tests.nursery import Child
from tests.service.stages.incidents.plant import (
    GROUP_PER_DAY,
    PER_DAY,
    acknowledgements,
    calm,
    plant_anomalies,
    plant_controls,
)

PARTITIONS = 2
ANOMALIES_A_KILL = 100  # with two or three changes each: enough for the commits that a fail-point waits for
POLL_RECORDS = 20  # so few that a kill has many commits to be in
REACHED_WITHIN_S, DRAINED_WITHIN_S = 60.0, 900.0


def run(orders: Mapping[str, Any]) -> int:
    """A process of `telltale incidents`. orders: `settings` by "section.field"; `fail`: a scene.Fault."""
    log_lines.configure("INFO", "json")
    if orders["fail"]:
        failpoints.arm(fail(**orders["fail"]))
    run_incidents(loading.load(None, orders["settings"]))
    return 0


def kills(cast: Cast, count: int) -> Figures:
    """kill -9 of the one process of the stage, which is started again each time; every other time people speak."""
    chance, killed = random.Random(cast.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="telltale-faults-") as folder:
        plant = _Plant(cast, Path(folder), count + 1)
        for n in range(count):
            plant.produce(n)
            if n % 2:
                plant.speak()
            killed[_kill(plant, POINTS[n % len(POINTS)], chance)] += 1
        plant.produce(count)
        before = len(plant.published())
        child = plant.start(None)
        wait_until(plant.is_done, DRAINED_WITHIN_S, "all anomalies and controls")
        child.signal(signal.SIGTERM)
        code = child.wait(ENDED_WITHIN_S)
        found, controls = plant.published(), plant.controls()
    wanted = [(key, value, ()) for key, value in calm(found, plant.anomalies, controls)]
    differences = compare(0, wanted, [(one.key, one.value, ()) for one in found], name_of_anomaly)
    types = Counter(msgspec.json.decode(one.value or b"")["type"] for one in found)
    figures = Figures("kill -9, incidents and controls", count, plant.changes, differences)
    figures.extra |= {"at": dict(sorted(killed.items())), "events": len(found), "controls": types[CONTROL_APPLIED]}
    figures.require(code == 0, f"it ended with {code} after SIGTERM")
    figures.require(0 < before < len(found), f"{before} of {len(found)} events were written between the kills")
    figures.require(
        types[CONTROL_APPLIED] == len(controls), f"{types[CONTROL_APPLIED]} of {len(controls)} controls took effect"
    )
    return figures


def _kill(plant: "_Plant", point: str, chance: random.Random) -> str:
    """Where it was killed."""
    if chance.random() < AT_RANDOM:
        child, at = plant.start(None), "random"
        child.ended.wait(chance.uniform(0.5, 4.0))
    else:
        fault = Fault(point, chance.randrange(1, 4), within_ms=DURING_COMMIT_MS if point == "during_commit" else 0.0)
        child = plant.start(fault)
        at = point if child.ended.wait(REACHED_WITHIN_S) else f"not at {point}"
    child.signal(signal.SIGKILL)
    child.wait(ENDED_WITHIN_S)
    return at


class _Plant:
    """The stage's topics, what happens, and who says what of it."""

    def __init__(self, cast: Cast, folder: Path, parts: int) -> None:
        self._broker, self._nursery, self._log = cast.broker, cast.nursery, folder / "incidents.log"
        self._parts = parts
        made = plant_anomalies(parts * ANOMALIES_A_KILL, PARTITIONS, cast.seed)
        self.anomalies: Mapping[int, Sequence[Record]] = dict(enumerate(made))
        self._group = f"incidents-{uuid.uuid4().hex[:8]}"
        create = cast.broker.create_topic
        self._read, self._controls = create(PARTITIONS, "anomalies"), create(1, "control", COMPACTED)
        self._incidents, self._letters = create(1, "incidents"), create(1, "dead-letters")
        self._changelog = create(PARTITIONS, "changelog", CHANGELOG)

    @property
    def changes(self) -> int:
        """Of anomalies."""
        return sum(map(len, self.anomalies.values()))

    def produce(self, part: int) -> None:
        self._broker.produce_part(self._read, self.anomalies, part, self._parts)

    def speak(self) -> None:
        """Of each type some, also of the incidents that are open now."""
        said = [*plant_controls(), *acknowledgements(self.published())]
        self._broker.produce(self._controls, [(0, record) for record in said])

    def start(self, fault: Fault | None) -> Child:
        settings = {
            "kafka.bootstrap_servers": self._broker.bootstrap_servers,
            "kafka.anomalies_topic": self._read,
            "kafka.dead_letters_topic": self._letters,
            "kafka.changelog_topic": self._changelog,
            "kafka.instance": "one",
            "kafka.max_poll_records": POLL_RECORDS,
            "kafka.session_timeout_ms": SESSION_MS,
            "kafka.transaction_timeout_ms": SESSION_MS,
            "incidents.topic": self._incidents,
            "incidents.control_topic": self._controls,
            "incidents.group": self._group,
            "incidents.expire_s": 86_400,
            "incidents.budget_per_day": PER_DAY,
            "incidents.group_budget_per_day": GROUP_PER_DAY,
        }
        orders = {"settings": settings, "fail": None if fault is None else fault._asdict()}
        return self._nursery.start("incidents", orders, self._log)

    def published(self) -> list[Record]:
        return [one.record for one in self._broker.read_committed(self._incidents)]

    def controls(self) -> list[Record]:
        return [one.record for one in self._broker.read_committed(self._controls)]

    def is_done(self) -> bool:
        """Whether the group has come to the end of both topics."""
        places = [TopicPartition(self._read, n) for n in range(PARTITIONS)] + [TopicPartition(self._controls, 0)]
        return _committed(self._broker, self._group, places)


def _committed(broker: Broker, group: str, places: Sequence[TopicPartition]) -> bool:
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=group, enable_auto_commit=False
    ) as consumer:
        ends = consumer.end_offsets(places)
        return all(consumer.committed(place) == ends[place] for place in places)
