"""Judged readings from the topic of scores to a receiver of Prometheus' remote write, at least once.

One thread reads, sends, and commits what was taken. While a receiver does not take what it is sent, nothing more is
read: the topic keeps it. A receiver refuses a request as a whole for one sample that it cannot take, such as one that
is older than what it has; so what is refused is sent again in halves, down to the reading that is to blame.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from service.errors import TaskMigrated, TelltaleError
from service.host.log_lines import Seldom
from service.notify.delivery import FIRST_RETRY_S, LAST_RETRY_S, Letter, RefusedMessage, Undelivered
from service.notify.reader import Read, Reader
from service.notify.remote_write import NoScore, SampledReading, sampled, write_letter
from service.stages.progress import StageStatus

POLL_S = 0.5

logger = structlog.get_logger("telltale.scores")


@dataclass(slots=True)
class FeedStatus(StageStatus):
    """And what waits."""

    waiting: int = 0  # readings that were read and not taken yet


class ScoreFeed:
    """Drives one reader until it is told to stop."""

    def __init__(
        self,
        reader: Reader,
        post: Callable[[Letter], None],
        stop: threading.Event,
        retry_s: tuple[float, float] = (FIRST_RETRY_S, LAST_RETRY_S),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """post: see Receiver.post. retry_s: the first pause after a failure, and the longest; each is twice the one
        before.
        """
        self._reader, self._post, self._stop, self._monotonic = reader, post, stop, monotonic
        self._parts: deque[Sequence[SampledReading]] = deque()  # each of them a request, in order
        self._retry_s, self._pause_s, self._due_s = retry_s, retry_s[0], monotonic()
        self._seldom = Seldom(interval_s=60.0)
        self.status = FeedStatus(beat_s=monotonic())

    def read(self) -> FeedStatus:
        """What the watchdog looks at."""
        return self.status

    def run(self, written: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set. What was not taken by then is read again by the next one."""
        try:
            while not self._stop.is_set():
                self.turn()
            written()
        finally:
            self._reader.close()

    def turn(self, timeout_s: float = POLL_S) -> None:
        """One round: read some if all that was read is done, send it, commit it."""
        read = self._reader.poll(timeout_s, more=not self._parts)
        if read.began:
            self._parts.clear()
        readings = [reading for *_, value in read.values if (reading := self._reading(value)) is not None]
        if readings:
            self._parts.append(readings)
        try:
            while self._parts and self._monotonic() >= self._due_s and not self._stop.is_set():
                self._send(self._parts.popleft())
                self.status.beat_s = self._monotonic()
            if not self._parts:
                self._reader.commit(read.positions)
        except TaskMigrated as migrated:  # who has them now sends from what is committed
            logger.warning("score_feed_migrated", reason=str(migrated))
            self.status.counts["migrations"] += 1
        self._report(read)

    def _reading(self, value: bytes) -> SampledReading | None:
        try:
            return sampled(value)
        except NoScore as error:
            self.status.counts["rejected"] += 1
            self._say("score_rejected", error)
            return None

    def _send(self, part: Sequence[SampledReading]) -> None:
        counts = self.status.counts
        try:
            self._post(write_letter(part))
        except Undelivered as error:
            counts["failures"] += 1
            self._parts.appendleft(part)
            self._due_s = self._monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, self._retry_s[1])
            self._say("remote_write_failed", error)
            return
        except RefusedMessage as error:
            middle = len(part) // 2
            if middle:
                self._parts.extendleft((part[middle:], part[:middle]))
            else:
                counts["refused"] += 1
                self._say("remote_write_refused", error)
        else:
            counts["readings"] += len(part)
        self._pause_s = self._retry_s[0]

    def _say(self, event: str, error: TelltaleError | NoScore) -> None:
        held_back = self._seldom.pass_on(event)
        if held_back is not None:
            logger.warning(event, reason=str(error), more_since_last=held_back)

    def _report(self, read: Read) -> None:
        status = self.status
        status.beat_s = self._monotonic()
        status.state = "running" if read.positions else "waiting"
        status.lag_records = self._reader.lag_records
        status.waiting = sum(map(len, self._parts))
