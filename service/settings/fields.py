"""Types of a setting's value, each with the check that it brings and what it says was expected."""

import json
import math
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from service.input.times import zone

LEADING_ZERO = re.compile(r"\s*[-+]?0[0-9_a-zA-Z]")
WHOLE = re.compile(r"0|[1-9][0-9]*")
FALSE_ALARMS = re.compile(r"([1-9][0-9]{0,3}) per stream per (?:([1-9][0-9]{0,3}) )?(hour|day|week)s?|default")
TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def wrong_value(expected: str, field: str = "") -> PydanticCustomError:
    """An error that says what a value should be; field: which of a section's, where the section is checked."""
    return PydanticCustomError("setting", "{expected}", {"expected": expected, "field": field})


def one_of(*choices: str) -> Callable[[str | None], str | None]:
    """A check that a text is one of some, or not given."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise wrong_value(f"one of {', '.join(choices)}")
        return value

    return check


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise wrong_value("a number")
    if isinstance(value, str) and LEADING_ZERO.match(value):
        raise wrong_value("a number in decimal, without leading zeros")
    return value


def _without_control(text: str) -> bool:
    """No control characters, none that change the direction of writing, no half of a pair."""
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text)


def _printable(value: str) -> str:
    """Of a name: a NUL ends it in other programs, other control characters change what a log or a terminal shows."""
    if not _without_control(value) or value != value.strip(" "):
        raise wrong_value("a name without control characters, and without blanks around it")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split(value: object) -> object:
    """Let a list be written with commas too, as in an environment variable."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def from_json(value: object) -> object:
    """Let a list of mappings be written as JSON too, as in an environment variable."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise wrong_value("a list of mappings, as JSON") from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise wrong_value("a finite number")
    return value


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong_value("[lowest, highest], null where there is no end")
    return value


def _span(value: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = value
    if low is not None and high is not None and low >= high:
        raise wrong_value("[lowest, highest], the first below the second")
    return value


def _false_alarms(value: str) -> str:
    if not FALSE_ALARMS.fullmatch(value):
        raise wrong_value('such as "1 per stream per 90 days", in hours, days or weeks, or default')
    return value


def _servers(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not _without_control(host) or not WHOLE.fullmatch(port) or not 0 < int(port) < 65_536:
            raise wrong_value("host:port, or several with commas between")
    return value


def _topic(value: str) -> str:
    if not TOPIC_NAME.fullmatch(value) or value in (".", ".."):
        raise wrong_value("a topic name: 1 to 249 letters, digits, dots, underscores and hyphens")
    return value


def _path_name(value: Path) -> Path:
    if not _without_control(str(value)):
        raise wrong_value("a path without control characters")
    return value


def _readable_file(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        raise wrong_value(f"a file that can be read ({error.strerror})") from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or parts.username is not None:
        raise wrong_value("http:// or https:// with a host and no login in it")
    return value


def _authorization(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch(r"Bearer [!-~]+|Basic [ -~]+", value.get_secret_value()):
        raise wrong_value('"Bearer TOKEN" or "Basic USER:PASSWORD"')
    return value


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
        raise wrong_value("at least 16 letters, digits and signs, without blanks")
    return value


def _zone(value: str) -> str:
    try:
        zone(value)
    except ValueError as error:
        raise wrong_value(str(error)) from None
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
Names = Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_split)]
Pattern = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_printable)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_split), Field(min_length=1)]
Finite = Annotated[Number, AfterValidator(_finite)]
BadValues = Annotated[tuple[Finite, ...], Field(max_length=100)]
ValidRange = Annotated[tuple[Finite | None, Finite | None], BeforeValidator(_pair), AfterValidator(_span)]
FalseAlarms = Annotated[str, AfterValidator(_false_alarms)]
Deviation = Annotated[Finite, Field(ge=0)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
Servers = Annotated[str, AfterValidator(_servers)]
Topic = Annotated[str, AfterValidator(_topic)]
TopicsOrNone = Annotated[tuple[Topic, ...], NoDecode, BeforeValidator(_split)]
Topics = Annotated[TopicsOrNone, Field(min_length=1)]
FilePath = Annotated[Path, AfterValidator(_path_name)]
File = Annotated[FilePath, AfterValidator(_readable_file)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Url = Annotated[str, AfterValidator(_url)]
Zone = Annotated[str, AfterValidator(_zone)]
Urls = Annotated[tuple[Url, ...], NoDecode, BeforeValidator(_split)]
Authorization = Annotated[
    SecretStr | None,
    AfterValidator(_authorization),
    Field(description='secret; "Bearer TOKEN" or "Basic USER:PASSWORD"; better in a file'),
]
