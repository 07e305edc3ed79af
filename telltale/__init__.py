"""Telltale from Python: learn what is normal from a DataFrame, judge another one, follow a stream reading by reading.

Frames are of polars or of pandas; what comes back is of the same library. The figures are those of `telltale score` and
`telltale run` on the same readings, to the last bit.

>>> from models.data.synthetic import plant, to_frame
>>> frame = to_frame(plant(streams=2, readings=2400, seed=3, fault_every=300, first_fault_after=1600))
>>> past, present = frame.filter(part="train"), frame.filter(part="test")
>>> detector = train(past, hidden=16, epochs=3)
>>> detector
Detector(lstm, 16 hidden units, channels temperature, pressure, vibration; 2 known streams)
>>> judged = detector.judge(present)
>>> judged.columns[:6]
['stream', 'timestamp', 'score', 'alarm', 'expected_temperature', 'lower_temperature']
>>> len(judged) == len(present)
True
>>> detector.anomalies(present).columns
['stream', 'start', 'end', 'peak', 'severity', 'kind', 'channels', 'status']
>>> detector.anomalies(present)["stream", "severity", "channels"].rows()[0]
('line-01/pump-001', 'major', 'temperature')

Readings that come one by one are judged alike:

>>> first = present.row(0, named=True)
>>> verdict = detector.observe(first["timestamp"], first, stream=first["stream"])
>>> (verdict.stream, verdict.score, verdict.alarm) == judged.row(0)[:1] + judged.row(0)[2:4]
True

A frame has columns of three kinds:

- times: `timestamp`, the column that `time` names, or pandas' index. Datetimes (without a zone they are UTC), dates,
  milliseconds (another unit: `time_unit`) or RFC 3339 text.
- streams: `stream`, or the column that `stream` names. Without one the frame is one stream, which is called `name`.
- values, in numbers. None, NaN and infinity are missing values.

Times must rise in each stream. order="sort" sorts them; order="keep" takes rows as they come, as the service does, and
judges none that is late or repeated. Everything else raises UnusableData, which says what helps.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch

from models import checkpoint
from models.checkpoint import UnusableCheckpoint
from models.data import frames
from models.data.arrays import Bools, Doubles, Int64s
from models.data.frames import Layout, Table
from models.data.series import Series, UnusableData
from models.data.stream_key import flaw_of
from models.detection import detector as detection
from models.detection.alarm import Change
from models.detection.detector import DetectorConfig, Transition, Verdicts
from models.detection.judging import judge_series
from models.detection.priming import prime
from models.net.forecaster import ForecasterConfig
from models.output.output_file import UnwrittenOutput
from models.training.loop import Progress, fit, usable
from models.training.run import TrainingConfig
from service.cli.trainer import describe_run
from service.input.anomaly import CHANGE_NAMES, CLOSED_AS
from service.input.wire import StreamKey
from service.state.slab import StateSlab

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Detector",
    "PoorTraining",
    "UnusableCheckpoint",
    "UnusableData",
    "UnwrittenOutput",
    "Verdict",
    "judge",
    "load",
    "train",
]

Cell = Literal["feedforward", "rnn-tanh", "rnn-relu", "lstm", "lstm-peephole", "gru"]
Order = Literal["check", "sort", "keep"]
Unit = Literal["s", "ms", "us", "ns"]
Frame = TypeVar("Frame", bound="pl.DataFrame | pd.DataFrame")

AT_ONCE = 65_536  # readings judged in one call: bounds the memory that many streams take
LONGEST = 512  # of one stream


class PoorTraining(UserWarning):
    """Training went poorly; says in what way, and what to try."""


class Verdict(NamedTuple):
    """What is thought of one reading."""

    stream: str
    time_ms: int
    judged: bool  # False: late or repeated, so nothing was learned of it; its score is 0
    score: float  # 1.0 is the alarm threshold
    alarm: bool  # the stream's alarm is open after this reading
    expected: dict[str, float | None]  # by channel; None until the stream's scale is known
    lower: dict[str, float | None]
    upper: dict[str, float | None]
    change: str | None  # what the reading did to its stream's anomaly: opened, updated (to a higher severity), closed
    severity: str | None  # minor, major or critical, with a change


def load(path: str | PathLike[str]) -> "Detector":
    """Read a checkpoint that `telltale train` or Detector.save() wrote. Raises UnusableCheckpoint.

    >>> load("nowhere.safetensors")
    Traceback (most recent call last):
    models.checkpoint.UnusableCheckpoint: nowhere.safetensors: cannot be read: No such file or directory
    """
    loaded = checkpoint.load(Path(path))
    return Detector(loaded.detector, loaded.description)


def train(
    frame: "pl.DataFrame | pd.DataFrame",
    *,
    values: Sequence[str] | None = None,
    cell: Cell = "lstm",
    hidden: int = 64,
    epochs: int = 40,
    budget_s: float | None = None,
    chunk: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], object] | None = None,
    time: str | None = None,
    stream: str | None = None,
    name: str = "sensor",
    time_unit: Unit | None = None,
    order: Order = "check",
) -> "Detector":
    """Learn what is normal from the readings of a frame. Ctrl-C ends it with the best so far.

    values: the columns to learn, the detector's channels; None: all columns of numbers but those of times and streams,
    `label` and `part` (rows whose `part` is `test` are left out). cell: what remembers. hidden: units of it, a multiple
    of 16. epochs, budget_s: passes over the data at most, and seconds; it ends before when it gains no more. chunk:
    readings that gradients reach back. seed: two runs with one seed on one machine give the same weights. progress: is
    called with a line after every epoch, such as `print`. The others: see the module.

    Warns of PoorTraining. Raises UnusableData, and ValueError at an argument out of range.
    """
    table = frames.read(frame, frames.layout(time, stream, name, time_unit, order), _names(values))
    parts = usable(table.series)
    _require_positive(epochs=epochs, budget_s=budget_s, chunk=chunk, learning_rate=learning_rate)
    architecture = ForecasterConfig(parts[0].features, cell, hidden)
    checkpoint.require_savable(architecture)
    settings = TrainingConfig(
        epochs=epochs,
        chunk_readings=chunk,
        learning_rate=learning_rate,
        budget_s=math.inf if budget_s is None else budget_s,
        seed=seed,
    )
    fitted = fit(parts, architecture, settings, torch.device(device), _teller(progress))
    with _one_thread():
        detector = prime(fitted.forecaster, DetectorConfig(), parts)
    for remark in fitted.remarks:
        warnings.warn(_as_arguments(remark), PoorTraining, stacklevel=2)
    return Detector(detector, describe_run(detector, parts, 0, settings, fitted))


def judge(
    frame: Frame,
    detector: "Detector | str | PathLike[str]",
    *,
    time: str | None = None,
    stream: str | None = None,
    name: str = "sensor",
    time_unit: Unit | None = None,
    order: Order = "check",
) -> Frame:
    """Detector.judge(), with a detector or the path of its checkpoint."""
    judging = detector if isinstance(detector, Detector) else load(detector)
    return judging.judge(frame, time=time, stream=stream, name=name, time_unit=time_unit, order=order)


class Detector:
    """A trained model, and what it remembers of the streams that it observes.

    From train() or load(). judge() and anomalies() begin with what was known of each stream when training ended, and
    change nothing; observe() and observe_frame() go on from the reading observed before.
    """

    def __init__(self, detector: detection.Detector, description: checkpoint.Description) -> None:
        """detector: of models.detection. Use train() or load()."""
        self._detector = detector
        self._slab = StateSlab(detector.rows_for)
        self._observed = 0  # readings, ever
        self.description = description  # what its checkpoint says of it

    def __repr__(self) -> str:
        architecture = self.description.architecture
        return (
            f"Detector({architecture.cell}, {architecture.hidden} hidden units, channels {', '.join(self.channels)}; "
            f"{len(self._detector.known)} known streams)"
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """The columns that it judges."""
        return self._detector.features

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that it knows from its training; it judges others too, once it has seen enough of them."""
        return tuple(key.decode() for key in self._detector.known)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the checkpoint that `telltale run` and load() take, in place of a file that is there.

        What was observed since training is not in it. Raises UnwrittenOutput.
        """
        checkpoint.save(Path(path), self._detector, self.description)

    def judge(
        self,
        frame: Frame,
        *,
        time: str | None = None,
        stream: str | None = None,
        name: str = "sensor",
        time_unit: Unit | None = None,
        order: Order = "check",
    ) -> Frame:
        """Judge every reading of a frame: a row for each of its rows, in their order. The arguments: see the module.

        Columns: the frame's own streams and times, `score` (1.0 is the alarm threshold), `alarm`, and `expected_`,
        `lower_` and `upper_` for each channel, missing while a stream's scale is not known. A late or repeated reading
        (order="keep") has score 0 and no band.
        """
        table = self._read(frame, frames.layout(time, stream, name, time_unit, order))
        found = _judge(self._detector, table.series, StateSlab(self._detector.rows_for), 0)
        return table.with_rows(_by_reading(found, self.channels))

    def anomalies(
        self,
        frame: Frame,
        *,
        time: str | None = None,
        stream: str | None = None,
        name: str = "sensor",
        time_unit: Unit | None = None,
        order: Order = "check",
    ) -> Frame:
        """Judge a frame; a row for each anomaly, in the order in which they open. The arguments: see the module.

        Columns: `stream`, `start`, `end` (times of the frame: of the reading that opened it, and of the one that closed
        it or, while it is open, of the stream's last one), `peak` (the highest score), `severity` (minor, major,
        critical), `kind` (what opened it: prediction, level, range; or what fault it looks like, if the checkpoint
        says), `channels` (those with at least an equal share in it when it opened, the largest first) and `status`
        (recovered; level_shift: it lasted and is the new normal; open).
        """
        table = self._read(frame, frames.layout(time, stream, name, time_unit, order))
        found = _judge(self._detector, table.series, StateSlab(self._detector.rows_for), 0)
        return _anomalies(table, found, self.channels)

    def observe(
        self,
        time: "datetime | np.datetime64 | int | str",
        values: "float | Sequence[float | None] | Mapping[str, float | None]",
        stream: str = "sensor",
        *,
        time_unit: Unit | None = None,
    ) -> Verdict:
        """Judge the next reading of a stream, and remember it.

        values: by channel, in the order of `channels`, or one number where there is one channel; None or NaN: missing.
        A reading that is late or repeated is not judged. A call takes some 4 ms; observe_frame() takes many at once.

        >>> from models.data.synthetic import plant, to_frame
        >>> frame = to_frame(plant(streams=1, readings=200, seed=1)).drop("part")
        >>> detector = train(frame, values=["pressure"], hidden=16, epochs=1)
        >>> verdict = detector.observe(datetime(2026, 2, 1), 4.2, stream="line-01/pump-001")
        >>> verdict.judged, sorted(verdict.expected)
        (True, ['pressure'])
        >>> detector.observe(datetime(2026, 1, 31), 4.2, stream="line-01/pump-001").judged
        False
        """
        if flaw := flaw_of(stream.encode()):
            raise UnusableData(f"stream={stream!r} cannot be a stream's name: {flaw}")
        times = frames.times_column([time]).alias(frames.TIME)
        columns = [pl.Series(name, [value]) for name, value in zip(self.channels, self._row(values), strict=True)]
        given = frames.layout(None, None, stream, time_unit, "keep")
        (one,) = frames.read(pl.DataFrame([times, *columns]), given, self.channels).series
        found = self._observe([one], 1)
        change = found.transitions[-1] if found.transitions else None
        expected, lower, upper = (
            {name: _known(value) for name, value in zip(self.channels, row.tolist(), strict=True)}
            for row in found.band[:, 0]
        )
        return Verdict(
            stream=stream,
            time_ms=int(one.times_ms[0]),
            judged=bool(found.judged[0]),
            score=float(found.score[0]),
            alarm=bool(found.alarm[0]),
            expected=expected,
            lower=lower,
            upper=upper,
            change=CHANGE_NAMES[change.change] if change else None,
            severity=change.severity.name.lower() if change else None,
        )

    def observe_frame(
        self,
        frame: Frame,
        *,
        time: str | None = None,
        stream: str | None = None,
        name: str = "sensor",
        time_unit: Unit | None = None,
        order: Order = "check",
    ) -> Frame:
        """judge(), but each stream goes on from what was observed of it before, and is remembered."""
        table = self._read(frame, frames.layout(time, stream, name, time_unit, order))
        return table.with_rows(_by_reading(self._observe(table.series, len(frame)), self.channels))

    def forget(self, stream: str | None = None) -> None:
        """Forget what was observed of a stream, or of all: it begins again with what training knew of it."""
        if stream is None:
            self._slab = StateSlab(self._detector.rows_for)
        elif (key := StreamKey(stream.encode())) in self._slab:
            self._slab.evict(key, self._observed)

    def _read(self, frame: Frame, given: Layout) -> Table[Frame]:
        return frames.read(frame, given, self.channels)

    def _observe(self, series: Sequence[Series], readings: int) -> "_Judged":
        found = _judge(self._detector, series, self._slab, self._observed)
        self._observed += readings
        return found

    def _row(self, values: "float | Sequence[float | None] | Mapping[str, float | None]") -> list[float | None]:
        """The values of one reading in the channels' order."""
        if isinstance(values, Mapping):
            if missing := [name for name in self.channels if name not in values]:
                raise UnusableData(
                    f"values: no channel {missing[0]}, found {', '.join(map(str, values))}; None is a missing value"
                )
            row = [values[name] for name in self.channels]
        else:
            row = [values] if isinstance(values, int | float | np.number) else list(values)
        if len(row) != len(self.channels):
            raise UnusableData(f"values: {len(row)}, expected {len(self.channels)}: {', '.join(self.channels)}")
        for name, value in zip(self.channels, row, strict=True):
            if value is not None and not isinstance(value, int | float | np.number):
                raise UnusableData(f"values: {name} is {value!r}, expected a number, or None where it is missing")
        return [None if value is None else float(value) for value in row]


class _Judged(NamedTuple):
    """What is thought of N readings, by their rows in the frame.

    transitions: each stream's in the order in which they came; `reading` is a row of the frame.
    """

    judged: Bools
    score: Doubles
    alarm: Bools
    band: Doubles  # (3, N, F): expected, lower, upper
    transitions: list[Transition]


def _judge(detector: detection.Detector, series: Sequence[Series], slab: StateSlab, first: int) -> _Judged:
    """Judge every series from its row in `slab`, which is moved on. first: the offset of row 0 of the frame."""
    readings, features = sum(len(one.rows) for one in series), len(detector.features)
    found = _Judged(
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
    with _one_thread():
        for begin in range(0, max(len(one.rows) for one in series), together):
            stretch = slice(begin, begin + together)
            busy = torch.tensor([n for n, one in enumerate(series) if begin < len(one.rows)])
            pieces, mine = [series[n].select(stretch) for n in busy.tolist()], rows.take(busy)
            verdicts = judge_series(detector, pieces, mine, [one.rows + first for one in pieces])
            rows.put(busy, mine)
            _keep(found, verdicts, np.concatenate([one.rows for one in pieces]))
    slab.scatter(slots, rows, torch.tensor([int(one.rows[-1]) + first for one in series]), first)
    return found


def _keep(found: _Judged, verdicts: Verdicts, rows: Int64s) -> None:
    """rows: of the frame, of each verdict."""
    found.judged[rows] = verdicts.fate.judged.numpy()
    found.score[rows] = verdicts.score.numpy()
    found.alarm[rows] = verdicts.alarm.numpy()
    for of, column in zip(found.band, (verdicts.expected, verdicts.lower, verdicts.upper), strict=True):
        of[rows] = column.numpy()
    found.transitions.extend(_at_row(transition, rows) for transition in verdicts.transitions)


def _at_row(transition: Transition, rows: Int64s) -> Transition:
    return replace(transition, reading=int(rows[transition.reading]))


def _by_reading(found: _Judged, channels: Sequence[str]) -> dict[str, pl.Series]:
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


def _anomalies(table: Table[Frame], found: _Judged, channels: Sequence[str]) -> Frame:
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


def _anomaly(one: Series, transitions: Sequence[Transition], found: _Judged, channels: Sequence[str]) -> _Anomaly:
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """So that the bits are those of the service; more threads would not be faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _teller(progress: Callable[[str], object] | None) -> Callable[[Progress], None]:
    def tell(now: Progress) -> None:
        if progress is not None and now.epoch is not None:
            epoch = now.epoch
            progress(f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}")

    return tell


def _as_arguments(remark: str) -> str:
    """The options of `telltale train` that a remark names, as arguments."""
    return re.sub(r"--([a-z-]+)", lambda option: option[1].replace("-", "_"), remark)


def _names(values: Sequence[str] | None) -> Sequence[str] | None:
    return [values] if isinstance(values, str) else values


def _require_positive(**arguments: float | None) -> None:
    for name, value in arguments.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
