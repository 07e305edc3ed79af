"""The loop: poll, open and close tasks, judge, commit, publish. One thread, one transaction a poll.

Nothing is uncommitted between two polls, so a rebalance has nothing to flush, and a crash at any place loses nothing
that was told. An unknown error ends the process: a restart is the recovery.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from service.errors import TaskMigrated
from service.log import Log, Partition, Polled
from service.log_lines import Seldom
from service.metrics import Metrics
from service.pipeline import Pipeline, Processed
from service.slab import StateSlab
from service.status import Checkpoint, Counts, PartitionStatus, State, Status, StatusBoard, newest
from service.task import PartitionTask
from service.wire import Event, Reason

STAGES = ("poll", "decode", "slots", "pack", "gather", "observe", "scatter", "tell", "commit")
REASONS = tuple(reason.value for reason in Reason)
POLL_S = 0.5  # longest wait for records: so soon a stop is noticed
SURVEY_S = 1.0  # between two counts of the streams that are still warming up
STREAMS_NAMED = 5  # in one log line

lines = structlog.get_logger("telltale.worker")


@dataclass(slots=True)
class _Tally:
    """Counts since the start, of what is committed."""

    readings: int = 0
    late: int = 0
    duplicate: int = 0
    transactions: int = 0
    aborts: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    changed: dict[str, Counter[str]] = field(default_factory=dict)  # by transition, by severity

    def add(self, judged: Sequence[Processed]) -> None:
        for one in judged:
            self.readings += len(one.batch.keys)
            if one.verdicts is not None:
                self.late += int(one.verdicts.fate.late.sum())
                self.duplicate += int(one.verdicts.fate.duplicate.sum())
            self.rejected.update(reject.reason.value for reject in one.rejects)
            for event in one.events:
                self.changed.setdefault(event.change, Counter())[event.data.severity] += 1
        self.transactions += 1

    def counts(self) -> Counts:
        opened, updated, closed = (dict(self.changed.get(change, {})) for change in ("opened", "updated", "closed"))
        return Counts(
            readings=self.readings,
            rejected=dict(self.rejected),
            late=self.late,
            duplicate=self.duplicate,
            opened=opened,
            updated=updated,
            closed=closed,
            transactions=self.transactions,
            aborts=self.aborts,
        )


class Worker:
    """Drives one log with one pipeline until it is told to stop."""

    def __init__(
        self, log: Log, pipeline: Pipeline, board: StatusBoard, metrics: Metrics, stop: threading.Event
    ) -> None:
        self._log = log
        self._pipeline = pipeline
        self._board = board
        self._metrics = metrics
        self._stop = stop
        self._tasks: dict[Partition, PartitionTask] = {}
        self._tally = _Tally()
        self._warming: dict[Partition, int] = {}
        self._surveyed_s = -SURVEY_S
        self._seldom = Seldom(interval_s=10.0)

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set. What was polled by then is judged and committed; the log is closed in any case.

        check: called every round; raises when the process must not go on.
        """
        try:
            while not self._stop.is_set():
                self.turn()
                check()
            self._publish(State.STOPPING, [])
        finally:
            self._log.close()

    def turn(self, timeout_s: float = POLL_S) -> list[Processed]:
        """One round: returns what was judged and committed in it."""
        began = time.perf_counter()
        polled = self._log.poll(timeout_s)
        self._open_and_close(polled)
        self._metrics.observe_stages({"poll": time.perf_counter() - began})
        judged = self._pipeline.process_all([(one, self._tasks[one.partition]) for one in polled.fetched])
        if judged and not self._commit(judged):
            judged = []
        self._publish(State.RUNNING, [event for one in judged for event in one.events])
        return judged

    def _open_and_close(self, polled: Polled) -> None:
        for partition in polled.revoked:
            self._tasks.pop(partition, None)
            lines.info("partition_revoked", topic=partition.topic, partition=partition.number)
        for partition in polled.assigned:
            self._tasks[partition] = PartitionTask(partition, StateSlab(self._pipeline.detector.rows_for))
            lines.info("partition_assigned", topic=partition.topic, partition=partition.number)

    def _commit(self, judged: Sequence[Processed]) -> bool:
        """Write everything or nothing. False: other workers have the partitions now, and all tasks are dropped."""
        began = time.perf_counter()
        try:
            self._log.commit([one.commit for one in judged])
        except TaskMigrated as migrated:
            self._tasks.clear()
            self._tally.aborts += 1
            lines.warning("tasks_migrated", reason=str(migrated))
            return False
        commit_s = time.perf_counter() - began
        self._metrics.observe_transaction(commit_s)
        self._metrics.observe_stages({"commit": commit_s})
        now_ms = time.time_ns() // 1_000_000
        for one in judged:
            self._metrics.observe_batch(len(one.batch.keys), one.batch.record_times_ms, now_ms)
            self._metrics.observe_stages(one.stage_s)
        self._tally.add(judged)
        self._report(judged)
        return True

    def _report(self, judged: Iterable[Processed]) -> None:
        """A line for the anomalies of this round, and one now and then for each reason of rejects."""
        for one in judged:
            if one.events:
                changes = Counter(event.change for event in one.events)
                streams = list(dict.fromkeys(event.subject for event in one.events))
                lines.info(
                    "anomalies",
                    topic=one.commit.partition.topic,
                    partition=one.commit.partition.number,
                    **changes,
                    streams=streams[:STREAMS_NAMED],
                    more_streams=max(0, len(streams) - STREAMS_NAMED),
                )
            for reject in one.rejects:
                held_back = self._seldom.pass_on(reject.reason)
                if held_back is not None:
                    lines.warning(
                        "record_rejected",
                        reason=reject.reason.value,
                        detail=reject.detail,
                        topic=one.commit.partition.topic,
                        partition=one.commit.partition.number,
                        before_offset=one.commit.next_offset,
                        more_since_last=held_back,
                    )

    def _publish(self, state: State, events: Sequence[Event]) -> None:
        now_s = time.monotonic()
        if now_s - self._surveyed_s >= SURVEY_S:
            self._surveyed_s = now_s
            self._warming = {
                partition: self._pipeline.detector.count_warming(task.slab.rows)
                for partition, task in self._tasks.items()
            }
        last = self._board.read()
        self._board.publish(
            Status(
                state=state,
                started_ms=last.started_ms,
                published_ms=time.time_ns() // 1_000_000,
                beat_s=now_s,
                checkpoint=last.checkpoint,
                partitions=tuple(map(self._partition_status, self._tasks.values())),
                counts=self._tally.counts(),
                recent=newest([msgspec.to_builtins(event) for event in events[-100:]], last.recent),
            )
        )

    def _partition_status(self, task: PartitionTask) -> PartitionStatus:
        return PartitionStatus(
            topic=task.partition.topic,
            number=task.partition.number,
            next_offset=task.next_offset,
            end_offset=task.end_offset,
            event_time_ms=task.event_time_ms,
            streams=len(task.slab),
            warming=self._warming.get(task.partition, 0),
            state_bytes=task.slab.nbytes,
            alarms_open=task.open_alarms,
        )


def first_status(checkpoint: Checkpoint) -> Status:
    """What stands on the board before the worker's first round."""
    now_ms = time.time_ns() // 1_000_000
    return Status(State.STARTING, now_ms, now_ms, time.monotonic(), checkpoint)
