"""The section of the settings that says what is known of sensors: `detection`."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from service.settings.fields import BadValues, Name, Pattern, Patterns, ValidRange, from_json, wrong_value
from service.settings.section import Section


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
    unit: Name | None = Field(default=None, description="what the channel is measured in, to be shown")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.bad_values is None and self.valid_range is None and self.unit is None:
            raise wrong_value("bad_values, valid_range or unit in it")
        return self


class DetectionSettings(Section):
    rules: Annotated[tuple[DetectionRule, ...], NoDecode, BeforeValidator(from_json)] = Field(
        default=(),
        max_length=1_000,
        description="what is known of sensors, by stream and channel: each has streams and channels (patterns; all if "
        "left out) and at least one of bad_values, valid_range and unit; of each of these the first rule holds that "
        "has it; in the environment as JSON",
    )
