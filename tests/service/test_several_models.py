"""A worker whose topics have models of their own: each is judged as by a worker that has that topic alone."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.detection.detector import Detector
from service.input.events import decode_event
from service.input.reading_batch import StreamKey
from service.live.insights import ExplanationSeen, Model
from service.log.memory_log import Assign, Crash, Crashed, Migrate, Revoke
from service.log.port import Partition, Record
from service.state.changelog import Collected, read_marker
from service.state.changelog_keys import Origin
from tests.data import QUICK, some_forecaster
from tests.service.two_models import MODELS, PARTITIONS, READINGS, STREAMS, Service, sent, told, topics_of

PARTS = tuple(Partition(topic, number) for topic in MODELS for number in range(PARTITIONS))


@pytest.fixture(scope="module")
def apart() -> Mapping[str, dict[int, list[Record]]]:
    """By topic, what a worker publishes that has this topic and its model alone."""
    found = {}
    for topic, model in MODELS.items():
        mine = {topic: model}
        topics = topics_of(mine)
        Service(topics, models=mine).run()
        found[topic] = told(topics, topic)
    return found


def test_each_topic_is_judged_as_by_a_worker_of_its_own(apart: Mapping[str, dict[int, list[Record]]]) -> None:
    topics = topics_of()
    Service(topics).run()
    assert {topic: told(topics, topic) for topic in MODELS} == apart
    for topic, model in MODELS.items():
        events = [decode_event(record.value or b"") for records in told(topics, topic).values() for record in records]
        assert len(events) > 10
        assert {event.data.checkpoint for event in events} == {model.digest}
        assert {len(event.data.channels) for event in events} == {len(model.detector.features)}


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [2, 9, 17])
def test_a_crash_at_any_commit_changes_nothing(
    at: int, written: bool, apart: Mapping[str, dict[int, list[Record]]]
) -> None:
    topics = topics_of()
    with pytest.raises(Crashed):
        Service(topics, Crash(at, written)).run()
    Service(topics, Migrate(2), Revoke(7, PARTS[1:3]), Assign(9, PARTS[1:3])).run()
    assert {topic: told(topics, topic) for topic in MODELS} == apart


def test_what_a_partition_remembers_says_which_model_gave_it_its_meaning() -> None:
    topics = topics_of()
    Service(topics).run().worker.flush()
    for partition in PARTS:
        origin = Origin("group", partition)
        collected = Collected(origin)
        records = topics.changelog[partition]
        collected.add([record.key for record in records], [record.value for record in records])
        assert collected.marker is not None
        marker = read_marker(origin, collected.marker)
        assert marker.checkpoint == MODELS[partition.topic].digest
        assert marker.numerics == ("numerics" if partition.topic == "pumps" else "other numerics")


def test_a_topic_that_gets_another_model_is_warmed_up_for_it_and_no_other_topic_is() -> None:
    topics = topics_of()
    Service(topics).run().worker.flush()
    before = {topic: told(topics, topic) for topic in MODELS}
    another = Model(Detector.cold(some_forecaster(3, hidden=48, seed=2), QUICK), "cc" * 32)
    service = Service(topics, models={**MODELS, "mills": another}, prime=50)
    for partition in PARTS:
        topics.append(partition, sent(partition, MODELS[partition.topic].detector.features)[-STREAMS:])
    while sum(topics.committed.values()) < 4 * (READINGS + STREAMS):
        service.worker.turn(0.0)
    service.worker.flush()
    for partition in PARTS:
        origin = Origin("group", partition)
        collected = Collected(origin)
        records = topics.changelog[partition]
        collected.add([record.key for record in records], [record.value for record in records])
        marker = read_marker(origin, collected.marker or b"")
        assert marker.checkpoint_from == (READINGS if partition.topic == "mills" else 0)
    assert service.board.read().counts.replayed >= 2 * STREAMS * 50, "of the mills alone, before what is new"
    assert {topic: told(topics, topic) for topic in MODELS} == before


def test_status_and_metrics_say_which_model_judges_which_topic() -> None:
    service = Service(topics_of()).run()
    service.worker.turn(0.0)
    status = service.board.read()
    assert (status.checkpoint.digest, {topic: one.digest for topic, one in status.models.items()}) == (
        "aa" * 32,
        {"mills": "bb" * 32},
    )
    for topic, model in (("", MODELS["pumps"]), ("mills", MODELS["mills"])):
        labels = {"topic": topic, "digest": model.digest, "features": str(len(model.detector.features))}
        assert service.registry.get_sample_value("telltale_checkpoint_info", labels) == 1
    opened = service.registry.get_sample_value("telltale_anomaly_channels_total", {"channel": "f2"})
    assert opened is not None, "a channel that the mills alone have"


def test_readings_and_anomalies_are_counted_by_the_checkpoint_that_judged_them() -> None:
    topics = topics_of()
    service = Service(topics).run()
    service.worker.turn(0.0)
    for topic, model in MODELS.items():
        events = [json.loads(one.value or b"") for records in told(topics, topic).values() for one in records]
        opened = sum(event["type"] == "telltale.anomaly.opened" for event in events)
        ends = [topics.bounds(partition)[1] for partition in topics.partitions if partition.topic == topic]
        labels = {"digest": model.digest}
        assert opened > 0
        assert service.registry.get_sample_value("telltale_checkpoint_anomalies_opened_total", labels) == opened
        assert service.registry.get_sample_value("telltale_checkpoint_readings_total", labels) == sum(ends)


def test_a_stream_is_explained_by_the_model_of_its_topic() -> None:
    service, key = Service(topics_of({"mills": MODELS["mills"]})), StreamKey(b"stream-1")

    def asked(threads: ThreadPoolExecutor) -> ExplanationSeen:
        answer = threads.submit(service.insight.explanation, key, 5)
        while not answer.done():
            service.worker.turn(0.0)
        return answer.result()

    with ThreadPoolExecutor(1) as threads:
        service.worker.turn(0.0)
        service.insight.expect([key])
        service.run()
        explained = asked(threads)
    assert (explained.topic, explained.checkpoint) == ("mills", "bb" * 32)
    assert explained.features == ["f0", "f1", "f2"]
