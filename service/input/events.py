"""An anomaly's CloudEvent: a transition of an alarm -> its event -> bytes, and back."""

import math
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from models.data.rfc3339 import rfc3339
from models.detection.alarm import OpenedBy
from models.detection.detector import Transition, Verdicts
from models.detection.sensor_rules import SensorRules, units_of
from service.input.anomaly import ANOMALY_NAMESPACE, CHANGE_NAMES, CLOSED_AS, Anomaly, Channel, anomaly_id, opening_of
from service.input.reading_batch import ReadingBatch
from service.log.port import Record

EVENT_HEADERS = (("content-type", b"application/cloudevents+json"),)


class Event(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: Anomaly

    @property
    def change(self) -> str:
        """opened, updated or closed."""
        return self.type.rpartition(".")[2]


def event(
    batch: ReadingBatch,
    verdicts: Verdicts,
    transition: Transition,
    features: Sequence[str],
    digest: str,
    sensors: SensorRules | None = None,
) -> Event:
    """The event of one transition of one alarm. Its id is the same whenever the same transition is published again."""
    n = transition.reading
    key, topic, partition = batch.keys[n], batch.partition.topic, batch.partition.number
    stream, time = key.decode(), rfc3339(int(batch.readings.times_ms[n]))
    change, closed_as = CHANGE_NAMES[transition.change], CLOSED_AS.get(transition.change)
    columns = [
        [_known(value) for value in column[n].tolist()]
        for column in (batch.readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
    ]
    units = units_of(sensors, key, len(features))
    channels = [
        Channel(name, observed, expected, lower, upper, share, UNSET if unit is None else unit)
        for name, observed, expected, lower, upper, share, unit in zip(
            features, *columns, transition.share, units, strict=True
        )
    ]
    offset, index = int(batch.readings.offsets[n]), int(batch.indices[n])
    opening = opening_of(batch.partition, transition.opened_offset, stream)
    opened_by, guess = transition.opened_by.name.lower(), transition.guess
    anomaly = Anomaly(
        anomaly=anomaly_id(batch.partition, transition.opened_offset, stream),
        stream=stream,
        status="open" if closed_as is None else "closed",
        severity=transition.severity.name.lower(),
        kind=opened_by if guess is None else guess.kind.value,
        closed_as=closed_as,
        score=transition.score,
        peak=transition.peak,
        opened_at=rfc3339(transition.opened_ms),
        closed_at=time if closed_as else None,
        channels=channels,
        return_period_s=round(max(transition.returns_ms) / len(OpenedBy) / 1000, 3),
        witnesses={
            witness.name.lower(): round(returns_ms / 1000, 3)
            for witness, returns_ms in zip(OpenedBy, transition.returns_ms, strict=True)
            if returns_ms > 0
        },
        checkpoint=digest,
        topic=topic,
        partition=partition,
        offset=offset,
        index=index or UNSET,
        kind_probability=UNSET if guess is None else guess.probability,
        opened_by=UNSET if guess is None else opened_by,
        began_at=UNSET if transition.began_ms is None else rfc3339(transition.began_ms),
        labels=UNSET if batch.labels is None else batch.labels[n] or UNSET,
    )
    return enveloped(anomaly, change, opening, time)


def enveloped(anomaly: Anomaly, change: str, opening: str, time: str) -> Event:
    """The event of an anomaly that changed. change: opened, updated, closed. opening: see `opening_of`."""
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, f"{opening}/{change}/{anomaly.severity.upper()}"))
    source, kind = f"/telltale/{anomaly.topic}", f"telltale.anomaly.{change}"
    return Event("1.0", identity, source, kind, anomaly.stream, time, "application/json", anomaly)


def encode_event(one: Event) -> Record:
    return Record(one.subject.encode(), msgspec.json.encode(one), EVENT_HEADERS)


def decode_event(value: bytes) -> Event:
    return msgspec.json.decode(value, type=Event)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
