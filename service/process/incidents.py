"""`telltale incidents`: build the stage from its settings, and run it until it is told to stop."""

import socket
import uuid
from datetime import datetime
from importlib.metadata import version
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import CollectorRegistry

from models.data.cron import parse_cron
from service.http.app import metrics_app
from service.http.server import Server
from service.incidents.book import IncidentBook, IncidentRules
from service.incidents.budget import Budget
from service.incidents.groups import Groups
from service.incidents.metrics import IncidentMetrics
from service.incidents.quiet import QuietTime, QuietTimes
from service.incidents.stage import IncidentStage
from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, PollLimits, TopicNames
from service.kafka.transactional_ids import worker_id
from service.notify.incident_feed import feeds_check
from service.process.receivers import incident_feeds
from service.process.stopping import Stopping
from service.process.watchdog import Watchdog
from service.settings.addresses import names_for
from service.settings.sections import IncidentSettings, QuietSettings
from service.settings.settings import Settings, client_options

BEAT_LIMIT_S = 60.0  # a round that takes longer will not end: only a restart helps

logger = structlog.get_logger("telltale")


def run_incidents(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C; what is polled by then is committed."""
    stopping = Stopping()
    stopping.listen()
    me = settings.kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    writer = worker_id(settings.incidents.group, me)
    stage = IncidentStage(
        _log_of(settings, me, writer),
        lambda: new_book(settings.incidents),
        settings.incidents.control_topic,
        settings.incidents.group,
        writer,
        stopping.requested,
        reset=settings.state.when_lost == "reset",
    )
    feeds = incident_feeds(settings)
    registry = CollectorRegistry()
    IncidentMetrics(registry, stage.status, lambda: [(feed.kind, feed.notified) for feed in feeds])
    server = _server_of(settings.incidents, registry)
    watchdog = Watchdog(stage, BEAT_LIMIT_S)
    logger.info(
        "started",
        version=version("telltale"),
        reads=settings.kafka.anomalies_topic,
        controls=settings.incidents.control_topic,
        writes=settings.incidents.topic,
        group=settings.incidents.group,
        brokers=settings.kafka.bootstrap_servers,
    )
    if server is not None:
        server.start()
        server.announce()
    stopping.note_judging()
    watchdog.start()
    for feed in feeds:
        feed.start()
    try:
        stage.run(written=stopping.note_written, check=lambda: feeds_check(feeds))
    finally:
        watchdog.stop()
        for feed in feeds:
            feed.stop()
        if server is not None:
            server.stop()
    logger.info("stopped", anomalies=stage.status.counts["anomalies"])


def new_book(incidents: IncidentSettings) -> IncidentBook:
    """An empty one, with the rules that are set."""
    rules = IncidentRules(
        groups=Groups(incidents.separator, incidents.depth, incidents.groups),
        gap_ms=round(incidents.gap_s * 1000),
        longest_ms=round(incidents.longest_s * 1000),
        update_every_ms=round(incidents.update_every_s * 1000),
        expire_ms=round(incidents.expire_s * 1000),
        broad_streams=incidents.broad_streams,
        quiet=QuietTimes([_quiet_time(one) for one in incidents.quiet]),
    )
    return IncidentBook(rules, Budget(incidents.budget_per_day))


def _quiet_time(quiet: QuietSettings) -> QuietTime:
    return QuietTime(
        quiet.streams,
        quiet.reason,
        _milliseconds(quiet.begins),
        _milliseconds(quiet.until),
        None if quiet.cron is None else parse_cron(quiet.cron, ZoneInfo(quiet.time_zone)),
        round((quiet.lasts_s or 0.0) * 1000),
    )


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _log_of(settings: Settings, me: str, writer: str) -> KafkaLog:
    kafka, incidents = settings.kafka, settings.incidents
    member = GroupMember(
        group=incidents.group,
        transactional_id=writer,
        instance_id=kafka.instance,
        takes_all=True,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )
    return KafkaLog(
        Cluster(kafka.bootstrap_servers, {"client_id": f"telltale-incidents-{me}", **client_options(settings)}),
        TopicNames(
            (kafka.anomalies_topic, incidents.control_topic),
            incidents.topic,
            kafka.dead_letters_topic,
            kafka.changelog_topic,
        ),
        member,
        PollLimits(poll_records=kafka.max_poll_records),
    )


def _server_of(incidents: IncidentSettings, registry: CollectorRegistry) -> Server | None:
    if incidents.metrics_port is None:
        return None
    api = metrics_app(registry, version("telltale"), names_for(incidents.metrics_host, ()))
    return Server(api, incidents.metrics_host, incidents.metrics_port, "incidents.metrics_")
