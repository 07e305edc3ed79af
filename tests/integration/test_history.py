"""Training on what a real topic holds: the same series as the files that it was produced from."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.series import read_series
from service.cli import history
from service.input.wire import Decoder, encode_reading
from service.kafka.groupless import KafkaGrouplessLog
from service.log.port import Record
from tests.command_line import Telltale
from tests.kafka import Broker

PARTITIONS = 2
DAY_MS = 86_400_000
FEATURES = ("flow", "heat")
TRAIN = ("--hidden", 16, "--epochs", 1)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """Five streams by turns, some values missing."""
    random, rows = np.random.default_rng(0), 1_500
    columns: dict[str, object] = {
        "timestamp": 1_700_000_000_000 + np.arange(rows) * 1_000,
        "stream": [f"pump-{n % 5}" for n in range(rows)],
    }
    for name in FEATURES:
        values = random.normal(20, 3, rows)
        values[random.random(rows) < 0.1] = np.nan
        columns[name] = values
    path = tmp_path / "plant.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.mark.parametrize(("written", "readings"), [("json", 1), ("msgpack", 50), ("arrow", 70)])
def test_a_topic_gives_the_series_of_the_file_it_was_produced_from(
    kafka: Broker, telltale: Telltale, plant: Path, written: str, readings: int
) -> None:
    topic = kafka.create_topic(PARTITIONS)
    form = ("--format", written, "--readings-per-record", readings)
    telltale.does("produce", "--data", plant, "--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers, *form)
    done: list[int] = []
    with closing(KafkaGrouplessLog(kafka.bootstrap_servers, None)) as log:
        stretches = history.stretches(log, topic, None, None)
        names = history.features_in(log, stretches)
        found = history.read(log, stretches, Decoder(names, max_future_ms=DAY_MS), done.append)
    assert names == FEATURES
    assert done[-1] == sum(stretch.end - stretch.begin for stretch in stretches) <= 1_500 / readings + 5
    assert (dict(found.rejected), found.late, found.duplicate, found.elsewhere) == ({}, 0, 0, 0)
    series = {one.key: one for one in found.series}
    expected = read_series([plant])
    assert set(series) == {one.key for one in expected}
    for one in expected:
        np.testing.assert_array_equal(series[one.key].times_ms, one.times_ms)
        np.testing.assert_array_equal(series[one.key].values, one.values)


def test_records_are_found_by_their_time_and_a_reader_joins_no_group(kafka: Broker) -> None:
    topic = kafka.create_topic(PARTITIONS)
    first = 1_700_000_000_000
    kafka.produce(
        topic,
        [
            (n % 2, Record(b"a%d" % (n % 2), encode_reading(["x"], first, [float(n)]), (), first + n))
            for n in range(100)
        ],
    )
    with closing(KafkaGrouplessLog(kafka.bootstrap_servers, None)) as log:
        stretches = history.stretches(log, topic, first + 20, first + 60)
        assert [(s.partition.number, s.begin, s.end) for s in stretches] == [(0, 10, 30), (1, 10, 30)]
        found = history.read(log, stretches, Decoder(["x"], DAY_MS))
    assert [one.values[:, 0].tolist() for one in found.series] == [
        [float(n) for n in range(20, 60, 2)],
        [float(n) for n in range(21, 60, 2)],
    ]


def test_training_on_a_topic_says_what_it_left_out(
    kafka: Broker, telltale: Telltale, plant: Path, tmp_path: Path
) -> None:
    topic = kafka.create_topic(PARTITIONS)
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    telltale.does("produce", "--data", plant, "--topic", topic, *servers)
    late = encode_reading(FEATURES, 1_600_000_000_000, [1.0, 1.0])
    kafka.produce(topic, [(0, Record(b"pump-0", b"{")), (0, Record(None, b"{}")), (1, Record(b"new", late))])
    out = tmp_path / "x.safetensors"
    said = telltale.does("train", "--from-topic", topic, "--since", "1d", *servers, "--out", out, *TRAIN)
    assert f"{topic}: 1,503 records of 2 partitions; left out: " in said
    assert "1 bad_json" in said
    assert "1 missing_key" in said
    assert "5 streams, 1 too short, 1,500 readings to train on, 2 features" in said
    shown = json.loads(telltale.does("checkpoint", "show", out))
    assert shown["architecture"]["features"] == list(FEATURES)
    assert shown["data"]["files"] == 0

    telltale.does("train", "--data", plant, "--out", tmp_path / "file", *TRAIN)
    from_file = json.loads(telltale.does("checkpoint", "show", tmp_path / "file"))
    assert shown["data"]["readings"] == from_file["data"]["readings"]
    assert shown["metrics"]["persistence_loss"] == pytest.approx(from_file["metrics"]["persistence_loss"], rel=1e-5)


def test_a_topic_without_records_of_that_time_is_refused(kafka: Broker, telltale: Telltale, tmp_path: Path) -> None:
    topic = kafka.create_topic(PARTITIONS)
    arguments = (
        "train",
        "--from-topic",
        topic,
        "--bootstrap-servers",
        kafka.bootstrap_servers,
        "--out",
        tmp_path / "x",
    )
    assert f"{topic}: no records of that time in it" in telltale.refuses(*arguments, "--since", "7d", code=1)
    assert "found no topic nowhere" in telltale.refuses("train", "--from-topic", "nowhere", *arguments[3:], code=1)
