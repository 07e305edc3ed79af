"""A schema registry: the schemas that records name by an id, by the HTTP interface that Confluent's has.

Values and keys are framed: a zero byte, the id as 4 bytes, then what the schema describes.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import structlog

from service.errors import RegistryUnavailable
from service.host.outgoing import login_header, opener

ID_BYTES = 5  # 0, and the id of a schema
TIMEOUT_S = 5.0  # of a request
WAITS_S = (0.5, 1.0, 2.0, 4.0)  # between tries; then the process ends, and a restart tries again
ASKED_AGAIN_S = 60.0  # for an id that the registry did not know
UNKNOWN = 40403  # what it answers of an id that it does not know
MAX_BYTES = 4_194_304  # of an answer
SERIALIZED = "?format=serialized"  # asks for Protobuf's schemas as descriptors
MOST_REFERENCES = 100
MOST_UNKNOWN = 10_000

logger = structlog.get_logger("telltale")


class Reference(NamedTuple):
    """A schema that another refers to by a name: with Protobuf, that of the file that is imported."""

    name: str
    text: str


class RegisteredSchema(NamedTuple):
    """A schema, and those that it refers to, each before what refers to it.

    Texts are JSON; of Protobuf, descriptors of files in base64, or what the registry has instead.
    """

    kind: str  # AVRO, PROTOBUF or JSON
    text: str
    references: tuple[Reference, ...] = ()


class Registry(Protocol):
    @property
    def name(self) -> str:
        """What it is called in what is said of a record."""

    def schema(self, number: int) -> RegisteredSchema | None:
        """None: it has none of this id. Raises RegistryUnavailable."""


class RegistryAccess(NamedTuple):
    """Where a registry is and how to log in. Holds a secret: never log it."""

    url: str
    authorization: str | None = None
    cafile: str | None = None


def schema_id(framed: bytes) -> int | None:
    """The id that a value or key begins with; None: it is not framed."""
    return int.from_bytes(framed[1:ID_BYTES]) if framed[:1] == b"\0" and len(framed) >= ID_BYTES else None


class HttpRegistry:
    """Asks once for each id; schemas never change. Waits while the registry is away, and says so."""

    def __init__(self, access: RegistryAccess, sleep: Callable[[float], None] = time.sleep) -> None:
        self._access = access
        self._sleep = sleep
        self._schemas: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, float] = {}  # when it was said

    @property
    def name(self) -> str:
        """Without path and query, which may hold a secret."""
        parts = urlsplit(self._access.url)
        return f"the schema registry {parts.scheme}://{parts.netloc}"

    def schema(self, number: int) -> RegisteredSchema | None:
        if number in self._schemas:
            return self._schemas[number]
        if time.monotonic() - self._unknown.get(number, -ASKED_AGAIN_S) < ASKED_AGAIN_S:
            return None
        found = self._wait_for(f"/schemas/ids/{number}")
        if found is None:
            if len(self._unknown) == MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[number] = time.monotonic()
            return None
        kind = str(found.get("schemaType") or "AVRO")
        form = SERIALIZED if kind == "PROTOBUF" else ""
        if form:
            found = self._wait_for(f"/schemas/ids/{number}{form}") or found
        references = tuple(dict.fromkeys(self._references(found, [], form)))
        schema = RegisteredSchema(kind, str(found["schema"]), references)
        self._schemas[number] = schema
        return schema

    def _references(self, found: dict[str, Any], above: list[str], form: str) -> list[Reference]:
        """What a schema refers to, the deepest first."""
        references = []
        for one in found.get("references") or ():
            path = f"/subjects/{quote(str(one['subject']), safe='')}/versions/{int(one['version'])}"
            if path in above or len(above) > MOST_REFERENCES:
                raise RegistryUnavailable(f"{self.name}: {path} refers to itself")
            inner = self._wait_for(path + form)
            if inner is None:
                raise RegistryUnavailable(f"{self.name}: {path} is missing, which another schema refers to")
            references += self._references(inner, [*above, path], form)
            references.append(Reference(str(one.get("name", "")), str(inner["schema"])))
        return references

    def _wait_for(self, path: str) -> dict[str, Any] | None:
        for wait_s in WAITS_S:
            try:
                return self._ask(path)
            except RegistryUnavailable as error:
                logger.warning("schema_registry_away", reason=str(error), tries_again_in_s=wait_s)
            self._sleep(wait_s)
        return self._ask(path)

    def _ask(self, path: str) -> dict[str, Any] | None:
        access = self._access
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if access.authorization is not None:
            headers["Authorization"] = login_header(access.authorization)
        request = urllib.request.Request(access.url.rstrip("/") + path, headers=headers)  # noqa: S310  (http, https: checked)
        try:
            with opener(access.cafile).open(request, timeout=TIMEOUT_S) as answer:
                found = json.loads(answer.read(MAX_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.NOT_FOUND and _error_code(error) == UNKNOWN:
                    return None
                helps = ": input.schema_registry_authorization" if error.code in (401, 403) else ""
                raise RegistryUnavailable(f"{self.name} answered {error.code} {error.reason}{helps}") from None
        except (OSError, http.client.HTTPException) as error:
            raise RegistryUnavailable(f"{self.name}: {getattr(error, 'reason', None) or error!r}") from None
        except ValueError:
            raise RegistryUnavailable(
                f"{self.name}: found no JSON, expected a schema: input.schema_registry_url"
            ) from None
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise RegistryUnavailable(f"{self.name}: no schema in its answer: input.schema_registry_url")
        return found


def _error_code(error: urllib.error.HTTPError) -> int | None:
    try:
        found = json.loads(error.read(MAX_BYTES))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return found.get("error_code") if isinstance(found, dict) else None
