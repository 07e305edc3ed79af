"""What is known of the sensors, as the settings say."""

import math
from collections.abc import Sequence

import structlog

from models.data.time_units import DAY_MS
from models.detection.sensor_rules import Direction, SensorRule, SensorRules, Span
from service.settings.detection_section import DetectionRule
from service.settings.fields import FALSE_ALARMS
from service.settings.settings import Settings

UNIT_MS = {"hour": 3_600_000, "day": DAY_MS, "week": 7 * DAY_MS}

logger = structlog.get_logger("telltale")


def sensor_rules(settings: Settings, features: Sequence[str]) -> SensorRules | None:
    """For a checkpoint with these features; None: nothing is said. A rule that is of none of them is logged."""
    given, said = settings.detection.rules, rules_in(settings)
    if not said:
        return None
    rules = SensorRules(said, features)
    for place in rules.without_channels():
        logger.warning(
            "rule_without_channel",
            rule=f"detection.rules.{place}",
            found=list(given[place].channels),
            expected=f"one of the model's: {', '.join(features)}",
        )
    return rules


def rules_in(settings: Settings) -> tuple[SensorRule, ...]:
    """Those of `detection`, and last what holds of all streams."""
    rules = tuple(map(_rule, settings.detection.rules))
    false_alarm_ms = _false_alarm_ms(settings.detection.false_alarms)
    return (*rules, SensorRule(false_alarm_ms=false_alarm_ms)) if false_alarm_ms else rules


def _rule(given: DetectionRule) -> SensorRule:
    span = None
    if given.valid_range is not None:
        low, high = given.valid_range
        span = Span(-math.inf if low is None else low, math.inf if high is None else high)
    return SensorRule(
        given.streams,
        given.channels,
        given.bad_values,
        span,
        given.unit,
        None if given.direction is None else Direction(given.direction),
        given.minimum_deviation,
        given.minimum_relative_deviation,
        None if given.false_alarms is None else _false_alarm_ms(given.false_alarms),
        given.time_zone,
    )


def _false_alarm_ms(text: str) -> float:
    """Event time in which there may be one; 0: the default."""
    found = FALSE_ALARMS.fullmatch(text)
    if found is None or found[1] is None:
        return 0.0
    return int(found[2] or 1) * UNIT_MS[found[3]] / int(found[1])
