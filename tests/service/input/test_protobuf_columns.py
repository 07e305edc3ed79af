"""Messages of Protobuf read all at once: what its library and msgspec make of each, or nothing where they are asked."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from service.errors import RejectedReading
from service.input.protobuf import Messages, _Found
from service.input.shapes import Names
from tests.fuzzing import INPUTS
from tests.service.input import walking
from tests.service.input.walking import harmed, root_of, seen

TYPES = {
    name: number
    for number, name in enumerate(
        (
            *("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"),
            *("", "", "bytes", "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64"),
        ),
        1,
    )
    if name
}
WRAPPED = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
EDGES = {
    "double": (0.0, -0.0, 61.5, float("nan"), float("inf")),
    "float": (0.0, 4.1, -1e38),
    "bool": (False, True),
    "string": ("", "p7", "Grad °C", "\x00", "日本", "x" * 200),
    "bytes": (b"", b"\xff\x00"),
    "enum": (0, 1, 7, -1),
}
WHOLE = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
FAMILIES = {
    "sint32": "int32",
    "sfixed32": "int32",
    "fixed32": "uint32",
    "sint64": "int64",
    "sfixed64": "int64",
    "fixed64": "uint64",
}


def message_class() -> Any:
    """All (fields of each type: by itself, optional, repeated, in a oneof, wrapped; messages, maps, a moment)."""
    file = FileDescriptorProto(name="all.proto", package="plant", syntax="proto3")
    file.dependency.extend((timestamp_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name))
    state = file.enum_type.add(name="State")
    state.options.allow_alias = True
    for name, number in (("OFF", 0), ("ON", 1), ("RUN", 1), ("BAD", -1)):
        state.value.add(name=name, number=number)
    message = file.message_type.add(name="All")
    entry = message.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", "string"), ("value", "sint32")), 1):
        entry.field.add(name=name, number=number, type=TYPES[kind], label=1)

    def add(name: str, kind: str, label: int = 1, **more: Any) -> Any:
        field = message.field.add(name=name, number=len(message.field) + 1, label=label, **more)
        field.type = TYPES.get(kind, FieldDescriptorProto.TYPE_MESSAGE)
        if kind == "enum":
            field.type_name = ".plant.State"
        elif kind not in TYPES:
            field.type_name = kind
        return field

    message.oneof_decl.add(name="choice")
    for kind in TYPES:
        add(f"{kind}_", kind)
        add(f"{kind}_many", kind, label=3)
        add(f"{kind}_one", kind, oneof_index=0)
    add("all_one", ".plant.All", oneof_index=0)
    for kind in TYPES:
        add(f"{kind}_maybe", kind, proto3_optional=True, oneof_index=len(message.oneof_decl))
        message.oneof_decl.add(name=f"_{kind}_maybe")
    for kind in WRAPPED:
        add(f"{kind}_wrapped", f".google.protobuf.{kind}Value")
    add("at", ".google.protobuf.Timestamp")
    add("inner", ".plant.All")
    add("inners", ".plant.All", label=3)
    add("tags", ".plant.All.TagsEntry", label=3)
    pool = descriptor_pool.DescriptorPool()
    for one in (timestamp_pb2, wrappers_pb2):
        pool.Add(FileDescriptorProto.FromString(one.DESCRIPTOR.serialized_pb))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("plant.All"))


ALL = message_class()


def number_of(rng: Random, kind: str) -> Any:
    if kind in EDGES:
        return rng.choice(EDGES[kind])
    least, most = WHOLE[FAMILIES.get(kind, kind)]
    usual = rng.randint(least // 2, most // 2)
    return rng.choice((0, 1, usual, usual, least, most, min(most, 2**40)))


def one_of(rng: Random, depth: int = 0) -> Any:
    message = ALL()
    for kind in rng.sample(list(TYPES), 6):
        setattr(message, f"{kind}_", number_of(rng, kind))
        setattr(message, f"{kind}_maybe", number_of(rng, kind))
        getattr(message, f"{kind}_many").extend(number_of(rng, kind) for _ in range(rng.randrange(3)))
    if rng.random() < 0.7:
        kind = rng.choice(list(TYPES))
        setattr(message, f"{kind}_one", number_of(rng, kind))
    for kind in rng.sample(WRAPPED, 4):
        getattr(message, f"{kind}_wrapped").value = number_of(rng, kind.lower())
    if rng.random() < 0.8:
        message.at.seconds = rng.choice((0, 1_767_571_200, *([1] * 20), -1, 2**40, 253_402_300_799))
        message.at.nanos = rng.choice((0, 1, 500_000_999, 999_999_999))
    message.tags["x"] = rng.randrange(-5, 5)
    if depth < 2 and rng.random() < 0.7:
        message.inner.CopyFrom(one_of(rng, depth + 1))
        message.inners.extend(one_of(rng, depth + 1) for _ in range(rng.randrange(2)))
        if rng.random() < 0.2:
            message.all_one.CopyFrom(one_of(rng, depth + 1))
    return message


def compared(root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    """How many values were walked, and how many of the others would fit too."""
    messages = Messages(lambda _: _Found("plant.All", ALL, 0))
    return walking.compared(messages.shaped(root), messages.documents, root, values)


SHAPES = {
    "each type": root_of(*((f"{kind}_",) for kind in TYPES), ("none",)),
    "each that may be there": root_of(*((f"{kind}_maybe",) for kind in TYPES), ("at",)),
    "one of": root_of(*((f"{kind}_one",) for kind in TYPES), ("all_one", "int32_")),
    "wrapped": root_of(*((f"{kind}_wrapped",) for kind in WRAPPED)),
    "below": root_of(
        ("inner", "inner", "string_"),
        ("inner", "at"),
        ("string_",),
        values=("inner",),
        features=("double_", "Float_wrapped"),
    ),
}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("what", SHAPES)
def test_values_sound_or_harmed_are_read_as_each_is_by_itself(what: str) -> None:
    rng = Random(what)
    sound = [one_of(rng).SerializeToString() for _ in range(1_000)]
    assert compared(SHAPES[what], sound)[0] > 300
    some = [value for value in sound if len(value) < 400]
    assert compared(SHAPES[what], [harmed(rng, rng.choice(some)) for _ in range(INPUTS)])[0] > 300


@pytest.mark.parametrize("names", [("double_many",), ("tags", "x"), ("inners",), ("inner",)])
def test_what_is_repeated_a_map_or_a_whole_message_is_left_to_the_library(names: Names) -> None:
    good = ALL(double_many=[1.5], tags={"x": 7}, inner=ALL(string_="p7"), inners=[ALL()]).SerializeToString()
    assert compared(root_of(names, ("string_",)), [good, good]) == (2, 0)
    assert compared(root_of(names, ("string_",)), [good, b"\xff"]) == (0, 1)


def test_values_of_several_messages_are_read_in_their_order() -> None:
    kinds = {1: ALL, 2: wrappers_pb2.StringValue}

    def find(value: bytes) -> _Found:
        if value[4] not in kinds:
            raise RejectedReading("bad_protobuf", "no such schema")
        return _Found("one", kinds[value[4]], 6)

    field = ALL.DESCRIPTOR.fields_by_name["string_"].number
    bodies = {1: bytes((field << 3 & 0x7F | 0x82, field >> 4, 2)) + b"p7", 2: b"\x0a\x02p8"}
    values = [bytes((0, 0, 0, 0, n, 0)) + bodies.get(n, b"") for n in (1, 3, 2, 1)]
    found = Messages(find).shaped(root_of(("string_",)))(values)
    assert [tuple(seen(one).values()) for one in found.documents] == [((str, "p7"),), ((str, "p7"),)]
    assert found.values.tolist() == [0, 3]
