"""State looked at, carried elsewhere and judged again, on a real broker, by the commands a person would use."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from kafka import KafkaProducer

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from models.detection.detector import Detector
from service.errors import LogUnavailable, RefusedInput
from service.input.events import decode_event
from service.input.wire import encode_reading
from service.kafka.groupless import KafkaGrouplessLog
from service.kafka.topics import members_of, partition_of, produce
from service.log.port import Commit, Fetched, Partition, Record
from tests.command_line import Telltale
from tests.data import QUICK, some_forecaster
from tests.integration.test_end_to_end import Names, made_topics, new_names, service, wait_until
from tests.kafka import Broker

FEATURES = ("f0", "f1")
STREAMS = ("line-1/pump", "line-1/fan", "line-2/oven")
PUMP = STREAMS[0]
FIRST_MS = 1_700_000_000_000
READINGS = 240  # of each stream; the pump has a fault at the 150th
FAULT = range(150, 156)


def saved(path: Path, seed: int) -> Path:
    """A checkpoint that no one trained."""
    detector = Detector.cold(some_forecaster(2, seed=seed), QUICK)
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoints.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


class Setting(NamedTuple):
    """A plant that is judged, by a service that goes on running."""

    broker: Broker
    names: Names
    checkpoint: Path
    other: Path  # another model

    def options(self, names: Names | None = None, checkpoint: Path | None = None) -> list[object]:
        """Of every command that looks at the state."""
        names = names or self.names
        topic, group = ("--topic", names.topic), ("--group", names.group)
        where = ("--bootstrap-servers", self.broker.bootstrap_servers)
        return [*topic, *group, *where, "--checkpoint", checkpoint or self.checkpoint]


def reading(stream: str, n: int, values: Sequence[float]) -> Record:
    return Record(stream.encode(), encode_reading(FEATURES, FIRST_MS + 60_000 * n, values))


def plant() -> Iterator[tuple[int, Record]]:
    """All of it goes to partition 1, wherever the keys would go."""
    random = np.random.default_rng(0)
    for n in range(READINGS):
        for stream in STREAMS:
            values = random.normal(size=2) + (40 if stream == PUMP and n in FAULT else 0)
            yield 1, reading(stream, n, values.tolist())


@contextmanager
def using(names: Names) -> Iterator[None]:
    """Let the commands of this process take the changelog and outputs of these topics."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("ANOMALIES", "DEAD_LETTERS", "CHANGELOG"):
            monkeypatch.setenv(f"TELLTALE_KAFKA__{name}_TOPIC", getattr(names, name.lower()))
        yield


@pytest.fixture(scope="module")
def setting(kafka: Broker, telltale: Telltale, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    del telltale  # first, so that it takes the environment's settings away before these come
    folder, names = tmp_path_factory.mktemp("checkpoints"), made_topics(kafka)
    checkpoint = saved(folder / "quick.safetensors", seed=0)
    with service(kafka, checkpoint, names) as running:
        kafka.produce(names.topic, plant())
        running.until_judged(READINGS * len(STREAMS))
        with using(names):
            yield Setting(kafka, names, checkpoint, saved(folder / "other.safetensors", seed=5))


def anomalies(broker: Broker, names: Names) -> list[bytes]:
    return [written.record.value or b"" for written in broker.read_committed(names.anomalies)]


# --- showing


def test_a_stream_is_shown_while_the_service_runs(setting: Setting, telltale: Telltale) -> None:
    found = json.loads(telltale.does("state", "show", "--stream", PUMP, *setting.options(), "--json"))
    assert (found["topic"], found["partition"]) == (setting.names.topic, 1)
    assert found["next_offset"] == READINGS * len(STREAMS)
    assert 0 <= found["applied"] < found["through"] <= found["next_offset"]
    assert found["applied"] % len(STREAMS) == 0, "the pump's offsets"
    assert found["readings"] == found["applied"] // len(STREAMS) + 1
    assert found["is_given_checkpoint"]
    said = telltale.does("state", "show", "--stream", PUMP, *setting.options())
    assert said.startswith(f"{PUMP}\n  place       topic {setting.names.topic}, partition 1, page 0")


def test_a_stream_that_is_nowhere_is_one_line_and_code_1(setting: Setting, telltale: Telltale) -> None:
    said = telltale.refuses("state", "show", "--stream", "nobody", *setting.options(), code=1)
    topic, group = setting.names.topic, setting.names.group
    assert f"no stream nobody in the state of group {group}: in {topic}-1 (3 streams)" in said
    stranger = setting.names._replace(group="strangers")
    said = telltale.refuses("state", "show", "--stream", PUMP, *setting.options(stranger), code=1)
    assert f"no state of {setting.names.topic}, group strangers" in said
    missing = setting.names._replace(topic="no-such-topic")
    said = telltale.refuses("state", "show", "--stream", PUMP, *setting.options(missing), code=1)
    assert "found no topic no-such-topic" in said


def test_wrong_usage_is_code_2(setting: Setting, telltale: Telltale) -> None:
    options = setting.options()
    assert "--stream has 0 bytes" in telltale.refuses("state", "show", "--stream", "", *options, code=2)
    said = telltale.refuses("replay", "--stream", PUMP, "--around", "noon", *options, code=2)
    assert "--around is 'noon', expected RFC 3339 with an offset, or milliseconds" in said
    said = telltale.refuses("replay", "--stream", PUMP, "--around", "0", *options, "--topic", "two", code=2)
    assert "--topic is missing: kafka.topics names" in said


# --- judging again


def test_replay_prints_the_very_bytes_that_went_out(setting: Setting, telltale: Telltale) -> None:
    went_out = anomalies(setting.broker, setting.names)
    mine = [value for value in went_out if decode_event(value).data.stream == PUMP]
    fault = f"{decode_event(mine[0]).data.opened_at}"
    story = [value for value in mine if decode_event(value).data.opened_at == fault]
    assert decode_event(story[-1]).data.status == "closed"
    said = telltale.does("replay", "--stream", PUMP, "--around", fault, *setting.options()).encode()
    assert b"\n".join(story) in said
    assert [line for line in said.splitlines() if line.startswith(b'{"specversion"')] == story
    assert b"ALARM" in said
    found = json.loads(telltale.does("replay", "--stream", PUMP, "--around", fault, *setting.options(), "--json"))
    assert not found["another_model"]
    assert len(found["readings"]) == 20
    assert not any(check["differs"] for check in found["checks"])


def test_replay_with_another_checkpoint_says_what_that_would_have_said(setting: Setting, telltale: Telltale) -> None:
    around = str(FIRST_MS + 60_000 * FAULT.start)
    question = ["replay", "--stream", PUMP, "--around", around, "--json"]
    ours, others = (
        json.loads(telltale.does(*question, *setting.options(checkpoint=checkpoint)))
        for checkpoint in (setting.checkpoint, setting.other)
    )
    assert (ours["another_model"], others["another_model"]) == (False, True)
    assert [one["offset"] for one in ours["readings"]] == [one["offset"] for one in others["readings"]]
    assert [one["score"] for one in ours["readings"]] != [one["score"] for one in others["readings"]]
    assert others["events"]
    assert {event["data"]["checkpoint"] for event in others["events"]} == {others["checkpoint"]}
    said = telltale.does(*question[:-1], *setting.options(checkpoint=setting.other))
    assert "WHAT ANOTHER MODEL WOULD HAVE SAID" in said


# --- carrying


@pytest.mark.thorough
def test_an_imported_stream_scores_its_next_reading_as_where_it_came_from(
    setting: Setting, telltale: Telltale, tmp_path: Path
) -> None:
    """Half-way through a service's life, to other topics and another group, into a partition with state and without."""
    broker, file = setting.broker, tmp_path / "streams.state"
    streams = [option for stream in STREAMS[:2] for option in ("--stream", stream)]
    shown = json.loads(telltale.does("state", "show", "--stream", PUMP, *setting.options(), "--json"))
    telltale.does("state", "export", *streams, "--out", file, *setting.options())
    there = made_topics(broker)
    places = {stream: partition_of(stream.encode(), 2) for stream in STREAMS[:2]}
    assert sorted(places.values()) == [0, 1], "one goes to a partition with state, one to a partition without"
    with service(broker, setting.checkpoint, there) as running:
        broker.produce(there.topic, [(places[PUMP], reading(PUMP, n, [0.0, 1.0])) for n in range(9)])
        running.until_judged(9)
        said = telltale.refuses("state", "import", file, *setting.options(there), code=1)
        assert f"group {there.group} has active members" in said
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == 0
    other = telltale.refuses("state", "import", file, *setting.options(there, setting.other), code=1)
    assert "mean nothing to" in other
    with using(there):
        said = telltale.does("state", "import", file, *setting.options(there))
        assert sorted(said.splitlines()) == [
            f"{there.topic}-{number}: 1 stream, for group {there.group}" for number in (0, 1)
        ]
        found = json.loads(telltale.does("state", "show", "--stream", PUMP, *setting.options(there), "--json"))
    assert found["readings"] == READINGS >= shown["readings"]
    assert found["applied"] == 8
    assert found["partition"] == places[PUMP]

    with service(broker, setting.checkpoint, there):
        told_here = len(anomalies(broker, setting.names))
        for stream in STREAMS[:2]:
            strange = reading(stream, READINGS, [400.0, -9.0])
            broker.produce(setting.names.topic, [(1, strange)])
            broker.produce(there.topic, [(places[stream], strange)])
        wait_until(lambda: len(anomalies(broker, there)) == 2, "the anomalies there")
        wait_until(lambda: len(anomalies(broker, setting.names)) == told_here + 2, "the anomalies here")
    here = {event["subject"]: judged(event) for event in map(json.loads, anomalies(broker, setting.names)[told_here:])}
    assert here == {event["subject"]: judged(event) for event in map(json.loads, anomalies(broker, there))}
    assert all(event["score"] > 1 for event in here.values())


def judged(event: dict[str, Any]) -> dict[str, Any]:
    """All that is thought of a reading, without where it was."""
    return {name: event["data"][name] for name in ("score", "peak", "severity", "kind", "channels", "opened_at")}


# --- from outside the group


def test_one_who_is_not_in_the_group_reads_past_transactions(kafka: Broker) -> None:
    """Control records at the end of the input are no records, but the end is reached all the same."""
    names = made_topics(kafka)
    append_transaction(kafka, names.topic, [reading(PUMP, n, [1.0, 2.0]) for n in range(5)])
    log = KafkaGrouplessLog(kafka.bootstrap_servers, names.changelog)
    try:
        partition = Partition(names.topic, 0)
        source = log.inspect(partition)
        assert (source.begin, source.end, source.partitions, source.committed) == (0, 6, 2, None)
        log.start(partition, 2)
        fetched: list[Fetched] = []
        while not fetched or fetched[-1].next_offset < source.end:
            fetched += log.poll(0.5).fetched
        assert [offset for one in fetched for offset in one.offsets.tolist()] == [2, 3, 4]
    finally:
        log.close()


def append_transaction(broker: Broker, topic: str, records: Sequence[Record]) -> None:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=topic) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for record in records:
            producer.send(topic, record.value, record.key, partition=0)
        producer.flush()
        producer.commit_transaction()


def test_a_partition_where_nothing_comes_is_not_waited_for_without_end(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = made_topics(kafka)
    monkeypatch.setattr("service.kafka.groupless.SILENT_AFTER_S", 0.3)
    log = KafkaGrouplessLog(kafka.bootstrap_servers, names.changelog)
    try:
        log.start(Partition(names.topic, 0), 0)
        with pytest.raises(LogUnavailable, match="no answer for 0 s"):
            wait_until(lambda: bool(log.poll(0.1).fetched), "records that no one sent")
    finally:
        log.close()


def test_what_is_written_from_outside_moves_no_offsets_and_is_whole(kafka: Broker) -> None:
    names = made_topics(kafka)
    log = KafkaGrouplessLog(kafka.bootstrap_servers, names.changelog, group=names.group)
    try:
        pages, marker = (Record(b"page-0", b"rows"), Record(b"page-1", b"rows")), Record(b"marker", b"{}")
        log.commit([Commit(Partition(names.topic, 1), 7, pages=pages, marker=marker)])
        assert log.inspect(Partition(names.topic, 1)).committed is None
        stored = log.restore(Partition(names.topic, 1))
        while stored.read < stored.size:
            stored = log.restore(Partition(names.topic, 1))
    finally:
        log.close()
    written = kafka.read_committed(names.changelog)
    assert [(one.partition, one.record.key) for one in written] == [(1, b"page-0"), (1, b"page-1"), (1, b"marker")]


def test_keys_go_where_producers_send_them(kafka: Broker) -> None:
    topic = kafka.create_topic(partitions=5)
    keys = [b"%d" % n for n in range(40)] + ["überdruck-7".encode()]
    produce(kafka.bootstrap_servers, topic, [(Record(key, b"1"), None) for key in keys])
    found = {one.record.key: one.partition for one in kafka.read_committed(topic)}
    assert found == {key: partition_of(key, 5) for key in keys}
    assert len(set(found.values())) == 5


def test_a_group_that_no_one_knows_has_no_members(kafka: Broker) -> None:
    assert members_of(kafka.bootstrap_servers, new_names().group) == ()


def test_without_a_changelog_there_is_nothing_to_look_at(kafka: Broker) -> None:
    with pytest.raises(RefusedInput, match="found no topic no-such-changelog"):
        KafkaGrouplessLog(kafka.bootstrap_servers, "no-such-changelog")


# --- undoing


@pytest.mark.thorough
def test_a_fault_that_was_learned_from_is_undone_and_the_service_goes_on(setting: Setting, telltale: Telltale) -> None:
    """The same plant twice, once without the fault's readings: then the next reading has one score."""
    broker, there, calm = setting.broker, made_topics(setting.broker), made_topics(setting.broker)
    pump = [record for _, record in plant() if record.key == PUMP.encode()]
    for names, records in ((there, pump), (calm, [one for n, one in enumerate(pump) if n not in FAULT])):
        with service(broker, setting.checkpoint, names) as running:
            broker.produce(names.topic, [(1, record) for record in records])
            running.until_judged(len(records))
            if names is there:
                asked = ("state", "undo", "--stream", PUMP, *setting.options(there))
                span = ("--from", FIRST_MS + 60_000 * FAULT.start, "--until", FIRST_MS + 60_000 * FAULT.stop)
                assert "has active members" in telltale.refuses(*asked, *span, code=1)
            running.process.signal(signal.SIGTERM)
            assert running.process.ended() == 0
    with using(there):
        said = telltale.does(*asked, *span)
        assert f"{there.topic}-1: {PUMP} is as if 6 readings had not come; " in said
        shown = json.loads(telltale.does("state", "show", "--stream", PUMP, *setting.options(there), "--json"))
    assert shown["readings"] == READINGS - len(FAULT)
    strange = reading(PUMP, READINGS, [400.0, -9.0])
    told = {}
    for names in (there, calm):
        before = len(anomalies(broker, names))
        with service(broker, setting.checkpoint, names):
            broker.produce(names.topic, [(1, strange)])
            wait_until(lambda names=names, before=before: len(anomalies(broker, names)) > before, "the anomaly")  # type: ignore[misc]
        told[names] = judged(json.loads(anomalies(broker, names)[-1]))
    assert told[there] == told[calm]
    assert told[there]["score"] > 1
