"""How the records of the input topics are read, as the settings say."""

from service.input.formats import InputFormat, RecordRules
from service.settings.input_section import topic_mapping
from service.settings.settings import Settings


def record_rules(settings: Settings) -> RecordRules:
    limits, topics = settings.limits, settings.input.topics
    mappings = {topic: topic_mapping(topic, given) for topic, given in topics.items()}
    return RecordRules(InputFormat(settings.input.format), limits.max_readings, limits.max_batch_bytes, mappings)
