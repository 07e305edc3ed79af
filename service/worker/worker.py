"""The loop: poll, open and close tasks, judge, commit, let observers see it. One thread, one transaction a poll.

Nothing is uncommitted between two polls, so a rebalance has nothing to flush, and a crash at any place loses nothing
that was published. An unknown error ends the process: a restart is the recovery.
"""

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import structlog

from service import failpoints
from service.errors import LogUnavailable, LostState, TaskMigrated
from service.live.observer import Committed, Observer, Promotion, Round
from service.log.port import NOT_HEARD, Backlog, Commit, Fetched, MemberLog, Partition, Polled, Record
from service.pipeline import Judge, Pipeline, Processed
from service.recovery import Recovery, RecoveryRules, partitions_added
from service.state.pauses import SaidPause
from service.state.problems import Problem
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter
from service.worker.promotion import Candidate, Promotions

NO_OTHERS: Mapping[str, Pipeline] = MappingProxyType({})
NO_PAUSES: Sequence[SaidPause] = ()
PROBLEMS = tuple(problem.value for problem in Problem)
POLL_S = 0.5  # longest wait for records: so soon a stop is noticed
FLUSH_WITHIN_S = 3.0  # when told to stop: what is not written by then is judged again by the next worker

logger = structlog.get_logger("telltale")


class Worker:
    """Drives one log with one pipeline until it is told to stop."""

    def __init__(
        self,
        log: MemberLog,
        pipeline: Pipeline,
        writer: StateWriter,
        rules: RecoveryRules,
        stop: threading.Event,
        *,
        observers: Sequence[Observer] = (),
        idle_s: float | None = None,
        others: Mapping[str, Pipeline] = NO_OTHERS,
        promotions: Promotions | None = None,
        pauses: Callable[[], Sequence[SaidPause]] = lambda: NO_PAUSES,
    ) -> None:
        """others: by topic, what judges those that another checkpoint judges; the writer knows the same topics.

        promotions: what people say is to judge instead, while it runs; None: no one can.

        pauses: in which nothing is learned of some streams, as people say now; the same object until they say else.

        observers: who sees what it does, in this order, in its own thread.

        idle_s: seconds of event time after which a stream without readings is forgotten; None: never.
        """
        self._log = log
        self._pipeline = pipeline
        self._writer = writer
        self._rules = rules
        self._stop = stop
        self._observers = observers
        self._idle_s = idle_s
        self._others = others
        self._promotions = promotions
        self._pauses = pauses
        self._candidate: Candidate | None = None
        self._refused: set[tuple[Partition, str]] = set()  # digests that cannot take over a partition
        self._tasks: dict[Partition, PartitionTask] = {}
        self._pipelines: dict[Partition, Pipeline] = {}
        self._recoveries: dict[Partition, Recovery] = {}
        self._notices: dict[Partition, list[Record]] = {}
        self._backlogs: Mapping[Partition, Backlog] = {}  # as the log last said
        self._migrated = False

    def run(self, check: Callable[[], None] = lambda: None, flushed: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set. What was polled by then is judged and committed; the log is closed in any case.

        check: called every round; raises when the process must not go on. flushed: called when, told to stop, all is
        written. Raises LogUnavailable when, at the end, the state could not be written: the next worker judges the last
        readings again.
        """
        try:
            while not self._stop.is_set():
                self.turn()
                check()
            self._end_round([], stopping=True)
            self.flush()
            flushed()
        finally:
            self._drop_candidate()
            self._log.close()

    def turn(self, timeout_s: float = POLL_S) -> list[Processed]:
        """One round: returns what was judged and committed in it."""
        began = time.perf_counter()
        restoring = any(recovery.task.stage is Stage.RESTORING for recovery in self._recoveries.values())
        polled = self._log.poll(0.0 if restoring or self._candidate is not None else timeout_s)
        self._open_and_close(polled)
        polled_s = time.perf_counter() - began
        for observer in self._observers:
            observer.polled(polled_s)
        try:
            self._report_added_partitions()
            work = self._recover(polled.fetched)
            self._adopt_pauses()
            judged = self._judge(work)
            self._commit(judged, self._commits(judged))
            judged += self._promote()
        except TaskMigrated as migrated:
            self._drop_tasks(str(migrated))
            judged = []
        self._end_round(judged)
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
            self._drop_candidate(partition)
            for observer in self._observers:
                observer.revoked(partition)
        if polled.revoked:
            gc.collect()
        for partition in polled.assigned:
            pipeline, meaning = self._judge_of(partition)
            task = PartitionTask(partition, StateSlab(pipeline.detector.rows_for), EventClock(self._idle_s))
            self._tasks[partition], self._pipelines[partition] = task, pipeline
            task.meaning = meaning
            self._recoveries[partition] = Recovery(
                self._log,
                pipeline,
                self._writer.group,
                *meaning,
                self._rules,
                task,
                partial(self._find_judge, partition),
            )
            self._migrated = False
            for observer in self._observers:
                observer.assigned(partition)

    def _drop_tasks(self, reason: str) -> None:
        """Other workers have the partitions now, or may have: the next poll says which begin again.

        Recoveries that were under way and producers that were dropped are cycles, with whole slabs and open sockets in
        them: they are collected at once, here and where partitions are revoked, as the collector itself hardly ever
        runs in a process that was set up to leave it alone.
        """
        self._tasks.clear()
        self._drop_candidate()
        self._recoveries.clear()
        self._notices.clear()
        self._migrated = True
        gc.collect()
        for observer in self._observers:
            observer.migrated(reason)

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
                self._pipelines[partition] = recovery.pipeline
                self._report_judge(partition)
                for observer in self._observers:
                    observer.recovered(recovery.seconds, recovery.replayed)
                    observer.found_problems([problem.value for problem in recovery.problems])
        return work

    def _judge_of(self, partition: Partition) -> Judge:
        """Of a partition that comes to this worker, unless another one that is known wrote its marker."""
        promotion, topic = self._wanted(partition), partition.topic
        if promotion is not None:
            return promotion.judge
        return Judge(self._others.get(topic, self._pipeline), self._writer.meaning_of(topic))

    def _find(self, partition: Partition, digest: str) -> Promotion | None:
        return None if self._promotions is None else self._promotions.find(partition.topic, digest)

    def _find_judge(self, partition: Partition, digest: str) -> Judge | None:
        found = self._find(partition, digest)
        return None if found is None else found.judge

    def _report_judge(self, partition: Partition) -> None:
        promotion = self._find(partition, self._pipelines[partition].digest)
        if promotion is not None:
            for observer in self._observers:
                observer.judged_by(partition, promotion)

    def _judge(self, work: Sequence[tuple[Fetched, PartitionTask]]) -> list[Processed]:
        """Each by the checkpoint of its partition; those of one checkpoint together."""
        shares: dict[Pipeline, list[tuple[Fetched, PartitionTask]]] = {self._pipeline: []}
        for fetched, task in work:
            shares.setdefault(self._pipelines[fetched.partition], []).append((fetched, task))
        return [one for pipeline, share in shares.items() for one in pipeline.process_all(share)]

    def _adopt_pauses(self) -> None:
        """What people say holds from the next record of each partition on."""
        said = self._pauses()
        for partition, task in self._tasks.items():
            if partition in self._recoveries or task.next_offset is None:
                continue
            begun, ended = task.pauses.adopt(said, task.next_offset, task.replay_from or 0, task.clock.latest_ms)
            if begun or ended:
                begin, end = ([one.id for one in some] for some in (begun, ended))
                where = {"topic": partition.topic, "partition": partition.number, "from_offset": task.next_offset}
                logger.info("learning_pauses", **where, begin=begin, end=end)

    # --- another checkpoint

    def _promote(self) -> list[Processed]:
        """Let a candidate go on, one partition after the other; where it is as far as the task, it takes over.

        Returns what was committed with that.
        """
        candidate = self._candidate
        if candidate is None:
            candidate = self._candidate = self._next_candidate()
        if candidate is None:
            return []
        partition, promotion = candidate.partition, candidate.promotion
        task = self._tasks[partition]
        if self._wanted(partition) is not promotion:
            self._drop_candidate()
            return []
        try:
            is_level = candidate.step(task.next_offset or 0)
        except LostState as error:
            self._refuse(partition, promotion, error)
            return []
        return [self._take_over(candidate, task)] if is_level else []

    def _next_candidate(self) -> Candidate | None:
        for partition, task in self._tasks.items():
            promotion = self._wanted(partition)
            if (
                self._promotions is None
                or promotion is None
                or partition in self._recoveries
                or task.next_offset is None
                or promotion.judge.digest == self._pipelines[partition].digest
                or (partition, promotion.judge.digest) in self._refused
            ):
                continue
            log = self._promotions.open_log()
            return Candidate(log, promotion, self._writer.group, self._rules, task, self._idle_s)
        return None

    def _take_over(self, candidate: Candidate, task: PartitionTask) -> Processed:
        partition = candidate.partition
        taken = candidate.take_over(task, self._pipelines[partition])
        pages = list(range(candidate.task.slab.pages))
        failpoints.reach("before_promotion")
        self._tasks[partition] = candidate.task
        self._pipelines[partition] = candidate.promotion.judge.pipeline
        self._commit([taken], [self._writer.complete(taken.commit, candidate.task, pages)])
        failpoints.reach("after_promotion")
        self._drop_candidate()
        for observer in self._observers:
            observer.judged_by(partition, candidate.promotion)
        return taken

    def _wanted(self, partition: Partition) -> Promotion | None:
        return None if self._promotions is None else self._promotions.wanted(partition.topic)

    def _refuse(self, partition: Partition, promotion: Promotion, error: LostState) -> None:
        self._refused.add((partition, promotion.judge.digest))
        self._drop_candidate()
        if self._promotions is not None:
            self._promotions.refused(partition, promotion, error)

    def _drop_candidate(self, partition: Partition | None = None) -> None:
        """partition: only if it is of this one."""
        if self._candidate is not None and partition in (None, self._candidate.partition):
            self._candidate.close()
            self._candidate = None

    def _report_added_partitions(self) -> None:
        """Once for each partition: the marker of the same commit counts them all. A recovering one reports itself."""
        for partition, task in self._tasks.items():
            count = self._backlogs.get(partition, NOT_HEARD).partitions
            if partition not in self._recoveries and task.next_offset is not None and count > task.partitions:
                notice = partitions_added(partition, task.partitions, count, task.next_offset)
                self._notices.setdefault(partition, []).append(notice)
                for observer in self._observers:
                    observer.found_problems([Problem.PARTITIONS.value])
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
                commit = commits[first[partition]]
                commits[first[partition]] = commit._replace(anomalies=(*notices, *commit.anomalies))
                commits[last[partition]] = self._writer.complete(commits[last[partition]], task, pages)
        return commits

    def _commit(self, judged: Sequence[Processed], commits: Sequence[Commit]) -> None:
        """Write everything or nothing. Raises TaskMigrated."""
        if not commits:
            return
        began = time.perf_counter()
        self._log.commit(commits)
        failpoints.reach("after_commit")
        seconds = time.perf_counter() - began
        for commit in commits:
            self._notices.pop(commit.partition, None)
        for observer in self._observers:
            observer.committed(Committed(judged, seconds))

    def _end_round(self, judged: Sequence[Processed], *, stopping: bool = False) -> None:
        backlogs = self._log.backlogs()
        self._backlogs = backlogs or {}
        for observer in self._observers:
            observer.turned(Round(stopping, self._tasks, judged, backlogs))
