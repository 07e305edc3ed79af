"""What is known of the sensors, as the settings say."""

import math
from collections.abc import Sequence

import structlog

from models.detection.sensor_rules import Direction, SensorRule, SensorRules, Span
from service.settings.detection_section import DetectionRule
from service.settings.settings import Settings

logger = structlog.get_logger("telltale")


def sensor_rules(settings: Settings, features: Sequence[str]) -> SensorRules | None:
    """For a checkpoint with these features; None: nothing is said. A rule that is of none of them is logged."""
    given = settings.detection.rules
    if not given:
        return None
    rules = SensorRules(rules_in(settings), features)
    for place in rules.without_channels():
        logger.warning(
            "rule_without_channel",
            rule=f"detection.rules.{place}",
            found=list(given[place].channels),
            expected=f"one of the model's: {', '.join(features)}",
        )
    return rules


def rules_in(settings: Settings) -> tuple[SensorRule, ...]:
    return tuple(map(_rule, settings.detection.rules))


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
    )
