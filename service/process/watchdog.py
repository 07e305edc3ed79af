"""The watchdog: ends a process whose worker's loop does not come round any more.

The Kafka client's commit, abort and send_offsets have no time limit of their own, so a worker can wait for ever, with
its partitions. Nothing in the process could be trusted to undo that: it ends, and a restart is the recovery.
"""

import faulthandler
import math
import os
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

EXIT_STUCK = os.EX_SOFTWARE  # 70
BEAT_LIMIT_S = 60.0  # a round that takes longer will not end: only a restart helps
INTERVAL_S = 1.0
LAST_WORDS_S = 2.0  # for the log line and the stacks: a worker may be stuck because no one reads stderr
STDERR = 2

logger = structlog.get_logger("telltale.watchdog")


class Beat(Protocol):
    """What is known of a loop."""

    @property
    def beat_s(self) -> float:
        """time.monotonic() when it last came round."""

    @property
    def state(self) -> str:
        """What it does, for the last words."""


class Board(Protocol):
    """Where a loop leaves word."""

    def read(self) -> Beat:
        """As it is now."""


def end_process() -> None:
    """At once: nothing is flushed, nothing is waited for, a commit that hangs least of all."""
    os._exit(EXIT_STUCK)


class Watchdog:
    """Looks at the board every interval, and calls `end` once when the worker's beat has stood still too often.

    It counts its own looks and reads no clock: a process that was stopped and goes on has looked no more often than
    its worker could come round, however late it is meanwhile.
    """

    def __init__(
        self,
        board: Board,
        limit_s: float,
        end: Callable[[], None] = end_process,
        interval_s: float = INTERVAL_S,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """wait: for that many seconds; True: stop looking. Unset: until stop() is called."""
        self._stopped = threading.Event()
        self._board = board
        self._end = end
        self._interval_s = interval_s
        self._wait = wait or self._stopped.wait
        # The look right after a stopped process goes on proves nothing: one is never enough.
        self._patience = max(2, math.ceil(limit_s / interval_s))
        self._thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when it is certain that the process will not be ended any more."""
        self._stopped.set()
        self._thread.join()

    def watch(self) -> None:
        """What the thread does: until it is stopped, or the worker is stuck."""
        beat_s, silent = self._board.read().beat_s, 0
        while not self._wait(self._interval_s):
            last_s, beat_s = beat_s, self._board.read().beat_s
            silent = silent + 1 if beat_s == last_s else 0
            if silent >= self._patience:
                self._say_and_end(silent * self._interval_s)
                return

    def _say_and_end(self, silent_s: float) -> None:
        state = self._board.read().state
        say_and_end(lambda: _last_words(silent_s, state), self._end)


def say_and_end(say: Callable[[], None], end: Callable[[], None], within_s: float = LAST_WORDS_S) -> None:
    """The end comes whether or not anybody listens to what is said before it."""
    words = threading.Thread(target=say, daemon=True)
    try:
        words.start()  # fails where no more threads are to be had
        words.join(within_s)
    finally:
        end()


def _last_words(silent_s: float, state: str) -> None:
    """The stacks first: they need no lock that the worker could hold."""
    os.write(STDERR, _stacks())
    logger.critical("worker_stuck", silent_s=silent_s, state=state, exit_code=EXIT_STUCK)


def _stacks() -> bytes:
    """Where every thread is.

    faulthandler writes without letting other threads run: to a full stderr that would be for ever. So it writes to a
    pipe that cuts off what it has no room for.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    faulthandler.dump_traceback(writing, all_threads=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()
