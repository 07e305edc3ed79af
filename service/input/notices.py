"""What the service reports of its own memory, on the topic of anomalies."""

import uuid

import msgspec

from service.input.anomaly import ANOMALY_NAMESPACE
from service.input.events import EVENT_HEADERS
from service.log.port import Record

STATE_LOST = "telltale.state.lost"
STATE_PRIMED = "telltale.state.primed"


class StateLost(msgspec.Struct, frozen=True):
    """A stream, or a whole partition, whose memory is lost, or primed; it starts again at this offset."""

    stream: str | None  # None: all of the partition, or it is not known which
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    # Whether the anomalies of this stream, or of all of the partition, that were opened before this offset end with it:
    # nothing more is published of them.
    ends_anomalies: bool


class Notice(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 envelope, on the topic of anomalies, about the service's own memory."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    datacontenttype: str
    data: StateLost


def state_lost(lost: StateLost, kind: str = STATE_LOST) -> Record:
    """Report that a stream's memory is lost. Its id is the same whenever the same loss is reported again.

    kind: STATE_PRIMED where nothing is lost, but another checkpoint judges from here on.
    """
    where = f"{lost.topic}/{lost.partition}"
    subject = where if lost.stream is None else lost.stream
    event = kind.removeprefix("telltale.")
    what = f"{where}/{lost.offset}/{subject}/{event}/{lost.reason}/{lost.detail}"  # of two pages, the last differs
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, what))
    notice = Notice("1.0", identity, f"/telltale/{lost.topic}", kind, subject, "application/json", lost)
    return Record(subject.encode(), msgspec.json.encode(notice), EVENT_HEADERS)
