"""Detector, what people hold: judge() whole frames, observe() a stream as it comes."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np
import polars as pl

from models.checkpoints import checkpoint, checkpoint_header
from models.data import frames
from models.data.frames import Layout, Table
from models.data.series import Series, UnusableData
from models.data.stream_key import flaw_of
from models.detection import detector as detection
from service.input.anomaly import CHANGE_NAMES
from service.input.reading_batch import StreamKey
from telltale._judging import Judged, anomalies_of, by_reading, empty_slab, judge_rows, torch_settings

if TYPE_CHECKING:
    import pandas as pd

Order = Literal["check", "sort", "keep"]
Unit = Literal["s", "ms", "us", "ns"]
Frame = TypeVar("Frame", bound="pl.DataFrame | pd.DataFrame")


class Verdict(NamedTuple):
    """How one reading was judged."""

    stream: str
    time_ms: int
    """Milliseconds since 1970, UTC."""
    judged: bool
    """False: late or repeated, so nothing was learned of it; its score is 0."""
    score: float
    """1.0 is the alarm threshold."""
    alarm: bool
    """Whether the stream's alarm is open after this reading."""
    expected: dict[str, float | None]
    """By channel; None until the stream's scale is known."""
    lower: dict[str, float | None]
    """Lower end of the band, by channel."""
    upper: dict[str, float | None]
    """Upper end of the band, by channel."""
    change: str | None
    """What the reading did to its stream's anomaly: opened, updated (to a higher severity) or closed it."""
    severity: str | None
    """minor, major or critical, with a change."""


@torch_settings()
def load(path: str | PathLike[str]) -> "Detector":
    """Read a checkpoint that `telltale train` or Detector.save() wrote. Raises UnusableCheckpoint.

    Examples:
        >>> import telltale
        >>> telltale.load("nowhere.safetensors")
        Traceback (most recent call last):
        models.checkpoints.checkpoint_header.UnusableCheckpoint: nowhere.safetensors: cannot be read: No such file or directory
    """  # noqa: E501  (doctest wants the whole line)
    loaded = checkpoint.load(Path(path))
    return Detector(loaded.detector, loaded.description)


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

    def __init__(self, detector: detection.Detector, description: checkpoint_header.Description) -> None:
        """detector: of models.detection. Use train() or load()."""
        self._detector = detector
        self._slab = empty_slab(detector)
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
        found = judge_rows(self._detector, table.series, empty_slab(self._detector), 0)
        return table.with_rows(by_reading(found, self.channels))

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
        found = judge_rows(self._detector, table.series, empty_slab(self._detector), 0)
        return anomalies_of(table, found, self.channels)

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

        Examples:
            >>> from datetime import datetime
            >>> import telltale
            >>> from models.data.synthetic import plant, to_frame
            >>> frame = to_frame(plant(streams=1, readings=200, seed=1)).drop("part")
            >>> detector = telltale.train(frame, values=["pressure"], hidden=16, epochs=1)
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
        return table.with_rows(by_reading(self._observe(table.series, len(frame)), self.channels))

    def forget(self, stream: str | None = None) -> None:
        """Forget what was observed of a stream, or of all: it begins again with what training knew of it."""
        if stream is None:
            self._slab = empty_slab(self._detector)
        elif (key := StreamKey(stream.encode())) in self._slab:
            self._slab.evict(key, self._observed)

    def _read(self, frame: Frame, given: Layout) -> Table[Frame]:
        return frames.read(frame, given, self.channels)

    def _observe(self, series: Sequence[Series], readings: int) -> Judged:
        found = judge_rows(self._detector, series, self._slab, self._observed)
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


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
