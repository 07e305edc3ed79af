"""Whether a worker lives, whether it judges all that it is assigned, and its state in a few figures."""

import msgspec

from models.output.wording import counted
from service.live.status import ProcessState, Status, WorkerState

NAMED = 8  # partitions or topics in one answer
# A worker whose loop takes longer is alive, but what it last said is no longer true of now. A round takes half a second
# where nothing comes, and tenths of a second under full load.
FRESH_S = 3.0


class HealthSummary(msgspec.Struct, frozen=True):
    """The service's own state."""

    version: str
    state: str  # starting, running, stopping
    ready: bool
    reason: str  # why it is not ready; else what it has
    started_ms: int
    published_ms: int  # when the worker last said something
    beat_age_s: float  # since the worker's loop last came round
    checkpoint: str  # digest
    models: dict[str, str]  # digests by topic, of those that another checkpoint judges
    features: list[str]
    partitions: int
    partitions_ready: int  # that are judged
    topics: list[str]  # of the partitions, some of them where there are many
    lag: int | None  # records not judged yet; null: not known of every partition
    event_time_ms: int | None  # latest time of any reading judged
    streams: int
    judged: int  # streams that have learned what is normal, of partitions that are judged
    warming: int  # streams that are still learning what is normal
    anomalies_open: int
    readings: int  # since the start, as what follows
    rejected: int  # records that could not be read: dead letters
    rejected_by_reason: dict[str, int]
    many_rejected: bool  # 1 % of the last 10,000 records of a worker
    late: int
    duplicate: int
    events: int  # anomaly events


def summary(status: Status, version: str, beat_limit_s: float, now_s: float) -> HealthSummary:
    """now_s: time.monotonic(). beat_limit_s: see stuck."""
    partitions, counts = status.partitions, status.counts
    ready = [one for one in partitions if one.ready]
    wrong = unready(status, beat_limit_s, now_s)
    return HealthSummary(
        version=version,
        state=status.state,
        ready=wrong is None,
        reason=wrong or assigned(status),
        started_ms=status.started_ms,
        published_ms=status.published_ms,
        beat_age_s=round(now_s - status.beat_s, 3),
        checkpoint=status.checkpoint.digest,
        models={topic: one.digest for topic, one in status.models.items()},
        features=list(status.checkpoint.features),
        partitions=len(partitions),
        partitions_ready=len(ready),
        topics=sorted({one.topic for one in partitions})[:NAMED],
        lag=_lag(status),
        event_time_ms=max((one.event_time_ms for one in partitions if one.event_time_ms is not None), default=None),
        streams=sum(one.streams for one in partitions),
        judged=sum(one.streams - one.warming for one in ready),
        warming=sum(one.warming for one in partitions),
        anomalies_open=sum(one.alarms_open for one in partitions),
        readings=counts.readings,
        rejected=sum(counts.rejected.values()),
        rejected_by_reason={reason: count for reason, count in counts.rejected.items() if count},
        many_rejected=status.many_refused,
        late=counts.late,
        duplicate=counts.duplicate,
        events=status.events,
    )


def stuck(status: Status, beat_limit_s: float, now_s: float) -> str | None:
    """beat_limit_s: how long the worker's loop may take to come round and still be alive."""
    silent_s = now_s - status.beat_s
    return f"the worker's loop has not come round for {silent_s:.1f} s" if silent_s > beat_limit_s else None


def unready(status: Status, beat_limit_s: float, now_s: float) -> str | None:
    """Why it does not judge all that it is assigned, or no one knows whether it does; None: it does."""
    return (
        stuck(status, beat_limit_s, now_s)
        or _not_running(status)
        or stuck(status, min(FRESH_S, beat_limit_s), now_s)
        or _not_joined(status)
        or _not_judged(status)
    )


def assigned(status: Status) -> str:
    count = len(status.partitions)
    return counted(count, "partition") if count else "no partition is assigned: other workers have them all"


def _not_running(status: Status) -> str | None:
    waiting = [str(one.number) for one in status.workers if one.state is ProcessState.WAITING]
    if waiting:
        return f"worker {', '.join(waiting[:NAMED])} of {len(status.workers)} ended and is started again"
    return None if status.state is WorkerState.RUNNING else f"the worker is {status.state}"


def _not_joined(status: Status) -> str | None:
    return None if status.joined else "the group has not said yet which partitions are this worker's"


def _not_judged(status: Status) -> str | None:
    """Which partitions do not have their memory back yet, or wait for something else."""
    busy = [p for p in status.partitions if not p.ready]
    if not busy:
        return None
    some = ", ".join(
        f"{p.topic}-{p.number} {p.waits_for or f'{p.stage} {100 * p.progress:.0f} %'}" for p in busy[:NAMED]
    )
    more = f" and {len(busy) - NAMED} more" if len(busy) > NAMED else ""
    return f"{len(busy)} of {len(status.partitions)} partitions: {some}{more}"


def _lag(status: Status) -> int | None:
    known = [one.lag for one in status.partitions if one.lag is not None]
    return sum(known) if status.joined and len(known) == len(status.partitions) else None
