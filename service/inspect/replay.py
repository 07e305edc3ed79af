"""`telltale replay`: judge a stream's readings around a time again, and tell what was told, byte for byte.

From the nearest state: of every version of the stream's page that is still in the changelog, the newest that lies far
enough before the wanted readings and in which no alarm was open; else from the input's beginning. From there the
stream goes through the very Pipeline of the service, on until no anomaly of the wanted readings is open any more.
Where the changelog has versions of the row from later on, what comes out is held against them, bit by bit.

A stream's verdicts depend on its own readings alone; of its neighbours only the partition's clock is needed, which
forgets idle streams.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from models.detection.rows import Channels, Rows, Scalars
from models.output.wording import counted
from service.errors import RefusedInput
from service.input.wire import ReadingBatch, StreamKey, rfc3339
from service.inspect.outside_log import POLL_S, OutsideLog, Search
from service.inspect.text_table import aligned
from service.log.port import Fetched, Partition, Source
from service.pipeline import Pipeline, Processed
from service.state.changelog import Collected, Layout, Marker, Origin, Stale, UnreadableRecord, read_marker, read_page
from service.state.slab import Page, StateSlab
from service.state.task import EventClock, PartitionTask


class Reading(msgspec.Struct, frozen=True):
    """A verdict, for people."""

    offset: int
    fate: str  # judged, late, duplicate, or why it was rejected
    time: str | None
    values: tuple[float | None, ...]
    expected: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    score: float | None
    alarm: bool


class Check(msgspec.Struct, frozen=True):
    """What came out, held against a version of the row in the changelog. differs: the quantities that do."""

    offset: int  # of the last reading in it
    differs: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's readings around a time are judged to be. features: the names of the values."""

    stream: str
    topic: str
    partition: int
    checkpoint: str  # digest
    another_model: bool  # the service judged them with another checkpoint
    begins: int  # offset
    begins_with: str
    features: tuple[str, ...]
    readings: tuple[Reading, ...]
    events: tuple[msgspec.Raw, ...]  # the bytes of every event of the anomalies that touch the readings
    checks: tuple[Check, ...]
    remarks: tuple[str, ...]


class Question(NamedTuple):
    """What to judge again. around_ms: event time."""

    stream: StreamKey
    around_ms: int
    readings: int
    idle_s: float | None
    prime_readings: int


def replay(
    log: OutsideLog, search: Search, question: Question, pipeline: Pipeline, layout: Layout, numerics: str
) -> Replayed:
    """Raises RefusedInput when the stream has no readings, or its partition no state that says who judged it."""
    past = _past(log, search, question.stream, layout)
    partition, source = past.origin.partition, log.inspect(past.origin.partition)
    for spare in (0, question.readings // 2):
        beginning = _beginning(log, question, pipeline, past, source, spare)
        window, stories, checks = _judge_again(log, question, past, source, beginning)
        if not beginning.from_page or window.has_enough_before:
            break
    if not window.readings:
        raise RefusedInput(
            f"{partition}: no reading of {question.stream.decode()} from offset {beginning.offset} to {source.end};"
            " give --partition if it is sent elsewhere"
        )
    remarks = [*beginning.remarks, *window.remarks(), *stories.remarks(window)]
    if past.marker.numerics != numerics:
        remarks.append(f"the service's arithmetic was {past.marker.numerics}, this machine's is {numerics}")
    return Replayed(
        stream=question.stream.decode(),
        topic=partition.topic,
        partition=partition.number,
        checkpoint=pipeline.digest,
        another_model=beginning.another_model,
        begins=beginning.offset,
        begins_with=beginning.what,
        features=pipeline.detector.features,
        readings=tuple(window.readings),
        events=tuple(map(msgspec.Raw, stories.told(window))),
        checks=tuple(checks.done),
        remarks=tuple(remarks),
    )


def _judge_again(
    log: OutsideLog, question: Question, past: "_Past", source: Source, beginning: "_Beginning"
) -> "tuple[_Window, _Stories, _Checks]":
    """Until the readings wanted are judged, their anomalies closed, and a state behind them is compared."""
    life = beginning.life
    window = _Window(question.around_ms, question.readings, life.clock_ms)
    stories = _Stories()
    checks = _Checks([] if beginning.another_model else past.versions, beginning.offset)
    for fetched in input_of(log, past.origin.partition, beginning.offset, source.end):
        for part in _cut(fetched, checks.borders()):
            for mine, processed in life.live(part):
                stories.add(processed)
                window.add(processed, mine)
            checks.look(life, part.next_offset)
        if window.full and not stories.open_in(window) and checks.reached(window.last):
            break
    return window, stories, checks


def input_of(log: OutsideLog, partition: Partition, begin: int, end: int) -> Iterator[Fetched]:
    """The records of a partition from one offset to another."""
    at = log.start(partition, begin) if begin < end else end
    while at < end:
        for fetched in log.poll(POLL_S).fetched:
            at = fetched.next_offset
            keep = int(np.searchsorted(fetched.offsets, end))
            if keep:
                yield fetched if keep == len(fetched.keys) else fetched.part(0, keep)


# --- what the changelog still knows


class _Version(NamedTuple):
    """A stream's row, as it was once written."""

    page: int
    through: int  # every reading before it is in the row
    applied: int  # offset of the last that is
    rows: Rows  # of this one stream
    clock: tuple[int | None, list[int]] | None  # its partition's, at `through`

    def scalar(self, name: str) -> float:
        return float(self.rows.scalars[0, Scalars._fields.index(name)])


class _Past(NamedTuple):
    """What the changelog still has of a stream, oldest first."""

    origin: Origin
    marker: Marker  # the newest
    versions: list[_Version]
    predecessor: bool  # there are rows of another checkpoint


def _past(log: OutsideLog, search: Search, stream: StreamKey, layout: Layout) -> _Past:
    """That of the first partition whose pages have held the stream; else of the first where it could be."""
    first: _Past | None = None
    for partition in search.partitions(log, stream):
        past = _past_of(log, Origin(search.group, partition), stream, layout)
        if past is None:
            continue
        if past.versions or past.predecessor:
            return past
        first = first or past
    if first is None:
        raise search.no_state()
    return first


def _past_of(log: OutsideLog, origin: Origin, stream: StreamKey, layout: Layout) -> _Past | None:
    versions: list[_Version] = []
    waiting: list[_Version] = []  # for the marker of their transaction
    marker: Marker | None = None
    predecessor = False
    for key, value in _records(log, origin.partition):
        one = Collected(origin)
        one.add((key,), (value,))
        if one.marker is not None:
            marker = _marker(origin, one.marker) or marker
            versions += [_with_clock(version, marker) for version in waiting]
            waiting = []
        elif value is not None and bytes(stream) in value:  # headers hold keys as they are
            for number in one.pages:
                page = read_page(one, layout, number)
                predecessor |= isinstance(page, Stale) and stream in page.keys
                if isinstance(page, Page) and stream in page.keys:
                    waiting.append(_version(page, stream))
    versions += waiting
    versions.sort(key=lambda version: version.through)
    return None if marker is None else _Past(origin, marker, versions, predecessor)


def _records(log: OutsideLog, partition: Partition) -> Iterator[tuple[bytes | None, bytes | None]]:
    while True:
        stored = log.restore(partition)
        yield from zip(stored.keys, stored.values, strict=True)
        if stored.read >= stored.size:
            return


def _marker(origin: Origin, value: bytes) -> Marker | None:
    try:
        return read_marker(origin, value)
    except UnreadableRecord:
        return None


def _version(page: Page, stream: StreamKey) -> _Version:
    row = page.keys.index(stream)
    rows = page.rows.take(torch.tensor([row]))
    return _Version(page.number, page.through, int(page.applied[row]), rows, None)


def _with_clock(version: _Version, marker: Marker | None) -> _Version:
    """Compaction may have left a page without its marker; the next one is of a later time."""
    if marker is None or marker.next_offset != version.through:
        return version
    return version._replace(clock=(marker.event_time_ms, marker.ticks))


# --- where to begin


class _Life:
    """One stream, living through its partition again."""

    def __init__(self, pipeline: Pipeline, partition: Partition, stream: StreamKey, idle_s: float | None) -> None:
        self.task = PartitionTask(partition, StateSlab(pipeline.detector.rows_for))
        self._pipeline = pipeline
        self._stream = stream
        self._clock = EventClock(idle_s)

    @property
    def rows(self) -> Rows | None:
        """None: it is not remembered."""
        slots = self.task.slab.find([self._stream])
        return self.task.slab.gather(slots) if int(slots[0]) >= 0 else None

    @property
    def clock_ms(self) -> int | None:
        """Time of its last reading; None: it has had none."""
        age, time_ms = (Scalars._fields.index(name) for name in ("age", "time_ms"))
        rows = self.rows
        return int(rows.scalars[0, time_ms]) if rows is not None and rows.scalars[0, age] > 0 else None

    def resume(self, version: _Version) -> None:
        page = Page(
            0, version.through, torch.tensor([0]), (self._stream,), version.rows, torch.tensor([version.applied])
        )
        self.task.slab.load(page)
        if version.clock is not None:
            self._clock.restore(*version.clock)

    def prime(self, batch: ReadingBatch) -> None:
        """As a service that finds rows of another checkpoint: fresh rows, and the last few readings before."""
        self._pipeline.relive(batch, self.task.slab.slots(batch.keys), self.task)

    def live(self, fetched: Fetched) -> Iterator[tuple[Fetched, Processed]]:
        """The stream's own among the records of its partition, and what is thought of them."""
        batch = self._pipeline.decode(fetched)
        ticks = self._clock.advance(batch.readings.times_ms.numpy()) if batch.keys else []
        at = [int(batch.readings.offsets[tick]) for tick in ticks]
        ticking = dict(zip(np.searchsorted(fetched.offsets, at).tolist(), at, strict=True))
        for begin, end in pairwise(sorted({0, *ticking, len(fetched.keys)})):
            before = self._clock.tick(ticking[begin]) if begin in ticking else None
            if before is not None:
                self.task.slab.evict_idle(before, ticking[begin])
            mine = _of(fetched.part(begin, end), self._stream)
            if mine.keys:
                yield from ((mine, processed) for processed in self._pipeline.process(mine, self.task))


def _of(fetched: Fetched, stream: StreamKey) -> Fetched:
    """The records of one stream."""
    index = [n for n, key in enumerate(fetched.keys) if key == stream]
    return fetched._replace(
        keys=[fetched.keys[n] for n in index],
        values=[fetched.values[n] for n in index],
        offsets=fetched.offsets[index],
        times_ms=fetched.times_ms[index],
    )


class _Beginning(NamedTuple):
    life: _Life
    offset: int
    what: str
    another_model: bool = False
    from_page: bool = False
    remarks: Sequence[str] = ()


def _beginning(
    log: OutsideLog, question: Question, pipeline: Pipeline, past: _Past, source: Source, spare: int
) -> _Beginning:
    """spare: readings that are to lie between the state and the newest one before the time."""
    partition, marker = past.origin.partition, past.marker
    life = _Life(pipeline, partition, question.stream, question.idle_s)
    another = marker.checkpoint != pipeline.digest
    version = None if another else _nearest(past.versions, question.around_ms, source, spare)
    if version is not None:
        life.resume(version)
        what = f"the state in page {version.page} of the changelog, whose last reading is at offset {version.applied:,}"
        return _Beginning(life, version.through, what, from_page=True)
    begins_late = [f"the input begins at offset {source.begin:,}: the stream's first readings may be gone"]
    remarks = begins_late if source.begin else []
    if not another and marker.checkpoint_from > source.begin:
        batch = _last_before(log, question, pipeline, partition, source.begin, marker.checkpoint_from)
        another = bool(batch.keys) and int(batch.readings.times_ms[-1]) >= question.around_ms
        if not another:
            last = np.arange(max(0, len(batch.keys) - question.prime_readings), len(batch.keys))
            return _at_take_over(life, batch.part(last), past)
        remarks.append(
            f"this checkpoint judges from offset {marker.checkpoint_from:,} on, which is after the readings wanted"
        )
    return _Beginning(life, source.begin, "the input's beginning", another, remarks=remarks)


def _at_take_over(life: _Life, batch: ReadingBatch, past: _Past) -> _Beginning:
    """Where this checkpoint took over from another, and warmed streams up; or where the service itself began."""
    marker = past.marker
    what = f"offset {marker.checkpoint_from:,}, from which on this checkpoint judges"
    records = sum(marker.counts.get(fate, 0) for fate in ("judged", "late", "duplicate", "rejected"))
    if past.predecessor or records > marker.next_offset - marker.checkpoint_from:
        life.prime(batch)
        what += f", warmed up by the {counted(len(batch.keys), 'reading')} before it"
    return _Beginning(life, marker.checkpoint_from, what)


def _nearest(versions: Sequence[_Version], around_ms: int, source: Source, spare: int) -> _Version | None:
    """The newest version before a time without an open alarm, at least `spare` readings before the newest of all."""
    known = (v for v in versions if v.scalar("age") > 0)
    earlier = list(takewhile(lambda v: v.scalar("time_ms") < around_ms, known))
    age = earlier[-1].scalar("age") if earlier else 0
    usable = [
        v for v in earlier if v.scalar("age") <= age - spare and not v.scalar("alarm") and v.through >= source.begin
    ]
    return usable[-1] if usable else None


def _last_before(
    log: OutsideLog, question: Question, pipeline: Pipeline, partition: Partition, begin: int, end: int
) -> ReadingBatch:
    """The stream's latest readings before an offset, at least as many as streams are primed with if there are."""
    recent: deque[Fetched] = deque()
    count = 0
    for fetched in input_of(log, partition, begin, end):
        mine = _of(fetched, question.stream)
        recent.append(mine)
        count += len(mine.keys)
        while count - len(recent[0].keys) > 2 * question.prime_readings:
            count -= len(recent.popleft().keys)
    joined = Fetched(
        partition,
        [key for part in recent for key in part.keys],
        [value for part in recent for value in part.values],
        np.concatenate([np.empty(0, np.int64), *(part.offsets for part in recent)]),
        np.concatenate([np.empty(0, np.int64), *(part.times_ms for part in recent)]),
        end,
        end,
    )
    return pipeline.decode(joined)


# --- what comes of it


class _Window:
    """The readings wanted: half of them before a time, half at and after it.

    The place is where the stream's clock first passes the time. One whose clock was set back may start beyond it.
    """

    def __init__(self, around_ms: int, count: int, clock_ms: int | None) -> None:
        """clock_ms: time of the reading before the first; None: there is none."""
        self._around_ms = around_ms
        self._count = count
        self._clock_ms = clock_ms
        self._passed = False
        self._earlier = clock_ms is not None
        self._first: list[Reading] = []
        self._before: deque[Reading] = deque(maxlen=count)
        self._after: list[Reading] = []

    @property
    def readings(self) -> list[Reading]:
        if not self._passed:
            return list(self._before) if self._earlier else self._first
        after = self._after[: self._count - min(len(self._before), self._count // 2)]
        before = list(self._before)[max(0, len(self._before) + len(after) - self._count) :]
        return [*before, *after]

    @property
    def full(self) -> bool:
        return self._passed and len(self._after) >= self._count - min(len(self._before), self._count // 2)

    @property
    def has_enough_before(self) -> bool:
        return len(self._before) >= self._count // 2

    @property
    def first(self) -> int:
        return self.readings[0].offset

    @property
    def last(self) -> int:
        return self.readings[-1].offset

    def add(self, processed: Processed, fetched: Fetched) -> None:
        for reading, time in _readings(processed, fetched):
            if self.full:
                return
            if time is not None and reading.fate == "judged":
                self._pass_on_to(time)
            if self._passed:
                self._after.append(reading)
                continue
            self._before.append(reading)
            if len(self._first) < self._count:
                self._first.append(reading)

    def remarks(self) -> Iterator[str]:
        if not self._passed and self._earlier:
            yield f"no reading at or after {rfc3339(self._around_ms)}: these are the last ones"
        elif not self._passed:
            yield f"no reading before {rfc3339(self._around_ms)}: these are the first ones"

    def _pass_on_to(self, time: int) -> None:
        before = self._clock_ms is not None and self._clock_ms < self._around_ms
        self._passed |= time == self._around_ms or (before and time > self._around_ms)
        self._earlier |= time < self._around_ms
        self._clock_ms = time


def _readings(processed: Processed, fetched: Fetched) -> list[tuple[Reading, int | None]]:
    """Readings and rejects in the order of their offsets, with the time of each reading."""
    batch, verdicts = processed.batch, processed.verdicts
    offsets = batch.readings.offsets.tolist()
    found: list[tuple[Reading, int | None]] = []
    for n, offset in enumerate(offsets if verdicts is not None else []):
        assert verdicts is not None  # noqa: S101  (mypy)
        late, duplicate = bool(verdicts.fate.late[n]), bool(verdicts.fate.duplicate[n])
        columns = (batch.readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
        values, expected, lower, upper = (_known(column[n]) for column in columns)
        time = int(batch.readings.times_ms[n])
        fate = "late" if late else "duplicate" if duplicate else "judged"
        score = None if late or duplicate else float(verdicts.score[n])
        alarm = bool(verdicts.alarm[n])
        found.append((Reading(offset, fate, rfc3339(time), values, expected, lower, upper, score, alarm), time))
    for reject in processed.rejects:
        offset = int(fetched.offsets[reject.record])
        fate = f"rejected, {reject.reason.value}: {reject.detail}"
        found.append((Reading(offset, fate, None, (), (), (), (), None, alarm=False), None))
    return sorted(found, key=lambda one: one[0].offset)


def _known(values: Tensor) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values.tolist())  # noqa: PLR0124  (NaN)


class _Stories:
    """The anomalies that were told, each with its events."""

    def __init__(self) -> None:
        self._told: dict[str, list[tuple[int, str, bytes]]] = {}  # offset, status, bytes; by anomaly

    def add(self, processed: Processed) -> None:
        for event, record in zip(processed.events, processed.commit.anomalies, strict=True):
            one = (event.data.offset, event.data.status, record.value or b"")
            self._told.setdefault(event.data.anomaly, []).append(one)

    def touching(self, window: _Window) -> list[list[tuple[int, str, bytes]]]:
        """Those that were open at a reading of the window."""
        return [
            events
            for events in self._told.values()
            if events[0][0] <= window.last and (events[-1][1] == "open" or events[-1][0] >= window.first)
        ]

    def told(self, window: _Window) -> Iterator[bytes]:
        yield from (value for events in self.touching(window) for _, _, value in events)

    def open_in(self, window: _Window) -> bool:
        return any(events[-1][1] == "open" for events in self.touching(window))

    def remarks(self, window: _Window) -> Iterator[str]:
        if self.open_in(window):
            yield "its anomaly is still open where the input ends"


class _Checks:
    """Versions of the row that are held against what comes out, as it gets there."""

    def __init__(self, versions: Sequence[_Version], begin: int) -> None:
        self.done: list[Check] = []
        self._waiting = deque(version for version in versions if version.through > begin)
        self._at = begin

    def borders(self) -> list[int]:
        return [version.through for version in self._waiting]

    def look(self, life: _Life, next_offset: int) -> None:
        """Everything before next_offset is judged."""
        while self._waiting and self._waiting[0].through <= next_offset:
            version = self._waiting.popleft()
            self._at = version.through
            self.done.append(Check(version.applied, tuple(_differing(life.rows, version.rows))))

    def reached(self, offset: int) -> bool:
        """Whether one was behind this offset, or there is none to come."""
        return self._at > offset or not self._waiting


def _differing(found: Rows | None, expected: Rows) -> Iterator[str]:
    """The names of the quantities whose bits are not the same."""
    if found is None:
        yield "it is forgotten"
        return
    for name, one, other in zip(("h", "c"), found[:2], expected[:2], strict=True):
        if not torch.equal(one.view(torch.int32), other.view(torch.int32)):
            yield name
    names, beyond = (Channels._fields, Scalars._fields), ("symptoms", "votes")
    for fields, more, column, other in zip(names, beyond, found[2:], expected[2:], strict=True):
        same = column[0].view(torch.int64) == other[0].view(torch.int64)
        yield from (name for name, equal in zip(fields, same, strict=False) if not bool(equal.all()))
        if not bool(same[len(fields) :].all()):
            yield more


def _cut(fetched: Fetched, borders: Sequence[int]) -> Iterator[Fetched]:
    """The records in pieces that end at these offsets."""
    inner = np.searchsorted(fetched.offsets, [border for border in borders if border <= int(fetched.offsets[-1])])
    for begin, end in pairwise(sorted({0, *inner.tolist(), len(fetched.keys)})):
        yield fetched.part(begin, end)


# --- for a terminal


def lines_of(found: Replayed) -> Iterator[str]:
    yield f"{found.stream}  topic {found.topic}, partition {found.partition}, checkpoint {found.checkpoint[:12]}"
    if found.another_model:
        yield "  WHAT ANOTHER MODEL WOULD HAVE SAID: the service judged these readings with another checkpoint"
    yield f"  from {found.begins_with}"
    yield from (f"  {remark}" for remark in found.remarks)
    yield ""
    rows = [_cells(reading, len(found.features)) for reading in found.readings]
    yield from aligned([_heading(found.features), *rows])
    yield ""
    yield f"{counted(len(found.events), 'event')} of the anomalies that touch these readings" + (
        ":" if found.events else ""
    )
    yield from (bytes(event).decode() for event in found.events)
    yield from _verdict_of_checks(found)


def _heading(features: Sequence[str]) -> list[str]:
    return ["time", "offset", *(cell for name in features for cell in (name, "expected")), "score", ""]


def _cells(reading: Reading, features: int) -> list[str]:
    cells = [reading.time or "-", str(reading.offset)]
    for value, expected, lower, upper in zip(
        reading.values, reading.expected, reading.lower, reading.upper, strict=True
    ):
        band = "-" if expected is None else f"{expected:.5g} ({_short(lower)} to {_short(upper)})"
        cells += [_short(value), band]
    cells += ["-"] * (2 + 2 * features - len(cells))  # of what could not be read
    return [*cells, "-" if reading.score is None else f"{reading.score:.4f}", _said(reading)]


def _said(reading: Reading) -> str:
    return ("ALARM" if reading.alarm else "") if reading.fate == "judged" else reading.fate


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _verdict_of_checks(found: Replayed) -> Iterator[str]:
    if not found.checks:
        if not found.another_model:
            yield "the changelog has no later state of this stream to compare with"
        return
    wrong = [check for check in found.checks if check.differs]
    for check in wrong:
        yield f"state at offset {check.offset:,} DIFFERS from the changelog's: {', '.join(check.differs)}"
    equal = [check.offset for check in found.checks if not check.differs]
    if equal:
        more = f" (and at {len(equal) - 1} before)" if len(equal) > 1 else ""
        yield f"state at offset {equal[-1]:,} equals the changelog's to the bit{more}"
