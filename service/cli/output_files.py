"""What a command is to write, checked before its work begins: hours of work must not end at a full disk."""

import errno
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from models.output.output_file import is_special, part_of
from service.errors import RefusedInput, RefusedSetting

LEAST_BYTES = 4096  # where nothing is known of a file's size yet
PAGE_BYTES = 6 * 2**20  # of a page with plots: the chart library's script is in it


def check_outputs(*files: Path | None, force: bool = False) -> None:
    """Find out before the work, not after it, that a result cannot be written. None: an output that was not asked for.

    force: whether a file that is there may be overwritten. What is no regular file, such as a pipe, always may.
    """
    refuse_overwriting(*files, force=force)
    asked = [file for file in files if file is not None]
    check_room({file: PAGE_BYTES if file.suffix == ".html" else LEAST_BYTES for file in asked})


def refuse_overwriting(*files: Path | None, force: bool = False) -> None:
    """The same of what is there already alone: no folder is made, and nothing is known yet of what will be written."""
    if there := [] if force else [file for file in files if file is not None and file.is_file()]:
        raise RefusedSetting(f"{', '.join(map(str, there))}: there already; --force overwrites")


def check_room(sizes: Mapping[Path, int]) -> None:
    """The same for files of about that many bytes each: there is room for all of them at once.

    The room is taken and given back, which sees quotas and limits that no figure of free space shows. Nothing is left
    behind but folders, and no file is touched that is there.
    """
    with ExitStack() as taken:
        for file, size in sizes.items():
            try:
                if not is_special(file):
                    _take(file.resolve(), size, taken)
            except OSError as error:
                need = f" ({size:,} bytes are needed)" if size > LEAST_BYTES else ""
                raise RefusedInput(f"{file}: cannot be written: {error.strerror or error}{need}") from error


def _take(file: Path, size: int, taken: ExitStack) -> None:
    if file.is_dir():
        raise OSError("it is a folder, expected a file")
    file.parent.mkdir(parents=True, exist_ok=True)
    part_of(file).exists()  # a name that is too long for the file system is an error here
    room = taken.enter_context(tempfile.TemporaryFile(dir=file.parent, prefix=".telltale-"))  # noqa: SIM115  (closed by `taken`)
    if sys.platform != "darwin":
        try:
            os.posix_fallocate(room.fileno(), 0, max(size, 1))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot: found out in writing
                raise
