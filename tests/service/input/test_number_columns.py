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
MAPPINGS += [TopicMapping("input.topics.plant", decimal=sign, words={True: 1, False: 0, "nan": 7}) for sign in ".,"]
GROUPED = st.from_regex(r"[+-]?[0-9]{1,3}([., '][0-9]{3}){1,3}([.,][0-9]{0,3})?", fullmatch=True)
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


@pytest.mark.slow
@pytest.mark.parametrize("mapping", MAPPINGS)
@given(
    st.lists(TEXTS)
    | st.lists(TEXTS | ODD)
    | st.lists(TEXTS | GROUPED)
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


@given(
    st.integers(-(10**11), 10**11), st.sampled_from((" ", "\xa0", "\u202f", "'", "\u2019", None)), st.sampled_from(".,")
)
def test_signs_between_thousands_are_none_of_the_number(cents: int, between: str | None, decimal: str) -> None:
    number = cents / 100
    signs: dict[str, str | int | None] = {",": between or ("," if decimal == "." else "."), ".": decimal}
    text = f"{number:,.2f}".translate(str.maketrans(signs))
    read = number_reader(TopicMapping("input.topics.plant", decimal=decimal))
    assert read("x", text) == number
    if abs(number) >= 1000:
        other = number_reader(TopicMapping("input.topics.plant", decimal="," if decimal == "." else "."))
        with pytest.raises(RejectedReading, match=f'decimal: "{decimal}" reads it'):
            other("x", text)


def test_words_are_numbers_in_any_case_and_a_boolean_of_yaml_is_each_that_it_may_have_been() -> None:
    read = number_reader(TopicMapping("input.topics.plant", words={True: 1, False: 0, "Run": 2.5}))
    found = [read("x", one) for one in (True, "ON", " yes ", "true", False, "Off", "no", "RUN")]
    assert found == [1, 1, 1, 1, 0, 0, 0, 2.5]
    with pytest.raises(RejectedReading, match=r"x is 'idle', no number: .*missing may name .*words what for a number"):
        read("x", "idle")
    with pytest.raises(RejectedReading, match=r"bool True, expected a number; .*words: {true: 1, false: 0} reads it"):
        number_reader(TopicMapping("input.topics.plant"))("x", True)
