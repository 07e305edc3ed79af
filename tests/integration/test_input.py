"""A real topic as a producer left it, to anomalies' readings: guessed, mapped, trained on."""

import json
from pathlib import Path

import yaml

from service.log.port import Record
from tests.command_line import Telltale
from tests.kafka import Broker

NOW_S = 1_767_571_200
STREAMS = 3


def telegraf(n: int) -> Record:
    """Record n, without a key, as Telegraf's default for JSON is."""
    fields = {"temp": 20 + n % 7, "press": 4 + n % 5 / 10}
    tags = {"host": "h1", "id": f"p{n % STREAMS}"}
    value = json.dumps({"fields": fields, "name": "opcua", "tags": tags, "timestamp": NOW_S + n})
    return Record(None, value.encode(), (), (NOW_S + n) * 1000)


def test_a_topic_of_telegraf_is_guessed_and_trained_on_through_the_mapping(
    kafka: Broker, telltale: Telltale, tmp_path: Path
) -> None:
    topic = kafka.create_topic(1)
    kafka.produce(topic, [(0, telegraf(n)) for n in range(900)])
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    printed = telltale.does("input", "try", *where)
    assert printed.splitlines()[0] == f"# {topic}: 100 records of 100 can be read as Telegraf's JSON"
    assert yaml.safe_load(printed)["input"]["topics"][topic]["stream"] == ["tags.host", "tags.id"]
    settings = tmp_path / "telltale.yaml"
    settings.write_text(printed + f"kafka:\n  bootstrap_servers: {kafka.bootstrap_servers}\n")
    said = telltale.does(
        *("train", "--from-topic", topic, "--config", settings, "--out", tmp_path / "plant.safetensors"),
        *("--hidden", 16, "--epochs", 1),
    )
    assert f"{topic}: 900 records of 1 partition; left out: nothing" in said
    assert "3 streams" in said


def test_a_topic_of_several_partitions_without_keys_is_said_to_need_rekeying(kafka: Broker, telltale: Telltale) -> None:
    topic = kafka.create_topic(2)
    kafka.produce(topic, [(n % 2, telegraf(n)) for n in range(60)])
    printed = telltale.does("input", "try", "--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    assert "# records without a key: each stream lies in all 2 partitions" in printed
    assert "telltale rekey writes the topic again, keyed by stream" in printed
