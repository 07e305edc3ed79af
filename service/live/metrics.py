"""Every Prometheus name, once.

Counters and gauges are read from the StatusBoard when Prometheus scrapes; histograms are filled by the worker, once a
batch. Nothing here takes a lock: the worker's thread swaps references, the scraping thread reads them. Labels hold
topics, partitions, channels and fixed words only, however many streams there are; one metric names streams, at most
100 and only where that is asked for. What went away takes its series with it.
"""

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from models.data.arrays import Int64s
from models.detection.sensor_rules import Excluded
from service.live.histograms import BATCH_READINGS, LATENCY_S, RESTORE_S, STAGE_S, TRANSACTION_S, Histogram
from service.live.shadow_metrics import shadow_families
from service.live.status import Counts, Notified, PartitionStatus, ProcessState, StatusBoard, checkpoints_of

LabelledFamily = TypeVar("LabelledFamily", CounterMetricFamily, GaugeMetricFamily)

NOT_NOTIFIED: Mapping[str, Notified] = {}

COUNTERS: tuple[tuple[str, str, Callable[[Counts], int]], ...] = (
    ("telltale_readings", "Readings that were read, late and duplicate ones among them.", lambda c: c.readings),
    ("telltale_records", "Records judged or rejected.", lambda c: c.records),
    ("telltale_readings_late", "Readings older than their stream's last.", lambda c: c.late),
    ("telltale_readings_duplicate", "Readings that came twice.", lambda c: c.duplicate),
    ("telltale_readings_skipped", "Readings that their topic's mapping does not select.", lambda c: c.skipped),
    ("telltale_readings_paused", "Readings in quiet times in which nothing is learned.", lambda c: c.paused),
    ("telltale_readings_replayed", "Readings judged again, silently, after a restore.", lambda c: c.replayed),
    ("telltale_transactions", "Transactions committed.", lambda c: c.transactions),
    ("telltale_transaction_aborts", "Transactions that failed; their records are judged again.", lambda c: c.aborts),
    ("telltale_partition_assignments", "Partitions that came to this worker, each time.", lambda c: c.assigned),
    ("telltale_streams_evicted", "Streams forgotten because they were idle.", lambda c: c.evicted),
    ("telltale_models_promoted", "Partitions that another checkpoint took over while this ran.", lambda c: c.promoted),
    ("telltale_pages_written", "Pages of state written.", lambda c: c.pages_written),
    ("telltale_page_written_bytes", "Bytes of pages and rosters, before compression.", lambda c: c.page_bytes_written),
)
LABELLED_COUNTERS: tuple[tuple[str, str, str, Callable[[Counts], Mapping[str, int]]], ...] = (
    ("telltale_records_rejected", "Records that could not be read, now dead letters.", "reason", lambda c: c.rejected),
    ("telltale_anomalies_opened", "Anomalies by their severity when they opened.", "severity", lambda c: c.opened),
    (
        "telltale_anomalies_updated",
        "Anomalies that became more severe, by new severity.",
        "severity",
        lambda c: c.updated,
    ),
    (
        "telltale_anomalies_closed",
        "Anomalies that closed, by the severity of their peak.",
        "severity",
        lambda c: c.closed,
    ),
    (
        "telltale_anomaly_channels",
        "Anomalies opened, by the channel with the largest share of the score.",
        "channel",
        lambda c: c.channels,
    ),
    ("telltale_state_problems", "What was found wrong with a partition's state.", "problem", lambda c: c.problems),
)
# New name: the one in the release before, served beside it until the next. Counters without `_total`.
FORMER_NAMES = {
    "telltale_heartbeat_age_seconds": "telltale_beat_age_seconds",
    "telltale_page_written_bytes": "telltale_page_bytes_written",
}


class Build(NamedTuple):
    """What is running."""

    version: str
    python: str
    torch: str
    numerics: str  # fingerprint of the arithmetic: workers that differ in it may differ in the last bit


class Counted(NamedTuple):
    """What is counted beside the status, as it goes to another process: histograms by name, and notifications."""

    histograms: dict[str, tuple[list[int], float]]  # values in each bucket, and the sum of all
    notified: dict[str, Notified]


class Metrics:
    """A collector. The worker's thread calls `observe_…`; a scrape calls `collect`.

    Where another process is scraped, `take` lets its copy show what `counted` returned here.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        board: StatusBoard,
        build: Build,
        stages: Iterable[str],
        reasons: Iterable[str],
        severities: Iterable[str],
        problems: Iterable[str],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        notified: Callable[[], Mapping[str, Notified]] = lambda: NOT_NOTIFIED,
        top_streams: int = 0,
    ) -> None:
        """stages, reasons, severities, problems: every label there will be, so that each series starts at 0.

        notified: what became of the notifications, by kind of receiver. top_streams: how many streams may be named.
        """
        self._board = board
        self._build = build
        self._reasons, self._severities, self._problems = tuple(reasons), tuple(severities), tuple(problems)
        self._clock, self._monotonic = clock, monotonic
        self._notified = notified
        self._top_streams = top_streams
        self._latency = Histogram(LATENCY_S)
        self._batch = Histogram(BATCH_READINGS)
        self._stages = {stage: Histogram(STAGE_S) for stage in stages}
        self._transaction = Histogram(TRANSACTION_S)
        self._restore = Histogram(RESTORE_S)
        registry.register(self)
        if board.read().workers:
            registry.register(_WorkerProcesses(board))
        else:
            worker = os.getpid()
            ProcessCollector(registry=registry, pid=lambda: worker)

    def observe_batch(self, readings: int, record_times_ms: Int64s, now_ms: int) -> None:
        """Count a batch whose verdicts are committed. record_times_ms: when each was produced, -1 where unknown."""
        self._batch.observe([readings])
        known = record_times_ms[record_times_ms >= 0]
        self._latency.observe(np.maximum(now_ms - known, 0) / 1000)  # a producer's clock may be ahead of ours

    def observe_stages(self, stage_s: Mapping[str, float]) -> None:
        """Count how long each stage of one batch or poll took."""
        for stage, seconds in stage_s.items():
            self._stages[stage].observe([seconds])

    def observe_transaction(self, seconds: float) -> None:
        """Count a transaction that was committed."""
        self._transaction.observe([seconds])

    def observe_restore(self, seconds: float) -> None:
        """Count a partition that has its memory back."""
        self._restore.observe([seconds])

    def counted(self) -> Counted:
        """Costs little, however much has been counted."""
        return Counted({name: one.counted for name, one in self._named.items()}, dict(self._notified()))

    def take(self, counted: Counted) -> None:
        for name, histogram in counted.histograms.items():
            self._named[name].take(*histogram)
        self._notified = lambda: counted.notified

    @property
    def _named(self) -> Mapping[str, "Histogram"]:
        whole = {"latency": self._latency, "batch": self._batch}
        return {**whole, "transaction": self._transaction, "restore": self._restore, **self._stages}

    def collect(self) -> Iterator[Metric]:
        """Every series as it stands; called by the registry."""
        for family in chain(
            self._identity(),
            self._counters(),
            self._notifications(),
            self._gauges(),
            self._supervised(),
            shadow_families(self._board.read().shadow),
            self._anomalies(),
            self._histograms(),
        ):
            yield family
            if family.name in FORMER_NAMES:
                yield _under_former_name(family)

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def _identity(self) -> Iterator[Metric]:
        yield InfoMetricFamily("telltale_build", "What is running.", self._build._asdict())
        checkpoint = self._board.read().checkpoint
        models = InfoMetricFamily(
            "telltale_checkpoint",
            "The trained models that judge, with topic those of one topic.",
            labels=["topic"],
        )
        for topic, one in checkpoints_of(self._board.read()).items():
            models.add_metric([topic], {"digest": one.digest, "features": str(len(one.features))})
        yield models
        if checkpoint.loaded_ms is not None:
            yield GaugeMetricFamily(
                "telltale_checkpoint_load_timestamp_seconds",
                "When the checkpoint was last loaded, Unix time.",
                checkpoint.loaded_ms / 1000,
            )

    def _counters(self) -> Iterator[Metric]:
        status = self._board.read()
        for name, meaning, count in COUNTERS:
            yield CounterMetricFamily(name, meaning, count(status.counts))
        values = {
            "reason": self._reasons,
            "severity": self._severities,
            "problem": self._problems,
            "channel": list(dict.fromkeys(name for one in checkpoints_of(status).values() for name in one.features)),
        }
        for name, meaning, label, counts in LABELLED_COUNTERS:
            yield _by(CounterMetricFamily(name, meaning, labels=[label]), counts(status.counts), values[label])
        excluded = CounterMetricFamily(
            "telltale_values_excluded", "Values that count as missing, as detection.rules say.", labels=["reason"]
        )
        yield _by(excluded, status.counts.excluded, list(map(str, Excluded)))
        done, judging = status.counts, [one.digest for one in checkpoints_of(status).values()]
        for name, meaning, by_digest in (
            (
                "telltale_checkpoint_readings",
                "Readings by the checkpoint that judged them.",
                done.readings_by_checkpoint,
            ),
            ("telltale_checkpoint_anomalies_opened", "Anomalies by their checkpoint.", done.opened_by_checkpoint),
        ):
            digests = list(dict.fromkeys([*judging, *by_digest]))
            yield _by(CounterMetricFamily(name, meaning, labels=["digest"]), by_digest, digests)

    def _notifications(self) -> Iterator[Metric]:
        notified = self._notified()
        for name, meaning, counts in (
            ("telltale_notifications_sent", "Alerts and events that a receiver took.", _of_each(notified, "sent")),
            ("telltale_notification_failures", "Requests to a receiver that failed.", _of_each(notified, "failures")),
            ("telltale_notifications_dropped", "Alerts and events given up.", _of_each(notified, "dropped")),
            (
                "telltale_notification_feed_interruptions",
                "Times that the topic of anomalies could not be read for a receiver.",
                _of_each(notified, "interruptions"),
            ),
        ):
            yield _by(CounterMetricFamily(name, meaning, labels=["receiver"]), counts, list(notified))
        for name, meaning, counts in (
            ("telltale_notifications_waiting", "Alerts and events not delivered yet.", _of_each(notified, "waiting")),
            (
                "telltale_notification_feeds_interrupted",
                "Receivers for which the topic of anomalies cannot be read now.",
                _of_each(notified, "interrupted"),
            ),
        ):
            yield _by(GaugeMetricFamily(name, meaning, labels=["receiver"]), counts, list(notified))

    def _gauges(self) -> Iterator[Metric]:
        status = self._board.read()
        started_ms = max([status.started_ms, *(one.started_ms for one in status.workers)])
        yield GaugeMetricFamily(
            "telltale_model_unusable",
            "1 when the checkpoint that people promoted judges nothing: the status says why.",
            float(bool(status.unusable_model)),
        )
        yield GaugeMetricFamily(
            "telltale_start_time_seconds",
            "When the worker started, Unix time; of several, the one that started last.",
            started_ms / 1000,
        )
        yield GaugeMetricFamily(
            "telltale_heartbeat_age_seconds",
            "Since the worker's loop last came round.",
            self._monotonic() - status.beat_s,
        )
        yield GaugeMetricFamily("telltale_partitions", "Partitions this worker has.", len(status.partitions))
        now_s = self._clock()
        for name, meaning, value in (
            ("telltale_lag_records", "Records not judged yet; absent while it is not known.", lambda p: p.lag),
            (
                "telltale_event_time_lag_seconds",
                "From the latest reading's own time to now.",
                lambda p: None if p.event_time_ms is None else now_s - p.event_time_ms / 1000,
            ),
            ("telltale_streams", "Streams remembered.", lambda p: p.streams),
            ("telltale_streams_warming", "Streams still learning what is normal.", lambda p: p.warming),
            ("telltale_state_bytes", "Memory that the streams' state takes.", lambda p: p.state_bytes),
            (
                "telltale_anomaly_peak_ratio",
                "Highest score of any anomaly that is open, in alarm thresholds; 0 where none is.",
                lambda p: p.open_peak,
            ),
            (
                "telltale_replay_records",
                "Records that would be judged again after a crash.",
                lambda p: p.replay_records,
            ),
            (
                "telltale_dirty_page_age_seconds",
                "How long the oldest change of state has not been written; 0 where everything is.",
                lambda p: p.unwritten_s,
            ),
            ("telltale_partition_ready", "1 when the partition is judged.", lambda p: float(p.ready)),
            (
                "telltale_recovery_progress_ratio",
                "How far the partition's memory is restored; 1 when it is done.",
                lambda p: p.progress,
            ),
        ):
            yield _by_partition(name, meaning, status.partitions, value)

    def _supervised(self) -> Iterator[Metric]:
        """Of workers that a supervisor looks after; nothing where there is none."""
        processes = self._board.read().workers
        if not processes:
            return
        restarts = CounterMetricFamily(
            "telltale_worker_restarts", "How often a worker ended and was started again.", labels=["worker"]
        )
        states = GaugeMetricFamily(
            "telltale_workers",
            "Workers by what became of their processes: running, waiting for a restart, lost for good.",
            labels=["state"],
        )
        for one in processes:
            restarts.add_metric([str(one.number)], one.restarts)
        for state in ProcessState:
            states.add_metric([state], sum(one.state is state for one in processes))
        yield restarts
        yield states

    def _anomalies(self) -> Iterator[Metric]:
        """Which are open now, and, where it is asked for, of which streams."""
        partitions = self._board.read().partitions
        family = GaugeMetricFamily(
            "telltale_anomalies_open", "Anomalies open now.", labels=["topic", "partition", "severity"]
        )
        for one in partitions:
            for severity in self._severities:
                family.add_metric([one.topic, str(one.number), severity], one.open_by_severity.get(severity, 0))
        yield family
        top = GaugeMetricFamily(
            "telltale_top_stream_peak_ratio",
            "Highest score of a stream's open anomaly, in alarm thresholds; only of the streams with the highest.",
            labels=["topic", "partition", "stream"],
        )
        named = [(peak, one.topic, str(one.number), stream) for one in partitions for stream, peak in one.strongest]
        for peak, *whose in heapq.nlargest(self._top_streams, named):
            top.add_metric(whose, peak)
        yield top

    def _histograms(self) -> Iterator[Metric]:
        for name, meaning, histogram in (
            ("telltale_verdict_latency_seconds", "From producing a record to its committed verdict.", self._latency),
            ("telltale_batch_size_readings", "Readings in a batch.", self._batch),
            ("telltale_transaction_duration_seconds", "From begin to commit of a transaction.", self._transaction),
            ("telltale_restore_duration_seconds", "From a partition's assignment to its memory.", self._restore),
        ):
            family = HistogramMetricFamily(name, meaning, labels=[])
            family.add_metric([], *histogram.read())
            yield family
        stages = HistogramMetricFamily(
            "telltale_stage_duration_seconds", "Each stage of a batch or poll.", labels=["stage"]
        )
        for stage, histogram in self._stages.items():
            stages.add_metric([stage], *histogram.read())
        yield stages


class _WorkerProcesses:
    """What the client library says of a process, of each worker."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for one in self._board.read().workers:
            if one.pid is None:
                continue
            for family in ProcessCollector(registry=None, pid=partial(int, one.pid)).collect():
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, "worker": str(one.number)}, sample.value)
        yield from families.values()


def _by(family: LabelledFamily, counts: Mapping[str, int], labels: Sequence[str]) -> LabelledFamily:
    for label in labels:
        family.add_metric([label], counts.get(label, 0))
    return family


def _under_former_name(family: Metric) -> Metric:
    former = FORMER_NAMES[family.name]
    same = Metric(former, f"Former name of {family.name}; removed in the next release.", family.type)
    same.samples = [one._replace(name=one.name.replace(family.name, former)) for one in family.samples]
    return same


def _of_each(notified: Mapping[str, Notified], count: str) -> Mapping[str, int]:
    return {kind: getattr(one, count) for kind, one in notified.items()}


def _by_partition(
    name: str,
    meaning: str,
    partitions: Sequence[PartitionStatus],
    value: Callable[[PartitionStatus], float | None],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=["topic", "partition"])
    for partition in partitions:
        found = value(partition)
        if found is not None:
            family.add_metric([partition.topic, str(partition.number)], found)
    return family
