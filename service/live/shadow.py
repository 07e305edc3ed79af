"""A second checkpoint judges what the first has judged, to be compared: it publishes nothing, and writes no state.

It sees each batch after its commit, in the worker's thread, with a row of its own for each stream. Rows begin as for a
stream that is seen for the first time, when the process starts or a partition comes to it, so nothing is compared until
the shadow has warmed up. Judging twice costs twice.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from models.detection.alarm import Change
from models.detection.detector import Verdicts
from service.input.reading_batch import StreamKey
from service.live.observer import Committed, Observer, Round
from service.live.status import CheckpointStatus, ShadowPartition, ShadowStatus
from service.log.port import Partition
from service.pipeline import Pipeline, Processed
from service.state.slab import StateSlab
from service.state.task import PartitionTask

STREAMS_NAMED = 20  # those that differ most
STREAMS_COUNTED = 10_000  # of which differences are counted by stream; what differs least is let go
SURVEY_S = 1.0  # between two looks at which streams are forgotten


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

    def count(self, warm: Tensor, shadow: Verdicts, current: Verdicts, keys: Sequence[StreamKey]) -> None:
        """warm: (N,) of which readings the shadow's stream has warmed up."""
        compared = warm & shadow.fate.judged & current.fate.judged
        mine, theirs = shadow.alarm & compared, current.alarm & compared
        self.readings += int(compared.sum())
        self.only_shadow += int((mine & ~theirs).sum())
        self.only_current += int((theirs & ~mine).sum())
        self.both += int((mine & theirs).sum())
        self.opened += _opened(shadow, compared)
        self.opened_current += _opened(current, compared)
        self.by_stream.update(keys[n].decode() for n in (mine != theirs).nonzero().squeeze(1).tolist())
        if len(self.by_stream) > 2 * STREAMS_COUNTED:
            self.by_stream = Counter(dict(self.by_stream.most_common(STREAMS_COUNTED)))


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
            )
            for partition, one in sorted(self._compared.items())
        )
        by_stream = sum((one.by_stream for one in self._compared.values()), Counter[str]())
        return ShadowStatus(self._checkpoint, partitions, dict(by_stream.most_common(STREAMS_NAMED)))

    def revoked(self, partition: Partition) -> None:
        self._compared.pop(partition, None)

    def migrated(self, reason: str) -> None:  # noqa: ARG002  (whatever it is)
        self._compared.clear()

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

    def _compare(self, judged: Processed) -> None:
        partition, batch, current = judged.commit.partition, judged.batch, judged.verdicts
        if current is None or not batch.keys:
            return
        one = self._compared.get(partition)
        if one is None:
            slab = StateSlab(self._pipeline.detector.rows_for)
            one = self._compared[partition] = _Compared(PartitionTask(partition, slab))
        slots = batch.slots(one.task.slab.slots)
        warm_up = self._pipeline.detector.config.score.warm_up
        warm = one.task.slab.gather(slots).scalar("age") > warm_up
        begin = 0
        for shadow in self._pipeline.replay_readings(batch, slots, one.task):
            end = begin + len(shadow.score)
            one.count(warm[begin:end], shadow, current.part(begin, end), batch.keys[begin:end])
            begin = end
