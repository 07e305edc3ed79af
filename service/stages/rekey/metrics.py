"""What Prometheus sees of the re-keying stage. Labels hold fixed words only."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.stages.metrics import StageMetrics, counter_metrics, progress_metrics
from service.stages.rekey.stage import RekeyStatus

STATES = ("waiting", "restoring", "running")
COUNTERS: Mapping[str, tuple[str, str]] = {
    "telltale_rekey_records": ("records", "Records that were taken in."),
    "telltale_rekey_readings": ("readings", "Readings that were written, each keyed by its stream."),
    "telltale_rekey_rejected": ("rejected", "Records with something that cannot be read, now dead letters."),
    "telltale_rekey_skipped": ("skipped", "Readings, and tombstones, that mappings leave out."),
    "telltale_rekey_ended": ("ended", "Streams that deaths of Sparkplug, or tombstones, say are silent."),
    "telltale_rekey_late": ("late", "Readings to be joined that came when theirs was written and newer ones known."),
    "telltale_rekey_migrations": ("migrations", "Times that another member may have had the partitions."),
    "telltale_rekey_lost": ("lost", "Times that records, or what is known of streams, were lost and it went on."),
}


class RekeyMetrics(StageMetrics[RekeyStatus]):
    """A collector of what the stage's status says."""

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield from counter_metrics(status, COUNTERS)
        lag_means = "Records of the topics that are read, not taken in yet."
        yield GaugeMetricFamily(
            "telltale_rekey_joined_streams", "Streams of which values are known to be joined.", status.joined_streams
        )
        yield GaugeMetricFamily(
            "telltale_rekey_births", "Births of nodes and devices of Sparkplug that are valid.", status.births
        )
        yield from progress_metrics("telltale_rekey", status, STATES, lag_means, self._monotonic())
