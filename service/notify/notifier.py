"""Anomalies as alerts of Alertmanagers: the worker hands over what it has committed and goes on.

Threads of their own deliver it (see delivery). Alerts are a state that the rows know too, so nothing needs to be kept
of them; webhooks get events, which are read from the topic (see event_feed).
"""

import time
from collections.abc import Callable, Collection, Sequence

from service.live.observer import Committed, Observer, Round
from service.log.port import Partition
from service.notify.alert_book import RESEND_S, AlertBook
from service.notify.delivery import Receiver, Sender
from service.notify.links import NO_LINKS, Links
from service.pipeline import Processed
from service.state.open_alarms import SEVERITIES, HeldAlarm, open_alarms
from service.state.task import PartitionTask, Stage


class Notifier(Observer):
    """Of anomalies, what the worker's thread hands over; it never waits for a receiver."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        min_severity: str = SEVERITIES[0],
        monotonic: Callable[[], float] = time.monotonic,
        links: Links = NO_LINKS,
    ) -> None:
        """receivers: Alertmanagers. min_severity: what has not reached it is not sent. links: to the page, of each."""
        self._severities = SEVERITIES[SEVERITIES.index(min_severity) :]
        self._monotonic = monotonic
        self._looked_s = -RESEND_S
        self._running: frozenset[Partition] = frozenset()
        self._books = [AlertBook(self._severities, links=links) for _ in receivers]
        self.senders = [Sender(receiver, book) for receiver, book in zip(receivers, self._books, strict=True)]

    def start(self) -> None:
        for sender in self.senders:
            sender.start()

    def committed(self, commit: Committed) -> None:
        self.notify(commit.judged)

    def turned(self, turn: Round) -> None:
        self.look(turn.tasks.values())

    def notify(self, judged: Sequence[Processed]) -> None:
        """Verdicts that were committed, with their events."""
        told = [event for one in judged for event in one.events if event.data.severity in self._severities]
        if told and self._books:
            for book in self._books:
                book.apply(told)
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

    def _worth_an_alert(self, task: PartitionTask) -> list[HeldAlarm]:
        return [alarm for alarm in open_alarms(task.slab) if alarm.severity in self._severities]

    def _wake(self) -> None:
        for sender in self.senders:
            sender.wake()
