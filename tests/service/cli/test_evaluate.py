"""`telltale evaluate`: the tables, the files and what is refused."""

from pathlib import Path

import polars as pl
import pytest

from models.data.synthetic import plant, to_frame
from tests.command_line import Telltale


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    made = plant(2, 700, seed=1, step_s=300, fault_every=120, first_fault_after=400)
    for name in ("press", "saw"):
        (folder / name).mkdir()
        to_frame(made).with_columns(pl.col("stream") + name).write_parquet(folder / name / "plant.parquet")
    return folder


@pytest.mark.slow
def test_sets_are_judged_and_a_second_call_trains_nothing(telltale: Telltale, press: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", press, "--set", "press", "--seeds", 2, "--hidden", 16, "--epochs", 1]
    arguments += ["--out", tmp_path / "out", "--device", "cpu"]
    said = telltale.does(*arguments)
    assert "press  Telltale  seed 1: trained in" in said
    assert "press  PCA  seed 0:" in said
    assert "VUS-PR" in said
    assert "saw" not in said
    files = {path.name for path in (tmp_path / "out").iterdir()}
    (charts,) = (name for name in files if name.startswith("plotly-"))
    found = {"evaluation.html", "evaluation.csv", "evaluation.json", "evaluation.md", "press.html", "runs"}
    assert files == found | {charts}
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    assert len(runs) == 12
    assert telltale.does(*arguments).split("detector")[1:] == said.split("detector")[1:]
    assert runs == {path: path.stat().st_mtime_ns for path in runs}


@pytest.mark.slow
def test_a_checkpoint_is_judged_if_it_has_the_features_of_the_sets(
    telltale: Telltale, press: Path, tmp_path: Path
) -> None:
    model = tmp_path / "plant.safetensors"
    telltale.does("train", "--data", press / "press", "--hidden", 16, "--epochs", 1, "--out", model, "--device", "cpu")
    arguments = ["evaluate", press, "--checkpoint", model, "--no-baselines", "--out", tmp_path / "out"]
    said = telltale.does(*arguments)
    assert "mean over sets" in said
    assert "PCA" not in said
    assert "trained in" not in said
    (tmp_path / "other").mkdir()
    file = tmp_path / "other" / "plant.parquet"
    pl.read_parquet(press / "saw" / "plant.parquet").drop("vibration").write_parquet(file)
    refused = telltale.refuses("evaluate", file, "--checkpoint", model, "--out", tmp_path / "out", code=1)
    assert "its features are temperature, pressure, vibration, those of other are temperature, pressure;" in refused


@pytest.mark.slow
def test_the_protocol_leaves_every_family_out(telltale: Telltale, press: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", press / "press", "--seeds", 1, "--hidden", 16, "--epochs", 1, "--device", "cpu"]
    said = telltale.does(
        *arguments, "--protocol", "--grid", "score.level_weight=0.5,1", "--out", tmp_path / "out", "--no-baselines"
    )
    assert "families left out" in said
    assert "press line-01" in said
    assert "Telltale, by protocol" in said
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"protocol.csv", "protocol.json", "protocol.md", "evaluation.md"} <= files


@pytest.mark.slow
def test_simulated_series_need_no_data(telltale: Telltale, tmp_path: Path) -> None:
    arguments = ["evaluate", "--simulated", "--set", "constants", "--set", "families", "--seeds", 1]
    said = telltale.does(*arguments, "--out", tmp_path / "out")
    assert "families: spike found" in said
    assert "constants: alarms" in said
    assert "plants" not in said
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"simulated.csv", "simulated.json", "simulated.md"}
    assert "there already" in telltale.refuses(*arguments, "--out", tmp_path / "out", code=2)


@pytest.mark.slow
def test_simulated_series_can_be_written_and_judged_as_files(telltale: Telltale, tmp_path: Path) -> None:
    said = telltale.does("evaluate", "--simulated", "--write", tmp_path / "series", "--seeds", 1)
    assert "83 series in" in said
    assert "there already" in telltale.refuses(
        "evaluate", "--simulated", "--write", tmp_path / "series", "--seeds", 1, code=2
    )
    few = sorted((tmp_path / "series" / "families").glob("*sine*"))
    assert len(few) == 6
    arguments = ["evaluate", *few, "--protocol", "--seeds", 1, "--hidden", 16, "--epochs", 1, "--no-baselines"]
    assert "families sine" in telltale.does(*arguments, "--device", "cpu", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["here"], "--simulated makes its own series, expected no DATA beside it, found here"),
        (["--set", "pump"], "--set is 'pump', expected one of families, plants, constants, machines"),
    ],
)
def test_what_simulated_series_do_not_take_is_refused(
    telltale: Telltale, tmp_path: Path, wrong: list[str], expected: str
) -> None:
    assert expected in telltale.refuses("evaluate", "--simulated", "--out", tmp_path / "out", *wrong, code=2)
    assert not (tmp_path / "out").exists()


def test_without_data_the_ways_to_name_series_are_told(telltale: Telltale, tmp_path: Path) -> None:
    assert "DATA is missing" in telltale.refuses("evaluate", "--out", tmp_path / "out", code=2)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["--set", "pump"], "--set is 'pump', expected one of press, saw"),
        (["--hidden", "20"], "--hidden is 20, expected a multiple of 16"),
        (["--checkpoint", "x", "--train"], "--checkpoint: expected no --train beside it"),
        (["--write", "there"], "--write: expected --simulated beside it, whose series it writes"),
        (["--grid", "score.warm_up=1"], "--grid: expected --protocol beside it"),
        (
            ["--protocol", "--grid", "score.cold_up=1"],
            "--grid: 'score.cold_up=1' names 'score.cold_up', expected one of",
        ),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    telltale: Telltale, press: Path, tmp_path: Path, wrong: list[str], expected: str
) -> None:
    assert expected in telltale.refuses("evaluate", press, "--out", tmp_path / "out", *wrong, code=2)
    assert not (tmp_path / "out").exists()
