"""The watchdog: looks are counted here, one by one; whole processes are ended where only that shows the truth."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState
from service.process.watchdog import EXIT_STUCK, Watchdog

ROOT = Path(__file__).parents[3]
CHECKPOINT = CheckpointStatus("plant.safetensors", "abc", ("a",))
ENDS_WITHIN_S = 180.0

PROGRAM = """
import os, select, sys, threading, time
from service.host.log_lines import configure
from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState
from service.process.watchdog import Watchdog

configure("INFO", "json")

def status():
    return Status(WorkerState.RUNNING, 0, 0, time.monotonic(), CheckpointStatus("plant.safetensors", "abc", ("a",)))

board = StatusBoard(status())
watchdog = Watchdog(board, limit_s=0.5, interval_s=0.05)
watchdog.start()

def worker_that_comes_round():
    print("beating", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        board.publish(status())
    watchdog.stop()

def worker_that_hangs():
    threading.Event().wait()

def worker_that_hangs_because_no_one_reads_stderr():
    os.set_blocking(2, False)
    try:
        while True:
            os.write(2, bytes(1024))
    except BlockingIOError:
        os.set_blocking(2, True)
    print("full", file=sys.stderr)
"""


def status(beat_s: float, state: WorkerState = WorkerState.RUNNING) -> Status:
    return Status(state, 0, 0, beat_s, CHECKPOINT)


class Script:
    """What happens before each look of a watchdog; when it is through, the watchdog is stopped."""

    def __init__(self, *happens: Callable[[], None]) -> None:
        self.asked_s: list[float] = []
        self._happens: Iterator[Callable[[], None]] = iter(happens)

    def __call__(self, seconds: float) -> bool:
        self.asked_s.append(seconds)
        happens = next(self._happens, None)
        if happens is None:
            return True
        happens()
        return False


class Watched:
    """A board and what was done to the process."""

    def __init__(self) -> None:
        self.board = StatusBoard(status(0.0))
        self.beats = 0
        self.ended = 0

    def beat(self) -> None:
        self.beats += 1
        self.board.publish(status(float(self.beats)))

    def publish_without_a_beat(self) -> None:
        self.board.publish(status(float(self.beats), WorkerState.STOPPING))

    def end(self) -> None:
        self.ended += 1

    def nothing(self) -> None:
        pass

    def watch(self, script: Script, limit_s: float = 4.0, interval_s: float = 1.0) -> int:
        with capture_logs() as self.lines:
            Watchdog(self.board, limit_s, self.end, interval_s, script).watch()
        return self.ended


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_worker_that_does_not_come_round_is_ended_once(watched: Watched) -> None:
    script = Script(*[watched.nothing] * 10)
    assert watched.watch(script) == 1
    assert script.asked_s == [1.0] * 4


def test_looks_short_of_the_limit_end_nothing(watched: Watched) -> None:
    assert watched.watch(Script(*[watched.nothing] * 3)) == 0


def test_a_worker_that_comes_round_just_in_time_goes_on(watched: Watched) -> None:
    assert watched.watch(Script(*[*[watched.nothing] * 3, watched.beat] * 50)) == 0


def test_it_looks_again_from_the_start_after_a_beat(watched: Watched) -> None:
    script = Script(*[watched.nothing] * 3, watched.beat, *[watched.nothing] * 9)
    assert watched.watch(script) == 1
    assert len(script.asked_s) == 3 + 1 + 4


def test_a_status_published_without_a_beat_is_no_sign_of_life(watched: Watched) -> None:
    assert watched.watch(Script(*[watched.publish_without_a_beat] * 4)) == 1


@pytest.mark.parametrize(
    ("limit_s", "interval_s", "looks"), [(60.0, 1.0, 60), (0.5, 0.2, 3), (1.0, 1.0, 2), (0.1, 5.0, 2)]
)
def test_the_limit_is_so_many_looks_and_one_is_never_enough(
    watched: Watched, limit_s: float, interval_s: float, looks: int
) -> None:
    script = Script(*[watched.nothing] * 100)
    assert watched.watch(script, limit_s, interval_s) == 1
    assert script.asked_s == [interval_s] * looks


def test_what_was_found_is_said_before_the_end(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    watched.watch(Script(*[watched.nothing] * 4))
    (line,) = watched.lines
    assert line == {
        "event": "worker_stuck",
        "log_level": "critical",
        "silent_s": 4.0,
        "state": WorkerState.RUNNING,
        "exit_code": EXIT_STUCK,
    }
    assert "in test_what_was_found_is_said_before_the_end" in capfd.readouterr().err


def test_a_watchdog_that_was_stopped_looks_no_more(watched: Watched) -> None:
    watchdog = Watchdog(watched.board, 60.0, watched.end)
    watchdog.start()
    watchdog.stop()
    assert watched.ended == 0


def process(worker: str) -> subprocess.Popen[bytes]:
    """A process with a watchdog of its own, and this worker."""
    command, pipe = [sys.executable, "-c", f"{PROGRAM}\n{worker}()\n"], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT)


def wait_for_the_watchdog_of_another_process() -> None:
    """So long that a watchdog with the same limit could have done its work too."""
    with process("worker_that_hangs") as other:
        other.communicate(timeout=ENDS_WITHIN_S)
    assert other.returncode == EXIT_STUCK


@pytest.mark.slow
def test_a_stuck_process_ends_and_says_where_it_was() -> None:
    with process("worker_that_hangs") as stuck:
        _, said = stuck.communicate(timeout=ENDS_WITHIN_S)
    assert stuck.returncode == EXIT_STUCK == 70
    assert b'"event": "worker_stuck"' in said
    assert b"in worker_that_hangs" in said


@pytest.mark.slow
def test_a_process_ends_also_when_no_one_reads_what_it_says() -> None:
    with process("worker_that_hangs_because_no_one_reads_stderr") as stuck:
        assert stuck.wait(ENDS_WITHIN_S) == EXIT_STUCK


@pytest.mark.slow
def test_a_process_that_was_stopped_longer_than_the_limit_goes_on() -> None:
    with process("worker_that_comes_round") as stopped:
        assert stopped.stdin
        assert stopped.stdout
        assert stopped.stdout.readline() == b"beating\n"
        os.kill(stopped.pid, signal.SIGSTOP)
        wait_for_the_watchdog_of_another_process()
        os.kill(stopped.pid, signal.SIGCONT)
        wait_for_the_watchdog_of_another_process()
        _, said = stopped.communicate(b"end\n", timeout=ENDS_WITHIN_S)
    assert stopped.returncode == 0, said
    assert said == b""
