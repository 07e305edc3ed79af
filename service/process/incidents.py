"""What makes incidents, alone or beside workers: built from its settings, and run until it is told to stop."""

import structlog
from prometheus_client import CollectorRegistry

from service.notify.event_feed import check_feeds, stop_feeds
from service.process.identity import Identity
from service.process.quiet import dependencies_of, quiet_times
from service.process.receivers import incident_feeds
from service.process.stages import StagePlace, run_stage, stage_log
from service.process.stopping import Stopping
from service.settings.incident_section import IncidentSettings
from service.settings.settings import Settings
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.budget import Budget
from service.stages.incidents.groups import Groups
from service.stages.incidents.metrics import IncidentMetrics
from service.stages.incidents.quiet import QuietTimes
from service.stages.incidents.rules import IncidentRules
from service.stages.incidents.stage import IncidentStage

logger = structlog.get_logger("telltale")


def run_incidents(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C; what is polled by then is committed."""
    stopping = Stopping()
    stopping.listen()
    make_incidents(settings, stopping, Identity.alone(settings.kafka, settings.incidents.group))


def make_incidents(settings: Settings, stopping: Stopping, identity: Identity) -> None:
    """Until it is told to stop."""
    incidents, anomalies, controls = (
        settings.incidents,
        settings.kafka.anomalies_topic,
        settings.incidents.control_topic,
    )
    place = StagePlace("incidents", incidents.group, incidents.metrics_host, incidents.metrics_port)
    quiet = quiet_times(incidents)
    log, writer = stage_log(settings, place, identity, (anomalies, controls), incidents.topic)
    feeds = incident_feeds(settings)
    stage = IncidentStage(
        log,
        lambda: new_book(incidents, quiet),
        controls,
        incidents.group,
        writer,
        stopping.requested,
        reset=settings.state.when_lost == "reset",
        check=lambda: check_feeds(feeds),
    )
    registry = CollectorRegistry()
    IncidentMetrics(registry, stage.status, lambda: [(feed.kind, feed.notified) for feed in feeds])
    for feed in feeds:
        feed.start()
    try:
        run_stage(
            stage, settings, place, registry, stopping, reads=anomalies, controls=controls, writes=incidents.topic
        )
    finally:
        stop_feeds(feeds)
    logger.info("stopped", anomalies=stage.status.counts["anomalies"])


def new_book(incidents: IncidentSettings, quiet: QuietTimes) -> IncidentBook:
    """An empty one, with the rules that are set."""
    rules = IncidentRules(
        groups=Groups(incidents.separator, incidents.depth, incidents.groups, incidents.labels),
        gap_ms=round(incidents.gap_s * 1000),
        longest_ms=round(incidents.longest_s * 1000),
        update_every_ms=round(incidents.update_every_s * 1000),
        expire_ms=round(incidents.expire_s * 1000),
        broad_streams=incidents.broad_streams,
        quiet=quiet,
        dependencies=dependencies_of(incidents),
    )
    return IncidentBook(rules, Budget(incidents.budget_per_day, group_per_day=incidents.group_budget_per_day))
