"""`telltale produce` on a real topic."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.data.synthetic import FEATURES
from service.input.wire import Decoder
from service.log.port import Fetched, Partition, Record
from tests.command_line import Telltale
from tests.kafka import Broker


def test_a_plant_that_goes_on_sends_what_one_that_never_stopped_sends(kafka: Broker, telltale: Telltale) -> None:
    def produce(topic: str, readings: int, *more: object) -> None:
        where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
        said = telltale.does("produce", "--simulate", 3, "--readings", readings, *where, *more)
        assert said.startswith(f"{3 * readings:,} readings to {topic}")

    once, twice = kafka.create_topic(2), kafka.create_topic(2)
    produce(once, 9)
    produce(twice, 4, "--go-on")
    produce(twice, 5, "--go-on")
    sent = [[(one.partition, one.record[:2]) for one in kafka.read_committed(topic)] for topic in (once, twice)]
    assert len(sent[0]) == 27
    assert sent[0] == sent[1]


def test_another_topic_than_the_plants_is_not_gone_on_from(kafka: Broker, telltale: Telltale) -> None:
    topic = kafka.create_topic(1)
    kafka.produce(topic, [(0, Record(b"pump", b'{"value": 1}'))])
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    assert "not the simulated plant's" in telltale.refuses("produce", "--simulate", 3, "--go-on", *where, code=1)


def test_what_was_sent_until_it_was_told_to_stop_is_told_and_is_there(kafka: Broker, tmp_path: Path) -> None:
    topic = kafka.create_topic(1)
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    command = [str(Path(sys.executable).parent / "telltale"), "produce", "--simulate", "3", "--rate", "100", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as plant:
        while not kafka.read_committed(topic):
            assert plant.poll() is None
        plant.send_signal(signal.SIGINT)
        said, _ = plant.communicate(timeout=60)
    assert plant.returncode == 0
    line = re.fullmatch(rf"([\d,]+) readings to {topic} in ([\d.]+) s, (\d+) a second, then told to stop\n", said)
    assert line is not None, said
    assert int(line[1].replace(",", "")) == len(kafka.read_committed(topic))


@pytest.mark.thorough
def test_the_time_told_is_that_of_sending_and_progress_is_told_meanwhile(kafka: Broker, tmp_path: Path) -> None:
    """At 40 readings a second 480 take 12 s, whatever the weeks before them take to simulate."""
    topic = kafka.create_topic(1)
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    asked = ("--simulate", "8", "--readings", "60", "--rate", "40")
    command = [str(Path(sys.executable).parent / "telltale"), "produce", *asked, *where]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    line = re.fullmatch(rf"(\d+) readings to {topic} in ([\d.]+) s, .*\n", ran.stdout)
    assert line is not None, ran.stdout
    assert int(line[1]) == len(kafka.read_committed(topic))
    assert float(line[2]) >= int(line[1]) / 40 - 0.1
    assert re.search(r"sent \d+ of 480 readings \(\d+ %\), \d+ a second", ran.stderr), ran.stderr


@pytest.mark.parametrize("written", ["json", "msgpack", "arrow"])
def test_many_readings_a_record_are_those_that_are_sent_one_by_one(
    kafka: Broker, telltale: Telltale, written: str
) -> None:
    def produce(topic: str, readings: int, *more: object) -> dict[bytes, list[tuple[int, list[float]]]]:
        where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
        told = telltale.does("produce", "--simulate", 3, "--readings", readings, *where, *more)
        assert told.startswith(f"{3 * readings:,} readings to {topic}")
        sent = kafka.read_committed(topic)
        keys, values = [one.record.key for one in sent], [one.record.value for one in sent]
        nowhere, count = np.full(len(sent), -1, np.int64), len(sent)
        fetched = Fetched(Partition(topic, 0), keys, values, np.arange(count), nowhere, count, count)
        batch, rejects = Decoder(FEATURES, 0).decode(fetched)
        assert rejects == []
        found: dict[bytes, list[tuple[int, list[float]]]] = {}
        rows = batch.readings.values.nan_to_num(-7.0).tolist()
        for key, time_ms, row in zip(batch.keys, batch.readings.times_ms.tolist(), rows, strict=True):
            found.setdefault(key, []).append((time_ms, row))
        return found

    topic = kafka.create_topic(1)
    one_by_one = produce(kafka.create_topic(1), 25)
    together = produce(topic, 25, "--format", written, "--readings-per-record", 10)
    assert together == one_by_one
    assert len(kafka.read_committed(topic)) == 9
    goes_on = produce(topic, 2, "--go-on", "--format", written)
    assert {key: len(readings) for key, readings in goes_on.items()} == dict.fromkeys(one_by_one, 27)
