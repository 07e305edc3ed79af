"""Dead letters cut to what their topic takes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from service.errors import RefusedInput
from service.log.fitting import MAX_MESSAGE_BYTES, fitted, record_bytes
from service.log.port import Cut, Headers, Record
from tests.records import headers_of

OURS: Headers = (("telltale-reason", b"bad_json"), ("telltale-detail", b"x" * 1_024), ("telltale-offset", b"7"))


def batch_bytes(record: Record) -> int:
    """The size of the batch that the client makes of it; its codecs never make it larger."""
    builder = DefaultRecordBatchBuilder(2, 3, True, 7, 0, 0, 1 << 31)
    builder.append(0, record.time_ms, record.key, record.value, list(record.headers))
    return len(builder.build())


fields = st.one_of(st.none(), st.binary(max_size=50), st.integers(0, 3_000).map(lambda size: b"x" * size))
headers = st.lists(st.tuples(st.sampled_from(["trace", "", "ü" * 30, "telltale-reason"]), fields), max_size=12).map(
    tuple
)


@pytest.mark.slow
@given(fields, fields, headers, st.integers(1_800, 6_000))
def test_whatever_a_record_holds_its_letter_fits(
    key: bytes | None, value: bytes | None, came_with: Headers, max_bytes: int
) -> None:
    came_with = tuple((name, data or b"") for name, data in came_with)  # one that is null becomes empty
    record = Record(key, value, (*came_with, *OURS), 1_700_000_000_000)
    letter = fitted(record, max_bytes)
    assert batch_bytes(letter) <= record_bytes(letter) <= max_bytes
    if record_bytes(record) <= max_bytes:
        assert letter == record
        return
    ours_at = len(letter.headers) - 1 - letter.headers[::-1].index(OURS[0])
    said = headers_of(Record(None, None, letter.headers[ours_at:]))
    for name, whole, found in (("key", key, letter.key), ("value", value, letter.value)):
        if found == whole:
            assert f"telltale-{name}-bytes" not in said
        else:
            assert whole is not None
            assert found == whole[: len(found or b"")]
            assert int(said[f"telltale-{name}-bytes"]) == len(whole)
            assert said[f"telltale-{name}-sha256"].decode() == hashlib.sha256(whole).hexdigest()
    kept = letter.headers[:ours_at]
    assert len(came_with) - len(kept) == int(said.get("telltale-headers-left-out", b"0"))
    rest = iter(came_with)
    assert all(header in rest for header in kept), "in their order"
    assert all(header in letter.headers for header in OURS)


def test_a_value_gives_way_before_the_headers_and_the_key() -> None:
    came_with = (("trace", b"t" * 2_000),)
    letter = fitted(Record(b"k" * 256, b"v" * 2_000_000, (*came_with, *OURS)), MAX_MESSAGE_BYTES)
    assert letter.key == b"k" * 256
    assert letter.headers[:4] == (*came_with, *OURS)
    assert MAX_MESSAGE_BYTES - 600 < record_bytes(letter) <= MAX_MESSAGE_BYTES


def test_what_was_cut_before_is_told_with_the_length_and_digest_of_all_of_it() -> None:
    cut = Cut(b"v" * 500, 20_000_000, "ab" * 32)
    left_out = ("telltale-headers-left-out", b"3")
    letter = fitted(Record(Cut(b"k" * 300, 1_000, "cd" * 32), cut, (("a", b"1"), *OURS, left_out)), 100_000)
    assert (letter.key, letter.value) == (b"k" * 300, b"v" * 500)
    assert {type(letter.key), type(letter.value)} == {bytes}, "the client takes no other"
    assert letter.headers == (
        ("a", b"1"),
        *OURS,
        ("telltale-key-bytes", b"1000"),
        ("telltale-key-sha256", b"cd" * 32),
        ("telltale-value-bytes", b"20000000"),
        ("telltale-value-sha256", b"ab" * 32),
        left_out,
    )


def test_a_topic_that_takes_next_to_nothing_gets_a_shorter_detail_and_then_an_error() -> None:
    record = Record(b"key", b"v" * 3_000, OURS)
    letter = fitted(record, 800)
    assert record_bytes(letter) <= 800
    assert 40 <= len(headers_of(letter)["telltale-detail"]) < 1_024
    with pytest.raises(RefusedInput, match=r"at least \d+ bytes, its topic takes 400: set max\.message\.bytes"):
        fitted(record, 400)
