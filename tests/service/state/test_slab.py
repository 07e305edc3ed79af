"""Where memory is kept: a slot a stream, pages of 128, and a restored slab that is the slab."""

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.detection.detector import Detector, DetectorConfig
from models.detection.rows import Rows, fresh
from models.net.forecaster import Forecaster, ForecasterConfig
from service.input.reading_batch import StreamKey
from service.live.memory import resident_bytes
from service.state.slab import NOTHING_APPLIED, PAGE_ROWS, Page, StateSlab

CONFIG = ForecasterConfig(("flow", "pressure"), hidden=16, layers=2)
STREAMS = 320  # that the property chooses from


def key(n: int) -> StreamKey:
    return StreamKey(b"stream-%d" % n)


def keys(count: int, start: int = 0) -> list[StreamKey]:
    return [key(n) for n in range(start, start + count)]


def fresh_rows(streams: Sequence[bytes]) -> Rows:
    return fresh(len(streams), CONFIG)


def marked(marks: Sequence[float]) -> Rows:
    """Rows that can be told apart: every number of a row is its mark."""
    rows = fresh(len(marks), CONFIG)
    for column in rows:
        column[:] = torch.tensor(marks, dtype=column.dtype).reshape(-1, *[1] * (column.dim() - 1))
    return rows


def marks(rows: Rows) -> list[float]:
    """The mark of every row; fails where a row is not of one piece."""
    found = rows.scalars[:, 0]
    for column in rows:
        assert (column.flatten(1) == found.to(column.dtype)[:, None]).all()
    return [float(mark) for mark in found]


def equal(some: Rows, others: Rows) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def write(slab: StateSlab, streams: Sequence[StreamKey], mark: float, offset: int) -> Tensor:
    """Give the streams' rows a mark, because of the reading at `offset`."""
    slots = slab.slots(streams)
    slab.scatter(slots, marked([mark] * len(slots)), torch.full((len(slots),), offset), offset)
    return slots


# --- slots


def test_an_empty_slab_holds_nothing() -> None:
    slab = StateSlab(fresh_rows)
    assert len(slab) == 0
    assert slab.nbytes == 0
    assert slab.dirty_pages() == []
    assert key(0) not in slab


def test_a_stream_keeps_its_slot() -> None:
    slab = StateSlab(fresh_rows)
    first = slab.slots(keys(100))
    assert sorted(first.tolist()) == sorted(set(first.tolist()))
    assert torch.equal(slab.slots(keys(1_000))[:100], first)
    assert slab.slots([key(7), key(3), key(7)]).tolist() == first[[7, 3, 7]].tolist()
    assert len(slab) == 1_000
    assert key(999) in slab


def test_slots_come_in_the_order_of_the_keys_with_new_ones_among_them() -> None:
    slab = StateSlab(fresh_rows)
    (known,) = slab.slots([key(0)]).tolist()
    slots = slab.slots([key(5), key(0), key(5), key(6), key(0)])
    assert slots.dtype == torch.int64
    assert slots.tolist() == [slots[0], known, slots[0], slots[3], known]
    assert len({int(slots[0]), int(slots[3]), known}) == 3


@pytest.mark.parametrize("streams", [1, 127, 128, 129, 5_000])
def test_a_slab_grows_in_whole_pages_and_loses_nothing(streams: int) -> None:
    slab = StateSlab(fresh_rows)
    for n in range(0, streams, 100):
        write(slab, keys(min(100, streams - n), n), float(n), n)
    assert len(slab.rows.scalars) % PAGE_ROWS == 0
    assert streams <= len(slab.rows.scalars) <= max(2 * streams, PAGE_ROWS) + PAGE_ROWS
    expected = [float(n // 100 * 100) for n in range(streams)]
    assert marks(slab.gather(slab.slots(keys(streams)))) == expected
    assert slab.nbytes == len(slab.rows.scalars) * (slab.rows.bytes_per_stream + 8)


def test_new_streams_start_with_the_rows_they_are_given() -> None:
    asked: list[list[bytes]] = []

    def rows_for(streams: Sequence[bytes]) -> Rows:
        asked.append(list(streams))
        return marked([float(stream.rpartition(b"-")[2]) for stream in streams])

    slab = StateSlab(rows_for)
    slab.slots([key(4), key(2), key(4)])
    slots = slab.slots([key(2), key(9), key(4)])
    assert marks(slab.gather(slots)) == [2.0, 9.0, 4.0]
    assert [streams for streams in asked if streams] == [[key(4), key(2)], [key(9)]]


def test_known_streams_start_warm_and_others_fresh() -> None:
    known = marked([1.0, 2.0])
    detector = Detector(Forecaster(CONFIG), DetectorConfig(), {key(5): 1, key(6): 0}, known)
    slab = StateSlab(detector.rows_for)
    rows = slab.gather(slab.slots([key(5), key(0), key(6)]))
    assert marks(rows.take(torch.tensor([0, 2]))) == [2.0, 1.0]
    assert equal(rows.take(torch.tensor([1])), fresh(1, CONFIG))
    write(slab, [key(5)], 8.0, 0)
    assert marks(known) == [1.0, 2.0]


# --- gather and scatter


def test_what_was_scattered_is_gathered_in_any_order() -> None:
    slab = StateSlab(fresh_rows)
    slots = slab.slots(keys(300))
    shuffled = slots[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    slab.scatter(shuffled, marked([float(slot) for slot in shuffled]), torch.arange(300), 0)
    assert marks(slab.gather(slots)) == [float(slot) for slot in slots]


def test_gathered_rows_are_copies() -> None:
    slab = StateSlab(fresh_rows)
    slots = write(slab, keys(3), 1.0, 0)
    for column in slab.gather(slots):
        column[:] = 9.0
    assert marks(slab.gather(slots)) == [1.0, 1.0, 1.0]


def test_scattering_changes_no_other_row() -> None:
    slab = StateSlab(fresh_rows)
    write(slab, keys(200), 1.0, 0)
    write(slab, [key(7), key(150)], 2.0, 9)
    expected = [2.0 if n in (7, 150) else 1.0 for n in range(200)]
    assert marks(slab.gather(slab.slots(keys(200)))) == expected


# --- pages


def test_pages_are_dirty_in_the_order_of_their_first_change() -> None:
    slab = StateSlab(fresh_rows)
    slab.slots(keys(4 * PAGE_ROWS))
    write(slab, [key(300)], 1.0, 10)
    write(slab, [key(5)], 1.0, 20)
    write(slab, [key(301), key(130)], 1.0, 30)
    assert slab.dirty_pages() == [(2, 10), (0, 20), (1, 30)]
    slab.clean(2)
    assert slab.dirty_pages() == [(0, 20), (1, 30)]
    write(slab, [key(300)], 1.0, 40)
    assert slab.dirty_pages() == [(0, 20), (1, 30), (2, 40)]


def test_one_scatter_over_several_pages_dirties_each_of_them_once() -> None:
    slab = StateSlab(fresh_rows)
    write(slab, keys(3 * PAGE_ROWS), 1.0, 7)
    assert slab.dirty_pages() == [(0, 7), (1, 7), (2, 7)]


def test_looking_a_stream_up_dirties_nothing() -> None:
    slab = StateSlab(fresh_rows)
    slab.gather(slab.slots(keys(10)))
    assert slab.dirty_pages() == []


def test_a_page_is_a_copy_of_its_streams_and_how_far_each_has_come() -> None:
    slab = StateSlab(fresh_rows)
    slots = slab.slots(keys(130))
    slab.scatter(slots, marked([float(n) for n in range(130)]), torch.arange(1_000, 1_130), 1_000)
    page = slab.page(1, through=1_130)
    assert (page.number, page.through) == (1, 1_130)
    assert page.slots.tolist() == [128, 129]
    assert page.keys == (key(128), key(129))
    assert page.applied.tolist() == [1_128, 1_129]
    write(slab, [key(128)], 0.0, 2_000)
    assert marks(page.rows) == [128.0, 129.0]
    assert page.applied.tolist() == [1_128, 1_129]


def test_a_stream_without_a_reading_has_nothing_applied() -> None:
    slab = StateSlab(fresh_rows)
    slab.slots(keys(2))
    assert slab.page(0, through=0).applied.tolist() == [NOTHING_APPLIED] * 2


# --- eviction


def test_an_evicted_stream_is_forgotten_and_its_slot_used_again() -> None:
    slab = StateSlab(fresh_rows)
    slots = write(slab, keys(10), 3.0, 5)
    slab.clean(0)
    slab.evict(key(4), offset=6)
    assert key(4) not in slab
    assert len(slab) == 9
    assert slab.dirty_pages() == [(0, 6)]
    page = slab.page(0, through=7)
    assert key(4) not in page.keys
    assert int(slots[4]) not in page.slots.tolist()
    (reused,) = slab.slots([key(99)]).tolist()
    assert reused == int(slots[4])
    assert equal(slab.gather(torch.tensor([reused])), fresh(1, CONFIG))
    assert slab.page(0, through=7).applied.tolist() == [5] * 4 + [NOTHING_APPLIED] + [5] * 5


def test_a_streams_last_score_is_known_until_it_is_forgotten_and_belongs_to_no_one_else() -> None:
    slab = StateSlab(fresh_rows)
    slots = slab.slots(keys(3))
    assert np.isnan(slab.scores[:3]).all()
    slab.note_scores(slots.numpy()[[0, 1, 0]], np.array([0.5, 0.25, 0.75]))
    assert slab.scores[slots[:2].numpy()].tolist() == [0.75, 0.25]
    assert np.isnan(slab.scores[int(slots[2])])
    slab.slots(keys(1_000))  # it grows
    assert slab.scores[slots[:2].numpy()].tolist() == [0.75, 0.25]
    assert len(slab.scores) == slab.room
    slab.evict(key(0), 7)
    assert int(slab.slots([key(5_000)])[0]) == int(slots[0])
    assert np.isnan(slab.scores[int(slots[0])])


def test_keys_by_slot_are_one_object_until_the_streams_change() -> None:
    slab = StateSlab(fresh_rows)
    slab.slots(keys(3))
    listed = slab.keys
    assert listed == tuple(keys(3))
    slab.slots(keys(3))
    assert slab.keys is listed
    slab.evict(key(1), 5)
    assert list(slab.keys) == [key(0), None, key(2)]
    slab.slots([key(9)])
    assert list(slab.keys) == [key(0), key(9), key(2)]
    again = StateSlab(fresh_rows)
    assert again.keys == ()
    again.load(slab.page(0, 10))
    assert again.keys[:3] == slab.keys


def test_an_evicted_stream_that_comes_back_starts_fresh() -> None:
    slab = StateSlab(fresh_rows)
    write(slab, keys(3), 3.0, 0)
    slab.evict(key(1), offset=1)
    assert equal(slab.gather(slab.slots([key(1)])), fresh(1, CONFIG))
    assert marks(slab.gather(slab.slots([key(0), key(2)]))) == [3.0, 3.0]


def test_evicting_an_unknown_stream_is_an_error() -> None:
    with pytest.raises(KeyError):
        StateSlab(fresh_rows).evict(key(0), 0)


# --- room, and an end for idle streams


def test_beyond_the_limit_new_streams_get_no_slot_and_known_ones_keep_theirs() -> None:
    slab = StateSlab(fresh_rows)
    first = slab.slots([key(0), key(1)], limit=3).tolist()
    assert slab.slots([key(5), key(1), key(6), key(5), key(0)], limit=3).tolist() == [2, first[1], -1, 2, first[0]]
    assert slab.slots([key(6), key(7)], limit=3).tolist() == [-1, -1]
    assert slab.slots([key(0), key(8)], limit=1).tolist() == [first[0], -1]
    assert len(slab) == 3
    assert key(6) not in slab
    slab.evict(key(1), 0)
    assert slab.slots([key(6), key(7)], limit=3).tolist() == [first[1], -1]


def test_finding_a_stream_does_not_make_it_known() -> None:
    slab = StateSlab(fresh_rows)
    (slot,) = slab.slots([key(3)]).tolist()
    assert slab.find([key(4), key(3)]).tolist() == [-1, slot]
    assert key(4) not in slab
    assert slab.find([]).dtype == torch.int64


def test_streams_without_a_reading_since_an_offset_are_forgotten_and_their_pages_written() -> None:
    slab = StateSlab(fresh_rows)
    for n in range(300):
        write(slab, [key(n)], 1.0, n)
    for number in range(3):
        slab.clean(number)
    assert slab.evict_idle(before=130, offset=500) == keys(130)
    assert slab.evict_idle(before=130, offset=501) == []
    assert len(slab) == 170
    assert slab.pages_with_changed_membership() == [0, 1]
    assert slab.dirty_pages() == [(0, 500), (1, 500)]
    assert (slab.rows.scalars[:130] == 0).all()
    assert marks(slab.gather(slab.find(keys(170, 130)))) == [1.0] * 170
    new = slab.slots(keys(140, start=1_000)).tolist()
    assert sorted(new[:130]) == list(range(130))
    assert slab.pages == 3


def test_membership_is_to_be_written_once_anyone_who_changed_it() -> None:
    slab = StateSlab(fresh_rows)
    assert slab.pages_with_changed_membership() == []
    write(slab, keys(130), 1.0, 0)
    assert slab.pages_with_changed_membership() == [0, 1]
    slab.clean(0)
    slab.clean(1)
    write(slab, keys(130), 2.0, 1)
    assert slab.pages_with_changed_membership() == []
    slab.evict(key(129), 2)
    assert slab.pages_with_changed_membership() == [1]
    slab.clean(1)
    slab.mark_membership_changed(0)
    assert slab.pages_with_changed_membership() == [0]


# --- restoring


def restored(pages: Sequence[Page]) -> StateSlab:
    slab = StateSlab(fresh_rows)
    for page in pages:
        slab.load(page)
    return slab


def assert_same(found: StateSlab, expected: StateSlab, streams: Sequence[StreamKey]) -> None:
    assert len(found) == len(expected)
    held = [stream for stream in streams if stream in expected]
    assert all((stream in found) == (stream in expected) for stream in streams)
    if held:
        slots = expected.slots(held)
        assert torch.equal(found.slots(held), slots)
        assert equal(found.gather(slots), expected.gather(slots))
        last = int(slots.max()) // PAGE_ROWS
        for number in range(last + 1):
            assert torch.equal(found.page(number, 0).applied, expected.page(number, 0).applied)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0]])
def test_pages_may_be_loaded_in_any_order(order: list[int]) -> None:
    slab = StateSlab(fresh_rows)
    slots = slab.slots(keys(300))
    slab.scatter(slots, marked([float(n) for n in range(300)]), torch.arange(300), 0)
    again = restored([slab.page(number, 300) for number in order])
    assert_same(again, slab, keys(300))
    assert again.dirty_pages() == []


def test_a_slab_of_streams_without_a_cell_is_restored_from_its_pages() -> None:
    config = replace(CONFIG, cell="gru")

    def without_a_cell(streams: Sequence[bytes]) -> Rows:
        return fresh(len(streams), config)

    slab, again = StateSlab(without_a_cell), StateSlab(without_a_cell)
    slots = slab.slots(keys(300))
    rows = marked([float(n) for n in range(300)])
    slab.scatter(slots, rows._replace(cell=rows.cell[..., :0]), torch.arange(300), 0)
    slab.evict(key(17), 300)
    for number in (2, 0, 1):
        again.load(slab.page(number, 300))
    assert_same(again, slab, keys(300))
    assert marks(again.gather(again.find([key(0), key(299)]))) == [0.0, 299.0]
    assert again.gather(slots[:5]).cell.shape == (5, 2, 0)


def test_a_restored_slab_takes_new_streams_without_touching_the_old() -> None:
    slab = StateSlab(fresh_rows)
    write(slab, keys(200), 1.0, 0)
    slab.evict(key(3), 1)
    again = restored([slab.page(1, 2)])  # the first page was never written: its streams are unknown
    assert len(again) == 200 - PAGE_ROWS
    new = again.slots(keys(500, start=1_000))
    assert len(set(new.tolist()) | set(again.slots(keys(200 - PAGE_ROWS, PAGE_ROWS)).tolist())) == 572
    assert equal(again.gather(new), fresh(500, CONFIG))
    assert marks(again.gather(again.slots(keys(200 - PAGE_ROWS, PAGE_ROWS)))) == [1.0] * 72


def test_a_stream_in_two_pages_belongs_to_the_one_that_was_written_later() -> None:
    """And the other is written again, without it."""
    older, newer = StateSlab(fresh_rows), StateSlab(fresh_rows)
    write(older, keys(3), 1.0, 10)
    newer.slots(keys(PAGE_ROWS, start=1_000))
    write(newer, [key(1)], 2.0, 20)
    pages = [older.page(0, 11), newer.page(1, 21)]
    for order in (pages, pages[::-1]):
        again = restored(order)
        assert marks(again.gather(again.find(keys(3)))) == [1.0, 2.0, 1.0]
        assert again.find([key(1)]).tolist() == [PAGE_ROWS]
        assert (again.page(0, 0).keys, again.page(1, 0).keys) == ((key(0), key(2)), (key(1),))
        assert again.pages_with_changed_membership() == [0]
        assert [page for page, _ in again.dirty_pages()] == [0]
        assert again.slots([key(9)]).tolist()[0] not in again.find([key(0), key(1), key(2)]).tolist()


def test_streams_whose_rows_are_lost_keep_their_places_and_start_fresh() -> None:
    slab = StateSlab(fresh_rows)
    slab.load_cold(2, [5, 0], [key(1), key(2)], since=700)
    assert slab.find([key(1), key(2)]).tolist() == [2 * PAGE_ROWS + 5, 2 * PAGE_ROWS]
    assert equal(slab.gather(slab.find([key(1), key(2)])), fresh(2, CONFIG))
    assert slab.applied[slab.find([key(1), key(2)])].tolist() == [699, 699]
    assert slab.dirty_pages() == [(2, 700)]
    assert slab.pages == 3
    slab.load_cold(0, [], [], since=800)
    assert slab.dirty_pages() == [(2, 700), (0, 800)]


def test_a_page_whose_streams_were_all_evicted_loads_as_nothing() -> None:
    slab = StateSlab(fresh_rows)
    write(slab, keys(2), 1.0, 0)
    slab.evict(key(0), 1)
    slab.evict(key(1), 2)
    assert len(restored([slab.page(0, 3)])) == 0


streams = st.lists(st.integers(0, STREAMS - 1).map(key), min_size=1, max_size=40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), streams),
        st.tuples(st.just("evict"), streams),
        st.tuples(st.just("flush"), st.integers(0, 3)),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(deadline=None)
@given(steps)
def test_a_slab_restored_from_its_pages_equals_the_slab(script: list[tuple[str, object]]) -> None:
    """The pages as a changelog keeps them: the newest of each number, written when due or at the end."""
    slab = StateSlab(fresh_rows)
    slab.slots(keys(150, start=10_000))  # so that the streams of the script lie in more than one page
    held: dict[StreamKey, tuple[float, int]] = {}
    changelog: dict[int, Page] = {}

    def flush(count: int, through: int) -> None:
        for number, _ in slab.dirty_pages()[:count]:
            changelog[number] = slab.page(number, through)
            slab.clean(number)

    for offset, (step, what) in enumerate(script):
        if step == "flush":
            assert isinstance(what, int)
            flush(what, offset)
            continue
        assert isinstance(what, list)
        chosen = list(dict.fromkeys(what))
        if step == "write":
            write(slab, chosen, float(offset), offset)
            held |= dict.fromkeys(chosen, (float(offset), offset))
        else:
            for stream in chosen:
                if held.pop(stream, None):
                    slab.evict(stream, offset)
    assert len(slab) == 150 + len(held)
    names = list(held)
    if names:
        assert marks(slab.gather(slab.slots(names))) == [mark for mark, _ in held.values()]

    for number, since in slab.dirty_pages():
        assert 0 <= since < len(script), "a page is dirty since a step of the script"
        assert number not in changelog or changelog[number].through <= since, "nothing before `since` is missing"
    flush(len(script) + 1_000, len(script))
    again = restored(list(changelog.values()))
    for stream, (mark, applied) in held.items():
        slots = slab.slots([stream])
        assert torch.equal(again.slots([stream]), slots)
        assert marks(again.gather(slots)) == [mark]
        page = again.page(int(slots) // PAGE_ROWS, 0)
        assert int(page.applied[page.keys.index(stream)]) == applied
    for number, page in changelog.items():
        found = again.page(number, page.through)
        assert found.keys == page.keys
        assert torch.equal(found.slots, page.slots)
        assert torch.equal(found.applied, page.applied)
        assert equal(found.rows, page.rows)


@pytest.mark.slow
def test_spare_room_takes_no_memory_before_it_is_used() -> None:
    """In a process of its own: what other tests have let go of would be taken first."""
    own = get_context("spawn").Process(target=_spare_room_takes_no_memory)
    own.start()
    own.join()
    assert own.exitcode == 0


def _spare_room_takes_no_memory() -> None:
    slab = StateSlab(lambda keys: fresh(len(keys), ForecasterConfig(("a",), hidden=64)))
    slab.slots([StreamKey(b"%d" % n) for n in range(40_000)])
    before, room = resident_bytes(), slab.room
    assert before is not None
    slab.slots([StreamKey(b"more %d" % n) for n in range(room - len(slab) + 1)])
    after = resident_bytes()
    assert after is not None
    assert slab.room >= 2 * room
    assert slab.nbytes > 75_000_000
    assert after - before < 15_000_000
    assert not any(column[len(slab) :].any() for column in slab.rows)


def test_a_slab_with_room_reserved_does_not_grow_when_pages_are_loaded() -> None:
    source = StateSlab(fresh_rows)
    write(source, keys(3 * PAGE_ROWS), 7.0, 5)
    slab = StateSlab(fresh_rows)
    slab.reserve(source.pages)
    assert (len(slab), slab.pages, slab.room) == (0, 0, 3 * PAGE_ROWS)
    rows = slab.rows.scalars.data_ptr()
    for number in range(source.pages):
        slab.load(source.page(number, 6))
    assert slab.rows.scalars.data_ptr() == rows
    assert slab.keys == source.keys
    assert equal(slab.rows, source.rows)


def test_labels_are_in_the_page_of_their_row_and_go_with_the_stream() -> None:
    here, there = {"site": "a"}, {"site": "b", "line": "3"}
    slab, again = StateSlab(fresh_rows), StateSlab(fresh_rows)
    slots = write(slab, keys(4), 1.0, 7)
    slab.note_labels(slots[:3], [here, there, {}])
    page = slab.page(0, 8)
    assert page.labels == (here, there, None, None)
    again.load(page)
    assert [again.labels(slot) for slot in range(4)] == [here, there, None, None]
    slab.evict(key(1), 9)
    assert int(slab.slots([key(9)])[0]) == 1
    assert slab.labels(1) is None, "another stream has the slot"
    slab.note_labels(slots[:1], None)
    assert slab.labels(0) is None
    assert slab.page(0, 10).labels == (None,) * 4
    assert StateSlab(fresh_rows).page(0, 10).labels is None


def test_of_a_stream_in_two_pages_the_labels_of_the_later_one_stay() -> None:
    older, newer = StateSlab(fresh_rows), StateSlab(fresh_rows)
    older.note_labels(write(older, keys(2), 1.0, 7), [{"site": "a"}, {"site": "b"}])
    write(newer, keys(PAGE_ROWS, 10), 2.0, 8)
    newer.note_labels(write(newer, keys(1), 2.0, 9), [{"site": "c"}])
    for pages in ((older.page(0, 10), newer.page(1, 20)), (newer.page(1, 20), older.page(0, 10))):
        slab = StateSlab(fresh_rows)
        for page in pages:
            slab.load(page)
        assert [slab.labels(int(slot)) for slot in slab.find(keys(2))] == [{"site": "c"}, {"site": "b"}]
