"""Looking at what streams remember, and carrying it elsewhere, from the changelog: no service has to stop for it.

To look is to read the newest page of a stream. To carry is more: a page lags behind the marker, so a partition is
first restored as a worker would restore it, with the same code, and only then are rows taken out or put in.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
import torch
from torch import Tensor

from models.detection.alarm import Severity
from models.detection.detector import Detector
from models.detection.rows import Channels, Doubles, Rows, Scalars
from models.output.wording import counted
from service.errors import RefusedInput
from service.input.wire import StreamKey, rfc3339
from service.inspect.state_file import Carried, From, Luggage
from service.log.port import Commit, Log, Partition
from service.pipeline import Pipeline
from service.recovery import Recovery, RecoveryRules
from service.state.changelog import (
    Collected,
    Layout,
    Lost,
    Marker,
    Origin,
    Stale,
    UnreadableRecord,
    read_marker,
    read_page,
)
from service.state.slab import NO_SLOT, PAGE_ROWS, Page, StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter

POLL_S = 0.5


class OutsideLog(Log, Protocol):
    """A log, used without being one of its workers."""

    def partitions(self, topic: str) -> int:
        """How many a topic has. Raises RefusedInput when it is not there."""


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for a stream. first: the partition that its key is sent to unless a producer says otherwise."""

    group: str
    topics: Sequence[str]
    partition: int | None  # this one alone
    first: Callable[[bytes, int], int]

    def partitions(self, log: OutsideLog, stream: StreamKey) -> Iterator[Partition]:
        for topic in self.topics:
            count = log.partitions(topic)
            if self.partition is not None:
                if not 0 <= self.partition < count:
                    raise RefusedInput(f"{topic} has partitions 0 to {count - 1}, found no partition {self.partition}")
                yield Partition(topic, self.partition)
                continue
            first = self.first(stream, count)
            yield Partition(topic, first)
            yield from (Partition(topic, number) for number in range(count) if number != first)

    def no_state(self) -> RefusedInput:
        """That none of the partitions has a marker."""
        number = "" if self.partition is None else f", partition {self.partition}"
        return RefusedInput(
            f"no state of {' and '.join(self.topics)}{number}, group {self.group}: has a service of this group"
            " judged it?"
        )


# --- finding


@dataclass(frozen=True, slots=True)
class Found:
    """A stream's row in the newest page that holds it."""

    origin: Origin
    marker: Marker
    page: int
    through: int
    applied: int
    checkpoint: str  # that gave the row its meaning
    rows: Rows  # of this one stream


def find(log: OutsideLog, search: Search, stream: StreamKey, layout: Layout) -> Found:
    """Raises RefusedInput that says what was looked through, when the stream is not there or cannot be read."""
    looked: list[str] = []
    damaged: list[str] = []
    for partition in search.partitions(log, stream):
        origin = Origin(search.group, partition)
        collected = collect(log, origin)
        marker = marker_of(collected)
        if marker is None:
            continue
        found = _find(collected, marker, stream, layout)
        if found is not None:
            return found
        looked.append(f"{partition} ({counted(marker.streams, 'stream')})")
        damaged += _damaged(collected, marker, layout)
    if not looked:
        raise search.no_state()
    also = f"; unreadable, so that it may be there: {', '.join(damaged)}" if damaged else ""
    raise RefusedInput(
        f"no stream {stream.decode()} in the state of group {search.group}: in {', '.join(looked)}{also}"
    )


def collect(log: Log, origin: Origin) -> Collected:
    """The newest records of one partition."""
    collected = Collected(origin)
    while True:
        stored = log.restore(origin.partition)
        collected.add(stored.keys, stored.values)
        if stored.read >= stored.size:
            return collected


def marker_of(collected: Collected) -> Marker | None:
    """None: there is no state. Raises RefusedInput."""
    if collected.marker is None:
        return None
    try:
        return read_marker(collected.origin, collected.marker)
    except UnreadableRecord as error:
        raise RefusedInput(f"{collected.origin.partition}: {error}") from error


def _find(collected: Collected, marker: Marker, stream: StreamKey, layout: Layout) -> Found | None:
    found: Found | None = None
    for number in range(marker.pages):
        # Headers hold keys as they are: most pages need not be taken apart.
        if not any(bytes(stream) in held.get(number, b"") for held in (collected.pages, collected.rosters)):
            continue
        page, meaning = _read(collected, marker, number, layout)
        if isinstance(page, Page) and stream in page.keys and (found is None or page.through > found.through):
            found = _found(collected.origin, marker, page, stream, meaning)
        elif isinstance(page, Stale) and stream in page.keys:
            raise RefusedInput(
                f"{collected.origin.partition}: page {number}, which the stream is in, is of neither the checkpoint"
                f" given ({layout.checkpoint[:12]}) nor the one that judges ({marker.checkpoint[:12]}), or its rows are"
                " of other sizes: give the checkpoint that it is of"
            )
        elif isinstance(page, Lost) and stream in (page.streams or ()):
            raise RefusedInput(f"{collected.origin.partition}: the stream's row is lost ({page.reason}): {page.detail}")
    return found


def _read(collected: Collected, marker: Marker, number: int, layout: Layout) -> tuple[Page | Stale | Lost, Layout]:
    """A page, be it of the given checkpoint or of one with rows of the same sizes that judges now."""
    page = read_page(collected, layout, number)
    if isinstance(page, Stale) and marker.checkpoint != layout.checkpoint:
        layout = Layout(marker.checkpoint, layout.shapes)
        page = read_page(collected, layout, number)
    return page, layout


def _found(origin: Origin, marker: Marker, page: Page, stream: StreamKey, layout: Layout) -> Found:
    row = page.keys.index(stream)
    rows = page.rows.take(torch.tensor([row]))
    return Found(origin, marker, page.number, page.through, int(page.applied[row]), layout.checkpoint, rows)


def _damaged(collected: Collected, marker: Marker, layout: Layout) -> Iterator[str]:
    """Pages of which not even the streams are known."""
    for number in range(marker.pages):
        page = read_page(collected, layout, number)
        if isinstance(page, Lost) and page.streams is None:
            yield f"{collected.origin.partition}, {page.detail}"


# --- showing


class ShownAlarm(msgspec.Struct, frozen=True):
    since: str
    opened_offset: int
    peak: float
    severity: str


class ShownChannel(msgspec.Struct, frozen=True):
    """Of one feature, in the sensor's own units; None where nothing is known yet."""

    name: str
    last: float | None
    centre: float
    spread: float | None
    low: float | None
    high: float | None


class Shown(msgspec.Struct, frozen=True):
    """What is remembered of a stream, for people."""

    stream: str
    topic: str
    partition: int
    group: str
    page: int
    applied: int  # offset of its last reading in the row
    through: int  # every reading before it is in the row
    next_offset: int  # of the partition: everything before it is judged and told
    replay_from: int
    checkpoint: str
    is_given_checkpoint: bool
    numerics: str
    time: str | None  # of its last reading
    readings: int  # judged
    scored: bool
    warm_up: int
    residual_threshold: float  # deviation from what is usual that scores 1.0
    level_threshold: float
    alarm: ShownAlarm | None
    hidden_norm: float
    cell_norm: float
    channels: tuple[ShownChannel, ...]


def shown(found: Found, stream: StreamKey, detector: Detector, digest: str) -> Shown:
    scalars = Scalars[float](*found.rows.scalars[0, : len(Scalars._fields)].tolist())
    channels = Channels[Doubles](*found.rows.channels[0, : len(Channels._fields)].numpy())
    alarm = None
    if scalars.alarm:
        severity = Severity(int(scalars.severity)).name.lower()
        alarm = ShownAlarm(rfc3339(int(scalars.opened_ms)), int(scalars.opened_offset), scalars.peak, severity)
    return Shown(
        stream=stream.decode(),
        topic=found.origin.partition.topic,
        partition=found.origin.partition.number,
        group=found.origin.group,
        page=found.page,
        applied=found.applied,
        through=found.through,
        next_offset=found.marker.next_offset,
        replay_from=found.marker.replay_from,
        checkpoint=found.checkpoint,
        is_given_checkpoint=found.checkpoint == digest,
        numerics=found.marker.numerics,
        time=rfc3339(int(scalars.time_ms)) if scalars.age else None,
        readings=int(scalars.age),
        scored=scalars.age > detector.config.score.warm_up,
        warm_up=detector.config.score.warm_up,
        residual_threshold=scalars.threshold,
        level_threshold=scalars.tilt_threshold,
        alarm=alarm,
        hidden_norm=float(found.rows.hidden.double().norm()),
        cell_norm=float(found.rows.cell.double().norm()),
        channels=tuple(
            ShownChannel(
                name,
                float(channels.last[n]) if channels.known[n] else None,
                float(channels.centre[n]),
                _finite(channels.spread[n]),
                _finite(channels.low[n]),
                _finite(channels.high[n]),
            )
            for n, name in enumerate(detector.features)
        ),
    )


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def lines_of(state: Shown, flush_interval_s: float) -> Iterator[str]:
    """For a terminal. flush_interval_s: how old a row may be."""
    behind = (
        "and the row with it"
        if state.through >= state.next_offset
        else f"the row holds all before {state.through:,}: rows are at most {flush_interval_s:g} s old"
    )
    given = "the one given" if state.is_given_checkpoint else "NOT the one given"
    judged = f"{counted(state.readings, 'reading')} judged, " + (
        f"scored, thresholds: residual {state.residual_threshold:.4g}, level {state.level_threshold:.4g} deviations"
        if state.scored
        else f"warming up: not scored before the {state.warm_up + 1}th"
    )
    alarm = state.alarm
    yield state.stream
    yield f"  place       topic {state.topic}, partition {state.partition}, page {state.page}, group {state.group}"
    yield f"  last        offset {state.applied:,}" + (f", {state.time}" if state.time else ", no reading yet")
    yield f"  partition   judged up to offset {state.next_offset:,}, {behind}"
    yield f"              after a crash it would be judged again from offset {state.replay_from:,}"
    yield f"  checkpoint  {state.checkpoint[:12]}, {given}; arithmetic {state.numerics}"
    yield f"  life        {judged}"
    yield "  alarm       " + (
        f"open since {alarm.since} (offset {alarm.opened_offset:,}), peak {alarm.peak:.4g}, {alarm.severity}"
        if alarm
        else "none"
    )
    yield f"  memory      |h| {state.hidden_norm:.4g}, |c| {state.cell_norm:.4g}"
    columns = ["last", "centre", "spread", "low", "high"]
    table = [["channel", *columns]]
    table += [[channel.name, *(_number(getattr(channel, name)) for name in columns)] for channel in state.channels]
    yield from (f"  {line}" for line in aligned(table))


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """The cells of a table in columns: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


# --- taking out


def pack_up(
    log: OutsideLog, search: Search, streams: Sequence[StreamKey], pipeline: Pipeline, layout: Layout, numerics: str
) -> Luggage:
    """The rows of some streams as they are at their partitions' markers. Raises RefusedInput."""
    by_origin: dict[Origin, list[tuple[StreamKey, Found]]] = defaultdict(list)
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
    carried = Carried(
        group=search.group,
        checkpoint=layout.checkpoint,
        numerics=" ".join(sorted(fingerprints)),
        names=layout.names,
        shapes=layout.shapes,
        streams=tuple(origins),
    )
    return Luggage(carried, rows, torch.cat([applied for _, applied in pieces]))


def restored(
    log: OutsideLog, pipeline: Pipeline, origin: Origin, layout: Layout, numerics: str, clock: EventClock
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


def unpack(
    log: OutsideLog, search: Search, luggage: Luggage, pipeline: Pipeline, writer: StateWriter, limits: Limits
) -> tuple[list[Commit], dict[Partition, int]]:
    """What to commit, all at once, to put rows into the state of a group that does not run; how many go where.

    A stream that is there already gets the row in place of its own. Each goes to the first partition that `search`
    would look for it in. Raises RefusedInput, LostState.
    """
    rows_of: dict[Partition, list[int]] = defaultdict(list)
    keys = luggage.keys
    for row, key in enumerate(keys):
        rows_of[next(search.partitions(log, key))].append(row)
    commits = []
    for partition, mine in rows_of.items():
        task = _task_to_write_to(log, Origin(search.group, partition), pipeline, writer, limits.idle_s)
        rows = luggage.rows.take(torch.tensor(mine))
        commits.append(_put(task, [keys[row] for row in mine], rows, writer, limits.streams))
    return commits, {partition: len(mine) for partition, mine in rows_of.items()}


def _task_to_write_to(
    log: OutsideLog, origin: Origin, pipeline: Pipeline, writer: StateWriter, idle_s: float
) -> PartitionTask:
    """The partition's memory as its next worker would get it; of one without state, nothing yet."""
    marker, clock = marker_of(collect(log, origin)), EventClock(idle_s)
    if marker is not None:
        _require_checkpoint(marker, writer.layout)
        task, recovery = restored(log, pipeline, origin, writer.layout, writer.numerics, clock)
        if recovery.notices:  # they would be lost: the next worker would find nothing wrong any more
            problems = ", ".join(sorted({problem.value for problem in recovery.problems}))
            raise RefusedInput(
                f"{origin.partition}: its state has losses that nobody was told of yet ({problems}): start the service,"
                " and stop it again, first"
            )
        return task
    source = log.inspect(origin.partition)
    task = PartitionTask(origin.partition, StateSlab(pipeline.detector.rows_for), clock)
    task.next_offset = task.checkpoint_from = source.begin if source.committed is None else source.committed
    task.topic_id, task.partitions = source.topic_id, source.partitions
    return task


def _put(task: PartitionTask, keys: Sequence[StreamKey], rows: Rows, writer: StateWriter, limit: int) -> Commit:
    """What to commit. The rows count as judged up to where the partition is, so that a replay leaves them alone."""
    next_offset = task.next_offset or 0
    slots = task.slab.slots(keys, limit)
    if int(slots.min()) == NO_SLOT:
        raise RefusedInput(
            f"{task.partition}: it remembers {counted(len(task.slab), 'stream')}, which is limits.max_streams"
        )
    task.slab.scatter(slots, rows, torch.full((len(keys),), next_offset - 1), next_offset)
    pages = {*task.slab.regrouped_pages(), *(slots // PAGE_ROWS).tolist()}
    return writer.complete(Commit(task.partition, next_offset), task, sorted(pages))
