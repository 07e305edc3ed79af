"""The section detection: rules of sensors, in a file, in the environment, and in errors."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import RefusedInput
from service.process.sensors import log_rules_without_channel, sensor_rules, sensor_rules_of_one
from service.settings.loading import load
from service.settings.settings import shown
from tests.service.input.test_calendar_file import written
from tests.service.settings.refusals import refusal, refusal_of

RULES = """
detection:
  rules:
    - streams: line-03/*
      channels: [temperature, press*]
      bad_values: [65535, -9999.9]
      valid_range: [-40, null]
      unit: °C
      direction: down
      minimum_deviation: 2
      minimum_relative_deviation: 0.05
    - streams: line-03/*
      time_zone: Europe/Berlin
    - bad_values: []
"""


def test_what_is_shown_is_a_file_with_the_same_rules(file: Path) -> None:
    file.write_text(RULES)
    settings = load(file, {})
    first, _, second = settings.detection.rules
    assert first.valid_range == (-40.0, None)
    assert second.bad_values == ()
    text = shown(settings)
    file.write_text(text)
    again = load(file, {})
    assert again.detection == settings.detection
    rules = json.loads(text.partition("  rules: ")[2].partition("\n")[0])
    assert rules[2] == {"streams": "*", "channels": ["*"], "bad_values": []}


def test_rules_may_be_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_DETECTION__RULES", '[{"streams": "a*", "unit": "bar"}]')
    assert load(None, {}).detection.rules[0].streams == "a*"
    monkeypatch.setenv("TELLTALE_DETECTION__RULES", "[{")
    assert refusal() == (
        "detection.rules: found '[{', expected a list of mappings, as JSON"
        " (environment variable TELLTALE_DETECTION__RULES)"
    )


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("valid_rang: [1, 2]", "0.valid_rang: unknown, did you mean detection.rules.0.valid_range?"),
        ("valid_range: [4, 3]", "0.valid_range: found [4, 3], expected [lowest, highest], the first below the second"),
        ("valid_range: [4]", "0.valid_range: found [4], expected [lowest, highest], null where there is no end"),
        ("valid_range: [1, .inf]", "0.valid_range.1: found [1, inf], expected a finite number"),
        ("bad_values: [soon]", "0.bad_values.0: found ['soon'], expected a valid number"),
        ("bad_values: [.nan]", "0.bad_values.0: found [nan], expected a finite number"),
        ("false_alarms: few", "0.false_alarms: found 'few', expected such as \"1 per stream per 90 days\""),
        ("{channels: [a], false_alarms: 1 per stream per day}", "0.channels: found"),
        ("direction: sideways", "0.direction: found 'sideways', expected one of up, down, both"),
        ("minimum_deviation: -1", "0.minimum_deviation: found -1, expected"),
        ("minimum_relative_deviation: .inf", "0.minimum_relative_deviation: found inf, expected a finite number"),
        ("{streams: 12, unit: x}", "0.streams: found 12, expected a valid string"),
        ("{channels: [], unit: x}", "0.channels: found [], expected"),
        (
            "time_zone: Europe/Berln",
            "0.time_zone: found 'Europe/Berln', expected a time zone such as Europe/Berlin or UTC",
        ),
        (
            "{channels: [a], time_zone: UTC}",
            "0.channels: found ['a'], expected no channels beside time_zone, which is of whole streams",
        ),
        (
            "{channels: [a], holidays: [{file: /dev/null}]}",
            "0.channels: found ['a'], expected no channels beside holidays, which is of whole streams",
        ),
        (
            "holidays: [{file: /dev/null, like: sun}]",
            "0.holidays.0.like: found 'sun', expected one of monday, tuesday, wednesday, thursday, friday, saturday,",
        ),
        ("holidays: [{file: nowhere.ics}]", "0.holidays.0.file: found 'nowhere.ics', expected a file that can be read"),
        ("holidays: nowhere.ics", "0.holidays: found 'nowhere.ics', expected"),
        (
            "streams: a",
            "0: found a mapping, expected bad_values, valid_range, direction, minimum_deviation,",
        ),
    ],
)
def test_an_error_names_the_rule_and_the_value_in_it(file: Path, rule: str, said: str) -> None:
    error = refusal_of(file, f"detection:\n  rules:\n    - {rule}\n")
    assert error.startswith(f"detection.rules.{said}")
    assert error.endswith(f"({file}, line 3)")


def test_a_key_of_a_rule_that_is_set_twice_is_refused(file: Path) -> None:
    error = refusal_of(file, "detection:\n  rules:\n    - unit: a\n      unit: b\n")
    assert error == f"{file}, line 4: found detection.rules.0.unit again, it is set in line 3 already"


def test_a_number_in_a_rule_is_decimal_too(file: Path) -> None:
    assert "in another base than ten" in refusal_of(file, "detection:\n  rules: [{bad_values: [0177777]}]\n")


def test_rules_are_made_of_settings_and_none_of_none(file: Path) -> None:
    assert sensor_rules(load(None, {}), ["temperature"]) is None
    file.write_text(RULES)
    rules = sensor_rules(load(file, {}), ["temperature", "flow"])
    assert rules is not None
    oven = rules.of(b"line-03/oven")
    assert oven.units == ("°C", None)
    assert oven.low.tolist() == [-40, float("-inf")]
    assert oven.limits.tolist() == [[0, 1, 2, 0.05], [1, 1, 0, 0]]
    assert (oven.time_zone, rules.of(b"line-04/oven").time_zone) == ("Europe/Berlin", "UTC")


HOLIDAYS = (
    "UID:1\nDTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227\nSUMMARY:Christmas",
    "UID:2\nDTSTART;VALUE=DATE:20261003\nRRULE:FREQ=YEARLY;COUNT=2\nTRANSP:TRANSPARENT",
    "UID:3\nDTSTART;VALUE=DATE:20260101\nSTATUS:CANCELLED",
    "UID:4\nDTSTART:20261111T100000Z\nDTEND:20261112T110000Z",
)
HALF_DAYS = ("UID:5\nDTSTART;VALUE=DATE:20261224", "UID:6\nDTSTART;VALUE=DATE:20261231")


def test_holidays_are_the_whole_days_of_files_in_their_order_and_what_is_shown_can_be_set(
    file: Path, tmp_path: Path
) -> None:
    written(tmp_path, *HALF_DAYS).rename(tmp_path / "half-days.ics")
    written(tmp_path, *HOLIDAYS).rename(tmp_path / "holidays.ics")
    file.write_text(
        "detection:\n  rules:\n    - streams: line-03/*\n      holidays:\n"
        f"        - {{file: {tmp_path}/half-days.ics, like: saturday}}\n        - {{file: {tmp_path}/holidays.ics}}\n"
    )
    settings = load(file, {})
    rules = sensor_rules(settings, ["flow"])
    assert rules is not None
    found = [(date(1970, 1, 1) + timedelta(one.day), one.like) for one in rules.of(b"line-03/oven").holidays]
    assert found == [
        (date(2026, 10, 3), 6),
        (date(2026, 12, 24), 5),
        (date(2026, 12, 25), 6),
        (date(2026, 12, 26), 6),
        (date(2026, 12, 31), 5),
        (date(2027, 10, 3), 6),
    ]
    assert rules.of(b"line-04/oven").holidays == ()
    file.write_text(shown(settings))
    assert load(file, {}).detection == settings.detection


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("UID:1\nDTSTART:20261111T100000Z", "has no event of whole days from 1970 to 2100, expected holidays"),
        ("UID:1\nDTSTART;VALUE=DATE:2026", "cannot be read as iCalendar"),
        ("UID:1\nDTSTART;VALUE=DATE:20200101\nRRULE:FREQ=DAILY", "has 29,585 days, expected at most 10,000"),
    ],
)
def test_a_calendar_without_holidays_is_refused_with_its_setting_and_file(
    file: Path, tmp_path: Path, event: str, said: str
) -> None:
    calendar = written(tmp_path, event)
    file.write_text(f"detection:\n  rules:\n    - holidays: [{{file: {calendar}}}]\n")
    with pytest.raises(RefusedInput, match=rf"detection\.rules\.0\.holidays\.0\.file: {calendar} {said}"):
        sensor_rules(load(file, {}), ["flow"])


def test_false_alarms_are_of_all_streams_but_those_of_rules(file: Path) -> None:
    file.write_text(
        "detection:\n  false_alarms: 2 per stream per week\n  rules:\n"
        "    - {streams: a*, false_alarms: 1 per stream per 90 days}\n    - {streams: b*, false_alarms: default}\n"
    )
    rules = sensor_rules(load(file, {}), ["flow"])
    assert rules is not None
    limits = rules.limits([b"a", b"b", b"c"])
    assert limits is not None
    assert limits.false_alarm_ms[limits.sets].tolist() == [90 * 86_400_000, 0, 3.5 * 86_400_000]


def test_a_rule_is_logged_if_its_channels_are_of_none_of_the_models(file: Path) -> None:
    file.write_text(
        """
detection:
  rules:
    - {channels: [temperature], unit: °C}
    - {channels: [flow], unit: l/s}
    - {channels: [flwo], unit: l/s}
"""
    )
    with capture_logs() as logged:
        log_rules_without_channel(load(file, {}), [["temperature", "pressure"], ["flow", "pressure"]])
    assert [(one["event"], one["rule"], one["found"], one["expected"]) for one in logged] == [
        ("rule_without_channel", "detection.rules.2", ["flwo"], "one of a model's: temperature, pressure, flow")
    ]


def test_a_command_for_one_model_does_not_log_rules_that_may_be_of_another(file: Path) -> None:
    rules = "detection: {rules: [{channels: [flow], unit: l/s}]}\n"
    for models, count in (("", 1), ("models: {mills: {features: [flow]}}\n", 0)):
        file.write_text(rules + models)
        with capture_logs() as logged:
            assert sensor_rules_of_one(load(file, {}), ["temperature"]) is not None
        assert len(logged) == count
