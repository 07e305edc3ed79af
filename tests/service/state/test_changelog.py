"""The changelog's records: what is written comes back to the last bit, and what is damaged is noticed."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection.rows import CHANNELS, SCALARS, Field, Rows, Table, fresh
from models.net.forecaster import ForecasterConfig
from service.input.reading_batch import StreamKey
from service.log.port import Partition, Record
from service.state import changelog
from service.state.changelog import (
    Collected,
    Layout,
    Lost,
    Marker,
    Stale,
    UnreadableRecord,
    marker_record,
    page_record,
    read_marker,
    read_page,
    roster_agrees,
    roster_record,
)
from service.state.changelog_keys import Origin, page_key, roster_key
from service.state.slab import PAGE_ROWS, Page

CONFIG = ForecasterConfig(("flow", "heat"), hidden=16, layers=2)
HERE = Origin("group", Partition("plant", 3))
LAYOUT = Layout.of("ab" * 32, fresh(0, CONFIG))
MARKER = Marker(
    group="group",
    topic="plant",
    partition=3,
    next_offset=900,
    replay_from=700,
    topic_id="AbC-_d",
    partitions=8,
    checkpoint="ab" * 32,
    names=LAYOUT.names,
    checkpoint_from=12,
    primed_from=3,
    numerics="f00d",
    pages=2,
    streams=200,
    counts={"judged": 890, "late": 3},
    event_time_ms=1_700_000_000_000,
    ticks=[5, 600],
    writer="telltale-1",
)


def random_rows(count: int, seed: int, config: ForecasterConfig = CONFIG) -> Rows:
    """All bits at random: NaNs with every payload, infinities, denormal numbers."""
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for column in fresh(count, config):
        bits = torch.randint(0, 256, (column.nbytes,), generator=generator, dtype=torch.uint8)
        columns.append(bits.view(column.dtype).reshape(column.shape) if column.numel() else column)
    return Rows(*columns)


def page_of(keys: Sequence[bytes], places: Sequence[int], number: int = 0, seed: int = 0, through: int = 900) -> Page:
    slots = torch.tensor(places, dtype=torch.int64) + number * PAGE_ROWS
    applied = torch.arange(len(keys)) * 7 - 1
    return Page(number, through, slots, tuple(map(StreamKey, keys)), random_rows(len(keys), seed), applied)


def bits(page: Page) -> tuple[object, ...]:
    columns = [column.numpy().tobytes() for column in (*page.rows, page.slots, page.applied)]
    return page.number, page.through, page.keys, *columns


def collected(*records: Record, origin: Origin = HERE) -> Collected:
    found = Collected(origin)
    found.add([record.key for record in records], [record.value for record in records])
    return found


def value_of(record: Record) -> bytes:
    assert record.value is not None
    return record.value


def flips(value: bytes) -> list[bytes]:
    """Every value that is one bit away."""
    return [
        value[:place] + bytes([byte ^ 1 << bit]) + value[place + 1 :]
        for place, byte in enumerate(value)
        for bit in range(8)
    ]


PAGE = page_of([b"pump-1", "Pumpe Süd".encode()], [5, 0])
ROSTER = roster_record(HERE, 0, PAGE.keys)


# --- there and back

keys = st.lists(st.text(min_size=1, max_size=64).map(str.encode), unique=True, max_size=PAGE_ROWS)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(keys, st.integers(0, 9_999_999), st.integers(0, 2**62), st.randoms(), st.integers(0, 2**31))
def test_a_page_comes_back_to_the_last_bit(
    names: list[bytes], number: int, through: int, random: object, seed: int
) -> None:
    places = torch.randperm(PAGE_ROWS, generator=torch.Generator().manual_seed(seed))[: len(names)].tolist()
    page = page_of(names, places, number, seed, through)
    record = page_record(HERE, LAYOUT, page)
    assert record.key == page_key(HERE, number)
    found = read_page(collected(record), LAYOUT, number)
    assert isinstance(found, Page)
    assert bits(found) == bits(page)
    for column in found.rows:
        column.zero_()  # may be written to
    assert not roster_agrees(collected(record), page)
    assert roster_agrees(collected(record, roster_record(HERE, number, page.keys)), page)


@pytest.mark.parametrize("streams", [0, 1, PAGE_ROWS])
def test_a_page_of_streams_without_a_cell_comes_back_to_the_last_bit(streams: int) -> None:
    config = replace(CONFIG, cell="gru")
    layout = Layout.of("ab" * 32, fresh(0, config))
    assert layout.row_bytes == LAYOUT.row_bytes - CONFIG.layers * CONFIG.hidden * 4
    assert layout.names != LAYOUT.names
    names = [b"stream-%d" % n for n in range(streams)]
    page = page_of(names, range(streams))._replace(rows=random_rows(streams, 5, config))
    found = read_page(collected(page_record(HERE, layout, page)), layout, 0)
    assert isinstance(found, Page)
    assert bits(found) == bits(page)
    assert found.rows.cell.shape == (streams, 2, 0)


@pytest.mark.slow
@given(
    st.builds(
        Marker,
        group=st.just("group"),
        topic=st.just("plant"),
        partition=st.just(3),
        next_offset=st.integers(0, 2**63 - 1),
        replay_from=st.integers(0, 2**63 - 1),
        topic_id=st.text(),
        partitions=st.integers(1, 10_000),
        checkpoint=st.text(),
        names=st.integers(0, 2**32 - 1),
        checkpoint_from=st.integers(0, 2**63 - 1),
        primed_from=st.integers(0, 2**63 - 1),
        numerics=st.text(),
        pages=st.integers(0, 10**7),
        streams=st.integers(0, 10**9),
        counts=st.dictionaries(st.text(), st.integers(0, 2**62)),
        event_time_ms=st.none() | st.integers(0, 2**62),
        ticks=st.lists(st.integers(0, 2**62), max_size=16),
        writer=st.text(),
    )
)
def test_a_marker_comes_back(marker: Marker) -> None:
    assert read_marker(HERE, value_of(marker_record(marker))) == marker


def test_a_marker_is_json_that_any_consumer_can_read() -> None:
    found = msgspec.json.decode(value_of(marker_record(MARKER)))
    assert (found["next_offset"], found["replay_from"], found["version"]) == (900, 700, 1)
    assert marker_record(MARKER).key == b"plant/marker/group"


def test_what_a_row_takes_is_what_a_page_of_one_more_takes() -> None:
    sizes = [len(value_of(page_record(HERE, LAYOUT, page_of([b"k"] * n, range(n))))) for n in (3, 4)]
    assert LAYOUT.row_bytes < sizes[1] - sizes[0] < LAYOUT.row_bytes + 10


# --- damage


@pytest.mark.slow
def test_every_flipped_bit_of_a_page_is_noticed_and_its_streams_are_known() -> None:
    for value in flips(value_of(page_record(HERE, LAYOUT, PAGE))):
        found = read_page(collected(Record(page_key(HERE, 0), value), ROSTER), LAYOUT, 0)
        assert isinstance(found, Lost)
        assert found.reason in ("corrupt", "version")
        assert found.streams == PAGE.keys


def test_a_page_cut_short_anywhere_is_noticed() -> None:
    whole = value_of(page_record(HERE, LAYOUT, PAGE))
    for length in range(len(whole)):
        found = read_page(collected(Record(page_key(HERE, 0), whole[:length]), ROSTER), LAYOUT, 0)
        assert isinstance(found, Lost)
        assert (found.reason, found.streams) == ("corrupt", PAGE.keys)
    assert isinstance(read_page(collected(Record(page_key(HERE, 0), whole + b"\0"), ROSTER), LAYOUT, 0), Lost)


def test_every_flipped_bit_of_a_roster_is_noticed() -> None:
    page = page_record(HERE, LAYOUT, PAGE)
    for value in flips(value_of(ROSTER)):
        roster = Record(roster_key(HERE, 0), value)
        assert not roster_agrees(collected(page, roster), PAGE)
        found = read_page(collected(page._replace(value=b"?"), roster), LAYOUT, 0)
        assert isinstance(found, Lost)
        assert found.streams is None


def test_every_flipped_bit_of_a_marker_is_noticed_or_changes_nothing() -> None:
    noticed = 0
    values = flips(value_of(marker_record(MARKER)))
    for value in values:
        try:
            assert read_marker(HERE, value) == MARKER
        except UnreadableRecord:
            noticed += 1
    assert noticed > 0.95 * len(values)


@pytest.mark.parametrize("value", [b"", b"{", b"null", b"[]", b"{}", b'{"crc":"00000000"}', b"[" * 100_000, b"\xff"])
def test_what_is_no_marker_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableRecord) as unreadable:
        read_marker(HERE, value)
    assert unreadable.value.reason == "corrupt"


def test_a_marker_of_a_version_to_come_is_told_as_such_whatever_else_is_in_it() -> None:
    for value in (
        value_of(marker_record(msgspec.structs.replace(MARKER, version=2))),
        b'{"crc":"00000000","version":2,"all":"new"}',
    ):
        with pytest.raises(UnreadableRecord, match="version 2, expected 1") as unreadable:
            read_marker(HERE, value)
        assert unreadable.value.reason == "version"


@pytest.mark.parametrize("change", [{"group": "other"}, {"topic": "other"}, {"partition": 4}])
def test_a_marker_of_another_origin_is_foreign(change: dict[str, object]) -> None:
    with pytest.raises(UnreadableRecord) as unreadable:
        read_marker(HERE, value_of(marker_record(msgspec.structs.replace(MARKER, **change))))
    assert unreadable.value.reason == "foreign"


@pytest.mark.parametrize(
    "origin",
    [Origin("other", HERE.partition), Origin("group", Partition("plant", 4)), Origin("group", Partition("p", 3))],
)
def test_a_page_of_another_origin_under_this_ones_key_is_foreign(origin: Origin) -> None:
    page, roster = page_record(origin, LAYOUT, PAGE), roster_record(origin, 0, PAGE.keys)
    there = collected(page._replace(key=page_key(HERE, 0)), roster._replace(key=roster_key(HERE, 0)))
    found = read_page(there, LAYOUT, 0)
    assert isinstance(found, Lost)
    assert (found.reason, found.streams) == ("foreign", None)


def test_another_page_under_a_pages_key_is_foreign() -> None:
    record = page_record(HERE, LAYOUT, page_of([b"a"], [0], number=1))
    found = read_page(collected(record._replace(key=page_key(HERE, 0)), ROSTER), LAYOUT, 0)
    assert isinstance(found, Lost)
    assert (found.reason, found.streams) == ("foreign", PAGE.keys)


def test_a_page_that_is_not_there_is_missing() -> None:
    for there in (collected(), collected(page_record(HERE, LAYOUT, PAGE), Record(page_key(HERE, 0), None))):
        found = read_page(there, LAYOUT, 0)
        assert isinstance(found, Lost)
        assert (found.reason, found.streams) == ("missing", None)


def test_another_roster_under_a_rosters_key_names_no_one() -> None:
    there = collected(roster_record(HERE, 1, [StreamKey(b"others")])._replace(key=roster_key(HERE, 0)))
    found = read_page(there, LAYOUT, 0)
    assert isinstance(found, Lost)
    assert found.streams is None


@pytest.mark.parametrize(
    "layout",
    [
        replace(LAYOUT, checkpoint="cd" * 32),
        Layout.of(LAYOUT.checkpoint, fresh(0, ForecasterConfig(("flow",), hidden=16, layers=2))),
        Layout.of(LAYOUT.checkpoint, fresh(0, ForecasterConfig(("flow", "heat"), hidden=32, layers=2))),
    ],
)
def test_a_whole_page_that_means_nothing_to_this_checkpoint_is_stale(layout: Layout) -> None:
    found = read_page(collected(page_record(HERE, LAYOUT, PAGE)), layout, 0)
    assert found == Stale(0, (5, 0), PAGE.keys)


def test_a_row_with_another_quantity_is_laid_out_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LAYOUT.names
    mood = Field("mood", 0.0, "", "", "mood")
    monkeypatch.setattr(changelog, "SCALARS", Table((*SCALARS.fields[1:], mood)))
    assert LAYOUT.names != before
    monkeypatch.undo()
    monkeypatch.setattr(changelog, "CHANNELS", Table(tuple(reversed(CHANNELS.fields))))
    assert LAYOUT.names != before


def framed(header: object, columns: bytes = b"", kind: bytes = b"P") -> bytes:
    """A record with a good checksum, whatever is in it."""
    packed = msgspec.msgpack.encode(header)
    body = struct.pack("<I", len(packed)) + packed + columns
    return struct.pack("<4sBcI", b"TTCL", 1, kind, crc32(body)) + body


def header(**changes: object) -> list[object]:
    fields = {
        "group": "group", "topic": "plant", "partition": 3, "page": 0, "through": 9,
        "checkpoint": LAYOUT.checkpoint, "names": LAYOUT.names, "places": [0, 1], "keys": [b"a", b"b"],
    }  # fmt: skip
    return list((fields | changes).values())


ROWS = bytes(2 * LAYOUT.row_bytes)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        (header(places=[0]), ROWS),
        (header(places=[0, 0]), ROWS),
        (header(places=[0, PAGE_ROWS]), ROWS),
        (header(places=[0, -1]), ROWS),
        (header(keys=[b"a", b"a"]), ROWS),
        (header(keys=[b"a", b""]), ROWS),
        (header(keys=[b"a", b"b" * 257]), ROWS),
        (header(keys=["a", 7]), ROWS),
        (header(), ROWS[:-1]),
        (header(), ROWS + b"\0"),
        (header(), b""),
        (header()[:-1], ROWS),
        ({"group": "group"}, ROWS),
        (None, ROWS),
    ],
)
def test_a_page_that_was_written_wrong_is_corrupt(head: object, columns: bytes) -> None:
    found = read_page(collected(Record(page_key(HERE, 0), framed(head, columns))), LAYOUT, 0)
    assert isinstance(found, Lost)
    assert found.reason == "corrupt"


LABELS = ({"site": "Halle Süd", "line": "3"}, None)


def test_a_page_with_labels_comes_back_and_one_without_is_as_it_was_before_there_were_any() -> None:
    record = page_record(HERE, LAYOUT, PAGE._replace(labels=LABELS))
    found = read_page(collected(record), LAYOUT, 0)
    assert isinstance(found, Page)
    assert (bits(found), found.labels) == (bits(PAGE), LABELS)
    without = page_record(HERE, LAYOUT, PAGE)
    assert page_record(HERE, LAYOUT, PAGE._replace(labels=(None, None))) == without
    (length,) = struct.unpack_from("<I", value_of(without), 10)
    assert len(msgspec.msgpack.decode(value_of(without)[14 : 14 + length])) == len(header())


def test_equal_labels_are_written_once() -> None:
    names = [b"stream-%d" % n for n in range(PAGE_ROWS)]
    page = page_of(names, range(PAGE_ROWS))
    labels = tuple({"site": "hall-7", "line": str(n % 2)} for n in range(PAGE_ROWS))
    sizes = [len(value_of(page_record(HERE, LAYOUT, one))) for one in (page, page._replace(labels=labels))]
    assert sizes[1] - sizes[0] < 2 * PAGE_ROWS


@pytest.mark.parametrize(
    "more", [[[{"site": "a"}], [0]], [[{"site": "a"}], [0, 1]], [[], [0, -2]], [[{"site": 7}], [0, 0]], [[], "x"]]
)
def test_a_page_whose_labels_do_not_fit_is_corrupt(more: list[object]) -> None:
    found = read_page(collected(Record(page_key(HERE, 0), framed([*header(), *more], ROWS))), LAYOUT, 0)
    assert isinstance(found, Lost)
    assert found.reason == "corrupt"


def test_the_page_that_the_wrong_ones_are_made_of_is_right() -> None:
    found = read_page(collected(Record(page_key(HERE, 0), framed(header(), ROWS))), LAYOUT, 0)
    assert isinstance(found, Page)


anything = st.binary(max_size=200) | st.builds(
    lambda magic, version, kind, body, good: (
        struct.pack("<4sBcI", magic, version, kind, crc32(body) if good else 7) + body
    ),
    st.just(b"TTCL") | st.binary(min_size=4, max_size=4),
    st.integers(0, 3),
    st.sampled_from([b"P", b"R", b"X"]),
    st.binary(max_size=200)
    | st.builds(
        lambda length, packed: struct.pack("<I", length) + packed,
        st.integers(0, 2**32 - 1),
        st.recursive(
            st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=9) | st.text(max_size=9) | st.floats(),
            lambda inner: st.lists(inner, max_size=9),
        ).map(msgspec.msgpack.encode),
    ),
    st.booleans(),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(anything, anything)
def test_reading_a_page_never_raises_whatever_the_bytes(page: bytes, roster: bytes) -> None:
    there = collected(Record(page_key(HERE, 0), page), Record(roster_key(HERE, 0), roster))
    assert isinstance(read_page(there, LAYOUT, 0), Lost)


# --- keys


@pytest.mark.parametrize("group", ["group", "a/b", "a/page/1/b", "группа"])
def test_keys_name_topic_kind_and_group(group: str) -> None:
    origin = Origin(group, Partition("plant", 3))
    page = page_of([b"a"], [0], number=12)
    there = collected(
        page_record(origin, LAYOUT, page),
        roster_record(origin, 12, page.keys),
        marker_record(msgspec.structs.replace(MARKER, group=group)),
        origin=origin,
    )
    assert isinstance(read_page(there, LAYOUT, 12), Page)
    assert roster_agrees(there, page)
    assert read_marker(origin, there.marker or b"").group == group
    assert there.foreign == 0


def test_the_newest_record_of_a_key_counts() -> None:
    older, newer = (page_of([b"a"], [0], seed=seed, through=seed) for seed in (1, 2))
    there = collected(page_record(HERE, LAYOUT, older), page_record(HERE, LAYOUT, newer), ROSTER)
    found = read_page(there, LAYOUT, 0)
    assert isinstance(found, Page)
    assert bits(found) == bits(newer)


def of_others() -> list[Record]:
    origins = [
        Origin("other", HERE.partition),
        Origin("group", Partition("other", 3)),
        Origin("group/x", HERE.partition),
    ]
    return [
        record
        for origin in origins
        for record in (
            page_record(origin, LAYOUT, PAGE),
            roster_record(origin, 0, PAGE.keys),
            marker_record(msgspec.structs.replace(MARKER, group=origin.group, topic=origin.partition.topic)),
        )
    ]


def test_the_records_of_other_groups_and_topics_are_left_alone() -> None:
    there = collected(*of_others())
    assert (there.pages, there.rosters, there.marker, there.foreign) == ({}, {}, None, 0)


GARBAGE = [
    None,
    b"",
    b"plant",
    b"plant/page",
    b"plant/page/0",
    b"plant/page//group",
    b"plant/page/x/group",
    b"plant/page/-1/group",
    b"plant/page/00/group",
    b"plant/page/+1/group",
    b"plant/page/1_0/group",
    "plant/page/٣/group".encode(),
    "plant/page/²/group".encode(),
    b"plant/page/99999999/group",
    b"plant/page/" + b"9" * 10_000 + b"/group",
    b"plant/pages/0/group",
    b"plant/marker",
    b"\xff\xfe/page/0/group",
]


@pytest.mark.parametrize("key", GARBAGE)
def test_keys_that_no_one_writes_are_left_alone(key: bytes | None) -> None:
    there = collected(page_record(HERE, LAYOUT, PAGE), ROSTER, Record(key, b"garbage"))
    assert list(there.pages) == list(there.rosters) == [0]
    assert there.marker is None
    assert isinstance(read_page(there, LAYOUT, 0), Page)


@given(st.binary(max_size=60), st.binary(max_size=20) | st.none())
def test_no_key_makes_collecting_fail(key: bytes, value: bytes | None) -> None:
    collected(Record(key, value), Record(b"plant/" + key, value), Record(b"plant/page/" + key, value))


def test_a_page_that_was_read_is_not_held_any_more() -> None:
    found = Collected(HERE)
    assert found.end == 0
    found.add([page_key(HERE, 0), page_key(HERE, 4), roster_key(HERE, 4)], [b"zero", b"four", b"roster"])
    assert found.end == 5
    found.drop(4)
    assert (found.pages, found.rosters) == ({0: b"zero"}, {})
    found.drop(4)
