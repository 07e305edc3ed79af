"""What the benchmark's processes do: fill a topic, poll it bare, work through it, restore, wait for anomalies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from models.data.arrays import Doubles
from models.data.series import Series
from models.detection.detector import Detector, DetectorConfig
from models.detection.priming import prime
from models.detection.rows import Rows, fresh
from models.net.forecaster import Forecaster, ForecasterConfig
from service import failpoints
from service.input.formats import InputFormat
from service.input.reading_batch import StreamKey
from service.input.scores import ScoreStream
from service.input.writing import encode_readings
from service.kafka import log as kafka_log
from service.kafka import topics as kafka_topics
from service.kafka.log_config import Cluster, GroupMember, TopicNames
from service.live.memory import settle
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, StatusBoard
from service.log.port import Commit, Partition, Record
from service.pipeline import Pipeline
from service.recovery import RecoveryRules
from service.state.changelog import Layout
from service.state.slab import StateSlab
from service.state.task import PartitionTask
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker

SESSION_S = 10.0  # the service's default
START_MS = 1_760_000_000_000
TRAINED_READINGS = 4_096  # that the streams are warm from
FLUSH_INTERVAL_S = 10.0  # the service's default


def fill(servers: str, topic: str, streams: int, readings: int, first: int = 0) -> None:
    """Readings of `streams` sensors in turn, noise around 0: those from number `first` up to `readings`."""
    noise = fill_values().tolist()

    def records() -> Iterator[tuple[Record, None]]:
        for n in range(first, readings):
            wave, stream = divmod(n, streams)
            value = b'{"timestamp":%d,"value":%a}' % (START_MS + wave * 1000, noise[n % len(noise)])
            yield Record(key(stream), value), None

    kafka_topics.produce(servers, topic, records())


def fill_values() -> Doubles:
    """The values that fill() sends, in turn; after the last comes the first."""
    return np.random.default_rng(1).normal(size=65_536).round(4)


def fill_with_many(
    servers: str, topic: str, streams: int, readings: int, written: str, together: int, first: int = 0
) -> None:
    """The same noise, `together` readings of a stream in each record."""
    noise = np.random.default_rng(1).normal(size=65_536)
    form = InputFormat(written)

    def records() -> Iterator[tuple[Record, None]]:
        for n in range(first // together, readings // together):
            wave, stream = divmod(n, streams)
            rows = np.arange(wave * together, (wave + 1) * together)
            times_ms = (START_MS + rows * 1000).tolist()
            value = encode_readings(form, ("value",), times_ms, noise[(rows + stream) % 65_536, None])
            yield Record(key(stream), value), None

    kafka_topics.produce(servers, topic, records())


def bare(servers: str, topic: str, readings: int) -> None:
    """A loop of KafkaConsumer.poll() that does nothing with what it gets."""
    _one_core()
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_bytes=2**24,
    )
    consumer.assign([TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))])
    settle()
    seen, began = 0, 0.0
    while seen < readings:
        got = sum(map(len, consumer.poll(1000, max_records=20_000).values()))
        began = began or time.perf_counter()
        seen += got
    _say({"rate": seen / (time.perf_counter() - began)})
    consumer.close()


def work(
    servers: str,
    topics: list[str],
    group: str,
    streams: int,
    readings: int,
    hidden: int,
    keeps_state: bool,
    together: int = 1,
    scores: str | None = None,
) -> None:
    """A whole worker, from when it knows all streams to the last commit.

    Says how many seconds that took, and nothing else where no readings were left by then. keeps_state: whether it
    writes pages and markers, as the service does. together: readings a record. scores: pattern of the streams that are
    written to a topic of scores, the fifth of `topics`; None: there is none.
    """
    _one_core()
    worker, log, registry = _worker(servers, topics, group, streams, hidden, keeps_state, scores)
    while not _all_ready(registry):
        worker.turn(timeout_s=0.1)
    before = psutil.Process().memory_info().rss
    settle()
    seen = int(registry.get_sample_value("telltale_readings_total") or 0)
    known = min(streams, readings // together // 2)
    while _sum(registry, "telltale_streams") < known and seen < readings // 2:
        seen += sum(len(one.batch.keys) for one in worker.turn())
    spent = _stage_seconds(registry)
    written = _page_bytes(registry)
    if seen >= readings:
        _say({"seconds": 0.0})
        log.close()
        return
    first, began, spent_s = seen, time.perf_counter(), time.process_time()
    while seen < readings:
        seen += sum(len(one.batch.keys) for one in worker.turn())
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - spent_s
    rss = psutil.Process().memory_info().rss
    stages = {stage: after - spent[stage] for stage, after in _stage_seconds(registry).items()}
    _say(
        {
            "seconds": seconds,
            "rate": (seen - first) / seconds,
            "stage_us": {stage: 1e6 * value / (seen - first) for stage, value in stages.items()},
            "cpu_us": 1e6 * cpu_s / (seen - first),
            "page_mb": (_page_bytes(registry) - written) / 2**20 / seconds,
            "rss_mb": rss / 2**20,
            "rss_before_mb": before / 2**20,
            "row_bytes": fresh(1, ForecasterConfig(("value",), hidden=hidden)).bytes_per_stream,
            "bytes_per_stream": (rss - before) / streams,
        }
    )
    log.close()


def store(servers: str, topics: list[str], group: str, streams: int, hidden: int, versions: int) -> float:
    """Write the pages of this many streams several times over, then their markers; returns MB of one version.

    The input topic is empty: nothing is to be replayed.
    """
    detector = warm_detector(streams, hidden)
    layout = Layout.of("0" * 64, detector.rows_for([]))
    found = kafka_topics.identify_topic(servers, topics[0])
    tasks = []
    for number in range(found.partitions):
        task = PartitionTask(Partition(topics[0], number), StateSlab(detector.rows_for), next_offset=0)
        task.topic_id, task.partitions = found.topic_id, found.partitions
        task.slab.slots([StreamKey(key(n)) for n in range(number, streams, found.partitions)])
        task.slab.rows.hidden.uniform_(-1, 1)  # what zeros would compress to
        task.slab.rows.cell.uniform_(-1, 1)
        tasks.append(task)
    size = 0

    def records() -> Iterator[tuple[Record, int]]:
        nonlocal size
        for version in range(versions):
            for task in tasks:
                writer = StateWriter(group, layout, "bench", group, 10.0)
                pages = list(range(task.slab.pages))
                commit = writer.complete(Commit(task.partition, 0), task, pages)
                size += writer.bytes_written
                yield from ((page, task.partition.number) for page in commit.pages)
                if version == versions - 1 and commit.marker is not None:
                    yield commit.marker, task.partition.number

    kafka_topics.produce(servers, topics[3], records())
    return size / versions / 2**20


def restore(servers: str, topics: list[str], group: str, streams: int, hidden: int) -> None:
    """Seconds from the assignment of the partitions to when all of them have their memory."""
    _one_core()
    worker, log, registry = _worker(servers, topics, group, 0, hidden, keeps_state=True)
    settle()
    while not registry.get_sample_value("telltale_partitions"):
        worker.turn(timeout_s=0.1)
    began, spent = time.perf_counter(), time.process_time()
    while not _all_ready(registry):
        worker.turn(timeout_s=0.1)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - spent
    found = _sum(registry, "telltale_streams")
    log.close()
    if found != streams:
        raise SystemExit(f"{found} streams restored, expected {streams}")
    _say({"seconds": seconds, "cpu_s": cpu_s, "rss_mb": psutil.Process().memory_info().rss / 2**20})


def serve(servers: str, topics: list[str], group: str, streams: int, hidden: int, channels: int) -> None:
    """A worker that goes on until SIGTERM; says when it is ready."""
    worker, _, registry = _worker(servers, topics, group, streams, hidden, keeps_state=True, channels=channels)
    while not _all_ready(registry):
        worker.turn(timeout_s=0.1)
    settle()
    _say("ready")
    worker.run()


def share(servers: str, topics: list[str], group: str, streams: int, hidden: int, dies: bool) -> None:
    """One of two workers; says whenever the number of its partitions that have their memory changes.

    dies: with a transaction open, at the first commit after a line was written to its stdin.
    """
    worker, _, registry = _worker(servers, topics, group, 0, hidden, keeps_state=True)
    settle()
    if dies:
        threading.Thread(target=_die_on_request, daemon=True).start()
    ready = 0.0
    while True:
        worker.turn(timeout_s=0.05)
        if _sum(registry, "telltale_partition_ready") != ready:
            ready = _sum(registry, "telltale_partition_ready")
            _say({"ready": ready, "at": time.monotonic(), "streams": _sum(registry, "telltale_streams")})


def _die_on_request() -> None:
    sys.stdin.readline()
    failpoints.arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == "after_marker" else None)


def trickle(servers: str, topic: str, streams: int, reader: "subprocess.Popen[str]") -> None:
    """Readings of all streams in turn, a few hundred at a time, until a process that reads them has ended."""
    begin = 0
    while reader.poll() is None:
        some = range(begin, begin + 500)
        now_ms = time.time_ns() // 1_000_000
        kafka_topics.produce(
            servers, topic, ((Record(key(n % streams), b'{"timestamp":%d,"value":0.5}' % now_ms), None) for n in some)
        )
        begin += len(some)


def features(channels: int) -> tuple[str, ...]:
    return ("value",) if channels == 1 else tuple(f"value_{n}" for n in range(channels))


def stream_name(stream: int) -> str:
    return key(stream).decode()


def key(stream: int) -> bytes:
    return b"plant-%02d/sensor-%06d" % (stream % 20, stream)


class _Forgetful(StateWriter):
    """Keeps nothing: what state writing costs is seen beside it."""

    def due(self, task: PartitionTask) -> list[int]:
        return []

    def complete(self, commit: Commit, task: PartitionTask, pages: list[int]) -> Commit:
        return commit


def _worker(
    servers: str,
    topics: list[str],
    group: str,
    streams: int,
    hidden: int,
    keeps_state: bool,
    scores: str | None = None,
    channels: int = 1,
) -> tuple[Worker, kafka_log.KafkaLog, CollectorRegistry]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = TopicNames((topics[0],), *topics[1 : 4 if scores is None else 5])
    log = kafka_log.KafkaLog(Cluster(servers), names, GroupMember(group=group, transactional_id=group))
    board = StatusBoard(first_status(CheckpointStatus("bench", "0" * 64, features(channels))))
    registry = CollectorRegistry()
    metrics = Metrics(registry, board, Build("", "", "", ""), STAGES, REASONS, ("minor", "major", "critical"), PROBLEMS)
    stream = None if scores is None else ScoreStream([scores], ("value",))
    pipeline = Pipeline(warm_detector(streams, hidden, channels), "0" * 64, max_future_ms=10**15, scores=stream)
    layout = Layout.of("0" * 64, pipeline.detector.rows_for([]))
    writer = (StateWriter if keeps_state else _Forgetful)(group, layout, "bench", group, FLUSH_INTERVAL_S)
    rules = RecoveryRules(reset=False, prime_readings=0)
    reporter = Reporter(board, metrics, writer, pipeline.detector)
    return Worker(log, pipeline, writer, rules, threading.Event(), observers=[reporter]), log, registry


def warm_detector(streams: int, hidden: int, channels: int = 1) -> Detector:
    """Untrained, which costs the same; its streams are warm, as a training part of noise leaves them."""
    rows = np.arange(TRAINED_READINGS)
    values = np.random.default_rng(2).normal(size=(len(rows), channels))
    noise = Series(
        "", Path(), features(channels), rows, START_MS - (len(rows) - rows) * 1000, values, np.zeros(len(rows), bool)
    )
    one = prime(Forecaster(ForecasterConfig(noise.features, hidden=hidden)), DetectorConfig(), [noise])
    warm = Rows(*(column.expand(streams, *column.shape[1:]) for column in one.known_rows))
    return Detector(one.forecaster, one.config, {key(stream): stream for stream in range(streams)}, warm)


def _all_ready(registry: CollectorRegistry) -> bool:
    partitions = registry.get_sample_value("telltale_partitions")
    return bool(partitions) and _sum(registry, "telltale_partition_ready") == partitions


def _sum(registry: CollectorRegistry, name: str) -> float:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name)


def _page_bytes(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("telltale_page_written_bytes_total") or 0.0


def _stage_seconds(registry: CollectorRegistry) -> dict[str, float]:
    name = "telltale_stage_duration_seconds_sum"
    return {stage: registry.get_sample_value(name, {"stage": stage}) or 0.0 for stage in STAGES}


def _one_core() -> None:
    """The last core; the broker has the others."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _say(result: object) -> None:
    print(json.dumps(result), flush=True)


def main(arguments: list[str]) -> None:
    what, servers, *rest = arguments
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if what == "bare":
        bare(servers, rest[0], int(rest[1]))
    elif what == "work":
        streams, readings, hidden = map(int, rest[5:8])
        work(servers, rest[:4], rest[4], streams, readings, hidden, rest[8] == "keep", int(rest[9]))
    elif what == "score":
        streams, readings, hidden = map(int, rest[6:9])
        work(servers, rest[:5], rest[5], streams, readings, hidden, keeps_state=True, scores=rest[9] or None)
    elif what == "share":
        share(servers, rest[:4], rest[4], int(rest[5]), int(rest[6]), rest[7] == "dies")
    elif what == "restore":
        restore(servers, rest[:4], rest[4], int(rest[5]), int(rest[6]))
    else:
        streams, hidden, channels = map(int, rest[5:8])
        serve(servers, rest[:4], rest[4], streams, hidden, channels)


if __name__ == "__main__":
    main(sys.argv[1:])
