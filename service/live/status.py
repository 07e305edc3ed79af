"""Status: what the worker last published of itself. HTTP and metrics read this and nothing else of the worker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice
from typing import Any, NamedTuple

RECENT_LIMIT = 100  # anomaly events that a status keeps
DETAILS_LIMIT = 200  # open anomalies of which it keeps the latest event


class WorkerState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """The trained model that judges."""

    path: str
    digest: str
    features: tuple[str, ...]
    loaded_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition that this worker has."""

    topic: str
    number: int
    next_offset: int | None = None  # everything before it has been judged; None: not known yet
    end_offset: int | None = None  # of the log, as the brokers last said; None: not known
    event_time_ms: int | None = None  # latest time of any reading judged
    streams: int = 0
    warming: int = 0  # streams that are still learning what is normal
    state_bytes: int = 0
    alarms_open: int = 0
    open_by_severity: Mapping[str, int] = field(default_factory=dict)  # as last surveyed, like what follows
    open_peak: float = 0.0  # highest score of any alarm that is open; 0: none is
    strongest: tuple[tuple[str, float], ...] = ()  # streams with an open alarm and its peak; as many as were asked for
    unwritten_s: float = 0.0  # for how long its oldest change of state has not been in the changelog
    stage: str = "running"  # waiting, restoring, priming, replaying or running
    progress: float = 1.0  # of the stage, 0 to 1
    replay_from: int | None = None  # from where the input would be judged again after a crash
    checkpoint: str = ""  # digest of the one that judges it, where one was promoted or could be; empty: its topic's
    waits_for: str = ""  # why it is not judged though nothing is left to restore; empty: it is

    @property
    def ready(self) -> bool:
        """Whether it is judged."""
        return self.stage == "running" and not self.waits_for

    @property
    def replay_records(self) -> int | None:
        """Records that would be judged again after a crash."""
        if self.next_offset is None or self.replay_from is None:
            return None
        return max(0, self.next_offset - self.replay_from)

    @property
    def lag(self) -> int | None:
        """Records not judged yet."""
        if self.next_offset is None or self.end_offset is None:
            return None
        return max(0, self.end_offset - self.next_offset)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been done since the process started. A map that was handed over is changed no more."""

    readings: int = 0  # read, late and duplicate ones among them
    rejected: Mapping[str, int] = field(default_factory=dict)  # by reason
    late: int = 0
    duplicate: int = 0
    opened: Mapping[str, int] = field(default_factory=dict)  # anomalies by severity when they opened
    updated: Mapping[str, int] = field(default_factory=dict)  # by the severity they rose to
    closed: Mapping[str, int] = field(default_factory=dict)  # by the severity of their peak
    transactions: int = 0  # committed
    aborts: int = 0
    assigned: int = 0  # partitions that came to this worker, each time they did
    channels: Mapping[str, int] = field(default_factory=dict)  # anomalies opened, by the channel with most share
    evicted: int = 0  # idle streams that were forgotten
    replayed: int = 0  # readings judged again after a restore
    problems: Mapping[str, int] = field(default_factory=dict)  # what was found wrong with the state, by kind
    pages_written: int = 0
    page_bytes_written: int = 0
    promoted: int = 0  # partitions that another checkpoint took over while this ran
    records: int = 0  # judged or rejected, with one reading each or many
    skipped: int = 0  # readings and tombstones that a topic's mapping leaves out
    paused: int = 0  # readings in quiet times in which nothing is learned
    excluded: Mapping[str, int] = field(default_factory=dict)  # values that count as missing, by reason
    readings_by_checkpoint: Mapping[str, int] = field(default_factory=dict)  # by digest of the one that judged them
    opened_by_checkpoint: Mapping[str, int] = field(default_factory=dict)  # anomalies, likewise


class Notified(NamedTuple):
    """What became of the notifications for one kind of receiver since the process started."""

    sent: int = 0  # alerts and events that were taken
    failures: int = 0  # requests that failed; they are tried again
    dropped: int = 0  # refused for what they are, or pushed out by newer ones
    waiting: int = 0  # now
    interruptions: int = 0  # times that the topic could not be read for a receiver
    interrupted: int = 0  # receivers for which it cannot be read now


class ProcessState(StrEnum):
    """Of a supervised worker's process."""

    RUNNING = "running"
    WAITING = "waiting"  # it has ended, and is started again in a moment
    LOST = "lost"  # it ended again and again, and is not started any more


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One of the workers of a service that has several."""

    number: int  # 1 is the first
    state: ProcessState
    pid: int | None
    started_ms: int
    restarts: int


@dataclass(frozen=True, slots=True)
class ShadowPartition:
    """What a second checkpoint and the one that judges thought of a partition's readings, since it came here."""

    topic: str
    number: int
    streams: int = 0  # that the shadow has a row of
    warming: int = 0  # of these, those that are not compared yet
    readings: int = 0  # compared
    only_shadow: int = 0  # of these, those at which the shadow alone had an alarm open
    only_current: int = 0  # those at which the checkpoint that judges alone had
    both: int = 0
    opened: int = 0  # alarms that the shadow opened
    opened_current: int = 0  # those that the checkpoint that judges opened
    alone: int = 0  # alarms of the shadow that closed, while the other had none open all along
    alone_current: int = 0  # likewise, of the checkpoint that judges


@dataclass(frozen=True, slots=True)
class ShadowAlarm:
    """An alarm of the one, while the other had none open."""

    topic: str
    number: int  # partition
    stream: str
    of: str  # shadow, current
    opened_ms: int  # event time
    closed_ms: int | None  # None: it was open when this was published
    severity: str
    score: float  # of the reading at which it opened, 1.0 is the threshold
    other_score: float  # the other's, of the same reading
    peak: float  # so far


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """A second checkpoint that judges beside the others, to be compared."""

    checkpoint: CheckpointStatus
    partitions: tuple[ShadowPartition, ...] = ()
    streams: Mapping[str, int] = field(default_factory=dict)  # readings that differ, of the 20 with the most
    alarms: tuple[ShadowAlarm, ...] = ()  # of one alone: the latest 200, by the time when they opened


@dataclass(frozen=True, slots=True)
class Status:
    """A view of the worker, or of all workers of a service, at one moment; it never changes."""

    state: WorkerState
    started_ms: int
    published_ms: int
    beat_s: float  # time.monotonic() when the loop last came round
    checkpoint: CheckpointStatus
    partitions: tuple[PartitionStatus, ...] = ()
    joined: bool = True  # whether its group has said which partitions are this worker's
    counts: Counts = field(default_factory=Counts)
    many_refused: bool = False  # whether 1 % of the last 10,000 records could not be read, see Refusals
    recent: tuple[Mapping[str, Any], ...] = ()  # anomaly events, newest first
    events: int = 0  # anomaly events since the start: the newest of `recent` is number `events`
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of open anomalies, see still_open
    models: Mapping[str, CheckpointStatus] = field(default_factory=dict)  # by topic: of those that another one judges
    unusable_model: str = ""  # why the checkpoint that people promoted judges nothing; empty: nothing is wrong
    shadow: ShadowStatus | None = None  # None: there is none
    workers: tuple[WorkerProcess, ...] = ()  # that a supervisor looks after; empty: there is one, and no supervisor


def checkpoints_of(status: Status) -> dict[str, CheckpointStatus]:
    """All that judge, by topic; that of all other topics first, under no name."""
    return {"": status.checkpoint, **status.models}


class StatusBoard:
    """Where the worker's thread pins up its status and others read it: one reference, swapped."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def publish(self, status: Status) -> None:
        self._status = status

    def read(self) -> Status:
        return self._status


def newest(events: Iterable[Mapping[str, Any]], recent: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """`recent` with the events since, which come oldest first, at its front."""
    return tuple(islice(chain(reversed(list(events)), recent), RECENT_LIMIT))


def still_open(
    events: Iterable[Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """What is known of anomalies that have not closed, by their id: `before` with the events since.

    Not all that are open: those of before the start are not in it, nor the oldest of very many. Which streams are in
    alarm is in their rows.
    """
    known = dict(before)
    for event in events:
        data = event["data"]
        known.pop(data["anomaly"], None)
        if data["status"] == "open":
            known[data["anomaly"]] = data
    return dict(islice(known.items(), max(0, len(known) - DETAILS_LIMIT), None))
