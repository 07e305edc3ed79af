"""The section of the settings that says how records are read: `input`, and in it a mapping for each topic."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from models.data.number_clocks import CLOCKS
from models.data.time_units import flaw_of_clock
from service.input.documents import FORMATS, KEYS
from service.input.formats import TopicMapping
from service.input.numbers import DECIMALS
from service.input.paths import path
from service.input.presets import PRESETS
from service.input.registry import HttpRegistry, Registry, RegistryAccess
from service.settings.fields import Authorization, File, FilePath, Topic, Url, Zone, one_of, wrong_value
from service.settings.secret_files import file_of, with_secrets_from_files
from service.settings.section import Section

REGISTRY_FORMATS = ("avro", "protobuf")  # whose values and keys name a schema
SOME_DAY = datetime(2024, 12, 31, tzinfo=UTC)  # the last of a leap year: the 366th, in a week of the next year
MOST_LABELS = 8  # of a topic: they are in each event, and in the state
SCHEMA_FORMATS = ("avro", "protobuf")  # that take a schema from a file


def _path(value: str) -> str:
    try:
        path(value)
    except ValueError as error:
        raise wrong_value(str(error)) from None
    return value


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _none_or_listed(value: object) -> Sequence[object]:
    return () if value is None else _listed(value)


def _path_or_paths(value: object) -> object:
    """Of all features, or by feature."""
    found = list(value.values()) if isinstance(value, dict) else [value]
    for one in found:
        if not isinstance(one, str):
            raise wrong_value("a path, or a mapping with a path for each feature")
        _path(one)
    return value


def _label_name(value: str) -> str:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,63}", value):
        raise wrong_value("up to 64 letters of ASCII, digits and _, no digit first, as names of labels")
    return value


def _plain(value: object) -> object:
    """Numbers and texts; one alone needs no list."""
    found = _listed(value)
    if any(isinstance(one, bool) or not isinstance(one, int | float | str) for one in found):
        raise wrong_value("numbers or texts; on, off, yes and no need quotes")
    return found


def _flags(value: object) -> object:
    """Numbers, texts and booleans; one alone needs no list."""
    found = _listed(value)
    if any(not isinstance(one, bool | int | float | str) for one in found):
        raise wrong_value("numbers, texts, true or false")
    return found


def _flaw_of_time_format(form: str, zone_name: str | None) -> str | None:
    """What is expected of one that strptime does not have, or by which a part of a time would be lost."""
    if flaw := flaw_of_clock(form, zone_name):
        return flaw
    try:
        found = datetime.strptime(SOME_DAY.strftime(form), form)  # noqa: DTZ007
    except ValueError:
        return "a format that strptime has, such as %d.%m.%Y %H:%M:%S"
    return None if found.date() == SOME_DAY.date() else "a format with year, month and day"


def _numbers(value: object) -> object:
    """Numbers by text or boolean."""
    if not isinstance(value, dict) or any(not isinstance(one, str | bool) for one in value):
        raise wrong_value("a mapping of words to numbers, such as {on: 1, off: 0}")
    if any(
        isinstance(one, str) and any(pattern.fullmatch(one.strip()) for pattern in DECIMALS.values()) for one in value
    ):
        raise wrong_value("words that are no numbers themselves, such as {on: 1, off: 0}")
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not isfinite(one) for one in value.values()):
        raise wrong_value("numbers for words, such as {on: 1, off: 0}")
    return value


LabelName = Annotated[str, AfterValidator(_label_name)]
PathText = Annotated[str, AfterValidator(_path)]
Paths = Annotated[tuple[PathText, ...], BeforeValidator(_listed), Field(min_length=1)]
PathOrPaths = Annotated[str | dict[str, str], BeforeValidator(_path_or_paths)]
Plain = Annotated[tuple[float | str, ...], BeforeValidator(_plain)]
Words = Annotated[dict[bool | str, float], BeforeValidator(_numbers)]
Flags = Annotated[tuple[bool | float | str, ...], BeforeValidator(_flags)]


class TopicInput(Section):
    """How the records of one topic are read. A path is JMESPath, or `$key`, `$header.NAME`, `$topic` or `$time`."""

    preset: Annotated[str | None, AfterValidator(one_of(*PRESETS))] = Field(
        default=None, description="settings for records as this producer writes them; those beside it go before it"
    )
    format: Annotated[str, AfterValidator(one_of(*FORMATS))] = Field(
        default="json",
        description="what the values are; json: an object, an array of them, or one a line; json-schema: the "
        "same behind the id of a schema registry's schema; avro: behind the id of its schema, or by schema_file; "
        "protobuf: a message of schema_file, an id before it or not, or by the id alone; influx: lines of its "
        "protocol, each an object with measurement, tags, fields and time; senml: a pack, each record with its base "
        "added; otlp: metrics of OpenTelemetry, Protobuf or JSON, each point an object; sparkplug: payloads of "
        "Sparkplug B, each metric an object",
    )
    schema_file: File | None = Field(
        default=None,
        description="avro: file of the schema of all values; null: each begins with the id of its schema in the "
        "registry; protobuf: file that protoc --include_imports --descriptor_set_out writes; null: as avro",
    )
    message: str | None = Field(
        default=None, min_length=1, description="protobuf: full name of the values' message in schema_file"
    )
    key_format: Annotated[str, AfterValidator(one_of(*KEYS))] = Field(
        default="text",
        description="what the keys are, where the stream's name is in them; sparkplug: topics of MQTT, each an object "
        "with source (GROUP/NODE/DEVICE), type and measures",
    )
    readings: PathText | None = Field(
        default=None,
        description="path to the array of readings in a value; a value without it is one itself, or an array of them",
    )
    select: Annotated[tuple[PathText, ...], BeforeValidator(_none_or_listed)] = Field(
        default=(),
        description="expression that is true of the readings that are meant, or several that all are; the others are "
        "skipped and counted",
    )
    stream: Paths = Field(
        default=("$key",), description="path of the stream's name, or several, whose texts are joined by /"
    )
    time: PathText = Field(default="timestamp", description="path of the time; $time: the record's own")
    time_unit: Literal["ms", "s", "us", "ns"] = Field(default="ms", description="of times that are numbers")
    time_format: str | None = Field(
        default=None,
        min_length=1,
        description="of times that are text, as Python's strptime has it, or dates in digits such as 20260105; or the "
        f"clock of another program that numbers are by: {', '.join(CLOCKS)}; null: ISO 8601, or digits of time_unit",
    )
    time_zone: Zone | None = Field(
        default=None, description="of times that are text without an offset; null: they are refused"
    )
    values: PathOrPaths = Field(
        default="values",
        description="path of an object with the features' names, an array in their order, or one number (@: the "
        "reading itself); or a path for each feature",
    )
    metric: PathText | None = Field(
        default=None,
        description="path of the name of the one feature that a reading has a value of; metrics that are no features "
        "are skipped, and `telltale rekey` joins the others by time (rekey.join_window_s); null: values says all",
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="decimal sign of numbers that are text; null: they are refused"
    )
    missing: Plain = Field(default=(), description="numbers and texts that stand for a missing value, such as -9999")
    words: Words = Field(
        default={},
        description="numbers that texts, in any case, and booleans stand for, such as {on: 1, off: 0}, which is of "
        "true and false, yes and no too",
    )
    quality: PathOrPaths | None = Field(
        default=None,
        description="path of a quality flag, or one for each feature; a value whose flag is there and is none of "
        "`good` is missing",
    )
    good: Flags = Field(
        default=(), description="the flags of good values: numbers, true or false, and texts in any case"
    )
    labels: Annotated[dict[LabelName, PathText], Field(max_length=MOST_LABELS)] = Field(
        default={},
        description="paths of what events say of the stream beside its name, by label: {site: $header.site, line: "
        "tags.line}; texts, whole numbers, true and false; what is none, or longer than 100 characters, is left out; "
        "`incidents.labels` groups by them",
    )
    tombstones: Literal["refuse", "ignore", "end"] = Field(
        default="refuse",
        description="records without a value: refuse makes dead letters of them, ignore skips them, end tells that "
        "their stream is silent from then on",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        """What the preset says, where nothing else is said."""
        if not isinstance(given, dict) or given.get("preset") not in PRESETS:
            return given
        return {**PRESETS[given["preset"]], **given}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        clock = self.time_format in CLOCKS
        if (
            self.time_format is not None
            and not clock
            and (flaw := _flaw_of_time_format(self.time_format, self.time_zone))
        ):
            raise wrong_value(flaw, "time_format")
        if self.schema_file is not None and self.format not in SCHEMA_FORMATS:
            raise wrong_value(f"none, as format is {self.format}", "schema_file")
        for name, other in (("schema_file", "message"), ("message", "schema_file")):
            if self.format == "protobuf" and getattr(self, name) is None and getattr(self, other) is not None:
                raise wrong_value(f"a value, as {other} has one", name)
        if self.message is not None and self.format != "protobuf":
            raise wrong_value(f"none, as format is {self.format}", "message")
        if self.metric is not None and not isinstance(self.values, str):
            raise wrong_value("one path, as metric says which feature the value is of", "values")
        if self.quality is not None and not self.good:
            raise wrong_value("the flags of good values, as quality has a path", "good")
        if self.quality is None and self.good:
            raise wrong_value("a path, as good has values", "quality")
        return self


class InputSettings(Section):
    format: Literal["auto", "json", "msgpack", "arrow"] = Field(
        default="auto",
        description="what the values of the input topics are: json, msgpack (MessagePack) or arrow (a stream of Arrow "
        "IPC); auto: each as its first byte says",
    )
    topics: dict[Topic, TopicInput] = Field(
        default={},
        description="how the records of topics are read that are of another form: a section for each, below",
    )
    schema_registry_url: Url | None = Field(
        default=None, description="where the schemas are that values and keys name by an id: http://host:8081"
    )
    schema_registry_authorization: Authorization = None
    schema_registry_authorization_file: FilePath | None = file_of("schema_registry_authorization")
    schema_registry_cafile: File | None = Field(
        default=None, description="PEM file of the authority that signed the registry's certificate; null: the system's"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return with_secrets_from_files(given, ("schema_registry_authorization",))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.schema_registry_url is not None:
            return self
        for name in ("schema_registry_authorization", "schema_registry_cafile"):
            if getattr(self, name) is not None:
                raise wrong_value("none without schema_registry_url", name)
        for topic, given in self.topics.items():
            if (given.format in REGISTRY_FORMATS and given.schema_file is None) or given.key_format in REGISTRY_FORMATS:
                raise wrong_value(f"a registry, as topics.{topic} names schemas by ids", "schema_registry_url")
        return self


def registry_of(given: InputSettings) -> Registry | None:
    """Holds a secret: never log it."""
    if given.schema_registry_url is None:
        return None
    login, cafile = given.schema_registry_authorization, given.schema_registry_cafile
    return HttpRegistry(
        RegistryAccess(
            given.schema_registry_url,
            None if login is None else login.get_secret_value(),
            None if cafile is None else str(cafile),
        )
    )


def topic_mapping(topic: str, given: TopicInput, registry: Registry | None = None) -> TopicMapping:
    """The same as what reads records takes it."""
    fields = {name: getattr(given, name) for name in TopicMapping._fields if name not in ("setting", "registry")}
    file = given.schema_file
    fields["schema_file"] = None if file is None else str(file)
    return TopicMapping(f"input.topics.{topic}", **fields, registry=registry)
