"""What Prometheus sees of every stage. Labels hold fixed words only."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.stages.progress import StageStatus

S = TypeVar("S", bound=StageStatus)


class StageMetrics(ABC, Generic[S]):
    """A collector of what the status of a stage says."""

    def __init__(self, registry: CollectorRegistry, status: S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._status, self._monotonic = status, monotonic
        registry.register(self)

    @abstractmethod
    def collect(self) -> Iterator[Metric]: ...


def counter_metrics(status: StageStatus, counters: Mapping[str, tuple[str, str]]) -> Iterator[Metric]:
    """counters: by the name of the metric what is counted, and what it means."""
    for name, (counted, meaning) in counters.items():
        yield CounterMetricFamily(name, meaning, status.counts[counted])


def progress_metrics(
    prefix: str, status: StageStatus, states: Sequence[str], lag_means: str, now_s: float
) -> Iterator[Metric]:
    """prefix: of the names. states: what a stage can be in. lag_means: which records wait. now_s: of time.monotonic."""
    lag = GaugeMetricFamily(f"{prefix}_lag_records", lag_means)
    if status.lag_records is not None:
        lag.add_metric([], status.lag_records)
    yield lag
    running = GaugeMetricFamily(f"{prefix}_stage", "1 for the state it is in.", labels=["state"])
    for state in states:
        running.add_metric([state], float(state == status.state))
    yield running
    age_s = max(0.0, now_s - status.beat_s)
    yield GaugeMetricFamily(f"{prefix}_heartbeat_age_seconds", "Since the loop last came round.", age_s)
