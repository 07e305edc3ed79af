"""Anomalies and incidents as alerts of Alertmanager's: what is open, what was, and what is sent of each when.

An alert is a state: it is sent again as long as it lasts, and what is open is held against the rows, so that a restart,
a moved partition or a forgotten stream need no message of their own.

Labels are an alert's identity and must not change while it lasts, but an anomaly's severity rises. So an anomaly has
one alert for each severity that it has reached: `severity="minor"` from its opening, beside it `severity="major"` once
it is major, and so on. A rise is a new alert and resolves none. Alertmanager inhibits the lower ones of the same
anomaly, so the highest is sent before the others; all of them end in one request, as between two the lower ones would
not be inhibited.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import msgspec

from models.data.rfc3339 import milliseconds_of, rfc3339
from service.input.anomaly import Anomaly, Channel, anomaly_id
from service.input.events import Event
from service.log.port import Partition
from service.notify.delivery import Letter
from service.notify.links import NO_LINKS, Links, annotations, anomaly_links
from service.state.open_alarms import SEVERITIES, HeldAlarm

ALERT_NAME = "TelltaleAnomaly"
RESEND_S = 30.0  # an open alert is sent again
# Alertmanager takes an alert for resolved after that, unless it is sent again: long enough for a restart of ours.
VALID_S = 300.0
RESOLVED_FOR_S = 300.0  # a resolved alert is sent again for so long, as Alertmanager asks its clients to
AHEAD_S = 1.0  # a new highest severity is sent so long before those below it, which it inhibits
MOST_ANOMALIES = 10_000  # not alerts: an anomaly that becomes more severe needs no more room
ANOMALIES_A_REQUEST = 100
CHANNELS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Alerts:
    """An anomaly, or an incident, as Alertmanager gets to know it: one alert for each severity that it has reached."""

    partition: Partition | None  # of an anomaly, whose rows say what is open
    labels: Mapping[str, str]  # of all its alerts; each has its severity too
    severities: Sequence[str]  # reached, of those that are notified, the lowest first
    annotations: Mapping[str, str]  # what changes while it lasts
    began_s: float
    due_s: float  # when they are next to be sent
    ahead: bool  # the highest severity is new and sent alone first
    delivered: bool = False  # as they are now
    ended_s: float | None = None  # Unix time when they were resolved; None: the anomaly is open
    link: str = ""  # where a person may look at it
    offset: int = 0  # of the event that they are made of, where that is read again after a restart


MakeAlerts = Callable[[Sequence[str], Alerts | None, float], Alerts]  # of severities reached, what was known, and now


class AlertBook:
    """A Box of alerts: what is open, and what was until a short while ago."""

    def __init__(
        self,
        severities: Sequence[str] = SEVERITIES,
        most: int = MOST_ANOMALIES,
        clock: Callable[[], float] = time.time,
        links: Links = NO_LINKS,
    ) -> None:
        """severities: for which there is an alert, the lowest first: nothing below it is notified or compared here.

        clock: Unix time; an event's own time may be years ago. links: of anomalies.
        """
        self._severities = severities
        self._most = most
        self._clock = clock
        self._links = links
        self._anomalies: dict[str, Alerts] = {}
        self._pushed_out = 0
        self._lock = threading.Lock()

    def apply(self, events: Iterable[Event]) -> None:
        """Take in what changed, in order."""
        for event in events:
            anomaly = event.data
            self.change(
                anomaly.anomaly, anomaly.severity, partial(_alerts_of, self._links, anomaly), anomaly.status == "open"
            )

    def change(self, name: str, severity: str, make: MakeAlerts, is_open: bool) -> None:
        """What has this name has changed; what ends without having been here is passed over."""
        now_s = self._clock()
        with self._lock:
            known = self._anomalies.get(name)
            if is_open or known is not None:
                self._put(name, make(self._reached(severity), known, now_s))

    def look(self, partition: Partition, alarms: Sequence[HeldAlarm]) -> None:
        """What the rows of a partition say: alarms that are not here yet are added, alerts without one resolved."""
        now_s = self._clock()
        held = {anomaly_id(partition, one.opened_offset, one.key.decode()): one for one in alarms}
        with self._lock:
            for name, known in list(self._anomalies.items()):
                if known.partition == partition and known.ended_s is None and name not in held:
                    self._anomalies[name] = replace(known, ended_s=now_s, due_s=now_s, delivered=False)
            for name, alarm in held.items():
                if name not in self._anomalies:
                    reached = self._reached(alarm.severity)
                    self._put(name, _alerts_from_row(self._links, partition, name, alarm, reached, now_s))

    def end_all(self) -> None:
        """Nothing that is here is open any more."""
        now_s = self._clock()
        with self._lock:
            for name, known in list(self._anomalies.items()):
                if known.ended_s is None:
                    self._anomalies[name] = replace(known, ended_s=now_s, due_s=now_s, delivered=False)

    def leave(self, partitions: Collection[Partition]) -> None:
        """Others have these partitions now, and speak for them."""
        with self._lock:
            self._anomalies = {name: one for name, one in self._anomalies.items() if one.partition not in partitions}

    def clear(self) -> None:
        """Others speak for all of them."""
        with self._lock:
            self._anomalies.clear()

    @property
    def needed_offset(self) -> int | None:
        """The lowest of those whose alerts are open or not delivered; None: there are none."""
        with self._lock:
            needed = [one.offset for one in self._anomalies.values() if one.ended_s is None or not one.delivered]
        return min(needed, default=None)

    def next(self) -> Letter | None:
        now_s = self._clock()
        with self._lock:
            self._anomalies = {name: one for name, one in self._anomalies.items() if not _is_over(one, now_s)}
            due = [(name, one) for name, one in self._anomalies.items() if one.due_s <= now_s][:ANOMALIES_A_REQUEST]
        alerts = [alert for _, one in due for alert in _as_sent(one, now_s)]
        return Letter(msgspec.json.encode(alerts), "application/json", len(alerts), due) if due else None

    def settle(self, letter: Letter) -> None:
        now_s = self._clock()
        with self._lock:
            for name, sent in cast(list[tuple[str, Alerts]], letter.content):
                if self._anomalies.get(name) is sent:  # else it changed meanwhile, and is due as it is now
                    self._anomalies[name] = (
                        replace(sent, due_s=now_s + AHEAD_S, ahead=False)
                        if _sends_one_ahead(sent)
                        else replace(sent, due_s=now_s + RESEND_S, delivered=True)
                    )

    def idle_s(self) -> float | None:
        with self._lock:
            due = [one.due_s for one in self._anomalies.values()]
        return max(0.0, min(due) - self._clock()) if due else None

    @property
    def waiting(self) -> int:
        with self._lock:
            return sum(len(one.severities) for one in self._anomalies.values() if not one.delivered)

    @property
    def pushed_out(self) -> int:
        return self._pushed_out

    def _reached(self, severity: str) -> Sequence[str]:
        """Of the severities that are notified, those up to this one."""
        return self._severities[: self._severities.index(severity) + 1]

    def _put(self, name: str, alerts: Alerts) -> None:
        if name in self._anomalies or len(self._anomalies) < self._most:
            self._anomalies[name] = alerts
        else:
            self._pushed_out += len(alerts.severities)


def _is_over(alerts: Alerts, now_s: float) -> bool:
    return alerts.ended_s is not None and now_s > alerts.ended_s + RESOLVED_FOR_S


def _sends_one_ahead(alerts: Alerts) -> bool:
    return alerts.ahead and alerts.ended_s is None and len(alerts.severities) > 1


def _as_sent(alerts: Alerts, now_s: float) -> Iterator[dict[str, Any]]:
    ends_s = now_s + VALID_S if alerts.ended_s is None else alerts.ended_s
    for severity in alerts.severities[-1:] if _sends_one_ahead(alerts) else reversed(alerts.severities):
        yield {
            "labels": {**alerts.labels, "severity": severity},
            "annotations": alerts.annotations,
            "startsAt": _rfc3339(alerts.began_s),
            "endsAt": _rfc3339(max(ends_s, alerts.began_s)),
            **({"generatorURL": alerts.link} if alerts.link else {}),
        }


def _rfc3339(time_s: float) -> str:
    return rfc3339(round(time_s * 1000))


def _alerts_of(links: Links, anomaly: Anomaly, reached: Sequence[str], known: Alerts | None, now_s: float) -> Alerts:
    partition = Partition(anomaly.topic, anomaly.partition)
    opened_s = milliseconds_of(anomaly.opened_at) / 1000
    page, picture = anomaly_links(links, partition, anomaly.anomaly, anomaly.stream, anomaly.opened_at)
    said = {
        "summary": f"{anomaly.stream}: {_in_words(anomaly.channels) or _without_reading(anomaly)}",
        "severity": anomaly.severity,
        "kind": anomaly.kind,
        "score": f"{anomaly.score:.2f}",
        "peak": f"{anomaly.peak:.2f}",
        "opened_at": anomaly.opened_at,
        "offset": str(anomaly.offset),
        "checkpoint": anomaly.checkpoint,
    }
    return Alerts(
        partition,
        _labels(partition, anomaly.anomaly, anomaly.stream),
        reached,
        {**said, **annotations(page, picture)},
        began_s=known.began_s if known else min(opened_s, now_s),
        due_s=now_s,
        ahead=known is None or known.ahead or len(reached) > len(known.severities),
        ended_s=None if anomaly.status == "open" else now_s,
        link=page,
    )


def _without_reading(anomaly: Anomaly) -> str:
    """What an anomaly is that no reading of its stream changed."""
    return (
        f"{anomaly.kind} since {anomaly.opened_at}" if anomaly.closed_as is None else f"closed as {anomaly.closed_as}"
    )


def _alerts_from_row(
    links: Links, partition: Partition, name: str, alarm: HeldAlarm, reached: Sequence[str], now_s: float
) -> Alerts:
    """After a restart: which channels it was, only the event said."""
    stream, opened_at = alarm.key.decode(), rfc3339(alarm.opened_ms)
    page, picture = anomaly_links(links, partition, name, stream, opened_at)
    said = {
        "summary": f"{stream}: anomalous since {opened_at}",
        "severity": alarm.severity,
        "peak": f"{alarm.peak:.2f}",
        "opened_at": opened_at,
    }
    labels = _labels(partition, name, stream)
    began_s = min(alarm.opened_ms / 1000, now_s)
    told = {**said, **annotations(page, picture)}
    return Alerts(partition, labels, reached, told, began_s, due_s=now_s, ahead=True, link=page)


def _labels(partition: Partition, name: str, stream: str) -> Mapping[str, str]:
    return {"alertname": ALERT_NAME, "stream": stream, "topic": partition.topic, "anomaly": name}


def _in_words(channels: Sequence[Channel]) -> str:
    """The channels with most share, in words."""
    first = sorted(channels, key=lambda channel: -channel.share)[:CHANNELS_NAMED]
    return "; ".join(
        f"{one.name} {_number(one.observed)}, expected {_number(one.lower)} to {_number(one.upper)}"
        for one in first
        if one is first[0] or one.share >= 0.2
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
