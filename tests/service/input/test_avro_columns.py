"""Values of Avro read all at once: what fastavro and msgspec make of each, or nothing where they must be asked."""

import io
import json
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RejectedReading
from service.input.avro import AvroSchema, Values
from service.input.registry import RegisteredSchema
from service.input.shapes import Names
from tests.fuzzing import INPUTS
from tests.service.input import walking
from tests.service.input.walking import EPOCH, harmed, root_of, seen

FLAG = {"type": "enum", "name": "Flag", "symbols": ["GOOD", "BAD", "MAYBE"]}
INNER = {
    "type": "record",
    "name": "Inner",
    "fields": [{"name": "x", "type": ["null", "double"]}, {"name": "f", "type": FLAG}],
}
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "x", "type": "string"}, {"name": "y", "type": "long"}]}
MANY: dict[str, Any] = {
    "type": "record",
    "name": "Many",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "ms", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "a", "type": ["null", "float", "long", "string"]},
        {"name": "b", "type": "boolean"},
        {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": ["null", "string", INNER]}}},
        {"name": "raw", "type": "bytes"},
        {"name": "four", "type": {"type": "fixed", "name": "Four", "size": 4}},
        {"name": "inner", "type": ["null", "Inner", OTHER]},
        {"name": "flag", "type": "Flag"},
        {"name": "v", "type": ["double", "int", "Inner", "boolean", "null", "Flag"]},
        {"name": "end", "type": "null"},
    ],
}
PATHS: tuple[Names, ...] = (
    *((name,) for name in ("id", "at", "ms", "a", "b", "raw", "four", "flag", "end", "none")),
    *(("inner", "x"), ("inner", "y"), ("inner", "f"), ("inner", "none")),
)
TEXTS = ("", "p7", "Grad °C", "\x00", "日本", "\U0001f600", "x" * 200)


def one_of(rng: Random) -> dict[str, Any]:
    inner = {"x": rng.choice((None, 1.5, -0.0, float("nan"))), "f": rng.choice(FLAG["symbols"])}
    other = {"x": rng.choice(TEXTS), "y": rng.choice((0, -1, 2**63 - 1, -(2**63)))}
    return {
        "id": rng.choice(TEXTS),
        "at": EPOCH + timedelta(microseconds=rng.choice((0, 1, 1_767_571_200_000_500, 2**53 - 1, 2**53, -1))),
        "ms": rng.choice((None, EPOCH + timedelta(milliseconds=rng.randrange(2**41)))),
        "a": rng.choice((None, 0.1, 61, "61,5")),
        "b": rng.random() < 0.5,
        "tags": {text: [None, text, inner][: rng.randrange(4)] for text in rng.sample(TEXTS, rng.randrange(3))},
        "raw": rng.randbytes(rng.randrange(4)),
        "four": rng.randbytes(4),
        "inner": rng.choice((None, ("Inner", inner), ("Other", other))),
        "flag": rng.choice(FLAG["symbols"]),
        "v": rng.choice((1.5, 7, ("Inner", inner), None, ("Flag", "BAD"))),
        "end": None,
    }


def written(schema: Any, record: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


def compared(given_schema: Any, root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    """How many values were walked, and how many of the others would fit too."""
    schema = AvroSchema(RegisteredSchema("AVRO", json.dumps(given_schema)))
    walk = Values(lambda _: schema, 0).shaped(root)
    return walking.compared(walk, lambda value: [schema.document(value)], root, values)


SHAPES = (
    root_of(*PATHS),
    root_of(("id",), ("at",), values=("inner",), features=("x", "y")),
    root_of(("ms",), values=("v",), features=("x",)),
    root_of(("flag",), values=(), features=("a", "b"), record=[("inner", "f")]),
)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("root", SHAPES)
def test_values_sound_or_harmed_are_read_as_each_is_by_itself(root: Any) -> None:
    rng = Random(root.__name__ if isinstance(root, type) else 1)
    sound = [written(MANY, one_of(rng)) for _ in range(2_000)]
    walked, _ = compared(MANY, root, sound)
    assert walked > 500
    harm = [harmed(rng, rng.choice(sound)) for _ in range(2 * INPUTS)]
    walked, _ = compared(MANY, root, harm)
    assert walked > 1_000


def test_all_sound_values_are_walked_whose_times_a_double_holds() -> None:
    rng = Random(5)
    records = [{**one_of(rng), "at": EPOCH + timedelta(microseconds=rng.randrange(2**53))} for _ in range(300)]
    values = [written(MANY, one) for one in records]
    assert compared(MANY, SHAPES[0], values) == (300, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, b"\x02\x01"),
        ({"type": "int", "logicalType": "date"}, b"\x02"),
        ({"type": "string", "logicalType": "uuid"}, b"\x02x"),
    ],
)
def test_what_the_library_makes_objects_of_is_left_to_it(kind: Any, value: bytes) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": kind}]}
    assert compared(schema, root_of(("v",)), [value])[0] == 0
    assert compared(schema, root_of(("other",)), [value])[0] == 0


@pytest.mark.parametrize("kind", [{"type": "array", "items": "long"}, {"type": "map", "values": "long"}, INNER])
def test_what_is_needed_whole_is_left_to_the_library(kind: Any) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": kind}]}
    value = written(schema, {"v": {"array": [1], "map": {"x": 1}, "record": {"x": 1.0, "f": "BAD"}}[kind["type"]]})
    assert compared(schema, root_of(("v",)), [value]) == (0, 1)
    assert compared(schema, root_of(("other",)), [value]) == (1, 0)


def test_arrays_deeper_than_are_counted_are_left_to_the_library() -> None:
    kind: Any = "long"
    for _ in range(17):
        kind = {"type": "array", "items": kind}
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": kind}]}
    assert compared(schema, root_of(("other",)), [b"\0"]) == (0, 1)


def test_a_value_that_is_no_record_fits_no_shape() -> None:
    assert compared("double", root_of(("v",)), [bytes(8)]) == (0, 0)
    assert compared(["null", "double"], root_of(("v",)), [b"\0", b"\x02" + bytes(8)]) == (0, 0)


def test_blocks_with_their_size_are_read_as_those_without() -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "m", "type": {"type": "array", "items": "long"}}, {"name": "v", "type": "long"}],
    }
    values = [b"\x03\x04\x02\x04\x00\x0e", b"\x04\x02\x04\x00\x0e", b"\x02\x02\x02\x04\x00\x0e", b"\x00\x0e"]
    assert compared(schema, root_of(("v",)), values) == (4, 0)


@given(st.binary(max_size=12) | st.text(max_size=5).map(lambda text: text.encode(errors="surrogatepass")))
def test_text_is_what_python_decodes(data: bytes) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": "string"}]}
    walked, others = compared(schema, root_of(("v",)), [bytes([2 * len(data)]) + data])
    assert others == 0
    assert walked == (data.decode(errors="ignore").encode() == data)


def test_of_all_beginnings_of_text_those_are_read_that_python_decodes() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": "string"}]}
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    texts = [
        bytes((a, b, *more)) for a in range(256) for b in edges for more in ((), (0x80,), (0x80, 0xBF), (0xBF, 0xC0))
    ]
    compared(schema, root_of(("v",)), [bytes([2 * len(text)]) + text for text in texts])
    assert compared(schema, root_of(("v",)), [bytes([2 * len(text)]) + text for text in texts])[1] == 0


@given(st.binary(max_size=12))
def test_an_integer_is_what_the_library_reads_or_is_left_to_it(data: bytes) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": "long"}]}
    compared(schema, root_of(("v",)), [data, *(written(schema, {"v": one}) for one in (0, -1, 2**63 - 1, -(2**63)))])


def test_values_of_several_schemas_are_read_in_their_order() -> None:
    schemas = {
        n: AvroSchema(RegisteredSchema("AVRO", json.dumps({**OTHER, "fields": OTHER["fields"][::order]})))
        for n, order in ((1, 1), (2, -1))
    }

    def find(value: bytes) -> AvroSchema:
        if value[4] not in schemas:
            raise RejectedReading("bad_avro", "no such schema")
        return schemas[value[4]]

    values = [b"\0\0\0\0\1\4p7\x0e", b"\0\0\0\0\2\x0e\4p7", b"\0\0\0\0\3\x0e", b"\0\0\0\0\1\4p8\x10", b"\0\0\0\0\2\x10"]
    found = Values(find, 5).shaped(root_of(("x",), ("y",)))(values)
    assert found.values.tolist() == [0, 1, 3]
    assert [tuple(seen(one).values()) for one in found.documents] == [
        ((str, name), (int, number)) for name, number in (("p7", 7), ("p7", 7), ("p8", 8))
    ]
