"""The section of the settings that says what is known of sensors: `detection`."""

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from service.settings.fields import (
    BadValues,
    Deviation,
    FalseAlarms,
    File,
    Name,
    Pattern,
    Patterns,
    ValidRange,
    Zone,
    from_json,
    one_of,
    wrong_value,
)
from service.settings.section import Section

SAID = (
    "bad_values",
    "valid_range",
    "direction",
    "minimum_deviation",
    "minimum_relative_deviation",
    "false_alarms",
    "unit",
    "time_zone",
    "holidays",
)
"""What a rule can say."""
OF_STREAMS = ("false_alarms", "time_zone", "holidays")  # of these things, those that are of all channels
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class HolidaySettings(Section):
    """Days of an iCalendar file, and which day of the week they are like."""

    file: File = Field(description="iCalendar file; its events without times of day are the holidays")
    like: Annotated[str, AfterValidator(one_of(*WEEKDAYS))] = Field(
        default="sunday", description="day of the week on which the plant does what it does on them"
    )


class DetectionRule(Section):
    """What is said of the channels that match, in the streams that match."""

    streams: Pattern = Field(default="*", description="pattern of the names of streams, such as line-03/*")
    channels: Patterns = Field(default=("*",), description="channels, by name or pattern")
    bad_values: BadValues | None = Field(
        default=None, description="values that stand for none, such as [65535, -9999]; they count as missing"
    )
    valid_range: ValidRange | None = Field(
        default=None,
        description="[lowest, highest] value that the sensor can have, null: no end; others count as missing",
    )
    direction: Annotated[str | None, AfterValidator(one_of("up", "down", "both"))] = Field(
        default=None, description="which deviations raise alarms: up (values that are too high), down or both (default)"
    )
    minimum_deviation: Deviation | None = Field(
        default=None, description="what is nearer raises no alarm, in the sensor's unit"
    )
    minimum_relative_deviation: Deviation | None = Field(
        default=None, description="the same as a share, such as 0.05, of the size of the value that was expected"
    )
    false_alarms: FalseAlarms | None = Field(
        default=None,
        description="how many false alarms a healthy stream may raise, such as 1 per stream per 90 days; default: as a "
        "stream without such a rule; of whole streams, so without channels beside it",
    )
    unit: Name | None = Field(default=None, description="what the channel is measured in, to be shown")
    time_zone: Zone | None = Field(
        default=None,
        description="whose clocks the days and weeks of these streams go by, such as Europe/Berlin; null: UTC. Of all "
        "channels of a stream",
    )
    holidays: tuple[HolidaySettings, ...] | None = Field(
        default=None,
        description="days on which these streams do what they do on another day of the week: a list of file "
        "(iCalendar) and like (sunday); of a day in several files the first one holds. Of all channels of a stream",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if all(getattr(self, name) is None for name in SAID):
            raise wrong_value(f"{', '.join(SAID[:-1])} or {SAID[-1]} in it")
        for name in OF_STREAMS:
            if getattr(self, name) is not None and self.channels != ("*",):
                raise wrong_value(f"no channels beside {name}, which is of whole streams", "channels")
        return self


class DetectionSettings(Section):
    false_alarms: FalseAlarms = Field(
        default="default",
        description="how many false alarms a healthy stream may raise where no rule says it, such as 1 per stream per "
        "90 days; default: thresholds that are exceeded once in a number of readings, or of minutes where they come "
        "more often",
    )
    rules: Annotated[tuple[DetectionRule, ...], NoDecode, BeforeValidator(from_json)] = Field(
        default=(),
        max_length=1_000,
        description="what is known of sensors, by stream and channel: each has streams and channels (patterns; all if "
        f"left out) and at least one of {', '.join(SAID)}; of each of these the first rule holds that has it; in the "
        "environment as JSON",
    )
