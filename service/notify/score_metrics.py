"""What Prometheus sees of `telltale remote-write`. Labels hold fixed words only."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.notify.score_feed import FeedStatus
from service.stages.metrics import StageMetrics, counter_metrics, progress_metrics

STATES = ("waiting", "running")
COUNTERS: Mapping[str, tuple[str, str]] = {
    "telltale_remote_write_readings": ("readings", "Judged readings that the receiver took."),
    "telltale_remote_write_refused": ("refused", "Readings that the receiver refused for what they are."),
    "telltale_remote_write_failures": ("failures", "Requests that failed, each of which is tried again."),
    "telltale_remote_write_rejected": ("rejected", "Records that are no judged reading, passed over."),
    "telltale_remote_write_migrations": ("migrations", "Times that another member may have had the partitions."),
}


class ScoreFeedMetrics(StageMetrics[FeedStatus]):
    """A collector of what the feed's status says."""

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield from counter_metrics(status, COUNTERS)
        yield GaugeMetricFamily(
            "telltale_remote_write_waiting", "Readings that were read and not taken yet.", status.waiting
        )
        lag_means = "Records of the topic of scores that are not read yet."
        yield from progress_metrics("telltale_remote_write", status, STATES, lag_means, self._monotonic())
