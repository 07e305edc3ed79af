"""Settings: what a person may set, and what is made of it. Secrets never appear in a repr or what `shown` returns."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeGuard

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.host.outgoing import ClientCredentials
from service.settings.detection_section import DetectionRule, DetectionSettings
from service.settings.fields import FilePath, Names, Topic, Whole, wrong_value
from service.settings.incident_section import IncidentSettings
from service.settings.input_section import InputSettings, TopicInput
from service.settings.kafka_section import KafkaSettings
from service.settings.models_section import TopicModel
from service.settings.rekey_section import RekeySettings
from service.settings.remote_write_section import RemoteWriteSettings
from service.settings.score_section import ScoreSettings
from service.settings.section import Section
from service.settings.sections import (
    HttpSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    NotificationSettings,
    ShadowSettings,
    StateSettings,
)

PREFIX = "TELLTALE_"


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

    checkpoint: FilePath | None = Field(
        default=None,
        description="file of the trained model to judge with; if not given, telltale.safetensors, or where `features` "
        "are given the net that comes with Telltale, which was trained on no plant",
    )
    features: Names = Field(
        default=(),
        description="channels that a net which was trained on no plant judges, in the order of a record's values; a "
        "trained model says itself which are its own; in the environment with commas",
    )
    models: dict[Topic, TopicModel] = Field(
        default={},
        description="topics that another model judges: a section for each, below; `checkpoint` and `features` are for "
        "all others; in the environment as JSON",
    )
    workers: Whole = Field(
        default=1,
        ge=1,
        le=256,
        description="worker processes, each a member of the group; more than one are supervised: what ends is started "
        "again; as many as there are processors for, and no more than partitions",
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    detection: DetectionSettings = Field(default_factory=DetectionSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    state: StateSettings = Field(default_factory=StateSettings)
    shadow: ShadowSettings = Field(default_factory=ShadowSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    scores: ScoreSettings = Field(default_factory=ScoreSettings)
    remote_write: RemoteWriteSettings = Field(default_factory=RemoteWriteSettings)
    incidents: IncidentSettings = Field(default_factory=IncidentSettings)
    rekey: RekeySettings = Field(default_factory=RekeySettings)
    notifications: NotificationSettings = Field(default_factory=NotificationSettings)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for topic in self.kafka.topics:
            if (mapping := self.input.topics.get(topic)) is not None and mapping.metric is not None:
                raise wrong_value(
                    f"none, as {topic} is read to be judged (kafka.topics): records of one metric each are joined by "
                    "`telltale rekey` first (rekey.topics), and what it writes is read",
                    f"input.topics.{topic}.metric",
                )
        return self

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

    @model_validator(mode="after")
    def _agree_on_scores(self) -> Self:
        kafka, incidents = self.kafka, self.incidents
        written = (kafka.anomalies_topic, kafka.dead_letters_topic, kafka.changelog_topic)
        others = (*kafka.topics, *written, incidents.topic, incidents.control_topic)
        if self.scores.topic in others:
            raise wrong_value("a topic that is neither read nor written otherwise", "scores.topic")
        return self

    def origin(self, path: str) -> str:
        """Where the value at "section.field" came from."""
        return self._origins.get(path, "default")


def secrets(settings: Settings) -> tuple[str, ...]:
    """Every secret among the settings, for the log to leave out."""
    kafka, notifications = settings.kafka, settings.notifications
    given = (kafka.sasl_password, kafka.sasl_oauth_client_secret, kafka.ssl_key_password, settings.http.token)
    headers = (
        notifications.alertmanager_authorization,
        notifications.webhook_authorization,
        settings.input.schema_registry_authorization,
        settings.remote_write.authorization,
    )
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
        "sasl_oauth_token_provider": _token_provider(kafka),
        "sasl_kerberos_service_name": kafka.sasl_kerberos_service_name,
        "sasl_kerberos_domain_name": kafka.sasl_kerberos_domain_name,
    }
    return {name: value for name, value in options.items() if value is not None}


def _token_provider(kafka: KafkaSettings) -> ClientCredentials | None:
    if kafka.sasl_oauth_token_url is None:
        return None
    client = kafka.sasl_oauth_client_id or "", _text(kafka.sasl_oauth_client_secret) or ""
    cafile = _text(kafka.sasl_oauth_cafile)
    extensions = kafka.sasl_oauth_extensions
    return ClientCredentials(kafka.sasl_oauth_token_url, client, kafka.sasl_oauth_scope, extensions, cafile)


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
    value, path = getattr(holder, name), path_of(section, name)
    origin = settings.origin(path)
    if origin == "default" and isinstance(value, SecretStr):
        origin = settings.origin(f"{path}_file")
    yield f"# {type(holder).model_fields[name].description} [{origin}]"
    if isinstance(value, SecretStr):
        yield f"# {name}: set, not shown"
    elif _has_sections(value):  # one for each of something that a person names
        yield f"{name}:"
        for key, inner in value.items():
            yield f"  {json.dumps(key, ensure_ascii=False)}:"
            for field, one in inner.model_dump(mode="json").items():
                yield f"    {field}: {json.dumps(one, ensure_ascii=False)}"
    else:
        yield f"{name}: {json.dumps(value, default=_plain, ensure_ascii=False)}"


def _has_sections(value: object) -> TypeGuard[dict[str, BaseModel]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(inner, BaseModel) for inner in value.values())


def _plain(value: object) -> object:
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else str(value)


def _text(value: Path | SecretStr | None) -> str | None:
    return value.get_secret_value() if isinstance(value, SecretStr) else None if value is None else str(value)


def path_of(section: str, name: str) -> str:
    """A setting's name behind its section's: "section.field". section: empty for one that is in none."""
    return f"{section}.{name}" if section else name


def _known_paths() -> Iterator[str]:
    for name in Settings.model_fields:
        if name in SECTIONS:
            yield from (path_of(name, inner) for inner in SECTIONS[name].model_fields)
        else:
            yield name


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
PATHS = tuple(_known_paths())
# Settings that are a section for each of something that a person names, or a list of sections, with their fields.
NESTED_FIELDS: dict[str, tuple[str, ...]] = {
    "input.topics": tuple(TopicInput.model_fields),
    "detection.rules": tuple(DetectionRule.model_fields),
    "models": tuple(TopicModel.model_fields),
}
