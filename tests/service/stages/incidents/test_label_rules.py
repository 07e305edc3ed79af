"""Rules that labels make: what is like an anomaly, and which hour is around its hour."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.stages.incidents.controls import Example, rule_of
from service.stages.incidents.label_rules import LabelRules

BERLIN = ZoneInfo("Europe/Berlin")
OPENED = datetime(2026, 3, 27, 6, 30, tzinfo=BERLIN)  # a Friday, two days before the clock is put forward
LIKE = Example("a", "level", "flow", "major", OPENED.isoformat())


def said(when: datetime, period: str, like: Example = LIKE, severity: int = 1, kind: str = "level") -> bool:
    rules = LabelRules()
    rules.add([rule_of("l", LIKE, period, "Europe/Berlin")])
    return rules(like.stream, kind, like.channel, severity, round(when.timestamp() * 1000)) == "l"


@pytest.mark.parametrize("days", [1, 2, 3, 4, 7, 150, 364])
@pytest.mark.parametrize(
    ("minutes", "around"), [(-61, False), (-60, True), (0, True), (60, True), (61, False), (720, False)]
)
def test_around_an_hour_is_an_hour_on_each_side_by_the_clock_on_the_wall(days: int, minutes: int, around: bool) -> None:
    when = (OPENED.replace(tzinfo=None) + timedelta(days=days, minutes=minutes)).replace(tzinfo=BERLIN)
    assert said(when, "day") is around
    assert said(when, "week") is (around and days % 7 == 0)
    assert said(when, "always")


def test_around_midnight_and_around_the_end_of_the_week_is_on_both_sides_of_it() -> None:
    monday = Example("a", "level", "flow", "major", datetime(2026, 3, 30, 0, 20, tzinfo=BERLIN).isoformat())
    sunday = round(datetime(2026, 4, 5, 23, 50, tzinfo=BERLIN).timestamp() * 1000)
    for period in ("day", "week"):
        rule = rule_of("l", monday, period, "Europe/Berlin")
        assert rule.fits("level", "flow", 0, sunday)
        assert not rule.fits("level", "flow", 0, sunday - 40 * 60_000)


def test_alike_is_an_anomaly_of_the_same_kind_and_channel_that_is_not_more_severe() -> None:
    later = OPENED + timedelta(days=21)
    assert said(later, "week")
    assert said(later, "week", severity=0)
    assert not said(later, "week", severity=2)
    assert not said(later, "week", kind="stuck")
    assert not said(later, "week", like=Example("a", "level", "pressure", "major", ""))
    assert not said(later, "week", like=Example("b", "level", "flow", "major", ""))


def test_the_first_of_several_rules_that_fit_speaks() -> None:
    rules = LabelRules()
    rules.add([rule_of("first", LIKE, "always", "UTC")])
    rules.add([rule_of("second", LIKE, "always", "UTC"), rule_of("third", LIKE, "day", "UTC")])
    assert (rules("a", "level", "flow", 0, 0), len(rules)) == ("first", 3)
