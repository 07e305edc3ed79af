"""What an option may be, checked when the command line is read: before anything heavy is imported.

Each of these makes the callback of a typer option. An unknown name is reported in the same words everywhere, with
the nearest one there is.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import typer

from models.data.file_options import numbers_of_words
from service.errors import RefusedSetting

T = TypeVar("T")
Check = Callable[[typer.CallbackParam, T], T]


def one_of(*choices: str) -> Check[str | None]:
    """One of a few names."""

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None:
            _require(_option(param), value, choices, listed(choices))
        return value

    return check


def some_of(*choices: str) -> Check[list[str] | None]:
    """An option that may be given several times: each one of a few names."""

    def check(param: typer.CallbackParam, values: list[str] | None) -> list[str] | None:
        for value in values or ():
            _require(_option(param), value, choices, listed(choices))
        return values

    return check


def names_among(*choices: str) -> Check[str | None]:
    """Several of a few names in one option, with commas between."""

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        for name in split(value) if value is not None else ():
            _require(_option(param), name, choices, f"some of {', '.join(choices)}")
        return value

    return check


def web_address(param: typer.CallbackParam, value: str | None) -> str | None:
    """Of a server: http or https, with a host, and without a login."""
    if value is not None:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RefusedSetting(f"{_option(param)} is {value}, expected http://HOST:PORT or https://HOST")
    return value


def words_for_numbers(param: typer.CallbackParam, values: list[str] | None) -> list[str] | None:
    """Each a word and the number that it stands for: ON=1."""
    for value in values or ():
        try:
            [(word, number)] = numbers_of_words([value]).items()
            good = bool(word) and math.isfinite(number)
        except ValueError:
            good = False
        if not good:
            raise RefusedSetting(f"{_option(param)} is {value}, expected a word and a number, such as ON=1")
    return values


def finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """A number; the bounds of an option keep out neither NaN nor, at an open end, infinity."""
    if value is not None and not math.isfinite(value):
        raise RefusedSetting(f"{_option(param)} is {value}, expected a finite number")
    return value


def seconds(param: typer.CallbackParam, value: float | None) -> float | None:
    """A time that something may take."""
    if value is not None and not 0 < value < math.inf:
        raise RefusedSetting(f"{_option(param)} is {value:g}, expected seconds, more than 0")
    return value


def multiple_of_16(param: typer.CallbackParam, value: int) -> int:
    """Hidden units: only then are a stream's bits the same in every batch."""
    if value % 16:
        raise RefusedSetting(f"{_option(param)} is {value}, expected a multiple of 16")
    return value


def time_zone(param: typer.CallbackParam, value: str | None) -> str | None:
    """The IANA name of one that this machine knows."""
    try:
        if value is not None:
            ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:  # of an unknown name, of one that is no name, of a folder's
        raise RefusedSetting(
            f"{_option(param)} is {value!r}, expected the IANA name of a time zone, such as Europe/Berlin, or UTC"
        ) from error
    return value


def file_of(*suffixes: str) -> Check[Path | None]:
    """A file whose suffix says what is written."""

    def check(param: typer.CallbackParam, value: Path | None) -> Path | None:
        if value is not None and value.suffix.lower() not in suffixes:
            raise RefusedSetting(f"{_option(param)} is {str(value)!r}, expected a name that ends in {listed(suffixes)}")
        return value

    return check


def split(names: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",")))


def listed(choices: Sequence[str]) -> str:
    """a, b or c."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _require(option: str, value: str, choices: Sequence[str], expected: str) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(value, choices, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise RefusedSetting(f"{option} is {value!r}, expected {expected}{hint}")


def _option(param: typer.CallbackParam) -> str:
    return str(param.opts[0])
