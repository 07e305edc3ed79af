"""Looking at streams: a row is found wherever it is, and shown with how old it is."""

import pytest

from models.data.rfc3339 import rfc3339
from models.detection.detector import Detector
from models.detection.rows import SCALARS, Scalars
from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.inspect.inspection import find, shown
from service.inspect.state_lines import lines_of
from service.log.memory_log import Topics
from service.log.port import Record
from service.state.changelog import Layout
from tests.data import QUICK, some_forecaster, some_kinds
from tests.service.onlooker import (
    DIGEST,
    GROUP,
    MIDDLE,
    P0,
    P1,
    STREAMS,
    TOPIC,
    Onlooker,
    Service,
    flipped,
    key,
    other_model,
    plant,
    replace_newest,
    row_of,
    same_bits,
    search,
    undisturbed,
)


def test_a_stream_is_shown_as_it_was_after_the_last_reading_in_its_page(
    topics: Topics, detector: Detector, layout: Layout
) -> None:

    found = find(Onlooker(topics), search(), key(0), layout)
    rows, applied = row_of(undisturbed(topics, P0, detector, found.through), key(0))
    assert (found.applied, found.marker.next_offset) == (applied, topics.committed[P0])
    assert same_bits(found.rows, rows)
    assert found.through < found.marker.next_offset, "a page lags behind its marker"

    state = shown(found, key(0), detector, DIGEST)
    scalars = Scalars[float].of(rows.scalars[0, : len(SCALARS)].tolist())
    assert (state.topic, state.partition, state.group, state.page) == (TOPIC, 0, GROUP, 0)
    assert (state.readings, state.scored) == (scalars.age, True)
    assert (state.residual_threshold, state.level_threshold) == (scalars.residual_threshold, scalars.level_threshold)
    assert state.time == rfc3339(int(scalars.time_ms))
    assert state.hidden_norm == pytest.approx(float(rows.hidden.norm()))
    assert [channel.name for channel in state.channels] == ["f0", "f1"]
    assert state.channels[1].spread == float(rows.channels[0, 4, 1])


def test_a_stream_that_remembers_symptoms_is_shown_as_any_other(detector: Detector) -> None:
    named, states = detector.with_kinds(some_kinds()), []
    for one in (detector, named):
        topics = plant()
        Service(topics, P0, one).run(MIDDLE)
        found = find(Onlooker(topics), search(), key(0), Layout.of(DIGEST, one.rows_for([])))
        states.append(shown(found, key(0), one, DIGEST))
    assert states[0] == states[1]


def test_what_is_shown_says_how_old_it_may_be_and_whose_it_is(
    topics: Topics, detector: Detector, layout: Layout
) -> None:
    found = find(Onlooker(topics), search(), key(0), layout)
    said = "\n".join(lines_of(shown(found, key(0), detector, DIGEST), 12.5))
    assert "rows are at most 12.5 s old" in said
    assert f"judged up to offset {found.marker.next_offset:,}" in said
    assert f"checkpoint  {DIGEST[:12]}, the one given" in said
    said = "\n".join(lines_of(shown(found, key(0), detector, "f" * 64), 12.5))
    assert f"checkpoint  {DIGEST[:12]}, NOT the one given" in said


def test_a_stream_that_warms_up_and_one_in_alarm_are_told_apart(detector: Detector, layout: Layout) -> None:
    topics = plant()
    service = Service(topics, P0, detector, flush_interval_s=1.0).run(50)
    state = shown(find(Onlooker(topics), search(), key(0), layout), key(0), detector, DIGEST)
    assert not state.scored
    assert state.alarm is None
    assert "not scored before the 81th" in "\n".join(lines_of(state, 1.0))
    while not service.task.open_alarms:
        service.run((service.task.next_offset or 0) + 1)
    states = [shown(find(Onlooker(topics), search(), key(n), layout), key(n), detector, DIGEST) for n in range(STREAMS)]
    (alarmed,) = [state for state in states if state.alarm is not None][: service.task.open_alarms]
    opened = [record for record in topics.anomalies[P0] if record.key == alarmed.stream.encode()]
    assert alarmed.alarm is not None
    assert f'"opened_at":"{alarmed.alarm.since}"'.encode() in (opened[-1].value or b"")


def test_a_row_of_another_checkpoint_with_rows_of_the_same_sizes_can_be_looked_at(
    topics: Topics, detector: Detector
) -> None:
    other, digest = other_model()
    found = find(Onlooker(topics), search(), key(0), Layout.of(digest, other.rows_for([])))
    assert found.checkpoint == DIGEST
    assert not shown(found, key(0), other, digest).is_given_checkpoint
    assert same_bits(found.rows, row_of(undisturbed(topics, P0, detector, found.through), key(0))[0])


def test_a_row_of_other_sizes_is_refused_by_name_of_its_checkpoint(topics: Topics) -> None:
    larger = Detector.cold(some_forecaster(2, hidden=32), QUICK)
    with pytest.raises(RefusedInput, match=rf"plant-0: page 0.*{DIGEST[:12]}"):
        find(Onlooker(topics), search(), key(0), Layout.of("f" * 64, larger.rows_for([])))


def test_a_stream_is_found_in_whatever_partition_it_is(topics: Topics, layout: Layout) -> None:
    """Producers may choose partitions; only a search in all of them finds such a stream."""
    stream = StreamKey(b"elsewhere")
    topics.append(P1, [Record(stream, b'{"timestamp":1700000000000,"values":[1,2]}')])
    Service(topics, P1, Detector.cold(some_forecaster(2), QUICK)).run()
    assert find(Onlooker(topics), search(first=0), stream, layout).origin.partition == P1
    with pytest.raises(RefusedInput, match=r"no stream elsewhere .*: in plant-0 \(5 streams\)$"):
        find(Onlooker(topics), search(partition=0), stream, layout)


def test_a_stream_that_is_nowhere_is_told_with_what_was_looked_through(topics: Topics, layout: Layout) -> None:
    with pytest.raises(RefusedInput, match=r"no stream nobody .* plant-1 \(5 streams\), plant-0 \(5 streams\)$"):
        find(Onlooker(topics), search(first=1), StreamKey(b"nobody"), layout)
    with pytest.raises(RefusedInput, match="plant has partitions 0 to 1, found no partition 2"):
        find(Onlooker(topics), search(partition=2), key(0), layout)


def test_without_a_marker_there_is_no_state(topics: Topics, layout: Layout) -> None:
    with pytest.raises(RefusedInput, match="no state of plant, group strangers"):
        find(Onlooker(topics), search(group="strangers"), key(0), layout)


def test_a_page_that_cannot_be_read_is_told_by_the_roster(topics: Topics, layout: Layout) -> None:
    replace_newest(topics, P0, "page", lambda record: flipped(record, -40))
    with pytest.raises(RefusedInput, match=r"plant-0: the stream's row is lost \(corrupt\): page 0: the checksum"):
        find(Onlooker(topics), search(), key(0), layout)


def test_a_page_of_which_not_even_the_streams_are_known_may_hold_it(topics: Topics, layout: Layout) -> None:
    for kind in ("page", "roster"):
        replace_newest(topics, P0, kind, lambda record: record._replace(value=b"\0" * 90))
    with pytest.raises(RefusedInput, match=r"unreadable, so that it may be there: plant-0, page 0: starts with"):
        find(Onlooker(topics), search(partition=0), key(0), layout)


def test_a_marker_that_cannot_be_read_is_told(topics: Topics, layout: Layout) -> None:
    replace_newest(topics, P0, "marker", lambda record: record._replace(value=b"{}"))
    with pytest.raises(RefusedInput, match="plant-0: the marker is not JSON as expected"):
        find(Onlooker(topics), search(), key(0), layout)
