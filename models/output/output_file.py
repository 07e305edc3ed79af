"""Files that a command writes: whole or absent, and kept in the temporary folder where they cannot be written."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


class UnwrittenOutput(ValueError):
    """A file could not be written: says which and why, and where its content is instead."""


def write_whole(path: Path, content: bytes | str) -> None:
    """Write the file in one piece: it is the old one or the new one, whatever happens. Text is written as UTF-8.

    A path that is no regular file (/dev/stdout, a pipe) is written to directly: it must not be replaced. Raises
    OSError that names `path`.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if is_special(path):
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_or_keep(path: Path, content: bytes | str) -> None:
    """Write the file in one piece, or, where that fails, beside other temporary files. Raises UnwrittenOutput."""
    try:
        write_whole(path, content)
    except OSError as error:
        why = f"{path}: cannot be written: {error.strerror or error}"
        raise UnwrittenOutput(f"{why}; {_kept_elsewhere(path.name, content)}") from error


def write_each(*writes: Callable[[], object]) -> None:
    """Do all of these, also after one has failed. Raises one UnwrittenOutput with a line for each failure."""
    failed = []
    for write in writes:
        try:
            write()
        except UnwrittenOutput as error:
            failed.append(str(error))
    if failed:
        raise UnwrittenOutput("\n".join(failed))


def is_special(path: Path) -> bool:
    """Whether the path exists and is neither a file nor a folder, such as a pipe or a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def part_of(path: Path) -> Path:
    """Where a file is while it is being written: beside it, so that it can be renamed."""
    return path.with_name(f".{path.name}.part")


def _replace(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _kept_elsewhere(name: str, content: bytes | str) -> str:
    """Where the content is now, in words."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="telltale-"))
        try:
            write_whole(folder / name, content)
        except OSError:
            folder.rmdir()
            raise
    except OSError as error:
        return f"nor could it be kept in the temporary folder: {error.strerror or error}; set TMPDIR to one with room"
    return f"it is kept in {folder / name}: move it to where you want it"
