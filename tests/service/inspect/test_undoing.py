"""What a stream learned in a span is undone: its row is the one of an input without those readings."""

import msgspec
import numpy as np
import pytest
import torch

from models.detection.detector import Detector
from models.detection.rows import Rows
from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.inspect.inspection import find
from service.inspect.question import Question
from service.inspect.transfer import Limits
from service.inspect.undoing import ALARM, Span, Undone, undo
from service.log.memory_log import Topics
from service.log.port import Record
from service.pipeline import Pipeline
from service.state.changelog import Layout
from service.state.writer import StateWriter
from tests.service.onlooker import (
    DIGEST,
    GROUP,
    MAX_FUTURE_MS,
    MIDDLE,
    NUMERICS,
    P0,
    TOPIC,
    Onlooker,
    Service,
    key,
    other_model,
    plant,
    row_of,
    same_bits,
    search,
    undisturbed,
)

NEVER_S = 1e9
STREAM = key(0)


def undone(topics: Topics, detector: Detector, span: Span, stream: StreamKey = STREAM, digest: str = DIGEST) -> Undone:
    """And committed."""
    pipeline, onlooker = Pipeline(detector, digest, MAX_FUTURE_MS), Onlooker(topics, group_commits=True)
    layout = Layout.of(digest, detector.rows_for([]))
    writer = StateWriter(GROUP, layout, NUMERICS, "undo", 10.0)
    question = Question(stream, span.from_ms, 0, NEVER_S, 0)
    found = undo(onlooker, search(partition=0), question, span, pipeline, writer, Limits(1_000, NEVER_S))
    onlooker.commit([found.commit])
    return found


def times_of(topics: Topics, detector: Detector, until: int) -> dict[int, int]:
    """Of the stream's readings before an offset, by offset; event time."""
    fetched = topics.fetch(P0, 0, until)
    assert fetched is not None
    batch = Pipeline(detector, DIGEST, MAX_FUTURE_MS).decode(fetched)
    mine = np.flatnonzero([one == STREAM for one in batch.keys])
    offsets, times = batch.readings.offsets[mine].tolist(), batch.readings.times_ms[mine].tolist()
    return dict(zip(offsets, times, strict=True))


def span_between(topics: Topics, detector: Detector, first: float, last: float, until: int = MIDDLE) -> Span:
    """Event time of some of the stream's readings before an offset, as shares of their number."""
    times = sorted(times_of(topics, detector, until).values())
    return Span(times[int(first * len(times))], times[int(last * len(times))])


def without(topics: Topics, detector: Detector, span: Span, until: int) -> Topics:
    """The same input, in which the readings of the span cannot be read."""
    left_out = {at for at, time in times_of(topics, detector, until).items() if span.from_ms <= time < span.until_ms}
    assert len(left_out) > 10
    fetched = topics.fetch(P0, 0, until)
    assert fetched is not None
    other = Topics({TOPIC: 2})
    values = [b"{" if n in left_out else value for n, value in enumerate(fetched.values)]
    other.append(P0, [Record(name, value) for name, value in zip(fetched.keys, values, strict=True)])
    return other


def remembered(topics: Topics, detector: Detector) -> Rows:
    return find(Onlooker(topics), search(partition=0), STREAM, Layout.of(DIGEST, detector.rows_for([]))).rows


def assert_rebuilt(topics: Topics, detector: Detector, span: Span, before: Rows, found: Rows) -> None:
    """All of the row is that of the input without the span, but for the alarm, which is the one that was published."""
    until = topics.committed[P0]
    expected = row_of(undisturbed(without(topics, detector, span, until), P0, detector, until), STREAM)[0]
    assert not same_bits(expected, before), "the span taught it something"
    for name in ALARM:
        expected.scalar(name)[:] = before.scalar(name)
    expected.votes[:] = before.votes
    assert same_bits(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "last"), [(0.1, 0.3), (0.6, 0.8), (0.9, 0.99)])
def test_the_row_is_that_of_an_input_without_the_readings_of_the_span(
    topics: Topics, detector: Detector, first: float, last: float
) -> None:
    span, until = span_between(topics, detector, first, last), topics.committed[P0]
    before = row_of(undisturbed(topics, P0, detector, until), STREAM)[0]
    told = len(topics.anomalies[P0])
    found = undone(topics, detector, span)
    rows, times = remembered(topics, detector), times_of(topics, detector, until).values()
    assert_rebuilt(topics, detector, span, before, rows)
    assert found.left_out == sum(span.from_ms <= time < span.until_ms for time in times)
    assert (found.partition, len(topics.anomalies[P0])) == (P0, told), "nothing is published"


@pytest.mark.slow
def test_it_begins_with_the_nearest_state_before_the_span_where_the_changelog_has_one(detector: Detector) -> None:
    topics = plant()
    Service(topics, P0, detector, flush_interval_s=2.0).run(MIDDLE)
    span, until = span_between(topics, detector, 0.6, 0.8), topics.committed[P0]
    before = row_of(undisturbed(topics, P0, detector, until), STREAM)[0]
    found = undone(topics, detector, span)
    assert "of the changelog, whose last reading is at offset" in found.begins_with
    assert found.judged < len(times_of(topics, detector, until)) - found.left_out, "not from the beginning"
    assert_rebuilt(topics, detector, span, before, remembered(topics, detector))


@pytest.mark.slow
def test_neighbours_stay_and_the_service_goes_on_with_the_rebuilt_row(topics: Topics, detector: Detector) -> None:
    old = undisturbed(topics, P0, detector, topics.committed[P0])
    undone(topics, detector, span_between(topics, detector, 0.5, 0.7))
    service = Service(topics, P0, detector)
    for stream in (key(1), key(2), key(4)):
        assert same_bits(row_of(service.task.slab, stream)[0], row_of(old, stream)[0])
    assert same_bits(row_of(service.task.slab, STREAM)[0], remembered(topics, detector))


@pytest.mark.slow
def test_an_anomaly_that_is_open_stays_open_and_is_closed_once(detector: Detector) -> None:
    topics = plant(5_000)
    service = Service(topics, P0, detector, flush_interval_s=2.0)
    while not row_of(service.run(max(MIDDLE, (service.task.next_offset or 0) + 50)).task.slab, STREAM)[0].scalar(
        "alarm"
    ):
        assert (service.task.next_offset or 0) < 5_000, "some anomaly opens"
    until = topics.committed[P0]
    undone(topics, detector, span_between(topics, detector, 0.3, 0.6, until))
    assert float(remembered(topics, detector).scalar("alarm")[0]) > 0
    Service(topics, P0, detector).run()
    open_ones, closed = set[str](), set[str]()
    for record in topics.anomalies[P0]:
        event = msgspec.json.decode(record.value or b"")
        if event["subject"] != STREAM.decode() or "anomaly" not in event["data"]:
            continue
        name = event["data"]["anomaly"]
        assert name not in closed
        if event["type"].endswith("opened"):
            assert not open_ones, "one after the other"
            open_ones.add(name)
        assert name in open_ones
        if event["type"].endswith("closed"):
            open_ones.remove(name)
            closed.add(name)
    assert len(closed) > 2


def test_where_there_is_nothing_to_undo_it_is_said(topics: Topics, detector: Detector) -> None:
    times = times_of(topics, detector, topics.committed[P0]).values()
    with pytest.raises(RefusedInput, match=r"found no reading of stream-0 in the span from offset \d+ on"):
        undone(topics, detector, Span(max(times) + 1, max(times) + 2))
    with pytest.raises(RefusedInput, match="all of them in the span: nothing is left"):
        undone(topics, detector, Span(0, max(times) + 1))
    other, digest = other_model()
    with pytest.raises(RefusedInput, match="is judged by checkpoint"):
        undone(topics, other, Span(0, 1), digest=digest)


def test_a_stream_that_is_not_remembered_is_named(topics: Topics, detector: Detector) -> None:
    with pytest.raises(RefusedInput, match="nobody is not remembered in group service"):
        undone(topics, detector, Span(0, 1), StreamKey(b"nobody"))


def test_a_row_that_was_rebuilt_is_not_judged_again_with_what_was_left_out(topics: Topics, detector: Detector) -> None:
    """Pages lag behind the marker: the rebuilt row counts as judged up to it."""
    undone(topics, detector, span_between(topics, detector, 0.5, 0.7))
    rows = remembered(topics, detector)
    again = Service(topics, P0, detector).task.slab
    assert same_bits(row_of(again, STREAM)[0], rows)
    assert torch.equal(again.applied[again.find([STREAM])], torch.tensor([topics.committed[P0] - 1]))
