"""The row of promotions: a worker is killed while one checkpoint takes over from another, and while it is rolled back.

The oracle has the input and the notices of promotions alone, and no changelog: it says from them which checkpoint
judged what, and how that was warmed up. That the notices are what people said is looked at beside it.
"""

import json
import random
import signal
import tempfile
import uuid
from collections import Counter
from pathlib import Path

from models.checkpoints import checkpoint
from models.detection.detector import Detector
from service.kafka.topics import CHANGELOG, COMPACTED
from service.log.memory_log import Topics
from service.log.port import Partition, Record
from service.stages.incidents.controls import PromotedModel, control_record
from service.state.changelog_keys import Origin, marker_key
from tests.faults.figures import Cast, Figures
from tests.faults.kills import AT_RANDOM, DURING_COMMIT_MS, ENDED_WITHIN_S, IN_A_COMMIT, IN_A_RECOVERY
from tests.faults.oracle import (
    Differences,
    Published,
    compare,
    compare_state,
    name_of_anomaly,
    name_of_dead_letter,
    published,
    state_of,
)
from tests.faults.scene import SESSION_MS, Changelog, Fault, restored, wait_until, write_detector
from tests.nursery import Child
from tests.service.promotions import MODELS, PRIME, Oracle, pipeline_of, promoted, sent

PARTITIONS = 2
READINGS_A_KILL = 160  # of a partition: enough for alarms that are open when another checkpoint takes over
POLL_RECORDS = 20  # so few that a kill has many commits to be in
SAID_EVERY = 2  # kills: at every other one a take-over is tried again, or there is nothing to take over
POINTS = (*IN_A_RECOVERY, *IN_A_COMMIT)  # a candidate restores and replays, and takes over in a commit
REACHED_WITHIN_S, TAKEN_OVER_WITHIN_S, DRAINED_WITHIN_S = 20.0, 60.0, 900.0
NO_STREAM = "\x00"  # with which no name begins: no verdicts beside the events


def kills(cast: Cast, count: int) -> Figures:
    """kill -9 of the one worker, which is started again each time; every other time people say the other model."""
    chance, killed = random.Random(cast.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="telltale-faults-") as folder:
        plant = _Plant(cast, Path(folder), count + 2)
        plant.begin()
        for n in range(count):
            plant.produce()
            if n % SAID_EVERY == 0:
                plant.promote_the_other()
            killed[_kill(plant, POINTS[n % len(POINTS)], chance)] += 1
        plant.produce()
        child = plant.start(None)
        for last in (False, True):
            wait_until(
                plant.is_done, DRAINED_WITHIN_S, "all readings, judged in the end by the model that was said last"
            )
            if not last:
                plant.promote_the_other()  # however many take-overs the kills have left
        child.signal(signal.SIGTERM)
        code = child.wait(ENDED_WITHIN_S)
        topics = plant.topics()
        took_over = [len(promoted(topics, partition)) for partition in topics.partitions]
        differences = plant.differences(topics)
    figures = Figures("kill -9 while models are promoted", count, PARTITIONS * plant.produced, differences)
    figures.extra |= {"at": dict(sorted(killed.items())), "said": plant.said, "took over": took_over}
    figures.require(code == 0, f"it ended with {code} after SIGTERM")
    figures.require(min(took_over) > 1, f"{took_over} take-overs, expected a promotion and a rollback at least")
    figures.require(max(took_over) <= plant.said, f"{took_over} take-overs, {plant.said} were said")
    return figures


def _kill(plant: "_Plant", point: str, chance: random.Random) -> str:
    """Where it was killed: at a fail-point, just after the first partition was taken over, or at any moment."""
    if chance.random() >= AT_RANDOM:
        fault = Fault(point, chance.randrange(1, 9), within_ms=DURING_COMMIT_MS if point == "during_commit" else 0.0)
        child = plant.start(fault)
        at = point if child.ended.wait(REACHED_WITHIN_S) else f"not at {point}"
    elif chance.random() < 0.5:
        before, child = plant.take_overs(), plant.start(None)
        try:
            wait_until(lambda: plant.take_overs() > before, TAKEN_OVER_WITHIN_S, "a take-over")
            at = "after a take-over"
        except TimeoutError:  # there was nothing to take over
            at = "random"
    else:
        child, at = plant.start(None), "random"
        child.ended.wait(chance.uniform(0.5, 6.0))
    child.signal(signal.SIGKILL)
    child.wait(ENDED_WITHIN_S)
    return at


class _Plant:
    """The worker's topics and models, and who promotes."""

    def __init__(self, cast: Cast, folder: Path, parts: int) -> None:
        """parts: of the input, one for each kill, for the beginning and the end, so that something is left for each."""
        self._broker, self._nursery, self._log = cast.broker, cast.nursery, folder / "worker.log"
        self._records = [sent(number, parts * READINGS_A_KILL) for number in range(PARTITIONS)]
        self._paths = dict[str, Path]()
        self._models = dict[str, Detector]()
        for n, detector in enumerate(MODELS.values()):
            loaded = checkpoint.load(write_detector(folder / f"model-{n}.safetensors", detector))
            self._paths[loaded.digest], self._models[loaded.digest] = loaded.path, loaded.detector
        self._judges = next(iter(self._models))  # as was said last
        self.produced, self.said = 0, 0
        self._group = f"promoting-{uuid.uuid4().hex[:8]}"
        create = cast.broker.create_topic
        self._topic, self._anomalies = create(PARTITIONS, "readings"), create(PARTITIONS, "anomalies")
        self._dead_letters, self._changelog = (
            create(PARTITIONS, "dead-letters"),
            create(PARTITIONS, "changelog", CHANGELOG),
        )
        self._controls = create(1, "control", COMPACTED)

    def begin(self) -> None:
        """Each partition is judged by the first model: without a marker, what is said first would begin it."""
        self.produce()
        child = self.start(None)
        markers = [marker_key(self._origin(number)) for number in range(PARTITIONS)]
        wait_until(
            lambda: all(key in self._changelog_of(number) for number, key in enumerate(markers)),
            DRAINED_WITHIN_S,
            "the first commits",
        )
        child.signal(signal.SIGKILL)
        child.wait(ENDED_WITHIN_S)

    def produce(self) -> None:
        """The next part of each partition."""
        begin, self.produced = self.produced, self.produced + READINGS_A_KILL
        parts = [
            (number, record) for number, mine in enumerate(self._records) for record in mine[begin : self.produced]
        ]
        self._broker.produce(self._topic, parts)

    def promote_the_other(self) -> None:
        self.said += 1
        (self._judges,) = (digest for digest in self._models if digest != self._judges)
        path = str(self._paths[self._judges])
        said = PromotedModel(checkpoint=path, sha256=self._judges, by="anna", at="2026-11-29T00:00:00Z")
        self._broker.produce(self._controls, [(0, control_record("model", said))])

    def start(self, fault: Fault | None) -> Child:
        settings = {
            "checkpoint": str(next(iter(self._paths.values()))),
            "http.enabled": False,
            "kafka.bootstrap_servers": self._broker.bootstrap_servers,
            "kafka.topics": self._topic,
            "kafka.anomalies_topic": self._anomalies,
            "kafka.dead_letters_topic": self._dead_letters,
            "kafka.changelog_topic": self._changelog,
            "kafka.group": self._group,
            "kafka.instance": "one",
            "kafka.max_poll_records": POLL_RECORDS,
            "kafka.session_timeout_ms": SESSION_MS,
            "kafka.transaction_timeout_ms": SESSION_MS,
            "incidents.control_topic": self._controls,
            "limits.stream_ttl_s": 1e9,  # as the oracle, which forgets no stream
            "state.prime_readings": PRIME,
        }
        fail = None if fault is None else fault._asdict()
        orders = {"settings": settings, "proxy": None, "fail": fail, "verdicts_of": NO_STREAM, "control": False}
        return self._nursery.start("worker", orders, self._log)

    def take_overs(self) -> int:
        """Of partitions, as the worker has said so far."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]
        return sum(line["event"] == "model_promoted" for line in lines)

    def is_done(self) -> bool:
        """Whether each partition is judged to its end, and by the model that was said last."""
        markers = [
            restored(self._paths[self._judges], self._origin(n), self._changelog_of(n))[0] for n in range(PARTITIONS)
        ]
        return all((one.next_offset, one.checkpoint) == (self.produced, self._judges) for one in markers)

    def topics(self) -> Topics:
        """What was produced and published, in memory."""
        topics = Topics({self._topic: PARTITIONS})
        for partition in topics.partitions:
            topics.append(partition, self._records[partition.number][: self.produced])
        for name, into in ((self._anomalies, topics.anomalies), (self._dead_letters, topics.dead_letters)):
            for one in self._broker.read_committed(name):
                into[Partition(self._topic, one.partition)].append(one.record)
        return topics

    def differences(self, topics: Topics) -> Differences:
        """Of events, notices, dead letters and rows, from what the oracle says."""
        differences, oracle = Differences(), Oracle(topics, self._models)
        for partition in topics.partitions:
            number, (events, task) = partition.number, oracle.finished(partition)
            for wanted, found, name in (
                (events, topics.anomalies[partition], name_of_anomaly),
                (self._letters(topics, partition), topics.dead_letters[partition], name_of_dead_letter),
            ):
                differences.add(compare(number, _all(wanted), _all(found), name))
            origin, changelog = self._origin(number), self._changelog_of(number)
            marker, state, lost = restored(self._paths[self._judges], origin, changelog)
            if (marker.next_offset, marker.replay_from, marker.checkpoint) != (
                self.produced,
                self.produced,
                self._judges,
            ):
                differences.other.append(f"partition {number}: the last marker is {marker}")
            differences.other += lost
            differences.add(compare_state(number, state_of(task.slab), state))
        return differences

    def _letters(self, topics: Topics, partition: Partition) -> list[Record]:
        """Whatever the model, what cannot be read is the same."""
        whole = topics.fetch(partition, 0, self.produced)
        assert whole is not None
        digest = next(iter(self._models))
        task, pipeline = Oracle(topics, self._models).task(partition, digest), pipeline_of(digest, self._models)
        return [letter for one in pipeline.process(whole, task) for letter in one.commit.dead_letters]

    def _origin(self, number: int) -> Origin:
        return Origin(self._group, Partition(self._topic, number))

    def _changelog_of(self, number: int) -> Changelog:
        found = self._broker.read_committed(self._changelog)
        return {one.record.key: one.record.value for one in found if one.partition == number}


def _all(records: list[Record]) -> list[Published]:
    return list(map(published, records))
