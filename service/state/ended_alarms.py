"""Alarms that change without a reading of their stream: what is published of them."""

from typing import NamedTuple

from msgspec import UNSET

from models.data.rfc3339 import rfc3339
from models.detection.alarm import OpenedBy
from service.input.anomaly import Anomaly, anomaly_id, opening_of
from service.input.events import Event, enveloped
from service.log.port import Partition
from service.state.open_alarms import HeldAlarm


def ended_event(
    alarm: HeldAlarm, closed_as: str, partition: Partition, offset: int, time_ms: int, digest: str
) -> Event:
    """The event that closes an alarm as its row has it.

    offset, time_ms: of the record of another stream at which it ends. digest: the checkpoint's.
    """
    return _event(alarm, "closed", partition, offset, time_ms, digest, closed_as)


def found_event(alarm: HeldAlarm, partition: Partition, offset: int, time_ms: int, digest: str) -> Event:
    """The event that opens an alarm that a checkpoint brings with it when it takes over at `offset`."""
    return _event(alarm, "opened", partition, offset, time_ms, digest)


class Silent(NamedTuple):
    """What is told of a silence beside its alarm."""

    last_ms: int  # time of the stream's last reading
    # Event time in which there is one such silence: at first how long the stream was judged, since there was none
    return_s: float


def silent_event(alarm: HeldAlarm, silent: Silent, partition: Partition, offset: int, digest: str) -> Event:
    """The event that opens the alarm of a stream that is found silent because of the record at `offset`."""
    return _event(alarm, "opened", partition, offset, alarm.opened_ms, digest, silent=silent)


def longer_silence_event(
    alarm: HeldAlarm, silent: Silent, partition: Partition, offset: int, time_ms: int, digest: str
) -> Event:
    """The event of an alarm that is more severe, since at `time_ms` the silence was so long."""
    return _event(alarm, "updated", partition, offset, time_ms, digest, silent=silent)


def _event(
    alarm: HeldAlarm,
    change: str,
    partition: Partition,
    offset: int,
    time_ms: int,
    digest: str,
    closed_as: str | None = None,
    silent: Silent | None = None,
) -> Event:
    stream, time, opened_by = alarm.key.decode(), rfc3339(time_ms), alarm.opened_by.name.lower()
    guess = alarm.guess
    anomaly = Anomaly(
        anomaly=anomaly_id(partition, alarm.opened_offset, stream),
        stream=stream,
        status="open" if closed_as is None else "closed",
        severity=alarm.severity,
        kind=opened_by if guess is None else guess.kind.value,
        closed_as=closed_as,
        score=0.0 if silent is None else alarm.peak,
        peak=alarm.peak,
        opened_at=rfc3339(alarm.opened_ms),
        closed_at=None if closed_as is None else time,
        channels=[],
        return_period_s=0.0 if silent is None else round(silent.return_s / len(OpenedBy), 3),
        witnesses={} if silent is None else {opened_by: round(silent.return_s, 3)},
        checkpoint=digest,
        topic=partition.topic,
        partition=partition.number,
        offset=offset,
        kind_probability=UNSET if guess is None else guess.probability,
        opened_by=UNSET if guess is None else opened_by,
        began_at=UNSET if silent is None else rfc3339(silent.last_ms),
        labels=UNSET if alarm.labels is None else alarm.labels,
    )
    return enveloped(anomaly, change, opening_of(partition, alarm.opened_offset, stream), time)
