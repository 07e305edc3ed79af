"""Secrets in files of their own, which the settings NAME_file name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from service.settings.fields import wrong_value

MAX_SECRET_BYTES = 65_536


def file_of(name: str) -> Any:
    """The field of a setting NAME_file."""
    return Field(default=None, description=f"file that holds {name}")


def with_secrets_from_files(given: object, names: Sequence[str]) -> object:
    """A section as it was given, and in it what the files hold that its fields NAME_file name."""
    if not isinstance(given, dict):
        return given
    read = {}
    for name in names:
        file = given.get(f"{name}_file")
        if file is None:
            continue
        if given.get(name) is not None:
            raise wrong_value(f"{name} or {name}_file, not both", name)
        read[name] = SecretStr(_read_secret(file, f"{name}_file"))
    return {**given, **read}


def _read_secret(file: object, field: str) -> str:
    """What the file holds, less the newline that an editor adds."""
    try:
        with Path(str(file)).open("rb") as opened:
            secret = opened.read(MAX_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise wrong_value(f"a file that can be read ({reason})", field) from None
    if not secret:
        raise wrong_value("a file that holds a secret, this one is empty", field)
    return secret
