"""Tests that measure time or memory, beside which nothing may run: the mark `alone`.

Where several processes share the tests (pytest-xdist), such a test waits until the others have ended the one they are
at, and they wait until it is over. Files are the locks; the kernel lets go of them when a process dies.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Turns:
    """Who may run now."""

    def __init__(self, folder: Path) -> None:
        """folder: one that all processes have in common, and no other run has."""
        self._entry, self._room = ((folder / name).open("w") for name in ("entry", "room"))

    def close(self) -> None:
        self._entry.close()
        self._room.close()

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """While a test runs.

        One at a time goes through the entry: a test that waits for an empty room keeps others from entering it.
        """
        with _locked(self._entry, fcntl.LOCK_EX):
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


@contextmanager
def _locked(file: TextIO, how: int) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
