"""Protobuf: what its library writes is read by the descriptor set, an id of a schema before it or not."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf import descriptor_pool, duration_pb2, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from service.errors import RefusedSetting
from service.input.reasons import Reason
from tests.fuzzing import INPUTS
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal

KINDS = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}


def described() -> FileDescriptorSet:
    """message First {}; message Outer { message Inner {…} Inner inner = 1; }; and what its fields need."""
    made = FileDescriptorSet()
    for other in (timestamp_pb2, wrappers_pb2, duration_pb2):
        other.DESCRIPTOR.CopyToProto(made.file.add())
    file = made.file.add(name="plant.proto", package="plant", syntax="proto3")
    file.dependency.extend(one.name for one in made.file[:2])
    file.message_type.add(name="First")
    outer = file.message_type.add(name="Outer")
    inner = outer.nested_type.add(name="Unused") and outer.nested_type.add(name="Inner")
    state = inner.enum_type.add(name="State")
    for number, name in enumerate(("OFF", "ON")):
        state.value.add(name=name, number=number)
    entry = inner.nested_type.add(name="MoreEntry")
    entry.options.map_entry = True
    add(entry, 1, "key", "string")
    add(entry, 2, "value", "float")
    add(inner, 1, "at", ".google.protobuf.Timestamp")
    add(inner, 2, "temp", ".google.protobuf.DoubleValue")
    add(inner, 3, "press", "double")
    add(inner, 4, "state", ".plant.Outer.Inner.State", kind=14)
    add(inner, 5, "more", ".plant.Outer.Inner.MoreEntry", repeated=True)
    add(inner, 6, "flow", "int32", optional=True)
    add(outer, 1, "inner", ".plant.Outer.Inner", repeated=True)
    add(outer, 2, "id", "string")
    return made


def add(
    message: Any,
    number: int,
    name: str,
    kind_name: str,
    kind: int = 11,
    *,
    repeated: bool = False,
    optional: bool = False,
) -> None:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label, type=KINDS.get(kind_name, kind))
    if kind_name not in KINDS:
        field.type_name = kind_name
    if optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def made_class(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for one in described().file:
        pool.Add(one)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def outer(**more: Any) -> bytes:
    message = made_class("plant.Outer")(id="p7")
    one = message.inner.add(press=4.1, state=1, more={"x": 1.5}, **more)
    one.at.FromMilliseconds(NOW_MS)
    one.temp.value = 61.0
    two = message.inner.add()
    two.at.FromMilliseconds(NOW_MS + 500)
    return bytes(message.SerializeToString())


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "plant.binpb"
    file.write_bytes(described().SerializeToString())
    return {
        "format": "protobuf",
        "schema_file": str(file),
        "message": "plant.Outer",
        "readings": "inner",
        "stream": ("$record.id",),
        "time": "at",
        "values": "@",
    }


def test_what_is_set_is_read_and_what_is_not_is_missing_or_its_default(mapped: dict[str, Any]) -> None:
    both = [("p7", NOW_MS, [61.0, 4.1]), ("p7", NOW_MS + 500, [None, 0.0])]
    assert readings(outer(), mapped) == both
    assert readings(outer(), {**mapped, "select": ("state == 'ON'",)}) == both[:1]
    more = {**mapped, "select": ("state == 'ON'",), "values": {"x": "more.x", "flow": "flow"}}
    assert readings(outer(), more, features=["x", "flow"]) == [("p7", NOW_MS, [1.5, None])]
    assert readings(outer(flow=0), more, features=["x", "flow"]) == [("p7", NOW_MS, [1.5, 0.0])]


def test_the_id_of_a_schema_and_the_place_of_the_message_may_stand_before_it(mapped: dict[str, Any]) -> None:
    assert len(readings(b"\0\0\0\0\x0c\x02\x02" + outer(), mapped)) == 2
    inner = made_class("plant.Outer.Inner")(press=4.1)
    inner.at.FromMilliseconds(NOW_MS)
    single = {**mapped, "message": "plant.Outer.Inner", "readings": None, "stream": ("$key",)}
    value = b"\0\0\0\0\x0c\x04\x02\x02" + inner.SerializeToString()
    assert readings(value, single) == [("p7", NOW_MS, [None, 4.1])]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\0\0\0\0\x0c\0" + outer(), "schema id 12: message [0] of its file, expected plant.Outer, which is [1]"),
        (b"\0\0\0\0\x0c\x02\x04" + outer(), "message [2] of its file"),
        (b"\0\0\0\0\x0c", "5 bytes end within the place of a message"),
        (b"\0\0", "2 bytes end within the place of a message"),
        (outer()[:-3], "no plant.Outer: "),
        (b"readings", "no plant.Outer: "),
    ],
)
def test_what_is_not_of_the_message_is_refused(mapped: dict[str, Any], value: bytes, said: str) -> None:
    reason, detail = refusal(value, mapped)
    assert (reason, said in detail) == (Reason.BAD_PROTOBUF, True), detail


def test_a_wrong_file_or_message_is_a_wrong_setting(mapped: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RefusedSetting, match=r"plant\.message: found plant\.Outr, expected one of .*plant\.Outer"):
        decode([], {**mapped, "message": "plant.Outr"})
    for content in (b"", b"syntax = proto3;", described().file[-1].SerializeToString()):
        (tmp_path / "none").write_bytes(content)
        with pytest.raises(
            RefusedSetting, match=r"plant\.schema_file: found .*none, expected what protoc --include_im"
        ):
            decode([], {**mapped, "schema_file": str(tmp_path / "none")})
    alone = FileDescriptorSet(file=[described().file[-1]])
    (tmp_path / "none").write_bytes(alone.SerializeToString())
    with pytest.raises(RefusedSetting, match=r"--include_imports"):
        decode([], {**mapped, "schema_file": str(tmp_path / "none")})


@pytest.mark.slow
def test_no_bytes_raise_anything_but_a_refusal(mapped: dict[str, Any]) -> None:
    random, values = Random(17), list[bytes]()
    for _ in range(INPUTS):
        value = bytearray(outer() if random.random() < 0.1 else random.choice(values or [outer()])[:200])
        for _ in range(random.randrange(4)):
            at = random.randrange(len(value) or 1)
            value[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        values.append((b"\0\0\0\0\x0c\x02\x02" if random.random() < 0.2 else b"") + bytes(value))
    batch, rejects = decode(values, mapped)
    assert len(rejects) > INPUTS / 10
    assert len(batch.keys) > INPUTS / 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "more"),
    [
        (("temp", "press"), {}),
        (("x", "flow"), {"values": {"x": "more.x", "flow": "flow"}, "quality": "state", "good": ("ON",)}),
        (("x",), {"values": "more", "select": ("state",)}),
        (("temp",), {"values": "temp"}),
        (("press",), {"values": "inner.press", "readings": None, "stream": ("id",), "time": "$time"}),
        (("inner",), {"readings": None, "stream": ("id",), "time": "$time"}),
        (("temp",), {"values": "at.temp", "missing": (61,)}),
    ],
)
def test_many_messages_at_once_are_what_each_is_by_itself(
    mapped: dict[str, Any], features: tuple[str, ...], more: dict[str, Any]
) -> None:
    random, values = Random(18), list[bytes]()
    for _ in range(300):
        value = bytearray(outer(flow=random.randrange(3)))
        for _ in range(random.randrange(3)):
            at = random.randrange(len(value))
            value[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        values.append((b"\0\0\0\0\x0c\x02\x02" if random.random() < 0.2 else b"") + bytes(value))
    setting = {**mapped, **more}
    together, refused = decode(values, setting, features)
    apart = [decode([value], setting, features) for value in values]
    assert together.keys == [key for batch, _ in apart for key in batch.keys]
    for name in ("times_ms", "values"):
        found = getattr(together.readings, name).numpy()
        assert found.tobytes() == b"".join(getattr(batch.readings, name).numpy().tobytes() for batch, _ in apart)
    assert [reject.detail for reject in refused] == [reject.detail for _, rejects in apart for reject in rejects]
    assert together.skipped == sum(batch.skipped for batch, _ in apart)
