"""The whole service on a real broker: readings in, anomalies out, by the commands a person would use."""

import json
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from kafka import KafkaConsumer, TopicPartition

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from models.data.rfc3339 import rfc3339
from models.detection.detector import Detector
from service.input.events import decode_event
from service.input.formats import InputFormat
from service.input.reasons import Reason
from service.input.wire import MAX_VALUE_BYTES, encode_reading
from service.input.writing import encode_readings
from service.kafka.topics import CHANGELOG, TopicSpec, create_topics
from service.log.port import Fetched, Partition, Record
from service.pipeline import Pipeline
from service.state.slab import StateSlab
from service.state.task import PartitionTask
from tests.command_line import Telltale
from tests.commands import WITHIN_S, FreshProcess, Process
from tests.data import QUICK, data_folder, faulty, some_forecaster, some_machines
from tests.kafka import Broker, Written
from tests.records import headers_of

PARTITIONS = 2
YEAR_S = 31_536_000
MILLISECONDS = ("--time-unit", "ms")  # some sets have a clock that begins at zero
NOW_MS = 1_700_000_000_000


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again."""
    deadline, pause = time.monotonic() + WITHIN_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S:.0f} s"
        pause.wait(0.02)


class Names(NamedTuple):
    """Topics and a group of one test."""

    topic: str
    anomalies: str
    dead_letters: str
    changelog: str
    group: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TELLTALE_KAFKA__TOPICS": self.topic,
            "TELLTALE_KAFKA__ANOMALIES_TOPIC": self.anomalies,
            "TELLTALE_KAFKA__DEAD_LETTERS_TOPIC": self.dead_letters,
            "TELLTALE_KAFKA__CHANGELOG_TOPIC": self.changelog,
            "TELLTALE_KAFKA__GROUP": self.group,
        }


def new_names() -> Names:
    run = f"plant-{uuid.uuid4().hex[:8]}"
    return Names(f"{run}.readings", f"{run}.anomalies", f"{run}.dead-letters", f"{run}.changelog", run)


def made_topics(broker: Broker) -> Names:
    names = new_names()
    specs = {name: TopicSpec(PARTITIONS, 1) for name in names[:3]}
    create_topics(broker.bootstrap_servers, {**specs, names.changelog: TopicSpec(PARTITIONS, 1, CHANGELOG)})
    return names


class Service:
    """`telltale run`, seen from outside: its lines and its HTTP port."""

    def __init__(
        self, broker: Broker, checkpoint: Path, names: Names, process: type[Process] = Process, /, **environment: str
    ) -> None:
        self.names = names
        self.process = process(
            *("run", "--checkpoint", checkpoint, "--bootstrap-servers", broker.bootstrap_servers),
            *("--http-port", 0, "--log-format", "json"),
            **names.environment,
            **environment,
        )
        self.port = 0
        token = environment.get("TELLTALE_HTTP__TOKEN")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def lines(self, event: str) -> list[dict[str, Any]]:
        # At exit some builds of a library that torch brings write lines of their own.
        said = [json.loads(line) for line in list(self.process.err) if line.startswith("{")]
        return [line for line in said if line["event"] == event]

    def until_listening(self) -> "Service":
        wait_until(lambda: bool(self.lines("http_listening")) or not self.process.running, "the HTTP port")
        assert self.process.running, self.process.err
        self.port = self.lines("http_listening")[0]["port"]
        return self

    def get(self, path: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        code, body = self.get("/api/v1/status")
        assert code == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def judged_records(self) -> int:
        """Records that are judged and committed."""
        counts = self.status()["counts"]
        return int(counts["readings"] + sum(counts["rejected"].values()))

    def until_judged(self, records: int) -> None:
        wait_until(lambda: self.judged_records() >= records, f"{records} records judged")

    def metric(self, name: str) -> float:
        samples = [line.split() for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return sum(float(sample[-1]) for sample in samples if sample[0].split("{")[0] == name)


@contextmanager
def service(
    broker: Broker, checkpoint: Path, names: Names, process: type[Process] = Process, /, **environment: str
) -> Iterator[Service]:
    running = Service(broker, checkpoint, names, process, **environment)
    try:
        yield running.until_listening()
    finally:
        running.process.kill()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no one trained: two features, and alarms within dozens of readings."""
    path = tmp_path_factory.mktemp("quick") / "quick.safetensors"
    detector = Detector.cold(some_forecaster(2), QUICK)
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoints.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


# --- what is published online is what is published offline


def some_skab(folder: Path) -> list[Path]:
    """Three runs of the water loop, whole."""
    del folder
    return [data_folder() / "skab" / f"{name}.parquet" for name in ("valve1__2", "valve2__0", "other__9")]


def some_asd(folder: Path) -> list[Path]:
    """Two servers: what surrounds the end of the train part, and a piece with labelled anomalies."""
    paths = []
    for name in ("omi-3", "omi-7"):
        frame = pl.read_parquet(data_folder() / "asd" / f"{name}.parquet")
        train, test = frame.filter(part="train").tail(1_500), frame.filter(part="test")
        first = int(test["label"].arg_max() or 0)
        paths.append(folder / f"{name}.parquet")
        pl.concat([train, test.slice(max(0, first - 600), 1_200)]).write_parquet(paths[-1])
    return paths


def by_stream(events: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Every stream's events in order, without what tells where they came from."""
    streams: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        data = {name: v for name, v in event["data"].items() if name not in ("anomaly", "topic", "partition", "offset")}
        common = {name: value for name, value in event.items() if name not in ("id", "source", "data")}
        streams.setdefault(event["subject"], []).append({**common, "data": data})
    return streams


@pytest.mark.thorough
@pytest.mark.parametrize("some_files", [some_machines, some_skab, some_asd], ids=["plant", "skab", "asd"])
def test_what_is_told_online_is_what_is_told_offline(
    kafka: Broker,
    telltale: Telltale,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    some_files: Callable[[Path], list[Path]],
) -> None:
    """Train, make the topics, produce, run; and score the same files. Every number is the same to the last bit."""
    files, names = some_files(tmp_path), new_names()
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    servers = ["--bootstrap-servers", kafka.bootstrap_servers]
    checkpoint = tmp_path / "plant.safetensors"
    telltale.does("train", "--data", *files, *MILLISECONDS, "--out", checkpoint, "--hidden", 16, "--epochs", 2)
    telltale.does("topics", "create", *servers, "--partitions", PARTITIONS)
    assert f"{names.anomalies}: {PARTITIONS} partitions" in telltale.does("topics", "check", *servers)

    with service(kafka, checkpoint, names, TELLTALE_LIMITS__MAX_PAST_S=str(100 * YEAR_S)) as running:
        said = telltale.does("produce", "--data", *files, *MILLISECONDS, "--part", "test", *servers)
        sent = sum(len(pl.read_parquet(file).filter(part="test")) for file in files)
        assert said.startswith(f"{sent:,} readings to {names.topic}")
        running.until_judged(sent)
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
    events = [json.loads(written.record.value or b"") for written in kafka.read_committed(names.anomalies)]

    score = ["score", "--checkpoint", checkpoint, "--data", *files, *MILLISECONDS, "--part", "test"]
    score += ["--partitions", PARTITIONS, "--out", tmp_path / "s.parquet"]
    telltale.does(*score, "--anomalies", tmp_path / "anomalies.jsonl")
    offline = [json.loads(line) for line in (tmp_path / "anomalies.jsonl").read_text().splitlines()]
    assert {event["type"] for event in offline} >= {"telltale.anomaly.opened", "telltale.anomaly.closed"}
    assert by_stream(events) == by_stream(offline)
    assert kafka.read_committed(names.dead_letters) == []
    assert_they_name_their_readings(events, kafka.read_committed(names.topic), names.topic)


def assert_they_name_their_readings(events: list[dict[str, Any]], readings: list[Written], topic: str) -> None:
    """Topic, partition and offset of an event lead to the very reading it is about.

    A silence that is told while it lasts is about none; the record is one of another stream.
    """
    written = {(one.partition, one.offset): one.record for one in readings}
    for event in events:
        data = event["data"]
        assert data["topic"] == topic
        record = written[data["partition"], data["offset"]]
        reading = json.loads(record.value or b"")
        if not data["channels"]:
            assert data["opened_by" if "opened_by" in data else "kind"] == "silent"
            assert (record.key or b"").decode() != event["subject"]
            continue
        assert (record.key or b"").decode() == event["subject"]
        assert rfc3339(reading["timestamp"]) == event["time"]
        assert {one["name"]: one["observed"] for one in data["channels"]} == reading["values"]
    assert len({event["id"] for event in events}) == len(events)


# --- bad records


def good(n: int) -> Record:
    return Record(b"good", encode_reading(["f0", "f1"], NOW_MS + 60_000 * n, [float(n % 7), 1.0]), (), NOW_MS)


DAY_MS = 86_400_000
BAD: dict[Reason, Record] = {
    Reason.MISSING_KEY: good(0)._replace(key=None),
    Reason.BAD_KEY: good(0)._replace(key=b"\xff\x00<b>"),
    Reason.MISSING_VALUE: Record(b"good", None, (), NOW_MS),
    Reason.TOO_LARGE: good(0)._replace(value=b" " * (MAX_VALUE_BYTES + 1)),
    Reason.BAD_JSON: good(0)._replace(value=b"\x00\x01\xffnot json", headers=(("trace", b"\xff"),)),
    Reason.BAD_TIMESTAMP: good(0)._replace(value=b'{"timestamp":"yesterday","values":[1,2]}'),
    Reason.FUTURE_TIMESTAMP: good(0)._replace(value=encode_reading(["f0", "f1"], NOW_MS + 2 * DAY_MS, [1.0, 2.0])),
    Reason.PAST_TIMESTAMP: good(0)._replace(value=encode_reading(["f0", "f1"], NOW_MS // 1000, [1.0, 2.0])),
    Reason.WRONG_FEATURES: good(0)._replace(value=b'{"timestamp":1,"values":[1,2,3]}'),
    Reason.NOT_A_NUMBER: good(0)._replace(value=b'{"timestamp":1,"values":["1",2]}'),
    Reason.OUT_OF_RANGE: good(0)._replace(value=b'{"timestamp":1,"values":[1e39,2]}'),
    Reason.BAD_MSGPACK: good(0)._replace(value=b"\x82"),
    Reason.BAD_ARROW: good(0)._replace(value=b"\xff\xff\xff\xff\x08"),
    Reason.TOO_MANY_READINGS: good(0)._replace(
        value=encode_readings(InputFormat.MSGPACK, ["f0", "f1"], [NOW_MS] * 2_049, np.ones((2_049, 2)))
    ),
}


def test_every_kind_of_bad_record_becomes_a_dead_letter_and_harms_no_other(kafka: Broker, quick: Path) -> None:
    # A good record that there is no room for, and what is no record: see test_poison. Mappings have
    # more.
    mapped = {Reason.BAD_AVRO, Reason.BAD_INFLUX, Reason.BAD_OTLP, Reason.BAD_PROTOBUF, Reason.BAD_SPARKPLUG}
    mapped.add(Reason.UNKNOWN_ALIAS)
    assert set(BAD) == set(Reason) - {Reason.STREAM_LIMIT, Reason.UNREADABLE_BATCH} - mapped
    names = made_topics(kafka)
    spike = encode_reading(["f0", "f1"], NOW_MS + 60_000 * 100, [1e6, 1.0])
    clean = [*map(good, range(100)), Record(b"good", spike, (), NOW_MS), *map(good, range(101, 140))]
    spoilt = [record for n, one in enumerate(clean) for record in (one, *list(BAD.values())[n % (len(BAD) + 1) :][:1])]
    kafka.produce(names.topic, [(0, record) for record in spoilt] + [(1, record) for record in clean])

    with service(kafka, quick, names) as running:
        running.until_judged(len(spoilt) + len(clean))
        counts = running.status()["counts"]
        logged = {line["reason"] for line in running.lines("record_rejected")}

    expected = [(offset, record) for offset, record in enumerate(spoilt) if record in BAD.values()]
    letters = kafka.read_committed(names.dead_letters)
    assert {letter.partition for letter in letters} == {0}
    reasons = {id(record): reason for reason, record in BAD.items()}
    assert len(letters) == len(expected)
    for letter, (offset, record) in zip(letters, expected, strict=True):
        headers = headers_of(letter.record)
        assert letter.record.headers[: len(record.headers)] == record.headers
        assert (letter.record.key, letter.record.value) == (record.key, record.value)
        assert letter.record.time_ms == record.time_ms
        assert headers["telltale-reason"].decode() == reasons[id(record)]
        assert headers["telltale-detail"]
        assert headers["telltale-topic"].decode() == names.topic
        assert (int(headers["telltale-partition"]), int(headers["telltale-offset"])) == (0, offset)
    assert counts["rejected"] == {reason: len([r for _, r in expected if reasons[id(r)] == reason]) for reason in BAD}
    assert logged == set(BAD)

    events = [decode_event(written.record.value or b"") for written in kafka.read_committed(names.anomalies)]
    among_bad, alone = ([e for e in events if e.data.partition == number] for number in (0, 1))
    assert [event.change for event in alone][:1] == ["opened"]
    assert [(e.change, e.time, e.data.score, e.data.channels) for e in among_bad] == [
        (e.change, e.time, e.data.score, e.data.channels) for e in alone
    ]


# --- stopping, and being watched


def plant_records(streams: int, readings: int) -> list[tuple[int, Record]]:
    """(partition, record) of streams with every fault in them, one in fifty records bad."""
    whose, columns = faulty(features=2, seed=3, streams=streams, readings=readings)
    records = zip(whose.tolist(), columns.times_ms.tolist(), columns.values.tolist(), strict=True)
    sent = [
        (stream % PARTITIONS, Record(b"machine-%d" % stream, encode_reading(["f0", "f1"], time_ms, values)))
        for stream, time_ms, values in records
    ]
    return [(p, record._replace(value=b"{") if n % 50 == 7 else record) for n, (p, record) in enumerate(sent)]


def committed_offsets(broker: Broker, names: Names) -> dict[int, int]:
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=names.group,
        enable_auto_commit=False,
        isolation_level="read_committed",
    ) as consumer:
        found = {number: consumer.committed(TopicPartition(names.topic, number)) for number in range(PARTITIONS)}
    return {number: 0 if offset is None else int(offset) for number, offset in found.items()}


def judged_offline(checkpoint: Path, topic: str, number: int, readings: list[Written]) -> list[Record]:
    """What a pipeline tells of these records of a partition, in one piece."""
    loaded = checkpoints.load(checkpoint)
    partition = Partition(topic, number)
    fetched = Fetched(
        partition,
        [one.record.key for one in readings],
        [one.record.value for one in readings],
        np.array([one.offset for one in readings], dtype=np.int64),
        np.array([one.record.time_ms for one in readings], dtype=np.int64),
        readings[-1].offset + 1,
        readings[-1].offset + 1,
    )
    task = PartitionTask(partition, StateSlab(loaded.detector.rows_for))
    commits = [one.commit for one in Pipeline(loaded.detector, loaded.digest, DAY_MS).process(fetched, task)]
    anomalies, dead_letters = ([r for one in commits for r in getattr(one, n)] for n in ("anomalies", "dead_letters"))
    return [*anomalies, *dead_letters]


@pytest.mark.thorough
def test_sigterm_under_load_ends_it_soon_with_everything_told_that_is_committed(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, plant_records(streams=40, readings=30_000))
    with service(kafka, quick, names, FreshProcess, TELLTALE_KAFKA__MAX_POLL_RECORDS="200") as running:
        running.until_judged(2_000)
        stopped_at = time.monotonic()
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
        assert time.monotonic() - stopped_at < 5.0
        assert [line["signal"] for line in running.lines("stopping")] == ["SIGTERM"]
        (farewell,) = running.lines("stopped")

    offsets = committed_offsets(kafka, names)
    assert 2_000 <= sum(offsets.values()) < 30_000
    readings = kafka.read_committed(names.topic)
    published = [*kafka.read_committed(names.anomalies), *kafka.read_committed(names.dead_letters)]
    bad = 0
    for number, end in offsets.items():
        judged = [one for one in readings if one.partition == number and one.offset < end]
        expected = judged_offline(quick, names.topic, number, judged) if judged else []
        found = [one.record for one in published if one.partition == number]
        assert [(r.key, r.value, r.headers) for r in found] == [(r.key, r.value, r.headers) for r in expected]
        bad += sum(one.record.value == b"{" for one in judged)
    assert farewell["readings"] == sum(offsets.values()) - bad
    assert any(b"telltale.anomaly.opened" in (one.record.value or b"") for one in published)


@pytest.mark.thorough
def test_records_of_many_readings_are_judged_once_through_a_kill_and_as_one_by_one(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    whose, columns = faulty(features=2, seed=3, streams=6, readings=6_000)
    formats = (InputFormat.MSGPACK, InputFormat.ARROW, InputFormat.JSON)
    for number in range(PARTITIONS):
        mine = np.flatnonzero(whose.numpy() % PARTITIONS == number)
        records: list[tuple[int, Record]] = []
        for n, part in enumerate(np.array_split(mine, 120)):
            streams = [f"machine-{stream}" for stream in whose[part].tolist()]
            times_ms, values = columns.times_ms[part].tolist(), columns.values[part].numpy()
            value = encode_readings(formats[n % 3], ["f0", "f1"], times_ms, values, streams)
            records += [(number, Record(b"hall", value)), *([(number, Record(b"hall", b"\x82"))] if n % 9 == 0 else [])]
        kafka.produce(names.topic, records)
    with service(kafka, quick, names, TELLTALE_KAFKA__MAX_POLL_RECORDS="10") as killed:
        killed.until_judged(1_000)
        killed.process.signal(signal.SIGKILL)
        killed.process.ended()
    with service(kafka, quick, names) as running:
        readings = kafka.read_committed(names.topic)
        wait_until(lambda: sum(committed_offsets(kafka, names).values()) >= len(readings), "all being judged")
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0

    told = [*kafka.read_committed(names.anomalies), *kafka.read_committed(names.dead_letters)]
    for number in range(PARTITIONS):
        expected = judged_offline(quick, names.topic, number, [one for one in readings if one.partition == number])
        found = [one.record for one in told if one.partition == number]
        assert [(r.key, r.value, r.headers) for r in found] == [(r.key, r.value, r.headers) for r in expected]
    events = [decode_event(one.record.value or b"") for one in told if b"anomaly" in (one.record.value or b"")]
    assert any(event.data.index for event in events)
    assert len({event.id for event in events}) == len(events) > 20


def test_health_metrics_and_anomalies_are_seen_over_http(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    with service(kafka, quick, names) as running:
        assert running.get("/livez") == (200, '{"status":"alive","reason":null}')
        wait_until(lambda: running.get("/readyz")[0] == 200, "being ready")
        wait_until(lambda: running.metric("telltale_partitions") == PARTITIONS, "both partitions")
        assert running.metric("telltale_readings_total") == 0
        beat = running.status()["published_ms"]

        kafka.produce(names.topic, plant_records(streams=6, readings=1_000))
        running.until_judged(1_000)
        assert running.get("/readyz") == (200, '{"status":"ready","reason":"2 partitions"}')
        assert running.metric("telltale_readings_total") == 980
        assert running.metric("telltale_records_rejected_total") == 20
        assert running.metric("telltale_streams") == 6
        assert running.metric("telltale_lag_records") == 0
        assert running.metric("telltale_transactions_total") > 0
        assert running.metric("telltale_verdict_latency_seconds_count") == 980
        assert running.status()["published_ms"] > beat
        opened = running.metric("telltale_anomalies_opened_total")

        code, body = running.get("/api/v1/anomalies?limit=100")
        shown = json.loads(body)["anomalies"]
        published = {w.record.value for w in kafka.read_committed(names.anomalies)}
        events = [json.loads(value or b"") for value in published]
        assert code == 200
        assert sum(event["type"] == "telltale.anomaly.opened" for event in events) == opened > 0
        assert shown
        assert all(event in events for event in shown)


# --- what it cannot start with


@pytest.mark.thorough
def test_it_says_what_it_cannot_start_with(kafka: Broker, quick: Path) -> None:
    """No broker, no topic, a port that is taken: each ends with one clear line."""
    run: list[object] = ["run", "--checkpoint", quick, "--bootstrap-servers"]
    here = kafka.bootstrap_servers
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        starts = [
            (1, "could not connect to 127.0.0.1:1 within", FreshProcess(*run, "127.0.0.1:1", "--http-port", 0)),
            (1, "found no topic no.such.topic", FreshProcess(*run, here, "--http-port", 0, "--topic", "no.such.topic")),
            (2, f"http.port: cannot listen on 127.0.0.1, port {port}", FreshProcess(*run, here, "--http-port", port)),
        ]
        try:
            for code, said, process in starts:
                assert process.ended() == code, process.err
                assert process.err[-1].startswith("telltale: ")
                assert said in process.err[-1]
                assert "Traceback" not in "".join(process.err)
                assert process.out == []
        finally:
            for _, _, process in starts:
                process.kill()


@pytest.mark.slow
def test_sigterm_before_there_is_a_broker_ends_it_at_once(quick: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        process = FreshProcess(
            "run", "--checkpoint", quick, "--bootstrap-servers", servers, "--http-port", 0, TELLTALE_LOG__FORMAT="json"
        )
        try:
            wait_until(lambda: any("http_listening" in line for line in process.err), "the HTTP port is open")
            process.signal(signal.SIGTERM)
            assert process.ended(5) == 128 + signal.SIGTERM
        finally:
            process.kill()


# --- the demo


@pytest.mark.thorough
@pytest.mark.slow
def test_a_short_demo_finds_faults_and_prints_its_table() -> None:
    """The slowest test here: it lasts as long as it is told to."""
    demo = FreshProcess("demo", "--seconds", 20, "--streams", 24, "--http-port", 0)
    try:
        assert demo.ended() == 0, demo.err
    finally:
        demo.kill()
    said = "".join(demo.out)
    assert "A plant of 24 machines" in said
    assert "Faults injected and found" in said
    assert "false alarms" in said
    assert all(kind in said for kind in ("dropout to zero", "missing values", "silence"))
    assert re.search(r"would have had \d+\.\d alarms a day, \d+\.\d of them false", said)
    (judged,) = [line for line in demo.out if line.startswith("readings")]
    assert int(judged.split()[1].replace(",", "")) > 0
