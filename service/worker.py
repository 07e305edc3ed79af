"""The loop: poll, open and close tasks, judge, commit, publish. One thread, one transaction a poll.

Nothing is uncommitted between two polls, so a rebalance has nothing to flush, and a crash at any place loses nothing
that was told. An unknown error ends the process: a restart is the recovery.
"""

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog

from service import failpoints
from service.errors import LogUnavailable, TaskMigrated
from service.input.wire import Event, Reason
from service.live.memory import MemoryKeeper
from service.live.metrics import Metrics
from service.live.status import Checkpoint, Counts, PartitionStatus, State, Status, StatusBoard, newest, still_open
from service.live.streams import Streams
from service.live.watching import Watching
from service.log.port import Backlog, Commit, Fetched, MemberLog, Partition, Polled, Record
from service.log_lines import Seldom
from service.notify.notifier import Notifier
from service.notify.open_alarms import by_severity, open_alarms, strongest
from service.pipeline import Pipeline, Processed
from service.recovery import Problem, Recovery, RecoveryRules, partitions_added
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter

STAGES = ("poll", "decode", "slots", "pack", "gather", "observe", "scatter", "tell", "commit")
REASONS = tuple(reason.value for reason in Reason)
PROBLEMS = tuple(problem.value for problem in Problem)
POLL_S = 0.5  # longest wait for records: so soon a stop is noticed
SURVEY_S = 1.0  # between two counts of the streams that are still warming up
STREAMS_NAMED = 5  # in one log line
FLUSH_WITHIN_S = 3.0  # when told to stop: what is not written by then is judged again by the next worker

lines = structlog.get_logger("telltale.worker")


@dataclass(slots=True)
class _Tally:
    """Counts since the start, of what is committed."""

    readings: int = 0
    late: int = 0
    duplicate: int = 0
    transactions: int = 0
    aborts: int = 0
    assigned: int = 0
    evicted: int = 0
    replayed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    changed: dict[str, Counter[str]] = field(default_factory=dict)  # by transition, by severity
    channels: Counter[str] = field(default_factory=Counter)  # opened, by the channel with most share

    def add(self, judged: Sequence[Processed]) -> None:
        for one in judged:
            self.readings += len(one.batch.keys)
            self.evicted += one.evicted
            if one.verdicts is not None:
                self.late += int(one.verdicts.fate.late.sum())
                self.duplicate += int(one.verdicts.fate.duplicate.sum())
            self.rejected.update(reject.reason.value for reject in one.rejects)
            for event in one.events:
                self.changed.setdefault(event.change, Counter())[event.data.severity] += 1
                if event.change == "opened":
                    self.channels[max(event.data.channels, key=lambda channel: channel.share).name] += 1
        self.transactions += 1

    def counts(self, writer: StateWriter) -> Counts:
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
            assigned=self.assigned,
            channels=dict(self.channels),
            evicted=self.evicted,
            replayed=self.replayed,
            problems=dict(self.problems),
            pages_written=writer.pages_written,
            page_bytes_written=writer.bytes_written,
        )


class _Survey(NamedTuple):
    """What is counted of a partition's rows, once in a while."""

    streams: int
    warming: int
    open_by_severity: Mapping[str, int]
    open_peak: float
    strongest: tuple[tuple[str, float], ...]
    unwritten_s: float


NOT_SURVEYED = _Survey(0, 0, {}, 0.0, (), 0.0)
NOT_HEARD = Backlog(None, None)


class Worker:
    """Drives one log with one pipeline until it is told to stop."""

    def __init__(
        self,
        log: MemberLog,
        pipeline: Pipeline,
        writer: StateWriter,
        rules: RecoveryRules,
        board: StatusBoard,
        metrics: Metrics,
        stop: threading.Event,
        idle_s: float | None = None,
        watching: Watching | None = None,
        streams: Streams | None = None,
        notifier: Notifier | None = None,
        top_streams: int = 0,
        memory: MemoryKeeper | None = None,
    ) -> None:
        """idle_s: seconds of event time after which a stream without readings is forgotten; None: never.

        watching: the streams that somebody looks at. streams: all of them, for whoever asks. notifier: who tells
        people; None: nobody does. top_streams: those with the strongest open alarms that the status names. memory: what
        keeps the process's memory within bounds; None: nothing does.
        """
        self._log = log
        self._pipeline = pipeline
        self._writer = writer
        self._rules = rules
        self._board = board
        self._metrics = metrics
        self._stop = stop
        self._idle_s = idle_s
        self._watching = watching or Watching()
        self._streams = streams or Streams()
        self._notifier = notifier
        self._top_streams = top_streams
        self._memory = memory
        self._tasks: dict[Partition, PartitionTask] = {}
        self._recoveries: dict[Partition, Recovery] = {}
        self._notices: dict[Partition, list[Record]] = {}
        self._begun: set[Partition] = set()  # of which something was judged, or there was nothing to judge
        self._backlogs: Mapping[Partition, Backlog] = {}  # as last published
        self._migrated = False
        self._tally = _Tally()
        self._surveys: dict[Partition, _Survey] = {}
        self._surveyed_s = -SURVEY_S
        self._seldom = Seldom(interval_s=10.0)

    def run(self, check: Callable[[], None] = lambda: None, flushed: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set. What was polled by then is judged and committed; the log is closed in any case.

        check: called every round; raises when the process must not go on. flushed: called when, told to stop, all is
        written. Raises LogUnavailable when, at the end, the
        state could not be written: the next worker judges the last readings again.
        """
        try:
            while not self._stop.is_set():
                self.turn()
                check()
            self._publish(State.STOPPING, [])
            self.flush()
            flushed()
        finally:
            self._log.close()

    def turn(self, timeout_s: float = POLL_S) -> list[Processed]:
        """One round: returns what was judged and committed in it."""
        began = time.perf_counter()
        restoring = any(recovery.task.stage is Stage.RESTORING for recovery in self._recoveries.values())
        polled = self._log.poll(0.0 if restoring else timeout_s)
        self._open_and_close(polled)
        self._metrics.observe_stages({"poll": time.perf_counter() - began})
        try:
            self._tell_of_added_partitions()
            work = self._recover(polled.fetched)
            judged = self._pipeline.process_all(work)
            self._commit(judged, self._commits(judged))
        except TaskMigrated as migrated:
            self._drop_tasks(str(migrated))
            judged = []
        self._publish(State.RUNNING, [event for one in judged for event in one.events])
        if self._watching.wanted:
            self._watching.follow(self._tasks.values(), judged)
        if self._streams.wanted:
            self._streams.publish(self._tasks.values(), time.time_ns() // 1_000_000)
        if self._notifier is not None:
            self._notifier.look(self._tasks.values())
        if self._memory is not None:
            self._memory.look(sum(len(task.slab) for task in self._tasks.values()))
        return judged

    def flush(self) -> None:
        """Write all that is not written yet, as far as there is time for it. Raises LogUnavailable if that fails."""
        if self._migrated:
            raise LogUnavailable("the last commit failed: what it would have written is judged again at the next start")
        ends_s = time.monotonic() + FLUSH_WITHIN_S
        while time.monotonic() < ends_s:
            commits = [
                self._writer.complete(Commit(task.partition, task.next_offset), task, pages)
                for task in self._tasks.values()
                if task.partition not in self._recoveries
                and task.next_offset is not None
                and (pages := self._writer.all_due(task))
            ]
            if not commits:
                return
            try:
                self._commit([], commits)
            except TaskMigrated as migrated:
                raise LogUnavailable(
                    f"the state could not be written, its last readings are judged again at the next start: {migrated}"
                ) from migrated

    def _open_and_close(self, polled: Polled) -> None:
        for partition in polled.revoked:
            failpoints.reach("revoke")
            self._tasks.pop(partition, None)
            self._recoveries.pop(partition, None)
            self._notices.pop(partition, None)
            self._begun.discard(partition)
            lines.info("partition_revoked", topic=partition.topic, partition=partition.number)
        if polled.revoked:
            gc.collect()
        for partition in polled.assigned:
            task = PartitionTask(partition, StateSlab(self._pipeline.detector.rows_for), EventClock(self._idle_s))
            self._tasks[partition] = task
            self._tally.assigned += 1
            writer = self._writer
            self._recoveries[partition] = Recovery(
                self._log, self._pipeline, writer.group, writer.layout, writer.numerics, self._rules, task
            )
            self._migrated = False
            lines.info("partition_assigned", topic=partition.topic, partition=partition.number)

    def _drop_tasks(self, reason: str) -> None:
        """Other workers have the partitions now, or may have: the next poll says which begin anew.

        Recoveries that were under way and producers that were dropped are cycles, with whole slabs and open sockets in
        them: they are collected at once, here and where partitions are revoked, as the collector itself hardly ever
        comes round in a process that was told to leave it be.
        """
        self._tasks.clear()
        self._recoveries.clear()
        self._notices.clear()
        self._begun.clear()
        self._migrated = True
        self._tally.aborts += 1
        gc.collect()
        lines.warning("tasks_migrated", reason=reason)

    def _recover(self, fetched: Sequence[Fetched]) -> list[tuple[Fetched, PartitionTask]]:
        """Let every task without its memory go on towards it; returns what is to be judged for the first time."""
        work = []
        for one in fetched:
            recovery = self._recoveries.get(one.partition)
            rest = one if recovery is None else recovery.take(one)
            if rest is not None:
                work.append((rest, self._tasks[one.partition]))
        for partition, recovery in list(self._recoveries.items()):
            recovery.step()
            if recovery.task.stage is Stage.RUNNING:
                del self._recoveries[partition]
                self._notices[partition] = recovery.notices
                self._metrics.observe_restore(recovery.seconds)
                self._tally.replayed += recovery.replayed
                self._tally.problems.update(problem.value for problem in recovery.problems)
        return work

    def _tell_of_added_partitions(self) -> None:
        """Once for each partition: the marker of the same commit counts them all. One that recovers tells by itself."""
        for partition, task in self._tasks.items():
            count = self._backlogs.get(partition, NOT_HEARD).partitions
            if partition not in self._recoveries and task.next_offset is not None and count > task.partitions:
                notice = partitions_added(partition, task.partitions, count, task.next_offset)
                self._notices.setdefault(partition, []).append(notice)
                self._tally.problems[Problem.PARTITIONS.value] += 1
                task.partitions = count

    def _commits(self, judged: Sequence[Processed]) -> list[Commit]:
        """What was judged, with the pages that are due, also of partitions of which nothing was fetched."""
        commits = [one.commit for one in judged]
        last = {commit.partition: n for n, commit in enumerate(commits)}
        first = {commit.partition: n for n, commit in reversed(list(enumerate(commits)))}
        for partition, task in self._tasks.items():
            if partition in self._recoveries or task.next_offset is None:
                continue
            pages, notices = self._writer.due(task), self._notices.get(partition, ())
            if partition not in last and (pages or notices):
                first[partition] = last[partition] = len(commits)
                commits.append(Commit(partition, task.next_offset))
            if partition in last:
                told = commits[first[partition]]
                commits[first[partition]] = told._replace(anomalies=(*notices, *told.anomalies))
                commits[last[partition]] = self._writer.complete(commits[last[partition]], task, pages)
        return commits

    def _commit(self, judged: Sequence[Processed], commits: Sequence[Commit]) -> None:
        """Write everything or nothing. Raises TaskMigrated."""
        if not commits:
            return
        began = time.perf_counter()
        self._log.commit(commits)
        failpoints.reach("after_commit")
        commit_s = time.perf_counter() - began
        self._metrics.observe_transaction(commit_s)
        self._metrics.observe_stages({"commit": commit_s})
        now_ms = time.time_ns() // 1_000_000
        for one in judged:
            self._metrics.observe_batch(len(one.batch.keys), one.batch.record_times_ms, now_ms)
            self._metrics.observe_stages(one.stage_s)
        notices = [notice for commit in commits for notice in self._notices.pop(commit.partition, ())]
        self._tally.add(judged)
        self._begun.update(one.commit.partition for one in judged)
        self._report(judged)
        if self._notifier is not None:
            self._notifier.tell(judged, notices)

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
            self._surveys = {partition: self._survey(task, now_s) for partition, task in self._tasks.items()}
        last, backlogs = self._board.read(), self._log.backlogs()
        self._backlogs = backlogs or {}
        told = [msgspec.to_builtins(event) for event in events[-100:]]
        self._board.publish(
            Status(
                state=state,
                started_ms=last.started_ms,
                published_ms=time.time_ns() // 1_000_000,
                beat_s=now_s,
                checkpoint=last.checkpoint,
                partitions=tuple(self._partition_statuses()),
                joined=backlogs is not None,
                counts=self._tally.counts(self._writer),
                recent=newest(told, last.recent),
                told=last.told + len(events),
                details=still_open(told, last.details) if told else last.details,
            )
        )

    def _survey(self, task: PartitionTask, now_s: float) -> "_Survey":
        if task.next_offset is not None:
            task.milestones.pass_on(task.next_offset, now_s)
        changed_s = task.milestones.reached_s(task.replay_from or 0)
        alarms = open_alarms(task.slab)
        return _Survey(
            len(task.slab),
            self._pipeline.detector.count_warming(task.slab.rows),
            by_severity(alarms),
            max((alarm.peak for alarm in alarms), default=0.0),
            strongest(alarms, self._top_streams),
            0.0 if changed_s is None else now_s - changed_s,
        )

    def _partition_statuses(self) -> Iterator[PartitionStatus]:
        for partition, task in self._tasks.items():
            yield self._partition_status(task, self._backlogs.get(partition, NOT_HEARD))
        for partition, backlog in self._backlogs.items():
            if backlog.refused:
                yield PartitionStatus(
                    *partition,
                    next_offset=backlog.passed,
                    end_offset=backlog.end,
                    stage=Stage.WAITING,
                    progress=0.0,
                    waits_for=backlog.refused,
                )

    def _waits_for(self, task: PartitionTask, backlog: Backlog) -> str:
        if task.stage is not Stage.RUNNING:
            return ""  # the stage says it
        if backlog.end is None:
            return "how far it goes is not known"
        return "" if task.partition in self._begun else "nothing of it is judged yet"

    def _partition_status(self, task: PartitionTask, backlog: Backlog) -> PartitionStatus:
        survey = self._surveys.get(task.partition, NOT_SURVEYED)
        next_offset = max((o for o in (task.next_offset, backlog.passed) if o is not None), default=None)
        if task.stage is Stage.RUNNING and backlog.end is not None and (next_offset or 0) >= backlog.end:
            self._begun.add(task.partition)
        return PartitionStatus(
            topic=task.partition.topic,
            number=task.partition.number,
            next_offset=next_offset,
            end_offset=backlog.end,
            waits_for=self._waits_for(task, backlog),
            event_time_ms=task.clock.latest_ms,
            stage=task.stage,
            progress=task.progress,
            replay_from=task.replay_from,
            streams=len(task.slab),
            # Those that came since the survey are learning, until it is known that they are not.
            warming=min(len(task.slab), survey.warming + max(0, len(task.slab) - survey.streams)),
            state_bytes=task.slab.nbytes,
            alarms_open=task.open_alarms,
            open_by_severity=survey.open_by_severity,
            open_peak=survey.open_peak,
            strongest=survey.strongest,
            unwritten_s=survey.unwritten_s,
        )


def first_status(checkpoint: Checkpoint) -> Status:
    """What stands on the board before the worker's first round."""
    now_ms = time.time_ns() // 1_000_000
    return Status(State.STARTING, now_ms, now_ms, time.monotonic(), checkpoint)
