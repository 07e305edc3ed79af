"""Where settings are set: environment variables and the YAML file, each value with its place."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from pydantic_settings import EnvSettingsSource

from service.errors import RefusedSetting
from service.settings.settings import NESTED_FIELDS, PATHS, PREFIX, SECTIONS, Settings, path_of

CONFIG_VARIABLE = "TELLTALE_CONFIG"
TEST_PREFIX = "TELLTALE_TEST_"  # read by the tests, not by the service
VARIABLES = {PREFIX + path.replace(".", "__").upper(): path for path in PATHS}
MAX_CONFIG_BYTES = 65_536
# What Kubernetes puts into every pod of a namespace that has a Service named telltale-something.
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
# What people agree on: YAML 1.1 takes 010 for eight, 1:30 for ninety and 0x10 for sixteen.
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")
YAML_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class GivenValue(NamedTuple):
    """A value that was set, and where."""

    value: object
    origin: str
    within: Mapping[str, str] = MappingProxyType({})  # by path: where what is nested in the value was set

    def place(self, path: str) -> str:
        """Where what is at a path in the value was set, or what it is in."""
        while path and path not in self.within:
            path = path.rpartition(".")[0]
        return self.within.get(path, self.origin)


# --- the environment


def read_environment() -> dict[str, GivenValue]:
    """Every setting among the environment's variables; a variable that looks like one and is none is an error."""
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and not _is_known(name)]
    if unknown:
        raise RefusedSetting("\n".join(f"environment variable {n}: unknown{suggestion(n, VARIABLES)}" for n in unknown))
    values = _nested_paths(EnvSettingsSource(Settings)())
    return {
        path: GivenValue(values[path], f"environment variable {n}") for n, path in VARIABLES.items() if path in values
    }


def _is_known(name: str) -> bool:
    if name.upper() in VARIABLES or name == CONFIG_VARIABLE or name.startswith(TEST_PREFIX):
        return True
    return bool(SERVICE_LINK.search(name) or SERVICE_ADDRESS.match(os.environ[name]))


def _nested_paths(values: Mapping[str, Any]) -> dict[str, object]:
    sections = {path_of(s, name): v for s in SECTIONS for name, v in values.get(s, {}).items()}
    return {**sections, **{name: value for name, value in values.items() if name not in SECTIONS}}


def suggestion(name: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    """To go behind an error about an unknown name; empty when nothing known is like it."""
    nearest = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {nearest[0]}?" if nearest else ""


# --- the file


class _Loader(yaml.SafeLoader):
    """Refuses aliases: a few of them make a file of gigabytes, and a setting is written where it is meant."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _RefusedYaml("an alias, write the value itself", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _RefusedYaml(Exception):
    def __init__(self, found: str, mark: Any) -> None:
        super().__init__(found)
        self.line = mark.line + 1


def read_file(file: Path) -> dict[str, GivenValue]:
    """The settings that a YAML file holds. Its errors never quote the file: a secret may be in the line."""
    text = _read_config(file)
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise _RefusedYaml("no section, a settings file starts with one such as 'kafka:'", root.start_mark)
        return dict(_settings_of(loader, root, "", file))
    except _RefusedYaml as refused:
        message = f"{file}, line {refused.line}: found {refused}"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        problem = re.sub("'.*'", "…", error.problem or "", flags=re.DOTALL)
        message = f"{file}{where}: not YAML ({problem})"
    except (yaml.YAMLError, RecursionError) as error:
        message = f"{file}: not YAML ({'nested too deeply' if isinstance(error, RecursionError) else 'bad character'})"
    finally:
        if loader is not None:
            loader.dispose()
    raise RefusedSetting(message)


def _read_config(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise RefusedSetting(f"{file}: more than {MAX_CONFIG_BYTES} bytes, no settings file")
        return data.decode()
    except OSError as error:
        raise RefusedSetting(f"{file}: the settings file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RefusedSetting(f"{file}: not UTF-8 at byte {error.start}") from None


def _settings_of(loader: _Loader, node: yaml.MappingNode, section: str, file: Path) -> Iterator[tuple[str, GivenValue]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _RefusedYaml("a key that is no name", key_node.start_mark)
        path = path_of(section, key_node.value)
        if path in seen:
            raise _RefusedYaml(f"{path} again, it is set in line {seen[path]} already", key_node.start_mark)
        seen[path] = line
        if path in SECTIONS and isinstance(value_node, yaml.MappingNode):
            yield from _settings_of(loader, value_node, path, file)
        elif path not in SECTIONS:
            lines = _nested_lines(value_node, path) if path in NESTED_FIELDS else ()
            within = {inner: f"{file}, line {n}" for inner, n in lines}
            yield path, GivenValue(_value(loader, value_node), f"{file}, line {line}", within)
        elif value_node.tag != "tag:yaml.org,2002:null":  # a section with nothing in it is one that is not there
            raise _RefusedYaml(f"a single value as {path}, expected a section with keys below it", key_node.start_mark)


def _nested_lines(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    """Path and line of each key in a value that is a mapping, or a list of them."""
    for n, item in enumerate(node.value if isinstance(node, yaml.SequenceNode) else ()):
        yield f"{path}.{n}", item.start_mark.line + 1
        yield from _nested_lines(item, f"{path}.{n}")
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        inner, line = path_of(path, str(key_node.value)), key_node.start_mark.line + 1
        if inner in seen:
            raise _RefusedYaml(f"{inner} again, it is set in line {seen[inner]} already", key_node.start_mark)
        seen[inner] = line
        yield inner, line
        yield from _nested_lines(value_node, inner)


def _value(loader: _Loader, node: yaml.Node) -> object:
    _require_decimal(node)
    try:
        value: object = loader.construct_object(node, deep=True)
    except (ValueError, yaml.constructor.ConstructorError):
        raise _RefusedYaml("a value that YAML cannot read, put it in quotes", node.start_mark) from None
    return value


def _require_decimal(node: yaml.Node) -> None:
    """Refuse a number that YAML does not read as a person does, in a list too."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _require_decimal(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            _require_decimal(item)
    elif node.tag in YAML_NUMBERS and not DECIMAL.fullmatch(node.value) and not node.value.lstrip("+-").startswith("."):
        raise _RefusedYaml(
            "a number that YAML reads in another base than ten (a leading 0, 0x, 0b, a colon or an underscore); "
            "write it in decimal, or in quotes if it is a name",
            node.start_mark,
        )
