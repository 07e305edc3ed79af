"""HTTP in a process of its own, so that answering takes neither a judging thread's lock nor its processor.

It is a fork, made when the checkpoint is loaded and before there are threads: what is loaded is shared, and what it has
for itself is a tenth of what a fresh one would. What it may take of a processor is bounded (see turns), and its
priority is the worker's: with a lower one, probes wait for seconds where the machine has much else to do. Where its
parent ends in order, so does it, after its last answers; where that is killed, it is killed too. Its parent is the
worker, which ends if this process ends by itself; or the supervisor of several workers, which then makes another.
"""

import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence

from service.host.forks import fork
from service.http.control import Introduced, Supervised, orders
from service.http.incident_list import FollowedIncidents
from service.http.past_process import PastProcess
from service.http.server import STOP_WITHIN_S, Server
from service.http.web_link import WorkerEnd
from service.http.web_messages import Link
from service.http.workers import Workers
from service.live.metrics import Metrics
from service.live.status import StatusBoard
from service.live.streams import Tables
from service.live.watching import Views

START_WITHIN_S = 60.0
WATCH_S = 0.2  # between two looks whether its servers still run
GRACE_S = 1.0  # beyond what a server takes to stop


class WebProcess:
    """The other process, as the only worker's sees it."""

    def __init__(
        self,
        board: StatusBoard,
        metrics: Metrics,
        streams: Tables,
        watching: Views,
        workers: Workers,
        servers: Sequence[Server],
        past: PastProcess,
        incidents: FollowedIncidents,
    ) -> None:
        """workers: what the servers know the worker by in the other process, where its board and metrics are copies.

        past: what looks back for the other process. incidents: what follows their topic in it.
        """
        ours, theirs = socket.socketpair()
        self._link, self._web_link = Link(ours), Link(theirs)
        self._worker_end = WorkerEnd(self._link, board, metrics, streams, watching)
        self._workers = workers
        self._servers = servers
        self._past = past
        self._incidents = incidents
        self._pid: int | None = None
        self._stopping = False

    def start(self) -> None:
        """Returns once requests are answered. Raises RefusedSetting where an address cannot be had."""
        for server in self._servers:
            server.listen()
        gc.collect()
        gc.freeze()  # what is loaded by now lives as long as both processes, and stays shared
        self._pid = fork(self._serve)
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

    def _serve(self) -> int:
        """What the other process does; returns its exit code."""
        self._link.close()
        self._past.start(self._leave)
        ended = threading.Event()
        return serve(
            self._servers,
            self._past,
            self._incidents,
            lambda: self._workers.connect(self._web_link, ended.set),
            ended,
        )

    def _leave(self) -> None:
        self._web_link.close()
        for server in self._servers:
            server.leave()


def serve_supervised(
    servers: Sequence[Server],
    past: PastProcess,
    incidents: FollowedIncidents,
    workers: Workers,
    control: socket.socket,
) -> int:
    """What the process does whose workers a supervisor starts; returns its exit code."""

    def leave() -> None:
        control.close()
        for server in servers:
            server.leave()

    past.start(leave)
    ended = threading.Event()

    def obey() -> None:
        try:
            for order, link in orders(control):
                if isinstance(order, Introduced) and link is not None:
                    workers.connect(Link(link))
                elif isinstance(order, Supervised):
                    workers.supervise(order.processes)
                else:
                    return
        finally:
            ended.set()

    return serve(servers, past, incidents, threading.Thread(target=obey, name="control", daemon=True).start, ended)


def serve(
    servers: Sequence[Server],
    past: PastProcess,
    incidents: FollowedIncidents,
    listen: Callable[[], object],
    ended: threading.Event,
) -> int:
    """Answer until `ended` is set. listen: called once requests are answered."""
    for server in servers:
        server.start()
    listen()
    incidents.start()
    try:
        while not ended.wait(WATCH_S):
            if any(server.failed for server in servers):
                return 1
        for server in servers:
            server.stop()
        return 0
    finally:
        incidents.stop()
        past.stop()
