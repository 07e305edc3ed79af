"""What a worker lets others see of itself: after each commit, after each round, and when partitions come and go.

The worker has a list of observers and knows nothing of what they do. They run in its thread: what they do is short, and
they raise nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from service.live.status import CheckpointStatus
from service.log.port import Backlog, Partition
from service.pipeline import Judge, Processed
from service.state.task import PartitionTask


class Committed(NamedTuple):
    """What was written in one transaction."""

    judged: Sequence[Processed]
    seconds: float  # the commit took


class Round(NamedTuple):
    """One turn of the worker's loop, at its end."""

    stopping: bool
    tasks: Mapping[Partition, PartitionTask]
    judged: Sequence[Processed]  # and committed
    backlogs: Mapping[Partition, Backlog] | None  # None: the group has not said yet which partitions are this worker's


class Promotion(NamedTuple):
    """A checkpoint that people promoted, or that of the settings again."""

    judge: Judge
    checkpoint: CheckpointStatus
    topic: str  # that it judges; empty: all that have no other


class Observer:
    """Sees all of it and does nothing: each overrides what it wants to see."""

    def polled(self, seconds: float) -> None:
        """A poll ended."""

    def assigned(self, partition: Partition) -> None:
        """A partition came to this worker."""

    def revoked(self, partition: Partition) -> None:
        """A partition is not this worker's any more."""

    def judged_by(self, partition: Partition, promotion: Promotion) -> None:
        """A checkpoint judges a partition from now on: it was promoted, or was before."""

    def recovered(self, seconds: float, replayed: int) -> None:
        """A partition has its memory back. replayed: readings that were judged again."""

    def found_problems(self, problems: Sequence[str]) -> None:
        """What was wrong with a partition's state, by kind; nothing, as a rule."""

    def migrated(self, reason: str) -> None:
        """A transaction was aborted; all tasks are dropped."""

    def committed(self, commit: Committed) -> None:
        """A transaction was written."""

    def turned(self, turn: Round) -> None:
        """The loop came round."""
