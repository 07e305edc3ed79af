"""Where a replay begins: with the nearest state, where the checkpoint took over, or at the input's beginning."""

from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from models.output.wording import counted
from service.input.reading_batch import ReadingBatch
from service.inspect.groupless_log import GrouplessLog, input_of
from service.inspect.past import StreamPast, Version
from service.inspect.question import Question
from service.inspect.replayed_stream import ReplayedStream, records_of
from service.log.port import Fetched, Source
from service.pipeline import Pipeline
from service.state.task import records_in


class Beginning(NamedTuple):
    stream: ReplayedStream
    offset: int
    what: str
    another_model: bool = False
    from_page: bool = False
    remarks: Sequence[str] = ()


def beginning_of(
    log: GrouplessLog, question: Question, pipeline: Pipeline, past: StreamPast, source: Source, spare: int
) -> Beginning:
    """spare: readings that are to lie between the state and the newest one before the time."""
    partition, marker = past.origin.partition, past.marker
    stream = ReplayedStream(pipeline, partition, question.stream, question.idle_s)
    stream.task.pauses = past.pauses
    another = marker.checkpoint != pipeline.digest
    version = None if another else _nearest(past.versions, question.around_ms, source, spare)
    if version is not None:
        stream.resume(version)
        what = f"the state in page {version.page} of the changelog, whose last reading is at offset {version.applied:,}"
        return Beginning(stream, version.through, what, from_page=True)
    begins_late = [f"the input begins at offset {source.begin:,}: the stream's first readings may be gone"]
    remarks = begins_late if source.begin else []
    if not another and marker.checkpoint_from > source.begin:
        batch = _last_before(log, question, pipeline, stream, source.begin, marker.checkpoint_from)
        another = bool(batch.keys) and int(batch.readings.times_ms[-1]) >= question.around_ms
        if not another:
            last = np.arange(max(0, len(batch.keys) - question.prime_readings), len(batch.keys))
            return _at_take_over(stream, batch.part(last), past)
        remarks.append(
            f"this checkpoint judges from offset {marker.checkpoint_from:,} on, which is after the readings wanted"
        )
    return Beginning(stream, source.begin, "the input's beginning", another, remarks=remarks)


def _at_take_over(stream: ReplayedStream, batch: ReadingBatch, past: StreamPast) -> Beginning:
    """Where this checkpoint took over from another, and warmed streams up; or where the service itself began."""
    marker = past.marker
    what = f"offset {marker.checkpoint_from:,}, from which on this checkpoint judges"
    records = records_in(marker.counts)
    if past.predecessor or records > marker.next_offset - marker.checkpoint_from:
        stream.prime(batch)
        what += f", warmed up by the {counted(len(batch.keys), 'reading')} before it"
    return Beginning(stream, marker.checkpoint_from, what)


def _nearest(versions: Sequence[Version], around_ms: int, source: Source, spare: int) -> Version | None:
    """The newest version before a time without an open alarm, at least `spare` readings before the newest of all."""
    known = (v for v in versions if v.scalar("age") > 0)
    earlier = list(takewhile(lambda v: v.scalar("time_ms") < around_ms, known))
    age = earlier[-1].scalar("age") if earlier else 0
    usable = [
        v for v in earlier if v.scalar("age") <= age - spare and not v.scalar("alarm") and v.through >= source.begin
    ]
    return usable[-1] if usable else None


def _last_before(
    log: GrouplessLog, question: Question, pipeline: Pipeline, stream: ReplayedStream, begin: int, end: int
) -> ReadingBatch:
    """The stream's latest readings before an offset, at least as many as streams are primed with if there are."""
    recent: deque[Fetched] = deque()
    count = 0
    for fetched in input_of(log, stream.task.partition, begin, end):
        mine = records_of(fetched, pipeline.decode(fetched, stream.task), question.stream)
        recent.append(mine)
        count += len(mine.keys)
        while count - len(recent[0].keys) > 2 * question.prime_readings:
            count -= len(recent.popleft().keys)
    joined = Fetched(
        stream.task.partition,
        [key for part in recent for key in part.keys],
        [value for part in recent for value in part.values],
        np.concatenate([np.empty(0, np.int64), *(part.offsets for part in recent)]),
        np.concatenate([np.empty(0, np.int64), *(part.times_ms for part in recent)]),
        end,
        end,
    )
    batch = pipeline.decode(joined, stream.task)
    return batch.part(np.flatnonzero([key == question.stream for key in batch.keys]))
