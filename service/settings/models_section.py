"""The settings of a topic that a model of its own judges: `models.TOPIC`."""

from typing import Self

from pydantic import Field, model_validator

from service.settings.fields import FilePath, Names, wrong_value
from service.settings.section import Section


class TopicModel(Section):
    """What judges the readings of one topic."""

    checkpoint: FilePath | None = Field(
        default=None, description="file of the trained model; null: the net that comes with Telltale, for `features`"
    )
    features: Names = Field(
        default=(), description="channels that a net which was trained on no plant judges; none beside a trained model"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.checkpoint is None and not self.features:
            raise wrong_value("checkpoint or features in it")
        return self
