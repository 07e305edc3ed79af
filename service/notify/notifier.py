"""Anomalies sent to people's tools: as alerts to Alertmanager, as CloudEvents to webhooks.

The worker hands over what it has committed and goes on; threads of their own deliver it (see delivery).
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from service.input.anomaly import Anomaly
from service.live.observer import Committed, Observer, Round
from service.live.status import Notified
from service.log.port import Partition, Record
from service.notify.alert_book import RESEND_S, AlertBook
from service.notify.delivery import EventQueue, Receiver, Sender, join_all
from service.notify.links import NO_LINKS, Links, anomaly_links, header_of
from service.pipeline import Processed
from service.state.open_alarms import SEVERITIES, HeldAlarm, open_alarms
from service.state.task import PartitionTask, Stage

ALERTMANAGER, WEBHOOK = "alertmanager", "webhook"
RECEIVERS = (ALERTMANAGER, WEBHOOK)
STOP_WITHIN_S = 3.0
CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"


def alerts_url(base: str) -> str:
    """Where an Alertmanager takes alerts, given where it is."""
    return f"{base.rstrip('/')}/api/v2/alerts"


class _Route(NamedTuple):
    """A receiver's sender and its box."""

    sender: Sender
    box: "AlertBook | EventQueue"


class Notifier(Observer):
    """What the worker's thread hands over; it never waits for a receiver."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        min_severity: str = SEVERITIES[0],
        monotonic: Callable[[], float] = time.monotonic,
        links: Links = NO_LINKS,
    ) -> None:
        """min_severity: what has not reached it is not sent. links: to the page, of each."""
        self._severities = SEVERITIES[SEVERITIES.index(min_severity) :]
        self._monotonic = monotonic
        self._links = links
        self._looked_s = -RESEND_S
        self._running: frozenset[Partition] = frozenset()
        self._routes = [_route(receiver, self._severities, links) for receiver in receivers]
        self._books = [route.box for route in self._routes if isinstance(route.box, AlertBook)]
        self._queues = [route.box for route in self._routes if isinstance(route.box, EventQueue)]

    def start(self) -> None:
        for route in self._routes:
            route.sender.start()

    def stop(self) -> None:
        """Send what waits as far as receivers take it within STOP_WITHIN_S, and end."""
        join_all([route.sender for route in self._routes], STOP_WITHIN_S)

    def committed(self, commit: Committed) -> None:
        self.notify(commit.judged, commit.notices)

    def turned(self, turn: Round) -> None:
        self.look(turn.tasks.values())

    def notify(self, judged: Sequence[Processed], notices: Sequence[Record]) -> None:
        """What was committed: verdicts with their events, and what else went to the topic of anomalies."""
        if not self._routes:
            return
        told = [
            (event, record)
            for one in judged
            for event, record in zip(one.events, one.commit.anomalies, strict=True)
            if event.data.severity in self._severities
        ]
        if not told and not notices:
            return
        for book in self._books:
            book.apply([event for event, _ in told])
        for queue in self._queues:
            queue.put([record.value or b"" for record in notices])
            for event, record in told:
                queue.put([record.value or b""], headers=self._headers(event.data))
        self._wake()

    def look(self, tasks: Collection[PartitionTask]) -> None:
        """Now and then, and when a partition comes or goes: hold what is open against the rows."""
        running = frozenset(task.partition for task in tasks if task.stage is Stage.RUNNING)
        now_s = self._monotonic()
        if not self._books or (running == self._running and now_s - self._looked_s < RESEND_S):
            return
        gone = self._running - {task.partition for task in tasks}
        self._running, self._looked_s = running, now_s
        found = [(task.partition, self._worth_an_alert(task)) for task in tasks if task.stage is Stage.RUNNING]
        for book in self._books:
            book.leave(gone)
            for partition, alarms in found:
                book.look(partition, alarms)
        self._wake()

    def notified(self) -> Mapping[str, Notified]:
        """By kind of receiver, also of those that there is none of."""
        totals = {kind: Counter[str]() for kind in RECEIVERS}
        for route in self._routes:
            totals[route.sender.kind].update(route.sender.notified._asdict())
        return {kind: Notified(**total) for kind, total in totals.items()}

    def _headers(self, anomaly: Anomaly) -> Mapping[str, str]:
        partition = Partition(anomaly.topic, anomaly.partition)
        found = anomaly_links(self._links, partition, anomaly.anomaly, anomaly.stream, anomaly.opened_at)
        return header_of(*found)

    def _worth_an_alert(self, task: PartitionTask) -> list[HeldAlarm]:
        return [alarm for alarm in open_alarms(task.slab) if alarm.severity in self._severities]

    def _wake(self) -> None:
        for route in self._routes:
            route.sender.wake()


def _route(receiver: Receiver, severities: Sequence[str], links: Links) -> _Route:
    box = AlertBook(severities, links=links) if receiver.kind == ALERTMANAGER else EventQueue(CLOUD_EVENT)
    return _Route(Sender(receiver, box), box)
