"""The section of the topic of scores: whether every judged reading is written to a topic, and of which streams."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import NoDecode

from service.settings.fields import Patterns, Topic
from service.settings.section import Section


class ScoreSettings(Section):
    topic: Topic | None = Field(
        default=None,
        description="topic that score, expectation and band of every judged reading are written to; null: none is",
    )
    streams: Annotated[Patterns, NoDecode] = Field(
        default=("*",),
        description="streams whose readings are written there: patterns of their names, such as line-03/*; in the "
        "environment with commas",
    )
