"""What can be a stream's key: 1 to 256 bytes of UTF-8 text without control characters, and not JSON as a whole.

Names are what people wrote: with spaces, slashes, quotes or brackets in them. What a serializer for integers, Avro or
JSON makes of a name is refused: the same stream would get another key as soon as the producer is corrected.
"""

import json
import re
from collections.abc import Sequence

MAX_KEY_BYTES = 256
SHOWN_CHARACTERS = 40
CONTROL = bytes([*range(0x20), 0x7F])
ANY_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
JSON_BEGINS = b'"', b"{", b"["
UNSURE = b'"{[ '  # with which a key in JSON may begin
REGISTRY_BYTES = 5  # 0, and the id of a schema

AS_TEXT = "expected the stream's name as text, as a StringSerializer writes it (Kafka Connect: StringConverter)"


def flaw_of(key: bytes, size: int | None = None) -> str | None:
    """Why this cannot be a stream's key, and what may have caused it; None if it can.

    size: in bytes, of all of it, where `key` is only its beginning.
    """
    size = len(key) if size is None else size
    if not 1 <= size <= MAX_KEY_BYTES:
        return f"key of {size} bytes, expected 1 to {MAX_KEY_BYTES}"
    if key.isascii() and key[0] not in UNSURE and len(key.translate(None, CONTROL)) == len(key):
        return None  # as almost all are
    return _registry_flaw(key) or _text_flaw(key)


def all_without_flaw(keys: Sequence[bytes]) -> bool:
    """Whether flaw_of() finds nothing in any of these; keys of plain ASCII cost next to nothing."""
    lengths = {1, *map(len, keys)}
    if not 1 <= min(lengths) <= max(lengths) <= MAX_KEY_BYTES:
        return False
    joined = b"".join(keys)
    if len(joined.translate(None, CONTROL)) < len(joined):
        return False
    if joined.isascii() and not any(begin in joined for begin in JSON_BEGINS):
        return True
    return all(flaw_of(key) is None for key in set(keys))


def _registry_flaw(key: bytes) -> str | None:
    if key[0] or len(key) < REGISTRY_BYTES or _is_integer(key):
        return None
    schema = int.from_bytes(key[1:REGISTRY_BYTES])
    return (
        f"the key begins with a zero byte and the schema id {schema}, as the Avro, Protobuf and JSON Schema "
        f"serializers of a schema registry write it: {AS_TEXT}"
    )


def _text_flaw(key: bytes) -> str | None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "the key is not UTF-8"
    found = ANY_CONTROL.search(text)
    if found is None:
        return _json_flaw(text)
    if _is_integer(key):
        return f"the key is {len(key)} bytes, as the integer {int.from_bytes(key)} is serialized: {AS_TEXT}"
    where = f"the control character U+{ord(found[0]):04X} at character {found.start()}"
    return f"the key {_shown(text)} has {where}: {AS_TEXT}"


def _json_flaw(text: str) -> str | None:
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == '"':
        return f"the key {_shown(text)} is in JSON quotes, as a JSON serializer writes a text: {AS_TEXT}"
    if stripped[:1] + stripped[-1:] not in ("{}", "[]"):
        return None
    try:
        json.loads(stripped)
    except (ValueError, RecursionError):  # a name in brackets
        return None
    what = "object" if stripped[0] == "{" else "array"
    return (
        f"the key {_shown(text)} is a JSON {what}: {AS_TEXT}; Kafka Connect's ExtractField$Key takes a field out of it"
    )


def _is_integer(key: bytes) -> bool:
    """Whether it is what is made of an integer that is not very large, of 4 or of 8 bytes."""
    if len(key) == REGISTRY_BYTES + 3 and key[REGISTRY_BYTES] == 2 * (len(key) - REGISTRY_BYTES - 1):
        return False  # a schema id and a text of two bytes, with its length before it as Avro writes it
    return len(key) in (4, 8) and key[0] == 0


def _shown(text: str) -> str:
    cut = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in cut)
