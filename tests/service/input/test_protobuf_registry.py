"""Protobuf by a registry: what Confluent's own serializer writes is read by the schema that it registers."""

import base64
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from service.input.guess import guess
from service.input.reasons import Reason
from service.input.registry import SERIALIZED, HttpRegistry, Reference, RegisteredSchema, RegistryAccess
from tests.fuzzing import INPUTS
from tests.service.input.test_avro import Served, serving
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal
from tests.service.input.test_protobuf import described, made_class

MAPPED: dict[str, Any] = {
    "format": "protobuf",
    "readings": "inner",
    "stream": ("$record.id",),
    "time": "at",
    "values": "@",
}
BOTH = [("p7", NOW_MS, [61.0, 4.1]), ("p7", NOW_MS + 500, [None, 0.0])]


class Confluent:
    """A registry of Confluent's client, and its serializer."""

    name = "Confluent's client"

    def __init__(self) -> None:
        self.client = SchemaRegistryClient.new_client({"url": "mock://plant"})
        self.also: dict[int, RegisteredSchema] = {}

    def written(self, message: Any) -> bytes:
        write = ProtobufSerializer(type(message), self.client, {"use.deprecated.format": False})
        return bytes(write(message, SerializationContext("plant", MessageField.VALUE)))

    def schema(self, number: int) -> RegisteredSchema | None:
        if number != 1:
            return self.also.get(number)
        found = self.client.get_schema(number)
        assert not found.references
        return RegisteredSchema(str(found.schema_type), str(found.schema_str))


@pytest.fixture
def registry() -> Confluent:
    return Confluent()


def outer() -> Any:
    message = made_class("plant.Outer")(id="p7")
    one = message.inner.add(press=4.1, state=1)
    one.at.FromMilliseconds(NOW_MS)
    one.temp.value = 61.0
    message.inner.add().at.FromMilliseconds(NOW_MS + 500)
    return message


def serialized(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def test_messages_and_those_within_them_are_read_by_their_place(registry: Confluent) -> None:
    value = registry.written(outer())
    assert value[:7] == b"\0\0\0\0\x01\x02\x02", "the schema's id, and the place of the second message"
    assert readings(value, {**MAPPED, "registry": registry}) == BOTH
    inner = outer().inner[0]
    single = {**MAPPED, "readings": None, "stream": ("$key",), "registry": registry}
    assert readings(registry.written(inner), single) == BOTH[:1]


def test_the_mapping_is_guessed(registry: Confluent) -> None:
    message = made_class("plant.Outer.Inner")(press=4.1)
    found = guess(b"p7", registry.written(message), (), registry)
    assert found is not None
    assert (found.what, found.settings) == ("Protobuf", {"format": "protobuf", "time": "$time", "values": "@"})


def test_a_registry_is_asked_for_descriptors_and_for_what_they_import(registry: Confluent) -> None:
    """A file and one that it imports, which the registry has under another name."""
    value, (*_, whole) = registry.written(outer()), described().file
    whole.dependency.append("units/id.proto")
    imported = FileDescriptorProto(name="default", package="units", syntax="proto3")
    reference = {"name": "units/id.proto", "subject": "units", "version": 3}
    found = {"schemaType": "PROTOBUF", "references": [reference]}
    answers = {
        "/schemas/ids/1": {**found, "schema": 'syntax = "proto3";'},
        f"/schemas/ids/1{SERIALIZED}": {**found, "schema": serialized(whole)},
        f"/subjects/units/versions/3{SERIALIZED}": {"schema": serialized(imported)},
    }
    served = Served(answers)
    with serving(served) as url:
        http = HttpRegistry(RegistryAccess(url))
        batch, rejects = decode([value] * 3, {**MAPPED, "registry": http})
    assert (rejects, len(batch.keys)) == ([], 6)
    assert served.asked == list(answers)


def registered(text: str, *references: Reference, kind: str = "PROTOBUF") -> RegisteredSchema:
    return RegisteredSchema(kind, text, references)


def _importing(name: str) -> str:
    file = described().file[-1]
    file.dependency.append(name)
    return serialized(file)


@pytest.mark.parametrize(
    ("schema", "change", "said"),
    [
        (registered('syntax = "proto3";'), bytes, "the registry has no descriptor of it, but 'syntax = \"proto3\";'"),
        (registered(serialized(FileDescriptorProto(name="x"))), bytes, "it has no message [1], 0 are there"),
        (registered(_importing("a.proto")), bytes, "it imports a.proto, to which it has no reference in the registry"),
        (registered('"string"', kind="AVRO"), bytes, "schema id 7 is of the type AVRO, expected PROTOBUF"),
        (registered(serialized(described().file[-1])), lambda v: v[:-3], "no plant.Outer: "),
        (registered(serialized(described().file[-1])), lambda v: v[:5], "5 bytes end within the place of a message"),
        (registered(serialized(described().file[-1])), lambda v: v[7:], "expected a zero byte and a schema id"),
        (registered(serialized(described().file[-1])), lambda v: v[:5] + b"\x04\x02\x09" + v[7:], "no message [1, -5]"),
    ],
)
def test_what_no_schema_describes_is_refused(
    registry: Confluent, schema: RegisteredSchema, change: Callable[[bytes], bytes], said: str
) -> None:
    registry.also[7] = schema
    value = registry.written(outer())
    reason, detail = refusal(change(value[:4] + b"\x07" + value[5:]), {**MAPPED, "registry": registry})
    assert (reason, said in detail) == (Reason.BAD_PROTOBUF, True), detail


@pytest.mark.slow
def test_no_bytes_raise_anything_but_a_refusal(registry: Confluent) -> None:
    registry.also = dict.fromkeys(range(2, 256), registered(serialized(described().file[-1])))
    good, random, values = registry.written(outer()), Random(17), list[bytes]()
    for _ in range(INPUTS):
        value = bytearray(good)
        for _ in range(random.randrange(4)):
            at = random.randrange(4, len(value))
            value[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        values.append(bytes(value))
    batch, rejects = decode(values, {**MAPPED, "registry": registry})
    assert len(rejects) > INPUTS / 10
    assert len(batch.keys) > INPUTS / 10
