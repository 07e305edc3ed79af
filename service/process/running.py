"""`telltale run`: build the service from its settings, and run it until it is told to stop."""

import gc
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import structlog
import torch
from prometheus_client import CollectorRegistry

from models.checkpoints.checkpoint import Checkpoint
from models.detection import judge
from models.detection.numerics import self_test
from service.errors import LogUnavailable, LostState, RefusedInput, RefusedSetting, TelltaleError
from service.host import log_lines
from service.http.control import Introduced, Stop, orders
from service.http.incident_list import FollowedIncidents
from service.http.past_process import PastProcess
from service.http.web_link import WorkerEnd
from service.http.web_messages import Link
from service.http.web_process import WebProcess, serve_supervised
from service.http.workers import Workers
from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, PollLimits, TopicNames
from service.kafka.membership import remove_member
from service.kafka.transactional_ids import supervised_instance
from service.live.memory import Limit, MemoryKeeper, memory_limit, settle
from service.live.metrics import Build, Metrics
from service.live.observer import Observer
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.shadow import Shadow
from service.live.status import CheckpointStatus, Notified, ProcessState, StatusBoard, WorkerProcess
from service.live.streams import Streams
from service.live.watching import Watching
from service.process.following import follow_incidents
from service.process.groupless import looking_back
from service.process.identity import Identity, service_name
from service.process.incidents import make_incidents
from service.process.judges import Judges
from service.process.models import Models, open_models, shadowed
from service.process.receivers import Notifications, anomaly_notifications
from service.process.sensors import log_rules_without_channel
from service.process.servers import servers_of
from service.process.stopping import Stopping
from service.process.supervisor import EXIT_FAILED, EXIT_HOPELESS, EXIT_REFUSED, Supervisor
from service.process.watchdog import BEAT_LIMIT_S, Watchdog
from service.process.worker_controls import WorkerControls
from service.recovery import RecoveryRules
from service.settings.settings import Settings, client_options
from service.state import key_index
from service.state.open_alarms import SEVERITIES
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker

INCIDENTS = "incidents"  # the process that makes them
# Of a supervised process, where starting it again is no use.
EXIT_CODES: dict[type[TelltaleError], int] = {
    RefusedSetting: EXIT_REFUSED,
    LostState: EXIT_HOPELESS,
    RefusedInput: EXIT_HOPELESS,
}

logger = structlog.get_logger("telltale")


def run_service(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C; what is polled by then is judged and committed.

    A second signal ends it at once, and so does a first one that comes before there is anything to commit. With brokers
    that do not answer it ends all the same, soon: see stopping. Several workers are processes of their own, with a
    supervisor, and so is one beside which incidents are made. One alone has none: what started it restarts it, and sees
    its exit code.
    """
    stopping = Stopping()
    stopping.listen()
    torch.set_num_threads(1)  # more are slower here, and change bits
    models = open_models(settings)
    log_rules_without_channel(settings, [one.detector.features for one in models.all])
    _announce_compiling()
    numerics = {one.digest: self_test(one.detector) for one in models.all}
    key_index.keep_code()  # not while its group waits for a worker
    if settings.workers > 1 or settings.incidents.in_worker:
        code = _supervised(settings, models, numerics)
        sys.stderr.flush()
        os._exit(code)  # what was loaded takes seconds to be taken down in order, and nothing is left to be written
    notifications = anomaly_notifications(settings)
    board, metrics, registry = observed(models, numerics, notifications.notified, settings.metrics.top_streams)
    watching, streams = Watching(), Streams()
    web = None
    if settings.http.enabled:
        workers = Workers(board, metrics)
        past = PastProcess(looking_back(settings, models, numerics))
        incidents = FollowedIncidents(partial(follow_incidents, settings))
        servers = servers_of(settings, models, board, registry, workers, past, incidents)
        web = WebProcess(board, metrics, streams, watching, workers, servers, past, incidents)
        web.start()
    try:
        seen = _Seen(board, metrics, watching, streams, notifications)
        _judge(settings, models, numerics, stopping, seen, _alone(settings), lambda: _require(web))
    finally:
        if web is not None:
            web.stop()
        gc.unfreeze()  # what stays frozen to the end, libraries report as leaks


def _announce_compiling() -> None:
    """Where no compiled code was kept, the self-test waits for the compiler."""
    if not judge.is_compiled():
        logger.info("compiling", waits_for="the judge's machine code: some 10 s, and 0.1 s where it can be kept")


class _Seen(NamedTuple):
    """Through what a worker is seen, and who is notified."""

    board: StatusBoard
    metrics: Metrics
    watching: Watching
    streams: Streams
    notifications: Notifications


def _alone(settings: Settings) -> Identity:
    return Identity.alone(settings.kafka, settings.kafka.group)


def _judge(
    settings: Settings,
    models: Models,
    numerics: Mapping[str, str],
    stopping: Stopping,
    seen: _Seen,
    identity: Identity,
    check: Callable[[], None] = lambda: None,
) -> None:
    """What a worker does, from joining its group to the end. check: called every round, see Worker.run."""
    watchdog = Watchdog(seen.board, BEAT_LIMIT_S)
    largest = max(one.detector.rows_for([b""]).bytes_per_stream for one in models.all)
    memory = MemoryKeeper(_memory_share(settings.workers), largest)
    observers = (seen.watching, seen.streams, seen.notifications.notifier, memory)
    judges = Judges(settings, numerics)
    shadow = _shadow(settings, models, judges)
    controls = WorkerControls(settings, models, judges.of, checkpoint_status)
    controls.begin()
    worker = kafka_worker(
        settings, models, judges, seen.board, seen.metrics, stopping.requested, observers, identity, controls, shadow
    )

    def check_all() -> None:
        check()
        seen.notifications.check()

    _announce(settings, models, numerics)
    memory.foresee([stream for one in models.all for stream in one.detector.known])
    settle()
    stopping.note_judging()
    watchdog.start()
    seen.notifications.start()
    try:
        worker.run(check=check_all, flushed=stopping.note_written)
    finally:
        controls.stop()
        watchdog.stop()
        seen.notifications.stop()
    logger.info("stopped", readings=seen.board.read().counts.readings)


def _memory_share(workers: int) -> Limit | None:
    limit = memory_limit()
    if limit is None or workers == 1:
        return limit
    return Limit(limit.bytes // workers, f"{limit.origin}, a share of {workers}")


def _supervised(settings: Settings, models: Models, numerics: Mapping[str, str]) -> int:
    """Workers, and what makes incidents where that is wanted, each a fork of this process; returns the exit code."""
    kafka, service = settings.kafka, service_name(settings.kafka)
    now_ms, numbers = time.time_ns() // 1_000_000, range(1, settings.workers + 1)
    processes = tuple(WorkerProcess(number, ProcessState.WAITING, None, now_ms, 0) for number in numbers)
    # Of a shape with what workers publish: of no notification anything is counted here.
    notified = anomaly_notifications(settings).notified
    board, metrics, registry = observed(models, numerics, notified, settings.metrics.top_streams, processes)
    workers = Workers(board, metrics)
    past = PastProcess(looking_back(settings, models, numerics))
    incidents = FollowedIncidents(partial(follow_incidents, settings))
    served = settings.http.enabled
    servers = servers_of(settings, models, board, registry, workers, past, incidents) if served else []

    def work(number: int, control: socket.socket) -> int:
        for server in servers:
            server.leave()
        identity = Identity.supervised(kafka, kafka.group, service, f"worker-{number}")
        return _work(settings, models, numerics, identity, number, control)

    def serve(control: socket.socket) -> int:
        return serve_supervised(servers, past, incidents, workers, control)

    def incidents_beside(control: socket.socket) -> int:
        for server in servers:
            server.leave()
        identity = Identity.supervised(kafka, settings.incidents.group, service, INCIDENTS)
        return _make_incidents(settings, identity, control)

    def leave_group(number: int) -> int:
        instance = supervised_instance(service, f"worker-{number}")
        left = remove_member(kafka.bootstrap_servers, kafka.group, instance, client_options(settings))
        logger.info("member_removed", worker=number, was_there=left)
        return 0

    for server in servers:
        server.listen()
        server.announce()
    gc.collect()
    gc.freeze()  # what is loaded by now lives as long as all processes, and stays shared
    beside = {INCIDENTS: incidents_beside} if settings.incidents.in_worker else {}
    try:
        return Supervisor(settings.workers, work, serve if servers else None, leave_group, beside).run()
    finally:
        for server in servers:
            server.leave()


def _work(
    settings: Settings,
    models: Models,
    numerics: Mapping[str, str],
    identity: Identity,
    number: int,
    control: socket.socket,
) -> int:
    """What a supervised worker's process does; returns its exit code."""
    log_lines.bind(worker=number)
    stopping, notifications = Stopping(), anomaly_notifications(settings)
    board, metrics, _ = observed(models, numerics, notifications.notified)
    seen = _Seen(board, metrics, Watching(), Streams(), notifications)
    threading.Thread(target=_obey, args=(control, stopping, seen), name="control", daemon=True).start()
    return _exit_code("worker_failed", lambda: _judge(settings, models, numerics, stopping, seen, identity))


def _make_incidents(settings: Settings, identity: Identity, control: socket.socket) -> int:
    """What the process does that makes incidents beside the workers; returns its exit code."""
    log_lines.bind(stage=INCIDENTS)
    stopping = Stopping()
    threading.Thread(target=_obey, args=(control, stopping), name="control", daemon=True).start()
    return _exit_code("stage_failed", lambda: make_incidents(settings, stopping, identity))


def _exit_code(event: str, run: Callable[[], None]) -> int:
    """Of a supervised process. event: the log line about what ends it."""
    try:
        run()
    except TelltaleError as error:
        code = EXIT_CODES.get(type(error), EXIT_FAILED)
        logger.critical(event, reason=str(error), exit_code=code)
        return code
    return 0


def _obey(control: socket.socket, stopping: Stopping, seen: _Seen | None = None) -> None:
    """What a process does as its supervisor says, in a thread of its own. seen: of a worker."""
    for order, link in orders(control):
        if isinstance(order, Introduced) and link is not None and seen is not None:
            WorkerEnd(Link(link), seen.board, seen.metrics, seen.streams, seen.watching).start()
        elif isinstance(order, Stop):
            stopping.stop()
    os._exit(EXIT_FAILED)  # the supervisor has ended without a word


def observed(
    models: Models,
    numerics: Mapping[str, str],
    notified: Callable[[], Mapping[str, Notified]] = dict,
    top_streams: int = 0,
    processes: tuple[WorkerProcess, ...] = (),
) -> tuple[StatusBoard, Metrics, CollectorRegistry]:
    """What a worker with these models is watched through; they were loaded just now.

    processes: of several workers, where they are watched as one.
    """
    others = {topic: checkpoint_status(one) for topic, one in models.others.items()}
    first = first_status(checkpoint_status(models.usual), others)
    board = StatusBoard(replace(first, workers=processes))
    registry = CollectorRegistry()
    build = Build(version("telltale"), platform.python_version(), torch.__version__, numerics[models.usual.digest])
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


def checkpoint_status(one: Checkpoint) -> CheckpointStatus:
    """Of one that was loaded just now."""
    return CheckpointStatus(str(one.path), one.digest, one.detector.features, time.time_ns() // 1_000_000)


def kafka_worker(
    settings: Settings,
    models: Models,
    judges: Judges,
    board: StatusBoard,
    metrics: Metrics,
    stop: threading.Event,
    observers: Sequence[Observer] = (),
    identity: Identity | None = None,
    controls: WorkerControls | None = None,
    shadow: Shadow | None = None,
) -> Worker:
    """A worker on the cluster that the settings name.

    observers: who else sees what it does, beside the board and the metrics. identity: None: as the settings say.
    controls: what people say to workers; None: no one can. shadow: what is compared, if anything is.
    """
    identity = identity or _alone(settings)
    usual, others = judges.of(models.usual), {topic: judges.of(one) for topic, one in models.others.items()}
    writer = StateWriter(
        settings.kafka.group,
        *usual.meaning,
        identity.transactional_id,
        settings.state.flush_interval_s,
        others={topic: one.meaning for topic, one in others.items()},
    )
    detectors = {topic: one.detector for topic, one in models.others.items()}
    problem = controls.problem if controls is not None else str
    seen = (lambda: None) if shadow is None else shadow.status
    top = settings.metrics.top_streams
    reporter = Reporter(board, metrics, writer, models.usual.detector, top, detectors, problem, seen)
    return Worker(
        _kafka_log(settings, identity),
        usual.pipeline,
        writer,
        RecoveryRules(settings.state.when_lost == "reset", settings.state.prime_readings),
        stop,
        observers=[*([] if shadow is None else [shadow]), reporter, *observers],
        idle_s=settings.limits.stream_ttl_s,
        others={topic: one.pipeline for topic, one in others.items()},
        promotions=controls,
        pauses=(lambda: ()) if controls is None else controls.pauses,
    )


def _shadow(settings: Settings, models: Models, judges: Judges) -> Shadow | None:
    if models.shadow is None:
        return None
    topics = shadowed(models, settings.kafka.topics)
    logger.info("shadow", checkpoint=str(models.shadow.path), digest=models.shadow.digest[:12], topics=topics)
    return Shadow(judges.of(models.shadow).pipeline, checkpoint_status(models.shadow), topics)


def _kafka_log(settings: Settings, identity: Identity) -> KafkaLog:
    kafka = settings.kafka
    member = GroupMember(
        group=kafka.group,
        transactional_id=identity.transactional_id,
        instance_id=identity.instance,
        leaves_at_close=identity.leaves_at_close,
        auto_offset_reset=kafka.auto_offset_reset,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )
    return KafkaLog(
        Cluster(kafka.bootstrap_servers, {"client_id": f"telltale-{identity.name}", **client_options(settings)}),
        TopicNames(
            tuple(kafka.topics),
            kafka.anomalies_topic,
            kafka.dead_letters_topic,
            kafka.changelog_topic,
            settings.scores.topic,
        ),
        member,
        PollLimits(poll_records=kafka.max_poll_records),
    )


def _announce(settings: Settings, models: Models, numerics: Mapping[str, str]) -> None:
    usual = models.usual
    architecture = usual.description.architecture
    logger.info(
        "started",
        version=version("telltale"),
        checkpoint=str(usual.path),
        digest=usual.digest[:12],
        features=len(architecture.features),
        hidden=architecture.hidden,
        numerics=numerics[usual.digest],
        streams_known=sum(len(one.detector.known) for one in models.all),
        topics=list(settings.kafka.topics),
        group=settings.kafka.group,
        brokers=settings.kafka.bootstrap_servers,
        **({"models": {topic: one.digest[:12] for topic, one in models.others.items()}} if models.others else {}),
    )


def _require(web: WebProcess | None) -> None:
    if web is not None and web.failed:
        raise LogUnavailable("the HTTP server ended by itself: no one could watch this process any more")
