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
from service import status
from service.api import Server
from service.api import app as http_app
from service.errors import LogUnavailable
from service.kafka_log import KafkaLog, check_topics
from service.metrics import Build, Metrics
from service.pipeline import Pipeline
from service.settings import Settings, client_options
from service.status import StatusBoard
from service.worker import REASONS, STAGES, Worker, first_status

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
    board, metrics, registry = observed(checkpoint)
    server = None
    if settings.http.enabled:
        server = Server(
            http_app(board, registry, BEAT_LIMIT_S, version("telltale")),
            settings.http.host,
            settings.http.port,
        )
        server.start()
    try:
        pipeline = Pipeline(checkpoint.detector, checkpoint.digest, int(settings.limits.max_future_s * 1000))
        worker = Worker(_kafka_log(settings), pipeline, board, metrics, stop)
        _announce(settings, checkpoint)
        gc.collect()
        gc.freeze()  # what is loaded by now lives as long as the process
        gc.set_threshold(100_000, 50, 100)
        judging.set()
        worker.run(check=lambda: _require(server))
    finally:
        if server is not None:
            server.stop()
    lines.info("stopped", readings=board.read().counts.readings)


def observed(checkpoint: Checkpoint) -> tuple[StatusBoard, Metrics, CollectorRegistry]:
    """What a worker with this checkpoint is watched through."""
    features = checkpoint.detector.features
    board = StatusBoard(first_status(status.Checkpoint(str(checkpoint.path), checkpoint.digest, features)))
    registry = CollectorRegistry()
    build = Build(version("telltale"), platform.python_version(), torch.__version__, "")
    severities = [severity.name.lower() for severity in Severity]
    return board, Metrics(registry, board, build, STAGES, REASONS, severities), registry


def _kafka_log(settings: Settings) -> KafkaLog:
    kafka, client = settings.kafka, client_options(settings)
    check_topics(kafka.bootstrap_servers, kafka.topics, (kafka.anomalies_topic, kafka.dead_letters_topic), client)
    me = kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    return KafkaLog(
        kafka.topics,
        kafka.group,
        kafka.bootstrap_servers,
        kafka.anomalies_topic,
        kafka.dead_letters_topic,
        transactional_id=f"{kafka.group}-{me}",
        client={"client_id": f"telltale-{me}", **client},
        group_instance_id=kafka.instance,
        auto_offset_reset=kafka.auto_offset_reset,
        max_poll_records=kafka.max_poll_records,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )


def _announce(settings: Settings, checkpoint: Checkpoint) -> None:
    architecture = checkpoint.description.architecture
    lines.info(
        "started",
        version=version("telltale"),
        checkpoint=str(checkpoint.path),
        digest=checkpoint.digest[:12],
        features=len(architecture.features),
        hidden=architecture.hidden,
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
