"""`telltale replay`: judge a stream's readings around a time again, and show what was published, byte for byte.

From the nearest state: of every version of the stream's page that is still in the changelog, the newest that lies far
enough before the wanted readings and in which no alarm was open; else from the input's beginning. From there the
stream goes through the very Pipeline of the service, on until no anomaly of the wanted readings is open any more.
Where the changelog has versions of the row from later on, what comes out is held against them, bit by bit.

A stream's verdicts depend on its own readings alone; of its neighbours only the partition's clock is needed, which
forgets idle streams.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from service.errors import RefusedInput
from service.inspect.beginning import Beginning, beginning_of
from service.inspect.checks import Checks
from service.inspect.groupless_log import GrouplessLog, Search, input_of
from service.inspect.past import StreamPast, past_of
from service.inspect.question import Question, Replayed
from service.inspect.replayed_stream import JudgedAgain
from service.inspect.window import ReplayWindow, ToldAnomalies
from service.log.port import Fetched, Partition, Source
from service.pipeline import Pipeline
from service.state.changelog import Layout


class Replay(NamedTuple):
    """A stream's readings around a time, and where they come from."""

    past: StreamPast
    source: Source
    beginning: Beginning
    window: ReplayWindow
    anomalies: ToldAnomalies
    checks: Checks

    @property
    def partition(self) -> Partition:
        return self.past.origin.partition

    def arithmetic_remarks(self, numerics: str) -> Iterator[str]:
        """numerics: this machine's."""
        if self.past.marker.numerics != numerics:
            yield f"the service's arithmetic was {self.past.marker.numerics}, this machine's is {numerics}"

    def rules_remarks(self, pipeline: Pipeline) -> Iterator[str]:
        """Where other rules of the sensors may have judged than this pipeline's."""
        served, since = self.past.marker.rules or "", self.past.marker.rules_from
        here = "" if pipeline.sensors is None else pipeline.sensors.digest
        if served != here:
            yield (
                f"the service judges with other rules of the sensors (detection.rules): {served or 'none'}, these "
                f"settings have {here or 'none'}; other values count as missing"
            )
        elif since is not UNSET and self.beginning.offset < since:
            yield (
                f"the rules of the sensors (detection.rules) are in force from offset {since:,} on: what was judged "
                "before it may have been judged with others"
            )


def replay(
    log: GrouplessLog, search: Search, question: Question, pipeline: Pipeline, layout: Layout, numerics: str
) -> Replayed:
    """Raises RefusedInput when the stream has no readings, or its partition no state that says who judged it."""
    found = judge_around(log, search, question, pipeline, layout, is_done=_is_compared)
    beginning, window, anomalies, partition = found.beginning, found.window, found.anomalies, found.partition
    if not window.readings:
        raise RefusedInput(
            f"{partition}: no reading of {question.stream.decode()} from offset {beginning.offset} to"
            f" {found.source.end}; give --partition if it is sent elsewhere"
        )
    remarks = [
        *beginning.remarks,
        *window.remarks(),
        *anomalies.remarks(window),
        *found.arithmetic_remarks(numerics),
        *found.rules_remarks(pipeline),
    ]
    return Replayed(
        stream=question.stream.decode(),
        topic=partition.topic,
        partition=partition.number,
        checkpoint=pipeline.digest,
        another_model=beginning.another_model,
        begins=beginning.offset,
        begins_with=beginning.what,
        features=pipeline.detector.features,
        readings=tuple(window.readings),
        events=tuple(map(msgspec.Raw, anomalies.events(window))),
        checks=tuple(found.checks.done),
        remarks=tuple(remarks),
    )


def judge_around(
    log: GrouplessLog,
    search: Search,
    question: Question,
    pipeline: Pipeline,
    layout: Layout,
    is_done: Callable[[Replay], bool],
    look: Callable[[JudgedAgain, Replay], None] = lambda *_: None,
) -> Replay:
    """Judge the readings wanted again, and on until `is_done`; from further back where too few were before the time.

    look: called with everything that is judged, before the window has it; a new Replay begins with the first again.
    """
    past = past_of(log, search, question.stream, layout)
    source = log.inspect(past.origin.partition)
    for spare in (0, question.readings // 2):
        beginning = beginning_of(log, question, pipeline, past, source, spare)
        found = _judge_from(log, question, past, source, beginning, is_done, look)
        if not beginning.from_page or found.window.has_enough_before:
            break
    return found


def _is_compared(found: Replay) -> bool:
    """The readings wanted are judged, their anomalies closed, and a state behind them is compared."""
    window = found.window
    return window.full and not found.anomalies.open_in(window) and found.checks.reached(window.last[0])


def _judge_from(
    log: GrouplessLog,
    question: Question,
    past: StreamPast,
    source: Source,
    beginning: Beginning,
    is_done: Callable[[Replay], bool],
    look: Callable[[JudgedAgain, Replay], None],
) -> Replay:
    stream = beginning.stream
    window = ReplayWindow(question.around_ms, question.readings, stream.clock_ms)
    anomalies = ToldAnomalies()
    checks = Checks([] if beginning.another_model else past.versions, beginning.offset)
    found = Replay(past, source, beginning, window, anomalies, checks)
    for fetched in input_of(log, past.origin.partition, beginning.offset, source.end):
        for part in _cut(fetched, checks.borders()):
            for judged in stream.judge(part):
                look(judged, found)
                anomalies.add(judged.processed)
                window.add(judged.processed, judged.records)
            checks.look(stream, part.next_offset)
        if is_done(found):
            break
    return found


def _cut(fetched: Fetched, borders: Sequence[int]) -> Iterator[Fetched]:
    """The records in pieces that end at these offsets."""
    inner = np.searchsorted(fetched.offsets, [border for border in borders if border <= int(fetched.offsets[-1])])
    for begin, end in pairwise(sorted({0, *inner.tolist(), len(fetched.keys)})):
        yield fetched.part(begin, end)
