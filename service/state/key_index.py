"""Which slot each stream's key has, for many keys at once.

A dict misses the processor's cache four times a key, one after the other: its index, its entry, the key, the slot. Here
a table has the hash of each key beside its slot, and compiled code looks all keys up before any is compared, so that
the misses overlap. The hash is Python's, which no one outside can foresee.
Sizes: N keys, P places of the table, a power of two of which at most half are taken.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from models.data.arrays import Bools, Int64s, Objects
from models.detection.compiling import kept
from service.input.reading_batch import StreamKey

NO_SLOT = -1
_LEAST_PLACES = 256
_HASH, _SLOT = range(2)


class KeyIndex:
    """Slots by key, and keys by slot. Room is reserved before slots are given."""

    def __init__(self) -> None:
        self._keys: Objects = np.full(1, None)  # by slot, None: free; the last is no slot's: NO_SLOT leads to it
        self._table = _empty(_LEAST_PLACES)  # (P, 2), hash and slot
        self._same_hash: dict[StreamKey, int] = {}  # slots of keys whose hash another key has in the table
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, keys: Sequence[StreamKey]) -> Int64s:
        """The slot of each of N keys, (N,); NO_SLOT for one that is not there."""
        slots = np.empty(len(keys), np.int64)
        look_up(self._table, _hashes(keys), slots)
        held = self.at(slots)
        if held != list(keys):
            for n, key in enumerate(keys):
                if held[n] != key:
                    slots[n] = self._same_hash.get(key, NO_SLOT)
        return slots

    def holds_any(self, keys: Sequence[StreamKey]) -> bool:
        """Whether one of N keys is there. Where none is, as when much is restored, no keys are compared."""
        slots = np.empty(len(keys), np.int64)
        look_up(self._table, _hashes(keys), slots)
        if not self._same_hash and (slots == NO_SLOT).all():
            return False
        return bool((self.find(keys) != NO_SLOT).any())

    def at(self, slots: Int64s) -> list[StreamKey | None]:
        """The key of each of N slots; None where there is none."""
        return cast(list[StreamKey | None], self._keys.take(slots).tolist())

    def between(self, begin: int, end: int) -> list[StreamKey | None]:
        """The keys of the slots begin to end; None where there is none."""
        return cast(list[StreamKey | None], self._keys[begin:end].tolist())

    def reserve(self, room: int) -> None:
        """Let slots below `room` be given."""
        more = room - (len(self._keys) - 1)
        if more <= 0:
            return
        self._keys = np.concatenate([self._keys, np.full(more, None)])
        if 2 * room > len(self._table):
            there = self._table[self._table[:, _SLOT] != NO_SLOT]
            self._table = _empty(1 << (2 * room - 1).bit_length())
            insert(self._table, there[:, _HASH].copy(), there[:, _SLOT].copy(), np.empty(len(there), np.bool_))

    def add(self, keys: Sequence[StreamKey], slots: Int64s) -> None:
        """Give each of N different keys that are not there its slot, (N,), which no key has."""
        inserted = np.empty(len(keys), np.bool_)
        insert(self._table, _hashes(keys), slots, inserted)
        self._same_hash.update((keys[n], int(slots[n])) for n in np.flatnonzero(~inserted).tolist())
        self._keys[slots] = np.array(keys, object)
        self._count += len(keys)

    def remove(self, slots: Int64s) -> None:
        """Let N slots be free, (N,), which keys have."""
        keys = cast(list[StreamKey], self.at(slots))
        self._keys[slots] = None
        take_out(self._table, _hashes([key for key in keys if self._same_hash.pop(key, None) is None]))
        self._count -= len(keys)


def keep_code() -> None:
    """Compile what is compiled here, where that was not done before, and keep it."""
    index, slots = KeyIndex(), np.zeros(1, np.int64)
    index.reserve(1)
    index.add([StreamKey(b"")], slots)
    index.remove(slots)


def _empty(places: int) -> Int64s:
    return np.full((places, 2), NO_SLOT)


def _hashes(keys: Sequence[StreamKey]) -> Int64s:
    return np.fromiter(map(hash, keys), np.int64, len(keys))


@kept
def look_up(table: Int64s, hashes: Int64s, slots: Int64s) -> None:
    """Fill in the slots (N,) of the keys that have these hashes (N,); NO_SLOT for a hash that none has."""
    last = len(table) - 1
    for n in range(len(hashes)):
        place = hashes[n] & last
        while table[place, _SLOT] != NO_SLOT and table[place, _HASH] != hashes[n]:
            place = (place + 1) & last
        slots[n] = table[place, _SLOT]


@kept
def insert(table: Int64s, hashes: Int64s, slots: Int64s, inserted: Bools) -> None:
    """Put in N hashes with their slots, but none that is there already. inserted: (N,), filled in: whether it was."""
    last = len(table) - 1
    for n in range(len(hashes)):
        place = hashes[n] & last
        while table[place, _SLOT] != NO_SLOT and table[place, _HASH] != hashes[n]:
            place = (place + 1) & last
        inserted[n] = table[place, _SLOT] == NO_SLOT
        if inserted[n]:
            table[place, _HASH], table[place, _SLOT] = hashes[n], slots[n]


@kept
def take_out(table: Int64s, hashes: Int64s) -> None:
    """Remove N hashes that are there. What lies behind one for want of a place moves up (Knuth 1973, 6.4, R)."""
    last = len(table) - 1
    for n in range(len(hashes)):
        free = hashes[n] & last
        while table[free, _HASH] != hashes[n]:
            free = (free + 1) & last
        place = (free + 1) & last
        while table[place, _SLOT] != NO_SLOT:
            if (place - table[place, _HASH]) & last >= (place - free) & last:
                table[free, _HASH], table[free, _SLOT] = table[place, _HASH], table[place, _SLOT]
                free = place
            place = (place + 1) & last
        table[free, _SLOT] = NO_SLOT
