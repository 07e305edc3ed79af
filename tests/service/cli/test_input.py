"""`telltale input try`: the mapping that records need, and the readings that come out of it."""

import json
from pathlib import Path

import pysparkplug as sp
import pytest
import yaml

from docs.payloads import SPARKPLUG
from tests.command_line import Telltale

NOW_S = 1_767_571_200
TELEGRAF = [
    {
        "fields": {"temp": 61 + n, "press": 4.1},
        "name": "opcua",
        "tags": {"host": "h1", "id": "p7"},
        "timestamp": NOW_S + n,
    }
    for n in range(12)
]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    file = tmp_path / "plant.jsonl"
    file.write_text("\n".join(map(json.dumps, TELEGRAF)) + "\n")
    return file


def test_the_mapping_that_is_printed_is_one_that_settings_take(telltale: Telltale, sample: Path) -> None:
    printed = telltale.does("input", "try", "--file", sample)
    lines = printed.splitlines()
    assert lines[0] == "# plant: 12 records of 12 can be read as Telegraf's JSON"
    assert lines[4:6] == ["# features: temp, press", "# h1/p7, 2026-01-05T00:00:00.000Z: temp 61.0, press 4.1"]
    assert len(lines) == 5 + 10
    given = yaml.safe_load(printed)
    assert given == {"input": {"topics": {"plant": {"preset": "telegraf", "stream": ["tags.host", "tags.id"]}}}}
    settings = sample.with_name("telltale.yaml")
    settings.write_text(printed)
    again = telltale.does("input", "try", "--file", sample, "--config", settings)
    assert again.splitlines()[0] == "# plant: 12 records of 12 can be read as the mapping that is set"
    assert again.splitlines()[-10:] == lines[-10:]


def test_our_own_form_needs_no_mapping(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(f'{{"timestamp":{NOW_S * 1000},"values":{{"temp":61,"press":null}}}}\n')
    assert telltale.does("input", "try", "--file", file, "--key", "p7").splitlines() == [
        "# own: 1 record of 1 can be read as Telltale's own form",
        "# features: temp, press",
        "# p7, 2026-01-05T00:00:00.000Z: temp 61.0, press missing",
    ]


def test_what_is_refused_is_told_beside_what_is_read(telltale: Telltale, sample: Path) -> None:
    with sample.open("a") as file:
        file.write('{"fields":{"temp":"x"},"tags":{"host":"h1","id":"p7"},"timestamp":1}\nnothing\n')
    lines = telltale.does("input", "try", "--file", sample, "--features", "temp").splitlines()
    assert lines[0] == "# plant: 12 records of 14 can be read as Telegraf's JSON"
    assert lines[-2].startswith("# offset 12 refused, not_a_number: temp is 'x', no number: input.topics.plant.missing")
    assert lines[-1].startswith("# offset 13 refused, bad_json: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--topic or --file, expected one of them"),
        (["--topic", "a", "--key", "b"], 2, "--key is of the records of a file"),
        (["--file", "EMPTY"], 1, "no lines in it"),
        (["--file", "WORDS"], 1, "none of 1 record can be read"),
        (["--file", "nowhere"], 1, "nowhere: No such file or directory"),
    ],
)
def test_what_cannot_be_tried_is_said_in_one_line(
    telltale: Telltale, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "EMPTY").write_text("\n")
    (tmp_path / "WORDS").write_text("hello\n")
    named = [str(tmp_path / one) if one.isupper() else one for one in arguments]
    ran = telltale("input", "try", *named)
    assert ran.code == code
    assert ran.err.count("\n") == 1
    assert said in ran.err


def test_of_records_without_keys_it_says_what_else_is_wrong(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text("p7;05.01.2026 00:00;61,2\n")
    ran = telltale("input", "try", "--file", file)
    assert "# offset 0 refused, bad_json: JSON is malformed" in ran.out
    assert "expected JSON, MessagePack, Arrow, Influx's lines or what input.topics.own.format names" in ran.err


def test_lines_of_influx_are_recognized(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "plant.influx"
    file.write_text(f"opcua,host=h1,id=p7 temp=61,press=4.1 {NOW_S}000000000\n")
    assert telltale.does("input", "try", "--file", file).splitlines() == [
        "# plant: 1 record of 1 can be read as Influx's line protocol",
        "input:",
        "  topics:",
        "    plant: {preset: influx, stream: [tags.host, tags.id]}",
        "# features: temp, press",
        "# h1/p7, 2026-01-05T00:00:00.000Z: temp 61.0, press 4.1",
    ]


def test_of_records_of_one_metric_each_it_says_how_they_are_joined(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "plant.jsonl"
    lines = [{"name": name, "value": 61, "timestamp": NOW_S * 1000} for name in ("temp", "press", "temp")]
    file.write_text("\n".join(map(json.dumps, lines)))
    said = telltale.does("input", "try", "--file", file, "--key", "p7").splitlines()
    assert "    plant: {values: value, stream: [$key, name]}" in said
    assert said[5:7] == [
        "# each metric is a stream; telltale rekey, with rekey.join_window_s, joins temp, press by",
        "#     plant: {values: value, stream: [$key], metric: name}",
    ]
    config = tmp_path / "telltale.yaml"
    config.write_text(f"input:\n  topics:\n{said[6].lstrip('#')}")
    joined = telltale.does("input", "try", "--file", file, "--key", "p7", "--config", config).splitlines()
    assert joined[1:3] == ["# features: temp, press", "# p7, 2026-01-05T00:00:00.000Z: temp 61.0, press missing"]


def test_what_is_left_out_of_the_values_is_named_and_neither_names_nor_times_are_features(
    telltale: Telltale, tmp_path: Path
) -> None:
    file = tmp_path / "plant.jsonl"
    record = {"ts": NOW_S, "id": 17, "timestamp": 3, "temp": 61.5, "state": "RUN", "on": True, "tags": {"a": 1}}
    file.write_text(json.dumps(record) + "\n" + json.dumps({**record, "note": "x"}) + "\n")
    config = tmp_path / "telltale.yaml"
    config.write_text("input: {topics: {plant: {stream: $topic, time: ts, time_unit: s, values: '@'}}}\n")
    said = telltale.does("input", "try", "--file", file, "--config", config).splitlines()
    left_out = [
        "id (looks like a name or a time)",
        "timestamp (looks like a name or a time)",
        "state (text)",
        "on (true or false)",
        "tags (an object)",
        "note (text)",
    ]
    assert said[1] == "# features: temp"
    assert said[2].startswith("# left out: ")
    assert set(said[2].removeprefix("# left out: ").split(", ")) == set(left_out)
    assert said[3] == "# plant, 2026-01-05T00:00:00.000Z: temp 61.5"
    guessed = telltale.does("input", "try", "--file", file)
    assert "# features: temp" in guessed.splitlines()


def test_of_our_own_form_it_names_what_is_not_asked_for(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(f'{{"timestamp":{NOW_S * 1000},"values":{{"temp":61,"press":4,"state":"RUN"}}}}\n')
    said = telltale.does("input", "try", "--file", file, "--key", "p7", "--features", "temp").splitlines()
    assert said[1:3] == ["# features: temp", "# left out: press (no feature), state (text)"]


def test_a_file_that_is_no_text_is_one_record(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "spb.bin"
    file.write_bytes(SPARKPLUG + b"")
    assert b"\n" in SPARKPLUG
    said = telltale.does("input", "try", "--file", file, "--key", "spBv1.0/plant/DDATA/edge-1/p7").splitlines()
    assert said[:2] == [
        f"# {file} is no text: read as one record",
        "# spb: 1 record of 1 can be read as Sparkplug B",
    ]


def test_of_sparkplug_by_alias_it_says_what_reads_it(telltale: Telltale, tmp_path: Path) -> None:
    file = tmp_path / "spb.bin"
    metric = sp.Metric(NOW_S * 1000, None, sp.DataType.DOUBLE, value=61.5, alias=7)
    file.write_bytes(sp.DData(timestamp=NOW_S * 1000, seq=2, metrics=(metric,)).encode(include_dtypes=True))
    ran = telltale("input", "try", "--file", file, "--key", "spBv1.0/plant/DDATA/edge-1/p7")
    assert ran.code == 1
    assert "    spb: {preset: sparkplug}" in ran.out
    assert "refused, unknown_alias: " in ran.out
    assert "`telltale rekey` keeps what births say" in ran.out
