"""`telltale run`: build the service from its settings, and run it until it is told to stop."""

import gc
import platform
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import structlog
import torch
from prometheus_client import CollectorRegistry

from models.checkpoint import Checkpoint, load
from models.detection import judge
from models.detection.numerics import self_test
from service.errors import LogUnavailable
from service.http.app import app as http_app
from service.http.app import metrics_app
from service.http.server import Server
from service.http.turns import Brake, Share, Turns
from service.http.web_link import RemoteStreams, RemoteWatching, WebEnd
from service.http.web_process import WebProcess
from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, PollLimits, TopicNames
from service.kafka.transactional_ids import worker_id
from service.live.insights import Insight
from service.live.memory import MemoryKeeper, memory_limit, settle
from service.live.metrics import Build, Metrics
from service.live.observer import Observer
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, Notified, StatusBoard
from service.live.streams import Streams
from service.live.watching import Watching
from service.notify.delivery import Receiver
from service.notify.notifier import ALERTMANAGER, RECEIVERS, WEBHOOK, Notifier, alerts_url
from service.pipeline import Pipeline
from service.process.records import record_rules
from service.process.stopping import Stopping
from service.process.watchdog import Watchdog
from service.recovery import RecoveryRules
from service.settings.addresses import names_for
from service.settings.sections import HttpSettings
from service.settings.settings import Settings, authorization, client_options
from service.state.changelog import Layout
from service.state.open_alarms import SEVERITIES
from service.state.writer import StateWriter
from service.worker import PROBLEMS, Worker

BEAT_LIMIT_S = 60.0  # a round that takes longer will not end: only a restart helps

logger = structlog.get_logger("telltale")


def run_service(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C; what is polled by then is judged and committed.

    A second signal ends it at once, and so does a first one that comes before there is anything to commit. With brokers
    that do not answer it ends all the same, soon: see stopping.
    """
    stopping = Stopping()
    stopping.listen()
    torch.set_num_threads(1)  # more are slower here, and change bits
    checkpoint = load(settings.checkpoint)
    _announce_compiling()
    numerics = self_test(checkpoint.detector)
    notifier = notifier_of(settings)
    board, metrics, registry = observed(checkpoint, numerics, notifier.notified, settings.metrics.top_streams)
    watchdog, watching, streams = Watchdog(board, BEAT_LIMIT_S), Watching(), Streams()
    memory = MemoryKeeper(memory_limit(), checkpoint.detector.rows_for([b""]).bytes_per_stream)
    web = _web(settings.http, checkpoint, board, metrics, registry, watching, streams)
    if web is not None:
        web.start()
    try:
        worker = kafka_worker(
            settings, checkpoint, numerics, board, metrics, stopping.requested, (watching, streams, notifier, memory)
        )
        _announce(settings, checkpoint, numerics)
        memory.foresee(list(checkpoint.detector.known))
        settle()
        stopping.note_judging()
        watchdog.start()
        notifier.start()
        try:
            worker.run(check=lambda: _require(web), flushed=stopping.note_written)
        finally:
            watchdog.stop()
            notifier.stop()
    finally:
        if web is not None:
            web.stop()
        gc.unfreeze()  # what stays frozen to the end, libraries report as leaks
    logger.info("stopped", readings=board.read().counts.readings)


def _announce_compiling() -> None:
    """Where no compiled code was kept, the self-test waits for the compiler."""
    if not judge.is_compiled():
        logger.info("compiling", waits_for="the judge's machine code: some 10 s, and 0.1 s where it can be kept")


def _web(
    http: HttpSettings,
    checkpoint: Checkpoint,
    board: StatusBoard,
    metrics: Metrics,
    registry: CollectorRegistry,
    watching: Watching,
    streams: Streams,
) -> WebProcess | None:
    """What this process is asked through, not started yet; None: it is not."""
    if not http.enabled:
        return None
    return WebProcess(
        board, metrics, streams, watching, lambda worker: _servers(http, checkpoint, board, registry, worker)
    )


def _servers(
    http: HttpSettings, checkpoint: Checkpoint, board: StatusBoard, registry: CollectorRegistry, worker: WebEnd
) -> list[Server]:
    """One, or one more for the metrics alone."""
    alone = http.metrics_port is not None
    api = http_app(
        board,
        None if alone else registry,
        BEAT_LIMIT_S,
        version("telltale"),
        insight=Insight(checkpoint.detector, checkpoint.digest, RemoteWatching(worker)),
        streams=RemoteStreams(worker),
        token=None if http.token is None else http.token.get_secret_value(),
        names=names_for(http.host, http.names),
        turns=Turns(Share(http.processor_share)),
    )
    brake = Brake()
    servers = [Server(api, http.host, http.port, brake=brake)]
    if http.metrics_port is not None:
        # Who scrapes asks by address, not by one of the names that people use.
        scraped = metrics_app(registry, version("telltale"), names_for(http.metrics_host, ()))
        servers.append(Server(scraped, http.metrics_host, http.metrics_port, "http.metrics_", brake))
    return servers


def observed(
    checkpoint: Checkpoint,
    numerics: str,
    notified: Callable[[], Mapping[str, Notified]] = dict,
    top_streams: int = 0,
) -> tuple[StatusBoard, Metrics, CollectorRegistry]:
    """What a worker with this checkpoint is watched through; the checkpoint was loaded just now."""
    features, loaded_ms = checkpoint.detector.features, time.time_ns() // 1_000_000
    board = StatusBoard(first_status(CheckpointStatus(str(checkpoint.path), checkpoint.digest, features, loaded_ms)))
    registry = CollectorRegistry()
    build = Build(version("telltale"), platform.python_version(), torch.__version__, numerics)
    metrics = Metrics(
        registry,
        board,
        build,
        STAGES,
        REASONS,
        SEVERITIES,
        PROBLEMS,
        notified=notified,
        top_streams=top_streams,
    )
    return board, metrics, registry


def notifier_of(settings: Settings) -> Notifier:
    """The receivers that settings name; without one it costs nothing."""
    urls = {
        ALERTMANAGER: map(alerts_url, settings.notifications.alertmanager_urls),
        WEBHOOK: settings.notifications.webhook_urls,
    }
    receivers = [Receiver(kind, url, authorization(settings, kind)) for kind in RECEIVERS for url in urls[kind]]
    return Notifier(receivers, settings.notifications.min_severity)


def kafka_worker(
    settings: Settings,
    checkpoint: Checkpoint,
    numerics: str,
    board: StatusBoard,
    metrics: Metrics,
    stop: threading.Event,
    observers: Sequence[Observer] = (),
) -> Worker:
    """A worker on the cluster that the settings name. numerics: fingerprint of this machine's arithmetic.

    observers: who else sees what it does, beside the board and the metrics.
    """
    me = settings.kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    transactional_id = worker_id(settings.kafka.group, me)
    detector, limits = checkpoint.detector, settings.limits
    future_ms, past_ms = int(limits.max_future_s * 1000), int(limits.max_past_s * 1000)
    pipeline = Pipeline(detector, checkpoint.digest, future_ms, limits.max_streams, past_ms, record_rules(settings))
    layout = Layout.of(checkpoint.digest, detector.rows_for([]))
    writer = StateWriter(settings.kafka.group, layout, numerics, transactional_id, settings.state.flush_interval_s)
    rules = RecoveryRules(settings.state.when_lost == "reset", settings.state.prime_readings)
    log = _kafka_log(settings, me, transactional_id)
    reporter = Reporter(board, metrics, writer, detector, settings.metrics.top_streams)
    return Worker(log, pipeline, writer, rules, stop, observers=[reporter, *observers], idle_s=limits.stream_ttl_s)


def _kafka_log(settings: Settings, me: str, transactional_id: str) -> KafkaLog:
    kafka = settings.kafka
    member = GroupMember(
        group=kafka.group,
        transactional_id=transactional_id,
        instance_id=kafka.instance,
        auto_offset_reset=kafka.auto_offset_reset,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )
    return KafkaLog(
        Cluster(kafka.bootstrap_servers, {"client_id": f"telltale-{me}", **client_options(settings)}),
        TopicNames(tuple(kafka.topics), kafka.anomalies_topic, kafka.dead_letters_topic, kafka.changelog_topic),
        member,
        PollLimits(poll_records=kafka.max_poll_records),
    )


def _announce(settings: Settings, checkpoint: Checkpoint, numerics: str) -> None:
    architecture = checkpoint.description.architecture
    logger.info(
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


def _require(web: WebProcess | None) -> None:
    if web is not None and web.failed:
        raise LogUnavailable("the HTTP server ended by itself: no one could watch this process any more")
