"""What the topic of anomalies says of each anomaly, as far as incidents need it."""

from typing import NamedTuple

import msgspec

from models.data.rfc3339 import milliseconds_of
from service.errors import RejectedReading
from service.input.reasons import Reason

ANOMALY_TYPES = "telltale.anomaly."
SEVERITIES = ("minor", "major", "critical")


class AnomalyChange(NamedTuple):
    """One transition of one anomaly."""

    anomaly: str  # id, the same in all of its events
    stream: str
    is_open: bool
    severity: int  # place in SEVERITIES
    kind: str
    peak: float
    opened_ms: int
    time_ms: int  # of the reading that changed it


class _Data(msgspec.Struct):
    anomaly: str
    stream: str
    status: str
    severity: str
    opened_at: str
    peak: float = 0.0
    kind: str = ""


class _Event(msgspec.Struct):
    type: str
    time: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(_Data).decode


def read_change(value: bytes | None) -> AnomalyChange | None:
    """The change that a record of the topic is about; None: it is about something else, such as lost state.

    Raises RejectedReading where the record is no event, or not as one of an anomaly should be.
    """
    if value is None:
        raise RejectedReading(Reason.MISSING_VALUE, "the record has no value")
    try:
        event = _decode_event(value)
        if not event.type.startswith(ANOMALY_TYPES):
            return None
        data = _decode_data(event.data)
        if data.severity not in SEVERITIES:
            raise ValueError(f"severity {data.severity!r}, expected one of {', '.join(SEVERITIES)}")
        return AnomalyChange(
            data.anomaly,
            data.stream,
            data.status == "open",
            SEVERITIES.index(data.severity),
            data.kind,
            data.peak,
            milliseconds_of(data.opened_at),
            milliseconds_of(event.time),
        )
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_JSON, f"not an event of an anomaly: {error}") from error
