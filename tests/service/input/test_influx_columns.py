"""Lines of Influx's protocol read all at once: what the library and msgspec make of each, or they are asked."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.input.documents import influx_documents
from service.input.influx_columns import walk_of
from service.input.shapes import Names
from tests.fuzzing import INPUTS
from tests.service.input import walking
from tests.service.input.walking import harmed, root_of

PATHS: tuple[Names, ...] = (
    *((name,) for name in ("time", "measurement", "none")),
    *(("tags", name) for name in ("id", "host", "größe", "none")),
    *(("fields", name) for name in ("temp", "press", "id", "none")),
)
SHAPES = (
    root_of(*PATHS),
    root_of(("tags", "id"), ("time",), values=("fields",), features=("temp", "press")),
    root_of(("tags", "host"), values=("fields", "temp"), features=("value",)),
    root_of(("measurement",), values=("fields",), features=("temp",), record=[("tags", "id")]),
)
NUMBERS = (
    *("61", "4.1", "-0", "-0.0", "1e5", "1E-5", "5.", ".5", "007", "1e400", "nan", "+1", "0.1", "61.33333333333333"),
    *("123456789012345678", "1234567890123456789", "9007199254740993", "1e22", "1e23", "1e-23", "0.30000000000000004"),
    *("7i", "-7i", "7u", "9223372036854775807i", "9223372036854775808i", "-9223372036854775808i", "-0i", "1.5i", "i"),
    *("t", "T", "f", "F", "true", "True", "TRUE", "false", "False", "FALSE", "tRUE", "falsE", "truex", "FALSe"),
    *('""', '"x"', '"a b,c=d"', '"°C"', '"a\\\\"b"', '"', "x"),
)
SOUND = (
    "61",
    "-4.1",
    "-0",
    "1e5",
    "61.33333333333333",
    "1234567890123456789",
    "1e23",
    "-7i",
    "t",
    "False",
    '""',
    '"a b,°C=d"',
)
TIMES = ("", " 1767571200000000000", " 0", " 9223372036854775807", " 9223372036854775808", " -5", " 007", "  5", " 5 ")


def line_of(rng: Random, sound: bool) -> str:
    """sound: of what is usual."""
    names = ("id", "host", "größe", "a", "temp")
    tags = "".join(
        f",{name}={rng.choice(('p7', 'straße', 'x' * 40, 'a.b-c'))}" for name in rng.sample(names, rng.randrange(4))
    )
    fields = rng.sample(("temp", "press", "id", "x", "größe"), rng.randrange(1, 5))
    values = SOUND if sound else NUMBERS
    row = ",".join(f"{name}={rng.choice(values)}" for name in fields)
    return f"{rng.choice(('opcua', 'straße'))}{tags} {row}{rng.choice(TIMES[:3] if sound else TIMES)}"


def value_of(rng: Random, sound: bool = False) -> bytes:
    lines = [line_of(rng, sound or rng.random() < 0.8) for _ in range(rng.randrange(1, 4))]
    return "".join(f"{line}\n" for line in lines).encode()[: None if rng.random() < 0.5 else -1]


def compared(root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    walk = walk_of(root)
    assert walk is not None
    return walking.compared(walk, influx_documents, root, values)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("root", SHAPES)
def test_lines_sound_or_harmed_are_read_as_each_is_by_itself(root: Any) -> None:
    rng = Random(3)
    values = [value_of(rng) for _ in range(5_000)]
    assert compared(root, values)[0] > 1_000
    assert compared(root, [harmed(rng, rng.choice(values)) for _ in range(2 * INPUTS)])[0] > 300
    signs = (b",", b" ", b"=", b"\n", b'"', b"\\", b"#", b"i", b"e", b"-", b".", b"\r", b"\t", b"\0", b"\xc3")
    for _ in range(10_000):
        value = rng.choice(values)
        at = rng.randrange(len(value))
        values.append(value[:at] + rng.choice(signs) + value[at + rng.randrange(2) :])
    assert compared(root, values[5_000:])[0] > 300


def test_all_usual_lines_are_walked() -> None:
    rng = Random(5)
    assert compared(SHAPES[0], [value_of(rng, sound=True) for _ in range(300)]) == (300, 0)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "a,b=c,b=d temp=1",
            "a temp=1,temp=2",
            "a,id=c,id=d temp=1",
            "#a temp=1",
            "a b=1\n#c\n",
            "a",
            "a,b=c",
            ",b=c temp=1",
        ),
        *("a,b temp=1", "a,=c temp=1", "a,b= temp=1", "a =1", "a temp=", "a temp=1,", "a temp=1 5 6", "a=b temp=1"),
        *("a\\ b temp=1", 'a"b temp=1', 'a,id="c" temp=1', "a  temp=1", " a temp=1", "\n\n", "", " \n", "a temp=1\r\n"),
        *(f"a,{','.join(f't{n}=x' for n in range(count))} temp=1" for count in (64, 65)),
    ],
)
def test_an_unusual_line_is_read_as_by_the_library_or_left(line: str) -> None:
    for root in SHAPES:
        compared(root, [line.encode(), b"a temp=1\n" + line.encode(), line.encode() + b"\na temp=1"])


@given(
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
def test_a_number_is_the_double_that_the_library_reads(text: str) -> None:
    compared(SHAPES[1], [f"a temp={text}".encode()])


def test_a_shape_that_needs_all_tags_or_fields_is_not_walked() -> None:
    assert walk_of(root_of(("tags",))) is None
    assert walk_of(root_of(("fields",))) is None
