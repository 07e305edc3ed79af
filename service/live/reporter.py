"""What a worker does, reported to those who watch it: the status, the metrics and the log's lines."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import structlog

from models.detection.detector import Detector
from models.detection.sensor_rules import Excluded
from service.host.log_lines import Seldom
from service.input.reasons import Reason
from service.live.metrics import Metrics
from service.live.observer import Committed, Observer, Promotion, Round
from service.live.refusals import Refusals
from service.live.status import (
    CheckpointStatus,
    Counts,
    PartitionStatus,
    ShadowStatus,
    Status,
    StatusBoard,
    WorkerState,
    newest,
    still_open,
)
from service.log.port import NOT_HEARD, Backlog, Partition
from service.pipeline import Processed
from service.state.open_alarms import by_severity, open_alarms, strongest
from service.state.task import PartitionTask, Stage
from service.state.writer import StateWriter

STAGES = ("poll", "decode", "slots", "pack", "gather", "observe", "scatter", "emit", "commit")
REASONS = tuple(reason.value for reason in Reason)
EXCLUDED = tuple(map(str, Excluded))
SURVEY_S = 1.0  # between two counts of the streams that are still warming up
STREAMS_NAMED = 5  # in one log line

logger = structlog.get_logger("telltale.worker")


@dataclass(slots=True)
class _Tally:
    """Counts since the start, of what is committed."""

    records: int = 0
    readings: int = 0
    late: int = 0
    duplicate: int = 0
    skipped: int = 0
    paused: int = 0
    transactions: int = 0
    aborts: int = 0
    assigned: int = 0
    evicted: int = 0
    replayed: int = 0
    promoted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    changed: dict[str, Counter[str]] = field(default_factory=dict)  # by transition, by severity
    channels: Counter[str] = field(default_factory=Counter)  # opened, by the channel with most share
    readings_by_checkpoint: Counter[str] = field(default_factory=Counter)
    opened_by_checkpoint: Counter[str] = field(default_factory=Counter)

    def add(self, judged: Sequence[Processed]) -> None:
        for one in judged:
            self.records += one.counts["records"]
            self.readings += len(one.batch.keys)
            self.readings_by_checkpoint[one.checkpoint] += len(one.batch.keys)
            self.late += one.counts["late"]
            self.duplicate += one.counts["duplicate"]
            self.skipped += one.counts["skipped"]
            self.paused += one.batch.paused
            self.evicted += one.counts["evicted"]
            self.rejected.update(reject.reason.value for reject in one.rejects)
            self.excluded.update({reason: one.counts[reason] for reason in EXCLUDED if reason in one.counts})
            for event in one.events:
                self.changed.setdefault(event.change, Counter())[event.data.severity] += 1
                if event.change == "opened":
                    self.opened_by_checkpoint[event.data.checkpoint] += 1
                if event.change == "opened" and event.data.channels:
                    self.channels[max(event.data.channels, key=lambda channel: channel.share).name] += 1
        self.transactions += 1

    def counts(self, writer: StateWriter) -> Counts:
        opened, updated, closed = (dict(self.changed.get(change, {})) for change in ("opened", "updated", "closed"))
        return Counts(
            readings=self.readings,
            rejected=dict(self.rejected),
            excluded=dict(self.excluded),
            late=self.late,
            duplicate=self.duplicate,
            skipped=self.skipped,
            paused=self.paused,
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
            records=self.records,
            promoted=self.promoted,
            readings_by_checkpoint=dict(self.readings_by_checkpoint),
            opened_by_checkpoint=dict(self.opened_by_checkpoint),
        )


class _Survey(NamedTuple):
    """What is counted of a partition's rows, once in a while."""

    streams: int
    warming: int
    open_by_severity: Mapping[str, int]
    open_peak: float
    strongest: tuple[tuple[str, float], ...]
    unwritten_s: float


NO_OTHERS: Mapping[str, Detector] = MappingProxyType({})
NOT_SURVEYED = _Survey(0, 0, {}, 0.0, (), 0.0)


class Reporter(Observer):
    """Counts what a worker does, publishes its status, and writes a line for what people want to read."""

    def __init__(
        self,
        board: StatusBoard,
        metrics: Metrics,
        writer: StateWriter,
        detector: Detector,
        top_streams: int = 0,
        others: Mapping[str, Detector] = NO_OTHERS,
        unusable_model: Callable[[], str] = lambda: "",
        shadow: Callable[[], ShadowStatus | None] = lambda: None,
    ) -> None:
        """top_streams: those with the strongest open alarms that the status names.

        others: by topic, the detectors of those that another checkpoint judges. unusable_model, shadow: see Status.
        """
        self._board = board
        self._metrics = metrics
        self._writer = writer
        self._detector = detector
        self._others = others
        self._unusable_model, self._shadow = unusable_model, shadow
        self._promoted: dict[Partition, Promotion] = {}
        self._top_streams = top_streams
        self._tally = _Tally()
        self._refusals = Refusals()
        self._begun: set[Partition] = set()  # of which something was judged, or there was nothing to judge
        self._surveys: dict[Partition, _Survey] = {}
        self._surveyed_s = -SURVEY_S
        self._shadow_seen: ShadowStatus | None = None
        self._seldom = Seldom(interval_s=10.0)

    def polled(self, seconds: float) -> None:
        self._metrics.observe_stages({"poll": seconds})

    def assigned(self, partition: Partition) -> None:
        self._tally.assigned += 1
        logger.info("partition_assigned", topic=partition.topic, partition=partition.number)

    def revoked(self, partition: Partition) -> None:
        self._begun.discard(partition)
        self._promoted.pop(partition, None)
        logger.info("partition_revoked", topic=partition.topic, partition=partition.number)

    def judged_by(self, partition: Partition, promotion: Promotion) -> None:
        digest, before = promotion.judge.digest, self._promoted.get(partition)
        self._promoted[partition] = promotion
        if before is not None and before.judge.digest != digest:
            self._tally.promoted += 1
            logger.info(
                "model_promoted",
                topic=partition.topic,
                partition=partition.number,
                digest=digest[:12],
                before=before.judge.digest[:12],
            )
        last = self._board.read()
        if promotion.topic:
            models = {**last.models, promotion.topic: promotion.checkpoint}
            self._board.publish(replace(last, models=models))
        else:
            models = {topic: one for topic, one in last.models.items() if topic != partition.topic}
            self._board.publish(replace(last, checkpoint=promotion.checkpoint, models=models))

    def recovered(self, seconds: float, replayed: int) -> None:
        self._metrics.observe_restore(seconds)
        self._tally.replayed += replayed

    def found_problems(self, problems: Sequence[str]) -> None:
        self._tally.problems.update(problems)

    def migrated(self, reason: str) -> None:
        self._begun.clear()
        self._tally.aborts += 1
        logger.warning("tasks_migrated", reason=reason)

    def committed(self, commit: Committed) -> None:
        self._metrics.observe_transaction(commit.seconds)
        self._metrics.observe_stages({"commit": commit.seconds})
        now_ms = time.time_ns() // 1_000_000
        for one in commit.judged:
            self._metrics.observe_batch(len(one.batch.keys), one.batch.record_times_ms, now_ms)
            self._metrics.observe_stages(one.stage_s)
        self._tally.add(commit.judged)
        self._refusals.add(commit.judged)
        self._begun.update(one.commit.partition for one in commit.judged)
        self._report(commit.judged)

    def turned(self, turn: Round) -> None:
        now_s = time.monotonic()
        if now_s - self._surveyed_s >= SURVEY_S:
            self._surveyed_s = now_s
            self._shadow_seen = self._shadow()
            self._surveys = {partition: self._survey(task, now_s) for partition, task in turn.tasks.items()}
        last = self._board.read()
        events = [event for one in turn.judged for event in one.events]
        new = [msgspec.to_builtins(event) for event in events[-100:]]
        self._board.publish(
            Status(
                state=WorkerState.STOPPING if turn.stopping else WorkerState.RUNNING,
                started_ms=last.started_ms,
                published_ms=time.time_ns() // 1_000_000,
                beat_s=now_s,
                checkpoint=last.checkpoint,
                models=last.models,
                partitions=tuple(self._partition_statuses(turn)),
                joined=turn.backlogs is not None,
                counts=self._tally.counts(self._writer),
                many_refused=self._refusals.going_on,
                recent=newest(new, last.recent),
                events=last.events + len(events),
                details=still_open(new, last.details) if new else last.details,
                unusable_model=self._unusable_model(),
                shadow=self._shadow_seen,
            )
        )

    def _survey(self, task: PartitionTask, now_s: float) -> _Survey:
        if task.next_offset is not None:
            task.milestones.pass_on(task.next_offset, now_s)
        changed_s = task.milestones.reached_s(task.replay_from or 0)
        alarms = open_alarms(task.slab)
        promoted = self._promoted.get(task.partition)
        usual = self._others.get(task.partition.topic, self._detector)
        detector = usual if promoted is None else promoted.judge.pipeline.detector
        return _Survey(
            len(task.slab),
            detector.count_warming(task.slab.rows),
            by_severity(alarms),
            max((alarm.peak for alarm in alarms), default=0.0),
            strongest(alarms, self._top_streams),
            0.0 if changed_s is None else now_s - changed_s,
        )

    def _partition_statuses(self, turn: Round) -> Iterator[PartitionStatus]:
        backlogs = turn.backlogs or {}
        for partition, task in turn.tasks.items():
            yield self._partition_status(task, backlogs.get(partition, NOT_HEARD))
        for partition, backlog in backlogs.items():
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
            checkpoint="" if task.meaning is None else task.meaning.layout.checkpoint,
            open_by_severity=survey.open_by_severity,
            open_peak=survey.open_peak,
            strongest=survey.strongest,
            unwritten_s=survey.unwritten_s,
        )

    def _report(self, judged: Iterable[Processed]) -> None:
        """A line for the anomalies of this round, and one now and then for each reason of rejects."""
        for one in judged:
            if one.events:
                changes = Counter(event.change for event in one.events)
                streams = list(dict.fromkeys(event.subject for event in one.events))
                logger.info(
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
                    logger.warning(
                        "record_rejected",
                        reason=reject.reason.value,
                        detail=reject.detail,
                        topic=one.commit.partition.topic,
                        partition=one.commit.partition.number,
                        before_offset=one.commit.next_offset,
                        more_since_last=held_back,
                    )


def first_status(checkpoint: CheckpointStatus, models: Mapping[str, CheckpointStatus] | None = None) -> Status:
    """What stands on the board before the worker's first round. models: by topic, see Status."""
    now_ms = time.time_ns() // 1_000_000
    return Status(WorkerState.STARTING, now_ms, now_ms, time.monotonic(), checkpoint, models=models or {})
