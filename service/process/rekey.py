"""`telltale rekey`: build the stage from its settings, and run it until it is told to stop."""

from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry

from service.errors import RefusedSetting
from service.input.wire import Decoder
from service.process.identity import Identity
from service.process.models import open_model
from service.process.records import record_rules
from service.process.stages import StagePlace, run_stage, stage_log
from service.process.stopping import Stopping
from service.settings.settings import Settings
from service.stages.rekey.birth_state import BirthChangelog
from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.joining import JoinRules
from service.stages.rekey.metrics import RekeyMetrics
from service.stages.rekey.readings import RecordReader
from service.stages.rekey.stage import Joining, RekeyStage

# Of some bytes a reading, what a poll brings may become a hundred times as much memory.
POLL_BYTES = 2 * 1024 * 1024

logger = structlog.get_logger("telltale")


def run_rekey(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C. Raises RefusedSetting where the topics do not fit."""
    _check(settings)
    stopping = Stopping()
    stopping.listen()
    rekey, limits = settings.rekey, settings.limits
    features = _features(settings)
    bounds_ms = round(limits.max_future_s * 1000), round(limits.max_past_s * 1000)
    reader = RecordReader(Decoder(features, *bounds_ms, record_rules(settings)))
    place = StagePlace("rekey", rekey.group, rekey.metrics_host, rekey.metrics_port)
    log, _ = stage_log(
        settings, place, Identity.alone(settings.kafka, rekey.group), rekey.topics, rekey.topic, POLL_BYTES
    )
    stage = RekeyStage(
        log,
        reader,
        stopping.requested,
        BirthChangelog(rekey.group, rekey.topic),
        joining=_joining(settings, features),
        wait_s=rekey.wait_s,
        reset=settings.state.when_lost == "reset",
    )
    registry = CollectorRegistry()
    RekeyMetrics(registry, stage.status)
    said = {"reads": list(rekey.topics), "writes": rekey.topic, "features": list(features)}
    run_stage(stage, settings, place, registry, stopping, **said)
    logger.info("stopped", readings=stage.status.counts["readings"])


def _joining(settings: Settings, features: Sequence[str]) -> Joining | None:
    rekey = settings.rekey
    if rekey.join_window_s is None:
        return None
    spans_ms = (round(1000 * span) for span in (rekey.join_window_s, rekey.join_late_s, rekey.join_expire_s))
    return Joining(JoinRules(*spans_ms), JoinChangelog(rekey.group, rekey.topic, features))


def _features(settings: Settings) -> Sequence[str]:
    """Those that the model of the topic judges, without it where the settings say them."""
    named = settings.models.get(settings.rekey.topic, settings).features
    return named or open_model(settings, settings.rekey.topic).detector.features


def _check(settings: Settings) -> None:
    """Before anything is imported that takes long, or written where it should not be."""
    kafka, rekey = settings.kafka, settings.rekey
    if not rekey.topics:
        raise RefusedSetting("rekey.topics: found none, expected the topics whose records are to be keyed by stream")
    others = (kafka.anomalies_topic, kafka.dead_letters_topic, kafka.changelog_topic, settings.incidents.topic)
    if rekey.topic in others:
        raise RefusedSetting(f"rekey.topic: found {rekey.topic}, expected a topic that nothing else is written to")
    named = [topic for topic in rekey.topics if (one := settings.input.topics.get(topic)) and one.metric is not None]
    if named and rekey.join_window_s is None:
        raise RefusedSetting(
            f"rekey.join_window_s: found null, expected the seconds whose metrics are one reading, as the records of "
            f"{named[0]} hold one metric each (input.topics.{named[0]}.metric)"
        )
    if labelled := [topic for topic in rekey.topics if (one := settings.input.topics.get(topic)) and one.labels]:
        raise RefusedSetting(
            f"input.topics.{labelled[0]}.labels: expected none, as `telltale rekey` writes readings without labels; "
            "what groups streams may be the first parts of their names (stream)"
        )
    if rekey.topic in settings.input.topics:
        raise RefusedSetting(
            f"input.topics.{rekey.topic}: expected no mapping, as what `telltale rekey` writes needs none"
        )
