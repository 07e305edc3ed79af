"""Anomalies as alerts of Alertmanager's: what is open, what was, and what is said of each when.

An alert is a state: it is said again as long as it lasts, and what is open is held against the rows, so that a restart,
a moved partition or a forgotten stream need no message of their own. Labels are its identity; what changes while it
lasts, severity among it, are annotations.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import msgspec

from service.delivery import Letter
from service.log import Partition
from service.open_alarms import HeldAlarm
from service.wire import Anomaly, Channel, Event, anomaly_id, rfc3339

ALERT_NAME = "TelltaleAnomaly"
RESEND_S = 30.0  # an open alert is said again
# Alertmanager takes an alert for resolved after that, unless it is said again: long enough for a restart of ours.
VALID_S = 300.0
RESOLVED_FOR_S = 300.0  # a resolved alert is said again for so long, as Alertmanager asks its clients to
MOST_ALERTS = 10_000
ALERTS_A_REQUEST = 256
CHANNELS_NAMED = 3


@dataclass(frozen=True, slots=True)
class _Alert:
    """An anomaly as Alertmanager gets to know it. ended_s: Unix time when it was resolved; None: it is open."""

    partition: Partition
    labels: Mapping[str, str]  # what it is, the same as long as it lasts: severity and score are annotations
    annotations: Mapping[str, str]
    began_s: float
    due_s: float  # when it is next to be said
    delivered: bool = False  # as it is now
    ended_s: float | None = None


class AlertBook:
    """A Box of alerts: what is open, and what was until a short while ago."""

    def __init__(self, most: int = MOST_ALERTS, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix time; an event's own time may be years ago."""
        self._most = most
        self._clock = clock
        self._alerts: dict[str, _Alert] = {}
        self._pushed_out = 0
        self._lock = threading.Lock()

    def tell(self, events: Iterable[Event]) -> None:
        """Take in what changed, in order."""
        now_s = self._clock()
        with self._lock:
            for event in events:
                anomaly = event.data
                known = self._alerts.get(anomaly.anomaly)
                if anomaly.status == "open" or known is not None:
                    self._put(anomaly.anomaly, _alert_of(anomaly, known, now_s))

    def look(self, partition: Partition, alarms: Sequence[HeldAlarm]) -> None:
        """What the rows of a partition say: alarms nobody has told of here are added, alerts without one resolved."""
        now_s = self._clock()
        held = {anomaly_id(partition, one.opened_offset, one.key.decode()): one for one in alarms}
        with self._lock:
            for name, alert in list(self._alerts.items()):
                if alert.partition == partition and alert.ended_s is None and name not in held:
                    self._alerts[name] = replace(alert, ended_s=now_s, due_s=now_s, delivered=False)
            for name, alarm in held.items():
                if name not in self._alerts:
                    self._put(name, _alert_from_row(partition, name, alarm, now_s))

    def leave(self, partitions: Collection[Partition]) -> None:
        """Others have these partitions now, and speak for them."""
        with self._lock:
            self._alerts = {name: one for name, one in self._alerts.items() if one.partition not in partitions}

    def next(self) -> Letter | None:
        now_s = self._clock()
        with self._lock:
            self._alerts = {n: one for n, one in self._alerts.items() if not _is_over(one, now_s)}
            due = [(name, one) for name, one in self._alerts.items() if one.due_s <= now_s][:ALERTS_A_REQUEST]
        if not due:
            return None
        body = msgspec.json.encode([_as_sent(one, now_s) for _, one in due])
        return Letter(body, "application/json", len(due), due)

    def settle(self, letter: Letter) -> None:
        due_s = self._clock() + RESEND_S
        with self._lock:
            for name, sent in cast(list[tuple[str, _Alert]], letter.content):
                if self._alerts.get(name) is sent:  # else it changed meanwhile, and is due as it is now
                    self._alerts[name] = replace(sent, due_s=due_s, delivered=True)

    def idle_s(self) -> float | None:
        with self._lock:
            due = [one.due_s for one in self._alerts.values()]
        return max(0.0, min(due) - self._clock()) if due else None

    @property
    def waiting(self) -> int:
        with self._lock:
            return sum(not one.delivered for one in self._alerts.values())

    @property
    def pushed_out(self) -> int:
        return self._pushed_out

    def _put(self, name: str, alert: _Alert) -> None:
        if name in self._alerts or len(self._alerts) < self._most:
            self._alerts[name] = alert
        else:
            self._pushed_out += 1


def _is_over(alert: _Alert, now_s: float) -> bool:
    return alert.ended_s is not None and now_s > alert.ended_s + RESOLVED_FOR_S


def _as_sent(alert: _Alert, now_s: float) -> dict[str, Any]:
    ends_s = now_s + VALID_S if alert.ended_s is None else alert.ended_s
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": _rfc3339(alert.began_s),
        "endsAt": _rfc3339(max(ends_s, alert.began_s)),
    }


def _rfc3339(time_s: float) -> str:
    return rfc3339(round(time_s * 1000))


def _alert_of(anomaly: Anomaly, known: _Alert | None, now_s: float) -> _Alert:
    partition = Partition(anomaly.topic, anomaly.partition)
    opened_s = datetime.fromisoformat(anomaly.opened_at).timestamp()
    annotations = {
        "summary": f"{anomaly.stream}: {_told(anomaly.channels)}",
        "severity": anomaly.severity,
        "kind": anomaly.kind,
        "score": f"{anomaly.score:.2f}",
        "peak": f"{anomaly.peak:.2f}",
        "opened_at": anomaly.opened_at,
        "offset": str(anomaly.offset),
        "checkpoint": anomaly.checkpoint,
    }
    return _Alert(
        partition,
        _labels(partition, anomaly.anomaly, anomaly.stream),
        annotations,
        began_s=known.began_s if known else min(opened_s, now_s),
        due_s=now_s,
        ended_s=None if anomaly.status == "open" else now_s,
    )


def _alert_from_row(partition: Partition, name: str, alarm: HeldAlarm, now_s: float) -> _Alert:
    """After a restart: which channels it was, only the event could tell."""
    stream, opened_at = alarm.key.decode(), rfc3339(alarm.opened_ms)
    annotations = {
        "summary": f"{stream}: anomalous since {opened_at}",
        "severity": alarm.severity,
        "peak": f"{alarm.peak:.2f}",
        "opened_at": opened_at,
    }
    labels = _labels(partition, name, stream)
    return _Alert(partition, labels, annotations, began_s=min(alarm.opened_ms / 1000, now_s), due_s=now_s)


def _labels(partition: Partition, name: str, stream: str) -> Mapping[str, str]:
    return {"alertname": ALERT_NAME, "stream": stream, "topic": partition.topic, "anomaly": name}


def _told(channels: Sequence[Channel]) -> str:
    """The channels with most share, in words."""
    first = sorted(channels, key=lambda channel: -channel.share)[:CHANNELS_NAMED]
    return "; ".join(
        f"{one.name} {_number(one.observed)}, expected {_number(one.lower)} to {_number(one.upper)}"
        for one in first
        if one is first[0] or one.share >= 0.2
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
