"""What Prometheus sees of the re-keying stage. Labels hold fixed words only."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.rekey.stage import RekeyStatus

STATES = ("waiting", "running")
COUNTERS: Mapping[str, tuple[str, str]] = {
    "telltale_rekey_records": ("records", "Records that were taken in."),
    "telltale_rekey_readings": ("readings", "Readings that were written, each keyed by its stream."),
    "telltale_rekey_rejected": ("rejected", "Records with something that cannot be read, now dead letters."),
    "telltale_rekey_skipped": ("skipped", "Readings, and tombstones, that mappings leave out."),
    "telltale_rekey_migrations": ("migrations", "Times that another member may have had the partitions."),
    "telltale_rekey_lost": ("lost", "Times that records were deleted before they were read, and it went on without."),
}


class RekeyMetrics:
    """A collector of what the stage's status says."""

    def __init__(
        self, registry: CollectorRegistry, status: RekeyStatus, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._status, self._monotonic = status, monotonic
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        status = self._status
        for name, (counted, meaning) in COUNTERS.items():
            yield CounterMetricFamily(name, meaning, status.counts[counted])
        lag = GaugeMetricFamily("telltale_rekey_lag_records", "Records of the topics that are read, not taken in yet.")
        if status.lag_records is not None:
            lag.add_metric([], status.lag_records)
        yield lag
        running = GaugeMetricFamily("telltale_rekey_stage", "1 for the state it is in.", labels=["state"])
        for state in STATES:
            running.add_metric([state], float(state == status.state))
        yield running
        age_s = max(0.0, self._monotonic() - status.beat_s)
        yield GaugeMetricFamily("telltale_rekey_heartbeat_age_seconds", "Since the loop last came round.", age_s)
