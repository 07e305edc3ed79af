"""Anomalies as alerts: what Alertmanager gets to know, and that judging never waits for it."""

import json
import time
from typing import Any

import pytest

from models.detection.detector import Detector
from service.input.events import decode_event
from service.log.memory_log import Migrate, Topics
from service.notify.delivery import ALERTMANAGER, Receiver, alerts_url, join_all
from service.notify.event_feed import STOP_WITHIN_S
from service.notify.notifier import Notifier
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
        stop(notifier)
    assert receiver.posted[0].path == "/prefix/api/v2/alerts"
    assert {alert["labels"]["stream"] for alert in json.loads(body)} == {one.key.decode() for one in worth_it}


def stop(notifier: Notifier) -> None:
    join_all(notifier.senders, STOP_WITHIN_S)


@pytest.mark.slow
def test_what_is_told_is_committed_first(detector: Detector) -> None:
    """The first commit fails: until another has gone well, no one knows of anything."""
    committed_at: list[int] = []
    with listening() as receiver:
        notifier = Notifier([Receiver(ALERTMANAGER, alerts_url(receiver.url))])
        service = Service(detector, two_partitions(), [Migrate(commit=1)])
        notify = notifier.notify

        def watched(judged: Any) -> None:
            committed_at.append(sum(service.topics.committed.values()))
            notify(judged)

        notifier.notify = watched  # type: ignore[method-assign]
        service.observers.append(notifier)
        service.run_until(service.idle)
    assert committed_at[0] > 0
    assert committed_at == sorted(committed_at)


@pytest.mark.slow
def test_a_receiver_that_hangs_does_not_hold_up_judging(detector: Detector) -> None:
    with listening(hang=True) as receiver:
        notifier = Notifier([Receiver(ALERTMANAGER, alerts_url(receiver.url))])
        service = Service(detector, two_partitions())
        service.observers.append(notifier)
        notifier.start()
        service.run_until(service.idle)  # while the receiver holds a request
        (sender,) = notifier.senders
        assert sender.notified.sent == 0
        assert sender.notified.waiting > 0
        began = time.monotonic()
        stop(notifier)
        assert time.monotonic() - began < STOP_WITHIN_S + 1.0
        receiver.let_go.set()
        sender.join(10.0)


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
        stop(notifier)
    assert said(receiver) == still_open
