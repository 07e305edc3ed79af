"""Training data on disk: data larger than memory is trained on as if it were in memory.

Data comes piece by piece and is written, each stream's readings contiguous, into temporary files that the arrays of a
Series map (numpy.memmap). The files have no name: their space is freed with the last such array, also after a kill.
They lie in TMPDIR, which should not be a RAM disk.
Sizes: N readings of a piece, F features.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Doubles, Int64s
from models.data.data_file import DataFile
from models.data.file_check import FileCheck
from models.data.file_options import AS_USUAL, FileOptions
from models.data.series import Series, UnusableData, look_at_files
from models.data.text_files import stem_of

PIECE_VALUES = 2 * 1024 * 1024  # numbers that are in memory at once: 16 MB, and a few copies of them

Streams = NDArray[np.int32]


class _SpoolColumns(NamedTuple):
    """Readings of all streams, on disk."""

    streams: Streams  # (N,) number of each one's stream
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F)


class Spool:
    """Takes readings of many streams in the order in which they come, and returns each stream's in one piece."""

    def __init__(self, features: Sequence[str], capacity: int, *, in_turns: bool = True) -> None:
        """capacity: readings that are expected. in_turns: streams may alternate, which takes the space twice.

        Raises UnusableData where the disk has too little space, before anything is read.
        """
        self.features = tuple(features)
        self.taken = 0
        self._numbers: dict[str, int] = {}
        self._by_turns = False  # whether streams have alternated so far
        _check_room(capacity * (2 if in_turns else 1), len(self.features))
        self._columns = _reserve(capacity, len(self.features))

    def number(self, keys: Iterable[str]) -> Streams:
        """The number of each key's stream; streams are numbered as they first come."""
        numbers = self._numbers
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int32)

    @property
    def keys(self) -> list[str]:
        """By number."""
        return list(self._numbers)

    def append(self, streams: Streams, times_ms: Int64s, values: Doubles) -> None:
        """Where more come than were expected, the space is doubled; raises UnusableData if the disk has too little."""
        part = slice(self.taken, self.taken + len(streams))
        if part.stop > len(self._columns.streams):
            self._columns = self._larger(max(part.stop, 2 * len(self._columns.streams)))
        self._columns.streams[part] = streams
        self._columns.times_ms[part] = times_ms
        self._columns.values[part] = values
        with_last = self._columns.streams[max(0, part.start - 1) : part.stop]
        self._by_turns |= bool((np.diff(with_last) < 0).any())
        self.taken = part.stop

    def series(self, path_of: Callable[[int], Path]) -> list[Series]:
        """Every stream, by number. Their rows are not known (-1), and none is of the test part.

        path_of: where the stream with this number is from.
        """
        columns = self._columns
        lengths = np.zeros(len(self._numbers), np.int64)
        for piece in self._pieces():
            lengths += np.bincount(columns.streams[piece], minlength=len(lengths))
        if self._by_turns:
            columns = self._by_stream(columns, lengths)
        ends = np.cumsum(lengths)
        return [
            Series(
                key,
                path_of(number),
                self.features,
                np.broadcast_to(np.int64(-1), end - begin),
                columns.times_ms[begin:end],
                columns.values[begin:end],
                np.broadcast_to(np.False_, end - begin),
            )
            for number, (key, begin, end) in enumerate(
                zip(self._numbers, (ends - lengths).tolist(), ends.tolist(), strict=True)
            )
        ]

    def _larger(self, capacity: int) -> _SpoolColumns:
        """A copy with more room."""
        columns, larger = self._columns, _reserve(capacity, len(self.features))
        for piece in self._pieces():
            larger.streams[piece] = columns.streams[piece]
            larger.times_ms[piece] = columns.times_ms[piece]
            larger.values[piece] = columns.values[piece]
        return larger

    def _by_stream(self, columns: _SpoolColumns, lengths: Int64s) -> _SpoolColumns:
        """A copy in which each stream's readings are contiguous, in their order."""
        ordered = _reserve(self.taken, len(self.features))
        goes_to = np.cumsum(lengths) - lengths
        for piece in self._pieces():
            order = np.argsort(columns.streams[piece], kind="stable")
            streams = columns.streams[piece][order]
            counts = np.bincount(streams, minlength=len(lengths))
            places = np.arange(len(order)) + np.repeat(goes_to - (np.cumsum(counts) - counts), counts)
            ordered.times_ms[places] = columns.times_ms[piece][order]
            ordered.values[places] = columns.values[piece][order]
            goes_to += counts
        return ordered

    def _pieces(self) -> Iterator[slice]:
        readings = _piece_readings(len(self.features))
        return (slice(begin, min(begin + readings, self.taken)) for begin in range(0, self.taken, readings))


def _piece_readings(features: int) -> int:
    return max(1, PIECE_VALUES // features)


def _reading_bytes(features: int) -> int:
    return 8 * features + 8 + 4


def _check_room(readings: int, features: int) -> None:
    folder = tempfile.gettempdir()
    needed, free = readings * _reading_bytes(features), shutil.disk_usage(folder).free
    if needed > free:
        raise UnusableData(
            f"{folder}: {free:,} bytes are free, {needed:,} are needed to lay the readings out for training;"
            " the environment variable TMPDIR names another folder"
        )


def _reserve(readings: int, features: int) -> _SpoolColumns:
    """Columns in files without a name, their space taken at once: a disk that fills up would end the process later."""
    return _SpoolColumns(
        _array(np.int32, max(1, readings)),
        _array(np.int64, max(1, readings)),
        _array(np.float64, max(1, readings), features),
    )


def _array(dtype: type[np.generic], *shape: int) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(prefix="telltale-") as file:
        try:
            if sys.platform == "darwin":
                file.truncate(size)  # which takes the space only when it is written
            else:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise UnusableData(f"{folder}: {size:,} bytes cannot be taken for training: {error.strerror}") from error
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


class Table(NamedTuple):
    """A data file before its rows are read, and the check that they go through."""

    file: DataFile
    check: FileCheck


def look(
    paths: Iterable[Path],
    options: FileOptions = AS_USUAL,
    features: Sequence[str] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[Table]:
    """What is in the files, as `series.read_series` finds it out."""
    return [Table(*found) for found in look_at_files(paths, features, options, note)]


def read(tables: Sequence[Table], report_progress: Callable[[int], None] = lambda _: None) -> list[Series]:
    """What may be trained on of every stream, checked as `series.read_series` does; no `part` = test is in it.

    A stream may continue in a later file, with readings later than all before. report_progress: is called with the
    number of rows done.
    """
    rows = sum(table.file.rows for table in tables)
    features = tables[0].check.features
    spool = Spool(features, rows, in_turns=any("stream" in table.file.columns for table in tables))
    clocks = _Clocks()
    done = 0
    for file, check in tables:
        for frame in file.frames(_piece_readings(len(features))):
            piece = check.check(frame)
            keys = [stem_of(file.path)] if piece.keys is None else piece.keys
            streams = np.broadcast_to(spool.number(keys), len(piece.rows))
            clocks.check(spool.keys, streams, piece.times_ms, file.path)
            kept = np.flatnonzero(~piece.test)
            spool.append(streams[kept], piece.times_ms[kept], piece.values[kept])
            done += len(frame)
            report_progress(done)
        clocks.end_file(file.path)
    return spool.series(clocks.path_of)


class _Clocks:
    """Checks that a stream that continues in another file does so with later readings."""

    def __init__(self) -> None:
        self._latest = np.zeros(0, np.int64)  # of each stream in the files before this one; -1: not seen in them
        self._within = np.zeros(0, np.int64)  # the same with what has come of this one
        self._paths: list[Path] = []

    def check(self, keys: Sequence[str], streams: Streams, times_ms: Int64s, path: Path) -> None:
        new = np.full(len(keys) - len(self._latest), -1)
        self._latest, self._within = np.append(self._latest, new), np.append(self._within, new)
        self._paths += [path] * len(new)
        early = np.flatnonzero(times_ms <= self._latest[streams])
        if len(early):
            stream, time = int(streams[early[0]]), times_ms[early[0]]
            raise UnusableData(
                f"{path}: stream {keys[stream]} is in {self._paths[stream]} already, up to "
                f"{_utc(self._latest[stream])}; found {_utc(time)}, expected it to go "
                "on with later readings"
            )
        np.maximum.at(self._within, streams, times_ms)

    def end_file(self, path: Path) -> None:
        for stream in np.flatnonzero(self._within > self._latest).tolist():
            self._paths[stream] = path
        self._latest = self._within.copy()

    def path_of(self, stream: int) -> Path:
        """The last file that a stream is in."""
        return self._paths[stream]


def _utc(time_ms: np.int64) -> str:
    return f"{np.datetime64(int(time_ms), 'ms')}Z"
