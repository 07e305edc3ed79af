"""What the service answers over HTTP: its page and API, and the metrics, on one port or on two."""

from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from models.checkpoints.checkpoint_header import UnusableCheckpoint
from models.detection.sensor_rules import SensorRules
from service.http.app import app as http_app
from service.http.app import metrics_app
from service.http.incident_list import FollowedIncidents
from service.http.past_process import PastProcess
from service.http.server import Server
from service.http.turns import Brake, Share, Turns
from service.http.workers import AllStreams, AllViews, Workers
from service.live.insights import Insight, Model
from service.live.status import StatusBoard, checkpoints_of
from service.log.port import Record
from service.process import controls
from service.process.models import Models
from service.process.sensors import rules_in
from service.process.watchdog import BEAT_LIMIT_S
from service.settings.addresses import names_for
from service.settings.settings import Settings

logger = structlog.get_logger("telltale")


def servers_of(
    settings: Settings,
    models: Models,
    board: StatusBoard,
    registry: CollectorRegistry,
    workers: Workers,
    past: PastProcess,
    incidents: FollowedIncidents,
) -> list[Server]:
    """One, or one more for the metrics alone."""
    http = settings.http
    alone = http.metrics_port is not None

    def write_control(record: Record) -> None:
        controls.write_control(settings, record)

    api = http_app(
        board,
        None if alone else registry,
        BEAT_LIMIT_S,
        version("telltale"),
        insight=_insight(settings, models, AllViews(workers), board),
        streams=AllStreams(workers),
        token=None if http.token is None else http.token.get_secret_value(),
        names=names_for(http.host, http.names),
        turns=Turns(Share(http.processor_share)),
        past=past,
        write_control=write_control,
        incidents=incidents.list,
        controls=incidents.controls,
        earlier=incidents.earlier,
    )
    brake = Brake()
    servers = [Server(api, http.host, http.port, brake=brake)]
    if http.metrics_port is not None:
        # Who scrapes asks by address, not by one of the names that people use.
        scraped = metrics_app(registry, version("telltale"), names_for(http.metrics_host, ()))
        servers.append(Server(scraped, http.metrics_host, http.metrics_port, "http.metrics_", brake))
    return servers


def _insight(settings: Settings, models: Models, views: AllViews, board: StatusBoard) -> Insight:
    rules = rules_in(settings)  # the worker logs what is wrong with them

    def model(one: Checkpoint) -> Model:
        return Model(one.detector, one.digest, SensorRules(rules, one.detector.features))

    others = {topic: model(one) for topic, one in models.others.items()}
    usual = model(models.usual)
    known = {one.digest: one for one in (usual, *others.values())}

    def promoted(digest: str) -> Model | None:
        """Loaded here too when it is first asked for; the worker has said where it lies."""
        for one in checkpoints_of(board.read()).values():
            if one.digest == digest and digest not in known:
                try:
                    loaded = open_checkpoint(Path(one.path))
                except UnusableCheckpoint as error:
                    logger.warning("model_not_explained", checkpoint=one.path, reason=str(error))
                else:
                    known[loaded.digest] = model(loaded)
        return known.get(digest)

    return Insight(usual.detector, usual.digest, views, sensors=usual.sensors, others=others, promoted=promoted)
