"""HTTP in a process of its own, so that answering takes neither the judging thread's lock nor its processor.

It is a fork of the worker's process, made when the checkpoint is loaded and before there are threads: what is loaded is
shared, and what it has for itself is a tenth of what a fresh one would. What it may take of a processor is bounded (see
turns), and its priority is the worker's: with a lower one, probes wait for seconds where the machine has much else to
do. It lives as long as the worker does: where the worker ends in order, so does it, after its last answers; where it is
killed, it is killed too. Where it ends by itself, the worker says so, and ends.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence

import structlog

from service.http.server import STOP_WITHIN_S, Server
from service.http.web_link import WebEnd, WorkerEnd
from service.http.web_messages import Link
from service.live.metrics import Metrics
from service.live.status import StatusBoard
from service.live.streams import Tables
from service.live.watching import Views

START_WITHIN_S = 60.0
WATCH_S = 0.2  # between two looks whether its servers still run
GRACE_S = 1.0  # beyond what a server takes to stop
PR_SET_PDEATHSIG = 1  # linux/prctl.h
OBEYS_THE_WORKER = (signal.SIGINT, signal.SIGTERM)  # come to all of a terminal's processes, or of a unit's

logger = structlog.get_logger("telltale.http")


class WebProcess:
    """The other process, as the worker's sees it."""

    def __init__(
        self,
        board: StatusBoard,
        metrics: Metrics,
        streams: Tables,
        watching: Views,
        servers: Callable[[WebEnd], Sequence[Server]],
    ) -> None:
        """servers: given what the other process knows the worker by; its copies of board and metrics follow these."""
        ours, theirs = socket.socketpair()
        self._link, self._web_link = Link(ours), Link(theirs)
        self._worker_end = WorkerEnd(self._link, board, metrics, streams, watching)
        self._web_end = WebEnd(self._web_link, board, metrics)
        self._servers = servers(self._web_end)
        self._pid: int | None = None
        self._stopping = False

    def start(self) -> None:
        """Returns once requests are answered. Raises RefusedSetting where an address cannot be had."""
        for server in self._servers:
            server.listen()
        gc.collect()
        gc.freeze()  # what is loaded by now lives as long as both processes, and stays shared
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, OBEYS_THE_WORKER)
        worker = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of any thread: numpy's and torch's own pools have theirs, and are made for a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _be(lambda: self._serve(worker))
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        self._web_link.close()
        for server in self._servers:
            server.leave()
        self._worker_end.start()
        if not self._worker_end.up.wait(START_WITHIN_S) or self.failed:
            self.stop()
            raise RuntimeError(f"the process that serves HTTP did not come up in {START_WITHIN_S:.0f} s")
        for server in self._servers:
            server.announce()

    @property
    def failed(self) -> bool:
        """Whether it has ended without being asked to."""
        return not self._stopping and self._worker_end.ended.is_set()

    def stop(self) -> None:
        """Let it answer what is under way, and end. Safe to call twice."""
        self._stopping = True
        if self._pid is None:
            return
        self._link.finish()
        if not self._worker_end.ended.wait(STOP_WITHIN_S + GRACE_S):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._pid = None
        self._link.close()

    def _serve(self, worker: int) -> int:
        """What the other process does; returns its exit code."""
        for number in OBEYS_THE_WORKER:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OBEYS_THE_WORKER)
        _die_with(worker)
        self._link.close()
        for server in self._servers:
            server.start()
        self._web_end.start()
        while not self._web_end.ended.wait(WATCH_S):
            if any(server.failed for server in self._servers):
                return 1
        for server in self._servers:
            server.stop()
        return 0


def _be(serve: Callable[[], int]) -> None:
    """The rest of this process, which must not return into what the worker's does."""
    code = 1
    try:
        code = serve()
    except BaseException:
        logger.exception("http_failed")
    finally:
        os._exit(code)


def _die_with(worker: int) -> None:
    """Be killed when the worker dies, also while this process hangs or is stopped."""
    if sys.platform != "linux":
        return  # the end of the line says so there, to a process that reads it
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        os._exit(1)  # it has died meanwhile
