"""How the records of the input topics are read, as the settings say."""

from service.input.formats import InputFormat, RecordRules
from service.settings.settings import Settings


def record_rules(settings: Settings) -> RecordRules:
    limits = settings.limits
    return RecordRules(InputFormat(settings.input.format), limits.max_readings, limits.max_batch_bytes)
