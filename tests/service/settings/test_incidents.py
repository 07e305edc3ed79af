"""The section of incidents: groups and quiet times, which are more than a single value."""

from pathlib import Path

import pytest

from service.errors import RefusedInput
from service.process.incidents import new_book
from service.process.quiet import quiet_times
from service.settings.loading import load
from service.settings.settings import shown
from tests.service.settings.refusals import refusal

QUIET = """
incidents:
  groups: {cooling: ["*/pump-*", "chiller"]}
  quiet:
    - {streams: ["site/line-3/*"], reason: overhaul, from: 2026-11-28T08:00:00+01:00, until: 2026-11-30T08:00:00Z}
    - {streams: ["*"], reason: cleaning, cron: "0 6 * * mon", lasts_s: 7200, time_zone: Europe/Berlin}
    - {streams: ["site/line-4/m-1/*"], reason: known, until: "2026-12-24T00:00:00Z"}
"""
SATURDAY_MS = 1_795_852_800_000  # 2026-11-28T08:00:00Z


def test_groups_and_quiet_times_are_read_and_what_is_shown_can_be_read_again(file: Path, tmp_path: Path) -> None:
    file.write_text(QUIET)
    settings = load(file, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(settings))
    assert load(again, {}).incidents == settings.incidents
    rules = new_book(settings.incidents, quiet_times(settings.incidents)).rules
    assert rules.groups.of("site/line-1/pump-3") == "cooling"
    assert rules.quiet("site/line-3/m/s", SATURDAY_MS) == "overhaul"
    assert rules.quiet("site/line-3/m/s", SATURDAY_MS - 3_600_001) is None
    assert rules.quiet("site/line-4/m-1/s", 0) == "known"
    monday_ms = SATURDAY_MS + 2 * 86_400_000 - 2 * 3_600_000  # 06:00 UTC, 07:00 in Berlin
    assert rules.quiet("any", monday_ms) == "cleaning"
    assert rules.quiet("any", monday_ms + 3_600_000) is None


def test_labels_of_a_mapping_group_streams(file: Path, tmp_path: Path) -> None:
    file.write_text(
        "incidents: {labels: [site, line]}\n"
        "input: {topics: {plc: {labels: {site: $header.site, line: tags.line, asset: '\"@id\"'}}}}"
    )
    settings = load(file, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(settings))
    assert load(again, {}).incidents == settings.incidents
    assert load(again, {}).input == settings.input
    groups = new_book(settings.incidents, quiet_times(settings.incidents)).rules.groups
    assert groups.of("p-4711", {"site": "a", "line": "3", "asset": "x"}) == "a/3"


@pytest.mark.slow
def test_a_calendar_is_read_from_its_file_and_a_wrong_one_is_named(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "plant.ics"
    event = "UID:1\nDTSTAMP:20261001T000000Z\nDTSTART:20261128T080000Z\nDTEND:20261128T090000Z\nSUMMARY:overhaul"
    path.write_text(f"BEGIN:VCALENDAR\nBEGIN:VEVENT\n{event}\nEND:VEVENT\nEND:VCALENDAR\n")
    file.write_text(f"incidents: {{calendars: [{{file: {path}, streams: ['site/*']}}]}}")
    settings = load(file, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(settings))
    assert load(again, {}).incidents == settings.incidents
    quiet = quiet_times(settings.incidents)
    assert quiet("site/a", SATURDAY_MS) == "overhaul"
    assert quiet("elsewhere", SATURDAY_MS) is None
    path.write_text("BEGIN:VEVENT")
    with pytest.raises(RefusedInput, match=r"incidents\.calendars\.0\.file: .*plant\.ics"):
        quiet_times(settings.incidents)


@pytest.mark.parametrize(
    ("quiet", "message"),
    [
        ({"streams": ["*"], "reason": "x"}, "an end (until), or cron and lasts_s"),
        ({"streams": ["*"], "reason": "x", "cron": "0 6 * * *"}, "cron and lasts_s, or neither"),
        ({"streams": ["*"], "reason": "x", "until": "2026-11-28T08:00:00"}, "timezone"),
        (
            {"streams": ["*"], "reason": "x", "until": "2026-11-28T08:00:00Z", "time_zone": "Mars"},
            "a time zone such as",
        ),
        (
            {"streams": ["*"], "reason": "x", "cron": "0 25 * * *", "lasts_s": 60},
            "'25', expected a number from 0 to 23",
        ),
        ({"streams": [], "reason": "x", "until": "2026-11-28T08:00:00Z"}, "at least 1 item"),
        (
            {"streams": ["*"], "reason": "x", "from": "2026-11-28T08:00:00Z", "until": "2026-11-28T08:00:00Z"},
            "an end (until) after its beginning",
        ),
    ],
)
def test_a_quiet_time_that_is_none_is_refused_with_what_was_expected(quiet: dict[str, object], message: str) -> None:
    assert message in refusal(incidents__quiet=[quiet])
