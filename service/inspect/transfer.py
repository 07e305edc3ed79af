"""Carrying what streams remember elsewhere, from the changelog: no service has to stop for it but the one written to.

A page lags behind the marker, so a partition is first restored as a worker would restore it, with the same code, and
only then are rows taken out or put in.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.detection.rows import Rows
from models.output.wording import counted
from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.inspect.groupless_log import POLL_S, GrouplessLog, Search
from service.inspect.inspection import FoundStream, collect, find, marker_of
from service.inspect.state_file import From, Manifest, StateExport
from service.log.port import Commit, Partition
from service.pipeline import Pipeline
from service.recovery import Recovery, RecoveryRules
from service.state.changelog import Layout, Marker
from service.state.changelog_keys import Origin
from service.state.key_index import NO_SLOT
from service.state.slab import PAGE_ROWS, StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter

# --- taking out


def export_streams(
    log: GrouplessLog, search: Search, streams: Sequence[StreamKey], pipeline: Pipeline, layout: Layout, numerics: str
) -> StateExport:
    """The rows of some streams as they are at their partitions' markers. Raises RefusedInput."""
    by_origin: dict[Origin, list[tuple[StreamKey, FoundStream]]] = defaultdict(list)
    for stream in dict.fromkeys(streams):
        found = find(log, search, stream, layout)
        _require_checkpoint(found.marker, layout)
        by_origin[found.origin].append((stream, found))
    pieces: list[tuple[Rows, Tensor]] = []
    origins: list[From] = []
    fingerprints = set()
    for origin, wanted in by_origin.items():
        task, _ = restored(log, pipeline, origin, layout, numerics, EventClock(None))
        slots = task.slab.find([stream for stream, _ in wanted])
        if int(slots.min()) == NO_SLOT:
            raise RefusedInput(f"{origin.partition}: a stream was forgotten while its state was read: try again")
        pieces.append((task.slab.gather(slots), task.slab.applied[slots]))
        for (stream, found), slot in zip(wanted, slots.tolist(), strict=True):
            fingerprints.add(found.marker.numerics)
            next_offset = task.next_offset or 0
            where = (*origin.partition, slot // PAGE_ROWS, next_offset, min(found.marker.replay_from, next_offset))
            topic, number, page, until, since = where
            origins.append(From(stream.decode(), topic, found.marker.topic_id, number, page, until, since))
    rows = Rows(*map(torch.cat, zip(*(rows for rows, _ in pieces), strict=True)))
    manifest = Manifest(
        group=search.group,
        checkpoint=layout.checkpoint,
        numerics=" ".join(sorted(fingerprints)),
        names=layout.names,
        shapes=layout.shapes,
        streams=tuple(origins),
    )
    return StateExport(manifest, rows, torch.cat([applied for _, applied in pieces]))


def restored(
    log: GrouplessLog, pipeline: Pipeline, origin: Origin, layout: Layout, numerics: str, clock: EventClock
) -> tuple[PartitionTask, Recovery]:
    """A partition's memory at its marker, got back by the code of the service. Raises LostState, RefusedInput."""
    task = PartitionTask(origin.partition, StateSlab(pipeline.detector.rows_for), clock)
    rules = RecoveryRules(reset=False, prime_readings=0)
    recovery = Recovery(log, pipeline, origin.group, layout, numerics, rules, task)
    while task.stage is Stage.RESTORING:
        recovery.step()
    if task.stage is Stage.PRIMING:
        raise RefusedInput(
            f"{origin.partition}: some of its pages are another checkpoint's still: let the service write them first"
        )
    while task.stage is Stage.REPLAYING:
        for fetched in log.poll(POLL_S).fetched:
            recovery.take(fetched)
    return task, recovery


def _require_checkpoint(marker: Marker, layout: Layout) -> None:
    if marker.checkpoint != layout.checkpoint:
        raise RefusedInput(
            f"{marker.topic}-{marker.partition} is judged by checkpoint {marker.checkpoint[:12]} in group"
            f" {marker.group}, found {layout.checkpoint[:12]}: rows mean something to their own checkpoint alone"
        )


# --- putting in


class Limits(NamedTuple):
    """Of one partition of the group that is written to."""

    streams: int
    idle_s: float


def import_streams(
    log: GrouplessLog, search: Search, exported: StateExport, pipeline: Pipeline, writer: StateWriter, limits: Limits
) -> tuple[list[Commit], dict[Partition, int]]:
    """What to commit, all at once, to put rows into the state of a group that does not run; how many go where.

    A stream that is there already gets the row in place of its own. Each goes to the first partition that `search`
    would look for it in. Raises RefusedInput, LostState.
    """
    rows_of: dict[Partition, list[int]] = defaultdict(list)
    keys = exported.keys
    for row, key in enumerate(keys):
        rows_of[next(search.partitions(log, key))].append(row)
    commits = []
    for partition, mine in rows_of.items():
        task = task_to_write_to(log, Origin(search.group, partition), pipeline, writer, limits.idle_s)
        rows = exported.rows.take(torch.tensor(mine))
        commits.append(put_rows(task, [keys[row] for row in mine], rows, writer, limits.streams))
    return commits, {partition: len(mine) for partition, mine in rows_of.items()}


def task_to_write_to(
    log: GrouplessLog, origin: Origin, pipeline: Pipeline, writer: StateWriter, idle_s: float
) -> PartitionTask:
    """The partition's memory as its next worker would get it; of one without state, nothing yet."""
    marker, clock = marker_of(collect(log, origin)), EventClock(idle_s)
    if marker is not None:
        _require_checkpoint(marker, writer.layout)
        task, recovery = restored(log, pipeline, origin, writer.layout, writer.numerics, clock)
        if recovery.notices:  # they would be lost: the next worker would find nothing wrong any more
            problems = ", ".join(sorted({problem.value for problem in recovery.problems}))
            raise RefusedInput(
                f"{origin.partition}: its state has losses that were not reported yet ({problems}): start the service,"
                " and stop it again, first"
            )
        return task
    source = log.inspect(origin.partition)
    task = PartitionTask(origin.partition, StateSlab(pipeline.detector.rows_for), clock)
    task.next_offset = task.checkpoint_from = source.begin if source.committed is None else source.committed
    task.topic_id, task.partitions = source.topic_id, source.partitions
    return task


def put_rows(task: PartitionTask, keys: Sequence[StreamKey], rows: Rows, writer: StateWriter, limit: int) -> Commit:
    """What to commit. The rows count as judged up to where the partition is, so that a replay leaves them alone."""
    next_offset = task.next_offset or 0
    slots = task.slab.slots(keys, limit)
    if int(slots.min()) == NO_SLOT:
        raise RefusedInput(
            f"{task.partition}: it remembers {counted(len(task.slab), 'stream')}, which is limits.max_streams"
        )
    task.slab.scatter(slots, rows, torch.full((len(keys),), next_offset - 1), next_offset)
    pages = {*task.slab.pages_with_changed_membership(), *(slots // PAGE_ROWS).tolist()}
    return writer.complete(Commit(task.partition, next_offset), task, sorted(pages))
