"""Writes a task's memory to the changelog: which pages are due, and the marker that says how far it has come.

Pages trickle out. Of P pages, P * elapsed / flush_interval_s are written at each commit, those first that have been
dirty longest, so that none stays dirty for longer than the interval and no commit has much to write. A page whose
membership changed is due at once, with its roster.
"""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import UNSET

from service.log.port import Commit
from service.state.changelog import Layout, Marker, Meaning, marker_record, page_record, roster_record
from service.state.changelog_keys import Origin
from service.state.task import PartitionTask

PAGES_AT_ONCE = 512  # of one partition, in one transaction: 50 MB at 64 hidden units, half a second's work


NO_OTHERS: Mapping[str, Meaning] = MappingProxyType({})


class StateWriter:
    """One worker's: what it writes says under which group, checkpoint and arithmetic it came about."""

    def __init__(
        self,
        group: str,
        layout: Layout,
        numerics: str,
        writer: str,
        flush_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        others: Mapping[str, Meaning] = NO_OTHERS,
    ) -> None:
        """numerics: the fingerprint of this machine's arithmetic. writer: the transactional id. clock: in seconds.

        others: by topic, of those that another checkpoint judges.
        """
        self.group = group
        self.layout = layout
        self.numerics = numerics
        self.pages_written = 0
        self.bytes_written = 0
        self._writer = writer
        self._interval_s = flush_interval_s
        self._clock = clock
        self._others = others

    def meaning_of(self, topic: str) -> Meaning:
        """Of the rows of this topic's streams, where no other checkpoint than the settings' was promoted."""
        return self._others.get(topic) or Meaning(self.layout, self.numerics)

    def _meaning_of(self, task: PartitionTask) -> Meaning:
        return task.meaning or self.meaning_of(task.partition.topic)

    def due(self, task: PartitionTask) -> list[int]:
        """Pages to be written with the next commit of this task; asking counts as the time they were due."""
        now_s = self._clock()
        elapsed_s = now_s - task.asked_s if task.asked_s is not None else 0.0
        task.asked_s = now_s
        dirty = [page for page, _ in task.slab.dirty_pages()]
        task.credit = task.credit + task.slab.pages * elapsed_s / self._interval_s if dirty else 0.0
        some = min(int(task.credit), PAGES_AT_ONCE, len(dirty))
        task.credit = task.credit - some if some < len(dirty) else 0.0  # not saved up for when more pages are busy
        return sorted({*dirty[:some], *task.slab.pages_with_changed_membership()})

    def all_due(self, task: PartitionTask) -> list[int]:
        """Pages that have to be written before the process ends, or the first of them."""
        dirty = [page for page, _ in task.slab.dirty_pages()]
        return sorted({*dirty[:PAGES_AT_ONCE], *task.slab.pages_with_changed_membership()})

    def complete(self, commit: Commit, task: PartitionTask, pages: list[int]) -> Commit:
        """The task's last commit of a transaction with these pages and the marker; the pages are clean from now on."""
        origin = Origin(self.group, task.partition)
        membership_changed = set(task.slab.pages_with_changed_membership())
        layout = self._meaning_of(task).layout
        records = []
        for number in pages:
            page = task.slab.page(number, commit.next_offset)
            if number in membership_changed:
                records.append(roster_record(origin, number, page.keys))
            records.append(page_record(origin, layout, page))
            task.slab.clean(number)
        if task.pauses.is_changed:
            records.append(task.pauses.record(origin))
            task.pauses.is_changed = False
        self.pages_written += len(pages)
        self.bytes_written += sum(len(record.value or b"") for record in records)
        return commit._replace(pages=tuple(records), marker=marker_record(self._marker(task, commit.next_offset)))

    def _marker(self, task: PartitionTask, next_offset: int) -> Marker:
        replay_from = task.replay_from
        layout, numerics = self._meaning_of(task)
        return Marker(
            group=self.group,
            topic=task.partition.topic,
            partition=task.partition.number,
            next_offset=next_offset,
            replay_from=next_offset if replay_from is None else replay_from,
            topic_id=task.topic_id,
            partitions=task.partitions,
            checkpoint=layout.checkpoint,
            names=layout.names,
            checkpoint_from=task.checkpoint_from,
            primed_from=task.primed_from,
            numerics=numerics,
            pages=task.slab.pages,
            streams=len(task.slab),
            counts=dict(task.counts),
            event_time_ms=task.clock.latest_ms,
            ticks=task.clock.ticks,
            silence_ticks=task.clock.silence_ticks.stored() or UNSET,
            writer=self._writer,
            rules=UNSET if task.rules_from is None else task.rules,
            rules_from=UNSET if task.rules_from is None else task.rules_from,
        )
