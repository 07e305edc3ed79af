"""The sections of the settings: every field with its default, its unit and its reason, and which fields must agree."""

from typing import Literal, Self

from pydantic import Field, model_validator

from service.settings.addresses import is_loopback
from service.settings.fields import (
    Authorization,
    FilePath,
    Level,
    Name,
    Names,
    Number,
    Token,
    Url,
    Urls,
    Whole,
    wrong_value,
)
from service.settings.secret_files import file_of, with_secrets_from_files
from service.settings.section import Section


class ShadowSettings(Section):
    checkpoint: FilePath | None = Field(
        default=None,
        description="file of a trained model that judges beside those that judge, to be compared with them: it "
        "publishes nothing and costs as much again; null: none",
    )


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
    token_file: FilePath | None = file_of("token")
    names: Names = Field(
        default=(),
        description="host names that requests may be for, in the environment with commas; beside this machine's own "
        "where only it can ask; where others can and none is given: any",
    )
    insecure: bool = Field(
        default=False,
        description="allow others to ask without a token; for a network where anyone may see everything",
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
        return with_secrets_from_files(given, ("token",))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.enabled and self.token is None and not self.insecure and not is_loopback(self.host):
            raise wrong_value(
                "127.0.0.1, or a token beside it, as others could ask here (insecure: true allows it without)", "host"
            )
        return self


class LogSettings(Section):
    level: Level = Field(
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
    max_readings: Whole = Field(
        default=2_048,
        ge=1,
        le=2_048,
        description="readings that one record may hold; a record with more is a dead letter, reason too_many_readings",
    )
    max_batch_bytes: Whole = Field(
        default=1_048_576,
        ge=1_024,
        le=1_048_576,
        description="bytes that a value in MessagePack or Arrow may have; JSON may have 65,536",
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
        "forgotten; it starts without a memory if it comes back",
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
        "was judged again, topic created again, changelog empty); reset: continue without it, and say so on the topic "
        "of anomalies",
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
    of: Literal["anomalies", "incidents"] = Field(
        default="anomalies",
        description="what receivers get: anomalies, from `telltale run`; or incidents, from `telltale "
        "incidents`, those that are notified",
    )
    alertmanager_urls: Urls = Field(
        default=(), description="Alertmanagers that alerts are pushed to, each of them: http://host:9093"
    )
    alertmanager_authorization: Authorization = None
    alertmanager_authorization_file: FilePath | None = file_of("alertmanager_authorization")
    webhook_urls: Urls = Field(
        default=(),
        description="where every message on the topic of anomalies, or every event of a notified incident, is posted "
        "to as the same CloudEvent",
    )
    webhook_authorization: Authorization = None
    webhook_authorization_file: FilePath | None = file_of("webhook_authorization")
    min_severity: Literal["minor", "major", "critical"] = Field(
        default="minor",
        description="minor, major or critical; an anomaly, or an incident, is notified once it is as severe as that",
    )
    page_url: Url | None = Field(
        default=None,
        description="where people open the page, such as http://plant-7:8080; an alert has a link there: to its "
        "anomaly, or to its incident's first cause, at that time",
    )
    pictures: bool = Field(
        default=False,
        description="whether alerts, and incidents to webhooks, link to a picture of the reading in its band, too, "
        "drawn by the service behind page_url; it needs Pillow there",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return with_secrets_from_files(given, ("alertmanager_authorization", "webhook_authorization"))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for kind in ("alertmanager", "webhook"):
            if getattr(self, f"{kind}_authorization") is not None and not getattr(self, f"{kind}_urls"):
                raise wrong_value(f"none without {kind}_urls", f"{kind}_authorization")
        if self.pictures and self.page_url is None:
            raise wrong_value("false without page_url, where they are drawn", "pictures")
        return self
