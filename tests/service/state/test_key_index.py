"""Slots of keys: what a dict says, also where keys have the same hash."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.input.reading_batch import StreamKey
from service.state.key_index import NO_SLOT, KeyIndex, insert, keep_code, look_up, take_out

HASHES = (0, 1, 255, 256, -2, 1 << 62)  # of tables of 256 places: the first and the last place, and those of others


class Hashed(bytes):
    """A key whose hash is one of few."""

    def __hash__(self) -> int:
        return HASHES[self[0] % len(HASHES)]


def key(n: int) -> StreamKey:
    return StreamKey(Hashed(b"%c%d" % (n, n)))


def plain(count: int) -> list[StreamKey]:
    return [StreamKey(b"stream-%d" % n) for n in range(count)]


def index_of(keys: Sequence[StreamKey]) -> KeyIndex:
    index = KeyIndex()
    index.reserve(len(keys))
    index.add(keys, np.arange(len(keys)))
    return index


def test_keys_have_their_slots_and_slots_their_keys() -> None:
    keys = plain(1_000)
    index = index_of(keys)
    assert len(index) == 1_000
    assert index.find(keys[::-1]).tolist() == [*range(999, -1, -1)]
    assert index.find([StreamKey(b"another"), keys[7], keys[7]]).tolist() == [NO_SLOT, 7, 7]
    assert index.find(tuple(keys[:2])).tolist() == [0, 1]
    assert index.find([]).tolist() == []
    assert index.at(np.array([3, NO_SLOT, 1])) == [keys[3], None, keys[1]]
    assert index.between(998, 1_000) == keys[998:]


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_room_that_grows_moves_no_key(steps: int) -> None:
    keys, index = plain(1_000), KeyIndex()
    for first in range(0, 1_000, 1_000 // steps):
        some = slice(first, first + 1_000 // steps)
        index.reserve(some.stop)
        index.add(keys[some], np.arange(some.start, some.stop))
        assert index.find(keys[: some.stop]).tolist() == [*range(some.stop)]


def test_a_slot_that_was_freed_is_given_to_another_key() -> None:
    keys = plain(100)
    index = index_of(keys)
    index.remove(np.arange(0, 100, 2))
    assert len(index) == 50
    assert index.find(keys).tolist() == [n if n % 2 else NO_SLOT for n in range(100)]
    assert index.between(0, 3) == [None, keys[1], None]
    index.add([StreamKey(b"another")], np.array([2]))
    assert index.find([StreamKey(b"another"), keys[2]]).tolist() == [2, NO_SLOT]


@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=12), max_size=30))
def test_it_says_what_a_dict_says_also_of_keys_with_the_same_hash(turns: Sequence[Sequence[int]]) -> None:
    """Keys that are there are removed, others added, all looked up: in each turn some."""
    index, oracle = KeyIndex(), dict[StreamKey, int]()
    index.reserve(128)
    everyone = [key(n) for n in range(41)]
    for turn in turns:
        keys = [key(n) for n in turn]
        new = [one for one in keys if one not in oracle]
        gone = [oracle.pop(one) for one in keys if one in oracle]
        index.remove(np.array(gone, np.int64))
        free = [slot for slot in range(128) if slot not in oracle.values()][: len(new)]
        oracle.update(zip(new, free, strict=True))
        index.add(new, np.array(free, np.int64))
        assert len(index) == len(oracle)
        assert index.find(everyone).tolist() == [oracle.get(one, NO_SLOT) for one in everyone]
        assert index.holds_any(keys) == any(one in oracle for one in keys)
        assert [index.holds_any([one]) for one in everyone] == [one in oracle for one in everyone]


def test_no_key_waits_for_the_compiler_where_code_was_kept() -> None:
    keep_code()
    compiled: tuple[Any, ...] = (look_up, insert, take_out)
    index = index_of(plain(1_000))
    index.find(tuple(plain(2)))
    index.remove(np.array([3, 1]))
    assert [len(function.signatures) for function in compiled] == [1, 1, 1]
