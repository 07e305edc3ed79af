"""Settings: what a person may set, and where each value came from.

Options of the command line go before TELLTALE_ environment variables, these before the YAML file, that before the
defaults. Unknown keys and variables are errors. Secrets never appear in an error, a repr or what `shown` returns.
"""

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.errors import RefusedSetting
from service.settings.addresses import is_loopback

PREFIX = "TELLTALE_"
CONFIG_VARIABLE = "TELLTALE_CONFIG"
TEST_PREFIX = "TELLTALE_TEST_"  # read by the tests, not by the service
MAX_CONFIG_BYTES = 65_536
MAX_SECRET_BYTES = 65_536
# What Kubernetes puts into every pod of a namespace that has a Service named telltale-something.
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
SECRET = ("password", "authorization", "token", "urls")  # in the name of a setting; in an address may be a login
# What people agree on: YAML 1.1 takes 010 for eight, 1:30 for ninety and 0x10 for sixteen.
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")
LEADING_ZERO = re.compile(r"\s*[-+]?0[0-9_a-zA-Z]")
WHOLE = re.compile(r"0|[1-9][0-9]*")
TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def _wrong(expected: str, field: str = "") -> PydanticCustomError:
    """An error that says what a value should be; field: which of a section's, where the section is checked."""
    return PydanticCustomError("setting", "{expected}", {"expected": expected, "field": field})


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise _wrong("a number")
    if isinstance(value, str) and LEADING_ZERO.match(value):
        raise _wrong("a number in decimal, without leading zeros")
    return value


def _without_control(text: str) -> bool:
    """No control characters, none that change the direction of writing, no half of a pair."""
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text)


def _printable(value: str) -> str:
    """Of a name: a NUL ends it in other programs, other control characters change what a log or a terminal shows."""
    if not _without_control(value) or value != value.strip(" "):
        raise _wrong("a name without control characters, and without blanks around it")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split(value: object) -> object:
    """Let a list be written with commas too, as in an environment variable."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _servers(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not _without_control(host) or not WHOLE.fullmatch(port) or not 0 < int(port) < 65_536:
            raise _wrong("host:port, or several with commas between")
    return value


def _topic(value: str) -> str:
    if not TOPIC_NAME.fullmatch(value) or value in (".", ".."):
        raise _wrong("a topic name: 1 to 249 letters, digits, dots, underscores and hyphens")
    return value


def _path_name(value: Path) -> Path:
    if not _without_control(str(value)):
        raise _wrong("a path without control characters")
    return value


def _readable_file(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        raise _wrong(f"a file that can be read ({error.strerror})") from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or parts.username is not None:
        raise _wrong("http:// or https:// with a host and no login in it")
    return value


def _authorization(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch(r"Bearer [!-~]+|Basic [ -~]+", value.get_secret_value()):
        raise _wrong('"Bearer TOKEN" or "Basic USER:PASSWORD"')
    return value


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
        raise _wrong("at least 16 letters, digits and signs, without blanks")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
Topic = Annotated[str, AfterValidator(_topic)]
FilePath = Annotated[Path, AfterValidator(_path_name)]
File = Annotated[FilePath, AfterValidator(_readable_file)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Urls = Annotated[tuple[Annotated[str, AfterValidator(_url)], ...], NoDecode, BeforeValidator(_split)]
Authorization = Annotated[SecretStr | None, AfterValidator(_authorization)]


class Section(BaseModel):
    """Settings that belong together; a key that is not a field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(Section):
    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        default="localhost:9092", description="brokers to ask for the others: host:port, with commas between"
    )
    topics: Annotated[tuple[Topic, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)] = Field(
        default=("telltale.readings",), description="topics the readings come from; in the environment with commas"
    )
    group: Name = Field(default="telltale", description="consumer group: workers of one group share the partitions")
    anomalies_topic: Topic = Field(default="telltale.anomalies", description="topic the anomalies go to")
    dead_letters_topic: Topic = Field(
        default="telltale.dead-letters", description="topic the records go to that cannot be read"
    )
    changelog_topic: Topic = Field(
        default="telltale.changelog",
        description="compacted topic that the streams' memory is kept in; several groups may share it",
    )
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="where a group without offsets starts; earliest, so that streams are warm when they are up to date",
    )
    instance: Name | None = Field(
        default=None,
        description="this worker's own name in the group, the same after a restart, so that it gets its partitions "
        "back without a rebalance; null: it is a new member each time",
    )
    session_timeout_ms: Whole = Field(
        default=10_000,
        ge=1_000,
        le=1_800_000,
        description="ms without a heartbeat after which a worker's partitions go to the others; "
        "short, so that a crash costs seconds",
    )
    transaction_timeout_ms: Whole = Field(
        default=10_000,
        ge=1_000,
        le=900_000,
        description="ms after which the broker ends an open transaction; at most session_timeout_ms, or a dead "
        "worker's partitions wait for it",
    )
    max_poll_records: Whole = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="most records judged and committed in one go; more is faster and adds latency",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; for SASL_* only"
    )
    sasl_username: Name | None = Field(default=None, description="who logs in")
    sasl_password: Secret | None = Field(default=None, description="secret; better in a file")
    sasl_password_file: FilePath | None = Field(default=None, description="file that holds sasl_password")
    ssl_cafile: File | None = Field(
        default=None, description="PEM file of the authority that signed the brokers' certificates; null: the system's"
    )
    ssl_certfile: File | None = Field(default=None, description="PEM file of this client's certificate (mTLS)")
    ssl_keyfile: File | None = Field(default=None, description="PEM file of the certificate's private key")
    ssl_key_password: Secret | None = Field(default=None, description="secret; what ssl_keyfile is encrypted with")
    ssl_key_password_file: FilePath | None = Field(default=None, description="file that holds ssl_key_password")
    ssl_check_hostname: bool = Field(
        default=True, description="whether a broker's certificate must name the host that was asked for"
    )
    insecure: bool = Field(
        default=False, description="allow a password to be sent in clear (PLAIN without TLS); for a test cluster only"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return _with_secrets_from_files(given, ("sasl_password", "ssl_key_password"))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        outputs = (self.anomalies_topic, self.dead_letters_topic, self.changelog_topic)
        if looped := set(outputs) & set(self.topics):
            raise _wrong(f"no topic that Telltale writes to itself ({looped.pop()})", "topics")
        if outputs[0] == outputs[1]:
            raise _wrong("another topic than anomalies_topic", "dead_letters_topic")
        if outputs[2] in outputs[:2]:
            raise _wrong("another topic than those of anomalies and dead letters", "changelog_topic")
        if self.transaction_timeout_ms > self.session_timeout_ms:
            raise _wrong(f"at most session_timeout_ms ({self.session_timeout_ms})", "transaction_timeout_ms")
        self._agree_on_login()
        self._agree_on_tls()
        return self

    def _agree_on_login(self) -> None:
        login = {name: getattr(self, name) for name in ("sasl_mechanism", "sasl_username", "sasl_password")}
        for name, value in login.items():
            if self.security_protocol.startswith("SASL_") and value is None:
                raise _wrong(f"a value, as security_protocol is {self.security_protocol}", name)
            if not self.security_protocol.startswith("SASL_") and value is not None:
                raise _wrong(f"none, or SASL_SSL as security_protocol, which is {self.security_protocol}", name)
        if self.sasl_mechanism == "PLAIN" and self.security_protocol == "SASL_PLAINTEXT" and not self.insecure:
            raise _wrong(
                "SASL_SSL or a SCRAM mechanism, as PLAIN sends the password in clear (insecure: true allows it)",
                "security_protocol",
            )

    def _agree_on_tls(self) -> None:
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password"):
            if getattr(self, name) is not None and not self.security_protocol.endswith("SSL"):
                raise _wrong(f"none, or TLS as security_protocol, which is {self.security_protocol}", name)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise _wrong("a value, as ssl_keyfile has one", "ssl_certfile")
        if self.ssl_key_password is not None and self.ssl_certfile is None:
            raise _wrong("none without ssl_certfile", "ssl_key_password")


class HttpSettings(Section):
    enabled: bool = Field(default=True, description="whether the page, the API, health and metrics are served at all")
    host: Name = Field(
        default="127.0.0.1",
        description="address to listen on; any that others can reach needs a token, so by default this machine alone",
    )
    port: Whole = Field(default=8080, ge=0, le=65_535, description="TCP port to listen on; 0: any that is free")
    token: Token | None = Field(
        default=None,
        description="secret; who asks for anything but health must bring it (Authorization: Bearer TOKEN; the page "
        "asks for it); at least 16 characters, better in a file",
    )
    token_file: FilePath | None = Field(default=None, description="file that holds token")
    names: Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="host names that requests may be for, in the environment with commas; beside this machine's own "
        "where only it can ask; where others can and none is given: any",
    )
    insecure: bool = Field(
        default=False,
        description="allow others to ask without a token; for a network where everybody may see everything",
    )
    metrics_port: Whole | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="TCP port that serves /metrics and nothing else, without a token; null: they are on port, with all "
        "the rest",
    )
    metrics_host: Name = Field(default="127.0.0.1", description="address to listen on for metrics_port")
    processor_share: Number = Field(
        default=0.05,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="share of one processor that answering may take, 1.0 is all of it; requests beyond it wait, but "
        "for health and metrics; judging has as much less where there is no other processor",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return _with_secrets_from_files(given, ("token",))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.enabled and self.token is None and not self.insecure and not is_loopback(self.host):
            raise _wrong(
                "127.0.0.1, or a token beside it, as others could ask here (insecure: true allows it without)", "host"
            )
        return self


class LogSettings(Section):
    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR; the Kafka client's own lines start at WARNING"
    )
    format: Literal["json", "text", "auto"] = Field(
        default="auto", description="json: an object a line; text: for people; auto: text on a terminal"
    )


class LimitSettings(Section):
    max_future_s: Number = Field(
        default=86_400.0,
        gt=0,
        le=31_536_000,
        allow_inf_nan=False,
        description="s that a reading may be ahead of its record's own timestamp; further ahead it is rejected, as it "
        "would make every reading after it a late one",
    )
    max_past_s: Number = Field(
        default=946_080_000.0,
        gt=0,
        le=10_000_000_000,
        allow_inf_nan=False,
        description="s that a reading may be behind its record's own timestamp (the default: 30 years); further behind "
        "it is rejected: seconds that are read as milliseconds are of January 1970",
    )
    max_streams: Whole = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="streams remembered of one partition, some 1 KB each; the readings of any further one become "
        "dead letters, reason stream_limit",
    )
    stream_ttl_s: Number = Field(
        default=2_592_000.0,
        gt=0,
        allow_inf_nan=False,
        description="s of event time, as it passes in its partition, after which a stream without a reading is "
        "forgotten; it starts anew if it comes back",
    )


class StateSettings(Section):
    flush_interval_s: Number = Field(
        default=10.0,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="s after which a changed page of state is in the changelog; what came since is judged again after "
        "a crash",
    )
    when_lost: Literal["fail", "reset"] = Field(
        default="fail",
        description="fail: end, with exit code 1, when a partition's state cannot be restored (input deleted before it "
        "was judged again, topic made anew, changelog empty); reset: go on without it, and say so on the topic of "
        "anomalies",
    )
    prime_readings: Whole = Field(
        default=512,
        ge=0,
        le=100_000,
        description="latest readings of each stream with which a new checkpoint is warmed up, silently",
    )


class MetricsSettings(Section):
    top_streams: Whole = Field(
        default=0,
        ge=0,
        le=100,
        description="streams with an open anomaly, those with the highest peaks, that metrics name; 0: none, as every "
        "name is a series of its own in Prometheus",
    )


class NotificationSettings(Section):
    alertmanager_urls: Urls = Field(
        default=(), description="Alertmanagers that anomalies are pushed to as alerts, each of them: http://host:9093"
    )
    alertmanager_authorization: Authorization = Field(
        default=None, description='secret; "Bearer TOKEN" or "Basic USER:PASSWORD"; better in a file'
    )
    alertmanager_authorization_file: FilePath | None = Field(
        default=None, description="file that holds alertmanager_authorization"
    )
    webhook_urls: Urls = Field(
        default=(), description="where every message on the topic of anomalies is posted to, as the same CloudEvent"
    )
    webhook_authorization: Authorization = Field(
        default=None, description='secret; "Bearer TOKEN" or "Basic USER:PASSWORD"; better in a file'
    )
    webhook_authorization_file: FilePath | None = Field(
        default=None, description="file that holds webhook_authorization"
    )
    min_severity: Literal["minor", "major", "critical"] = Field(
        default="minor", description="minor, major or critical; an anomaly is told of once it is as severe as that"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return _with_secrets_from_files(given, ("alertmanager_authorization", "webhook_authorization"))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for kind in ("alertmanager", "webhook"):
            if getattr(self, f"{kind}_authorization") is not None and not getattr(self, f"{kind}_urls"):
                raise _wrong(f"none without {kind}_urls", f"{kind}_authorization")
        return self


class Settings(BaseSettings):
    """Everything that can be set. Made by `load`; cli.py hands its values on as plain arguments."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,  # docker compose passes a variable that is unset on as an empty one
    )

    checkpoint: FilePath = Field(
        default=Path("telltale.safetensors"), description="file of the trained model to judge with"
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    state: StateSettings = Field(default_factory=StateSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    notifications: NotificationSettings = Field(default_factory=NotificationSettings)

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands in: it reads the environment itself, to know where each value came from."""
        return (init_settings,)

    def origin(self, path: str) -> str:
        """Where the value at "section.field" came from."""
        return self._origins.get(path, "default")


class Given(NamedTuple):
    """A value somebody set, and where."""

    value: object
    origin: str


def load(config_file: Path | None, overrides: Mapping[str, object]) -> Settings:
    """Read the settings. Raises RefusedSetting with a line for everything that is wrong.

    config_file: YAML; None: the one that TELLTALE_CONFIG names, if it does. overrides: options of the command line by
    "section.field"; None means that the option was not given.
    """
    if config_file is None and os.environ.get(CONFIG_VARIABLE):
        config_file = Path(os.environ[CONFIG_VARIABLE])
    options = {path: Given(value, "command line") for path, value in overrides.items() if value is not None}
    given = (_from_file(config_file) if config_file else {}) | _from_environment() | options
    try:
        settings = Settings(**_nested(given))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    else:
        settings._origins.update({path: value.origin for path, value in given.items()})  # noqa: SLF001
        return settings
    raise RefusedSetting("\n".join(_line(detail, given) for detail in details))


def secrets(settings: Settings) -> tuple[str, ...]:
    """Every secret among the settings, for the log to leave out."""
    kafka, notifications = settings.kafka, settings.notifications
    given = (kafka.sasl_password, kafka.ssl_key_password, settings.http.token)
    headers = (notifications.alertmanager_authorization, notifications.webhook_authorization)
    found, logins = ([one.get_secret_value() for one in some if one is not None] for some in (given, headers))
    # Of what travels as a header, also the part that is the secret: without "Bearer", and the password alone.
    parts = [part for login in logins for part in (login.partition(" ")[2], login.rpartition(":")[2])]
    return tuple(filter(None, (*found, *logins, *parts)))


def client_options(settings: Settings) -> dict[str, object]:
    """How to log in to Kafka, as kafka-python's keyword arguments. Holds passwords: never log it."""
    kafka = settings.kafka
    options = {
        "security_protocol": kafka.security_protocol,
        "ssl_check_hostname": kafka.ssl_check_hostname,
        "ssl_cafile": _text(kafka.ssl_cafile),
        "ssl_certfile": _text(kafka.ssl_certfile),
        "ssl_keyfile": _text(kafka.ssl_keyfile),
        "ssl_password": _text(kafka.ssl_key_password),
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": _text(kafka.sasl_password),
    }
    return {name: value for name, value in options.items() if value is not None}


def authorization(settings: Settings, kind: str) -> str | None:
    """How to log in with the notifications' receivers, alertmanager or webhook. A secret: never log it."""
    return _text(getattr(settings.notifications, f"{kind}_authorization"))


def shown(settings: Settings) -> str:
    """The settings in effect as a YAML file that can be loaded again, without its secrets."""
    lines = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, Section):
            lines += ["", f"{name}:"]
            lines += ["  " + line for field in type(value).model_fields for line in _shown_field(settings, name, field)]
        else:
            lines += _shown_field(settings, "", name)
    return "\n".join(lines) + "\n"


def _shown_field(settings: Settings, section: str, name: str) -> Iterator[str]:
    holder = getattr(settings, section) if section else settings
    value, path = getattr(holder, name), _path(section, name)
    origin = settings.origin(path)
    if origin == "default" and isinstance(value, SecretStr):
        origin = settings.origin(f"{path}_file")
    yield f"# {type(holder).model_fields[name].description} [{origin}]"
    if isinstance(value, SecretStr):
        yield f"# {name}: set, not shown"
    else:
        yield f"{name}: {json.dumps(value, default=str, ensure_ascii=False)}"


def _text(value: Path | SecretStr | None) -> str | None:
    return value.get_secret_value() if isinstance(value, SecretStr) else None if value is None else str(value)


def _path(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _known_paths() -> Iterator[str]:
    for name in Settings.model_fields:
        if name in SECTIONS:
            yield from (_path(name, inner) for inner in SECTIONS[name].model_fields)
        else:
            yield name


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
PATHS = tuple(_known_paths())
VARIABLES = {PREFIX + path.replace(".", "__").upper(): path for path in PATHS}


def _nested(given: Mapping[str, Given]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, (value, _) in given.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


# --- the environment


def _from_environment() -> dict[str, Given]:
    """Every setting among the environment's variables; a variable that looks like one and is none is an error."""
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and not _is_known(name)]
    if unknown:
        raise RefusedSetting("\n".join(f"environment variable {n}: unknown{_nearest(n, VARIABLES)}" for n in unknown))
    values = _nested_paths(EnvSettingsSource(Settings)())
    return {path: Given(values[path], f"environment variable {n}") for n, path in VARIABLES.items() if path in values}


def _is_known(name: str) -> bool:
    if name.upper() in VARIABLES or name == CONFIG_VARIABLE or name.startswith(TEST_PREFIX):
        return True
    return bool(SERVICE_LINK.search(name) or SERVICE_ADDRESS.match(os.environ[name]))


def _nested_paths(values: Mapping[str, Any]) -> dict[str, object]:
    sections = {_path(s, name): v for s in SECTIONS for name, v in values.get(s, {}).items()}
    return {**sections, **{name: value for name, value in values.items() if name not in SECTIONS}}


def _nearest(name: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {nearest[0]}?" if nearest else ""


# --- the file


YAML_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


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


def _from_file(file: Path) -> dict[str, Given]:
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


def _settings_of(loader: _Loader, node: yaml.MappingNode, section: str, file: Path) -> Iterator[tuple[str, Given]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _RefusedYaml("a key that is no name", key_node.start_mark)
        path = _path(section, key_node.value)
        if path in seen:
            raise _RefusedYaml(f"{path} again, it is set in line {seen[path]} already", key_node.start_mark)
        seen[path] = line
        if path in SECTIONS and isinstance(value_node, yaml.MappingNode):
            yield from _settings_of(loader, value_node, path, file)
        elif path not in SECTIONS:
            yield path, Given(_value(loader, value_node), f"{file}, line {line}")
        elif value_node.tag != "tag:yaml.org,2002:null":  # a section with nothing in it is one that is not there
            raise _RefusedYaml(f"a single value as {path}, expected a section with keys below it", key_node.start_mark)


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
    elif node.tag in YAML_NUMBERS and not DECIMAL.fullmatch(node.value) and not node.value.lstrip("+-").startswith("."):
        raise _RefusedYaml(
            "a number that YAML reads in another base than ten (a leading 0, 0x, 0b, a colon or an underscore); "
            "write it in decimal, or in quotes if it is a name",
            node.start_mark,
        )


def _with_secrets_from_files(given: object, names: Sequence[str]) -> object:
    """A section as it was given, and in it what the files hold that its fields NAME_file name."""
    if not isinstance(given, dict):
        return given
    read = {}
    for name in names:
        file = given.get(f"{name}_file")
        if file is None:
            continue
        if given.get(name) is not None:
            raise _wrong(f"{name} or {name}_file, not both", name)
        read[name] = SecretStr(_read_secret(file, f"{name}_file"))
    return {**given, **read}


def _read_secret(file: object, field: str) -> str:
    """What the file holds, less the newline that an editor adds."""
    try:
        with Path(str(file)).open("rb") as opened:
            secret = opened.read(MAX_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _wrong(f"a file that can be read ({reason})", field) from None
    if not secret:
        raise _wrong("a file that holds a secret, this one is empty", field)
    return secret


# --- errors


def _line(detail: ErrorDetails, given: Mapping[str, Given]) -> str:
    """One error: where, what was found, what it should be, who set it."""
    field = detail.get("ctx", {}).get("field", "")
    path = ".".join(str(part) for part in (*detail["loc"], *([field] if field else [])))
    key = next((key for key in (path, path.rpartition(".")[0]) if key in given), None)
    origin = f" ({given[key].origin})" if key else ""
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown{_nearest(path, (*PATHS, *SECTIONS))}{origin}"
    found = f"found {_quoted(key, given[key].value)}, " if key else ""
    return f"{path}: {found}expected {_expected(detail)}{origin}"


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
