"""A second checkpoint judges what the first has judged, to be compared: it publishes nothing, and writes no state.

It sees each batch after its commit, in the worker's thread, with a row of its own for each stream. Rows begin as for a
stream that is seen for the first time, when the process starts or a partition comes to it, so nothing is compared until
the shadow has warmed up. Judging twice costs twice.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.data.rfc3339 import milliseconds_of
from models.detection.alarm import Change
from models.detection.detector import Transition, Verdicts
from service.input.reading_batch import ReadingBatch, StreamKey
from service.live.observer import Committed, Observer, Promotion, Round
from service.live.status import CheckpointStatus, ShadowAlarm, ShadowPartition, ShadowStatus
from service.log.port import Partition
from service.pipeline import Pipeline, Processed
from service.state.key_index import NO_SLOT
from service.state.slab import StateSlab
from service.state.task import PartitionTask

STREAMS_NAMED = 20  # those that differ most
STREAMS_COUNTED = 10_000  # of which differences are counted by stream; what differs least is let go
ALARMS_NAMED = 200  # of one alone: the latest
SHADOW, CURRENT = "shadow", "current"
SURVEY_S = 1.0  # between two looks at which streams are forgotten


@dataclass(slots=True)
class _OpenAlarm:
    """One that is open now. is_shared: the other has had one open too."""

    alarm: ShadowAlarm
    is_shared: bool


@dataclass(slots=True)
class _Compared:
    """Of one partition, since it came to this worker."""

    task: PartitionTask
    readings: int = 0
    only_shadow: int = 0
    only_current: int = 0
    both: int = 0
    opened: int = 0
    opened_current: int = 0
    by_stream: Counter[str] = field(default_factory=Counter)  # readings that differ
    alone: Counter[str] = field(default_factory=Counter)  # alarms that closed, by whose they were
    open_alarms: dict[tuple[str, StreamKey], _OpenAlarm] = field(default_factory=dict)
    alarms: deque[ShadowAlarm] = field(default_factory=lambda: deque(maxlen=ALARMS_NAMED))  # alone, and closed

    @property
    def alarms_alone(self) -> list[ShadowAlarm]:
        return [*self.alarms, *(one.alarm for one in self.open_alarms.values() if not one.is_shared)]

    def count(self, warm: Tensor, shadow: Verdicts, current: Verdicts, batch: ReadingBatch) -> None:
        """warm: (N,) of which readings the shadow's stream has warmed up."""
        keys = batch.keys
        compared = warm & shadow.fate.judged & current.fate.judged
        mine, theirs = shadow.alarm & compared, current.alarm & compared
        self.readings += int(compared.sum())
        self.only_shadow += int((mine & ~theirs).sum())
        self.only_current += int((theirs & ~mine).sum())
        self.both += int((mine & theirs).sum())
        self.opened += _opened(shadow, compared)
        self.opened_current += _opened(current, compared)
        self._follow(compared, shadow, current, batch)
        self.by_stream.update(keys[n].decode() for n in (mine != theirs).nonzero().squeeze(1).tolist())
        if len(self.by_stream) > 2 * STREAMS_COUNTED:
            self.by_stream = Counter(dict(self.by_stream.most_common(STREAMS_COUNTED)))

    def let_go(self, of: str, key: StreamKey) -> None:
        """No reading will close it."""
        self.open_alarms.pop((of, key), None)

    def _follow(self, compared: Tensor, shadow: Verdicts, current: Verdicts, batch: ReadingBatch) -> None:
        """Which alarms are of one alone: by what opened and closed, in the order of readings."""
        changes = [(one.reading, SHADOW, one) for one in shadow.transitions]
        changes += [(one.reading, CURRENT, one) for one in current.transitions]
        for n, of, change in sorted(changes, key=lambda one: one[0]):
            key = batch.keys[n]
            mine, other = (shadow, current) if of == SHADOW else (current, shadow)
            if change.change is Change.OPENED:
                if compared[n]:
                    is_shared = bool(other.alarm[n])
                    opened = _alarm_of(of, change, batch, n, float(other.score[n]))
                    self.open_alarms[of, key] = _OpenAlarm(opened, is_shared)
                    others = self.open_alarms.get((CURRENT if of == SHADOW else SHADOW, key))
                    if others is not None:
                        others.is_shared = True
                continue
            known = self.open_alarms.get((of, key))
            if known is None:
                continue
            known.alarm = replace(known.alarm, severity=change.severity.name.lower(), peak=change.peak)
            if not mine.alarm[n]:
                del self.open_alarms[of, key]
                if not known.is_shared:
                    self.alone[of] += 1
                    self.alarms.append(replace(known.alarm, closed_ms=int(batch.readings.times_ms[n])))


def _alarm_of(of: str, opened: Transition, batch: ReadingBatch, n: int, other_score: float) -> ShadowAlarm:
    """opened: at reading n."""
    return ShadowAlarm(
        *batch.partition,
        batch.keys[n].decode(),
        of,
        int(batch.readings.times_ms[n]),
        None,
        opened.severity.name.lower(),
        opened.score,
        other_score,
        opened.peak,
    )


def _opened(verdicts: Verdicts, compared: Tensor) -> int:
    return sum(one.change is Change.OPENED and bool(compared[one.reading]) for one in verdicts.transitions)


class Shadow(Observer):
    """Compares one checkpoint with those that judge, on the topics whose channels it judges."""

    def __init__(
        self,
        pipeline: Pipeline,
        checkpoint: CheckpointStatus,
        topics: Sequence[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """topics: that it judges too."""
        self._pipeline = pipeline
        self._checkpoint = checkpoint
        self._topics = frozenset(topics)
        self._monotonic = monotonic
        self._compared: dict[Partition, _Compared] = {}
        self._surveyed_s = -SURVEY_S

    def status(self) -> ShadowStatus:
        """What has been found so far."""
        partitions = tuple(
            ShadowPartition(
                *partition,
                streams=len(one.task.slab),
                warming=self._pipeline.detector.count_warming(one.task.slab.rows),
                readings=one.readings,
                only_shadow=one.only_shadow,
                only_current=one.only_current,
                both=one.both,
                opened=one.opened,
                opened_current=one.opened_current,
                alone=one.alone[SHADOW],
                alone_current=one.alone[CURRENT],
            )
            for partition, one in sorted(self._compared.items())
        )
        by_stream = sum((one.by_stream for one in self._compared.values()), Counter[str]())
        alarms = latest_alarms(alarm for one in self._compared.values() for alarm in one.alarms_alone)
        return ShadowStatus(self._checkpoint, partitions, dict(by_stream.most_common(STREAMS_NAMED)), alarms)

    def revoked(self, partition: Partition) -> None:
        self._compared.pop(partition, None)

    def migrated(self, reason: str) -> None:  # noqa: ARG002  (whatever it is)
        self._compared.clear()

    def judged_by(self, partition: Partition, promotion: Promotion) -> None:  # noqa: ARG002  (whichever it is)
        """What the former one had open, no reading closes."""
        if (one := self._compared.get(partition)) is not None:
            for of, key in list(one.open_alarms):
                if of == CURRENT:
                    one.let_go(of, key)

    def committed(self, commit: Committed) -> None:
        for one in commit.judged:
            if one.commit.partition.topic in self._topics:
                self._compare(one)

    def turned(self, turn: Round) -> None:
        """Forget the streams that are forgotten, as far as there are more here than there."""
        now_s = self._monotonic()
        if now_s - self._surveyed_s < SURVEY_S:
            return
        self._surveyed_s = now_s
        for partition, one in self._compared.items():
            current = turn.tasks.get(partition)
            if current is not None and len(one.task.slab) > len(current.slab):
                for key in [key for key in one.task.slab.keys if key is not None and key not in current.slab]:
                    one.task.slab.evict(key, 0)
                    one.let_go(SHADOW, key)
                    one.let_go(CURRENT, key)

    def _compare(self, judged: Processed) -> None:
        partition, batch, current = judged.commit.partition, judged.batch, judged.verdicts
        self._tell_silence(judged)
        if current is None or not batch.keys:
            return
        one = self._compared.get(partition)
        if one is None:
            slab = StateSlab(self._pipeline.detector.rows_for)
            one = self._compared[partition] = _Compared(PartitionTask(partition, slab))
        slots = batch.slots(one.task.slab.slots)
        warm = self._pipeline.warmed_up(slots, one.task)
        begin = 0
        for shadow in self._pipeline.replay_readings(batch, slots, one.task):
            end = begin + len(shadow.score)
            some = batch.part(np.arange(begin, end))
            one.count(warm[begin:end], shadow, current.part(begin, end), some)
            begin = end

    def _tell_silence(self, judged: Processed) -> None:
        """Streams that were told without a reading are silent here too, whatever they have as their rhythm."""
        one = self._compared.get(judged.commit.partition)
        told = [event.data for event in judged.events if event.change == "opened" and not event.data.channels]
        if one is None or not told:
            return
        slots = one.task.slab.find([StreamKey(data.stream.encode()) for data in told])
        since_ms = torch.tensor([milliseconds_of(data.opened_at) for data in told], dtype=torch.float64)
        closed = (slots != NO_SLOT) & (one.task.slab.rows.scalar("alarm")[slots] == 0)
        rows, offset = one.task.slab.rows, told[0].offset
        self._pipeline.detector.open_silent(rows, slots[closed], since_ms[closed], offset)


def latest_alarms(alarms: Iterable[ShadowAlarm]) -> tuple[ShadowAlarm, ...]:
    """As many as are named, the latest last."""
    return tuple(sorted(alarms, key=lambda one: (one.opened_ms, one.topic, one.number, one.stream))[-ALARMS_NAMED:])
