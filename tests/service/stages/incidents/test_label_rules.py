"""Rules that labels make: what is like an anomaly, and which hour is around its hour."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.stages.incidents.controls import rule_of
from service.stages.incidents.label_rules import AskedRarity, Example, LabelRules

BERLIN = ZoneInfo("Europe/Berlin")
OPENED = datetime(2026, 3, 27, 6, 30, tzinfo=BERLIN)  # a Friday, two days before the clock is put forward
LIKE = Example("a", "level", "flow", "major", OPENED.isoformat())


def said(when: datetime, period: str, like: Example = LIKE, severity: int = 1, kind: str = "level") -> bool:
    rules = LabelRules()
    rules.add([rule_of("l", LIKE, period, "Europe/Berlin")])
    found = rules(like.stream, kind, like.channel, severity, round(when.timestamp() * 1000))
    assert found in (None, ("l", "rule of l"))
    return found is not None


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
    found = rules("a", "level", "flow", 0, 0)
    assert (found and found.control, len(rules)) == ("first", 3)


@pytest.mark.parametrize(
    ("normal", "faults", "asked"),
    [
        ([], [], 0),
        ([5.0], [], 0),
        ([5.0, 3.0], [], 10),
        ([5.0, 3.0, 1.0], [], 20),
        ([5.0] * 4, [], 40),
        ([5.0] * 5, [], 50),
        ([5.0] * 5_000, [], 50),
        ([5.0] * 3, [100.0], 10),
        ([5.0] * 3, [100.0, 200.0], 0),
        ([5.0] * 5, [7.0], 7),
        ([0.0, 0.0], [], 0),
    ],
)
def test_each_label_doubles_the_return_period_asked_for_within_bounds_and_below_that_of_any_fault(
    normal: list[float], faults: list[float], asked: float
) -> None:
    rarity = AskedRarity()
    for n, days in enumerate([*normal, *faults]):
        example = Example("a", "level", "flow", "major", OPENED.isoformat(), days * 86_400)
        rarity.add(f"l-{n}", fault=n >= len(normal), examples=[example, example])
    assert rarity.streams == (asked > 0)
    for severity in (0, 1):
        below = rarity("a", severity, asked * 86_400 - 1)
        assert (below and below.control) == ("l-0" if asked else None)
        assert rarity("a", severity, asked * 86_400) is None
    assert rarity("a", 2, 1.0) is None
    assert rarity("b", 0, 1.0) is None
