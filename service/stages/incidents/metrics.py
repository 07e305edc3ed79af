"""What Prometheus sees of the stage. Labels hold fixed words only."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.stages.incidents.book import BUDGET, QUIET, RULE, RULED
from service.stages.incidents.controls import TYPES
from service.stages.incidents.stage import IncidentStatus
from service.stages.metrics import StageMetrics, counter_metrics, progress_metrics

CHANGES = ("opened", "updated", "closed")
CAUSES = (BUDGET, QUIET, RULE)
STATES = ("waiting", "restoring", "running")
CONTROL_KINDS = (*TYPES, "taken_back")
HELD = tuple(kind for kind in TYPES if kind != "acknowledgement")  # those are kept with their incident
COUNTERS: Mapping[str, tuple[str, str]] = {
    "telltale_incident_anomalies": ("anomalies", "Changes of anomalies that were taken in."),
    "telltale_incident_anomalies_rejected": ("rejected", "Records that are no event, now dead letters."),
    "telltale_incident_controls_rejected": ("controls_rejected", "Records that are no control, now dead letters."),
    "telltale_incident_anomalies_ruled": (RULED, "Anomalies that labels of others keep from people."),
    "telltale_incidents_notified": ("notified", "Incidents that people are notified of."),
    "telltale_incident_migrations": ("migrations", "Times that another member may have had the partitions."),
    "telltale_incident_state_problems": ("lost", "Times that state or anomalies were missing, and it went on without."),
}


class Delivered(Protocol):
    """What became of notifications since the start."""

    @property
    def sent(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def interruptions(self) -> int: ...
    @property
    def interrupted(self) -> int: ...


DELIVERIES: Mapping[str, tuple[str, str]] = {
    "telltale_incident_notifications_sent": ("sent", "Alerts and events of incidents that a receiver took."),
    "telltale_incident_notification_failures": ("failures", "Requests to a receiver that failed."),
    "telltale_incident_notifications_dropped": ("dropped", "Alerts and events that a receiver refused."),
    "telltale_incident_notification_feed_interruptions": (
        "interruptions",
        "Times that the topic of incidents could not be read for a receiver.",
    ),
}
NOT_DELIVERED: Mapping[str, tuple[str, str]] = {
    "telltale_incident_notifications_waiting": ("waiting", "Alerts and events not delivered yet."),
    "telltale_incident_notification_feeds_interrupted": (
        "interrupted",
        "Receivers for which the topic of incidents cannot be read now.",
    ),
}


class IncidentMetrics(StageMetrics[IncidentStatus]):
    """A collector of what the stage's status says."""

    def __init__(
        self,
        registry: CollectorRegistry,
        status: IncidentStatus,
        notified: Callable[[], Sequence[tuple[str, Delivered]]] = list,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """notified: of each receiver its kind, and what became of its notifications."""
        self._notified = notified
        super().__init__(registry, status, monotonic)

    def collect(self) -> Iterator[Metric]:
        status = self._status
        counts = status.counts
        yield from counter_metrics(status, COUNTERS)
        published = CounterMetricFamily(
            "telltale_incident_events", "Events of incidents, by change.", labels=["change"]
        )
        for change in CHANGES:
            published.add_metric([change], counts[change])
        yield published
        controls = CounterMetricFamily(
            "telltale_incident_controls", "Controls that were taken in, by type.", labels=["type"]
        )
        for kind in CONTROL_KINDS:
            controls.add_metric([kind], counts[f"control_{kind}"])
        yield controls
        in_force = GaugeMetricFamily(
            "telltale_incident_controls_in_force",
            "Controls that are in force, or were within the last 7 days of event time.",
            labels=["type"],
        )
        for kind in HELD:
            in_force.add_metric([kind], status.controls[kind])
        yield in_force
        yield GaugeMetricFamily(
            "telltale_incident_label_rules", "Rules that labels make, in force.", status.label_rules
        )
        yield GaugeMetricFamily(
            "telltale_incident_rarer_streams", "Streams of which labels ask for rarer anomalies.", status.rarer_streams
        )
        held_back = CounterMetricFamily(
            "telltale_incidents_held_back",
            "Times that no one was notified of an incident, by cause.",
            labels=["cause"],
        )
        for cause in CAUSES:
            held_back.add_metric([cause], counts[cause])
        yield held_back
        yield from self._notifications()
        yield GaugeMetricFamily("telltale_incidents_open", "Incidents with an open anomaly.", status.open_incidents)
        yield GaugeMetricFamily(
            "telltale_incident_budget", "Incidents that people may be notified of at once.", status.tokens
        )
        lag_means = "Records of the topic of anomalies not taken in yet."
        yield from progress_metrics("telltale_incident", status, STATES, lag_means, self._monotonic())

    def _notifications(self) -> Iterator[Metric]:
        totals: dict[str, Counter[str]] = {}
        for kind, one in self._notified():
            counted = [*DELIVERIES.values(), *NOT_DELIVERED.values()]
            totals.setdefault(kind, Counter()).update({name: getattr(one, name) for name, _ in counted})
        for families, metrics in ((CounterMetricFamily, DELIVERIES), (GaugeMetricFamily, NOT_DELIVERED)):
            for name, (what, meaning) in metrics.items():
                family = families(name, meaning, labels=["receiver"])
                for kind, total in totals.items():
                    family.add_metric([kind], total[what])
                yield family
