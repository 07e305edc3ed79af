"""Looking at what a stream remembers: its row in the newest page of the changelog that holds it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import torch
from msgspec import UNSET, UnsetType

from models.data.arrays import Doubles
from models.data.rfc3339 import rfc3339
from models.detection.alarm import Severity
from models.detection.detector import Detector
from models.detection.rows import CHANNELS, SCALARS, Channels, Rows, Scalars
from models.output.wording import counted
from service.errors import RefusedInput
from service.input.anomaly import place_of
from service.input.reading_batch import StreamKey
from service.inspect.groupless_log import GrouplessLog, Search
from service.log.port import Log
from service.state.changelog import Collected, Layout, Lost, Marker, Stale, UnreadableRecord, read_marker, read_page
from service.state.changelog_keys import Origin
from service.state.slab import Page

# --- finding


@dataclass(frozen=True, slots=True)
class FoundStream:
    """A stream's row in the newest page that holds it."""

    origin: Origin
    marker: Marker
    page: int
    through: int
    applied: int
    checkpoint: str  # that gave the row its meaning
    rows: Rows  # of this one stream


def find(log: GrouplessLog, search: Search, stream: StreamKey, layout: Layout) -> FoundStream:
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


def _find(collected: Collected, marker: Marker, stream: StreamKey, layout: Layout) -> FoundStream | None:
    found: FoundStream | None = None
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


def _found(origin: Origin, marker: Marker, page: Page, stream: StreamKey, layout: Layout) -> FoundStream:
    row = page.keys.index(stream)
    rows = page.rows.take(torch.tensor([row]))
    return FoundStream(origin, marker, page.number, page.through, int(page.applied[row]), layout.checkpoint, rows)


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
    opened_index: int | UnsetType = UNSET  # which of its record's readings; left out of the first


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
    next_offset: int  # of the partition: everything before it is judged and published
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


def shown(found: FoundStream, stream: StreamKey, detector: Detector, digest: str) -> Shown:
    scalars = Scalars[float].of(found.rows.scalars[0, : len(SCALARS)].tolist())
    channels = Channels[Doubles].of([*found.rows.channels[0, : len(CHANNELS)].numpy()])
    alarm = None
    if scalars.alarm:
        severity = Severity(int(scalars.alarm) - 1).name.lower()
        opened = place_of(scalars.opened_offset)
        since = rfc3339(int(scalars.opened_ms))
        alarm = ShownAlarm(since, opened.offset, scalars.peak, severity, max(opened.reading, 0) or UNSET)
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
        residual_threshold=scalars.residual_threshold,
        level_threshold=scalars.level_threshold,
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
