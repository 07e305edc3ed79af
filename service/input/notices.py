"""What the service reports of its own memory, on the topic of anomalies."""

import uuid

import msgspec

from service.input.anomaly import ANOMALY_NAMESPACE
from service.input.events import EVENT_HEADERS
from service.log.port import Record

STATE_LOST = "telltale.state.lost"


class StateLost(msgspec.Struct, frozen=True):
    """A stream, or a whole partition, whose memory could not be restored; it starts again at this offset."""

    stream: str | None  # None: all of the partition, or it is not known which
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int


class Notice(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope, on the topic of anomalies, about the service's own memory."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    datacontenttype: str
    data: StateLost


def state_lost(lost: StateLost) -> Record:
    """Report that a stream's memory is lost. Its id is the same whenever the same loss is reported again."""
    where = f"{lost.topic}/{lost.partition}"
    subject = where if lost.stream is None else lost.stream
    what = f"{where}/{lost.offset}/{subject}/state.lost/{lost.reason}/{lost.detail}"  # of two pages, only that differs
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, what))
    notice = Notice("1.0", identity, f"/telltale/{lost.topic}", STATE_LOST, subject, "application/json", lost)
    return Record(subject.encode(), msgspec.json.encode(notice), EVENT_HEADERS)
