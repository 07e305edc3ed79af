"""A stage beside `telltale run`, from its start to the end: with a watchdog, and with metrics where they are set."""

from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple, Protocol

import structlog
from prometheus_client import CollectorRegistry

from service.http.app import metrics_app
from service.http.server import Server
from service.kafka.log import KafkaLog
from service.kafka.log_config import POLL_LIMITS, Cluster, GroupMember, PollLimits, TopicNames
from service.process.identity import Identity
from service.process.stopping import Stopping
from service.process.watchdog import BEAT_LIMIT_S, Beat, Watchdog
from service.settings.addresses import names_for
from service.settings.settings import Settings, client_options

logger = structlog.get_logger("telltale")


class Stage(Protocol):
    """What is run."""

    def read(self) -> Beat: ...

    def run(self, written: Callable[[], None]) -> None: ...


class StagePlace(NamedTuple):
    """A stage's name, its place in a group of its own, and where its metrics are served."""

    name: str  # of the command, and of its section of the settings
    group: str
    metrics_host: str
    metrics_port: int | None


class StageLog(NamedTuple):
    log: KafkaLog
    writer: str  # transactional id


def stage_log(
    settings: Settings,
    place: StagePlace,
    identity: Identity,
    reads: tuple[str, ...],
    writes: str,
    poll_bytes: int = POLL_LIMITS.poll_bytes,
) -> StageLog:
    """The log of a stage of which one member has all partitions of the topics that it reads."""
    kafka = settings.kafka
    member = GroupMember(
        group=place.group,
        transactional_id=identity.transactional_id,
        instance_id=identity.instance,
        leaves_at_close=identity.leaves_at_close,
        takes_all=True,
        session_timeout_ms=kafka.session_timeout_ms,
        transaction_timeout_ms=kafka.transaction_timeout_ms,
    )
    log = KafkaLog(
        Cluster(
            kafka.bootstrap_servers, {"client_id": f"telltale-{place.name}-{identity.name}", **client_options(settings)}
        ),
        TopicNames(reads, writes, kafka.dead_letters_topic, kafka.changelog_topic),
        member,
        PollLimits(poll_records=kafka.max_poll_records, poll_bytes=poll_bytes),
    )
    return StageLog(log, member.transactional_id)


def run_stage(
    stage: Stage,
    settings: Settings,
    place: StagePlace,
    registry: CollectorRegistry,
    stopping: Stopping,
    **said: object,
) -> None:
    """Until it is told to stop; what is polled by then is committed. said: of the line that says it has started."""
    server = _server_of(place, registry)
    watchdog = Watchdog(stage, BEAT_LIMIT_S)
    logger.info(
        "started", version=version("telltale"), group=place.group, brokers=settings.kafka.bootstrap_servers, **said
    )
    if server is not None:
        server.start()
        server.announce()
    stopping.note_judging()
    watchdog.start()
    try:
        stage.run(written=stopping.note_written)
    finally:
        watchdog.stop()
        if server is not None:
            server.stop()


def _server_of(place: StagePlace, registry: CollectorRegistry) -> Server | None:
    if place.metrics_port is None:
        return None
    api = metrics_app(registry, version("telltale"), names_for(place.metrics_host, ()))
    return Server(api, place.metrics_host, place.metrics_port, f"{place.name}.metrics_")
