"""The supervisor and its processes, as a program of their own: whole processes are killed and ended here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[3]
WITHIN_S = 60.0

PROGRAM = """
import contextlib, os, signal, sys, threading
from service.host import log_lines
from service.http.control import Introduced, Stop, Supervised, orders
from service.process import backoff, supervisor

part, folder = sys.argv[1:]
log_lines.configure("INFO", "json", stream=sys.stdout)
backoff.FIRST_S, backoff.MOST_IN_A_ROW = (2.0, 1) if part == "waits" else (0.01, 3)
if part == "deaf":
    supervisor.STOP_WORKERS_WITHIN_S = 0.3

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def first(name):
    try:
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def work(number, control):
    say("up", number, os.getpid())
    if number == 2:
        if part == "dies once" and first("died") or part in ("dies", "waits"):
            os.kill(os.getpid(), signal.SIGKILL)
        if part == "refused":
            return supervisor.EXIT_REFUSED
        if part == "hopeless":
            return supervisor.EXIT_HOPELESS
        if part == "deaf":
            threading.Event().wait()
    for order, link in orders(control):
        if isinstance(order, Introduced):
            with contextlib.suppress(BrokenPipeError):
                link.sendall(bytes([number]))
        elif isinstance(order, Stop):
            return 1 if part == "unwritten" and number == 1 else 0
    say("orphaned", number)
    return 3

def serve(control):
    say("web", os.getpid())
    for order, link in orders(control):
        if isinstance(order, Introduced):
            for number in link.recv(1):  # none, where the worker has died since
                say("introduced", number)
        elif isinstance(order, Supervised):
            say("told", *(f"{one.number}:{one.state}:{one.restarts}" for one in order.processes))
        else:
            return 0
    return 3

def leave_group(number):
    say("left", number)
    return 0

def make(control):
    say("beside", os.getpid())
    if part == "beside dies once" and first("died") or part == "beside dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if part == "beside refused":
        return supervisor.EXIT_REFUSED
    for order, link in orders(control):
        if isinstance(order, Stop):
            return 0
        say("unexpected", order)
    return 3

beside = {"incidents": make} if part.startswith("beside") else {}
sys.exit(supervisor.Supervisor(3, work, serve, leave_group, beside).run())
"""


class Play:
    """The program, and what it has said."""

    def __init__(self, part: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, part, str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, wanted: Callable[[list[str]], bool]) -> None:
        assert self.process.stdout is not None
        while not wanted(self.lines):
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.lines}"
            self.lines.append(line.strip())

    def until_said(self, text: str, times: int = 1) -> None:
        self.until(lambda lines: sum(text in line for line in lines) >= times)

    def until_linked(self) -> None:
        for number in (1, 2, 3):
            self.until_said(f"introduced {number}")

    def pid(self, name: str) -> int:
        """Of its latest run."""
        return int([line for line in self.lines if line.startswith(name)][-1].split()[-1])

    def ended(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(WITHIN_S)
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return code


@contextmanager
def play(part: str, folder: Path) -> Iterator[Play]:
    played = Play(part, folder)
    try:
        yield played
    finally:
        played.process.kill()
        played.process.wait(WITHIN_S)
        assert played.process.stdout is not None
        played.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_worker_is_linked_to_the_process_that_answers_http_and_all_end_when_told(
    tmp_path: Path, number: int
) -> None:
    with play("calm", tmp_path) as played:
        played.until_linked()
        pids = [played.pid(name) for name in ("web", "up 1", "up 2", "up 3")]
        assert played.ended(number) == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_worker_that_dies_is_started_again_and_linked_again(tmp_path: Path) -> None:
    with play("dies once", tmp_path) as played:
        played.until_said("told 1:running:0 2:running:1 3:running:0")
        played.until_linked()
        assert played.ended(signal.SIGTERM) == 0
        assert not [line for line in played.lines if line.startswith("left")], "it was back at once"


def test_http_is_started_again_and_hears_of_all_workers_again(tmp_path: Path) -> None:
    with play("calm", tmp_path) as played:
        played.until_linked()
        before = played.pid("web")
        os.kill(before, signal.SIGKILL)
        played.until_said("web", 2)
        for number in (1, 2, 3):
            played.until_said(f"introduced {number}", 2)
        assert played.pid("web") != before
        assert played.ended(signal.SIGTERM) == 0


def test_a_worker_that_ends_again_and_again_is_lost_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with play("dies", tmp_path) as played:
        played.until_said("told 1:running:0 2:lost:3 3:running:0")
        played.until_said("left 2")
        assert played.process.poll() is None, "the others go on"
        assert played.ended(signal.SIGTERM) == 1
        assert [line for line in played.lines if '"process_lost"' in line]


def test_a_worker_that_waits_for_long_is_taken_out_of_the_group(tmp_path: Path) -> None:
    with play("waits", tmp_path) as played:
        played.until_said("2:waiting:0")
        played.until_said("left 2")


@pytest.mark.parametrize(("part", "code"), [("refused", 2), ("hopeless", 1)])
def test_what_a_restart_cannot_help_ends_the_service(tmp_path: Path, part: str, code: int) -> None:
    with play(part, tmp_path) as played:
        assert played.ended() == code
        assert sum(line.startswith("up 2") for line in played.lines) == 1


def test_what_runs_beside_the_workers_is_started_again_and_ends_with_them(tmp_path: Path) -> None:
    with play("beside dies once", tmp_path) as played:
        played.until_said("beside", 2)
        played.until_linked()
        pid = played.pid("beside")
        assert played.ended(signal.SIGTERM) == 0
        assert not _lives(pid)
        assert not [line for line in played.lines if line.startswith(("left", "unexpected"))]


@pytest.mark.parametrize(("part", "code"), [("beside dies", 1), ("beside refused", 2)])
def test_a_service_without_what_shall_run_beside_its_workers_ends(tmp_path: Path, part: str, code: int) -> None:
    with play(part, tmp_path) as played:
        assert played.ended() == code
        assert [line for line in played.lines if '"worker":"incidents"' in line.replace(": ", ":")]


def test_a_worker_that_could_not_write_everything_gives_the_exit_code_1(tmp_path: Path) -> None:
    with play("unwritten", tmp_path) as played:
        played.until_linked()
        assert played.ended(signal.SIGTERM) == 1


def test_a_worker_that_does_not_hear_is_killed_in_time(tmp_path: Path) -> None:
    with play("deaf", tmp_path) as played:
        played.until_said("up", 3)
        began = time.monotonic()
        assert played.ended(signal.SIGTERM) == 1
        assert time.monotonic() - began < 4


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    with play("deaf", tmp_path) as played:
        played.until_said("up", 3)
        os.kill(played.process.pid, signal.SIGTERM)
        played.until_said('"stopping"')
        assert played.ended(signal.SIGTERM) in (128 + signal.SIGTERM, 1), "at once, or it had ended by then"


def test_without_the_supervisor_the_processes_are_told_so(tmp_path: Path) -> None:
    with play("calm", tmp_path) as played:
        played.until_linked()
        pids = [played.pid(name) for name in ("web", "up 1", "up 2", "up 3")]
        assert played.ended(signal.SIGKILL) == -signal.SIGKILL
        deadline = time.monotonic() + WITHIN_S
        while any(_lives(pid) for pid in pids):
            assert time.monotonic() < deadline


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
