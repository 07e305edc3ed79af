"""What people say of anomalies, with what is on the topic of anomalies: examples for the rules that labels make."""

from models.data.rfc3339 import rfc3339
from service.errors import RefusedInput
from service.process.anomalies import ToldAnomaly, told_anomalies
from service.settings.settings import Settings
from service.stages.incidents.changes import SEVERITIES
from service.stages.incidents.controls import MOST_EXAMPLES, Example, Label, rule_of, span_of
from service.stages.incidents.groups import any_of
from service.stages.incidents.label_rules import LabelRules


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


def _about(label: Label, told: dict[str, ToldAnomaly]) -> list[ToldAnomaly]:
    if label.anomaly is not None:
        return [told[label.anomaly]] if label.anomaly in told else []
    streams, (from_ms, until_ms) = any_of(label.streams or []), span_of(label)
    return [one for one in told.values() if from_ms <= one.opened_ms < until_ms and streams.fullmatch(one.stream)]


def _example(one: ToldAnomaly) -> Example:
    return Example(one.stream, one.kind, one.channel, SEVERITIES[one.severity], rfc3339(one.opened_ms))
