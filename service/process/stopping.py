"""Told to stop by a signal: in good order, and in any case soon.

Whatever the process waits for when the signal comes, or begins to wait for after it (a poll, a commit, a look-up of
offsets, the group, connections that close), a broker that hangs could make it wait for longer than anybody grants it.
The Kafka client's waits cannot be cut short from outside, so the process ends with them: what is not committed by then
is judged again, as after any crash.
"""

import os
import signal
import threading
from collections.abc import Callable

import structlog

from service.process.watchdog import say_and_end

STOP_WITHIN_S = 4.0  # from the signal to the end: 10 s are what containers are granted, 5 s what is promised
LAST_WORDS_S = 0.5
EXIT_FAILED = 1

logger = structlog.get_logger("telltale")


class Stopping:
    """The first SIGTERM or Ctrl-C sets `requested`; a second one ends the process at once.

    So does a first one that comes before judging has begun: nothing is there to be written.
    """

    def __init__(self, within_s: float = STOP_WITHIN_S, end: Callable[[int], None] = os._exit) -> None:
        self.requested = threading.Event()
        self._judging, self._written = threading.Event(), threading.Event()
        self._within_s = within_s
        self._end = end

    def listen(self) -> None:
        """From the main thread, before anything that may hang."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: self._receive(received))

    def stop(self) -> None:
        """As a signal does, in a process that is told by its supervisor."""
        self._receive(signal.SIGTERM)

    def note_judging(self) -> None:
        """From now on a stop is worth waiting for. To be called after the last fork: a thread begins."""
        threading.Thread(target=self._watch, name="stopping", daemon=True).start()
        self._judging.set()

    def note_written(self) -> None:
        """All that was judged is committed, and all state is written: nothing is left but to close."""
        self._written.set()

    def _receive(self, number: int) -> None:
        if self.requested.is_set() or not self._judging.is_set():
            self._end(128 + number)
        self.requested.set()
        logger.info("stopping", signal=signal.Signals(number).name)

    def _watch(self) -> None:
        self.requested.wait()
        threading.Event().wait(self._within_s)  # the process ends meanwhile, and this thread with it
        code = 0 if self._written.is_set() else EXIT_FAILED
        say_and_end(lambda: _last_words(self._within_s, code), lambda: self._end(code), LAST_WORDS_S)


def _last_words(within_s: float, code: int) -> None:
    if code:
        logger.error(
            "stop_cut_short",
            after_s=within_s,
            exit_code=code,
            detail="the brokers did not answer in time: what could not be written is judged again at the next start",
        )
    else:
        logger.warning(
            "stop_cut_short", after_s=within_s, exit_code=code, detail="all is written, but not all is closed"
        )
