"""What the topic of anomalies says of each anomaly, as far as incidents need it."""

from typing import NamedTuple

import msgspec

from models.data.rfc3339 import milliseconds_of
from service.errors import RejectedReading
from service.input.labels import NO_LABELS, Labels
from service.input.notices import STATE_LOST, STATE_PRIMED
from service.input.reasons import Reason

FIRST_MS, LAST_MS = -62_000_000_000_000, 253_000_000_000_000  # within these no zone has a date that calendars do not
ANOMALY_TYPES = "telltale.anomaly."
SEVERITIES = ("minor", "major", "critical")
RECOVERED = "recovered"
ENDS = {STATE_LOST: "lost", STATE_PRIMED: "primed"}  # closed_as of what ends with an event of this type


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
    source: str = ""  # topic and partition of its readings
    closed_as: str | None = None  # as its event says; None: it is open
    channel: str = ""  # with the largest share; empty where no reading changed it
    return_period_s: float = 0.0  # how rarely its stream is as strange; 0: not known
    labels: Labels = NO_LABELS  # of its stream


class AnomaliesEnded(NamedTuple):
    """All that are open of a stream, or of a partition of the input, end without an event each."""

    source: str  # topic and partition of their readings
    stream: str | None  # None: all of the partition
    closed_as: str


class _Channel(msgspec.Struct):
    name: str
    share: float = 0.0


class _Data(msgspec.Struct):
    anomaly: str
    stream: str
    status: str
    severity: str
    opened_at: str
    peak: float = 0.0
    kind: str = ""
    topic: str = ""
    partition: int = 0
    closed_as: str | None = None
    channels: list[_Channel] = []
    return_period_s: float = 0.0
    labels: dict[str, str] = {}


class _State(msgspec.Struct):
    topic: str
    partition: int
    stream: str | None = None
    ends_anomalies: bool = False


class _Event(msgspec.Struct):
    type: str
    time: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_state = msgspec.json.Decoder(_State).decode


def read_change(value: bytes | None) -> AnomalyChange | AnomaliesEnded | None:
    """The change that a record of the topic is about, or the end of many; None: it is about something else.

    Raises RejectedReading where the record is no event, or not as one of an anomaly should be.
    """
    if value is None:
        raise RejectedReading(Reason.MISSING_VALUE, "the record has no value")
    try:
        event = _decode_event(value)
        if event.type in ENDS:
            state = _decode_state(event.data)
            ended = AnomaliesEnded(f"{state.topic}/{state.partition}", state.stream, ENDS[event.type])
            return ended if state.ends_anomalies else None
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
            calendar_ms(data.opened_at),
            calendar_ms(event.time),
            f"{data.topic}/{data.partition}",
            None if data.status == "open" else data.closed_as or RECOVERED,
            _foremost(data.channels),
            data.return_period_s,
            data.labels,
        )
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_JSON, f"not an event of an anomaly or of its state: {error}") from error


def calendar_ms(text: str) -> int:
    """The time since 1970. Raises ValueError, also where some time zone has no date for it."""
    time_ms = milliseconds_of(text)
    if not FIRST_MS <= time_ms <= LAST_MS:
        raise ValueError(f"time {text}, expected one that every time zone has a date for: the years 6 to 9986")
    return time_ms


def _foremost(channels: list[_Channel]) -> str:
    """The first of those with the largest share."""
    return max(channels, key=lambda one: one.share).name if channels else ""
