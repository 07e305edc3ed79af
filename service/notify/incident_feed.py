"""Incidents from their topic to one receiver, at least once, whatever ends the process.

Each receiver is a consumer group of its own, so that one that is away holds up no other. Its offset is committed only
so far that what is behind it need not be sent again: to a webhook, what it took; to Alertmanager, what is neither open
nor waits to be sent, since an alert has to be repeated as long as it lasts. After a restart what comes behind that
offset is read again.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
import structlog

from service.errors import LogUnavailable, TaskMigrated
from service.live.status import Notified
from service.notify.alert_book import AlertBook
from service.notify.delivery import EventQueue, Receiver, Sender
from service.notify.incident_alerts import alerts_of_incident, incident_links
from service.notify.links import Links, header_of
from service.stages.incidents.changes import SEVERITIES
from service.stages.incidents.events import IncidentEvent, decode_incident, decode_lost

POLL_S = 0.5
MOST_WAITING = 1_000  # then nothing more is read until the receiver has taken some
REOPEN_AFTER_S = 5.0
STOP_WITHIN_S = 3.0

logger = structlog.get_logger("telltale.incidents")


class Batch(Protocol):
    """What a poll of the topic brought; see EventReader."""

    @property
    def holds(self) -> bool: ...
    @property
    def began(self) -> bool: ...
    @property
    def values(self) -> list[tuple[int, bytes]]: ...
    @property
    def position(self) -> int: ...


class Reader(Protocol):
    """The topic of incidents, as one member of a receiver's group reads it."""

    def poll(self, timeout_s: float, more: bool = True) -> Batch: ...
    def commit(self, offset: int) -> None: ...
    def close(self) -> None: ...


class Outbox(Protocol):
    """What waits for a receiver, and how far the topic need not be read again for it."""

    def put(self, offset: int, value: bytes, event: IncidentEvent) -> None: ...
    def end_all(self, offset: int, value: bytes) -> None: ...  # of the event that says so
    def clear(self) -> None: ...
    def needed_offset(self) -> int | None: ...
    def waiting(self) -> int: ...


class WebhookOutbox:
    """Each event of an incident that people are notified of, and that incidents were lost, as it is on the topic.

    Links go beside it.
    """

    def __init__(self, queue: EventQueue, links: Links) -> None:
        self._queue, self._links = queue, links

    def put(self, offset: int, value: bytes, event: IncidentEvent) -> None:
        self._queue.put([value], offset, header_of(*incident_links(self._links, event.data)))

    def end_all(self, offset: int, value: bytes) -> None:
        self._queue.put([value], offset)

    def clear(self) -> None:
        self._queue.clear()

    def needed_offset(self) -> int | None:
        letter = self._queue.next()
        return None if letter is None or not isinstance(letter.content, int) else letter.content

    def waiting(self) -> int:
        return self._queue.waiting


class AlertOutbox:
    """What is open."""

    def __init__(self, book: AlertBook, links: Links) -> None:
        self._book, self._links = book, links

    def put(self, offset: int, value: bytes, event: IncidentEvent) -> None:  # noqa: ARG002  (its state is sent)
        incident = event.data
        make = partial(alerts_of_incident, self._links, offset, incident)
        self._book.change(incident.incident, incident.severity, make, incident.status == "open")

    def end_all(self, offset: int, value: bytes) -> None:  # noqa: ARG002  (what is open is enough)
        self._book.end_all()

    def clear(self) -> None:
        self._book.clear()

    def needed_offset(self) -> int | None:
        return self._book.needed_offset

    def waiting(self) -> int:
        return 0  # it holds as many as are open, not as many as have come


class Delivery(NamedTuple):
    """A receiver, what waits for it, and the thread that sends it."""

    receiver: Receiver
    outbox: Outbox
    sender: Sender


class IncidentFeed:
    """A thread that reads the topic for one receiver."""

    def __init__(self, open_reader: Callable[[], Reader], to: Delivery, min_severity: str = SEVERITIES[0]) -> None:
        """open_reader: raises LogUnavailable. min_severity: what has not reached it is not sent."""
        self._open_reader, self._to = open_reader, to
        self._severities = SEVERITIES[SEVERITIES.index(min_severity) :]
        self._stopping = threading.Event()
        self._position: int | None = None  # everything before it was handed over; None: another member has the topic
        self._committed: int | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"incidents-{to.receiver.kind}", daemon=True)

    @property
    def notified(self) -> Notified:
        return self._to.sender.notified

    @property
    def kind(self) -> str:
        return self._to.receiver.kind

    def check(self) -> None:
        """Raises what ended the thread, if anything did."""
        if self._failed is not None:
            raise self._failed

    def start(self) -> None:
        self._to.sender.start()
        self._thread.start()

    def stop(self) -> None:
        """Send what waits as far as the receiver takes it, commit what it took, and end."""
        self._to.sender.stop()
        self._to.sender.join(STOP_WITHIN_S)
        self._stopping.set()
        self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._read()
                except LogUnavailable as error:
                    logger.warning("incident_feed_interrupted", receiver=self._to.receiver.name, reason=str(error))
                    self._stopping.wait(REOPEN_AFTER_S)
        except BaseException as error:
            self._failed = error
            raise

    def _read(self) -> None:
        reader = self._open_reader()
        try:
            while not self._stopping.is_set():
                self.turn(reader)
            self._commit(reader)
        finally:
            reader.close()

    def turn(self, reader: Reader) -> None:
        """One round: read some, hand it over, commit what is done."""
        outbox = self._to.outbox
        read = reader.poll(POLL_S, outbox.waiting() < MOST_WAITING)
        if not read.holds or read.began:
            outbox.clear()
            self._committed = None
        self._position = read.position if read.holds else None
        if not read.holds:
            return
        if read.began:
            offset = read.values[0][0] if read.values else read.position
            logger.info("incident_feed_began", receiver=self._to.receiver.name, offset=offset)
        for offset, value in read.values:
            event = _incident_of(value)
            if event is None and decode_lost(value) is not None:
                outbox.end_all(offset, value)
            elif event is not None and event.data.notified and event.data.severity in self._severities:
                outbox.put(offset, value, event)
        if read.values:
            self._to.sender.wake()
        self._commit(reader)

    def _commit(self, reader: Reader) -> None:
        needed = self._to.outbox.needed_offset()
        done = self._position if needed is None else needed
        if done is None or done == self._committed:
            return
        try:
            reader.commit(done)
        except TaskMigrated as error:
            logger.warning("incident_feed_migrated", receiver=self._to.receiver.name, reason=str(error))
        else:
            self._committed = done


def feeds_check(feeds: Sequence[IncidentFeed]) -> None:
    """Raises what ended one of them."""
    for feed in feeds:
        feed.check()


def _incident_of(value: bytes) -> IncidentEvent | None:
    """None: it is of something else, such as a control."""
    try:
        return decode_incident(value)
    except msgspec.MsgspecError:
        return None
