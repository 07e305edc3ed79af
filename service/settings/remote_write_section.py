"""The section of `telltale remote-write`: to whom it sends scores."""

from typing import Self

from pydantic import Field, model_validator

from service.settings.fields import Authorization, FilePath, Name, Url, Whole, wrong_value
from service.settings.secret_files import file_of, with_secrets_from_files
from service.settings.section import Section


class RemoteWriteSettings(Section):
    """Of `telltale remote-write`."""

    url: Url | None = Field(
        default=None,
        description="where Prometheus, or another receiver of remote write 1.0, takes samples: "
        "http://prometheus:9090/api/v1/write",
    )
    authorization: Authorization = None
    authorization_file: FilePath | None = file_of("authorization")
    group: Name = Field(
        default="telltale-remote-write",
        description="consumer group that reads the topic of scores (`scores.topic`); its members share the partitions",
    )
    metrics_port: Whole | None = Field(
        default=None, ge=0, le=65_535, description="TCP port that serves /metrics of this command; null: none"
    )
    metrics_host: Name = Field(default="127.0.0.1", description="address to listen on for metrics_port")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return with_secrets_from_files(given, ("authorization",))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.authorization is not None and self.url is None:
            raise wrong_value("none without url", "authorization")
        return self
