"""`telltale train`: where its data may come from, and what a run can be asked for."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.command_line import Telltale

QUICK = ("--hidden", 16, "--epochs", 1)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """Two streams by turns, in two parts."""
    folder = tmp_path / "plant"
    folder.mkdir()
    random, rows = np.random.default_rng(0), 400
    for part in range(2):
        place = np.arange(part * rows, (part + 1) * rows)
        columns = {
            "timestamp": 10**12 + place * 1_000,
            "stream": np.where(place % 2, "pump", "mill"),
            "flow": np.sin(place / 7) + random.normal(0, 0.1, rows),
        }
        pl.DataFrame(columns).write_parquet(folder / f"part-{part}.parquet")
    return folder


def described(telltale: Telltale, checkpoint: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(telltale.does("checkpoint", "show", checkpoint))
    return found


@pytest.mark.slow
def test_parts_of_a_plant_are_learned_from_as_one_history(telltale: Telltale, plant: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pl.concat([pl.read_parquet(path) for path in sorted(plant.iterdir())]).write_parquet(whole)
    said = telltale.does("train", "--data", plant, "--out", tmp_path / "parts", *QUICK)
    assert "2 streams, 800 readings to train on, 1 feature" in said
    telltale.does("train", "--data", whole, "--out", tmp_path / "whole", *QUICK)
    parts, one = (described(telltale, tmp_path / name) for name in ("parts", "whole"))
    assert parts["tensors_sha256"] == one["tensors_sha256"]
    assert parts["data"] == {**one["data"], "files": 2}  # type: ignore[dict-item]


@pytest.mark.slow
def test_what_people_called_a_fault_is_left_out_of_training(telltale: Telltale, plant: Path, tmp_path: Path) -> None:
    labels, cut = tmp_path / "labels.csv", tmp_path / "cut.parquet"
    spans = "pump,2001-09-09T01:50:00Z,2001-09-09T01:51:40Z,fault", "m*,2001-09-09T01:46:40Z,2001-09-09T02:00:00Z,known"
    labels.write_text("\n".join(("streams,from,until,label", *spans)))
    said = telltale.does("train", "--data", plant, "--labels", labels, "--out", tmp_path / "labelled", *QUICK)
    assert "called a fault and left out: 50 readings of 1 stream" in said
    assert "2 streams, 750 readings to train on" in said
    whole = pl.concat([pl.read_parquet(path) for path in sorted(plant.iterdir())])
    ago_s = whole["timestamp"] // 1000 - 10**9
    fault = (whole["stream"] == "pump") & (ago_s >= 200) & (ago_s < 300)  # 10**9 is 01:46:40
    whole.filter(~fault).write_parquet(cut)
    telltale.does("train", "--data", cut, "--out", tmp_path / "without", *QUICK)
    labelled, without = (described(telltale, tmp_path / name) for name in ("labelled", "without"))
    assert labelled["tensors_sha256"] == without["tensors_sha256"]


def test_parts_in_the_wrong_order_are_refused(telltale: Telltale, plant: Path, tmp_path: Path) -> None:
    parts = sorted(plant.iterdir(), reverse=True)
    said = telltale.refuses("train", "--data", *parts, "--out", tmp_path / "x", *QUICK, code=1)
    assert "part-0.parquet: stream mill is in" in said
    assert "expected it to go on with later readings" in said


@pytest.mark.slow
def test_a_cell_is_chosen_by_name_and_a_report_is_written(telltale: Telltale, plant: Path, tmp_path: Path) -> None:
    report, zone = tmp_path / "new" / "report.html", ("--time-zone", "Europe/Berlin")
    said = telltale.does(
        "train", "--data", plant, "--out", tmp_path / "x", "--cell", "gru", "--report", report, *QUICK, *zone
    )
    assert f"{report}  the report" in said
    assert "gru, 16 hidden units" in report.read_text()
    assert described(telltale, tmp_path / "x")["architecture"] == {
        "features": ["flow"],
        "cell": "gru",
        "hidden": 16,
        "layers": 1,
        "day_harmonics": 1,
        "week_harmonics": 1,
        "time_zone": "Europe/Berlin",
        "channelwise": False,
        "spreads": True,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "option", "zone"),
    [
        ("*", (), "Europe/Berlin"),
        ("mill*", (), "UTC"),
        ("*", ("--time-zone", "Asia/Tokyo"), "Asia/Tokyo"),
    ],
)
def test_the_clock_of_the_net_is_that_which_rules_name_of_all_streams(
    telltale: Telltale, plant: Path, tmp_path: Path, streams: str, option: tuple[str, ...], zone: str
) -> None:
    config = tmp_path / "telltale.yaml"
    config.write_text(f'detection: {{rules: [{{streams: "{streams}", time_zone: Europe/Berlin}}]}}')
    telltale.does("train", "--data", plant, "--config", config, "--out", tmp_path / "x", *QUICK, *option)
    assert described(telltale, tmp_path / "x")["architecture"]["time_zone"] == zone  # type: ignore[index]


@pytest.mark.slow
def test_a_net_of_one_channel_begins_as_the_one_that_comes_with_telltale(
    telltale: Telltale, plant: Path, tmp_path: Path
) -> None:
    common = ("train", "--data", plant, "--epochs", 1)
    assert "the net that comes with Telltale" in telltale.does(*common, "--out", tmp_path / "begun")
    assert "comes with Telltale" not in telltale.does(*common, "--out", tmp_path / "scratch", "--from-scratch")
    begun, scratch = (described(telltale, tmp_path / name)["architecture"] for name in ("begun", "scratch"))
    assert (begun["channelwise"], begun["day_harmonics"]) == (True, 4)  # type: ignore[index]
    assert (scratch["channelwise"], scratch["day_harmonics"]) == (False, 1)  # type: ignore[index]


@pytest.mark.slow
def test_a_run_goes_on_from_its_file(telltale: Telltale, plant: Path, tmp_path: Path) -> None:
    common = ("train", "--data", plant, "--hidden", 16)
    telltale.does(*common, "--out", tmp_path / "whole", "--epochs", 2)
    telltale.does(*common, "--out", tmp_path / "half", "--epochs", 1, "--resume", tmp_path / "run")
    telltale.does(*common, "--out", tmp_path / "rest", "--epochs", 2, "--resume", tmp_path / "run")
    whole, half, rest = (described(telltale, tmp_path / name) for name in ("whole", "half", "rest"))
    assert rest["tensors_sha256"] == whole["tensors_sha256"] != half["tensors_sha256"]
    other = telltale(*common, "--out", tmp_path / "other", "--learning-rate", 0.1, "--resume", tmp_path / "run")
    assert other.code == 1
    assert "learning_rate" in other.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "x", "--cell", "transformer"], "--cell is 'transformer', expected feedforward, rnn-tanh"),
        (["--data", "x", "--precision", "float8"], "--precision is 'float8', expected auto, float32 or bfloat16"),
        (
            ["--data", "x", "--since", "7d"],
            "--since and --until are of a topic, but",
        ),
        (["--from-topic", "t", "--data", "x"], "--from-topic: expected no --data and no --simulate beside it"),
        (
            ["--from-topic", "t", "--since", "soon"],
            "--since is 'soon', expected so long ago as 7d, 12h or 90m",
        ),
        (["--from-topic", "t", "--until", "soon"], "--until is 'soon'"),
    ],
)
def test_wrong_options_are_named(telltale: Telltale, arguments: list[str], message: str) -> None:
    assert message in telltale.refuses("train", "--out", "x", *arguments, code=2)
