"""An iCalendar file: when its events take place."""

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from models.data.rfc3339 import milliseconds_of as at
from service.errors import RefusedInput, RefusedSetting
from service.input.calendar_file import Calendar

SETTING = "incidents.calendars.0.file"
CLEANING = """UID:1
DTSTART;TZID=Europe/Berlin:20261005T060000
DTEND;TZID=Europe/Berlin:20261005T080000
RRULE:FREQ=WEEKLY;BYDAY=MO
EXDATE;TZID=Europe/Berlin:20261116T060000
SUMMARY:weekly cleaning"""
MOVED = """UID:1
RECURRENCE-ID;TZID=Europe/Berlin:20261123T060000
DTSTART;TZID=Europe/Berlin:20261124T060000
DTEND;TZID=Europe/Berlin:20261124T080000
SUMMARY:weekly cleaning, a day late"""
HOLIDAY = "UID:2\nDTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227\nSUMMARY:Christmas"
FLOATING = "UID:3\nDTSTART:20261110T100000\nDURATION:PT1H"
CANCELLED = "UID:4\nDTSTART:20261111T100000Z\nDTEND:20261111T110000Z\nSTATUS:CANCELLED\nSUMMARY:cancelled"
FREE = "UID:5\nDTSTART:20261112T100000Z\nDTEND:20261112T110000Z\nTRANSP:TRANSPARENT\nSUMMARY:shown as free"
ALL = (CLEANING, MOVED, HOLIDAY, FLOATING, CANCELLED, FREE)


def written(folder: Path, *events: str, head: str = "X-WR-TIMEZONE:Europe/Berlin\n") -> Path:
    path = folder / "plant.ics"
    inner = "".join(f"BEGIN:VEVENT\nDTSTAMP:20261001T000000Z\n{event}\nEND:VEVENT\n" for event in events)
    path.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//plant//EN\n{head}{inner}END:VCALENDAR\n")
    return path


def calendar_of(
    folder: Path, *events: str, head: str = "X-WR-TIMEZONE:Europe/Berlin\n", zone: str = "America/New_York"
) -> Calendar:
    return Calendar(written(folder, *events, head=head), ZoneInfo(zone), SETTING)


@pytest.mark.parametrize(
    ("time", "title"),
    [
        ("2026-10-05T03:59:59Z", None),
        ("2026-10-05T04:00:00Z", "weekly cleaning"),
        ("2026-10-05T05:59:59Z", "weekly cleaning"),
        ("2026-10-05T06:00:00Z", None),
        ("2026-11-02T05:00:00Z", "weekly cleaning"),  # an hour later in UTC: summer time is over
        ("2026-11-16T05:30:00Z", None),  # left out
        ("2026-11-23T05:30:00Z", None),  # moved to the next day
        ("2026-11-24T05:30:00Z", "weekly cleaning, a day late"),
        ("2036-10-06T04:30:00Z", "weekly cleaning"),  # without an end
        ("2026-12-23T22:59:59Z", None),
        ("2026-12-23T23:00:00Z", "Christmas"),  # a day begins at midnight of the calendar's zone
        ("2026-12-26T22:59:59Z", "Christmas"),
        ("2026-12-26T23:00:00Z", None),
        ("2026-11-10T09:30:00Z", "quiet by the calendar"),  # it has no title
        ("2026-11-10T10:00:00Z", None),
        ("2026-11-11T10:30:00Z", None),
        ("2026-11-12T10:30:00Z", None),
    ],
)
def test_an_event_takes_place_also_when_it_comes_again_was_moved_or_has_no_time(
    tmp_path: Path, time: str, title: str | None
) -> None:
    assert calendar_of(tmp_path, *ALL).title_at(at(time)) == title


def test_times_without_a_zone_are_in_the_one_that_is_set_where_the_calendar_has_none(tmp_path: Path) -> None:
    calendar = calendar_of(tmp_path, FLOATING, HOLIDAY, head="")
    assert calendar.title_at(at("2026-11-10T15:30:00Z")) == "quiet by the calendar"
    assert calendar.title_at(at("2026-11-10T09:30:00Z")) is None
    assert calendar.title_at(at("2026-12-24T05:00:00Z")) == "Christmas"
    assert calendar.title_at(at("2026-12-24T04:59:59Z")) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no calendar",
        b"\xff\xfe",
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:2026\nEND:VEVENT\nEND:VCALENDAR\n",
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20261005T060000Z\nRRULE:FREQ=OFTEN\nEND:VEVENT\nEND:VCALENDAR\n",
        b"BEGIN:VCALENDAR\nX-WR-TIMEZONE:Nowhere/At_All\nEND:VCALENDAR\n",
    ],
)
def test_a_file_that_is_none_is_refused_at_the_start_with_its_name_and_setting(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plant.ics"
    path.write_bytes(content)
    with pytest.raises(RefusedInput, match=rf"{SETTING}: .*plant\.ics cannot be read as iCalendar"):
        Calendar(path, ZoneInfo("UTC"), SETTING)
    with pytest.raises(RefusedInput, match="No such file"):
        Calendar(tmp_path / "nowhere.ics", ZoneInfo("UTC"), SETTING)


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recurring_ical_events", None)
    with pytest.raises(RefusedSetting, match=r"incidents\.calendars\.0\.file: .*pip install 'telltale\[ical\]'"):
        calendar_of(tmp_path, CLEANING)
