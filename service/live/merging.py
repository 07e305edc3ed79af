"""Several workers seen as one: their statuses, counts and histograms put together.

Sums never go down: what a worker has counted stays in them when it ends, or Prometheus would take the drop for a
restart of all and count everything again. What is of a partition is its newest owner's alone: for a moment after a
rebalance the one before may not know yet that it has lost it, and a series must not come twice.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

from service.live.metrics import Counted
from service.live.shadow import STREAMS_NAMED, latest_alarms
from service.live.status import (
    RECENT_LIMIT,
    CheckpointStatus,
    Counts,
    Notified,
    PartitionStatus,
    ProcessState,
    ShadowStatus,
    Status,
    WorkerProcess,
    WorkerState,
)

NOTHING_COUNTED = Counted({}, {})
PartitionName = tuple[str, int]  # topic, number


@dataclass(slots=True)
class _Seen:
    """The last that one worker published, and when each of its partitions came to it, as a number that rises."""

    status: Status
    counted: Counted
    since: dict[PartitionName, int] = field(default_factory=dict)


class MergedStatus:
    """Takes what each worker publishes. Not safe for several threads."""

    def __init__(self, first: Status) -> None:
        """first: what is shown before any worker has published; its start is that of the whole."""
        self._first = first
        self._processes = first.workers
        self._seen: dict[Hashable, _Seen] = {}
        self._recent: tuple[Mapping[str, Any], ...] = ()
        self._events = 0
        self._came = 0
        self._ended_counts, self._ended_counted = Counts(), NOTHING_COUNTED

    def take(self, worker: Hashable, status: Status, counted: Counted) -> None:
        """worker: one run of one worker; after a restart it is another."""
        last = self._seen.get(worker)
        self._remember_events(status, status.events - (last.status.events if last else 0))
        since = {}
        for one in status.partitions:
            name = (one.topic, one.number)
            if last is not None and name in last.since:
                since[name] = last.since[name]
            else:
                self._came += 1
                since[name] = self._came
        self._seen[worker] = _Seen(status, counted, since)

    def end(self, worker: Hashable) -> None:
        """It publishes nothing more: what it counted stays, what it held goes."""
        seen = self._seen.pop(worker, None)
        if seen is not None:
            self._ended_counts = add_counts([self._ended_counts, seen.status.counts])
            waiting_for_none = {
                kind: one._replace(waiting=0, interrupted=0) for kind, one in seen.counted.notified.items()
            }
            self._ended_counted = add_counted([self._ended_counted, seen.counted._replace(notified=waiting_for_none)])

    def supervise(self, processes: Sequence[WorkerProcess]) -> None:
        """What the supervisor says of the workers' processes."""
        self._processes = tuple(processes)

    @property
    def status(self) -> Status:
        statuses = [seen.status for seen in self._seen.values()]
        if not statuses:
            return replace(
                self._first,
                workers=self._processes,
                counts=self._ended_counts,
                recent=self._recent,
                events=self._events,
            )
        return replace(
            self._first,
            state=self._state(statuses),
            published_ms=min(one.published_ms for one in statuses),
            beat_s=min(one.beat_s for one in statuses),
            partitions=tuple(self._partitions()),
            joined=all(one.joined for one in statuses),
            counts=add_counts([self._ended_counts, *(one.counts for one in statuses)]),
            many_refused=any(one.many_refused for one in statuses),
            recent=self._recent,
            events=self._events,
            checkpoint=max((one.checkpoint for one in statuses), key=_loaded_ms),
            models=_newest_models(statuses),
            shadow=_merged_shadow([one.shadow for one in statuses if one.shadow is not None]),
            unusable_model=next((one.unusable_model for one in statuses if one.unusable_model), ""),
            details={anomaly: known for one in statuses for anomaly, known in one.details.items()},
            workers=self._processes,
        )

    @property
    def counted(self) -> Counted:
        return add_counted([self._ended_counted, *(seen.counted for seen in self._seen.values())])

    def _state(self, statuses: Sequence[Status]) -> WorkerState:
        """Running, when every worker that is not lost for good is."""
        states = {one.state for one in statuses}
        if WorkerState.STOPPING in states:
            return WorkerState.STOPPING
        expected = sum(one.state is not ProcessState.LOST for one in self._processes) if self._processes else 1
        return (
            WorkerState.RUNNING
            if states == {WorkerState.RUNNING} and len(statuses) >= expected
            else (WorkerState.STARTING)
        )

    def _partitions(self) -> Iterable[PartitionStatus]:
        newest: dict[PartitionName, tuple[int, PartitionStatus]] = {}
        for seen in self._seen.values():
            for one in seen.status.partitions:
                name = (one.topic, one.number)
                if name not in newest or seen.since[name] > newest[name][0]:
                    newest[name] = seen.since[name], one
        return (newest[name][1] for name in sorted(newest))

    def _remember_events(self, status: Status, new: int) -> None:
        """The newest events of all workers, newest first; where some were missed, none of before is kept.

        Their numbers are counted back from the newest, so there must be no gap among those that are kept.
        """
        known = status.recent[:new]
        before = self._recent if new <= len(known) else ()
        self._recent = tuple(islice((*known, *before), RECENT_LIMIT))
        self._events += new


def _loaded_ms(checkpoint: CheckpointStatus) -> int:
    return checkpoint.loaded_ms or 0


def _newest_models(statuses: Sequence[Status]) -> dict[str, CheckpointStatus]:
    """By topic; while one is promoted, workers may still differ."""
    topics = sorted({topic for one in statuses for topic in one.models})
    return {
        topic: max((one.models[topic] for one in statuses if topic in one.models), key=_loaded_ms) for topic in topics
    }


def _merged_shadow(shadows: Sequence[ShadowStatus]) -> ShadowStatus | None:
    if not shadows:
        return None
    partitions = {(part.topic, part.number): part for one in shadows for part in one.partitions}
    streams = sum((Counter(one.streams) for one in shadows), Counter[str]())
    return ShadowStatus(
        shadows[0].checkpoint,
        tuple(partitions[name] for name in sorted(partitions)),
        dict(streams.most_common(STREAMS_NAMED)),
        latest_alarms(alarm for one in shadows for alarm in one.alarms),
    )


def add_counts(counts: Sequence[Counts]) -> Counts:
    return Counts(**{one.name: _sum([getattr(part, one.name) for part in counts]) for one in fields(Counts)})


def _sum(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        total: Counter[str] = Counter()
        for value in values:
            total.update(value)
        return dict(total)
    return sum(values)


def add_counted(counted: Sequence[Counted]) -> Counted:
    histograms: dict[str, tuple[list[int], float]] = {}
    notified: dict[str, Notified] = {}
    for one in counted:
        for name, (buckets, total) in one.histograms.items():
            before = histograms.get(name, ([0] * len(buckets), 0.0))
            histograms[name] = [a + b for a, b in zip(before[0], buckets, strict=True)], before[1] + total
        for kind, counts in one.notified.items():
            before_counts = notified.get(kind, Notified())
            notified[kind] = Notified(*map(sum, zip(before_counts, counts, strict=True)))
    return Counted(histograms, notified)
