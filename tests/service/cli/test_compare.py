"""`telltale compare`: the table, the files and what is refused."""

import json
from pathlib import Path

import pytest

from models.data.synthetic import plant, to_frame
from tests.command_line import Telltale


@pytest.mark.slow
def test_cells_are_compared_and_a_second_call_trains_nothing(telltale: Telltale, tmp_path: Path) -> None:
    (tmp_path / "press").mkdir()
    made = plant(3, 700, seed=1, step_s=300, fault_every=120, first_fault_after=400)
    to_frame(made).write_parquet(tmp_path / "press" / "plant.parquet")
    arguments = ["compare", "--data", tmp_path / "press", "--cells", "feedforward, gru", "--seeds", 1, "--hidden", 16]
    arguments += ["--epochs", 1, "--out", tmp_path / "out", "--device", "cpu"]
    said = telltale.does(*arguments)
    assert "2 nets: of feedforward, gru; on press; 1 seed" in said
    assert "VUS-PR" in said
    assert "2/2  press  gru  seed 0: 1 epoch," in said
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    assert sorted(path.name for path in runs) == ["feedforward-0.json", "gru-0.json", "speed.json"]
    assert (tmp_path / "out" / "comparison.html").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "out" / "comparison.json").read_text())["runs"]) == 2
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 3

    assert telltale.does(*arguments) == said
    assert runs == {path: path.stat().st_mtime_ns for path in runs}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["--cells", "lstm,elman"], "--cells is 'elman', expected some of feedforward, rnn-tanh"),
        (["--hidden", "20"], "--hidden is 20, expected a multiple of 16"),
        ([], "--data is missing"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    telltale: Telltale, tmp_path: Path, wrong: list[str], expected: str
) -> None:
    assert expected in telltale.refuses("compare", "--out", tmp_path / "out", *wrong, code=2)
    assert not (tmp_path / "out").exists()
