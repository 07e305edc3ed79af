"""Events to a receiver: what is sent, with which link, and that nothing is lost where a process ends."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import pytest

from models.data.rfc3339 import milliseconds_of, rfc3339
from service.errors import LogUnavailable
from service.kafka.topic_reader import Read
from service.notify.alert_book import AHEAD_S, RESOLVED_FOR_S, AlertBook
from service.notify.delivery import ALERTMANAGER, WEBHOOK, EventQueue, Receiver, Sender
from service.notify.event_feed import Delivery, EventFeed, check_feeds, stop_feeds
from service.notify.incident_alerts import AlertOutbox, incident_links
from service.notify.links import NO_LINKS, Links
from service.notify.webhooks import CLOUD_EVENT, HeadersOf, WebhookOutbox, of_incidents
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.budget import Budget
from service.stages.incidents.changes import SEVERITIES, read_change
from service.stages.incidents.controls import Acknowledgement, GivenControl
from service.stages.incidents.events import LostIncidentsData, decode_incident, encode_incident, lost_record
from service.stages.incidents.rules import IncidentRules
from tests.service.notify.test_alert_book import Clock
from tests.service.notify.topic import Topic, TopicInMemory
from tests.service.stages.incidents.plant import anomaly_record, time_at, who

LINKS = Links("http://plant-7:8080/")
FROM_MINOR, FROM_MAJOR = SEVERITIES, SEVERITIES[1:]


class Plant:
    """A book of incidents whose events go to a topic."""

    def __init__(self, per_day: int | None = None) -> None:
        self.book = IncidentBook(IncidentRules(), Budget(per_day))
        self.topic = Topic()

    def change(self, stream: str, change: str, at_s: float, since_s: float = 0.0, severity: str = "minor") -> None:
        found = read_change(anomaly_record(stream, change, at_s, since_s, severity).value)
        assert found is not None
        self.topic.publish([encode_incident(event) for event in self.book.observe(found)])

    def lose(self) -> None:
        """What was kept of incidents."""
        self.book = IncidentBook(IncidentRules(), Budget(None))
        self.book.life = "life-2"
        self.topic.publish([lost_record("life-2", 0, LostIncidentsData("anomalies", "incidents", "no marker"))])

    def acknowledge(self, name: str) -> None:
        given = GivenControl("a", Acknowledgement(incident=self.incident(name), **who("anna")), 0, 0)
        self.topic.publish([encode_incident(event) for event in self.book.apply(given)])

    def incident(self, group: str) -> str:
        return next(one.summary.incident for one in self.book.incidents.values() if one.summary.group == group)


def webhook(
    topic: Topic, most: int = 100, severities: Sequence[str] = FROM_MINOR, of: Callable[..., HeadersOf] = of_incidents
) -> tuple[EventFeed, EventQueue, TopicInMemory]:
    queue, receiver, reader = EventQueue(CLOUD_EVENT), Receiver(WEBHOOK, "http://nowhere"), TopicInMemory(topic, most)
    outbox = WebhookOutbox(queue, of(NO_LINKS, severities))
    return EventFeed("events", lambda: reader, Delivery(receiver, outbox, Sender(receiver, queue))), queue, reader


def alertmanager(topic: Topic, clock: Clock) -> tuple[EventFeed, AlertBook, TopicInMemory]:
    book, receiver, reader = AlertBook(clock=clock), Receiver(ALERTMANAGER, "http://nowhere"), TopicInMemory(topic)
    to = Delivery(receiver, AlertOutbox(book, LINKS, FROM_MINOR), Sender(receiver, book))
    return EventFeed("incidents", lambda: reader, to), book, reader


def until(done: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def take(box: AlertBook | EventQueue, clock: Clock | None = None) -> list[Any]:
    """What the receiver takes of it now."""
    taken = []
    while (letter := box.next()) is not None:
        taken.append(json.loads(letter.body))
        box.settle(letter)
        if clock is not None:
            clock.now_s += AHEAD_S
    return taken


# --- a webhook


def test_a_webhook_gets_every_event_of_the_incidents_that_are_notified_as_it_is_on_the_topic() -> None:
    plant = Plant(per_day=4)  # one at once
    plant.change("a/1/s", "opened", 0)
    plant.change("b/1/s", "opened", 1, 1)
    plant.change("a/1/s", "closed", 2)
    plant.acknowledge("a/1")
    feed, queue, reader = webhook(plant.topic)
    feed.turn(reader)
    taken = take(queue)
    assert [event["type"] for event in taken] == ["telltale.incident.opened", *["telltale.incident.closed"] * 2]
    assert {event["data"]["group"] for event in taken} == {"a/1"}


def test_what_a_webhook_has_not_taken_is_read_again_after_the_process_was_killed() -> None:
    plant = Plant()
    for n in range(40):
        plant.change(f"line-{n}/m/s", "opened", n, n)
    taken: list[Any] = []
    kills = 0
    while plant.topic.done() < len(plant.topic.values()):
        kills += 1
        feed, queue, reader = webhook(plant.topic, most=7)
        feed.turn(reader)
        for _ in range(kills % 3):
            letter = queue.next()
            if letter is not None:
                taken.append(json.loads(letter.body)["data"]["group"])
                queue.settle(letter)
        if kills % 2:
            feed.turn(reader)  # else it is killed before it commits
    assert list(dict.fromkeys(taken)) == [f"line-{n}/m" for n in range(40)], "in order, apart from what comes twice"
    assert kills > 20
    assert len(taken) > 40, "some come twice"


def test_no_more_is_read_than_waits_for_a_receiver_that_is_away() -> None:
    plant = Plant()
    for n in range(1_500):
        plant.change(f"line-{n}/m/s", "opened", n / 100, n / 100)
    feed, queue, reader = webhook(plant.topic, most=400)
    for _ in range(10):
        feed.turn(reader)
    assert queue.waiting == 1_200
    assert (queue.pushed_out, plant.topic.done()) == (0, 0)


def test_only_incidents_that_are_as_severe_as_wanted_are_sent() -> None:
    plant = Plant()
    plant.change("a/1/s", "opened", 0)
    plant.change("b/1/s", "opened", 1, 1, "critical")
    feed, queue, reader = webhook(plant.topic, severities=FROM_MAJOR)
    feed.turn(reader)
    assert [event["data"]["group"] for event in take(queue)] == ["b/1"]
    assert plant.topic.done() == 1, "before what waits"
    feed.turn(reader)
    assert plant.topic.done() == 2


def test_a_topic_that_cannot_be_read_is_counted_and_shown_until_it_can_be_read_again() -> None:
    plant = Plant()
    plant.change("a/1/s", "opened", 0)
    away, queue = threading.Event(), EventQueue(CLOUD_EVENT)

    class Reader(TopicInMemory):
        def poll(self, timeout_s: float, more: bool = True) -> Read:
            if away.is_set():
                raise LogUnavailable("reading events on nowhere: timed out")
            return super().poll(timeout_s, more)

    def open_reader() -> Reader:
        if away.is_set():
            raise LogUnavailable("no broker at nowhere")
        return Reader(plant.topic)

    receiver = Receiver(WEBHOOK, "http://nowhere")
    sender = Sender(receiver, queue, post=lambda _letter: None)
    to = Delivery(receiver, WebhookOutbox(queue, of_incidents(NO_LINKS, FROM_MINOR)), sender)
    feed = EventFeed("events", open_reader, to, reopen_after_s=0.01)
    away.set()
    feed.start()
    until(lambda: feed.notified.interruptions >= 3)
    assert feed.notified[:3] == (0, 0, 0)
    assert feed.notified.interrupted == 1
    away.clear()
    until(lambda: feed.notified.sent == 1)
    assert feed.notified.interrupted == 0
    before = feed.notified.interruptions
    away.set()
    until(lambda: feed.notified.interrupted == 1)
    assert feed.notified.interruptions > before
    stop_feeds([feed])


# --- Alertmanager


def test_an_incident_is_an_alert_of_each_severity_with_a_link_to_its_first_cause() -> None:
    plant, clock = Plant(), Clock()
    plant.change("site/line 1/m/s", "opened", 0)
    plant.change("site/line 1/m/s", "updated", 1, severity="major")
    feed, book, reader = alertmanager(plant.topic, clock)
    feed.turn(reader)
    alerts = [alert for letter in take(book, clock) for alert in letter]
    assert [one["labels"]["severity"] for one in alerts] == ["major", "major", "minor"], "the highest goes ahead"
    incident = plant.incident("site/line 1")
    labels = {"alertname": "TelltaleIncident", "group": "site/line 1", "incident": incident, "severity": "minor"}
    assert alerts[-1]["labels"] == labels
    place = f"site%2Fline%201%2Fm%2Fs&at={time_at(0)}&anomaly=site%2Fline%201%2Fm%2Fs%230"
    link = f"http://plant-7:8080/#{place}&incident={quote(incident, safe='')}"
    assert alerts[-1]["generatorURL"] == alerts[-1]["annotations"]["page"] == link
    assert alerts[-1]["annotations"]["summary"].startswith("site/line 1: 1 stream anomalous, the first of them site/")


def test_an_alert_of_an_incident_that_is_open_comes_back_after_a_restart_and_ends_once_it_is_closed() -> None:
    plant, clock = Plant(), Clock()
    plant.change("a/1/s", "opened", 0)
    plant.change("b/1/s", "opened", 1, 1)
    plant.change("a/1/s", "closed", 2)
    feed, book, reader = alertmanager(plant.topic, clock)
    feed.turn(reader)
    take(book, clock)
    feed.turn(reader)
    assert plant.topic.done() == 1, "b is open since its event at offset 1"
    feed, book, reader = alertmanager(plant.topic, clock)
    feed.turn(reader)
    assert [alert["labels"]["group"] for letter in take(book, clock) for alert in letter] == ["b/1"]
    plant.change("b/1/s", "closed", 3, 1)
    feed.turn(reader)
    assert plant.topic.done() < len(plant.topic.values()), "the end is not delivered"
    take(book, clock)
    feed.turn(reader)
    assert plant.topic.done() == len(plant.topic.values())
    clock.now_s += RESOLVED_FOR_S + 1
    assert take(book, clock) == []


def test_who_loses_the_partition_speaks_for_no_incident_any_more() -> None:
    plant, clock = Plant(), Clock()
    plant.change("a/1/s", "opened", 0)
    feed, book, reader = alertmanager(plant.topic, clock)
    feed.turn(reader)
    reader.hand_out([])
    feed.turn(reader)
    assert (book.waiting, book.next()) == (0, None)


def test_an_offset_that_another_member_has_is_left_to_it() -> None:
    plant = Plant()
    plant.change("a/1/s", "opened", 0)
    feed, _, reader = webhook(plant.topic)
    plant.topic.migrates = True
    feed.turn(reader)
    plant.topic.migrates = False
    feed.turn(reader)
    assert plant.topic.done() == 0


def test_a_link_is_to_the_page_wherever_that_is() -> None:
    plant = Plant()
    plant.change("p/ü/1/s", "opened", 0)
    incident = decode_incident(plant.topic.values()[0]).data
    link, picture = incident_links(Links("https://a/telltale"), incident)
    place = f"p%2F%C3%BC%2F1%2Fs&at={time_at(0)}&anomaly=p%2F%C3%BC%2F1%2Fs%230"
    assert link == f"https://a/telltale/#{place}&incident={quote(incident.incident, safe='')}"
    assert picture == ""


def test_a_webhook_is_told_beside_the_event_where_the_page_and_a_picture_of_it_are() -> None:
    plant = Plant()
    plant.change("p/ü/1/s", "opened", 0)
    links = Links("https://a/telltale", pictures=True)
    queue = EventQueue(CLOUD_EVENT)
    WebhookOutbox(queue, of_incidents(links, FROM_MINOR)).put(0, 0, plant.topic.values()[0])
    letter = queue.next()
    assert letter is not None
    page, picture = incident_links(links, decode_incident(plant.topic.values()[0]).data)
    assert (
        picture
        == f"https://a/telltale/api/v1/past.png?stream=p%2F%C3%BC%2F1%2Fs&around_ms={milliseconds_of(time_at(0))}"
    )
    assert letter.headers == {"Link": f'<{page}>; rel="alternate", <{picture}>; rel="preview"'}
    assert letter.body == plant.topic.values()[0]


def test_what_ends_a_feeds_thread_ends_the_process() -> None:
    def fails() -> TopicInMemory:
        raise ZeroDivisionError

    queue, receiver = EventQueue(CLOUD_EVENT), Receiver(WEBHOOK, "http://nowhere")
    outbox = WebhookOutbox(queue, of_incidents(NO_LINKS, FROM_MINOR))
    feed = EventFeed("incidents", fails, Delivery(receiver, outbox, Sender(receiver, queue)))
    check_feeds([feed])
    with pytest.raises(ZeroDivisionError):
        feed._run()
    with pytest.raises(ZeroDivisionError):
        check_feeds([feed])


# --- incidents that are lost


@pytest.mark.parametrize("restarts", [False, True])
def test_alerts_are_resolved_where_incidents_are_lost_and_what_is_still_wrong_is_another(restarts: bool) -> None:
    plant, clock = Plant(), Clock()
    plant.change("a/1/s", "opened", 0)
    plant.change("b/1/s", "opened", 1, 1)
    feed, book, reader = alertmanager(plant.topic, clock)
    feed.turn(reader)
    opened = {alert["labels"]["incident"] for sent in take(book, clock) for alert in sent}
    if restarts:
        feed, book, reader = alertmanager(plant.topic, clock)
    plant.lose()
    plant.change("a/1/s", "updated", 60)
    feed.turn(reader)
    last = {alert["labels"]["incident"]: alert["endsAt"] for sent in take(book, clock) for alert in sent}
    now = rfc3339(round(1000 * clock.now_s))
    assert {name for name, ends_at in last.items() if ends_at <= now} == opened
    assert {name for name, ends_at in last.items() if ends_at > now} == {plant.incident("a/1")}
    clock.now_s += RESOLVED_FOR_S + 1
    take(book, clock)
    feed.turn(reader)
    assert plant.topic.done() == 3, "the incident after the loss is open"


def test_a_webhook_is_told_that_incidents_are_lost() -> None:
    plant = Plant()
    plant.change("a/1/s", "opened", 0)
    plant.lose()
    feed, queue, reader = webhook(plant.topic, severities=["critical"])
    feed.turn(reader)
    assert [event["type"] for event in take(queue)] == ["telltale.incidents.lost"]
    feed.turn(reader)
    assert plant.topic.done() == 2
