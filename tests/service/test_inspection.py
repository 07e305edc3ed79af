"""Looking at state, and carrying it elsewhere: what comes out is what a service would have, to the bit."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from models.detection import Detector
from models.rows import Scalars
from service import state_file
from service.changelog import Collected, Layout, Origin, read_marker
from service.errors import LostState, RefusedInput
from service.inspection import Limits, find, lines_of, pack_up, shown, unpack
from service.log import Partition, Record
from service.memory_log import Topics
from service.pipeline import Pipeline
from service.state_file import Luggage
from service.state_writer import StateWriter
from service.wire import StreamKey, rfc3339
from tests.data import QUICK, some_forecaster, some_kinds
from tests.mutations import mutations
from tests.service.onlooker import (
    DIGEST,
    GROUP,
    MAX_FUTURE_MS,
    NUMERICS,
    PARTITIONS,
    READINGS,
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

P0, P1 = PARTITIONS
MIDDLE = 1_000  # about half of the readings
WANTED = [key(0), key(3)]
LIMITS = Limits(1_000, 1e9)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.cold(some_forecaster(2), QUICK)


@pytest.fixture(scope="module")
def layout(detector: Detector) -> Layout:
    return Layout.of(DIGEST, detector.rows_for([]))


@pytest.fixture(scope="module")
def pipeline(detector: Detector) -> Pipeline:
    return Pipeline(detector, DIGEST, MAX_FUTURE_MS)


@pytest.fixture
def topics(detector: Detector) -> Topics:
    """Judged half-way; the pages are up to ten batches old."""
    topics = plant()
    for partition in PARTITIONS:
        Service(topics, partition, detector).run(MIDDLE)
    return topics


@pytest.fixture
def writer(layout: Layout) -> StateWriter:
    return StateWriter("other", layout, NUMERICS, "import", 10.0)


# --- showing


def test_a_stream_is_shown_as_it_was_after_the_last_reading_in_its_page(
    topics: Topics, detector: Detector, layout: Layout
) -> None:
    found = find(Onlooker(topics), search(), key(0), layout)
    rows, applied = row_of(undisturbed(topics, P0, detector, found.through), key(0))
    assert (found.applied, found.marker.next_offset) == (applied, topics.committed[P0])
    assert same_bits(found.rows, rows)
    assert found.through < found.marker.next_offset, "a page lags behind its marker"

    state = shown(found, key(0), detector, DIGEST)
    scalars = Scalars[float](*rows.scalars[0].tolist())
    assert (state.topic, state.partition, state.group, state.page) == (TOPIC, 0, GROUP, 0)
    assert (state.readings, state.scored) == (scalars.age, True)
    assert (state.residual_threshold, state.level_threshold) == (scalars.threshold, scalars.tilt_threshold)
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


# --- taking out


@pytest.mark.slow
def test_what_is_taken_out_is_the_state_at_the_marker_whatever_the_pages_lag(
    topics: Topics, detector: Detector, layout: Layout, pipeline: Pipeline
) -> None:
    luggage = pack_up(Onlooker(topics), search(), WANTED, pipeline, layout, NUMERICS)
    for n, stream in enumerate(WANTED):
        rows, applied = row_of(undisturbed(topics, P0, detector, topics.committed[P0]), stream)
        assert same_bits(luggage.rows.take(torch.tensor([n])), rows)
        assert int(luggage.applied[n]) == applied
        assert luggage.carried.streams[n].next_offset == topics.committed[P0]
        assert luggage.carried.streams[n].replay_from < topics.committed[P0], "there was something to catch up"


def test_rows_of_another_checkpoint_are_not_taken_out(topics: Topics) -> None:
    other, digest = other_model()
    layout = Layout.of(digest, other.rows_for([]))
    with pytest.raises(RefusedInput, match=f"judged by checkpoint {DIGEST[:12]} in group {GROUP}, found ffff"):
        pack_up(Onlooker(topics), search(), WANTED, Pipeline(other, digest, 1), layout, NUMERICS)


# --- the file


@pytest.fixture
def luggage(topics: Topics, pipeline: Pipeline, layout: Layout) -> Luggage:
    return pack_up(Onlooker(topics), search(), WANTED, pipeline, layout, NUMERICS)


def test_a_file_holds_what_was_put_into_it(tmp_path: Path, luggage: Luggage, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, luggage)
    found = state_file.load(path, layout)
    assert same_bits(found.rows, luggage.rows)
    assert found.applied.tolist() == luggage.applied.tolist()
    assert found.keys == WANTED
    assert found.carried.streams == luggage.carried.streams
    assert (found.carried.numerics, found.carried.checkpoint) == (NUMERICS, DIGEST)


def test_a_file_holds_streams_without_a_cell_too(tmp_path: Path, luggage: Luggage) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = Detector.cold(some_forecaster(2, cell="gru")).rows_for([b"a", b"b"])
    rows.hidden.copy_(torch.randn(rows.hidden.shape, generator=generator))
    layout = Layout.of(DIGEST, rows)
    path = tmp_path / "rows.state"
    carried = msgspec.structs.replace(luggage.carried, names=layout.names, shapes=layout.shapes)
    state_file.save(path, Luggage(carried, rows, luggage.applied))
    found = state_file.load(path, layout)
    assert same_bits(found.rows, rows)
    assert found.rows.cell.shape == (2, 1, 0)


def test_a_file_that_is_damaged_anywhere_is_refused(tmp_path: Path, luggage: Luggage, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, luggage)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for place in (0, 20, 8 + header // 2, *range(8 + header, len(whole), 97), len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(RefusedInput, match=r"rows\.state"):
            state_file.load(path, layout)
    for length in (0, 7, 8, 100, 8 + header, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RefusedInput, match=r"rows\.state"):
            state_file.load(path, layout)


def test_whatever_a_file_says_it_is_read_or_refused(tmp_path: Path, luggage: Luggage, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, luggage)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    said = json.loads(header["__metadata__"][state_file.HEADER])
    tried, said_of_it = 0, list[str]()
    described = ({"__metadata__": {state_file.HEADER: json.dumps(one)}} for _, one in mutations(said))
    shaped = (one for _, one in mutations({name: header[name] for name in header if name != "__metadata__"}))
    for changed in (*described, *shaped):
        written = json.dumps({**header, **changed}).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + whole[8 + length :])
        tried += 1
        try:
            state_file.load(path, layout)
        except RefusedInput as error:
            said_of_it.append(str(error))
    assert tried > 500
    assert len(said_of_it) > tried / 2
    assert all(message.startswith(f"{path}: ") for message in said_of_it)


def test_a_state_that_is_no_number_is_refused(tmp_path: Path, luggage: Luggage, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    luggage.rows.scalars[0, 0] = torch.nan
    state_file.save(path, luggage)
    with pytest.raises(RefusedInput, match="tensor scalars holds values that are not finite"):
        state_file.load(path, layout)


def test_a_file_of_another_checkpoint_or_other_sizes_is_refused(
    tmp_path: Path, luggage: Luggage, layout: Layout
) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, luggage)
    with pytest.raises(RefusedInput, match=f"checkpoint {DIGEST[:12]}'s and mean nothing to ffff"):
        state_file.load(path, Layout("f" * 64, layout.shapes))
    with pytest.raises(RefusedInput, match="other quantities"):
        state_file.load(path, Layout(DIGEST, ((1, 32), *layout.shapes[1:])))


# --- putting in


def marker_at(topics: Topics, partition: Partition, group: str) -> tuple[int, int, int]:
    """Where its newest marker says the partition is: next_offset, replay_from, streams."""
    collected = Collected(Origin(group, partition))
    records = topics.changelog[partition]
    collected.add([record.key for record in records], [record.value for record in records])
    assert collected.marker is not None
    marker = read_marker(collected.origin, collected.marker)
    return marker.next_offset, marker.replay_from, marker.streams


def test_a_group_without_state_begins_with_the_rows_where_it_has_committed(
    topics: Topics, luggage: Luggage, pipeline: Pipeline, layout: Layout, writer: StateWriter
) -> None:
    to = Topics({TOPIC: 2})
    to.skip(P1, 500)
    to.committed[P1] = 300
    onlooker = Onlooker(to, group_commits=True)
    commits, put = unpack(onlooker, search(first=1, group="other"), luggage, pipeline, writer, LIMITS)
    onlooker.commit(commits)
    assert put == {P1: 2}
    assert marker_at(to, P1, "other") == (300, 300, 2)
    found = find(onlooker, search(first=1, group="other"), WANTED[1], layout)
    assert found.applied == 299
    assert same_bits(found.rows, luggage.rows.take(torch.tensor([1])))


@pytest.mark.slow
def test_a_service_goes_on_with_imported_rows_as_the_one_they_came_from(
    topics: Topics, detector: Detector, luggage: Luggage, pipeline: Pipeline, layout: Layout
) -> None:
    """Into a group that is as far as the other and knows all of these streams, and one more; nothing else changes."""
    to = plant()
    stranger = Record(b"stranger", b'{"timestamp":1700000000000,"values":[1,2]}')
    to.append(P0, [stranger])
    service = Service(to, P0, other_rows(detector), flush_interval_s=20.0).run(MIDDLE)
    before = marker_at(to, P0, GROUP)
    assert before[1] < before[0], "there is something to be judged again"

    writer = StateWriter(GROUP, layout, NUMERICS, "import", 10.0)
    onlooker = Onlooker(to, group_commits=True)
    for n, stream in enumerate(WANTED):
        assert not same_bits(row_of(service.task.slab, stream)[0], luggage.rows.take(torch.tensor([n])))
    commits, _ = unpack(onlooker, search(), luggage, pipeline, writer, LIMITS)
    neighbours = {n: row_of(service.task.slab, key(n))[0] for n in range(STREAMS) if key(n) not in WANTED}
    onlooker.commit(commits)
    assert marker_at(to, P0, GROUP)[0] == before[0]

    taken_over = Service(to, P0, detector)
    for n, rows in neighbours.items():
        assert same_bits(row_of(taken_over.task.slab, key(n))[0], rows), "a neighbour changed"
    here, there = undisturbed(topics, P0, detector, READINGS), taken_over.run().task.slab
    for stream in WANTED:
        assert same_bits(row_of(there, stream)[0], row_of(here, stream)[0])


def other_rows(detector: Detector) -> Detector:
    """The same checkpoint; the streams to be imported have another past there, as it knows them from training."""
    rows = detector.rows_for(WANTED)
    for name, value in (("age", 1_000.0), ("rescale_at", 1_024.0)):
        rows.scalars[:, Scalars._fields.index(name)] = value
    return Detector(detector.forecaster, detector.config, {one: n for n, one in enumerate(WANTED)}, rows)


def test_rows_do_not_go_to_where_another_checkpoint_judges(
    topics: Topics, luggage: Luggage, pipeline: Pipeline, writer: StateWriter
) -> None:
    other, digest = other_model()
    to = plant(200)
    Service(to, P0, other, digest).run()
    writer = StateWriter(GROUP, writer.layout, NUMERICS, "import", 10.0)
    with pytest.raises(RefusedInput, match="plant-0 is judged by checkpoint ffff"):
        unpack(Onlooker(to, group_commits=True), search(), luggage, pipeline, writer, LIMITS)


def test_rows_do_not_go_beyond_the_limit_on_streams(luggage: Luggage, pipeline: Pipeline, writer: StateWriter) -> None:
    with pytest.raises(RefusedInput, match=r"plant-0: it remembers 1 stream, which is limits\.max_streams"):
        unpack(Onlooker(Topics({TOPIC: 2})), search(group="other"), luggage, pipeline, writer, Limits(1, 1e9))


def test_losses_that_nobody_was_told_of_are_not_covered_up(
    topics: Topics, luggage: Luggage, pipeline: Pipeline, layout: Layout
) -> None:
    replace_newest(topics, P0, "page", lambda record: flipped(record, -1))
    writer = StateWriter(GROUP, layout, NUMERICS, "import", 10.0)
    with pytest.raises(RefusedInput, match=r"nobody was told of yet \(corrupt\)"):
        unpack(Onlooker(topics, group_commits=True), search(), luggage, pipeline, writer, LIMITS)


def test_what_would_end_the_service_ends_the_import_too(
    topics: Topics, luggage: Luggage, pipeline: Pipeline, layout: Layout
) -> None:
    topics.delete_before(P0, MIDDLE)
    writer = StateWriter(GROUP, layout, NUMERICS, "import", 10.0)
    with pytest.raises(LostState, match="its topic begins at"):
        unpack(Onlooker(topics, group_commits=True), search(), luggage, pipeline, writer, LIMITS)
