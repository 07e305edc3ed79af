"""How a task gets its memory back: restore the pages, prime those of another checkpoint, replay the input. In slices.

A database's fuzzy checkpoint and redo (Gray & Reuter 1993, ch. 11), with Kafka as the log. The marker says that
everything before offset E is judged and published, and everything before R <= E is in the pages. The pages are loaded;
the input from R to E is judged again through the same code, and nothing is published; then the task continues from E. A
reading that is in its row already is skipped, and a stream that is in no page is left out: membership is written at
once, so there it was rejected or has been forgotten since.

What is not as it should be has a policy each: `Problem` lists them.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from msgspec import UNSET
from torch import Tensor

from models.data.arrays import Bools
from models.output.wording import counted
from service import failpoints
from service.errors import LostState
from service.input.notices import STATE_PRIMED, StateLost, state_lost
from service.input.reading_batch import ReadingBatch, StreamKey
from service.log.port import Fetched, Log, Partition, Record, Source
from service.pipeline import Judge, Pipeline
from service.state.changelog import (
    Collected,
    Layout,
    Lost,
    Marker,
    Stale,
    UnreadableRecord,
    read_marker,
    read_page,
    roster_agrees,
)
from service.state.changelog_keys import Origin
from service.state.key_index import NO_SLOT
from service.state.pauses import restored_pauses
from service.state.priming import Priming
from service.state.problems import Problem
from service.state.slab import PAGE_ROWS, Page, StateSlab
from service.state.task import ClockState, PartitionTask, Stage, records_in

SLICE_S = 0.05  # of restoring, in one round of the loop
PRIME_REACH = 16  # at most this many times the readings wanted are looked through for each stream

logger = structlog.get_logger("telltale.recovery")


@dataclass(frozen=True, slots=True)
class RecoveryRules:
    """What is decided by settings. reset: continue without what is lost, and report it; else LostState is raised."""

    reset: bool
    prime_readings: int


def partitions_added(partition: Partition, had: int, has: int, next_offset: int) -> Record:
    """What is to be reported of a partition whose topic has more partitions than the marker says."""
    detail = (
        f"the topic had {counted(had, 'partition')} and has {has}: streams whose keys go to another one now start again"
        " there"
    )
    problem = Problem.PARTITIONS.value
    logger.warning("state_problem", topic=partition.topic, partition=partition.number, problem=problem, detail=detail)
    return state_lost(StateLost(None, problem, detail, *partition, next_offset, ends_anomalies=False))


class Recovery:
    """One task's way from its assignment to RUNNING."""

    def __init__(
        self,
        log: Log,
        pipeline: Pipeline,
        group: str,
        layout: Layout,
        numerics: str,
        rules: RecoveryRules,
        task: PartitionTask,
        find: Callable[[str], Judge | None] = lambda _digest: None,
        begin_at: int | None = None,
        beside: bool = False,
    ) -> None:
        """find: by digest, what may judge in place of `pipeline`: the checkpoint that wrote the marker goes on.

        begin_at: where a partition without state begins; None: as the log is set up. beside: another task goes on
        judging meanwhile, so nothing ends here.
        """
        self.task = task
        self.problems: list[Problem] = []  # to be counted
        self.notices: list[Record] = []  # to go out with the task's first commit
        self.replayed = 0  # readings judged again
        self.seconds = 0.0  # from the assignment to the first reading that is new; 0: not there yet
        self._log = log
        self._pipeline = pipeline
        self._origin = Origin(group, task.partition)
        self._layout = layout
        self._numerics = numerics
        self._rules = rules
        self._collected = Collected(self._origin)
        self._began_s = time.monotonic()
        self._steps = self._restore()
        self._next_offset = 0  # E
        self._replay_from = 0  # R
        self._find = find
        self._begin_at = begin_at
        self._beside = beside
        self._priming: Priming | None = None
        self._ends_anomalies = False  # whether all that are open of the partition do, at E
        task.stage = Stage.RESTORING

    @property
    def pipeline(self) -> Pipeline:
        """What judges the task, as far as is known by now."""
        return self._pipeline

    def step(self) -> None:
        """Go on for a slice of time, unless it is the input's turn (`take`). Raises LostState."""
        if self.task.stage in (Stage.PRIMING, Stage.REPLAYING):
            self._pass_over(self._log.position(self.task.partition))
        ends_s = time.monotonic() + SLICE_S
        goes_on = True
        while goes_on and self.task.stage is Stage.RESTORING and time.monotonic() < ends_s:
            goes_on = next(self._steps)
        if self.task.stage is not Stage.RESTORING:
            self._steps.close()  # a suspended generator and its object hold each other, and the slab with them

    def _pass_over(self, position: int) -> None:
        """What is left before E may be records that no one gets to see: control records, aborted transactions."""
        if self._priming is not None and position >= self._priming.until:
            self._looked_through(self._priming)
        elif self.task.stage is Stage.REPLAYING and position >= self._next_offset:
            self._finish()

    def take(self, fetched: Fetched) -> Fetched | None:
        """Judge again what lies before E; returns the rest, which is to be judged for the first time."""
        if self.task.stage is Stage.PRIMING and self._priming is not None:
            self._prime(fetched, self._priming)
            return None
        if self.task.stage is not Stage.REPLAYING:
            return fetched
        old = int(np.searchsorted(fetched.offsets, self._next_offset))
        if old:
            self._replay(fetched.part(0, old))
            failpoints.reach("replay")
        if fetched.next_offset >= self._next_offset:
            self._finish()
            return fetched.part(old, len(fetched.keys)) if old < len(fetched.keys) else None
        return None

    # --- restore

    def _restore(self) -> Generator[bool, None, None]:
        """Each step does a little, and says whether the next can do more at once; the last leaves another stage."""
        task, reached = self.task, 0.0
        while True:
            stored = self._log.restore(task.partition)
            self._collected.add(stored.keys, stored.values)
            task.progress = stored.read / stored.size if stored.size else 1.0
            for share in (0.1, 0.5, 0.9):
                if reached < share <= task.progress:
                    failpoints.reach(f"restore_{share * 100:.0f}")
            reached = task.progress
            if stored.read >= stored.size:
                break
            yield bool(stored.keys)  # else it is another partition's turn, or nothing has come yet
        source = self._log.inspect(task.partition)
        task.topic_id, task.partitions = source.topic_id, source.partitions
        marker = self._usable_marker(source)
        if marker is None:
            self._collected = Collected(self._origin)  # whatever there is belongs to no offset
            self._next_offset = self._log.start(task.partition, self._begin_at)
            task.checkpoint_from = task.primed_from = self._next_offset
            self._take_rules("", None)
            self._finish()
            yield False
            return
        if (wrote_it := self._find(marker.checkpoint)) is not None:
            self._take_judge(wrote_it)
        same = (marker.checkpoint, marker.names) == (self._layout.checkpoint, self._layout.names)
        self._apply(marker, source, same)
        stale: list[Stale] = []
        task.slab.reserve(min(marker.pages, self._collected.end))
        for number in range(marker.pages):
            found = read_page(self._collected, self._layout, number)
            if isinstance(found, Page) and (not same or found.through < task.checkpoint_from):
                # This checkpoint's, but another has judged since: it may have been replaced and put back.
                places = (found.slots - number * PAGE_ROWS).tolist()
                found = Stale(number, tuple(places), found.keys)
            self._load(found)
            stale += [found] if isinstance(found, Stale) else []
            self._collected.drop(number)  # else all rows would be in memory twice
            yield True
        self._collected = Collected(self._origin)
        if stale and not same and not self._beside:
            self._report_priming(sum(len(page.keys) for page in stale))
        if stale:
            self._begin_priming([key for page in stale for key in page.keys], source)
        else:
            self._begin_replay()
        yield False

    def _take_judge(self, judge: Judge) -> None:
        self._pipeline, (self._layout, self._numerics) = judge
        self.task.slab = StateSlab(judge.pipeline.detector.rows_for)
        self.task.meaning = judge.meaning

    def _usable_marker(self, source: Source) -> Marker | None:
        """None: begin again, because this partition is new or its state is lost."""
        value = self._collected.marker
        if value is None:
            if source.committed is None and not self._collected.pages:
                return None
            problem, detail = Problem.EMPTY, "the changelog has no marker of this partition, but offsets are committed"
        else:
            try:
                marker = read_marker(self._origin, value)
            except UnreadableRecord as error:
                problem, detail = Problem(error.reason), str(error)
            else:
                if marker.topic_id == source.topic_id and marker.next_offset <= source.end:
                    return marker
                problem = Problem.RECREATED
                detail = (
                    f"the state is of topic {marker.topic_id}, judged up to offset {marker.next_offset}; found topic "
                    f"{source.topic_id}, which ends at {source.end}"
                )
        if problem is not Problem.RECREATED:
            self._begin_at = source.committed
        self._lose(problem, detail, self._begin_at or 0)
        return None

    def _apply(self, marker: Marker, source: Source, same: bool) -> None:
        """Take over what the marker says, where the input still has what it needs.

        same: the marker was written by this checkpoint, for rows that are laid out like these.
        """
        task = self.task
        self._next_offset = marker.next_offset
        if source.committed is not None and source.committed > marker.next_offset:
            detail = f"offsets are committed up to {source.committed}, the marker says {marker.next_offset}"
            self._note(Problem.BEHIND, detail)
            self._next_offset = source.committed
        task.checkpoint_from = marker.checkpoint_from if same else self._next_offset
        reach = PRIME_REACH * self._rules.prime_readings * marker.streams
        task.primed_from = marker.primed_from if same else max(0, self._next_offset - reach)
        self._replay_from = min(marker.replay_from, self._next_offset)
        if self._replay_from < source.begin:
            detail = f"has to be judged again from offset {self._replay_from}, but its topic begins at {source.begin}"
            self._lose(Problem.RETENTION, detail, max(self._next_offset, source.begin))
            self._replay_from = source.begin
        if marker.numerics != self._numerics:
            detail = f"the state was computed with arithmetic {marker.numerics}, this machine's is {self._numerics}"
            self._note(Problem.NUMERICS, detail)
        if marker.partitions < source.partitions:
            self.problems.append(Problem.PARTITIONS)
            self.notices.append(
                partitions_added(task.partition, marker.partitions, source.partitions, self._next_offset)
            )
        self._take_rules(marker.rules or "", marker.rules_from if marker.rules_from is not UNSET else None)
        if not self._beside:
            self._restore_pauses()
        task.clock.restore(ClockState.of(marker))
        task.counts.update({**marker.counts, "records": records_in(marker.counts)})

    def _restore_pauses(self) -> None:
        try:
            self.task.pauses = restored_pauses(self._collected.pauses)
        except UnreadableRecord as error:
            self._note(Problem(error.reason), f"what is judged again is learned from, also in pauses: {error}")

    def _take_rules(self, before: str, since: int | None) -> None:
        """Note from which offset on the sensors' rules of this process judge. before, since: those of the marker."""
        task, sensors = self.task, self._pipeline.sensors
        task.rules, task.rules_from = "" if sensors is None else sensors.digest, since
        if task.rules != before:
            task.rules_from = self._next_offset
            logger.info("sensor_rules", **self._where(), rules=task.rules, before=before, from_offset=self._next_offset)

    def _load(self, found: Page | Stale | Lost) -> None:
        slab = self.task.slab
        if isinstance(found, Page):
            slab.load(found)
            if not roster_agrees(self._collected, found):
                slab.mark_membership_changed(found.number)
        elif isinstance(found, Stale):
            slab.load_cold(found.number, found.places, found.keys, self.task.checkpoint_from)
        else:
            problem = Problem(found.reason)
            self._note(problem, found.detail)
            slab.load_cold(found.number, (), (), self._next_offset)
            slab.mark_membership_changed(found.number)
            self._ends_anomalies |= found.streams is None
            for stream in (None,) if found.streams is None else found.streams:
                self._report_loss(stream, problem, found.detail)

    # --- prime

    def _report_priming(self, streams: int) -> None:
        """What the old checkpoint had opened is not carried over: its rows mean nothing to this one."""
        detail = f"another checkpoint judges from here on, {counted(streams, 'stream')} primed with its last readings"
        where = (*self.task.partition, self._next_offset)
        lost = StateLost(None, "checkpoint", detail, *where, ends_anomalies=True)
        self.notices.append(state_lost(lost, STATE_PRIMED))

    def _begin_priming(self, keys: list[StreamKey], source: Source) -> None:
        slots = self.task.slab.find(keys)
        until, wanted = self.task.checkpoint_from, self._rules.prime_readings
        first = max(self.task.primed_from, source.begin)
        self._priming = Priming(slots, self.task.slab.room, until, wanted, first)
        logger.info("priming", **self._where(), streams=len(keys), readings=wanted, before_offset=until)
        self.task.stage, self.task.progress = Stage.PRIMING, 0.0
        self._look_from(self._priming)

    def _look_from(self, priming: Priming) -> None:
        if priming.begin >= priming.until:
            self._begin_replay()
        else:
            self._log.start(self.task.partition, priming.begin)

    def _prime(self, fetched: Fetched, priming: Priming) -> None:
        """First count how many readings each stream has before the offset, then judge the last of them."""
        end = int(np.searchsorted(fetched.offsets, priming.until))
        if end:
            batch = self._pipeline.decode(fetched.part(0, end), self.task)
            slots = batch.slots(self.task.slab.find)
            if priming.counting:
                priming.count(slots)
            else:
                chosen = priming.choose(slots)
                self._replay_readings(batch, slots, chosen)
        self.task.progress = priming.progress(fetched.next_offset)
        if fetched.next_offset >= priming.until:
            self._looked_through(priming)

    def _looked_through(self, priming: Priming) -> None:
        """All that there is before the offset was counted, or judged."""
        if priming.counting:
            priming.look_further_back()
            self._look_from(priming)
        else:
            self._begin_replay()

    # --- replay

    def _begin_replay(self) -> None:
        if self._priming is not None:  # what it opened was not published
            self.task.slab.end_alarms(self._priming.slots, self.task.checkpoint_from)
        self._priming = None
        if self._replay_from >= self._next_offset:
            self._log.start(self.task.partition, self._next_offset)
            self._finish()
            return
        self.task.stage, self.task.progress = Stage.REPLAYING, 0.0
        self._log.start(self.task.partition, self._replay_from)

    def _replay(self, fetched: Fetched) -> None:
        batch = self._pipeline.decode(fetched, self.task)
        if batch.keys:
            slots = batch.slots(self.task.slab.find)
            fresh = (slots != NO_SLOT) & (self.task.slab.applied[slots] < batch.readings.offsets)
            self._replay_readings(batch, slots, fresh.numpy())
        done = fetched.next_offset - self._replay_from
        self.task.progress = min(1.0, done / max(1, self._next_offset - self._replay_from))

    def _replay_readings(self, batch: ReadingBatch, slots: Tensor, chosen: Bools) -> None:
        index = np.flatnonzero(chosen)
        self.replayed += len(index)
        self._pipeline.replay_readings(batch.part(index), slots[torch.from_numpy(index)], self.task)

    def _finish(self) -> None:
        task = self.task
        task.stage, task.progress = Stage.RUNNING, 1.0
        task.next_offset = self._next_offset
        if self._ends_anomalies:
            task.slab.end_alarms(torch.arange(task.slab.room), self._next_offset)
        task.open_alarms = self._pipeline.detector.count_alarms(task.slab.rows)
        task.covered = int(task.slab.applied.max()) if task.slab.room else -1
        self.seconds = time.monotonic() - self._began_s
        logger.info(
            "state_restored",
            **self._where(),
            streams=len(task.slab),
            pages=task.slab.pages,
            next_offset=self._next_offset,
            replay_from=self._replay_from,
            replayed=self.replayed,
            seconds=round(self.seconds, 3),
        )

    # --- what is wrong

    def _lose(self, problem: Problem, detail: str, offset: int) -> None:
        """The state of all of the partition is affected."""
        if not self._rules.reset:
            raise LostState(
                f"{self.task.partition}: {detail}. With `state.when_lost: reset` the service continues without what is "
                "lost, and reports so on the topic of anomalies"
            )
        self._next_offset = offset
        self._ends_anomalies = True
        self._note(problem, detail)
        self._report_loss(None, problem, detail)

    def _note(self, problem: Problem, detail: str) -> None:
        self.problems.append(problem)
        logger.warning("state_problem", **self._where(), problem=problem.value, detail=detail)

    def _report_loss(self, stream: StreamKey | None, problem: Problem, detail: str) -> None:
        name = None if stream is None else stream.decode(errors="replace")
        lost = StateLost(name, problem.value, detail, *self.task.partition, self._next_offset, ends_anomalies=True)
        self.notices.append(state_lost(lost))

    def _where(self) -> dict[str, object]:
        return {"topic": self.task.partition.topic, "partition": self.task.partition.number}
