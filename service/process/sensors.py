"""What is known of the sensors, as the settings say."""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from models.data.time_units import DAY_MS
from models.detection.sensor_rules import Direction, Holiday, SensorRule, SensorRules, Span
from service.errors import RefusedInput
from service.input.calendar_file import Calendar
from service.settings.detection_section import WEEKDAYS, DetectionRule, HolidaySettings
from service.settings.fields import FALSE_ALARMS
from service.settings.settings import Settings

UNIT_MS = {"hour": 3_600_000, "day": DAY_MS, "week": 7 * DAY_MS}

logger = structlog.get_logger("telltale")


def sensor_rules(settings: Settings, features: Sequence[str]) -> SensorRules | None:
    """For a checkpoint with these features; None: nothing is said."""
    said = rules_in(settings)
    return SensorRules(said, features) if said else None


def log_rules_without_channel(settings: Settings, models: Iterable[Sequence[str]]) -> None:
    """Log each rule that is of no channel of any model that there is. models: the features of each."""
    features = tuple(dict.fromkeys(name for one in models for name in one))
    for place in SensorRules(rules_in(settings), features).without_channels():
        logger.warning(
            "rule_without_channel",
            rule=f"detection.rules.{place}",
            found=list(settings.detection.rules[place].channels),
            expected=f"one of a model's: {', '.join(features)}",
        )


def sensor_rules_of_one(settings: Settings, features: Sequence[str]) -> SensorRules | None:
    """Those of a command that judges or trains one model, logged as above where the settings name no other."""
    if not settings.models:
        log_rules_without_channel(settings, [features])
    return sensor_rules(settings, features)


def rules_in(settings: Settings) -> tuple[SensorRule, ...]:
    """Those of `detection`, and last what holds of all streams. Raises RefusedInput where a file cannot be read."""
    rules = tuple(_rule(given, f"detection.rules.{n}") for n, given in enumerate(settings.detection.rules))
    false_alarm_ms = _false_alarm_ms(settings.detection.false_alarms)
    return (*rules, SensorRule(false_alarm_ms=false_alarm_ms)) if false_alarm_ms else rules


def _rule(given: DetectionRule, setting: str) -> SensorRule:
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
        None if given.holidays is None else _holidays(given.holidays, f"{setting}.holidays"),
    )


def _holidays(given: Sequence[HolidaySettings], setting: str) -> tuple[Holiday, ...]:
    found: dict[int, Holiday] = {}
    for n, one in enumerate(given):
        for day in _days_in(one.file, f"{setting}.{n}.file"):
            found.setdefault(day, Holiday(day, WEEKDAYS.index(one.like)))
    return tuple(sorted(found.values()))


@cache
def _days_in(file: Path, setting: str) -> tuple[int, ...]:
    """Read once: all that this process judges, it judges by the same days."""
    try:
        days = Calendar(file, ZoneInfo("UTC"), setting).whole_days()
    except ValueError as error:
        raise RefusedInput(f"{setting}: {file} has {error}") from error
    if not days:
        raise RefusedInput(f"{setting}: {file} has no event of whole days from 1970 to 2100, expected holidays")
    return tuple(days)


def _false_alarm_ms(text: str) -> float:
    """Event time in which there may be one; 0: the default."""
    found = FALSE_ALARMS.fullmatch(text)
    if found is None or found[1] is None:
        return 0.0
    return int(found[2] or 1) * UNIT_MS[found[3]] / int(found[1])
