"""Two topics with machines of two kinds, and a worker with a model for each."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry

from models.detection.alarm import Severity
from models.detection.detector import Detector
from service.input.wire import encode_reading
from service.live.insights import Insight, Model
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, StatusBoard
from service.live.watching import Watching
from service.log.memory_log import Fault, MemoryLog, Topics
from service.log.port import Partition, Record
from service.pipeline import Pipeline
from service.recovery import RecoveryRules
from service.state.changelog import Layout, Meaning
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker
from tests.data import QUICK, some_forecaster

FUTURE_MS = 86_400_000
READINGS, STREAMS = 600, 4  # in each partition
PARTITIONS = 2  # of each topic
MODELS = {
    "pumps": Model(Detector.cold(some_forecaster(2), QUICK), "aa" * 32),
    "mills": Model(Detector.cold(some_forecaster(3, hidden=32, seed=1), QUICK), "bb" * 32),
}


def sent(partition: Partition, features: Sequence[str]) -> list[Record]:
    """Four streams in turn, with the same names in all topics, each with two jumps."""
    random = np.random.default_rng(partition.number + len(features))
    records = []
    for n in range(READINGS):
        place = n // STREAMS
        values = random.normal(size=len(features)) + (1_000 if place in (*range(95, 101), *range(125, 131)) else 0)
        value = encode_reading(features, 1_700_000_000_000 + 60_000 * place, values.tolist())
        records.append(Record(b"stream-%d" % (n % STREAMS), value, (), 1_700_000_000_000 + 60_000 * place))
    return records


def topics_of(models: Mapping[str, Model] = MODELS) -> Topics:
    """Those of these models, with what their machines send."""
    topics = Topics(dict.fromkeys(models, PARTITIONS))
    for partition in topics.partitions:
        topics.append(partition, sent(partition, models[partition.topic].detector.features))
    return topics


class Service:
    """A worker with models by topic; the first stands for all topics that have none."""

    def __init__(self, topics: Topics, *script: Fault, models: Mapping[str, Model] = MODELS, prime: int = 0) -> None:
        self.topics, self.models = topics, models
        (usual, *_), others = models.values(), dict(list(models.items())[1:])
        checkpoints = {
            topic: CheckpointStatus(topic, one.digest, one.detector.features) for topic, one in models.items()
        }
        first = next(iter(checkpoints))
        self.board = StatusBoard(first_status(checkpoints[first], {topic: checkpoints[topic] for topic in others}))
        self.registry = CollectorRegistry()
        severities = [severity.name.lower() for severity in Severity]
        build = Build("0", "3", "2", "")
        metrics = Metrics(self.registry, self.board, build, STAGES, REASONS, severities, PROBLEMS)
        writer = StateWriter(
            "group",
            Layout.of(usual.digest, usual.detector.rows_for([])),
            "numerics",
            "writer",
            10.0,
            others={
                topic: Meaning(Layout.of(one.digest, one.detector.rows_for([])), "other numerics")
                for topic, one in others.items()
            },
        )
        self.watching = Watching()
        detectors = {topic: one.detector for topic, one in others.items()}
        reporter = Reporter(self.board, metrics, writer, usual.detector, others=detectors)
        self.insight = Insight(usual.detector, usual.digest, self.watching, others=others)
        self.worker = Worker(
            MemoryLog(topics, script, max_poll_records=100),
            Pipeline(usual.detector, usual.digest, FUTURE_MS),
            writer,
            RecoveryRules(False, prime),
            threading.Event(),
            observers=[reporter, self.watching],
            others={topic: Pipeline(one.detector, one.digest, FUTURE_MS) for topic, one in others.items()},
        )

    def run(self) -> "Service":
        while any(self.topics.committed.get(one) != READINGS for one in self.topics.partitions):
            self.worker.turn(0.0)
        return self


def told(topics: Topics, topic: str) -> dict[int, list[Record]]:
    return {one.number: records for one, records in topics.anomalies.items() if one.topic == topic}
