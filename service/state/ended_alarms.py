"""Alarms that change without a reading of their stream: what is published of them."""

from msgspec import UNSET

from models.data.rfc3339 import rfc3339
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
    return _event(alarm, closed_as, partition, offset, time_ms, digest)


def found_event(alarm: HeldAlarm, partition: Partition, offset: int, time_ms: int, digest: str) -> Event:
    """The event that opens an alarm that a checkpoint brings with it when it takes over at `offset`."""
    return _event(alarm, None, partition, offset, time_ms, digest)


def _event(
    alarm: HeldAlarm, closed_as: str | None, partition: Partition, offset: int, time_ms: int, digest: str
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
        score=0.0,
        peak=alarm.peak,
        opened_at=rfc3339(alarm.opened_ms),
        closed_at=None if closed_as is None else time,
        channels=[],
        return_period_s=0.0,
        witnesses={},
        checkpoint=digest,
        topic=partition.topic,
        partition=partition.number,
        offset=offset,
        kind_probability=UNSET if guess is None else guess.probability,
        opened_by=UNSET if guess is None else opened_by,
    )
    change = "opened" if closed_as is None else "closed"
    return enveloped(anomaly, change, opening_of(partition, alarm.opened_offset, stream), time)
