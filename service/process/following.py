"""What the page reads from topics, outside any group: incidents and controls as they come, earlier anomalies."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import msgspec

from service.errors import TelltaleError
from service.http.control_list import ControlList
from service.http.earlier_events import EarlierEvents
from service.http.incident_list import IncidentList
from service.input.events import decode_event
from service.inspect.groupless_log import GrouplessLog, input_of
from service.kafka.groupless import KafkaGrouplessLog
from service.log.port import Partition
from service.settings.settings import Settings, client_options

LATEST = 5_000  # events of incidents that are read at the start: a second's work
EARLIER = 2_000  # events of anomalies, of all partitions together, and again when partitions have come
LOOK_EVERY_S = 2.0
TRY_EVERY_S = 10.0  # where there is no such topic, or no broker


class _List(Protocol):
    def begin(self) -> None: ...

    def follow(self, followed: bool) -> None: ...

    def hear(self, keys: Sequence[bytes | None], values: Sequence[bytes | None], /) -> None: ...


class _Followed:
    """A topic of one partition, and how far it has been read."""

    def __init__(self, topic: str, into: _List, latest: int | None) -> None:
        """latest: how many records are read at the start; None: all that are there."""
        self._partition, self._into, self._latest = Partition(topic, 0), into, latest
        self._at, self._topic_id = -1, ""
        self._again_s = 0.0

    def look(self, log: GrouplessLog) -> bool:
        """Take in what is new. Whether the topic can be read; where it could not be, it is tried again later."""
        if time.monotonic() < self._again_s:
            return False
        try:
            self._read(log)
        except TelltaleError:
            self._again_s = time.monotonic() + TRY_EVERY_S
            self._into.follow(False)
            return False
        self._into.follow(True)
        return True

    def _read(self, log: GrouplessLog) -> None:
        source = log.inspect(self._partition)
        if source.topic_id != self._topic_id or not source.begin <= self._at <= source.end:
            self._into.begin()
            latest = source.begin if self._latest is None else max(source.begin, source.end - self._latest)
            self._at, self._topic_id = latest, source.topic_id
        for fetched in input_of(log, self._partition, self._at, source.end):
            self._into.hear(fetched.keys, fetched.values)
        self._at = source.end


class _Earlier:
    """The topic of anomalies. Incidents do not wait for it: a service that may not read it may read theirs."""

    def __init__(self, settings: Settings, into: EarlierEvents) -> None:
        self._topic, self._of = settings.kafka.anomalies_topic, frozenset(settings.kafka.topics)
        self._into = into
        self._again_s = 0.0

    def look(self, log: GrouplessLog) -> None:
        """Read it where that is wanted; where it could not be read, it is tried again later."""
        if not self._into.wanted or time.monotonic() < self._again_s:
            return
        try:
            self._into.hear(_anomaly_events(log, self._topic, self._of))
        except TelltaleError:
            self._again_s = time.monotonic() + TRY_EVERY_S


def follow_incidents(
    settings: Settings,
    incidents: IncidentList,
    controls: ControlList,
    earlier: EarlierEvents,
    ended: threading.Event,
) -> None:
    """Returns when `ended` is set. Where a topic cannot be read, it tries again."""
    anomalies = _Earlier(settings, earlier)
    while not ended.is_set():
        try:
            _follow(settings, incidents, controls, anomalies, ended)
        except TelltaleError:
            incidents.follow(False)
            controls.follow(False)
        ended.wait(TRY_EVERY_S)


def _follow(
    settings: Settings, incidents: IncidentList, controls: ControlList, anomalies: _Earlier, ended: threading.Event
) -> None:
    """Until neither incidents nor controls can be read: then with another client."""
    topics = (
        _Followed(settings.incidents.topic, incidents, LATEST),
        _Followed(settings.incidents.control_topic, controls, None),
    )
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        while not ended.is_set():
            read = [one.look(log) for one in topics]
            anomalies.look(log)
            if not any(read):
                return
            ended.wait(LOOK_EVERY_S)


def _anomaly_events(log: GrouplessLog, topic: str, read: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The latest of each partition, of anomalies in topics that this service reads."""
    partitions = log.partitions(topic)
    for number in range(partitions):
        partition = Partition(topic, number)
        source = log.inspect(partition)
        begin = max(source.begin, source.end - EARLIER // partitions)
        for fetched in input_of(log, partition, begin, source.end):
            for value in fetched.values:
                try:
                    event = decode_event(value or b"")
                except msgspec.MsgspecError:  # of another kind, as of state that was lost
                    continue
                if event.data.topic in read:
                    yield msgspec.to_builtins(event)
