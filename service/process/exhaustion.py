"""What this process is not granted any more, in one line: memory, open files or threads."""

import errno
import resource

MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory", "failed to map segment")
THREADS = ("can't start new thread", "pthread_create")
LIMITS = {
    "memory": (resource.RLIMIT_AS, "ulimit -v, or the container's memory"),
    "open files": (resource.RLIMIT_NOFILE, "ulimit -n"),
    "threads": (resource.RLIMIT_NPROC, "ulimit -u, or the container's pids limit"),
}


def exhausted(error: BaseException) -> str | None:
    """What there was too little of, and its limit; None: that is not what went wrong."""
    what = _what(error)
    if what is None:
        return None
    number, where = LIMITS[what]
    limit = resource.getrlimit(number)[0]
    unit = " bytes" if what == "memory" else ""
    granted = "none is set for this process" if limit == resource.RLIM_INFINITY else f"{limit:,}{unit}"
    return f"out of {what} ({str(error) or type(error).__name__}): the limit ({where}) is {granted}"


def _what(error: BaseException) -> str | None:
    said = str(error).lower()
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(words in said for words in MEMORY):
        return "memory"
    if number in (errno.EMFILE, errno.ENFILE):
        return "open files"
    if number == errno.EAGAIN or any(words in said for words in THREADS):
        return "threads"
    return None
