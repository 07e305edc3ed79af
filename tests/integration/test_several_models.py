"""`telltale run` with a model for each of two topics: killed again and again, every event as from a calm worker."""

import json
import signal
from pathlib import Path

import pytest

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from service.live.insights import Model
from service.log.port import Partition, Record
from tests.integration.test_end_to_end import Names, made_topics, service, wait_until
from tests.integration.test_incidents import SLOWLY
from tests.kafka import Broker
from tests.service.two_models import MODELS, PARTITIONS, Service, sent, told, topics_of

PARTS = 4  # of what is sent; a kill after each but the last


def saved(path: Path, model: Model) -> Model:
    """The same model, as it is loaded from a checkpoint."""
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    described = checkpoint_header.describe(model.detector, "2026-01-01T00:00:00Z", {}, data, metrics)
    checkpoints.save(path, model.detector, described)
    loaded = checkpoints.load(path)
    return Model(loaded.detector, loaded.digest)


def events(broker: Broker, names: Names, topic: str) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    """By partition, those that are of a topic."""
    found: dict[int, list[tuple[bytes | None, bytes | None]]] = {number: [] for number in range(PARTITIONS)}
    for one in broker.read_committed(names.anomalies):
        if json.loads(one.record.value or b"")["data"]["topic"] == topic:
            found[one.partition].append(bytes_of(one.record))
    return found


def bytes_of(record: Record) -> tuple[bytes | None, bytes | None]:
    return record.key, record.value


@pytest.mark.thorough
def test_each_topic_is_judged_by_its_own_model_to_the_byte_however_often_the_service_is_killed(
    kafka: Broker, tmp_path: Path
) -> None:
    names = made_topics(kafka)
    paths = {topic: tmp_path / f"{topic}.safetensors" for topic in MODELS}
    models = {kafka.create_topic(PARTITIONS, topic): saved(paths[topic], one) for topic, one in MODELS.items()}
    calm = topics_of(models)
    Service(calm, models=models).run()
    sent_of = {
        topic: {n: sent(Partition(topic, n), one.detector.features) for n in range(PARTITIONS)}
        for topic, one in models.items()
    }
    other, (usual_path, other_path) = list(models)[1], paths.values()
    both = {
        **SLOWLY,
        "TELLTALE_KAFKA__INSTANCE": "one",
        "TELLTALE_MODELS": json.dumps({other: {"checkpoint": str(other_path)}}),
    }
    names = names._replace(topic=",".join(models))
    for part in range(PARTS - 1):
        for topic, records in sent_of.items():
            kafka.produce_part(topic, records, part, PARTS)
        with service(kafka, usual_path, names, **both) as running:
            running.until_judged(300)
            running.process.signal(signal.SIGKILL)
            running.process.ended()
    for topic, records in sent_of.items():
        kafka.produce_part(topic, records, PARTS - 1, PARTS)
    with service(kafka, usual_path, names, **both) as running:
        wait_until(lambda: [one["lag"] for one in running.status()["partitions"]] == [0] * 4, "all judged")
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
    for topic in models:
        expected = {number: [bytes_of(one) for one in records] for number, records in told(calm, topic).items()}
        assert events(kafka, names, topic) == expected
        assert sum(map(len, expected.values())) > 10
