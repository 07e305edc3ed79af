"""The row of what people say of learning: workers are killed while a pause begins, holds and ends.

The oracle judges by the pauses that the changelog has at the end. That these are what was said, once in each partition,
is looked at beside it.
"""

import random
from collections import Counter
from collections.abc import Iterator

from models.data.rfc3339 import rfc3339
from service.kafka.topics import COMPACTED
from service.log.port import Record
from service.stages.incidents.controls import Control, Quiet, control_record
from tests.faults.figures import Cast, Figures
from tests.faults.kills import IN_A_COMMIT, kill, planned
from tests.faults.plant import START_MS, STEP_MS
from tests.faults.scene import Scene
from tests.kafka import Broker

PHASES = ("begins", "holds", "ends")
SLOTS = ("w0", "w1")
RATE = 60.0  # readings a second: the oracle judges all of them at the end
SOON = 200  # readings of a partition, after which a pause that ends by event time has ended
NEVER = 1 << 28  # and one that does not
AT_RANDOM = 0.4  # of the kills: at any moment, not at a fail-point
WHOM = ("*", "steady-*", "passing-*", "steady-[02]/*")


def kills(cast: Cast, count: int) -> Figures:
    """kill -9 of one of two workers: after a pause was said, while it holds, and after it was taken back or is over."""
    chance, killed, phases = random.Random(cast.seed), Counter[str](), Counter[str]()
    topic = cast.broker.create_topic(1, "control", COMPACTED)
    with Scene(*cast, rate=RATE, settings={"incidents.control_topic": topic}, pauses=True) as scene:
        people = _People(cast.broker, topic, scene, chance)
        scene.start(SLOTS[1])
        for n, phase in zip(range(count), _again_and_again(PHASES), strict=False):
            people.say(phase)
            at_random = chance.random() < AT_RANDOM
            fault = None if at_random else planned(IN_A_COMMIT[n % len(IN_A_COMMIT)], chance)
            kill(scene, SLOTS[0], fault, chance, killed)
            phases[phase] += 1
        outcome = scene.finish(SLOTS)
        known = [scene.pauses(number).pauses for number in range(scene.partitions)]
    figures = Figures.of("kill -9 while pauses begin, hold and end", sum(killed.values()), outcome)
    figures.extra |= {"at": dict(sorted(killed.items())), "while one": dict(phases)}
    figures.extra |= {"said": people.said, "paused": outcome.paused, "in the changelog": [len(one) for one in known]}
    for number, pauses in enumerate(known):
        offsets = [one.from_offset for one in pauses]
        figures.require(0 < len(pauses) <= people.said, f"partition {number}: {len(pauses)} of {people.said} pauses")
        figures.require(offsets == sorted(offsets), f"partition {number}: pauses begin at {offsets}")
    figures.require(outcome.paused > 0, "no reading was paused")
    return figures


class _People:
    """One pause at a time: every other one ends by event time, the others are taken back."""

    def __init__(self, broker: Broker, topic: str, scene: Scene, chance: random.Random) -> None:
        self._broker, self._topic, self._scene, self._chance = broker, topic, scene, chance
        self.said = 0

    def say(self, phase: str) -> None:
        if phase == "begins":
            self.said += 1
            self._write(self._quiet())
        elif phase == "ends" and self.said % 2:
            self._write(None)

    def _quiet(self) -> Quiet:
        latest = max(self._scene.feed.ends().values(), default=0)
        until_ms = START_MS + STEP_MS * (latest + (SOON if self.said % 2 == 0 else NEVER))
        whom, at = [self._chance.choice(WHOM)], rfc3339(START_MS)
        return Quiet(by="anna", at=at, streams=whom, reason="tests", until=rfc3339(until_ms))

    def _write(self, control: Control | None) -> None:
        name = f"quiet-{self.said}"
        record = Record(name.encode(), None) if control is None else control_record(name, control)
        self._broker.produce(self._topic, [(0, record)])


def _again_and_again(phases: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from phases
