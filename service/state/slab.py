"""Where memory is kept: the rows of all streams of one partition.

A slab is Rows (tensors with the stream first) with spare room, and an index from stream key to slot. 128 neighbouring
rows are a page, the unit in which state is written. A slot belongs to its stream until it is evicted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Floats, Int64s
from models.detection.rows import Rows
from service.input.labels import Labels
from service.input.reading_batch import StreamKey
from service.state.key_index import NO_SLOT, KeyIndex

PAGE_ROWS = 128
NOTHING_APPLIED = -1


class Page(NamedTuple):
    """Up to 128 streams as they were when every reading of theirs before offset `through` had been applied."""

    number: int
    through: int
    slots: Tensor  # (P,) int64, the occupied ones, within the slab
    keys: tuple[StreamKey, ...]  # P
    rows: Rows  # of P streams
    applied: Tensor  # (P,) int64: offset of the last reading in each row
    labels: tuple[Labels | None, ...] | None = None  # P, of that reading; None: not one has any


class StateSlab:
    """All streams of one partition."""

    def __init__(self, rows_for: Callable[[Sequence[bytes]], Rows]) -> None:
        """rows_for: the rows that streams seen for the first time start with."""
        self._rows_for = rows_for
        self._index = KeyIndex()
        self._end = 0  # behind the last slot that was ever given; those before it may be free
        self._listed: tuple[StreamKey | None, ...] | None = None  # keys as last handed out; None: they have changed
        self._free: dict[int, None] = {}  # as a set that remembers its order
        self._rows = rows_for([])
        self._applied = torch.empty(0, dtype=torch.int64)
        self._scores = np.empty(0, np.float32)
        self._labels: dict[int, Labels] = {}  # by slot, of streams that have any
        self._is_half_judged = False
        self._dirty_since = np.empty(0, np.int64)  # by page: offset of the first change not written, or -1
        self._through: dict[int, int] = {}  # of pages that were loaded
        self._membership_changed: set[int] = set()  # pages whose membership changed since they were written

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: StreamKey) -> bool:
        return int(self._index.find([key])[0]) != NO_SLOT

    @property
    def nbytes(self) -> int:
        """Of the rows, spare room included; the index is not counted."""
        return sum(column.nbytes for column in self._rows) + self._applied.nbytes

    @property
    def room(self) -> int:
        """Slots there are, free ones too: every slot is below it."""
        return len(self._applied)

    @property
    def pages(self) -> int:
        """Pages there are: 0 to pages - 1."""
        return -(-self._end // PAGE_ROWS)

    @property
    def rows(self) -> Rows:
        """All rows, those of free slots (zeros) too: to look at, not to change."""
        return self._rows

    @property
    def applied(self) -> Tensor:
        """(room,) int64: offset of the last reading in each row, -1 where there is none: to look at."""
        return self._applied

    @property
    def keys(self) -> tuple[StreamKey | None, ...]:
        """By slot, None where it is free; the same object until the streams change."""
        if self._listed is None:
            self._listed = tuple(self._index.between(0, self._end))
        return self._listed

    @property
    def scores(self) -> Floats:
        """(room,) score of the last reading judged of each stream, NaN where none was since it is here: to look at.

        No part of what is remembered: a restored stream has none until its next reading.
        """
        return self._scores

    def slots(self, keys: Sequence[StreamKey], limit: int | None = None) -> Tensor:
        """The slot of each of N keys, (N,) int64. A new stream gets a fresh row, or -1 beyond `limit` streams."""
        slots = self._index.find(keys)
        if NO_SLOT in slots:
            new = list(dict.fromkeys(keys[n] for n in np.flatnonzero(slots == NO_SLOT).tolist()))
            self._add(new if limit is None else new[: max(0, limit - len(self))])
            slots = self._index.find(keys)
        return torch.from_numpy(slots)

    def find(self, keys: Sequence[StreamKey]) -> Tensor:
        """The slot of each of N keys, (N,) int64; -1 for a stream that is not there."""
        return torch.from_numpy(self._index.find(keys))

    def gather(self, slots: Tensor) -> Rows:
        """Copies of the rows at `slots` (S,)."""
        return self._rows.take(slots)

    def scatter(self, slots: Tensor, rows: Rows, applied: Tensor, since: int) -> None:
        """Put the rows at `slots` (S,) back.

        applied: (S,), offset of the last reading that is in each of them. since: offset of the first reading that
        changed any of them, from where a page that was clean would have to be replayed.
        """
        self._rows.put(slots, rows)
        self.note_judged(slots, applied, since)

    @contextmanager
    def judged_in_place(self) -> Iterator[Rows]:
        """All rows, some of which are changed by a batch: note_judged() is to say which.

        Where that raises, rows may be those of half a batch. Then no page of them is handed out any more: who restores
        the partition begins with the pages that were written before.
        """
        self._is_half_judged = True
        yield self._rows
        self._is_half_judged = False

    def note_judged(self, slots: Tensor, applied: Tensor, since: int) -> None:
        """The rows at `slots` (S,) are those after a batch. applied, since: as scatter() takes them."""
        self._applied.numpy()[slots.numpy()] = applied.numpy()  # torch takes twice as long for a few
        self._mark_dirty(slots, since)

    def note_scores(self, slots: Int64s, scores: Doubles) -> None:
        """slots, scores: (N,), in offset order: of a stream's several scores the last one stays."""
        self._scores[slots] = scores

    def note_labels(self, slots: Tensor, labels: Sequence[Labels] | None) -> None:
        """Those of the last readings that are in the rows at `slots` (S,): they are written with these.

        labels: S; None: not one reading has any.
        """
        if labels is not None:
            self._labels.update(zip(slots.tolist(), labels, strict=True))
        elif self._labels:
            self._drop_labels(slots.tolist())

    def labels(self, slot: int) -> Labels | None:
        """Those of the last reading in the row; None: it has none."""
        return self._labels.get(slot) or None

    def evict(self, key: StreamKey, offset: int) -> None:
        """Forget a stream, because of the reading at `offset`; its slot may be given to another."""
        if key not in self:
            raise KeyError(key)
        self._forget(self._index.find([key]), offset)

    def evict_idle(self, before: int, offset: int) -> list[StreamKey]:
        """Forget, because of the reading at `offset`, all streams without a reading at or after offset `before`."""
        return self._forget(np.flatnonzero(self._applied[: self._end].numpy() < before), offset)

    def change_alarms(self, slots: Tensor, since: int) -> None:
        """Note that alarms of the rows at `slots` (S,) changed without a reading, because of the record at `since`.

        Their pages are written at the next commit: what is judged again after a restart are readings alone.
        """
        self._mark_dirty(slots, since)
        self._membership_changed.update((slots // PAGE_ROWS).tolist())

    def end_alarms(self, slots: Tensor, since: int) -> None:
        """Close the alarms of the rows at `slots` (S,), because of what is true of their state from offset `since` on.

        Their pages are written at the next commit.
        """
        open_ones = slots[self._rows.scalar("alarm")[slots] > 0]
        self._rows.scalar("alarm")[open_ones] = 0.0
        self.change_alarms(open_ones, since)

    def dirty_pages(self) -> list[tuple[int, int]]:
        """(page, offset of its first change that is not written), the oldest change first."""
        dirty = np.flatnonzero(self._dirty_since >= 0)
        oldest_first = dirty[np.argsort(self._dirty_since[dirty], kind="stable")]
        return list(zip(oldest_first.tolist(), self._dirty_since[oldest_first].tolist(), strict=True))

    def dirty_since(self) -> int | None:
        """Offset of the first change that is not written; None: everything is."""
        dirty = self._dirty_since[self._dirty_since >= 0]
        return int(dirty.min()) if len(dirty) else None

    def pages_with_changed_membership(self) -> list[int]:
        """Pages whose membership changed since they were written: these are written with the next commit."""
        return sorted(self._membership_changed)

    def page(self, number: int, through: int) -> Page:
        """A copy of a page; everything before offset `through` has been applied."""
        if self._is_half_judged:
            raise RuntimeError("a batch of this partition failed half-way: its rows are those of no offset")
        begin = number * PAGE_ROWS
        some = self._index.between(begin, min(begin + PAGE_ROWS, self._end))
        held = [(slot, key) for slot, key in enumerate(some, begin) if key is not None]
        slots = torch.tensor([slot for slot, _ in held], dtype=torch.int64)
        labels = tuple(self.labels(slot) for slot, _ in held) if self._labels else None
        keys = tuple(key for _, key in held)
        return Page(number, through, slots, keys, self.gather(slots), self._applied[slots], labels)

    def clean(self, number: int) -> None:
        """A page has been written: it is not dirty any more."""
        self._dirty_since[number] = -1
        self._membership_changed.discard(number)

    def load(self, page: Page) -> None:
        """Put a written page back where it was. A stream that is in two pages belongs to the one with higher `through`.

        The page that loses it is marked, so that it is written again without it.
        """
        first = page.number * PAGE_ROWS
        self._make_room(first + PAGE_ROWS)
        self._listed = None
        self._through[page.number] = page.through
        _, _, slots, keys, rows, applied, labels = page
        if self._index.holds_any(keys):
            kept = [n for n, key in enumerate(keys) if self._take_over(key, page)]
            some = torch.tensor(kept, dtype=torch.int64)
            keys = tuple(keys[n] for n in kept)
            slots, rows, applied = slots[some], rows.take(some), applied[some]
            labels = None if labels is None else tuple(labels[n] for n in kept)
        self._index.add(keys, slots.numpy())
        if labels is not None:
            self._labels.update((slot, one) for slot, one in zip(slots.tolist(), labels, strict=True) if one)
        if first == self._end and len(keys) == PAGE_ROWS and slots.tolist() == list(range(first, first + PAGE_ROWS)):
            self._load_whole(first, rows, applied)
            return
        self._add_page(page.number)
        for slot in slots.tolist():
            self._free.pop(slot, None)
        self._rows.put(slots, rows)
        self._applied[slots] = applied

    def _load_whole(self, first: int, rows: Rows, applied: Tensor) -> None:
        """A page without free slots behind all others, as most are where much is restored."""
        self._end = last = first + PAGE_ROWS
        for column, new in zip(self._rows.part(first, last), rows, strict=True):
            column.numpy()[:] = new.numpy()  # torch takes twice as long for a page
        self._applied[first:last] = applied

    def load_cold(self, number: int, places: Sequence[int], keys: Sequence[StreamKey], since: int) -> None:
        """Make room for a page whose rows are lost or mean nothing: its streams start with fresh rows.

        places: of each stream in the page. The page is dirty since offset `since`; readings before it count as applied.
        """
        slots = torch.tensor(places, dtype=torch.int64) + number * PAGE_ROWS
        applied = torch.full((len(keys),), since - 1)
        self.load(Page(number, since, slots, tuple(keys), self._rows_for(keys), applied))
        self._mark_dirty(torch.tensor([number * PAGE_ROWS]), since)

    def mark_membership_changed(self, number: int) -> None:
        """Let a page be written, with its roster, at the next commit."""
        self._membership_changed.add(number)

    def _take_over(self, key: StreamKey, page: Page) -> bool:
        """Whether `page` is the one that a stream belongs to; if so, no other has it afterwards."""
        slot = int(self._index.find([key])[0])
        if slot == NO_SLOT:
            return True
        other = slot // PAGE_ROWS
        loser = other if self._through[other] < page.through else page.number
        if loser == other:
            self._forget(np.array([slot]), page.through)
        self._membership_changed.add(loser)
        self._mark_dirty(torch.tensor([loser * PAGE_ROWS]), page.through)
        return loser == other

    def reserve(self, pages: int) -> None:
        """Make room for this many pages at once: to grow page by page copies all rows again and again."""
        self._make_room(pages * PAGE_ROWS)

    def _add_page(self, number: int) -> None:
        """Let a page be there, with free slots."""
        end = (number + 1) * PAGE_ROWS
        self._make_room(end)
        self._free.update(dict.fromkeys(range(self._end, end)))
        self._end = max(self._end, end)

    def _add(self, keys: list[StreamKey]) -> None:
        if not keys:
            return
        self._listed = None
        reused = [self._free.popitem()[0] for _ in range(min(len(keys), len(self._free)))]
        begin, self._end = self._end, self._end + len(keys) - len(reused)
        self._make_room(self._end)
        slots = np.array([*reused, *range(begin, self._end)], np.int64)
        self._index.add(keys, slots)
        self._rows.put(torch.from_numpy(slots), self._rows_for(keys))
        self._membership_changed.update((slots // PAGE_ROWS).tolist())

    def _forget(self, slots: Int64s, offset: int) -> list[StreamKey]:
        """Free the slots (N,), because of the reading at `offset`; returns whose they were. Free ones stay free."""
        held = [(slot, key) for slot, key in zip(slots.tolist(), self._index.at(slots), strict=True) if key is not None]
        if not held:
            return []
        self._listed = None
        slots = np.array([slot for slot, _ in held], np.int64)
        self._index.remove(slots)
        self._free.update(dict.fromkeys(slots.tolist()))
        freed = torch.from_numpy(slots)
        for column in self._rows:
            column[freed] = 0
        self._applied[freed] = NOTHING_APPLIED
        self._scores[slots] = np.nan
        self._drop_labels(slots.tolist() if self._labels else ())
        self._mark_dirty(freed, offset)
        self._membership_changed.update((slots // PAGE_ROWS).tolist())
        return [key for _, key in held]

    def _drop_labels(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._labels.pop(slot, None)

    def _make_room(self, streams: int) -> None:
        """Grow by doubling, in whole pages."""
        room = len(self._applied)
        if streams <= room:
            return
        pages = -(-max(streams, 2 * room) // PAGE_ROWS)
        more = pages * PAGE_ROWS - room
        self._index.reserve(pages * PAGE_ROWS)
        self._rows = Rows(*(_grown(column, pages * PAGE_ROWS) for column in self._rows))
        self._applied = torch.cat([self._applied, torch.full((more,), NOTHING_APPLIED)])
        self._scores = np.concatenate([self._scores, np.full(more, np.nan, np.float32)])
        self._dirty_since = np.concatenate([self._dirty_since, np.full(pages - len(self._dirty_since), -1)])

    def _mark_dirty(self, slots: Tensor, offset: int) -> None:
        pages = slots.numpy() // PAGE_ROWS
        since = self._dirty_since[pages]
        self._dirty_since[pages] = np.where(since < 0, offset, since)


def _grown(column: Tensor, rows: int) -> Tensor:
    """A column with zeros behind it. These are the system's own: memory is taken where something is written to them."""
    grown = torch.from_numpy(np.zeros((rows, *column.shape[1:]), column.numpy().dtype))
    grown[: len(column)] = column
    return grown
