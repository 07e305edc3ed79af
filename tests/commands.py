"""A `telltale` command in a process of its own, forked from one that has everything imported: a start is 0.3 s, not 4.

`run` is what the forked process does. What is different from a start by the shell: modules are there already, and the
interpreter is not wound up at the end. A test of just that takes a `FreshProcess`.
"""

import atexit
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import service.process.running  # noqa: F401  (what most commands import when they run)
from service.cli import main as cli
from tests.command_line import settings_of
from tests.nursery import Nursery

COMMAND = Path(sys.executable).parent / "telltale"
WITHIN_S = 300.0  # a loaded machine takes minutes to start a service


def run(orders: Mapping[str, Any]) -> NoReturn:
    """orders: `arguments` of the command line; `environment`: all of it; `folder`: where it is run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(orders["environment"])
    os.chdir(orders["folder"])
    sys.argv = [str(COMMAND), *orders["arguments"]]
    cli.main()


@functools.cache
def _nursery() -> Nursery:
    nursery = Nursery({"telltale": __name__})
    atexit.register(nursery.close)
    return nursery


class _Started:
    """By the interpreter."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout: IO[str] = self._process.stdout
        self.stderr: IO[str] = self._process.stderr
        self.pid = self._process.pid
        self.poll, self.wait, self.send_signal = self._process.poll, self._process.wait, self._process.send_signal


class _Forked:
    """By the nursery; what it writes comes through named pipes."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        orders = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        with tempfile.TemporaryDirectory() as folder:
            pipes = [Path(folder) / name for name in ("out", "err")]
            for pipe in pipes:
                os.mkfifo(pipe)
            self._child = _nursery().start("telltale", orders, *pipes)
            self.stdout, self.stderr = (pipe.open() for pipe in pipes)  # waits until the child has opened them
        self.pid = self._child.pid

    def poll(self) -> int | None:
        return self._child.code if self._child.ended.is_set() else None

    def wait(self, within_s: float) -> int:
        return self._child.wait(within_s)

    def send_signal(self, number: int) -> None:
        self._child.signal(number)


class Process:
    """A `telltale` command, while it runs and after it."""

    _start: type[_Forked | _Started] = _Forked

    def __init__(self, *arguments: object, **environment: str) -> None:
        """environment: beside that of the tests, without its settings."""
        clean = {name: value for name, value in os.environ.items() if name not in settings_of(os.environ)}
        self._process = self._start([str(one) for one in arguments], {**clean, **environment})
        self.out: list[str] = []
        self.err: list[str] = []
        pipes = ((self._process.stdout, self.out), (self._process.stderr, self.err))
        self._readers = [threading.Thread(target=into.extend, args=(pipe,)) for pipe, into in pipes]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, within_s: float = WITHIN_S) -> int:
        """The exit code."""
        code = self._process.wait(within_s)
        self._let_go()
        return code

    def kill(self) -> None:
        if self.running:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(WITHIN_S)
        self._let_go()

    def _let_go(self) -> None:
        for reader in self._readers:
            reader.join()
        self._process.stdout.close()
        self._process.stderr.close()


class FreshProcess(Process):
    """One that the interpreter starts, as a shell does."""

    _start = _Started
