"""The readings wanted, and the anomalies that touch them."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import UNSET
from torch import Tensor

from models.data.rfc3339 import rfc3339
from service.inspect.question import Reading
from service.log.port import Fetched
from service.pipeline import Processed


class ReplayWindow:
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
        self._begun_at: tuple[int, int] | None = None  # place of the first reading

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
    def first(self) -> tuple[int, int]:
        return self.readings[0].place

    @property
    def last(self) -> tuple[int, int]:
        return self.readings[-1].place

    def add(self, processed: Processed, fetched: Fetched) -> None:
        for reading, time in _readings(processed, fetched):
            if self.full:
                return
            self._begun_at = self._begun_at or reading.place
            if time is not None and reading.fate == "judged":
                self._pass_on_to(time)
            if self._passed:
                self._after.append(reading)
                continue
            self._before.append(reading)
            if len(self._first) < self._count:
                self._first.append(reading)

    @property
    def begins_with_first(self) -> bool:
        """Whether the first of the readings wanted is the first that was judged."""
        return self._begun_at is None or self.first == self._begun_at

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
        index = int(batch.indices[n]) or UNSET
        found.append((Reading(offset, fate, rfc3339(time), values, expected, lower, upper, score, alarm, index), time))
    for reject in processed.rejects:
        offset = int(fetched.offsets[reject.record])
        fate = f"rejected, {reject.reason.value}: {reject.detail}"
        found.append((Reading(offset, fate, None, (), (), (), (), None, alarm=False), None))
    return sorted(found, key=lambda one: one[0].offset)


def _known(values: Tensor) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values.tolist())  # noqa: PLR0124  (NaN)


class _PublishedEvent(NamedTuple):
    place: tuple[int, int]  # offset, and index within the record
    status: str
    value: bytes


class ToldAnomalies:
    """The anomalies that were published, each with its events."""

    def __init__(self) -> None:
        self._events: dict[str, list[_PublishedEvent]] = {}  # by anomaly

    def add(self, processed: Processed) -> None:
        for event, record in zip(processed.events, processed.commit.anomalies, strict=True):
            one = _PublishedEvent((event.data.offset, event.data.index or 0), event.data.status, record.value or b"")
            self._events.setdefault(event.data.anomaly, []).append(one)

    def touching(self, window: ReplayWindow) -> list[list[_PublishedEvent]]:
        """Those that were open at a reading of the window."""
        return [
            events
            for events in self._events.values()
            if events[0].place <= window.last and (events[-1].status == "open" or events[-1].place >= window.first)
        ]

    def events(self, window: ReplayWindow) -> Iterator[bytes]:
        yield from (event.value for events in self.touching(window) for event in events)

    def open_in(self, window: ReplayWindow) -> bool:
        return any(events[-1].status == "open" for events in self.touching(window))

    def remarks(self, window: ReplayWindow) -> Iterator[str]:
        if self.open_in(window):
            yield "its anomaly is still open where the input ends"
