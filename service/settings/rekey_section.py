"""The section of `telltale rekey`: which topics are written again, keyed by the stream."""

from typing import Self

from pydantic import Field, model_validator

from service.settings.fields import Name, Number, Topic, TopicsOrNone, Whole, wrong_value
from service.settings.section import Section


class RekeySettings(Section):
    """Of `telltale rekey`."""

    topics: TopicsOrNone = Field(
        default=(),
        description="topics whose records are written again, a reading each and keyed by its stream; each is read "
        "through its mapping (`input.topics`); in the environment with commas",
    )
    topic: Topic = Field(
        default="telltale.readings", description="topic that they are written to: one that `telltale run` reads"
    )
    group: Name = Field(
        default="telltale-rekey",
        description="consumer group that reads these topics; of its members one has all partitions, the others stand "
        "by",
    )
    wait_s: Number = Field(
        default=1.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="s that a record waits for those of other partitions with an earlier time, as a stream may be in "
        "several; more is for producers that send late",
    )
    join_window_s: Number | None = Field(
        default=None,
        ge=0.001,
        le=86_400,
        allow_inf_nan=False,
        description="s of event time whose readings of a stream become one, for records that hold one metric, or some "
        "features, each: the windows begin at multiples of it; null: each reading is written as it comes",
    )
    join_late_s: Number = Field(
        default=0.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="s of a stream's time that a window stays open beyond its end, where not all features have come",
    )
    join_expire_s: Number = Field(
        default=300.0,
        ge=0,
        le=31_536_000,
        allow_inf_nan=False,
        description="s of event time for which a feature's last known value stands in where a window has none; then "
        "it is missing",
    )
    metrics_port: Whole | None = Field(
        default=None, ge=0, le=65_535, description="TCP port that serves /metrics of this command; null: none"
    )
    metrics_host: Name = Field(default="127.0.0.1", description="address to listen on for metrics_port")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.topic in self.topics:
            raise wrong_value("another topic than those that are read", "topic")
        return self
