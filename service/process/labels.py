"""What people say of anomalies, with what the topic of anomalies says of them: examples for rules, and the export."""

import csv
import io
from collections.abc import Mapping
from glob import escape
from typing import NamedTuple

from models.data.patterns import any_of
from models.data.rfc3339 import rfc3339
from service.errors import RefusedInput
from service.process.anomalies import ToldAnomaly, told_anomalies
from service.settings.settings import Settings
from service.stages.incidents.changes import SEVERITIES
from service.stages.incidents.controls import MOST_EXAMPLES, Control, Label, rule_of, span_of
from service.stages.incidents.label_rules import Example, LabelRules


def examples_of(label: Label, period: str, time_zone: str, settings: Settings) -> list[Example]:
    """The anomalies that it is about, without those that the rules of the others are about too.

    period: one of PERIODS. Raises RefusedInput where there are none, or more than a label takes.
    """
    topic = settings.kafka.anomalies_topic
    about = _about(label, told_anomalies(settings))
    if not about:
        what = f"anomaly {label.anomaly}" if label.anomaly is not None else "anomaly of these streams in this span"
        raise RefusedInput(f"{topic}: found no {what}, expected one whose events are still on the topic")
    found, rules = list[Example](), LabelRules()
    for one in sorted(about, key=lambda one: (-one.severity, one.opened_ms, one.anomaly)):
        if rules(one.stream, one.kind, one.channel, one.severity, one.opened_ms) is None:
            found.append(_example(one))
            rules.add([rule_of("", found[-1], period, time_zone)])
    if len(found) > MOST_EXAMPLES:
        raise RefusedInput(
            f"{topic}: found {len(found)} anomalies of different streams, kinds, channels or hours, expected at most "
            f"{MOST_EXAMPLES} for one label: name fewer streams or a shorter span, or make no rule (--rule none)"
        )
    return found


def _about(label: Label, told: Mapping[str, ToldAnomaly]) -> list[ToldAnomaly]:
    if label.anomaly is not None:
        return [told[label.anomaly]] if label.anomaly in told else []
    streams, (from_ms, until_ms) = any_of(label.streams or []), span_of(label)
    return [one for one in told.values() if from_ms <= one.opened_ms < until_ms and streams.fullmatch(one.stream)]


def _example(one: ToldAnomaly) -> Example:
    return Example(
        one.stream, one.kind, one.channel, SEVERITIES[one.severity], rfc3339(one.opened_ms), one.return_period_s
    )


class SaidWindow(NamedTuple):
    """A stretch of event time that someone gave a name: an anomaly's, or a whole span in which there was none."""

    streams: str  # pattern of whole names
    from_ms: int
    until_ms: int  # not in it
    label: str
    anomaly: str  # id; empty: of a span
    kind: str
    channel: str
    severity: str
    control: str  # id
    by: str
    at: str
    note: str


class SaidWindows(NamedTuple):
    """unknown: labels of anomalies whose events are no longer on their topic."""

    windows: list[SaidWindow]
    unknown: int


def said_windows(controls: Mapping[str, Control], told: Mapping[str, ToldAnomaly]) -> SaidWindows:
    """By stream and time. As in incidents, a label of an anomaly counts before one of a span, then the first by id."""
    labels = sorted((name, one) for name, one in controls.items() if isinstance(one, Label))
    of_one = {one.anomaly: (name, one) for name, one in reversed(labels) if one.anomaly is not None}
    said = {anomaly: found for anomaly, found in of_one.items() if anomaly in told}
    windows = list[SaidWindow]()
    for name, one in labels:
        if one.streams is None:
            continue
        about = _about(one, told)
        for anomaly in about:
            said.setdefault(anomaly.anomaly, (name, one))
        if not about:
            windows += [_span_window(pattern, name, one) for pattern in one.streams]
    windows += [_anomaly_window(told[anomaly], *found) for anomaly, found in said.items()]
    return SaidWindows(sorted(windows), len(of_one.keys() - told.keys()))


def as_csv(windows: list[SaidWindow]) -> bytes:
    """As `models.data.label_windows` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["streams", "from", "until", *SaidWindow._fields[3:]])
    for one in windows:
        writer.writerow([one.streams, rfc3339(one.from_ms), rfc3339(one.until_ms), *one[3:]])
    return text.getvalue().encode()


def _anomaly_window(told: ToldAnomaly, name: str, label: Label) -> SaidWindow:
    """The reading at which an anomaly closed is no longer in it; that of the last event of an open one is."""
    until_ms = max(told.opened_ms, told.last_ms - (not told.is_open)) + 1
    more = told.kind, told.channel, SEVERITIES[told.severity]
    stream = escape(told.stream)
    return SaidWindow(
        stream, told.opened_ms, until_ms, label.label, told.anomaly, *more, name, label.by, label.at, label.note
    )


def _span_window(pattern: str, name: str, label: Label) -> SaidWindow:
    return SaidWindow(pattern, *span_of(label), label.label, "", "", "", "", name, label.by, label.at, label.note)
