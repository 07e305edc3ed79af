"""Events from their topic to one receiver, at least once, whatever ends the process.

Each receiver is a consumer group of its own, so that one that is away holds up no other; the processes of one service
share a topic's partitions. An offset is committed only so far that what is behind it need not be sent again: to a
webhook, what it took; to Alertmanager, what is neither open nor waits to be sent, since an alert has to be repeated as
long as it lasts. After a restart what comes behind that offset is read again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog

from service.errors import LogUnavailable, TaskMigrated
from service.live.status import Notified
from service.notify.delivery import Receiver, Sender, join_all
from service.notify.reader import Read, Reader

POLL_S = 0.5
MOST_WAITING = 1_000  # then nothing more is read until the receiver has taken some
REOPEN_AFTER_S = 5.0
STOP_WITHIN_S = 3.0

logger = structlog.get_logger("telltale.delivery")


class Outbox(Protocol):
    """What waits for a receiver, and how far the topic need not be read again for it."""

    def put(self, partition: int, offset: int, value: bytes) -> None:
        """A record of the topic; what is not for the receiver is passed over."""

    def clear(self) -> None: ...

    def needed_offsets(self) -> Mapping[int, int]:
        """Of each partition the lowest that is to be read again; none of those of which all is done."""

    def waiting(self) -> int: ...


class Delivery(NamedTuple):
    """A receiver, what waits for it, and the thread that sends it."""

    receiver: Receiver
    outbox: Outbox
    sender: Sender


class EventFeed:
    """A thread that reads the topic for one receiver."""

    def __init__(
        self,
        topic: str,
        open_reader: Callable[[], Reader],
        to: Delivery,
        reopen_after_s: float = REOPEN_AFTER_S,
    ) -> None:
        """open_reader: raises LogUnavailable."""
        self._reopen_after_s = reopen_after_s
        self._topic, self._open_reader, self._to = topic, open_reader, to
        self._stopping = threading.Event()
        self._positions: Mapping[int, int] = {}  # everything before them was handed over
        self._reader: Reader | None = None
        self._failed: BaseException | None = None
        self._interruptions, self._is_interrupted = 0, False
        self._thread = threading.Thread(target=self._run, name=f"{topic}-{to.receiver.kind}", daemon=True)

    @property
    def notified(self) -> Notified:
        interruptions, interrupted = self._interruptions, int(self._is_interrupted)
        return self._to.sender.notified._replace(interruptions=interruptions, interrupted=interrupted)

    @property
    def kind(self) -> str:
        return self._to.receiver.kind

    def check(self) -> None:
        """Raises what ended the thread, if anything did."""
        if self._failed is not None:
            raise self._failed

    def start(self) -> None:
        """What comes to the topic from now on is sent, also where it is read for this receiver for the first time."""
        try:
            self._reader = self._open_reader()
        except LogUnavailable as error:  # it is tried again; judging does not wait for it
            self._say_interrupted(error)
        self._to.sender.start()
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._read()
                except LogUnavailable as error:
                    self._say_interrupted(error)
                    self._stopping.wait(self._reopen_after_s)
        except BaseException as error:
            self._failed = error
            raise

    def _read(self) -> None:
        reader, self._reader = self._reader or self._open_reader(), None
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
        self._is_interrupted = False
        if read.began or not read.positions:
            outbox.clear()
        self._positions = read.positions
        if read.began:
            self._say_began(read)
        for partition, offset, value in read.values:
            outbox.put(partition, offset, value)
        if read.values:
            self._to.sender.wake()
        self._commit(reader)

    def _commit(self, reader: Reader) -> None:
        needed = self._to.outbox.needed_offsets()
        done = {number: needed.get(number, position) for number, position in self._positions.items()}
        try:
            reader.commit(done)
        except TaskMigrated as error:
            logger.warning("event_feed_migrated", topic=self._topic, receiver=self._name, reason=str(error))

    @property
    def _name(self) -> str:
        return self._to.receiver.name

    def _say_began(self, read: Read) -> None:
        first = {**read.positions, **{partition: offset for partition, offset, _ in reversed(read.values)}}
        logger.info("event_feed_began", topic=self._topic, receiver=self._name, offsets=first)

    def _say_interrupted(self, error: LogUnavailable) -> None:
        self._interruptions += 1
        self._is_interrupted = True
        logger.warning("event_feed_interrupted", topic=self._topic, receiver=self._name, reason=str(error))

    def stop_reading(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        self._thread.join(STOP_WITHIN_S)

    @property
    def sender(self) -> Sender:
        return self._to.sender


def check_feeds(feeds: Sequence[EventFeed]) -> None:
    """Raises what ended one of them."""
    for feed in feeds:
        feed.check()


def stop_feeds(feeds: Sequence[EventFeed], beside: Sequence[Sender] = ()) -> None:
    """Send what waits as far as receivers take it, commit what they took, and end. beside: who ends with them."""
    join_all([*beside, *(feed.sender for feed in feeds)], STOP_WITHIN_S)
    for feed in feeds:
        feed.stop_reading()
    for feed in feeds:
        feed.join()
