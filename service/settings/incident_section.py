"""The section of the settings about `telltale incidents`: `incidents`."""

from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from models.data.cron import parse_cron
from service.settings.fields import FilePath, Name, Names, Number, Topic, Whole, Zone, wrong_value
from service.settings.section import Section


class QuietSettings(Section):
    """A while in which no one is notified of some streams. Without cron from `from` to `until`.

    learn: whether the memory learns from them meanwhile.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    streams: Names = Field(min_length=1)
    reason: Name
    begins: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = None
    cron: str | None = None
    lasts_s: Number | None = Field(default=None, gt=0, le=2_678_400, allow_inf_nan=False)
    time_zone: str = "UTC"
    learn: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.cron is None) != (self.lasts_s is None):
            raise wrong_value("cron and lasts_s, or neither of them")
        if self.cron is None and self.until is None:
            raise wrong_value("an end (until), or cron and lasts_s")
        if self.begins is not None and self.until is not None and self.begins >= self.until:
            raise wrong_value("an end (until) after its beginning (from)")
        try:
            zone = ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise wrong_value("a time zone such as Europe/Berlin", "time_zone") from None
        try:
            parse_cron(self.cron or "* * * * *", zone)
        except ValueError as error:
            raise wrong_value(
                f"minute hour day month weekday, as in '0 6 * * mon-fri' (found {error})", "cron"
            ) from None
        return self


class CalendarSettings(Section):
    """An iCalendar file; while one of its events takes place, no one is notified of some streams. learn: as above."""

    file: FilePath
    streams: Names = Field(min_length=1)
    reason: Name | None = None
    time_zone: Zone = "UTC"
    learn: bool = False


class DependencySettings(Section):
    """No one is notified of some streams while an anomaly of those that they depend on is open. learn: as above."""

    streams: Names = Field(min_length=1)
    on: Names = Field(min_length=1)
    reason: Name
    learn: bool = False


class IncidentSettings(Section):
    """Of `telltale incidents`, and of `telltale run` where it makes incidents."""

    topic: Topic = Field(default="telltale.incidents", description="topic the incidents go to, all to its partition 0")
    control_topic: Topic = Field(
        default="telltale.control",
        description="compacted topic with one partition: what people say of streams, anomalies and incidents (quiet "
        "times, dependencies, acknowledgements, labels) and which model judges; `telltale control` and "
        "`telltale models` write to it",
    )
    group: Name = Field(
        default="telltale-incidents",
        description="consumer group that reads the topic of anomalies; of its members one has all partitions, the "
        "others stand by",
    )
    separator: Annotated[str, Field(min_length=1, max_length=16)] = Field(
        default="/", description="what stands between the parts of a stream's name: site/line/machine/sensor"
    )
    depth: Whole = Field(
        default=2,
        ge=1,
        le=16,
        description="parts at the beginning of a stream's name that make its group (2: site/line); anomalies of one "
        "group that begin close together are one incident",
    )
    groups: dict[Name, Names] = Field(
        default={},
        description='groups by name, each with patterns of streams: {"cooling": ["*/pump-*", "chiller-?"]}; they win '
        "over labels and the parts of the name",
    )
    labels: Names = Field(
        default=(),
        description="labels that make a stream's group in place of its name, as [site, line]: those that the mapping "
        "of its topic gives it (`input.topics`); a stream that lacks one is grouped by its name",
    )
    gap_s: Number = Field(
        default=300.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="s of event time; an anomaly joins an incident in which one began or ended so shortly before",
    )
    longest_s: Number = Field(
        default=3_600.0,
        gt=0,
        le=604_800,
        allow_inf_nan=False,
        description="s of event time after its beginning in which an incident takes in anomalies; else one would "
        "never end where some stream is always anomalous",
    )
    update_every_s: Number = Field(
        default=60.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="s of event time between two updates of an incident, unless its severity rises or its streams "
        "have doubled",
    )
    expire_s: Number = Field(
        default=604_800.0,
        gt=0,
        le=31_536_000,
        allow_inf_nan=False,
        description="s of event time after which an incident of which nothing is heard is closed: the input of an open "
        "anomaly may have been taken out of the settings",
    )
    broad_streams: Whole = Field(
        default=10,
        ge=2,
        le=1_000_000,
        description="streams from which on an incident is major; with ten times as many it is critical",
    )
    budget_per_day: Whole | None = Field(
        default=144,
        ge=1,
        le=1_000_000,
        description="incidents a day that people are notified of, the most severe first; the others are on the topic "
        "all the same, with held_back: budget; null: no limit; the default is what one operator can take (EEMUA 191)",
    )
    group_budget_per_day: Whole | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="incidents a day of one group, beside budget_per_day: a group that has used its own leaves the "
        "rest to the others; null: no limit of its own",
    )
    quiet: tuple[QuietSettings, ...] = Field(
        default=(),
        description="times in which no one is notified of some streams: a list of streams (patterns), reason, from and "
        "until (with an offset from UTC), or cron, lasts_s and time_zone; and learn (true, or false, which is the "
        "default): whether the memory learns from these streams meanwhile",
    )
    calendars: tuple[CalendarSettings, ...] = Field(
        default=(),
        description="iCalendar files whose events are quiet times: a list of file, streams (patterns), reason (else "
        "the event's title), time_zone (of times without one, UTC) and learn (as above)",
    )
    dependencies: tuple[DependencySettings, ...] = Field(
        default=(),
        description="what makes streams quiet while it is anomalous: a list of streams (patterns), on (patterns of "
        "what they depend on), reason and learn (as above)",
    )
    in_worker: bool = Field(
        default=False,
        description="true: `telltale run` makes incidents too, in a process of its own beside its workers, which it "
        "starts again when it ends; `telltale incidents` is not needed then",
    )
    metrics_port: Whole | None = Field(
        default=None, ge=0, le=65_535, description="TCP port that serves /metrics of this command; null: none"
    )
    metrics_host: Name = Field(default="127.0.0.1", description="address to listen on for metrics_port")
