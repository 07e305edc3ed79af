"""What a webhook is sent: of the topic of anomalies and of that of incidents, which records, and with which links."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from service.input.events import decode_event
from service.input.notices import MODEL_PROMOTED, STATE_LOST, STATE_PRIMED
from service.log.port import Partition
from service.notify.delivery import EventQueue
from service.notify.incident_alerts import incident_links
from service.notify.links import Links, anomaly_links, header_of
from service.stages.incidents.events import decode_incident, decode_lost

CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"
NOTICES = (STATE_LOST, STATE_PRIMED, MODEL_PROMOTED)

# Headers of the request beside those of every one; None: the record is not for a webhook.
HeadersOf = Callable[[bytes], Mapping[str, str] | None]


class WebhookOutbox:
    """Records of the topic as they are there, in the order in which they were read. Links go beside them."""

    def __init__(self, queue: EventQueue, headers_of: HeadersOf) -> None:
        self._queue, self._headers_of = queue, headers_of

    def put(self, partition: int, offset: int, value: bytes) -> None:
        headers = self._headers_of(value)
        if headers is not None:
            self._queue.put(value, (partition, offset), headers)

    def clear(self) -> None:
        self._queue.clear()

    def needed_offsets(self) -> Mapping[int, int]:
        needed: dict[int, int] = {}
        for place in self._queue.contents:
            needed.setdefault(*cast("tuple[int, int]", place))  # the first is the lowest
        return needed

    def waiting(self) -> int:
        return self._queue.waiting


def of_anomalies(links: Links, severities: Sequence[str]) -> HeadersOf:
    """Every event of an anomaly that is as severe as wanted, and every notice of the service's own memory."""

    def headers_of(value: bytes) -> Mapping[str, str] | None:
        try:
            if _type_of(value).type in NOTICES:
                return {}
            anomaly = decode_event(value).data
        except msgspec.MsgspecError:
            return None
        if anomaly.severity not in severities:
            return None
        partition = Partition(anomaly.topic, anomaly.partition)
        return header_of(*anomaly_links(links, partition, anomaly.anomaly, anomaly.stream, anomaly.opened_at))

    return headers_of


def of_incidents(links: Links, severities: Sequence[str]) -> HeadersOf:
    """Every event of an incident that people are notified of, and that incidents were lost."""

    def headers_of(value: bytes) -> Mapping[str, str] | None:
        try:
            incident = decode_incident(value).data
        except msgspec.MsgspecError:  # it is of something else, such as a control
            return None if decode_lost(value) is None else {}
        return (
            header_of(*incident_links(links, incident))
            if incident.notified and incident.severity in severities
            else None
        )

    return headers_of


class _Typed(msgspec.Struct):
    type: str


_type_of = msgspec.json.Decoder(_Typed).decode
