"""Judged readings as records of the topic of scores: for dashboards and databases that want every reading."""

import re
from collections.abc import Sequence
from fnmatch import translate

import msgspec
import numpy as np

from models.data.arrays import Int64s
from models.detection.detector import Verdicts
from service.input.reading_batch import ReadingBatch
from service.log.port import Record

SCORE_HEADERS = (("content-type", b"application/json"),)
CHANNEL_COLUMNS = ("observed", "expected", "lower", "upper")
KNOWN_AT_MOST = 200_000  # streams of which it is kept whether they are chosen; then it is found out again


class ScoredReading(msgspec.Struct, frozen=True):
    """One reading as it was judged. Behind these fields come four for each channel, all in one flat object."""

    stream: str
    timestamp: int  # the reading's time, in ms since 1970
    score: float  # 1.0 is the alarm threshold; 0 while the stream warms up
    alarm: bool  # whether the stream's alarm is open after this reading
    topic: str
    partition: int
    offset: int
    index: int  # which of its message's readings, from 0: with topic, partition and offset a key of the reading


class ScoreStream:
    """Which streams' readings are written to the topic of scores, and how."""

    def __init__(self, patterns: Sequence[str], features: Sequence[str]) -> None:
        """patterns: of the names of streams, as those of detection.rules: what is equal to one matches too."""
        self._columns = (
            *ScoredReading.__struct_fields__,
            *(f"{column}_{name}" for name in features for column in CHANNEL_COLUMNS),
        )
        self._pattern = re.compile("|".join(f"{translate(one)}|{re.escape(one)}" for one in patterns))
        self._takes_all = "*" in patterns
        self._encode = msgspec.json.Encoder().encode
        self._known: dict[bytes, bool] = {}

    def records(self, batch: ReadingBatch, verdicts: Verdicts) -> tuple[Record, ...]:
        """One for each judged reading of a chosen stream, keyed by the stream, in the order of the batch."""
        chosen = self._chosen(batch, verdicts)
        if not len(chosen):
            return ()
        topic, partition = batch.partition
        keys = [batch.keys[n] for n in chosen.tolist()]
        bands = (batch.readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
        # (M, F, 4): each channel's columns are neighbours, as their names are.
        channels = np.stack([column.numpy()[chosen] for column in bands], axis=2).reshape(len(chosen), -1)
        of_readings = (batch.readings.times_ms, verdicts.score, verdicts.alarm, batch.readings.offsets)
        rows = zip(
            keys,
            *(column.numpy()[chosen].tolist() for column in of_readings),
            batch.indices[chosen].tolist(),
            channels.tolist(),
            strict=True,
        )
        return tuple(
            self._record(key, (key.decode(), time_ms, score, alarm, topic, partition, offset, index, *channel))
            for key, time_ms, score, alarm, offset, index, channel in rows
        )

    def _record(self, key: bytes, row: tuple[object, ...]) -> Record:
        value = self._encode(dict(zip(self._columns, row, strict=True)))  # NaN becomes null
        return Record(key, value, SCORE_HEADERS)

    def _chosen(self, batch: ReadingBatch, verdicts: Verdicts) -> Int64s:
        judged = verdicts.fate.judged.numpy()
        if self._takes_all:
            return np.flatnonzero(judged)
        return np.flatnonzero(judged & np.fromiter(map(self._is_chosen, batch.keys), np.bool_, len(batch.keys)))

    def _is_chosen(self, key: bytes) -> bool:
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_AT_MOST:
                self._known.clear()
            known = self._known[key] = self._pattern.fullmatch(key.decode()) is not None
        return known
