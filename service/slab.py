"""Where memory is kept: the rows of all streams of one partition.

A slab is Rows (tensors with the stream first) with spare room, and an index from stream key to slot. 128 neighbouring
rows are a page, the unit in which state is written. A slot belongs to its stream until it is evicted.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.rows import Rows
from service.wire import StreamKey

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


class StateSlab:
    """All streams of one partition."""

    def __init__(self, rows_for: Callable[[Sequence[bytes]], Rows]) -> None:
        """rows_for: the rows that streams seen for the first time start with."""
        self._rows_for = rows_for
        self._slots: dict[StreamKey, int] = {}
        self._keys: list[StreamKey | None] = []  # by slot; None: free
        self._free: list[int] = []
        self._rows = rows_for([])
        self._applied = torch.empty(0, dtype=torch.int64)
        self._dirty_since = torch.empty(0, dtype=torch.int64)  # by page: offset of the first change not written, or -1

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: StreamKey) -> bool:
        return key in self._slots

    @property
    def nbytes(self) -> int:
        """Of the rows, spare room included; the index is not counted."""
        return sum(column.nbytes for column in self._rows) + self._applied.nbytes

    @property
    def room(self) -> int:
        """Slots there are, free ones too: every slot is below it."""
        return len(self._applied)

    @property
    def rows(self) -> Rows:
        """All rows, those of free slots too: to look at, not to change."""
        return self._rows

    def slots(self, keys: Sequence[StreamKey]) -> Tensor:
        """The slot of each of N keys, (N,) int64. A new stream gets a fresh row."""
        found = list(map(self._slots.get, keys))
        if None in found:
            self._add(list(dict.fromkeys(key for key, slot in zip(keys, found, strict=True) if slot is None)))
            found = list(map(self._slots.get, keys))
        return torch.tensor(found)

    def gather(self, slots: Tensor) -> Rows:
        """Copies of the rows at `slots` (S,)."""
        return self._rows.take(slots)

    def scatter(self, slots: Tensor, rows: Rows, applied: Tensor, since: int) -> None:
        """Put the rows at `slots` (S,) back.

        applied: (S,), offset of the last reading that is in each of them. since: offset of the first reading that
        changed any of them, from where a page that was clean would have to be replayed.
        """
        self._rows.put(slots, rows)
        self._applied[slots] = applied
        self._soil(slots, since)

    def evict(self, key: StreamKey, offset: int) -> None:
        """Forget a stream, because of the reading at `offset`; its slot may be given to another."""
        slot = self._slots.pop(key)
        self._keys[slot] = None
        self._free.append(slot)
        self._applied[slot] = NOTHING_APPLIED
        self._soil(torch.tensor([slot]), offset)

    def dirty_pages(self) -> list[tuple[int, int]]:
        """(page, offset of its first change that is not written), the oldest change first."""
        dirty = (self._dirty_since >= 0).nonzero().squeeze(1).tolist()
        return sorted(((page, int(self._dirty_since[page])) for page in dirty), key=lambda item: item[1])

    def page(self, number: int, through: int) -> Page:
        """A copy of a page; everything before offset `through` has been applied."""
        begin = number * PAGE_ROWS
        held = [(slot, key) for slot, key in enumerate(self._keys[begin : begin + PAGE_ROWS], begin) if key is not None]
        slots = torch.tensor([slot for slot, _ in held], dtype=torch.int64)
        return Page(number, through, slots, tuple(key for _, key in held), self.gather(slots), self._applied[slots])

    def clean(self, number: int) -> None:
        """A page has been written: it is not dirty any more."""
        self._dirty_since[number] = -1

    def load(self, page: Page) -> None:
        """Put a written page back where it was. The slots must be free: pages are loaded into an empty slab."""
        if not len(page.slots):
            return
        last = int(page.slots.max())
        self._make_room(last + 1)
        for slot in range(len(self._keys), last + 1):
            self._keys.append(None)
            self._free.append(slot)
        for slot, key in zip(page.slots.tolist(), page.keys, strict=True):
            self._slots[key] = slot
            self._keys[slot] = key
            self._free.remove(slot)
        self._rows.put(page.slots, page.rows)
        self._applied[page.slots] = page.applied

    def _add(self, keys: list[StreamKey]) -> None:
        slots = []
        for key in keys:
            slot = self._free.pop() if self._free else len(self._keys)
            if slot == len(self._keys):
                self._keys.append(key)
            self._keys[slot] = key
            self._slots[key] = slot
            slots.append(slot)
        self._make_room(len(self._keys))
        self._rows.put(torch.tensor(slots), self._rows_for(keys))

    def _make_room(self, streams: int) -> None:
        """Grow by doubling, in whole pages."""
        room = len(self._applied)
        if streams <= room:
            return
        pages = -(-max(streams, 2 * room) // PAGE_ROWS)
        more = pages * PAGE_ROWS - room
        self._rows = Rows(*(torch.cat([column, column.new_zeros(more, *column.shape[1:])]) for column in self._rows))
        self._applied = torch.cat([self._applied, torch.full((more,), NOTHING_APPLIED)])
        clean = torch.full((pages - len(self._dirty_since),), -1)
        self._dirty_since = torch.cat([self._dirty_since, clean])

    def _soil(self, slots: Tensor, offset: int) -> None:
        pages = slots // PAGE_ROWS
        since = self._dirty_since[pages]
        self._dirty_since[pages] = torch.where(since < 0, offset, since)
