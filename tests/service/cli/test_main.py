"""The commands: what they print, where, and with which exit code they end."""

import gzip
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
import yaml
from safetensors.numpy import load_file
from typer.core import TyperCommand, TyperGroup, TyperOption

from service.cli import main as cli
from tests.command_line import Ran, Telltale

FEATURES = ("flow", "pressure")
START_MS = 1_700_000_000_000


pytestmark = pytest.mark.usefixtures("own_folder")


def waves(readings: int, phase: float, jump: float = 0.0) -> pl.DataFrame:
    """A stream whose second half is the test part, with a jump in it."""
    place = np.arange(readings)
    flow = np.sin(place / 5 + phase) + np.random.default_rng(int(phase * 10)).normal(0, 0.1, readings)
    flow[3 * readings // 4 :] += jump
    return pl.DataFrame(
        {
            "timestamp": START_MS + place * 60_000,
            "flow": flow,
            "pressure": np.cos(place / 7 + phase) + flow / 4,
            "label": (place >= 3 * readings // 4).astype(int),
            "part": np.where(place < readings // 2, "train", "test"),
        }
    )


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of a stream each."""
    folder = tmp_path_factory.mktemp("plant")
    for n, name in enumerate(("boiler", "mill", "pump")):
        waves(300, float(n), jump=9.0).write_csv(folder / f"{name}.csv")
    return folder


# --- help


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def test_the_commands_are_those_that_are_documented() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "train",
        "run",
        "incidents",
        "rekey",
        "remote-write",
        "control quiet",
        "control depend",
        "control acknowledge",
        "control label",
        "control labels",
        "control take-back",
        "control list",
        "produce",
        "score",
        "demo",
        "checkpoint show",
        "checkpoint verify",
        "models promote",
        "models drop",
        "models list",
        "models shadow",
        "config show",
        "config check",
        "topics create",
        "topics check",
        "state show",
        "state export",
        "state import",
        "state undo",
        "replay",
        "compare",
        "evaluate",
        "gradients",
        "memory-tasks",
        "inspect",
        "input try",
        "forecast",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(telltale: Telltale, path: tuple[str, ...]) -> None:
    ran = telltale(*path, "--help")
    assert ran.code == 0
    assert f"Example: telltale {' '.join(path)}" in " ".join(ran.out.split())
    assert COMMANDS[path].help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_example_is_understood(path: tuple[str, ...]) -> None:
    example = (COMMANDS[path].epilog or "").removeprefix("Example: telltale ").split(">")[0]
    arguments = shlex.split(example)
    assert tuple(arguments[: len(path)]) == path
    COMMANDS[path].make_context(" ".join(path), arguments[len(path) :])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    silent = [
        parameter.name
        for parameter in COMMANDS[path].params
        if isinstance(parameter, TyperOption) and not parameter.help and "--help" not in parameter.opts
    ]
    assert silent == []


@pytest.mark.parametrize("group", [(), ("checkpoint",), ("config",), ("topics",), ("control",)])
def test_a_group_lists_its_commands(telltale: Telltale, group: tuple[str, ...]) -> None:
    ran = telltale(*group, "--help")
    assert ran.code == 0
    for path in COMMANDS:
        if path[: len(group)] == group:
            assert path[len(group)] in ran.out


@pytest.mark.slow
def test_the_installed_command_answers_without_loading_what_it_does_not_need() -> None:
    script = Path(sys.executable).parent / "telltale"
    assert "Usage: telltale" in subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    heavy = "import sys, service.cli; print({'torch', 'kafka', 'polars', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, check=True).stdout == b"set()\n"


# --- wrong usage: exit 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", "--out", "x"],
            "--data is missing, expected CSV, JSON lines, Parquet, Arrow or Excel files, or folders of them",
        ),
        (["produce"], "--data is missing"),
        (["train", "--data", "x.csv"], "Missing option '--out'"),
        (["train", "--out", "x", "--wrong"], "No such option: --wrong"),
        (["trian"], "No such command 'trian'"),
        (["train", "--out", "x", "--epochs", "0"], "--epochs"),
        (["train", "--out", "x", "--hidden", "8"], "--hidden"),
        (["train", "--out", "x", "--time-zone", "Berlin"], "--time-zone is 'Berlin', expected the IANA name of a time"),
        (["produce", "--data", "x", "--part", "tset"], "--part is 'tset', expected all, train or test"),
        (["produce", "--data", "x", "--rate", "0"], "--rate"),
        (["demo", "--seconds", "1"], "--seconds"),
        (["checkpoint", "show"], "Missing argument"),
        (["topics", "create", "--partitions", "0"], "--partitions"),
        (["produce", "--data", "x", "--bootstrap-servers", "nowhere"], "kafka.bootstrap_servers"),
        (["topics", "check", "--topic", "no spaces"], "kafka.topics"),
        (["control", "quiet", "*", "--reason", "r"], "found no end, expected until, or cron and lasts_s"),
        (["control", "quiet", "*", "--reason", "r", "--for", "soon"], "--for is soon, expected a number with s, m, h"),
        (
            ["control", "quiet", "*", "--reason", "r", "--until", "noon"],
            "--until is noon, expected a time such as",
        ),
        (["control", "label", "odd", "--anomaly", "a"], "'odd', expected fault, normal or known"),
        (["control", "label", "known"], "expected anomaly, or else streams, from and until"),
        (["control", "take-back", "no such"], "expected an id that matches"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(
    telltale: Telltale, arguments: list[str], said: str
) -> None:
    assert said in telltale.refuses(*arguments, code=2)


def test_hidden_must_be_a_multiple_of_16(telltale: Telltale, plant: Path) -> None:
    said = telltale.refuses("train", "--data", plant, "--out", "x", "--hidden", 24, code=2)
    assert said == "telltale: --hidden is 24, expected a multiple of 16"
    assert not Path("x").exists()


def test_a_device_that_is_not_there_is_refused(telltale: Telltale, plant: Path) -> None:
    ran = telltale("train", "--data", plant, "--out", "x", "--device", "tpu")
    assert (ran.code, ran.err) == (2, "telltale: --device is 'tpu', expected auto, cpu or cuda; did you mean cpu?\n")


def test_score_refuses_a_part_it_does_not_know(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    arguments = ["score", "--checkpoint", checkpoint, "--data", plant, "--out", "x.parquet", "--part", "tset"]
    assert "--part is 'tset', expected all, train or test" in telltale.refuses(*arguments, code=2)


def test_a_wrong_setting_of_the_environment_names_its_section(
    telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_HTTP__PORT", "eighty")
    said = telltale.refuses("config", "check", code=2)
    assert "http.port" in said
    assert "TELLTALE_HTTP__PORT" in said


def test_an_unknown_variable_is_refused_with_the_nearest_one(
    telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_KAFKA__GRUOP", "x")
    assert "TELLTALE_KAFKA__GRUOP: unknown, did you mean TELLTALE_KAFKA__GROUP?" in telltale.refuses(
        "config", "show", code=2
    )


def test_every_wrong_line_of_a_file_is_told(telltale: Telltale) -> None:
    Path("telltale.yaml").write_text("kafka:\n  gruop: x\nhttp:\n  port: -1\nlog:\n  level: LOUD\n")
    said = telltale.refuses("config", "check", "--config", "telltale.yaml", code=2)
    for setting in ("kafka.gruop", "http.port", "log.level"):
        assert setting in said


# --- what cannot be used: exit 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "x.csv: no such file or folder"),
        ("flow,pressure\n1,2\n", "x.csv: no column `timestamp`, found flow, pressure"),
        ("timestamp,flow\n", "x.csv: no rows"),
        ("timestamp\n1\n", "x.csv: no feature columns"),
        (
            "timestamp,flow,colour\n1,2,red\n",
            "x.csv: column colour is text, expected numbers; row 0 is 'red'",
        ),
        ("timestamp,flow\nyesterday,2\n", "x.csv: row 0: timestamp 'yesterday', expected RFC 3339"),
        ("timestamp,flow\n1,2\n", "no stream has 32 readings to train on"),
    ],
)
def test_data_that_cannot_be_used_ends_with_1_and_says_where(
    telltale: Telltale, content: str | None, said: str
) -> None:
    if content is not None:
        Path("x.csv").write_text(content)
    assert said in telltale.refuses("train", "--data", "x.csv", "--out", "y", code=1)
    assert not Path("y").exists()


def test_a_folder_without_data_is_refused(telltale: Telltale) -> None:
    Path("empty").mkdir()
    said = telltale.refuses("train", "--data", "empty", "--out", "y", code=1)
    assert said.startswith("telltale: empty: no .csv, .parquet, ")
    assert said.endswith(" or .ndjson file in this folder")


def test_a_stream_in_two_files_is_refused(telltale: Telltale, plant: Path) -> None:
    said = telltale.refuses("train", "--data", plant / "pump.csv", plant / "pump.csv", "--out", "y", code=1)
    assert "stream pump is in" in said


@pytest.mark.parametrize("command", [("checkpoint", "show"), ("checkpoint", "verify")])
def test_a_checkpoint_that_is_not_there_is_refused(telltale: Telltale, command: tuple[str, ...]) -> None:
    said = telltale.refuses(*command, "gone[1].safetensors", code=1)
    assert said == "telltale: gone[1].safetensors: cannot be read: No such file or directory"


def test_without_a_trained_model_the_net_judges_that_comes_with_telltale(telltale: Telltale, plant: Path) -> None:
    telltale.does("score", "--data", plant, "--out", "all.parquet")
    telltale.does("score", "--data", plant, "--features", "pressure", "--out", "one.parquet")
    everything, one = pl.read_parquet("all.parquet"), pl.read_parquet("one.parquet")
    assert [name for name in everything.columns if name.startswith("expected_")] == [
        "expected_flow",
        "expected_pressure",
    ]
    bands = ["expected_pressure", "lower_pressure", "upper_pressure"]
    first = slice(0, 60)  # before any alarm, which is of all channels
    assert one[first].select(bands).equals(everything[first].select(bands)), "each channel is read by itself"
    assert one["expected_pressure"].null_count() < 0.1 * len(one)


def test_features_beside_a_trained_model_are_refused(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    arguments = ["score", "--checkpoint", checkpoint, "--features", "flow", "--data", plant, "--out", "x.parquet"]
    said = telltale.refuses(*arguments, code=1)
    assert f"{checkpoint}: a checkpoint says itself which features it judges, expected none beside it" in said


@pytest.mark.slow
def test_a_net_of_ones_own_is_trained_and_judges(telltale: Telltale, plant: Path) -> None:
    said = telltale.does("train", "--generic", "--hidden", 16, "--epochs", 1, "--out", "net.safetensors")
    assert "simulated readings" in said
    scored = ("score", "--checkpoint", "net.safetensors", "--data", plant, "--out", "x.parquet")
    telltale.does(*scored, "--features", "flow,pressure")
    assert "a net for any features, expected `features` beside it" in telltale.refuses(*scored, "--force", code=1)


def test_a_generic_net_is_trained_on_no_data_of_ones_own(telltale: Telltale, plant: Path) -> None:
    said = telltale.refuses("train", "--generic", "--data", plant, "--out", "x", code=2)
    assert said.startswith("telltale: --generic makes its own data: expected no --data")


def damaged(content: bytes) -> dict[str, bytes]:
    middle, header = len(content) - 1_000, 8 + int.from_bytes(content[:8], "little")
    return {
        "empty": b"",
        "cut in the length": content[:5],
        "cut in the header": content[: header // 2],
        "cut in the tensors": content[:-1],
        "a byte too many": content + b"\0",
        "a flipped bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "an endless header": (2**63).to_bytes(8, "little") + content[8:],
        "a header of nothing": (2).to_bytes(8, "little") + b"{}",
        "a pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94",
        "text": b"not a checkpoint at all\n" * 100,
    }


@pytest.mark.parametrize("damage", damaged(bytes(2_000)))
def test_a_damaged_checkpoint_is_refused(telltale: Telltale, checkpoint: Path, damage: str) -> None:
    Path("x.safetensors").write_bytes(damaged(checkpoint.read_bytes())[damage])
    assert "x.safetensors: " in telltale.refuses("checkpoint", "verify", "x.safetensors", code=1)


def test_a_checkpoint_of_other_features_is_refused_by_name(telltale: Telltale, checkpoint: Path) -> None:
    Path("x.csv").write_text("timestamp,flow,heat\n1,2,3\n")
    said = telltale.refuses("score", "--checkpoint", checkpoint, "--data", "x.csv", "--out", "y.csv", code=1)
    assert said == "telltale: x.csv: found features flow, heat; expected pressure as well"


@pytest.mark.parametrize("option", ["--out", "--anomalies"])
def test_a_file_that_cannot_be_written_is_refused(
    telltale: Telltale, plant: Path, checkpoint: Path, option: str
) -> None:
    Path("file").write_text("")
    places = {"--out": "y.parquet", option: "file/y.parquet"}
    arguments = [part for name, path in places.items() for part in (name, path)]
    said = telltale.refuses("score", "--checkpoint", checkpoint, "--data", plant, *arguments, code=1)
    assert "file/y.parquet" in said


# --- what is done: exit 0


@pytest.mark.slow
def test_train_says_what_it_learned_from_and_how_well(telltale: Telltale, plant: Path) -> None:
    ran = telltale("train", "--data", plant, "--out", "new/x.safetensors", "--hidden", 16, "--epochs", 2)
    assert ran.code == 0
    digest = hashlib.sha256(Path("new/x.safetensors").read_bytes()).hexdigest()
    assert "3 streams, 450 readings to train on, 2 features" in ran.out
    assert "2 epochs, " in ran.out
    assert f"new/x.safetensors  sha256 {digest[:12]}" in ran.out


@pytest.mark.slow
def test_data_takes_several_files_and_folders(telltale: Telltale, plant: Path) -> None:
    (plant_copy := Path("folder")).mkdir()
    (plant_copy / "mill.csv").write_bytes((plant / "mill.csv").read_bytes())
    files = [plant / "boiler.csv", plant / "pump.csv"]
    common = ["--out", "x.safetensors", "--force", "--hidden", 16, "--epochs", 1]
    for arguments in (
        ["--data", *files, plant_copy],
        ["--data", files[0], "--data", files[1], "--data", plant_copy],
    ):
        ran = telltale("train", *arguments, *common)
        assert ran.code == 0
        assert "3 streams, 450 readings" in ran.out
    shown = json.loads(telltale("checkpoint", "show", "x.safetensors").out)
    assert (shown["data"]["files"], shown["data"]["streams"]) == (3, 3)


def trained(telltale: Telltale, *data: Path) -> str:
    telltale.does("train", "--data", *data, "--out", "x", "--force", "--hidden", 16, "--epochs", 1)
    shown = json.loads(telltale.does("checkpoint", "show", "x"))
    assert isinstance(shown["tensors_sha256"], str)
    return shown["tensors_sha256"]


@pytest.mark.slow
def test_test_rows_and_labels_are_never_learned_from(telltale: Telltale, plant: Path) -> None:
    other = pl.read_csv(plant / "pump.csv").with_columns(
        pl.when(pl.col("part") == "test").then(99.0).otherwise("flow").alias("flow"),
        (1 - pl.col("label")).alias("label"),
    )
    Path("other").mkdir()
    other.write_csv("other/pump.csv")
    assert trained(telltale, plant / "pump.csv") == trained(telltale, Path("other/pump.csv"))


def test_checkpoint_show_says_everything_as_json(telltale: Telltale, checkpoint: Path) -> None:
    ran = telltale("checkpoint", "show", checkpoint)
    assert (ran.code, ran.err) == (0, "")
    shown = json.loads(ran.out)
    assert shown["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert shown["path"] == str(checkpoint)
    assert shown["architecture"] == {
        "features": list(FEATURES),
        "cell": "lstm",
        "hidden": 16,
        "layers": 1,
        "day_harmonics": 1,
        "week_harmonics": 1,
        "time_zone": "UTC",
        "channelwise": False,
        "spreads": True,
    }
    assert shown["streams"] == ["boiler", "mill", "pump"]
    assert shown["data"] == {
        "files": 3,
        "streams": 3,
        "readings": 450,
        "first_ms": START_MS,
        "last_ms": START_MS + 149 * 60_000,
    }
    assert shown["training"]["epochs"] == 1
    assert shown["metrics"]["best_epoch"] == 1


def test_checkpoint_verify_says_that_a_checkpoint_is_good(telltale: Telltale, checkpoint: Path) -> None:
    ran = telltale("checkpoint", "verify", checkpoint)
    assert (ran.code, ran.err) == (0, "")
    said = " ".join(ran.out.split())
    assert "good. lstm, 16 hidden units, 1 layer, 2 features, 3 streams known" in said


@pytest.mark.parametrize("name", ["plant[1].safetensors", "[bold]x.safetensors", "a" * 190 + ".safetensors"])
def test_a_file_is_named_as_it_is_called(telltale: Telltale, checkpoint: Path, name: str) -> None:
    Path(name).write_bytes(checkpoint.read_bytes())
    ran = telltale("checkpoint", "verify", name)
    assert ran.code == 0
    assert ran.out.startswith(f"{name}: good.")
    assert len(ran.out.splitlines()) == 1


def test_score_writes_a_row_a_reading_and_the_anomalies(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    files = [plant / "pump.csv", plant / "boiler.csv"]
    common = ["--checkpoint", checkpoint, "--part", "test", "--anomalies", "anomalies.jsonl"]
    ran = telltale("score", "--data", *files, "--out", "new/scores.parquet", *common)
    assert ran.code == 0
    table = pl.read_parquet("new/scores.parquet")
    assert table.columns[:4] == ["stream", "timestamp", "score", "alarm"]
    assert table.columns[4:7] == ["expected_flow", "lower_flow", "upper_flow"]
    assert table["stream"].to_list() == ["pump"] * 150 + ["boiler"] * 150
    assert table["timestamp"].to_list() == list(range(START_MS + 150 * 60_000, START_MS + 300 * 60_000, 60_000)) * 2
    events = [json.loads(line) for line in Path("anomalies.jsonl").read_text().splitlines()]
    opened = [event for event in events if event["type"] == "telltale.anomaly.opened"]
    assert {event["subject"] for event in opened} == {"pump", "boiler"}
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert {event["data"]["checkpoint"] for event in events} == {digest}
    assert ran.out == f"new/scores.parquet  300 readings, {len(opened)} anomalies\n"


@pytest.mark.slow
def test_files_as_people_have_them_are_scored_sent_and_trained_on_as_others_are(telltale: Telltale) -> None:
    random = np.random.default_rng(0)
    rows = [(f"{n // 60:02}:{n % 60:02}", *random.normal(size=2).round(4).tolist()) for n in range(120)]
    plain = [f"2024-01-30T{time}:00+01:00,{a},{b}" for time, a, b in rows]
    odd = [f"30.01.2024 {time};" + f"{a};{b};{n}".replace(".", ",") for n, (time, a, b) in enumerate(rows)]
    Path("plain").mkdir()
    Path("plain/pump.csv").write_text("\n".join(["timestamp,flow,heat", *plain]))
    Path("odd").mkdir()
    with gzip.open("odd/pump.csv.gz", "wt", encoding="cp1252") as file:
        file.write("\n".join(["Zeit;flow;heat;°", *odd]))
    said = telltale.refuses("score", "--data", "odd", "--out", "x.csv", code=1)
    assert "byte that is no character, expected utf-8; --encoding" in said
    channels = ["--features", "flow,heat"]
    options = [*channels, "--encoding", "cp1252", "--time-column", "Zeit", "--times-in", "Europe/Berlin"]
    ran = telltale("score", "--data", "odd", *options, "--out", "odd.parquet")
    assert ran.code == 0
    assert ran.err.count("separator semicolon; times are %d.%m.%Y %H:%M; decimal comma") == 1
    telltale.does("score", "--data", "plain", *channels, "--out", "plain.parquet")
    assert pl.read_parquet("odd.parquet").equals(pl.read_parquet("plain.parquet"))
    for folder, given in (("odd", options), ("plain", channels)):
        brief = ["--epochs", "1", "--hidden", "16", "--out", f"{folder}.safetensors"]
        telltale.does("train", "--data", folder, *given, *brief)
    weights = [load_file(f"{folder}.safetensors") for folder in ("odd", "plain")]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_score_judges_what_can_be_read_of_a_folder_and_names_the_rest(
    telltale: Telltale, plant: Path, checkpoint: Path
) -> None:
    common = ["--checkpoint", checkpoint, "--out"]
    telltale.does("score", "--data", plant, *common, "whole.parquet")
    Path("some").mkdir()
    for file in plant.iterdir():
        Path("some", file.name).write_bytes(file.read_bytes())
    Path("some/no_times.csv").write_text("flow,heat\n1,2\n")
    Path("some/torn.csv").write_text("timestamp,flow,pressure\n1704164645000,1,2\n-5,1,2\n")
    Path("some/torn.xlsx").write_bytes(b"PK")
    ran = telltale("score", "--data", "some", *common, "some.parquet")
    assert ran.code == 1
    assert "3 files cannot be read, the others are judged:" in ran.err
    for said in (
        "no_times.csv: no column",
        "torn.csv: row 1: timestamp -5 is before 1970",
        "torn.xlsx: cannot be read",
    ):
        assert said in ran.err
    assert pl.read_parquet("some.parquet").equals(pl.read_parquet("whole.parquet"))


def test_scoring_twice_writes_the_same_bytes(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    for name in ("a", "b"):
        arguments = ["--out", f"{name}.parquet", "--anomalies", f"{name}.jsonl"]
        assert telltale("score", "--checkpoint", checkpoint, "--data", plant, *arguments).code == 0
    assert pl.read_parquet("a.parquet").equals(pl.read_parquet("b.parquet"))
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes() != b""


def test_the_checkpoint_may_come_from_the_environment(
    telltale: Telltale, plant: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_CHECKPOINT", str(checkpoint))
    assert telltale("score", "--data", plant / "pump.csv", "--out", "x.parquet").code == 0


def test_config_show_can_be_loaded_again(telltale: Telltale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_KAFKA__TOPICS", "plant.a,plant.b")
    monkeypatch.setenv("TELLTALE_HTTP__PORT", "0")
    first = telltale("config", "show")
    assert (first.code, first.err) == (0, "")
    assert yaml.safe_load(first.out)["kafka"]["topics"] == ["plant.a", "plant.b"]
    monkeypatch.delenv("TELLTALE_KAFKA__TOPICS")
    monkeypatch.delenv("TELLTALE_HTTP__PORT")
    Path("telltale.yaml").write_text(first.out)
    assert telltale("config", "check", "--config", "telltale.yaml") == Ran(0, "the settings are good\n", "")
    second = telltale("config", "show", "--config", "telltale.yaml")
    assert yaml.safe_load(second.out) == yaml.safe_load(first.out)
    monkeypatch.setenv("TELLTALE_CONFIG", "telltale.yaml")
    assert yaml.safe_load(telltale("config", "show").out) == yaml.safe_load(first.out)


def test_a_password_is_not_shown(telltale: Telltale) -> None:
    Path("secret").write_text("canary-word\n")
    Path("telltale.yaml").write_text(
        "kafka:\n  security_protocol: SASL_SSL\n  sasl_mechanism: PLAIN\n  sasl_username: me\n"
        "  sasl_password_file: secret\n"
    )
    ran = telltale("config", "show", "--config", "telltale.yaml")
    assert ran.code == 0
    assert "canary-word" not in ran.out + ran.err


# --- what is there already


@pytest.mark.slow
def test_a_checkpoint_is_overwritten_only_by_force(telltale: Telltale, plant: Path) -> None:
    common = ["train", "--data", plant / "pump.csv", "--hidden", 16, "--epochs", 1]
    Path("x").write_text("precious\n")
    Path("x.html").write_text("precious\n")
    said = telltale.refuses(*common, "--out", "x", "--report", "x.html", code=2)
    assert said == "telltale: x, x.html: there already; --force overwrites"
    assert Path("x").read_text() == Path("x.html").read_text() == "precious\n"
    telltale.does(*common, "--out", "x", "--report", "x.html", "--force")
    telltale.does("checkpoint", "verify", "x")


@pytest.mark.slow
def test_a_run_that_goes_on_overwrites_what_it_wrote(telltale: Telltale, plant: Path) -> None:
    common = ["train", "--data", plant / "pump.csv", "--hidden", 16, "--out", "x", "--resume", "run"]
    telltale.does(*common, "--epochs", 1)
    telltale.does(*common, "--epochs", 2)
    assert json.loads(telltale.does("checkpoint", "show", "x"))["metrics"]["epochs"] == 2


def test_scores_are_the_same_in_both_formats(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    common = ["score", "--checkpoint", checkpoint, "--data", plant]
    for name in ("scores.csv", "scores.parquet"):
        telltale.does(*common, "--out", name)
    table, text = pl.read_parquet("scores.parquet"), pl.read_csv("scores.csv", schema_overrides={"stream": pl.String})
    assert text.columns == table.columns
    assert text.cast(table.schema).equals(table)
    assert Path("scores.csv").read_text().splitlines()[0].startswith("stream,timestamp,score,alarm,expected_flow")


READ_FILES = {
    "train": ("--out", "a.safetensors"),
    "score": ("--out", "scores.parquet"),
    "inspect": ("--stream", "seconds"),
    "forecast": ("--stream", "seconds"),
    "produce": ("--topic", "readings"),
    "compare": ("--out", "comparison"),
    "gradients": ("--out", "gradients", "--cell", "lstm"),
    "evaluate": ("--out", "evaluation"),
}


@pytest.mark.parametrize("command", READ_FILES)
def test_every_command_that_reads_files_says_which_option_reads_seconds(
    telltale: Telltale, checkpoint: Path, command: str
) -> None:
    Path("seconds.csv").write_text("timestamp,flow,pressure\n1767571200,1,2\n1767571260,2,3\n")
    model = ("--checkpoint", checkpoint) if command in ("score", "inspect", "forecast") else ()
    data = ("seconds.csv",) if command == "evaluate" else ("--data", "seconds.csv")
    ran = telltale(command, *model, *data, *READ_FILES[command])
    said = " ".join(ran.err.split())
    assert ran.code == 1, ran
    assert "seconds.csv: row 0: timestamp 1767571200 looks like seconds: expected milliseconds" in said
    assert "--time-unit s reads it" in said
    assert any(option.name == "time_unit" for option in COMMANDS[(command,)].params)


def test_seconds_that_are_named_are_judged_as_milliseconds_are(
    telltale: Telltale, plant: Path, checkpoint: Path
) -> None:
    frame = pl.read_csv(next(plant.glob("*.csv")))
    scores = []
    for unit, divisor in (("ms", 1), ("s", 1000)):
        Path(unit).mkdir()
        frame.with_columns(pl.col("timestamp") // divisor).write_csv(f"{unit}/pump.csv")
        known = ("--checkpoint", checkpoint, "--data", f"{unit}/pump.csv", "--out", f"{unit}.parquet")
        telltale.does("score", *known, "--time-unit", unit)
        scores.append(pl.read_parquet(f"{unit}.parquet"))
    assert scores[0].equals(scores[1])
