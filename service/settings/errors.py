"""What pydantic finds wrong with the settings, in our words: where, what was found, what it should be, who set it."""

from collections.abc import Mapping, Sequence

from pydantic_core import ErrorDetails

from service.settings.settings import NESTED_FIELDS, PATHS, SECTIONS
from service.settings.sources import GivenValue, suggestion

SECRET = ("password", "authorization", "token", "urls")  # in the name of a setting; in an address may be a login


def error_line(detail: ErrorDetails, given: Mapping[str, GivenValue]) -> str:
    """One error: where, what was found, what it should be, who set it."""
    field = detail.get("ctx", {}).get("field", "")
    parts = [str(part) for part in (*detail["loc"], *([field] if field else []))]
    path = ".".join(parts)
    key, value = _found(parts, given)
    origin = f" ({given[key].place(path)})" if key else ""
    if detail["type"] == "extra_forbidden":
        beside = tuple(f"{path.rpartition('.')[0]}.{name}" for name in NESTED_FIELDS.get(".".join(parts[:2]), ()))
        return f"{path}: unknown{suggestion(path, (*PATHS, *SECTIONS, *beside))}{origin}"
    found = f"found {_quoted(key, value)}, " if key else ""
    return f"{path}: {found}expected {_expected(detail)}{origin}"


def _found(parts: Sequence[str], given: Mapping[str, GivenValue]) -> tuple[str, object]:
    """The setting that something is wrong with or in, and what was found there; empty: nothing was given."""
    for end in range(len(parts), 0, -1):
        key = ".".join(parts[:end])
        if key in given:
            value = given[key].value
            for part in parts[end:] if key in NESTED_FIELDS else ():
                value = _within(value, part)
            return key, value
    return "", None


def _within(value: object, part: str) -> object:
    """What a section has of that name, or which section a list of them has at that place; else the value."""
    if isinstance(value, dict):
        return value.get(part)
    item = value[int(part)] if isinstance(value, list) and part.isdecimal() and int(part) < len(value) else None
    return item if isinstance(item, dict) else value


def _quoted(path: str, value: object) -> str:
    if any(secret in path for secret in SECRET):  # the file's name too: it may be the secret itself, in the wrong place
        return "a value that is not shown"
    if value is None or isinstance(value, dict):
        return "nothing" if value is None else "a mapping"
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _expected(detail: ErrorDetails) -> str:
    """What pydantic says a value should be, in our words; our own checks say it already."""
    message = detail["msg"]
    _, found, expected = message.partition(" should ")
    if detail["type"] == "setting" or not found:
        return message
    expected = expected.partition(", unable to")[0]
    return expected.removeprefix("be ") if expected.startswith("be ") else f"to {expected}"
