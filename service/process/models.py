"""The trained models of a service: one for most topics, and others for those that the settings name."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from service.errors import RefusedSetting
from service.settings.settings import Settings

logger = structlog.get_logger("telltale")


class Models(NamedTuple):
    """What judges which topic."""

    usual: Checkpoint
    others: Mapping[str, Checkpoint]  # by topic
    shadow: Checkpoint | None = None  # that is compared with them

    def of(self, topic: str) -> Checkpoint:
        return self.others.get(topic, self.usual)

    @property
    def all(self) -> list[Checkpoint]:
        """Each that judges once."""
        return list({one.digest: one for one in (self.usual, *self.others.values())}.values())


def open_models(settings: Settings) -> Models:
    """Those of the topics that are read. Raises UnusableCheckpoint and RefusedSetting.

    Where each topic has one of its own, that of the first stands for all others: then no other need be there.
    """
    topics = settings.kafka.topics
    for topic in settings.models.keys() - set(topics):
        logger.warning("model_without_topic", setting=f"models.{topic}", expected=f"one of {', '.join(topics)}")
    others = {topic: open_model(settings, topic) for topic in topics if topic in settings.models}
    has_all = all(topic in others for topic in topics)
    usual = others[topics[0]] if has_all else open_checkpoint(settings.checkpoint, settings.features)
    path = settings.shadow.checkpoint
    models = Models(usual, others, None if path is None else open_checkpoint(path))
    if models.shadow is not None and not shadowed(models, topics):
        channels = ", ".join(models.shadow.detector.features)
        raise RefusedSetting(f"shadow.checkpoint judges {channels}: no topic has a model for these channels")
    return models


def shadowed(models: Models, topics: Sequence[str]) -> list[str]:
    """The topics whose channels the shadow judges too."""
    shadow = models.shadow
    if shadow is None:
        return []
    return [topic for topic in topics if models.of(topic).detector.features == shadow.detector.features]


def open_model(settings: Settings, topic: str) -> Checkpoint:
    """The one that judges a topic. Raises UnusableCheckpoint."""
    own = settings.models.get(topic)
    if own is None:
        return open_checkpoint(settings.checkpoint, settings.features)
    return open_checkpoint(own.checkpoint, own.features)
