"""What the service reports of its own memory, on the topic of anomalies."""

import uuid

import msgspec

from service.input.anomaly import ANOMALY_NAMESPACE
from service.input.events import EVENT_HEADERS
from service.log.port import Record

STATE_LOST = "telltale.state.lost"
STATE_PRIMED = "telltale.state.primed"
MODEL_PROMOTED = "telltale.model.promoted"


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


class ModelPromoted(msgspec.Struct, frozen=True):
    """Another checkpoint judges a partition from this offset on, warm."""

    checkpoint: str  # digest of the one that judges now
    before: str  # and of the one that judged before
    topic: str
    partition: int
    offset: int  # of the first record that it judges
    warm_until: int  # each stream's last readings before this offset warmed it up, then all up to `offset`


class _Envelope(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    datacontenttype: str


class Notice(_Envelope, frozen=True):
    """A CloudEvents 1.0 envelope, on the topic of anomalies, about the service's own memory."""

    data: StateLost


class PromotionNotice(_Envelope, frozen=True):
    """A CloudEvents 1.0 envelope, on the topic of anomalies, about which checkpoint judges."""

    data: ModelPromoted


def state_lost(lost: StateLost, kind: str = STATE_LOST) -> Record:
    """Report that a stream's memory is lost. Its id is the same whenever the same loss is reported again.

    kind: STATE_PRIMED where nothing is lost, but another checkpoint judges from here on.
    """
    where = f"{lost.topic}/{lost.partition}"
    subject = where if lost.stream is None else lost.stream
    event = kind.removeprefix("telltale.")
    what = f"{where}/{lost.offset}/{subject}/{event}/{lost.reason}/{lost.detail}"  # of two pages, the last differs
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, what))
    return _record(Notice("1.0", identity, f"/telltale/{lost.topic}", kind, subject, "application/json", lost))


def model_promoted(promoted: ModelPromoted) -> Record:
    """Report that another checkpoint judges a partition."""
    subject = f"{promoted.topic}/{promoted.partition}"
    what = f"{subject}/{promoted.offset}/model.promoted/{promoted.checkpoint}"
    identity = str(uuid.uuid5(ANOMALY_NAMESPACE, what))
    source = f"/telltale/{promoted.topic}"
    notice = PromotionNotice("1.0", identity, source, MODEL_PROMOTED, subject, "application/json", promoted)
    return _record(notice)


def _record(notice: Notice | PromotionNotice) -> Record:
    return Record(notice.subject.encode(), msgspec.json.encode(notice), EVENT_HEADERS)
