"""Avro: what fastavro writes is read, by a schema from a file or from a registry that is asked over HTTP."""

import io
import json
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import fastavro
import numpy as np
import pytest

from docs.payloads import REGISTRY
from service.errors import RefusedSetting, RegistryUnavailable, RejectedReading
from service.input.avro import AvroSchema, of_registry
from service.input.formats import RecordRules
from service.input.reasons import Reason
from service.input.registry import WAITS_S, HttpRegistry, RegisteredSchema, RegistryAccess
from service.input.trial import try_records
from service.log.port import Fetched, KeptHeaders, Partition
from tests.fuzzing import INPUTS
from tests.integration.certificates import make_certificates
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal

NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=NOW_MS)
READING: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "temp", "type": ["null", "float"], "default": None},
        {"name": "press", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
        {"name": "more", "type": {"type": "map", "values": "double"}},
        {"name": "flags", "type": {"type": "array", "items": {"type": "enum", "name": "Flag", "symbols": ["A", "B"]}}},
    ],
}
ONE = {"id": "p7", "timestamp": NOW, "temp": 61.5, "press": Decimal("4.10"), "more": {"x": 1.0}, "flags": ["A", "B"]}
MAPPED = {"format": "avro", "stream": ("id",), "values": "@"}


def written(schema: Any, record: Any, number: int | None = None) -> bytes:
    """What a producer writes; number: behind the id of its schema."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue() if number is None else b"\0" + number.to_bytes(4) + stream.getvalue()


class Served:
    """A registry's HTTP interface. failing: this many requests are answered 503 first."""

    def __init__(self, answers: Mapping[str, Any], login: str | None = None, failing: int = 0) -> None:
        self.answers, self.login, self.failing = dict(answers), login, failing
        self.asked: list[str] = []

    def answer(self, path: str, login: str | None) -> tuple[int, Any]:
        self.asked.append(path)
        if self.failing:
            self.failing -= 1
            return 503, {}
        if login != self.login:
            return 401, {"error_code": 401}
        return (200, self.answers[path]) if path in self.answers else (404, {"error_code": 40403})


@contextmanager
def serving(served: Served, certificate: Path | None = None) -> Iterator[str]:
    """Yields its address. certificate: PEM file of certificate and key, for TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = served.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'' if certificate is None else 's'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def schema_of(number: int, schema: Any = READING, **more: Any) -> dict[str, Any]:
    return {f"/schemas/ids/{number}": {"schema": json.dumps(schema), **more}}


# --- by a schema in a file


@pytest.fixture
def schema_file(tmp_path: Path) -> str:
    file = tmp_path / "reading.avsc"
    file.write_text(json.dumps(READING))
    return str(file)


def test_plain_values_are_read_by_the_schema_of_a_file(schema_file: str) -> None:
    mapped = {**MAPPED, "schema_file": schema_file}
    assert readings(written(READING, ONE), mapped) == [("p7", NOW_MS, [61.5, 4.1])]
    assert readings(written(READING, {**ONE, "temp": None}), mapped) == [("p7", NOW_MS, [None, 4.1])]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value[:-3], "not of its schema: "),
        (lambda value: value + b"\0", "bytes, of which the schema reads"),
        (lambda value: b"\0\0\0\0\x0c" + value, "the schema id 12 of a schema registry: input.topics.plant without"),
        (lambda _: b"", "in 0 bytes"),
    ],
)
def test_what_is_not_of_the_schema_is_refused(schema_file: str, change: Callable[[bytes], bytes], said: str) -> None:
    reason, detail = refusal(change(written(READING, ONE)), {**MAPPED, "schema_file": schema_file})
    assert reason is Reason.BAD_AVRO
    assert said in detail


@pytest.mark.parametrize("text", ["", "{}", '{"type": "recrd"}', '"Unknown"', '["null", 3]', "[]"])
def test_a_file_without_a_schema_is_a_wrong_setting(tmp_path: Path, text: str) -> None:
    file = tmp_path / "none.avsc"
    file.write_text(text)
    with pytest.raises(
        RefusedSetting, match=r"input\.topics\.plant\.schema_file: found .*none\.avsc, expected an Avro"
    ):
        decode([], {**MAPPED, "schema_file": str(file)})


# --- from a registry


def test_the_registry_is_asked_once_for_each_schema_and_a_schema_may_change() -> None:
    newer = {**READING, "fields": [*READING["fields"], {"name": "humidity", "type": "double"}]}
    served = Served({**schema_of(12), **schema_of(13, newer)})
    values = [written(READING, ONE, 12), written(newer, {**ONE, "humidity": 0.5}, 13)] * 3
    with serving(served) as url:
        batch, rejects = decode(values, {**MAPPED, "registry": HttpRegistry(RegistryAccess(url))})
    assert rejects == []
    assert batch.readings.values.tolist() == [[61.5, 4.1]] * 6
    assert served.asked == ["/schemas/ids/12", "/schemas/ids/13"]


def test_keys_name_their_schema_too() -> None:
    key = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
    served = Served({**schema_of(11, key), **schema_of(12)})
    with serving(served) as url:
        mapped = {**MAPPED, "key_format": "avro", "stream": ("$key.id",), "registry": HttpRegistry(RegistryAccess(url))}
        assert readings(written(READING, ONE, 12), mapped, keys=[written(key, {"id": 7}, 11)])[0][0] == "7"
        assert refusal(written(READING, ONE, 12), mapped, keys=[b"p7"])[0] is Reason.BAD_KEY


def test_a_schema_may_refer_to_others() -> None:
    flag, pump = READING["fields"][5]["type"]["items"], "Pump"
    outer = {
        "type": "record",
        "name": "Outer",
        "fields": [{"name": "pump", "type": pump}, {"name": "timestamp", "type": "long"}],
    }
    inner = {"type": "record", "name": pump, "fields": [{"name": "temp", "type": "int"}, {"name": "f", "type": "Flag"}]}
    served = Served(
        {
            **schema_of(12, outer, references=[{"name": pump, "subject": "a/pump", "version": 2}]),
            "/subjects/a%2Fpump/versions/2": {
                "schema": json.dumps(inner),
                "references": [{"name": "Flag", "subject": "flag", "version": 1}],
            },
            "/subjects/flag/versions/1": {"schema": json.dumps(flag)},
        }
    )
    whole_pump = {**inner, "fields": [inner["fields"][0], {"name": "f", "type": flag}]}
    whole = {**outer, "fields": [{"name": "pump", "type": whole_pump}, outer["fields"][1]]}
    value = written(whole, {"pump": {"temp": 61, "f": "B"}, "timestamp": NOW_MS}, 12)
    with serving(served) as url:
        mapped = {"format": "avro", "values": "pump.temp", "registry": HttpRegistry(RegistryAccess(url))}
        assert readings(value, mapped, features=["temp"]) == [("p7", NOW_MS, [61.0])]


@pytest.mark.parametrize(
    ("answers", "value", "said"),
    [
        ({}, b"\0\0\0\0\x0cxx", "schema id 12: the schema registry http://127.0.0.1:"),
        (schema_of(12, {}, schemaType="PROTOBUF"), b"\0\0\0\0\x0cxx", "id 12 is of the type PROTOBUF, expected AVRO"),
        (schema_of(12, {"type": "recrd"}), b"\0\0\0\0\x0cxx", "schema id 12: no Avro schema"),
        (schema_of(12), b"\0\0\0\0\x0cxx", "not of its schema"),
        (schema_of(12), b'{"temp": 1}', "found 7b 22 74 65 6d, expected a zero byte and a schema id"),
        (schema_of(12), b"\0\0", "found 00 00, expected a zero byte and a schema id"),
    ],
)
def test_what_a_registry_does_not_explain_is_a_dead_letter(answers: dict[str, Any], value: bytes, said: str) -> None:
    served = Served(answers)
    with serving(served) as url:
        mapped = {**MAPPED, "registry": HttpRegistry(RegistryAccess(url))}
        batch, rejects = decode([value] * 3, mapped)
    assert batch.keys == []
    assert {reject.reason for reject in rejects} == {Reason.BAD_AVRO}
    assert said in rejects[0].detail
    assert len(served.asked) == len(set(served.asked)), "also of an id that is unknown"


def test_while_the_registry_is_away_records_wait() -> None:
    served, slept = Served(schema_of(12), failing=2), list[float]()
    with serving(served) as url:
        mapped = {**MAPPED, "registry": HttpRegistry(RegistryAccess(url), slept.append)}
        assert readings(written(READING, ONE, 12), mapped) == [("p7", NOW_MS, [61.5, 4.1])]
    assert slept == [*WAITS_S[:2]]


def test_a_registry_that_stays_away_makes_no_dead_letters() -> None:
    slept = list[float]()
    with serving(Served({})) as url:
        pass
    mapped = {**MAPPED, "registry": HttpRegistry(RegistryAccess(f"{url}/path?secret"), slept.append)}
    with pytest.raises(RegistryUnavailable) as away:
        decode([written(READING, ONE, 12)], mapped)
    assert str(away.value).startswith(f"the schema registry {url}: ")
    assert tuple(slept) == WAITS_S


@pytest.mark.parametrize(
    ("login", "header"), [("Bearer token", "Bearer token"), ("Basic me:secret", "Basic bWU6c2VjcmV0"), (None, None)]
)
def test_who_logs_in_is_answered(login: str | None, header: str | None) -> None:
    with serving(Served(schema_of(12), login=header)) as url:
        assert HttpRegistry(RegistryAccess(url, login)).schema(12) is not None
        wrong = HttpRegistry(RegistryAccess(url, "Bearer other"), lambda _: None)
        with pytest.raises(RegistryUnavailable, match=r"answered 401 Unauthorized: input\.schema_registry_authoriz"):
            wrong.schema(12)


def test_another_server_at_the_registrys_address_makes_no_dead_letters() -> None:
    said = r"no schema in its answer: input\.schema_registry_url"
    with serving(Served({"/schemas/ids/12": ["hello"]})) as url, pytest.raises(RegistryUnavailable, match=said):
        HttpRegistry(RegistryAccess(url), lambda _: None).schema(12)


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_a_registrys_certificate_is_checked_by_the_given_authority(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with serving(Served(schema_of(12)), made.broker) as url:
        assert HttpRegistry(RegistryAccess(url, cafile=str(made.authority))).schema(12) is not None
        for other in (str(made.stranger), None):
            with pytest.raises(RegistryUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                HttpRegistry(RegistryAccess(url, cafile=other), lambda _: None).schema(12)


def test_a_topic_that_a_registry_explains_needs_no_mapping_to_be_tried() -> None:
    values = [written(READING, {**ONE, "id": f"p{n}"}, 12) for n in range(5)]
    fetched = Fetched(
        Partition("plant", 0), [None] * 5, [*values], np.arange(5), np.full(5, NOW_MS), 5, 5, lambda _: KeptHeaders(())
    )
    with serving(Served(schema_of(12))) as url:
        rules = RecordRules(registry=HttpRegistry(RegistryAccess(url)))
        trial = try_records(fetched, rules, (60_000, 60_000))
    assert trial.what == "Avro"
    assert trial.settings is not None
    assert trial.settings.yaml == "{format: avro, values: '@', stream: [id]}"
    assert trial.batch.keys == [b"p0", b"p1", b"p2", b"p3", b"p4"]
    assert set(trial.features) >= {"temp", "press"}


# --- bytes and schemas of any kind


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": "null"}, "an array whose items take no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "whose items take no bytes"),
        ({"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}, "L is within itself"),
        (
            [
                {"type": "record", "name": "R0", "fields": []},
                *(
                    {"type": "record", "name": f"R{n}", "fields": [{"name": x, "type": f"R{n - 1}"} for x in "ab"]}
                    for n in range(1, 30)
                ),
            ],
            "more than 10,000 fields in the record R",
        ),
    ],
)
def test_a_schema_that_lets_few_bytes_claim_much_memory_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AvroSchema(RegisteredSchema("AVRO", json.dumps(schema)))


def test_no_bytes_raise_anything_but_a_refusal() -> None:
    random, read, framed = (
        Random(17),
        AvroSchema(RegisteredSchema("AVRO", json.dumps(READING))).document,
        of_registry(REGISTRY).document,
    )
    good, refused = written(READING, ONE), 0
    for _ in range(INPUTS):
        value = bytearray(good if random.random() < 0.7 else random.randbytes(random.randrange(60)))
        for _ in range(random.randrange(4)):
            value[random.randrange(len(value) or 1) : random.randrange(len(value) + 1)] = random.randbytes(
                random.randrange(4)
            )
        for one in (read, lambda found: framed(b"\0\0\0\0" + found)):
            try:
                one(bytes(value))
            except RejectedReading:
                refused += 1
    assert refused > INPUTS / 2
