"""Controls: what people say of streams, anomalies and incidents, one record each on the topic of controls.

The record's key is the control's id. A later record with the same id replaces it, one without a value takes it back.
The topic is compacted, so it holds what was said and not taken back. Times without further words are event time.
"""

import math
import re
import uuid
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from models.data.cron import parse_cron
from models.data.patterns import Streams
from models.data.quiet_time import QuietTime
from models.data.rfc3339 import milliseconds_of, rfc3339
from service.errors import RejectedReading
from service.input.reasons import Reason
from service.log.port import Record
from service.stages.incidents.changes import SEVERITIES, calendar_ms
from service.stages.incidents.label_rules import PERIODS, Example, LabelRule

LABELS = ("fault", "normal", "known")
UNIMPORTANT = ("normal", "known")  # for which no one is notified
LONGEST_MS = 31 * 86_400_000  # of what comes again
SHA256 = re.compile(r"[0-9a-f]{64}")
ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
MOST_BYTES = 16_384
MOST_PATTERNS = 100
MOST_EXAMPLES = 60  # of a label: as many as its record has room for, with names of some 100 characters
LONGEST_TEXT = 1_000


class _Said(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    by: str  # who says it
    at: str  # when, RFC 3339
    note: str = ""  # why, in their words


class Quiet(_Said, frozen=True, kw_only=True, tag="quiet", rename={"begins": "from"}):
    """No one is notified of some streams: until a time, or each time that cron says for so long."""

    streams: list[str]  # patterns of whole names
    reason: str  # as held_back gives it
    begins: str | None = None  # RFC 3339
    until: str | None = None  # RFC 3339; needed without cron
    cron: str | None = None  # minute hour day month weekday
    lasts_s: float | None = None  # beside cron: how long each time
    time_zone: str = "UTC"  # of cron
    learn: bool = False  # whether the memory learns from these streams meanwhile


class Dependency(_Said, frozen=True, kw_only=True, tag="dependency"):
    """No one is notified of some streams while one of the others is anomalous."""

    streams: list[str]  # patterns of whole names
    on: list[str]  # patterns of those that they depend on
    reason: str  # as held_back gives it
    learn: bool = False  # whether the memory learns from these streams meanwhile


class Holds(_Said, frozen=True, kw_only=True, tag="holds"):
    """A dependency makes its streams quiet now: `telltale incidents` says so to workers, and takes it back."""

    dependency: str  # its id


class Acknowledgement(_Said, frozen=True, kw_only=True, tag="acknowledgement"):
    """Someone looks after an incident."""

    incident: str  # its id


class Label(_Said, frozen=True, kw_only=True, tag="label", rename={"begins": "from"}):
    """What an anomaly was, or the anomalies of some streams that opened in a span."""

    label: str  # fault, normal, known
    anomaly: str | None = None  # its id; or streams, from and until
    streams: list[str] | None = None  # patterns of whole names
    begins: str | None = None  # RFC 3339
    until: str | None = None  # RFC 3339
    rule: str | None = None  # day, week, always: when others like its examples are normal or known too
    examples: list[Example] = []  # of what was labelled; needed with rule
    time_zone: str = "UTC"  # of rule


class PromotedModel(_Said, frozen=True, kw_only=True, tag="model"):
    """A checkpoint judges from now on: workers load it and let it take over, partition by partition."""

    checkpoint: str  # path of its file, as workers see it
    sha256: str  # of the whole file, 64 hexadecimal digits
    topic: str | None = None  # that it judges; None: all that have no model of their own


Control = Quiet | Dependency | Holds | Acknowledgement | Label | PromotedModel
TYPES = ("quiet", "dependency", "holds", "acknowledgement", "label", "model")
_decode = msgspec.json.Decoder(Control).decode


class GivenControl(NamedTuple):
    """A record of the topic. control: None: what has this id is taken back."""

    id: str
    control: Control | None
    offset: int
    time_ms: int  # the record's own timestamp


def read_control(key: bytes | None, value: bytes | None) -> tuple[str, Control | None]:
    """Id and control of a record. Raises RejectedReading where it is none that can take effect."""
    try:
        name = (key or b"").decode()
    except UnicodeDecodeError as error:
        raise RejectedReading(Reason.BAD_KEY, f"the key is no text: {error}") from error
    if not ID.fullmatch(name):
        raise RejectedReading(Reason.BAD_KEY, f"the key is {name[:50]!r}, expected an id that matches {ID.pattern}")
    if value is None:
        return name, None
    if len(value) > MOST_BYTES:
        raise RejectedReading(Reason.TOO_LARGE, f"{len(value)} bytes, expected at most {MOST_BYTES}")
    try:
        control = _decode(value)
        check(control)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_JSON, f"not a control: {error}") from error
    return name, control


def control_record(name: str, control: Control | None) -> Record:
    """Raises ValueError where the topic's reader would reject it."""
    value = None if control is None else msgspec.json.encode(control)
    try:
        read_control(name.encode(), value)
    except RejectedReading as refused:
        raise ValueError(str(refused)) from refused
    return Record(name.encode(), value)


def check(control: Control) -> None:
    """Raises ValueError that says what is wrong."""
    milliseconds_of(control.at)
    if not control.by:
        raise ValueError("by is empty, expected who says it")
    texts = [control.by, control.note]
    if isinstance(control, Quiet):
        _check_patterns("streams", control.streams)
        quiet_time(control)
    elif isinstance(control, Dependency):
        _check_patterns("streams", control.streams)
        _check_patterns("on", control.on)
    elif isinstance(control, Label):
        _check_label(control)
    elif isinstance(control, PromotedModel):
        _check_model(control)
        texts.append(control.checkpoint)
    if isinstance(control, Quiet | Dependency):
        if not control.reason:
            raise ValueError("reason is empty, expected why no one is notified")
        texts.append(control.reason)
    if any(len(text) > LONGEST_TEXT for text in texts):
        raise ValueError(f"a text is longer than {LONGEST_TEXT} characters")


def quiet_time(control: Quiet) -> QuietTime:
    """Raises ValueError that says what is wrong."""
    if (control.cron is None) != (control.lasts_s is None):
        raise ValueError("found one of cron and lasts_s, expected both or neither")
    if control.cron is None and control.until is None:
        raise ValueError("found no end, expected until, or cron and lasts_s")
    begins_ms, until_ms = _milliseconds(control.begins), _milliseconds(control.until)
    _check_order(begins_ms, until_ms)
    lasts_ms = round((control.lasts_s or 0.0) * 1000)
    if control.cron is not None and not 0 < lasts_ms <= LONGEST_MS:
        raise ValueError(f"lasts_s is {control.lasts_s}, expected more than 0 and at most {LONGEST_MS // 1000}")
    cron = None if control.cron is None else parse_cron(control.cron, _zone(control.time_zone))
    return QuietTime(Streams(control.streams), control.reason, begins_ms, until_ms, cron, lasts_ms, control.learn)


def holds_record(dependency: str, holds: bool, clock_ms: int) -> Record:
    """What `telltale incidents` says of a dependency of this id. clock_ms: event time."""
    said = Holds(by="telltale incidents", at=rfc3339(max(0, clock_ms)), dependency=dependency)
    return control_record(holds_id(dependency), said if holds else None)


def holds_id(dependency: str) -> str:
    """Of the control that says whether a dependency of this id holds."""
    return f"holds:{uuid.uuid5(uuid.NAMESPACE_OID, dependency)}"


def type_of(control: Control) -> str:
    """One of TYPES."""
    return str(control.__struct_config__.tag)


def span_of(label: Label) -> tuple[int, int]:
    """Of a label for streams: event time from which and until which their anomalies opened."""
    return milliseconds_of(label.begins or ""), milliseconds_of(label.until or "")


def rules_of(name: str, label: Label) -> list[LabelRule]:
    """What a label of this id says of other anomalies. Raises ValueError that says what is wrong."""
    if label.rule is None:
        return []
    return [rule_of(name, one, label.rule, label.time_zone) for one in label.examples]


def rule_of(name: str, one: Example, period: str, time_zone: str) -> LabelRule:
    """period: one of PERIODS. Raises ValueError that says what is wrong."""
    if period not in PERIODS:
        raise ValueError(f"rule is {period!r}, expected one of {', '.join(PERIODS)}")
    if one.severity not in SEVERITIES:
        raise ValueError(f"severity is {one.severity!r}, expected one of {', '.join(SEVERITIES)}")
    severity, opened_ms = SEVERITIES.index(one.severity), calendar_ms(one.opened_at)
    return LabelRule(name, one.stream, one.kind, one.channel, severity, opened_ms, PERIODS[period], _zone(time_zone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"time_zone is {name!r}, expected one such as Europe/Berlin") from None


def _check_label(label: Label) -> None:
    if label.label not in LABELS:
        raise ValueError(f"label is {label.label!r}, expected one of {', '.join(LABELS)}")
    span = (label.streams, label.begins, label.until)
    if (label.anomaly is None) == (None in span) or (label.anomaly is not None and any(span)):
        raise ValueError("expected anomaly, or else streams, from and until")
    if label.streams is not None:
        _check_patterns("streams", label.streams)
        _check_order(*span_of(label))
    _check_examples(label)


def _check_examples(label: Label) -> None:
    if label.rule is not None and label.label not in UNIMPORTANT:
        raise ValueError(f"found a rule of the label {label.label}, expected one of {' and '.join(UNIMPORTANT)} alone")
    least = 0 if label.rule is None else 1
    if not least <= len(label.examples) <= MOST_EXAMPLES:
        raise ValueError(f"found {len(label.examples)} examples, expected {least} to {MOST_EXAMPLES}")
    for one in label.examples:
        rule_of("", one, label.rule or "always", label.time_zone)
        if not 0 <= one.return_period_s < math.inf:
            raise ValueError(f"return_period_s is {one.return_period_s}, expected a number of seconds from 0 on")


def _check_model(model: PromotedModel) -> None:
    if not model.checkpoint:
        raise ValueError("checkpoint is empty, expected the path of its file as workers see it")
    if not SHA256.fullmatch(model.sha256):
        raise ValueError(f"sha256 is {model.sha256[:70]!r}, expected the 64 hexadecimal digits of the file")


def _check_order(begins_ms: int | None, until_ms: int | None) -> None:
    if begins_ms is not None and until_ms is not None and begins_ms >= until_ms:
        raise ValueError(f"until is {rfc3339(until_ms)}, expected a time after from")


def _check_patterns(name: str, patterns: list[str]) -> None:
    if not 0 < len(patterns) <= MOST_PATTERNS or not all(0 < len(one) <= LONGEST_TEXT for one in patterns):
        raise ValueError(f"{name}: expected 1 to {MOST_PATTERNS} patterns, none of them empty or very long")


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else milliseconds_of(text)
