"""Read the settings from wherever they are set.

Options of the command line go before TELLTALE_ environment variables, these before the YAML file, that before the
defaults. Unknown keys and variables are errors. Secrets never appear in an error.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.errors import RefusedSetting
from service.settings.errors import error_line
from service.settings.settings import Settings
from service.settings.sources import CONFIG_VARIABLE, GivenValue, read_environment, read_file


def load(config_file: Path | None, overrides: Mapping[str, object]) -> Settings:
    """Read the settings. Raises RefusedSetting with a line for everything that is wrong.

    config_file: YAML; None: the one that TELLTALE_CONFIG names, if it does. overrides: options of the command line by
    "section.field"; None means that the option was not given.
    """
    if config_file is None and os.environ.get(CONFIG_VARIABLE):
        config_file = Path(os.environ[CONFIG_VARIABLE])
    options = {path: GivenValue(value, "command line") for path, value in overrides.items() if value is not None}
    given = (read_file(config_file) if config_file else {}) | read_environment() | options
    try:
        settings = Settings(**_nested(given))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    else:
        settings._origins.update({path: value.origin for path, value in given.items()})  # noqa: SLF001
        return settings
    raise RefusedSetting("\n".join(error_line(detail, given) for detail in details))


def _nested(given: Mapping[str, GivenValue]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, (value, *_) in given.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested
