"""What is said of a record that cannot be read beside what is wrong with it: the mapping that would read it."""

from collections.abc import Callable, Sequence

import numpy as np

from models.data.arrays import Bools, Int64s
from models.data.stream_key import flaw_of
from service.errors import RefusedSetting
from service.input.formats import TopicMapping
from service.input.guess import guess
from service.input.mapped_columns import MappedRecords
from service.input.mapping import MappedReader

MOST_KEPT = 64


class Hints:
    """Guesses how records would be read, and tries it: what is said is true."""

    def __init__(self, features: Sequence[str], max_readings: int, is_far: Callable[[Int64s, Int64s], Bools]) -> None:
        """is_far: of N times and those of their records, which are not to be believed."""
        self._is_far = is_far
        self._features = tuple(features)
        self._max_readings = max_readings
        self._readers: dict[str, MappedReader] = {}

    def of(self, topic: str, key: bytes | None, value: bytes | None, time_ms: int) -> str:
        """Empty where nothing is known that helps."""
        if value is None:
            return f"input.topics.{topic}: {{tombstones: ignore}} skips it"
        found = guess(key, value)
        if found is None:
            return ""
        if found.needs:
            return f"it looks like {found.what}: {found.needs}, then input.topics.{topic}.preset reads it"
        if found.settings is None:
            return (
                f"it looks like {found.what}: set input.schema_registry_url and, if it is Avro, "
                f"input.topics.{topic}: {{format: avro}}; if it is Protobuf, {{format: protobuf}}"
            )
        mapping = found.mapping(topic)
        if mapping is None or not self._is_read_by(
            mapping, found.yaml, MappedRecords([key], [value], np.array([time_ms]), lambda which: [{} for _ in which])
        ):
            return ""
        return f"input.topics.{topic}: {found.yaml} reads it" + (f" as {found.what}" if found.what else "")

    def _is_read_by(self, mapping: TopicMapping, name: str, records: MappedRecords) -> bool:
        if name not in self._readers:
            if len(self._readers) == MOST_KEPT:
                self._readers.clear()
            try:
                self._readers[name] = MappedReader(mapping, self._features, self._max_readings)
            except RefusedSetting:  # the features that the record has are not the checkpoint's
                return False
        read = self._readers[name].read("", records, lambda _: None)
        if read.rejects or read.flaws or not read.columns.keys or any(map(flaw_of, read.columns.keys)):
            return False
        return not self._is_far(read.columns.times_ms, np.full(len(read.columns.keys), records.times_ms)).any()
