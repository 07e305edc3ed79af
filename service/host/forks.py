"""Processes that are forks of this one: they share what is loaded, obey it alone, and end when it ends.

Made where this process has no threads of Python's yet, or none that holds a lock: the supervisor has one thread, a
worker forks before it starts its own. The pools of numpy and torch are made for a fork.
"""

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Callable

import structlog

EXIT_FAILED = 1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
OBEYS_ITS_PARENT = (signal.SIGINT, signal.SIGTERM)  # come to all of a terminal's processes, or of a unit's

logger = structlog.get_logger("telltale")


def fork(run: Callable[[], int]) -> int:
    """The pid of a process that runs `run` and exits with the code that it returns.

    SIGINT and SIGTERM are ignored there: this process says when it stops.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, OBEYS_ITS_PARENT)
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of any thread: numpy's and torch's own pools have theirs, and are made for a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be(run, parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    return pid


def _be(run: Callable[[], int], parent: int) -> None:
    """The rest of the forked process, which must not return into what its parent does."""
    code = EXIT_FAILED
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in OBEYS_ITS_PARENT:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OBEYS_ITS_PARENT)
        _die_with(parent)
        code = run()
    except BaseException:
        logger.exception("process_failed")
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, also while this process hangs or is stopped."""
    if sys.platform != "linux":
        return  # the end of a socket says so there, to a process that reads it
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)  # it has died meanwhile
