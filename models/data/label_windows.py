"""What people said of stretches of streams, in a file: which readings were a fault, and which only looked like one.

CSV with the columns `streams` (a pattern of whole names: `*`, `?`, `[...]`), `from`, `until` (RFC 3339; a reading at
that time is behind the stretch) and `label` (fault, normal, known). Other columns are for people.
"""

import csv
import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Int64s
from models.data.errors import UnusableData
from models.data.rfc3339 import milliseconds_of
from models.data.series import Series

LABELS = ("fault", "normal", "known")
NEEDED = ("streams", "from", "until", "label")


class LabelWindow(NamedTuple):
    """Event time; until_ms is not in it."""

    streams: str  # pattern
    from_ms: int
    until_ms: int
    label: str


class LabelWindows(NamedTuple):
    """digest: of the file, so that what was measured with another is not taken for the same."""

    windows: tuple[LabelWindow, ...]
    digest: str

    def faults(self, stream: str, times_ms: Int64s) -> Bools:
        """Which readings lie in a stretch that was called a fault."""
        found = np.zeros(len(times_ms), bool)
        for one in self.windows:
            if one.label == "fault" and fnmatchcase(stream, one.streams):
                found |= (one.from_ms <= times_ms) & (times_ms < one.until_ms)
        return found

    def without_faults(self, series: list[Series]) -> list[Series]:
        """The series, of which those with a fault are copied to memory without it."""
        kept = [(one, ~self.faults(one.key, one.times_ms)) for one in series]
        return [one if keep.all() else one.select(keep) for one, keep in kept]


def read_label_windows(path: Path) -> LabelWindows:
    """Raises UnusableData that says what is wrong, and in which line."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableData(f"{path}: cannot be read as text: {error}") from error
    rows = csv.DictReader(lines, strict=True)
    try:
        missing = [name for name in NEEDED if name not in (rows.fieldnames or ())]
        if missing:
            raise UnusableData(f"{path}: found no column {', '.join(missing)}, expected {', '.join(NEEDED)}")
        windows = tuple(_window(row, f"{path}, line {rows.line_num}") for row in rows)
    except csv.Error as error:
        raise UnusableData(f"{path}, line {rows.line_num}: not CSV: {error}") from error
    return LabelWindows(windows, hashlib.sha256(content).hexdigest())


def _window(row: dict[str, str | None], where: str) -> LabelWindow:
    streams, begins, until, label = (row[name] or "" for name in NEEDED)
    if not streams:
        raise UnusableData(f"{where}: streams is empty, expected a stream's name or a pattern")
    if label not in LABELS:
        raise UnusableData(f"{where}: label is {label!r}, expected one of {', '.join(LABELS)}")
    from_ms, until_ms = _milliseconds(f"{where}: from", begins), _milliseconds(f"{where}: until", until)
    if from_ms >= until_ms:
        raise UnusableData(f"{where}: until is {until}, expected a time after from, {begins}")
    return LabelWindow(streams, from_ms, until_ms, label)


def _milliseconds(what: str, text: str) -> int:
    try:
        return milliseconds_of(text)
    except (ValueError, OverflowError) as error:
        raise UnusableData(f"{what} is {text!r}, expected a time such as 2026-11-28T08:00:00Z ({error})") from error
