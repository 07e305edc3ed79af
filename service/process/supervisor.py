"""The supervisor: starts the processes of a service that has several, and starts again what ends.

It has one thread, so that it may fork at any time, holds no connection to Kafka, and judges nothing. A worker is a
member of the group under a name of its own (group.instance.id), so one that is back at once has its partitions back
without a rebalance; one that is not is taken out of the group, so that the others have them.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from service.host.forks import fork
from service.http.control import Control, Introduced, Order, Stop, Supervised
from service.live.status import ProcessState, WorkerProcess
from service.process.backoff import Backoff

NO_WORKER = 0  # the number of every other process; workers are numbered from 1
STOP_WORKERS_WITHIN_S = 4.6  # they end by themselves within 4.5
STOP_ALL_WITHIN_S = 4.9
LEAVES_GROUP_AFTER_S = 1.0  # who waits longer for its start is taken out of the group
LEAVES_GROUP_WITHIN_S = 15.0
EXIT_FAILED, EXIT_REFUSED = 1, 2
EXIT_HOPELESS = os.EX_DATAERR  # of a worker that would end in the same way again: a person decides

NOTHING_BESIDE: Mapping[str, Callable[[socket.socket], int]] = {}

logger = structlog.get_logger("telltale.supervisor")


@dataclass(slots=True)
class _Process:
    """One that is to be there. pid, control: of the run that is under way, if there is one."""

    number: int
    name: int | str  # in the log: a worker's number, or what else it is
    run: Callable[[socket.socket], int]
    pid: int | None = None
    control: Control | None = None
    due_s: float | None = 0.0  # when it is to be started; None: it runs, or is not to be started any more
    started_s: float = 0.0
    started_ms: int = 0
    restarts: int = -1
    lost: bool = False
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def state(self) -> ProcessState:
        if self.lost:
            return ProcessState.LOST
        return ProcessState.WAITING if self.pid is None else ProcessState.RUNNING

    def say(self, order: Order, link: socket.socket | None = None) -> None:
        if self.control is not None:
            self.control.say(order, link)


class Supervisor:
    """Of `count` workers, of the process that answers HTTP for all of them, and of what else runs beside them."""

    def __init__(
        self,
        count: int,
        work: Callable[[int, socket.socket], int],
        serve: Callable[[socket.socket], int] | None,
        leave_group: Callable[[int], int],
        beside: Mapping[str, Callable[[socket.socket], int]] = NOTHING_BESIDE,
    ) -> None:
        """Each is run in a process of its own and returns its exit code.

        work: the worker of this number. serve: answers HTTP; None: nothing does. leave_group: takes the worker of this
        number out of the group. beside: by name, what runs as long as the workers do; where one of them cannot be kept
        running, the service ends. The socket is the end of a control, see service.http.control.
        """
        self._workers = [_Process(number, number, _numbered(work, number)) for number in range(1, count + 1)]
        self._web = None if serve is None else _Process(NO_WORKER, "http", serve)
        self._beside = [_Process(NO_WORKER, name, run) for name, run in beside.items()]
        self._leave_group = leave_group
        self._leaving: dict[int, float] = {}  # pids of processes that do this, and until when they may
        self._stop_number: int | None = None
        self._stop_s = 0.0
        self._code = 0

    def run(self) -> int:
        """Until a signal stops it; returns the exit code: 1 where a worker was lost, or did not end in order."""
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for heard in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(heard, lambda _number, _frame: None)  # select ends, and reads which it was
        while True:
            self._start_due()
            if not any(one.pid for one in self._processes) and not self._dues:
                break
            select.select([self._wake], [], [], self._rest_s())
            for number in self._signals():
                self._receive(number)
            self._reap()
            self._end_late()
        for pid in self._leaving:
            _kill(pid)
        signal.set_wakeup_fd(-1)
        logger.info("stopped", exit_code=self._code)
        return self._code

    @property
    def _processes(self) -> list[_Process]:
        return [*([] if self._web is None else [self._web]), *self._watched]

    @property
    def _watched(self) -> list[_Process]:
        """Those that are done before the one that answers HTTP, by which their end can be seen."""
        return [*self._workers, *self._beside]

    @property
    def _dues(self) -> list[float]:
        return [one.due_s for one in self._processes if one.due_s is not None]

    def _rest_s(self) -> float | None:
        """Until there is something to do though no signal has come; None: nothing."""
        ends = [self._stop_s + STOP_WORKERS_WITHIN_S, self._stop_s + STOP_ALL_WITHIN_S] if self._stops else []
        now_s = time.monotonic()
        dues = [*self._dues, *self._leaving.values(), *(end for end in ends if end > now_s)]
        return max(0.0, min(dues) - now_s) if dues else None

    def _signals(self) -> Iterator[int]:
        try:
            yield from os.read(self._wake, 4096)
        except BlockingIOError:
            return

    # --- starting

    def _start_due(self) -> None:
        for one in self._processes:
            if one.due_s is not None and one.due_s <= time.monotonic():
                self._start(one)

    def _start(self, process: _Process) -> None:
        ours, theirs = socket.socketpair()
        others = [one.control for one in self._processes if one.control is not None]

        def run() -> int:
            for descriptor in (self._wake, self._waker):
                os.close(descriptor)
            ours.close()
            for other in others:
                other.close()
            return process.run(theirs)

        process.started_s, process.started_ms = time.monotonic(), time.time_ns() // 1_000_000
        try:
            process.pid = fork(run)
        except OSError as error:
            logger.warning("process_not_started", worker=process.name, reason=str(error))
            ours.close()
            self._put_off(process)
            return
        finally:
            theirs.close()
        process.due_s, process.control = None, Control(ours)
        process.restarts += 1
        for worker in self._workers:
            if process is worker or process is self._web:
                self._introduce(worker)
        self._report()

    def _introduce(self, worker: _Process) -> None:
        if self._web is None or self._web.pid is None or worker.pid is None:
            return
        ends = socket.socketpair()
        for one, end in zip((worker, self._web), ends, strict=True):
            one.say(Introduced(), end)
            end.close()

    def _report(self) -> None:
        if self._web is not None:
            self._web.say(Supervised(self.processes))

    @property
    def processes(self) -> list[WorkerProcess]:
        """The workers' as they are now."""
        return [
            WorkerProcess(one.number, one.state, one.pid, one.started_ms, max(0, one.restarts)) for one in self._workers
        ]

    # --- ends

    def _reap(self) -> None:
        for one in self._processes:
            if one.pid is not None and (code := _exit_code(one.pid)) is not None:
                self._note_end(one, code)
        for pid in list(self._leaving):
            if _exit_code(pid) is not None:
                del self._leaving[pid]

    def _note_end(self, process: _Process, code: int) -> None:
        process.pid = None
        if process.control is not None:
            process.control.close()
            process.control = None
        if self._stops:
            if process is not self._web:
                self._note_code(code)
            self._stop_web()
        elif process is not self._web and code in (EXIT_REFUSED, EXIT_HOPELESS):
            logger.error("worker_refused", worker=process.name, exit_code=code)
            self._code = EXIT_REFUSED if code == EXIT_REFUSED else EXIT_FAILED
            self._begin_stop(signal.SIGTERM)
        else:
            self._put_off(process, code)
        self._report()

    def _put_off(self, process: _Process, code: int | None = None) -> None:
        """Start it again, but not yet."""
        now_s = time.monotonic()
        wait_s = process.backoff.wait_s(now_s - process.started_s)
        process.due_s = None if wait_s is None else now_s + wait_s
        process.lost = wait_s is None
        name = process.name
        if wait_s is not None:
            logger.warning("process_ended", worker=name, exit_code=code, starts_again_in_s=round(wait_s, 1))
        else:
            logger.error("process_lost", worker=name, exit_code=code, restarts=process.restarts)
            self._code = EXIT_FAILED
        if process.number == NO_WORKER:
            if process.lost:
                self._begin_stop(signal.SIGTERM)  # no one could watch this service any more, or hear of it
        elif all(one.lost for one in self._workers):
            self._begin_stop(signal.SIGTERM)
        elif wait_s is None or wait_s > LEAVES_GROUP_AFTER_S:
            self._take_out_of_group(process.number)

    def _take_out_of_group(self, number: int) -> None:
        try:
            pid = fork(lambda: self._leave_group(number))
        except OSError as error:
            logger.warning("group_not_left", worker=number, reason=str(error))
        else:
            self._leaving[pid] = time.monotonic() + LEAVES_GROUP_WITHIN_S

    # --- stopping

    @property
    def _stops(self) -> bool:
        return self._stop_number is not None

    def _receive(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            return
        if self._stops:
            for one in self._processes:
                _kill(one.pid)
            os._exit(128 + number)
        logger.info("stopping", signal=signal.Signals(number).name)
        self._begin_stop(number)

    def _begin_stop(self, number: int) -> None:
        if self._stops:
            return
        self._stop_number, self._stop_s = number, time.monotonic()
        for one in self._processes:
            one.due_s = None
        for one in self._watched:
            one.say(Stop())
        self._stop_web()

    def _stop_web(self) -> None:
        """It is the last, so that the end of the others can be seen."""
        if self._web is not None and not any(one.pid for one in self._watched):
            self._web.say(Stop())

    def _end_late(self) -> None:
        now_s = time.monotonic()
        if self._stops:
            late_s = now_s - self._stop_s
            for one in self._processes:
                if late_s >= (STOP_ALL_WITHIN_S if one is self._web else STOP_WORKERS_WITHIN_S):
                    _kill(one.pid)
        for pid, until_s in self._leaving.items():
            if now_s >= until_s:
                _kill(pid)

    def _note_code(self, code: int) -> None:
        """Of a worker that was asked to stop."""
        if code == 128 + signal.SIGTERM:  # there was nothing to be written yet
            self._code = self._code or 128 + (self._stop_number or signal.SIGTERM)
        elif code:
            self._code = EXIT_FAILED


def _numbered(work: Callable[[int, socket.socket], int], number: int) -> Callable[[socket.socket], int]:
    return lambda control: work(number, control)


def _exit_code(pid: int) -> int | None:
    """Negative: the signal that ended it. None: it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _kill(pid: int | None) -> None:
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
