"""The topic of incidents, followed from outside any group for the page."""

import threading
from contextlib import closing

from service.errors import TelltaleError
from service.http.incident_list import IncidentList
from service.inspect.groupless_log import input_of
from service.kafka.groupless import KafkaGrouplessLog
from service.log.port import Partition
from service.settings.settings import Settings, client_options

LATEST = 5_000  # events that are read at the start: a second's work
LOOK_EVERY_S = 2.0
TRY_EVERY_S = 10.0  # where there is no such topic, or no broker


def follow_incidents(settings: Settings, incidents: IncidentList, ended: threading.Event) -> None:
    """Returns when `ended` is set. Where the topic cannot be read, it tries again."""
    while not ended.is_set():
        try:
            _follow(settings, incidents, ended)
        except TelltaleError:
            incidents.follow(False)
            ended.wait(TRY_EVERY_S)


def _follow(settings: Settings, incidents: IncidentList, ended: threading.Event) -> None:
    topic = Partition(settings.incidents.topic, 0)
    at, topic_id = -1, ""
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        while not ended.is_set():
            source = log.inspect(topic)
            if source.topic_id != topic_id or not source.begin <= at <= source.end:
                incidents.begin()
                at, topic_id = max(source.begin, source.end - LATEST), source.topic_id
            for fetched in input_of(log, topic, at, source.end):
                incidents.hear(fetched.values)
            at = source.end
            incidents.follow(True)
            ended.wait(LOOK_EVERY_S)
