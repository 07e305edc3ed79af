"""Values of many readings at once: the number that each is by itself, to the bit, or refused as it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from service.errors import RejectedReading
from service.input.formats import TopicMapping
from service.input.numbers import number_column, number_reader

MAPPINGS = [
    TopicMapping("input.topics.plant", decimal=decimal, missing=missing)
    for decimal in (None, ".", ",")
    for missing in ((), (-9999, 65535.5), ("n/a", " - "), ("n/a", 2**53, 0))
]
TEXTS = st.from_regex(r"[+-]?([0-9]{1,18}([.,][0-9]{0,18})?|[.,][0-9]{1,3})([eE][+-]?[0-9]{1,3})?", fullmatch=True)
ODD = st.sampled_from(
    (
        "",
        " ",
        "n/a",
        "N/A ",
        "-",
        "-9999",
        "1_0",
        "nan",
        "inf",
        "1 2",
        "٣",
        "1\n2",
        "+-1",
        "1e",
        ".",
        ",",
        " 61.5",
        "1,2,3",
        "0x1",
        "--",
    )
)
NUMBERS = st.sampled_from(
    (-9999, -9999.0, 65535.5, 2**53, 2**53 + 1, 0, -0.0, 10**400, 1.5, float("nan"), float("inf"))
)
OTHERS: st.SearchStrategy[Any] = st.sampled_from((None, UNSET, True, [], {}, b"1"))


@pytest.mark.parametrize("mapping", MAPPINGS)
@given(
    st.lists(TEXTS)
    | st.lists(TEXTS | ODD)
    | st.lists(NUMBERS)
    | st.lists(NUMBERS | st.none())
    | st.lists(TEXTS | ODD | NUMBERS | OTHERS)
)
def test_a_column_is_the_numbers_that_its_values_are(mapping: TopicMapping, values: list[Any]) -> None:
    read = number_reader(mapping)
    numbers, refused = number_column(mapping, read)(values)
    for value, number, bad in zip(values, numbers.tolist(), refused.tolist(), strict=True):
        try:
            expected = read("", None if value is UNSET else value)
        except RejectedReading:
            assert bad, value
        else:
            assert not bad, value
            assert number.hex() == expected.hex(), value
