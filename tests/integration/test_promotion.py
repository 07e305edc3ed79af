"""`telltale models promote` on a real broker: killed around promotion and rollback, every event as computed offline."""

import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from models.detection.detector import Detector
from service.kafka.topics import COMPACTED, TopicSpec, create_topics
from service.live.insights import Model
from service.log.memory_log import Topics
from service.log.port import Partition
from service.stages.incidents.controls import PromotedModel, control_record
from tests.commands import Process
from tests.integration.test_end_to_end import Service, made_topics, service, wait_until
from tests.integration.test_incidents import SLOWLY
from tests.integration.test_several_models import bytes_of, saved
from tests.kafka import Broker
from tests.service.promotions import MODELS, PRIME, Oracle, promoted, sent

PARTITIONS, PART, PARTS = 2, 400, 5  # readings in each part of a partition


class Promoting:
    """A service, its topics, and who promotes."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker, self.names = broker, made_topics(broker)
        self.controls = f"{self.names.group}.control"
        create_topics(broker.bootstrap_servers, {self.controls: TopicSpec(1, 1, COMPACTED)})
        self.paths = [folder / "a.safetensors", folder / "b.safetensors"]
        loaded = [saved(path, Model(detector, "")) for path, detector in zip(self.paths, MODELS.values(), strict=True)]
        self.models: Mapping[str, Detector] = {one.digest: one.detector for one in loaded}
        self.environment = {
            **SLOWLY,
            "TELLTALE_KAFKA__INSTANCE": "one",
            "TELLTALE_INCIDENTS__CONTROL_TOPIC": self.controls,
            "TELLTALE_STATE__PRIME_READINGS": str(PRIME),
        }
        self.produced = 0

    def produce(self) -> None:
        """The next part of each partition."""
        begin, self.produced = self.produced, self.produced + PART
        for number in range(PARTITIONS):
            part = sent(number, PART * PARTS)[begin : self.produced]
            self.broker.produce(self.names.topic, [(number, record) for record in part])

    def promote(self, place: int) -> None:
        """By a record, at once: workers look every two seconds."""
        path, digest = self.paths[place], list(self.models)[place]
        said = PromotedModel(checkpoint=str(path), sha256=digest, by="test", at="2026-11-29T00:00:00Z")
        self.broker.produce(self.controls, [(0, control_record("model", said))])

    def say(self, *arguments: object) -> None:
        command = Process(
            *("models", *arguments, "--bootstrap-servers", self.broker.bootstrap_servers),
            **self.names.environment,
            **self.environment,
        )
        assert command.ended() == 0, command.err

    def running(self) -> AbstractContextManager[Service]:
        return service(self.broker, self.paths[0], self.names, **self.environment)

    def until_all_is_judged(self, running: Service) -> None:
        wait_until(lambda: [one["lag"] for one in running.status()["partitions"]] == [0] * PARTITIONS, "all judged")

    def until_judged_by(self, running: Service, place: int) -> None:
        digest = list(self.models)[place]
        wait_until(
            lambda: [one["checkpoint"] for one in running.status()["partitions"]] == [digest] * PARTITIONS,
            "the promoted checkpoint everywhere",
        )

    def until_says(self, running: Service, place: int, event: str) -> None:
        """Until there is such a line; or all is done, however fast that was."""
        digest = list(self.models)[place]
        wait_until(
            lambda: (
                bool(running.lines(event))
                or [one["checkpoint"] for one in running.status()["partitions"]] == [digest] * PARTITIONS
            ),
            event,
        )

    def topics(self) -> Topics:
        """What was produced and published, in memory."""
        topics = Topics({self.names.topic: PARTITIONS})
        for partition in topics.partitions:
            topics.append(partition, sent(partition.number, self.produced))
        for one in self.broker.read_committed(self.names.anomalies):
            topics.anomalies[Partition(self.names.topic, one.partition)].append(one.record)
        return topics


def kill(running: Service) -> None:
    running.process.signal(signal.SIGKILL)
    running.process.ended()


@pytest.mark.thorough
def test_a_promotion_and_a_rollback_are_exactly_once_and_to_the_byte_however_often_the_service_is_killed(
    kafka: Broker, tmp_path: Path
) -> None:
    one = Promoting(kafka, tmp_path)
    one.produce()
    with one.running() as running:
        running.until_judged(PART)
        one.promote(1)
        kill(running)
    one.produce()
    with one.running() as running:
        one.until_says(running, 1, "priming")
        kill(running)
    with one.running() as running:
        one.until_says(running, 1, "model_promoted")
        kill(running)
    with one.running() as running:
        one.until_judged_by(running, 1)
        one.produce()
        one.until_all_is_judged(running)
        one.promote(0)
        one.until_says(running, 0, "priming")
        kill(running)
    one.produce()
    with one.running() as running:
        one.until_judged_by(running, 0)
        kill(running)
    one.produce()
    with one.running() as running:
        one.until_all_is_judged(running)
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
    topics, oracle = one.topics(), Oracle(one.topics(), one.models)
    for partition in topics.partitions:
        assert [notice.checkpoint for notice in promoted(topics, partition)] == list(one.models)[::-1]
        found = [bytes_of(record) for record in topics.anomalies[partition]]
        assert found == [bytes_of(record) for record in oracle.expected(partition)]
        assert len(found) > 10


@pytest.mark.thorough
def test_a_checkpoint_that_cannot_be_read_changes_nothing_and_the_status_says_why(
    kafka: Broker, tmp_path: Path
) -> None:
    one = Promoting(kafka, tmp_path)
    one.produce()
    with one.running() as running:
        running.until_judged(PART)
        one.say("promote", one.paths[1], "--as", tmp_path / "elsewhere.safetensors")
        wait_until(lambda: "elsewhere" in running.status()["unusable_model"], "the reason")
        assert running.metric("telltale_model_unusable") == 1
        one.produce()
        one.until_all_is_judged(running)
        assert running.status()["checkpoint"]["digest"] == next(iter(one.models))
        assert running.lines("model_unusable")[0]["level"] == "error"
        one.say("promote", one.paths[1])
        one.until_judged_by(running, 1)
        assert running.metric("telltale_models_promoted_total") == PARTITIONS
        assert running.status()["unusable_model"] == ""
        assert running.status()["checkpoint"]["digest"] == list(one.models)[1]
        one.say("drop")
        one.until_judged_by(running, 0)
        listed = Process(
            *("models", "list", "--bootstrap-servers", kafka.bootstrap_servers),
            **one.names.environment,
            **one.environment,
        )
        assert listed.ended() == 0
        assert [next(iter(one.models))[:12] in line for line in listed.out] == [True] * PARTITIONS
