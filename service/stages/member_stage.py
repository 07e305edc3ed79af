"""The loop of a stage: poll, open and close, restore, take in and commit what is next, report.

One member of the group has all partitions. An unknown error ends the process: a restart is the recovery.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from service.errors import TaskMigrated
from service.log.port import Fetched, MemberLog, Partition, Polled
from service.stages.progress import StageStatus

POLL_S = 0.5  # longest wait for records: so soon a stop is noticed


class StageTask(Protocol):
    """What the owner of the partitions keeps, from their assignment to their revocation."""

    is_running: bool  # its state is restored


TaskT = TypeVar("TaskT", bound=StageTask)
StatusT = TypeVar("StatusT", bound=StageStatus)


class MemberStage(ABC, Generic[StatusT, TaskT]):
    """Drives one log until it is told to stop."""

    def __init__(
        self, log: MemberLog, status: StatusT, stop: threading.Event, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.status = status
        self._log, self._stop, self._monotonic = log, stop, monotonic
        self._owned: frozenset[Partition] = frozenset()
        self._task: TaskT | None = None
        status.beat_s = monotonic()

    def read(self) -> StatusT:
        """What the watchdog looks at."""
        return self.status

    def run(self, written: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set; the log is closed in any case. written: called when all is committed at the end."""
        try:
            while not self._stop.is_set():
                self._check()
                self.turn()
            written()
        finally:
            self._log.close()

    def turn(self, timeout_s: float = POLL_S) -> None:
        """One round: all that can be taken in by now is, so that no more than a poll brings is waiting."""
        polled = self._log.poll(self._wait_s_of(timeout_s))
        try:
            self._open_and_close(polled)
            task = self._task
            if task is not None and not task.is_running:
                self._restore(task)
            elif task is not None:
                self._put(task, polled.fetched)
                while self._advance(task) and not self._stop.is_set():
                    self.status.beat_s = self._monotonic()
        except TaskMigrated as migrated:
            self._say_migrated(str(migrated))
            self._task = None
            self.status.counts["migrations"] += 1
        self._report()

    def _wait_s_of(self, timeout_s: float) -> float:
        """How long to wait for records; what is left of the changelog is read at once."""
        return 0.0 if self._task is not None and not self._task.is_running else timeout_s

    def _check(self) -> None:
        """Called every round of run(); what it raises ends it."""

    @abstractmethod
    def _open_and_close(self, polled: Polled) -> None:
        """What is owned from now on."""

    @abstractmethod
    def _restore(self, task: TaskT) -> None:
        """Go on reading the state; when that was all, begin every partition."""

    @abstractmethod
    def _put(self, task: TaskT, fetched: Iterable[Fetched]) -> None:
        """What has come waits for its turn."""

    @abstractmethod
    def _advance(self, task: TaskT) -> bool:
        """Take in and commit what is next; False: that was all. Raises TaskMigrated."""

    @abstractmethod
    def _say_migrated(self, reason: str) -> None:
        """Another member may have the partitions."""

    @abstractmethod
    def _report(self) -> None:
        """Bring the status up to date."""
