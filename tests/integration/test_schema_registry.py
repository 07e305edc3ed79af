"""A registry and serializers that others wrote: what they make of readings is read, by the ids that they gave."""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from service.input.reasons import Reason
from service.input.registry import HttpRegistry, RegistryAccess
from service.log.port import Record
from tests.command_line import Telltale
from tests.kafka import Broker
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal
from tests.service.input.test_protobuf import made_class

VALUE, KEY = MessageField.VALUE, MessageField.KEY
READING = {
    "type": "record",
    "name": "Reading",
    "namespace": "plant",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "press", "type": "double"},
    ],
}
WITH_TEMPERATURE = {
    **READING,
    "fields": [*READING["fields"], {"name": "temp", "type": ["null", "double"], "default": None}],
}
JSON_SCHEMA = {
    "title": "Reading",
    "type": "object",
    "properties": {"id": {"type": "string"}, "timestamp": {"type": "integer"}, "temp": {"type": "number"}},
}


def avro(schema_registry: str, subject: str, schema: Any, value: Any, field: MessageField = VALUE) -> bytes:
    serializer = AvroSerializer(SchemaRegistryClient({"url": schema_registry}), json.dumps(schema))
    return bytes(serializer(value, SerializationContext(subject, field)))


@pytest.fixture
def registry(schema_registry: str) -> HttpRegistry:
    return HttpRegistry(RegistryAccess(schema_registry))


def test_avro_of_a_schema_and_of_the_next_one_is_read(schema_registry: str, registry: HttpRegistry) -> None:
    before = avro(schema_registry, "evolved", READING, {"id": "p7", "timestamp": NOW_MS, "press": 4.1})
    after = avro(
        schema_registry, "evolved", WITH_TEMPERATURE, {"id": "p7", "timestamp": NOW_MS, "press": 4.2, "temp": 61.0}
    )
    assert before[:5] != after[:5]
    mapped = {"format": "avro", "stream": ("id",), "values": "@", "registry": registry}
    assert readings(before, mapped) == [("p7", NOW_MS, [None, 4.1])]
    assert readings(after, mapped) == [("p7", NOW_MS, [61.0, 4.2])]


def test_a_key_in_avro_names_the_stream(schema_registry: str, registry: HttpRegistry) -> None:
    schema = {
        "type": "record",
        "name": "Key",
        "fields": [{"name": "line", "type": "string"}, {"name": "pump", "type": "int"}],
    }
    key = avro(schema_registry, "keys", schema, {"line": "l3", "pump": 7}, KEY)
    value = json.dumps({"timestamp": NOW_MS, "values": [61, 4.1]}).encode()
    mapped = {"key_format": "avro", "stream": ("$key.line", "$key.pump"), "registry": registry}
    assert readings(value, mapped, keys=[key]) == [("l3/7", NOW_MS, [61.0, 4.1])]


def test_json_by_a_schema_is_read(schema_registry: str, registry: HttpRegistry) -> None:
    serializer = JSONSerializer(json.dumps(JSON_SCHEMA), SchemaRegistryClient({"url": schema_registry}))
    value = {"id": "p7", "timestamp": NOW_MS, "temp": 61.0}
    written = bytes(serializer(value, SerializationContext("json", VALUE)))
    assert written[:1] == b"\0"
    mapped = {"format": "json-schema", "stream": ("id",), "values": "@", "registry": registry}
    assert readings(written, mapped) == [("p7", NOW_MS, [61.0, None])]


def test_protobuf_with_a_message_within_and_a_file_that_is_imported_is_read(
    schema_registry: str, registry: HttpRegistry
) -> None:
    message = made_class("plant.Outer")(id="p7")
    one = message.inner.add(press=4.1, state=1)
    one.at.FromMilliseconds(NOW_MS)
    one.temp.value = 61.0
    client = SchemaRegistryClient({"url": schema_registry})
    serializer = ProtobufSerializer(type(message), client, {"use.deprecated.format": False})
    written = bytes(serializer(message, SerializationContext("protobuf", VALUE)))
    mapped = {
        "format": "protobuf",
        "readings": "inner",
        "stream": ("$record.id",),
        "time": "at",
        "values": "@",
        "registry": registry,
    }
    assert readings(written, mapped) == [("p7", NOW_MS, [61.0, 4.1])]


def test_a_schema_may_refer_to_another(schema_registry: str, registry: HttpRegistry) -> None:
    client = SchemaRegistryClient({"url": schema_registry})
    place = {"type": "record", "name": "Place", "namespace": "plant", "fields": [{"name": "id", "type": "string"}]}
    client.register_schema("places-value", Schema(json.dumps(place), "AVRO"))
    fields = [{"name": "place", "type": "plant.Place"}, *READING["fields"][1:]]
    schema = Schema(
        json.dumps({**READING, "name": "Placed", "fields": fields}),
        "AVRO",
        [SchemaReference("plant.Place", "places-value", 1)],
    )
    serializer = AvroSerializer(client, schema)
    value = {"place": {"id": "p7"}, "timestamp": NOW_MS, "press": 4.1}
    written = bytes(serializer(value, SerializationContext("placed", VALUE)))
    mapped = {"format": "avro", "stream": ("place.id",), "values": "@", "registry": registry}
    assert readings(written, mapped) == [("p7", NOW_MS, [None, 4.1])]


def test_an_id_that_it_does_not_know_is_a_dead_letter_and_the_others_are_read(
    schema_registry: str, registry: HttpRegistry
) -> None:
    good = avro(schema_registry, "known", READING, {"id": "p7", "timestamp": NOW_MS, "press": 4.1})
    mapped = {"format": "avro", "stream": ("id",), "values": "@", "registry": registry}
    reason, detail = refusal(b"\0" + (999_999).to_bytes(4) + good[5:], mapped)
    assert reason is Reason.BAD_AVRO
    assert "999999" in detail
    batch, rejects = decode([good], mapped)
    assert (batch.keys, rejects) == ([b"p7"], [])


def test_a_topic_in_avro_is_guessed_by_the_command(
    schema_registry: str, kafka: Broker, telltale: Telltale, tmp_path: Path
) -> None:
    topic = kafka.create_topic(1)
    values = [{"id": "p7", "timestamp": NOW_MS + n, "press": n / 10, "temp": 61.0} for n in range(20)]
    written = [avro(schema_registry, topic, WITH_TEMPERATURE, value) for value in values]
    kafka.produce(topic, [(0, Record(b"p7", one, (), NOW_MS + n)) for n, one in enumerate(written)])
    settings = tmp_path / "telltale.yaml"
    settings.write_text(f"input: {{schema_registry_url: {schema_registry}}}")
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers, "--config", settings)
    said = telltale.does("input", "try", *where).splitlines()
    assert said[0] == f"# {topic}: 20 records of 20 can be read as Avro"
    assert said[3:5] == [f"    {topic}: {{format: avro, values: '@'}}", "# features: press, temp"]
