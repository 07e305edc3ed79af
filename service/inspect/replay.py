"""`telltale replay`: judge a stream's readings around a time again, and show what was published, byte for byte.

From the nearest state: of every version of the stream's page that is still in the changelog, the newest that lies far
enough before the wanted readings and in which no alarm was open; else from the input's beginning. From there the
stream goes through the very Pipeline of the service, on until no anomaly of the wanted readings is open any more.
Where the changelog has versions of the row from later on, what comes out is held against them, bit by bit.

A stream's verdicts depend on its own readings alone; of its neighbours only the partition's clock is needed, which
forgets idle streams.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from service.errors import RefusedInput
from service.inspect.beginning import Beginning, beginning_of
from service.inspect.checks import Checks
from service.inspect.groupless_log import GrouplessLog, Search, input_of
from service.inspect.past import StreamPast, past_of
from service.inspect.question import Question, Replayed
from service.inspect.window import ReplayWindow, ToldAnomalies
from service.log.port import Fetched, Source
from service.pipeline import Pipeline
from service.state.changelog import Layout


def replay(
    log: GrouplessLog, search: Search, question: Question, pipeline: Pipeline, layout: Layout, numerics: str
) -> Replayed:
    """Raises RefusedInput when the stream has no readings, or its partition no state that says who judged it."""
    past = past_of(log, search, question.stream, layout)
    partition, source = past.origin.partition, log.inspect(past.origin.partition)
    for spare in (0, question.readings // 2):
        beginning = beginning_of(log, question, pipeline, past, source, spare)
        window, anomalies, checks = _judge_again(log, question, past, source, beginning)
        if not beginning.from_page or window.has_enough_before:
            break
    if not window.readings:
        raise RefusedInput(
            f"{partition}: no reading of {question.stream.decode()} from offset {beginning.offset} to {source.end};"
            " give --partition if it is sent elsewhere"
        )
    remarks = [*beginning.remarks, *window.remarks(), *anomalies.remarks(window)]
    if past.marker.numerics != numerics:
        remarks.append(f"the service's arithmetic was {past.marker.numerics}, this machine's is {numerics}")
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
        checks=tuple(checks.done),
        remarks=tuple(remarks),
    )


def _judge_again(
    log: GrouplessLog, question: Question, past: StreamPast, source: Source, beginning: Beginning
) -> tuple[ReplayWindow, ToldAnomalies, Checks]:
    """Until the readings wanted are judged, their anomalies closed, and a state behind them is compared."""
    stream = beginning.stream
    window = ReplayWindow(question.around_ms, question.readings, stream.clock_ms)
    anomalies = ToldAnomalies()
    checks = Checks([] if beginning.another_model else past.versions, beginning.offset)
    for fetched in input_of(log, past.origin.partition, beginning.offset, source.end):
        for part in _cut(fetched, checks.borders()):
            for mine, processed in stream.judge(part):
                anomalies.add(processed)
                window.add(processed, mine)
            checks.look(stream, part.next_offset)
        if window.full and not anomalies.open_in(window) and checks.reached(window.last[0]):
            break
    return window, anomalies, checks


def _cut(fetched: Fetched, borders: Sequence[int]) -> Iterator[Fetched]:
    """The records in pieces that end at these offsets."""
    inner = np.searchsorted(fetched.offsets, [border for border in borders if border <= int(fetched.offsets[-1])])
    for begin, end in pairwise(sorted({0, *inner.tolist(), len(fetched.keys)})):
        yield fetched.part(begin, end)
