"""Alerts for Alertmanager: what is said of an anomaly, how often, and what the rows make of it."""

import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from models.data.rfc3339 import milliseconds_of
from models.detection.alarm import OpenedBy
from service.input.anomaly import Anomaly, Channel, anomaly_id
from service.input.events import Event
from service.input.reading_batch import StreamKey
from service.log.port import Partition
from service.notify.alert_book import AHEAD_S, RESEND_S, RESOLVED_FOR_S, VALID_S, AlertBook
from service.notify.links import Links
from service.state.open_alarms import SEVERITIES, HeldAlarm

P0, P1 = Partition("readings", 0), Partition("readings", 1)
NOW_S = 1_800_000_000.0
OPENED_MS = 1_700_000_000_000
CHANNELS = [
    Channel("heat", 9.0, 3.0, 2.5, 3.5, 0.7),
    Channel("flow", None, None, None, None, 0.0),
    Channel("rpm", 800.0, 1000.0, 990.125, 1010.0, 0.3),
]


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def changed(
    change: str, stream: str = "pump", severity: str = "minor", offset: int = 7, partition: Partition = P0
) -> Event:
    """An event of the anomaly that opened at `offset`."""
    status = "closed" if change == "closed" else "open"
    anomaly = Anomaly(
        anomaly=anomaly_id(partition, offset, stream),
        stream=stream,
        status=status,
        severity=severity,
        kind="prediction",
        closed_as="recovered" if status == "closed" else None,
        score=1.5,
        peak=2.25,
        opened_at="2023-11-14T22:13:20.000Z",
        closed_at="2023-11-14T22:20:00.000Z" if status == "closed" else None,
        channels=CHANNELS,
        return_period_s=3_600.0,
        witnesses={"prediction": 3_600.0},
        checkpoint="abc",
        topic=partition.topic,
        partition=partition.number,
        offset=offset,
    )
    kind = f"telltale.anomaly.{change}"
    return Event("1.0", "id", "/telltale/readings", kind, stream, anomaly.opened_at, "application/json", anomaly)


def test_an_anomaly_that_no_reading_closed_says_why() -> None:
    book = AlertBook(clock=Clock())
    opened, closed = changed("opened"), changed("closed")
    about = msgspec.structs.replace(closed.data, channels=[], closed_as="forgotten")
    book.apply([opened, msgspec.structs.replace(closed, data=about)])
    assert {alert["annotations"]["summary"] for alert in sent(book)} == {"pump: closed as forgotten"}


def test_an_anomaly_that_no_reading_opened_says_what_it_is() -> None:
    book, opened = AlertBook(clock=Clock()), changed("opened")
    about = msgspec.structs.replace(opened.data, channels=[], kind="silent")
    book.apply([msgspec.structs.replace(opened, data=about)])
    assert {alert["annotations"]["summary"] for alert in sent(book)} == {"pump: silent since 2023-11-14T22:13:20.000Z"}


def held(stream: str = "pump", severity: str = "minor", peak: float = 2.25, offset: int = 7) -> HeldAlarm:
    return HeldAlarm(StreamKey(stream.encode()), offset, OPENED_MS, severity, peak, OpenedBy.PREDICTION)


def sent(book: AlertBook, taken: bool = True) -> list[dict[str, Any]]:
    """The alerts that are sent now, in one request."""
    letter = book.next()
    if letter is None:
        return []
    if taken:
        book.settle(letter)
    alerts: list[dict[str, Any]] = json.loads(letter.body)
    assert len(alerts) == letter.notifications
    return alerts


def severities(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["labels"]["severity"] for alert in alerts]


# --- alerts


def test_an_open_anomaly_is_an_alert_that_says_what_is_strange() -> None:
    book = AlertBook(clock=Clock())
    book.apply([changed("opened")])
    (alert,) = sent(book)
    assert alert["labels"] == {
        "alertname": "TelltaleAnomaly",
        "stream": "pump",
        "topic": "readings",
        "anomaly": anomaly_id(P0, 7, "pump"),
        "severity": "minor",
    }
    assert alert["annotations"]["summary"] == "pump: heat 9, expected 2.5 to 3.5; rpm 800, expected 990.125 to 1010"
    assert (alert["annotations"]["severity"], alert["annotations"]["peak"]) == ("minor", "2.25")
    assert all(isinstance(text, str) for text in alert["annotations"].values())
    assert alert["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert alert["endsAt"] == "2027-01-15T08:05:00.000Z"  # five minutes from now: long enough for a restart


def test_it_is_said_again_as_long_as_it_is_open() -> None:
    clock = Clock()
    book = AlertBook(clock=clock)
    book.apply([changed("opened")])
    (first,) = sent(book)
    assert book.idle_s() == RESEND_S
    assert sent(book) == []
    clock.now_s += RESEND_S
    (again,) = sent(book)
    assert {**again, "endsAt": ""} == {**first, "endsAt": ""}
    assert RESEND_S < VALID_S / 3, "three messages may be lost before it is taken for resolved"


def test_a_rise_adds_an_alert_of_the_higher_severity_and_changes_no_label() -> None:
    clock = Clock()
    book = AlertBook(clock=clock)
    book.apply([changed("opened")])
    (opened,) = sent(book)
    book.apply([changed("updated", severity="major")])
    (first,) = sent(book)
    assert first["labels"] == {**opened["labels"], "severity": "major"}
    clock.now_s += AHEAD_S
    major, minor = sent(book)
    assert {**major, "endsAt": ""} == {**first, "endsAt": ""}
    assert minor["labels"] == opened["labels"]
    assert minor["startsAt"] == major["startsAt"] == opened["startsAt"]
    assert minor["endsAt"] == major["endsAt"] > opened["endsAt"], "neither is resolved"
    assert minor["annotations"]["severity"] == "major", "what it has come to is an annotation of each"


def test_the_highest_severity_is_known_before_those_that_it_inhibits_and_all_end_in_one_request() -> None:
    clock = Clock()
    book = AlertBook(clock=clock)
    book.apply([changed("opened", severity="critical")])
    assert book.waiting == 3
    assert severities(sent(book, taken=False)) == severities(sent(book)) == ["critical"]
    assert book.waiting == 3
    assert sent(book) == []
    assert book.idle_s() == AHEAD_S
    clock.now_s += AHEAD_S
    assert severities(sent(book)) == ["critical", "major", "minor"]
    assert book.waiting == 0
    clock.now_s += RESEND_S
    assert severities(sent(book)) == ["critical", "major", "minor"]
    book.apply([changed("closed", severity="critical")])
    ended = sent(book)
    assert severities(ended) == ["critical", "major", "minor"]
    assert {alert["endsAt"] for alert in ended} == {"2027-01-15T08:00:31.000Z"}


def test_one_that_closes_before_its_lower_alerts_were_sent_ends_them_all_the_same() -> None:
    book = AlertBook(clock=Clock())
    book.apply([changed("opened", severity="major")])
    assert severities(sent(book)) == ["major"]
    book.apply([changed("closed", severity="major")])
    assert severities(sent(book)) == ["major", "minor"]
    assert book.waiting == 0


def test_there_is_no_alert_for_a_severity_below_the_least_that_is_told() -> None:
    clock = Clock()
    book = AlertBook(("major", "critical"), clock=clock)
    book.apply([changed("updated", severity="major")])
    assert severities(sent(book)) == ["major"]
    book.apply([changed("updated", severity="critical")])
    book.look(P1, [held(severity="critical")])
    assert severities(sent(book)) == ["critical", "critical"]
    clock.now_s += AHEAD_S
    assert severities(sent(book)) == ["critical", "major"] * 2


def test_a_closed_one_is_said_to_be_resolved_for_five_minutes() -> None:
    clock = Clock()
    book = AlertBook(clock=clock)
    book.apply([changed("opened")])
    sent(book)
    book.apply([changed("closed")])
    ends = []
    while (wait_s := book.idle_s()) is not None:
        clock.now_s += wait_s
        ends += [alert["endsAt"] for alert in sent(book)]
    assert len(ends) == 1 + RESOLVED_FOR_S // RESEND_S
    assert set(ends) == {"2027-01-15T08:00:00.000Z"}  # when it closed, by this machine's clock
    assert clock.now_s == pytest.approx(NOW_S + RESOLVED_FOR_S + RESEND_S)


def test_what_was_not_taken_stays_due_and_a_change_on_the_way_is_not_lost() -> None:
    book = AlertBook(clock=Clock())
    book.apply([changed("opened")])
    assert len(sent(book, taken=False)) == 1
    assert book.waiting == 1
    letter = book.next()
    assert letter is not None
    book.apply([changed("updated", severity="major")])
    book.settle(letter)
    (alert,) = sent(book)
    assert alert["labels"]["severity"] == "major"
    assert book.waiting == 2


def test_one_that_no_one_was_told_of_is_not_resolved_either() -> None:
    book = AlertBook(clock=Clock())
    book.apply([changed("closed")])
    assert sent(book) == []


def test_a_reading_from_the_future_opens_an_alert_now() -> None:
    clock = Clock()
    clock.now_s = OPENED_MS / 1000 - 3_600
    book = AlertBook(clock=clock)
    book.apply([changed("opened")])
    assert sent(book)[0]["startsAt"] == "2023-11-14T21:13:20.000Z"
    book.apply([changed("closed")])
    assert sent(book)[0]["endsAt"] == "2023-11-14T21:13:20.000Z"


def test_there_are_no_more_anomalies_than_there_is_room_for_and_those_there_are_may_rise() -> None:
    book = AlertBook(most=3, clock=Clock())
    book.apply([changed("opened", f"pump-{n}") for n in range(5)])
    assert book.pushed_out == 2
    book.apply([changed("updated", "pump-0", severity="critical")])
    alerts = [(alert["labels"]["stream"], alert["labels"]["severity"]) for alert in sent(book)]
    assert sorted(alerts) == [("pump-0", "critical"), ("pump-1", "minor"), ("pump-2", "minor")]
    assert book.pushed_out == 2


# --- what the rows say


@pytest.mark.parametrize("severity", SEVERITIES)
def test_after_a_restart_the_rows_tell_of_the_same_alerts(severity: str) -> None:
    clock = Clock()
    before, after = AlertBook(clock=clock), AlertBook(clock=clock)
    before.apply([changed("opened", severity=severity)])
    after.look(P0, [held(severity=severity)])
    assert severities(sent(before)) == severities(sent(after)) == [severity]
    clock.now_s += RESEND_S
    earlier, found = sent(before), sent(after)
    assert [(one["labels"], one["startsAt"]) for one in found] == [(one["labels"], one["startsAt"]) for one in earlier]
    assert {one["annotations"]["summary"] for one in found} == {"pump: anomalous since 2023-11-14T22:13:20.000Z"}
    after.apply([changed("updated", severity="critical")])
    (again,) = sent(after)[:1]
    assert again["labels"] == {**earlier[0]["labels"], "severity": "critical"}
    assert again["annotations"]["summary"].startswith("pump: heat 9")


def test_rows_that_say_the_same_change_nothing() -> None:
    book = AlertBook(clock=Clock())
    book.apply([changed("opened")])
    (alert,) = sent(book)
    book.look(P0, [held()])
    assert sent(book) == []
    assert "heat" in alert["annotations"]["summary"]


def test_an_alarm_that_ended_without_a_word_is_resolved() -> None:
    """Its stream was forgotten, or its memory lost."""
    book = AlertBook(clock=Clock())
    book.apply([changed("opened"), changed("opened", "other", partition=P1)])
    sent(book)
    book.look(P0, [])
    (alert,) = sent(book)
    assert (alert["labels"]["stream"], alert["endsAt"]) == ("pump", "2027-01-15T08:00:00.000Z")


def test_of_a_partition_that_went_to_another_worker_nothing_is_said_any_more() -> None:
    clock = Clock()
    book = AlertBook(clock=clock)
    book.apply([changed("opened"), changed("opened", "other", partition=P1)])
    sent(book)
    book.leave([P0])
    clock.now_s += RESEND_S
    assert [alert["labels"]["stream"] for alert in sent(book)] == ["other"]


def test_an_alert_links_to_the_page_and_a_picture_at_its_time_where_there_are_any_also_after_a_restart() -> None:
    links = Links("http://plant-7:8080", pictures=True)
    opened = changed("opened", stream="pump ü")
    alarm = held("pump ü")
    for known in ("event", "row"):
        book = AlertBook(clock=Clock(), links=links)
        if known == "event":
            book.apply([opened])
        else:
            book.look(P0, [alarm])
        letter = book.next()
        assert letter is not None
        (alert,) = json.loads(letter.body)
        at_ms = milliseconds_of(opened.data.opened_at)
        place = f"pump%20%C3%BC&at=2023-11-14T22:13:20.000Z&anomaly={quote(opened.data.anomaly, safe=':')}"
        page = f"http://plant-7:8080/#{place}"
        assert (alert["generatorURL"], alert["annotations"]["page"]) == (page, page)
        query = f"stream=pump+%C3%BC&around_ms={at_ms}&topic={P0.topic}&partition={P0.number}"
        assert alert["annotations"]["picture"] == f"http://plant-7:8080/api/v1/past.png?{query}"
