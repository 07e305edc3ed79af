"""Avro to documents: plain, by a schema that is given, or behind the id of a schema registry's schema.

What is read is what the writer's schema says, so that a schema may change while records are on their way: paths look
for names. A schema must not let a few bytes claim much memory.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.errors import RefusedSetting, RejectedReading
from service.input.avro_columns import walk_of
from service.input.parts import NOTHING, Walk, Walked, joined
from service.input.reasons import Reason
from service.input.registry import ID_BYTES, RegisteredSchema, Registry, schema_id

MOST_FIELDS = 10_000  # of a schema, each counted as often as it is in a value without arrays
LEAST_BYTES = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
    "enum": 1,
}


def of_file(file: str, setting: str) -> "Values":
    """Reads plain values by the schema in a file. Raises RefusedSetting."""
    try:
        with open(file, encoding="utf-8") as opened:  # noqa: PTH123
            schema = AvroSchema(RegisteredSchema("AVRO", opened.read()))
    except (OSError, ValueError) as error:
        raise RefusedSetting(f"{setting}.schema_file: found {file}, expected an Avro schema: {error}") from None

    def hint(value: bytes) -> str:
        number = schema_id(value)
        return "" if number is None else (
            f"; the value begins with the schema id {number} of a schema registry: "
            f"{setting} without schema_file, and input.schema_registry_url, read it"
        )  # fmt: skip

    return Values(lambda _: schema, 0, hint)


def of_registry(registry: Registry) -> "Values":
    """Reads values behind the ids of their schemas. Reading raises RegistryUnavailable."""
    known: dict[int, AvroSchema | str] = {}

    def find(value: bytes) -> AvroSchema:
        number = schema_id(value)
        if number is None:
            raise RejectedReading(
                Reason.BAD_AVRO,
                f"found {value[:ID_BYTES].hex(' ') or 'nothing'}, expected a zero byte and a schema id; "
                "schema_file names the schema of values without one",
            )
        if number not in known:
            known[number] = _registered(registry, number)
        found = known[number]
        if isinstance(found, str):
            raise RejectedReading(Reason.BAD_AVRO, found)
        return found

    return Values(find, ID_BYTES)


def _registered(registry: Registry, number: int) -> "AvroSchema | str":
    """A schema, or why it describes no values. An unknown id may be known later: raises RejectedReading."""
    schema = registry.schema(number)
    if schema is None:
        raise RejectedReading(Reason.BAD_AVRO, f"schema id {number}: {registry.name} has no such schema")
    if schema.kind != "AVRO":
        return f"schema id {number} is of the type {schema.kind}, expected AVRO"
    try:
        return AvroSchema(schema)
    except ValueError as error:
        return f"schema id {number}: {error}"


class Values:
    """Reads values, one at a time to documents or many at once to instances of a class."""

    def __init__(
        self, find: Callable[[bytes], "AvroSchema"], framed: int, hint: Callable[[bytes], str] = lambda _: ""
    ) -> None:
        """find: the schema of a value. framed: bytes before it, which say which schema. hint: added to a refusal."""
        self._find, self._framed, self._hint = find, framed, hint

    def document(self, value: bytes) -> Any:
        """The one in a value."""
        try:
            return self._find(value).document(value[self._framed :])
        except RejectedReading as rejected:
            if hint := self._hint(value):
                raise RejectedReading(rejected.reason, f"{rejected}{hint}") from rejected
            raise

    def shaped(self, root: Any) -> Walk:
        """What makes instances of a type of values, all that have one schema at once. It raises RegistryUnavailable."""
        walks: dict[AvroSchema, Walk | None] = {}

        def of_one_schema(values: Sequence[bytes]) -> Walked:
            try:
                schema = self._find(values[0])
            except RejectedReading:
                return NOTHING
            if schema not in walks:
                walks[schema] = schema.walk(root, self._framed)
            walk = walks[schema]
            return NOTHING if walk is None else walk(values)

        def read(values: Sequence[bytes]) -> Walked:
            if len({value[: self._framed] for value in values}) == 1:
                return of_one_schema(values)
            places: dict[bytes, list[int]] = {}
            for n, value in enumerate(values):
                places.setdefault(value[: self._framed], []).append(n)
            return joined((where, of_one_schema([values[n] for n in where])) for where in places.values())

        return read


class AvroSchema:
    """A schema, parsed. Raises ValueError, which says what is wrong with it."""

    def __init__(self, schema: RegisteredSchema) -> None:
        import fastavro  # noqa: PLC0415  (most need no Avro)
        from fastavro.schema import SchemaParseException, UnknownType  # noqa: PLC0415

        self._names: dict[str, Any] = {}
        try:
            for one in (*(reference.text for reference in schema.references), schema.text):
                self._parsed = fastavro.parse_schema(json.loads(one), named_schemas=self._names)
            _Sizes(self._names).of(self._parsed)
        except (SchemaParseException, UnknownType, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no Avro schema: {error!r}") from error

    def document(self, value: bytes) -> Any:
        """What is in a value, to its last byte. Raises RejectedReading."""
        import fastavro  # noqa: PLC0415

        stream = io.BytesIO(value)
        try:
            document = fastavro.schemaless_reader(stream, self._parsed, None)
        except (EOFError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, StopIteration) as error:
            # What the library says of an end names an object by its address: it is another one at each start.
            found = "it ends within a value" if isinstance(error, EOFError) else str(error) or type(error).__name__
            raise RejectedReading(Reason.BAD_AVRO, f"not of its schema: {found} in {len(value)} bytes") from error
        if stream.tell() != len(value):
            raise RejectedReading(
                Reason.BAD_AVRO, f"not of its schema: {len(value)} bytes, of which the schema reads {stream.tell()}"
            )
        return document

    def walk(self, root: Any, framed: int) -> Walk | None:
        """What makes instances of a type of values, each behind some bytes; None where none of them can be walked."""
        from fastavro.read import LOGICAL_READERS  # noqa: PLC0415

        return walk_of(self._parsed, self._names, LOGICAL_READERS, root, framed)


class _Sizes:
    """Of each part of a schema, the least bytes that it takes, and the fields that it has."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._known: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def of(self, schema: Any) -> tuple[int, int]:
        """Raises ValueError of one that lets a few bytes claim much memory, or is within itself."""
        if isinstance(schema, list):
            sizes = [self.of(one) for one in schema]
            return 1 + min(least for least, _ in sizes), 1 + max(fields for _, fields in sizes)
        kind = schema if isinstance(schema, str) else schema["type"]
        if not isinstance(kind, str):
            return self.of(kind)
        if kind in LEAST_BYTES:
            return LEAST_BYTES[kind], 1
        return self._of_other(kind, schema)

    def _of_other(self, kind: str, schema: Any) -> tuple[int, int]:
        if kind == "fixed":
            return int(schema["size"]), 1
        if kind in ("array", "map"):
            least, fields = self.of(schema["items" if kind == "array" else "values"])
            if kind == "array" and least == 0:
                raise ValueError("an array whose items take no bytes is not read")
            return 1, 1 + fields
        return self._of_record(schema) if kind in ("record", "error") else self.of(self._names[kind])

    def _of_record(self, schema: Mapping[str, Any]) -> tuple[int, int]:
        name = str(schema["name"])
        if name in self._open:
            raise ValueError(f"the record {name} is within itself, which is not read")
        if name not in self._known:
            self._open.add(name)
            sizes = [self.of(field["type"]) for field in schema["fields"]]
            self._open.remove(name)
            least, fields = sum(one for one, _ in sizes), 1 + sum(fields for _, fields in sizes)
            if fields > MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS:,} fields in the record {name}")
            self._known[name] = least, fields
        return self._known[name]
