"""Settings of the detector that are compared: a grid of few values of a few of its numbers."""

import itertools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from models.detection.detector import DetectorConfig

Setting = tuple[tuple[str, float], ...]  # (section.field, value)


class UnknownSetting(ValueError):
    """A grid names what cannot be set so: says which, and what can be."""


def parse(options: Sequence[str]) -> tuple[Setting, ...]:
    """All combinations of options such as `score.level_weight=0.25,0.5,1`, in their order."""
    return tuple(itertools.product(*map(_axis, options))) if options else ()


def name_of(setting: Setting) -> str:
    return " ".join(f"{name}={value:g}" for name, value in setting)


def with_setting(config: DetectorConfig, setting: Setting) -> DetectorConfig:
    for name, value in setting:
        section, _, field = name.partition(".")
        part = getattr(config, section)
        changed: dict[str, Any] = {field: type(getattr(part, field))(value)}
        replaced: dict[str, Any] = {section: replace(part, **changed)}
        config = replace(config, **replaced)
    return config


def _axis(option: str) -> list[tuple[str, float]]:
    name, _, values = option.partition("=")
    known = _names()
    if name not in known:
        raise UnknownSetting(f"{option!r} names {name!r}, expected one of {', '.join(known)}")
    try:
        axis = [(name, float(value)) for value in values.split(",")]
        for one in axis:
            with_setting(DetectorConfig(), (one,))
    except ValueError as error:
        raise UnknownSetting(f"{option!r}: expected NAME=VALUE,VALUE with values it may have: {error}") from error
    return axis


def _names() -> list[str]:
    """What has a number to be set."""
    default = DetectorConfig()
    return [
        f"{section.name}.{field.name}"
        for section in fields(default)
        for field in fields(getattr(default, section.name))
        if isinstance(getattr(getattr(default, section.name), field.name), int | float)
    ]
