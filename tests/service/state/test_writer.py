"""Which pages are due, by a clock that the test turns, and what a commit is completed with."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models.detection.rows import Rows, fresh
from models.net.forecaster import ForecasterConfig
from service.input.reading_batch import StreamKey
from service.log.port import Commit, Partition
from service.state.changelog import Collected, Layout, read_marker, read_page, roster_agrees
from service.state.changelog_keys import Origin, page_key, roster_key
from service.state.slab import PAGE_ROWS, Page, StateSlab
from service.state.task import IDLE_TICKS, EventClock, PartitionTask
from service.state.writer import PAGES_AT_ONCE, StateWriter

CONFIG = ForecasterConfig(("flow",), hidden=16)
HERE = Partition("plant", 3)
INTERVAL_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def fresh_rows(streams: Sequence[bytes]) -> Rows:
    return fresh(len(streams), CONFIG)


def a_task(pages: int) -> PartitionTask:
    task = PartitionTask(HERE, StateSlab(fresh_rows), next_offset=0)
    if pages:
        write(task, range(pages), 0)
    return task


def write(task: PartitionTask, pages: Sequence[int], offset: int) -> None:
    """Let a reading at this offset change the first stream of each page."""
    streams = [StreamKey(b"s%d" % n) for page in pages for n in range(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)]
    slots = task.slab.slots(streams)[::PAGE_ROWS]
    task.slab.scatter(slots, task.slab.gather(slots), torch.full((len(slots),), offset), offset)
    task.next_offset = offset + 1


class Desk:
    """A writer, its clock, and what it wrote when."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.clock = Clock()
        rows = fresh_rows([])
        self.layout = Layout.of("ab" * 32, rows)
        self.writer = StateWriter("group", self.layout, "f00d", "worker-1", interval_s, self.clock)

    def commit(self, task: PartitionTask, passed_s: float) -> list[int]:
        """Some time later, the pages that a commit writes."""
        self.clock.now_s += passed_s
        due = self.writer.due(task)
        self.writer.complete(Commit(HERE, task.next_offset or 0), task, due)
        return due


@pytest.fixture
def desk() -> Desk:
    return Desk()


def written(commit: Commit, desk: Desk) -> Collected:
    records = [*commit.pages, *([commit.marker] if commit.marker else [])]
    collected = Collected(Origin("group", HERE))
    collected.add([record.key for record in records], [record.value for record in records])
    return collected


def test_a_clean_task_has_nothing_due(desk: Desk) -> None:
    task = a_task(5)
    assert desk.commit(task, 0.0) == [0, 1, 2, 3, 4]
    for _ in range(5):
        assert desk.commit(task, 3.0) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pages", "turn_s"), [(1, 0.1), (3, 0.1), (3, 1.0), (3, 25.0), (40, 0.3), (40, 1.0), (40, 7.0), (40, 25.0)]
)
def test_no_page_stays_dirty_for_longer_than_the_interval_however_long_a_turn_is(
    desk: Desk, pages: int, turn_s: float
) -> None:
    """Every page is changed in every turn; a turn late is allowed, since nothing is written between two turns."""
    task = a_task(pages)
    desk.commit(task, 0.0)
    since: dict[int, float] = {}
    longest, most = 0.0, 0
    for turn in range(1, int(30 / turn_s) + 3):
        write(task, range(pages), turn)
        for page in range(pages):
            since.setdefault(page, desk.clock.now_s)
        due = desk.commit(task, turn_s)
        most = max(most, len(due))
        for page in due:
            longest = max(longest, desk.clock.now_s - since.pop(page))
    assert longest <= INTERVAL_S + turn_s + 1e-6
    assert most <= max(1, np.ceil(pages * turn_s / INTERVAL_S) + 1)
    assert most <= pages


def test_pages_are_written_in_turn_the_longest_dirty_first(desk: Desk) -> None:
    task = a_task(10)
    desk.commit(task, 0.0)
    order = [7, 2, 9, 0, 4]
    for n, page in enumerate(order):
        write(task, [page], 100 + n)
    found = [page for _ in range(12) for page in desk.commit(task, 1.0)]
    assert found == order


def test_after_a_quiet_hour_there_is_no_burst(desk: Desk) -> None:
    task = a_task(100)
    desk.commit(task, 0.0)
    for _ in range(60):
        desk.commit(task, 60.0)
    write(task, range(100), 7)
    assert len(desk.commit(task, 1.0)) <= 10
    assert len(desk.commit(task, 1.0)) <= 10


@pytest.mark.slow
def test_while_few_pages_are_busy_no_time_is_saved_up_for_the_others(desk: Desk) -> None:
    task = a_task(100)
    desk.commit(task, 0.0)
    for turn in range(600):
        write(task, [5], turn + 1)
        desk.commit(task, 1.0)
    write(task, range(100), 1_000)
    assert len(desk.commit(task, 1.0)) <= 11
    assert len(desk.commit(task, 1.0)) <= 11


@pytest.mark.slow
def test_no_transaction_holds_more_than_so_many_pages_and_the_rest_follows(desk: Desk) -> None:
    pages = 3 * PAGES_AT_ONCE
    task = a_task(pages)
    desk.commit(task, 0.0)
    write(task, range(pages), 5)
    assert [len(desk.commit(task, passed_s)) for passed_s in (100.0, 0.001, 0.001, 0.001)] == [PAGES_AT_ONCE] * 3 + [0]


@pytest.mark.parametrize("passed_s", [0.0, 0.001])
def test_a_page_whose_membership_changed_is_due_at_once_with_its_roster(desk: Desk, passed_s: float) -> None:
    task = a_task(3)
    assert desk.commit(task, 0.0) == [0, 1, 2]
    write(task, [0, 1], 10)
    task.slab.evict(StreamKey(b"s300"), 10)
    assert desk.writer.due(task) == [2]
    commit = desk.writer.complete(Commit(HERE, 11), task, [2])
    assert [record.key for record in commit.pages] == [
        roster_key(Origin("group", HERE), 2),
        page_key(Origin("group", HERE), 2),
    ]
    page = read_page(written(commit, desk), desk.layout, 2)
    assert isinstance(page, Page)
    assert roster_agrees(written(commit, desk), page)
    assert b"s300" not in page.keys
    assert len(page.keys) == PAGE_ROWS - 1
    assert desk.commit(task, passed_s) == []


def test_a_page_with_the_same_streams_is_written_without_its_roster(desk: Desk) -> None:
    task = a_task(1)
    desk.commit(task, 0.0)
    write(task, [0], 10)
    commit = desk.writer.complete(Commit(HERE, 11), task, [0])
    assert [record.key for record in commit.pages] == [page_key(Origin("group", HERE), 0)]


@pytest.mark.slow
def test_before_the_end_everything_dirty_is_due_whatever_the_time(desk: Desk) -> None:
    task = a_task(PAGES_AT_ONCE + 5)
    desk.commit(task, 0.0)
    write(task, range(PAGES_AT_ONCE + 5), 10)
    task.slab.evict(StreamKey(b"s0"), 10)
    first = desk.writer.all_due(task)
    desk.writer.complete(Commit(HERE, 11), task, first)
    second = desk.writer.all_due(task)
    desk.writer.complete(Commit(HERE, 11), task, second)
    assert len(first) <= PAGES_AT_ONCE + 1
    assert sorted([*first, *second]) == list(range(PAGES_AT_ONCE + 5))
    assert desk.writer.all_due(task) == []
    assert task.replay_from == 11


def test_the_marker_says_how_far_the_partition_has_come(desk: Desk) -> None:
    task = a_task(3)
    desk.commit(task, 0.0)
    write(task, [1], 40)
    write(task, [2], 50)
    task.clock = EventClock(1.6)
    for n in range(20):
        task.clock.advance(np.array([n * 100], np.int64))
        task.clock.tick(n)
    task.topic_id, task.partitions, task.checkpoint_from, task.primed_from = "id", 8, 17, 5
    task.counts.update({"judged": 51, "late": 2})
    commit = desk.writer.complete(Commit(HERE, 60), task, [2])
    assert commit.marker is not None
    marker = read_marker(Origin("group", HERE), commit.marker.value or b"")
    assert (marker.group, marker.topic, marker.partition) == ("group", *HERE)
    assert (marker.next_offset, marker.replay_from) == (60, 40)
    assert (marker.topic_id, marker.partitions) == ("id", 8)
    assert (marker.checkpoint, marker.names) == (desk.layout.checkpoint, desk.layout.names)
    assert (marker.checkpoint_from, marker.primed_from) == (17, 5)
    assert (marker.numerics, marker.writer) == ("f00d", "worker-1")
    assert (marker.pages, marker.streams) == (3, 3 * PAGE_ROWS)
    assert marker.counts == {"judged": 51, "late": 2}
    assert (marker.event_time_ms, marker.ticks) == (1_900, list(range(20 - IDLE_TICKS, 20)))


def test_where_nothing_is_dirty_nothing_has_to_be_judged_again(desk: Desk) -> None:
    task = a_task(1)
    task.next_offset = 60
    commit = desk.writer.complete(Commit(HERE, 60), task, [0])
    assert commit.marker is not None
    marker = read_marker(Origin("group", HERE), commit.marker.value or b"")
    assert marker.replay_from == marker.next_offset == 60


def test_a_page_is_as_it_was_when_all_before_the_commits_offset_was_judged(desk: Desk) -> None:
    task = a_task(2)
    write(task, [1], 40)
    commit = desk.writer.complete(Commit(HERE, 60), task, [0, 1])
    page = read_page(written(commit, desk), desk.layout, 1)
    assert isinstance(page, Page)
    assert page.through == 60
    assert int(page.applied.max()) == 40
    assert task.slab.dirty_pages() == []


def test_outputs_are_left_as_they_are_and_what_was_written_is_counted(desk: Desk) -> None:
    task = a_task(2)
    commit = Commit(HERE, 60)
    done = desk.writer.complete(commit, task, [0, 1])
    assert done._replace(pages=(), marker=None) == commit
    assert desk.writer.pages_written == 2
    assert desk.writer.bytes_written == sum(len(record.value or b"") for record in done.pages)
    assert {record.key for record in done.pages} >= {page_key(Origin("group", HERE), n) for n in (0, 1)}
