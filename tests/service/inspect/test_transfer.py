"""Carrying rows elsewhere: they are those of the marker, and a service goes on with them."""

import pytest
import torch

from models.detection.detector import Detector
from service.errors import LostState, RefusedInput
from service.inspect.inspection import find
from service.inspect.state_file import StateExport
from service.inspect.transfer import Limits, export_streams, import_streams
from service.log.memory_log import Topics
from service.log.port import Partition, Record
from service.pipeline import Pipeline
from service.state.changelog import Collected, Layout, read_marker
from service.state.changelog_keys import Origin
from service.state.writer import StateWriter
from tests.service.onlooker import (
    DIGEST,
    GROUP,
    MIDDLE,
    NUMERICS,
    P0,
    P1,
    READINGS,
    STREAMS,
    TOPIC,
    WANTED,
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

LIMITS = Limits(1_000, 1e9)


@pytest.fixture
def writer(layout: Layout) -> StateWriter:
    return StateWriter("other", layout, NUMERICS, "import", 10.0)


# --- taking out


@pytest.mark.slow
def test_what_is_taken_out_is_the_state_at_the_marker_whatever_the_pages_lag(
    topics: Topics, detector: Detector, layout: Layout, pipeline: Pipeline
) -> None:

    exported = export_streams(Onlooker(topics), search(), WANTED, pipeline, layout, NUMERICS)
    for n, stream in enumerate(WANTED):
        rows, applied = row_of(undisturbed(topics, P0, detector, topics.committed[P0]), stream)
        assert same_bits(exported.rows.take(torch.tensor([n])), rows)
        assert int(exported.applied[n]) == applied
        assert exported.manifest.streams[n].next_offset == topics.committed[P0]
        assert exported.manifest.streams[n].replay_from < topics.committed[P0], "there was something to catch up"


def test_rows_of_another_checkpoint_are_not_taken_out(topics: Topics) -> None:
    other, digest = other_model()
    layout = Layout.of(digest, other.rows_for([]))
    with pytest.raises(RefusedInput, match=f"judged by checkpoint {DIGEST[:12]} in group {GROUP}, found ffff"):
        export_streams(Onlooker(topics), search(), WANTED, Pipeline(other, digest, 1), layout, NUMERICS)


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
    topics: Topics, exported: StateExport, pipeline: Pipeline, layout: Layout, writer: StateWriter
) -> None:
    to = Topics({TOPIC: 2})
    to.skip(P1, 500)
    to.committed[P1] = 300
    onlooker = Onlooker(to, group_commits=True)
    commits, put = import_streams(onlooker, search(first=1, group="other"), exported, pipeline, writer, LIMITS)
    onlooker.commit(commits)
    assert put == {P1: 2}
    assert marker_at(to, P1, "other") == (300, 300, 2)
    found = find(onlooker, search(first=1, group="other"), WANTED[1], layout)
    assert found.applied == 299
    assert same_bits(found.rows, exported.rows.take(torch.tensor([1])))


@pytest.mark.slow
def test_a_service_goes_on_with_imported_rows_as_the_one_they_came_from(
    topics: Topics, detector: Detector, exported: StateExport, pipeline: Pipeline, layout: Layout
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
        assert not same_bits(row_of(service.task.slab, stream)[0], exported.rows.take(torch.tensor([n])))
    commits, _ = import_streams(onlooker, search(), exported, pipeline, writer, LIMITS)
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
    rows.scalar("age")[:] = 1_000.0
    return Detector(detector.forecaster, detector.config, {one: n for n, one in enumerate(WANTED)}, rows)


def test_rows_do_not_go_to_where_another_checkpoint_judges(
    topics: Topics, exported: StateExport, pipeline: Pipeline, writer: StateWriter
) -> None:
    other, digest = other_model()
    to = plant(200)
    Service(to, P0, other, digest).run()
    writer = StateWriter(GROUP, writer.layout, NUMERICS, "import", 10.0)
    with pytest.raises(RefusedInput, match="plant-0 is judged by checkpoint ffff"):
        import_streams(Onlooker(to, group_commits=True), search(), exported, pipeline, writer, LIMITS)


def test_rows_do_not_go_beyond_the_limit_on_streams(
    exported: StateExport, pipeline: Pipeline, writer: StateWriter
) -> None:
    with pytest.raises(RefusedInput, match=r"plant-0: it remembers 1 stream, which is limits\.max_streams"):
        import_streams(Onlooker(Topics({TOPIC: 2})), search(group="other"), exported, pipeline, writer, Limits(1, 1e9))


def test_losses_that_no_one_was_told_of_are_not_covered_up(
    topics: Topics, exported: StateExport, pipeline: Pipeline, layout: Layout
) -> None:
    replace_newest(topics, P0, "page", lambda record: flipped(record, -1))
    writer = StateWriter(GROUP, layout, NUMERICS, "import", 10.0)
    with pytest.raises(RefusedInput, match=r"were not reported yet \(corrupt\)"):
        import_streams(Onlooker(topics, group_commits=True), search(), exported, pipeline, writer, LIMITS)


def test_what_would_end_the_service_ends_the_import_too(
    topics: Topics, exported: StateExport, pipeline: Pipeline, layout: Layout
) -> None:
    topics.delete_before(P0, MIDDLE)
    writer = StateWriter(GROUP, layout, NUMERICS, "import", 10.0)
    with pytest.raises(LostState, match="its topic begins at"):
        import_streams(Onlooker(topics, group_commits=True), search(), exported, pipeline, writer, LIMITS)
