"""How the records of the input topics are read, as the settings say."""

from service.input.formats import InputFormat, RecordRules
from service.settings.input_section import registry_of, topic_mapping
from service.settings.settings import Settings


def record_rules(settings: Settings) -> RecordRules:
    limits, given = settings.limits, settings.input
    registry = registry_of(given)
    mappings = {topic: topic_mapping(topic, one, registry) for topic, one in given.topics.items()}
    return RecordRules(InputFormat(given.format), limits.max_readings, limits.max_batch_bytes, mappings, registry)
