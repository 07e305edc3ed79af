"""TypeScript's types of what the service tells the page, made from the service's own structs.

`python -m tests.service.http.messages` writes them again; a test says when they are out of date.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from service.http.app import Recent
from service.http.control_list import ControlsFound
from service.http.health import HealthSummary
from service.http.incident_list import IncidentsFound, MembersFound
from service.http.stream_routes import OpenAnomalies, StreamsFound
from service.input.events import Event
from service.inspect.looking_back import PastSeen
from service.live.insights import TraceSeen

TYPES = Path(__file__).parents[3] / "service/http/page/messages.d.ts"
TOLD = (
    *(HealthSummary, StreamsFound, OpenAnomalies, Recent, PastSeen, TraceSeen, Event),
    *(IncidentsFound, MembersFound, ControlsFound),
)
RAW = {"events": "Event[]"}  # fields that are sent on as they came, and what they are
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def written() -> str:
    _, parts = msgspec.json.schema_components(TOLD)
    head = "// Made from the service's structs by tests/service/http/messages.py: what the service tells the page.\n"
    return head + "".join(_declaration(name, parts[name]) for name in sorted(parts))


def _declaration(name: str, schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"\nexport type {name} = {_type(schema)};\n"
    return "\n".join(["", f"export interface {name} {{", *_fields(schema), "}", ""])


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for field, kind in schema["properties"].items():
        raw = kind.get("type") == "array" and kind["items"] == {}
        yield f"  {field}{'' if field in required else '?'}: {RAW[field] if raw else _type(kind)};"


def _type(kind: Mapping[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"].rpartition("/")[2])
    if "enum" in kind:
        return " | ".join(f'"{one}"' for one in kind["enum"])
    if "anyOf" in kind:
        return " | ".join(map(_type, kind["anyOf"]))
    if kind.get("type") == "array":
        item = _type(kind["items"])
        return f"({item})[]" if " | " in item else f"{item}[]"
    if kind.get("type") == "object":
        return f"Record<string, {_type(kind['additionalProperties'])}>"
    return PLAIN[kind["type"]]


if __name__ == "__main__":
    TYPES.write_text(written())
