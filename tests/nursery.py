"""Forks processes that have everything imported already: a worker that is killed is back within 0.1 s, not within 3.

`Nursery` is the tests' end of it; `main` is the nursery itself, which has one thread, so that forking it is safe. They
talk through pipes, a line of JSON a message. The nursery ends with its parent, and every child with the nursery.
"""

import contextlib
import ctypes
import importlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STARTED_WITHIN_S = 300.0
NO_CHILD = 0  # in the place of a child: the nursery itself has ended
LIBC = ctypes.CDLL(None)


class Child:
    """A process that the nursery has forked."""

    def __init__(self, role: str, pid: int) -> None:
        self.role = role
        self.pid = pid
        self.code: int | None = None  # negative: the signal that ended it
        self.ended = threading.Event()
        self.stopped = threading.Event()

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):  # reaped just now, and the nursery is about to say so
                os.kill(self.pid, number)

    def wait(self, within_s: float) -> int:
        """The exit code."""
        if not self.ended.wait(within_s):
            raise TimeoutError(f"{self.role} {self.pid} is still there after {within_s:.0f} s")
        assert self.code is not None
        return self.code


class Nursery:
    """Starts children, and knows when they stop or end."""

    def __init__(self, roles: Mapping[str, str]) -> None:
        """roles: what a child may be, and the module whose `run` is that."""
        self._children: dict[int, Child] = {}
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._lock = threading.Lock()  # one start at a time
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.nursery", json.dumps(dict(roles))],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def close(self) -> None:
        """End it, and all its children."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the nursery ends its children, and itself
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()

    def start(self, role: str, orders: Mapping[str, Any], log: Path, errors: Path | None = None) -> Child:
        """Fork a child that carries out its orders; what it says is appended to the log, or what it says on stderr to
        `errors`.
        """
        assert self._process.stdin is not None
        with self._lock:
            message = {"role": role, "orders": orders, "logs": [str(log), str(errors or log)]}
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            pid = self._started.get(timeout=STARTED_WITHIN_S)
            if pid == NO_CHILD:
                raise RuntimeError(f"the nursery ended with {self._process.wait()}: its last words are on stderr")
            return self._children[pid]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "started" in said:
                self._children[said["pid"]] = Child(said["started"], said["pid"])
                self._started.put(said["pid"])
            elif "stopped" in said:
                child = self._children[said["pid"]]
                (child.stopped.set if said["stopped"] else child.stopped.clear)()
            else:
                child = self._children.pop(said["pid"])
                child.code = said["code"]
                child.ended.set()
                child.stopped.set()  # no one need wait for that any more
        self._started.put(NO_CHILD)


# --- the nursery itself --------------------------------------------------------------------------------------------


def main() -> None:
    _end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    roles = {name: importlib.import_module(module).run for name, module in json.loads(sys.argv[1]).items()}
    import gc  # noqa: PLC0415

    gc.collect()
    gc.freeze()  # what is shared with the children stays so: no collection writes to its pages
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    pending, children = b"", set[int]()
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _report_changes(children)
        if 0 in ready:
            part = os.read(0, 65_536)
            if not part:
                break
            *messages, pending = (pending + part).split(b"\n")
            for message in messages:
                ordered = json.loads(message)
                assert threading.active_count() == 1 == len(list(Path("/proc/self/task").iterdir())), (
                    "forking needs one thread"
                )
                pid = _fork(roles[ordered["role"]], ordered["orders"], ordered["logs"], (wake_read, wake_write))
                children.add(pid)
                _say({"started": ordered["role"], "pid": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _fork(
    run: Callable[[Mapping[str, Any]], int], orders: Mapping[str, Any], logs: Sequence[str], mine: tuple[int, int]
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _end_with_parent(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in mine:
            os.close(end)
        sources = [os.open("/dev/null", os.O_RDONLY)]
        sources += [os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for log in logs]
        for target, source in enumerate(sources):
            os.dup2(source, target)
            os.close(source)
        code = run(orders)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _report_changes(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if not pid:
            return
        if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
            _say({"pid": pid, "stopped": os.WIFSTOPPED(status)})
        else:
            children.discard(pid)
            _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(message: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _end_with_parent(number: int) -> None:
    """Let the kernel end this process when its parent is gone (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        LIBC.prctl(1, number)


if __name__ == "__main__":
    main()
