"""`telltale train --from-topic`: what a topic still holds, as training data, read beside the groups that read it.

Readings are decoded, and late and duplicate ones left out, as the service does it. What cannot be read is counted.
Sizes: N readings of a batch, S streams, F features.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from models.data.series import Series
from models.data.spool import Spool, Streams
from models.detection.records import LATE_LIMIT
from models.detection.sensor_rules import Excluded
from service.errors import RefusedInput
from service.input.formats import TopicMapping
from service.input.mapping import mapped_names
from service.input.names import names_in
from service.input.reading_batch import ReadingBatch
from service.input.wire import Decoder
from service.inspect.groupless_log import GrouplessLog, input_of
from service.log.port import Partition

LOOKED_AT = 1_000  # records of a partition, to find out which features the readings have


class HistoricLog(GrouplessLog, Protocol):
    """A log that finds records by their time."""

    def offset_at(self, partition: Partition, time_ms: int) -> int | None:
        """The first offset whose record has this timestamp or a later one; None: no record has."""


class OffsetRange(NamedTuple):
    """Records begin to end of a partition."""

    partition: Partition
    begin: int
    end: int


class History(NamedTuple):
    """What was read. Readings that the service would drop, and records it would reject, are not in the series."""

    series: list[Series]
    rejected: Counter[str]  # by reason
    late: int
    duplicate: int
    elsewhere: int  # of streams that are in another partition too, where they were found first
    excluded: Mapping[str, int]  # values that count as missing, those of dropped readings among them, by reason
    skipped: int = 0  # that the topic's mapping leaves out


def stretches(log: HistoricLog, topic: str, since_ms: int | None, until_ms: int | None) -> list[OffsetRange]:
    """From the first record that has the time `since` to the first that has the time `until`, in every partition.

    Times are those of the records, not of the readings in them: by them a broker finds an offset.
    """
    found = []
    for number in range(log.partitions(topic)):
        partition = Partition(topic, number)
        source = log.inspect(partition)
        begin, end = source.begin, source.end
        if since_ms is not None:
            first = log.offset_at(partition, since_ms)
            begin = end if first is None else max(begin, first)
        if until_ms is not None and (after := log.offset_at(partition, until_ms)) is not None:
            end = min(end, after)
        if begin < end:
            found.append(OffsetRange(partition, begin, end))
    if not found:
        raise RefusedInput(f"{topic}: no records of that time in it")
    return found


def features_in(
    log: GrouplessLog, found: Sequence[OffsetRange], mapping: TopicMapping | None = None
) -> tuple[str, ...]:
    """The features that most of the first readings have, in the order in which they are written there.

    mapping: of the topic, where it has one.
    """
    names_of = names_in if mapping is None else partial(mapped_names, mapping)
    for stretch in found:
        names: Counter[tuple[str, ...]] = Counter()
        for fetched in input_of(log, stretch.partition, stretch.begin, min(stretch.end, stretch.begin + LOOKED_AT)):
            names.update(filter(None, map(names_of, (value or b"" for value in fetched.values))))
        if names:
            return names.most_common(1)[0][0]
    raise RefusedInput(
        f"{found[0].partition.topic}: the first records have no named values; --features names them, in their order"
    )


def read(
    log: GrouplessLog, found: Sequence[OffsetRange], decoder: Decoder, progress: Callable[[int], None] = lambda _: None
) -> History:
    """Every stream's readings, in the order of the topic. progress: is called with the records done."""
    spool = Spool(decoder.features, sum(stretch.end - stretch.begin for stretch in found))
    admission = Admission(len(decoder.features))
    home: list[Partition] = []  # of every stream
    rejected: Counter[str] = Counter()
    excluded = np.zeros(len(Excluded), np.int64)
    elsewhere = done = skipped = 0
    for stretch in found:
        at = stretch.begin
        for fetched in input_of(log, stretch.partition, stretch.begin, stretch.end):
            batch, rejects = decoder.decode(fetched)
            rejected.update(reject.reason for reject in rejects)
            skipped += batch.skipped
            excluded += 0 if batch.excluded is None else batch.excluded.sum(axis=0)
            streams = spool.number(key.decode() for key in batch.keys)
            home += [stretch.partition] * (len(spool.keys) - len(home))
            mine = np.array([home[stream] == stretch.partition for stream in streams.tolist()], bool)
            elsewhere += int((~mine).sum())
            _take(batch, streams, np.flatnonzero(mine), admission, spool)
            done, at = done + fetched.next_offset - at, fetched.next_offset
            progress(done)
    topic = Path(found[0].partition.topic)
    series, by_reason = spool.series(lambda _: topic), dict(zip(map(str, Excluded), excluded.tolist(), strict=True))
    return History(series, rejected, admission.late, admission.duplicate, elsewhere, by_reason, skipped)


def _take(batch: ReadingBatch, streams: Streams, mine: Int64s, admission: "Admission", spool: Spool) -> None:
    times, values = batch.readings.times_ms.numpy()[mine], batch.readings.values.numpy()[mine]
    kept = admission.admit(streams[mine], times, values)
    spool.append(streams[mine][kept], times[kept], values[kept])


class Admission:
    """Leaves out late and duplicate readings, by each stream's own clock, exactly as Detector.observe does."""

    def __init__(self, features: int) -> None:
        self.late = 0
        self.duplicate = 0
        self._clock_ms = np.zeros(0, np.int64)  # (S,) of the last reading; -1: there was none
        self._last = np.zeros((0, features))  # (S, F) last known values; 0: there were none
        self._late_run = np.zeros(0, np.int64)  # (S,) late readings in a row

    def admit(self, streams: Streams, times_ms: Int64s, values: Doubles) -> Bools:
        """Which readings are taken; (N,). Streams in which time only rises are not examined one by one."""
        kept = np.ones(len(streams), bool)
        if not len(streams):
            return kept
        self._grow(int(streams.max()) + 1)
        order = np.argsort(streams, kind="stable")
        whose, times = streams[order], times_ms[order]
        begins = np.flatnonzero(np.diff(whose, prepend=-1))
        before = np.roll(times, 1)
        before[begins] = self._clock_ms[whose[begins]]
        suspect = self._late_run > 0
        suspect[whose[times <= before]] = True
        for n in np.flatnonzero(suspect[streams]).tolist():
            kept[n] = self._look(int(streams[n]), int(times_ms[n]), values[n])
        calm = order[~suspect[whose]]
        self._remember(streams[calm], times_ms[calm], values[calm])
        return kept

    def _look(self, stream: int, time_ms: int, values: Doubles) -> bool:
        clock_ms, last = self._clock_ms[stream], self._last[stream]
        if time_ms < clock_ms and self._late_run[stream] < LATE_LIMIT:
            self._late_run[stream] += 1
            self.late += 1
            return False
        held = np.where(np.isnan(values), last, values)
        if time_ms == clock_ms and (held == last).all():
            self.duplicate += 1
            return False
        self._clock_ms[stream], self._last[stream], self._late_run[stream] = time_ms, held, 0
        return True

    def _remember(self, streams: Streams, times_ms: Int64s, values: Doubles) -> None:
        """Where streams go on; readings sorted by stream, all of them taken."""
        if not len(streams):
            return
        ends = np.flatnonzero(np.diff(streams, append=-1))
        begins = np.append(0, ends[:-1] + 1)
        known = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))[:, None]), axis=0)[ends]
        held = np.take_along_axis(values, np.maximum(known, 0), axis=0)
        whose = streams[ends]
        self._clock_ms[whose] = times_ms[ends]
        self._last[whose] = np.where(known >= begins[:, None], held, self._last[whose])

    def _grow(self, streams: int) -> None:
        new = max(0, streams - len(self._clock_ms))
        self._clock_ms = np.append(self._clock_ms, np.full(new, -1))
        self._last = np.append(self._last, np.zeros((new, self._last.shape[1])), axis=0)
        self._late_run = np.append(self._late_run, np.zeros(new, np.int64))
