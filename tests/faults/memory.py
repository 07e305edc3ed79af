"""Workers on the log in memory: many faults a second, without a broker."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry

from models.checkpoints.checkpoint import Checkpoint
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus as Shown
from service.live.status import StatusBoard
from service.log.memory_log import Fault, MemoryLog, Topics
from service.log.port import Partition, Record
from service.recovery import RecoveryRules
from service.state.changelog import Layout
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker
from tests.faults.oracle import Expected, Undisturbed, new_task
from tests.faults.worker import VerdictPipeline

GROUP = "faults"
MAX_FUTURE_MS = 86_400_000


class Clock:
    """Time as the schedule wants it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Incarnation:
    """A worker from its start to its end, one way or another."""

    def __init__(
        self, loaded: Checkpoint, topics: Topics, ttl_s: float, script: Sequence[Fault] = (), flush_s: float = 1.0
    ) -> None:
        self.clock = Clock()
        self.log = MemoryLog(topics, script)
        detector = loaded.detector
        board = StatusBoard(first_status(Shown(str(loaded.path), loaded.digest, detector.features)))
        metrics = Metrics(
            CollectorRegistry(), board, Build("", "", "", ""), STAGES, REASONS, ["minor", "major", "critical"], PROBLEMS
        )
        layout = Layout.of(loaded.digest, detector.rows_for([]))
        writer = StateWriter(GROUP, layout, "numerics", "writer", flush_s, self.clock)
        self.worker = Worker(
            self.log,
            VerdictPipeline(detector, loaded.digest, MAX_FUTURE_MS),
            writer,
            RecoveryRules(reset=False, prime_readings=50),
            threading.Event(),
            observers=[Reporter(board, metrics, writer, detector)],
            idle_s=ttl_s,
        )

    def turn(self, records: int) -> None:
        """One round, of at most this many records."""
        self.log._max_poll_records = records
        self.worker.turn(timeout_s=0.0)


def filled(inputs: Mapping[Partition, Iterable[Record]]) -> Topics:
    topics = Topics({"readings": len(inputs)})
    for partition, records in inputs.items():
        topics.append(partition, records)
    return topics


def undisturbed(loaded: Checkpoint, topics: Topics, partition: Partition, ttl_s: float) -> Expected:
    """The partition judged one reading a step."""
    pipeline = VerdictPipeline(loaded.detector, loaded.digest, MAX_FUTURE_MS)
    judge = Undisturbed(pipeline, new_task(pipeline, partition, ttl_s))
    fetched = topics.fetch(partition, 0, 10**9)
    assert fetched is not None
    judge.judge(fetched)
    return judge.finish()
