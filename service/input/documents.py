"""The values and keys of mapped topics to what paths look into: objects, arrays, text and numbers.

Each format is a function from bytes to the documents in them. What needs a library imports it when it is chosen.
"""

import base64
import codecs
import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.data.arrays import Int64s
from service.errors import RefusedSetting, RejectedReading
from service.input import avro, influx_columns, otlp, otlp_columns, protobuf, senml, senml_columns, sparkplug
from service.input.formats import TopicMapping
from service.input.numbers import shown
from service.input.parts import NOTHING, Walk, Walked, joined
from service.input.reasons import Reason
from service.input.registry import ID_BYTES, schema_id

PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "LZ4",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
NOT_IN_CELLS = b"{}[]\"'\n\0"
OF_ADDRESSES = str.maketrans("-_", "+/")  # base64 as addresses have it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Documents = Callable[[bytes], Iterable[Any]]
NOT_SHAPED = (msgspec.MsgspecError, ValueError, RecursionError, RejectedReading)


class ShapedDocuments(NamedTuple):
    """What was read of some values: documents of a shape, and of those that do not fit it nothing."""

    documents: Sequence[Any]  # instances, or SlotDocuments
    values: Int64s  # which value each document is in
    refused: list[int]  # values


Shaped = Callable[[Sequence[bytes]], ShapedDocuments]


def documents_of(mapping: TopicMapping) -> Documents:
    """What reads values of a mapping's format; it raises RejectedReading, or RegistryUnavailable."""
    return FORMATS[mapping.format](mapping)


def shaped_documents_of(mapping: TopicMapping, root: Any) -> Shaped:
    """What reads values of a mapping's format into a type, all at once. It raises RegistryUnavailable alone."""
    if mapping.format in ("json", "json-schema"):
        return _shaped_json(root, ID_BYTES if mapping.format == "json-schema" else 0)
    documents = documents_of(mapping)

    def read(value: bytes) -> list[Any]:
        return [msgspec.convert(one, root) for one in documents(value)]

    walk = WALKS[mapping.format](mapping, root) if mapping.format in WALKS else None
    return partial(_one_by_one, read) if walk is None else partial(_walked, walk, read)


def _shaped_json(root: Any, framed: int) -> Shaped:
    """framed: bytes before the JSON, which begin with a zero byte."""
    decode = msgspec.json.Decoder(root).decode

    def one(value: bytes) -> list[Any]:
        text = _text(value, framed)
        try:
            return [decode(text)]
        except msgspec.DecodeError:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            return list(map(decode, lines))

    def read(values: Sequence[bytes]) -> ShapedDocuments:
        try:
            texts = [_text(value, framed) for value in values] if framed else values
            if not all(map(bytes.isascii, texts)):
                _check_utf8(texts)
        except ValueError:
            return _one_by_one(one, values)
        try:
            return ShapedDocuments(list(map(decode, texts)), np.arange(len(values)), [])
        except NOT_SHAPED:
            return _of_lines(decode, texts) or _one_by_one(one, values)

    return read


def _of_lines(decode: Callable[[bytes], Any], texts: Sequence[bytes]) -> ShapedDocuments | None:
    """Where each text has a document a line: what is so is no document as a whole. None where one has not."""
    lines = [[line for line in text.splitlines() if line.strip()] for text in texts]
    counts = list(map(len, lines))
    if min(counts, default=0) < 2:
        return None
    try:
        documents = list(map(decode, chain.from_iterable(lines)))
    except NOT_SHAPED:
        return None
    return ShapedDocuments(documents, np.repeat(np.arange(len(texts)), counts), [])


def _text(value: bytes, framed: int) -> bytes:
    if framed and value[:1] != b"\0":
        raise ValueError("not framed")
    text = value[framed:]
    if not text.isascii():
        _check_utf8([text])
    return text


def _check_utf8(texts: Iterable[bytes]) -> None:
    """Raises ValueError where one is not. msgspec does not look into text that it skips."""
    for text in texts:
        text.decode()


def _walked(walk: Walk, read: Callable[[bytes], list[Any]], values: Sequence[bytes]) -> ShapedDocuments:
    """read: what is in one value that cannot be walked, or raises."""
    found = walk(values) if values else NOTHING
    there = np.zeros(len(values), np.bool_)
    there[found.values] = True
    if there.all():
        return ShapedDocuments(found.documents, found.values, [])
    rest = np.flatnonzero(~there)
    others = _one_by_one(read, [values[n] for n in rest.tolist()])
    both = joined([(np.arange(len(values)), found), (rest, Walked(others.documents, others.values))])
    return ShapedDocuments(both.documents, both.values, rest[others.refused].tolist())


def _one_by_one(read: Callable[[bytes], list[Any]], values: Sequence[bytes]) -> ShapedDocuments:
    documents: list[Any] = []
    counts, refused = [], []
    for n, value in enumerate(values):
        try:
            found = read(value)
        except NOT_SHAPED:
            found = []
            refused.append(n)
        documents += found
        counts.append(len(found))
    return ShapedDocuments(documents, np.repeat(np.arange(len(values)), counts), refused)


def key_of(mapping: TopicMapping) -> Callable[[bytes | None], Any]:
    """What reads keys of a mapping's format; None where there is no key. It raises as that of values does."""
    return KEYS[mapping.key_format](mapping)


def json_documents(value: bytes) -> Iterable[Any]:
    """One document, or one a line. What JSON has no word for, NaN and Infinity, is read too.

    A number beyond a double is infinite: where nothing looks at it, it harms no more than in our own JSON.
    """
    text = value.removeprefix(BYTE_ORDER_MARK)
    try:
        return [msgspec.json.decode(text)]
    except RecursionError as error:
        raise RejectedReading(Reason.BAD_JSON, "nested too deeply") from error
    except (msgspec.MsgspecError, ValueError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1:
            return [_line(line, n) for n, line in enumerate(lines, 1)]
        return [_lenient(text, error, f": {likely}" if (likely := likely_format(value)) else "")]


def _line(line: bytes, number: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _lenient(line, error, f", in line {number}")


def _lenient(text: bytes, problem: Exception, where: str) -> Any:
    """What Python's JSON writes, NaN too, and numbers beyond a double, which msgspec finds invalid."""
    beyond = isinstance(problem, msgspec.ValidationError)
    if not beyond and not any(word in text for word in (b"NaN", b"Infinity")):
        raise RejectedReading(Reason.BAD_JSON, f"{problem}{where}")
    try:
        return json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_JSON, f"{problem}{where}") from error


def _whole(digits: str) -> float:
    """An integer; infinite where it has more digits than Python reads."""
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf


def likely_format(value: bytes) -> str:
    """What else it may be, of a value that is not JSON; empty where nothing is known."""
    schema = schema_id(value)
    packed = next((name for begin, name in PACKED.items() if value.startswith(begin)), None)
    found = ""
    if schema is not None and len(value) > ID_BYTES:
        found = f"begins with the schema id {schema} of a schema registry"
    elif packed is not None:
        found = f"is packed by {packed}, which is not read: let Kafka's producer compress"
    elif _is_utf16(value):
        found = "is text in UTF-16, expected UTF-8"
    elif not value.strip():
        found = "is empty"
    elif value.lstrip().startswith(b"<"):
        found = "is XML, which is not read"
    elif _is_cells(value.strip()):
        found = "is a line of cells, such as CSV, which is read of files alone"
    return found and f"the value {found}"


def _is_utf16(value: bytes) -> bool:
    every_other_is_zero = value[:1] > b"\0" and len(value) > 2 and not any(value[1:40:2])
    return every_other_is_zero or value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _is_cells(line: bytes) -> bool:
    plain = len(line.translate(None, NOT_IN_CELLS)) == len(line)
    return plain and any(sign in line for sign in (b",", b";", b"\t"))


def registry_json_documents(value: bytes) -> Iterable[Any]:
    """JSON behind the id of its schema, as the JSON Schema serializer of a schema registry writes it."""
    if value[:1] != b"\0" or len(value) <= ID_BYTES:
        raise RejectedReading(
            Reason.BAD_JSON,
            f"found {value[:ID_BYTES].hex(' ') or 'nothing'}, expected a zero byte and a schema id",
        )
    return json_documents(value[ID_BYTES:])


def documents_in_text(text: str, where: str) -> list[Any]:
    """What a text within a record holds that is a value itself: JSON, or JSON in base64. where: for what is said."""
    packed = text.strip()
    if not packed.startswith(("{", "[")):
        with suppress(ValueError):
            full = packed.translate(OF_ADDRESSES) + "=" * (-len(packed) % 4)
            packed = base64.b64decode(full, validate=True).decode().strip()
    if not packed.startswith(("{", "[")):
        raise RejectedReading(
            Reason.BAD_JSON, f"{shown(text)} at {where}, expected an object, an array, or either as JSON in a text"
        )
    return list(json_documents(packed.encode()))


def msgpack_documents(value: bytes) -> Iterable[Any]:
    """One document."""
    try:
        return [msgspec.msgpack.decode(value)]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_MSGPACK, str(error)) from error


def influx_documents(value: bytes) -> Iterable[Any]:
    """Lines of Influx's protocol, each an object with measurement, tags, fields and time: nanoseconds, or null."""
    from line_protocol_parser import LineFormatError, parse_line  # noqa: PLC0415  (most need no Influx)

    try:
        lines = value.decode().split("\n")
    except UnicodeDecodeError as error:
        raise RejectedReading(Reason.BAD_INFLUX, "not UTF-8") from error
    found = []
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            parsed = parse_line(line)
        except LineFormatError as error:
            raise RejectedReading(Reason.BAD_INFLUX, f"line {n}: {str(error).rstrip('.')}") from error
        if parsed is not None:  # else it is a comment
            found.append({name: _reversed(part) for name, part in parsed.items()})
    if not found:
        raise RejectedReading(Reason.BAD_INFLUX, f"no lines in {len(value)} bytes")
    return found


def _reversed(part: Any) -> Any:
    """Tags and fields in the order of their line; the library has the last first."""
    return dict(reversed(part.items())) if isinstance(part, dict) else part


def _text_key(key: bytes | None) -> Any:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError as error:
        raise RejectedReading(Reason.BAD_KEY, "the key is not UTF-8") from error


def _json_key(key: bytes | None) -> Any:
    try:
        return None if key is None else msgspec.json.decode(key)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RejectedReading(Reason.BAD_KEY, f"the key is not JSON: {error}") from error


def _integer_key(key: bytes | None) -> Any:
    if key is None:
        return None
    if len(key) not in (2, 4, 8):
        raise RejectedReading(Reason.BAD_KEY, f"key of {len(key)} bytes, expected an integer of 2, 4 or 8")
    return int.from_bytes(key, signed=True)


def _avro(mapping: TopicMapping) -> avro.Values:
    if mapping.schema_file is not None:
        return avro.of_file(mapping.schema_file, mapping.setting)
    return _framed_avro(mapping, "format")


def _avro_documents(mapping: TopicMapping) -> Documents:
    document = _avro(mapping).document
    return lambda value: [document(value)]


def _avro_key(mapping: TopicMapping) -> Callable[[bytes | None], Any]:
    read = _framed_avro(mapping, "key_format").document

    def of_key(key: bytes | None) -> Any:
        try:
            return None if key is None else read(key)
        except RejectedReading as rejected:
            raise RejectedReading(Reason.BAD_KEY, f"the key: {rejected}") from rejected

    return of_key


def _framed_avro(mapping: TopicMapping, name: str) -> avro.Values:
    if mapping.registry is None:
        raise RefusedSetting(
            f"{mapping.setting}.{name}: found avro, expected input.schema_registry_url as well: values and keys name "
            "their schema there"
        )
    return avro.of_registry(mapping.registry)


def _protobuf(mapping: TopicMapping) -> protobuf.Messages:
    if mapping.schema_file is None and mapping.registry is not None:
        return protobuf.of_registry(mapping.registry)
    if mapping.schema_file is None or mapping.message is None:
        raise RefusedSetting(
            f"{mapping.setting}: found protobuf, expected schema_file and message, or input.schema_registry_url"
        )
    return protobuf.of_file(mapping.schema_file, mapping.message, mapping.setting)


FORMATS: dict[str, Callable[[TopicMapping], Documents]] = {
    "json": lambda _: json_documents,
    "json-schema": lambda _: registry_json_documents,
    "msgpack": lambda _: msgpack_documents,
    "avro": _avro_documents,
    "protobuf": lambda mapping: _protobuf(mapping).documents,
    "influx": lambda _: influx_documents,
    "otlp": lambda mapping: otlp.documents_of(mapping.setting),
    "sparkplug": sparkplug.documents_of,
    "senml": lambda _: lambda value: senml.records_of(json_documents(value)),
}
WALKS: dict[str, Callable[[TopicMapping, Any], Walk | None]] = {
    "avro": lambda mapping, root: _avro(mapping).shaped(root),
    "protobuf": lambda mapping, root: _protobuf(mapping).shaped(root),
    "influx": lambda _, root: influx_columns.walk_of(root),
    "otlp": lambda mapping, root: otlp_columns.walk_of(root, otlp.messages_of(mapping.setting)),
    "senml": lambda _, root: senml_columns.walk_of(root),
}
KEYS: dict[str, Callable[[TopicMapping], Callable[[bytes | None], Any]]] = {
    "text": lambda _: _text_key,
    "json": lambda _: _json_key,
    "integer": lambda _: _integer_key,
    "avro": _avro_key,
    "sparkplug": lambda _: sparkplug.topic_of,
}
