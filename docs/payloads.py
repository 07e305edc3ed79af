"""The table of what producers write to Kafka: each payload, the mapping that reads it, and the readings that come out.

The payloads are made up, in the forms that the producers' documents describe.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from docs.tables import table
from models.data.rfc3339 import rfc3339
from service.input.formats import RecordRules
from service.input.registry import RegisteredSchema
from service.input.wire import Decoder
from service.log.port import Fetched, KeptHeaders, Partition
from service.settings.input_section import TopicInput, topic_mapping

NOW_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z, when the records were produced
TOPIC = "plant"
HERE = Path(__file__).parent


# time, then each number behind a 1, as it may be null
AVRO_BODY = bytes.fromhex("80 e0 a0 b7 f1 66 02 00 00 00 00 00 80 4e 40 02 66 66 66 66 66 66 10 40")
# fields 1 to 3: an integer and two doubles
PROTOBUF_BODY = bytes.fromhex("08 80 b0 d0 db b8 33 11 00 00 00 00 00 80 4e 40 19 66 66 66 66 66 66 10 40")
# a gauge for each value, of a resource with service.name p7
OTLP_PROTOBUF = bytes.fromhex(
    "0a 60 0a 16 0a 14 0a 0c 73 65 72 76 69 63 65 2e 6e 61 6d 65 12 04 0a 02 70 37 12 46 0a 07 0a 05 70 6c 61 6e 74"
    "12 1c 0a 04 74 65 6d 70 2a 14 0a 12 19 00 00 36 33 a4 ac 87 18 21 00 00 00 00 00 80 4e 40"
    "12 1d 0a 05 70 72 65 73 73 2a 14 0a 12 19 00 00 36 33 a4 ac 87 18 21 66 66 66 66 66 66 10 40"
)
OTLP_JSON = (
    b'{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"p7"}}]},'
    b'"scopeMetrics":[{"scope":{"name":"plant"},"metrics":['
    b'{"name":"temp","gauge":{"dataPoints":[{"timeUnixNano":"1767571200000000000","asDouble":61}]}},'
    b'{"name":"press","gauge":{"dataPoints":[{"timeUnixNano":"1767571200000000000","asDouble":4.1}]}}]}]}]}'
)
# its time, two metrics of the type Double, and its sequence number
SPARKPLUG = bytes.fromhex(
    "08 80 b0 d0 db b8 33"
    "12 18 0a 04 74 65 6d 70 18 80 b0 d0 db b8 33 20 0a 69 00 00 00 00 00 80 4e 40"
    "12 19 0a 05 70 72 65 73 73 18 80 b0 d0 db b8 33 20 0a 69 66 66 66 66 66 66 10 40 18 02"
)
AVRO = (HERE / "reading.avsc").read_text()


class KnownSchemas:
    """A registry that has these."""

    name = "the registry of the documents"

    def __init__(self, schemas: Mapping[int, RegisteredSchema]) -> None:
        self._schemas = schemas

    def schema(self, number: int) -> RegisteredSchema | None:
        return self._schemas.get(number)


REGISTRY = KnownSchemas({11: RegisteredSchema("AVRO", '"string"'), 12: RegisteredSchema("AVRO", AVRO)})


class Payload(NamedTuple):
    """A record as a producer writes it, and what reads it. mapping: YAML below `input.topics.TOPIC`; empty: none."""

    what: str
    value: bytes
    mapping: str
    key: bytes | None = b"p7"
    features: tuple[str, ...] = ("temp", "press")
    headers: Mapping[str, bytes] = {}


PAYLOADS = (
    Payload("Telltale's own", b'{"timestamp":1767571200000,"values":{"temp":61,"press":4.1}}', ""),
    Payload(
        "a value of a sensor, its name in it too",
        b'{"sensorId":"s1","timestamp":1767571200000,"value":40.2}',
        "",
        b"s1",
        ("value",),
    ),
    Payload(
        "the same without a key",
        b'{"sensorId":"s1","timestamp":1767571200000,"value":40.2}',
        "{stream: sensorId, values: value}",
        None,
        ("value",),
    ),
    Payload(
        "time by another name",
        b'{"sensorId":"s1","measuredAt":"2026-01-05T00:00:00Z","value":40.2}',
        "{stream: sensorId, time: measuredAt, values: value}",
        None,
        ("value",),
    ),
    Payload("flat", b'{"timestamp":1767571200000,"temp":61,"press":4.1}', '{values: "@"}'),
    Payload("seconds", b'{"timestamp":1767571200.5,"values":[61,4.1]}', "{time_unit: s}"),
    Payload("microseconds", b'{"timestamp":1767571200000000,"values":[61,4.1]}', "{time_unit: us}"),
    Payload("nanoseconds", b'{"timestamp":1767571200000000000,"values":[61,4.1]}', "{time_unit: ns}"),
    Payload("time as digits in text", b'{"timestamp":"1767571200000","values":[61,4.1]}', "{}"),
    Payload(
        "local time",
        b'{"timestamp":"2026-01-05 01:00:00","values":[61,4.1]}',
        "{time_zone: Europe/Berlin}",
    ),
    Payload(
        "time in a format of its own",
        b'{"timestamp":"05.01.2026 00:00","values":[61,4.1]}',
        '{time_format: "%d.%m.%Y %H:%M", time_zone: UTC}',
    ),
    Payload(
        "dates in digits",
        b'{"timestamp":20260105000000,"values":[61,4.1]}',
        '{time_format: "%Y%m%d%H%M%S", time_zone: UTC}',
    ),
    Payload("days of a spreadsheet", b'{"timestamp":46027.0,"values":[61,4.1]}', "{time_format: excel}"),
    Payload("LabVIEW's seconds", b'{"timestamp":3850416000.0,"values":[61,4.1]}', "{time_format: labview}"),
    Payload("ticks of .NET", b'{"timestamp":639031680000000000,"values":[61,4.1]}', "{time_format: dotnet}"),
    Payload("no time", b'{"temp":61,"press":4.1}', '{time: $time, values: "@"}'),
    Payload(
        "Telegraf, `json`",
        b'{"fields":{"temp":61,"press":4.1},"name":"opcua","tags":{"host":"h1","id":"p7"},"timestamp":1767571200}',
        "{preset: telegraf, stream: [tags.host, tags.id]}",
        None,
    ),
    Payload(
        "Telegraf, `json` in batches",
        b'{"metrics":[{"fields":{"temp":61,"press":4.1},"name":"opcua","tags":{"id":"p7"},"timestamp":1767571200},'
        b'{"fields":{"temp":20,"press":1.2},"name":"opcua","tags":{"id":"p8"},"timestamp":1767571200}]}',
        "{preset: telegraf, stream: tags.id}",
        None,
    ),
    Payload(
        "Influx's line protocol, as Telegraf writes it",
        b"opcua,id=p7 temp=61,press=4.1 1767571200000000000\nopcua,id=p8 temp=20,press=1.2 1767571200000000000\n",
        "{preset: influx, stream: tags.id}",
        None,
    ),
    Payload(
        "LoRaWAN, The Things Stack",
        b'{"end_device_ids":{"device_id":"p7"},"received_at":"2026-01-05T00:00:00.000000001Z","uplink_message":'
        b'{"f_port":1,"f_cnt":9,"decoded_payload":{"temp":61,"press":4.1},"rx_metadata":[{"rssi":-90}]}}',
        "{stream: end_device_ids.device_id, time: received_at, values: uplink_message.decoded_payload}",
        None,
    ),
    Payload(
        "NGSI-LD, FIWARE",
        b'{"id":"urn:p7","type":"Pump","temp":{"type":"Property","value":61,"observedAt":"2026-01-05T00:00:00Z"},'
        b'"press":{"type":"Property","value":4.1,"observedAt":"2026-01-05T00:00:00Z"}}',
        "{stream: id, time: temp.observedAt, values: {temp: temp.value, press: press.value}}",
        None,
    ),
    Payload(
        "ThingsBoard",
        b'{"deviceName":"p7","ts":1767571200000,"values":{"temp":61,"press":4.1,"state":"RUN"}}',
        "{stream: deviceName, time: ts}",
        None,
    ),
    Payload(
        "Kepware's IoT Gateway: one of its values is bad",
        b'{"timestamp":1767571200000,"values":[{"id":"p7.temp","v":61,"q":true,"t":1767571200000},'
        b'{"id":"p7.press","v":0,"q":false,"t":1767571200000}]}',
        "{readings: values, stream: id, time: $record.timestamp, values: v, quality: q, good: true}",
        None,
        ("value",),
    ),
    Payload(
        "OPC DA's quality",
        b'{"tag":"p7","timestamp":1767571200000,"value":61,"quality":192}',
        "{stream: tag, values: value, quality: quality, good: 192}",
        None,
        ("value",),
    ),
    Payload(
        "Prometheus' Kafka adapter",
        b'{"timestamp":"2026-01-05T00:00:00Z","value":"61.2","name":"temp",'
        b'"labels":{"__name__":"temp","instance":"p7"}}',
        '{stream: [labels.instance, name], values: value, decimal: "."}',
        None,
        ("value",),
    ),
    Payload(
        "OpenTSDB's JSON",
        b'{"metric":"temp","timestamp":1767571200,"value":61,"tags":{"host":"p7","rack":"2"}}',
        "{stream: [tags.host, tags.rack, metric], time_unit: s, values: value}",
        None,
        ("value",),
    ),
    Payload(
        "Kafka Connect's JSON converter",
        b'{"schema":{"type":"struct"},"payload":{"timestamp":1767571200000,"temp":61,"press":4.1}}',
        "{preset: connect, key_format: json, stream: $key.payload}",
        b'{"schema":{"type":"string"},"payload":"p7"}',
    ),
    Payload(
        "Debezium",
        b'{"before":null,"after":{"pump":"p7","temp":61,"press":4.1},"op":"c","ts_ms":1767571200000}',
        "{preset: debezium, stream: after.pump}",
        b'{"id":1}',
    ),
    Payload(
        "a key as Connect's JSON converter writes text",
        b'{"timestamp":1767571200000,"values":[61,4.1]}',
        "{key_format: json}",
        b'"p7"',
    ),
    Payload(
        "a key that is an object",
        b'{"timestamp":1767571200000,"values":[61,4.1]}',
        "{key_format: json, stream: $key.id}",
        b'{"id":7}',
    ),
    Payload(
        "a key that is an integer",
        b'{"timestamp":1767571200000,"values":[61,4.1]}',
        "{key_format: integer}",
        (7).to_bytes(8),
    ),
    Payload(
        "a message a metric, with a quality",
        b'{"name":"POWER_FACTOR","value":0.99,"timestamp":1767571200000,"quality":"BAD"}',
        "{stream: [$key, name], values: value, quality: quality, good: GOOD}",
        b"edge-1",
        ("value",),
    ),
    Payload(
        "Sparkplug's JSON",
        b'{"timestamp":1767571200000,"metrics":[{"name":"temp","timestamp":1767571200000,"value":61},'
        b'{"name":"press","timestamp":1767571200000,"value":4.1}],"seq":2}',
        "{readings: metrics, stream: [$key, name], values: value}",
        b"edge-1",
        ("value",),
    ),
    Payload(
        "Sparkplug B, its topic of MQTT as the key",
        SPARKPLUG,
        "{preset: sparkplug}",
        b"spBv1.0/plant/DDATA/edge-1/p7",
        ("value",),
    ),
    Payload(
        "OpenTelemetry's metrics, `otlp_proto` of the Collector",
        OTLP_PROTOBUF,
        "{preset: otlp}",
        None,
        ("value",),
    ),
    Payload("OpenTelemetry's metrics, `otlp_json`", OTLP_JSON, "{preset: otlp}", None, ("value",)),
    Payload(
        "CloudEvents, structured",
        b'{"specversion":"1.0","id":"1","source":"/line-3","type":"reading","subject":"p7",'
        b'"time":"2026-01-05T00:00:00Z","data":{"temp":61,"press":4.1}}',
        "{preset: cloudevents}",
        None,
    ),
    Payload(
        "CloudEvents, binary",
        b'{"temp":61,"press":4.1}',
        "{preset: cloudevents-binary}",
        None,
        headers={"ce_subject": b"p7", "ce_time": b"2026-01-05T00:00:00Z"},
    ),
    Payload(
        "an array of readings",
        b'[{"timestamp":1767571200000,"values":[61,4.1]},{"timestamp":1767571200500,"values":[62,4.1]}]',
        "{}",
    ),
    Payload(
        "JSON lines",
        b'{"timestamp":1767571200000,"values":[61,4.1]}\n{"timestamp":1767571200500,"values":[62,4.1]}',
        "{}",
    ),
    Payload(
        "SenML",
        b'[{"bn":"p7/","bt":1767571200,"n":"temp","u":"Cel","v":61},{"n":"press","u":"bar","v":4.1},'
        b'{"n":"state","vs":"on"}]',
        "{preset: senml}",
        None,
        ("value",),
    ),
    Payload(
        "OPC UA",
        b'{"SourceTimestamp":"2026-01-05T00:00:00Z","Value":20.1,"StatusCode":0}',
        "{time: SourceTimestamp, values: Value, quality: StatusCode, good: 0}",
        b"ns=2;s=p7",
        ("value",),
    ),
    Payload(
        "JSON with the id of a schema, by the serializer of a schema registry",
        b'\0\0\0\0\x0c{"timestamp":1767571200000,"values":[61,4.1]}',
        "{format: json-schema}",
    ),
    Payload(
        "Avro with a schema registry, the key too",
        b"\0\0\0\0\x0c" + AVRO_BODY,
        "{format: avro, values: '@', key_format: avro}",
        b"\0\0\0\0\x0b\x04p7",
    ),
    Payload("Avro by a schema in a file", AVRO_BODY, "{format: avro, schema_file: reading.avsc, values: '@'}"),
    Payload(
        "Protobuf behind the id of its schema",
        b"\0\0\0\0\x0c\0" + PROTOBUF_BODY,
        '{format: protobuf, schema_file: reading.binpb, message: plant.Reading, values: "@"}',
    ),
    Payload("some of several features", b'{"timestamp":1767571200000,"values":{"temp":61}}', "{}"),
    Payload("NaN", b'{"timestamp":1767571200000,"values":[NaN,4.1]}', "{}"),
    Payload("decimal comma", b'{"timestamp":1767571200000,"values":["61,2","4,1"]}', '{decimal: ","}'),
    Payload("thousands apart", b'{"timestamp":1767571200000,"values":["1.061,5","4,1"]}', '{decimal: ","}'),
    Payload(
        "switches",
        b'{"timestamp":1767571200000,"values":{"temp":61,"press":"ON"}}',
        "{words: {on: 1, off: 0}}",
    ),
    Payload(
        "JSON in base64 in an envelope, Azure's IoT Hub",
        b'{"EnqueuedTimeUtc":"2026-01-05T00:00:00.0000000Z","SystemProperties":{"connectionDeviceId":"p7"},'
        b'"Body":"eyJ0ZW1wIjo2MSwicHJlc3MiOjQuMX0="}',
        "{readings: Body, stream: $record.SystemProperties.connectionDeviceId, time: $record.EnqueuedTimeUtc, "
        "values: '@'}",
        None,
    ),
    Payload(
        "JSON as text within JSON",
        b'{"device":"p7","at":1767571200000,"payload":"{\\"temp\\":61,\\"press\\":4.1}"}',
        "{readings: payload, stream: $record.device, time: $record.at, values: '@'}",
        None,
    ),
    Payload("JSON twice", b'"{\\"timestamp\\":1767571200000,\\"temp\\":61,\\"press\\":4.1}"', "{values: '@'}"),
    Payload(
        "a word or a number for a missing value",
        b'{"timestamp":1767571200000,"values":["n/a",-9999]}',
        "{missing: [n/a, -9999]}",
    ),
)


def decoder(payload: Payload) -> Decoder:
    """What reads it."""
    rules = RecordRules()
    if payload.mapping:
        given = yaml.safe_load(payload.mapping)
        if "schema_file" in given:
            given["schema_file"] = HERE / given["schema_file"]
        rules = RecordRules(mappings={TOPIC: topic_mapping(TOPIC, TopicInput(**given), REGISTRY)})
    return Decoder(payload.features, 86_400_000, 30 * 365 * 86_400_000, rules)


def fetched(payload: Payload, count: int) -> Fetched:
    """It as one or more records of a topic."""
    kept = KeptHeaders(tuple(payload.headers.items()))
    keys: list[bytes | None] = [payload.key] * count
    values: list[bytes | None] = [payload.value] * count
    times_ms = np.full(count, NOW_MS)
    return Fetched(Partition(TOPIC, 0), keys, values, np.arange(count), times_ms, count, count, lambda _: kept)


def readings(payload: Payload) -> list[tuple[str, int, list[float]]]:
    """Stream, time and values of what is read of a payload. Raises ValueError where it cannot be read."""
    batch, rejects = decoder(payload).decode(fetched(payload, 1))
    if rejects:
        raise ValueError(f"{payload.what}: {rejects[0].detail}, expected a payload that is read")
    times_ms, rows = batch.readings.times_ms.tolist(), batch.readings.values.tolist()
    return [(key.decode(), time, row) for key, time, row in zip(batch.keys, times_ms, rows, strict=True)]


def payload_table() -> str:
    return table(
        ("producer or form", "key", "value", "below `input.topics.TOPIC`", "read as"),
        [
            (
                payload.what,
                _bytes(payload.key),
                "<br>".join([_bytes(payload.value), *(f"`{n}: {v.decode()}`" for n, v in payload.headers.items())]),
                f"`{payload.mapping}`" if payload.mapping else "nothing",
                "<br>".join(_read(payload, *one) for one in readings(payload)),
            )
            for payload in PAYLOADS
        ],
    )


def _bytes(data: bytes | None) -> str:
    if data is None:
        return "none"
    text = data.decode(errors="replace")
    return (
        "<br>".join(f"`{line}`" for line in text.split("\n"))
        if text.replace("\n", "").isprintable()
        else f"`{data.hex(' ')}`"
    )


def _read(payload: Payload, stream: str, time_ms: int, row: list[float]) -> str:
    values = [
        f"{name} {'missing' if math.isnan(value) else value}" for name, value in zip(payload.features, row, strict=True)
    ]
    return f"{stream}, {rfc3339(time_ms)}: {', '.join(values)}"
