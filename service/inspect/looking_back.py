"""A stream's past for the live page: readings around a time, with band, score and gates, judged again."""

from collections import deque
from enum import StrEnum

import msgspec
import torch

from models.detection.detector import Readings
from models.detection.rows import Rows
from models.detection.sensor_rules import units_of
from models.insight.explanation import trace
from service.inspect.groupless_log import GrouplessLog, Search
from service.inspect.question import Question
from service.inspect.replay import Replay, judge_around
from service.inspect.replayed_stream import JudgedAgain
from service.live.insights import TraceSeen, seen_trace
from service.live.watching import join
from service.pipeline import Pipeline
from service.state.changelog import Layout


class Older(StrEnum):
    """What there is before the readings shown."""

    KEPT = "kept"  # the topic has older ones
    NONE = "none"  # the first one shown is the stream's first
    GONE = "gone"  # the topic keeps none that are older


class PastSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's readings around a time, half of them before it, and the anomalies that touch them."""

    trace: TraceSeen
    older: Older
    newer: bool  # there may be later ones
    events: tuple[msgspec.Raw, ...]  # as they went out; of an anomaly that closed later, not the last ones
    remarks: tuple[str, ...]


def look_back(
    log: GrouplessLog, search: Search, question: Question, pipeline: Pipeline, layout: Layout, numerics: str
) -> PastSeen:
    """By the code of `telltale replay`. Raises RefusedInput where no service has judged the partition."""
    kept = _KeptReadings()
    found = judge_around(log, search, question, pipeline, layout, is_done=lambda one: one.window.full, look=kept.add)
    window, beginning, detector = found.window, found.beginning, pipeline.detector
    nothing = join([], len(detector.features))
    row, readings, left_out = detector.rows_for([question.stream]), nothing, 0
    if window.readings:
        row, readings = kept.row, kept.readings
        readings = _part(readings, readings.offsets <= window.last[0])
        left_out = int((readings.offsets < window.first[0]).sum())
    traced = trace(detector, row, readings)
    stream, features, digest = question.stream, detector.features, pipeline.digest
    units = units_of(pipeline.sensors, stream, len(features))
    seen = seen_trace(traced, left_out, features, units, stream, digest, found.partition, reset=True)
    return PastSeen(
        trace=seen,
        older=_older(found),
        newer=window.full,
        events=tuple(map(msgspec.Raw, found.anomalies.events(window))) if window.readings else (),
        remarks=(*beginning.remarks, *found.arithmetic_remarks(numerics), *found.rules_remarks(pipeline)),
    )


def _older(found: Replay) -> Older:
    begin = found.source.begin
    if found.beginning.offset > begin or not found.window.begins_with_first:
        return Older.KEPT
    return Older.GONE if begin else Older.NONE


class _KeptReadings:
    """The readings from the first of those wanted on, with the row before them."""

    def __init__(self) -> None:
        self._parts: deque[tuple[Rows, Readings]] = deque()
        self._replay: Replay | None = None

    @property
    def row(self) -> Rows:
        return self._parts[0][0]

    @property
    def readings(self) -> Readings:
        parts = [readings for _, readings in self._parts]
        return join(parts, parts[0].values.shape[-1])

    def add(self, judged: JudgedAgain, found: Replay) -> None:
        """What is wanted is known of what came before alone: how far these readings reach beyond it is not."""
        if found is not self._replay:  # it begins again, from further back
            self._replay = found
            self._parts.clear()
        readings = judged.processed.batch.readings
        if found.window.full or not len(readings.offsets):
            return
        if found.window.readings:
            while self._parts and int(self._parts[0][1].offsets[-1]) < found.window.first[0]:
                self._parts.popleft()
        self._parts.append((judged.row_before, readings))


def _part(readings: Readings, which: torch.Tensor) -> Readings:
    return Readings(*(column[which] for column in readings))
