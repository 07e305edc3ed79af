"""`telltale run`: build the service from its settings, and run it until it is told to stop."""

import gc
import os
import platform
import signal
import socket
import threading
import uuid
from importlib.metadata import version

import structlog
import torch
from prometheus_client import CollectorRegistry

from models.alarm import Severity
from models.checkpoint import Checkpoint, load
from models.numerics import self_test
from service import status
from service.api import Server
from service.api import app as http_app
from service.changelog import Layout
from service.errors import LogUnavailable
from service.insights import Insight
from service.kafka_log import KafkaLog
from service.metrics import Build, Metrics
from service.pipeline import Pipeline
from service.recovery import RecoveryRules
from service.settings import Settings, client_options
from service.state_writer import StateWriter
from service.status import StatusBoard
from service.watchdog import Watchdog
from service.watching import Watching
from service.worker import PROBLEMS, REASONS, STAGES, Worker, first_status

BEAT_LIMIT_S = 60.0  # a round that takes longer will not end: only a restart helps

lines = structlog.get_logger("telltale")


def run_service(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C; what is polled by then is judged and committed.

    A second signal ends it at once, and so does a first one that comes before there is anything to commit.
    """
    stop, judging = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: _stop(stop, judging, received))
    torch.set_num_threads(1)  # more are slower here, and change bits
    checkpoint = load(settings.checkpoint)
    numerics = self_test(checkpoint.detector)
    board, metrics, registry = observed(checkpoint, numerics)
    watchdog, watching = Watchdog(board, BEAT_LIMIT_S), Watching()
    server = None
    if settings.http.enabled:
        server = Server(
            http_app(
                board,
                registry,
                BEAT_LIMIT_S,
                version("telltale"),
                insight=Insight(checkpoint.detector, checkpoint.digest, watching),
            ),
            settings.http.host,
            settings.http.port,
        )
        server.start()
    try:
        worker = kafka_worker(settings, checkpoint, numerics, board, metrics, watching, stop)
        _announce(settings, checkpoint, numerics)
        gc.collect()
        gc.freeze()  # what is loaded by now lives as long as the process
        gc.set_threshold(100_000, 50, 100)
        judging.set()
        watchdog.start()
        try:
            worker.run(check=lambda: _require(server))
        finally:
            watchdog.stop()
    finally:
        if server is not None:
            server.stop()
    lines.info("stopped", readings=board.read().counts.readings)


def observed(checkpoint: Checkpoint, numerics: str) -> tuple[StatusBoard, Metrics, CollectorRegistry]:
    """What a worker with this checkpoint is watched through."""
    features = checkpoint.detector.features
    board = StatusBoard(first_status(status.Checkpoint(str(checkpoint.path), checkpoint.digest, features)))
    registry = CollectorRegistry()
    build = Build(version("telltale"), platform.python_version(), torch.__version__, numerics)
    severities = [severity.name.lower() for severity in Severity]
    return board, Metrics(registry, board, build, STAGES, REASONS, severities, PROBLEMS), registry


def kafka_worker(
    settings: Settings,
    checkpoint: Checkpoint,
    numerics: str,
    board: StatusBoard,
    metrics: Metrics,
    watching: Watching,
    stop: threading.Event,
) -> Worker:
    """A worker on the cluster that the settings name. numerics: fingerprint of this machine's arithmetic."""
    me = settings.kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    transactional_id = f"{settings.kafka.group}-{me}"
    detector, limits = checkpoint.detector, settings.limits
    pipeline = Pipeline(detector, checkpoint.digest, int(limits.max_future_s * 1000), limits.max_streams)
    layout = Layout.of(checkpoint.digest, detector.rows_for([]))
    writer = StateWriter(settings.kafka.group, layout, numerics, transactional_id, settings.state.flush_interval_s)
    rules = RecoveryRules(settings.state.when_lost == "reset", settings.state.prime_readings)
    log = _kafka_log(settings, me, transactional_id)
    return Worker(log, pipeline, writer, rules, board, metrics, stop, limits.stream_ttl_s, watching)


def _kafka_log(settings: Settings, me: str, transactional_id: str) -> KafkaLog:
    kafka = settings.kafka
    return KafkaLog(
        kafka.topics,
        kafka.group,
        kafka.bootstrap_servers,
        kafka.anomalies_topic,
        kafka.dead_letters_topic,
        kafka.changelog_topic,
        transactional_id=transactional_id,
        client={"client_id": f"telltale-{me}", **client_options(settings)},
        group_instance_id=kafka.instance,
        auto_offset_reset=kafka.auto_offset_reset,
        max_poll_records=kafka.max_poll_records,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )


def _announce(settings: Settings, checkpoint: Checkpoint, numerics: str) -> None:
    architecture = checkpoint.description.architecture
    lines.info(
        "started",
        version=version("telltale"),
        checkpoint=str(checkpoint.path),
        digest=checkpoint.digest[:12],
        features=len(architecture.features),
        hidden=architecture.hidden,
        numerics=numerics,
        streams_known=len(checkpoint.detector.known),
        topics=list(settings.kafka.topics),
        group=settings.kafka.group,
        brokers=settings.kafka.bootstrap_servers,
    )


def _require(server: Server | None) -> None:
    if server is not None and server.failed:
        raise LogUnavailable("the HTTP server ended by itself: nobody could watch this process any more")


def _stop(stop: threading.Event, judging: threading.Event, received: int) -> None:
    if stop.is_set() or not judging.is_set():
        os._exit(128 + received)
    stop.set()
    lines.info("stopping", signal=signal.Signals(received).name)
