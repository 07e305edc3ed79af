"""Series of a frame through a detector, and what is found of them: row by row, and as anomalies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch

from models.data.arrays import Bools, Doubles, Int64s
from models.data.frames import Table
from models.data.series import Series
from models.detection.alarm import Change
from models.detection.detector import Detector, Transition, Verdicts
from models.detection.judging import judge_series
from service.input.anomaly import CLOSED_AS
from service.input.reading_batch import StreamKey
from service.state.slab import StateSlab

AT_ONCE = 65_536  # readings judged in one call: bounds the memory that many streams take
LONGEST = 512  # of one stream

Frame = TypeVar("Frame")


@contextmanager
def torch_settings(threads: int = 1) -> Iterator[None]:
    """What torch has in the service, whatever the caller works with; afterwards it is as it was.

    One thread, so that the bits are those of the service; more would not be faster. float32, which the net takes.
    """
    threads_before, dtype_before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_default_dtype(dtype_before)


@torch_settings()
def empty_slab(detector: Detector) -> StateSlab:
    """For what streams remember: each begins with what training knew of it."""
    return StateSlab(detector.rows_for)


class Judged(NamedTuple):
    """How N readings were judged, by their rows in the frame.

    transitions: each stream's in the order in which they came; `reading` is a row of the frame.
    """

    judged: Bools
    score: Doubles
    alarm: Bools
    band: Doubles  # (3, N, F): expected, lower, upper
    transitions: list[Transition]


@torch_settings()
def judge_rows(detector: Detector, series: Sequence[Series], slab: StateSlab, first: int) -> Judged:
    """Judge every series from its row in `slab`, which is moved on. first: the offset of row 0 of the frame."""
    readings, features = sum(len(one.rows) for one in series), len(detector.features)
    found = Judged(
        np.zeros(readings, bool),
        np.zeros(readings),
        np.zeros(readings, bool),
        np.full((3, readings, features), np.nan),
        [],
    )
    keys = [StreamKey(one.key.encode()) for one in series]
    slots = slab.slots(keys)
    rows = slab.gather(slots)
    together = min(LONGEST, max(1, AT_ONCE // len(series)))
    for begin in range(0, max(len(one.rows) for one in series), together):
        stretch = slice(begin, begin + together)
        busy = torch.tensor([n for n, one in enumerate(series) if begin < len(one.rows)])
        pieces, mine = [series[n].select(stretch) for n in busy.tolist()], rows.take(busy)
        verdicts = judge_series(detector, pieces, mine, [one.rows + first for one in pieces])
        rows.put(busy, mine)
        _keep(found, verdicts, np.concatenate([one.rows for one in pieces]))
    slab.scatter(slots, rows, torch.tensor([int(one.rows[-1]) + first for one in series]), first)
    return found


def _keep(found: Judged, verdicts: Verdicts, rows: Int64s) -> None:
    """rows: of the frame, of each verdict."""
    found.judged[rows] = verdicts.fate.judged.numpy()
    found.score[rows] = verdicts.score.numpy()
    found.alarm[rows] = verdicts.alarm.numpy()
    for of, column in zip(found.band, (verdicts.expected, verdicts.lower, verdicts.upper), strict=True):
        of[rows] = column.numpy()
    found.transitions.extend(_at_row(transition, rows) for transition in verdicts.transitions)


def _at_row(transition: Transition, rows: Int64s) -> Transition:
    return replace(transition, reading=int(rows[transition.reading]))


def by_reading(found: Judged, channels: Sequence[str]) -> dict[str, pl.Series]:
    """The columns of judge(), a row for each reading."""
    columns = {"score": pl.Series(found.score), "alarm": pl.Series(found.alarm)}
    for place, name in enumerate(channels):
        for part, band in zip(("expected", "lower", "upper"), found.band, strict=True):
            columns[f"{part}_{name}"] = pl.Series(band[:, place]).fill_nan(None)
    return columns


class _Anomaly(NamedTuple):
    opened_ms: int
    start: int  # row of the frame
    end: int
    peak: float
    severity: str
    kind: str
    channels: str
    status: str


def anomalies_of(table: Table[Frame], found: Judged, channels: Sequence[str]) -> Frame:
    """The frame of anomalies(), a row for each."""
    stream_of = np.empty(len(found.score), np.int64)
    for n, one in enumerate(table.series):
        stream_of[one.rows] = n
    of_stream: list[list[Transition]] = [[] for _ in table.series]
    for transition in found.transitions:
        of_stream[stream_of[transition.reading]].append(transition)
    anomalies = [
        _anomaly(one, episode, found, channels)
        for one, changes in zip(table.series, of_stream, strict=True)
        for episode in _episodes(changes)
    ]
    anomalies.sort(key=lambda anomaly: (anomaly.opened_ms, anomaly.start))
    columns = {
        name: pl.Series(
            [getattr(anomaly, name) for anomaly in anomalies], dtype=pl.Float64 if name == "peak" else pl.String
        )
        for name in _Anomaly._fields[3:]
    }
    return table.pick([one.start for one in anomalies], [one.end for one in anomalies], columns)


def _episodes(transitions: Sequence[Transition]) -> Iterator[list[Transition]]:
    """What happened to each anomaly of a stream, from its opening on."""
    episode: list[Transition] = []
    for transition in transitions:
        if transition.change is Change.OPENED and episode:
            yield episode
            episode = []
        episode.append(transition)
    if episode:
        yield episode


def _anomaly(one: Series, transitions: Sequence[Transition], found: Judged, channels: Sequence[str]) -> _Anomaly:
    first, last = transitions[0], transitions[-1]
    status = CLOSED_AS.get(last.change, "open")
    since = one.rows[int(np.flatnonzero(one.rows == first.reading)[0]) :]
    shares = sorted(zip(first.share, channels, strict=True), key=lambda shared: -shared[0])
    return _Anomaly(
        opened_ms=first.opened_ms,
        start=first.reading,
        end=int(since[-1]) if status == "open" else last.reading,
        peak=float(found.score[since].max()) if status == "open" else last.peak,
        severity=last.severity.name.lower(),
        kind=(last.guess.kind.value if last.guess else last.opened_by.name.lower()),
        channels=", ".join(name for share, name in shares if share * len(channels) >= 1),
        status=status,
    )
