"""`telltale remote-write`: build the feed of scores from its settings, and run it until it is told to stop."""

import socket
import uuid

import structlog
from prometheus_client import CollectorRegistry

from service.errors import RefusedSetting
from service.kafka.topic_reader import TopicReader
from service.notify.delivery import Receiver
from service.notify.remote_write import HEADERS
from service.notify.score_feed import ScoreFeed
from service.notify.score_metrics import ScoreFeedMetrics
from service.process.stages import StagePlace, run_stage
from service.process.stopping import Stopping
from service.settings.settings import Settings, client_options

logger = structlog.get_logger("telltale")


def run_remote_write(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C. Raises RefusedSetting where it is not said from where, or to whom."""
    topic, url = settings.scores.topic, settings.remote_write.url
    if topic is None:
        raise RefusedSetting("scores.topic: found null, expected the topic that `telltale run` writes scores to")
    if url is None:
        raise RefusedSetting(
            "remote_write.url: found null, expected where samples are sent, such as http://prometheus:9090/api/v1/write"
        )
    stopping = Stopping()
    stopping.listen()
    kafka, own = settings.kafka, settings.remote_write
    place = StagePlace("remote_write", own.group, own.metrics_host, own.metrics_port)
    me = kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    login = None if own.authorization is None else own.authorization.get_secret_value()
    receiver = Receiver("remote write", url, login, HEADERS)
    reader = TopicReader(
        kafka.bootstrap_servers,
        topic,
        own.group,
        {"client_id": f"telltale-remote-write-{me}", **client_options(settings)},
        session_timeout_ms=kafka.session_timeout_ms,
        from_end=True,
    )
    feed = ScoreFeed(reader, receiver.post, stopping.requested)
    registry = CollectorRegistry()
    ScoreFeedMetrics(registry, feed.status)
    run_stage(feed, settings, place, registry, stopping, reads=topic, receiver=receiver.name)
    logger.info("stopped", readings=feed.status.counts["readings"])
