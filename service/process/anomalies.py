"""What the topic of anomalies says of each anomaly, read from its beginning: for labels, which are given much later."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from service.errors import RejectedReading
from service.inspect.groupless_log import GrouplessLog, input_of
from service.kafka.groupless import KafkaGrouplessLog
from service.log.port import Partition
from service.settings.settings import Settings, client_options
from service.stages.incidents.changes import AnomalyChange, read_change


class ToldAnomaly(NamedTuple):
    """An anomaly after all of its events. severity: the highest that it reached; channel: foremost in the first."""

    anomaly: str
    stream: str
    kind: str
    channel: str
    severity: int  # place in SEVERITIES
    opened_ms: int
    last_ms: int  # of its last event; it closed then, if is_open is false
    is_open: bool
    return_period_s: float  # the longest; 0: not known


def told_anomalies(settings: Settings) -> dict[str, ToldAnomaly]:
    """By id, all whose events are still on their topic. Raises RefusedInput where there is no such topic."""
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        return gathered(_changes(log, settings.kafka.anomalies_topic))


def gathered(changes: Iterable[AnomalyChange]) -> dict[str, ToldAnomaly]:
    """By id. changes: of each anomaly in their order."""
    found: dict[str, ToldAnomaly] = {}
    for one in changes:
        before = found.get(one.anomaly)
        found[one.anomaly] = ToldAnomaly(
            one.anomaly,
            one.stream,
            one.kind,
            one.channel if before is None else before.channel,
            one.severity if before is None else max(before.severity, one.severity),
            one.opened_ms,
            one.time_ms,
            one.is_open,
            one.return_period_s if before is None else max(before.return_period_s, one.return_period_s),
        )
    return found


def _changes(log: GrouplessLog, topic: str) -> Iterator[AnomalyChange]:
    for number in range(log.partitions(topic)):
        partition = Partition(topic, number)
        source = log.inspect(partition)
        for fetched in input_of(log, partition, source.begin, source.end):
            for value in fetched.values:
                try:
                    change = read_change(value)
                except RejectedReading:
                    continue
                if isinstance(change, AnomalyChange):
                    yield change
