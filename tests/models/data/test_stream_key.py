"""What can be a stream's key; the words of each refusal are held in tests/service/input/test_wire.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.stream_key import all_without_flaw, flaw_of

some_keys = st.one_of(
    st.binary(max_size=12),
    st.text(alphabet='ab"{}[]:1 \n\x00\x85é', max_size=6).map(str.encode),
    st.text(max_size=20).map(str.encode),
)


@pytest.mark.slow
@given(st.lists(some_keys, min_size=1, max_size=4))
def test_a_list_has_no_flaw_if_none_of_its_keys_has(keys: list[bytes]) -> None:
    assert all_without_flaw(keys) == all(flaw_of(key) is None for key in keys)


@given(st.integers(0, 2**63 - 1), st.sampled_from([4, 8]), st.sampled_from(["big", "little"]))
def test_a_serialized_integer_below_two_to_the_24th_is_refused(number: int, size: int, order: str) -> None:
    assert flaw_of((number % 2**24).to_bytes(size, "big" if order == "big" else "little")) is not None


@given(st.integers(0, 2**31 - 1), st.text(min_size=1, max_size=60))
def test_what_a_schema_registry_frames_is_refused(schema: int, name: str) -> None:
    text = name.encode()
    framed = b"\0" + schema.to_bytes(4) + bytes([2 * len(text) % 128]) + text
    assert flaw_of(framed) is not None


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60))
def test_text_in_json_quotes_is_refused_and_the_text_is_not(name: str) -> None:
    assert flaw_of(f'"{name}"'.encode()) is not None
    assert flaw_of(f"pump {name}".encode()) is None


def test_a_key_nested_too_deeply_for_a_parser_has_a_verdict() -> None:
    assert flaw_of(b"[" * 128 + b"]" * 128) is not None


@pytest.mark.parametrize("key", [b"{pump}", b"[a]", b"{1,2}", b"[hall 3] pump [1]"])
def test_a_name_in_brackets_is_a_name(key: bytes) -> None:
    assert flaw_of(key) is None
