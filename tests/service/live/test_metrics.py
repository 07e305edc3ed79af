"""Metrics: what a scrape reads, parsed as Prometheus parses it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from service.live.histograms import LATENCY_S
from service.live.metrics import FORMER_NAMES, Build, Metrics
from service.live.status import CheckpointStatus, Counts, Notified, PartitionStatus, Status, StatusBoard, WorkerState

STATUS = Status(WorkerState.STARTING, 50_000, 50_000, 90.0, CheckpointStatus("c", "abc", ("flow", "heat"), 45_000))
BUILD = Build("0.1.0", "3.11.7", "2.15.0", "f00d")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scrape:
    """A worker's metrics at Unix time 100 s, monotonic time 91 s."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.board = StatusBoard(STATUS)
        self.notified = {"webhook": Notified()}
        self.metrics = Metrics(
            self.registry,
            self.board,
            BUILD,
            stages=["poll", "decode"],
            reasons=["bad_json", "bad_key"],
            severities=["minor", "major"],
            problems=["corrupt"],
            clock=lambda: 100.0,
            monotonic=lambda: 91.0,
            notified=lambda: self.notified,
            top_streams=3,
        )

    def samples(self) -> Samples:
        families = parse(generate_latest(self.registry).decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name, tuple(sorted(labels.items()))]


@pytest.fixture
def scrape() -> Scrape:
    return Scrape()


def test_every_series_is_there_from_the_start_and_at_zero(scrape: Scrape) -> None:
    assert scrape.value("telltale_readings_total") == 0
    assert scrape.value("telltale_records_rejected_total", reason="bad_key") == 0
    assert scrape.value("telltale_values_excluded_total", reason="out_of_range") == 0
    for change in ("opened", "updated", "closed"):
        assert scrape.value(f"telltale_anomalies_{change}_total", severity="major") == 0
    assert scrape.value("telltale_transaction_aborts_total") == 0
    assert scrape.value("telltale_stage_duration_seconds_count", stage="poll") == 0
    assert scrape.value("telltale_verdict_latency_seconds_bucket", le="+Inf") == 0
    assert scrape.value("telltale_anomaly_channels_total", channel="heat") == 0
    for what in ("notifications_sent", "notification_failures", "notifications_dropped"):
        assert scrape.value(f"telltale_{what}_total", receiver="webhook") == 0
    assert scrape.value("telltale_restore_duration_seconds_count") == 0


def test_what_runs_is_told(scrape: Scrape) -> None:
    assert scrape.value("telltale_build_info", version="0.1.0", python="3.11.7", torch="2.15.0", numerics="f00d") == 1
    assert scrape.value("telltale_checkpoint_info", topic="", digest="abc", features="2") == 1
    assert scrape.value("telltale_heartbeat_age_seconds") == 1.0
    assert scrape.value("telltale_start_time_seconds") == 50.0
    assert scrape.value("telltale_checkpoint_load_timestamp_seconds") == 45.0
    assert scrape.value("process_resident_memory_bytes") > 0


def test_counters_are_those_of_the_status(scrape: Scrape) -> None:
    counts = Counts(
        readings=10,
        rejected={"bad_json": 2},
        records=40,
        late=3,
        duplicate=4,
        opened={"minor": 5},
        updated={"major": 1},
        closed={"major": 1},
        transactions=6,
        aborts=1,
        assigned=8,
        channels={"heat": 5},
        excluded={"bad_value": 7},
        readings_by_checkpoint={"abc": 8, "def": 2},
        opened_by_checkpoint={"def": 5},
    )
    scrape.board.publish(dataclasses.replace(STATUS, counts=counts))
    assert scrape.value("telltale_readings_total") == 10
    assert scrape.value("telltale_values_excluded_total", reason="bad_value") == 7
    assert scrape.value("telltale_values_excluded_total", reason="out_of_range") == 0
    assert scrape.value("telltale_records_rejected_total", reason="bad_json") == 2
    assert scrape.value("telltale_records_total") == 40
    assert scrape.value("telltale_checkpoint_readings_total", digest="abc") == 8
    assert scrape.value("telltale_checkpoint_readings_total", digest="def") == 2
    assert scrape.value("telltale_checkpoint_anomalies_opened_total", digest="abc") == 0
    assert scrape.value("telltale_checkpoint_anomalies_opened_total", digest="def") == 5
    assert scrape.value("telltale_readings_late_total") == 3
    assert scrape.value("telltale_readings_duplicate_total") == 4
    assert scrape.value("telltale_anomalies_opened_total", severity="minor") == 5
    assert scrape.value("telltale_anomalies_closed_total", severity="minor") == 0
    assert scrape.value("telltale_transactions_total") == 6
    assert scrape.value("telltale_transaction_aborts_total") == 1
    assert scrape.value("telltale_partition_assignments_total") == 8
    assert scrape.value("telltale_anomaly_channels_total", channel="heat") == 5
    assert scrape.value("telltale_anomaly_channels_total", channel="flow") == 0


def test_a_partition_has_its_series_while_it_is_here(scrape: Scrape) -> None:
    partition = PartitionStatus(
        "plant",
        3,
        10,
        15,
        40_000,
        streams=7,
        warming=2,
        state_bytes=4_200,
        open_by_severity={"major": 2},
        open_peak=3.5,
        unwritten_s=20.0,
    )
    scrape.board.publish(dataclasses.replace(STATUS, partitions=(partition,)))
    of = {"topic": "plant", "partition": "3"}
    assert scrape.value("telltale_lag_records", **of) == 5
    assert scrape.value("telltale_event_time_lag_seconds", **of) == 60.0
    assert scrape.value("telltale_streams", **of) == 7
    assert scrape.value("telltale_streams_warming", **of) == 2
    assert scrape.value("telltale_state_bytes", **of) == 4_200
    assert scrape.value("telltale_anomalies_open", severity="major", **of) == 2
    assert scrape.value("telltale_anomalies_open", severity="minor", **of) == 0
    assert scrape.value("telltale_anomaly_peak_ratio", **of) == 3.5
    assert scrape.value("telltale_dirty_page_age_seconds", **of) == 20.0
    assert scrape.value("telltale_partitions") == 1
    scrape.board.publish(STATUS)
    assert not [labels for _, labels in scrape.samples() if ("topic", "plant") in labels]


def test_what_becomes_of_the_memory_is_told(scrape: Scrape) -> None:
    assert scrape.value("telltale_state_problems_total", problem="corrupt") == 0
    counts = Counts(evicted=1, replayed=2, problems={"corrupt": 3}, pages_written=4, page_bytes_written=500)
    busy = PartitionStatus("plant", 3, 90, 100, stage="replaying", progress=0.25, replay_from=50)
    scrape.board.publish(dataclasses.replace(STATUS, counts=counts, partitions=(busy, PartitionStatus("plant", 4))))
    assert scrape.value("telltale_streams_evicted_total") == 1
    assert scrape.value("telltale_readings_replayed_total") == 2
    assert scrape.value("telltale_state_problems_total", problem="corrupt") == 3
    assert scrape.value("telltale_pages_written_total") == 4
    assert scrape.value("telltale_page_written_bytes_total") == 500
    of, other = {"topic": "plant", "partition": "3"}, {"topic": "plant", "partition": "4"}
    assert scrape.value("telltale_replay_records", **of) == 40
    assert [scrape.value("telltale_partition_ready", **labels) for labels in (of, other)] == [0, 1]
    assert [scrape.value("telltale_recovery_progress_ratio", **labels) for labels in (of, other)] == [0.25, 1]


def test_a_partition_that_nothing_was_fetched_of_has_no_lag_yet(scrape: Scrape) -> None:
    scrape.board.publish(dataclasses.replace(STATUS, partitions=(PartitionStatus("plant", 0),)))
    names = {name for name, labels in scrape.samples() if ("topic", "plant") in labels}
    assert "telltale_streams" in names
    assert not names & {"telltale_lag_records", "telltale_event_time_lag_seconds"}


def test_a_batch_counts_every_reading_whose_record_has_a_time(scrape: Scrape) -> None:
    times = np.array([1_000, -1, 995, 900, 2_000], np.int64)
    scrape.metrics.observe_batch(5, times, now_ms=1_000)
    assert scrape.value("telltale_verdict_latency_seconds_count") == 4
    assert scrape.value("telltale_verdict_latency_seconds_sum") == pytest.approx(0.105)
    assert scrape.value("telltale_verdict_latency_seconds_bucket", le="0.005") == 3  # a bound belongs to its bucket
    assert scrape.value("telltale_verdict_latency_seconds_bucket", le="0.1") == 4
    assert scrape.value("telltale_batch_size_readings_count") == 1
    assert scrape.value("telltale_batch_size_readings_sum") == 5


def test_a_batch_without_any_record_time_counts_no_latency(scrape: Scrape) -> None:
    scrape.metrics.observe_batch(2, np.array([-1, -1], np.int64), now_ms=1_000)
    assert scrape.value("telltale_verdict_latency_seconds_count") == 0


@pytest.mark.slow
@given(ages_ms=st.lists(st.integers(0, 400_000), max_size=50))
def test_buckets_hold_what_counting_one_by_one_would(ages_ms: list[int]) -> None:
    scrape = Scrape()
    scrape.metrics.observe_batch(len(ages_ms), 1_000_000 - np.array(ages_ms, np.int64), now_ms=1_000_000)
    samples = scrape.samples()
    for bound in LATENCY_S:
        counted = samples["telltale_verdict_latency_seconds_bucket", (("le", str(bound)),)]
        assert counted == sum(age / 1000 <= bound for age in ages_ms)


def test_stages_and_transactions_are_counted(scrape: Scrape) -> None:
    scrape.metrics.observe_stages({"poll": 0.25, "decode": 0.5})
    scrape.metrics.observe_stages({"poll": 0.25})
    scrape.metrics.observe_transaction(0.02)
    assert scrape.value("telltale_stage_duration_seconds_sum", stage="poll") == 0.5
    assert scrape.value("telltale_stage_duration_seconds_count", stage="decode") == 1
    assert scrape.value("telltale_transaction_duration_seconds_bucket", le="0.02") == 1


def test_what_became_of_notifications_is_told(scrape: Scrape) -> None:
    scrape.notified = {"webhook": Notified(sent=5, failures=4, dropped=3, waiting=2, interruptions=7, interrupted=1)}
    assert scrape.value("telltale_notifications_sent_total", receiver="webhook") == 5
    assert scrape.value("telltale_notification_failures_total", receiver="webhook") == 4
    assert scrape.value("telltale_notifications_dropped_total", receiver="webhook") == 3
    assert scrape.value("telltale_notifications_waiting", receiver="webhook") == 2
    assert scrape.value("telltale_notification_feed_interruptions_total", receiver="webhook") == 7
    assert scrape.value("telltale_notification_feeds_interrupted", receiver="webhook") == 1


def test_a_restore_is_counted_with_its_duration(scrape: Scrape) -> None:
    scrape.metrics.observe_restore(0.4)
    assert scrape.value("telltale_restore_duration_seconds_sum") == 0.4
    assert scrape.value("telltale_restore_duration_seconds_bucket", le="0.5") == 1


def test_of_the_strongest_streams_as_many_are_named_as_may_be_and_they_go_with_their_anomalies(scrape: Scrape) -> None:
    def named() -> dict[str, float]:
        return {dict(labels)["stream"]: v for (name, labels), v in scrape.samples().items() if "top_stream" in name}

    many = PartitionStatus("plant", 0, strongest=(("a", 9.0), ("b", 5.0), ("c", 1.5)))
    same = PartitionStatus("plant", 1, strongest=(('quo"te\\n', 7.0), ("d", 1.2)))
    scrape.board.publish(dataclasses.replace(STATUS, partitions=(many, same)))
    assert named() == {"a": 9.0, 'quo"te\\n': 7.0, "b": 5.0}
    scrape.board.publish(dataclasses.replace(STATUS, partitions=(same,)))
    assert named() == {'quo"te\\n': 7.0, "d": 1.2}
    scrape.board.publish(STATUS)
    assert named() == {}


def test_no_series_names_a_stream(scrape: Scrape) -> None:
    labels = {name for _, pairs in scrape.samples() for name, _ in pairs}
    labels |= {"topic", "partition"}
    known = {"le", "stage", "reason", "severity", "version", "python", "torch", "numerics", "digest", "features"}
    known |= {"problem", "channel", "receiver"}
    assert labels == known | {"topic", "partition"}


def test_a_former_name_has_the_samples_of_the_new_one(scrape: Scrape) -> None:
    scrape.board.publish(dataclasses.replace(STATUS, counts=Counts(page_bytes_written=500)))
    assert scrape.value("telltale_page_bytes_written_total") == 500
    assert scrape.value("telltale_beat_age_seconds") == 1.0
    families = {family.name: family for family in parse(generate_latest(scrape.registry).decode())}
    for new, former in FORMER_NAMES.items():
        assert families[former].type == families[new].type
        assert families[former].documentation == f"Former name of {new}; removed in the next release."


def test_openmetrics_reads_it_too(scrape: Scrape) -> None:
    scrape.board.publish(dataclasses.replace(STATUS, partitions=(PartitionStatus("plant", 0, 1, 2, 3),)))
    text = openmetrics.generate_latest(scrape.registry).decode()  # type: ignore[no-untyped-call]
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert {"telltale_readings", "telltale_build", "telltale_lag_records"} <= names
