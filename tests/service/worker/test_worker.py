"""The loop, on the log in memory with faults that happen when the script says so."""

import contextlib
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from models.detection.alarm import Severity
from models.detection.detector import Detector
from models.detection.sensor_rules import SensorRule, SensorRules, Span
from service.errors import LogUnavailable
from service.http.health import summary, unready
from service.input.events import decode_event
from service.input.notices import STATE_LOST
from service.input.wire import encode_reading
from service.live.metrics import Build, Metrics
from service.live.observer import Observer
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Commit, Partition, Polled, Record
from service.pipeline import Pipeline
from service.recovery import RecoveryRules
from service.state.changelog import Layout
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker
from tests.records import headers_of

FEATURES = ("f0", "f1")
P0, P1 = Partition("readings", 0), Partition("readings", 1)
PARTITIONS = (P0, P1)
DIGEST = "0123456789abcdef" * 4
READINGS = 800  # in each partition
STREAMS = 4  # in each partition
ROUND = 100  # records a poll


def sent(partition: int) -> list[Record]:
    """Four streams in turn, each with two jumps, a late reading and a duplicate; one record in ten is bad."""
    random = np.random.default_rng(partition)
    records: list[Record] = []
    for n in range(READINGS):
        place = n // STREAMS
        time_ms = 1_700_000_000_000 + 60_000 * (place - (20 if place == 50 else 0))
        values = random.normal(size=2) + (1_000 if place in (*range(130, 136), *range(160, 166)) else 0)
        value = b"{" if n % 10 == 5 else encode_reading(FEATURES, time_ms, values.tolist())
        if place == 55:
            value = records[-STREAMS].value or b""
        records.append(Record(b"stream-%d" % (n % STREAMS), value, (), 1_800_000_000_000))
    return records


def two_partitions() -> Topics:
    topics = Topics({"readings": 2})
    for partition in PARTITIONS:
        topics.append(partition, sent(partition.number))
    return topics


@pytest.fixture(scope="module")
def calm(detector: Detector) -> Topics:
    """What is published when nothing happens."""
    topics = two_partitions()
    service = Service(detector, topics)
    service.run_until(service.idle)
    return topics


class Service:
    """A worker with everything it is watched through."""

    def __init__(
        self,
        detector: Detector,
        topics: Topics,
        script: Sequence[Fault] = (),
        log: MemoryLog | None = None,
        flush_interval_s: float = 10.0,
        sensors: SensorRules | None = None,
    ):
        self.topics = topics
        self.log = log or MemoryLog(topics, script, max_poll_records=ROUND)
        self.board = StatusBoard(first_status(CheckpointStatus("plant.safetensors", DIGEST, FEATURES)))
        self.registry = CollectorRegistry()
        metrics = Metrics(
            self.registry,
            self.board,
            Build("0", "3", "2", ""),
            STAGES,
            REASONS,
            [severity.name.lower() for severity in Severity],
            PROBLEMS,
        )
        self.stop = threading.Event()
        pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000, sensors=sensors)
        layout = Layout.of(DIGEST, detector.rows_for([]))
        self.writer = StateWriter("group", layout, "numerics", "writer", flush_interval_s)
        self.reporter = Reporter(self.board, metrics, self.writer, detector)
        self.observers: list[Observer] = [self.reporter]
        rules = RecoveryRules(False, 0)
        self.worker = Worker(self.log, pipeline, self.writer, rules, self.stop, observers=self.observers)
        self.statuses: list[Status] = []

    def run_until(self, done: Callable[[], bool], rounds: int = 200) -> None:
        """Let run() go on until the condition holds after a round."""

        def check() -> None:
            self.statuses.append(self.board.read())
            assert len(self.statuses) < rounds, "the condition never held"
            if done():
                self.stop.set()

        self.worker.run(check)

    def idle(self) -> bool:
        """Everything is judged and committed."""
        return self.topics.committed == dict.fromkeys(PARTITIONS, READINGS)

    def metric(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        pytest.fail(f"no metric {name} {labels}")


def told_before(topics: Topics, partition: Partition, offset: int) -> list[Record]:
    """The anomalies of a partition up to an offset."""
    return [record for record in topics.anomalies[partition] if decode_event(record.value or b"").data.offset < offset]


def dead_before(topics: Topics, partition: Partition, offset: int) -> list[Record]:
    return [letter for letter in topics.dead_letters[partition] if int(headers_of(letter)["telltale-offset"]) < offset]


def assert_whole(topics: Topics, calm: Topics) -> None:
    """What is published is what a calm run publishes for exactly the records that are committed."""
    for partition in PARTITIONS:
        committed = topics.committed.get(partition, 0)
        assert topics.anomalies[partition] == told_before(calm, partition, committed)
        assert topics.dead_letters[partition] == dead_before(calm, partition, committed)


def test_a_calm_run_judges_everything_and_tells_of_faults_in_both_partitions(calm: Topics) -> None:
    for partition in PARTITIONS:
        changes = [decode_event(record.value or b"").change for record in calm.anomalies[partition]]
        assert changes.count("opened") >= STREAMS
        assert changes.count("closed") >= STREAMS
        assert len(calm.dead_letters[partition]) == READINGS / 10


def test_stop_ends_the_run_and_closes_the_log(detector: Detector) -> None:
    service = Service(detector, two_partitions())
    service.run_until(lambda: len(service.statuses) == 3)
    assert len(service.statuses) == 3
    assert service.board.read().state == WorkerState.STOPPING
    assert service.topics.owners == {}


def test_a_worker_that_is_stopped_before_it_starts_reads_nothing(detector: Detector) -> None:
    service = Service(detector, two_partitions())
    service.stop.set()
    service.worker.run()
    assert service.topics.committed == {}
    assert service.topics.owners == {}


@pytest.mark.slow
def test_stop_from_another_thread_is_noticed_while_waiting_for_records(detector: Detector) -> None:
    service = Service(detector, Topics({"readings": 2}))
    waiting = threading.Event()
    thread = threading.Thread(target=lambda: service.worker.run(waiting.set))
    thread.start()
    assert waiting.wait(10)
    service.stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("commit", range(1, 6))
@pytest.mark.parametrize("written", [False, True])
def test_a_crash_leaves_nothing_half_committed(detector: Detector, calm: Topics, commit: int, written: bool) -> None:
    service = Service(detector, two_partitions(), [Crash(commit, written)])
    with pytest.raises(Crashed):
        service.run_until(service.idle)
    committed = sum(service.topics.committed.values())
    assert committed == ROUND * (commit if written else commit - 1)
    assert_whole(service.topics, calm)
    assert service.topics.owners == {}


def test_after_a_crash_at_the_first_commit_the_next_worker_tells_what_a_calm_run_tells(
    detector: Detector, calm: Topics
) -> None:
    topics = two_partitions()
    with pytest.raises(Crashed):
        Service(detector, topics, [Crash(1)]).run_until(lambda: False)
    again = Service(detector, topics)
    again.run_until(again.idle)
    assert_whole(topics, calm)


@pytest.mark.slow
def test_tasks_that_migrated_are_dropped_and_judged_again(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions(), [Migrate(commit=1)])
    with capture_logs() as logs:
        service.run_until(service.idle)
    assert_whole(service.topics, calm)
    _, migrated, assigned, judged = service.statuses[:4]
    assert (migrated.partitions, migrated.counts.readings, migrated.counts.transactions) == ((), 0, 0)
    assert migrated.counts.aborts == judged.counts.aborts == 1
    assert migrated.recent == ()
    assert [partition.next_offset for partition in assigned.partitions] == [0, 0]
    assert [partition.next_offset for partition in judged.partitions].count(ROUND) == 1
    (line,) = [entry for entry in logs if entry["event"] == "tasks_migrated"]
    assert line["reason"] == "scripted migration at commit 1"
    assert service.metric("telltale_transaction_aborts_total") == 1


@pytest.mark.slow
def test_a_migration_loses_no_record_and_commits_none_twice(detector: Detector) -> None:
    service = Service(detector, two_partitions(), [Migrate(commit=3), Migrate(commit=4)])
    service.run_until(service.idle)
    counts = service.board.read().counts
    assert counts.readings + sum(counts.rejected.values()) == 2 * READINGS
    assert counts.aborts == 2
    assert sum(map(len, service.topics.dead_letters.values())) == 2 * READINGS / 10
    for partition in PARTITIONS:
        offsets = [int(headers_of(letter)["telltale-offset"]) for letter in service.topics.dead_letters[partition]]
        assert offsets == list(range(5, READINGS, 10))


@pytest.mark.slow
def test_a_partition_that_is_revoked_is_let_go_and_comes_back_with_its_memory(detector: Detector, calm: Topics) -> None:
    script: list[Fault] = [Revoke(2, (P1,)), Assign(8, (P1,))]
    service = Service(detector, two_partitions(), script)
    with capture_logs() as logs:
        service.run_until(service.idle)
    held = [tuple(partition.number for partition in status.partitions) for status in service.statuses]
    assert held[:8] == [(0, 1), *[(0,)] * 6, (0, 1)]
    assert [
        (entry["event"], entry["topic"], entry["partition"]) for entry in logs if "partition_" in entry["event"]
    ] == [
        ("partition_assigned", "readings", 0),
        ("partition_assigned", "readings", 1),
        ("partition_revoked", "readings", 1),
        ("partition_assigned", "readings", 1),
    ]
    assert_whole(service.topics, calm)


@pytest.mark.slow
def test_a_partition_lost_and_given_back_in_one_poll_is_restored(detector: Detector) -> None:
    value = encode_reading(FEATURES, 1_700_000_000_000, [1.0, 2.0])
    moved: list[Fault] = [Revoke(3, (P0,)), Assign(3, (P0,))]
    for script, streams in (([], [0, 1, 2]), (moved, [0, 1, 1, 2])):
        topics = Topics({"readings": 1})
        topics.append(P0, [Record(b"before", value)] * ROUND + [Record(b"after", value)] * ROUND)
        service = Service(detector, topics, script)
        service.run_until(lambda topics=topics: topics.committed == {P0: 2 * ROUND})  # type: ignore[misc]
        assert [status.partitions[0].streams for status in service.statuses] == streams


def test_a_partition_is_published_before_anything_was_fetched_from_it(detector: Detector) -> None:
    service = Service(detector, Topics({"readings": 2}))
    service.worker.turn(0.0)
    status = service.board.read()
    assert status.state == WorkerState.RUNNING
    assert [(p.topic, p.number, p.next_offset, p.lag, p.streams) for p in status.partitions] == [
        ("readings", 0, 0, 0, 0),
        ("readings", 1, 0, 0, 0),
    ]
    assert [p.ready for p in status.partitions] == [True, True], "there is nothing to be judged"


def test_with_a_backlog_it_is_ready_once_something_of_it_is_judged_and_its_lag_is_true_before(
    detector: Detector,
) -> None:
    topics = two_partitions()
    service = Service(detector, topics)
    service.worker.turn(0.0)
    before = service.board.read()
    assert [p.lag for p in before.partitions] == [READINGS, READINGS]
    assert unready(before, 60.0, before.beat_s) == (
        "2 of 2 partitions: readings-0 nothing of it is judged yet, readings-1 nothing of it is judged yet"
    )
    assert service.metric("telltale_lag_records", partition="1") == READINGS
    assert service.metric("telltale_partition_ready", partition="1") == 0
    service.worker.turn(0.0)
    half = service.board.read()
    assert (unready(half, 60.0, half.beat_s) or "").startswith("1 of 2 partitions: ")
    service.worker.turn(0.0)
    after = service.board.read()
    assert unready(after, 60.0, after.beat_s) is None
    assert sum(p.lag or 0 for p in after.partitions) == 2 * READINGS - sum(topics.committed.values())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, Crash(4), Crash(4, written=True), Migrate(4)], ids=str)
def test_partitions_that_are_added_while_it_runs_are_told_of_once(detector: Detector, fault: Fault | None) -> None:
    topics = two_partitions()
    service = Service(detector, topics, [fault] if fault else [])

    def done() -> bool:
        if len(service.statuses) == 4 and topics.count("readings") == 2:
            topics.add_partitions("readings", 2)
        return all(topics.committed.get(partition) == READINGS for partition in PARTITIONS)

    with contextlib.suppress(Crashed):
        service.run_until(done)
    if not done():
        service = Service(detector, topics)
        service.run_until(done)
    notices = [record for partition in PARTITIONS for record in topics.anomalies[partition] if is_state_lost(record)]
    assert [(lost["reason"], lost["stream"], lost["partition"]) for lost in map(lost_of, notices)] == [
        ("partitions_added", None, 0),
        ("partitions_added", None, 1),
    ]
    again = Service(detector, topics)
    again.run_until(lambda: len(again.statuses) == 3)
    assert again.board.read().counts.problems == {}


def is_state_lost(record: Record) -> bool:
    return bool(json.loads(record.value or b"{}")["type"] == STATE_LOST)


def lost_of(record: Record) -> dict[str, object]:
    data: dict[str, object] = json.loads(record.value or b"")["data"]
    return data


def test_before_its_group_has_said_what_it_has_it_is_not_ready_and_no_one_knows_the_lag(detector: Detector) -> None:
    service = Service(detector, two_partitions(), log=Unheard(two_partitions()))
    service.worker.turn(0.0)
    status = service.board.read()
    assert summary(status, "1", 60.0, status.beat_s).lag is None
    assert "has not said yet which partitions" in (unready(status, 60.0, status.beat_s) or "")


class Unheard(MemoryLog):
    """Its group has not answered."""

    def poll(self, timeout_s: float) -> Polled:
        return Polled((), (), ())

    def backlogs(self) -> None:  # type: ignore[override]
        return None


@pytest.mark.slow
def test_while_memory_is_restored_and_replayed_the_status_says_how_far_it_is(detector: Detector) -> None:
    topics = two_partitions()
    with pytest.raises(Crashed):
        Service(detector, topics, [Crash(9)], flush_interval_s=1e6).run_until(lambda: False)
    service = Service(detector, topics)
    service.run_until(service.idle)
    stages = [partition.stage for status in service.statuses for partition in status.partitions]
    assert list(dict.fromkeys(stages)) == ["replaying", "running"]
    for number in (0, 1):
        replay = [p.progress for s in service.statuses for p in s.partitions if p.number == number]
        assert replay == sorted(replay)
        assert [progress for progress in replay if 0 < progress < 1]
    replayed = service.board.read().counts.replayed
    assert replayed == sum(ROUND * 3 for _ in PARTITIONS) * 9 / 10  # the first page with its new streams was written
    assert service.metric("telltale_readings_replayed_total") == replayed
    assert service.metric("telltale_partition_ready", partition="1") == 1


def test_told_to_stop_it_writes_all_of_its_memory_first(detector: Detector) -> None:
    """The next worker has nothing to judge again."""
    topics = two_partitions()
    first = Service(detector, topics, flush_interval_s=1e6)
    first.run_until(lambda: sum(topics.committed.values()) == READINGS)
    second = Service(detector, topics)
    second.run_until(lambda: len(second.statuses) == 1)
    status = second.statuses[0]
    assert [(p.stage, p.next_offset, p.replay_from) for p in status.partitions] == [
        ("running", topics.committed[partition], topics.committed[partition]) for partition in PARTITIONS
    ]
    assert [p.streams for p in status.partitions] == [STREAMS, STREAMS]
    assert status.counts.replayed == 0


@pytest.mark.slow
@pytest.mark.parametrize("at", [8, 9])
def test_a_stop_whose_last_commit_fails_says_so(detector: Detector, calm: Topics, at: int) -> None:
    """Either the last one with readings, after which nothing may be written any more, or that with the state."""
    topics = two_partitions()
    service = Service(detector, topics, [Migrate(at)], flush_interval_s=1e6)
    with pytest.raises(LogUnavailable, match="judged again at the next start"):
        service.run_until(lambda: len(service.statuses) == 9)
    assert service.topics.owners == {}
    assert_whole(topics, calm)
    again = Service(detector, topics)
    again.run_until(again.idle)
    assert_whole(topics, calm)


def test_counts_and_status_are_those_of_what_is_committed(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions())
    service.run_until(service.idle)
    counts = service.statuses[-1].counts
    assert counts.readings == 2 * READINGS * 9 / 10
    assert counts.rejected == {"bad_json": 2 * READINGS / 10}
    assert counts.late > 0
    assert counts.duplicate > 0
    assert (counts.transactions, counts.aborts) == (2 * READINGS / ROUND, 0)
    for change in ("opened", "updated", "closed"):
        severities = [
            event.data.severity
            for partition in PARTITIONS
            for event in (decode_event(record.value or b"") for record in calm.anomalies[partition])
            if event.change == change
        ]
        assert getattr(counts, change) == {severity: severities.count(severity) for severity in set(severities)}
    for partition in service.statuses[-1].partitions:
        assert (partition.next_offset, partition.end_offset, partition.lag) == (READINGS, READINGS, 0)
        assert partition.streams == STREAMS
        assert partition.state_bytes > 0
        events = [
            decode_event(record.value or b"") for record in calm.anomalies[Partition("readings", partition.number)]
        ]
        opened = {event.data.anomaly for event in events} - {e.data.anomaly for e in events if e.change == "closed"}
        assert partition.alarms_open == len(opened)


def test_readings_and_transactions_only_rise(detector: Detector) -> None:
    service = Service(detector, two_partitions())
    service.run_until(service.idle)
    counts = [status.counts for status in service.statuses]
    for name in ("readings", "transactions", "late", "duplicate"):
        numbers = [getattr(count, name) for count in counts]
        assert numbers == sorted(numbers)
    assert [status.beat_s for status in service.statuses] == sorted(status.beat_s for status in service.statuses)


@pytest.mark.slow
def test_the_latest_events_are_kept_newest_first(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions())
    service.run_until(service.idle)
    recent = service.board.read().recent
    published = sum(map(len, calm.anomalies.values()))
    assert len(recent) == min(100, published)
    for partition in PARTITIONS:
        events = [decode_event(record.value or b"").id for record in calm.anomalies[partition]]
        mine = [event["id"] for event in recent if event["data"]["partition"] == partition.number]
        assert mine == events[::-1][: len(mine)]


@pytest.mark.slow
def test_metrics_count_the_values_that_rules_of_sensors_exclude(detector: Detector) -> None:
    """The jumps are the only values above 500: of each stream's 12 in each partition, in two features."""
    sensors = SensorRules([SensorRule("stream-[01]", valid_range=Span(high=500))], FEATURES)
    service = Service(detector, two_partitions(), sensors=sensors)
    assert service.metric("telltale_values_excluded_total", reason="out_of_range") == 0
    service.run_until(service.idle)
    jumps = [
        n
        for n in range(READINGS)
        if n // STREAMS in (*range(130, 136), *range(160, 166)) and n % STREAMS in (0, 1) and n % 10 != 5
    ]
    assert service.metric("telltale_values_excluded_total", reason="out_of_range") == 2 * 2 * len(jumps)
    assert service.metric("telltale_values_excluded_total", reason="bad_value") == 0


@pytest.mark.slow
def test_metrics_move_with_the_work(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions())
    assert service.metric("telltale_readings_total") == 0
    service.worker.turn()
    assert service.metric("telltale_readings_total") == 0
    service.worker.turn()
    first = service.metric("telltale_readings_total")
    assert first == ROUND * 9 / 10
    assert service.metric("telltale_lag_records", partition="0") == READINGS - ROUND
    service.run_until(service.idle)
    assert service.metric("telltale_readings_total") == 2 * READINGS * 9 / 10
    assert service.metric("telltale_records_rejected_total", reason="bad_json") == 2 * READINGS / 10
    assert service.metric("telltale_transactions_total") == 2 * READINGS / ROUND  # when last published
    assert service.metric("telltale_lag_records", partition="0") == 0
    assert service.metric("telltale_batch_size_readings_count") == 2 * READINGS / ROUND
    assert service.metric("telltale_batch_size_readings_sum") == 2 * READINGS * 9 / 10
    assert service.metric("telltale_transaction_duration_seconds_count") == 2 * READINGS / ROUND + 1  # with the memory
    for stage in STAGES:
        assert service.metric("telltale_stage_duration_seconds_count", stage=stage) >= 2 * READINGS / ROUND
    assert service.metric("telltale_pages_written_total") >= 2
    assert service.metric("telltale_page_written_bytes_total") > 2 * STREAMS * 500
    opened = [
        record
        for records in calm.anomalies.values()
        for record in records
        if decode_event(record.value or b"").change == "opened"
    ]
    found = sum(
        service.metric("telltale_anomalies_opened_total", severity=severity.name.lower()) for severity in Severity
    )
    assert found == len(opened)


def test_what_is_open_is_surveyed_by_severity_and_the_strongest_is_named(detector: Detector) -> None:
    topics = Topics({"readings": 2})
    for partition in PARTITIONS:
        topics.append(partition, sent(partition.number)[: 133 * STREAMS])  # up to the middle of the first fault
    service = Service(detector, topics)
    service.reporter._top_streams = 2
    service.run_until(lambda: topics.committed == dict.fromkeys(PARTITIONS, 133 * STREAMS))
    assert sum(one.alarms_open for one in service.board.read().partitions) >= STREAMS
    service.reporter._surveyed_s = 0.0  # it is time again
    service.worker._end_round([])
    for one in service.board.read().partitions:
        assert sum(one.open_by_severity.values()) == one.alarms_open
        assert (one.open_peak >= 1.0) == (one.alarms_open > 0)
        peaks = [peak for _, peak in one.strongest]
        assert len(peaks) == min(2, one.alarms_open)
        assert peaks == sorted(peaks, reverse=True)
        assert peaks[:1] in ([], [one.open_peak])


@pytest.mark.slow
def test_channels_and_assignments_are_counted(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions(), [Revoke(2, (P1,)), Assign(8, (P1,))])
    service.run_until(service.idle)
    events = [decode_event(record.value or b"") for records in calm.anomalies.values() for record in records]
    most = [max(event.data.channels, key=lambda one: one.share).name for event in events if event.change == "opened"]
    counts = service.board.read().counts
    assert counts.channels == {name: most.count(name) for name in set(most)}
    assert counts.assigned == 3
    assert service.metric("telltale_restore_duration_seconds_count") == 3


@pytest.mark.parametrize(("flush_interval_s", "waits"), [(1e-9, False), (3_600.0, True)])
def test_the_age_of_what_is_not_written_is_known(detector: Detector, flush_interval_s: float, waits: bool) -> None:
    began_s = time.monotonic()
    service = Service(detector, two_partitions(), flush_interval_s=flush_interval_s)
    while not service.idle():
        service.reporter._surveyed_s = 0.0  # each round
        service.worker.turn(0.0)
    service.worker.turn(0.0)
    ages_s = [partition.unwritten_s for partition in service.board.read().partitions]
    assert [age_s > 0 for age_s in ages_s] == [waits, waits]
    assert max(ages_s) < time.monotonic() - began_s
    service.stop.set()
    service.worker.run()


def test_the_latency_is_that_of_every_record_that_was_read(detector: Detector) -> None:
    service = Service(detector, two_partitions())
    service.run_until(service.idle)
    assert service.metric("telltale_verdict_latency_seconds_count") == 2 * READINGS * 9 / 10


def test_anomalies_and_the_first_reject_of_a_kind_are_logged(detector: Detector, calm: Topics) -> None:
    service = Service(detector, two_partitions())
    with capture_logs() as logs:
        service.run_until(service.idle)
    rejected = [entry for entry in logs if entry["event"] == "record_rejected"]
    assert [entry["reason"] for entry in rejected][:1] == ["bad_json"]
    assert len(rejected) < 2 * READINGS / 10
    many = [entry for entry in logs if entry["event"] == "many_records_refused"]
    assert [entry["refused"] >= 100 for entry in many] == [True], "one record in ten of 1,600: once"
    assert [status.many_refused for status in (service.statuses[0], service.board.read())] == [False, True]
    anomalies = [entry for entry in logs if entry["event"] == "anomalies"]
    for change in ("opened", "updated", "closed"):
        changes = [decode_event(r.value or b"").change for records in calm.anomalies.values() for r in records]
        assert sum(entry.get(change, 0) for entry in anomalies) == changes.count(change)
    assert all(1 <= len(entry["streams"]) <= 5 for entry in anomalies)


class Broken(MemoryLog):
    """A log that fails in a way no one knows, or that cannot be reached any more."""

    def __init__(self, topics: Topics, error: Exception, at: str) -> None:
        super().__init__(topics, max_poll_records=ROUND)
        self.error, self.at = error, at
        self.closed = False

    def poll(self, timeout_s: float) -> Polled:
        if self.at == "poll":
            raise self.error
        return super().poll(timeout_s)

    def commit(self, commits: Sequence[Commit]) -> None:
        if self.at == "commit":
            raise self.error
        super().commit(commits)

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.mark.parametrize("at", ["poll", "commit"])
@pytest.mark.parametrize("error", [RuntimeError("no one knows"), LogUnavailable("no answer for 60 s")])
def test_an_error_that_is_not_a_migration_ends_the_run(detector: Detector, error: Exception, at: str) -> None:
    topics = two_partitions()
    log = Broken(topics, error, at)
    service = Service(detector, topics, log=log)
    with pytest.raises(type(error), match=str(error)):
        service.run_until(service.idle)
    assert log.closed
    assert topics.committed == {}
    assert topics.anomalies == {P0: [], P1: []}


def test_a_check_that_fails_ends_the_run_and_closes_the_log(detector: Detector) -> None:
    topics = two_partitions()
    service = Service(detector, topics)

    def check() -> None:
        if topics.committed:
            raise LogUnavailable("the HTTP server ended by itself")

    with pytest.raises(LogUnavailable, match="HTTP server"):
        service.worker.run(check)
    assert topics.owners == {}
    assert sum(topics.committed.values()) == ROUND


def test_streams_that_warm_up_are_counted(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.live.reporter.SURVEY_S", 0.0)
    service = Service(detector, two_partitions())
    service.run_until(lambda: bool(service.topics.committed))
    assert sum(partition.warming for partition in service.board.read().partitions) > 0


def test_streams_that_came_since_they_were_counted_are_not_taken_for_judged(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.live.reporter.SURVEY_S", 1e9)  # the first round counts, before any stream is there
    service = Service(detector, two_partitions())
    service.run_until(lambda: bool(service.topics.committed))
    partitions = service.board.read().partitions
    assert sum(one.streams for one in partitions) > 0
    assert [one.warming for one in partitions] == [one.streams for one in partitions]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Revoke(3, (P0, P1)), Migrate(commit=2)])
def test_the_memory_of_partitions_that_are_gone_is_free_at_once(detector: Detector, fault: Fault) -> None:
    service = Service(detector, two_partitions(), [fault])
    gc.disable()  # as good as it is in the service
    try:
        service.worker.turn(0.0)
        slabs = [weakref.ref(task.slab) for task in service.worker._tasks.values()]
        assert len(slabs) == 2
        while not service.worker._migrated and service.worker._tasks:
            service.worker.turn(0.0)
        assert [slab() for slab in slabs] == [None, None]
    finally:
        gc.enable()
