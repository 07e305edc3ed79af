"""Quiet times: of which streams they are, and what becomes of incidents meanwhile."""

from pathlib import Path

from models.data.patterns import Streams
from models.data.quiet_time import QuietTime
from models.data.rfc3339 import milliseconds_of as at
from service.stages.incidents.quiet import CalendarTimes, QuietTimes
from service.stages.incidents.rules import IncidentRules
from tests.service.input.test_calendar_file import CLEANING, calendar_of
from tests.service.stages.incidents.test_book import MAJOR, NOW_MS, book_of, change, ending, observed


def test_a_quiet_time_is_of_some_streams_and_has_an_end() -> None:
    one = QuietTime(Streams(["site/line-3/*"]), "overhaul", at("2026-11-28T08:00:00Z"), at("2026-11-28T10:00:00Z"))
    assert one.holds("site/line-3/m/s", at("2026-11-28T08:00:00Z"))
    assert not one.holds("site/line-3/m/s", at("2026-11-28T10:00:00Z"))
    assert not one.holds("site/line-3/m/s", at("2026-11-28T07:59:59Z"))
    assert not one.holds("site/line-30/m/s", at("2026-11-28T09:00:00Z"))
    assert QuietTimes([one])("site/line-3/m/s", at("2026-11-28T09:00:00Z")) == "overhaul"
    assert QuietTimes([one])("site/line-4/m/s", at("2026-11-28T09:00:00Z")) is None


def quiet_for(seconds: float, *streams: str) -> IncidentRules:
    return IncidentRules(
        quiet=QuietTimes([QuietTime(Streams(streams), "overhaul", None, NOW_MS + round(seconds * 1000))])
    )


def test_of_an_incident_in_a_quiet_time_no_one_is_notified_and_the_reason_is_said_and_counted() -> None:
    book = book_of(quiet_for(3_600, "a/1/*"))
    events = observed(book, [change("a/1/x", 0), change("a/1/y", 5, severity=MAJOR), ending("a/1/x", 9)])
    assert [(event.data.notified, event.data.held_back) for event in events] == [(False, "overhaul")] * 2
    assert book.decisions == {"quiet": 1}


def test_one_that_goes_on_when_the_quiet_time_is_over_is_notified_when_it_is_next_heard_of() -> None:
    book = book_of(quiet_for(600, "a/1/*"))
    first, second = observed(book, [change("a/1/x", 0), change("a/1/x", 700, since_s=0, severity=MAJOR)])
    assert (first.data.notified, second.data.notified) == (False, True)
    assert second.data.held_back is None


def test_a_member_that_is_not_quiet_is_enough() -> None:
    book = book_of(quiet_for(600, "a/1/x"))
    events = observed(book, [change("a/1/x", 0), change("a/1/y", 1)])
    assert [event.data.notified for event in events] == [False, True]


def test_it_is_of_some_streams_with_its_title_or_a_reason_of_ours_behind_what_is_declared(tmp_path: Path) -> None:
    calendar, monday = calendar_of(tmp_path, CLEANING), at("2026-10-05T04:30:00Z")
    titled, told = CalendarTimes(Streams(["a/*"]), calendar), CalendarTimes(Streams(["b/*"]), calendar, "as planned")
    declared = QuietTime(Streams(["a/1"]), "overhaul", None, monday + 1)
    quiet = QuietTimes([declared, titled, told])
    assert [quiet(stream, monday) for stream in ("a/1", "a/2", "b/1", "c/1")] == [
        "overhaul",
        "weekly cleaning",
        "as planned",
        None,
    ]


def test_no_one_is_notified_of_an_incident_while_an_event_takes_place(tmp_path: Path) -> None:
    event = "UID:1\nDTSTART:20231114T220000Z\nDTEND:20231114T221500Z\nSUMMARY:shift handover"
    rules = IncidentRules(quiet=QuietTimes([CalendarTimes(Streams(["a/*"]), calendar_of(tmp_path, event))]))
    assert at("2023-11-14T22:13:20Z") == NOW_MS
    first, second = observed(book_of(rules), [change("a/1/x", 0), change("a/1/y", 120)])
    assert (first.data.notified, first.data.held_back) == (False, "shift handover")
    assert second.data.notified
