"""A file system of its own that is soon full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest


class SmallDisk(NamedTuple):
    """An empty file system, mounted at `folder`."""

    folder: Path

    def fill(self, leave: int = 0) -> None:
        """Take all of its room but that many bytes, in the file `ballast`."""
        free = os.statvfs(self.folder)
        take = free.f_bavail * free.f_frsize - leave
        with (self.folder / "ballast").open("ab") as file:
            if take > 0:
                os.posix_fallocate(file.fileno(), file.tell(), take)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Of `size` bytes, mounted at `folder`; the test is skipped where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no full disk to write to: there is no `mount` here")
    if mounted.returncode:
        pytest.skip(f"no full disk to write to: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
