"""Anomalies told to people's tools: what Alertmanager and webhooks get to know, and that judging never waits for it."""

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from models.data.rfc3339 import milliseconds_of
from models.detection.detector import Detector
from service.input.events import decode_event
from service.live.status import Notified
from service.log.memory_log import Fault, Migrate, Topics
from service.notify.delivery import Receiver
from service.notify.links import Links
from service.notify.notifier import (
    ALERTMANAGER,
    STOP_WITHIN_S,
    WEBHOOK,
    Notifier,
    alerts_url,
)
from service.state.open_alarms import SEVERITIES, open_alarms
from tests.service.receiver import Listening, listening
from tests.service.state.test_open_alarms import judged
from tests.service.worker.test_worker import PARTITIONS, STREAMS, Service, two_partitions
from tests.service.worker.test_worker import sent as sent_to


@pytest.mark.parametrize("min_severity", ["minor", "critical"])
def test_a_task_that_comes_is_looked_at_at_once_and_left_to_others_when_it_goes(
    detector: Detector, min_severity: str
) -> None:
    task, _ = judged(detector, spikes=6)
    alarms = open_alarms(task.slab)
    worth_it = [one for one in alarms if SEVERITIES.index(one.severity) >= SEVERITIES.index(min_severity)]
    assert 0 < len(worth_it) < len(alarms) or min_severity == SEVERITIES[0]
    with listening() as receiver:
        url = alerts_url(f"{receiver.url}/prefix/")
        notifier = Notifier([Receiver(ALERTMANAGER, url)], min_severity, monotonic=lambda: 1_000.0)
        notifier.start()
        notifier.look([])
        notifier.look([task])
        body = receiver.until_taken(1)[0]
        notifier.look([])
        assert notifier._books[0].idle_s() is None  # nothing is to be said again
        notifier.stop()
    assert receiver.posted[0].path == "/prefix/api/v2/alerts"
    assert {alert["labels"]["stream"] for alert in json.loads(body)} == {one.key.decode() for one in worth_it}


def run_with(notifier: Notifier, detector: Detector, script: Sequence[Fault] = ()) -> Service:
    service = Service(detector, two_partitions(), script)
    service.observers.append(notifier)
    notifier.start()
    try:
        service.run_until(service.idle)
    finally:
        notifier.stop()
    return service


@pytest.mark.slow
def test_a_webhook_gets_what_is_on_the_topic_byte_for_byte(detector: Detector) -> None:
    with listening() as receiver:
        notifier = Notifier([Receiver(WEBHOOK, receiver.url)], links=Links("http://plant-7:8080", pictures=True))
        service = run_with(notifier, detector, [Migrate(commit=2)])
        on_topic = [record.value for partition in PARTITIONS for record in service.topics.anomalies[partition]]
        taken = receiver.until_taken(len(on_topic))
    assert sorted(taken) == sorted(value or b"" for value in on_topic)
    for partition in PARTITIONS:
        mine = [body for body in taken if decode_event(body).data.partition == partition.number]
        assert mine == [record.value for record in service.topics.anomalies[partition]]
    assert receiver.posted[0].headers["Content-Type"].startswith("application/cloudevents+json")
    for posted in receiver.posted:
        data = decode_event(posted.body).data
        link = posted.headers["Link"]
        assert f"<http://plant-7:8080/#{data.stream}&at={data.opened_at}&anomaly=" in link
        assert link.count("; rel=") == 2
        assert f"around_ms={milliseconds_of(data.opened_at)}&topic={data.topic}" in link


@pytest.mark.slow
def test_what_is_told_is_committed_first(detector: Detector) -> None:
    """The first commit fails: until another has gone well, no one knows of anything."""
    committed_at: list[int] = []
    with listening() as receiver:
        notifier = Notifier([Receiver(WEBHOOK, receiver.url)])
        service = Service(detector, two_partitions(), [Migrate(commit=1)])
        notify = notifier.notify

        def watched(judged: Any, notices: Any) -> None:
            committed_at.append(sum(service.topics.committed.values()))
            notify(judged, notices)

        notifier.notify = watched  # type: ignore[method-assign]
        service.observers.append(notifier)
        service.run_until(service.idle)
    assert committed_at[0] > 0
    assert committed_at == sorted(committed_at)


@pytest.mark.slow
def test_a_receiver_that_hangs_does_not_hold_up_judging(detector: Detector) -> None:
    with listening(hang=True) as receiver:
        notifier = Notifier([Receiver(WEBHOOK, receiver.url), Receiver(ALERTMANAGER, alerts_url(receiver.url))])
        service = Service(detector, two_partitions())
        service.observers.append(notifier)
        notifier.start()
        service.run_until(service.idle)  # while both receivers hold a request
        events = sum(map(len, service.topics.anomalies.values()))
        assert notifier.notified()[WEBHOOK] == Notified(waiting=events)
        assert notifier.notified()[ALERTMANAGER].sent == 0
        began = time.monotonic()
        notifier.stop()
        assert time.monotonic() - began < STOP_WITHIN_S + 1.0
        receiver.let_go.set()
        for route in notifier._routes:
            route.sender.join(10.0)


@pytest.mark.slow
def test_after_a_restart_what_is_open_is_sent_again_with_the_same_labels(detector: Detector) -> None:
    """The first worker told no one; the second knows the alarms from the changelog alone."""
    topics = Topics({"readings": 2})
    for partition in PARTITIONS:
        topics.append(partition, sent_to(partition.number)[: 133 * STREAMS])  # up to the middle of a fault
    everything = dict.fromkeys(PARTITIONS, 133 * STREAMS)
    first = Service(detector, topics)
    first.run_until(lambda: topics.committed == everything)
    last = {
        event.data.anomaly: event.data
        for partition in PARTITIONS
        for event in (decode_event(record.value or b"") for record in topics.anomalies[partition])
    }
    still_open = {
        (name, severity)
        for name, data in last.items()
        if data.status == "open"
        for severity in SEVERITIES[: SEVERITIES.index(data.severity) + 1]
    }
    assert len({name for name, _ in still_open}) >= STREAMS
    assert {severity for _, severity in still_open} == set(SEVERITIES)

    def said(receiver: Listening) -> set[tuple[str, str]]:
        alerts = [alert["labels"] for body in receiver.taken for alert in json.loads(body)]
        return {(labels["anomaly"], labels["severity"]) for labels in alerts}

    with listening() as receiver:
        notifier = Notifier([Receiver(ALERTMANAGER, alerts_url(receiver.url))])
        second = Service(detector, topics)
        second.observers.append(notifier)
        notifier.start()
        second.run_until(lambda: said(receiver) >= still_open)
        notifier.stop()
    assert said(receiver) == still_open


def test_only_what_is_as_severe_as_wanted_is_told(detector: Detector) -> None:
    with listening() as receiver:
        service = run_with(Notifier([Receiver(WEBHOOK, receiver.url)], "critical"), detector)
    events = [decode_event(record.value or b"") for p in PARTITIONS for record in service.topics.anomalies[p]]
    wanted = [event for event in events if event.data.severity == "critical"]
    assert 0 < len(wanted) < len(events)
    assert sorted(receiver.taken) == sorted(msgspec.json.encode(event) for event in wanted)


def test_counts_are_kept_for_every_kind_of_receiver_also_without_one() -> None:
    before = set(threading.enumerate())
    notifier = Notifier([])
    notifier.start()
    notifier.look([])
    notifier.notify([], [])
    assert set(threading.enumerate()) <= before
    notifier.stop()
    assert notifier.notified() == {ALERTMANAGER: Notified(), WEBHOOK: Notified()}
